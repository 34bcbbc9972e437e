"""A Dataset: pictures decoded once into one uint8 array, and batches of it in an order that is a pure function of the seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import PIL
import torch
from torch import Tensor

from limner.core.condition import UNLABELED, Condition
from limner.core.images import ImageSpec
from limner.data import cache as store
from limner.data.decode import Decoded, Progress, decode_all, select_rows, target_size
from limner.data.image import FITS, parse_color
from limner.data.sampler import Sampler
from limner.data.source import Rejected, Source

CHANNELS = {"auto": None, "1": 1, "3": 3, "4": 4}
MIN_CACHED_BYTES = 100 << 20  # of pictures that are one array already; smaller arrays are not cached


@dataclass
class Dataset:
    """Pictures of one size, ready for training."""

    images: Tensor                                   # uint8 [N,C,H,W], channels_last: a view of storage [N,H,W,C]
    labels: Tensor | None                            # int64 [N], an index into classes
    classes: tuple[str, ...]                         # empty without labels
    names: list[str]                                 # [N]
    spec: ImageSpec
    name: str                                        # short, for a run folder
    origin: str                                      # as shown to people
    attribution: str                                 # author and license of an embedded sample
    fingerprint: str                                 # SHA-256, in hex, of the pictures and labels
    bad: list[Rejected] = field(default_factory=list)     # skipped pictures with the reason
    notes: list[str] = field(default_factory=list)   # decisions to report to the user
    sizes: dict[tuple[int, int], int] = field(default_factory=dict)  # upright (H,W) of the files -> count
    modes: dict[str, int] = field(default_factory=dict)              # Pillow mode of the files -> count
    duplicates: list[list[str]] = field(default_factory=list)        # groups of names of identical pictures
    fit: str = "crop"                                # how they were brought to their size
    background: str = "white"                        # color behind transparent pictures, and of padding
    validation: Source | None = None                 # the held-out split, not decoded yet: see prepare_validation

    def __post_init__(self) -> None:
        assert self.images.dtype == torch.uint8 and self.images.shape[1:] == (self.spec.channels, *self.spec.size)
        self._rows = self.images.permute(0, 2, 3, 1)  # the contiguous storage: index_select then copies whole rows
        assert self._rows.is_contiguous()
        self._order = Sampler(len(self.images))

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, first: int, count: int, seed: int) -> dict[str, Tensor]:
        """Return pictures first ... first + count - 1 of the endless order of `seed` (`data.sampler.Sampler`).

        Returns image: uint8 [count,C,H,W] channels_last, and label: int64 [count] if there are classes.
        """
        return self.rows(self._order.positions(first, count, seed))

    def rows(self, rows: np.ndarray) -> dict[str, Tensor]:
        """Return the pictures (and labels) of rows int64 [count]."""
        index = torch.from_numpy(rows)
        images = self._rows.index_select(0, index).permute(0, 3, 1, 2)
        return {"image": images} if self.labels is None else {"image": images, "label": self.labels.index_select(0, index)}

    def subset(self, rows: np.ndarray) -> Subset:
        """Return the pictures of rows int64 [n], as a view."""
        return Subset(self, rows)

    def own_validation(self) -> Dataset | None:
        """Return the validation split that the data contains, at the same shape (`prepare_validation`)."""
        return prepare_validation(self)

    def copied(self, rows: np.ndarray) -> Dataset:
        """Return the pictures of rows int64 [n] as a new Dataset."""
        pictures = select_rows(self._rows.numpy(), rows, self.spec.channels)
        labels = None if self.labels is None else self.labels[torch.from_numpy(rows)]
        return replace(
            self, images=as_images(pictures), labels=labels, names=[self.names[i] for i in rows],
            fingerprint=store.content_hash(pictures, None if labels is None else labels.numpy()),
        )


class Subset:
    """Some pictures of a dataset, in an order of their own; a view, which copies no picture."""

    def __init__(self, dataset: Dataset, kept: np.ndarray) -> None:
        assert len(kept), "a subset without pictures"
        self.dataset, self.kept = dataset, kept
        self.spec, self.classes, self.duplicates = dataset.spec, dataset.classes, dataset.duplicates
        self.name, self.origin = dataset.name, dataset.origin
        self.names = [dataset.names[i] for i in kept]
        self.labels = None if dataset.labels is None else dataset.labels[torch.from_numpy(kept)]
        self._order = Sampler(len(kept))

    def __len__(self) -> int:
        return len(self.kept)

    def batch(self, first: int, count: int, seed: int) -> dict[str, Tensor]:
        """Return a batch as `Dataset.batch` does, of these pictures alone."""
        return self.rows(self._order.positions(first, count, seed))

    @property
    def images(self) -> Tensor:
        """These pictures as one array, uint8 [N,C,H,W] channels_last; copied at every call."""
        return self.rows(np.arange(len(self)))["image"]

    def rows(self, rows: np.ndarray) -> dict[str, Tensor]:
        """Return rows as `Dataset.rows` does, where row 0 is the first of these pictures."""
        return self.dataset.rows(self.kept[rows])

    def subset(self, rows: np.ndarray) -> Subset:
        """Return the pictures of rows int64 [n] of this subset."""
        return Subset(self.dataset, self.kept[rows])

    def own_validation(self) -> None:
        """Return None: pictures are held out of a subset by row."""


def as_images(pictures: np.ndarray) -> Tensor:
    """Return a view [N,C,H,W] of storage uint8 [N,H,W,C], which is copied only if it is read-only, as torch requires."""
    return torch.from_numpy(pictures if pictures.flags.writeable else pictures.copy()).permute(0, 3, 1, 2)


def prepare(
    source: Source, *, size: int | Sequence[int] | None = None, fit: str = "crop", channels: int | str = "auto",
    background: str = "white", workers: int | None = None, progress: Progress | None = None,
    drop_duplicates: bool = False, cache: bool = True,
) -> Dataset:
    """Decode every picture of `source` once, or load them from the cache.

    size: side, (H,W), or None for the pictures' own if most share one of at most 64 pixels, otherwise 64 (see default_size).
    fit: crop | pad | stretch. channels: auto | 1 | 3 | 4. background: color behind transparent pictures, and of padding.
    workers: decoding threads, None for one per core. progress: called with (done, total).
    Raises ValueError for invalid options and when no picture is usable.
    """
    if fit not in FITS:
        raise ValueError(f"fit {fit!r} is unknown: choose {', '.join(FITS)}.")
    if str(channels) not in CHANNELS:
        raise ValueError(f"channels {channels!r} is unknown: choose auto, 1 (gray), 3 (RGB) or 4 (RGBA).")
    parse_color(background)  # raises before anything is read
    size = None if size is None else list(target_size(size, []))  # the same cache key for 64 and 64x64
    options = [size, fit, CHANNELS[str(channels)], background]
    cache = cache and (source.array is None or source.array.nbytes > MIN_CACHED_BYTES)
    key, note = "", ""
    if cache:
        text = json.dumps([store.VERSION, PIL.__version__, options, source.fingerprint()])
        key = hashlib.sha256(text.encode()).hexdigest()[:40]
        if found := store.load(key):
            return _finish(source, _from_facts(*found), options, drop_duplicates, found[1]["fingerprint"], "")
    result = decode_all(source, size, fit, CHANNELS[str(channels)], background, workers, progress)
    labels = None if source.labels is None else source.labels[result.kept]
    fingerprint = store.content_hash(result.pictures, labels)
    result.equal = equal_rows(result.pictures)
    if cache and result.pictures is not source.array and not result.transient:
        problem = store.store(key, result.pictures, _to_facts(result, labels, fingerprint))
        if problem:
            note = f"The decoded pictures could not be cached: {problem}"
        elif result.pictures.nbytes > store.MAX_MEMORY_BYTES and (found := store.load(key)):
            result.pictures = found[0]  # releases the unlinked file they were decoded into
    return _finish(source, result, options, drop_duplicates, fingerprint, note)


def prepare_validation(dataset: Dataset, progress: Progress | None = None) -> Dataset | None:
    """Return the held-out split of the source of `dataset`, at the same shape; None if it has none.

    Raises ValueError as `prepare` does.
    """
    if dataset.validation is None:
        return None
    return prepare(
        dataset.validation, size=dataset.spec.size, fit=dataset.fit, channels=dataset.spec.channels,
        background=dataset.background, progress=progress,
    )


def _to_facts(result: Decoded, labels: np.ndarray | None, fingerprint: str) -> dict[str, Any]:
    return {
        "fingerprint": fingerprint, "labels": None if labels is None else labels.tolist(), "kept": result.kept,
        "bad": result.bad, "sizes": [[*size, count] for size, count in result.sizes.items()], "modes": result.modes,
        "alpha": result.alpha, "enlarged": result.enlarged,
        "equal": result.equal,
    }


def _from_facts(pictures: np.ndarray, facts: dict[str, Any]) -> Decoded:
    return Decoded(
        pictures, facts["kept"], [(name, why) for name, why in facts["bad"]],
        {(h, w): count for h, w, count in facts["sizes"]}, facts["modes"], facts["alpha"], facts["enlarged"], facts["equal"],
    )


def equal_rows(pictures: np.ndarray) -> list[list[int]]:
    """Return groups of rows of [N,H,W,C] that are identical in all pixels, each in order."""
    groups: dict[bytes, list[int]] = {}
    for i, picture in enumerate(pictures):
        groups.setdefault(hashlib.blake2b(picture.tobytes(), digest_size=16).digest(), []).append(i)
    return [rows for rows in groups.values() if len(rows) > 1]


def _finish(
    source: Source, result: Decoded, options: list[Any], drop_duplicates: bool, fingerprint: str, note: str
) -> Dataset:
    pictures, kept = result.pictures, result.kept
    labels = None if source.labels is None else source.labels[kept]
    equal = result.equal or []
    if drop_duplicates and equal:
        known = np.ones(len(pictures), bool) if labels is None else labels != UNLABELED
        equal = [sorted(rows, key=lambda row: not known[row]) for rows in equal]  # a picture with a class is kept first
        extra = [row for rows in equal for row in rows[1:]]
        rows = np.setdiff1d(np.arange(len(pictures)), extra)
        pictures, kept = select_rows(pictures, rows, pictures.shape[-1]), [kept[row] for row in rows]
        labels = None if labels is None else labels[rows]
        fingerprint = store.content_hash(pictures, labels)
    n, h, w, c = pictures.shape
    spec = ImageSpec(c, h, w, Condition.classes(len(source.classes)))
    bad = source.bad + result.bad  # those of the source are found at every opening, so the cache does not hold them
    notes = source.notes + _notes(result, bad, spec, options, equal, drop_duplicates) + ([note] if note else [])
    return Dataset(
        images=as_images(pictures), labels=None if labels is None else torch.from_numpy(labels.copy()),
        classes=source.classes, names=[source.names[i] for i in kept], spec=spec, name=source.name,
        origin=source.origin, attribution=source.attribution, fingerprint=fingerprint, bad=bad, notes=notes,
        sizes=result.sizes, modes=result.modes,
        duplicates=[[source.names[result.kept[row]] for row in rows] for rows in equal],
        fit=options[1], background=options[3], validation=source.validation,
    )


def _notes(
    result: Decoded, bad: list[Rejected], spec: ImageSpec, options: list[Any], equal: list[list[int]], dropped: bool
) -> list[str]:
    """Return sentences on the decisions made about the pictures."""
    size, fit, channels, background = options
    n, notes = len(result.kept), []
    if bad:
        notes.append(skipped_note(bad))
    if size is None and set(result.sizes) != {spec.size}:
        notes.append(f"Pictures are resized to {spec.height}x{spec.width}; give a size to choose another.")
    if result.enlarged:
        verb = "is" if result.enlarged == 1 else "are"
        notes.append(f"{result.enlarged:,} of {n:,} pictures {verb} smaller than {spec.height}x{spec.width} and {verb} enlarged.")
    has = "has" if result.alpha == 1 else "have"
    if result.alpha and spec.channels < 4:
        notes.append(f"{result.alpha:,} of {n:,} pictures {has} transparency, which is blended with {background}.")
    elif result.alpha and channels is None:
        notes.append(f"{result.alpha:,} of {n:,} pictures {has} transparency, which is kept (RGBA).")
    if fit == "pad" and any(h * spec.width != w * spec.height for h, w in result.sizes):
        notes.append(f"Pictures are padded with {'transparency' if spec.channels == 4 else background}.")
    if equal:
        notes.append(duplicates_note(equal, dropped))
    return notes


def skipped_note(bad: Sequence[Rejected]) -> str:
    name, why = bad[0]
    many = f"{len(bad):,} {_s(bad, 'picture')} could not be used and {_are(bad)} skipped"
    return f"{many}, such as {name} ({why})." if len(bad) > 1 else f"{many}: {name} ({why})."


def and_skipped(count: int) -> str:
    """Return the end of a sentence on a result: how many pictures were skipped."""
    return f"; {count:,} {'was' if count == 1 else 'were'} skipped" if count else ""


def duplicates_note(groups: Sequence[Sequence[object]], dropped: bool = False) -> str:
    """Return a sentence on duplicates. groups: of identical pictures, as rows or names."""
    extra = sum(len(group) - 1 for group in groups)
    verb = "were dropped" if dropped else "are exact duplicates of others; `limner train --drop-duplicates` leaves them out"
    return f"{extra:,} {_s(range(extra), 'picture')} {verb}{' as exact duplicates' if dropped else ''}."


def _s(things: Sequence[object], word: str) -> str:
    return word if len(things) == 1 else word + "s"


def _are(things: Sequence[object]) -> str:
    return "is" if len(things) == 1 else "are"

