"""`limner sample`: sheets, files, zips and latent walks from a trained generator."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Protocol

import numpy as np

from limner.apps.model import GeneratorModel, check_numbers
from limner.apps.output import SHEETS, Progress, check_columns, check_sheet, form, write_pictures
from limner.core import artifact
from limner.core.files import writing
from limner.core.images import ImageSpec, grid, grid_size, write_animation
from limner.core.text import counted

ANIMATIONS = {".gif", ".webp", ".mp4"}
KEYFRAMES = 8                    # latents that a walk passes through
WALK_SECONDS = 8.0               # default duration of a walk
MAX_SECONDS = 600.0              # duration of a film
FRAMES_PER_SECOND = 20
MIN_FPS, MAX_FPS = 1.0, 50.0     # frames a second; browsers slow a .gif with more
MAX_FILM_SIDE = 16_383           # pixels: WebP's limit, and about that of H.264 encoders
MAX_FRAME_BYTES = 1_000_000_000  # all frames of a .gif or .webp, which are held in memory


class HasSpec(Protocol):
    """A model whose pictures have one shape."""

    spec: ImageSpec


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
    fps: float | None = None,
) -> str:
    """Write samples to `out`; its suffix decides the form: a sheet (.png, .jpg, .webp), a .zip, a folder, or a walk (.gif, .mp4,
    and .webp if `seconds` is given).

    out: None writes samples.png in the run folder. truncation, calibration: see `GeneratorModel.stream`. Returns a sentence
    that names the output. Raises ValueError for unknown suffixes and labels, numbers out of range and unwritable paths, before
    anything is generated.
    """
    at_least_one(n)
    check_numbers(n, seed)
    model.check_truncation(truncation)
    out = destination(model.folder, out, "samples.png")
    if is_film(out, seconds):
        seconds = WALK_SECONDS if seconds is None else seconds
        rate = FRAMES_PER_SECOND if fps is None else fps
        frames = check_film(out, seconds, n, model, fps=rate)
        write_film(out, walk(model, n, seed, label, truncation, seconds, calibration, rate), frames, seconds, progress)
        return f"A walk of {frames} frames past {KEYFRAMES} latents is in {out}."
    if seconds is not None or fps is not None:
        raise ValueError("Only a walk has --seconds and --fps: write it to a .gif, .webp or .mp4, or leave them out.")
    ending = form(out)
    if columns is not None and ending not in SHEETS:
        raise ValueError("Only a sheet has columns: write to a .png, .jpg or .webp, or leave --columns out.")
    rows = None
    if ending in SHEETS and columns is None and label == "all" and n >= model.spec.classes > 0:
        labels = model.labels(n, label, np.random.default_rng(seed))
        assert labels is not None
        rows = np.bincount(labels).tolist()  # one row per class, even if n is not a multiple of their number
    if ending in SHEETS:
        check_sheet(out, n, model.spec, columns, rows)
    pictures = model.stream(n, seed=seed, label=label, truncation=truncation, calibration=calibration)
    write_pictures(out, first_ready(pictures), n, model.spec, columns, progress, rows)
    return f"{counted(n, 'picture is', 'pictures are')} in {out}."


def first_ready(batches: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Return the same batches with the first one already computed, so that errors are raised before a file or folder is made."""
    first = next(batches)
    return chain([first], batches)


def at_least_one(n: int) -> None:
    """Raise ValueError when no picture is requested."""
    if n < 1:
        raise ValueError("At least one picture is needed: give -n 1 or more.")


def destination(folder: Path, out: Path | None, name: str) -> Path:
    """Return `out`, or `name` in the run folder if it is None. Raises ValueError for a path of the run's own files."""
    if out is None:
        return folder / name
    place, home = out.resolve(), folder.resolve()
    own = {home, *(home / name for name in artifact.OWN)}
    if place in own or place.parent in own - {home}:
        raise ValueError(f"{out} belongs to the run itself: choose another name to write to.")
    return out


def is_film(out: Path, seconds: float | None) -> bool:
    """Return whether the suffix is that of a film; .webp is a film if `seconds` is given, otherwise a picture."""
    ending = out.suffix.lower()
    return ending in ANIMATIONS and not out.is_dir() and (ending != ".webp" or seconds is not None)


def refuse_seconds(seconds: float | None) -> None:
    """Raise ValueError where a duration is given for what is no film."""
    if seconds is not None:
        raise ValueError("Only a film lasts --seconds: write it to a .gif, .webp or .mp4, or leave them out.")


def check_film(
    out: Path, seconds: float, n: int, model: HasSpec, columns: int | None = None, fps: float = FRAMES_PER_SECOND
) -> int:
    """Return the number of frames of a film of n pictures side by side.

    Raises ValueError for a film that is too long or too large, before it is generated.
    """
    if not 0 < seconds <= MAX_SECONDS:  # also False for NaN
        raise ValueError(f"A film lasts more than 0 and at most {MAX_SECONDS:g} seconds, not {seconds:g}.")
    if not MIN_FPS <= fps <= MAX_FPS:
        raise ValueError(f"A film has from {MIN_FPS:g} to {MAX_FPS:g} frames a second, not {fps:g}: give another --fps.")
    check_columns(columns)
    frames = max(KEYFRAMES, round(seconds * fps))
    height, width = grid_size(n, *model.spec.size, columns)
    if max(height, width) > MAX_FILM_SIDE:
        raise ValueError(
            f"A film of {n:,} pictures side by side would have {width:,}x{height:,} pixels, and a side takes at most {MAX_FILM_SIDE:,}: ask for fewer."
        )
    size = frames * height * width * model.spec.channels
    if out.suffix.lower() != ".mp4" and size > MAX_FRAME_BYTES:
        raise ValueError(
            f"A film of {frames:,} frames of {width}x{height} pixels takes {size / 1e9:.1f} GB of memory: write an .mp4, or ask "
            "for fewer pictures or seconds."
        )
    return frames


