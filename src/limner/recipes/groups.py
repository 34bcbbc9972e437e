"""Groups of similar pictures, which stand for classes where the pictures have none.

A generator and a discriminator that are conditioned on groups learn more from as many pictures than without (Liu et al. 2020,
"Diverse image generation via self-conditioned GANs"). They find the groups in the discriminator's features and renew them during
training; here they are found once, before it, in features that need no training and are the same on every machine: histograms of
oriented gradients (Dalal & Triggs 2005, "Histograms of oriented gradients for human detection") for what is where, and colors. A run
keeps its groups in its folder, and uses them again when it is resumed or extended.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import cos, pi, sin
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from limner.core.condition import Condition
from limner.core.files import write_tensors
from limner.core.images import to_float
from limner.data import Dataset
from limner.evaluation.diversity import kmeans
from limner.methods.phase import Clock
from limner.training.loop import View

SIDE = 32  # pixels; larger pictures are reduced to it
CELLS = 8  # a side of the grid over which gradients and colors are averaged
ORIENTATIONS = 6  # of gradients, in half a turn
COLOR = 0.5  # weight of colors; that of gradients is 1
COMPONENTS = 40  # principal components that are compared
FLOOR = 0.1  # of the mean variance of a component, added to each: faint ones are mostly noise
FITTED = 20_000  # pictures, evenly spaced, that components and centers are computed from
ROUNDS = 25  # of k-means (Lloyd 1982)
BATCH_NUMBERS = 1 << 24  # of the pictures that are described at once
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
    width = descriptors(dataset.images[:1]).shape[1]  # depends on the channels
    if groups is None or len(groups.mean) != width:
        groups, labels = find_groups(dataset.images, count)
    else:
        labels = groups.of(dataset.images)
    return grouped(dataset, labels, len(groups.centers)), KeepGroups(groups)


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
        parts = [_project(descriptors(part), self.mean, self.axes) for part in _batches(images)]
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
    raw = torch.cat([descriptors(part) for part in _batches(some)]).double()
    mean, axes = principal_axes(raw)
    groups = Groups(mean, axes, kmeans(_project(raw, mean, axes), count, rounds=ROUNDS))
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


def _batches(images: Tensor) -> Sequence[Tensor]:
    return images.split(max(1, BATCH_NUMBERS // images[0].numel()))


def _project(x: Tensor, mean: Tensor, axes: Tensor) -> Tensor:
    """Descriptors [n,D] -> components of unit length, float64 [n,k]"""
    return F.normalize((x.double() - mean) @ axes, dim=1)


def descriptors(images: Tensor) -> Tensor:
    """Return the gradients and colors of pictures uint8 [n,C,H,W], float32 [n, CELLS^2 * (ORIENTATIONS + C)].

    Gradients are those of the gray picture, on white where it is transparent: their strength near each orientation, averaged over a
    cell; the square root keeps strong edges from outweighing all others.
    """
    x = to_float(images).contiguous()
    x = F.adaptive_avg_pool2d(x, (min(SIDE, x.shape[2]), min(SIDE, x.shape[3])))
    if x.shape[1] == 4:
        alpha = (x[:, 3:] + 1) / 2
        x = torch.cat([x[:, :3] * alpha + (1 - alpha), x[:, 3:]], 1)
    gray = x[:, :3].mean(1, keepdim=True)
    smooth = F.avg_pool2d(F.pad(gray, (1, 1, 1, 1), mode="replicate"), 3, 1)
    padded = F.pad(smooth, (1, 1, 1, 1), mode="replicate")
    across, down = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2], padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    strength = torch.hypot(across, down)
    angles = [k * pi / ORIENTATIONS for k in range(ORIENTATIONS)]
    near = [
        ((cos(a) * across + sin(a) * down) / strength.clamp_min(1e-6)).square().square() * strength for a in angles
    ]  # strength * cos^4
    gradients = F.adaptive_avg_pool2d(torch.cat(near, 1), CELLS).sqrt().flatten(1)
    return torch.cat([gradients, COLOR * F.adaptive_avg_pool2d(x, CELLS).flatten(1)], 1)


def principal_axes(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return (mean [D], axes [D,k]) of rows x [n,D]: (x - mean) @ axes are principal components.

    Each is divided by the square root of its standard deviation, so that the first does not decide alone, nor does noise: of 30 groups of
    Fashion-MNIST, 74 % of the pictures have the most frequent class of their group; 69 % undivided, 74 % if all variances are 1,
    where a few pictures of two clear kinds are not separated.
    """
    mean = x.mean(0)
    values, vectors = torch.linalg.eigh((x - mean).T @ (x - mean) / len(x))
    values, vectors = values.flip(0)[:COMPONENTS].clamp_min(0), vectors.flip(1)[:, :COMPONENTS]
    return mean, vectors / (values + FLOOR * values.mean() + 1e-12) ** 0.25
