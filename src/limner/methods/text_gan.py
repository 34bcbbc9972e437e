"""Text to image: a GAN whose discriminator also sees real pictures with the text of another."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from limner.core.condition import TENSORS
from limner.methods.gan import GAN
from limner.methods.phase import Batch, Clock, Phase, Terms


class TextGAN:
    """The matching-aware game of Reed et al. 2016, "Generative adversarial text to image synthesis", algorithm 1.

    A real picture with its text ranks above a generated picture with it, and above the real picture with the text of
    another; both losses count by half, as in their line 9, or by `mismatch` and the rest. The generator's turn is that
    of `gan`. Batches hold the texts of pictures and of others (`data.captioned.Captioned`).
    """

    def __init__(self, gan: GAN, mismatch: float = 0.5) -> None:
        """gan: without a penalty and a classifier; its discriminator has `features` and `match`
        (`networks.text2image`)."""
        self.gan, self.mismatch = gan, mismatch
        self.generator: nn.Module = gan.generator
        phases = [Phase("discriminator", self.discriminator_turn), Phase("generator", gan.generator_turn)]
        self.method = replace(gan.method, phases=phases)

    def discriminator_turn(self, batch: Batch, clock: Clock) -> tuple[Tensor, Terms]:
        gan, discriminator = self.gan, cast(Any, self.gan.discriminator)
        gan.begin(clock)
        name = TENSORS[discriminator.encoder.condition.kind]
        own, other = batch[name], batch[f"other_{name}"]
        of_real, of_fake = discriminator.features(torch.cat([gan.real(batch), gan.fake(batch)])).chunk(2)
        features, texts = torch.cat([of_real, of_fake, of_real]), torch.cat([own, own, other])
        matched, generated, mismatched = discriminator.match(features, texts).chunk(3)
        objective = gan.objective.discriminator
        loss = (1 - self.mismatch) * objective(matched, generated) + self.mismatch * objective(matched, mismatched)
        real = matched.detach().mean()
        return loss, {
            "d_loss": loss.detach().mean(),
            "logit_gap": real - generated.detach().mean(),
            "match_gap": real - mismatched.detach().mean(),
        }
