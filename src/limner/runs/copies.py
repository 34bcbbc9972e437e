"""The test for copies of training pictures that a run on a small set makes by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from limner.data import Dataset
from limner.data.dataset import Subset
from limner.evaluation.features import Convolutions, extract
from limner.evaluation.memorization import memorization_test

FEW = 500  # pictures; larger sets are tested by `limner evaluate`
SAMPLES = 500
LEAST = 20  # pictures that the test needs


def copy_check(
    sample: Callable[[nn.Module, int], Tensor], training: Dataset | Subset, held_out: Dataset | Subset | None
) -> Callable[[nn.Module], Mapping[str, Any]] | None:
    """Return a function that compares a generator's samples with the pictures it was trained on; None where there are many, or too
    few for the test.

    It measures distances in the features of random convolutions, which need no download and no training.
    """
    spec = training.spec
    if not LEAST <= len(training) < FEW:
        return None

    def test(network: nn.Module) -> Mapping[str, Any]:
        features = Convolutions(spec.channels, spec.size)
        made = extract(features, sample(network, SAMPLES))
        aside = None if held_out is None or len(held_out) < LEAST else extract(features, held_out.images)
        found = memorization_test(made, extract(features, training.images), aside)
        return {
            "samples": SAMPLES,
            "closer": round(found.closer, 4),
            "suspects": round(found.suspects, 4),
            "z": round(found.z, 3),
            "verdict": found.verdict,
        }

    return test
