"""Many latents at once, in the space in which directions lie: the latent z, or the styles w of a style-based network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limner.apps.editing.latent import CHUNK, Latent, condition, latent_of, mapped, renderer, styles_of
from limner.networks.contracts import StyleBased
from limner.sampling.generate import generate


@dataclass(frozen=True)
class Codes:
    """Latents of N pictures: z float32 [N,Z], or styles [N,L,W]; and their classes int64 [N], weights of classes float32 [N,K],
    or None."""

    code: np.ndarray
    c: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.code)

    @property
    def rows(self) -> np.ndarray:
        """One row a picture, [N,Z] or the mean style [N,W]."""
        return self.code if self.code.ndim == 2 else self.code.mean(1)

    def some(self, count: int) -> Codes:
        """Return the first `count`."""
        return Codes(self.code[:count], None if self.c is None else self.c[:count])

    def moved(self, vector: np.ndarray, by: float | np.ndarray, layers: Sequence[int] | None = None) -> Codes:
        """Return codes + by * vector. vector [D]. by: one number, or one for each [N]. layers: of styles, which are moved."""
        steps = np.multiply.outer(np.broadcast_to(np.asarray(by, np.float32), len(self)), vector.astype(np.float32))  # [N,D]
        if self.code.ndim == 2:
            return replace(self, code=self.code + steps)
        code = self.code.copy()
        chosen = list(range(code.shape[1])) if layers is None else list(layers)
        code[:, chosen] += steps[:, None]
        return replace(self, code=code)

    def weights(self, classes: int) -> np.ndarray:
        """Return the weight of each class float32 [N,K]."""
        assert self.c is not None
        return self.c.astype(np.float32) if self.c.ndim == 2 else np.eye(classes, dtype=np.float32)[self.c]


def drawn(model: Any, n: int, seed: int, label: str | int | None = None) -> Codes:
    """Return the codes of the pictures that `model.sample(n, seed=seed, label=label)` gives. Raises ValueError as it does."""
    for_labels, for_latents = np.random.default_rng(seed).spawn(2)
    labels = model.labels(n, label, for_labels)
    z = model.latents(n, for_latents, labels)
    if not isinstance(model.network, StyleBased):
        return Codes(z, labels)
    return Codes(np.repeat(mapped(model, z, labels)[:, None], model.network.layers, 1), labels)


def pictures(model: Any, codes: Codes, own_layers: bool = False) -> Tensor:
    """Return the pictures of codes, uint8 [N,C,H,W]. own_layers: by the layers of the architecture, for hooks."""
    if not len(codes):
        return torch.zeros((0, model.spec.channels, *model.spec.size), dtype=torch.uint8)
    c = None if codes.c is None else torch.from_numpy(codes.c)
    return generate(renderer(model, own_layers=own_layers), torch.from_numpy(codes.code), c, model._device, model._precision, CHUNK)


def codes_of(model: Any, given: Sequence[Latent]) -> Codes:
    """Return the codes of latents, as styles where the network has them. Raises ValueError for latents of another model."""
    c = condition(model, given)
    code = styles_of(model, given) if isinstance(model.network, StyleBased) else np.stack([latent.code for latent in given])
    return Codes(code, None if c is None else c.numpy())


def latents_of(model: Any, codes: Codes, like: Sequence[Latent | None] = ()) -> list[Latent]:
    """Return a latent for each code. like: latents whose tuned copies of the generator they keep."""
    made = []
    for i, code in enumerate(codes.code):
        weights = None if codes.c is None or codes.c.ndim == 1 else codes.c[i].astype(np.float32)
        label = None if codes.c is None else int(codes.c[i] if weights is None else weights.argmax())
        if weights is not None and label is not None and np.array_equal(weights, np.eye(len(weights))[label]):
            weights = None  # one class, no blend
        latent = replace(latent_of(model, code, label), blend=weights)
        tuned = like[i] if i < len(like) else None
        made.append(latent if tuned is None else replace(latent, delta=tuned.delta, delta_sha256=tuned.delta_sha256))
    return made
