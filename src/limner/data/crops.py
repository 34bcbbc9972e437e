"""Random crops of pictures that are kept at their own size, with the protocol of `data.batches`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from limner.core.condition import Condition
from limner.core.images import ImageSpec
from limner.data.batches import generator_at
from limner.data.decode import MIN_SIDE, target_size
from limner.data.native import Native, prepare_native
from limner.data.sampler import Sampler
from limner.data.source import Rejected


class Crops:
    """One random crop of each picture per epoch.

    The order of pictures is that of `Sampler`; position, flip and rotation of a crop are a pure function of (seed, position).
    Pictures smaller than the crop are left out and listed in `bad`, since padding would be learned.
    """

    def __init__(
        self, pictures: Native, size: int | tuple[int, int], *, flip: bool = False, rotate: bool = False,
        kept: np.ndarray | None = None,
    ) -> None:
        """size: side or (H,W) of the crop. flip: mirror horizontally with probability 1/2. rotate: by 0, 90, 180 or 270
        degrees. kept: the rows to crop from, int64 [n]; None for all.

        Raises ValueError for an invalid size, when every picture is smaller, and for rotations of a crop that is not
        square.
        """  # fmt: skip
        height, width = target_size(size, [])
        if rotate and height != width:
            raise ValueError(f"Crops of {height}x{width} cannot be rotated by 90 degrees: choose a square size, or leave out rotate.")
        rows = np.arange(len(pictures)) if kept is None else kept
        fits = (pictures.sizes[rows] >= (height, width)).all(1)
        small = rows[~fits].tolist()
        self.bad: list[Rejected] = [
            (pictures.names[i], "{}x{}, smaller than the crop of {}x{}".format(*pictures.sizes[i], height, width)) for i in small
        ]
        if not fits.any():
            if pictures.sizes[rows].min(1).max() < MIN_SIDE:
                raise ValueError(f"Every picture is smaller than {MIN_SIDE}x{MIN_SIDE}, the smallest crop: use larger pictures.")
            largest = "{}x{}".format(*pictures.sizes[rows][pictures.sizes[rows].min(1).argmax()])
            raise ValueError(f"Every picture is smaller than the crop of {height}x{width}: choose one of at most {largest}.")
        self.pictures, self.kept, self.flip, self.rotate = pictures, rows[fits], flip, rotate
        self.spec = ImageSpec(pictures.channels, height, width, Condition.classes(len(pictures.classes)))
        self.names, self.duplicates = [pictures.names[i] for i in self.kept], pictures.duplicates
        self.labels: Tensor | None = None if pictures.labels is None else pictures.labels[torch.from_numpy(self.kept)]
        self._order = Sampler(len(self.kept))

    def __len__(self) -> int:
        return len(self.kept)

    def batch(self, first: int, count: int, seed: int) -> dict[str, Tensor]:
        """Return crops first ... first + count - 1 of the endless order of `seed`.

        Returns image: uint8 [count,C,H,W] channels_last, and label: int64 [count] if there are classes.
        """
        rows = self._order.positions(first, count, seed)
        height, width = self.spec.size
        cut = np.empty((count, height, width, self.spec.channels), np.uint8)
        for i, row in enumerate(self.kept[rows].tolist()):
            cut[i] = self._cut(self.pictures.picture(row), generator_at(seed, first + i, "crop"))
        images = torch.from_numpy(cut).permute(0, 3, 1, 2)
        return {"image": images} if self.labels is None else {"image": images, "label": self.labels[torch.from_numpy(rows)]}

    def _cut(self, picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return a crop of a picture [H,W,C]. All random numbers are always drawn, so that a flip does not change the position."""
        height, width = self.spec.size
        top, left = (int(rng.integers(side - span + 1)) for side, span in zip(picture.shape, (height, width), strict=False))
        mirrored, turns = rng.integers(2), rng.integers(4)
        window = picture[top : top + height, left : left + width]
        window = np.rot90(window, int(turns)) if self.rotate else window
        return window[:, ::-1] if self.flip and mirrored else window

    def subset(self, rows: np.ndarray) -> Crops:
        """Return crops of the pictures of rows int64 [n], as a view."""
        return self._on(replace(self.pictures, validation=None), self.kept[rows])

    def own_validation(self) -> Crops | None:
        """Return crops of the same size from the validation split that the data contains; None if it contains none.

        Raises ValueError when none of its pictures is usable or large enough.
        """
        given = self.pictures
        if given.validation is None:
            return None
        held_out = prepare_native(given.validation, channels=given.channels, background=given.background)
        if not (held_out.sizes >= self.spec.size).all(1).any():
            raise ValueError(
                "Every picture of the validation split is smaller than the crop of {}x{}: choose a smaller size, or leave that split "
                "out of the data.".format(*self.spec.size)
            )
        return self._on(replace(held_out, classes=given.classes), None)

    def _on(self, pictures: Native, kept: np.ndarray | None) -> Crops:
        return Crops(pictures, self.spec.size, flip=self.flip, rotate=self.rotate, kept=kept)
