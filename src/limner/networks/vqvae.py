"""The vector-quantized autoencoder (VQ-VAE): its latent is a map of discrete codes.

van den Oord et al. 2017, "Neural discrete representation learning", section 3: each vector of the encoder's map is
replaced by the nearest of K codebook vectors (eq. 1-2), with straight-through gradients. The codebook is not learned by
gradients but by moving averages of the vectors that are assigned to it (appendix A.1, eq. 6-8).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from limner.core.clamp import clamp_with_gradient
from limner.core.device import full_precision
from limner.core.images import ImageSpec
from limner.core.options import DEEPEST, WIDEST, check, option
from limner.networks import fixup
from limner.networks.padding import crop_to, pad_to

SOURCE = "van den Oord et al. 2017, Neural discrete representation learning"


@dataclass(frozen=True, kw_only=True)
class Config:
    codes: int = option(256, "Vectors in the codebook.", low=1, high=WIDEST)
    code_size: int = option(32, "Dimensions of a codebook vector.", low=1, high=WIDEST)
    downsamplings: int = option(2, "Downsamplings by 2: a code stands for 2^downsamplings x 2^downsamplings pixels.", low=1, high=6)
    width: int = option(32, "Channels at full resolution; doubled at each downsampling, at most 8x.", low=1, high=WIDEST)
    blocks: int = option(2, "Residual blocks per stage.", low=0, high=DEEPEST)


TINY = Config(codes=16, code_size=4, width=8, blocks=1)


class Codebook(nn.Module):
    """vectors [N,D,h,w] -> (the nearest codebook vectors [N,D,h,w], their numbers int64 [N,h,w])"""

    vectors: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(self, codes: int, size: int) -> None:
        super().__init__()
        self.register_buffer("vectors", torch.randn(codes, size))
        self.register_buffer("counts", torch.zeros(codes))  # so the first batch restarts them all where vectors lie
        self.register_buffer("sums", torch.zeros(codes, size))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        rows = x.float().permute(0, 2, 3, 1)  # [N,h,w,D]
        with full_precision(x.device), torch.no_grad():
            # |x - e|^2 without |x|^2, which is the same for every code
            codes = (self.vectors.square().sum(1) - 2 * rows @ self.vectors.T).argmin(-1)
        return self.look_up(codes), codes

    def look_up(self, codes: Tensor) -> Tensor:
        """int64 [N,h,w] -> [N,D,h,w]"""
        return self.vectors[codes].permute(0, 3, 1, 2)

    @torch.no_grad()
    def follow(self, chosen: Tensor, total: Tensor, decay: float) -> None:
        """Move towards how often each code was chosen [K] and the sum of the vectors it stood for [K,D] (eq. 6-8)."""
        self.counts.lerp_(chosen, 1 - decay)
        self.sums.lerp_(total, 1 - decay)
        met = self.counts[:, None] > 1e-5  # a code that nothing ever chose, or not for long, stays where it is
        self.vectors.copy_(torch.where(met, self.sums / self.counts.clamp_min(1e-5)[:, None], self.vectors))

    @torch.no_grad()
    def restart(self, dead: Tensor, vectors: Tensor, count: float) -> None:
        """Put `vectors` [K,D] in the place of the codes that are `dead` [K] bool, as if chosen `count` times an iteration."""
        self.vectors.copy_(torch.where(dead[:, None], vectors, self.vectors))
        self.sums.copy_(torch.where(dead[:, None], vectors * count, self.sums))
        self.counts.copy_(torch.where(dead, torch.full_like(self.counts, count), self.counts))


def straight_through(x: Tensor, quantized: Tensor) -> Tensor:
    """The value of `quantized`, the gradient of `x` (section 3.2)."""
    return x + (quantized - x).detach()


class Autoencoder(nn.Module):
    """x [N,C,H,W] -> its reconstruction from codes, in [-1,1]"""

    def __init__(self, spec: ImageSpec, config: Config = Config()) -> None:
        super().__init__()
        check(config)
        self.spec, self.multiple = spec, 2**config.downsamplings
        bottom = fixup.widths(config.width, config.downsamplings)[-1]
        self.encoder = fixup.down(spec.channels, config.width, config.downsamplings, config.blocks)
        self.to_code = fixup.convolution(bottom, config.code_size, 1)
        self.codebook = Codebook(config.codes, config.code_size)
        self.from_code = fixup.convolution(config.code_size, bottom, 3)
        self.decoder = fixup.up(spec.channels, config.width, config.downsamplings, config.blocks)
        last = self.decoder[-1]
        assert isinstance(last, nn.Conv2d)
        with torch.no_grad():
            last.weight.mul_(0.1)  # images start within bounds, near gray

    def features(self, x: Tensor) -> Tensor:
        """[N,C,H,W] -> what is quantized, float [N,D,h,w]"""
        return self.to_code(nn.functional.leaky_relu(self.encoder(pad_to(x, self.multiple)), fixup.SLOPE)).float()

    def render(self, vectors: Tensor) -> Tensor:
        """[N,D,h,w] -> [N,C,H,W] in [-1,1]

        Bounded by a clamp whose gradient leads back, not by tanh: where most pixels are black or white, the first steps
        drive every pixel far into tanh's saturation, and then no gradient is left to bring one back.
        """
        return clamp_with_gradient(crop_to(self.decoder(self.from_code(vectors)), self.spec.size).float(), -1, 1)

    def encode(self, x: Tensor) -> Tensor:
        """[N,C,H,W] -> codes int64 [N,h,w]"""
        return self.codebook(self.features(x))[1]

    def decode(self, latent: Tensor) -> Tensor:
        """Codes [N,h,w] -> [N,C,H,W]"""
        return self.render(self.codebook.look_up(latent))

    def between(self, a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        """Images between codes a [1,h,w] to b [1,h,w], one for each t [T]: their vectors are mixed, [T,C,H,W]"""
        return self.render(torch.lerp(self.codebook.look_up(a), self.codebook.look_up(b), t[:, None, None, None]))

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))
