"""A GAN in the latents of an autoencoder that is trained before it, in one run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from limner.methods.gan import GAN
from limner.methods.phase import Batch, Clock, Method, Phase, Terms
from limner.methods.terms import Augmentation
from limner.networks.latent import Discriminator, Encoder, Generator


class LatentGAN:
    """The autoencoder's turn until `share` of the budget; then, with it fixed, the turns of `gan` on its latents.

    gan: of the generator's latent part and a discriminator of latents. noise: standard deviation of the noise on the latents that
    the decoder is trained on, so that near latents give near pictures. augmentation: of the pictures that the autoencoder sees.
    """

    def __init__(
        self,
        generator: Generator,
        encoder: Encoder,
        gan: GAN,
        *,
        share: float = 0.25,
        noise: float = 0.1,
        augmentation: Augmentation | None = None,
    ) -> None:
        self.generator, self.encoder, self.gan = generator, encoder, gan
        self.noise, self.augmentation = noise, augmentation or Augmentation()
        inner = gan.method
        self.method = Method(
            nets={**inner.nets, "generator": generator, "encoder": encoder},
            players={
                "autoencoder": [*encoder.parameters(), *generator.decoder.parameters()],
                **inner.players,
            },
            phases=[
                Phase("autoencoder", self.autoencoder_turn, window=(0.0, share)),
                *(replace(phase, loss=self._in_latents(phase), window=(share, 1.0)) for phase in inner.phases),
            ],
            averaged=("generator",),
            memory=inner.memory,
            levers=inner.levers,
        )

    def autoencoder_turn(self, batch: Batch, clock: Clock) -> tuple[Tensor, Terms]:
        """Return the L1 distance [N] of pictures and their reconstructions from noisy latents."""
        x = self.augmentation.real(batch, self.generator)
        latents = self.encoder(x)
        noise = batch.normal("latent noise", *latents.shape[1:])
        error = (self.generator.decoder(latents + self.noise * noise) - x).abs().flatten(1).mean(1)
        return error, {"l1": error.detach().mean()}

    def _in_latents(self, phase: Phase) -> Callable[[Batch, Clock], tuple[Tensor, Terms]]:
        """Return the loss of one of the GAN's phases, with latents in place of the batch's pictures.

        The first phase encodes the pictures, once an iteration, and keeps the latents for the others.
        """
        encodes = phase is self.gan.method.phases[0]

        def loss(batch: Batch, clock: Clock) -> tuple[Tensor, Terms]:
            if encodes:
                with torch.no_grad():
                    batch.keep("latents", self.encoder(batch["image"]))
            (latents,) = batch.kept("latents")
            return phase.loss(replace(batch, tensors={**batch.tensors, "image": latents}), clock)

        return loss


class PictureDiscriminator(nn.Module):
    """(x [N,C,H,W], c | None) -> logits [N]: a discriminator of latents, for pictures."""

    def __init__(self, encoder: Encoder, discriminator: Discriminator) -> None:
        super().__init__()
        self.encoder, self.discriminator = encoder, discriminator

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        return self.discriminator(self.encoder(x), c)
