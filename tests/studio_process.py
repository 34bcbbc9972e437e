"""The studio as a process, for tests that kill it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PROGRAM = [sys.executable, "-m", "limner"]


@contextmanager
def serving(home: Path, cache: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """`limner studio` as a process: its address, and the process, which may have been killed."""
    environment = {**os.environ, "LIMNER_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    command = [*PROGRAM, "studio", str(home), "--port", "0", "--no-browser"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, cwd=cache.parent)
    try:
        assert server.stderr
        line = server.stderr.readline()
        assert "http://" in line, line
        yield line.split()[1], server
    finally:
        server.terminate()
        server.wait(20)


def until(condition: Callable[[], Any], seconds: float = 120.0) -> Any:
    """Return the first true value of the condition; fail after some seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.1)
    pytest.fail(f"not within {seconds:g} s: {condition}")


def fetch(address: str) -> bytes:
    try:
        with urllib.request.urlopen(address) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        return bytes(error.read())
