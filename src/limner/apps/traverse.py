"""Latent traversals: a sheet with one row per latent dimension, the one of the largest KL divergence first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from limner.apps.output import ImageArray
from limner.core.images import WHITE, grid, to_pil, write_png
from limner.data.image import convert_channels
from limner.networks.vae import ACTIVE

MAX_DEVIATIONS = 3.0  # standard deviations on either side of the mean


@dataclass(frozen=True)
class Traversal:
    """Pictures along single latent dimensions, with the others fixed."""

    pictures: ImageArray   # uint8 [rows * columns, C,H,W]
    rows: list[int]        # the latent dimension that each row varies
    columns: list[float]   # standard deviations from the dimension's mean
    nats: np.ndarray       # [Z] KL(q(z|x) || N(0,1)) of each dimension, averaged over pictures
    active: int            # dimensions that vary from picture to picture

    def save(self, path: str | Path) -> Path:
        """Write the sheet with its legend as a PNG; return the path. Raises ValueError for another suffix."""
        write_png(Path(path), self.sheet())
        return Path(path)

    def sheet(self) -> np.ndarray:
        """Return the sheet uint8 [3,H,W]: rows named by dimension and KL divergence, columns by standard deviations."""
        flat = np.stack([np.asarray(convert_channels(to_pil(p), 3, WHITE)) for p in np.asarray(self.pictures)])
        cells = to_pil(grid(flat.transpose(0, 3, 1, 2), columns=len(self.columns)))
        left, top, size = 96, 26, 15
        sheet = Image.new("RGB", (left + cells.width, top + cells.height), WHITE)
        sheet.paste(cells, (left, top))
        pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size)
        across, down = cells.width / len(self.columns), cells.height / len(self.rows)
        for i, deviations in enumerate(self.columns):
            caption = f"{deviations:+.3g} sd" if deviations else "mean"
            pen.text((left + (i + 0.5) * across, top / 2), caption, "black", font, "mm")
        for i, number in enumerate(self.rows):
            middle = top + (i + 0.5) * down
            pen.text((left - 8, middle - 9), f"z{number}", "black", font, "rm")
            pen.text((left - 8, middle + 9), f"{self.nats[number]:.2f} nats", "#666", font, "rm")
        return np.ascontiguousarray(np.asarray(sheet).transpose(2, 0, 1))


def traversal(
    means: np.ndarray, log_variances: np.ndarray, decode: Callable[[np.ndarray], ImageArray], base: np.ndarray | None,
    dims: int, steps: int,
) -> Traversal:
    """Vary the `dims` latent dimensions of the largest KL divergence, each alone.

    means, log_variances: [N,Z], of q(z|x) for N pictures.
    base: the latent [Z] that the other dimensions keep; None keeps them at their means.
    """  # fmt: skip
    if dims < 1 or steps < 2:
        raise ValueError("A traversal has at least 1 row and 2 steps.")
    if len(means) < 2:
        raise ValueError("Give at least 2 pictures, better some hundred: the KL divergence is measured on them.")
    means, variances = means.astype(np.float64), np.exp(log_variances.astype(np.float64))
    nats = 0.5 * (means**2 + variances - 1 - np.log(variances)).mean(0)  # Kingma & Welling 2014, appendix B
    center, deviation = means.mean(0), np.sqrt(means.var(0) + variances.mean(0))
    rows = np.argsort(-nats, kind="stable")[:dims].tolist()
    columns = np.linspace(-MAX_DEVIATIONS, MAX_DEVIATIONS, steps)
    latents = np.tile(center if base is None else base, (len(rows), steps, 1))
    for latent, number in zip(latents, rows, strict=True):
        latent[:, number] = center[number] + columns * deviation[number]
    made = decode(latents.reshape(-1, len(center)).astype(np.float32))
    return Traversal(made, rows, columns.tolist(), nats, int((means.var(0) > ACTIVE).sum()))
