"""The condition of a network, besides a latent or an image: nothing, a class, a vector of numbers, or text tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

UNLABELED = -1  # the label of a picture whose class is unknown, in a set of which only some pictures have one
TENSORS = {"classes": "label", "vector": "vector", "tokens": "tokens"}  # kind -> the name of its tensor in a batch


@dataclass(frozen=True)
class Condition:
    """The kind and size of a condition; the data decides it (`core.images.ImageSpec.condition`). False where there is none.

    A batch holds the condition `c` under a name of its own:

        kind      in a batch    c
        none      -             None
        classes   label         int64 [N], in [0, size)
        vector    vector        float32 [N, size], about zero mean and unit variance: networks do not scale it
        tokens    tokens        int64 [N, length], in [0, size); 0 pads the end of a shorter text

    Raises ValueError for sizes that the kind cannot have.
    """

    kind: str = "none"
    size: int = 0  # classes, numbers of the vector, or entries of the vocabulary, the padding among them
    length: int = 0  # most tokens of a text

    def __post_init__(self) -> None:
        least = {"none": 0, "classes": 1, "vector": 1, "tokens": 2}
        if self.kind not in least:
            raise ValueError(f"A condition is one of {', '.join(least)}, not {self.kind!r}.")
        if self.size < least[self.kind] or (self.kind == "none" and self.size):
            raise ValueError(f"A condition of kind {self.kind!r} cannot have size {self.size}.")
        if (self.kind == "tokens") != (self.length > 0) or self.length < 0:
            raise ValueError(f"A condition of kind {self.kind!r} cannot have length {self.length}.")

    @staticmethod
    def none() -> Condition:
        """No condition."""
        return NONE

    @staticmethod
    def classes(count: int) -> Condition:
        """One of `count` classes; `classes(0)` is no condition."""
        return Condition("classes", count) if count else NONE

    @staticmethod
    def vector(size: int) -> Condition:
        """`size` real numbers."""
        return Condition("vector", size)

    @staticmethod
    def tokens(vocabulary: int, length: int) -> Condition:
        """At most `length` tokens out of `vocabulary`, of which 0 is the padding."""
        return Condition("tokens", vocabulary, length)

    def __bool__(self) -> bool:
        return self.kind != "none"

    def __str__(self) -> str:
        names = {"none": "no condition", "classes": f"{self.size:,} classes", "vector": f"vectors of {self.size:,} numbers"}
        return names.get(self.kind, f"texts of up to {self.length:,} tokens")

    def examples(self, n: int) -> Tensor | None:
        """`n` conditions that cover the kind: the classes in turn, else random vectors or texts. -> c, or None"""
        if self.kind == "classes":
            return torch.arange(n) % self.size  # [N]
        if self.kind == "vector":
            return torch.randn(n, self.size)  # [N,D]
        if self.kind == "tokens":
            c = torch.randint(1, self.size, (n, self.length))  # [N,L]
            return c * (torch.arange(self.length) < torch.randint(1, self.length + 1, (n, 1)))
        return None

    def require_classes(self, feature: str) -> int:
        """The number of classes, 0 where there is no condition. Raises ValueError where images have another condition.

        feature: what needs classes, the subject of the sentence.
        """
        if self.kind not in ("none", "classes"):
            raise ValueError(f"{feature} needs classes, and these images have {self}: train without the condition.")
        return self.size


NONE = Condition()


def class_counts(labels: Tensor, classes: int) -> list[int]:
    """The number of pictures of each class. labels: int64 [N]; those that are UNLABELED count for no class."""
    return torch.bincount(labels[labels != UNLABELED], minlength=classes).tolist()
