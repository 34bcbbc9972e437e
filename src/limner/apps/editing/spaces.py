"""Coordinates in which latents are searched: independent, of unit variance over the model's samples.

    z space    the standard normal z itself
    w space    a style-based network's w, whitened: w = mean_c + q B, with the principal axes B of w as rows
    w+ space   one style a layer, refined from w: styles = w + offsets (Abdal et al. 2019, "Image2StyleGAN")

Styles are searched because w is less entangled than z (Karras et al. 2019, section 4), and pixel norm makes z's length idle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limner.core import latents
from limner.networks.contracts import StyleBased

SAMPLES = 2048           # styles that the axes of w are computed from
LEAST_VARIANCE = 1e-6    # of an axis of w, as a share of all: below, it is left out
BATCH = 256


@dataclass(frozen=True, eq=False)
class Space:
    """Coordinates q [N,D] of a generator's codes. means, axes: of w, [K or 1,W] and [D,W]; None for z.

    size: D. layers: L, of a style-based network, otherwise 0.
    """

    size: int
    layers: int = 0
    means: Tensor | None = None
    axes: Tensor | None = None

    def code(self, q: Tensor, c: Tensor | None) -> Tensor:
        """Return z [N,Z] or styles [N,L,W] of coordinates [N,D] and classes [N]."""
        if self.means is None or self.axes is None:
            return q
        w = self.means[torch.zeros(len(q), dtype=torch.long) if c is None else c] + q @ self.axes
        return w[:, None].expand(-1, self.layers, -1)

    def draw(self, n: int, rng: np.random.Generator) -> Tensor:
        """Return random coordinates [n,D]: standard normal."""
        return torch.from_numpy(latents.normal(rng, n, self.size))


@torch.no_grad()
def space_of(model: Any) -> Space:
    """Return the space in which a generator's latents are searched; for w its axes are computed from SAMPLES fixed latents."""
    network = model.network
    if not isinstance(network, StyleBased):
        return Space(model.z_size)
    rng = np.random.default_rng([0, 0, 1])
    classes = model.spec.classes
    parts = []
    for start in range(0, SAMPLES, BATCH):
        z = latents.transform(torch.from_numpy(latents.normal(rng, BATCH, model.z_size)), model.noise)
        c = (start + torch.arange(BATCH)) % classes if classes else None
        parts.append(network.mapping(z.to(model._device), None if c is None else c.to(model._device)).double().cpu())
    w = torch.cat(parts)  # [S,W]
    groups = torch.arange(SAMPLES) % classes if classes else torch.zeros(SAMPLES, dtype=torch.long)
    count = max(1, classes)
    means = torch.stack([w[groups == k].mean(0) for k in range(count)])
    centered = w - means[groups]
    variance, axes = torch.linalg.eigh(centered.T @ centered / SAMPLES)  # ascending; rows of axes.T
    kept = variance > LEAST_VARIANCE * variance.sum()
    scaled = axes.T[kept] * variance[kept].sqrt()[:, None]
    if not len(scaled):
        scaled = torch.eye(w.shape[1], dtype=torch.float64)
    where = model._device
    return Space(len(scaled), network.layers, means.float().to(where), scaled.float().to(where))
