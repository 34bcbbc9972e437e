"""Autoencoders: every decision of such a run, and the presets that people choose by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from limner.core.images import to_float, to_uint8
from limner.core.machine import Machine
from limner.data import Dataset, open_source
from limner.losses.adversarial import PATCH_OBJECTIVES, objective
from limner.methods.phase import Method
from limner.methods.vae import VAE, VAEGAN
from limner.methods.vqvae import VQVAE
from limner.monitor import rules
from limner.monitor.doctor import Rule
from limner.monitor.family_probes import AutoencoderProbe
from limner.networks import describe, patch, vae, vqvae
from limner.networks.layers import levels
from limner.runs.run import Job, Options, Preset, Trained, play
from limner.training.loop import Callback
from limner.training.state import OptimizerConfig


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A variational autoencoder, with a discriminator where `adversarial` is above 0."""

    network: vae.Config = field(default_factory=vae.Config)  # the autoencoder
    beta: float = 1.0  # weight of the latent's cost; above 1 tidier latents, below 1 sharper reconstructions
    free_bits: float = 0.0  # bits that each number of a latent may cost before it counts
    warm_up: float = 0.1  # share of the budget over which beta rises from 0
    features: float = 0.0  # weight of the distance in the discriminator's features; needs a discriminator
    adversarial: float = 0.0  # weight of fooling the discriminator; 0 has no discriminator
    objective: str = "hinge"  # of the discriminator: non-saturating, least-squares, hinge or relativistic
    discriminator: patch.Config = field(default_factory=lambda: patch.Config(width=32, norm="spectral"))  # the discriminator, if any; sees whole pictures unless told
    batch: int = 32  # pictures an iteration, over all ranks
    micro_batch: int = 0  # pictures a forward pass (0: all at once); less memory; same result but for spectral norm in a discriminator
    autoencoder_optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(lr=1e-3, beta1=0.9, beta2=0.99))  # how it moves
    prior_optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(lr=3e-3, beta1=0.9, beta2=0.99))  # how the prior moves
    discriminator_optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(lr=2e-3, beta1=0.0))  # how the discriminator moves
    schedule: str = "cosine"  # how the learning rates fall: cosine, linear or constant (not at all)
    lr_decay_start: float = 0.5  # share of the budget after which they fall, to zero at its end
    lr_warmup: float = 0.0  # share of the budget over which they rise from zero at first
    ema_half_life: float = 10_000  # images over which the averaged network forgets half; a twentieth of those seen while that is less
    flip: bool = False  # mirror half of the pictures; not for text, digits or anything with a right and a left
    clip: float = 1.0  # largest gradient norm of a turn (0: none)


@dataclass(frozen=True, kw_only=True)
class CodeRecipe:
    """A vector-quantized autoencoder."""

    network: vqvae.Config = field(default_factory=vqvae.Config)  # the autoencoder
    commitment: float = 0.25  # weight of staying near the code that was chosen
    decay: float = 0.99  # what a code keeps of its place an iteration
    dead: float = 0.1  # choices an iteration below which a code starts anew elsewhere
    batch: int = 32  # pictures an iteration, over all ranks
    micro_batch: int = 0  # pictures a forward pass (0: all at once); less memory
    autoencoder_optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(lr=1e-3, beta1=0.9, beta2=0.99))  # how it moves
    schedule: str = "cosine"  # how the learning rates fall: cosine, linear or constant (not at all)
    lr_decay_start: float = 0.5  # share of the budget after which they fall, to zero at its end
    lr_warmup: float = 0.0  # share of the budget over which they rise from zero at first
    ema_half_life: float = 10_000  # images over which the averaged network forgets half; a twentieth of those seen while that is less
    flip: bool = False  # mirror half of the pictures; not for text, digits or anything with a right and a left
    clip: float = 1.0  # largest gradient norm of a turn (0: none)


def vae_gan() -> Recipe:
    """Its discriminator's weights are normalized, and it must keep up with a decoder that moves at 1e-3: a slow one is fooled by
    noise."""
    return Recipe(features=1.0, adversarial=0.3)


RECIPES = (Recipe, CodeRecipe)

PRESETS = {
    "vae": Preset(Recipe, "codes pictures as latents: reconstruct, blend, sample softly", vae.SOURCE),
    "vaegan": Preset(vae_gan, "the same with a discriminator: crisper samples, slower", "Larsen et al. 2016, Autoencoding beyond pixels"),
    "vqvae": Preset(CodeRecipe, "codes pictures as maps of symbols; reconstructs sharply, draws none", vqvae.SOURCE),
}


def classes_unused(name: str, data: Any) -> str:
    """A sentence for data whose pictures are sorted into classes, of which the recipe `name` makes no use; else empty."""
    try:
        classes = open_source(data, labels=True).classes
    except ValueError:  # labels that cannot be read matter to nobody here
        return ""
    if not classes:
        return ""
    return f"The {len(classes)} classes of the pictures are not used: {name} draws no samples. Take vae to sample by class."


