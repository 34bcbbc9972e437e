"""Two processes give what one gives (real processes, gloo)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file


def train(out: Path, data: Path, ranks: int, *more: str) -> dict[str, torch.Tensor]:
    start = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={ranks}", "--standalone"]
    command = [*(start if ranks > 1 else [sys.executable]), "-m", "limner", "train", str(data), "--images", "160"]
    command += ["--precision", "fp32", "--device", "cpu", "--out", str(out), "--quiet", *more]
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return load_file(out / "weights.safetensors")


@pytest.mark.parametrize("recipe", ["spectral", "dcgan", "r3gan"])
def test_two_ranks_give_what_one_gives(recipe: str, squares: Path, tmp_path: Path) -> None:
    # plain gradient steps: Adam divides by |g| and blows the last bit of a sum's order up to the step size
    more = ["--recipe", recipe, "--network.width", "8", "--batch", "16"]
    for player in ("critic", "generator"):
        more += [f"--{player}.name", "sgd", f"--{player}.rate", "0.02", f"--{player}.beta1", "0"]
    one, two = (train(tmp_path / f"{ranks}", squares, ranks, *more) for ranks in (1, 2))
    assert one.keys() == two.keys()
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=2e-4, atol=2e-5, msg=lambda m, key=key: f"{key}: {m}")


def test_a_batch_that_cannot_be_shared_is_a_sentence(squares: Path, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="cannot be shared by 2 ranks"):
        train(tmp_path, squares, 2, "--batch", "15")
