"""`limner sample`: sheets, files, zips and latent walks from a trained generator."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np

from limner.apps.model import (
    SHEETS,
    GeneratorModel,
    Progress,
    check_numbers,
    check_sheet,
    form,
    write_pictures,
)
from limner.core import artifact
from limner.core.files import writing
from limner.core.images import grid, write_animation
from limner.core.text import counted

ANIMATIONS = {".gif", ".webp", ".mp4"}
KEYS = 8                    # latents that a walk passes
SECONDS = 8.0               # of a walk, where nobody says how long
LONGEST = 600.0             # seconds of a film
PER_SECOND = 20             # frames
FILM_BYTES = 1_000_000_000  # of the frames of a .gif or .webp, which are held in memory


def sample(
    model: GeneratorModel,
    out: Path | None = None,
    n: int = 64,
    seed: int = 0,
    label: str | None = None,
    truncation: float | None = None,
    seconds: float | None = None,
    columns: int | None = None,
    progress: Progress | None = None,
    calibration: Progress | None = None,
) -> str:
    """Write samples to `out` by its ending: a sheet (.png, .jpg, .webp), a .zip, a folder, or a walk (.gif, .mp4, and .webp
    where `seconds` is given). None: samples.png in the run folder. truncation, calibration: as of `Model.stream`.

    Returns a sentence that says what was written. Raises ValueError for unknown endings, labels, numbers out of range and
    unwritable places, before anything is drawn.
    """
    at_least_one(n)
    check_numbers(n, seed)
    model.check_truncation(truncation)
    out = destination(model.folder, out, "samples.png")
    if is_film(out, seconds):
        seconds = SECONDS if seconds is None else seconds
        frames = check_film(out, seconds, min(n, MOST_WALKS), model)
        write_film(out, walk(model, n, seed, label, truncation, seconds, calibration), frames, seconds, progress)
        return f"A walk of {frames} frames past {KEYS} latents is in {out}."
    if seconds is not None:
        raise ValueError("Only a walk lasts --seconds: write it to a .gif, .webp or .mp4, or leave them out.")
    ending = form(out)
    if columns is not None and ending not in SHEETS:
        raise ValueError("Only a sheet has columns: write to a .png, .jpg or .webp, or leave --columns out.")
    rows = None
    if ending in SHEETS and columns is None and label == "all" and n >= model.spec.classes > 0:
        labels = model.labels(n, label, np.random.default_rng(seed))
        assert labels is not None
        rows = np.bincount(labels).tolist()  # a row a class, though n be no multiple of their number
    if ending in SHEETS:
        check_sheet(out, n, model.spec, columns, rows)
    pictures = model.stream(n, seed=seed, label=label, truncation=truncation, calibration=calibration)
    write_pictures(out, first_ready(pictures), n, model.spec, columns, progress, rows)
    return f"{counted(n, 'picture is', 'pictures are')} in {out}."


def first_ready(batches: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """The same batches, the first one drawn already: what is refused is refused before a file or folder is made."""
    first = next(batches)
    return chain([first], batches)


def at_least_one(n: int) -> None:
    """Raises ValueError when no picture is asked for."""
    if n < 1:
        raise ValueError("At least one picture must be asked for: give -n 1 or more.")


def destination(folder: Path, out: Path | None, name: str) -> Path:
    """Where to write: `out`, or `name` in the run folder. Raises ValueError for a place of the run's own files."""
    if out is None:
        return folder / name
    place, home = out.resolve(), folder.resolve()
    own = {home, *(home / name for name in artifact.OWN)}
    if place in own or place.parent in own - {home}:
        raise ValueError(f"{out} belongs to the run itself: choose another name to write to.")
    return out


def is_film(out: Path, seconds: float | None) -> bool:
    """Whether the ending says film; .webp is a film where it is said how long it lasts, and else a picture."""
    ending = out.suffix.lower()
    return ending in ANIMATIONS and not out.is_dir() and (ending != ".webp" or seconds is not None)


def check_film(out: Path, seconds: float, n: int, model: GeneratorModel, columns: int | None = None) -> int:
    """The number of frames of a film of n pictures side by side. Raises ValueError for one that is too long or too large,
    before it is drawn."""
    if not 0 < seconds <= LONGEST:  # nan is neither
        raise ValueError(f"A film lasts more than 0 and at most {LONGEST:g} seconds, not {seconds:g}.")
    frames = max(KEYS, round(seconds * PER_SECOND))
    empty = np.zeros((1, 1, *model.spec.size), np.uint8)
    height, width = grid(np.broadcast_to(empty, (n, *empty.shape[1:])), columns).shape[1:]
    size = frames * height * width * model.spec.channels
    if out.suffix.lower() != ".mp4" and size > FILM_BYTES:
        raise ValueError(
            f"A film of {frames:,} frames of {width}x{height} pixels takes {size / 1e9:.1f} GB of memory: write an .mp4, or ask "
            "for fewer pictures or seconds."
        )
    return frames


