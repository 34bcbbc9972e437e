"""An experiment: what a family builds from a recipe and a data set, and `runs.run` trains and publishes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from torch import Tensor, nn

from limner.core.images import ImageSpec
from limner.data.batches import Batches
from limner.methods.phase import Method
from limner.monitor.doctor import Probe
from limner.training.interrupt import NO_PAUSE, Pause
from limner.training.loop import Callback, Outcome
from limner.training.state import OptimizerConfig


class TrainingSet(Protocol):
    """The training data as described to people and in `limner.json`: a `data.Dataset` or `data.pairs.Pairs`."""

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


@dataclass(frozen=True)
class Preset:
    """A recipe with a name."""

    make: Callable[[], Any]  # returns its configuration
    summary: str
    source: str


@dataclass(frozen=True)
class Card:
    """The parts of a model card that depend on the kind of product. tags: of model hubs. usage: commands, indented. classes: a sentence
    on what they are, in place of their names."""

    tags: str
    usage: str
    classes: str = ""


@dataclass(frozen=True, kw_only=True)
class Product:
    """The published result of a run."""

    kind: str  # in `limner.json`, and the key of the family that loads it
    network: str  # name of the method's network whose average is published
    description: Mapping[str, Any]  # from which that network can be rebuilt (`networks.describe`)
    preview: Callable[[nn.Module], np.ndarray]  # averaged network -> uint8 [N,C,H,W], for the same inputs at every call
    card: Card
    copies: Callable[[nn.Module], Mapping[str, Any]] | None = None  # tests the averaged network for memorization at the end of a run


@dataclass(frozen=True, kw_only=True)
class Validator:
    """A metric of the averaged network, measured at the preview milestones; `best/` holds the state with the best first one.

    keeps_best: whether there is a `best/`; not where the losses trade the metric for something else.
    """

    columns: tuple[str, ...]  # of the log; the first decides which state is the best
    title: str  # as shown to people: "PSNR of held-out reconstructions"
    better: Literal["higher", "lower"]
    measure: Callable[[nn.Module], Mapping[str, float]]  # averaged network in evaluation mode -> column -> value
    cost: Callable[[nn.Module], float]  # returns the seconds of one measurement; prepares what is needed once
    keeps_best: bool = True

    @property
    def name(self) -> str:
        return self.columns[0]

    def improves(self, value: float, earlier: Sequence[float]) -> bool:
        """Return whether a value is at least as good as all before it, and its state is kept."""
        return self.keeps_best and all(value >= e if self.better == "higher" else value <= e for e in earlier)


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One run: its method, data, validators and product."""

    name: str  # the recipe's
    recipe: Any  # its configuration; every family's has batch, micro_batch, grad_clip, ema_half_life and a schedule
    data: TrainingSet
    batches: Batches
    method: Method
    optimizers: Mapping[str, OptimizerConfig]  # by player
    product: Product
    validators: Sequence[Validator] = ()
    probe: Probe | None = None  # computes the doctor's signals; None: no doctor
    held_out_count: int = 0  # pictures of the data that are not trained on
    callbacks: Sequence[Callback] = ()
    notes: Sequence[str] = ()  # sentences printed before the start


@dataclass(frozen=True)
class Invocation:
    """The command that runs an experiment."""

    started: float = field(default_factory=time.monotonic)  # `time.monotonic()` at the start of the command
    command: Mapping[str, Any] | None = None  # resumes the run by its folder (`runs.command`)
    more: tuple[float | None, int | None] | None = None  # (minutes, images) to train beyond the budget
    parent: Path | None = None  # the run whose networks it begins with
    resume: bool = False  # the run is resumed by its folder
    pause: Pause = NO_PAUSE


@dataclass(frozen=True)
class Trained:
    """The result of a run."""

    folder: Path
    outcome: Outcome
    recipe: str  # name of the recipe
