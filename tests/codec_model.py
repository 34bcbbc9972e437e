"""A small codec with random weights and their frequency tables, as a run would hold it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from limner.apps.compress import Codec
from limner.coding.tables import gaussian_tables, tables_of_cdf
from limner.core.images import ImageSpec
from limner.networks import hyperprior
from limner.networks.hyperprior import Config

SMALL = Config(latent_channels=24, hyper_channels=6, hyper_width=8, encoder_width=4, decoder_width=4, qualities=3)
DESCRIPTION = {"kind": "codec", "data": {"fit": "crop", "background": "white"}}


def network(channels: int = 3, config: Config = SMALL, seed: int = 0) -> hyperprior.Codec:
    """As training leaves it: no weight is zero, the scales differ, the integers of the prior are those of its weights."""
    torch.manual_seed(seed)
    net = hyperprior.Codec(ImageSpec(channels, 64, 64), config).eval().requires_grad_(False)
    for name, parameter in net.named_parameters():
        if "linear" not in name:
            parameter.add_(torch.randn_like(parameter) * (0.2 if "hyper_decoder.last.weight" in name else 0.02))
    net.finalize()

    def tables(density: hyperprior.Density, width: int) -> torch.Tensor:
        return torch.from_numpy(tables_of_cdf(lambda x: density.cumulative(torch.from_numpy(x)).numpy(), width))

    width = net.y_tables.shape[1]
    if config.factorized:
        net.y_tables.copy_(tables(net.y_density, width))
    else:
        net.y_tables.copy_(torch.from_numpy(gaussian_tables(hyperprior.scales().tolist(), width)))
        net.z_tables.copy_(tables(net.z_density, net.z_tables.shape[1]))
    return net


def codec(channels: int = 3, config: Config = SMALL, seed: int = 0) -> Codec:
    spec = ImageSpec(channels, 64, 64)
    return Codec(network(channels, config, seed), spec, DESCRIPTION, torch.device("cpu"), Path("run"))


def picture(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Smooth colors with some edges and noise, uint8 [H,W,C]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / 32
    planes = [np.sin(x * rng.uniform(0.3, 2) + y * rng.uniform(-2, 2) + rng.uniform(0, 6)) for _ in range(channels)]
    made = np.stack(planes, -1) * 90 + 128 + (x.astype(int) + y.astype(int))[..., None] % 2 * 20
    return (made + rng.normal(size=made.shape) * 3).clip(0, 255).astype(np.uint8)
