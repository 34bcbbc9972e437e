"""A GAN in the latents of an autoencoder: who moves when, the latents' scale, pictures of any size, two ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from limner.core.condition import Condition
from limner.core.images import ImageSpec
from limner.methods.phase import Batch, Clock
from limner.networks import latent, rebuild_generator
from limner.recipes.config import LatentRecipe
from limner.recipes.latent import method_of
from limner.training.iteration import Plan
from limner.training.loop import fit
from stopping import StopAt

RECIPE = LatentRecipe(generator=latent.TINY_GENERATOR, discriminator=latent.TINY_DISCRIMINATOR, batch=8)
SPEC = ImageSpec(3, 32, 32, Condition.classes(3))
OPTIMIZERS = {name: getattr(RECIPE, f"{name}_optimizer") for name in ("autoencoder", "discriminator", "generator")}


def stream(first: int, count: int) -> dict[str, torch.Tensor]:
    """Pictures of one color each, by class; a pure function of the position."""
    random = torch.Generator().manual_seed(first)
    labels = torch.arange(first, first + count) % 3
    colors = torch.eye(3)[labels] * 200 + 40 * torch.rand(count, 3, generator=random)
    return {"image": colors[:, :, None, None].expand(-1, -1, 32, 32).contiguous().to(torch.uint8), "label": labels}


def trained(folder: Path, images: int, budget: int) -> Any:
    torch.manual_seed(0)
    algorithm = method_of(RECIPE, SPEC, torch.device("cpu"))
    plan = Plan(images=budget, batch=8, optimizers=OPTIMIZERS)
    fit(algorithm.method, stream, folder, plan, device=torch.device("cpu"), quiet=True, callbacks=[StopAt(images)])
    return algorithm


def test_the_autoencoder_moves_in_its_window_and_the_game_after_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    start = {k: v.clone() for k, v in method_of(RECIPE, SPEC, torch.device("cpu")).generator.state_dict().items()}
    early = trained(tmp_path / "early", 64, 320).generator.state_dict()  # the window ends at 80 images
    changed = {key.split(".")[0] for key, value in early.items() if not torch.equal(value, start[key])}
    assert changed == {"decoder"}
    between = trained(tmp_path / "between", 80, 320).generator.state_dict()
    late = trained(tmp_path / "late", 320, 320).generator.state_dict()
    changed = {key.split(".")[0] for key, value in late.items() if not torch.equal(value, between[key])}
    assert changed == {"latents"}


def test_resumed_in_either_window_equals_unbroken(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", 160, 160).generator.state_dict()
    for at in (24, 120):
        trained(tmp_path / str(at), at, 160)
        again = trained(tmp_path / str(at), 160, 160).generator.state_dict()
        assert all(torch.equal(value, again[key]) for key, value in whole.items())


def test_latents_are_standardized_and_stay_fixed_in_the_game(tmp_path: Path) -> None:
    algorithm = trained(tmp_path, 160, 160)
    pictures = Batch(stream(0, 60), 0, 60)["image"].float() / 127.5 - 1
    encoder = algorithm.encoder.train()
    for p in encoder.parameters():
        p.requires_grad_(True)
    latents = encoder(pictures)
    assert latents.mean((0, 2, 3)).abs().max() < 1e-4 and (latents.var((0, 2, 3)) - 1).abs().max() < 0.02
    for p in encoder.parameters():
        p.requires_grad_(False)
    running = encoder.standardize.running_mean.clone()
    assert torch.allclose(encoder(pictures[:7]), encoder(pictures)[:7], atol=1e-5)  # no statistics of the batch
    assert torch.equal(encoder.standardize.running_mean, running)


def test_the_schedule_of_a_phase_spans_its_window() -> None:
    clock = Clock(seen=300, budget=400, batch=4)
    assert clock.within((0.5, 1.0)) == Clock(seen=100, budget=200, batch=4)
    assert clock.within((0.0, 1.0)) == clock
    assert Clock(400, 400, 4).within((0.0, 0.25)).fraction == 1.0


@pytest.mark.parametrize("spec", [ImageSpec(1, 28, 28, Condition.classes(10)), ImageSpec(4, 20, 36), ImageSpec(3, 17, 41), ImageSpec(3, 64, 128)], ids=str)
def test_pictures_of_any_size(spec: ImageSpec) -> None:
    config = latent.TINY_GENERATOR
    generator, encoder = latent.Generator(spec, config), latent.Encoder(spec, config)
    discriminator = latent.Discriminator(spec, config, latent.TINY_DISCRIMINATOR)
    y = torch.arange(4) % spec.classes if spec.classes else None
    made = generator(torch.randn(4, config.z_size), y)
    assert made.shape == (4, spec.channels, *spec.size) and made.dtype == torch.float32
    latents = encoder(made)
    assert latents.shape == (4, config.latent_channels, *latent.latent_size(spec, config))
    assert generator.latents(torch.randn(4, config.z_size), y).shape == latents.shape
    assert discriminator(latents, y).shape == (4,)
    described = {"architecture": "latent", "config": {**config.__dict__}}
    assert sum(p.numel() for p in rebuild_generator(spec, described).parameters()) == sum(p.numel() for p in generator.parameters())
