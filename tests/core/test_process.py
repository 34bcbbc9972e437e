"""The process of a run: found while it holds the lock, and by nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import limner
from limner.core import process
from limner.training.run import check_free, locked

HOLD = """
import sys
from pathlib import Path
from limner.training.run import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_training_process_is_found_until_it_ends(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert process.find(run) is None
    child = subprocess.Popen([sys.executable, "-c", HOLD, str(run)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout and child.stdin and child.stdout.readline() == "held\n"
    assert process.find(run) == child.pid
    child.stdin.close()
    assert child.wait(30) == 0
    assert process.find(run) is None and not (run / process.FILE).exists()


def test_a_killed_process_is_not_found_even_if_its_number_lives_on(tmp_path: Path) -> None:
    process.record(tmp_path)  # of this process, which does not hold the lock: as after a kill and a reuse of the number
    assert (tmp_path / process.FILE).read_text() == f"{os.getpid()}\n"
    assert process.find(tmp_path) is None
    (tmp_path / process.FILE).write_text("no number")
    assert process.find(tmp_path) is None


def test_a_run_killed_in_its_speed_trial_can_be_started_again(tmp_path: Path) -> None:
    with locked(tmp_path):
        pass
    process.record(tmp_path)
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "000000000.png").write_bytes(b"")
    check_free(tmp_path)
    (tmp_path / "samples" / "mine.png").write_bytes(b"")
    with pytest.raises(ValueError, match="holds other files, such as samples"):
        check_free(tmp_path)


def test_the_first_sheet_is_that_of_the_untrained_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is written before the speed trial, and training at 0 images writes the same bytes again."""
    from limner.runs import run as module

    seen: list[bytes] = []
    decide = module.decide

    def watching(*arguments: object) -> object:
        seen.append((tmp_path / "run" / "samples" / "000000000.png").read_bytes())
        return decide(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "decide", watching)
    pictures = np.random.default_rng(0).integers(0, 256, (64, 16, 16), dtype=np.uint8)
    small = {"generator.width": 4, "discriminator.width": 4}
    limner.train(pictures, recipe="dcgan", batch=16, images=32, changes=small, out=tmp_path / "run", quiet=True)
    assert len(seen) == 1 and seen[0] == (tmp_path / "run" / "samples" / "000000000.png").read_bytes()
