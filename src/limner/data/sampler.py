"""The endless order in which pictures are shown: a pure function of a seed and of how many there are."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np


def permutation(n: int, seed: int, epoch: int) -> np.ndarray:
    """A random order of 0 ... n-1, int64, the same on every machine and version.

    It sorts the raw output of PCG64, whose stream NumPy guarantees; that of Generator.permutation may change.
    """
    bits = np.random.PCG64(np.random.SeedSequence([seed % 2**64, epoch])).random_raw(n)
    return np.argsort(bits, kind="stable")


class Sampler:
    """Every n of the positions, from a multiple of n on, are each of 0 ... n-1 once, in an order of (seed, epoch)."""

    def __init__(self, n: int) -> None:
        self.n = n
        self._lately: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()  # the newest few permutations

    def positions(self, first: int, count: int, seed: int) -> np.ndarray:
        """Numbers first ... first + count - 1 of the order: int64 [count]."""
        assert first >= 0 and count >= 0, (first, count)
        parts = []
        while count > 0:
            epoch, offset = divmod(first, self.n)
            part = self._permutation(seed, epoch)[offset : offset + count]
            parts.append(part)
            first, count = first + len(part), count - len(part)
        return parts[0] if len(parts) == 1 else np.concatenate(parts or [np.empty(0, np.int64)])

    def _permutation(self, seed: int, epoch: int) -> np.ndarray:
        if (seed, epoch) not in self._lately:
            self._lately[seed, epoch] = permutation(self.n, seed, epoch)
            if len(self._lately) > 4:
                self._lately.popitem(last=False)
        return self._lately[seed, epoch]
