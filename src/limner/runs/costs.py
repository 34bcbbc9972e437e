"""Time that a run needs besides training, measured by doing each thing once: previews, validation, the final animation."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from limner.core import schedule
from limner.runs.callbacks import time_encoding
from limner.runs.experiment import Experiment


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[nn.Module]:
    training = network.training
    network.eval()
    try:
        yield network
    finally:
        network.train(training)


def _milestones() -> int:
    return len(schedule.preview_milestones(10**9))


def validation_seconds(experiment: Experiment) -> float:
    """Return the seconds of all previews and validations of a run: those of one, times the number of milestones."""
    with _evaluating(experiment.method.nets[experiment.product.network]) as network:
        start = time.monotonic()
        experiment.product.preview(network)
        seconds = time.monotonic() - start
        seconds += sum(validator.cost(network) for validator in experiment.validators)
    return seconds * _milestones()


def ending_seconds(experiment: Experiment) -> float:
    """Return the seconds to write the previews of a run as files, and the animation of them at the end."""
    with _evaluating(experiment.method.nets[experiment.product.network]) as network:
        sheet = experiment.product.preview(network)
    writing, encoding = time_encoding(sheet)
    # the noise of an untrained network is the hardest to encode: that of trained networks took half as long
    return (writing + encoding / 2) * _milestones()
