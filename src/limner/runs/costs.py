"""What a run spends beside training, found by doing each thing once: previews, validation, the animation at the end."""

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


def _marks() -> int:
    return len(schedule.preview_milestones(10**9))


def watching_seconds(experiment: Experiment) -> float:
    """Seconds that previews and validation will take in a whole run: what one of each takes, as often as there are marks."""
    with _evaluating(experiment.method.nets[experiment.product.network]) as network:
        start = time.monotonic()
        experiment.product.preview(network)
        seconds = time.monotonic() - start
        seconds += sum(validator.cost(network) for validator in experiment.validators)
    return seconds * _marks()


def ending_seconds(experiment: Experiment) -> float:
    """Seconds that the sheets of previews as files, and the animation of them at the end, will take."""
    with _evaluating(experiment.method.nets[experiment.product.network]) as network:
        sheet = experiment.product.preview(network)
    writing, encoding = time_encoding(sheet)
    # the noise of an untrained network is the hardest to encode: pictures took half as long
    return (writing + encoding / 2) * _marks()
