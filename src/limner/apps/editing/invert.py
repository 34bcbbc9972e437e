"""Inversion: the latent of a picture, so that it can be edited.

    picture -> as the training data -> encoder: start and class -> Levenberg-Marquardt -> (w+) -> latent -> (tuned copy)

Zhu et al. 2016, "Generative visual manipulation on the natural image manifold": an encoder predicts, an optimization refines.
The optimization is a least-squares one (`search`), which needs a dozen steps where gradient descent needs hundreds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from limner.apps.discriminator import last_input, load_discriminator
from limner.apps.editing import tune as tuning
from limner.apps.editing.encoder import encoder_for
from limner.apps.editing.latent import Latent, fingerprint, latent_of, render, synthesize
from limner.apps.editing.objective import Objective
from limner.apps.editing.search import (
    LARGEST_JACOBIAN,
    Deadline,
    Found,
    Tick,
    descend,
    evaluated,
    levenberg_marquardt,
    never,
    residuals,
)
from limner.apps.editing.spaces import Space, space_of
from limner.core import artifact
from limner.core.images import to_float
from limner.data.image import decode_image, parse_color
from limner.evaluation.image_quality import psnr_of
from limner.networks.latent_encoder import LatentEncoder

STEPS = 15               # of Levenberg-Marquardt on pixels: Jacobians
FIRST_STEPS = 2          # of them, from each start, before the best is chosen
FEATURE_STEPS = 3        # on pixels and features, for pictures that are no samples of the generator
STARTS = 3               # at most, whose costs are within CLOSE of the best one's
CLOSE = 0.5
RANDOM_STARTS = 128      # random coordinates among which starts are chosen, besides the encoder's
GRADIENT_STEPS = 25      # of Adam in place of one step where there are too many coordinates
STYLE_STEPS = 60         # of Adam in w+
CLASS_WEIGHT = 0.1       # of the encoder's -log p(class) beside the cost, a logarithm of squared errors
SAMPLES = 256            # from which the scale of features is measured
SAMPLE_ERROR = 4e-4      # mean squared error (40 dB) below which a picture is taken for a sample: its latent is found

Progress = Callable[[int, int], None]
Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Start:
    """Coordinates [D] and the class from which a search begins. unlikely: what the class adds to the cost."""

    q: Tensor
    label: int | None
    unlikely: float


@dataclass(frozen=True, eq=False)
class Inverted:
    """An inverted picture: its latent, the picture as the training data uint8 [C,H,W], and its reconstructions and PSNR in dB.

    changes: of a tuned copy's weights, by name; tuned, tuned_psnr: of that copy.
    """

    latent: Latent
    target: np.ndarray
    made: np.ndarray
    psnr: float
    changes: dict[str, Tensor] | None = None
    tuned: np.ndarray | None = None
    tuned_psnr: float | None = None


def target_of(model: Any, image: Image.Image) -> np.ndarray:
    """Return a picture of any size and mode as the model's training data were prepared, uint8 [C,H,W]. Raises Damaged."""
    prepared = artifact.preparation(model.description)
    array, _ = decode_image(image, model.spec.size, model.spec.channels, prepared["fit"], parse_color(prepared["background"]))
    return np.ascontiguousarray(array.transpose(2, 0, 1))


