"""A learned image codec: a mean-scale hyperprior without autoregression, one network for many rates.

Minnen et al. 2018, "Joint autoregressive and hierarchical priors for learned image compression", section 2 without the
autoregressive part; Ballé et al. 2018, "Variational image compression with a scale hyperprior". Gains per channel and quality
make one network serve many rates (Cui et al. 2021, "Asymmetric gained deep image compression", eq. 3-6).

                 quality                                             quality
                    |                                                   |
    x -> analysis -> y -> round(y - mean) -> symbols ----> + mean -> synthesis -> x_hat
                     |             ^             |            ^
                     |             |       coded by the       |
                     v             |       table `index`      |
              hyper_analysis       |             ^            |
                     |             +---- mean    |            |
                     v                     ^     |            |
                     z -> round -> symbols -> prior ----------+
                                     |           ^
                          coded by a table    quality
                            per channel

Encoder and decoder must agree on `mean` and `index` to the bit: `prior` computes them in integers (`networks.integer`).

Differences from the papers. Analysis and synthesis have a linear path beside the convolutions, which starts as a discrete cosine
transform of 16x16 pixels with the rest of the network switched off: an untrained codec is a transform codec, and a short
training starts there. The synthesis is small and the analysis large, since a picture is decoded more often than encoded. The
density of z is a mixture of logistics per channel instead of a small network. One quality is a number, and may lie between two.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.core.clamp import clamp_with_gradient
from limner.core.device import full_precision
from limner.core.images import ImageSpec
from limner.core.options import DEEPEST, WIDEST, check, option
from limner.networks.integer import INPUT_MAX, ExactConv2d, activate, activate_exact, shift_right_
from limner.networks.padding import crop_to
from limner.networks.transform import Analysis, Synthesis, cosine_transform, interpolate

SOURCE = "Minnen et al. 2018, Joint autoregressive and hierarchical priors for learned image compression"

MULTIPLE = 64  # sides of coded pictures are multiples of it
SCALES = 64  # Gaussian tables; their standard deviations lie between the following, evenly on a logarithmic axis
MIN_SCALE, MAX_SCALE = 0.11, 256.0  # as in CompressAI
SCALE_STEP = log(MAX_SCALE / MIN_SCALE) / (SCALES - 1)
MEAN_BITS = 8  # fractional bits of a mean
MAX_MEAN = 2.0**12  # before the gain
QUALITIES, GAIN_BITS, MAX_GAIN = 100, 12, 2.0**10  # steps of the quality in integers; fractional bits and bound of a gain
OUTPUT_BITS = 3  # the prior network's outputs are multiplied by 2^OUTPUT_BITS, so that they move fast enough
MIN_LIKELIHOOD = 1e-9
MIXTURE = 3  # logistics of a density
LIMIT = 255  # largest magnitude of a symbol of a `Density` with a frequency of its own
GAUSSIAN_WIDTH, DENSITY_WIDTH = 2304, 2 * LIMIT + 4  # columns of the tables of `coding.tables`, zeros at the right


@dataclass(frozen=True, kw_only=True)
class Config:
    latent_channels: int = option(320, "Channels of the latent y, which has a sixteenth of the picture's height and width.", low=1, high=1024)
    hyper_channels: int = option(64, "Channels of the hyper-latent z, which has a 64th of the picture's height and width.", low=1, high=256)
    hyper_width: int = option(96, "Channels inside the hyper-networks.", low=4, high=256)
    encoder_width: int = option(64, "Channels of the analysis at a quarter of the resolution; doubled at an eighth, tripled at a sixteenth.", low=1, high=WIDEST)
    encoder_blocks: int = option(1, "Residual blocks of the analysis at each of its three resolutions.", low=0, high=DEEPEST)
    decoder_width: int = option(32, "Channels of the synthesis at a quarter of the resolution; doubled at an eighth, tripled at a sixteenth.", low=1, high=WIDEST)
    decoder_blocks: int = option(1, "Residual blocks of the synthesis at each of its three resolutions.", low=0, high=DEEPEST)
    qualities: int = option(6, "Levels of quality, from 0 up; a quality between two is interpolated.", low=2, high=32)
    factorized: bool = option(False, "Code the latent without a hyper-network, by one table per channel and quality: the baseline.")
    least_lambda: float = option(0.0018, "Weight of the distortion at quality 0: bits per pixel that a squared error of 1 (of 255²) is worth.", low=1e-6)
    most_lambda: float = option(0.0483, "Weight of the distortion at the highest quality.", low=1e-6)


TINY = Config(latent_channels=12, hyper_channels=4, hyper_width=4, encoder_width=4, decoder_width=4, qualities=3)


class Codec(nn.Module):
    """The codec of pictures whose sides are multiples of 64; see the module for the data flow. Callers pad by replication.

    `quality` is float [N], 0 ... qualities - 1. What is coded: z_hat = round(z) and symbols = round(y - mean).

    y_tables int32 [T,...], z_tables int32 [K,...]: the frequencies of symbols, as `coding.tables` states them; `methods.codec` fills
    them, and `finalize` the integers of `prior`. T: SCALES, or qualities * M if factorized.
    """

    y_tables: Tensor
    z_tables: Tensor
    fixed_gain: Tensor  # of each hundredth of the range of qualities, int64 [QUALITIES+1,M] in units of 2^-GAIN_BITS
    fixed_rise: Tensor  # its logarithm in SCALE_STEPs, in the same units

    def __init__(self, spec: ImageSpec, config: Config = Config()) -> None:
        super().__init__()
        check(config)
        if config.least_lambda >= config.most_lambda:
            raise ValueError("The option least_lambda must be below most_lambda.")
        self.multiple, self.config, self.channels = MULTIPLE, config, spec.channels
        self.qualities, self.latent_channels = config.qualities, config.latent_channels
        self.factorized = config.factorized
        self.hyper_channels = 0 if config.factorized else config.hyper_channels
        m, q = config.latent_channels, config.qualities
        self.encoder = Analysis(spec.channels, m, config.encoder_width, config.encoder_blocks, q)
        self.decoder = Synthesis(spec.channels, m, config.decoder_width, config.decoder_blocks, q)
        # at the start the step of each level is the best one of a fine uniform quantizer, 1/gain = sqrt(6 / (ln 2 lambda')), with
        # lambda' for a coefficient of an orthonormal transform of pixels in [-1,1]
        steps = self.lambdas(torch.arange(q, dtype=torch.float32)).mul(255**2 / (4 * spec.channels)).mul(log(2) / 6)
        start = steps.log() / 2
        self.gain = Gain(start, m)
        self.inverse_gain = Gain(start, m)
        if config.factorized:
            self.y_density = Density(q * m)
        else:
            self.hyper_encoder = HyperAnalysis(m, config.hyper_width, config.hyper_channels)
            std = cosine_transform(spec.channels, m)[1]
            self.hyper_decoder = HyperSynthesis(config.hyper_channels, config.hyper_width, std)
            self.z_density = Density(config.hyper_channels)
            self.register_buffer("fixed_gain", torch.zeros(QUALITIES + 1, m, dtype=torch.int64))
            self.register_buffer("fixed_rise", torch.zeros(QUALITIES + 1, m, dtype=torch.int64))
        shape = (q * m, DENSITY_WIDTH) if config.factorized else (SCALES, GAUSSIAN_WIDTH)
        self.register_buffer("y_tables", torch.zeros(shape, dtype=torch.int32))
        self.register_buffer("z_tables", torch.zeros(self.hyper_channels, DENSITY_WIDTH, dtype=torch.int32))

    def lambdas(self, quality: Tensor) -> Tensor:
        """Weight of the distortion at each quality [N], geometric between the lowest and the highest."""
        low, high = log(self.config.least_lambda), log(self.config.most_lambda)
        return torch.exp(low + (high - low) / (self.qualities - 1) * quality)

    def weighted(self, bpp: Tensor, error: Tensor, quality: Tensor) -> Tensor:
        """Rate plus distortion [N] of bits per pixel and an error in units of 1/255: Ballé et al. 2018, eq. 1, divided by the square
        root of lambda relative to the middle one, since the low qualities would count for little beside the high ones."""
        lambdas = self.lambdas(quality)
        middle = (self.config.least_lambda * self.config.most_lambda) ** 0.5
        return (bpp + lambdas * error) / (lambdas / middle).sqrt()

    @property
    def radius(self) -> int:
        """Latents in each direction on which a decoded pixel depends."""
        return ceil(self.config.decoder_blocks * (2 + 1 + 1 / 2) + 1 / 4)  # 3x3 at a 16th, an 8th and a quarter of the resolution

    @property
    def encoder_radius(self) -> int:
        """Pixels in each direction beyond its own 16x16 on which a latent depends."""
        return 16 + 56 * self.config.encoder_blocks

    # ---- transforms --------------------------------------------------------------------------------------------------

    def analysis(self, x: Tensor, quality: Tensor) -> Tensor:
        """x [N,C,H,W] in [-1,1] -> y [N,M,H/16,W/16]"""
        return self.encoder(x, quality).float() * self.gain(quality)

    def synthesis(self, y_hat: Tensor, quality: Tensor) -> Tensor:
        """y_hat [N,M,h,w] -> x_hat [N,C,16h,16w], in or near [-1,1]"""
        picture: Tensor = self.decoder(y_hat.float() / self.inverse_gain(quality), quality).float()
        return picture

    def hyper_analysis(self, y: Tensor) -> Tensor:
        """y [N,M,h,w] -> z [N,K,h/4,w/4], not rounded; K is 0 if factorized"""
        if self.factorized:
            return y.new_zeros(len(y), 0, y.shape[2] // 4, y.shape[3] // 4)
        z: Tensor = self.hyper_encoder(y).float()
        return z

    # ---- the prior of y ----------------------------------------------------------------------------------------------

    def prior_float(self, z_hat: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
        """z_hat [N,K,h/4,w/4] -> mean and standard deviation of y, [N,M,h,w] each; differentiable. Not if factorized."""
        assert not self.factorized
        with full_precision(z_hat.device):
            mean, level = (self.hyper_decoder(z_hat.float()) * 2**OUTPUT_BITS).chunk(2, 1)
            gain = self.gain.logarithm(quality)[:, :, None, None]
        level = clamp_with_gradient(level + gain / SCALE_STEP, 0, SCALES - 1)
        return mean * gain.exp(), MIN_SCALE * torch.exp(SCALE_STEP * level)

    def prior(self, z: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
        """z int64 [N,K,h/4,w/4] -> mean int64 [N,M,h,w] in units of 2^-MEAN_BITS, row of `y_tables` int64 [N,M,h,w].

        The same on every machine; computed on the CPU. Call `finalize` before. The quality is rounded to a hundredth of its range.
        """
        device = z.device
        if self.factorized:
            n, (h, w) = len(z), (4 * z.shape[2], 4 * z.shape[3])
            rows = torch.arange(self.latent_channels, device=device) + self._level(quality)[:, None] * self.latent_channels
            index = rows[:, :, None, None].expand(-1, -1, h, w).contiguous()
            return torch.zeros(n, self.latent_channels, h, w, dtype=torch.int64, device=device), index
        sums, bits = self.hyper_decoder.exact(z.cpu().double())
        mean, level = (shift_right_(part, bits - OUTPUT_BITS - GAIN_BITS) for part in sums.chunk(2, 1))
        row = (quality.cpu().double() * (QUALITIES / (self.qualities - 1))).round().long().clamp(0, QUALITIES)
        gain, rise = (table.cpu()[row].double()[:, :, None, None] for table in (self.fixed_gain, self.fixed_rise))
        bound = MAX_MEAN * 2**GAIN_BITS
        mean = shift_right_(mean.clamp_(-bound, bound).mul_(gain), 2 * GAIN_BITS - MEAN_BITS)
        level = shift_right_(level.add_(rise), GAIN_BITS).clamp_(0, SCALES - 1)
        return mean.long().to(device), level.long().to(device)

    def finalize(self) -> None:
        """Fill the integers of `prior` from the weights; idempotent, and no parameter changes."""
        if self.factorized:
            return
        self.hyper_decoder.fix()
        grid = torch.linspace(0, self.qualities - 1, QUALITIES + 1, dtype=torch.float64, device=self.fixed_gain.device)
        with torch.no_grad():
            logs = self.gain.logarithm(grid)
        self.fixed_gain.copy_(logs.exp().clamp(max=MAX_GAIN).mul(2**GAIN_BITS).round())
        self.fixed_rise.copy_((logs / SCALE_STEP).mul(2**GAIN_BITS).round())

    # ---- rate --------------------------------------------------------------------------------------------------------

    def bits(self, y: Tensor, z: Tensor, mean: Tensor | None, scale: Tensor | None, quality: Tensor) -> Tensor:
        """Bits [N] of y and z, noisy or rounded, under their densities; mean and scale are those of `prior_float`."""
        if self.factorized:
            density, m = self.y_density, self.latent_channels
            rows = torch.arange(m, device=y.device) + self._level(quality)[:, None] * m
            return density.bits(y, rows)
        assert mean is not None and scale is not None
        rows = torch.arange(self.hyper_channels, device=y.device).expand(len(y), -1)
        return gaussian_bits(y - mean, scale) + self.z_density.bits(z, rows)

    def rate_distortion(
        self, x: Tensor, y: Tensor, z: Tensor, quality: Tensor, size: tuple[int, int] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the bits [N] of the rounded y and z, and the mean squared error [N] of the picture in units of 1/255.

        size: height and width of the picture in x, at the upper left; the rest is padding, whose error does not count.

        Rounding passes gradients straight through, so that an encoder can refine y and z for one picture. The error counts the
        clamped picture.
        """
        z_hat = straight_through_round(z)
        mean, scale = (None, None) if self.factorized else self.prior_float(z_hat, quality)
        y_hat = straight_through_round(y) if mean is None else straight_through_round(y - mean) + mean
        bits = self.bits(y_hat, z_hat, mean, scale, quality)
        x_hat = clamp_with_gradient(self.synthesis(y_hat, quality), -1.0, 1.0)
        difference = x_hat - x if size is None else crop_to(x_hat - x, size)
        return bits, difference.square().mean((1, 2, 3)) * 127.5**2

    def forward(self, x: Tensor, quality: Tensor) -> Tensor:
        """x [N,C,H,W] in [-1,1], quality [N] -> what decoding gives, [N,C,H,W]"""
        y = self.analysis(x, quality)
        if self.factorized:
            return self.synthesis(y.round(), quality)
        mean, _ = self.prior_float(self.hyper_analysis(y).round(), quality)
        return self.synthesis((y - mean).round() + mean, quality)

    def _level(self, quality: Tensor) -> Tensor:
        return quality.round().long().clamp(0, self.qualities - 1)


