"""Two processes give what one gives (real processes, gloo)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

TOGETHER = [sys.executable, "-m", "torch.distributed.run", "--standalone"]


def finished(command: list[str]) -> None:
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def train(out: Path, data: Path | list[Path], ranks: int, *more: str) -> dict[str, torch.Tensor]:
    """The weights after a few iterations. After many, some pre-activation has come within the last bit of zero, where
    the order of a sum decides the slope of a ReLU, and the weights part by more than any tolerance should bear."""
    start = [*TOGETHER, f"--nproc-per-node={ranks}"] if ranks > 1 else [sys.executable]
    places = [str(place) for place in (data if isinstance(data, list) else [data])]
    command = [*start, "-m", "limner", "train", *places, "--images", "40"]
    finished([*command, "--precision", "fp32", "--device", "cpu", "--out", str(out), "--quiet", *more])
    return load_file(out / "weights.safetensors")


def alike(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor], rtol: float = 2e-4, atol: float = 2e-5) -> None:
    assert one.keys() == two.keys()
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=rtol, atol=atol, msg=lambda m, key=key: f"{key}: {m}")


@pytest.mark.parametrize("recipe", ["spectral", *(pytest.param(name, marks=pytest.mark.slow) for name in ("dcgan", "r3gan", "improved"))])
def test_two_ranks_give_what_one_gives(recipe: str, squares: Path, tmp_path: Path) -> None:
    # plain gradient steps: Adam divides by |g| and blows the last bit of a sum's order up to the step size
    more = ["--recipe", recipe, "--generator.width", "8", "--discriminator.width", "8", "--batch", "8", "--sync-batch-norm"]
    for player in ("discriminator", "generator"):
        more += [f"--{player}-optimizer.name", "sgd", f"--{player}-optimizer.lr", "0.02", f"--{player}-optimizer.beta1", "0"]
    one, two = (train(tmp_path / f"{ranks}", squares, ranks, *more) for ranks in (1, 2))
    alike(one, two)


@pytest.mark.slow
def test_two_ranks_see_the_same_captions(squares: Path, tmp_path: Path) -> None:
    captions = tmp_path / "captions.json"
    captions.write_text(json.dumps({str(i): f"a square at the {('left', 'right')[i % 2]}, number {i // 8}" for i in range(96)}))
    more = ["--recipe", "text2image", "--captions", str(captions), "--generator.width", "8", "--discriminator.width", "8"]
    more += ["--batch", "8", "--sync-batch-norm", "--generator.attention"]
    for player in ("discriminator", "generator"):
        more += [f"--{player}-optimizer.name", "sgd", f"--{player}-optimizer.lr", "0.02", f"--{player}-optimizer.beta1", "0"]
    one, two = (train(tmp_path / f"{ranks}", squares, ranks, *more) for ranks in (1, 2))
    alike(one, two)


@pytest.mark.slow
def test_two_ranks_share_the_pools_of_a_cyclegan(squares: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.npz"
    np.savez(other, images=255 - np.load(squares)["images"])
    more = ["--recipe", "cyclegan", "--network.width", "8", "--network.blocks", "1", "--discriminator.width", "8"]
    more += ["--batch", "8", "--pool", "12"]  # full after two iterations of five: most pictures are exchanged
    for player in ("translator", "discriminator"):
        more += [f"--{player}-optimizer.name", "sgd", f"--{player}-optimizer.lr", "0.02", f"--{player}-optimizer.beta1", "0"]
    one, two = (train(tmp_path / f"{ranks}", [squares, other], ranks, *more) for ranks in (1, 2))
    alike(one, two)
    one, two = (load_file(tmp_path / f"{ranks}/checkpoint/latest.safetensors") for ranks in (1, 2))
    for side in ("a", "b"):
        pools = [found[f"memory.made_{side}.pictures"] for found in (one, two)]
        assert pools[0].flatten(1).any(1).all()
        torch.testing.assert_close(*pools, rtol=2e-4, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["vae", "vqvae"])
def test_two_ranks_learn_one_code(recipe: str, squares: Path, tmp_path: Path) -> None:
    more = ["--recipe", recipe, "--network.width", "8", "--network.blocks", "1", "--batch", "8", "--grad-clip", "0"]
    # codes die and restart in every iteration: 64 of them share 8 x 16 vectors of an untrained encoder
    more += ["--network.codes", "64", "--restart-threshold", "1"] if recipe == "vqvae" else ["--network.z-size", "8"]
    for player in ("autoencoder", *(["prior"] if recipe == "vae" else [])):
        more += [f"--{player}-optimizer.name", "sgd", f"--{player}-optimizer.lr", "0.01", f"--{player}-optimizer.beta1", "0"]
    one, two = (train(tmp_path / f"{ranks}", squares, ranks, *more) for ranks in (1, 2))
    alike(one, two)


@pytest.mark.slow
def test_two_ranks_train_one_codec(squares: Path, tmp_path: Path) -> None:
    more = ["--recipe", "codec", "--batch", "8", "--grad-clip", "0", "--network.qualities", "3"]
    for name, value in {"latent-channels": 12, "hyper-channels": 4, "hyper-width": 4, "encoder-width": 4, "decoder-width": 4}.items():
        more += [f"--network.{name}", str(value)]
    more += ["--codec-optimizer.name", "sgd", "--codec-optimizer.lr", "0.001", "--codec-optimizer.beta1", "0"]
    one, two = (train(tmp_path / f"{ranks}", squares, ranks, *more) for ranks in (1, 2))
    floats, whole = ({key: value for key, value in one.items() if value.is_floating_point() == kind} for kind in (True, False))
    alike(floats, {key: two[key] for key in floats})
    for key, value in whole.items():  # a weight that differs in its last bit may be rounded to the next integer
        assert (two[key].long() - value.long()).abs().max() <= 20, key


AGREE = """
import sys, torch
import torch.distributed as group
from limner.core import distributed
from limner.core.images import ImageSpec
from limner.methods.phase import Batch, Clock
from limner.methods.pool import Pool
from limner.methods.vqvae import VQVAE
from limner.networks import vqvae

