"""Frozen vectors of words from the package `wordllama`: a table of 32,000 pieces of words, and how words are cut.

    "a Red heart!"  ->  words a, red, heart  ->  a vector of each: the sum of its pieces' vectors, over the root of
                                                 their number

The table is that of WordLlama (Miller 2024, "WordLlama: Recycled token embeddings from large language models"):
embeddings of large language models' tokens, trained further and reduced to 256 numbers, such that their mean over a
text shows what it is about. The two files lie in the package's wheel (33 MB) and are read from there, without a
download and without running its code; they are those of one release, known by their SHA-256.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load
from torch import Tensor

from limner.core.condition import Condition
from limner.core.files import read_bytes
from limner.core.hashing import words
from limner.core.tokenizer import Tokenizer

WORD_SIZE = 256  # numbers of a vector
VECTORS, PIECES = "weights/l2_supercat_256.safetensors", "tokenizers/l2_supercat_tokenizer_config.json"
FILES = {  # in the package's folder -> SHA-256 of wordllama 0.4.0.post1
    VECTORS: "64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5",
    PIECES: "93248f2a9ec36c7b35f700a033d5f36228aae48db61aee31007fa49062cdeb68",
}
MAX_BYTES = 64 << 20  # of a file
MISSING = "The word vectors of WordLlama are not installed: `pip install 'limner[text]'` adds them."
CHANGED = "The installed wordllama is not the release that Limner takes: `pip install 'limner[text]'` replaces it."


@dataclass(frozen=True)
class WordLlama:
    """Texts to frozen vectors of their words; a word is looked up once in a process. words: read of a text.

    Creating one does not read the files; `encode` raises ValueError when the package is not installed, or is another
    release.
    """

    words: int = 24

    @property
    def condition(self) -> Condition:
        """The condition of networks that take these vectors."""
        return Condition.vector(self.words * WORD_SIZE)

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Return the vectors of texts, float32 [N, words * WORD_SIZE]: word after word; 0 where there is none."""
        made = torch.zeros(len(texts), self.words, WORD_SIZE)
        for row, text in zip(made, texts, strict=True):
            found = words(text)[: self.words]
            if found:
                row[: len(found)] = torch.stack([_vector(word) for word in found])
        return made.flatten(1)

    def to_json(self) -> dict[str, Any]:
        """The description in `limner.json`; `from_json` is its inverse."""
        return {"kind": "wordllama", "words": self.words, "vectors": FILES[VECTORS], "pieces": FILES[PIECES]}

    @staticmethod
    def from_json(document: dict[str, Any]) -> WordLlama:
        """The tokenizer of a description. Raises ValueError for other files than Limner's, and for a number of words
        that is none."""
        count = document.get("words")
        if not isinstance(count, int) or count < 1:
            raise ValueError("The description of the word vectors is damaged: words must be a whole number above 0.")
        if (document.get("vectors"), document.get("pieces")) != (FILES[VECTORS], FILES[PIECES]):
            raise ValueError("The run was trained with word vectors of another release: use its version of Limner.")
        return WordLlama(count)


AnyTokenizer = Tokenizer | WordLlama


def tokenizer_of(document: dict[str, Any]) -> AnyTokenizer:
    """The tokenizer of a description in `limner.json`. Raises ValueError for an unknown kind, and for a damaged
    description."""
    return (WordLlama if document.get("kind") == "wordllama" else Tokenizer).from_json(document)


@lru_cache(maxsize=65_536)
def _vector(word: str) -> Tensor:
    """Return the vector of a word, float32 [WORD_SIZE]."""
    vectors, pieces = installed()
    found = pieces.encode(word, add_special_tokens=False).ids
    return vectors[found].float().sum(0) / max(1, len(found)) ** 0.5


@cache
def installed() -> tuple[Tensor, Any]:
    """Return the vectors float16 [32000, WORD_SIZE] of the installed package, and what cuts a word into pieces.

    Raises ValueError when the package is not installed, or is another release.
    """
    package = importlib.util.find_spec("wordllama")  # found, not imported
    try:
        from tokenizers import Tokenizer as Pieces
    except ImportError as error:
        raise ValueError(MISSING) from error
    if package is None or package.origin is None:
        raise ValueError(MISSING)
    content = {}
    for name, wanted in FILES.items():
        try:
            content[name] = read_bytes(Path(package.origin).parent / name, MAX_BYTES)
        except FileNotFoundError:
            raise ValueError(CHANGED) from None
        if hashlib.sha256(content[name]).hexdigest() != wanted:
            raise ValueError(CHANGED)
    return load(content[VECTORS])["embedding.weight"], Pieces.from_buffer(content[PIECES])
