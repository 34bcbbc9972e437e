"""A tuned copy of a generator for one picture: the latent is held, and the weights are changed until it shows the picture.

Roich et al. 2022, "Pivotal tuning for latent-based editing of real images", sections 3.2 and 3.3: the error at the pivot, and
locality regularization, which holds the generator as it was between the pivot and random latents. Two things differ. Their
distance is LPIPS and L2, and LPIPS needs a pretrained network; here it is L2 at three scales. Their optimizer is Adam, which
moves every weight alike; L-BFGS (Liu & Nocedal 1989) moves along gradients, reaches the picture in a tenth of the time, and so
leaves more of the generator as it was (docs/edit.md has figures).
"""

from __future__ import annotations

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
from limner.evaluation.image_quality import psnr

STEPS = 400              # of L-BFGS, at most
GOAL = 34.0              # dB at which the tuning ends: further, the rest of the generator changes and the picture hardly
LOCALITY = 0.3           # weight of the pictures that must stay
NEIGHBORS = 4            # of them
LEAST_REACH = 0.1        # of the way from the pivot to a random latent, that a neighbor lies at; at most all of it
CHECK_EVERY = 5          # steps between two measurements
HISTORY = 20             # pairs that L-BFGS keeps

Tick = Callable[[int], None]


def tune(model: Any, code: np.ndarray, label: int | None, target: np.ndarray, steps: int = STEPS, goal: float = GOAL,
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
    picture = torch.from_numpy(target)[None].to(where)
    x = to_float(picture)
    pivot = torch.from_numpy(code)[None].to(where)
    c = None if label is None else torch.tensor([label], device=where)
    near, labels = _neighbors(model, pivot, c, np.random.default_rng([0, 0, 3]))
    with torch.no_grad():
        kept = synthesize(model, near, labels)
    both = torch.cat([pivot, near])
    all_labels = None if c is None or labels is None else torch.cat([c, labels])
    own = {name: value.detach() for name, value in model.network.named_parameters()}
    # L-BFGS takes weights and gradients that are contiguous
    weights = {name: value.clone(memory_format=torch.contiguous_format).requires_grad_(True) for name, value in own.items()}
    optimizer = torch.optim.LBFGS(
        list(weights.values()), max_iter=CHECK_EVERY, max_eval=2 * CHECK_EVERY, history_size=HISTORY, line_search_fn="strong_wolfe",
        tolerance_grad=0.0, tolerance_change=0.0,
    )  # fmt: skip

    def loss() -> float:
        made = synthesize(model, both, all_labels, weights)
        value = _distance(made[:1], x) + LOCALITY * F.mse_loss(made[1:], kept)
        gradients = torch.autograd.grad(value, list(weights.values()), allow_unused=True)
        for weight, gradient in zip(weights.values(), gradients, strict=True):
            weight.grad = None if gradient is None else gradient.contiguous()
        return float(value.detach())

    best, reached = {name: value.detach().clone() for name, value in weights.items()}, _psnr(model, pivot, c, weights, picture)
    for done in range(0, steps, CHECK_EVERY):
        if deadline() or reached >= goal:
            break
        optimizer.param_groups[0]["max_iter"] = min(CHECK_EVERY, steps - done)
        optimizer.step(loss)
        now = _psnr(model, pivot, c, weights, picture)
        if not all(value.isfinite().all() for value in weights.values()):  # the line search failed
            break
        if now > reached:
            best, reached = {name: value.detach().clone() for name, value in weights.items()}, now
        if tick:
            tick(min(CHECK_EVERY, steps - done))
    changes = {name: rounded(best[name] - own[name]).float() for name in own}
    return {name: change for name, change in changes.items() if change.any()}


def _distance(made: Tensor, x: Tensor) -> Tensor:
    """Return the mean squared error at full, half and quarter size, averaged."""
    parts = [F.mse_loss(F.avg_pool2d(made, k), F.avg_pool2d(x, k)) if k > 1 else F.mse_loss(made, x) for k in (1, 2, 4)]
    return torch.stack(parts).mean()


def _neighbors(model: Any, pivot: Tensor, c: Tensor | None, rng: np.random.Generator) -> tuple[Tensor, Tensor | None]:
    """Return codes on the way from the pivot to random latents, [NEIGHBORS,...], of the pivot's and of other classes."""
    drawn = torch.from_numpy(latents.normal(rng, NEIGHBORS, model.z_size)).to(pivot.device)
    labels = None if c is None else torch.from_numpy(rng.integers(0, model.spec.classes, NEIGHBORS)).to(pivot.device)
    share = torch.from_numpy(rng.uniform(LEAST_REACH, 1, (NEIGHBORS, 1)).astype(np.float32)).to(pivot.device)
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
    return float(psnr(to_uint8(synthesize(model, code, c, weights)), x))
