"""Clips: short sequences of frames of one size, decoded once, and pairs of frames of them.

An item of a batch is a clip: two of its frames and the time between them. What is held out are whole clips, never frames.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from torch import Tensor

from limner.core.images import ImageSpec
from limner.core.text import counted, printable, shortened
from limner.data import cache as store
from limner.data.batches import generator_at
from limner.data.dataset import CHANNELS, Dataset, Subset, as_images
from limner.data.decode import Progress, cpu_count, parallel_for, suppress_warnings, target_size
from limner.data.folder import list_files
from limner.data.frames import VIDEOS, ClipFile, ClipFrames, inspect_file, is_picture, read
from limner.data.image import FITS, Damaged, parse_color, reason
from limner.data.labels import natural_key
from limner.data.open import expand_path, missing
from limner.data.sampler import Sampler
from limner.data.source import Rejected, short_name

VERSION = 1              # of the cached form
MAX_BYTES = 4 << 30      # of all frames
CHUNK = 32               # clips that are read at once, before their memory is counted
WINDOW = 4.0             # seconds; frames of clips that do not loop are at most this far apart in a pair
CLOSED = 2.0             # a clip loops if its closing step is at most this many times its median step


@dataclass
class Clips:
    """Clips of one size.

    frames: of all clips, one after the other. first: int64 [K+1], the rows at which clips begin, and their end. starts: float64
    [N], the time of each frame since the beginning of its clip in seconds. seconds: float64 [K], how long each clip lasts.
    loops: whether the last frame of a clip is followed by its first. period: seconds of one period of time: of a loop, its median
    duration; otherwise twice the longest distance between two frames of a pair, so that distances need half a period at most.
    """

    frames: Dataset
    names: list[str]
    first: np.ndarray
    starts: np.ndarray
    seconds: np.ndarray
    loops: bool
    period: float
    kept: np.ndarray                                           # int64 [k]: the clips that this view holds
    duplicates: list[list[str]] = field(default_factory=list)  # groups of names of identical clips

    def __post_init__(self) -> None:
        self._order = Sampler(len(self.kept))

    @property
    def spec(self) -> ImageSpec:
        return self.frames.spec

    @property
    def labels(self) -> None:
        """None: clips have no classes."""
        return None

    def __len__(self) -> int:
        return len(self.kept)

    def batch(self, first: int, count: int, seed: int) -> dict[str, Tensor]:
        """Return pairs of frames of the clips first ... first + count - 1 of the endless order of `seed`.

        Returns image, other: uint8 [count,C,H,W]; time: float32 [count], that of `image` since its clip began; and distance: float32
        [count], from `image` to `other`. Both are in periods and in [0,1): a distance that goes back has 1 added. Which frames is a
        pure function of (seed, position).
        """
        order = self._order.positions(first, count, seed)
        rows, times = np.empty((2, count), np.int64), np.empty((2, count), np.float32)
        for i, clip in enumerate(self.kept[order].tolist()):
            rows[:, i], times[:, i] = self._pair(clip, generator_at(seed, first + i, "frames"))
        one, two = (self.frames.rows(row)["image"] for row in rows)
        return {"image": one, "other": two, "time": torch.from_numpy(times[0]), "distance": torch.from_numpy(times[1])}

    def _pair(self, clip: int, rng: np.random.Generator) -> tuple[tuple[int, int], tuple[float, float]]:
        """Return the rows of two different frames of a clip, and the time of the first and their distance in periods."""
        start, end = int(self.first[clip]), int(self.first[clip + 1])
        times = self.starts[start:end]
        one = int(rng.integers(end - start))
        apart = times - times[one]  # [n], in seconds
        others = np.flatnonzero(np.abs(apart) <= (np.inf if self.loops else self.period / 2))
        others = others[others != one]
        if not len(others):  # both neighbors are further away than the window
            others = np.array([one - 1 if one else 1])
        two = int(others[rng.integers(len(others))])
        period = float(self.seconds[clip]) if self.loops else self.period
        return (start + one, start + two), (float(times[one] / period % 1.0), float(apart[two] / period % 1.0))

    def pictures(self) -> Subset:
        """Return the frames of these clips as pictures."""
        return self.frames.subset(np.concatenate([np.arange(self.first[k], self.first[k + 1]) for k in self.kept.tolist()]))

    def subset(self, rows: np.ndarray) -> Clips:
        """Return the clips of rows int64 [n], as a view."""
        kept = self.kept[rows]
        names = [self.names[row] for row in rows.tolist()]
        return Clips(self.frames, names, self.first, self.starts, self.seconds, self.loops, self.period, kept, self.duplicates)

    def own_validation(self) -> None:
        """Return None: clips are held out by row."""


class ClipPictures:
    """Clips as the pictures that they hold; with the protocol `runs.experiment.TrainingSet`."""

    def __init__(self, clips: Clips) -> None:
        self.clips, frames = clips, clips.frames
        self.spec, self.name, self.origin, self.fingerprint = frames.spec, frames.name, frames.origin, frames.fingerprint
        self.attribution, self.fit, self.background = frames.attribution, frames.fit, frames.background
        self.classes: tuple[str, ...] = ()
        self.labels: Tensor | None = None
        self.bad, self.notes = frames.bad, frames.notes

    def __len__(self) -> int:
        return len(self.clips.frames)


def find(place: Path) -> tuple[list[ClipFile], list[Rejected]]:
    """Return the clips of a folder, or the one of a file, and what is none with the reason. Raises ValueError for another place.

    An animation or a video is a clip. The pictures of a folder without either are the frames of one, in the order of the numbers in
    their names.
    """
    root, bad = place, list[Rejected]()
    if place.is_file():
        files: list[str] = [place.name]
        root = place.parent
    else:
        try:
            listed, bad, _ = list_files(place)
        except OSError as error:
            raise ValueError(f"The folder {shortened(place)} cannot be read: {reason(error)}.") from error
        files = [name for name, _ in listed if is_picture(Path(name))]
    clips: list[ClipFile] = []
    stills: dict[str, list[tuple[str, tuple[int, int]]]] = {}
    moving: set[str] = set()  # folders with an animation or a video
    for name in files:
        folder = name.rpartition("/")[0]
        try:
            several, size = inspect_file(root / name)
        except Damaged as damage:
            bad.append((printable(name), str(damage)))
            if Path(name).suffix.lower() in VIDEOS:
                moving.add(folder)
            continue
        if several:
            clips.append(ClipFile(printable(name), (root / name,), size))
            moving.add(folder)
        else:
            stills.setdefault(folder, []).append((name, size))
    for folder, found in stills.items():
        if folder in moving or len(found) < 2:
            bad += [(printable(name), "a single frame: a clip has at least two") for name, _ in found]
            continue
        found.sort(key=lambda one: (natural_key(one[0]), one[0]))
        clips.append(ClipFile(printable(folder or root.name), tuple(root / name for name, _ in found), found[0][1]))
    return sorted(clips, key=lambda clip: (natural_key(clip.name), clip.name)), bad


def prepare_clips(
    data: Any, *, size: int | Sequence[int] | None = None, fit: str = "crop", channels: int | str = "auto", background: str = "white",
    loop: str = "auto", progress: Progress | None = None,
) -> Clips:
    """Decode the clips of a folder once, or load them from the cache.

    size, fit, channels, background: as of `data.prepare`. loop: whether clips loop; auto: whether most end as they begin.
    Raises ValueError for invalid options and when no clip is usable.
    """
    if not isinstance(data, (str, Path)) or not str(data).strip():
        raise ValueError("Clips come from a folder of GIF, WebP, APNG or video files, or of folders of frames: give its path.")
    if fit not in FITS:
        raise ValueError(f"fit {fit!r} is unknown: choose {', '.join(FITS)}.")
    if str(channels) not in CHANNELS:
        raise ValueError(f"channels {channels!r} is unknown: choose auto, 1 (gray), 3 (RGB) or 4 (RGBA).")
    fill, place = parse_color(background), expand_path(data)
    if not place.exists():
        raise ValueError(missing(str(data), place, "give a folder of clips."))
    if not place.is_dir() and not (place.is_file() and is_picture(place)):
        raise ValueError(f"{shortened(place)} is no folder of clips: give a folder of GIF, WebP, APNG or video files, or of folders of frames.")
    with suppress_warnings():
        found, bad = find(place)
    if not found:
        raise ValueError(_no_clips(place, bad))
    target = target_size(size, [clip.size for clip in found])
    options = [list(target), fit, CHANNELS[str(channels)], background]
    key = hashlib.sha256(json.dumps([VERSION, PIL.__version__, options, _version(found)]).encode()).hexdigest()[:40]
    kept = store.load(key)
    if kept is None:
        pictures, facts = _decoded(found, target, CHANNELS[str(channels)], fit, fill, progress)
        if not facts["names"]:
            raise ValueError(_no_clips(place, [*bad, *map(tuple, facts["bad"])]))
        store.store(key, pictures, facts)
    else:
        pictures, facts = kept
    return _assembled(place, pictures, facts, bad, options, loop)


def _version(found: Sequence[ClipFile]) -> list[list[Any]]:
    """Return what changes whenever a file may have changed."""
    facts = []
    for clip in found:
        for path in clip.files:
            stat = path.stat()
            facts.append([clip.name, str(path.resolve()), stat.st_size, stat.st_mtime_ns])
    return facts


def _no_clips(place: Path, bad: Sequence[Rejected]) -> str:
    if bad:
        return f"{shortened(place)} holds no usable clip: {counted(len(bad), 'file is none', 'files are none')}, such as {bad[0][0]} ({bad[0][1]})."
    return f"{shortened(place)} holds no clips: give a folder of GIF, WebP, APNG or video files, or of folders of frames."


def _decoded(
    found: Sequence[ClipFile], target: tuple[int, int], channels: int | None, fit: str, fill: tuple[int, int, int], progress: Progress | None
) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the frames of all usable clips uint8 [N,H,W,C] and the facts about them that the cache holds."""
    wide, done, total = channels or 4, 0, 0
    read_clips: dict[int, ClipFrames] = {}
    bad: list[Rejected] = []

    def tick(more: int) -> None:
        nonlocal done
        done += more
        if progress:
            progress(done, len(found))

    with suppress_warnings():
        for start in range(0, len(found), CHUNK):  # memory is counted in the order of clips, whatever thread is first
            failed: dict[int, str] = {}

            def work(i: int, start: int = start, failed: dict[int, str] = failed) -> None:
                try:
                    read_clips[start + i] = read(found[start + i], target, wide, fit, fill)
                except Damaged as damage:
                    failed[start + i] = str(damage)

            parallel_for(work, min(CHUNK, len(found) - start), min(cpu_count(), 4), tick)
            bad += [(found[i].name, failed[i]) for i in sorted(failed)]
            for i in range(start, min(start + CHUNK, len(found))):
                if i in read_clips and (total := total + read_clips[i].pictures.nbytes) > MAX_BYTES:
                    del read_clips[i]
                    bad.append((found[i].name, f"beyond the {MAX_BYTES >> 30} GiB of frames that are held: choose a smaller --size"))
            if total > MAX_BYTES:
                bad += [(clip.name, "beyond the frames that are held: choose a smaller --size") for clip in found[start + CHUNK :]]
                break
    kept = sorted(read_clips)
    clips = [read_clips[i] for i in kept]
    if not clips:
        return np.zeros((0, *target, wide), np.uint8), {"names": [], "bad": bad}
    needed = channels or (4 if any(clip.clear for clip in clips) else 3 if any(_colored(clip.pictures) for clip in clips) else 1)
    counts = [len(clip.pictures) for clip in clips]
    pictures = store.allocate((sum(counts), *target, needed))
    for clip, end in zip(clips, accumulate(counts), strict=True):
        pictures[end - len(clip.pictures) : end] = clip.pictures[..., :needed]
    facts = {
        "labels": None, "fingerprint": store.content_hash(pictures, None), "names": [found[i].name for i in kept], "counts": counts,
        "seconds": [clip.seconds.tolist() for clip in clips], "bad": bad, "cut": [[found[i].name, read_clips[i].cut] for i in kept if read_clips[i].cut],
        "sizes": [list(found[i].size) for i in kept],
    }  # fmt: skip
    return pictures, facts


