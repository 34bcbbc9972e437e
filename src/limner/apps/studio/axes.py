"""Axes of a generator's latent space: the directions along which its pictures vary most.

For a network with a style space they are the principal components of styles w; otherwise the pictures' principal components,
regressed to latents z (Härkönen et al. 2020, "GANSpace: discovering interpretable GAN controls", sections 2.1 and 2.2, there
with activations of the first layer: pictures need no layer of an architecture). With classes, each class's mean is subtracted
first, so that an axis changes pictures within a class.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from limner.apps.model import CHUNK, GeneratorModel
from limner.apps.typical import reduced
from limner.core import latents
from limner.core.device import autocast
from limner.networks.contracts import StyleBased

COUNT = 8  # axes, at most
STYLES = 4096  # latents for the components of styles
PICTURES = 2048  # for the components of pictures: with 64 latent dimensions, the first axis of two seeds correlates by 0.95 (Fashion)


@dataclass(frozen=True)
class Axes:
    """Orthonormal directions [K,D], float64, of styles or latents.

    center: the mean [D]. scale: standard deviations [K] along the directions. styles: whether they are of the style space.
    """

    directions: np.ndarray
    center: np.ndarray
    scale: np.ndarray
    styles: bool

    def __len__(self) -> int:
        return len(self.directions)

    def coordinates(self, points: np.ndarray) -> np.ndarray:
        """Return points [N,D] as standard deviations along the axes, [N,K]."""
        return (points - self.center) @ self.directions.T / self.scale

    def moved(self, points: np.ndarray, by: np.ndarray) -> np.ndarray:
        """Return points [N,D] moved by standard deviations [K] or [N,K]; latents keep their length, which sets a generator's
        contrast: the shell |z| = sqrt(Z) is where nearly all normal latents lie."""
        moved = points + (by * self.scale) @ self.directions
        if self.styles:
            return moved
        length = np.linalg.norm(points - self.center, axis=1, keepdims=True)
        offset = moved - self.center
        return self.center + offset * (length / np.maximum(np.linalg.norm(offset, axis=1, keepdims=True), 1e-12))

    def placed(self, point: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Return points [N,D] that have the coordinates `at` [N,2] along the first two axes and are `point` [D] otherwise.

        Of latents, the rest is scaled so that all have the length of `point`: the plane becomes a piece of a sphere.
        """
        plane, offset = self.directions[:2], point - self.center
        rest = offset - (offset @ plane.T) @ plane
        inside = (at * self.scale[:2]) @ plane  # [N,D]
        if self.styles:
            return self.center + rest + inside
        left = np.maximum(0.0, offset @ offset - (inside**2).sum(1, keepdims=True))
        return self.center + inside + rest * np.sqrt(left) / max(1e-12, float(np.linalg.norm(rest)))


def axes_of(model: GeneratorModel, count: int = COUNT) -> Axes:
    """Return the axes of a generator; the same at every call. Raises ValueError for a model without a prior of latents."""
    n = STYLES if model.has_styles else PICTURES
    y = np.arange(n) % model.spec.classes if model.spec.classes else None
    z = model.latents(n, np.random.default_rng([0, 1]), y)
    if model.has_styles:
        points = styles_of(model, z, y).astype(np.float64)
        within = _without_class_means(points, y)
        _, values, rows = np.linalg.svd(within, full_matrices=False)
        return Axes(_signed(rows[:count]), points.mean(0), values[:count] / np.sqrt(n), True)
    points = z.astype(np.float64)
    pictures = [model.render(z[i : i + CHUNK], None if y is None else y[i : i + CHUNK]) for i in range(0, n, CHUNK)]
    features = _without_class_means(np.concatenate([reduced(torch.from_numpy(np.asarray(part))).numpy() for part in pictures]), y)
    within = _without_class_means(points, y)
    scores = np.linalg.svd(features, full_matrices=False)[0][:, : min(count, points.shape[1])]  # [N,K], orthonormal columns
    raw = (within.T @ scores).T  # least squares for uncorrelated latents
    directions = _orthonormal(raw)
    return Axes(directions, points.mean(0) if y is None else np.zeros(points.shape[1]), (within @ directions.T).std(0), False)


@torch.no_grad()
def styles_of(model: GeneratorModel, z: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    """Return the styles w [N,W] of latents [N,Z] and class numbers [N], float32."""
    assert isinstance(model.network, StyleBased)
    latent = latents.transform(torch.from_numpy(z).to(model._device), model.noise)
    c = None if labels is None else torch.from_numpy(labels).to(model._device)
    with autocast(model._device, model._precision):
        return model.network.mapping(latent, c).float().cpu().numpy()


def _without_class_means(rows: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    """Return rows [N,D] without the mean of their class, or of all."""
    groups = np.zeros(len(rows), np.int64) if labels is None else labels
    result = rows - rows.mean(0)
    for group in np.unique(groups):
        result[groups == group] = rows[groups == group] - rows[groups == group].mean(0)
    return result


def _orthonormal(rows: np.ndarray) -> np.ndarray:
    """Return the rows [K,D] orthonormalized in order, each with its own direction."""
    q, r = np.linalg.qr(rows.T)
    return _signed((q * np.where(np.diag(r) < 0, -1.0, 1.0)).T)


def _signed(rows: np.ndarray) -> np.ndarray:
    """Return rows [K,D] with signs chosen so that the largest component of each is positive: a component has no sign."""
    largest = np.take_along_axis(rows, np.abs(rows).argmax(1)[:, None], 1)
    return rows * np.where(largest < 0, -1.0, 1.0)
