"""Autoencoders: from a recipe and a data set to an experiment; the presets by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from limner.core.device import autocast, on_meta
from limner.core.images import ImageSpec, to_uint8
from limner.core.machine import Machine
from limner.core.text import counted
from limner.data import Dataset, open_source
from limner.data.dataset import Subset
from limner.data.decode import Progress
from limner.data.request import DataRequest
from limner.data.split import split
from limner.losses.adversarial import PATCH_OBJECTIVES, objective
from limner.methods.phase import Method
from limner.methods.vae import VAE, VAEGAN
from limner.methods.vqvae import VQVAE
from limner.monitor import rules
from limner.monitor.doctor import Rule
from limner.monitor.family_probes import AutoencoderProbe, spaced
from limner.networks import describe, patch, vae, vqvae
from limner.networks.layers import levels
from limner.recipes.config import VAERecipe, VQVAERecipe
from limner.recipes.presets import AUTOENCODERS
from limner.recipes.sources import load_single_set
from limner.runs.experiment import Card, Experiment, Product
from limner.runs.options import Options
from limner.runs.validate import FIDELITY, PAIRS, choose_metric, fidelity
from limner.sampling.generate import Preview, transform
from limner.training import memory
from limner.training.state import OptimizerConfig

RECIPES = (VAERecipe, VQVAERecipe)
PRESETS = AUTOENCODERS


def load_data(recipe: VAERecipe | VQVAERecipe, request: DataRequest, progress: Progress | None = None) -> Dataset:
    """Return the pictures of an autoencoder, with classes if it can sample them. Raises ValueError for unreadable data."""
    if isinstance(recipe, VAERecipe):
        return load_single_set(request, progress)
    request.refuse(("labels",), "to a recipe that learns no classes")
    dataset = load_single_set(replace(request, unconditional=True), progress)
    if not request.unconditional and (classes := _classes_of(request)):
        dataset.notes.append(
            f"The {classes} classes of the pictures are not used: a VQ-VAE draws no samples. Use vae to sample by class."
        )
    return dataset


def _classes_of(request: DataRequest) -> int:
    """Return the number of classes of the pictures."""
    try:
        return len(open_source(request.data, labels=True).classes)
    except ValueError:  # unreadable labels do not matter here
        return 0


def refuse_too_large(recipe: VAERecipe | VQVAERecipe, spec: ImageSpec, machine: Machine) -> None:
    """Raise ValueError when training needs more memory than is free."""
    with on_meta():
        method, _ = method_of(recipe, spec, torch.device("meta"))
        x = torch.empty(memory.ROWS, spec.channels, spec.height, spec.width)
    passes = [memory.Pass(net, (x,)) for net in method.nets.values()]
    memory.refuse_too_large(passes, [method.nets["autoencoder"]], spec, recipe.batch, recipe.micro_batch, machine)


def method_of(recipe: VAERecipe | VQVAERecipe, spec: ImageSpec, device: torch.device) -> tuple[Method, dict[str, OptimizerConfig]]:
    """Return the method of a recipe with new networks on the device, and the optimizer of each player."""
    home = vqvae if isinstance(recipe, VQVAERecipe) else vae
    autoencoder = home.Autoencoder(spec, recipe.network)
    nets: list[nn.Module] = [autoencoder]
    optimizers = {"autoencoder": recipe.autoencoder_optimizer}
    algorithm: VQVAE | VAE
    if isinstance(recipe, VQVAERecipe):
        algorithm = VQVAE(
            autoencoder, commitment=recipe.commitment, decay=recipe.codebook_decay, dead=recipe.restart_threshold, flip=recipe.flip
        )
    else:
        optimizers["prior"] = recipe.prior_optimizer
        terms: dict[str, Any] = {"beta": recipe.beta, "free_bits": recipe.free_bits, "warm_up": recipe.beta_warmup, "flip": recipe.flip}
        goal, likelihood = objective(recipe.objective, PATCH_OBJECTIVES), recipe.network.likelihood
        if recipe.adversarial > 0:
            # a discriminator of small patches accepts samples that are noise
            downsamplings = recipe.discriminator.downsamplings or levels(spec)
            discriminator = patch.Discriminator(spec, replace(recipe.discriminator, downsamplings=downsamplings))
            nets.append(discriminator)
            optimizers["discriminator"] = recipe.discriminator_optimizer
            weights = {"features": recipe.feature_matching, "adversarial": recipe.adversarial}
            algorithm = VAEGAN(autoencoder, discriminator, likelihood, goal, **weights, **terms)
        else:
            algorithm = VAE(autoencoder, likelihood, **terms)
    for net in nets:
        net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return algorithm.method, optimizers


def build(name: str, recipe: VAERecipe | VQVAERecipe, dataset: Dataset, options: Options, machine: Machine) -> Experiment:
    """Return the experiment of a recipe. Raises ValueError for options that conflict."""
    refuse_too_large(recipe, dataset.spec, machine)
    torch.manual_seed(options.seed)
    method, optimizers = method_of(recipe, dataset.spec, machine.device)
    autoencoder = method.nets["autoencoder"]
    metric = choose_metric(options.metric, FIDELITY, "autoencoder")
    training, held_out = split(dataset, options.seed) if options.doctor or metric else (dataset, None)
    notes = []
    if held_out is not None:
        notes.append(f"{counted(len(held_out), 'picture is', 'pictures are')} held out for validation; --no-doctor --metric none trains on them too.")
    shown = dataset if held_out is None else held_out
    pictures, of = spaced(shown, PAIRS), "training pictures" if held_out is None else "held-out pictures"
    chunk = recipe.micro_batch or recipe.batch
    architecture = "vqvae" if isinstance(recipe, VQVAERecipe) else "vae"
    return Experiment(
        name=name,
        recipe=recipe,
        data=dataset,
        batches=training,
        method=method,
        optimizers=optimizers,
        product=Product(
            kind="autoencoder",
            network="autoencoder",
            description=describe(architecture, recipe.network),
            preview=preview_of(shown, machine),
            card=Card("autoencoder, image-reconstruction", USAGE + (SAMPLING if architecture == "vae" else "")),
        ),
        validators=[fidelity(lambda net, x: net(x), pictures, pictures, metric, f"reconstructed {of}", machine)] if metric else [],
        probe=AutoencoderProbe(autoencoder, training, rules_for(recipe), chunk, machine) if options.doctor else None,
        held_out_count=0 if held_out is None else len(held_out),
        notes=notes,
    )


USAGE = """\
    limner reconstruct THIS_FOLDER PICTURES --out reconstructed.png
    limner encode THIS_FOLDER PICTURES --out latents.npz