with distributed.process_group("cpu") as ranks:
    torch.manual_seed(0)
    method = VQVAE(vqvae.Autoencoder(ImageSpec(1, 16, 16), vqvae.TINY), dead=1.0)
    pool = Pool(10, (1, 16, 16))
    for seen in range(0, 96, 8):
        x = torch.rand(8, 1, 16, 16, generator=torch.Generator().manual_seed(seen)) * 2 - 1
        mine = ranks.rows(8)
        batch = Batch({"image": x[mine]}, mine.start, 8, (0, seen, 0))
        for part in (batch.rows(slice(0, 2)), batch.rows(slice(2, 4))):  # accumulated, too
            method.turn(part, Clock(seen, 96, 8))
            pool.exchange(part["image"], part)
    for kept in (*method.autoencoder.codebook.buffers(), pool.pictures):
        all_of = [torch.empty_like(kept) for _ in range(ranks.world)]
        group.all_gather(all_of, kept.contiguous())
        assert torch.equal(*all_of) and kept.any(), "the ranks have drifted apart"
"""

IDLE = """
import torch
from limner.core import distributed
from limner.training.iteration import _summed

with distributed.process_group("cpu") as ranks:
    both, one, none = (torch.nn.Parameter(torch.zeros(2)) for _ in range(3))
    for p in (both, one) if ranks.first else (both,):
        p.grad = torch.ones(2)
    total = torch.ones(2)
    found = _summed([both, one, none], total)
    assert [g.tolist() for g in found] == [[2, 2], [1, 1]] and total.tolist() == [2, 2] and none.grad is None
"""


LOCAL = """
import sys, torch
import torch.distributed as group
from limner.core import distributed
from limner.networks.layers import BatchNorm2d
from limner.training.iteration import _summed

x = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 + 1
with distributed.process_group("cpu") as ranks:
    norm, mine = BatchNorm2d(3), x[ranks.rows(8)]
    y = norm(mine)
    alone = torch.nn.BatchNorm2d(3)
    assert torch.equal(y, alone(mine)), "a rank normalizes its own rows"
    statistics = distributed.unsynchronized([norm])
    assert len(statistics) == 2 and torch.equal(statistics[0], alone.running_mean)
    kernel = torch.arange(24.0).view(2, 3, 2, 2).to(memory_format=torch.channels_last) * (1 + ranks.rank)
    row, sliced = torch.ones(5), torch.arange(8.0).view(2, 4)[:, 1:3].clone()[:, :1]
    distributed.all_reduce_in_place([kernel, row, sliced])
    assert torch.equal(kernel, 3 * torch.arange(24.0).view(2, 3, 2, 2)) and torch.equal(row, 2 * torch.ones(5))
    assert sliced.flatten().tolist() == [2.0, 10.0], "of any layout"
    weight = torch.nn.Parameter(torch.zeros(1))
    weight.grad = torch.ones(1)
    _summed([weight], torch.ones(2), statistics)
    assert weight.grad == 2, "gradients are summed, statistics averaged"
    halves = [torch.nn.BatchNorm2d(3) for _ in range(2)]
    for half, rows in zip(halves, x.split(4)):
        half(rows)
    torch.testing.assert_close(norm.running_mean, (halves[0].running_mean + halves[1].running_mean) / 2)
    torch.testing.assert_close(norm.running_var, (halves[0].running_var + halves[1].running_var) / 2)
    all_of = [torch.empty_like(norm.running_var) for _ in range(2)]
    group.all_gather(all_of, norm.running_var)
    assert torch.equal(*all_of), "all ranks have the same statistics"
