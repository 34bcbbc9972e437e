"""Crops: random windows of pictures that are kept at their own size, by the contract of `data.batches`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from limner.core.condition import Condition
from limner.core.images import ImageSpec
from limner.data.batches import generator_at
from limner.data.decode import target_size
from limner.data.native import Native, prepare_native
from limner.data.sampler import Sampler
from limner.data.source import Rejected


class Crops:
    """One window of each picture an epoch, cut anew in every epoch.

    Which picture comes is the order of `Sampler`; where it is cut and how it is turned is a pure function of (seed,
    position). Smaller pictures than the window are left out, and listed in `bad`: a reflected border would be learned.
    """

    def __init__(
        self, pictures: Native, size: int | tuple[int, int], *, flip: bool = False, rotate: bool = False,
        kept: np.ndarray | None = None,
    ) -> None:
        """size: side or (H,W) of the window. flip: mirror every other one, left to right. rotate: turn by 0, 90, 180 or
        270 degrees. kept: the rows to cut from, int64 [n]; None for all.

        Raises ValueError in one sentence for a size that makes no sense, when every picture is smaller, and for quarter
        turns of a window that is not square.
        """  # fmt: skip
        height, width = target_size(size, [])
        if rotate and height != width:
            raise ValueError(f"Crops of {height}x{width} cannot be turned by 90 degrees: choose a square size, or leave out rotate.")
        rows = np.arange(len(pictures)) if kept is None else kept
        fits = (pictures.sizes[rows] >= (height, width)).all(1)
        small = rows[~fits].tolist()
        self.bad: list[Rejected] = [
            (pictures.names[i], "{}x{}, smaller than the crop of {}x{}".format(*pictures.sizes[i], height, width)) for i in small
        ]
        if not fits.any():
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
        """Crops number first ... first + count - 1 of the endless order of `seed`.

        Returns image: uint8 [count,C,H,W] channels_last, and with classes label: int64 [count].
        """
        rows = self._order.positions(first, count, seed)
        height, width = self.spec.size
        cut = np.empty((count, height, width, self.spec.channels), np.uint8)
        for i, row in enumerate(self.kept[rows].tolist()):
            cut[i] = self._cut(self.pictures.picture(row), generator_at(seed, first + i, "crop"))
        images = torch.from_numpy(cut).permute(0, 3, 1, 2)
        return {"image": images} if self.labels is None else {"image": images, "label": self.labels[torch.from_numpy(rows)]}

    def _cut(self, picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A window of a picture [H,W,C], turned. All numbers are drawn whatever is asked for: a flip moves no window."""
        height, width = self.spec.size
        top, left = (int(rng.integers(side - span + 1)) for side, span in zip(picture.shape, (height, width), strict=False))
        mirrored, turns = rng.integers(2), rng.integers(4)
        window = picture[top : top + height, left : left + width]
        window = np.rot90(window, int(turns)) if self.rotate else window
        return window[:, ::-1] if self.flip and mirrored else window

    def subset(self, rows: np.ndarray) -> Crops:
        """Crops of some of these pictures, rows int64 [n], as an index view."""
        return self._on(replace(self.pictures, validation=None), self.kept[rows])

    def own_validation(self) -> Crops | None:
        """Crops of the same size of the held-out split, where the pictures came with one.

        Raises ValueError in one sentence when none of its pictures is usable, or large enough.
        """
        given = self.pictures
        if given.validation is None:
            return None
        held = prepare_native(given.validation, channels=given.channels, background=given.background)
        return self._on(replace(held, classes=given.classes), None)

    def _on(self, pictures: Native, kept: np.ndarray | None) -> Crops:
        return Crops(pictures, self.spec.size, flip=self.flip, rotate=self.rotate, kept=kept)
