"""Training as a process of its own: `limner train`, which goes on when the page and the server are closed.

What was started stands in `.studio` in the folder of the runs: the command, the number of the process and its output. A run
folder itself holds nothing but the run.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from limner.core import process
from limner.core.files import read_bytes, write_error, write_whole
from limner.core.text import sentence

FOLDER = ".studio"  # in the folder of the runs
STARTUP_SECONDS = 300  # until a process that has not locked its folder counts as failed
MAX_OUTPUT = 64 << 10  # bytes of the end of the output that are read
READY_SECONDS = 600  # that a prepared process waits, about
NAME = re.compile(r"[\w][\w .+-]{0,79}")
ENDED_WELL = (0, 128 + signal.SIGINT, 128 + signal.SIGTERM)


@dataclass(frozen=True)
class Launch:
    """A start of a training. code: the exit status, if a server saw it. began: whether it was seen to hold its folder's lock."""

    folder: str
    command: list[str]
    data: str
    recipe: str
    kind: str
    number: int  # of the process
    started: float  # time.time()
    code: int | None = None
    began: bool = False

    @property
    def waiting(self) -> bool:
        """Whether the process may still be starting: it exists and has not held the lock yet."""
        return self.code is None and not self.began and process.alive(self.number) and time.time() - self.started < STARTUP_SECONDS

    @property
    def failed(self) -> bool:
        return self.code is not None and self.code not in ENDED_WELL


