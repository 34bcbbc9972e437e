"""What a family builds of a recipe and a data set: everything that `runs.run` needs to train and publish it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from torch import Tensor, nn

from limner.core.images import ImageSpec
from limner.methods.phase import Method
from limner.monitor.doctor import Probe
from limner.training.loop import Callback, Outcome
from limner.training.state import OptimizerConfig


class TrainingSet(Protocol):
    """What a run is trained on, as it is described to people and in `limner.json`: a `data.Dataset` or `data.pairs.Pairs`."""

    spec: ImageSpec
    name: str
    origin: str
    fingerprint: str
    attribution: str
    fit: str
    background: str
    classes: tuple[str, ...]
    labels: Tensor | None
    bad: list[tuple[str, str]]
    notes: list[str]

    def __len__(self) -> int: ...


class Batches(Protocol):
    """Named tensors by position in an endless order, which is a pure function of the seed."""

    def batch(self, first: int, count: int, seed: int) -> Mapping[str, Tensor]: ...


@dataclass(frozen=True)
class Preset:
    """A recipe that people choose by name."""

    make: Callable[[], Any]  # its configuration
    summary: str
    source: str


@dataclass(frozen=True)
class Card:
    """The parts of a model card that depend on what the product is. tags: as model hubs have them. usage: commands, indented."""

    tags: str
    usage: str


@dataclass(frozen=True, kw_only=True)
class Product:
    """What a run publishes."""

    kind: str  # of `limner.json`, and the key of the family that loads it
    network: str  # which of the method's networks; its average is published
    description: Mapping[str, Any]  # how to build that network again (`networks.describe`)
    preview: Callable[[nn.Module], np.ndarray]  # averaged network -> uint8 [N,C,H,W], of the same inputs at every call
    card: Card


@dataclass(frozen=True, kw_only=True)
class Validator:
    """A measure of the averaged network, taken a few times a run; `best/` holds the state in which the first one was best."""

    columns: tuple[str, ...]  # of the log that it fills; the first decides which state is the best
    title: str  # for people: "PSNR of held-out reconstructions"
    better: Literal["higher", "lower"]
    measure: Callable[[nn.Module], Mapping[str, float]]  # averaged network in evaluation mode -> column -> value
    cost: Callable[[nn.Module], float]  # seconds that a measurement will take; what is needed once is made here

    @property
    def name(self) -> str:
        return self.columns[0]

    def improves(self, value: float, earlier: Sequence[float]) -> bool:
        """Whether a value is at least as good as all before it."""
        return all(value >= e if self.better == "higher" else value <= e for e in earlier)


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One run: who learns what from which pictures, how it is measured, and what it publishes."""

    name: str  # the recipe's
    recipe: Any  # its configuration; every family's has batch, micro_batch, clip, ema_half_life and a schedule
    data: TrainingSet
    batches: Batches
    method: Method
    optimizers: Mapping[str, OptimizerConfig]  # one a player
    product: Product
    validators: Sequence[Validator] = ()
    probe: Probe | None = None  # what the doctor measures; None: no doctor
    held_out_count: int = 0  # pictures of the data that are not trained on
    callbacks: Sequence[Callback] = ()
    notes: Sequence[str] = ()  # sentences for people before the start


@dataclass(frozen=True)
class Invocation:
    """How the command that runs an experiment was given."""

    started: float = field(default_factory=time.monotonic)  # `time.monotonic()` at which the command began
    command: Mapping[str, Any] | None = None  # what resumes the run by its folder (`runs.command`)
    more: tuple[float | None, int | None] | None = None  # (minutes, images) to train beyond the budget


@dataclass(frozen=True)
class Trained:
    """What a run gave."""

    folder: Path
    outcome: Outcome
    recipe: str  # its name
