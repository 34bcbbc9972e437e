"""The entropy coder: integers and the rows of their frequency tables to bytes and back, exactly and on any machine.

The coder is asymmetric numeral systems (Duda et al. 2015) of the package `constriction`: a stack, so that what is pushed last
is popped first. Its `Categorical` takes floating-point probabilities p_i and, with `perfect=False`, gives symbol i of n the
interval that begins at

    floor(C_i * (2^24 - n) / sum(p)) + i        with C_i = p_0 + ... + p_(i-1)

in ordered IEEE operations without a library function. Here the p_i are integer frequencies of sum 2^16 in float64: C_i is an
exact integer, the division is by a power of two, and the product is below 2^53. No operation rounds, so the intervals are the
integers floor(C_i * (2^24 - n) / 2^16) + i on every machine; a test reads them out of the coder.

A value outside of its row is written as the row's escape, and its distance to the row by an Elias gamma code (Elias 1975).

At the bottom of the stack lies a CRC-32 of the decoded values and of a context that the caller states, such as a file's header.
It is there that a checksum costs least: an empty stack wastes up to 24 bits on its first symbol. As it covers what is decoded,
not the bytes, a decoder that departs from the encoder is noticed too.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from limner.coding.tables import MAX_VALUE, Tables

GAMMA = 24  # the Elias gamma code has up to GAMMA - 1 bits after the first: distances below 2^24 - 1
MISSING = (
    "Compressing pictures needs the entropy coder constriction, which is not installed: `pip install 'limner[codec]'` adds it."
)
DAMAGED = "its compressed data is damaged"


class Corrupt(ValueError):
    """Raised for compressed data that no encoder has written; the message is the reason in a few words."""


def _stream() -> Any:
    """Return constriction's module of stream coders. Raises ValueError when the package is missing."""
    try:
        from constriction import stream
    except Exception as error:  # a broken binary package may raise anything at import
        raise ValueError(MISSING) from error
    return stream


def check_installed() -> None:
    """Raise ValueError unless the package constriction is installed."""
    _stream()


class Coder:
    """The models of a set of tables, each built once: a row is used by every stream."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self._models: dict[int, Any] = {}

    def model(self, row: int) -> Any:
        if row not in self._models:
            self._models[row] = categorical(self.tables.frequencies(row))
        return self._models[row]

    def bits(self, values: np.ndarray, rows: np.ndarray) -> float:
        """Return the ideal code length of values with the tables' rows, both of one shape, in bits, escapes included."""
        values, rows = values.astype(np.int64).ravel(), rows.astype(np.int64).ravel()
        index, escaped = _indices(values, rows, self.tables)
        cost = float(self.tables.cost[rows, index].sum(dtype=np.float64))
        u = _distances(values[escaped], rows[escaped], self.tables) + 1
        return cost + float((2 * np.floor(np.log2(u)) + 1).sum()) if len(u) else cost


def categorical(frequencies: np.ndarray) -> Any:
    """Return constriction's model of integer frequencies whose sum is a power of two."""
    return _stream().model.Categorical(frequencies.astype(np.float64), perfect=False)


def _length_model() -> Any:
    """The model of the Elias gamma code's unary part: P(length) = 2^-(length + 1)."""
    lengths = np.array([1 << (GAMMA - 1 - k) for k in range(GAMMA)], np.int64)
    lengths[-1] += 1  # the sum is 2^GAMMA
    return categorical(lengths)


def _indices(values: np.ndarray, rows: np.ndarray, tables: Tables) -> tuple[np.ndarray, np.ndarray]:
    """Return (place of each value in its row, that of the escape if it is outside; whether it is outside)."""
    index, count = values - tables.low[rows], tables.count[rows]
    escaped = (index < 0) | (index >= count)
    return np.where(escaped, count, index), escaped


def _distances(values: np.ndarray, rows: np.ndarray, tables: Tables) -> np.ndarray:
    """Return the escape codes >= 0 of values outside of their rows: 0, 2, 4 ... above it, 1, 3, 5 ... below it."""
    low, count = tables.low[rows], tables.count[rows]
    return np.where(values >= low + count, 2 * (values - low - count), 2 * (low - 1 - values) + 1)


Part = tuple[np.ndarray, np.ndarray, Coder]  # integer values, the row of each, their tables


