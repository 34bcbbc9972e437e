"""What benchmarks of pictures measure by: Fashion-MNIST at 32x32 and the features of a classifier trained on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock

from limner.data import open_source, prepare
from limner.data.cache import cache_folder
from limner.evaluation import ImageSet, Result, evaluate, load_image_set
from limner.evaluation.features.own import OwnFeatures, own_features

FASHION = Path("/usr/share/datasets/fashion-mnist")  # the Debian package `dataset-fashion-mnist`
TRAIN, TEST = FASHION / "train-images-idx3-ubyte.gz", FASHION / "t10k-images-idx3-ubyte.gz"
RESULTS = Path(__file__).parent / "results"
METRICS = ["fd", "mmd", "precision_recall", "density_coverage"]
SAMPLES = 10_000


@dataclass
class Yardstick:
    """Samples against the test pictures on the `own` features, learned from the training pictures."""

    train: ImageSet
    test: ImageSet
    features: OwnFeatures

    def measure(self, samples: np.ndarray) -> Result:
        """uint8 [n,C,H,W] -> the distances and shares of `METRICS`."""
        return evaluate(samples, self.test, metrics=METRICS, features=self.features)

    def real(self) -> dict[str, float]:
        """What as many real pictures get: the best that can be had."""
        return figures(self.measure(self.train.images[:SAMPLES].numpy()))


def figures(result: Result) -> dict[str, float]:
    return {m.label: m.value for m in result.metrics}


def yardstick(data: str | Path = TRAIN, reference: str | Path = TEST, size: int = 32) -> Yardstick:
    """From the cache where they are there; of several processes one trains the classifier and the others wait."""
    train, test = (load_image_set(prepare(open_source(str(path)), size=size)) for path in (data, reference))
    cache_folder().mkdir(parents=True, exist_ok=True)
    with FileLock(cache_folder() / "yardstick.lock"):
        return Yardstick(train, test, own_features(train))
