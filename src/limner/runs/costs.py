"""Time that a run needs besides training, measured by doing each thing once: previews, validation, the final animation.

All of them happen at milestones: at how many of them depends on the budget (`core.schedule.milestone_batches`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

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


def validation_seconds(experiment: Experiment) -> float:
    """Return the seconds of the preview and the validation at one milestone."""
    with _evaluating(experiment.method.nets[experiment.product.network]) as network:
        start = time.monotonic()
        experiment.product.preview(network)
        seconds = time.monotonic() - start
        seconds += sum(validator.cost(network) for validator in experiment.validators)
    return seconds


def ending_seconds(experiment: Experiment) -> float:
    """Return the seconds to write the preview of one milestone as files, and its frame of the animation at the end."""
    with _evaluating(experiment.method.nets[experiment.product.network]) as network:
        sheet = experiment.product.preview(network)
    writing, encoding = time_encoding(sheet)
    # the noise of an untrained network is the hardest to encode: that of trained networks took half as long
    return writing + encoding / 2