def _colored(pictures: np.ndarray) -> bool:
    """Return whether frames [n,H,W,C] of at least 3 channels have a colored pixel."""
    return bool((pictures[..., :1] != pictures[..., 1:3]).any())


def _assembled(place: Path, pictures: np.ndarray, facts: dict[str, Any], bad: list[Rejected], options: list[Any], loop: str) -> Clips:
    names, counts = facts["names"], facts["counts"]
    first = np.array([0, *accumulate(counts)], np.int64)
    shown = [np.array(seconds) for seconds in facts["seconds"]]
    starts = np.concatenate([np.cumsum(seconds) - seconds for seconds in shown])
    seconds = np.array([each.sum() for each in shown])
    closed = [closes(pictures[a:b]) for a, b in zip(first[:-1], first[1:], strict=True)]
    loops = loop == "yes" or (loop == "auto" and 2 * sum(closed) > len(closed))
    middle = float(np.median(seconds))
    n, h, w, c = pictures.shape
    bad = [*bad, *((name, why) for name, why in facts["bad"])]
    notes = [f"{counted(len(names), 'clip')} of {counted(n, 'frame')}, " + (f"loops of {middle:.3g} seconds." if loops else f"of {middle:.3g} seconds, no loops.")]
    if bad:
        notes.append(f"{counted(len(bad), 'file')} could not be used and {'is' if len(bad) == 1 else 'are'} left out, such as {bad[0][0]} ({bad[0][1]}).")
    notes += [f"{name} is {why}." for name, why in facts["cut"][:3]]
    if len(facts["cut"]) > 3:
        notes.append(f"So are {counted(len(facts['cut']) - 3, 'other clip')}.")
    frames = Dataset(
        images=as_images(pictures), labels=None, classes=(), names=[f"{name}#{i}" for name, count in zip(names, counts, strict=True) for i in range(count)],
        spec=ImageSpec(c, h, w), name=short_name(place.resolve().stem), origin=f"{counted(len(names), 'clip')} of {printable(place.resolve().name)}",
        attribution="", fingerprint=hashlib.sha256(f"{facts['fingerprint']} {starts.tolist()} {counts} {loops}".encode()).hexdigest(),
        bad=bad, notes=notes, fit=options[1], background=options[3],
        sizes={tuple(size): facts["sizes"].count(size) for size in facts["sizes"]},
    )  # fmt: skip
    period = middle if loops else 2 * min(WINDOW, middle)
    kept = np.arange(len(names))
    return Clips(frames, names, first, starts, seconds, loops, period, kept, _equal(names, pictures, first))


def closes(pictures: np.ndarray) -> bool:
    """Return whether the step from the last frame to the first is about as large as those between frames. pictures: uint8 [n,H,W,C]"""
    following = [*pictures[1:], pictures[0]]  # one at a time: signed copies of all frames would take many times their memory
    steps = np.array([np.abs(b.astype(np.int16) - a).mean() for a, b in zip(pictures, following, strict=True)])  # the last one closes
    return len(steps) > 2 and bool(steps[-1] <= CLOSED * max(np.median(steps[:-1]), 1e-9))


def _equal(names: Sequence[str], pictures: np.ndarray, first: np.ndarray) -> list[list[str]]:
    """Return groups of names of clips with identical frames."""
    groups: dict[bytes, list[str]] = {}
    for name, a, b in zip(names, first[:-1], first[1:], strict=True):
        groups.setdefault(hashlib.blake2b(pictures[a:b].tobytes(), digest_size=16).digest(), []).append(name)
    return [group for group in groups.values() if len(group) > 1]
