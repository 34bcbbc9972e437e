"""The pictures of a study, made so that nothing but their content differs between the two kinds.

All have one size and one number of channels; transparency is laid on white; real pictures go through the same decoding and
resizing as those that the generator was trained on. They are stored and sent as raw pixels, so that no file format, compression
or length tells a kind.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from limner.apps.evaluate import prepare_like_training
from limner.apps.model import GeneratorModel
from limner.apps.output import Progress
from limner.apps.restore import Restorer
from limner.apps.study.plan import FAKE, FIRST, PRACTICE, REAL, SECOND
from limner.apps.study.store import MAX_BYTES
from limner.apps.translate import Translator
from limner.core.text import counted
from limner.data import open_source
from limner.data.image import Damaged, convert_channels, upright
from limner.data.sampler import permutation

SIDE = 256            # pixels of a restored crop
WHITE = (255, 255, 255)
Made = tuple[np.ndarray, np.ndarray]  # pictures uint8 [N,C,H,W], kinds int64 [N]


def real_and_fake(
    model: GeneratorModel,
    data: str,
    count: int,
    raters: int,
    seed: int,
    truncation: float | None = None,
    progress: Progress | None = None,
) -> Made:
    """Return samples and real pictures for `raters` raters with `count` of each kind, and for practice, in random order.

    There may be fewer real ones, which raters then see again. Raises ValueError when there are too few for one rater.
    """
    practice = PRACTICE // 2
    wanted = count * raters + practice
    check_size(2 * wanted, model.spec.channels, *model.spec.size)
    dataset = prepare_like_training(model, data, model.spec.size)
    if len(dataset) < count + practice:
        raise ValueError(
            f"{data} holds {counted(len(dataset), 'picture')}, and one rater judges {count} real ones after {practice} for practice: "
            f"give more pictures, or --pictures {max(1, len(dataset) - practice)} or fewer."
        )
    rng = np.random.default_rng([seed, 16])
    rows = torch.from_numpy(permutation(len(dataset), seed, 0)[:wanted].copy())
    real = on_white(dataset.images[rows].numpy())
    parts = []
    for batch in model.stream(wanted, seed=seed, truncation=truncation):
        parts.append(on_white(np.asarray(batch)))
        if progress:
            progress(sum(map(len, parts)), wanted)
    fake = np.concatenate(parts)
    return shuffled(np.concatenate([real, fake]), np.repeat([REAL, FAKE], [len(real), len(fake)]), rng)


def of_two_runs(first: Any, second: Any, data: str | None, count: int, raters: int, seed: int, progress: Progress | None = None) -> Made:
    """Return pairs of pictures of two runs of one kind: `count` for each of `raters` raters; row i of a kind belongs to row i of the other.

    Generators of the same classes sample one class for a pair. Translators and restorers take the same picture of `data`.
    Raises ValueError for runs that cannot be compared.
    """
    kinds = [model.description["kind"] for model in (first, second)]
    if kinds[0] != kinds[1]:
        raise ValueError(f"A {kinds[0]} and a {kinds[1]} cannot be compared: give two runs of one kind.")
    wanted = count * raters
    if isinstance(first, GeneratorModel):
        if data is not None:
            raise ValueError("Two generators are compared with each other: leave --data out, or give one run.")
        made = _samples(first, second, wanted, seed)
    elif isinstance(first, Translator | Restorer):
        if data is None:
            raise ValueError(f"Give the pictures that both runs get as --data: a {kinds[0]} makes pictures from others.")
        inputs = _inputs(first, second, data, wanted, seed)
        if len(inputs) < count:
            raise ValueError(
                f"{data} holds {counted(len(inputs), 'picture')} that can be used, and one rater judges {count}: give more, or "
                f"--pictures {max(1, len(inputs))} or fewer."
            )
        made = _outputs(first, second, inputs, progress)
    else:
        raise ValueError(f"Runs of the kind {kinds[0]} are not compared in studies: give generators, translators or restorers.")
    return np.concatenate(made), np.repeat([FIRST, SECOND], [len(part) for part in made])


def check_size(count: int, channels: int, height: int, width: int) -> None:
    """Raise ValueError when so many pictures would not fit into a study."""
    size = count * height * width * (1 if channels == 1 else 3)
    if size > MAX_BYTES // 2:
        raise ValueError(
            f"The pictures of this study would take {size / 1e9:.1f} GB: give fewer --pictures for a rater, or fewer --raters, who then "
            "see the same ones."
        )


def on_white(pictures: np.ndarray) -> np.ndarray:
    """Return uint8 [N,C,H,W] with 1 or 3 channels: RGBA is laid on white, as the page would show it."""
    if pictures.shape[1] != 4:
        return np.ascontiguousarray(pictures)
    alpha = pictures[:, 3:].astype(np.uint16)
    return ((pictures[:, :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def shuffled(pictures: np.ndarray, kinds: np.ndarray, rng: np.random.Generator) -> Made:
    """Return pictures and kinds in random order, so that the place in memory says nothing."""
    order = rng.permutation(len(kinds))
    return pictures[order], kinds[order]


def identity(models: Sequence[Any], data: str | None, truncation: float | None) -> str:
    """Return a hex digest of the runs' descriptions and the data: a study goes on only with what it was started with."""
    parts = [json.dumps(model.description, sort_keys=True, default=str) for model in models]
    parts += [open_source(data).fingerprint() if data else "", str(truncation)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def run_name(folder: Path) -> str:
    """Return the name of a run for people: that of its folder, and of its parent for `best`."""
    place = folder.resolve()
    return f"{place.parent.name} (best)" if place.name == "best" else place.name


def _samples(first: GeneratorModel, second: GeneratorModel, n: int, seed: int) -> Made:
    if first.spec.size != second.spec.size:
        sizes = " and ".join("{1}x{0}".format(*model.spec.size) for model in (first, second))
        raise ValueError(f"The runs make pictures of {sizes} pixels, which tells them apart: give two runs of one size.")
    check_size(2 * n, max(first.spec.channels, second.spec.channels), *first.spec.size)
    labels: list[Any] = [None, None]
    if first.classes and first.classes == second.classes:
        drawn = first.labels(n, None, np.random.default_rng([seed, 17]))
        labels = [drawn, drawn]
    made = [on_white(np.asarray(m.sample(n, seed=seed + i, label=y))) for i, (m, y) in enumerate(zip((first, second), labels, strict=True))]
    return _same_channels(*made)


def _same_channels(first: np.ndarray, second: np.ndarray) -> Made:
    if first.shape[1] == second.shape[1]:
        return first, second
    return np.broadcast_to(first, (len(first), 3, *first.shape[2:])), np.broadcast_to(second, (len(second), 3, *second.shape[2:]))


def _inputs(first: Any, second: Any, data: str, wanted: int, seed: int) -> list[Image.Image]:
    """Return at most `wanted` random pictures that both models take: resized for translators, and crops for restorers."""
    if isinstance(first, Translator):
        if first.spec.size != second.spec.size or first.spec.channels != second.spec.channels:
            raise ValueError("The runs were trained on pictures of different sizes or colors, which tells them apart.")
        dataset = prepare_like_training(first, data, first.spec.size)
        rows = permutation(len(dataset), seed, 0)[:wanted]
        return [Image.fromarray(picture.squeeze()) for picture in dataset.images[torch.from_numpy(rows.copy())].permute(0, 2, 3, 1).numpy()]
    if first.scale != second.scale or first.task != second.task:
        raise ValueError(f"The runs were trained for {first.task} x{first.scale} and {second.task} x{second.scale}: give two of one task.")
    source, side, found = open_source(data), SIDE // first.scale, []
    channels = 1 if first.spec.channels == 1 else 3
    for i in permutation(len(source), seed, 0).tolist():
        try:
            image = upright(source.read(i))
        except Damaged:
            continue
        if min(image.size) >= side:
            left, top = (image.width - side) // 2, (image.height - side) // 2
            found.append(convert_channels(image.crop((left, top, left + side, top + side)), channels, WHITE))
        if len(found) == wanted:
            break
    return found


def _outputs(first: Any, second: Any, inputs: Sequence[Image.Image], progress: Progress | None) -> Made:
    made: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for i, image in enumerate(inputs, 1):
        for model, results in zip((first, second), made, strict=True):
            result = model.translate(image) if isinstance(model, Translator) else model.restore(image)
            results.append(_array(result))
        if progress:
            progress(i, len(inputs))
    return np.stack(made[0]), np.stack(made[1])


def _array(image: Image.Image) -> np.ndarray:
    """Return a Pillow image as uint8 [3,H,W], on white."""
    rgb = np.asarray(convert_channels(image, 3, WHITE), np.uint8)
    return np.ascontiguousarray(rgb.reshape(image.height, image.width, 3).transpose(2, 0, 1))


def names_of(models: Sequence[Any], data: str | None) -> tuple[str, str]:
    """Return the names of the two kinds: of the real pictures and the run, or of the two runs."""
    if len(models) == 1:
        assert data is not None
        return Path(data).name or data, run_name(models[0].folder)
    first, second = (run_name(model.folder) for model in models)
    return (first, second) if first != second else (f"{first} (1)", f"{second} (2)")

