"""Two sets of pictures to translate between, decoded to one shape: pairs, or two unpaired sets."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import Tensor

from limner.core.images import ImageSpec
from limner.core.text import counted
from limner.data.dataset import Dataset, Subset, duplicates_note, prepare, skipped_note
from limner.data.open import expand_path, open_source
from limner.data.sides import first_few, from_csv, halves, paired_pictures, side_folders
from limner.data.source import Rejected

UNPAIRED_SEED = 0x5B  # XORed to the seed for the order of the second set of an unpaired run


@dataclass
class Pairs:
    """Two Datasets of one shape; `paired` if row i of one is the target of row i of the other."""

    a: Dataset | Subset
    b: Dataset | Subset
    paired: bool
    spec: ImageSpec
    name: str
    origin: str
    fingerprint: str
    attribution: str = ""
    fit: str = "crop"
    background: str = "white"
    classes: tuple[str, ...] = ()  # empty: translators take no labels
    labels: Tensor | None = None
    bad: list[Rejected] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.a) if self.paired else max(len(self.a), len(self.b))

    def batch(self, first: int, count: int, seed: int) -> dict[str, Tensor]:
        """Return pairs first ... first + count - 1 of the endless order of `seed`: {"a", "b"}, each uint8 [count,C,H,W].

        Unpaired sets have an order each.
        """
        return {
            "a": self.a.batch(first, count, seed)["image"],
            "b": self.b.batch(first, count, seed if self.paired else seed ^ UNPAIRED_SEED)["image"],
        }

    @property
    def names(self) -> list[str]:
        """Names of the pairs, which are those of either side."""
        return self.a.names

    @property
    def duplicates(self) -> list[list[str]]:
        """Groups of names of pairs with an identical side."""
        return [*self.a.duplicates, *self.b.duplicates]

    def subset(self, rows: np.ndarray) -> Pairs:
        """Return the pairs of rows int64 [n], as a view of both sides."""
        assert self.paired, "unpaired sets are split one by one"
        return replace(self, a=self.a.subset(rows), b=self.b.subset(rows))

    def own_validation(self) -> Pairs | None:
        """Return the held-out pairs (or sets) that the data contains, at the same shape; None if it contains none.

        Raises ValueError when none of them is usable.
        """
        a, b = self.a.own_validation(), self.b.own_validation()
        return _joined(a, b, self.paired, [], self.name, self.fit, self.background) if a and b else None


def prepare_pairs(
    data: Any, second: Any = None, *, paired: bool, swap: bool = False, as_halves: bool = False, size: int | tuple[int, int] | None = None,
    fit: str = "crop", channels: str = "auto", background: str = "white", progress: Any = None,
) -> Pairs:
    """Decode two sets of pictures to one shape.

    data, second: two folders (or anything that `open_source` takes); or one CSV with two columns of files; or one set with
    the folders trainA and trainB (or A and B); or one set of pictures that each hold both sides, left and right: about twice
    as wide as tall, or with as_halves of any even width. paired: pictures with equal names form pairs (`matching`); those
    without a partner, or with another aspect ratio, are left out and listed in `bad`. swap: exchange the two sides.
    Raises ValueError when nothing is left to train on.
    """
    bad: list[Rejected] = []
    if second is not None:
        a, b = open_source(data, labels=False), open_source(second, labels=False)
        if paired:
            a, b, bad = paired_pictures(a, b)
    elif str(data).lower().endswith(".csv"):
        a, b, bad = from_csv(expand_path(str(data)))
    else:
        source = open_source(data, labels=False)
        if sides := side_folders(source):
            a, b = sides
            if paired:
                a, b, bad = paired_pictures(a, b)
        else:
            a, b, bad = halves(source, paired, as_halves)
    if swap:
        a, b = b, a

    def both(kind: str) -> tuple[Dataset, Dataset]:
        one = prepare(a, size=size, fit=fit, channels=kind, background=background, progress=progress)
        size_of_one = one.spec.size
        two = prepare(b, size=size_of_one, fit=fit, channels=kind, background=background, progress=progress)
        return one, two

    one, two = both(channels)
    if one.spec.channels != two.spec.channels:
        one, two = both(str(max(one.spec.channels, two.spec.channels)))
    name = one.name if second is None else f"{one.name}-{two.name}"
    return _joined(one, two, paired, bad, name, fit, background, second is not None)


def _joined(
    one: Dataset, two: Dataset, paired: bool, bad: list[Rejected], name: str, fit: str, background: str, places: bool = False
) -> Pairs:
    """Return two decoded sets as Pairs. places: name the set in `bad`. Raises ValueError when a side is empty."""
    if paired:  # if a picture could not be decoded, its partner is left out too
        common = set(one.names) & set(two.names)
        one, two = (
            d if len(common) == len(d) else d.copied(np.array([i for i, n in enumerate(d.names) if n in common], int))
            for d in (one, two)
        )
    for side in (one, two):
        bad += [(f"{item} of {side.origin}" if places else item, why) for item, why in side.bad]
    bad = list(dict.fromkeys(bad))  # a picture with two sides is damaged on both
    if not len(one) or not len(two):
        raise ValueError(f"No pair of pictures is usable: {counted(len(bad), 'was', 'were')} left out, such as {first_few(bad)}.")
    notes = [f"{counted(len(bad), 'picture was', 'pictures were')} left out, such as {first_few(bad)}."] if bad else []
    notes += _notes(one, two)
    return Pairs(
        a=one, b=two, paired=paired, spec=one.spec, name=name,
        origin=f"{one.origin} and {two.origin}" if one.origin != two.origin else one.origin,
        fingerprint=hashlib.sha256(f"{one.fingerprint} {two.fingerprint} {paired}".encode()).hexdigest(),
        attribution="\n".join(dict.fromkeys(t for t in (one.attribution, two.attribution) if t)),
        fit=fit, background=background, bad=bad, notes=notes,
    )  # fmt: skip


def _notes(one: Dataset, two: Dataset) -> list[str]:
    """Return the notes on two sets, each once, without those on skipped pictures and duplicates, which cannot be dropped
    from pairs."""
    notes: list[str] = []
    for side in (one, two):
        excluded = [skipped_note(side.bad)] if side.bad else []
        excluded += [duplicates_note(side.duplicates)] if side.duplicates else []
        more = [note for note in side.notes if note not in (*excluded, *notes)]
        notes += more if side is one else [f"{two.origin[:1].upper()}{two.origin[1:]}: {note}" for note in more]
    return notes
