"""Restoration: a network trained on pairs of a degraded and a clean picture, by pixels, features and a discriminator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from limner.losses.adversarial import Objective
from limner.methods.patch_adversarial import PatchAdversarialLoss
from limner.methods.phase import Batch, Clock, Method, Phase, Terms
from limner.networks.restoration import composed, network_input

RAMP = 0.1  # fraction of the run
EPSILON = 1e-3  # of the Charbonnier loss, for pictures in [0,1]


def charbonnier(difference: Tensor) -> Tensor:
    """sqrt(d^2 + epsilon^2) - epsilon for pictures in [-1,1] (Lai et al. 2017, LapSRN, eq. 3): L1, smooth at zero."""
    epsilon = 2 * EPSILON
    return (difference.square() + epsilon**2).sqrt() - epsilon


TINY = 1e-6  # share of a picture that is hole
PIXEL_LOSSES: dict[str, Callable[[Tensor], Tensor]] = {"charbonnier": charbonnier, "l1": torch.abs, "squared": torch.square}


class Restoration:
    """Restorer and, where `adversarial` is above 0, a discriminator of single pictures.

    The loss is pixel * |difference| + perceptual * feature distance + adversarial * generator loss (Wang et al. 2018, ESRGAN,
    eq. 3). The restorer updates first, and the discriminator then uses the pictures of that turn. Up to the fraction `start` of
    the run only pixels count, then the other losses rise over a tenth of it: they need a restorer that is nearly right.

    features: distance of two pictures [N,C,H,W] -> [N]; None without a perceptual loss. Where batches have a mask, the losses see
    the picture with the filled hole, and the pixel loss is the mean over the hole.
    """

    def __init__(
        self,
        restorer: nn.Module,
        discriminator: nn.Module | None = None,
        objective: Objective | None = None,
        features: Callable[[Tensor, Tensor], Tensor] | None = None,
        *,
        loss: str = "charbonnier",
        pixel: float = 1.0,
        perceptual: float = 0.0,
        adversarial: float = 0.0,
        start: float = 0.0,
    ) -> None:
        self.restorer: Any = restorer
        self.distance, self.features = PIXEL_LOSSES[loss], features
        self.pixel, self.perceptual, self.adversarial = pixel, perceptual, adversarial
        self.start = start
        nets, players = {"restorer": restorer}, {"restorer": list(restorer.parameters())}
        phases = [Phase("restorer", self.restorer_turn)]
        if discriminator is not None and objective is not None:
            self.discriminator, self.adversarial_loss = discriminator, PatchAdversarialLoss(objective)
            nets["discriminator"], players["discriminator"] = discriminator, list(discriminator.parameters())
            phases.append(Phase("discriminator", self.discriminator_turn))
        self.with_discriminator = "discriminator" in nets
        self.method = Method(nets=nets, players=players, phases=phases, averaged=("restorer",))

    def restorer_turn(self, batch: Batch, clock: Clock) -> tuple[Tensor, Terms]:
        target, mask = batch["target"], batch.get("mask")
        made = self.restorer(network_input(self.restorer, batch["image"], mask))
        pixel_loss = self.distance(made - target)  # [N,C,H,W]
        if mask is None:
            pixel_loss = pixel_loss.mean((1, 2, 3))
        else:
            hole = mask.to(pixel_loss.dtype)
            pixel_loss = (pixel_loss * hole).mean((1, 2, 3)) / hole.mean((1, 2, 3)).clamp_min(TINY)
            made = composed(batch["image"], made, mask)
        loss, terms = self.pixel * pixel_loss, {"pixel_loss": pixel_loss.detach().mean()}
        share = ramp(clock.fraction, self.start)
        if self.features is not None and self.perceptual and share:
            feature_distance = self.features(made, target)
            loss, terms["perceptual"] = loss + share * self.perceptual * feature_distance, feature_distance.detach().mean()
        if self.with_discriminator:
            batch.keep("made", made)
        if self.with_discriminator and share:
            generator_loss = self.adversarial_loss.generator_loss(self.discriminator, target, made)
            loss, terms["g_loss"] = loss + share * self.adversarial * generator_loss, generator_loss.detach().mean()
        return loss, terms

    def discriminator_turn(self, batch: Batch, clock: Clock) -> tuple[Tensor, Terms]:
        (made,) = batch.kept("made")
        return self.adversarial_loss.discriminator_loss(self.discriminator, batch["target"], made)


def ramp(fraction: float, start: float) -> float:
    """Return 0 up to the fraction `start` of the run, 1 from a tenth of the run later on; 1 throughout where start is 0."""
    return min(1.0, max(0.0, (fraction - start) / RAMP)) if start else 1.0