class Inverter:
    """What inverts pictures with one generator: its space, encoder and features, computed once.

    Raises ValueError for a generator with a condition other than classes. encoder: False starts from random latents, which
    takes no training and more steps. progress, say: of the encoder's training (`encoder_for`).
    """

    def __init__(self, model: Any, encoder: bool = True, progress: Progress | None = None, say: Say | None = None) -> None:
        if model.spec.condition.kind not in ("none", "classes"):
            raise ValueError(f"{model.folder} is conditioned on {model.spec.condition}: only pictures of generators without a condition or with classes can be inverted.")
        self.model, self.fingerprint = model, fingerprint(model)
        self.space: Space = space_of(model)
        self.encoder: LatentEncoder | None = None
        self.discriminator: Any = None
        try:
            self.discriminator = load_discriminator(model)
        except ValueError:  # only the published files are there
            encoder = True
        if encoder:
            self.encoder = encoder_for(model, self.space, self.fingerprint, progress, say)
        self._scale = self._feature_scale()

    @torch.no_grad()
    def _feature_scale(self) -> Tensor:
        """Return the standard deviation [F] of each feature over samples, with a tenth of their mean added."""
        rng = np.random.default_rng([0, 0, 4])
        where, classes = self.model._device, self.model.spec.classes
        rows = []
        for _ in range(SAMPLES // 64):
            q = self.space.draw(64, rng).to(where)
            c = torch.from_numpy(rng.integers(0, classes, 64)).to(where) if classes else None
            rows.append(self._raw_features(synthesize(self.model, self.space.code(q, c), c), c))
        deviation = torch.cat(rows).std(0)
        return deviation + 0.1 * deviation.mean() + 1e-8

    def _raw_features(self, x: Tensor, c: Tensor | None) -> Tensor:
        if self.discriminator is not None:
            return last_input(self.discriminator, x, *(() if c is None else (c,)))
        assert self.encoder is not None
        features: Tensor = self.encoder(x)
        return features.float()

    def features(self, x: Tensor, c: Tensor | None) -> Tensor:
        """Return features [N,F] of pictures [N,C,H,W] in units of their deviation over samples."""
        return self._raw_features(x, c) / self._scale

    def invert(self, target: np.ndarray, label: int | None = None, steps: int = STEPS, deadline: Deadline = never,
               tick: Tick | None = None) -> Inverted:  # fmt: skip
        """Return the latent of a picture uint8 [C,H,W] (`target_of`). label: the class; None finds it.

        The pixels are fitted first, and pixels and features together afterwards unless the picture is a sample's.
        """
        x = to_float(torch.from_numpy(target)[None].to(self.model._device))
        pixels, whole = Objective(self.model, self.space, x), Objective(self.model, self.space, x, self.features)
        if self.space.size * pixels.count > LARGEST_JACOBIAN:
            found, label = self._by_gradient(whole, label, steps, deadline, tick)
        else:
            found, label = self._by_least_squares(pixels, label, steps, deadline, tick)
            if not found.done and float(residuals(pixels, found.q[None], label).square().sum()) > SAMPLE_ERROR:
                found = levenberg_marquardt(whole, Found(found.q, math.inf, found.damping), label, min(steps, FEATURE_STEPS), deadline, tick)
        c = None if label is None else torch.tensor([label], device=found.q.device)
        code = self.space.code(found.q[None], c)[0]
        if self.space.layers and not found.done:
            code = self._refined(whole, code, label, deadline)
        latent = latent_of(self.model, code.cpu().numpy(), label)
        made = render(self.model, [latent])[0]
        return Inverted(latent, target, made, psnr_of(made, target))

    def tune(self, inverted: Inverted, steps: int = tuning.STEPS, deadline: Deadline = never,
             tick: Tick | None = None) -> Inverted:  # fmt: skip
        """Return the inverted picture with a tuned copy's changes of weights (`apps.editing.tune`)."""
        latent, target = inverted.latent, inverted.target
        changes = tuning.tune(self.model, latent.code, latent.label, target, steps, deadline=deadline, tick=tick)
        own = dict(self.model.network.named_parameters())
        weights = {name: own[name] + change for name, change in changes.items()}
        made = render(self.model, [latent], weights)[0]
        return replace(inverted, changes=changes, tuned=made, tuned_psnr=psnr_of(made, target))

    # ---- search ------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _starts(self, objective: Objective, label: int | None) -> list[Start]:
        """Return starts, the most promising first: the encoder's for each class, or the best of a
        pool; for one class alone, the best of both."""
        where, encoder = self.model._device, self.encoder
        labels: Sequence[int | None] = [label] if label is not None or not self.model.spec.classes else range(self.model.spec.classes)
        pool = self.space.draw(RANDOM_STARTS, np.random.default_rng([0, 0, 5])).to(where)
        features = None if encoder is None else encoder(objective.x)
        unlikely = [0.0] * len(labels)  # of each class by the encoder
        if len(labels) > 1 and encoder is not None and features is not None:
            unlikely = (-CLASS_WEIGHT * encoder.logits(features)[0].log_softmax(0)).tolist()
        ranked: list[tuple[float, Start]] = []
        for one, rank in zip(labels, unlikely, strict=True):
            q = pool if len(labels) == 1 or encoder is None else pool[:1]
            if encoder is not None and features is not None:
                q = torch.cat([encoder.code(features, None if one is None else torch.tensor([one], device=where)), q])
            costs = evaluated(objective, q, one)
            for best in costs.argsort()[: STARTS if len(labels) == 1 else 1].tolist():
                ranked.append((float(costs[best]) + rank, Start(q[best], one, rank)))
        ranked.sort(key=lambda entry: entry[0])
        return [start for cost, start in ranked[:STARTS] if cost <= ranked[0][0] + CLOSE]

    def _by_least_squares(self, objective: Objective, label: int | None, steps: int, deadline: Deadline,
                          tick: Tick | None) -> tuple[Found, int | None]:  # fmt: skip
        """Search from each start for a few steps, and from the best of them for the rest."""
        starts = self._starts(objective, label)
        first = min(FIRST_STEPS, steps) if len(starts) > 1 else 0
        tried = [levenberg_marquardt(objective, Found(start.q, math.inf), start.label, first, deadline, tick) for start in starts]
        best = min(range(len(starts)), key=lambda i: tried[i].cost + starts[i].unlikely)
        found, label = tried[best], starts[best].label
        if found.done or steps <= first:
            return found, label
        return levenberg_marquardt(objective, found, label, steps - first, deadline, tick), label

    def _by_gradient(self, objective: Objective, label: int | None, steps: int, deadline: Deadline,
                     tick: Tick | None) -> tuple[Found, int | None]:  # fmt: skip
        """Search by Adam, from the best start only."""
        start = self._starts(objective, label)[0]
        every = None if tick is None else _every(GRADIENT_STEPS, tick)
        q, cost = descend(objective, start.q, start.label, steps * GRADIENT_STEPS, deadline, every)
        return Found(q, cost), start.label

    def _refined(self, objective: Objective, styles: Tensor, label: int | None, deadline: Deadline) -> Tensor:
        """Return styles [L,W] with an offset for each layer, where they bring the picture nearer."""
        assert self.space.axes is not None
        scale = self.space.axes.square().sum(0).sqrt()  # [W], the standard deviation of w
        start = torch.zeros(styles.numel(), device=styles.device)
        offsets, _ = descend(objective, start, label, STYLE_STEPS, deadline, styles=styles.contiguous(), scale=scale)
        return styles + offsets.view_as(styles) * scale


def _every(count: int, tick: Tick) -> Tick:
    """Return a function that calls `tick` once for so many calls."""
    calls = 0

    def counted(_: int) -> None:
        nonlocal calls
        calls += 1
        if calls % count == 0:
            tick(1)

    return counted
