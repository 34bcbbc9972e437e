"""Smooth paths through latents: rows between two pictures, and films past key frames.

Latents z are interpolated by a cubic spline whose points are put back to the length that lies between those of their neighbors,
since latents in the middle of a straight line are shorter than any sample; styles by the spline alone. Classes are blended
linearly, and so are the tuned copies of the generator, so that a path begins and ends at the very pictures that were inverted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limner.apps.editing.codes import Codes, codes_of
from limner.apps.editing.latent import Latent, renderer, tuned_weights
from limner.apps.output import Progress
from limner.apps.sample import (
    FRAMES_PER_SECOND,
    WALK_SECONDS,
    check_film,
    destination,
    is_film,
    times,
    write_film,
)
from limner.core.images import grid
from limner.core.text import counted
from limner.networks.contracts import Moving
from limner.sampling.generate import generate

MAX_KEYS = 64
MAX_WEIGHTS = 1 << 28  # numbers of all tuned copies together, which are held in memory


def curvatures(keys: np.ndarray, loop: bool) -> np.ndarray:
    """Return the second derivatives [K,D] at the knots 0, 1, ... of the cubic spline through keys [K,D]: natural, or periodic."""
    k = len(keys)
    if k < 3 and not loop:
        return np.zeros_like(keys)
    matrix, right = np.zeros((k, k)), np.zeros_like(keys)
    for i in range(k):
        if not loop and i in (0, k - 1):
            matrix[i, i] = 1  # natural ends: no curvature
            continue
        before, after = (i - 1) % k, (i + 1) % k
        matrix[i, before] += 1
        matrix[i, after] += 1
        matrix[i, i] += 4
        right[i] = 6 * (keys[before] - 2 * keys[i] + keys[after])
    return np.asarray(np.linalg.solve(matrix, right))


def spline(keys: np.ndarray, positions: np.ndarray, loop: bool) -> np.ndarray:
    """Return points [T,D] of the cubic spline through keys [K,D] at positions [T], from 0 to K-1, or to K in a loop."""
    shape, flat = keys.shape[1:], keys.reshape(len(keys), -1).astype(np.float64)
    bend = curvatures(flat, loop)
    at, following, t = _between(len(keys), positions, loop)
    t = t[:, None]
    a, b = 1 - t, t
    made = a * flat[at] + b * flat[following] + ((a**3 - a) * bend[at] + (b**3 - b) * bend[following]) / 6
    return made.reshape(len(positions), *shape)


def _between(count: int, positions: np.ndarray, loop: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the knots before and after positions [T], and how far each lies between them, in [0,1]."""
    if loop:
        positions = np.mod(positions, count)
    at = np.minimum(np.floor(positions).astype(int), count - 1 if loop else max(0, count - 2))
    following = (at + 1) % count if loop else np.minimum(at + 1, count - 1)
    return at, following, positions - at


def along(keys: Codes, positions: np.ndarray, loop: bool, classes: int) -> Codes:
    """Return the codes of a path past keys at positions [T]."""
    code = spline(keys.code, positions, loop)
    at, following, t = _between(len(keys), positions, loop)
    if keys.code.ndim == 2:  # z: of the length that lies between those of the neighbors
        length = np.linalg.norm(keys.code.astype(np.float64), axis=1)
        wanted = (1 - t) * length[at] + t * length[following]
        own = np.linalg.norm(code, axis=1)
        code = code * np.where(own > 1e-6, wanted / np.maximum(own, 1e-6), 1)[:, None]
    code = np.where((t == 0).reshape(-1, *[1] * (code.ndim - 1)), keys.code[at], code)  # a key frame is itself, to the bit
    if not classes:
        return Codes(code.astype(np.float32))
    weights, smooth = keys.weights(classes), (t * t * (3 - 2 * t))[:, None]
    return Codes(code.astype(np.float32), ((1 - smooth) * weights[at] + smooth * weights[following]).astype(np.float32))


