"""The newest readable checkpoint is the one that is read; what is wrong with the newer ones is known."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from limner.core import checkpoint
from limner.core.schema import Mismatch


def value(file: Any) -> float:
    found = float(file.get_tensor("x"))
    if found < 0:
        raise Mismatch("x is negative")
    return found


def write(folder: Path, name: str, x: float) -> None:
    save_file({"x": torch.tensor(x)}, checkpoint.file_of(folder, name))


def test_the_newest_readable_one_is_read_and_the_others_are_named(tmp_path: Path) -> None:
    assert checkpoint.newest(tmp_path, value) == (None, [])
    write(tmp_path, checkpoint.ROLLBACK, 3.0)
    write(tmp_path, checkpoint.PREVIOUS, -1.0)
    checkpoint.file_of(tmp_path, checkpoint.LATEST).write_bytes(b"\0" * 9)
    expected = ["latest.safetensors is truncated or changed", "in previous.safetensors, x is negative"]
    assert checkpoint.newest(tmp_path, value) == (3.0, expected)
    assert checkpoint.newest(tmp_path, value, (checkpoint.LATEST,)) == (None, expected[:1])
    write(tmp_path, checkpoint.LATEST, 1.0)
    assert checkpoint.newest(tmp_path, value) == (1.0, [])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_a_pipe_is_refused_and_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(checkpoint.file_of(tmp_path, checkpoint.LATEST))
    with pytest.raises(ValueError, match="not a regular file"):
        checkpoint.newest(tmp_path, value)


def test_best_has_the_checkpoints_of_its_run(tmp_path: Path) -> None:
    assert checkpoint.run_of(tmp_path / "best") == checkpoint.run_of(tmp_path)
