"""A classifier of pictures that is independent of the generator: a trained run, or features trained on labeled real pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limner.apps.classify import Classifier
from limner.apps.editing.effect import ClassPredictor
from limner.apps.encode import labeled_pictures
from limner.apps.output import Progress
from limner.core.images import to_pil
from limner.data.samples import SAMPLES
from limner.evaluation.features import OwnFeatures, own_features
from limner.evaluation.inputs import load_image_set


@dataclass(frozen=True)
class RunPredictor:
    """A classifier that `limner train` wrote."""

    model: Classifier
    origin: str

    @property
    def classes(self) -> tuple[str, ...]:
        return self.model.classes

    def probabilities(self, images: Tensor) -> Tensor:
        """uint8 [N,C,H,W] -> [N,K]"""
        return torch.from_numpy(self.model.classify([to_pil(image) for image in images]))

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 [N,C,H,W] -> features [N,F]"""
        return torch.from_numpy(np.asarray(self.model.encode([to_pil(image) for image in images])))


@dataclass(frozen=True)
class DataPredictor:
    """A small classifier trained on labeled pictures (`evaluation.features.own`), which is cached."""

    own: OwnFeatures
    classes: tuple[str, ...]
    origin: str

    def probabilities(self, images: Tensor) -> Tensor:
        """uint8 [N,C,H,W] -> [N,K]"""
        return self.own.probabilities(images)

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 [N,C,H,W] -> features [N,F]"""
        return self.own(images)


def independent(model: Any, classifier: Classifier | None = None, data: str | None = None, labels: Path | None = None,
                progress: Progress | None = None) -> ClassPredictor | None:  # fmt: skip
    """Return a classifier for the pictures of a generator; None when there is nothing to make one of.

    classifier: a trained one. data: labeled real pictures to train one on; without them, the embedded sample that the generator
    was trained on. Raises ValueError for pictures without labels of two classes.
    """
    if classifier is not None:
        return RunPredictor(classifier, f"the classifier {classifier.folder.name}")
    described = model.description["data"]
    if data is None and described["name"] in SAMPLES and str(described.get("origin", "")).startswith("the embedded sample"):
        data = described["name"]
    if data is None:
        return None
    found = labeled_pictures(model, model.spec.channels, data, labels)
    if found.labels is None or len(found.labels.unique()) < 2:
        raise ValueError(f"{data} has no labels of two classes or more, which a classifier needs: sort the pictures into folders, or leave --data out.")
    own = own_features(load_image_set(found), progress=progress)
    return DataPredictor(own, found.classes, f"a classifier trained on {found.name}")
