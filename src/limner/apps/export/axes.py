"""Principal axes of a generator's latent space: the directions that change its pictures most.

They are the eigenvectors of E[JᵀJ], J the Jacobian of the picture by the latent (Wang & Ponce 2021, "The geometry of deep
generative image models and its applications", section 2: the metric of squared pixel differences), from finite differences.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from limner.core.latents import normal

STEP = 0.25      # length of a finite difference; latents have a standard deviation of 1
PICTURES = 1200  # in all, about
BATCH = 64
Render = Callable[[np.ndarray, np.ndarray | None], np.ndarray]
"""(standard normal latents [n,Z], class numbers [n] or None) -> pictures float [n,P] in any shape that can be flattened"""


def principal_axes(render: Render, z_size: int, classes: int, count: int, progress: Callable[[int, int], None] | None = None
                   ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Return `count` orthonormal axes float32 [count,Z], strongest first, and the share [count] of all change along each.

    Always the same for the same network. The sign of an axis is that which makes its largest entry positive.
    """
    rng = np.random.default_rng(0)
    around = max(4, PICTURES // (z_size + 1))
    metric = np.zeros((z_size, z_size))
    for i in range(around):
        center = normal(rng, 1, z_size)
        label = i % classes if classes else None
        moved = np.concatenate([center, center + STEP * np.eye(z_size, dtype=np.float32)])
        made = []
        for start in range(0, len(moved), BATCH):
            part = moved[start : start + BATCH]
            made.append(render(part, None if label is None else np.full(len(part), label)).reshape(len(part), -1))
        pictures = np.concatenate(made).astype(np.float64)
        jacobian = (pictures[1:] - pictures[0]) / STEP  # [Z,P]
        metric += jacobian @ jacobian.T / around
        if progress:
            progress(i + 1, around)
    values, vectors = np.linalg.eigh(metric)
    axes = vectors[:, ::-1][:, :count].T
    axes = axes * np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(1)])[:, None]
    shares = values[::-1][:count].clip(0) / max(values.clip(0).sum(), 1e-30)
    return axes.astype(np.float32), shares