class Launches:
    """The trainings that were started from a folder of runs, by this or an earlier server.

    program: the arguments that start `limner`, such as [python, "-m", "limner"]. standby: those of a process that does the same
    after it has read its arguments from the standard input (`cli.studio.STANDBY`); None for none.
    """

    def __init__(self, home: Path, program: Sequence[str], standby: Sequence[str] | None = None) -> None:
        self.home, self.program, self.standby = home, list(program), standby
        self._ready: subprocess.Popen[bytes] | None = None
        self._ready_since = 0.0
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._guard = threading.Lock()
        self._known: dict[str, tuple[int, Launch]] = {}  # file name -> (time of the file, content)

    def start(self, folder: Path, command: Sequence[str], data: str, recipe: str, kind: str) -> Launch:
        """Start `limner train` for a run folder, which is created. command: from "limner" on.

        Raises ValueError when a process is training there, and when the folder cannot be written.
        """
        with self._guard:
            if process.find(folder) is not None or ((before := self._current(folder, False)) and before.waiting):
                raise ValueError(f"A process is training in {folder} already: pause it first, or choose another name.")
            try:
                folder.mkdir(parents=True, exist_ok=True)
                (self.home / FOLDER).mkdir(parents=True, exist_ok=True)
                child = self._take_ready(folder, command) or self._spawn(folder, command)
            except OSError as error:
                raise write_error(error, folder) from error
            launch = Launch(str(folder.absolute()), list(command), data, recipe, kind, child.pid, time.time())
            self._children[launch.folder] = child
            self._write(launch)
            return launch

    def _spawn(self, folder: Path, command: Sequence[str]) -> subprocess.Popen[bytes]:
        with self._output(folder).open("wb") as output:
            return subprocess.Popen(
                [*self.program, *command[1:]], stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,  # neither Ctrl-C in the server's terminal nor its end reaches it
            )  # fmt: skip

    def prepare(self) -> None:
        """Start a process that loads PyTorch and waits for a command: the next training then starts seconds earlier.

        It ends by itself with the server, and after READY_SECONDS at the next call.
        """
        with self._guard:
            if self.standby is None:
                return
            if self._ready is not None and self._ready.poll() is None:
                if time.monotonic() - self._ready_since < READY_SECONDS:
                    return
                self._discard()
            self._ready_since = time.monotonic()
            self._ready = subprocess.Popen(
                list(self.standby), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
            )

    def close(self) -> None:
        """End the waiting process, if there is one. Trainings go on."""
        with self._guard:
            self._discard()

    def _discard(self) -> None:
        if self._ready is not None and self._ready.stdin is not None:
            with suppress(OSError):
                self._ready.stdin.close()  # it reads the end of its input
            with suppress(subprocess.TimeoutExpired):
                self._ready.wait(1)
        self._ready = None

    def _take_ready(self, folder: Path, command: Sequence[str]) -> subprocess.Popen[bytes] | None:
        """Give the command to the waiting process and return it; None if there is none."""
        child, self._ready = self._ready, None
        if child is None or child.poll() is not None or child.stdin is None:
            return None
        order = {"arguments": list(command[1:]), "output": str(self._output(folder))}
        try:
            self._output(folder).write_bytes(b"")
            child.stdin.write(json.dumps(order).encode() + b"\n")
            child.stdin.close()
        except OSError:  # it has ended meanwhile
            return None
        return child

    def pause(self, folder: Path) -> None:
        """Ask the process that trains in a folder for a checkpoint and its end. Raises ValueError when there is none."""
        number = process.find(folder)
        if number is None:
            launch = self.of(folder)
            if launch is None or not launch.waiting:
                raise ValueError("Nothing is training there.")
            number = launch.number
        if os.name != "posix":
            raise ValueError("Pausing needs a signal that this system does not have: press Ctrl-C where the training runs.")
        os.kill(number, signal.SIGINT)

    def of(self, folder: Path, running: bool = False) -> Launch | None:
        """Return the last launch of a run folder, with its exit status if it is known. running: a process holds the lock."""
        with self._guard:
            return self._current(folder, running)

    def _current(self, folder: Path, running: bool) -> Launch | None:
        found = self._read(folder)
        if found is None or found.code is not None:
            return found
        now, child = found, self._children.get(str(folder.absolute()))
        if running and not found.began:
            now = replace(now, began=True)
        if child is not None and child.pid == found.number and (code := child.poll()) is not None:
            now = replace(now, code=code if code >= 0 else 128 - code)
        if now != found:
            self._write(now)
        return now

    def folders(self) -> list[Path]:
        """Return the run folders of all launches that still exist."""
        try:
            files = sorted((self.home / FOLDER).glob("*.json"))
        except OSError:
            return []
        launches = [self._load(file) for file in files]
        return [path for launch in launches if launch and (path := Path(launch.folder)).is_dir()]

    def output(self, folder: Path) -> str:
        """Return the end of what the training printed."""
        try:
            with self._output(folder).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - MAX_OUTPUT))
                return file.read().decode("utf-8", "replace")
        except OSError:
            return ""

    def last_line(self, folder: Path) -> str:
        lines = [line for line in self.output(folder).splitlines() if line.strip()]
        return sentence(lines[-1]) if lines else ""

    # ---- files -------------------------------------------------------------------------------------------------------

    def _stem(self, folder: Path) -> Path:
        return self.home / FOLDER / identity(folder)

    def _output(self, folder: Path) -> Path:
        return self._stem(folder).with_suffix(".txt")

    def _write(self, launch: Launch) -> None:
        write_whole(self._stem(Path(launch.folder)).with_suffix(".json"), json.dumps(asdict(launch)) + "\n")

    def _read(self, folder: Path) -> Launch | None:
        return self._load(self._stem(folder).with_suffix(".json"))

    def _load(self, file: Path) -> Launch | None:
        try:
            version = file.stat().st_mtime_ns
            known = self._known.get(file.name)
            if known and known[0] == version:
                return known[1]
            document: Any = json.loads(read_bytes(file, 1 << 20))
            launch = Launch(**document)
        except (OSError, ValueError, TypeError):
            return None
        self._known[file.name] = (version, launch)
        return launch


def identity(folder: Path) -> str:
    """Return the name of a run in addresses: the folder's, and a hash of its path. The same for every server."""
    name = re.sub(r"[^a-z0-9]+", "-", folder.name.lower()).strip("-")[:40] or "run"
    return f"{name}-{hashlib.blake2b(str(folder.absolute()).encode('utf-8', 'surrogateescape'), digest_size=4).hexdigest()}"


def check_name(name: str) -> str:
    """Return the name of a new run's folder. Raises ValueError for one that is no plain name."""
    if not NAME.fullmatch(name) or name.strip(" .") != name:
        raise ValueError(f"The name {name[:80]!r} is no name for a run: use letters, digits, spaces and the signs - _ . +")
    return name
