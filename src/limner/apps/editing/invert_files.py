"""`limner invert`: latents of pictures as files, and a sheet of the pictures above what the generator makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from limner.apps.editing.delta import save_delta
from limner.apps.editing.invert import FEATURE_STEPS, STEPS, Inverted, Inverter, Progress, Say, target_of
from limner.apps.editing.latent import ENDING, Latent, checked_name
from limner.apps.editing.search import after
from limner.apps.editing.tune import STEPS as TUNE_STEPS
from limner.apps.output import write_sheet
from limner.apps.pictures_out import as_picture, is_single, unusable
from limner.apps.sample import destination
from limner.core import artifact
from limner.core.files import write_error
from limner.core.images import grid
from limner.core.text import counted
from limner.data import Damaged, open_source, prepare
from limner.data.decode import suppress_warnings

COLUMNS = 8              # pictures beside one another on the sheet
FAR = 25.0               # dB below which the answer recommends a tuned copy
MAX_PICTURES = 10_000    # of one call


@dataclass(frozen=True, eq=False)
class Named:
    """A picture as the training data, uint8 [C,H,W], and its name without a suffix."""

    name: str
    target: np.ndarray


def pictures_of(model: Any, sources: Sequence[Path], say: Say) -> list[Named]:
    """Return the pictures of files, folders and zips, prepared as the training data. say: called for each one that is skipped.

    Raises ValueError for a single file that is no picture, and for a folder without pictures.
    """
    found: list[Named] = []
    for source in sources:
        if is_single(source):
            try:
                with suppress_warnings():
                    found.append(Named(source.stem, target_of(model, as_picture(source))))
            except Damaged as error:
                raise unusable(source, error) from error
            continue
        channels = str(model.spec.channels)
        data = prepare(open_source(str(source), splits=False), size=model.spec.size, channels=channels, **artifact.preparation(model.description))
        for name, why in data.bad:
            say(f"{name} is skipped: {why}.")
        for name, picture in zip(data.names, np.asarray(data.images), strict=True):
            found.append(Named(PurePosixPath(name).stem or "picture", np.ascontiguousarray(picture)))
    if len(found) > MAX_PICTURES:
        raise ValueError(f"{len(found):,} pictures are more than one call inverts ({MAX_PICTURES:,}): give a part of them.")
    return found


def invert(
    model: Any, sources: Sequence[Path], out: Path | None = None, label: str | None = None, tuned: bool = False,
    steps: int | None = None, seconds: float | None = None, encoder: bool = True, sheet: Path | None = None,
    progress: Progress | None = None, training: Progress | None = None, say: Say = print,
) -> str:  # fmt: skip
    """Write the latents of pictures, and a sheet. Returns a sentence that names the output.

    out: a .latent.npz for one picture, a folder for many; None writes beside the run. label: a class by name or number; None
    finds each picture's. tuned: make a tuned copy for each picture, stored beside its latent. steps: of the search; of the tuning
    ten times as many. seconds: after which the search of a picture ends, and its tuning. sheet: where to write it; None: beside
    the latents. Raises ValueError for unusable pictures, labels and paths before anything is computed.
    """
    chosen = None if label is None else model.labels(1, label, np.random.default_rng(0))
    number = None if chosen is None else int(chosen[0])
    check_amounts(steps, seconds)
    one = len(sources) == 1 and is_single(sources[0])
    out = destination(model.folder, out, sources[0].stem + ENDING if one else "latents")
    if out.name.endswith(ENDING) and not one:
        raise ValueError(f"{out.name} holds one latent: give a folder as --out for more pictures.")
    if one and not out.is_dir():
        checked_name(out)
    pictures = pictures_of(model, sources, say)
    paths = paths_of(pictures, out, one and not out.is_dir())
    inverter = Inverter(model, encoder, training, say)
    count, tuning = STEPS if steps is None else steps, TUNE_STEPS if steps is None else 10 * steps
    made = []
    each = 3 * FEATURE_STEPS + count + (tuning if tuned else 0)
    for i, (picture, path) in enumerate(zip(pictures, paths, strict=True)):
        done = 0

        def tick(more: int, first: int = i * each) -> None:
            nonlocal done
            done += more
            if progress:
                progress(min(first + done, first + each - 1), each * len(pictures))

        result = inverter.invert(picture.target, number, count, after(seconds), tick)
        if tuned:
            result = inverter.tune(result, tuning, after(seconds), tick)
        save(result, path)
        say(line(model, picture.name, result))
        made.append(result)
    if progress:
        progress(each * len(pictures), each * len(pictures))
    sheet = sheet or (out.parent / f"{out.name.removesuffix(ENDING)}.inverted.png" if paths[0] == out else out / "inverted.png")
    write_sheet(sheet, sheet_of(made))
    return summary(made, out if paths[0] != out else paths[0], sheet, tuned)


def check_amounts(steps: int | None, seconds: float | None) -> None:
    """Raise ValueError for a number of steps or seconds that no search has."""
    if steps is not None and not 1 <= steps <= 10_000:
        raise ValueError(f"The search takes 1 to 10,000 steps, not {steps:,}.")
    if seconds is not None and not 0 < seconds <= 86_400:  # also False for NaN
        raise ValueError(f"The search of a picture may take more than 0 and at most 86,400 seconds, not {seconds:g}.")


def paths_of(pictures: Sequence[Named], out: Path, one: bool) -> list[Path]:
    """Return the path of each latent: `out` itself for one, else files in the folder, named as their pictures. Makes the folder."""
    if one:
        return [out]
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(error, out) from error
    taken: set[str] = set()
    paths = []
    for picture in pictures:
        name, number = picture.name, 2
        while name.casefold() in taken:
            name, number = f"{picture.name}-{number}", number + 1
        taken.add(name.casefold())
        paths.append(out / f"{name}{ENDING}")
    return paths


def save(result: Inverted, path: Path) -> Latent:
    """Write a latent, and before it the tuned copy's delta, beside it. Returns the latent with its delta."""
    latent = result.latent
    if result.changes is not None:
        delta = path.parent / f"{path.name.removesuffix(ENDING)}.delta.safetensors"
        digest = save_delta(delta, result.changes, latent.fingerprint)
        latent = replace(latent, delta=delta, delta_sha256=digest)
    latent.save(path)
    return latent


