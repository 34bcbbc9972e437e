"""Frozen vectors of words: what they are, how they are cached and described, and what is said where they are missing."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from limner.core import wordllama
from limner.core.condition import Condition
from limner.core.tokenizer import Tokenizer
from limner.core.wordllama import CHANGED, FILES, MISSING, WORD_SIZE, WordLlama, installed, tokenizer_of

needs_vectors = pytest.mark.skipif(not importlib.util.find_spec("wordllama"), reason="pip install 'limner[text]'")


def similar(a: str, b: str) -> float:
    found = WordLlama(4).encode([a, b]).unflatten(1, (4, WORD_SIZE)).sum(1)
    return F.cosine_similarity(found[:1], found[1:]).item()


@needs_vectors
def test_words_of_like_meaning_are_near() -> None:
    near = [("kitten", "cat"), ("physician", "doctor"), ("happy", "glad"), ("car", "vehicle")]
    far = [("kitten", "bridge"), ("car", "banana"), ("happy", "ship"), ("big", "doctor")]
    assert min(similar(*pair) for pair in near) > 0.4 > 0.2 > max(similar(*pair) for pair in far)


@needs_vectors
def test_a_text_is_its_words_side_by_side() -> None:
    texts = ["A red heart!", "red", "one two three four five six", "قلب ❤ 心"]
    made = WordLlama(4).encode(texts)
    assert made.shape == (4, 4 * WORD_SIZE) and made.dtype == torch.float32 and made.isfinite().all()
    rows = made.unflatten(1, (4, WORD_SIZE))
    assert (rows != 0).any(2).tolist() == [[True] * 3 + [False], [True] + [False] * 3, [True] * 4, [True] * 3 + [False]]
    assert torch.equal(rows[0, 1], rows[1, 0]), "a word has one vector wherever it stands"
    assert 0.3 < rows[(rows != 0).any(2)].square().mean() < 3, "of about unit variance, as networks expect a condition"
    assert torch.equal(WordLlama(6).encode(texts)[2].unflatten(0, (6, WORD_SIZE))[:4], rows[2])
    assert WordLlama(4).encode([]).shape == (0, 4 * WORD_SIZE)
    assert not WordLlama(4).encode(["..."]).any()


@needs_vectors
def test_a_word_is_the_sum_of_its_pieces() -> None:
    vectors, pieces = installed()
    assert vectors.shape == (32_000, WORD_SIZE)
    ids = pieces.encode("firefighter", add_special_tokens=False).ids
    assert len(ids) > 1
    wanted = vectors[ids].float().sum(0) / len(ids) ** 0.5
    torch.testing.assert_close(WordLlama(1).encode(["firefighter"])[0], wanted)
    wordllama._vector.cache_clear()
    WordLlama(3).encode(["red heart red"] * 5)
    found = wordllama._vector.cache_info()
    assert (found.misses, found.hits) == (2, 13), "each word is looked up once"


def test_descriptions() -> None:
    described = WordLlama(7).to_json()
    assert described == {"kind": "wordllama", "words": 7, "vectors": FILES[wordllama.VECTORS], "pieces": FILES[wordllama.PIECES]}
    assert tokenizer_of(described) == WordLlama(7) and WordLlama(7).condition == Condition.vector(7 * 256)
    assert tokenizer_of(Tokenizer(300, 4, 6).to_json()) == Tokenizer(300, 4, 6)
    for change, said in (({"words": 0}, "above 0"), ({"words": "4"}, "above 0"), ({"vectors": "0" * 64}, "another release"), ({"pieces": None}, "another release")):
        with pytest.raises(ValueError, match=said):
            tokenizer_of(described | change)
    with pytest.raises(ValueError, match="unknown"):
        tokenizer_of({"kind": "magic"})


@pytest.fixture
def unread() -> object:
    """Nothing is cached before the test, nor after it."""
    for cached in (installed, wordllama._vector):
        cached.cache_clear()
    yield
    for cached in (installed, wordllama._vector):
        cached.cache_clear()


def test_a_package_that_is_missing_or_another_is_a_sentence(unread: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError) as missing:
        WordLlama(3).encode(["red"])
    assert str(missing.value) == MISSING and "pip install 'limner[text]'" in MISSING
    pytest.importorskip("tokenizers")
    (tmp_path / "__init__.py").touch()
    spec = importlib.util.spec_from_file_location("wordllama", tmp_path / "__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    for name in (None, *FILES):  # files that are missing, and files of another release
        if name:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(b"another")
        with pytest.raises(ValueError) as changed:
            WordLlama(3).encode(["red"])
        assert str(changed.value) == CHANGED
