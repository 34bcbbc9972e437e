"""What one can measure of a picture without a trained network: brightness, color, size, place and detail.

The figure is what differs from the background; the background is the median color of the border, or what is transparent. Each
attribute is one number a picture, so that a direction's effect on it can be given in standard deviations of the samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

FIGURE = 0.12  # mean absolute difference from the background, of the range [0,1], from which a pixel belongs to the figure


@dataclass(frozen=True)
class Attribute:
    """A measurement and the names of its two directions."""

    name: str
    more: str  # the name of a direction that raises it
    less: str  # and of one that lowers it
    color: bool = False  # whether gray pictures lack it


ATTRIBUTES = (
    Attribute("brightness", "brighter", "darker"),
    Attribute("contrast", "more contrast", "less contrast"),
    Attribute("saturation", "more colorful", "less colorful", color=True),
    Attribute("red-blue", "redder", "bluer", color=True),
    Attribute("green-magenta", "greener", "more magenta", color=True),
    Attribute("area", "larger", "smaller"),
    Attribute("shape", "wider", "taller"),
    Attribute("across", "to the right", "to the left"),
    Attribute("height", "lower", "higher"),
    Attribute("edges", "more detail", "smoother"),
    Attribute("symmetry", "more symmetric", "less symmetric"),
)


def attributes_of(channels: int) -> tuple[Attribute, ...]:
    """Return the attributes that pictures of C channels have."""
    return tuple(a for a in ATTRIBUTES if channels > 1 or not a.color)


def measure(pictures: Tensor) -> Tensor:
    """Return the attributes of pictures uint8 [N,C,H,W], in the order of `attributes_of`, float64 [N,A].

    brightness: mean luma of Rec. 601 in [0,1]. contrast: standard deviation of the luma within the figure. saturation: mean of the
    largest minus the smallest channel. red-blue: mean of R - B. green-magenta: mean of G - (R + B) / 2. area: share of pixels of
    the figure. shape: log of the figure's width over its height, each a standard deviation of its pixels' coordinates. across,
    height: the figure's center, in [-1,1]. edges: mean absolute difference of neighboring pixels. symmetry: minus the mean
    absolute difference from the mirror image. Transparency is blended with white.
    """
    parts = pictures.split(256) if len(pictures) else [pictures]
    return torch.cat([attributes(part.double() / 255) for part in parts])


def attributes(x: Tensor) -> Tensor:
    """Return the attributes of float pictures [N,C,H,W] in [0,1], differentiable: [N,A]."""
    n, channels, h, w = x.shape
    alpha = x[:, 3:] if channels == 4 else torch.ones_like(x[:, :1])
    rgb = (x[:, :3] * alpha + 1 - alpha).expand(n, 3, h, w)
    luma = (rgb * rgb.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1)  # [N,H,W]
    figure = _figure(rgb, alpha if channels == 4 else None)  # [N,H,W]
    weight = figure.sum((1, 2)).clamp_min(1e-6)
    rows, columns = torch.linspace(-1, 1, h, dtype=x.dtype), torch.linspace(-1, 1, w, dtype=x.dtype)

    def mean(values: Tensor) -> Tensor:
        return (figure * values).sum((1, 2)) / weight

    across, height = mean(columns.expand(n, h, w)), mean(rows[:, None].expand(n, h, w))
    wide = mean((columns - across[:, None, None]).square().expand(n, h, w)).clamp_min(1e-4).sqrt()
    tall = mean((rows[:, None] - height[:, None, None]).square().expand(n, h, w)).clamp_min(1e-4).sqrt()
    level = mean(luma)
    edges = (luma.diff(dim=1).abs().mean((1, 2)) + luma.diff(dim=2).abs().mean((1, 2))) / 2
    color = [
        (rgb.amax(1) - rgb.amin(1)).mean((1, 2)),
        (rgb[:, 0] - rgb[:, 2]).mean((1, 2)),
        (rgb[:, 1] - (rgb[:, 0] + rgb[:, 2]) / 2).mean((1, 2)),
    ] if channels > 1 else []  # fmt: skip
    return torch.stack([
        luma.mean((1, 2)), mean((luma - level[:, None, None]).square()).sqrt(), *color, figure.mean((1, 2)),
        (wide / tall).log(), across, height, edges, -(luma - luma.flip(2)).abs().mean((1, 2)),
    ], 1)  # fmt: skip


def _figure(rgb: Tensor, alpha: Tensor | None) -> Tensor:
    """Return where a figure stands, in [0,1]: [N,3,H,W], [N,1,H,W] | None -> [N,H,W]"""
    if alpha is not None:
        return alpha[:, 0]
    border = torch.cat([rgb[:, :, 0], rgb[:, :, -1], rgb[:, :, :, 0], rgb[:, :, :, -1]], 2)
    background = border.median(2).values[:, :, None, None]
    away = (rgb - background).abs().mean(1)
    return F.hardtanh((away - FIGURE) / FIGURE + 0.5, 0.0, 1.0)  # soft, so that the area is no staircase