def encode(parts: Sequence[Part], context: bytes = b"") -> bytes:
    """Return the code of integer values, in the order in which the decoder pops them.

    context: bytes that the decoder must state too; they are not stored. Raises ValueError for values beyond MAX_VALUE, which a
    healthy network never gives.
    """
    flat = [(values.astype(np.int64).ravel(), rows.astype(np.int64).ravel(), coder) for values, rows, coder in parts]
    check = zlib.crc32(context)
    for values, _, _ in flat:
        if len(values) and int(np.abs(values).max()) > MAX_VALUE:
            raise ValueError("The network's latents of this picture are too large to be coded: train the run anew.")
        check = _extended(check, values)
    stack = _stream().stack.AnsCoder(_bottom(check))
    for values, rows, coder in reversed(flat):
        _push(stack, values, rows, coder)
    words: np.ndarray = stack.get_compressed()
    return words.astype("<u4").tobytes().rstrip(b"\0")


def _extended(check: int, values: np.ndarray) -> int:
    """Return the CRC-32 of what `check` covers, followed by integers [n] as little-endian 32-bit integers."""
    return zlib.crc32(values.astype("<i4", copy=False).tobytes(), check)


def _bottom(check: int) -> np.ndarray:
    return np.array([check or 1], np.uint32)  # the lowest word is never 0


def _push(stack: Any, values: np.ndarray, rows: np.ndarray, coder: Coder) -> None:
    """Push values grouped by row, each group in one call."""
    index, escaped = _indices(values, rows, coder.tables)
    if escaped.any():
        _push_distances(stack, _distances(values[escaped], rows[escaped], coder.tables))
    order = np.argsort(rows.astype(np.uint16), kind="stable")  # a radix sort: rows are below MAX_ROWS
    ends = np.cumsum(np.bincount(rows, minlength=len(coder.tables)))
    index = index[order].astype(np.int32)
    for row in reversed(np.flatnonzero(np.diff(ends, prepend=0)).tolist()):
        begin = int(ends[row - 1]) if row else 0
        stack.encode_reverse(index[begin : int(ends[row])], coder.model(row))


def _push_distances(stack: Any, distances: np.ndarray) -> None:
    u = distances + 1
    lengths = np.frexp(u.astype(np.float64))[1].astype(np.int64) - 1  # floor(log2 u), exact
    bit = categorical(np.array([1, 1]))
    for k in range(int(lengths.max())):
        stack.encode_reverse((u[lengths > k] >> k & 1).astype(np.int32), bit)
    stack.encode_reverse(lengths.astype(np.int32), _length_model())


class Decoder:
    """Reads integers back, in the order of `encode`. Raises Corrupt for bytes that it has not written."""

    def __init__(self, content: bytes, context: bytes = b"") -> None:
        if content.endswith(b"\0"):
            raise Corrupt(DAMAGED)
        words = np.frombuffer(content + b"\0" * (-len(content) % 4), "<u4").astype(np.uint32)
        self._stack = _stream().stack.AnsCoder(words)
        self._check = zlib.crc32(context)

    def pop(self, rows: np.ndarray, coder: Coder) -> np.ndarray:
        """Pop one value for each row [n] of the tables; return int32 [n]."""
        rows = rows.astype(np.uint16).ravel()  # rows are below MAX_ROWS
        order = np.argsort(rows, kind="stable")  # a radix sort
        counts = np.bincount(rows, minlength=len(coder.tables))
        grouped, places, begin = np.empty(len(rows), np.int32), [], 0
        for row in np.flatnonzero(counts).tolist():
            end = begin + int(counts[row])
            index = self._stack.decode(coder.model(row), end - begin)
            places.append(begin + np.flatnonzero(index == coder.tables.count[row]))
            np.add(index, coder.tables.low[row], out=grouped[begin:end], casting="same_kind")
            begin = end
        values = np.empty_like(grouped)
        values[order] = grouped
        escaped = np.sort(order[np.concatenate(places)]) if places else np.empty(0, np.int64)
        if len(escaped):
            distances = self._pop_distances(len(escaped))
            low, count = coder.tables.low[rows[escaped]], coder.tables.count[rows[escaped]]
            found = np.where(distances % 2 == 0, low + count + distances // 2, low - 1 - distances // 2)
            if int(np.abs(found).max()) > MAX_VALUE:
                raise Corrupt(DAMAGED)
            values[escaped] = found
        self._check = _extended(self._check, values)
        return values

    def _pop_distances(self, n: int) -> np.ndarray:
        lengths = np.asarray(self._stack.decode(_length_model(), n), np.int64)
        bit = categorical(np.array([1, 1]))
        u = np.int64(1) << lengths
        for k in reversed(range(int(lengths.max()))):
            longer = lengths > k
            u[longer] |= np.asarray(self._stack.decode(bit, int(longer.sum())), np.int64) << k
        return u - 1

    def finish(self) -> None:
        """Raise Corrupt unless all was read, and the context and all values are those that were written."""
        if not np.array_equal(self._stack.get_compressed(), _bottom(self._check)):
            raise Corrupt(DAMAGED)
