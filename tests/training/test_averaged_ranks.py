"""Ranks that step on their own and are averaged now and then (real processes, gloo)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import limner
from stopping import StopAt

SMALL = ["--recipe", "dcgan", "--generator.width", "8", "--discriminator.width", "8", "--batch", "16", "--precision", "fp32", "--device", "cpu"]
TOGETHER = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
LIMNER = [sys.executable, "-m", "limner"]


def done(command: list[str], code: int = 0) -> str:
    finished = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert finished.returncode == code, finished.stderr
    return finished.stderr


APART = """
import torch
import torch.distributed as group
from dataclasses import replace
from toy import CPU, PLAN, Toy, stream
from limner.core import distributed
from limner.training.iteration import iterate, training_mode
from limner.training.log import Means
from limner.training.state import State

def everywhere(tensors):
    rows = torch.cat([t.flatten() for t in tensors])
    found = [torch.empty_like(rows) for _ in range(2)]
    group.all_gather(found, rows)
    return found

with distributed.process_group("cpu") as ranks:
    method = Toy()
    plan = replace(PLAN, average_every=3)
    state = State(method, plan.optimizers)
    if ranks.rank == 1:
        method.poison = {0, 72}
    with training_mode(method):
        for i in range(1, 13):
            asked = ranks.rank == 1 and i in (7, 9)
            found = iterate(state, stream, plan, ranks, CPU, asked, Means())
            # the losses of rank 1 that are not numbers are known to all at the next average, and so is the request to stop that is made then
            assert found == {3: ("a", False), 9: (None, True), 12: ("a", False)}.get(i, (None, False)), (i, found)
            if i <= 3 or i == 12:  # not averaged, since all go back to the last good state; before its first step an optimizer has no moments
                continue
            one, two = everywhere(state.trained())
            if i % 3:
                assert not torch.equal(one, two), "between averages each rank steps on its own"
            else:
                assert torch.equal(one, two), "all that a turn may change is averaged"
                assert torch.equal(*everywhere(state.averages["a"].parameters()))
    assert one.isfinite().all() and not state.failed and state.seen == 96
"""


def run_together(script: str, folder: Path) -> None:
    (folder / "script.py").write_text(script)
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    finished = subprocess.run([*TOGETHER, str(folder / "script.py")], env=env, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr


def test_ranks_are_equal_after_every_average_and_hear_of_each_other_then(tmp_path: Path) -> None:
    run_together(APART, tmp_path)


STEPS = """
import torch
from torch import nn
from toy import CPU, PLAN, Toy, stream
from dataclasses import replace
from limner.core import distributed
from limner.training.iteration import iterate, training_mode
from limner.training.log import Means
from limner.training.state import OptimizerConfig, State

method = Toy()
method.phases = [phase for phase in method.phases if phase.player == "b"]
method.phases = [replace(method.phases[0], every=1)]
line = nn.Linear(4, 1)
line.load_state_dict(method.nets["b"].state_dict())
plan = replace(PLAN, average_every=1, optimizers={"a": PLAN.optimizers["a"], "b": OptimizerConfig(name="sgd", lr=0.1, beta1=0)}, lr_factor=lambda clock: 1.0)
with distributed.process_group("cpu") as ranks:
    state = State(method, plan.optimizers)
    with training_mode(method):
        for i in range(5):
            iterate(state, stream, plan, ranks, CPU, False, Means())
            loss = (line(stream(8 * i, 8)["x"]) - 1).square().mean()
            gradients = torch.autograd.grad(loss, [*line.parameters()])
            with torch.no_grad():
                for p, g in zip(line.parameters(), gradients):
                    p -= 0.1 * g
    for mine, theirs in zip(method.nets["b"].parameters(), line.parameters()):
        torch.testing.assert_close(mine, theirs)
"""


def test_an_average_of_every_plain_step_is_a_step_on_all_rows(tmp_path: Path) -> None:
    """The mean of steps along the gradients of two halves of a batch is a step along the gradient of the batch."""
    run_together(STEPS, tmp_path)


def test_a_run_of_two_ranks_resumes_bit_for_bit(squares: Path, tmp_path: Path) -> None:
    """Stopped between two averages it ends at the next one, and the same call starts both ranks from what rank 0 saved there."""

    def run(name: str, *callbacks: StopAt) -> limner.Trained:
        small = {"generator.width": 8, "discriminator.width": 8}
        return limner.train(
            squares, recipe="dcgan", batch=16, changes=small, precision="fp32", device="cpu", ranks=2, average_every=3, images=192,
            out=tmp_path / name, quiet=True, callbacks=callbacks,
        )  # fmt: skip

    assert run("whole").outcome.finished
    stopped = run("stopped", StopAt(64)).outcome
    assert (stopped.finished, stopped.signal, stopped.seen) == (False, signal.SIGTERM, 96)
    assert run("stopped").outcome.finished
    decided = json.loads((tmp_path / "stopped/run.json").read_text())["decided"]
    assert decided["ranks"] == 2 and decided["average_every"] == 3
    for file in ("weights.safetensors", "checkpoint/latest.safetensors"):
        whole, stopped = (load_file(tmp_path / name / file) for name in ("whole", "stopped"))
        assert whole.keys() == stopped.keys() and all(torch.equal(value, stopped[key]) for key, value in whole.items()), file


def others_of(pid: int) -> list[int]:
    """The processes that a process has started."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path(f"/proc/self/task/{os.getpid()}/children").exists(), reason="processes are found as Linux tells them")
@pytest.mark.parametrize("victim", ["other", "command"])
def test_no_rank_is_left_alone(victim: str, squares: Path, tmp_path: Path) -> None:
    command = [*LIMNER, "train", str(squares), *SMALL, "--ranks", "2", "--images", "10m", "--out", str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        end = time.monotonic() + 120
        while not (tmp_path / "run/checkpoint/latest.safetensors").exists():
            assert time.monotonic() < end and process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        (other,) = others_of(process.pid)
        os.kill(other if victim == "other" else process.pid, signal.SIGKILL)
        _, said = process.communicate(timeout=60)
    if victim == "other":
        assert process.returncode == 2 and "Another process of this run ended" in said and "Traceback" not in said
    end = time.monotonic() + 30
    while alive(other):
        assert time.monotonic() < end, "a rank outlives the command"
        time.sleep(0.1)
    assert (tmp_path / "run/checkpoint/latest.safetensors").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["nowhere", "--ranks", "2"], "nowhere"),
        (["fashion", "--ranks", "2", "--batch", "15", "--images", "64"], "cannot be split evenly over 2 ranks"),
        (["fashion", "--ranks", "2", "--sync-batch-norm", "--average-every", "4", "--images", "64"], "leave out --average-every"),
    ],
)
def test_what_several_ranks_cannot_do_is_one_sentence(options: list[str], sentence: str, tmp_path: Path) -> None:
    said = done([*LIMNER, "train", *options, "--out", str(tmp_path / "run")], 2)
    assert said.count(sentence) == 1 and "Traceback" not in said


def test_arrays_in_memory_have_one_rank(tmp_path: Path) -> None:
    pictures = np.zeros((32, 16, 16), np.uint8)
    with pytest.raises(ValueError, match="arrays in memory"):
        limner.train(pictures, recipe="dcgan", ranks=2, images=32, out=tmp_path / "run", quiet=True)
