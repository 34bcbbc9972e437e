"""Groups of similar pictures, which stand for classes where the pictures have none.

A generator and a discriminator that are conditioned on groups learn more from as many pictures than without (Liu et al. 2020,
"Diverse image generation via self-conditioned GANs"). They find the groups in the discriminator's features and renew them during
training; here they are found once, before it, in gradients and colors (`recipes.descriptors`). Many groups of a few pictures each are
conditioned on by their vectors, as the instances of Casanova et al. 2021, "Instance-conditioned GAN". A run keeps its groups in its
folder, and uses them again when it is resumed or extended.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from limner.core.components import principal_axes, project
from limner.core.condition import Condition
from limner.core.files import write_tensors
from limner.data import Dataset
from limner.evaluation.diversity import kmeans
from limner.methods.phase import Clock
from limner.recipes.config import Recipe
from limner.recipes.descriptors import FITTED, Detail, batches, descriptors
from limner.training.loop import View

DETAIL = Detail(cells=8, orientations=6, components=40)
MANY = 100  # groups, from which on networks are conditioned on their vectors: each has too few pictures to be learned by itself
ROUNDS = 25  # of k-means (Lloyd 1982)
FILE = Path("checkpoint") / "groups.safetensors"  # in the run folder


@dataclass(frozen=True)
class KeepGroups:
    """A callback that writes the groups to the run folder at the start."""

    groups: Groups

    def due(self, clock: Clock) -> bool:
        return clock.seen == 0

    def __call__(self, view: View) -> None:
        write_tensors(view.folder / FILE, vars(self.groups))


def into_groups(dataset: Dataset, count: int, folder: Path) -> tuple[Dataset, KeepGroups]:
    """Return the data with at most `count` groups as classes, those kept in the run folder if there are some, and what keeps them.

    Raises ValueError for pictures that have classes, for a damaged file, and as `find_groups` does.
    """
    if dataset.spec.classes:
        raise ValueError(
            "--groups stand for classes where there are none, and these pictures have some: add --unconditional, or leave --groups out."
        )
    groups = kept_groups(folder)
    width = descriptors(dataset.images[:1], DETAIL).shape[1]  # depends on the channels
    if groups is None or len(groups.mean) != width:
        groups, labels = find_groups(dataset.images, count)
    else:
        labels = groups.of(dataset.images)
    return grouped(dataset, labels, len(groups.centers)), KeepGroups(groups)


def with_vectors(recipe: Recipe, groups: Groups) -> Recipe:
    """Return the recipe whose networks take the vectors of many groups, if their architecture can; few groups are learned each by itself.

    A discriminator with a classifier sees no condition, and so takes none.
    """
    if not hasattr(recipe.generator, "vectors"):
        return recipe
    size = groups.centers.shape[1] if len(groups.centers) >= MANY else 0
    nets = {"generator": size, "discriminator": 0 if recipe.classifier else size}
    return replace(recipe, **{name: replace(getattr(recipe, name), vectors=number) for name, number in nets.items()})


def give_vectors(net: nn.Module, groups: Groups) -> None:
    """Fill the vectors of the classes of a network, if it takes them: the directions of the groups' centers, of mean square 1."""
    if (vectors := getattr(net, "vectors", None)) is not None:
        vectors.copy_(F.normalize(groups.centers, dim=1) * groups.centers.shape[1] ** 0.5)


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
        raise ValueError(
            f"{folder / FILE} is damaged: bring it back from a copy, or train anew in another folder with --out."
        )
    return groups


@dataclass(frozen=True)
class Groups:
    """Groups as centers of principal components: mean [D], axes [D,k], centers [K,k], float64; the first center is that of the most pictures."""

    mean: Tensor
    axes: Tensor
    centers: Tensor

    def of(self, images: Tensor) -> Tensor:
        """Return the group of each picture uint8 [N,C,H,W], int64 [N]."""
        parts = [project(descriptors(part, DETAIL), self.mean, self.axes) for part in batches(images)]
        return torch.cat([torch.cdist(part, self.centers).argmin(1) for part in parts])


def find_groups(images: Tensor, count: int) -> tuple[Groups, Tensor]:
    """Return at most `count` groups of pictures uint8 [N,C,H,W], fewer if pictures are equal, and the group of each picture, int64 [N].

    Raises ValueError for fewer than two pictures a group.
    """
    if len(images) < 2 * count:
        raise ValueError(
            f"{len(images):,} pictures are too few for {count:,} groups: choose --groups {len(images) // 2} or less."
        )
    some = images[:: -(-len(images) // FITTED)]
    raw = torch.cat([descriptors(part, DETAIL) for part in batches(some)]).double()
    mean, axes = principal_axes(raw, DETAIL.components)
    groups = Groups(mean, axes, kmeans(project(raw, mean, axes), count, rounds=ROUNDS))
    nearest = groups.of(images)
    sizes = nearest.bincount(minlength=len(groups.centers))
    order = sizes.argsort(descending=True, stable=True)
    return replace(groups, centers=groups.centers[order[: int((sizes > 0).sum())]]), order.argsort()[nearest]


def grouped(dataset: Dataset, labels: Tensor, count: int) -> Dataset:
    """Return the data with `count` groups as classes, `group 1` and so on. labels: the group of each picture, int64 [N]."""
    digest = hashlib.sha256(labels.numpy().tobytes()).hexdigest()[:16]
    return replace(
        dataset,
        labels=labels,
        classes=tuple(f"group {i + 1}" for i in range(count)),
        spec=replace(dataset.spec, condition=Condition.classes(count)),
        fingerprint=f"{dataset.fingerprint}-groups-{digest}",
        notes=[*dataset.notes, "The classes are groups of similar pictures (--groups)."],
    )
