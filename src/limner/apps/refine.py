"""Refinement of a picture's latents at encoding: a descent of rate plus distortion over their integers, through the decoder.

Campos et al. 2019, "Content adaptive optimization for neural image compression", optimize the latents of one picture by gradient
descent. Here the integers themselves move, as in the rate-distortion optimized quantization of video encoders (Karczewicz et al.
2008, "Rate distortion optimized quantization", VCEG-AH21): each may take a step of 1 up or down where the bits of the tables
and a quadratic model of the error say that it pays. The model has the exact gradient and a diagonal Hessian. The format and the
decoder stay as they are: only encoding takes longer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from limner.coding.tables import Tables

SHARE = 0.5  # of the steps that pay are taken, chosen at random: neighbors that mend the same error would overshoot


def refine(
    network: Any, tables: Tables, x: Tensor, size: tuple[int, int], residual: Tensor, mean: Tensor, rows: Tensor, level: Tensor,
    steps: int, seed: int = 0,
) -> Tensor:
    """Return symbols float64 [N,M,h,w] with no larger rate + lambda * distortion than `residual` rounded.

    x [N,C,H,W]: the padded picture, of which `size` pixels count. residual, mean: y - mean and mean, [N,M,h,w]. rows: of the
    tables. Each picture keeps the best of its steps + 1 states, by the tables' bits and the error of its decoded pixels.
    """  # fmt: skip
    device = x.device
    cost = torch.from_numpy(tables.cost).to(device)
    low, count = (torch.from_numpy(t).to(device)[rows] for t in (tables.low, tables.count))
    stride = x.shape[-1] // residual.shape[-1]
    inside = torch.zeros_like(residual)
    inside[..., : -(-size[0] // stride), : -(-size[1] // stride)] = 1  # the padding is not coded
    area, weight = size[0] * size[1], network.lambdas(level)

    def bits(values: Tensor) -> Tensor:
        """The code length of integers in each place."""
        place = values.long() - low
        beyond = torch.where(place < 0, -2 * place - 1, 2 * (place - count)).clamp_min(0).add(1).double().log2().floor()
        escaped = (place < 0) | (place >= count)
        found = cost[rows, torch.where(escaped, count, place)]
        return torch.where(escaped, found + 2 * beyond.float() + 1, found)

    def decoded(values: Tensor) -> Tensor:
        picture: Tensor = network.synthesis(values + mean, level)[..., : size[0], : size[1]]
        return picture

    def distortion(picture: Tensor) -> Tensor:
        return (picture.clamp(-1, 1) - x[..., : size[0], : size[1]]).square().mean((1, 2, 3)) * 127.5**2

    generator = torch.Generator(device).manual_seed(seed)
    symbols = residual.detach().round() * inside
    best, least = symbols, torch.full_like(weight, torch.inf)
    curvature = torch.zeros(())
    for step in range(steps + 1):
        values = symbols.clone().requires_grad_(step < steps)
        with torch.enable_grad():
            picture = decoded(values)
            error = weight * distortion(picture)
            total = error.sum()
        here = bits(symbols)
        objective = (here * inside).sum((1, 2, 3)) / area + error.detach()
        best = torch.where((objective < least)[:, None, None, None], symbols, best)
        least = torch.minimum(objective, least)
        if step == steps:
            break
        if not step:
            curvature = _curvature(picture, values, inside, generator) * weight[:, None, None, None]
        (gradient,) = torch.autograd.grad(total, values)
        up = gradient + curvature / 2 + (bits(symbols + 1) - here) / area
        down = -gradient + curvature / 2 + (bits(symbols - 1) - here) / area
        chosen = (torch.minimum(up, down) < 0) & (torch.rand(up.shape, generator=generator, device=device) < SHARE)
        symbols = symbols + torch.where(up < down, 1.0, -1.0) * chosen * inside
    return best.double()


def _curvature(picture: Tensor, values: Tensor, inside: Tensor, generator: torch.Generator) -> Tensor:
    """Return the second derivative of the squared error of a picture, in units of 1/255, by one latent of each channel: [N,M,1,1].

    It is that of a linear decoder, twice the squared norm of a column of its Jacobian J, from the squares of J^T u for a random u
    of signs (Hutchinson 1990), averaged over the places inside.
    """
    signs = torch.randint(0, 2, picture.shape, generator=generator, device=picture.device).to(picture.dtype) * 2 - 1
    (product,) = torch.autograd.grad(picture, values, signs, retain_graph=True)
    mean = (product.square() * inside).sum((2, 3), keepdim=True) / inside.sum((2, 3), keepdim=True)
    return mean * (2 * 127.5**2 / picture[0].numel())
