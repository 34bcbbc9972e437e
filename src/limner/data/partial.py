"""Batches of pictures of which only some have a class."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from limner.core.condition import UNLABELED
from limner.data.batches import generator_at
from limner.data.dataset import Dataset, Subset
from limner.data.sampler import Sampler

MIN_LABELED_HELD_OUT = 50  # labeled pictures, for a measurement and a calibration by default
UNLABELED_SEED = 0x5EED_1ABE  # XORed with the seed of the labeled pictures: the two orders are independent


class PartlyLabeled:
    """Labeled pictures at every `every`-th position of the order, and pictures without their label at the others.

    Positions 0, every, 2*every ... take the labeled pictures in the endless order of a `Sampler`: each comes equally often,
    however few they are. The other positions take the pictures of `others`, int64 [M], by default all (the labeled ones too, as in
    the code of Salimans et al. 2016), in another endless order, with the label UNLABELED. With every=1 only labeled pictures are used.
    """

    def __init__(self, pictures: Dataset | Subset, every: int, others: np.ndarray | None = None) -> None:
        assert every >= 1 and pictures.labels is not None, "pictures with labels"
        self.pictures, self.every, self.spec = pictures, every, pictures.spec
        self.labeled = np.flatnonzero(pictures.labels.numpy() != UNLABELED)
        assert len(self.labeled), "at least one labeled picture"
        self.others = np.arange(len(pictures)) if others is None else others
        self._labeled_order, self._order = Sampler(len(self.labeled)), Sampler(len(self.others))

    def __len__(self) -> int:
        return len(self.labeled) if self.every == 1 else len(self.others)

    def batch(self, first: int, count: int, seed: int) -> dict[str, Tensor]:
        """Return items first ... first + count - 1 of the order of `seed`.

        Returns image: uint8 [count,C,H,W] channels_last; label: int64 [count], UNLABELED where the class is not given; row: int64
        [count], where the class is not given the place of the picture in `others`, elsewhere -1.
        """
        positions = np.arange(first, first + count)
        given = positions % self.every == 0
        rows = np.empty(count, np.int64)
        start, taken = -(-first // self.every), int(given.sum())  # labeled positions before `first`, and here
        rows[given] = self.labeled[self._labeled_order.positions(start, taken, seed)]
        places = np.full(count, -1, np.int64)
        places[~given] = self._order.positions(first - start, count - taken, seed ^ UNLABELED_SEED)
        rows[~given] = self.others[places[~given]]
        items = self.pictures.rows(rows)
        labels = torch.where(torch.from_numpy(given), items["label"], UNLABELED)
        return {"image": items["image"], "label": labels, "row": torch.from_numpy(places)}


def draw_labels(labels: Tensor, per_class: int, seed: int) -> Tensor:
    """Return the labels int64 [N] with those of `per_class` pictures of each class, drawn by the seed; the rest is UNLABELED.

    Raises ValueError when a class has fewer.
    """
    kept = torch.full_like(labels, UNLABELED)
    for label in labels[labels != UNLABELED].unique().tolist():
        rows = np.flatnonzero(labels.numpy() == label)
        if len(rows) < per_class:
            raise ValueError(f"A class has only {len(rows):,} labeled pictures: choose --labels-per-class {len(rows)} or less.")
        kept[generator_at(seed, label, "labels").permutation(rows)[:per_class]] = label
    return kept


def split_labeled(pictures: Dataset, share: float | None, seed: int, least: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (rows to train on, labeled rows to hold out), int64 in order.

    share: fraction of the labeled pictures to hold out; None: a tenth where that is at least `least` pictures, otherwise
    none. Of each class that fraction, rounded, is held out and at least one picture is trained on. Pictures with exact
    duplicates are always trained on.
    """
    assert pictures.labels is not None
    labels = pictures.labels.numpy()
    copies = {name for group in pictures.duplicates for name in group}
    free = np.array([name not in copies for name in pictures.names])
    if share is None:
        share = 0.1 if 0.1 * (labels != UNLABELED).sum() >= least else 0.0
    held_out: list[int] = []
    for label in np.unique(labels[labels != UNLABELED]).tolist():
        rows = np.flatnonzero(labels == label)
        count = min(round(share * len(rows)), len(rows) - 1)
        held_out += generator_at(seed, label, "held out").permutation(rows[free[rows]])[:count].tolist()
    rows = np.array(sorted(held_out), np.int64)
    return np.setdiff1d(np.arange(len(pictures)), rows), rows
