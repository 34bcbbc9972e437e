"""The variational autoencoder: a convolutional residual encoder and decoder with a Gaussian latent.

Kingma & Welling 2014, "Auto-encoding variational Bayes", section 3 and appendix C: the encoder gives mean and log
variance of q(z|x), the decoder the parameters of p(x|z). The likelihood determines what these parameters are:

    gaussian    mean [C] and log scale [C]; the scale is one learned number a channel (Rybkin et al. 2021, "Simple and
                effective VAE training with calibrated decoders", section 4.1)
    bernoulli   logits [C] of (x + 1) / 2
    logistic    a mixture of K logistics: K weights, then K means and K log scales a channel (Salimans et al. 2017,
                "PixelCNN++", section 2.1; the weights are the pixel's, its channels are independent given the component)

`losses.fidelity` computes the likelihood of an image under them. Latents are trained towards N(0, I) and sampled from
`prior`, a mixture fitted to the encoder's latents, for each class where there are classes. Encoder and decoder do not depend
on the class, so that any image can be encoded; other conditions than classes are refused.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from limner.core.clamp import clamp_with_gradient
from limner.core.images import ImageSpec
from limner.core.options import DEEPEST, WIDEST, Needs, check, option
from limner.networks import fixup
from limner.networks.layers import base_size, center_crop, levels, to_map, to_row
from limner.networks.mixture import Mixture

SOURCE = "Kingma & Welling 2014, Auto-encoding variational Bayes"

ACTIVE = 0.01  # variance of a latent's mean over pictures above which it is in use (Burda et al. 2016, section 5.2)
LIKELIHOODS = ("gaussian", "bernoulli", "logistic")


@dataclass(frozen=True, kw_only=True)
class Config:
    z_size: int = option(64, "Dimensions of the latent vector.", low=1, high=WIDEST)
    width: int = option(32, "Channels at full resolution; doubled at each downsampling, at most 8x.", low=1, high=WIDEST)
    blocks: int = option(1, "Residual blocks per stage.", low=0, high=DEEPEST)
    likelihood: str = option("gaussian", "Likelihood p(x|z) of a pixel.", choices=LIKELIHOODS)
    mixtures: int = option(5, "Components of the logistic mixture.", low=1, high=WIDEST, needs=Needs("likelihood", ("logistic",)))
    components: int = option(20, "Gaussians in the mixture prior that samples are drawn from.", low=1, high=WIDEST)


TINY = Config(z_size=8, width=8, mixtures=2, components=3)


class Encoder(nn.Module):
    """x [N,C,H,W] -> mean [N,Z] and log variance [N,Z] of q(z|x)"""

    def __init__(self, spec: ImageSpec, config: Config) -> None:
        super().__init__()
        depth = levels(spec)
        self.body = fixup.down(spec.channels, config.width, depth, config.blocks)
        bottom = fixup.widths(config.width, depth)[-1] * (spec.height >> depth) * (spec.width >> depth)
        self.last = nn.Linear(bottom, 2 * config.z_size)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        parameters = self.last(to_row(nn.functional.leaky_relu(self.body(x), fixup.SLOPE))).float()
        mean, log_variance = parameters.chunk(2, 1)
        return mean, log_variance.clamp(-12, 8)


class Decoder(nn.Module):
    """z [N,Z] -> [N,C,H,W] in [-1,1]: the mean image. It is a generator; the class determines the latent."""

    def __init__(self, spec: ImageSpec, config: Config) -> None:
        super().__init__()
        check(config)
        self.spec, self.z_size, self.likelihood, self.mixtures = spec, config.z_size, config.likelihood, config.mixtures
        depth, c = levels(spec), spec.channels
        outputs = config.mixtures * (1 + 2 * c) if config.likelihood == "logistic" else c
        self.base = base_size(spec, depth)
        self.width = fixup.widths(config.width, depth)[-1]
        self.first = nn.Linear(config.z_size, self.width * self.base[0] * self.base[1])
        self.body = fixup.up(outputs, config.width, depth, config.blocks)
        self.log_scale = nn.Parameter(torch.full((c,), -1.0)) if config.likelihood == "gaussian" else None
        if config.likelihood == "logistic":  # components start distinct, or they would stay equal
            last = self.body[-1]
            assert isinstance(last, nn.Conv2d) and last.bias is not None
            with torch.no_grad():
                k = config.mixtures
                start = torch.zeros(1 + 2 * c, k)
                start[1 : 1 + c] = torch.linspace(-0.9, 0.9, k) if k > 1 else 0.0
                start[1 + c :] = -1.5
                last.bias.copy_(start.flatten())
                last.weight.mul_(0.1)

    def distribution(self, z: Tensor) -> Tensor:
        """The parameters of p(x|z), float [N,P,H,W], laid out as the module's docstring states."""
        x = self._outputs(z)
        if self.log_scale is None:
            return x
        return torch.cat([x, self.log_scale[None, :, None, None].expand_as(x)], 1)

    def _outputs(self, z: Tensor) -> Tensor:
        """Those of the parameters that depend on z, and decide the mean."""
        return center_crop(self.body(to_map(self.first(z), self.width, self.base)), self.spec.size).float()

    def mean(self, parameters: Tensor) -> Tensor:
        """The expected image in [-1,1]. [N,P,H,W] -> [N,C,H,W]"""
        c = self.spec.channels
        if self.likelihood == "gaussian":
            # samples have no loss but the discriminator's, which might push values beyond a plain clamp, where no gradient returns
            return clamp_with_gradient(parameters[:, :c], -1, 1)
        if self.likelihood == "bernoulli":
            return torch.tanh(parameters / 2)  # 2 sigmoid(l) - 1
        parts = parameters.unflatten(1, (1 + 2 * c, self.mixtures))  # [N,1+2C,K,H,W]
        return (parts[:, :1].softmax(2) * clamp_with_gradient(parts[:, 1 : 1 + c], -1, 1)).sum(2)

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        return self.mean(self._outputs(z))


class Autoencoder(nn.Module):
    """Encoder and decoder together: x [N,C,H,W] -> its reconstruction from the mean of q(z|x)."""

    def __init__(self, spec: ImageSpec, config: Config = Config()) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(spec, config), Decoder(spec, config)
        classes = spec.condition.require_classes("The prior of a variational autoencoder")
        self.prior = Mixture(config.components, config.z_size, classes)
        self.z_size = config.z_size

    def encode(self, x: Tensor) -> Tensor:
        """[N,C,H,W] -> the mean of q(z|x), [N,Z]"""
        return self.encoder(x)[0]

    def decode(self, latent: Tensor) -> Tensor:
        """[N,Z] -> [N,C,H,W]"""
        return self.decoder(latent)

    def between(self, a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        """Images on the straight line from latent a [1,Z] to b [1,Z], one for each t [T]: [T,C,H,W]"""
        return self.decode(torch.lerp(a, b, t[:, None]))

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))
