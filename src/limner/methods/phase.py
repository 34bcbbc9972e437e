"""The protocol of a training algorithm: players that take turns, each with a loss. `training.loop.fit` runs it.

GANs, VAEs, CycleGANs and restorers differ only in their players and losses. A method defines those; optimizers, devices, ranks
and files are the training loop's.
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
    """Time in images seen, of which every schedule is a pure function."""

    seen: int  # images before this batch
    budget: int  # images of the whole run
    batch: int  # images per iteration, over all ranks

    @property
    def fraction(self) -> float:
        return min(1.0, self.seen / self.budget)

    def within(self, window: tuple[float, float]) -> Clock:
        """Return the time within a part of the run, as if that part were the whole run."""
        start, end = (round(share * self.budget) for share in window)
        return replace(self, seen=max(0, self.seen - start), budget=max(1, end - start))


@dataclass(frozen=True)
class Batch:
    """Rows of one global batch: those of this rank, or a slice of them when gradients are accumulated.

    Random numbers have names. They are drawn for the whole global batch from (seed, images seen, turn, name) and sliced to
    these rows, so that a run is the same on one rank or four, whole or accumulated, and no random state has to be saved.
    Layers are an exception: those across rows (batch normalization) or with an iteration per pass (spectral normalization)
    differ when accumulated, and those that draw random numbers themselves (dropout, the noise of StyleGAN2) are then, and on
    several ranks, the same in distribution only.
    """

    tensors: Mapping[str, Tensor]  # "image": float [n,C,H,W] in [-1,1]; "label": int64 [n]; or others, by the data
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
        """Return the condition of the images: labels [n], vectors [n,D], tokens [n,L], or None."""
        return next((self.tensors[name] for name in TENSORS.values() if name in self.tensors), None)

    def rows(self, rows: slice) -> Batch:
        """Return a slice of this batch, with the same random numbers for its rows."""
        cut = {name: tensor[rows] for name, tensor in self.tensors.items()}
        return replace(self, tensors=cut, first=self.first + (rows.start or 0))

    def turn(self, number: int) -> Batch:
        """Return the same rows for a phase of the iteration: with its own random numbers, and the tensors that earlier phases kept."""
        return replace(self, key=(*self.key, number), _drawn={})

    def keep(self, name: str, *tensors: Tensor) -> None:
        """Keep tensors of these rows, detached, for a later phase of the same iteration (`kept`)."""
        self._kept.setdefault(name, {})[self.first] = tuple(tensor.detach() for tensor in tensors)

    def kept(self, name: str) -> tuple[Tensor, ...]:
        """Return the tensors of these rows that an earlier phase of this iteration kept, detached."""
        return self._kept[name][self.first]

    def kept_of_all_slices(self, name: str) -> list[tuple[Tensor, ...]]:
        """Return the kept tensors of every slice of this rank's rows, in order."""
        return [tensors for _, tensors in sorted(self._kept[name].items())]

    def _random(self, draw: Callable[[np.random.Generator], np.ndarray], name: str, *key: str | int) -> Tensor:
        if (name, *key) not in self._drawn:
            self._drawn[name, *key] = draw(np.random.Generator(np.random.PCG64([*self.key, crc32(name.encode())])))
        mine = torch.from_numpy(self._drawn[name, *key][self.first : self.first + len(self)])
        return mine.to(next(iter(self.tensors.values())).device)

    def normal(self, name: str, *shape: int) -> Tensor:
        """Return standard normal numbers, float32 [n, *shape]."""
        return self._random(lambda rng: rng.standard_normal((self.total, *shape), np.float32), name, "normal", *shape)

    def uniform(self, name: str, *shape: int) -> Tensor:
        """Return uniform numbers in [0,1), float32 [n, *shape]."""
        return self._random(lambda rng: rng.random((self.total, *shape), np.float32), name, "uniform", *shape)

    def integers(self, name: str, below: int, *shape: int) -> Tensor:
        """Return integers in [0, below), int64 [n, *shape]."""
        return self._random(lambda rng: rng.integers(0, below, (self.total, *shape)), name, "integers", below, *shape)


@dataclass(frozen=True)
class Phase:
    """One turn of a player in an iteration: its loss, which updates the player's parameters."""

    player: str
    loss: Callable[[Batch, Clock], tuple[Tensor, Terms]]  # returns a loss [n] (per sample) or [] (their mean), and terms to log
    every: int = 1  # runs in iterations 0, every, 2*every …: lazy R1 has every=16
    window: tuple[float, float] = (0.0, 1.0)  # fractions of the budget between which it runs, and which its learning rate's schedule spans

    def runs_at(self, clock: Clock) -> bool:
        """Return whether the window contains the clock."""
        return self.window[0] <= clock.fraction < self.window[1] or self.window[1] == clock.fraction == 1.0


class Stateful(Protocol):
    """State besides the networks (an image pool, an augmentation controller) that a checkpoint must hold."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class PeriodicWork(Protocol):
    """Work that a method does a few times in a run, before an iteration (propagating labels), and that takes time of the budget."""

    title: str  # "Propagating labels"
    seconds: float  # that it has taken so far in this process

    def due(self, clock: Clock) -> bool:
        """Return whether the work must be done before the iteration at the clock."""

    def run(self, clock: Clock) -> None:
        """Do the work, on every rank alike."""

    def remaining(self, clock: Clock, cost: float) -> float:
        """Return the estimated seconds of all such work from the clock to the end of its budget. cost: seconds of training per image."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """A training algorithm: networks, players and phases.

    Every trainable parameter of the networks belongs to exactly one player; each player has its own optimizer.
    """

    nets: Mapping[str, nn.Module]  # saved in every checkpoint
    players: Mapping[str, Sequence[nn.Parameter]]  # name -> the parameters that its phases update
    phases: Sequence[Phase]  # in order, in every iteration
    averaged: Sequence[str]  # names of the networks with an EMA copy
    memory: Mapping[str, Stateful] = field(default_factory=dict)  # state of checkpoints besides the networks
    periodic: PeriodicWork | None = None
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
        assert all(0 <= phase.window[0] < phase.window[1] <= 1 for phase in self.phases), "a window is a part of the budget"
        assert set(self.averaged) <= set(self.nets), "an averaged network is one of the method's"
