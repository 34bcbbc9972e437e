"""Integer frequency tables of the entropy coder: computed once at the end of training, stored in the run, only read afterwards.

A probability that the encoder and the decoder compute for themselves must be equal to the last bit on both machines, which
floating-point functions are not. So the tables are integers: one row per distribution, whose frequencies are at least 1 and sum
to `TOTAL`. The rows of a set are one int32 array [rows, width]:

    low   count   f(low)   f(low + 1)  ...  f(low + count - 1)   0 ...

The rest of `TOTAL` is the frequency of the escape, which stands for every value outside of low .. low + count - 1: the coder
writes such a value by itself (`coding.entropy`). A row holds only the values that are worth a place, at most width - 2: each
place costs at least 1 / TOTAL of the probability.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

BITS = 16
TOTAL = 1 << BITS     # the sum of each row's frequencies
TAIL = 2.0**-BITS     # probability left to the escape: about its least possible frequency
LEAST_REACH = 2       # values on each side of the center that a row holds at least: real tails are heavier than a Gaussian's
MAX_COUNT = 8191      # values of a row
MAX_ROWS = 1 << 16
HEAD = 2              # columns before the frequencies
MAX_VALUE = 1 << 22   # absolute value of a symbol, in the tables or escaped; half of what the escape code can reach

Row = tuple[int, np.ndarray]  # (low, probabilities float64 [count] of low, low + 1, ...)


@dataclass(frozen=True, eq=False)
class Tables:
    """Rows of frequencies. array: int32 [rows, width] as above. Raises ValueError when it is not such an array."""

    array: np.ndarray

    def __post_init__(self) -> None:
        a = self.array
        if a.ndim != 2 or a.dtype != np.int32 or not 0 < len(a) <= MAX_ROWS or not HEAD < a.shape[1] <= HEAD + MAX_COUNT:
            raise ValueError(f"The run's tables of frequencies are damaged ({a.dtype} {a.shape}): copy the run again.")
        low, count = a[:, 0].astype(np.int64), a[:, 1].astype(np.int64)
        used = np.arange(a.shape[1] - HEAD) < count[:, None]
        frequencies = a[:, HEAD:].astype(np.int64)
        if not (
            ((count >= 1) & (count <= a.shape[1] - HEAD) & (low >= -MAX_VALUE) & (low + count <= MAX_VALUE)).all()
            and (np.where(used, frequencies, 1) >= 1).all()
            and (np.where(used, 0, frequencies) == 0).all()
            and (frequencies.sum(1) < TOTAL).all()
        ):
            raise ValueError("The run's tables of frequencies are damaged (a row is no distribution): copy the run again.")

    def __len__(self) -> int:
        return len(self.array)

    @cached_property
    def low(self) -> np.ndarray:
        """The smallest value of each row, int64 [rows]."""
        return self.array[:, 0].astype(np.int64)

    @cached_property
    def count(self) -> np.ndarray:
        """The number of values of each row without the escape, int64 [rows]."""
        return self.array[:, 1].astype(np.int64)

    def frequencies(self, row: int) -> np.ndarray:
        """Return the frequencies of a row, int64 [count + 1]; the last one is the escape's."""
        known = self.array[row, HEAD : HEAD + self.array[row, 1]].astype(np.int64)
        return np.append(known, TOTAL - known.sum())

    @cached_property
    def cost(self) -> np.ndarray:
        """The bits of each value of each row and then of its escape, float32 [rows, width - 1]; unused places are infinite."""
        padded = np.pad(self.array[:, HEAD:], ((0, 0), (0, 1)))
        np.put_along_axis(padded, self.count[:, None], TOTAL - padded.sum(1, keepdims=True), 1)
        with np.errstate(divide="ignore"):
            return (BITS - np.log2(padded)).astype(np.float32)


def integer_frequencies(probabilities: np.ndarray, total: int = TOTAL) -> np.ndarray:
    """Return frequencies int64 [n], each at least 1 and `total` in sum, nearest to probabilities float [n].

    Each gets 1; the rest is distributed in proportion, rounded by the largest remainder, ties to the first.
    Raises ValueError for probabilities that are negative or not finite, or all 0.
    """
    p = np.asarray(probabilities, np.float64)
    if not (np.isfinite(p).all() and (p >= 0).all() and p.sum() > 0):
        raise ValueError("A distribution to code with has a probability that is negative or not finite: train the run anew.")
    assert len(p) <= total, (len(p), total)
    shares = p / p.sum() * (total - len(p))
    found = np.floor(shares).astype(np.int64)
    missing = total - len(p) - int(found.sum())
    order = np.argsort(-(shares - found), kind="stable")
    found[order[:missing]] += 1
    return found + 1


