"""The contract of everything that feeds a run, and the random numbers of one position of its order.

A batch is a mapping of named tensors, and the name says what a tensor is:

    image           the picture, or the input of a restorer       uint8 [count,C,H,W]
    target          what a restorer makes of it                   uint8 [count,C,H,W]
    a, b            the two sides of a translation                uint8 [count,C,H,W]
    label           the class, an index                           int64 [count]

The training loop rescales the pictures (`core.images.IMAGES`) to [-1,1] and passes any other tensor, such as a uint8 mask,
as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol
from zlib import crc32

import numpy as np
from torch import Tensor

from limner.core.images import ImageSpec


class Batches(Protocol):
    """Items numbered in an endless order; item `position` is a pure function of (seed, position).

    So batches may be cut anywhere: one rank or four, whole or accumulated, unbroken or resumed, all see the same items.
    """

    @property
    def spec(self) -> ImageSpec:
        """The shape of the pictures: of `target` where a batch has one."""
        ...

    def __len__(self) -> int:
        """How many different items there are: an epoch."""
        ...

    def batch(self, first: int, count: int, seed: int) -> dict[str, Tensor]:
        """Items number first ... first + count - 1 of the order of `seed`, one row each."""
        ...


class Splittable(Batches, Protocol):
    """Data of which some items can be held out (`data.split.split`)."""

    @property
    def names(self) -> Sequence[str]:
        """One an item, in the order of rows."""
        ...

    @property
    def labels(self) -> Tensor | None:
        """int64 [N], or None for data without classes."""
        ...

    @property
    def duplicates(self) -> Sequence[Sequence[str]]:
        """Names of items that are equal, by group."""
        ...

    def subset(self, rows: np.ndarray) -> Any:
        """The items of some rows, int64 [n], as an index view of the same pictures, and of the same kind of data."""
        ...

    def own_validation(self) -> Any | None:
        """The validation split that the data came with, decoded; None where it came with none."""
        ...


def generator_at(seed: int, position: int, use: str) -> np.random.Generator:
    """The random numbers of one position of an order, for one use of them: the same on any rank and in any batch."""
    return np.random.Generator(np.random.PCG64([seed % 2**64, position, crc32(use.encode())]))
