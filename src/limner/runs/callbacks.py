"""Callbacks that show the progress of a run: sheets of samples, validation, and an animation at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch import nn

from limner.core import artifact, schedule
from limner.core.files import write_whole
from limner.core.images import encode_animation, encode_png, grid, to_pil, write_animation
from limner.methods.phase import Clock
from limner.runs.experiment import Validator
from limner.training.loop import View


class _AtMilestones:
    """Due whenever a batch crosses a preview milestone of the budget, which may be revised."""

    def due(self, clock: Clock) -> bool:
        return any(clock.seen - clock.batch < at <= clock.seen for at in schedule.preview_milestones(clock.budget))


class Previews(_AtMilestones):
    """Writes a sheet of outputs of the averaged network for fixed inputs, often at first, then evenly."""

    def __init__(self, preview: Callable[[nn.Module], np.ndarray], network: str) -> None:
        self.preview, self.network = preview, network

    def __call__(self, view: View) -> None:
        sheet = sheet_of(self.preview(view.averages[self.network]))
        content = encode_png(sheet)
        write_whole(view.folder / "samples" / f"{view.clock.seen:09d}.png", content)
        write_whole(view.folder / "preview.png", content)
        if view.tensorboard_writer:
            view.tensorboard_writer.picture(view.clock.seen, sheet)


def sheet_of(pictures: np.ndarray) -> np.ndarray:
    """Return the sheet uint8 [C,H',W'] of a preview's pictures uint8 [N,C,H,W]."""
    return grid(pictures, columns=8)


class Validation(_AtMilestones):
    """Returns the validators' values for the log; `keep` is called when the first validator's is the best so far."""

    def __init__(
        self, validators: Sequence[Validator], network: str, keep: Callable[[View, Mapping[str, float]], None], pause: int = 0
    ) -> None:
        """pause: images seen at which the run ends early, where it is validated too."""
        self.validators, self.network, self.keep, self.pause = validators, network, keep, pause

    def due(self, clock: Clock) -> bool:
        return super().due(clock) or (self.pause > 0 and clock.seen == self.pause)

    def __call__(self, view: View) -> Mapping[str, float]:
        figures: dict[str, float] = {}
        for validator in self.validators:
            figures |= validator.measure(view.averages[self.network])
        first = self.validators[0]
        earlier = [entry[first.name] for entry in artifact.read_log(view.folder) if first.name in entry]
        if view.clock.seen and first.improves(figures[first.name], earlier):
            self.keep(view, figures)
        return figures


def animate(folder: Path) -> None:
    """Write `progress.webp`: the sample sheets of the whole run in order, at most about 640 px wide."""
    frames = []
    for path in sorted((folder / "samples").glob("*.png")):
        with Image.open(path) as picture:
            frames.append(_frame(picture))
    if frames:
        write_animation(folder / "progress.webp", frames, milliseconds=400)


def time_encoding(sheet: np.ndarray) -> tuple[float, float]:
    """Return the seconds to encode a preview (pictures uint8 [N,C,H,W]) as `Previews` does, and as an animation frame."""
    start = time.monotonic()
    whole = sheet_of(sheet)
    encode_png(whole)
    between = time.monotonic()
    encode_animation([_frame(to_pil(whole))], ".webp")
    return between - start, time.monotonic() - between


def _frame(picture: Image.Image) -> np.ndarray:
    picture.thumbnail((640, 640), Image.Resampling.BOX)
    array = np.asarray(picture)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
