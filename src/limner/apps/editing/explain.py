"""Explain a generator: which units of a layer draw what, by switching each off.

Bau et al. 2019, "GAN dissection: visualizing and understanding generative adversarial networks", section 3.2, measure the effect
of units by ablation: the same latents, with a unit's map set to zero. There a segmenter names what disappears; here the pictures,
the place where they change and their attributes (`apps.editing.attributes`) show it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

from limner.apps.editing.attributes import attributes_of, measure
from limner.apps.editing.codes import Codes, drawn, pictures
from limner.apps.editing.effect import within
from limner.apps.model import check_numbers
from limner.apps.output import Progress
from limner.apps.sample import destination
from limner.core.images import WHITE, png, to_pil, write_png
from limner.core.lettering import font, write
from limner.data.image import convert_channels

PICTURES = 32        # on which a unit's effect is measured
SHOWN = 8            # of them on the sheet
UNITS = 12           # rows of the sheet
LETTERS, GAP = 13, 6  # pixels
MIN_SIDE, MAX_SIDE = 56, 128


@dataclass(frozen=True, eq=False)
class UnitEffect:
    """What switching one unit off changes. size: mean absolute change of a pixel, of the range [0,1]. where: float [H,W], that
    change by place. attributes: mean changes in standard deviations of the samples. pictures: uint8 [SHOWN,C,H,W]."""

    unit: int
    size: float
    where: np.ndarray
    attributes: dict[str, float]
    pictures: np.ndarray


@dataclass(frozen=True, eq=False)
class Explanation:
    """The units of a layer, the most effective first, and the unchanged pictures uint8 [SHOWN,C,H,W]."""

    layer: str
    units: list[UnitEffect]
    pictures: np.ndarray
    count: int  # units of the layer


@torch.no_grad()
def maps_of(model: Any, codes: Codes) -> dict[str, int]:
    """Return the layers of a generator that give maps of units, by name in the order of the forward pass: the number of units.

    Of a module and a part of it with an output of the same shape, the whole is listed: a normalization with its scale and shift.
    """
    found: dict[str, tuple[int, ...]] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, out: Any) -> None:
            if isinstance(out, Tensor) and out.ndim == 4:
                found.setdefault(name, tuple(out.shape[1:]))

        return hook

    handles = [m.register_forward_hook(note(name)) for name, m in model.network.named_modules() if name]
    try:
        pictures(model, codes.some(1), own_layers=True)
    finally:
        for handle in handles:
            handle.remove()
    colors = (model.spec.channels,)
    return {
        name: shape[0] for name, shape in found.items()
        if shape[:1] != colors and shape != found.get(name.rpartition(".")[0])
    }  # fmt: skip


def layer_named(known: dict[str, int], layer: str | None) -> str:
    """Return the name of a layer: that of the given name or number, or one in the first half. Raises ValueError for others."""
    names = list(known)
    if not names:
        raise ValueError("This generator has no layer that gives maps of units, so that none can be switched off.")
    if layer is None:
        return names[(len(names) - 1) // 2]
    if layer in known:
        return layer
    if layer.isdigit() and int(layer) < len(names):
        return names[int(layer)]
    listed = ", ".join(f"{i} = {name} ({units} units)" for i, (name, units) in enumerate(known.items()))
    raise ValueError(f"There is no layer {layer!r}: choose one of {listed}.")


def without(model: Any, layer: str, unit: int, codes: Codes) -> Tensor:
    """Return the pictures uint8 [N,C,H,W] of codes with one unit of a layer switched off."""

    def hook(_: nn.Module, __: Any, out: Tensor) -> Tensor:
        out = out.clone()
        out[:, unit] = 0
        return out

    handle = model.network.get_submodule(layer).register_forward_hook(hook)
    try:
        return pictures(model, codes, own_layers=True)
    finally:
        handle.remove()


def explain(model: Any, layer: str | None = None, *, units: int = UNITS, seed: int = 0, label: str | int | None = None,
            progress: Progress | None = None) -> Explanation:  # fmt: skip
    """Measure what each unit of a layer draws, by switching it off in the same samples.

    Parameters
    ----------
    model
        A `limner.GeneratorModel`.
    layer
        Name or number of a layer (`maps_of`); None takes one in the first half, where units draw parts rather than edges.
    units
        How many of the most effective units are returned.
    seed
        Random seed of the samples.
    label
        Their class; None takes classes as frequent as in the training data.

    Returns
    -------
    Explanation
        The units by their effect, the largest first.

    Raises
    ------
    ValueError
        For an unknown layer or label, and a generator without maps.

    Examples
    --------
    After the example of `limner.train`:

    >>> import limner
    >>> from limner.apps.editing.explain import explain
    >>> found = explain(limner.load("runs/noise", "cpu"), units=3)
    >>> len(found.units), found.pictures.shape, found.units[0].size >= found.units[1].size
    (3, (8, 1, 16, 16), True)
    """
    check_numbers(PICTURES, seed)
    if units < 1:
        raise ValueError("At least 1 unit is shown: give --units 1 or more.")
    codes = drawn(model, PICTURES, seed, label)
    known = maps_of(model, codes)
    name = layer_named(known, layer)
    before = pictures(model, codes, own_layers=True)
    attributes = measure(before).numpy()
    deviation = np.maximum(within(attributes, codes.c if codes.c is not None and len(np.unique(codes.c)) < PICTURES // 4 else None).std(0), 1e-3)
    names = [a.name for a in attributes_of(model.spec.channels)]
    found = []
    for unit in range(known[name]):
        after = without(model, name, unit, codes)
        change = (after.float() - before.float()).abs().mean((0, 1)).numpy() / 255  # [H,W]
        shift = (measure(after).numpy() - attributes).mean(0) / deviation
        found.append(UnitEffect(unit, float(change.mean()), change, dict(zip(names, shift.tolist(), strict=True)), after[:SHOWN].numpy()))
        if progress:
            progress(unit + 1, known[name])
    found.sort(key=lambda u: -u.size)
    return Explanation(name, found[:units], before[:SHOWN].numpy(), known[name])


def sheet(found: Explanation) -> np.ndarray:
    """Return a sheet uint8 [3,H,W]: the samples, and below them a row for each unit: the samples without it, where they change,
    and what changes."""
    h, w = found.pictures.shape[2:]
    scale = max(1, -(-MIN_SIDE // max(h, w))) if max(h, w) < MIN_SIDE else min(1, MAX_SIDE / max(h, w))
    size = max(1, round(w * scale)), max(1, round(h * scale))
    left = int(max(font(LETTERS).getlength(text) for text in ("unit 0000", "samples"))) + 3 * GAP
    across, down, head = size[0] + GAP, max(size[1], 3 * (LETTERS + 4)) + GAP, LETTERS + 2 * GAP
    columns = len(found.pictures)
    image = Image.new("RGB", (left + (columns + 1) * across + 200, head + (len(found.units) + 1) * down), WHITE)
    draw = ImageDraw.Draw(image)
    write(draw, (left, head / 2), f"layer {found.layer}: {len(found.units)} of {found.count} units, switched off one at a time", LETTERS, "lm", "#666")
    write(draw, (left + columns * across + size[0] / 2, head + size[1] / 2), "where", LETTERS, "mm", "#666")
    write(draw, (left + (columns + 1) * across, head + size[1] / 2), "what (sd)", LETTERS, "lm", "#666")
    method = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.LANCZOS
    brightest = max(float(u.where.max()) for u in found.units) or 1.0
    for i, (name, row, unit) in enumerate([("samples", found.pictures, None), *((f"unit {u.unit}", u.pictures, u) for u in found.units)]):
        y = head + i * down
        write(draw, (left - GAP, y + size[1] / 2 - (8 if unit else 0)), name, LETTERS, "rm")
        for j, picture in enumerate(row):
            image.paste(convert_channels(to_pil(picture), 3, WHITE).resize(size, method), (left + j * across, y))
        if unit is None:
            continue
        write(draw, (left - GAP, y + size[1] / 2 + 8), f"{100 * unit.size:.1f} %", LETTERS, "rm", "#666")
        image.paste(_heat(unit.where / brightest).resize(size, method), (left + columns * across, y))
        largest = sorted(unit.attributes, key=lambda name: -abs(unit.attributes[name]))[:3]
        for k, attribute in enumerate(largest):
            at = left + (columns + 1) * across, y + size[1] / 2 + (k - 1) * (LETTERS + 3)
            write(draw, at, f"{attribute} {unit.attributes[attribute]:+.2f}", LETTERS, "lm")
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def _heat(values: np.ndarray) -> Image.Image:
    """Return values [H,W] in [0,1] as colors from white over orange to black."""
    v = np.clip(values, 0, 1)[..., None]
    colors = np.array([[255, 255, 255], [253, 174, 97], [215, 48, 39], [60, 0, 20]], float)
    at = v * (len(colors) - 1)
    lower = np.minimum(at.astype(int), len(colors) - 2)
    part = at - lower
    return Image.fromarray(((1 - part) * colors[lower[..., 0]] + part * colors[lower[..., 0] + 1]).round().astype(np.uint8))


def explain_to(model: Any, out: Path | None, layer: str | None, units: int, seed: int, label: str | None, progress: Progress | None = None) -> str:
    """Write the sheet of `explain` as a PNG. Returns a sentence. out: None writes explain.png in the run folder."""
    out = png(destination(model.folder, out, "explain.png"))
    found = explain(model, layer, units=units, seed=seed, label=label, progress=progress)
    write_png(out, sheet(found))
    first = found.units[0]
    return f"{len(found.units)} of {found.count} units of layer {found.layer} are in {out}; unit {first.unit} changes most, {100 * first.size:.1f} % of the range a pixel."
