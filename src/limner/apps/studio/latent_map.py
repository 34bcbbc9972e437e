"""A map of the latent space: the plane of its first two axes, with real pictures where the generator comes nearest to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from limner.apps.encode import encoded, encoder_of
from limner.apps.model import GeneratorModel
from limner.apps.studio.generator import Drawing
from limner.apps.studio.state import State
from limner.apps.typical import reduced
from limner.core import artifact, checkpoint
from limner.core.schema import MAX_JSON_BYTES, Mismatch, parse
from limner.data import open_source, prepare
from limner.data.request import DataRequest
from limner.data.scan import evenly_spaced

CELLS = 13  # along a side
REACH = 2.5  # standard deviations from the center to an edge
REAL = 1200  # real pictures that landmarks are chosen from
LANDMARKS = 12
MIN_DISTANCE = 3  # cells between two landmarks, at least


@dataclass(frozen=True)
class Landmark:
    """A real picture on the map. place: (x,y) of the drawn picture nearest to it; index: into the real pictures."""

    place: tuple[float, float]
    index: int
    distance: float  # to that picture, relative to the median over all real pictures


@dataclass(frozen=True)
class Map:
    """Pictures of the cells uint8 [CELLS * CELLS,C,H,W], row by row from the top left, and the landmarks.

    real: the landmarks' pictures uint8 [K,C,H,W]. note: what distances are measured in, or why there are no landmarks.
    """

    pictures: np.ndarray
    landmarks: list[Landmark]
    real: np.ndarray
    note: str
    reach: float


def reach_of(drawing: Drawing) -> float:
    """Return how far the map goes: of latents with few dimensions less, since both coordinates lie on a sphere."""
    axes = drawing.axes
    return REACH if axes.straight else min(REACH, 0.6 * float(np.sqrt(axes.steps.shape[1])))


def places(reach: float) -> np.ndarray:
    """Return the centers of the cells [CELLS * CELLS, 2], row by row; y grows upward."""
    steps = (np.arange(CELLS) + 0.5) / CELLS * 2 - 1
    xs, ys = np.meshgrid(steps * reach, -steps * reach)
    return np.stack([xs.ravel(), ys.ravel()], 1)


def make(drawing: Drawing, state: State, real: Callable[[], tuple[np.ndarray, str]]) -> Map:
    """Return the map of a state. real: returns real pictures uint8 [N,C,H,W] and a note; called once."""
    state = replace(state, at=(0.0, 0.0))
    reach = reach_of(drawing)
    grid = places(reach)
    made = np.concatenate([drawing.draw_many(state, row) for row in np.split(grid, CELLS)])
    pictures, note = real()
    empty = np.zeros((0, *made.shape[1:]), np.uint8)
    if not len(pictures):
        return Map(made, [], empty, note, reach)
    features, named = features_of(drawing.model)
    marks = landmarks(features(made), features(pictures), grid)
    return Map(made, marks, pictures[[mark.index for mark in marks]], f"Distances are measured in {named}.", reach)


def landmarks(drawn: np.ndarray, real: np.ndarray, grid: np.ndarray) -> list[Landmark]:
    """Return up to LANDMARKS real pictures, best matches first, on cells at least MIN_DISTANCE from each other.

    drawn: features [CELLS * CELLS, F]. real: features [N,F]. grid: places of the cells.
    """
    scale = np.concatenate([drawn, real]).std(0)
    drawn, real = (part[:, scale > 0] / scale[scale > 0] for part in (drawn.astype(np.float64), real.astype(np.float64)))
    squared = (real**2).sum(1)[:, None] + (drawn**2).sum(1)[None] - 2 * real @ drawn.T
    distances = np.sqrt(np.maximum(squared, 0))  # [N, cells]
    cells, nearest = distances.argmin(1), distances.min(1)
    typical = max(1e-12, float(np.median(nearest)))
    chosen: list[Landmark] = []
    taken: list[tuple[int, int]] = []
    for i in np.argsort(nearest, kind="stable").tolist():
        row, column = divmod(int(cells[i]), CELLS)
        if any(max(abs(row - r), abs(column - c)) < MIN_DISTANCE for r, c in taken):
            continue
        taken.append((row, column))
        x, y = grid[cells[i]]
        chosen.append(Landmark((float(x), float(y)), i, float(nearest[i]) / typical))
        if len(chosen) == LANDMARKS:
            break
    return chosen


def features_of(model: GeneratorModel) -> tuple[Callable[[np.ndarray], np.ndarray], str]:
    """Return a function from pictures uint8 [N,C,H,W] to features [N,F], and its name: the run's own discriminator if there is
    a checkpoint, otherwise pixels."""
    try:
        encoder = encoder_of(model)
        name = "features of the run's encoder" if encoder.key == "latents" else "features of the run's discriminator"
        return lambda pictures: encoded(encoder, torch.from_numpy(np.asarray(pictures)), model._device).reshape(len(pictures), -1), name
    except ValueError:
        return lambda pictures: reduced(torch.from_numpy(np.asarray(pictures))).numpy(), "downscaled pixels"


def real_pictures(model: GeneratorModel, label: int | None) -> tuple[np.ndarray, str]:
    """Return up to REAL training pictures uint8 [N,C,H,W] of a class, or of all, and a note if there are none.

    They are read from where the run was trained on, as its checkpoint records it.
    """
    try:
        request = request_of(model.folder)
        source = open_source(request.data, labels=request.labels or True, classes_from=request.classes_from)
        found = prepare(source, size=model.spec.size, channels=str(model.spec.channels), **artifact.preparation(model.description))
    except (ValueError, OSError) as error:
        return np.zeros((0, model.spec.channels, *model.spec.size), np.uint8), f"There are no landmarks: {error}"
    rows = np.arange(len(found))
    if label is not None and found.labels is not None and list(found.classes) == model.classes:
        rows = np.flatnonzero(found.labels.numpy() == label)
    rows = rows[evenly_spaced(None, len(rows), REAL)] if len(rows) else rows
    return found.images[torch.from_numpy(rows)].numpy(), ""


def request_of(folder: Path) -> DataRequest:
    """Return the data that a run was trained on. Raises ValueError when its checkpoint does not say."""
    run = checkpoint.run_of(folder)
    path = run / "checkpoint" / "command.json"
    try:
        content = path.read_bytes()
        if len(content) > MAX_JSON_BYTES:
            raise ValueError(f"{path} is damaged.")
        document: Any = parse(content)
        data = {key: document["data"][key] for key in ("data", "labels", "classes_from")}
        if not isinstance(data["data"], str):
            raise TypeError
    except OSError as error:
        raise ValueError(f"{run} does not say where its pictures are.") from error
    except (Mismatch, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged.") from error
    return DataRequest(**{**data, "labels": None if data["labels"] is None else Path(data["labels"])})
