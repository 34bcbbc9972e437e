"""Presets of the adversarial classics: each paper's game, optimizers and rates, on nets narrow enough for a CPU.

What a paper leaves to its scale (batch, width) is smaller here; what makes it itself (objective, penalty, rates, turns of
the discriminator, norms) is the paper's.
"""

from __future__ import annotations

from limner.networks import biggan, classifier, conv, dcgan, fastgan, progan, r3gan, sagan, sngan, stylegan2
from limner.recipes.config import Recipe
from limner.runs.experiment import Preset
from limner.training.state import OptimizerConfig


def _adam(lr: float, beta1: float, beta2: float) -> OptimizerConfig:
    return OptimizerConfig(lr=lr, beta1=beta1, beta2=beta2)


def _adam_beside(lr: float, beta1: float, beta2: float, every: int) -> OptimizerConfig:
    """The Adam that, stepping once more every so many turns for a penalty, moves as far as one without such steps.

    Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN", appendix B, "Lazy regularization".
    """
    share = every / (every + 1)
    return _adam(share * lr, beta1**share, beta2**share)


def improved_2016() -> Recipe:
    """Salimans et al.: sections 3.2 to 3.5 together, on the nets of DCGAN.

    Feature matching (3.1) takes the place of the generator's objective and, as the paper found, makes the lesser pictures:
    it is a recipe of its own.
    """
    adam = _adam(3e-4, 0.5, 0.999)
    return Recipe(
        architecture="dcgan",
        network=dcgan.Config(norm="virtual", discrimination=50),
        objective="smoothed",
        historical=1e-4,
        batch=100,
        discriminator_optimizer=adam,
        generator_optimizer=adam,
        schedule="constant",
        augmentation="none",
    )


def feature_matching_2016() -> Recipe:
    """Salimans et al.: section 3.1, on the nets of DCGAN; theirs has weight norm and dropout instead of batch norm."""
    adam = _adam(3e-4, 0.5, 0.999)
    return Recipe(
        architecture="dcgan",
        network=dcgan.Config(),
        objective="feature-matching",
        batch=100,
        discriminator_optimizer=adam,
        generator_optimizer=adam,
        schedule="constant",
        augmentation="none",
    )


def lsgan_2017() -> Recipe:
    """Mao et al.: section 3.3 and their code's rates."""
    adam = _adam(2e-4, 0.5, 0.999)
    return Recipe(
        architecture="dcgan",
        network=dcgan.Config(),
        objective="least-squares",
        batch=64,
        discriminator_optimizer=adam,
        generator_optimizer=adam,
        schedule="constant",
        augmentation="none",
    )


def wgan_2017() -> Recipe:
    """Arjovsky et al.: algorithm 1."""
    rmsprop = OptimizerConfig(name="rmsprop", lr=5e-5, beta1=0.0, beta2=0.99)
    return Recipe(
        architecture="dcgan",
        network=dcgan.Config(),
        objective="wasserstein",
        clip_weights=0.01,
        discriminator_steps=5,
        batch=64,
        discriminator_optimizer=rmsprop,
        generator_optimizer=rmsprop,
        schedule="constant",
        augmentation="none",
    )


def wgan_gp_2017() -> Recipe:
    """Gulrajani et al.: algorithm 1; no batch normalization in the discriminator (section 4)."""
    adam = _adam(1e-4, 0.0, 0.9)
    return Recipe(
        architecture="dcgan",
        network=dcgan.Config(discriminator_norm=False),
        objective="wasserstein",
        penalty="wgan-gp",
        discriminator_steps=5,
        batch=64,
        discriminator_optimizer=adam,
        generator_optimizer=adam,
        schedule="constant",
        augmentation="none",
    )


def dragan_2017() -> Recipe:
    """Kodali et al.: algorithm 1 and section 3."""
    adam = _adam(2e-4, 0.5, 0.999)
    return Recipe(
        architecture="dcgan",
        network=dcgan.Config(discriminator_norm=False),
        objective="non-saturating",
        penalty="dragan",
        batch=64,
        discriminator_optimizer=adam,
        generator_optimizer=adam,
        schedule="constant",
        augmentation="none",
    )


