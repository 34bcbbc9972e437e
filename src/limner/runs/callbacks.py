"""Hooks that let people watch a run: sheets of samples, a cheap metric with its curve, the run as an animation."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from limner.core import artifact, schedule
from limner.core.images import encode_animation, grid, to_pil, write_animation, write_png
from limner.data import Dataset
from limner.evaluation import FrechetProbe, ImageSet
from limner.methods.phase import Clock
from limner.training.loop import View

METRICS = ("none", "convolutions", "pixels", "own")  # features of the metric that a run watches
SAMPLES, REFERENCE = 500, 5_000  # pictures it compares
FEWEST = 50  # pictures of a set below which a distance between distributions says nothing


class _AtMarks:
    """Due whenever a batch crosses one of the preview marks of the budget, which may be revised."""

    def due(self, clock: Clock) -> bool:
        return any(clock.seen - clock.batch < mark <= clock.seen for mark in schedule.preview_milestones(clock.budget))


class Previews(_AtMarks):
    """A hook: a sheet of samples from the averaged network and fixed inputs, often at first, then evenly."""

    def __init__(self, preview: Callable[[nn.Module], np.ndarray], network: str) -> None:
        self.preview, self.network = preview, network

    def __call__(self, view: View) -> None:
        sheet = grid(self.preview(view.averages[self.network]), columns=8)
        write_png(view.folder / "samples" / f"{view.clock.seen:09d}.png", sheet)
        write_png(view.folder / "preview.png", sheet)
        if view.tensorboard_writer:
            view.tensorboard_writer.picture(view.clock.seen, sheet)


class Meter(_AtMarks):
    """A hook: the Fréchet distance of a few samples to the data, on cheap features; the best state is kept.

    Of use for the curve of one run and for choosing its best moment, not for comparing models: it sees 500 samples.
    """

    def __init__(
        self,
        generate: Callable[[nn.Module, int], np.ndarray],  # (averaged network, n) -> uint8 [n,C,H,W]
        network: str,
        dataset: Dataset,
        features: str,
        keep: Callable[[View, Mapping[str, float]], None],  # called when a value is the lowest so far
    ) -> None:
        self.generate, self.network, self.dataset, self.features, self.keep = generate, network, dataset, features, keep
        self.probe: FrechetProbe | None = None

    def prepare(self) -> FrechetProbe:
        """The comparison with the data, made at the first call."""
        if self.probe is None:
            data = self.dataset
            whole = ImageSet(data.images, data.labels, data.classes, data.name)
            self.probe = FrechetProbe(whole.some(REFERENCE), features=self.features, cache=self.features == "own")
        return self.probe

    def __call__(self, view: View) -> Mapping[str, float]:
        figures = self.prepare()(torch.from_numpy(self.generate(view.averages[self.network], SAMPLES)))
        figures = {name: float(f"{value:.5g}") for name, value in figures.items()}
        (name, value), *_ = figures.items()
        earlier = [entry[name] for entry in artifact.read_log(view.folder) if name in entry]
        if view.clock.seen and value <= min(earlier, default=float("inf")):
            self.keep(view, figures)
        return figures


def animate(folder: Path) -> None:
    """`progress.webp`: the sample sheets of the whole run in their order, at most about 640 px wide."""
    frames = []
    for path in sorted((folder / "samples").glob("*.png")):
        with Image.open(path) as picture:
            frames.append(_frame(picture))
    if frames:
        write_animation(folder / "progress.webp", frames, milliseconds=400)


def rehearse(sheet: np.ndarray) -> tuple[float, float]:
    """Seconds to encode a preview (pictures uint8 [N,C,H,W]) as the two files of `Previews`, and as a frame of the animation."""
    start = time.monotonic()
    whole = to_pil(grid(sheet, columns=8))
    whole.save(io.BytesIO(), "PNG")
    between = time.monotonic()
    encode_animation([_frame(whole)], ".webp")
    return 2 * (between - start), time.monotonic() - between


def _frame(picture: Image.Image) -> np.ndarray:
    picture.thumbnail((640, 640), Image.Resampling.BOX)
    array = np.asarray(picture)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
