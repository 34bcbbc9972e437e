"""Texts to tokens without a vocabulary file: words and their letters, hashed. This file needs Python and numpy alone.

    "a Red heart!"  ->  words a, red, heart  ->  a row of tokens for each: the word, and its groups of three letters

A word is one token and each three letters of `<word>` are another, as in Bojanowski et al. 2017, "Enriching word
vectors with subword information", section 3.2 (theirs have three to six letters): a word that was never seen, or is
misspelled, shares tokens with its relatives. Tokens are hashes modulo the size of a table (Weinberger et al. 2009,
"Feature hashing"), so that every text has tokens, in any script, and two words rarely share one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from zlib import crc32

import numpy as np

LONGEST = 10_000  # characters of a text that are read
LETTERS = 3  # of a group
_ASCII = re.compile(r"[a-z0-9]+|[$+<=>^`|~]")  # words and symbols, as `_words` finds them, many times as fast


def words(text: str) -> list[str]:
    """Return the words of a text, in lower case.

    A word is a run of letters, digits and marks; an apostrophe inside a word is left out. Ideographs and kana, which
    are written without spaces, and symbols such as emoji are words of their own; punctuation and invisible characters
    separate nothing that spaces do not.
    """
    text = text[:LONGEST]
    return _ASCII.findall(text.lower().replace("'", "")) if text.isascii() else _words(text)


def _words(text: str) -> list[str]:
    """Return the words of a text by the Unicode categories of its characters."""
    found = [""]
    for character in unicodedata.normalize("NFKC", text).casefold():
        kind = unicodedata.category(character)
        if kind[0] in "LN" and not _stands_alone(character):
            found[-1] += character
        elif kind[0] == "M":
            found[-1] += character if found[-1] else ""
        elif kind[0] == "S" or kind[0] in "LN":
            found += [character, ""]
        elif kind not in ("Cf", "Cs") and character not in "'’":
            found.append("")
    return [word for word in found if word]


def _stands_alone(character: str) -> bool:
    """Return whether a letter is an ideograph or kana."""
    return "\u3040" <= character <= "\u30ff" or "\u3400" <= character <= "\u9fff" or character >= "\U00020000"


def encode(texts: Sequence[str], vocabulary: int, most_words: int, word_tokens: int) -> np.ndarray:
    """Return the tokens of texts, int64 [N, most_words * word_tokens]: those of a word side by side; 0 where there is
    none."""
    made = np.zeros((len(texts), most_words, word_tokens), np.int64)
    for row, text in zip(made, texts, strict=True):
        for place, word in zip(row, words(text), strict=False):
            found = tokens_of(word, vocabulary, word_tokens)
            place[: len(found)] = found
    return made.reshape(len(texts), -1)


@lru_cache(maxsize=65_536)
def tokens_of(word: str, vocabulary: int, most: int) -> list[int]:
    """Return at most `most` tokens of a word, each in [1, vocabulary)."""
    return [1 + crc32(part.encode("utf-8", "replace")) % (vocabulary - 1) for part in _parts(word)][:most]


def _parts(word: str) -> Iterator[str]:
    """Yield the word, and its groups of letters with marks of its start and end."""
    yield f"= {word}"
    marked = f"<{word}>"
    for start in range(len(marked) - LETTERS + 1):
        yield marked[start : start + LETTERS]
