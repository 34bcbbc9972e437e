"""What the doctor looks at in a game of a generator and a discriminator: a few fixed latents, a few pictures, a few held out."""

from __future__ import annotations

from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from limner.core import latents
from limner.core.images import to_float
from limner.core.machine import Machine
from limner.data import Dataset
from limner.data.dataset import Subset
from limner.methods.gan import GAN
from limner.monitor.doctor import ALIKE, GAN_RULES
from limner.monitor.family_probes import coarse, evaluating, typical_distance

LATENTS, PICTURES = 32, 32  # looked at in a visit
USUAL = 512  # pictures that say how much two of them usually differ


class GameCheckup:
    """The signals of a game, from its networks as they are: nothing of the run changes.

    right: share of pairs of a real picture and a sample that the discriminator orders rightly (0.5: it cannot tell).
    by_heart: how far held-out pictures are from training pictures towards samples, in the discriminator's eyes: 0 at home, 1 as
    wrong as samples. It is r_v of Karras et al. 2020, "Training GANs with limited data", section 3.2, in ranks instead
    of means, which bear a discriminator whose scale drifts.
    spread: how much samples of one class differ from each other, as a share of what real pictures do.
    change: how much a sample of the same latent has changed since the last visit, on the same scale.
    variety: how much real pictures differ, as a share of their own size.
    """

    rules = GAN_RULES

    def __init__(
        self, method: GAN, pictures: Dataset | Subset, held: Dataset | Subset | None, conditional: bool, seed: int, machine: Machine
    ) -> None:
        self.nets, self.pictures, self.held, self.seed, self.machine = method.nets, pictures, held, seed, machine
        self.conditional, self.noise = conditional, method.noise
        self.before: Tensor | None = None  # the samples of the visit before, coarsened

    def __call__(self, seen: int) -> dict[str, float]:
        with evaluating(self.nets.values(), self.machine):
            return self._signals(seen)

    @cached_property
    def _usual(self) -> tuple[float, float, Tensor | None]:
        """How much two pictures usually differ, that as a share of their size, and labels to ask for, each twice."""
        count, slices, labels = min(USUAL, len(self.pictures)), [], []
        for first in range(0, count, PICTURES):  # full-size pictures never fill the memory
            x, y = self._batch(self.pictures, first, min(PICTURES, count - first))  # each picture once
            slices.append(coarse(x))
            labels.append(y)
        many = torch.cat(slices)
        classes = None if labels[0] is None else torch.cat([y for y in labels if y is not None])
        asked = None if classes is None else classes[torch.arange(LATENTS) // 2 % len(classes)]
        usual = typical_distance(many, classes).item()
        return usual, usual / max(many.norm(dim=1).mean().item(), 1e-6), asked

    def _signals(self, seen: int) -> dict[str, float]:
        usual, variety, asked = self._usual
        if variety <= ALIKE:
            return {"variety": variety}  # the others are shares of it
        generator, discriminator = self.nets["generator"], self.nets["discriminator"]
        z = latents.draw(np.random.default_rng(self.seed), LATENTS, cast(int, generator.z_size), self.noise)
        made = generator(z.to(self.machine.device), asked)
        shown = coarse(made)
        signals = {"variety": variety, "spread": typical_distance(shown, asked).item() / usual}
        if self.before is not None:
            signals["change"] = (shown - self.before).norm(dim=1).mean().item() / usual
        self.before = shown
        real, y = self._batch(self.pictures, seen, PICTURES)  # other pictures at every visit
        real_logits, fake_logits = discriminator(real, y).float(), discriminator(made, asked).float()
        signals["right"] = (real_logits[:, None] > fake_logits).float().mean().item()
        if self.held is not None:
            held_logits = discriminator(*self._batch(self.held, seen, PICTURES)).float()
            known = (real_logits[:, None] > held_logits).float().mean().item()
            signals["by_heart"] = (known - 0.5) / max(signals["right"] - 0.5, 0.05)
        return signals

    def _batch(self, pictures: Dataset | Subset, first: int, count: int) -> tuple[Tensor, Tensor | None]:
        batch = pictures.batch(first, min(count, len(pictures)), self.seed)
        x, labels = to_float(batch["image"].to(self.machine.device)), batch.get("label")
        return x, None if labels is None or not self.conditional else labels.to(self.machine.device)

    def state_dict(self) -> dict[str, Any]:
        return {} if self.before is None else {"before": self.before}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.before = state.get("before")
