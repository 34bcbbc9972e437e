"""A tuned copy of a generator for one picture: the latent is held, and the weights are changed until it shows the picture.

Roich et al. 2022, "Pivotal tuning for latent-based editing of real images", section 3.2 and 3.3: the error at the pivot, and
locality regularization, which holds the generator as it was at random latents near the pivot. Its distance is LPIPS, which
needs a pretrained network; here it is the pixels at three scales and the features of the inversion (`objective`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from limner.apps.editing.delta import rounded
from limner.apps.editing.latent import synthesize
from limner.apps.editing.search import Deadline, never
from limner.core import latents
from limner.core.images import to_float, to_uint8

STEPS = 300
LR = 2e-3
LOCALITY = 1.0           # weight of the pictures that must stay
NEIGHBORS = 2            # of them in a step
REACH = 0.5              # of the way to a random latent, at most
TARGET = 36.0            # dB at which the tuning ends
CHECK_EVERY = 10         # steps between two measurements

Tick = Callable[[int], None]


def tune(model: Any, code: np.ndarray, label: int | None, target: np.ndarray, steps: int = STEPS, goal: float = TARGET,
         deadline: Deadline = never, tick: Tick | None = None) -> dict[str, Tensor]:  # fmt: skip
    """Return the change of each parameter that makes the latent show the picture, rounded as it is stored.

    Parameters
    ----------
    code, label
        The pivot: z [Z] or styles [L,W], and the class.
    target
        The picture, uint8 [C,H,W].
    steps, goal, deadline
        The tuning ends after so many steps, at so many dB, or at the deadline, whichever comes first.
    """
    where = model._device
    x8 = torch.from_numpy(target)[None].to(where)
    x = to_float(x8)
    pivot = torch.from_numpy(code)[None].to(where)
    c = None if label is None else torch.tensor([label], device=where)
    own = {name: value.detach() for name, value in model.network.named_parameters()}
    weights = {name: value.clone().requires_grad_(True) for name, value in own.items()}
    optimizer = torch.optim.Adam(list(weights.values()), LR, (0.9, 0.99))
    rng = np.random.default_rng([0, 0, 3])
    for step in range(steps):
        if deadline() or (step % CHECK_EVERY == 0 and step and _psnr(model, pivot, c, weights, x8) >= goal):
            break
        optimizer.param_groups[0]["lr"] = LR * 0.5 * (1 + math.cos(math.pi * step / steps))
        near, labels = _neighbors(model, pivot, c, rng)
        with torch.no_grad():
            kept = synthesize(model, near, labels)
        both = torch.cat([pivot, near])
        made = synthesize(model, both, None if labels is None else torch.cat([c, labels]), weights)  # type: ignore[list-item]
        loss = _distance(made[:1], x) + LOCALITY * F.mse_loss(made[1:], kept)
        gradients = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
        for value, gradient in zip(weights.values(), gradients, strict=True):
            value.grad = gradient
        optimizer.step()
        if tick:
            tick(1)
    changes = {name: rounded(weights[name].detach() - own[name]).float() for name in own}
    return {name: change for name, change in changes.items() if change.any()}


def _distance(made: Tensor, x: Tensor) -> Tensor:
    """Return the mean squared error at full, half and quarter size, averaged."""
    parts = [F.mse_loss(F.avg_pool2d(made, k), F.avg_pool2d(x, k)) if k > 1 else F.mse_loss(made, x) for k in (1, 2, 4)]
    return torch.stack(parts).mean()


def _neighbors(model: Any, pivot: Tensor, c: Tensor | None, rng: np.random.Generator) -> tuple[Tensor, Tensor | None]:
    """Return codes on the way from the pivot to random latents, [NEIGHBORS,...], of the pivot's and of other classes."""
    drawn = torch.from_numpy(latents.normal(rng, NEIGHBORS, model.z_size)).to(pivot.device)
    labels = None if c is None else torch.from_numpy(rng.integers(0, model.spec.classes, NEIGHBORS)).to(pivot.device)
    share = torch.from_numpy(rng.uniform(0.1, REACH, (NEIGHBORS, 1)).astype(np.float32)).to(pivot.device)
    if labels is not None and c is not None:
        labels[::2] = c  # half of them of the pivot's class
    if pivot.ndim == 3:
        z = latents.transform(drawn, model.noise)
        with torch.no_grad():
            w = model.network.mapping(z, labels)
        return torch.lerp(pivot, w[:, None].expand_as(pivot.expand(NEIGHBORS, -1, -1)), share[:, :, None]), labels
    return torch.lerp(pivot.expand_as(drawn), drawn, share), labels


@torch.no_grad()
def _psnr(model: Any, code: Tensor, c: Tensor | None, weights: dict[str, Tensor], x: Tensor) -> float:
    made = to_uint8(synthesize(model, code, c, weights))
    error = (made.double() - x.double()).square().mean()
    return 10 * math.log10(255**2 / max(float(error), 1e-9))
