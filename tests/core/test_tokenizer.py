"""Words and letters of texts in any script, as numbers."""

from __future__ import annotations

import random

import pytest
import torch

from limner.core.hashing import LONGEST, _words, words
from limner.core.tokenizer import Tokenizer

TOKENIZER = Tokenizer(vocabulary=1000, words=4, word_tokens=6)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A Red, heart!", ["a", "red", "heart"]),
        ("woman firefighter: dark skin tone", ["woman", "firefighter", "dark", "skin", "tone"]),
        ("the dog's ball", ["the", "dogs", "ball"]),
        ("medium-dark", ["medium", "dark"]),
        ("  \n\t", []),
        ("...!?", []),
        ("", []),
        ("ＦＵＬＬ width №5", ["full", "width", "no5"]),
        ("قلب أحمر", ["قلب", "أحمر"]),
        ("\u202eevil\u2069 text", ["evil", "text"]),
        ("赤い心", ["赤", "い", "心"]),
        ("हिंदी शब्द", ["हिंदी", "शब्द"]),
        ("a ❤️ and 👩🏿‍🚒", ["a", "❤", "and", "👩", "🏿", "🚒"]),
        ("\ud800broken", ["broken"]),
    ],
)
def test_words_of_any_script(text: str, found: list[str]) -> None:
    assert words(text) == found


def test_the_fast_path_of_ascii_gives_the_same_words() -> None:
    rng = random.Random(0)
    for _ in range(300):
        text = "".join(chr(rng.randrange(128)) for _ in range(40))
        assert words(text) == _words(text), repr(text)


def test_tokens_stay_in_their_table_and_padding_is_zero() -> None:
    c = TOKENIZER.encode(["a red heart", "", "x " * 9]).unflatten(1, (4, 6))
    assert c.dtype == torch.long and c.shape == (3, 4, 6)
    assert int(c.max()) < 1000 and int(c.min()) == 0
    assert (c[0, :3, 0] > 0).all() and not c[0, 3].any()
    assert not c[1].any()
    assert (c[2, :, 0] > 0).all()  # four of nine words
    assert TOKENIZER.condition.size == 1000 and TOKENIZER.condition.length == 24


def test_relatives_share_letters_and_order_is_kept() -> None:
    tokenizer = Tokenizer()
    one, two, three = tokenizer.encode(["firefighter", "firefighters", "pilot"]).tolist()
    shared = (set(one) & set(two)) - {0}
    assert len(shared) >= 9 and not (set(one) & set(three)) - {0}
    a, b = tokenizer.encode(["red heart", "heart red"]).unflatten(1, (24, 12))
    assert torch.equal(a[0], b[1]) and torch.equal(a[1], b[0])


def test_the_tokens_of_a_word_never_change() -> None:
    # a trained table is read with these numbers, on every machine and version
    assert TOKENIZER.encode(["Red"])[0, :6].tolist() == [838, 72, 346, 787, 0, 0]


def test_huge_texts_are_cut() -> None:
    assert len(words("ab " * LONGEST)) == -(-LONGEST // 3)
    assert TOKENIZER.encode(["x" * 10**6]).any()


def test_the_description_is_read_back() -> None:
    assert Tokenizer.from_json(TOKENIZER.to_json()) == TOKENIZER
    with pytest.raises(ValueError, match="unknown"):
        Tokenizer.from_json({"kind": "magic"})
    for wrong in ({}, {"vocabulary": "many"}, {"words": 0}):
        document = TOKENIZER.to_json() | wrong if wrong else {"kind": "hashed"}
        with pytest.raises(ValueError, match="damaged"):
            Tokenizer.from_json(document)
