"""Integer frequency tables of the entropy coder: computed once at the end of training, stored in the run, only read afterwards.

A probability that the encoder and the decoder compute for themselves must be equal to the last bit on both machines, which
floating-point functions are not. So the tables are integers: one row per distribution, whose frequencies are at least 1 and sum
to `TOTAL`. The rows of a set are one int32 array [rows, width]:

    low   count   f(low)   f(low + 1)  ...  f(low + count - 1)   f(escape)   0 ...

The escape stands for every value outside of low .. low + count - 1; the coder writes such a value by itself (`coding.entropy`).
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
MAX_COUNT = 4096      # values of a row; what lies beyond is escaped
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
        if a.ndim != 2 or a.dtype != np.int32 or not 0 < len(a) <= MAX_ROWS or not HEAD + 2 <= a.shape[1] <= HEAD + MAX_COUNT + 1:
            raise ValueError(f"The run's tables of frequencies are damaged: they are {a.dtype} {a.shape}. Copy the run again.")
        low, count = a[:, 0].astype(np.int64), a[:, 1].astype(np.int64)
        used = np.arange(a.shape[1] - HEAD) <= np.clip(count, 0, None)[:, None]  # with the escape
        frequencies = a[:, HEAD:].astype(np.int64)
        if not (
            ((count >= 1) & (count <= a.shape[1] - HEAD - 1)).all()
            and ((low >= -MAX_VALUE) & (low + count <= MAX_VALUE)).all()
            and (np.where(used, frequencies, 1) >= 1).all()
            and (np.where(used, 0, frequencies) == 0).all()
            and (frequencies.sum(1) == TOTAL).all()
        ):
            raise ValueError(f"The run's tables of frequencies are damaged: a row does not sum to {TOTAL:,}. Copy the run again.")

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
        return self.array[row, HEAD : HEAD + self.array[row, 1] + 1].astype(np.int64)

    @cached_property
    def cost(self) -> np.ndarray:
        """The bits of each value of each row and of its escape, float32 [rows, width - 2]; unused places are infinite."""
        with np.errstate(divide="ignore"):
            return (BITS - np.log2(self.array[:, HEAD:])).astype(np.float32)


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


def make_tables(rows: Sequence[Row]) -> np.ndarray:
    """Return int32 [rows, width] of (low, probabilities) rows; what a row lacks to a sum of 1 is its escape's."""
    width = HEAD + 1 + max(len(p) for _, p in rows)
    array = np.zeros((len(rows), width), np.int32)
    for i, (low, p) in enumerate(rows):
        escape = max(0.0, 1.0 - float(p.sum()))
        array[i, :HEAD] = low, len(p)
        array[i, HEAD : HEAD + len(p) + 1] = integer_frequencies(np.append(p, escape))
    return Tables(array).array


def gaussian_tables(scales: Sequence[float]) -> np.ndarray:
    """Return int32 [scales, width]: a Gaussian of mean 0 and each standard deviation, integrated over each integer's unit.

    P(k) = Phi((k + 1/2) / scale) - Phi((k - 1/2) / scale) (Ballé et al. 2018, "Variational image compression with a scale
    hyperprior", equation 5, with the mean removed before rounding as in Minnen et al. 2018).
    """
    rows = []
    for scale in scales:
        reach = LEAST_REACH
        while math.erfc((reach + 0.5) / scale / math.sqrt(2)) > TAIL and 2 * reach + 1 < MAX_COUNT - 2:
            reach += 1
        upper = np.array([math.erfc((k - 0.5) / scale / math.sqrt(2)) / 2 for k in range(reach + 2)])  # P(X > k - 1/2)
        right = upper[:-1] - upper[1:]  # P(0), P(1) ...: differences of upper tails keep their precision
        right[0] = 1 - 2 * upper[1]
        rows.append((-reach, np.concatenate([right[:0:-1], right])))
    return make_tables(rows)


def tables_of_cdf(cdf: Callable[[np.ndarray], np.ndarray], reach: int = 128) -> np.ndarray:
    """Return int32 [rows, width] of cumulative distribution functions, as a factorized prior has one per channel.

    cdf: float64 [n] -> [rows, n], at half-integers. reach: the largest absolute value that is considered at first; it is
    doubled while a row has more than `TAIL` beyond it, up to half of MAX_COUNT.
    """
    while True:
        edges = np.arange(-reach, reach + 2) - 0.5
        c = np.asarray(cdf(edges), np.float64)
        if reach * 4 > MAX_COUNT or (c[:, 0].max() < TAIL / 2 and c[:, -1].min() > 1 - TAIL / 2):
            break
        reach *= 2
    rows = []
    for row in c:
        p = np.clip(np.diff(row), 0, None)
        center = int(np.searchsorted(row, 0.5)) - 1  # the median's place
        first = int(np.searchsorted(row, TAIL / 2, "right")) - 1
        last = int(np.searchsorted(row, 1 - TAIL / 2, "left"))  # values first .. last - 1 hold all but TAIL
        first = max(0, min(first, center - LEAST_REACH))
        last = min(len(p), max(last, center + LEAST_REACH + 1))
        rows.append((first - reach, p[first:last]))
    return make_tables(rows)