class Gain(nn.Module):
    """quality [N] -> a factor for each channel [N,M,1,1], which rises with the quality; geometric between two levels.

    start: logarithms at the start, [Q], rising.
    """

    def __init__(self, start: Tensor, channels: int) -> None:
        super().__init__()
        rises = start.diff()
        self.first = nn.Parameter(start[:1, None].repeat(1, channels))
        self.rises = nn.Parameter(torch.log(torch.expm1(rises))[:, None].repeat(1, channels))  # before softplus

    def forward(self, quality: Tensor) -> Tensor:
        return self.logarithm(quality).exp()[:, :, None, None]

    def logarithm(self, quality: Tensor) -> Tensor:
        """[N] -> [N,M], in the type of the quality if that is finer"""
        logs = torch.cat([self.first, F.softplus(self.rises)]).to(torch.promote_types(quality.dtype, torch.float32)).cumsum(0)
        return interpolate(logs, quality)


class HyperAnalysis(nn.Module):
    """y [N,M,h,w] -> z [N,K,h/4,w/4]. asinh makes large and small latents alike readable.

    It sees magnitudes beside the values: a scale depends on magnitudes alone (Ballé et al. 2018, section 3), a mean on values.
    """

    def __init__(self, latents: int, width: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(2 * latents, width, 3, padding=1, padding_mode="replicate")
        self.second = nn.Conv2d(width, width, 4, 2, 1, padding_mode="replicate")
        self.last = nn.Conv2d(width, outputs, 4, 2, 1, padding_mode="replicate")

    def forward(self, y: Tensor) -> Tensor:
        y = torch.asinh(y)
        x = F.leaky_relu(self.first(torch.cat([y, y.abs()], 1)), 0.2)
        z: Tensor = self.last(F.leaky_relu(self.second(x), 0.2))
        return z


class HyperSynthesis(nn.Module):
    """z [N,K,h,w] -> the mean and the level of the scale of each latent, [N,2M,4h,4w], before OUTPUT_BITS and without the gain"""

    def __init__(self, inputs: int, width: int, std: Tensor) -> None:
        """std: standard deviation of each latent at the start, [M]."""
        super().__init__()
        latents = len(std)
        self.first = ExactConv2d(inputs, 4 * width, first=True)
        self.second = ExactConv2d(width, 4 * width)
        self.last = ExactConv2d(width, 2 * latents, 1)
        assert self.last.bias is not None
        with torch.no_grad():
            self.last.weight.mul_(0.1)
            self.last.bias.zero_()
            level = (std / MIN_SCALE).log() / SCALE_STEP  # before the gain
            self.last.bias[latents:] = level / 2**OUTPUT_BITS

    def forward(self, z: Tensor) -> Tensor:
        x = F.pixel_shuffle(activate(self.first(z.clamp(-INPUT_MAX, INPUT_MAX))), 2)
        x = F.pixel_shuffle(activate(self.second(x)), 2)
        outputs: Tensor = self.last(x)
        return outputs

    def exact(self, z: Tensor) -> tuple[Tensor, int]:
        """The same in integers: integer-valued float64 -> (integer-valued float64, their fractional bits)."""
        x = self.first.exact(z.clamp(-INPUT_MAX, INPUT_MAX))
        x = F.pixel_shuffle(activate_exact(x, self.first.sum_bits), 2)
        x = F.pixel_shuffle(activate_exact(self.second.exact(x), self.second.sum_bits), 2)
        return self.last.exact(x), self.last.sum_bits

    def fix(self) -> None:
        """Round the parameters to the integer buffers."""
        for layer in (self.first, self.second, self.last):
            layer.fix()


class Density(nn.Module):
    """A density for each of R rows: a mixture of logistics, integrated over an interval of length 1 around a value."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(rows, MIXTURE))
        self.means = nn.Parameter(torch.linspace(-2, 2, MIXTURE).repeat(rows, 1))
        self.log_scales = nn.Parameter(torch.tensor([0.0, -1.0, 0.0]).repeat(rows, 1))

    def likelihood(self, x: Tensor, rows: Tensor) -> Tensor:
        """Probability of the interval of length 1 around each x [N,D,h,w]; rows int64 [N,D]."""
        places = x[..., None] - self.means[rows][:, :, None, None]
        scales = torch.exp(-self.log_scales.clamp(-5, 7))[rows][:, :, None, None]
        # in the tail where both sigmoids are small: their difference there is accurate
        sign = torch.where(places > 0, -1.0, 1.0)
        high, low = torch.sigmoid(sign * (places + 0.5) * scales), torch.sigmoid(sign * (places - 0.5) * scales)
        return ((high - low).abs() * self.weights.softmax(1)[rows][:, :, None, None]).sum(-1)

    def bits(self, x: Tensor, rows: Tensor) -> Tensor:
        """[N,D,h,w] -> bits [N]"""
        return _bits(self.likelihood(x, rows))

    @torch.no_grad()
    def cumulative(self, edges: Tensor) -> Tensor:
        """Probabilities of less than each of the edges float64 [E], in each row: [R,E]; all of it lies within LIMIT + 1/2."""
        places = edges[:, None] - self.means.double()[:, None]
        inside = torch.sigmoid(places * torch.exp(-self.log_scales.clamp(-5, 7).double())[:, None])
        found = (inside * self.weights.double().softmax(1)[:, None]).sum(-1)
        return torch.where(edges > LIMIT, 1.0, torch.where(edges < -LIMIT, 0.0, found))


def gaussian_bits(distance: Tensor, scale: Tensor) -> Tensor:
    """Bits [N] of values at a distance from their Gaussians' means, integrated over an interval of length 1 (Ballé et al. 2018,
    eq. 29)."""
    v, root = distance.abs(), scale * 2**0.5
    return _bits(0.5 * (torch.erfc((v - 0.5) / root) - torch.erfc((v + 0.5) / root)))


def _bits(likelihood: Tensor) -> Tensor:
    return -clamp_with_gradient(likelihood, MIN_LIKELIHOOD, 2.0).log2().flatten(1).sum(1)


def scales() -> Tensor:
    """The standard deviation of each table, float64 [SCALES]."""
    return MIN_SCALE * torch.exp(SCALE_STEP * torch.arange(SCALES, dtype=torch.float64))


def straight_through_round(x: Tensor) -> Tensor:
    """Round; the gradient passes unchanged (Minnen & Singh 2020, section 3.4)."""
    return x + (x.detach().round() - x.detach())
