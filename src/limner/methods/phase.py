"""A method is a game of players that take turns: the protocol that `training.loop.fit` plays.

A GAN, a VAE, a CycleGAN and a restorer differ in one thing only: who plays, and what each wants. A method states
that; it knows nothing of optimizers, devices, ranks or files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn

from limner.core.condition import TENSORS

Terms = Mapping[str, Tensor]  # named scalars to log, detached


@dataclass(frozen=True)
class Clock:
    """Time is images seen. Every schedule is a pure function of this."""

    seen: int  # images before this batch
    budget: int  # images of the whole run
    batch: int  # images an iteration, over all ranks

    @property
    def fraction(self) -> float:
        return min(1.0, self.seen / self.budget)


@dataclass(frozen=True)
class Batch:
    """Rows of one global batch: this rank's share, or a slice of it when gradients are accumulated.

    Random numbers are asked from the batch by name. They are drawn for the whole global batch from (seed, images
    seen, turn, name) and cut to these rows, so a run gives the same on one rank or four, whole or accumulated, and
    nothing of a random state has to be saved. Layers are not bound by it: what looks across rows (batch normalization)
    or iterates at each pass (spectral normalization) differs when accumulated, and what draws for itself (dropout, the
    noise of StyleGAN2) is then, and on several ranks, the same in distribution only.
    """

    tensors: Mapping[str, Tensor]  # "image": float [n,C,H,W] in [-1,1]; "label": int64 [n]; a method may ask for more
    first: int = 0  # this slice's first row in the global batch
    total: int = 0  # rows of the global batch
    key: tuple[int, ...] = (0,)  # (seed, images seen, turn)
    _drawn: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def get(self, name: str) -> Tensor | None:
        return self.tensors.get(name)

    def condition(self) -> Tensor | None:
        """What comes with the images as their condition: labels [n], vectors [n,D], tokens [n,L], or None."""
        return next((self.tensors[name] for name in TENSORS.values() if name in self.tensors), None)

    def rows(self, rows: slice) -> Batch:
        """A slice of this batch that draws the same random numbers for its rows."""
        cut = {name: tensor[rows] for name, tensor in self.tensors.items()}
        return replace(self, tensors=cut, first=self.first + (rows.start or 0))

    def _random(self, name: str, draw: Callable[[np.random.Generator], np.ndarray]) -> Tensor:
        if name not in self._drawn:
            self._drawn[name] = draw(np.random.Generator(np.random.PCG64([*self.key, crc32(name.encode())])))
        mine = torch.from_numpy(self._drawn[name][self.first : self.first + len(self)])
        return mine.to(next(iter(self.tensors.values())).device)

    def normal(self, name: str, *shape: int) -> Tensor:
        """Standard normal numbers, float32 [n, *shape]."""
        return self._random(name, lambda rng: rng.standard_normal((self.total, *shape), np.float32))

    def uniform(self, name: str, *shape: int) -> Tensor:
        """Uniform numbers in [0,1), float32 [n, *shape]."""
        return self._random(name, lambda rng: rng.random((self.total, *shape), np.float32))

    def integers(self, name: str, below: int, *shape: int) -> Tensor:
        """Integers in [0, below), int64 [n, *shape]."""
        return self._random(name, lambda rng: rng.integers(0, below, (self.total, *shape)))


@dataclass(frozen=True)
class Phase:
    """One turn: whose parameters it moves, and what that player wants."""

    player: str
    loss: Callable[[Batch, Clock], tuple[Tensor, Terms]]  # loss [n] (a sample each) or [] (the mean already)
    every: int = 1  # played in iterations 0, every, 2*every …: lazy R1 is every=16


class Stateful(Protocol):
    """State beside the networks (an image pool, an augmentation controller) that a checkpoint must hold."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Method(Protocol):
    """No base class: any object with these is a method."""

    nets: Mapping[str, nn.Module]  # saved in every checkpoint
    averaged: Sequence[str]  # those that get an EMA copy
    players: Mapping[str, Sequence[nn.Parameter]]  # disjoint, one optimizer each
    phases: Sequence[Phase]  # in order, every iteration
    memory: Mapping[str, Stateful]  # mostly empty
    levers: MutableMapping[str, float]  # what may be changed while it plays ("penalty": a factor); mostly empty
