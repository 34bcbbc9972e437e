"""The entropy coder: exact integers, the ideal length, escapes, and foreign bytes."""

from __future__ import annotations

import builtins
import math
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.coding.entropy import Coder, Corrupt, Decoder, categorical, encode
from limner.coding.tables import MAX_VALUE, TOTAL, Tables, gaussian_tables, integer_frequencies

SCALES = np.exp(np.linspace(math.log(0.11), math.log(64), 64))
CODER = Coder(Tables(gaussian_tables(SCALES.tolist())))


def decoded(content: bytes, rows: np.ndarray, context: bytes = b"") -> np.ndarray:
    decoder = Decoder(content, context)
    values = decoder.pop(rows, CODER)
    decoder.finish()
    return values


def test_the_coders_intervals_are_the_integers_of_the_docstring() -> None:
    """Both sides of every boundary, read out of the coder: a state 2^32 + q decodes the symbol whose interval holds q."""
    from constriction import stream

    rng = np.random.default_rng(0)
    for p in (np.ones(2), rng.random(5) ** 9, rng.random(300) ** 20, np.r_[1.0, np.zeros(700)], rng.random(2000)):
        f = integer_frequencies(p)
        model, n = categorical(f), len(f)
        left = [int(c) * ((1 << 24) - n) // TOTAL + i for i, c in enumerate(np.cumsum(f) - f)]
        for i, begin in enumerate(left):
            end = left[i + 1] if i + 1 < n else 1 << 24
            for q in (begin, end - 1):
                assert stream.stack.AnsCoder(np.array([q, 1], np.uint32)).decode(model) == i


def test_bytes_are_those_of_every_machine() -> None:
    """Recorded once: another version of the coder, or another machine, must read the files of this one."""
    values, rows = np.array([0, 1, -3, 40, -300, 7, 0, 0]), np.array([0, 5, 20, 50, 63, 20, 1, 1])
    assert encode([(values, rows, CODER)], b"limner").hex() == "03feffab31ffff888f14cca9b703"


@given(st.lists(st.tuples(st.integers(0, 63), st.integers(-MAX_VALUE, MAX_VALUE) | st.integers(-9, 9)), max_size=60))
@settings(max_examples=150, deadline=None)
def test_any_values_come_back(pairs: list[tuple[int, int]]) -> None:
    rows, values = np.array([p[0] for p in pairs], np.int64), np.array([p[1] for p in pairs], np.int64)
    content = encode([(values, rows, CODER)])
    assert (decoded(content, rows) == values).all()
    assert len(content) * 8 <= CODER.bits(values, rows) * 1.001 + 32 + 8 + 1


def test_parts_are_popped_in_order_and_rows_may_follow_from_what_was_popped() -> None:
    rng = np.random.default_rng(1)
    z = rng.integers(-2, 3, 40)
    rows = np.abs(z) * 10
    y = np.rint(rng.normal(size=40) * SCALES[rows]).astype(np.int64)
    decoder = Decoder(encode([(z, np.full(40, 30), CODER), (y, rows, CODER)]))
    first = decoder.pop(np.full(40, 30), CODER)
    second = decoder.pop(np.abs(first) * 10, CODER)
    decoder.finish()
    assert (first == z).all() and (second == y).all()


def test_length_is_within_a_percent_of_the_gaussians_own() -> None:
    """Not of the tables' but of the distribution they stand for: what training estimates."""
    rng = np.random.default_rng(2)
    rows = rng.integers(0, 64, 50_000)
    values = np.rint(rng.normal(size=len(rows)) * SCALES[rows]).astype(np.int64)
    scale = SCALES[rows]
    upper, lower = (np.abs(values) + 0.5) / scale / 2**0.5, (np.abs(values) - 0.5) / scale / 2**0.5
    ideal = -sum(math.log2((math.erfc(b) - math.erfc(a)) / 2) for a, b in zip(upper, lower, strict=True))
    length = len(encode([(values, rows, CODER)])) * 8
    assert ideal * 0.999 < length < ideal * 1.002, (ideal, length)


def test_a_flipped_bit_a_cut_and_another_context_are_noticed() -> None:
    rng = np.random.default_rng(3)
    rows = rng.integers(0, 64, 300)
    values = np.rint(rng.normal(size=300) * SCALES[rows]).astype(np.int64)
    content = encode([(values, rows, CODER)], b"header")
    assert (decoded(content, rows, b"header") == values).all()
    bad = [content[:-1], content[:5], b"", content + b"\1", content + b"\0", content[1:]]
    bad += [content[:i] + bytes([content[i] ^ 1 << i % 8]) + content[i + 1 :] for i in range(len(content))]
    for one in bad:
        with pytest.raises(Corrupt):
            decoded(one, rows, b"header")
    with pytest.raises(Corrupt):
        decoded(content, rows, b"Header")


def test_values_beyond_the_limit_are_refused() -> None:
    with pytest.raises(ValueError, match="train the run anew"):
        encode([(np.array([MAX_VALUE + 1]), np.array([0]), CODER)])


def test_a_missing_constriction_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *arguments: Any) -> Any:
        if name.startswith("constriction"):
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", refuse)
    for name in [name for name in sys.modules if name.startswith("constriction")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ValueError, match=r"pip install 'limner\[codec\]'"):
        Decoder(b"")
