"""Line drawings of pictures, for pairs (edges, picture) that a translator is trained on.

Extended difference of Gaussians (Winnemöller, Kyprianidis and Olsen 2012, "XDoG: an extended difference-of-Gaussians
compendium", equations 7 and 8): with luma L in [0,1] and Gaussian blurs G_s,

    D = (1 + p) G_s(L) - p G_ks(L)
    T = 1 where D >= e, otherwise 1 + tanh(phi (D - e))

drawn dark on white. It is a filter, not a network: it finds strong changes of brightness, and what lines mean is not known to
it. On transparent pictures the outline of the opaque part is drawn too, since they are laid on white first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from limner.core.files import lies_in, write_error
from limner.core.images import write_png
from limner.core.text import counted
from limner.data.dataset import Dataset, prepare
from limner.data.open import open_source

CHUNK = 256  # pictures
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Lines:
    """Parameters of the filter. width: s of the finer blur, as a fraction of the shorter side, at least 0.5 pixels."""

    width: float = 0.008
    ratio: float = 1.6  # k, for which the difference is closest to the Laplacian (Marr and Hildreth 1980)
    sharpness: float = 20.0  # p
    threshold: float = 0.75  # e
    steepness: float = 12.0  # phi


def blurred(x: Tensor, sigma: float) -> Tensor:
    """Return x [N,1,H,W] blurred by a Gaussian, with replicated borders."""
    reach = max(1, round(3 * sigma))
    steps = torch.arange(-reach, reach + 1, dtype=x.dtype)
    kernel = torch.exp(-0.5 * (steps / sigma) ** 2)
    kernel = kernel / kernel.sum()
    x = F.conv2d(F.pad(x, (reach, reach, 0, 0), mode="replicate"), kernel.view(1, 1, 1, -1))
    return F.conv2d(F.pad(x, (0, 0, reach, reach), mode="replicate"), kernel.view(1, 1, -1, 1))


def luma(pictures: Tensor) -> Tensor:
    """Return the luma in [0,1] of pictures uint8 [N,C,H,W], transparent ones on white: float32 [N,1,H,W]."""
    x = pictures.float() / 255
    gray = x[:, :1] if x.shape[1] == 1 else (x[:, :3] * torch.tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
    return gray * x[:, 3:] + 1 - x[:, 3:] if x.shape[1] == 4 else gray


@torch.no_grad()
def line_drawings(pictures: Tensor, lines: Lines = Lines()) -> Tensor:
    """Return line drawings of pictures uint8 [N,C,H,W], dark on white: uint8 [N,1,H,W]."""
    gray = luma(pictures)
    sigma = max(0.5, lines.width * min(pictures.shape[2:]))
    sharpened = (1 + lines.sharpness) * blurred(gray, sigma) - lines.sharpness * blurred(gray, lines.ratio * sigma)
    soft = 1 + torch.tanh(lines.steepness * (sharpened - lines.threshold))
    drawn = torch.where(sharpened >= lines.threshold, torch.ones_like(soft), soft)
    # a dark area is not a line: the filter alone blackens it, so it is kept only where brightness changes
    flat = (sharpened - gray).abs() < 0.1
    return torch.where(flat, torch.ones_like(drawn), drawn).mul(255).round().clamp(0, 255).to(torch.uint8)


def make_pairs(data: str, out: Path, size: int | tuple[int, int] | None = None, progress: Progress | None = None) -> str:
    """Write `out`/edges and `out`/pictures: line drawings and pictures of equal names, as .png. Returns a sentence.

    data: a folder, zip, array file or sample. size: of the pictures; by default as `limner train` would choose it. Raises
    ValueError when `out` holds files already or lies among the pictures.
    """
    source = open_source(data, labels=False)
    if lies_in(out, Path(data)):
        raise ValueError(f"The pairs would lie among the pictures they are made of: choose a place outside {data}.")
    found: Dataset = prepare(source, size=size, progress=progress)
    try:
        if out.exists() and any(out.iterdir()):
            raise ValueError(f"{out} holds files already: choose a new or an empty folder.")
        for start in range(0, len(found), CHUNK):
            pictures = torch.from_numpy(np.ascontiguousarray(found.images[start : start + CHUNK]))
            for k, drawn in enumerate(line_drawings(pictures)):
                name = f"{start + k:06d}.png"
                write_png(out / "edges" / name, drawn)
                write_png(out / "pictures" / name, pictures[k])
            if progress:
                progress(min(len(found), start + CHUNK), len(found))
    except OSError as error:
        raise write_error(error, out) from error
    return f"{counted(len(found), 'pair is', 'pairs are')} in {out}: limner train {out / 'edges'} {out / 'pictures'} --recipe pix2pix."
