"""What inversion minimizes: the distance of a generated picture from the target, in pixels and features.

    f(q) = mean square of pixels + FEATURES * mean square of features,   minimized as   log f(q) + PRIOR |q|^2 / D

The logarithm is the likelihood of normal errors of unknown variance, f(q) being its estimate: a picture that the generator
can make is fitted exactly, and for another one the prior keeps q as likely as a sample's. Features are those of the run's
discriminator (the input of its last layer), in units of their standard deviation over samples; where the run has none, those of
the inversion encoder.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from limner.apps.editing.latent import synthesize
from limner.apps.editing.spaces import Space

FEATURES = 0.2       # weight of the features
PRIOR = 0.25         # weight of |q|^2 / D, D over the number of independent pixels
LARGEST_PIXELS = 1 << 16  # numbers of a picture compared; larger pictures are compared at half size, and so on

Features = Callable[[Tensor, Tensor | None], Tensor]
"""(pictures [N,C,H,W], classes [N] | None) -> features [N,F] in comparable units"""


class Objective:
    """The distance of generated pictures from one target x [1,C,H,W] in [-1,1].

    features: None compares pixels only. pool: compare means of so many pixels a side; more for very large pictures.
    """

    def __init__(self, model: Any, space: Space, x: Tensor, features: Features | None = None, pool: int = 1) -> None:
        self.model, self.space, self.features, self.x = model, space, features, x
        self.pool = pool
        while x[0].numel() // self.pool**2 > LARGEST_PIXELS:
            self.pool *= 2
        self._pixels = self._pixels_of(x)
        self._known: dict[int, Tensor] = {}  # features of the target, by class

    @property
    def count(self) -> int:
        """The numbers of pixels that are compared."""
        return self._pixels.shape[1]

    def residuals(self, q: Tensor, c: Tensor | None, code: Tensor | None = None) -> Tensor:
        """Return what is squared and summed in f, [N,M], of coordinates [N,D] and classes [N]; code: in place of theirs."""
        made = synthesize(self.model, self.space.code(q, c) if code is None else code, c)
        pixels = self._pixels_of(made) - self._pixels
        if self.features is None:
            return pixels
        parts = self.features(made, c) - self._target_features(c)
        return torch.cat([pixels, parts * (FEATURES / parts.shape[1]) ** 0.5], 1)

    def cost(self, residuals: Tensor, q: Tensor) -> Tensor:
        """Return log f + PRIOR |q|^2 / D, [N], of residuals [N,M]."""
        return residuals.square().sum(1).clamp_min(1e-12).log() + PRIOR * q.square().mean(1)

    def _pixels_of(self, x: Tensor) -> Tensor:
        """Return pixels [N,P], scaled so that the sum of their squares is the mean over a picture."""
        if self.pool > 1:
            x = F.avg_pool2d(x, self.pool, ceil_mode=True)
        return x.flatten(1) / x[0].numel() ** 0.5

    def _target_features(self, c: Tensor | None) -> Tensor:
        """Return the features of the target [N,F] or [1,F], for each class once."""
        assert self.features is not None
        if c is None:
            if -1 not in self._known:
                self._known[-1] = self.features(self.x, None).detach()
            return self._known[-1]
        for label in c.unique().tolist():
            if label not in self._known:
                self._known[label] = self.features(self.x, c.new_tensor([label])).detach()
        return torch.cat([self._known[label] for label in c.tolist()]) if len(c.unique()) > 1 else self._known[int(c[0])]
