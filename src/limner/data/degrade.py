"""Degradations during training: pairs of a degraded and a clean picture, made from clean pictures alone.

A degradation is a function of one picture and a random generator. `DEGRADATIONS` lists them; a new one is a class and an entry
there. `Degraded` applies it anew at every position of the order: a picture is never degraded twice in the same way, yet the
result is a pure function of (seed, position).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limner.core.images import ImageSpec
from limner.data.batches import Splittable, generator_at
from limner.data.degradations.blur import Blur, MotionBlur
from limner.data.degradations.chain import Chain
from limner.data.degradations.codecs import Jpeg, Webp
from limner.data.degradations.holes import Holes
from limner.data.degradations.noise import GaussianNoise, LowLight, PoissonNoise
from limner.data.degradations.protocol import Degradation, Masking, in_dtype, makes_masks, output_channels
from limner.data.degradations.resize import Downscale, Gray
from limner.data.degradations.scratches import Scratches
from limner.data.degradations.second_order import SecondOrder

__all__ = [
    "DEGRADATIONS", "Blur", "Chain", "Degradation", "Degraded", "Downscale", "GaussianNoise", "Gray", "Holes", "Jpeg", "LowLight",
    "MotionBlur", "PoissonNoise", "Scratches", "SecondOrder", "Webp", "degradation", "in_dtype", "parse_degradations",
]  # fmt: skip


DEGRADATIONS: Mapping[str, Callable[..., Degradation]] = {
    "downscale": Downscale, "noise": GaussianNoise, "poisson": PoissonNoise, "blur": Blur, "motion": MotionBlur, "jpeg": Jpeg,
    "webp": Webp, "low-light": LowLight, "scratches": Scratches, "holes": Holes, "gray": Gray, "real": SecondOrder,
}  # fmt: skip
MIXED: Mapping[str, Mapping[str, Any]] = {  # name -> options in a mix, in the order in which they happen to a picture
    "gray": {},                                     # the film
    "low-light": {},                                # the scene, the lens and the camera
    "motion": {"length": (3.0, 15.0)},
    "blur": {"sigma": (0.2, 3.0)},
    "scratches": {},                                # the print
    "real": {},                                     # its scan, and what editors do to it
    "downscale": {},
    "poisson": {"strength": (0.05, 3.0), "gray": 0.2},
    "noise": {"sigma": (0.0, 40.0), "gray": 0.2},
    "webp": {"quality": (10, 95)},
    "jpeg": {"quality": (10, 95), "subsampling": ("4:2:0", "4:4:4")},
    "holes": {"fraction": (0.1, 0.4)},
}
MIXED_PROBABILITY = 0.8  # of each degradation of several
CLEAN_PROBABILITY = 0.1  # of none at all, by default


def degradation(name: str, **options: Any) -> Degradation:
    """Return the degradation of a name. Raises ValueError for an unknown name and for invalid options."""
    if name not in DEGRADATIONS:
        raise ValueError(f"The degradation {name!r} is unknown: choose {', '.join(DEGRADATIONS)}.")
    return DEGRADATIONS[name](**options)


def parse_degradations(
    text: str, scale: int = 1, clean: float = CLEAN_PROBABILITY, allowed: Collection[str] = tuple(MIXED)
) -> Chain:
    """Return the mix of names separated by commas: "jpeg,noise,blur,scratches".

    Each is drawn with a random strength and left out at random. They happen in a physical order (`MIXED`), whatever the order of
    the names. scale: of the result; above 1, `downscale` is added unless `real` is there, which downscales itself. clean:
    fraction of the pictures that stay as they are, so that a network learns to leave such a picture unchanged.
    allowed: the names that may be given. Raises ValueError for another name, for none, and for `downscale` at scale 1.
    """
    names = {name.strip() for name in text.split(",") if name.strip()}
    choice = f"choose from {', '.join(sorted(allowed))}, separated by commas."
    if unknown := sorted(names - set(allowed)):
        raise ValueError(f"The degradation {unknown[0]!r} is unknown: {choice}")
    if "downscale" in names and scale == 1:
        raise ValueError("The degradation 'downscale' needs a scale of 2, 3 or 4.")
    if not names:
        raise ValueError(f"No degradation is named: {choice}")
    if scale != 1 and "real" not in names:
        names.add("downscale")
    sized = {"factor": scale}
    steps = [degradation(name, **options, **(sized if name in ("real", "downscale") else {})) for name, options in MIXED.items() if name in names]
    return Chain(steps, probability=MIXED_PROBABILITY if len(steps) > 1 else 1.0, clean=clean)


class Degraded:
    """Pairs for a restorer, with the protocol of `data.batches`: `target` is the clean picture, `image` the degraded one.

    A degradation that makes masks adds `mask`: where `image` has a hole.
    """

    def __init__(self, clean: Splittable, degradation: Degradation) -> None:
        """clean: a Dataset, Subset or Crops.

        Raises ValueError for a size that is not a multiple of `scale`, and for gray pictures that a degradation to gray does
        not change.
        """
        height, width = clean.spec.size
        if height % degradation.scale or width % degradation.scale:
            raise ValueError(
                f"Pictures of {height}x{width} cannot be made {degradation.scale} times smaller: choose a size that is a "
                f"multiple of {degradation.scale}."
            )
        if clean.spec.channels == 1 and output_channels(degradation, 3) == 1:
            raise ValueError("These pictures are gray already: use color pictures to learn to add color.")
        self.clean, self.degradation = clean, degradation
        self.masks = makes_masks(degradation)
        self.channels = output_channels(degradation, clean.spec.channels)  # of `image`

    @property
    def spec(self) -> ImageSpec:
        """Shape of the targets; an image is `degradation.scale` times smaller and has `channels`."""
        return self.clean.spec

    @property
    def names(self) -> Sequence[str]:
        return self.clean.names

    @property
    def labels(self) -> Tensor | None:
        return self.clean.labels

    @property
    def duplicates(self) -> Sequence[Sequence[str]]:
        return self.clean.duplicates

    def __len__(self) -> int:
        return len(self.clean)

    def batch(self, first: int, count: int, seed: int) -> dict[str, Tensor]:
        """Return pairs first ... first + count - 1 of the order of `seed`, which is that of the clean pictures.

        Returns image: uint8 [count,channels,H/scale,W/scale], target: uint8 [count,C,H,W], both channels_last, mask (if
        `masks`): uint8 [count,1,H/scale,W/scale], 1 in a hole and 0 elsewhere, and the other tensors of the clean batch.
        """
        batch = self.clean.batch(first, count, seed)
        target = batch.pop("image")
        (height, width), degrade = self.spec.size, self.degradation
        size = (height // degrade.scale, width // degrade.scale)
        made, masks = np.empty((count, *size, self.channels), np.uint8), np.empty((count, 1, *size), np.uint8)
        for i, picture in enumerate(target.permute(0, 2, 3, 1).numpy()):
            rng = generator_at(seed, first + i, "degradation")
            if isinstance(degrade, Masking) and self.masks:
                made[i], masks[i, 0] = degrade.with_mask(picture, rng)
            else:
                made[i] = degrade(picture, rng)
        holes = {"mask": torch.from_numpy(masks)} if self.masks else {}
        return {"image": torch.from_numpy(made).permute(0, 3, 1, 2), "target": target, **holes, **batch}

    def subset(self, rows: np.ndarray) -> Degraded:
        """Return pairs of the clean pictures of rows int64 [n], as a view."""
        return Degraded(self.clean.subset(rows), self.degradation)

    def own_validation(self) -> Degraded | None:
        """Return pairs from the validation split that the clean data contains, degraded in the same way."""
        held_out = self.clean.own_validation()
        return None if held_out is None else Degraded(held_out, self.degradation)
