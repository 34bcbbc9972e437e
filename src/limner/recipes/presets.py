"""Presets as a table: a row states only what differs from the defaults of its recipe (recipes/config.py).

What a paper leaves to its scale (batch, width) is smaller here, for a CPU; what defines it (objective, penalty, optimizer,
discriminator steps, normalization) is the paper's, and a comment at the row says where this differs from the paper or from
its official code.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from limner.networks import (
    biggan,
    classifier,
    conv,
    convnet,
    dcgan,
    fastgan,
    hyperprior,
    latent,
    mlp,
    motion,
    nce_heads,
    plain,
    progan,
    r3gan,
    resnet,
    restoration_unet,
    sagan,
    sngan,
    stylegan2,
    text2image,
    unet,
    vae,
    vqvae,
)
from limner.recipes.changes import changed
from limner.recipes.config import (
    ClassifierRecipe,
    CodecRecipe,
    CutRecipe,
    CycleRecipe,
    LatentRecipe,
    MotionRecipe,
    PairedRecipe,
    Recipe,
    TextRecipe,
    VAERecipe,
    VQVAERecipe,
)
from limner.recipes.restore_config import ContextRecipe, RestorationRecipe
from limner.runs.experiment import Preset
from limner.training.state import OptimizerConfig


def adam(lr: float, beta1: float, beta2: float) -> OptimizerConfig:
    return OptimizerConfig(lr=lr, beta1=beta1, beta2=beta2)


def rmsprop(lr: float) -> OptimizerConfig:
    return OptimizerConfig(name="rmsprop", lr=lr, beta1=0.0, beta2=0.99)


def lazy(lr: float, beta1: float, beta2: float, every: int) -> OptimizerConfig:
    """Return Adam for a player with one additional step per `every` for a lazy penalty, so that both together move as far.

    Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN", appendix B, "Lazy regularization".
    """
    ratio = every / (every + 1)
    return adam(ratio * lr, beta1**ratio, beta2**ratio)


CONST = {"schedule": "constant"}
PAPER = CONST | {"augmentation": "none"}  # most papers: constant learning rates, no augmentation


def _preset(recipe: type, values: Mapping[str, Any], summary: str, source: str) -> Preset:
    return Preset(partial(changed, recipe(), values), summary, source)


def _gan(
    architecture: str, objective: str, batch: int, d: OptimizerConfig, g: OptimizerConfig, more: Mapping[str, Any],
    summary: str, source: str,
) -> Preset:  # fmt: skip
    values = {"architecture": architecture, "objective": objective, "batch": batch, **more}
    return _preset(Recipe, {**values, "discriminator_optimizer": d, "generator_optimizer": g}, summary, source)


# fmt: off
# Columns: architecture, objective, batch, discriminator's and generator's optimizer, further options; summary, source.
GANS = {
    # The generator's learning rate is three times the discriminator's, which hardly matters with spectral normalization.
    "spectral":         _gan("conv",      "hinge",                32,  adam(8e-4, 0.5, 0.999),    adam(2.4e-3, 0.5, 0.999),  {},
        "convolutional networks, spectral normalization, hinge loss: fast on a CPU", conv.SOURCE),
    # gamma is the paper's for 32x32 (stacked digits), where it decays to a tenth; 0.05 to 2 up to 64x64.
    "r3gan":            _gan("r3gan",     "relativistic",         32,  adam(1e-3, 0.0, 0.99),     adam(1e-3, 0.0, 0.99),     {"penalty": "r1r2", "gamma": 1.0},
        "residual networks without normalization, relativistic loss, R1 and R2: stable", r3gan.SOURCE),
    "dcgan":            _gan("dcgan",     "non-saturating",       128, adam(2e-4, 0.5, 0.999),    adam(2e-4, 0.5, 0.999),    PAPER | {"noise": "uniform"},
        "the convolutional classic, as published", dcgan.SOURCE),
    "gan":              _gan("mlp",       "non-saturating",       100, adam(2e-4, 0.5, 0.999),    adam(2e-4, 0.5, 0.999),    PAPER,
        "the first GAN: two multilayer perceptrons", mlp.SOURCE),
    # Sections 3.2 to 3.5 together, on DCGAN's networks. Feature matching (3.1) replaces the generator's objective and, as
    # the paper found, gives worse images: it is a preset of its own.
    "improved":         _gan("dcgan",     "smoothed",             100, adam(3e-4, 0.5, 0.999),    adam(3e-4, 0.5, 0.999),    PAPER | {"historical": 1e-4, "generator.norm": "virtual", "discriminator.minibatch_kernels": 50},
        "minibatch discrimination, smoothed labels, historical averaging, virtual batch normalization", "Salimans et al. 2016, Improved techniques for training GANs"),
    # Section 3.1, on DCGAN's networks; the paper's have weight normalization and dropout instead of batch normalization.
    "feature-matching": _gan("dcgan",     "feature-matching",     100, adam(3e-4, 0.5, 0.999),    adam(3e-4, 0.5, 0.999),    PAPER,
        "the generator matches the discriminator's mean features", "Salimans et al. 2016, Improved techniques for training GANs"),
    # Section 3.3; the learning rate of their code.
    "lsgan":            _gan("dcgan",     "least-squares",        64,  adam(2e-4, 0.5, 0.999),    adam(2e-4, 0.5, 0.999),    PAPER,
        "least-squares losses", "Mao et al. 2017, Least squares GANs"),
    # Algorithm 1.
    "wgan":             _gan("dcgan",     "wasserstein",          64,  rmsprop(5e-5),             rmsprop(5e-5),             PAPER | {"weight_clip": 0.01, "discriminator_steps": 5},
        "Wasserstein distance, clipped weights", "Arjovsky et al. 2017, Wasserstein GAN"),
    # Algorithm 1; no batch normalization in the discriminator (section 4).
    "wgan-gp":          _gan("dcgan",     "wasserstein",          64,  adam(1e-4, 0.0, 0.9),      adam(1e-4, 0.0, 0.9),      PAPER | {"penalty": "wgan-gp", "discriminator_steps": 5, "discriminator.batch_norm": False},
        "Wasserstein distance with a gradient penalty", "Gulrajani et al. 2017, Improved training of Wasserstein GANs"),
    # Algorithm 1 and section 3.
    "dragan":           _gan("dcgan",     "non-saturating",       64,  adam(2e-4, 0.5, 0.999),    adam(2e-4, 0.5, 0.999),    PAPER | {"penalty": "dragan", "discriminator.batch_norm": False},
        "gradient penalty around the data", "Kodali et al. 2017, On convergence and stability of GANs"),
    # Section 3 and appendix A, on DCGAN's networks; the classifier learns from real images only.
    "acgan":            _gan("dcgan",     "non-saturating",       100, adam(2e-4, 0.5, 0.999),    adam(2e-4, 0.5, 0.999),    PAPER | {"classifier": 1.0},
        "auxiliary classifier: needs labels", classifier.SOURCE),
    # Section 5 and appendix D; residual networks without normalization.
    "r1":               _gan("r3gan",     "non-saturating",       64,  rmsprop(1e-4),             rmsprop(1e-4),             PAPER | {"penalty": "r1", "gamma": 10.0},
        "zero gradients at the data: training converges", "Mescheder et al. 2018, Which training methods for GANs do actually converge?"),
    # Appendix B.4; for residual networks their code decays the learning rates linearly.
    "sngan":            _gan("sngan",     "hinge",                64,  adam(2e-4, 0.0, 0.9),      adam(2e-4, 0.0, 0.9),      {"augmentation": "none", "schedule": "linear", "lr_decay_start": 0.0, "discriminator_steps": 5},
        "residual networks, a spectrally normalized discriminator", sngan.SOURCE),
    # Appendix A; Adam is not reset at each resolution, as in their code.
    "progan":           _gan("progan",    "wasserstein",          16,  adam(1e-3, 0.0, 0.99),     adam(1e-3, 0.0, 0.99),     PAPER | {"penalty": "wgan-gp-drift"},
        "low resolution first, higher ones faded in", progan.SOURCE),
    # Section 4: the discriminator learns four times as fast.
    "sagan":            _gan("sagan",     "hinge",                64,  adam(4e-4, 0.0, 0.9),      adam(1e-4, 0.0, 0.9),      PAPER,
        "residual networks with self-attention", sagan.SOURCE),
    # Section 3 and appendix C.
    "biggan":           _gan("biggan",    "hinge",                64,  adam(2e-4, 0.0, 0.999),    adam(5e-5, 0.0, 0.999),    PAPER | {"regularizer": "orthogonal", "discriminator_steps": 2},
        "latents at every resolution, orthogonal regularization", biggan.SOURCE),
    # Section 4 and appendix D, with the spectrally normalized discriminator.
    "ragan":            _gan("conv",      "relativistic-average", 32,  adam(2e-4, 0.5, 0.999),    adam(2e-4, 0.5, 0.999),    PAPER,
        "relativistic average loss", "Jolicoeur-Martineau 2019, The relativistic discriminator"),
    # Section 3.2, on DCGAN's networks as for their class-conditional images.
    "msgan":            _gan("dcgan",     "non-saturating",       64,  adam(2e-4, 0.5, 0.999),    adam(2e-4, 0.5, 0.999),    PAPER | {"regularizer": "mode-seeking"},
        "mode-seeking regularizer: different latents must give different images", "Mao et al. 2019, Mode seeking generative adversarial networks for diverse image synthesis"),
    # Appendix B; path lengths every 4 generator steps as in their code (the paper says 8).
    "stylegan2":        _gan("stylegan2", "non-saturating",       32,  lazy(2e-3, 0.0, 0.99, 16), lazy(2e-3, 0.0, 0.99, 4),  PAPER | {"penalty": "r1", "penalty_every": 16, "regularizer": "path-length", "regularizer_every": 4, "mixing": 0.9},
        "a mapping network modulates every layer", stylegan2.SOURCE),
    # No style mixing and no path lengths for small images (appendix D); the generator's optimizer is as in their code, which
    # scales it with path lengths or without. R1 is taken at the augmented images; their code takes it before augmentation.
    "stylegan2-ada":    _gan("stylegan2", "non-saturating",       32,  lazy(2.5e-3, 0.0, 0.99, 16), lazy(2.5e-3, 0.0, 0.99, 4), CONST | {"penalty": "r1", "penalty_every": 16, "augmentation": "ada"},
        "StyleGAN2 for few images: adaptive discriminator augmentation", "Karras et al. 2020, Training generative adversarial networks with limited data"),
    # Section 4: everything is augmented.
    "fastgan":          _gan("fastgan",   "hinge",                8,   adam(2e-4, 0.5, 0.999),    adam(2e-4, 0.5, 0.999),    CONST | {"augmentation": "full"},
        "narrow networks and a self-supervised discriminator, for few images", fastgan.SOURCE),
    # Section 5, on the default networks with one discriminator step (their BigGAN: four); here colors are augmented too and
    # the learning rates decay.
    "lecam":            _gan("conv",      "hinge",                64,  adam(2e-4, 0.0, 0.999),    adam(2e-4, 0.0, 0.999),    {"penalty": "lecam", "augmentation": "full"},
        "LeCam regularization of the logits, for few images", "Tseng et al. 2021, Regularizing generative adversarial networks under limited data"),
}

LATENT_GANS = {
    "latent":   _preset(LatentRecipe, {},                                               "an autoencoder, then a GAN in its latents: whole objects early, for 48 pixels and more", latent.SOURCE),
}

TEXT_TO_IMAGE = {
    "text2image": _preset(TextRecipe, {},                                               "pictures from texts, learned from captioned pictures", text2image.SOURCE),
}

MOTION = {
    "motion":   _preset(MotionRecipe, {},                                               "short clips that move, and loops that close, from a folder of GIFs, videos or frames", motion.SOURCE),
}

# Columns: recipe, options, summary, source.
AUTOENCODERS = {
    "vae":      _preset(VAERecipe,    {},                                               "latent codes of images: reconstruct, interpolate, sample softly", vae.SOURCE),
    # The discriminator is spectrally normalized and must keep up with a decoder at 1e-3: a slow one accepts noise.
    "vaegan":   _preset(VAERecipe,    {"feature_matching": 1.0, "adversarial": 0.3},    "VAE with a discriminator: sharper samples, slower", "Larsen et al. 2016, Autoencoding beyond pixels"),
    "vqvae":    _preset(VQVAERecipe,  {},                                               "discrete codes of images; reconstructs sharply, samples none", vqvae.SOURCE),
}

TRANSLATORS = {
    "pix2pix":  _preset(PairedRecipe, {},                                               "translation learned from pairs", unet.SOURCE),
    "cyclegan": _preset(CycleRecipe,  {},                                               "translation in both directions, learned without pairs", resnet.SOURCE),
    "cut":      _preset(CutRecipe,    {},                                               "translation in one direction, learned without pairs, faster", nce_heads.SOURCE),
    # Section 3.3 and appendix 6.2.
    "pix2pix-2017": _preset(PairedRecipe, CONST | {"batch": 1, "objective": "non-saturating", "l1": 100.0, "feature_matching": 0.0,
        "network.width": 64, "network.dropout": 0.5, "discriminator.width": 64, "discriminator.norm": "instance",
        "translator_optimizer.lr": 2e-4, "discriminator_optimizer.lr": 2e-4},  "pix2pix as published", unet.SOURCE),
    # Section 4 and appendix 7. The least-squares loss here has the 1/2 that the paper leaves out for the generators, so a
    # weight of 5 is the paper's 10. The paper's identity loss is for paintings: --identity 2.5.
    "cyclegan-2017": _preset(CycleRecipe, {"batch": 1, "schedule": "linear", "cycle": 5.0,
        "network.width": 64, "network.attention_mask": False, "discriminator.width": 64,
        "translator_optimizer.lr": 2e-4, "discriminator_optimizer.lr": 2e-4},  "CycleGAN as published", resnet.SOURCE),
}

# Restoration at the size of the input computes at half the resolution, at a quarter of the cost for equal width.
HALF = {"network.unshuffle": 2, "network.width": 64}
SHARP = {"adversarial": 5e-3, "perceptual": 0.1}  # weights against the Charbonnier loss of pictures in [-1,1]

RESTORERS = {
    "super-resolution": _preset(RestorationRecipe, {},                              "enlarge pictures 2, 3 or 4 times, true to the pixel", plain.SOURCE),
    # Section 3.2 with Real-ESRGAN's unconditional patch losses; one discriminator of patches, relativistic.
    "super-resolution-gan": _preset(RestorationRecipe, SHARP,                       "enlarge with plausible detail: sharper, further from the original", "Wang et al. 2018, ESRGAN: Enhanced super-resolution generative adversarial networks"),
    "super-resolution-real": _preset(RestorationRecipe, SHARP | {"degradation": "real"}, "enlarge pictures of unknown quality: blurred, noisy, compressed", "Wang et al. 2021, Real-ESRGAN: Training real-world blind super-resolution with pure synthetic data"),
    "denoise":  _preset(RestorationRecipe, HALF | {"task": "denoise", "clean": 0.1}, "remove noise of unknown strength", "Zhang et al. 2017, Beyond a Gaussian denoiser: Residual learning of deep CNN for image denoising"),
    "deblur":   _preset(RestorationRecipe, HALF | {"task": "deblur", "clean": 0.1},               "sharpen pictures that are out of focus", plain.SOURCE),
    "dejpeg":   _preset(RestorationRecipe, HALF | {"task": "dejpeg", "clean": 0.1},               "remove the artifacts of JPEG", "Dong et al. 2015, Compression artifacts reduction by a deep convolutional network"),
    "restore":  _preset(RestorationRecipe, HALF | {"task": "restore", "clean": 0.1},              "undo a mix of damages (--degrade jpeg,noise,blur,scratches)", plain.SOURCE),
    "inpaint":  _preset(ContextRecipe, {},                                          "fill in missing parts", "Liu et al. 2018, Image inpainting for irregular holes using partial convolutions"),
    "colorize": _preset(ContextRecipe, {"task": "colorize"},                        "add color to gray pictures", restoration_unet.SOURCE),
    "low-light": _preset(ContextRecipe, {"task": "low-light"},                      "brighten dark, noisy pictures", "Chen et al. 2018, Learning to see in the dark"),
}

CODECS = {
    "codec":            _preset(CodecRecipe, {},                                        "a lossy image format for your kind of pictures, for many rates", hyperprior.SOURCE),
    # The discriminator does not see the latents, as theirs does (section 3.2).
    "codec-perceptual": _preset(CodecRecipe, {"distortion": "mix", "adversarial": 0.02}, "a codec with a discriminator: sharper at low rates, less faithful", "Mentzer et al. 2020, High-fidelity generative image compression"),
}

# Columns: recipe, options, summary, source. One network for all; it is narrower than the papers', for a CPU. Those with a
# generator have the papers' weight normalization and a lower rate: batch normalization would mix real and generated pictures.
GAN_ONLY = {
    "batch": 50, "labeled_every": 3, "adversarial": 1.0, "propagate": 0.0, "strength": 0.0, "elastic": 0.0, "stroke": 0.0, "shift": False,
    "network.norm": "weight", "network.noise": 0.3, "classifier_optimizer.lr": 5e-4,
}
CLASSIFIERS = {
    # Without a generator; whether the adversarial loss pays has not been measured.
    "classifier":            _preset(ClassifierRecipe, {},                                                              "classes learned from few labeled pictures and many unlabeled ones: labels propagate to similar pictures", "Iscen et al. 2019, Label propagation for deep semi-supervised learning"),
    # Section 5: feature matching, no augmentation; noise on the pictures only, where the paper has it on every layer.
    "classifier-2016":       _preset(ClassifierRecipe, GAN_ONLY,                                                        "the discriminator also classifies; feature matching", convnet.SOURCE),
    # Without the low-density term, which needs a density model.
    "classifier-bad-gan":    _preset(ClassifierRecipe, GAN_ONLY | {"pull_away": 0.1, "entropy": 0.1},                   "a generator that complements the data: pull-away and conditional entropy terms", "Dai et al. 2017, Good semi-supervised learning that requires a bad GAN"),
    "classifier-supervised": _preset(ClassifierRecipe, {"batch": 50, "propagate": 0.0, "labeled_every": 1},           "the same network on labeled pictures alone, augmented", convnet.SOURCE),
}
# fmt: on