def acgan_2017() -> Recipe:
    """Odena et al.: section 3 and appendix A, on the nets of DCGAN; the discriminator names classes, of real pictures only, instead of being
    told."""
    adam = _adam(2e-4, 0.5, 0.999)
    return Recipe(
        architecture="dcgan",
        network=dcgan.Config(),
        objective="non-saturating",
        classifier=1.0,
        batch=100,
        discriminator_optimizer=adam,
        generator_optimizer=adam,
        schedule="constant",
        augmentation="none",
    )


def r1_2018() -> Recipe:
    """Mescheder et al.: section 5 and appendix D; residual nets without norms, RMSprop, gamma 10."""
    rmsprop = OptimizerConfig(name="rmsprop", lr=1e-4, beta1=0.0, beta2=0.99)
    return Recipe(
        architecture="r3gan",
        network=r3gan.Config(),
        objective="non-saturating",
        penalty="r1",
        gamma=10.0,
        batch=64,
        discriminator_optimizer=rmsprop,
        generator_optimizer=rmsprop,
        schedule="constant",
        augmentation="none",
    )


def sngan_2018() -> Recipe:
    """Miyato et al.: appendix B.4 and the setting of their code for residual nets, whose rates fall on a line."""
    adam = _adam(2e-4, 0.0, 0.9)
    return Recipe(
        architecture="sngan",
        network=sngan.Config(),
        discriminator_steps=5,
        batch=64,
        discriminator_optimizer=adam,
        generator_optimizer=adam,
        schedule="linear",
        lr_decay_start=0.0,
        augmentation="none",
    )


def progan_2018() -> Recipe:
    """Karras et al.: appendix A; Adam is not recorded_request anew at each level, as their code does."""
    adam = _adam(1e-3, 0.0, 0.99)
    return Recipe(
        architecture="progan",
        network=progan.Config(),
        objective="wasserstein",
        penalty="wgan-gp-drift",
        batch=16,
        discriminator_optimizer=adam,
        generator_optimizer=adam,
        schedule="constant",
        augmentation="none",
    )


def sagan_2019() -> Recipe:
    """Zhang et al.: section 4; the discriminator learns four times as fast."""
    return Recipe(
        architecture="sagan",
        network=sagan.Config(),
        batch=64,
        discriminator_optimizer=_adam(4e-4, 0.0, 0.9),
        generator_optimizer=_adam(1e-4, 0.0, 0.9),
        schedule="constant",
        augmentation="none",
    )


def biggan_2019() -> Recipe:
    """Brock et al.: section 3 and appendix C."""
    return Recipe(
        architecture="biggan",
        network=biggan.Config(),
        regularizer="orthogonal",
        discriminator_steps=2,
        batch=64,
        discriminator_optimizer=_adam(2e-4, 0.0, 0.999),
        generator_optimizer=_adam(5e-5, 0.0, 0.999),
        schedule="constant",
        augmentation="none",
    )


def ragan_2019() -> Recipe:
    """Jolicoeur-Martineau: section 4 and appendix D, with the spectrally normalized discriminator."""
    adam = _adam(2e-4, 0.5, 0.999)
    return Recipe(
        architecture="conv",
        network=conv.Config(),
        objective="relativistic-average",
        batch=32,
        discriminator_optimizer=adam,
        generator_optimizer=adam,
        schedule="constant",
        augmentation="none",
    )


def mode_seeking_2019() -> Recipe:
    """Mao et al.: section 3.2, on the nets of DCGAN as for their class-conditional pictures."""
    adam = _adam(2e-4, 0.5, 0.999)
    return Recipe(
        architecture="dcgan",
        network=dcgan.Config(),
        objective="non-saturating",
        regularizer="mode-seeking",
        batch=64,
        discriminator_optimizer=adam,
        generator_optimizer=adam,
        schedule="constant",
        augmentation="none",
    )


def stylegan2_2020() -> Recipe:
    """Karras et al.: appendix B; R1 every 16 and path lengths every 4 iterations (their code; the paper says 8)."""
    return Recipe(
        architecture="stylegan2",
        network=stylegan2.Config(),
        objective="non-saturating",
        penalty="r1",
        penalty_every=16,
        regularizer="path-length",
        regularizer_every=4,
        mixing=0.9,
        discriminator_optimizer=_adam_beside(2e-3, 0.0, 0.99, every=16),
        generator_optimizer=_adam_beside(2e-3, 0.0, 0.99, every=4),
        schedule="constant",
        augmentation="none",
    )


