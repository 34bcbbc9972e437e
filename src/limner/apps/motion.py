"""Clips of a generator that was trained on clips: sampled ones, and a picture that is set in motion.

A latent holds the time of its frame (`networks.motion`); a clip is one latent at times that go on. After a whole number of periods
the latent is the same to the bit, and so is the frame: a loop closes exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from limner.apps.editing.edit import opened
from limner.apps.editing.latent import Latent, render
from limner.apps.model import GeneratorModel, check_numbers
from limner.apps.output import Progress
from limner.apps.sample import (
    ANIMATIONS,
    at_least_one,
    check_film,
    destination,
    is_film,
    period_of,
    times,
    write_film,
)
from limner.core.images import grid
from limner.core.text import counted
from limner.networks.contracts import Moving

FPS = 24.0  # frames a second of a clip, unless another number is given


def moves(model: Any) -> bool:
    """Return whether a generator was trained on clips."""
    return isinstance(model, GeneratorModel) and isinstance(model.network, Moving)


def moved(model: GeneratorModel, code: np.ndarray, t: float) -> np.ndarray:
    """Return latents float32 [n,Z] at a time of t periods later."""
    z = torch.from_numpy(code)
    made: torch.Tensor = model.network.moved(z, torch.full((len(z),), t, dtype=torch.float64))  # type: ignore[operator]
    return made.numpy()


def clips(model: GeneratorModel, n: int, seed: int, at: np.ndarray, truncation: float | None = None) -> Iterator[np.ndarray]:
    """Yield the frames uint8 [n,C,H,W] of n sampled clips at times [T], in periods; the first are samples of the seed.

    truncation: chooses typical first frames (`GeneratorModel.stream`).
    """
    check_numbers(n, seed)
    psi = model.check_truncation(truncation)
    if psi < 1:
        model.calibrate(None)
        code = model.typical_key_latents(1, n, seed, None, psi)[0]
    else:
        code = model.latents(n, np.random.default_rng(seed).spawn(2)[1])  # those of `GeneratorModel.stream`
    for t in at.tolist():
        yield np.asarray(model.render(moved(model, code, t)))


def film(
    model: GeneratorModel, out: Path | None = None, n: int = 16, seed: int = 0, truncation: float | None = None,
    seconds: float | None = None, fps: float | None = None, loop: bool = False, columns: int | None = None, progress: Progress | None = None,
) -> str:  # fmt: skip
    """Write n sampled clips side by side as one film. Returns a sentence that names it.

    out: a .gif, .webp or .mp4; None writes clips.gif in the run folder. seconds: None lasts one period, and closes.
    Raises ValueError for numbers out of range and other suffixes, before anything is generated.
    """
    at_least_one(n)
    out = clip_path(model, out, "clips.gif")
    at, seconds = _planned(model, out, n, seconds, fps, loop, columns)
    shown = (grid(frame, columns) for frame in clips(model, n, seed, at, truncation))
    write_film(out, shown, len(at), seconds, progress)
    return f"{counted(n, 'clip')} of {counted(len(at), 'frame')}, {seconds:.3g} seconds{', a loop' if _closes(at) else ''}: {out}."


def animate(
    model: Any, picture: Path, out: Path | None = None, seconds: float | None = None, fps: float | None = None, loop: bool = False,
    progress: Progress | None = None,
) -> str:  # fmt: skip
    """Set a picture in motion: the clip whose first frame comes nearest to it. Returns a sentence that names it.

    picture: a picture, which is inverted, or a latent that `limner invert` wrote. out, seconds, fps, loop: as of `film`; out None
    writes animated.gif. Raises ValueError for a generator of pictures that do not move.
    """
    require(model)
    out = clip_path(model, out, "animated.gif")
    at, seconds = _planned(model, out, 1, seconds, fps, loop, None)
    latent = opened(model, picture)
    write_film(out, (grid(frame[None]) for frame in frames(model, latent, at)), len(at), seconds, progress)
    return f"{picture.name} moves for {seconds:.3g} seconds{', a loop' if _closes(at) else ''}: {out}."


def frames(model: GeneratorModel, latent: Latent, at: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the frames uint8 [C,H,W] of a latent at times [T] after its own, in periods."""
    for t in at.tolist():
        yield np.asarray(render(model, [latent.with_code(moved(model, latent.code[None], t)[0])])[0])


def wants_film(out: Path | None, seconds: float | None, fps: float | None, loop: bool, label: str | None) -> bool:
    """Return whether sampling a generator of clips writes a film and not pictures. Raises ValueError for a label."""
    if label is not None:
        raise ValueError("A generator of clips has no classes: leave --label out.")
    moving = loop or fps is not None or seconds is not None
    return moving or out is None or is_film(out, seconds)


def require(model: Any) -> None:
    """Raise ValueError unless a generator was trained on clips."""
    if not moves(model):
        raise ValueError(f"{model.folder} draws pictures that do not move: train a generator on clips, with --recipe motion.")


def clip_path(model: GeneratorModel, out: Path | None, name: str) -> Path:
    """Return where a clip goes, by default `name` in the run folder. Raises ValueError for a suffix of no film."""
    out = destination(model.folder, out, name)
    if out.suffix.lower() not in ANIMATIONS or out.is_dir():
        raise ValueError(f"A clip is written to a .gif, .webp or .mp4, not to {out.name!r}.")
    return out


def _planned(
    model: GeneratorModel, out: Path, n: int, seconds: float | None, fps: float | None, loop: bool, columns: int | None
) -> tuple[np.ndarray, float]:
    """Return the times of the frames, and the duration. Raises ValueError as `check_film` does."""
    loop = loop or seconds is None
    seconds = period_of(model) if seconds is None else seconds
    count = check_film(out, seconds, n, model, columns, FPS if fps is None else fps)
    return times(model, count, seconds, loop), seconds


def _closes(at: np.ndarray) -> bool:
    """Return whether the frame after the last of evenly spaced times is the first."""
    end = float(at[1]) * len(at)
    return abs(end - round(end)) < 1e-9
