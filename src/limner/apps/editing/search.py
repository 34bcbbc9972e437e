"""The search for a latent: Levenberg-Marquardt in few coordinates, Adam where there are many.

Levenberg-Marquardt (Marquardt 1963, "An algorithm for least-squares estimation of nonlinear parameters"): a generator has few
inputs, so that its whole Jacobian costs one batch of D + 1 pictures by finite differences, and a dozen Gauss-Newton steps
replace hundreds of gradient steps.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from limner.apps.editing.objective import PRIOR, Objective

CHUNK = 128              # pictures per forward pass
STEP = 1e-2              # of the finite differences, in standard deviations
DAMPINGS = (0.1, 1.0, 10.0)  # factors on the last damping that are tried at once
REUSED = 3               # further steps with one Jacobian
WORTH = 0.02             # decrease of the cost that a further step with the same Jacobian is tried after
FITTED = 4e-6            # mean squared error below that of rounding to 8 bits, (2/255)^2 / 12 = 5e-6: nothing is left to fit
SETTLED = 1e-3           # decrease of the cost, relative in f, below which a search has converged
LARGEST_JACOBIAN = 1 << 26  # numbers; more coordinates than fit are searched by gradient

Deadline = Callable[[], bool]
Tick = Callable[[int], None]


@dataclass(frozen=True, eq=False)
class Found:
    """Coordinates [D], their cost, and the damping at which a further search goes on."""

    q: Tensor
    cost: float
    damping: float = 1.0
    done: bool = False  # converged, or fitted to rounding


def never() -> bool:
    return False


def after(seconds: float | None) -> Deadline:
    """Return a function that says whether `seconds` have passed from now on; never for None."""
    if seconds is None:
        return never
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


@torch.no_grad()
def residuals(objective: Objective, q: Tensor, label: int | None) -> Tensor:
    """Return the residuals [N,M] of coordinates [N,D] of one class, in chunks."""
    parts = []
    for part in q.split(CHUNK):
        c = None if label is None else torch.full((len(part),), label, device=q.device)
        parts.append(objective.residuals(part, c))
    return torch.cat(parts)


def evaluated(objective: Objective, q: Tensor, label: int | None) -> Tensor:
    """Return the costs [N] of coordinates [N,D] of one class."""
    return objective.cost(residuals(objective, q, label), q)


@torch.no_grad()
def levenberg_marquardt(
    objective: Objective, found: Found, label: int | None, steps: int, deadline: Deadline = never, tick: Tick | None = None
) -> Found:
    """Return the coordinates after at most `steps` Jacobians from `found`; the cost never rises.

    A Jacobian serves for up to REUSED further steps, corrected by what they found (Broyden 1965, "A class of methods for solving
    nonlinear simultaneous equations", eq. 4.5), while they bring much. The prior's weight follows f: with log f differentiated,
    its curvature is PRIOR f / D beside the Jacobian's.
    """
    q, damping, size = found.q, found.damping, len(found.q)
    shifts = torch.eye(size, device=q.device) * STEP
    r, calm = residuals(objective, q[None], label)[0], 0
    before = float(objective.cost(r[None], q[None]))
    for _ in range(steps):
        if deadline():
            break
        jacobian = (residuals(objective, q + shifts, label) - r) / STEP  # [D,M]
        start = before
        for again in range(1 + REUSED):
            dampings = [max(damping * factor, 1e-8) for factor in DAMPINGS]
            candidates = _steps(jacobian, r, q, dampings)
            made = residuals(objective, candidates, label)
            costs = objective.cost(made, candidates).nan_to_num(nan=torch.inf)
            best = int(costs.argmin())
            gain = before - float(costs[best])
            if gain <= 0:
                damping *= DAMPINGS[-1] ** 2 if not again else 1.0
                break
            step = candidates[best] - q
            jacobian += torch.outer(step, made[best] - r - step @ jacobian) / step.square().sum()
            q, r, damping, before = candidates[best], made[best], dampings[best], float(costs[best])
            if float(r.square().sum()) < FITTED:
                return Found(q, before, damping, True)
            if gain < WORTH:
                break
        if tick:
            tick(1)
        calm = calm + 1 if start - before < SETTLED else 0
        if calm >= 2 or damping > 1e6:
            return Found(q, before, min(damping, 1.0), True)
    return Found(q, before, damping)


def _steps(jacobian: Tensor, r: Tensor, q: Tensor, dampings: list[float]) -> Tensor:
    """Return the coordinates [K,D] after a step from q [D] at each damping. jacobian: [D,M] of residuals r [M]."""
    prior = PRIOR * float(r.square().sum()) / len(q)
    curvature, slope = jacobian @ jacobian.T, jacobian @ r + prior * q
    scale = float(curvature.diagonal().mean())
    eye = torch.eye(len(q), device=q.device)
    return torch.stack([q - torch.linalg.solve(curvature + (prior + one * scale + 1e-10) * eye, slope) for one in dampings])


def descend(
    objective: Objective, start: Tensor, label: int | None, steps: int, deadline: Deadline = never, tick: Tick | None = None,
    lr: float = 0.05, styles: Tensor | None = None, scale: Tensor | None = None,
) -> tuple[Tensor, float]:  # fmt: skip
    """Return the best coordinates [D] on a path of `steps` Adam steps (Kingma & Ba 2015) with a cosine schedule, and their cost.

    styles: [L,W], which the coordinates, reshaped to [L,W] in units of `scale` [W], are added to in place of their own code (w+).
    """
    q = start.clone().requires_grad_(True)
    c = None if label is None else torch.tensor([label], device=q.device)
    optimizer = torch.optim.Adam([q], lr, (0.9, 0.99))
    best, best_cost = start.clone(), torch.inf
    for step in range(steps + 1):
        code = None if styles is None or scale is None else (styles + q.view_as(styles) * scale)[None]
        cost = objective.cost(objective.residuals(q[None], c, code), q[None])[0]
        value = float(cost.detach())
        if value < best_cost:
            best, best_cost = q.detach().clone(), value
        if step == steps or deadline():
            break
        optimizer.param_groups[0]["lr"] = lr * 0.5 * (1 + math.cos(math.pi * step / steps))
        (q.grad,) = torch.autograd.grad(cost, [q])
        optimizer.step()
        if tick:
            tick(1)
    return best, best_cost
