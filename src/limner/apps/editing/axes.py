"""Axes of a generator's latent space: the directions that change its pictures most. Sliders and maps lie along them.

They are the eigenvectors of E[J^T J], J the Jacobian of the picture by the latent (Wang & Ponce 2021, "The geometry of deep
generative image models and its applications", section 2: the metric of squared pixel differences), from finite differences. The
Jacobian is taken by z, or by the whitened styles of a network with a style space (`editing.spaces`), where z's length is idle.
Moved by 2 standard deviations both ways, eight such axes change pictures more than principal components of the pictures or of
the styles do: 4 % on Fashion by the default generator, 7 % by a StyleGAN2 (root mean square of pixels).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limner.apps.autoencode import Autoencoder
from limner.apps.editing.latent import CHUNK, synthesize
from limner.apps.editing.spaces import Space, space_of

COUNT = 8        # axes, at most
STEP = 0.25      # length of a finite difference, in standard deviations
PICTURES = 1200  # in all, about
LATENTS = 1024   # from which the standard deviation of latents along each axis is measured


@dataclass(frozen=True)
class Axes:
    """Axes of styles w or latents z, strongest first.

    steps: float64 [K,D], the moves of one standard deviation; orthogonal for latents. readers: [D,K], with steps @ readers = I.
    center: the mean [D]. shares: of all change in pictures, [K]. straight: whether moves are: those of normal latents go around.
    """

    steps: np.ndarray
    readers: np.ndarray
    center: np.ndarray
    shares: np.ndarray
    straight: bool

    def __len__(self) -> int:
        return len(self.steps)

    def coordinates(self, points: np.ndarray) -> np.ndarray:
        """Return points [N,D] as standard deviations along the axes, [N,K]."""
        return (points - self.center) @ self.readers

    def moved(self, points: np.ndarray, by: np.ndarray) -> np.ndarray:
        """Return points [...,D] moved by standard deviations [K]; normal latents keep their length, which sets a generator's
        contrast: the shell |z| = sqrt(Z) is where nearly all of them lie."""
        moved = points + by @ self.steps
        if self.straight:
            return moved
        length = np.linalg.norm(points - self.center, axis=-1, keepdims=True)
        offset = moved - self.center
        return self.center + offset * (length / np.maximum(np.linalg.norm(offset, axis=-1, keepdims=True), 1e-12))

    def placed(self, point: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Return points [N,D] that have the coordinates `at` [N,2] along the first two axes and are `point` [D] otherwise.

        Of normal latents, the rest is scaled so that all have the length of `point`: the plane becomes a piece of a sphere.
        """
        offset, plane = point - self.center, self.steps[:2]
        rest = offset - (offset @ self.readers[:, :2]) @ plane
        inside = at @ plane  # [N,D]
        if self.straight:
            return self.center + rest + inside
        left = np.maximum(0.0, offset @ offset - (inside**2).sum(1, keepdims=True))
        return self.center + inside + rest * np.sqrt(left) / max(1e-12, float(np.linalg.norm(rest)))


def axes_of(model: Any, count: int = COUNT, progress: Callable[[int, int], None] | None = None) -> Axes:
    """Return at most `count` axes of a generator; the same at every call. progress: called with (done, total) Jacobians.

    The sign of an axis is that which makes its largest entry positive. Raises ValueError for a model without a prior of latents.
    """
    space, classes = space_of(model), model.spec.classes
    metric = pixel_metric(lambda q, c: _pictures(model, space, q, c), space.size, classes, progress)
    rows, shares = principal(metric, count)
    if space.axes is not None and space.means is not None:
        factor = space.axes.double().cpu().numpy()  # [D,W]: w = mean + q factor
        return Axes(rows @ factor, np.linalg.pinv(factor) @ rows.T, space.means.double().mean(0).cpu().numpy(), shares, True)
    y = np.arange(LATENTS) % classes if classes else None
    points = model.latents(LATENTS, np.random.default_rng([0, 1]), y).astype(np.float64)
    scale, learned = (points @ rows.T).std(0)[:, None], isinstance(model, Autoencoder)  # whose prior is a mixture
    center = points.mean(0) if learned else np.zeros(points.shape[1])
    return Axes(rows * scale, (rows / scale).T, center, shares, learned)


def principal(metric: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return at most `count` eigenvectors of a metric [D,D], of unit length [K,D], strongest first, and their shares of its trace [K]."""
    values, vectors = np.linalg.eigh(metric)
    rows = vectors[:, ::-1][:, :count].T
    rows = rows * np.sign(rows[np.arange(len(rows)), np.abs(rows).argmax(1)])[:, None]
    return rows, values[::-1][:count].clip(0) / max(values.clip(0).sum(), 1e-30)


def axis_count(model: Any, count: int = COUNT) -> int:
    """Return the number of axes of `axes_of`, which is known before they are found."""
    return min(count, space_of(model).size)


def pixel_metric(picture: Callable[[Tensor, Tensor | None], Tensor], size: int, classes: int,
                 progress: Callable[[int, int], None] | None = None) -> np.ndarray:  # fmt: skip
    """Return E[J^T J] float64 [D,D] over normal coordinates, and over classes in turn.

    picture: (coordinates [n,D], classes int64 [n] or None) -> pictures [n,...].
    """
    rng = np.random.default_rng(0)
    around, metric = max(4, PICTURES // (size + 1)), np.zeros((size, size))
    for i in range(around):
        center = torch.from_numpy(rng.standard_normal((1, size)).astype(np.float32))
        q = torch.cat([center, center + STEP * torch.eye(size)])
        c = torch.full((len(q),), i % classes) if classes else None
        made = torch.cat([picture(*part) for part in zip(q.split(CHUNK), _parts(c, len(q)), strict=True)])
        rows = made.flatten(1).double().numpy()
        jacobian = (rows[1:] - rows[0]) / STEP  # [D,P]
        metric += jacobian @ jacobian.T / around
        if progress:
            progress(i + 1, around)
    return metric


def _parts(c: Tensor | None, n: int) -> list[Tensor | None]:
    return [None] * -(-n // CHUNK) if c is None else list(c.split(CHUNK))


@torch.no_grad()
def _pictures(model: Any, space: Space, q: Tensor, c: Tensor | None) -> Tensor:
    where = model._device
    q, c = q.to(where), None if c is None else c.to(where)
    made: Tensor = synthesize(model, space.code(q, c), c).float().cpu()
    return made