def walk(
    model: GeneratorModel,
    n: int = 16,
    seed: int = 0,
    label: str | None = None,
    truncation: float | None = None,
    seconds: float = WALK_SECONDS,
    calibration: Progress | None = None,
    fps: float = FRAMES_PER_SECOND,
) -> Iterator[np.ndarray]:
    """Yield the frames uint8 [C,H',W'] of a closed walk through the latent space, generated on demand.

    n latents, in a sheet, move at once, each through KEYFRAMES latents along great circles (Shoemake 1985), which
    keep the norm of a sample. They move as normal numbers, transformed to the model's latent distribution afterwards, so that
    each frame is as likely as a sample. truncation: for a style-based network it applies to every frame; otherwise each
    keyframe is a typical picture, chosen as in `GeneratorModel.stream`.
    """
    check_numbers(n, seed)
    psi = model.check_truncation(truncation)
    rng = np.random.default_rng(seed)
    labels = model.labels(n, label, rng)
    if psi < 1:
        model.calibrate(labels, calibration)
    if psi == 1 or model.has_styles:
        key_latents = model.key_latents(KEYFRAMES, n, rng, labels)  # [K,n,Z]
    else:
        key_latents, psi = model.typical_key_latents(KEYFRAMES, n, seed, labels, psi), 1.0
    count = max(KEYFRAMES, round(seconds * fps))
    for i in range(count):
        position = i * KEYFRAMES / count
        k, t = int(position), position - int(position)
        t = t * t * (3 - 2 * t)  # slow down at each keyframe
        z = slerp(key_latents[k], key_latents[(k + 1) % KEYFRAMES], t)
        yield grid(model.render(z, labels, psi))


def slerp(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    """Interpolate the rows of a and b, [n,Z], at t in [0,1]: directions along a great circle, lengths linearly. Returns [n,Z]."""
    (one, length), (two, other) = (_direction(x.astype(np.float64)) for x in (a, b))
    cosine = (one * two).sum(1, keepdims=True)
    across, sine = _direction(two - cosine * one)  # orthogonal to a, toward b
    axis = np.eye(a.shape[1])[np.abs(one).argmin(1)]
    anywhere, _ = _direction(axis - (axis * one).sum(1, keepdims=True) * one)
    across = np.where(sine < 1e-6, anywhere, across)  # parallel directions define no great circle: any will do
    angle = np.arctan2(sine, cosine)
    return (((1 - t) * length + t * other) * (np.cos(t * angle) * one + np.sin(t * angle) * across)).astype(np.float32)


def _direction(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows [n,Z] at unit length (zero rows unchanged), and their lengths [n,1]."""
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.maximum(length, 1e-12), length


def write_film(out: Path, frames: Iterable[np.ndarray], count: int, seconds: float, progress: Progress | None = None) -> None:
    """Write `count` frames uint8 [C,H,W] as .gif, .webp or .mp4 by the suffix; an .mp4 is encoded frame by frame.

    Raises ValueError for an .mp4 when PyAV is missing.
    """
    frames = first_ready(_with_progress(iter(frames), count, progress))
    if out.suffix.lower() != ".mp4":
        write_animation(out, list(frames), milliseconds=paces(count, seconds))
        return
    try:
        import av
    except Exception as error:  # importing an optional third-party package may fail in any way
        raise ValueError("Writing .mp4 needs PyAV: `pip install limner[video]`, or ask for .gif or .webp.") from error
    with writing(out) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream("h264", rate=Fraction(count / seconds).limit_denominator(1000))
        for i, frame in enumerate(frames):
            height, width = frame.shape[1:]
            if i == 0:
                stream.width, stream.height, stream.pix_fmt = width - width % 2, height - height % 2, "yuv420p"
            rgb = np.broadcast_to(frame[:3] if frame.shape[0] > 1 else frame, (3, height, width)).transpose(1, 2, 0)
            if frame.shape[0] == 4:  # video has no transparency: blend with white
                alpha = frame[3][..., None] / 255
                rgb = (rgb * alpha + 255 * (1 - alpha)).astype(np.uint8)
            rgb = np.ascontiguousarray(rgb[: stream.height, : stream.width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode(None))


def period_of(model: GeneratorModel) -> float:
    """Return the seconds of one period of the model's time, at the speed of the clips that it was trained on."""
    period = model.description["network"].get("period", 1.0)
    if not isinstance(period, int | float) or not 0 < period < float("inf"):
        raise ValueError(f"{model.folder} is damaged: in its limner.json, network.period must be a number above 0.")
    return float(period)


def times(model: GeneratorModel, count: int, seconds: float, loop: bool) -> np.ndarray:
    """Return the times of `count` frames that last `seconds`, in periods, float64 [count].

    They go at the speed of the training clips; in a loop, at the nearest one at which the frame after the last is the first.
    """
    periods = seconds / period_of(model)
    return np.arange(count) * ((max(1, round(periods)) if loop else periods) / count)


def paces(count: int, seconds: float) -> list[int]:
    """Return how long each frame is shown in milliseconds, of which a GIF keeps the tens: together as near to `seconds` as can be."""
    ends = [round(100 * seconds * i / count) for i in range(count + 1)]
    return [max(20, 10 * (b - a)) for a, b in zip(ends[:-1], ends[1:], strict=True)]


def _with_progress(frames: Iterator[np.ndarray], count: int, progress: Progress | None) -> Iterator[np.ndarray]:
    for i, frame in enumerate(frames, 1):
        if progress:
            progress(i, count)
        yield frame
