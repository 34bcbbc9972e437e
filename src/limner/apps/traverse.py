"""What each number of a latent does: a sheet with a row for each, the one that says most first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from limner.apps.model import Pictures
from limner.core.images import WHITE, grid, to_pil, write_png
from limner.data.image import in_channels
from limner.networks.vae import ACTIVE

REACH = 3.0  # standard deviations on either side


@dataclass(frozen=True)
class Traversal:
    """Rows of pictures along single numbers of a latent, the others held."""

    pictures: Pictures     # uint8 [rows * columns, C,H,W]
    rows: list[int]        # which number of the latent each row moves
    columns: list[float]   # how many standard deviations from that number's mean each column is
    nats: np.ndarray       # [Z] what each number costs: KL(q(z|x) || N(0,1)), the mean over the pictures
    active: int            # numbers that vary from picture to picture

    def save(self, path: str | Path) -> Path:
        """Write the sheet with its legend as a PNG; returns the path. Raises ValueError for another ending."""
        write_png(Path(path), self.sheet())
        return Path(path)

    def sheet(self) -> np.ndarray:
        """uint8 [3,H,W]: rows named by the number and its nats, columns by standard deviations."""
        flat = np.stack([np.asarray(in_channels(to_pil(p), 3, WHITE)) for p in np.asarray(self.pictures)])
        cells = to_pil(grid(flat.transpose(0, 3, 1, 2), columns=len(self.columns)))
        left, top, size = 96, 26, 15
        sheet = Image.new("RGB", (left + cells.width, top + cells.height), WHITE)
        sheet.paste(cells, (left, top))
        pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size)
        across, down = cells.width / len(self.columns), cells.height / len(self.rows)
        for i, deviations in enumerate(self.columns):
            said = f"{deviations:+.3g} sd" if deviations else "mean"
            pen.text((left + (i + 0.5) * across, top / 2), said, "black", font, "mm")
        for i, number in enumerate(self.rows):
            middle = top + (i + 0.5) * down
            pen.text((left - 8, middle - 9), f"z{number}", "black", font, "rm")
            pen.text((left - 8, middle + 9), f"{self.nats[number]:.2f} nats", "#666", font, "rm")
        return np.ascontiguousarray(np.asarray(sheet).transpose(2, 0, 1))


def traversal(
    means: np.ndarray, log_variances: np.ndarray, decode: Callable[[np.ndarray], Pictures], base: np.ndarray | None,
    dims: int, steps: int,
) -> Traversal:
    """Move the `dims` numbers that cost most, each alone.

    means, log_variances: [N,Z], of q(z|x) for N pictures.
    base: the latent [Z] whose other numbers are held; None holds them at their means.
    """  # fmt: skip
    if dims < 1 or steps < 2:
        raise ValueError("A traversal has 1 row and 2 steps at least.")
    if len(means) < 2:
        raise ValueError("Give 2 pictures at least, better some hundred: what each number costs is measured on them.")
    means, variances = means.astype(np.float64), np.exp(log_variances.astype(np.float64))
    nats = 0.5 * (means**2 + variances - 1 - np.log(variances)).mean(0)  # Kingma & Welling 2014, appendix B
    center, deviation = means.mean(0), np.sqrt(means.var(0) + variances.mean(0))
    rows = np.argsort(-nats, kind="stable")[:dims].tolist()
    columns = np.linspace(-REACH, REACH, steps)
    latents = np.tile(center if base is None else base, (len(rows), steps, 1))
    for latent, number in zip(latents, rows, strict=True):
        latent[:, number] = center[number] + columns * deviation[number]
    made = decode(latents.reshape(-1, len(center)).astype(np.float32))
    return Traversal(made, rows, columns.tolist(), nats, int((means.var(0) > ACTIVE).sum()))
