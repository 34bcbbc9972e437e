"""The doctor's probe of a GAN: signals from fixed latents, training pictures and held-out pictures."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from limner.core import latents
from limner.core.condition import TENSORS
from limner.core.images import to_float
from limner.core.machine import Machine
from limner.data.batches import Batches
from limner.monitor.doctor import GAN_RULES, MIN_VARIETY
from limner.monitor.family_probes import coarse, evaluating, typical_distance

LATENTS, PICTURES = 32, 32  # per check
REFERENCE = 512  # training pictures for the typical distance between two of them


class GANProbe:
    """Computes the signals of a GAN; changes nothing in the run.

    d_accuracy: fraction of (real picture, sample) pairs in which the discriminator's logit of the real picture is higher;
    0.5 is chance.
    overfitting: where the discriminator ranks held-out pictures between training pictures (0) and samples (1). It is r_v of
    Karras et al. 2020, "Training GANs with limited data", section 3.2, with ranks instead of means, which do not depend on
    the scale of the logits.
    diversity: typical distance between samples of one class, relative to that between training pictures.
    drift: distance between samples of the same latent at this check and the last, on the same scale.
    variety: typical distance between training pictures, relative to their norm.
    """

    rules = GAN_RULES

    def __init__(
        self,
        nets: Mapping[str, nn.Module],
        noise: str,
        pictures: Batches,
        held_out: Batches | None,
        conditional: bool,
        seed: int,
        machine: Machine,
    ) -> None:
        """nets: with a `generator` of the latent distribution `noise`, and a `discriminator` of pictures."""
        self.nets, self.pictures, self.held_out, self.seed, self.machine = nets, pictures, held_out, seed, machine
        self.conditional, self.noise = conditional, noise
        self.previous: Tensor | None = None  # the samples of the last check, downsampled

    def __call__(self, seen: int) -> dict[str, float]:
        with evaluating(self.nets.values(), self.machine):
            return self._signals(seen)

    @cached_property
    def _reference(self) -> tuple[float, float, Tensor | None]:
        """(typical distance between training pictures, the same relative to their norm, conditions of the samples: classes in pairs)."""
        count, slices, labels = min(REFERENCE, len(self.pictures)), [], []
        for first in range(0, count, PICTURES):  # bounds the memory of full-size pictures
            x, y = self._batch(self.pictures, first, min(PICTURES, count - first))  # each picture once
            slices.append(coarse(x))
            labels.append(y)
        rows = torch.cat(slices)
        classes = None if labels[0] is None else torch.cat([y for y in labels if y is not None])
        pairs = torch.arange(LATENTS) // (2 if _are_classes(classes) else 1)
        sample_labels = None if classes is None else classes[pairs % len(classes)]
        distance = typical_distance(rows, classes if _are_classes(classes) else None).item()
        return distance, distance / max(rows.norm(dim=1).mean().item(), 1e-6), sample_labels

    def _signals(self, seen: int) -> dict[str, float]:
        distance, variety, labels = self._reference
        if variety <= MIN_VARIETY:
            return {"variety": variety}  # the other signals are relative to it
        generator, discriminator = self.nets["generator"], self.nets["discriminator"]
        z = latents.draw(np.random.default_rng(self.seed), LATENTS, cast(int, generator.z_size), self.noise)
        fake = generator(z.to(self.machine.device), labels)
        samples = coarse(fake)
        signals = {"variety": variety, "diversity": typical_distance(samples, labels if _are_classes(labels) else None).item() / distance}
        if self.previous is not None:
            signals["drift"] = (samples - self.previous).norm(dim=1).mean().item() / distance
        self.previous = samples
        real, y = self._batch(self.pictures, seen, PICTURES)  # different pictures at every check
        real_logits, fake_logits = discriminator(real, y).float(), discriminator(fake, labels).float()
        signals["d_accuracy"] = (real_logits[:, None] > fake_logits).float().mean().item()
        if self.held_out is not None:
            held_out_logits = discriminator(*self._batch(self.held_out, seen, PICTURES)).float()
            above_held_out = (real_logits[:, None] > held_out_logits).float().mean().item()
            signals["overfitting"] = (above_held_out - 0.5) / max(signals["d_accuracy"] - 0.5, 0.05)
        return signals

    def _batch(self, pictures: Batches, first: int, count: int) -> tuple[Tensor, Tensor | None]:
        batch = pictures.batch(first, min(count, len(pictures)), self.seed)
        condition = next((batch[name] for name in TENSORS.values() if name in batch), None) if self.conditional else None
        return to_float(batch["image"].to(self.machine.device)), None if condition is None else condition.to(self.machine.device)

    def state_dict(self) -> dict[str, Any]:
        return {} if self.previous is None else {"previous": self.previous}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.previous = state.get("previous")


def _are_classes(condition: Tensor | None) -> bool:
    """Return whether a condition is one class for each picture; texts and vectors hardly repeat."""
    return condition is not None and condition.ndim == 1