MOST_WALKS = 64  # pictures that move at once


def walk(
    model: GeneratorModel,
    n: int = 16,
    seed: int = 0,
    label: str | None = None,
    truncation: float | None = None,
    seconds: float = SECONDS,
    calibration: Progress | None = None,
) -> Iterator[np.ndarray]:
    """Frames uint8 [C,H',W'] of a closed walk: n latents (at most 64, in a sheet) move at once, each past KEYS of its
    own along great circles (Shoemake 1985), so that they stay as long as drawn latents are; they are walked as normal
    numbers and bent to the model's kind of noise afterwards, so that every step is as likely as a sample.

    truncation: of a style-based network it holds for every frame; else every key is a typical picture, as `Model.stream`
    chooses them. A frame is drawn when it is asked for.
    """
    n = min(n, MOST_WALKS)
    check_numbers(n, seed)
    psi = model.check_truncation(truncation)
    rng = np.random.default_rng(seed)
    labels = model.labels(n, label, rng)
    if psi < 1:
        model.calibrate(labels, calibration)
    if psi == 1 or model.has_styles:
        keys = model.keys(KEYS, n, rng, labels)  # [K,n,Z]
    else:
        keys, psi = model.typical_keys(KEYS, n, seed, labels, psi), 1.0
    count = max(KEYS, round(seconds * PER_SECOND))
    for i in range(count):
        position = i * KEYS / count
        k, t = int(position), position - int(position)
        t = t * t * (3 - 2 * t)  # slow down at each key
        z = slerp(keys[k], keys[(k + 1) % KEYS], t)
        yield grid(model.render(z, labels, psi))


def slerp(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    """From each row of a to that of b, [n,Z], [n,Z], t in [0,1] -> [n,Z]: directions go along a great circle, lengths
    in a straight line."""
    (one, length), (two, other) = (_direction(x.astype(np.float64)) for x in (a, b))
    cosine = (one * two).sum(1, keepdims=True)
    across, sine = _direction(two - cosine * one)  # at a right angle to a, towards b
    axis = np.eye(a.shape[1])[np.abs(one).argmin(1)]
    anywhere, _ = _direction(axis - (axis * one).sum(1, keepdims=True) * one)
    across = np.where(sine < 1e-6, anywhere, across)  # alike or opposite, they mark out no circle: any will do
    angle = np.arctan2(sine, cosine)
    return (((1 - t) * length + t * other) * (np.cos(t * angle) * one + np.sin(t * angle) * across)).astype(np.float32)


def _direction(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows [n,Z] -> of length 1 (or 0, as they were), and their lengths [n,1]."""
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.maximum(length, 1e-12), length


def write_film(out: Path, frames: Iterable[np.ndarray], count: int, seconds: float, progress: Progress | None = None) -> None:
    """Write `count` frames uint8 [C,H,W] as .gif, .webp or .mp4 by the ending; an .mp4 is encoded frame by frame.

    Raises ValueError when .mp4 is asked and PyAV is missing.
    """
    pace = max(20, round(1000 * seconds / count))
    frames = first_ready(_watched(iter(frames), count, progress))
    if out.suffix.lower() != ".mp4":
        write_animation(out, list(frames), milliseconds=pace, hold=pace)
        return
    try:
        import av
    except Exception as error:  # a foreign optional import may fail in any way
        raise ValueError("Writing .mp4 needs PyAV: `pip install limner[video]`, or ask for .gif or .webp.") from error
    with writing(out) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream("h264", rate=round(1000 / pace))
        for i, frame in enumerate(frames):
            height, width = frame.shape[1:]
            if i == 0:
                stream.width, stream.height, stream.pix_fmt = width - width % 2, height - height % 2, "yuv420p"
            rgb = np.broadcast_to(frame[:3] if frame.shape[0] > 1 else frame, (3, height, width)).transpose(1, 2, 0)
            if frame.shape[0] == 4:  # film has no transparency: on white
                alpha = frame[3][..., None] / 255
                rgb = (rgb * alpha + 255 * (1 - alpha)).astype(np.uint8)
            rgb = np.ascontiguousarray(rgb[: stream.height, : stream.width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode(None))


def _watched(frames: Iterator[np.ndarray], count: int, progress: Progress | None) -> Iterator[np.ndarray]:
    for i, frame in enumerate(frames, 1):
        if progress:
            progress(i, count)
        yield frame
