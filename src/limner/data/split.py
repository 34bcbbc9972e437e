"""The split into training and validation pictures, for every family.

1. If the data contains a validation split (folders train and val or test; trainA, trainB and valA, valB or testA, testB), that
   one is used, and the rest is trained on.
2. Otherwise one in twenty of the different pictures is held out, at least 2 and at most 256, chosen by the seed.
   - Pictures that are identical in all pixels count as one and stay on the same side. One with more copies than a twentieth
     of the set (at least 2) is always trained on.
   - At least one picture of each class is trained on.
   - Pairs are held out as pairs; they are identical if one of their sides is. Unpaired sets are split one by one.
3. With fewer than 16 different pictures (or pairs, or pictures of either set), none is held out; nor where the rules above
   leave none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast, overload

import numpy as np
from torch import Tensor

from limner.data.batches import Splittable
from limner.data.dataset import Dataset, Subset
from limner.data.pairs import UNPAIRED_SEED, Pairs
from limner.data.sampler import permutation

HELD_OUT_RATIO = 20  # one picture in 20 is held out
MIN_PICTURES = 16    # different pictures; with fewer none is held out
MIN_HELD_OUT, MAX_HELD_OUT = 2, 256  # pictures

S = TypeVar("S", bound=Splittable)


@overload
def split(data: Dataset, seed: int) -> tuple[Dataset | Subset, Dataset | Subset | None]: ...
@overload
def split(data: S, seed: int) -> tuple[S, S | None]: ...
def split(data: Any, seed: int) -> tuple[Any, Any]:
    """Return (training data, validation data or None), by the rules in the module's docstring; no picture is copied.

    data: a Dataset, Pairs, Crops, Degraded, or any other Splittable. Raises ValueError when the data's own validation split
    is unusable.
    """
    if (own := data.own_validation()) is not None:
        return data, own
    if isinstance(data, Pairs) and not data.paired:
        (a, held_a), (b, held_b) = split(cast(Subset, data.a), seed), split(cast(Subset, data.b), seed ^ UNPAIRED_SEED)
        if held_a is None or held_b is None:
            return data, None
        return replace(data, a=a, b=b), replace(data, a=held_a, b=held_b)
    rows = held_out_rows(group_numbers(data.names, data.duplicates), data.labels, seed)
    if not len(rows):
        return data, None
    return data.subset(np.setdiff1d(np.arange(len(data)), rows)), data.subset(rows)


def held_out_rows(groups: np.ndarray, labels: Tensor | None, seed: int) -> np.ndarray:
    """Return the rows to hold out, int64 [n] in order; empty for too few. groups: int64 [N], equal for identical pictures."""
    members: dict[int, list[int]] = {}
    for row, group in enumerate(groups.tolist()):
        members.setdefault(group, []).append(row)
    if len(members) < MIN_PICTURES:
        return np.empty(0, np.int64)
    order = permutation(len(groups), seed, 0)
    kept: set[int] = set()  # groups to train on: that of the last picture of each class in the order
    if labels is not None:
        _, last = np.unique(labels.numpy()[order][::-1], return_index=True)
        kept = set(groups[order[len(order) - 1 - last]].tolist())
    copies = max(MIN_HELD_OUT, len(groups) // HELD_OUT_RATIO)
    candidates = [g for g in dict.fromkeys(groups[order].tolist()) if g not in kept and len(members[g]) <= copies]
    chosen = candidates[: max(MIN_HELD_OUT, min(MAX_HELD_OUT, len(members) // HELD_OUT_RATIO))]
    return np.array(sorted(row for group in chosen for row in members[group]), np.int64)


def group_numbers(names: Sequence[str], duplicates: Sequence[Sequence[str]]) -> np.ndarray:
    """Return int64 [N]: equal numbers for items that are identical, directly or through others."""
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        rows.setdefault(name, []).append(row)
    parent = list(range(len(names)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = row = parent[parent[row]]
        return row

    for equal in duplicates:
        first, *others = [row for name in equal for row in rows.get(name, [])] or [0]
        for row in others:
            parent[root(row)] = root(first)
    return np.array([root(row) for row in range(len(names))], np.int64)
