"""Conditioning of networks: `encode` converts any kind of condition to a row of numbers, and embeddings are linear in it.

    kind       c                   encode(condition, c)
    classes    int64 [N]           one-hot, [N,K]
               float [N,K]         the weights of a blend of classes themselves, [N,K]
    vector     float [N,D]         the vector itself, [N,D]
    tokens     int64 [N,L]         each token's share of the text, and the share of padded positions in column 0, [N,V]

The embedding of a text is thus the mean of its tokens' embeddings, whatever their order, plus a term for its length.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.core.condition import Condition


def encode(condition: Condition, c: Tensor | None) -> Tensor:
    """A condition as a row of numbers that a linear map can read. c -> float [N, condition.size]"""
    c = checked(condition, c)
    if condition.kind == "classes":
        return c.float() if blends(condition, c) else F.one_hot(c, condition.size).float()
    if condition.kind == "vector":
        return c.float()
    shares = _shares(c)
    return torch.zeros(len(c), condition.size, device=c.device).scatter_add(1, c, shares)


def checked(condition: Condition, c: Tensor | None) -> Tensor:
    """`c` itself; it must be a tensor of the shape and type that `core.condition.Condition` states, or a blend of classes."""
    assert c is not None, f"this network is conditioned on {condition}: give it the condition c"
    if blends(condition, c):
        return c
    shape = {"classes": (), "vector": (condition.size,), "tokens": (condition.length,)}[condition.kind]
    assert c.shape[1:] == shape, f"a condition on {condition} has the shape {['N', *shape]}, not {list(c.shape)}"
    assert c.is_floating_point() == (condition.kind == "vector"), f"a condition on {condition} cannot be of {c.dtype}"
    return c


def blends(condition: Condition, c: Tensor) -> bool:
    """Whether c gives each sample a weight for each class, float [N,K], instead of one class: its embedding is the weighted sum
    of the classes' embeddings."""
    return condition.kind == "classes" and c.is_floating_point() and c.shape[1:] == (condition.size,)


def given_vectors(condition: Condition, size: int) -> tuple[Condition, nn.Buffer | None]:
    """The condition of the inside of a network whose classes have given vectors of `size` numbers, and the buffer [K,size] for them, zeros;
    with size 0 the condition itself and no buffer. Raises ValueError for a condition that is not classes."""
    if not size:
        return condition, None
    if condition.kind != "classes":
        raise ValueError(f"Vectors can stand for classes, not for {condition}: leave vectors at 0.")
    return Condition.vector(size), nn.Buffer(torch.zeros(condition.size, size))


def vector_of(vectors: Tensor | None, c: Tensor | None) -> Tensor | None:
    """The given vector of each class, [N] -> [N,D], or the mean of those of a blend [N,K]; c itself where no vectors are given."""
    if vectors is None or c is None:
        return c
    return c.to(vectors.dtype) @ vectors if c.is_floating_point() else F.embedding(c, vectors)


def _shares(c: Tensor) -> Tensor:
    """The weight of each position in the mean over a text, and of the padding by the padded share. [N,L] -> [N,L]"""
    real = c != 0
    length = real.sum(1, keepdim=True).clamp_min(1)
    return torch.where(real, 1 / length, 1 / c.shape[1])


class ConditionEmbedding(nn.Module):
    """The embedding of a condition, `encode(c) @ table (+ bias)`. c -> [N,width]

    Classes and tokens are looked up in the table. At the start, table entries are N(0,1), divided by sqrt(D) for a vector of
    D numbers, so that all kinds give about the same variance. A bias, which classes do not need, starts at zero.
    """

    def __init__(self, condition: Condition, width: int) -> None:
        super().__init__()
        assert condition, "without a condition there is nothing to embed"
        self.condition = condition
        self.table = nn.Embedding(condition.size, width)
        self.bias = nn.Parameter(torch.zeros(width)) if condition.kind != "classes" else None
        if condition.kind == "vector":
            nn.init.normal_(self.table.weight, 0, condition.size**-0.5)

    def constant_(self, value: float) -> ConditionEmbedding:
        """Start with the same embedding for every condition, `value` everywhere. Returns the module itself."""
        nn.init.constant_(self.table.weight, value if self.bias is None else 0.0)
        if self.bias is not None:
            nn.init.constant_(self.bias, value)
        return self

    def forward(self, c: Tensor | None) -> Tensor:
        c = checked(self.condition, c)
        if self.bias is None:
            return c.to(self.table.weight.dtype) @ self.table.weight if blends(self.condition, c) else self.table(c)
        if self.condition.kind == "vector":
            return c @ self.table.weight + self.bias
        return (self.table(c) * _shares(c)[..., None].to(self.bias.dtype)).sum(1) + self.bias


class LinearEmbedding(nn.Module):
    """The embedding of a condition by a linear layer of the architecture's own kind, `linear(encode(c) * gain)`. c -> [N,width]

    linear: a layer of [N, condition.size] -> [N,width].
    """

    def __init__(self, condition: Condition, linear: nn.Module, gain: float = 1.0) -> None:
        super().__init__()
        self.condition, self.linear, self.gain = condition, linear, gain

    def forward(self, c: Tensor | None) -> Tensor:
        row = encode(self.condition, c)
        return self.linear(row if self.gain == 1 else row * self.gain)


def unit_gain(condition: Condition) -> float:
    """The factor after which `encode` gives the one nonzero entry of a row the mean square of a vector's entries, 1."""
    return 1.0 if condition.kind == "vector" else condition.size**0.5


class Projection(nn.Module):
    """The conditional term of a projection discriminator, the inner product of embedding and features (Miyato & Koyama
    2018, "cGANs with projection discriminator", eq. 3). features [N,W], c -> [N]

    embedding: c -> [N,W].
    """

    def __init__(self, embedding: nn.Module) -> None:
        super().__init__()
        self.embedding = embedding

    def forward(self, features: Tensor, c: Tensor | None) -> Tensor:
        return (self.embedding(c).float() * features.float()).sum(1)
