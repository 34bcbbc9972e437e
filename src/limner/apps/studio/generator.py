"""Pictures of a generator from a `State`: the path of every slider, of the map, and of `limner picture`."""

from __future__ import annotations

import threading
from functools import cached_property
from typing import Any

import numpy as np
import torch

from limner.apps.editing import codes, latent
from limner.apps.editing.axes import Axes, axes_of, axis_count
from limner.apps.editing.directions import Directions
from limner.apps.model import GeneratorModel, _groups
from limner.apps.output import Progress
from limner.apps.studio.state import State
from limner.core.device import autocast
from limner.core.images import to_uint8
from limner.networks.contracts import StyleBased


class Drawing:
    """A generator with what its pictures need: axes, and calibrated truncation. Its methods may be called from any thread."""

    def __init__(self, model: GeneratorModel) -> None:
        self.model = model
        self._lock, self._axes_lock = threading.Lock(), threading.Lock()
        self._axes: Axes | None = None

    @property
    def axes(self) -> Axes:
        """The axes, which are computed at the first use: that takes a second or more."""
        with self._axes_lock:
            if self._axes is None:
                self._axes = axes_of(self.model)
            return self._axes

    @cached_property
    def axis_count(self) -> int:
        """Number of axes, which is known before they are."""
        return axis_count(self.model)

    def prepare(self) -> None:
        """Compute the axes in a thread, before a slider needs them."""
        threading.Thread(target=lambda: self.axes, daemon=True).start()

    def draw(self, state: State, progress: Progress | None = None) -> np.ndarray:
        """Return the picture of a state, uint8 [C,H,W]. Raises ValueError for a state that the model does not have.

        Without axes, map and mixing it is the first picture of `limner sample` with the same seed, label and truncation.
        """
        return self.draw_many(state, None if state.at is None else np.array([state.at]), progress)[0]

    def draw_many(self, state: State, places: np.ndarray | None, progress: Progress | None = None) -> np.ndarray:
        """Return the pictures uint8 [N,C,H,W] of a state at places [N,2] of the map, or the one of the state for None."""
        with self._lock:
            state.check(self.model, self.axis_count)
            if state.latent is not None or state.directions:
                return self._edited(state)[None]
            labels = self.labels(state)
            self.calibrate(state, labels, progress)
            point = self.point(state, labels)
            moves = self.moves(state)
            if moves.any():
                point = self.axes.moved(point, moves)
            points = point if places is None else self.axes.placed(point[0], places)
            repeated = None if labels is None else np.repeat(labels, len(points))
            if self.model.has_styles:
                return self._synthesized(self.styles(state, points, labels))
            return np.concatenate([  # one by one: a picture does not depend on those drawn with it
                np.asarray(self.model.render(points[i : i + 1].astype(np.float32), None if repeated is None else repeated[:1]))
                for i in range(len(points))
            ])  # fmt: skip

    def moves(self, state: State) -> np.ndarray:
        """Return the standard deviations along all axes, [K]."""
        moves = np.zeros(self.axis_count)
        for axis, value in state.axes.items():
            moves[axis - 1] = value
        return moves

    def labels(self, state: State) -> np.ndarray | None:
        """Return the class number [1] of a state, drawn from the seed as `limner sample` draws it if none is given."""
        return self.model.labels(1, state.label, np.random.default_rng(state.seed).spawn(2)[0])

    def calibrate(self, state: State, labels: np.ndarray | None, progress: Progress | None = None) -> None:
        """Measure what truncation needs, once for each class."""
        if state.truncation < 1:
            self.model.calibrate(labels, progress)

    def _latent(self, seed: int, state: State, labels: np.ndarray | None) -> np.ndarray:
        """Return the latent [1,Z] of a seed."""
        if state.truncation < 1 and not self.model.has_styles:
            return self.model._typical_draws([np.random.default_rng([seed, 0])], labels, state.truncation)[0]
        return self.model.latents(1, np.random.default_rng(seed).spawn(2)[1], labels)

    def point(self, state: State, labels: np.ndarray | None) -> np.ndarray:
        """Return the latent [1,Z] or style [1,W], float64, that a state starts from."""
        z = self._latent(state.seed, state, labels)
        return (latent.mapped(self.model, z, labels) if self.model.has_styles else z).astype(np.float64)

    def styles(self, state: State, points: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
        """Return the styles of every layer, truncated and mixed, of styles [N,W] and a class number [1]: float64 [N,L,W]."""
        model, network = self.model, self.model.network
        assert isinstance(network, StyleBased)
        mean: Any = 0.0
        if state.truncation < 1:
            mean = model._mean_styles[int(_groups(1, labels)[0])].double().cpu().numpy()

        def truncated(w: np.ndarray) -> np.ndarray:
            return w if state.truncation == 1 else mean + state.truncation * (w - mean)

        styles: np.ndarray = np.repeat(truncated(points)[:, None], network.layers, 1)
        if state.mix_seed is not None:
            other = latent.mapped(model, self._latent(state.mix_seed, state, labels), labels).astype(np.float64)
            styles[:, state.mix_from :] = truncated(other)
        return styles

    def _edited(self, state: State) -> np.ndarray:
        """Return the picture uint8 [C,H,W] of a state with a latent file or directions. Raises ValueError for those of other weights."""
        model, base = self.model, None
        if state.latent is not None:
            try:
                base = latent.Latent.load(state.latent)
            except FileNotFoundError as error:
                raise ValueError(f"There is no file {state.latent}: invert the picture again.") from error
            found = codes.codes_of(model, [base])
        else:
            labels = self.labels(state)
            self.calibrate(state, labels)
            point = self.point(state, labels)
            point = self.styles(state, point, labels) if model.has_styles else point
            found = codes.Codes(point.astype(np.float32), labels)
        if state.directions:
            known = Directions.load(model)
            if known is None:
                raise ValueError(f"{model.folder} has no directions yet: find them with `limner directions {model.folder}`.")
            for name, by in sorted(state.directions.items()):
                found = known.moved(model, found, name, by)
        moves = self.moves(state)
        if moves.any():
            found = codes.Codes(self.axes.moved(found.code.astype(np.float64), moves).astype(np.float32), found.c)
        return np.asarray(latent.render(model, codes.latents_of(model, found, [base]))[0])

    @torch.no_grad()
    def _synthesized(self, styles: np.ndarray) -> np.ndarray:
        """Return pictures uint8 [N,C,H,W] of styles [N,L,W], one by one."""
        model, made = self.model, []
        assert isinstance(model.network, StyleBased)
        for row in styles:
            with autocast(model._device, model._precision):
                w = torch.from_numpy(row[None].astype(np.float32)).to(model._device)
                made.append(to_uint8(model.network.synthesis(w)).cpu().numpy())
        return np.concatenate(made)
