"""Penalties on the critic's slope: per sample and unreduced, [N]."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

CriticFn = Callable[[Tensor], Tensor]  # x [N,C,H,W] -> logits [N]


def squared_slope(critic: CriticFn, x: Tensor) -> Tensor:
    """|grad_x D(x)|^2 by double backward. [N,C,H,W] -> [N]

    At real pictures it is R1, at generated ones R2 (Mescheder et al. 2018, "Which training methods for GANs do actually
    converge?", eq. 9; gamma/2 is the caller's). The gradient is taken in the network's precision, squared and summed
    in fp32.
    """
    x = x.detach().requires_grad_(True)
    (slope,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    return slope.float().square().sum((1, 2, 3))


def gamma_for(height: int, width: int, batch: int) -> float:
    """The weight of R1 from resolution and batch: 0.0002 * pixels / batch.

    Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN", as their configuration `auto` states it:
    gamma grows with the pixels, over which a slope is summed, and falls with the batch.
    """
    return 0.0002 * height * width / batch


PENALTIES = {  # name -> (at real pictures, at generated pictures)
    "none": (False, False),
    "r1": (True, False),
    "r2": (False, True),
    "r1r2": (True, True),
}


def penalised(name: str) -> tuple[bool, bool]:
    """Where a penalty of this name acts. Raises ValueError for an unknown one."""
    if name not in PENALTIES:
        raise ValueError(f"The penalty {name!r} is not known: say one of {', '.join(PENALTIES)}.")
    return PENALTIES[name]
