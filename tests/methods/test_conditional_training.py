"""A generator that is given a number, or a text, learns to draw what goes with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from limner.core.condition import TENSORS, Condition
from limner.core.images import ImageSpec
from limner.losses.adversarial import objective
from limner.methods.gan import GAN
from limner.methods.phase import Batch
from limner.networks import conv
from limner.training.iteration import Plan
from limner.training.loop import fit
from limner.training.state import OptimizerConfig

CPU = torch.device("cpu")
BATCH, ITERATIONS = 32, 250


def spots(brightness: Tensor) -> Tensor:
    """A round spot in the middle, from dim (-1) to bright (1). [N] -> [N,1,16,16]"""
    at = torch.linspace(-1.25, 1.25, 16)
    distance = at[None, :].square() + at[:, None].square()
    return (1 + 0.8 * brightness[:, None, None, None]) * torch.exp(-distance / 0.5) - 0.9


def vectors(rng: np.random.Generator, n: int) -> tuple[Tensor, Tensor]:
    """A number of unit variance and the brightness that it stands for."""
    v = torch.from_numpy(rng.uniform(-(3**0.5), 3**0.5, (n, 1)).astype(np.float32))
    return v, v[:, 0] / 3**0.5


def texts(rng: np.random.Generator, n: int) -> tuple[Tensor, Tensor]:
    """One to three words, in any order: one of 1 (dim) to 3 (bright) is the brightness, and 4 to 6 mean nothing."""
    kind = rng.integers(1, 4, n)
    c = np.zeros((n, 3), np.int64)
    for i in range(n):
        words = [kind[i], *rng.integers(4, 7, rng.integers(0, 3))]
        rng.shuffle(words)
        c[i, : len(words)] = words
    return torch.from_numpy(c), torch.from_numpy(kind - 2.0).float()


@pytest.mark.parametrize(
    ("condition", "draw", "bound"),
    [(Condition.vector(1), vectors, 0.85), (Condition.tokens(7, 3), texts, 0.7)],
    ids=["vector", "tokens"],
)
def test_a_generator_follows_its_condition(condition: Condition, draw, bound: float, tmp_path: Path) -> None:
    torch.manual_seed(0)
    spec = ImageSpec(1, 16, 16, condition)
    method = GAN(conv.Generator(spec, conv.TINY_GENERATOR), conv.Discriminator(spec, conv.TINY_DISCRIMINATOR), objective("hinge"))

    def stream(first: int, count: int) -> dict[str, Tensor]:
        c, x = draw(np.random.default_rng([1, first]), count)
        return {"image": spots(x), TENSORS[condition.kind]: c}

    mover = OptimizerConfig(lr=2e-3, beta1=0.0, beta2=0.9)
    plan = Plan(images=BATCH * ITERATIONS, batch=BATCH, optimizers={"generator": mover, "discriminator": mover}, ema_half_life=500)
    fit(method.method, stream, tmp_path, plan, device=CPU, quiet=True)
    c, x = draw(np.random.default_rng(2), 512)
    generator = method.method.nets["generator"].eval()
    with torch.no_grad():
        made = generator(torch.randn(512, 8), c)
        shuffled = generator(torch.randn(512, 8), c[torch.randperm(512)])
    follows, chance = (torch.corrcoef(torch.stack([images.mean((1, 2, 3)), x]))[0, 1].item() for images in (made, shuffled))
    assert follows > bound and abs(chance) < 0.2  # of real images: 1 and about 0


@pytest.mark.parametrize("condition", [Condition.classes(3), Condition.vector(2), Condition.tokens(7, 3)], ids=str)
def test_a_batch_gives_its_condition_whatever_the_kind(condition: Condition) -> None:
    c = condition.examples(4)
    assert c is not None
    batch = Batch({"image": torch.zeros(4, 1, 16, 16), TENSORS[condition.kind]: c}, 0, 4)
    assert batch.condition() is c and torch.equal(batch.rows(slice(1, 3)).condition(), c[1:3])
    assert Batch({"image": torch.zeros(4, 1, 16, 16)}, 0, 4).condition() is None
