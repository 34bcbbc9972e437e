"""The groups of a run: found once, kept in its folder, and found there when it goes on, be it with more pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from limner.core.files import write_tensors
from limner.data import Dataset
from limner.data.groups import Groups, descriptors, find_groups, grouped
from limner.methods.phase import Clock
from limner.training.loop import View

FILE = Path("checkpoint") / "groups.safetensors"  # in the run folder
FIELDS = ("mean", "axes", "centers")


@dataclass(frozen=True)
class KeepGroups:
    """A callback that writes the groups to the run folder at the start."""

    groups: Groups

    def due(self, clock: Clock) -> bool:
        return clock.seen == 0

    def __call__(self, view: View) -> None:
        write_tensors(view.folder / FILE, {name: getattr(self.groups, name) for name in FIELDS})


def into_groups(dataset: Dataset, count: int, folder: Path) -> tuple[Dataset, KeepGroups]:
    """Return the data with at most `count` groups as classes, those kept in the run folder if there are some, and what keeps them.

    Raises ValueError as `find_groups` does.
    """
    groups = kept_groups(folder)
    if (
        groups is None or len(groups.mean) != descriptors(dataset.images[:1]).shape[1]
    ):  # none, or of pictures with other channels
        groups = find_groups(dataset.images, count)
    return grouped(dataset, groups), KeepGroups(groups)


def kept_groups(folder: Path) -> Groups | None:
    """Return the groups in a run folder; None if there are none, or if the file is damaged, so that they are found anew."""
    try:
        tensors = load_file(folder / FILE)
    except (OSError, SafetensorError):
        return None
    known = tensors.keys() == {*FIELDS} and all(t.dtype == torch.float64 for t in tensors.values())
    return Groups(**tensors) if known else None
