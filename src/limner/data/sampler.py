"""The endless order of training items: a pure function of a seed and the number of items."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np


def permutation(n: int, seed: int, epoch: int) -> np.ndarray:
    """Return a random permutation of 0 ... n-1, int64, the same on every machine and version.

    It sorts the raw output of PCG64, whose stream NumPy guarantees; the output of Generator.permutation may change.
    """
    bits = np.random.PCG64(np.random.SeedSequence([seed % 2**64, epoch])).random_raw(n)
    return np.argsort(bits, kind="stable")


class Sampler:
    """An endless order of 0 ... n-1: epoch after epoch, each a permutation by (seed, epoch)."""

    def __init__(self, n: int) -> None:
        self.n = n
        self._cache: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()  # the latest permutations

    def positions(self, first: int, count: int, seed: int) -> np.ndarray:
        """Return entries first ... first + count - 1 of the order: int64 [count]."""
        assert first >= 0 and count >= 0, (first, count)
        parts = []
        while count > 0:
            epoch, offset = divmod(first, self.n)
            part = self._permutation(seed, epoch)[offset : offset + count]
            parts.append(part)
            first, count = first + len(part), count - len(part)
        return parts[0] if len(parts) == 1 else np.concatenate(parts or [np.empty(0, np.int64)])

    def _permutation(self, seed: int, epoch: int) -> np.ndarray:
        if (seed, epoch) not in self._cache:
            self._cache[seed, epoch] = permutation(self.n, seed, epoch)
            if len(self._cache) > 4:
                self._cache.popitem(last=False)
        return self._cache[seed, epoch]
