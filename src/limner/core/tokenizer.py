"""The tokenizer of a run: the sizes of its tokens, and texts as tensors (`core.hashing`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from limner.core import hashing
from limner.core.condition import Condition


@dataclass(frozen=True)
class Tokenizer:
    """Texts to tokens.

    vocabulary: size of the table of hashes. words: read of a text; further ones are ignored. word_tokens: of a word; a
    longer word's last letters are in none but the word's own.
    """

    vocabulary: int = 8192
    words: int = 24
    word_tokens: int = 12

    @property
    def condition(self) -> Condition:
        """The condition of networks that take these tokens."""
        return Condition.tokens(self.vocabulary, self.words * self.word_tokens)

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Return the tokens of texts, int64 [N, words * word_tokens]: those of a word side by side; 0 where there is
        none."""
        return torch.from_numpy(hashing.encode(texts, self.vocabulary, self.words, self.word_tokens))

    def to_json(self) -> dict[str, Any]:
        """The description in `limner.json`; `from_json` is its inverse."""
        return {"kind": "hashed", **asdict(self)}

    @staticmethod
    def from_json(document: dict[str, Any]) -> Tokenizer:
        """The tokenizer of a description. Raises ValueError for an unknown kind, and for sizes that are none."""
        if document.get("kind") != "hashed":
            raise ValueError(f"The tokenizer {document.get('kind')!r} is unknown: update Limner.")
        sizes: dict[str, Any] = {name: document.get(name) for name in ("vocabulary", "words", "word_tokens")}
        if wrong := next((name for name, size in sizes.items() if not isinstance(size, int) or size < 1), None):
            raise ValueError(f"The description of the tokenizer is damaged: {wrong} must be a whole number above 0.")
        return Tokenizer(**sizes)