def frames(
    model: Any, keys: Sequence[Latent], positions: np.ndarray, loop: bool = False, times: np.ndarray | None = None
) -> Iterator[np.ndarray]:
    """Yield the pictures uint8 [C,H,W] of a path past latents, at positions [T]. Raises ValueError for latents of another model.

    times: of a generator of clips, how much later than its latent each picture is, in periods [T].
    """
    codes = codes_of(model, keys)
    tuned = [tuned_weights(model, key) for key in keys]
    if sum(t.numel() for weights in tuned if weights for t in weights.values()) > MAX_WEIGHTS:
        raise ValueError("The tuned copies of these latents do not fit in memory together: give fewer key frames.")
    path = along(codes, positions, loop, model.spec.classes)
    if times is not None:
        path = Codes(model.network.moved(torch.from_numpy(path.code), torch.from_numpy(times)).numpy(), path.c)
    at, following, t = _between(len(keys), positions, loop)
    for i in range(len(positions)):
        weights = _blended(model, tuned[at[i]], tuned[following[i]], float(t[i]))
        c = None if path.c is None else torch.from_numpy(path.c[i : i + 1])
        if c is not None and codes.c is not None and codes.c.ndim == 1 and t[i] == 0:
            c = torch.from_numpy(codes.c[at[i] : at[i] + 1])
        yield generate(renderer(model, weights), torch.from_numpy(path.code[i : i + 1]), c, model._device, model._precision)[0].numpy()


def _blended(model: Any, a: Mapping[str, Tensor] | None, b: Mapping[str, Tensor] | None, t: float) -> Mapping[str, Tensor] | None:
    """Return weights between two tuned copies; None stands for the generator's own."""
    if a is b or (t == 0 and a is None):
        return a
    own = dict(model.network.named_parameters())
    made = {}
    for name in {*(a or {}), *(b or {})}:
        first, second = ((weights or {}).get(name, own[name]).detach() for weights in (a, b))
        made[name] = torch.lerp(first, second, t)
    return made


def row(model: Any, a: Latent, b: Latent, steps: int) -> np.ndarray:
    """Return pictures uint8 [steps,C,H,W] from a to b, both included. Raises ValueError for fewer than 2."""
    if steps < 2:
        raise ValueError("From one picture to another are at least 2 steps.")
    return np.stack(list(frames(model, [a, b], np.linspace(0, 1, steps))))


def positions(count: int, keys: int, loop: bool) -> np.ndarray:
    """Return the positions of `count` frames past `keys` key frames; the frame after the last of a loop is its first."""
    return np.arange(count) * (keys / count) if loop else np.linspace(0, keys - 1, count)


def film(model: Any, keys: Sequence[Latent], out: Path | None = None, seconds: float | None = None, loop: bool = False,
         progress: Progress | None = None, fps: float | None = None) -> str:  # fmt: skip
    """Write a film past latents, which a loop returns from the last to the first. Returns a sentence that names it.

    With a generator of clips, the time goes on along the walk. out: a .gif, .webp or .mp4; None writes walk.gif in the run
    folder. Raises ValueError for fewer than two latents, those of another model, and another suffix, before anything is
    generated.
    """
    if not 2 <= len(keys) <= MAX_KEYS:
        raise ValueError(f"A film goes past 2 to {MAX_KEYS} key frames, not {len(keys)}: give more latents to --frames.")
    out = destination(model.folder, out, "walk.gif")
    seconds = WALK_SECONDS if seconds is None else seconds
    if not is_film(out, seconds):
        raise ValueError(f"Key frames make a film: write it to a .gif, .webp or .mp4, not to {out.name!r}.")
    rate = FRAMES_PER_SECOND if fps is None else fps
    check_film(out, seconds, 1, model, fps=rate)
    count = max(len(keys), round(seconds * rate))
    at = times(model, count, seconds, loop) if isinstance(model.network, Moving) else None
    shown = (grid(frame[None], gap=0) for frame in frames(model, keys, positions(count, len(keys), loop), loop, at))
    write_film(out, shown, count, seconds, progress)
    return f"A {'loop' if loop else 'walk'} of {counted(count, 'frame')} past {len(keys)} key frames is in {out}."
