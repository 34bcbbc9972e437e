"""The groups of a run: found once, kept in its folder, and used again when it is resumed or extended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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

    Raises ValueError for pictures that have classes, for a damaged file, and as `find_groups` does.
    """
    if dataset.spec.classes:
        raise ValueError("--groups stand for classes where there are none, and these pictures have some: add --unconditional, or leave --groups out.")
    groups = kept_groups(folder)
    if (
        groups is None or len(groups.mean) != descriptors(dataset.images[:1]).shape[1]
    ):  # none, or of pictures with other channels
        groups = find_groups(dataset.images, count)
    return grouped(dataset, groups), KeepGroups(groups)


def kept_groups(folder: Path) -> Groups | None:
    """Return the groups in a run folder, or None if there are none. Raises ValueError for a damaged file."""
    if not (folder / FILE).exists():
        return None
    try:
        groups = Groups(**load_file(folder / FILE))
        sound = groups.axes.shape == (len(groups.mean), groups.centers.shape[1]) and len(groups.centers) > 0
    except (OSError, SafetensorError, TypeError, IndexError):
        sound = False
    if not sound:
        raise ValueError(f"{folder / FILE} is damaged: bring it back from a copy, or train anew in another folder with --out.")
    return groups
