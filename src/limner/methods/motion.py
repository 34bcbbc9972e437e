"""A GAN of clips: a discriminator of frames and one of pairs of frames with their distance in time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from limner.losses.adversarial import Objective
from limner.methods.gan import GAN
from limner.methods.phase import Batch, Clock, Method, Phase, Terms
from limner.methods.terms import Augmentation
from limner.networks.motion import Encoder, Generator, PairGenerator, distance_features

Turn = Callable[[Batch, Clock], tuple[Tensor, Terms]]


@dataclass(frozen=True)
class PairAugmentation(Augmentation):
    """Augmentation of two frames that are stacked in channels [N,2C,H,W]: both get the same transformation."""

    def apply(self, x: Tensor, batch: Batch, name: str, extra: float = 0.0) -> Tensor:
        one, two = x.chunk(2, 1)  # random numbers of one name are equal
        return torch.cat([super().apply(one, batch, name, extra), super().apply(two, batch, name, extra)], 1)


class MotionGAN:
    """Two adversarial games of one generator: of frames, and of pairs of frames (Yu et al. 2022, section 3.2).

    A batch holds `image` and `other`, two frames of a clip [N,C,H,W], `time` [N], that of the first, and `distance` [N], the time from
    the one to the other, in periods. Generated pairs have the distances of the real ones, since the discriminator of pairs knows them.

    encoder: finds the latent of a real pair, which the generator then reconstructs (Larsen et al. 2016, "Autoencoding beyond pixels
    using a learned similarity metric": a variational autoencoder whose decoder is the generator of a GAN). Without it the generator
    collapses on small sets: every latent gives the same clip. The encoder is trained in the generator's phase.

    pair_weight, reconstruction, kl: weights in the generator's loss: of the game of pairs, of the mean squared error of both frames
    in [-1,1], and of the divergence in nats of the latents from the prior. augmentation: policy and flip, for both games.
    """

    def __init__(
        self,
        generator: Generator,
        discriminator: nn.Module,
        pair_discriminator: nn.Module,
        objective: Objective,
        *,
        encoder: Encoder | None = None,
        pair_weight: float = 1.0,
        reconstruction: float = 100.0,
        kl: float = 0.2,
        augmentation: Augmentation | None = None,
    ) -> None:
        augmentation = augmentation or Augmentation()
        self.generator, self.encoder = generator, encoder
        self.pair_weight, self.reconstruction, self.kl = pair_weight, reconstruction, kl
        self.frames = GAN(generator, discriminator, objective, augmentation=augmentation)
        of_pairs = PairAugmentation(augmentation.policy, augmentation.controller, augmentation.flip)
        self.pairs = GAN(PairGenerator(generator), pair_discriminator, objective, augmentation=of_pairs)
        self.pairs.levers = levers = self.frames.levers  # one setting for both games
        encoders = {"encoder": encoder} if encoder else {}
        self.method = Method(
            nets={"generator": generator, "discriminator": discriminator, "pair_discriminator": pair_discriminator} | encoders,
            players={
                "discriminator": list(discriminator.parameters()),
                "pair_discriminator": list(pair_discriminator.parameters()),
                "generator": [p for net in (generator, *encoders.values()) for p in net.parameters()],
            },
            phases=[
                Phase("discriminator", self.frames.discriminator_turn),
                Phase("pair_discriminator", self.pair_turn),
                Phase("generator", self.generator_turn),
            ],
            averaged=("generator",),
            memory=self.frames.method.memory,
            levers=levers,
        )

    def pair_turn(self, batch: Batch, clock: Clock) -> tuple[Tensor, Terms]:
        """Return the loss [N] of the discriminator of pairs."""
        loss, terms = self.pairs.discriminator_turn(of_pairs(batch), clock)
        return loss, named("pair", terms)

    def generator_turn(self, batch: Batch, clock: Clock) -> tuple[Tensor, Terms]:
        """Return the generator's loss [N] in both games, whose frames are the same, and that of the reconstruction."""
        pairs, n = of_pairs(batch), len(batch)
        real, c = pairs["image"], pairs["vector"]
        z = self.pairs.latent.draw(pairs, "z", self.generator.z_size)
        if self.encoder is None:
            return self._adversarial(self.pairs.generator(z, c), batch, pairs)
        mean, log_variance, time = self.encoder(real, c, batch["time"])
        own = torch.cat([mean + (0.5 * log_variance).exp() * pairs.normal("posterior", mean.shape[1]), time], 1)
        # one pass: batch normalization then has the same statistics for samples and reconstructions
        made = self.pairs.generator(torch.cat([z, own]), torch.cat([c, c]))  # [2N,2C,H,W]
        loss, terms = self._adversarial(made[:n], batch, pairs)
        error = (made[n:] - real).square().flatten(1).mean(1)
        divergence = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(1)
        more = {"reconstruction": error.detach().mean(), "kl": divergence.detach().mean()}
        return loss + self.reconstruction * error + self.kl * divergence, {**terms, **more}

    def _adversarial(self, made: Tensor, batch: Batch, pairs: Batch) -> tuple[Tensor, Terms]:
        """Return the generator's loss [N] in both games, for generated pairs [N,2C,H,W]."""
        loss, terms = self.frames.generator_loss(made.chunk(2, 1)[0], batch)
        of_pair, pair_terms = self.pairs.generator_loss(made, pairs)
        return loss + self.pair_weight * of_pair, {**terms, **named("pair", pair_terms)}


def of_pairs(batch: Batch) -> Batch:
    """Return the batch of the game of pairs: both frames stacked in channels, and the features of their distance as condition."""
    image = torch.cat([batch["image"], batch["other"]], 1)  # [N,2C,H,W]
    return replace(batch, tensors={"image": image, "vector": distance_features(batch["distance"])})


def named(prefix: str, terms: Terms) -> Terms:
    """Return terms with a prefix to their names."""
    return {f"{prefix}_{name}": value for name, value in terms.items()}
