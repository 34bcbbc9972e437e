"""Refinement of a picture's latents at encoding, by gradient descent on rate plus distortion through the decoder.

Campos et al. 2019, "Content adaptive optimization for neural image compression", with the stochastic Gumbel annealing of Yang,
Bamler & Mandt 2020, "Improving inference for neural image compression", section 3.2. The format and the decoder stay as they are:
only encoding takes longer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from limner.coding.tables import Tables

LR = 0.03               # Adam's, in rounding steps
WARM = 0.35             # of the steps have the first temperature, as in the paper (700 of 2,000)
HOT, COLD = 0.5, 0.25   # temperatures: the first, and the last, as exp(-0.001 * 1,300) in the paper
EDGE = 1e-4             # least distance from an integer, where atanh is finite


def refine(
    network: Any, tables: Tables, x: Tensor, size: tuple[int, int], residual: Tensor, mean: Tensor, rows: Tensor, level: Tensor,
    steps: int, seed: int = 0,
) -> Tensor:
    """Return symbols float64 [N,M,h,w] with no larger rate + lambda * distortion than `residual` rounded.

    x [N,C,H,W]: the padded picture, of which `size` pixels count. residual, mean: y - mean and mean, [N,M,h,w]. rows: of the
    tables. Each picture keeps the better of both by the tables' bits and the error of its decoded pixels.
    """  # fmt: skip
    device = x.device
    cost = torch.from_numpy(tables.cost).to(device)
    low, count = (torch.from_numpy(t).to(device)[rows] for t in (tables.low, tables.count))
    stride = x.shape[-1] // residual.shape[-1]
    inside = torch.zeros_like(residual)
    inside[..., : -(-size[0] // stride), : -(-size[1] // stride)] = 1  # the padding is not coded
    area, weight = size[0] * size[1], network.lambdas(level)

    def bits(values: Tensor) -> Tensor:
        """The code length of integers in each place, without a gradient."""
        place = values.long() - low
        beyond = torch.where(place < 0, -2 * place - 1, 2 * (place - count)).clamp_min(0).add(1).double().log2().floor()
        escaped = (place < 0) | (place >= count)
        found = cost[rows, torch.where(escaped, count, place)]
        return torch.where(escaped, found + 2 * beyond.float() + 1, found) * inside

    def distortion(values: Tensor) -> Tensor:
        made = network.synthesis(values * inside + mean, level).clamp(-1, 1)
        return (made - x)[..., : size[0], : size[1]].square().mean((1, 2, 3)) * 127.5**2

    def objective(values: Tensor) -> Tensor:
        return bits(values).sum((1, 2, 3)) / area + weight * distortion(values)

    generator = torch.Generator(device).manual_seed(seed)
    v = residual.detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([v], LR)
    with torch.enable_grad():
        for step in range(steps):
            part = max(0.0, (step / steps - WARM) / (1 - WARM))
            temperature = HOT * (COLD / HOT) ** part
            floor = v.detach().floor()
            up = (v - floor).clamp(EDGE, 1 - EDGE)
            # logits of rounding down and up, -atanh of the two distances (Yang et al., eq. 8), in one logistic variable
            logit = (torch.atanh(1 - up) - torch.atanh(up)) / temperature
            uniform = torch.rand(v.shape, generator=generator, device=device).clamp(1e-6, 1 - 1e-6)
            share = torch.sigmoid(-(logit + torch.logit(uniform)) / temperature)  # Gumbel-softmax of two, Jang et al. 2017
            rate = (torch.lerp(bits(floor), bits(floor + 1), share) * inside).sum((1, 2, 3)) / area
            loss = (rate + weight * distortion(floor + share)).sum()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    before, after = residual.round(), v.detach().round()
    better = (objective(after) < objective(before))[:, None, None, None]
    return torch.where(better, after, before).double()