def make_tables(rows: Sequence[Row], width: int | None = None) -> np.ndarray:
    """Return int32 [rows, width] of (low, probabilities) rows; what a row lacks to a sum of 1 is its escape's.

    width: by default the least that holds all rows.
    """
    array = np.zeros((len(rows), width or HEAD + max(len(p) for _, p in rows)), np.int32)
    for i, (low, p) in enumerate(rows):
        found = integer_frequencies(np.append(p, max(0.0, 1.0 - float(p.sum()))))
        array[i, :HEAD] = low, len(p)
        array[i, HEAD : HEAD + len(p)] = found[:-1]
    return Tables(array).array


def gaussian_tables(scales: Sequence[float], width: int | None = None) -> np.ndarray:
    """Return int32 [scales, width]: a Gaussian of mean 0 and each standard deviation, integrated over unit intervals.

    P(k) = Phi((k + 1/2) / scale) - Phi((k - 1/2) / scale) (Ballé et al. 2018, "Variational image compression with a scale
    hyperprior", equation 29, with the mean removed before rounding as in Minnen et al. 2018). width: of the table; what has no
    place in it is escaped.
    """
    most = ((width - HEAD if width else MAX_COUNT) - 1) // 2
    rows = []
    for scale in scales:
        reach = min(LEAST_REACH, most)
        while math.erfc((reach + 0.5) / scale / math.sqrt(2)) > TAIL and reach < most:
            reach += 1
        upper = np.array([math.erfc((k - 0.5) / scale / math.sqrt(2)) / 2 for k in range(reach + 2)])  # P(X > k - 1/2)
        right = upper[:-1] - upper[1:]  # P(0), P(1) ...: differences of upper tails keep their precision
        right[0] = 1 - 2 * upper[1]
        rows.append((-reach, np.concatenate([right[:0:-1], right])))
    return make_tables(rows, width)


def tables_of_masses(masses: np.ndarray, width: int | None = None) -> np.ndarray:
    """Return int32 [rows, width] of the probabilities of -limit ... limit, float64 [rows, 2 * limit + 1].

    Each row keeps the values that hold all but about `TAIL`, and at least LEAST_REACH on each side of the median.
    """
    limit = masses.shape[1] // 2
    most = width - HEAD if width else MAX_COUNT
    rows = []
    for p in np.asarray(masses, np.float64):
        if not (np.isfinite(p).all() and p.sum() > 0):
            raise ValueError("A distribution to code with is not finite, or all zero within its limits: train the run anew.")
        below, above = np.cumsum(p), np.cumsum(p[::-1])[::-1]  # sums from each end keep the precision of its tail
        center = int(np.searchsorted(below, below[-1] / 2))
        first = min(int(np.searchsorted(below, TAIL / 2, "right")), center - LEAST_REACH)
        end = max(len(p) - int(np.searchsorted(above[::-1], TAIL / 2, "right")), center + LEAST_REACH + 1)
        first, end = max(first, center - most // 2, 0), min(end, center + (most + 1) // 2, len(p))
        rows.append((first - limit, p[first:end]))
    return make_tables(rows, width)


def tables_of_cdf(cdf: Callable[[np.ndarray], np.ndarray], width: int | None = None, reach: int = 128) -> np.ndarray:
    """Return int32 [rows, width] of cumulative distribution functions, as a factorized prior has one per channel.

    cdf: half-integers float64 [n] -> [rows, n]. reach: the largest absolute value that is considered at first, doubled while a
    row has more than `TAIL` beyond it.
    """
    while True:
        c = np.asarray(cdf(np.arange(-reach, reach + 2) - 0.5), np.float64)
        if 4 * reach > MAX_COUNT or (c[:, 0].max() < TAIL / 2 and c[:, -1].min() > 1 - TAIL / 2):
            return tables_of_masses(np.diff(c).clip(0), width)
        reach *= 2
