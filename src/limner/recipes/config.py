"""The options of recipes, one dataclass per recipe. Options with the same name have the same meaning in all of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from limner.core.latents import DISTRIBUTIONS as DISTRIBUTIONS
from limner.core.options import Needs, group, option
from limner.core.schedule import DECAYS
from limner.core.tokenizer import Tokenizer
from limner.losses.adversarial import PATCH_OBJECTIVES, objective_names
from limner.losses.penalties import PENALTIES
from limner.losses.regularizers import REGULARIZERS
from limner.networks import (
    architecture_names,
    conv,
    convnet,
    diffaugment,
    hyperprior,
    latent,
    motion,
    patch,
    resnet,
    text2image,
    unet,
    vae,
    vqvae,
)
from limner.training.state import OptimizerConfig


@dataclass(frozen=True, kw_only=True)
class Training:
    """Options of every recipe."""

    batch: int = option(32, "Images per iteration, over all ranks.", low=1)
    micro_batch: int = option(0, "Images per forward pass, for less memory; 0 takes the whole batch at once. Results differ only with losses and layers that use statistics of the batch, dropout and spectral normalization.", low=0)
    schedule: str = option("cosine", "Learning-rate schedule.", choices=lambda: DECAYS)
    lr_decay_start: float = option(0.5, "Fraction of the budget after which the learning rates decay to zero.", low=0, high=1, needs=Needs("schedule"))
    lr_warmup: float = option(0.0, "Fraction of the budget over which the learning rates rise linearly from zero.", low=0, high=1)
    ema_half_life: float = option(10_000, "Half-life of the moving average (EMA) of the weights, in images; early in a run a twentieth of the images seen.", low=0)
    grad_clip: float = option(0.0, "Largest gradient norm; 0 does not clip.", low=0)
    flip: bool = option(False, "Mirror half of the images; not for text, digits or anything with a left and a right.")


@dataclass(frozen=True, kw_only=True)
class Recipe(Training):
    """A generative adversarial network: two networks, the loss of each, and how they are optimized."""

    architecture: str = option("conv", "Architecture of both networks.", choices=architecture_names)
    generator: Any = group(conv.GeneratorConfig, "The generator, by its architecture's options.")
    discriminator: Any = group(conv.DiscriminatorConfig, "The discriminator, by its architecture's options.")
    objective: str = option("hinge", "Adversarial losses of both networks.", choices=objective_names)
    penalty: str = option("none", "Penalty on the discriminator; -fast approximates gradient norms by finite differences.", choices=lambda: ("none", *PENALTIES))
    gamma: float | None = option(None, "Weight of the penalty; by default the paper's, or from resolution and batch size.", low=0, needs=Needs("penalty"))
    penalty_every: int = option(1, "Iterations between penalties (lazy regularization), each weighted as much more.", low=1, needs=Needs("penalty"))
    regularizer: str = option("none", "Regularizer of the generator.", choices=lambda: ("none", *REGULARIZERS))
    regularizer_weight: float | None = option(None, "Weight of the regularizer; by default the paper's.", low=0, needs=Needs("regularizer"))
    regularizer_every: int = option(1, "Generator steps between regularizations, each weighted as much more.", low=1, needs=Needs("regularizer"))
    groups: int = option(0, "Groups of similar pictures, found before training, that stand for classes where the pictures have none (Liu et al. 2020); 0 learns without.", low=0, high=4_000)
    classifier: float = option(0.0, "Weight of the auxiliary classifier loss (AC-GAN); 0 conditions the discriminator instead.", low=0)
    noise: str = option("normal", "Latent distribution: standard normal, uniform in [-1,1], or normal truncated at 2.", choices=lambda: DISTRIBUTIONS)
    discriminator_optimizer: OptimizerConfig = group(OptimizerConfig, "Optimizer of the discriminator.")
    generator_optimizer: OptimizerConfig = group(OptimizerConfig, "Optimizer of the generator.")
    discriminator_steps: int = option(1, "Discriminator steps per generator step.", low=1)
    augmentation: str = option("auto", "Augmentation of all that the discriminator sees; auto is light for less than 5,000 images and none beyond.", choices=("auto", *diffaugment.POLICIES, "ada"))
    ada_target: float = option(0.6, "ADA target: mean sign of the discriminator's real logits.", low=0, high=1, needs=Needs("augmentation", ("ada",)))
    ada_images: int = option(500_000, "Images over which ADA's augmentation probability can rise from 0 to 1.", low=1, needs=Needs("augmentation", ("ada",)))
    weight_clip: float = option(0.0, "Largest absolute weight of the discriminator (WGAN); 0 does not clip.", low=0)
    historical: float = option(0.0, "Weight of historical averaging of both networks' parameters (Salimans et al. 2016).", low=0)
    mixing: float = option(0.0, "Probability of style mixing; needs a style-based generator (stylegan2).", low=0, high=1)


@dataclass(frozen=True, kw_only=True)
class LatentRecipe(Training):
    """A generative adversarial network in the latents of an autoencoder, which is trained before it."""

    generator: latent.GeneratorConfig = group(latent.GeneratorConfig, "The generator: of latents, and the decoder to pictures.")
    discriminator: latent.DiscriminatorConfig = group(latent.DiscriminatorConfig, "The discriminator of latents.")
    autoencoder_share: float = option(0.25, "Fraction of the budget, in images, for the autoencoder; the rest is for the generator.", low=0.01, high=0.99)
    latent_noise: float = option(0.1, "Standard deviation of the noise on the latents that the decoder learns from; theirs is 1.", low=0)
    objective: str = option("hinge", "Adversarial losses of both networks.", choices=objective_names)
    noise: str = option("normal", "Latent distribution: standard normal, uniform in [-1,1], or normal truncated at 2.", choices=lambda: DISTRIBUTIONS)
    autoencoder_optimizer: OptimizerConfig = group(partial(OptimizerConfig, lr=2e-3, beta1=0.9, beta2=0.99), "Optimizer of the autoencoder.")
    discriminator_optimizer: OptimizerConfig = group(partial(OptimizerConfig, lr=8e-4, beta1=0.5, beta2=0.999), "Optimizer of the discriminator.")
    generator_optimizer: OptimizerConfig = group(partial(OptimizerConfig, lr=1e-3, beta1=0.5, beta2=0.999), "Optimizer of the generator.")
    augmentation: str = option("auto", "Augmentation of the autoencoder's pictures; auto is light for less than 5,000 images and none beyond.", choices=("auto", *diffaugment.POLICIES))


@dataclass(frozen=True, kw_only=True)
class TextRecipe(Training):
    """A generator of pictures from texts: the default adversarial networks, each with a sentence encoder of its own."""

    generator: text2image.GeneratorConfig = group(text2image.GeneratorConfig, "The generator, with its sentence encoder.")
    discriminator: text2image.DiscriminatorConfig = group(text2image.DiscriminatorConfig, "The discriminator, with its sentence encoder.")
    objective: str = option("hinge", "Adversarial losses of both networks.", choices=PATCH_OBJECTIVES)
    mismatch: float = option(0.5, "Share of the discriminator's loss for real images with the text of another; the rest is for generated images.", low=0, high=1)
    noise: str = option("normal", "Latent distribution: standard normal, uniform in [-1,1], or normal truncated at 2.", choices=lambda: DISTRIBUTIONS)
    embeddings: str = option("hashed", "Embeddings of words: of hashed words and letters, trained along, or the frozen vectors of WordLlama (extra text).", choices=("hashed", "wordllama"))
    vocabulary: int = option(Tokenizer.vocabulary, "Entries of the table of hashed words and letters: more keep rare words apart.", low=2, high=1_000_000, needs=Needs("embeddings", ("hashed",)))
    words: int = option(Tokenizer.words, "Words of a text that are read.", low=1, high=256)
    discriminator_optimizer: OptimizerConfig = group(partial(OptimizerConfig, lr=8e-4, beta1=0.5, beta2=0.999), "Optimizer of the discriminator.")
    generator_optimizer: OptimizerConfig = group(partial(OptimizerConfig, lr=2.4e-3, beta1=0.5, beta2=0.999), "Optimizer of the generator.")
    augmentation: str = option("auto", "Augmentation of all that the discriminator sees; auto is light for less than 5,000 images and none beyond. full changes colors too, which a text may name.", choices=("auto", *diffaugment.POLICIES))


_frames_optimizer = partial(OptimizerConfig, lr=8e-4, beta1=0.5, beta2=0.999)  # those of the recipe spectral


@dataclass(frozen=True, kw_only=True)
class MotionRecipe(Training):
    """A generative adversarial network of clips: a generator of frames at a time, and two discriminators."""

    batch: int = option(16, "Clips per iteration, over all ranks; two frames of each.", low=1)
    generator: motion.GeneratorConfig = group(motion.GeneratorConfig, "The generator of frames.")
    discriminator: motion.DiscriminatorConfig = group(motion.DiscriminatorConfig, "The discriminator of frames.")
    pair_discriminator: motion.DiscriminatorConfig = group(motion.DiscriminatorConfig, "The discriminator of pairs of frames.")
    loop: str = option("auto", "Whether the clips are loops, whose last frame is followed by the first; auto compares the last frame of each with its first.", choices=("auto", "yes", "no"))
    pair_weight: float = option(1.0, "Weight of the pairs of frames in the generator's loss: higher for smoother motion, lower for sharper frames.", low=0)
    encoder: motion.EncoderConfig = group(motion.EncoderConfig, "The encoder of real pairs of frames.", needs=Needs("reconstruction"))
    reconstruction: float = option(100.0, "Weight of the mean squared error of frames that are drawn from the latents of real ones; 0 has no encoder.", low=0)
    kl: float = option(0.2, "Weight of the KL divergence of those latents: higher for samples that are more like the clips, lower for more different ones.", low=0, needs=Needs("reconstruction"))
    objective: str = option("hinge", "Adversarial losses of all networks.", choices=objective_names)
    discriminator_optimizer: OptimizerConfig = group(_frames_optimizer, "Optimizer of the discriminator of frames.")
    pair_discriminator_optimizer: OptimizerConfig = group(_frames_optimizer, "Optimizer of the discriminator of pairs.")
    generator_optimizer: OptimizerConfig = group(partial(OptimizerConfig, lr=2.4e-3, beta1=0.5, beta2=0.999), "Optimizer of the generator.")
    augmentation: str = option("auto", "Augmentation of all that the discriminators see, the same for both frames of a pair; auto is light for less than 5,000 frames and none beyond.", choices=("auto", *diffaugment.POLICIES))


_coder = partial(OptimizerConfig, lr=1e-3, beta1=0.9, beta2=0.99)


@dataclass(frozen=True, kw_only=True)
class VAERecipe(Training):
    """A variational autoencoder, with a discriminator where `adversarial` is above 0 (VAE-GAN)."""

    network: vae.Config = group(vae.Config, "The autoencoder.")
    beta: float = option(1.0, "Weight of the KL divergence (beta-VAE): higher gives latents closer to the prior, lower sharper reconstructions.", low=0)
    free_bits: float = option(0.0, "Bits of KL divergence per latent dimension that cost nothing.", low=0)
    beta_warmup: float = option(0.1, "Fraction of the budget over which beta rises from 0 (KL warm-up).", low=0, high=1)
    adversarial: float = option(0.0, "Weight of the adversarial loss; 0 has no discriminator.", low=0)
    feature_matching: float = option(0.0, "Weight of the distance between discriminator features of image and reconstruction.", low=0, needs=Needs("adversarial"))
    objective: str = option("hinge", "Adversarial losses.", choices=PATCH_OBJECTIVES, needs=Needs("adversarial"))
    discriminator: patch.Config = group(partial(patch.Config, width=32, norm="spectral"), "The discriminator; sees whole images unless downsamplings are given.", needs=Needs("adversarial"))
    autoencoder_optimizer: OptimizerConfig = group(_coder, "Optimizer of the autoencoder.")
    prior_optimizer: OptimizerConfig = group(partial(OptimizerConfig, lr=3e-3, beta1=0.9, beta2=0.99), "Optimizer of the prior.")
    discriminator_optimizer: OptimizerConfig = group(partial(OptimizerConfig, lr=2e-3, beta1=0.0), "Optimizer of the discriminator.", needs=Needs("adversarial"))
    grad_clip: float = option(1.0, "Largest gradient norm; 0 does not clip.", low=0)


@dataclass(frozen=True, kw_only=True)
class VQVAERecipe(Training):
    """A vector-quantized autoencoder."""

    network: vqvae.Config = group(vqvae.Config, "The autoencoder.")
    commitment: float = option(0.25, "Weight of the commitment loss.", low=0)
    codebook_decay: float = option(0.99, "EMA decay of the codebook, per iteration.", low=0, high=1)
    restart_threshold: float = option(0.1, "Mean uses per iteration below which a code is restarted at a random encoder output.", low=0)
    autoencoder_optimizer: OptimizerConfig = group(_coder, "Optimizer of the autoencoder.")
    grad_clip: float = option(1.0, "Largest gradient norm; 0 does not clip.", low=0)


_translator = partial(OptimizerConfig, lr=4e-4, beta1=0.5, beta2=0.999)  # 2e-4 is published, for batch 1; scaled by the root of the batch, 4
_unpaired_discriminator = partial(_translator, lr=1e-3)  # fast, for at first translations are copies


@dataclass(frozen=True, kw_only=True)
class TranslatorTraining(Training):
    """Options of every recipe that translates."""

    batch: int = option(4, "Images of each side per iteration, over all ranks.", low=1)
    ema_half_life: float = option(2_000, "Half-life of the moving average (EMA) of the weights, in images; early in a run a twentieth of the images seen.", low=0)
    swap: bool = option(False, "Translate from the second kind of image to the first.")
    translator_optimizer: OptimizerConfig = group(_translator, "Optimizer of the translators.")


@dataclass(frozen=True, kw_only=True)
class PairedRecipe(TranslatorTraining):
    """Paired translation (pix2pix): the target of every image is known."""

    network: unet.Config = group(unet.Config, "The translator.")
    adversarial: bool = option(True, "Train with a discriminator; without one, translations are blurred.")
    discriminator: patch.Config = group(partial(patch.Config, width=32, norm="spectral"), "The discriminator of pairs.", needs=Needs("adversarial"))
    discriminator_optimizer: OptimizerConfig = group(_translator, "Optimizer of the discriminator.", needs=Needs("adversarial"))
    objective: str = option("least-squares", "Adversarial losses.", choices=PATCH_OBJECTIVES, needs=Needs("adversarial"))
    l1: float = option(10.0, "Weight of the L1 distance to the target: higher is closer and softer.", low=0)
    feature_matching: float = option(10.0, "Weight of the L1 distance between discriminator features of translation and target.", low=0, needs=Needs("adversarial"))
    shift: bool = option(True, "Translate both images of a pair by up to an eighth of the size, against overfitting.")


@dataclass(frozen=True, kw_only=True)
class _UnpairedRecipe(TranslatorTraining):
    """Options of both unpaired recipes."""

    network: resnet.Config = group(partial(resnet.Config, attention_mask=True), "The translators.")
    discriminator_optimizer: OptimizerConfig = group(_unpaired_discriminator, "Optimizer of the discriminators.")
    objective: str = option("least-squares", "Adversarial losses.", choices=PATCH_OBJECTIVES)
    penalty: str = option("none", "Gradient penalty on the discriminators.", choices=lambda: ("none", *(name for name, penalty in PENALTIES.items() if penalty.gradient_at)))
    gamma: float | None = option(None, "Weight of the penalty; by default from resolution and batch size.", low=0, needs=Needs("penalty"))


@dataclass(frozen=True, kw_only=True)
class CycleRecipe(_UnpairedRecipe):
    """Unpaired translation in both directions (CycleGAN)."""

    discriminator: patch.Config = group(partial(patch.Config, width=32), "The discriminators.")
    cycle: float = option(1.0, "Weight of the cycle consistency loss: higher keeps translations closer to their input.", low=0)
    identity: float = option(0.0, "Weight of the identity loss on images of the target side; above 0, an iteration costs half as much again.", low=0)
    pool: int = option(50, "Past translations that each discriminator is trained on too (Shrivastava et al. 2017).", low=0)


@dataclass(frozen=True, kw_only=True)
class CutRecipe(_UnpairedRecipe):
    """Unpaired translation in one direction (CUT), at less than half the cost.

    The published weights are 1 (Park et al. 2020, section 4). The official code takes the mean of both NCE losses, and
    squares without the 1/2 of the least-squares objective here, so that its weights of 1 are 0.25 here.
    """

    discriminator: patch.Config = group(partial(patch.Config, width=32, norm="spectral"), "The discriminator.")
    nce: float = option(0.25, "Weight of the patchwise contrastive loss (PatchNCE) between input and translation.", low=0)
    identity: float = option(0.25, "Weight of PatchNCE on images of the target side; 0 is faster.", low=0)
    patches: int = option(256, "Patches of each feature map that PatchNCE compares.", low=2)


@dataclass(frozen=True, kw_only=True)
class CodecRecipe(Training):
    """A learned image codec for several rates, with a discriminator where `adversarial` is above 0."""

    network: hyperprior.Config = group(hyperprior.Config, "The codec.")
    batch: int = option(8, "Crops per iteration, over all ranks.", low=1)
    distortion: str = option("mse", "What a picture may not lose: mse is the squared error, ms-ssim 1 - MS-SSIM, mix half of each.", choices=("mse", "ms-ssim", "mix"))
    adversarial: float = option(0.0, "Weight of the adversarial loss; 0 has no discriminator.", low=0)
    objective: str = option("hinge", "Adversarial losses.", choices=PATCH_OBJECTIVES, needs=Needs("adversarial"))
    discriminator: patch.Config = group(partial(patch.Config, width=32, norm="spectral"), "The discriminator of pictures and what decoding gives.", needs=Needs("adversarial"))
    codec_optimizer: OptimizerConfig = group(partial(OptimizerConfig, lr=1e-3, beta1=0.9, beta2=0.99), "Optimizer of the codec.")
    discriminator_optimizer: OptimizerConfig = group(partial(OptimizerConfig, lr=4e-4, beta1=0.5, beta2=0.999), "Optimizer of the discriminator.", needs=Needs("adversarial"))
    grad_clip: float = option(1.0, "Largest gradient norm; 0 does not clip.", low=0)
    flip: bool = option(True, "Mirror half of the crops.")


@dataclass(frozen=True, kw_only=True)
class ClassifierRecipe(Training):
    """A classifier of pictures of which only some need a class: propagated labels, a semi-supervised GAN, or labels alone."""

    network: convnet.Config = group(partial(convnet.Config, norm="batch"), "The classifier, which is also the discriminator.")
    batch: int = option(100, "Images per iteration, over all ranks.", low=1)
    labeled_every: int = option(6, "Rows of a batch per labeled one; the others are used without a class. 1 uses labeled images only.", low=1)
    adversarial: float = option(0.0, "Weight of the adversarial loss (Salimans et al. 2016): unlabeled images are real, generated ones are not. 0 has no generator.", low=0)
    generator: conv.GeneratorConfig = group(partial(conv.GeneratorConfig, width=16), "The generator.", needs=Needs("adversarial"))
    generator_every: int = option(1, "Classifier steps per generator step.", low=1, needs=Needs("adversarial"))
    pull_away: float = option(0.0, "Weight of the pull-away term, which makes generated images differ (Dai et al. 2017).", low=0, needs=Needs("adversarial"))
    entropy: float = option(0.0, "Weight of the entropy of the predictions for unlabeled images (Dai et al. 2017).", low=0)
    propagate: float = option(1.0, "Weight of propagated labels: those of labeled images spread to images that resemble them, and from these to others.", low=0)
    strength: float = option(0.6, "Strength of the affine augmentation (at 1, rotation by up to 30 degrees, scale, shear, shift) of images with a label, given or propagated; 0 is none.", low=0, high=2)
    elastic: float = option(1.0, "Strength of the elastic deformation of the same images; 0 is none.", low=0, high=2)
    stroke: float = option(1.0, "Strength of the thickening and thinning of strokes in the same images, for handwriting and drawings; 0 is none.", low=0, high=1)
    shift: bool = option(True, "Translate unlabeled images by up to an eighth of the size for the adversarial loss and the entropy.")
    validation: float | None = option(None, "Fraction of the labeled images to hold out for accuracy and calibration; by default a tenth where that is at least 50 images, otherwise none.", low=0, high=0.9)
    labels_per_class: int = option(0, "Use the labels of this many images of each class, drawn at random, and the others without; for experiments. 0 uses all.", low=0)
    label_draw: int = option(0, "Seed of that draw.", low=0, needs=Needs("labels_per_class"))
    classifier_optimizer: OptimizerConfig = group(partial(OptimizerConfig, lr=2e-3, beta1=0.5, beta2=0.99), "Optimizer of the classifier.")
    generator_optimizer: OptimizerConfig = group(partial(OptimizerConfig, lr=3e-3, beta1=0.5, beta2=0.99), "Optimizer of the generator.", needs=Needs("adversarial"))
    ema_half_life: float = option(20_000, "Half-life of the moving average (EMA) of the weights, in images; early in a run a twentieth of the images seen.", low=0)
