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
    _drawn: dict[tuple[str | int, ...], np.ndarray] = field(default_factory=dict)  # (distribution, name, shape) -> numbers
    _kept: dict[str, dict[int, tuple[Tensor, ...]]] = field(default_factory=dict)  # name -> first row -> tensors

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

    def turn(self, number: int) -> Batch:
        """The same rows for a phase of the iteration: with random numbers of its own, and with what earlier phases kept."""
        return replace(self, key=(*self.key, number), _drawn={})

    def keep(self, name: str, *tensors: Tensor) -> None:
        """Leave the tensors of these rows to a later phase of the same iteration, which gets them by `kept`."""
        self._kept.setdefault(name, {})[self.first] = tuple(tensor.detach() for tensor in tensors)

    def kept(self, name: str) -> tuple[Tensor, ...]:
        """What an earlier phase of this iteration kept of these rows, detached."""
        return self._kept[name][self.first]

    def kept_of_all_slices(self, name: str) -> list[tuple[Tensor, ...]]:
        """The same of every slice of this rank's rows, in their order."""
        return [tensors for _, tensors in sorted(self._kept[name].items())]

    def _random(self, draw: Callable[[np.random.Generator], np.ndarray], name: str, *key: str | int) -> Tensor:
        if (name, *key) not in self._drawn:
            self._drawn[name, *key] = draw(np.random.Generator(np.random.PCG64([*self.key, crc32(name.encode())])))
        mine = torch.from_numpy(self._drawn[name, *key][self.first : self.first + len(self)])
        return mine.to(next(iter(self.tensors.values())).device)

    def normal(self, name: str, *shape: int) -> Tensor:
        """Standard normal numbers, float32 [n, *shape]."""
        return self._random(lambda rng: rng.standard_normal((self.total, *shape), np.float32), name, "normal", *shape)

    def uniform(self, name: str, *shape: int) -> Tensor:
        """Uniform numbers in [0,1), float32 [n, *shape]."""
        return self._random(lambda rng: rng.random((self.total, *shape), np.float32), name, "uniform", *shape)

    def integers(self, name: str, below: int, *shape: int) -> Tensor:
        """Integers in [0, below), int64 [n, *shape]."""
        return self._random(lambda rng: rng.integers(0, below, (self.total, *shape)), name, "integers", below, *shape)


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


@dataclass(frozen=True, kw_only=True)
class Method:
    """Who plays, and what each player wants: everything that `training.loop.fit` needs to know of an algorithm.

    Every trainable parameter of the networks belongs to exactly one player; each player has an optimizer of its own.
    """

    nets: Mapping[str, nn.Module]  # saved in every checkpoint
    players: Mapping[str, Sequence[nn.Parameter]]  # name -> the parameters that its phases update
    phases: Sequence[Phase]  # in order, every iteration
    averaged: Sequence[str]  # names of the networks that get an EMA copy
    memory: Mapping[str, Stateful] = field(default_factory=dict)  # what a checkpoint holds beside the networks
    levers: MutableMapping[str, float] = field(default_factory=dict)  # factors that the doctor may change ("penalty")
    finalize: Callable[[nn.Module], None] | None = None  # completes the averaged network before it is published

    def __post_init__(self) -> None:
        owners: dict[int, str] = {}
        for player, parameters in self.players.items():
            assert parameters, f"the player {player} has no parameters"
            for p in parameters:
                assert owners.setdefault(id(p), player) == player, f"a parameter belongs to {owners[id(p)]} and to {player}"
        for name, net in self.nets.items():
            free = [key for key, p in net.named_parameters() if p.requires_grad and id(p) not in owners]
            assert not free, f"no player updates {free[0]} of {name}"
        assert {phase.player for phase in self.phases} == set(self.players), "every player has a phase, and every phase a player"
        assert set(self.averaged) <= set(self.nets), "an averaged network is one of the method's"
