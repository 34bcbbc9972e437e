"""`limner sample`: sheets, files, zips and latent walks from a trained generator."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from limner.apps.model import Model, form
from limner.core.files import writing
from limner.core.images import grid, write_animation, write_png

ANIMATIONS = {".gif", ".webp", ".mp4"}
KEYS = 8  # latents that a walk passes


def sample(
    model: Model,
    out: Path,
    n: int = 64,
    seed: int = 0,
    label: str | None = None,
    truncation: float | None = None,
    seconds: float = 8.0,
) -> str:
    """Write samples to `out` by its ending (.png sheet, .zip, a folder, or a walk as .gif, .webp, .mp4).

    Returns a sentence that says what was written. Raises ValueError for unknown endings, labels and unwritable places.
    """
    at_least_one(n)
    if out.suffix.lower() in ANIMATIONS:
        frames = walk(model, n, seed, label, truncation, seconds)
        write_film(out, frames, seconds)
        return f"A walk of {len(frames)} frames past {KEYS} latents is in {out}."
    ending = form(out)  # said before the work is done
    pictures = model.sample(n, seed=seed, label=label, truncation=truncation)
    if label == "all" and ending == ".png" and n >= model.spec.classes:
        write_png(out, grid(pictures, columns=-(-n // model.spec.classes)))  # every row begins with another class
    else:
        pictures.save(out)
    return f"{n} picture{'s are' if n > 1 else ' is'} in {out}."


def at_least_one(n: int) -> None:
    """Raises ValueError when no picture is asked for."""
    if n < 1:
        raise ValueError("At least one picture must be asked for: give -n 1 or more.")


def walk(
    model: Model,
    n: int = 16,
    seed: int = 0,
    label: str | None = None,
    truncation: float | None = None,
    seconds: float = 8.0,
) -> list[np.ndarray]:
    """Frames uint8 [C,H',W'] of a closed walk: n latents (at most 64, in a sheet) move at once, each past KEYS of its
    own along great circles (Shoemake 1985), so that they stay as long as drawn latents are; they are walked as normal
    numbers and bent to the model's kind of noise afterwards, so that every step is as likely as a sample."""
    n = min(n, 64)
    rng = np.random.default_rng(seed)
    labels = model.labels(n, label, rng)
    keys = model.keys(KEYS, n, rng, truncation, labels)  # [K,n,Z]
    count = max(KEYS, round(seconds * 20))
    frames = []
    for i in range(count):
        position = i * KEYS / count
        k, t = int(position), position - int(position)
        t = t * t * (3 - 2 * t)  # slow down at each key
        z = slerp(keys[k], keys[(k + 1) % KEYS], t)
        frames.append(grid(model.render(z, labels)))
    return frames


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


def write_film(out: Path, frames: list[np.ndarray], seconds: float) -> None:
    """Write frames as .gif, .webp or .mp4 by the ending. Raises ValueError when .mp4 is asked and PyAV is missing."""
    pace = max(20, round(1000 * seconds / len(frames)))
    if out.suffix.lower() != ".mp4":
        write_animation(out, frames, milliseconds=pace, hold=pace)
        return
    try:
        import av
    except Exception as error:  # a foreign optional import may fail in any way
        raise ValueError("Writing .mp4 needs PyAV: `pip install limner[video]`, or ask for .gif or .webp.") from error
    with writing(out) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream("h264", rate=round(1000 / pace))
        height, width = frames[0].shape[1:]
        stream.width, stream.height, stream.pix_fmt = width - width % 2, height - height % 2, "yuv420p"
        for frame in frames:
            rgb = np.broadcast_to(frame[:3] if frame.shape[0] > 1 else frame, (3, height, width)).transpose(1, 2, 0)
            if frame.shape[0] == 4:  # film has no transparency: on white
                alpha = frame[3][..., None] / 255
                rgb = (rgb * alpha + 255 * (1 - alpha)).astype(np.uint8)
            rgb = np.ascontiguousarray(rgb[: stream.height, : stream.width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode(None))
