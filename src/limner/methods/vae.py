"""Variational autoencoders, with a discriminator if wanted (VAE-GAN)."""

from __future__ import annotations

from math import log, pi
from typing import Any

import torch
from torch import Tensor, nn

from limner.core.schedule import ramp
from limner.losses import fidelity
from limner.losses.adversarial import Objective
from limner.methods.phase import Batch, Clock, Method, Phase, Terms
from limner.networks import diffaugment
from limner.networks.vae import ACTIVE


def players_of(autoencoder: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Return the parameters of an autoencoder and of its prior, which are two players."""
    named = list(autoencoder.named_parameters())
    return {
        "autoencoder": [p for name, p in named if not name.startswith("prior.")],
        "prior": [p for name, p in named if name.startswith("prior.")],
    }


class VAE:
    """Kingma & Welling 2014, eq. 3: reconstruction and KL, divided by the number of pixels so that learning rates fit all sizes.

    beta: weight of KL (Higgins et al. 2017, "beta-VAE", eq. 4), rising from 0 over the first `warm_up` of the budget
    (Bowman et al. 2016, section 3.1; Sønderby et al. 2016). free_bits: see `losses.fidelity.with_free_bits`.

    A second player, the prior, is fitted to the latents (of each class, if batches have labels), and does not affect the
    first: see `networks.mixture`.
    """

    def __init__(
        self,
        autoencoder: nn.Module,
        likelihood: str,
        *,
        beta: float = 1.0,
        free_bits: float = 0.0,
        warm_up: float = 0.0,
        flip: bool = False,
    ) -> None:
        self.autoencoder: Any = autoencoder
        self.likelihood = fidelity.likelihood(likelihood)
        self.beta, self.free_bits, self.warm_up, self.flip = beta, free_bits, warm_up, flip
        self.method = Method(
            nets={"autoencoder": autoencoder},
            players=players_of(autoencoder),
            phases=[Phase("autoencoder", self.turn), Phase("prior", self.prior_turn)],
            averaged=("autoencoder",),
        )

    def turn(self, batch: Batch, clock: Clock) -> tuple[Tensor, Terms]:
        x = self._pictures(batch)
        z, kl, terms = self._encode(x, batch)
        parameters = self.autoencoder.decoder.distribution(z)
        loss, more = self._bound(x, parameters, kl, clock)
        return loss, terms | more

    def prior_turn(self, batch: Batch, clock: Clock) -> tuple[Tensor, Terms]:
        """Return the negative log-likelihood of the latents that the autoencoder's phase drew in this iteration."""
        z, _ = batch.kept("latents")
        log_density = self.autoencoder.prior(z, batch.get("label"))
        with torch.no_grad():
            standard = -0.5 * (z.square() + log(2 * pi)).sum(1)
            saved = fidelity.bits_per_dimension(log_density - standard, batch["image"]).mean()
            means = torch.cat([mean for _, mean in batch.kept_of_all_slices("latents")])
            active = (means.var(0, correction=0) > ACTIVE).sum()
        return -log_density, {"prior_saves": saved, "active": active}

    def _pictures(self, batch: Batch) -> Tensor:
        x = batch["image"]
        return diffaugment.flip(x, batch.uniform("flip")) if self.flip else x

    def _encode(self, x: Tensor, batch: Batch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Return a sample of q(z|x) [N,Z], its KL divergence [N,Z], and values to log."""
        mean, log_variance = self.autoencoder.encoder(x)
        z = mean + torch.exp(0.5 * log_variance) * batch.normal("z", mean.shape[1])
        batch.keep("latents", z, mean)
        kl = fidelity.kl_to_standard(mean, log_variance)
        return z, kl, {"latent_bits_per_dim": fidelity.bits_per_dimension(kl.detach().sum(1), x).mean()}

    def _bound(self, x: Tensor, parameters: Tensor, kl: Tensor, clock: Clock) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the negative ELBO [N] in nats per dimension of the picture, and values to log."""
        nats = self.likelihood(x, parameters)
        weight = self.beta * ramp(clock.seen, round(self.warm_up * clock.budget))
        loss = (nats + weight * fidelity.with_free_bits(kl, self.free_bits)) / x[0].numel()
        with torch.no_grad():
            picture = self.autoencoder.decoder.mean(parameters)
            terms = {
                "bits_per_dim": fidelity.bits_per_dimension(nats + kl.sum(1), x).mean(),
                "error": (picture - x).square().mean().sqrt(),
            }
        return loss, terms


class VAEGAN(VAE):
    """Larsen et al. 2016, "Autoencoding beyond pixels using a learned similarity metric", algorithm 1: a discriminator of real
    pictures, reconstructions and samples, whose features give a second reconstruction loss.

    Differences: the pixel likelihood is kept besides the features; encoder and decoder are one player, so that the encoder
    gets the adversarial gradient too; feature distances are means, so that their weight does not depend on the feature count.
    """

    def __init__(
        self,
        autoencoder: nn.Module,
        discriminator: nn.Module,
        likelihood: str,
        objective: Objective,
        *,
        features: float = 1.0,
        adversarial: float = 0.1,
        **more: float,
    ) -> None:
        super().__init__(autoencoder, likelihood, **more)  # type: ignore[arg-type]
        self.discriminator: Any = discriminator
        self.objective, self.features, self.adversarial = objective, features, adversarial
        self.method = Method(
            nets={"autoencoder": autoencoder, "discriminator": discriminator},
            players={**players_of(autoencoder), "discriminator": list(discriminator.parameters())},
            phases=[Phase("discriminator", self.discriminator_turn), *self.method.phases],
            averaged=("autoencoder",),
        )

    def discriminator_turn(self, batch: Batch, clock: Clock) -> tuple[Tensor, Terms]:
        x, discriminator = self._pictures(batch), self.discriminator
        with torch.no_grad():
            z, _, _ = self._encode(x, batch)
            fakes = self.autoencoder.decoder(torch.cat([z, self._drawn(batch)]))
        real, coded, drawn = discriminator(torch.cat([x, fakes])).chunk(3)
        loss = 0.5 * (self.objective.discriminator(real, coded) + self.objective.discriminator(real, drawn)).flatten(1).mean(1)
        gap = real.detach().mean() - drawn.detach().mean()
        return loss, {"d_loss": loss.detach().mean(), "logit_gap": gap}

    def turn(self, batch: Batch, clock: Clock) -> tuple[Tensor, Terms]:
        x, discriminator = self._pictures(batch), self.discriminator
        z, kl, terms = self._encode(x, batch)
        decoder = self.autoencoder.decoder
        parameters = decoder.distribution(torch.cat([z, self._drawn(batch)]))
        loss, more = self._bound(x, parameters[: len(x)], kl, clock)
        fakes = decoder.mean(parameters)
        maps, logits = discriminator.forward_with_features(fakes)
        with torch.no_grad():
            true_maps, real = discriminator.forward_with_features(x)
        coded, drawn = logits.chunk(2)
        similarity = x.new_zeros(len(x))
        for mine, theirs in zip(maps, true_maps, strict=True):
            difference = mine[: len(x)].float() - theirs.float()
            similarity = similarity + difference.square().flatten(1).mean(1) / len(maps)
        generator_loss = 0.5 * (self.objective.generator(real, coded) + self.objective.generator(real, drawn))
        generator_loss = generator_loss.flatten(1).mean(1)
        own = {"features": similarity.detach().mean(), "g_loss": generator_loss.detach().mean()}
        return loss + self.features * similarity + self.adversarial * generator_loss, terms | more | own

    def _drawn(self, batch: Batch) -> Tensor:
        """Return latents [N,Z] of the prior."""
        prior = self.autoencoder.prior
        return prior.draw(batch.normal("prior", prior.size), batch.uniform("component"), batch.get("label"))