"""


LEAVE = """
import os, torch
from limner.core import distributed

def threads():
    return [open(f"/proc/self/task/{t}/comm").read().strip() for t in os.listdir("/proc/self/task")]

with distributed.process_group("cpu"):
    torch.optim.Adam([torch.nn.Parameter(torch.zeros(2))])  # imports what takes the group for a default
    distributed.all_reduce_in_place([torch.ones(2)])
    assert any("gloo" in name for name in threads())
assert not any("gloo" in name for name in threads()), threads()
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted as Linux tells them")
def test_no_thread_of_the_group_outlives_it(tmp_path: Path) -> None:
    # one that still runs while the interpreter is torn down now and then kills a rank whose work is done
    (tmp_path / "leave.py").write_text(LEAVE)
    finished([*TOGETHER, "--nproc-per-node=2", str(tmp_path / "leave.py")])


def test_a_parameter_is_idle_where_no_rank_plays_it(tmp_path: Path) -> None:
    (tmp_path / "idle.py").write_text(IDLE)
    finished([*TOGETHER, "--nproc-per-node=2", str(tmp_path / "idle.py")])


def test_ranks_normalize_their_own_rows_and_share_running_statistics(tmp_path: Path) -> None:
    (tmp_path / "local.py").write_text(LOCAL)
    finished([*TOGETHER, "--nproc-per-node=2", str(tmp_path / "local.py")])


def test_ranks_agree_bit_for_bit_when_the_batch_is_accumulated(tmp_path: Path) -> None:
    # A slice moves codebook and pool before the next is seen, so accumulated over two ranks is by design not what one
    # rank gives: but the ranks must never differ from each other, or they would train two models.
    (tmp_path / "agree.py").write_text(AGREE)
    finished([*TOGETHER, "--nproc-per-node=2", str(tmp_path / "agree.py")])


def test_a_batch_that_cannot_be_shared_is_a_sentence(squares: Path, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="cannot be split evenly over 2 ranks"):
        train(tmp_path, squares, 2, "--batch", "15")


@pytest.mark.slow
@pytest.mark.parametrize("every", [0, 3])
def test_two_ranks_train_longer_as_one_run_of_the_longer_budget(every: int, squares: Path, tmp_path: Path) -> None:
    """Under a constant schedule; the two ranks see the same decision about the budget. Each normalizes its own rows: the resumed run
    starts both with the statistics that rank 0 saved, which are those of the unbroken run on either."""
    start = [*TOGETHER, "--nproc-per-node=2", "-m", "limner", "train"]
    small = ["--recipe", "dcgan", "--schedule", "constant", "--average-every", str(every), "--batch", "16", "--generator.width", "8", "--discriminator.width", "8",
             "--precision", "fp32", "--device", "cpu", "--threads", "1", "--quiet"]  # fmt: skip
    finished([*start, str(squares), *small, "--images", "96", "--out", str(tmp_path / "long")])
    finished([*start, str(squares), *small, "--images", "48", "--out", str(tmp_path / "short")])
    finished([*start, "--resume", str(tmp_path / "short"), "--more", "48 images", "--quiet"])
    assert json.loads((tmp_path / "short/run.json").read_text())["decided"]["ranks"] == 2
    for name in ("weights.safetensors", "checkpoint/latest.safetensors"):
        long, extended = (load_file(tmp_path / run / name) for run in ("long", "short"))
        assert long.keys() == extended.keys() and all(torch.equal(value, extended[key]) for key, value in long.items()), name


@pytest.mark.slow
def test_two_ranks_start_from_a_run_as_one_does(squares: Path, tmp_path: Path) -> None:
    more = ["--recipe", "spectral", "--generator.width", "8", "--discriminator.width", "8", "--batch", "8", "--sync-batch-norm"]
    for player in ("discriminator", "generator"):
        more += [f"--{player}-optimizer.name", "sgd", f"--{player}-optimizer.lr", "0.02", f"--{player}-optimizer.beta1", "0"]
    train(tmp_path / "parent", squares, 1, *more)
    more += ["--from", str(tmp_path / "parent"), "--adapt", "freeze-d"]
    alike(*(train(tmp_path / f"{ranks}", squares, ranks, *more) for ranks in (1, 2)))
    # long enough for the trial, which both ranks make together
    command = [*TOGETHER, "--nproc-per-node=2", "-m", "limner", "train", str(squares), "--from", str(tmp_path / "parent"), "--images", "5000"]
    finished([*command, "--metric", "pixels", "--device", "cpu", "--out", str(tmp_path / "long"), "--quiet"])
    trial = json.loads((tmp_path / "long/run.json").read_text())["decided"]["transfer"]["trial"]
    assert trial["images"] == 1000 and trial["parent"] != trial["nothing"]
