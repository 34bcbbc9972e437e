"""Sets of pictures to measure: any input becomes uint8 [N,C,H,W] with labels and a fingerprint."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Union

import numpy as np
import torch
from torch import Tensor

from limner.core.condition import Condition
from limner.core.images import MODES, ImageSpec
from limner.data import Dataset, open_source, prepare
from limner.data.cache import content_hash
from limner.data.sampler import permutation

Given = Union["ImageSet", Dataset, str, Path, np.ndarray, Tensor, Iterable[Any]]


@dataclass(frozen=True)
class ImageSet:
    """Pictures of one size in memory."""

    images: Tensor                       # uint8 [N,C,H,W]
    labels: Tensor | None = None         # int64 [N], an index into classes
    classes: tuple[str, ...] = ()
    name: str = "pictures"
    notes: list[str] = field(default_factory=list)
    names: tuple[str, ...] = ()          # [N], if the pictures have names, by which pairs are matched

    def __len__(self) -> int:
        return len(self.images)

    @property
    def spec(self) -> ImageSpec:
        _, channels, height, width = self.images.shape
        return ImageSpec(channels, height, width, Condition.classes(len(self.classes)))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of pictures and labels: equal to that of the Dataset they came from."""
        labels = None if self.labels is None else self.labels.numpy()
        return content_hash(self.images.permute(0, 2, 3, 1).numpy(), labels)

    def some(self, n: int | None, seed: int = 0) -> ImageSet:
        """Return n random pictures, by the seed, in their order; all if n is None or not less than their number."""
        if n is None or n >= len(self):
            return self
        if n < 1:
            raise ValueError(f"{n} pictures cannot be measured: give a number of at least 2.")
        rows = torch.from_numpy(np.sort(permutation(len(self), seed, 0)[:n]))
        labels = None if self.labels is None else self.labels[rows]
        names = tuple(self.names[i] for i in rows) if self.names else ()
        return replace(self, images=self.images[rows], labels=labels, names=names)


def load_image_set(
    given: Given, labels: Any = None, size: tuple[int, int] | None = None, else_size: tuple[int, int] | None = None
) -> ImageSet:
    """Return the ImageSet of a Dataset, a path (folder, zip, IDX, sample …), uint8 [N,C,H,W] or an iterable of such batches.

    labels: whole numbers [N] for arrays; data with labels keeps its own. size: (H,W) to which the pictures of a path are
    resized, antialiased; without it they keep their own size if all have the same, and otherwise get else_size. Raises
    ValueError for sets that cannot be measured.
    """
    if isinstance(given, ImageSet):
        return given if labels is None else replace(given, labels=_labels(labels, len(given), given.classes)[0])
    if isinstance(given, str | Path):
        given = _prepared(given, size, else_size)
    if isinstance(given, Dataset):
        found = ImageSet(given.images, given.labels, given.classes, given.name, list(given.notes), tuple(given.names))
        return found if labels is None else load_image_set(found, labels)
    images = _array(given)
    index, classes = (None, ()) if labels is None else _labels(labels, len(images), ())
    return ImageSet(images, index, classes, "array")


def _prepared(path: str | Path, size: tuple[int, int] | None, else_size: tuple[int, int] | None) -> Dataset:
    dataset = prepare(open_source(path), size=size)
    if size is None and len(dataset.sizes) > 1:
        if else_size is not None:
            brought = prepare(open_source(path), size=else_size)
            note = f"{path} holds pictures of {len(dataset.sizes)} sizes: all were cropped and resized to {brought.spec}."
            return replace(brought, notes=[*brought.notes, note])
        some = ", ".join(f"{h}x{w}" for h, w in list(dataset.sizes)[:3])
        raise ValueError(
            f"{path} holds pictures of {len(dataset.sizes)} sizes ({some} …): give the size to resize them to, since resizing "
            "changes the values."
        )
    return dataset


def _array(given: Any) -> Tensor:
    if not isinstance(given, np.ndarray | Tensor):
        batches = [_array(batch) for batch in given]
        if not batches:
            raise ValueError("There are no pictures to measure: the set is empty.")
        if len({batch.shape[1:] for batch in batches}) > 1:
            raise ValueError("The pictures differ in size or channels: resize them to one size first.")
        return torch.cat(batches)
    images = torch.as_tensor(np.ascontiguousarray(given) if isinstance(given, np.ndarray) else given).cpu()
    if images.ndim == 3:
        images = images[:, None]  # [N,H,W] is gray
    if images.ndim != 4 or images.shape[1] not in MODES or images.dtype != torch.uint8:
        raise ValueError(
            f"Pictures must be uint8 [N,C,H,W] with 1, 3 or 4 channels, not {images.dtype} {tuple(images.shape)}."
        )
    if not len(images):
        raise ValueError("There are no pictures to measure: the set is empty.")
    return images


def _labels(labels: Any, n: int, classes: tuple[str, ...]) -> tuple[Tensor, tuple[str, ...]]:
    index = torch.as_tensor(labels).long().cpu()
    if index.shape != (n,):
        raise ValueError(f"There are {n} pictures but the labels have the shape {tuple(index.shape)}: give one label per picture.")
    if n and index.min() < 0:
        raise ValueError("Labels must be whole numbers of at least 0.")
    return index, classes or tuple(str(i) for i in range(int(index.max()) + 1 if n else 0))
