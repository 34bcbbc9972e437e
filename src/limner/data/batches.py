"""The protocol of training data, and the random generator of one position of its order.

A batch is a mapping of named tensors:

    image           the picture, or the input of a restorer       uint8 [count,C,H,W]
    target          the ground truth of a restorer                uint8 [count,C,H,W]
    mask            1 where `image` has a hole, 0 elsewhere       uint8 [count,1,H,W]
    a, b            the two sides of a translation                uint8 [count,C,H,W]
    label           the class index                               int64 [count]
    tokens          of the picture's caption                      int64 [count,L]
    other_tokens    of another picture's caption                  int64 [count,L]
    vector          frozen vectors of the caption's words         float32 [count,D]
    other_vector    of another picture's caption                  float32 [count,D]
    other           another frame of the clip of `image`          uint8 [count,C,H,W]
    time            that of `image` in its clip, in periods       float32 [count]
    distance        the time from `image` to `other`, in periods  float32 [count]

The training loop rescales the pictures (`core.images.IMAGES`) to [-1,1] and leaves other tensors, such as a uint8 mask,
unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol
from zlib import crc32

import numpy as np
from torch import Tensor

from limner.core.images import ImageSpec


class Batches(Protocol):
    """Items in an endless order; the item at `position` is a pure function of (seed, position).

    Batches can therefore be cut anywhere: one rank or four, whole or accumulated, unbroken or resumed, see the same items.
    """

    @property
    def spec(self) -> ImageSpec:
        """Shape of the pictures: of `target` if a batch has one."""
        ...

    def __len__(self) -> int:
        """Number of different items: an epoch."""
        ...

    def batch(self, first: int, count: int, seed: int) -> dict[str, Tensor]:
        """Return items first ... first + count - 1 of the order of `seed`, one row each."""
        ...


class Splittable(Batches, Protocol):
    """Data of which some items can be held out (`data.split.split`)."""

    @property
    def names(self) -> Sequence[str]:
        """Names of the items [N], in the order of rows."""
        ...

    @property
    def labels(self) -> Tensor | None:
        """int64 [N], or None for data without classes."""
        ...

    @property
    def duplicates(self) -> Sequence[Sequence[str]]:
        """Groups of names of identical items."""
        ...

    def subset(self, rows: np.ndarray) -> Any:
        """Return the items of the rows int64 [n], as a view of the same kind."""
        ...

    def own_validation(self) -> Any | None:
        """Return the validation split that the data contains, decoded; None if it contains none."""
        ...


def generator_at(seed: int, position: int, use: str) -> np.random.Generator:
    """Return the random generator of one position and one use: the same on any rank and in any batch."""
    return np.random.Generator(np.random.PCG64([seed % 2**64, position, crc32(use.encode())]))
