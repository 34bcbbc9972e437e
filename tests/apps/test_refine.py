"""The refinement of latents against the best integers, where the decoder is linear and each pixel has a latent of its own."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from limner.apps.refine import refine
from limner.coding.tables import Tables, gaussian_tables

STEP = 0.02  # of a pixel in [-1,1], by one step of its latent
SCALES = (0.2, 1.0, 4.0, 12.0)


class Shuffled:
    """A decoder whose latents [N,4,h,w] are the pixels [N,1,2h,2w], in units of STEP."""

    def synthesis(self, latents: Tensor, level: Tensor) -> Tensor:
        return F.pixel_shuffle(latents * STEP, 2)

    def lambdas(self, level: Tensor) -> Tensor:
        return 0.02 * (1 + level)


def bits(table: Tables, values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The code length of values that have a place in their rows, float [...]."""
    place = values - table.low[rows]
    assert ((place >= 0) & (place < table.count[rows])).all()
    return table.cost[rows, place]


def test_it_finds_the_best_integers_of_a_linear_decoder() -> None:
    torch.manual_seed(0)
    table = Tables(gaussian_tables(SCALES))
    rows = torch.randint(0, len(SCALES), (2, 4, 5, 6))
    scale = torch.tensor(SCALES)[rows]
    residual = (torch.randn(rows.shape) * scale).clamp(-2 * scale, 2 * scale)
    mean = torch.rand(rows.shape) - 0.5
    x, level = F.pixel_shuffle((residual + mean) * STEP, 2), torch.tensor([0.0, 1.0])
    found = refine(Shuffled(), table, x, (10, 12), residual, mean, rows, level, 40).numpy()

    weight = (0.02 * (1 + level)).numpy()[:, None, None, None]

    def cost(values: np.ndarray) -> np.ndarray:
        error = np.square((values - residual.numpy()) * STEP * 127.5)
        return bits(table, values.astype(int), rows.numpy()) + weight * error

    start = residual.round().numpy()
    best = np.min([cost(np.trunc(start * share)) for share in np.linspace(0, 1, 60)], 0)  # toward the mean, where bits are few
    assert cost(found).sum() < 0.97 * cost(start).sum()
    np.testing.assert_allclose(cost(found), best, rtol=1e-4)


def test_padding_stays_out_and_no_step_gives_the_rounded_residual() -> None:
    torch.manual_seed(0)
    table = Tables(gaussian_tables(SCALES))
    rows = torch.full((1, 4, 4, 4), 2)
    residual = 4 * torch.randn(rows.shape)
    x = F.pixel_shuffle(residual * STEP, 2)
    none = refine(Shuffled(), table, x, (5, 8), residual, torch.zeros_like(residual), rows, torch.zeros(1), 0)
    assert torch.equal(none[:, :, :3], residual.round().double()[:, :, :3])
    some = refine(Shuffled(), table, x, (5, 8), residual, torch.zeros_like(residual), rows, torch.zeros(1), 5)
    assert not some[:, :, 3].any() and (some[:, :, :3] != none[:, :, :3]).any()
