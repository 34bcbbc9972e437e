"""What an adversarial run decides, and a name for such decisions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from limner.networks import conv
from limner.training.state import OptimizerConfig


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """An adversarial run: two networks, what each wants, and how they move."""

    architecture: str = "conv"  # mlp, dcgan, conv, sngan, sagan, biggan, progan, stylegan2, r3gan or fastgan
    network: Any = field(default_factory=conv.Config)  # the architecture's own options
    objective: str = "hinge"  # what the players want: minimax, non-saturating, smoothed, least-squares, wasserstein, hinge, relativistic, relativistic-average or feature-matching
    penalty: str = "none"  # on the discriminator: none, r1, r2, r1r2 (each also -fast), wgan-gp, wgan-gp-drift, dragan or lecam
    gamma: float | None = None  # weight of the penalty (default: the paper's, or from resolution and batch)
    penalty_every: int = 1  # iterations between penalties, each weighing as much more
    regularizer: str = "none"  # penalty on the generator: none, mode-seeking, orthogonal or path-length
    regularizer_weight: float | None = None  # its weight (default: the paper's)
    regularizer_every: int = 1  # turns of the generator between them, each weighing as much more
    classifier: float = 0.0  # weight of naming the class on both sides, instead of telling it to the discriminator (AC-GAN; 0: tell it)
    noise: str = "normal"  # what pictures are made from: normal, uniform (in [-1,1]) or truncated (normal within 2 deviations)
    batch: int = 32  # pictures an iteration, over all ranks
    micro_batch: int = 0  # pictures a forward pass (0: all at once); less memory; same result but for layers and losses that look across the batch (batch norm; relativistic-average, mode-seeking) and layers that draw noise or iterate at each pass (spectral norm)
    discriminator_optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)  # how the discriminator moves
    generator_optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)  # how the generator moves
    discriminator_steps: int = 1  # turns of the discriminator for one of the generator
    schedule: str = "cosine"  # how the learning rates fall: cosine, linear or constant (not at all)
    lr_decay_start: float = 0.5  # share of the budget after which they fall, to zero at its end
    lr_warmup: float = 0.0  # share of the budget over which they rise from zero at first
    ema_half_life: float = 10_000  # images over which the averaged generator forgets half; a twentieth of those seen while that is less
    augmentation: str = "auto"  # none, light, full, adaptive, or auto: light when the set is small
    adaptive_target: float = 0.6  # how surely right about real pictures the discriminator may be before adaptive adds more
    adaptive_images: int = 500_000  # images in which adaptive could go from never to always
    flip: bool = False  # mirror half of the pictures; not for text, digits or anything with a right and a left
    clip: float = 0.0  # largest gradient norm of a turn (0: none)
    clip_weights: float = 0.0  # the discriminator's weights stay within plus and minus this (0: anywhere)
    historical: float = 0.0  # weight of the distance of the players from their own past
    mixing: float = 0.0  # share of pictures that change styles midway; needs a generator with styles (stylegan2)