def stylegan2_ada_2020() -> Recipe:
    """Karras et al.: "Training GANs with limited data"; no style mixing nor path lengths for small pictures (appendix D).
    R1 is taken at the augmented pictures, as the discriminator sees them; their code takes it at those before."""
    return Recipe(
        architecture="stylegan2",
        network=stylegan2.Config(),
        objective="non-saturating",
        penalty="r1",
        penalty_every=16,
        discriminator_optimizer=_adam_beside(2.5e-3, 0.0, 0.99, every=16),
        generator_optimizer=_adam_beside(2.5e-3, 0.0, 0.99, every=4),  # as their code does, with path lengths or without
        schedule="constant",
        augmentation="adaptive",
    )


def fastgan_2021() -> Recipe:
    """Liu et al.: section 4; hinge, small batches, everything augmented."""
    adam = _adam(2e-4, 0.5, 0.999)
    return Recipe(
        architecture="fastgan",
        network=fastgan.Config(),
        batch=8,
        discriminator_optimizer=adam,
        generator_optimizer=adam,
        schedule="constant",
        augmentation="full",
    )


def lecam_2021() -> Recipe:
    """Tseng et al.: section 5, on the default nets, whose discriminator learns once a turn (their BigGAN's: four times); colors
    are augmented too and rates fall."""
    adam = _adam(2e-4, 0.0, 0.999)
    return Recipe(network=conv.Config(), penalty="lecam", batch=64, discriminator_optimizer=adam, generator_optimizer=adam, augmentation="full")


CLASSICS = {
    "improved": Preset(
        improved_2016,
        "minibatch discrimination, smoothed labels, historical averaging, virtual batch norm",
        "Salimans et al. 2016, Improved techniques for training GANs",
    ),
    "feature-matching": Preset(
        feature_matching_2016,
        "the generator matches the discriminator's mean features",
        "Salimans et al. 2016, Improved techniques for training GANs",
    ),
    "lsgan": Preset(lsgan_2017, "distances instead of probabilities", "Mao et al. 2017, Least squares GANs"),
    "wgan": Preset(wgan_2017, "earth mover's distance, clipped weights", "Arjovsky et al. 2017, Wasserstein GAN"),
    "wgan-gp": Preset(
        wgan_gp_2017, "the same with slopes held at one", "Gulrajani et al. 2017, Improved training of Wasserstein GANs"
    ),
    "dragan": Preset(
        dragan_2017, "slopes held at one around the data", "Kodali et al. 2017, On convergence and stability of GANs"
    ),
    "acgan": Preset(acgan_2017, "the discriminator also names the class: needs labels", classifier.SOURCE),
    "r1": Preset(
        r1_2018,
        "zero slope at the data: the game converges",
        "Mescheder et al. 2018, Which training methods for GANs do actually converge?",
    ),
    "sngan": Preset(sngan_2018, "residual nets, a spectrally normalized discriminator", sngan.SOURCE),
    "progan": Preset(progan_2018, "small pictures first, larger ones faded in", progan.SOURCE),
    "sagan": Preset(sagan_2019, "residual nets that attend to themselves", sagan.SOURCE),
    "biggan": Preset(biggan_2019, "a latent for every level, orthogonal weights", biggan.SOURCE),
    "ragan": Preset(
        ragan_2019, "more real than the others on average", "Jolicoeur-Martineau 2019, The relativistic discriminator"
    ),
    "msgan": Preset(
        mode_seeking_2019,
        "unlike latents must give unlike pictures",
        "Mao et al. 2019, Mode seeking generative adversarial networks for diverse image synthesis",
    ),
    "stylegan2": Preset(stylegan2_2020, "a mapped style scales every layer", stylegan2.SOURCE),
    "stylegan2-ada": Preset(
        stylegan2_ada_2020,
        "the same for few pictures: augmentation that adapts",
        "Karras et al. 2020, Training generative adversarial networks with limited data",
    ),
    "fastgan": Preset(fastgan_2021, "thin nets and a self-taught discriminator for few pictures", fastgan.SOURCE),
    "lecam": Preset(
        lecam_2021,
        "logits drawn to where the others usually are, for few pictures",
        "Tseng et al. 2021, Regularizing generative adversarial networks under limited data",
    ),
}
