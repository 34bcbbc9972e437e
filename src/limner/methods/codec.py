"""A learned image codec: the encoder, decoder and prior minimize rate plus distortion at all qualities at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from limner.coding.tables import gaussian_tables, tables_of_cdf
from limner.losses.adversarial import Objective
from limner.losses.structural import ms_ssim_distance
from limner.methods.patch_adversarial import PatchAdversarialLoss
from limner.methods.phase import Batch, Clock, Method, Phase, Terms
from limner.networks import hyperprior
from limner.networks.hyperprior import straight_through_round
from limner.networks.padding import crop_to, pad_to

MS_SSIM = 1333.0  # squared error, in units of 1/255, that 1 - MS-SSIM counts as: as the lambdas of CompressAI's models of both kinds
MSE_SHARES = {"mse": 1.0, "mix": 0.5, "ms-ssim": 0.0}  # of the squared error in a distortion; the rest is MS-SSIM's


class RateDistortion:
    """Ballé et al. 2018, eq. 1: bits per pixel + lambda * distortion, with a random quality for each picture of a batch.

    The rate is that of latents with uniform noise; the synthesis sees rounded ones, whose gradient passes straight through
    (Minnen & Singh 2020, "Channel-wise autoregressive entropy models for learned image compression", section 3.4).
    `Codec.weighted` balances the qualities.

    With a discriminator, an adversarial term is added (Mentzer et al. 2020, eq. 6; theirs sees the latents too). The codec updates
    first, and the discriminator then uses the pictures that were decoded in that turn.
    """

    def __init__(
        self,
        codec: nn.Module,
        distortion: str = "mse",
        discriminator: nn.Module | None = None,
        objective: Objective | None = None,
        *,
        adversarial: float = 0.0,
    ) -> None:
        self.codec: Any = codec
        self.mse_share, self.adversarial = MSE_SHARES[distortion], adversarial
        nets, players, phases = {"codec": codec}, {"codec": list(codec.parameters())}, [Phase("codec", self.turn)]
        self.discriminator: Any = discriminator
        if discriminator is not None:
            assert objective is not None
            self.adversarial_loss = PatchAdversarialLoss(objective)
            nets["discriminator"], players["discriminator"] = discriminator, list(discriminator.parameters())
            phases.append(Phase("discriminator", self.discriminator_turn))
        self.method = Method(nets=nets, players=players, phases=phases, averaged=("codec",), finalize=finalize)

    def turn(self, batch: Batch, clock: Clock) -> tuple[Tensor, Terms]:
        picture, codec = batch["image"], self.codec
        size = picture.shape[2:]
        x = pad_to(picture, codec.multiple)
        quality = batch.uniform("quality") * (codec.qualities - 1)
        y = codec.analysis(x, quality)
        z = codec.hyper_analysis(y)
        noisy_y, noisy_z = y + batch.uniform("y", *y.shape[1:]) - 0.5, z + batch.uniform("z", *z.shape[1:]) - 0.5
        if codec.factorized:
            mean = scale = None
            y_hat = straight_through_round(y)
        else:
            mean, scale = codec.prior_float(straight_through_round(z), quality)
            y_hat = straight_through_round(y - mean) + mean
        bpp = codec.bits(noisy_y, noisy_z, mean, scale, quality) / (size[0] * size[1])
        decoded = crop_to(codec.synthesis(y_hat, quality), (size[0], size[1]))
        error = (decoded - picture).square().mean((1, 2, 3)) * 127.5**2
        distortion = self.mse_share * error
        terms = {"bpp": bpp.detach().mean(), "psnr": (10 * torch.log10(255**2 / error.detach().clamp_min(1e-6))).mean()}
        if self.mse_share < 1:
            distance = ms_ssim_distance(decoded, picture)
            distortion = distortion + (1 - self.mse_share) * MS_SSIM * distance
            terms["ms_ssim"] = 1 - distance.detach().mean()
        loss = codec.weighted(bpp, distortion, quality)
        if self.discriminator is not None:
            batch.keep("decoded", decoded)
            generator_loss = self.adversarial_loss.generator_loss(self.discriminator, picture, decoded)
            loss, terms["g_loss"] = loss + self.adversarial * generator_loss, generator_loss.detach().mean()
        return loss, terms

    def discriminator_turn(self, batch: Batch, clock: Clock) -> tuple[Tensor, Terms]:
        return self.adversarial_loss.discriminator_loss(self.discriminator, batch["image"], *batch.kept("decoded"))


@torch.no_grad()
def finalize(codec: nn.Module) -> None:
    """Fill the integers of a codec, from its weights: those of its prior and the tables of frequencies. No parameter changes."""
    net: Any = codec
    net.finalize()
    if net.factorized:
        _fill(net.y_tables, _tables_of(net.y_density, net.y_tables.shape[1]))
    else:
        _fill(net.y_tables, gaussian_tables(hyperprior.scales().tolist(), net.y_tables.shape[1]))
        _fill(net.z_tables, _tables_of(net.z_density, net.z_tables.shape[1]))


def _tables_of(density: Any, width: int) -> np.ndarray:
    device = density.means.device
    return tables_of_cdf(lambda edges: density.cumulative(torch.from_numpy(edges).to(device)).cpu().numpy(), width)


def _fill(buffer: Tensor, tables: np.ndarray) -> None:
    buffer.copy_(torch.from_numpy(tables))