def line(model: Any, name: str, result: Inverted) -> str:
    """Return a sentence on one picture."""
    label = result.latent.label
    of = "" if label is None else f" as {model.classes[label] if model.classes else label}"
    tuned = "" if result.tuned_psnr is None else f"; {result.tuned_psnr:.1f} dB by its tuned copy"
    return f"{name}: {result.psnr:.1f} dB{of}{tuned}."


def summary(made: Sequence[Inverted], out: Path, sheet: Path, tuned: bool) -> str:
    """Return a sentence that names the output, and what to do next."""
    mean = float(np.mean([result.psnr for result in made if np.isfinite(result.psnr)] or [99.0]))
    text = f"{counted(len(made), 'latent is', 'latents are')} in {out}, {'beside' if len(made) == 1 else 'beside all'} the truth in {sheet}."
    if not tuned and mean < FAR:
        text += f" At {mean:.1f} dB the generator cannot show {'it' if len(made) == 1 else 'them'} exactly: --tune makes a copy that can."
    return text


def sheet_of(made: Sequence[Inverted]) -> np.ndarray:
    """Return a sheet uint8 [C,H,W]: bands of at most COLUMNS pictures above their reconstructions and their tuned copies."""
    cells, rows = [], []
    for start in range(0, min(len(made), 8 * COLUMNS), COLUMNS):
        band = made[start : start + COLUMNS]
        kinds = [[result.target for result in band], [result.made for result in band]]
        if band[0].tuned is not None:
            kinds.append([result.tuned for result in band if result.tuned is not None])
        for kind in kinds:
            cells += kind
            rows.append(len(kind))
    return grid(np.stack(cells), rows=rows)
