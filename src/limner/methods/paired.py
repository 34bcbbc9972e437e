"""Paired translation with an L1 and an adversarial loss (pix2pix)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from limner.losses.adversarial import Objective
from limner.methods.phase import Batch, Clock, Method, Phase, Terms
from limner.networks import diffaugment


class Paired:
    """Isola et al. 2017, eq. 4: L1 to the target and an adversarial term; the discriminator sees both sides (eq. 1).

    features: weight of the feature-matching loss (Wang et al. 2018, "High-resolution image synthesis ... with conditional
    GANs", eq. 3). Without a discriminator only L1 remains. The translator updates first, and the discriminator then uses the
    translations of that turn: every picture is translated once per iteration.
    """

    def __init__(
        self,
        translators: nn.Module,
        discriminator: nn.Module | None,
        objective: Objective,
        *,
        pixels: float = 100.0,
        features: float = 0.0,
        flip: bool = False,
        shift: bool = False,
    ) -> None:
        self.translators: Any = translators
        self.discriminator: Any = discriminator
        self.objective, self.pixels, self.features = objective, pixels, features
        self.flip, self.shift = flip, shift
        nets, players = {"translators": translators}, {"translator": list(translators.parameters())}
        phases = [Phase("translator", self.translator_turn)]
        if discriminator is not None:
            nets["discriminator"], players["discriminator"] = discriminator, list(discriminator.parameters())
            phases.append(Phase("discriminator", self.discriminator_turn))
        self.method = Method(nets=nets, players=players, phases=phases, averaged=("translators",))

    def translator_turn(self, batch: Batch, clock: Clock) -> tuple[Tensor, Terms]:
        a, b = self._sides(batch)
        made = self.translators["a2b"](a)
        distance = (made - b).abs().mean((1, 2, 3))
        terms = {"l1": distance.detach().mean()}
        loss = self.pixels * distance
        if self.discriminator is None:
            return loss, terms
        real, fake = torch.cat([a, b], 1), torch.cat([a, made], 1)
        batch.keep("pairs", real, fake)
        maps, logits = self.discriminator.forward_with_features(fake)
        real_maps, real_logits = [], logits.detach()
        if self.features or self.objective.sees_real:
            with torch.no_grad():
                real_maps, real_logits = self.discriminator.forward_with_features(real)
        generator_loss = self.objective.generator(real_logits, logits).flatten(1).mean(1)
        loss, terms["g_loss"] = loss + generator_loss, generator_loss.detach().mean()
        if self.features:
            gaps = [(x.float() - y.float()).abs().flatten(1).mean(1) for x, y in zip(maps, real_maps, strict=True)]
            feature_loss = torch.stack(gaps).mean(0)
            loss, terms["features"] = loss + self.features * feature_loss, feature_loss.detach().mean()
        return loss, terms

    def discriminator_turn(self, batch: Batch, clock: Clock) -> tuple[Tensor, Terms]:
        real, fake = self.discriminator(torch.cat(batch.kept("pairs"))).chunk(2)
        loss = self.objective.discriminator(real, fake).flatten(1).mean(1)
        return loss, {"d_loss": loss.detach().mean(), "logit_gap": real.detach().mean() - fake.detach().mean()}

    def _sides(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return both sides with the same flips and shifts."""
        a, b = batch["a"], batch["b"]
        if self.flip:
            u = batch.uniform("flip")
            a, b = diffaugment.flip(a, u), diffaugment.flip(b, u)
        if self.shift:
            u = batch.uniform("shift", 2)
            a, b = diffaugment.translation(a, u), diffaugment.translation(b, u)
        return a, b
