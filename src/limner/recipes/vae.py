"""Autoencoders: every decision of such a run, and the presets that people choose by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
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
from limner.recipes.config import VAERecipe, VQVAERecipe
from limner.recipes.presets import AUTOENCODERS
from limner.runs.options import Options
from limner.runs.run import Job, Trained, play
from limner.training.loop import Callback

RECIPES = (VAERecipe, VQVAERecipe)
PRESETS = AUTOENCODERS


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
    kind = "vqvae" if isinstance(recipe, VQVAERecipe) else "vae"
    torch.manual_seed(options.seed)
    home = vqvae if isinstance(recipe, VQVAERecipe) else vae
    autoencoder = home.Autoencoder(dataset.spec, recipe.network)
    nets: list[nn.Module] = [autoencoder]
    optimizers = {"autoencoder": recipe.autoencoder_optimizer}
    method: Method
    if isinstance(recipe, VQVAERecipe):
        method = VQVAE(
            autoencoder, commitment=recipe.commitment, decay=recipe.codebook_decay, dead=recipe.restart_threshold, flip=recipe.flip
        )
    else:
        optimizers["prior"] = recipe.prior_optimizer
        knobs = {"beta": recipe.beta, "free_bits": recipe.free_bits, "warm_up": recipe.beta_warmup, "flip": recipe.flip}
        goal = objective(recipe.objective, PATCH_OBJECTIVES)
        if recipe.adversarial > 0:
            # a discriminator of small patches is content with samples that are noise
            downsamplings = recipe.discriminator.downsamplings or levels(dataset.spec)
            discriminator = patch.Discriminator(dataset.spec, replace(recipe.discriminator, downsamplings=downsamplings))
            nets.append(discriminator)
            optimizers["discriminator"] = recipe.discriminator_optimizer
            weights = {"features": recipe.feature_matching, "adversarial": recipe.adversarial}
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
        examine=AutoencoderProbe(autoencoder, dataset, rules_for(recipe), recipe.micro_batch or recipe.batch, machine)
        if options.doctor
        else None,
        callbacks=callbacks,
    )
    return play(job, machine)


def rules_for(recipe: VAERecipe | VQVAERecipe) -> Sequence[Rule]:
    """What the doctor judges an autoencoder by; a collapse comes first, for it is why nothing is learned."""
    if isinstance(recipe, VQVAERecipe):
        weight = "--commitment"
        own = rules.dead_codes("raise --restart-threshold, so that unused codes start anew, lower --commitment, or take fewer codes (--network.codes).")
    else:
        weight = "--beta"
        own = rules.posterior_collapse("lower --beta, raise --free-bits, or let beta rise more slowly (--beta-warmup).")
    return (
        own,
        rules.same_output(f"lower {weight} or --autoencoder-optimizer.lr."),
        rules.learns_nothing(
            "autoencoder", "the mean picture", f"change --autoencoder-optimizer.lr, lower {weight}, or take a wider network (--network.width)."
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