"""

SAMPLING = """\
    limner sample THIS_FOLDER -n 64 --out grid.png
    limner interpolate THIS_FOLDER A.png B.png --out between.gif
    limner traverse THIS_FOLDER PICTURES --out numbers.png
"""


def rules_for(recipe: VAERecipe | VQVAERecipe) -> Sequence[Rule]:
    """Return the doctor's rules for an autoencoder; a collapse comes first, since it explains why nothing is learned."""
    if isinstance(recipe, VQVAERecipe):
        weight = "--commitment"
        own = rules.dead_codes("raise --restart-threshold, so that unused codes restart, lower --commitment, or use fewer codes (--network.codes).")
    else:
        weight = "--beta"
        own = rules.posterior_collapse("lower --beta, raise --free-bits, or let beta rise more slowly (--beta-warmup).")
    return (
        own,
        rules.constant_output(f"lower {weight} or --autoencoder-optimizer.lr."),
        rules.learns_nothing(
            "autoencoder", "the mean picture", f"change --autoencoder-optimizer.lr, lower {weight}, or use a wider network (--network.width)."
        ),
    )


def preview_of(pictures: Dataset | Subset, machine: Machine) -> Preview:
    """Return a preview in rows of eight: pictures and their reconstructions, twice; then, with a prior, samples: four rows, or
    a row per class (at most ten)."""
    x, device = spaced(pictures, 16), machine.device
    x = x[torch.arange(16) % len(x)]

    @torch.no_grad()
    def preview(autoencoder: nn.Module) -> np.ndarray:
        y = transform(autoencoder, x, machine)
        rows = [x[:8], y[:8], x[8:], y[8:]]
        if isinstance(autoencoder, vae.Autoencoder):
            with autocast(device, machine.precision):
                rng, classes = np.random.default_rng(0), autoencoder.prior.classes
                lines = min(classes, 10) if classes > 1 else 4
                noise = torch.from_numpy(rng.standard_normal((8 * lines, autoencoder.z_size), np.float32)).to(device)
                chance = torch.from_numpy(rng.random(8 * lines, np.float32)).to(device)
                labels = (torch.arange(lines, device=device) * classes // lines).repeat_interleave(8) if classes else None
                z = autoencoder.prior.draw(noise, chance, labels)
                rows.append(to_uint8(autoencoder.decode(z)).cpu())
        return torch.cat(rows).numpy()

    return preview