def train(
    name: str,
    recipe: Any,
    dataset: Dataset,
    options: Options,
    machine: Machine,
    why: str = "",
    callbacks: Sequence[Callback] = (),
) -> Trained:
    """Train an autoencoder on the dataset; returns its run folder. Raises ValueError as `session.play` does.
    """
    kind = "vqvae" if isinstance(recipe, CodeRecipe) else "vae"
    torch.manual_seed(options.seed)
    home = vqvae if isinstance(recipe, CodeRecipe) else vae
    autoencoder = home.Autoencoder(dataset.spec, recipe.network)
    nets: list[nn.Module] = [autoencoder]
    optimizers = {"autoencoder": recipe.autoencoder_optimizer}
    method: Method
    if isinstance(recipe, CodeRecipe):
        method = VQVAE(
            autoencoder, commitment=recipe.commitment, decay=recipe.decay, dead=recipe.dead, flip=recipe.flip
        )
    else:
        optimizers["prior"] = recipe.prior_optimizer
        knobs = {"beta": recipe.beta, "free_bits": recipe.free_bits, "warm_up": recipe.warm_up, "flip": recipe.flip}
        goal = objective(recipe.objective, PATCH_OBJECTIVES)
        if recipe.adversarial > 0:
            # a discriminator of small patches is content with samples that are noise
            halvings = recipe.discriminator.halvings or levels(dataset.spec)
            discriminator = patch.Discriminator(dataset.spec, replace(recipe.discriminator, halvings=halvings))
            nets.append(discriminator)
            optimizers["discriminator"] = recipe.discriminator_optimizer
            weights = {"features": recipe.features, "adversarial": recipe.adversarial}
            likelihood = recipe.network.likelihood
            method = VAEGAN(autoencoder, discriminator, likelihood, goal, **weights, **knobs)
        else:
            method = VAE(autoencoder, recipe.network.likelihood, **knobs)
    for net in nets:
        net.to(machine.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def stream(first: int, count: int) -> dict[str, torch.Tensor]:
        images, labels = dataset.batch(first, count, options.seed)
        conditional = labels is not None and dataset.spec.classes and kind == "vae"
        return {"image": images, "label": labels} if conditional and labels is not None else {"image": images}

    job = Job(
        name=name,
        recipe=recipe,
        dataset=dataset,
        options=options,
        method=method,
        stream=stream,
        optimizers=optimizers,
        network=describe(kind, recipe.network),
        published="autoencoder",
        kind="autoencoder",
        preview=preview_of(dataset, machine.device),
        notes=[why] if why else [],
        probe=AutoencoderProbe(autoencoder, dataset, rules_for(recipe), recipe.micro_batch or recipe.batch, machine)
        if options.doctor
        else None,
        callbacks=callbacks,
    )
    return play(job, machine)


def rules_for(recipe: Recipe | CodeRecipe) -> Sequence[Rule]:
    """What the doctor judges an autoencoder by; a collapse comes first, for it is why nothing is learned."""
    if isinstance(recipe, CodeRecipe):
        weight = "--commitment"
        own = rules.dead_codes("raise --dead, so that unused codes start anew, lower --commitment, or take fewer codes (--network.codes).")
    else:
        weight = "--beta"
        own = rules.posterior_collapse("lower --beta, raise --free-bits, or let beta rise more slowly (--warm-up).")
    return (
        own,
        rules.constant_output(f"lower {weight} or --autoencoder.lr."),
        rules.learns_nothing(
            "autoencoder", "the mean picture", f"change --autoencoder.lr, lower {weight}, or take a wider network (--network.width)."
        ),
    )


def preview_of(dataset: Dataset, device: torch.device) -> Callable[[nn.Module], np.ndarray]:
    """Rows of eight: pictures, below each its reconstruction, twice; then, where there is a prior, samples: four rows, or
    with classes a row for each (at most ten)."""
    x = dataset.images[torch.linspace(0, len(dataset) - 1, 16).long()]

    @torch.no_grad()
    def preview(autoencoder: nn.Module) -> np.ndarray:
        y = to_uint8(autoencoder(to_float(x.to(device)))).cpu()
        rows = [x[:8], y[:8], x[8:], y[8:]]
        if isinstance(autoencoder, vae.Autoencoder):
            rng, classes = np.random.default_rng(0), autoencoder.prior.classes
            lines = min(classes, 10) if classes > 1 else 4
            noise = torch.from_numpy(rng.standard_normal((8 * lines, autoencoder.z_size), np.float32)).to(device)
            chance = torch.from_numpy(rng.random(8 * lines, np.float32)).to(device)
            labels = (torch.arange(lines, device=device) * classes // lines).repeat_interleave(8) if classes else None
            z = autoencoder.prior.draw(noise, chance, labels)
            rows.append(to_uint8(autoencoder.decode(z)).cpu())
        return torch.cat(rows).numpy()

    return preview
