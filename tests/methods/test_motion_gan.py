"""Generators of clips: loops that close to the bit, pairs of frames, who moves when, exact resume, two ranks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from clips import folder
from limner.core.condition import Condition
from limner.core.images import ImageSpec
from limner.methods.motion import PairAugmentation, of_pairs
from limner.methods.phase import Batch, Clock
from limner.networks import motion, rebuild_generator
from limner.networks.contracts import Generator, Moving
from limner.recipes.config import MotionRecipe
from limner.recipes.motion import method_of
from limner.training.iteration import Plan
from limner.training.loop import fit
from stopping import StopAt

RECIPE = MotionRecipe(
    generator=motion.TINY_GENERATOR, discriminator=motion.TINY_DISCRIMINATOR, pair_discriminator=motion.TINY_DISCRIMINATOR,
    encoder=motion.TINY_ENCODER, batch=8,
)  # fmt: skip
SPEC = ImageSpec(3, 16, 16)
PLAYERS = ("discriminator", "pair_discriminator", "generator")
CPU = torch.device("cpu")


def generator(spec: ImageSpec = SPEC) -> motion.Generator:
    torch.manual_seed(0)
    return motion.Generator(spec, motion.TINY_GENERATOR).eval()


def stream(first: int, count: int) -> dict[str, Tensor]:
    """Pairs of frames of one color each; a pure function of the position."""
    t = torch.arange(first, first + count) * 0.37 % 1
    apart = torch.arange(first, first + count) * 0.11 % 1

    def frame(at: Tensor) -> Tensor:
        level = 127 + 100 * torch.cos(2 * torch.pi * at)
        return level[:, None, None, None].expand(-1, 3, 16, 16).contiguous().to(torch.uint8)

    return {"image": frame(t), "other": frame(t + apart), "time": t, "distance": apart}


def batch(count: int = 8) -> Batch:
    tensors = stream(0, count)
    return Batch({k: v.float() / 127.5 - 1 if v.dtype == torch.uint8 else v for k, v in tensors.items()}, 0, count, (0, 0))


# ---- the network -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [SPEC, ImageSpec(1, 28, 20), ImageSpec(4, 17, 41)], ids=str)
def test_a_loop_closes_to_the_bit(spec: ImageSpec) -> None:
    net = generator(spec)
    assert isinstance(net, Generator) and isinstance(net, Moving)
    z = torch.randn(4, net.z_size)
    assert torch.equal(net.moved(z, torch.zeros(4)), z) and torch.equal(net.moved(z, torch.ones(4)), z)
    assert torch.equal(net.moved(z, torch.full((4,), 3.0)), z) and torch.equal(net.moved(z, torch.full((4,), -1.0)), z)
    first, last = net(net.moved(z, torch.zeros(4))), net(net.moved(z, torch.ones(4)))
    assert torch.equal(first, last) and first.shape == (4, spec.channels, *spec.size)
    assert not torch.allclose(net(net.moved(z, torch.full((4,), 0.5))), first, atol=1e-3)


def test_time_is_an_angle_and_nothing_else_of_the_latent_moves() -> None:
    net = generator()
    z = torch.randn(16, net.z_size)
    later = net.moved(z, torch.full((16,), 0.25))
    assert torch.equal(later[:, :-2], z[:, :-2])
    assert torch.allclose(later[:, -2:], torch.stack([-z[:, -1], z[:, -2]], 1), atol=1e-6)  # a quarter turn
    assert torch.allclose(net.moved(later, torch.full((16,), 0.75)), z, atol=1e-5)
    longer = torch.cat([z[:, :-2], 7 * z[:, -2:]], 1)  # the length of the time's vector has no meaning
    assert torch.allclose(net(longer), net(z), atol=1e-5)


def test_multiples_are_the_cosines_and_sines_of_multiples() -> None:
    angle = torch.rand(20) * 6
    clock = 3 * torch.stack([angle.cos(), angle.sin()], 1)
    found = motion.multiples(clock, 4).unflatten(1, (4, 2))
    for k in range(1, 5):
        assert torch.allclose(found[:, k - 1] * k, torch.stack([(k * angle).cos(), (k * angle).sin()], 1), atol=1e-5)
    assert motion.multiples(torch.zeros(2, 2), 3).isfinite().all()


def test_a_pair_is_two_frames_of_one_clip_at_their_distance() -> None:
    net = generator()
    z, apart = torch.randn(6, net.z_size), torch.rand(6)
    made = motion.PairGenerator(net)(z, motion.distance_features(apart))
    one, two = made.chunk(2, 1)
    assert torch.allclose(one, net(z), atol=1e-5) and torch.allclose(two, net(net.moved(z, apart)), atol=1e-4)
    features = motion.distance_features(apart)
    assert torch.allclose(features.norm(dim=1), torch.ones(6)) and torch.allclose(features, motion.distance_features(apart + 1), atol=1e-5)


def test_a_published_generator_is_rebuilt_and_refuses_classes() -> None:
    described = {"architecture": "motion", "config": {**motion.TINY_GENERATOR.__dict__}, "noise": "normal", "period": 1.0}
    again = rebuild_generator(SPEC, described)
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in generator().state_dict().items()}
    with pytest.raises(ValueError, match="no condition"):
        motion.Generator(ImageSpec(3, 16, 16, Condition.classes(3)), motion.TINY_GENERATOR)


# ---- the game --------------------------------------------------------------------------------------------------------


def test_a_phase_moves_only_its_player() -> None:
    torch.manual_seed(0)
    method = method_of(RECIPE, SPEC, CPU).method
    assert [phase.player for phase in method.phases] == list(PLAYERS) and set(method.players) == set(PLAYERS)
    for number, phase in enumerate(method.phases):
        for player, parameters in method.players.items():
            for p in parameters:
                p.grad = None
                p.requires_grad_(player == phase.player)
        loss, _ = phase.loss(batch().turn(number), Clock(0, 100, 8))
        assert loss.shape == (8,)
        loss.mean().backward()
        moved = {player for player, parameters in method.players.items() if any(p.grad is not None and p.grad.any() for p in parameters)}
        assert moved == {phase.player}


def test_the_generator_is_scored_on_frames_on_pairs_and_on_what_it_draws_again() -> None:
    torch.manual_seed(0)
    algorithm = method_of(replace(RECIPE, reconstruction=3.0, kl=0.5, pair_weight=2.0), SPEC, CPU)
    loss, terms = algorithm.generator_turn(batch(), Clock(0, 100, 8))
    weights = {"g_loss": 1.0, "pair_g_loss": 2.0, "reconstruction": 3.0, "kl": 0.5}
    assert weights.keys() == terms.keys()
    assert loss.mean().item() == pytest.approx(sum(weight * terms[name].item() for name, weight in weights.items()), rel=1e-4)
    alone = method_of(replace(RECIPE, reconstruction=0.0), SPEC, CPU)
    assert "encoder" not in alone.method.nets and set(alone.generator_turn(batch(), Clock(0, 100, 8))[1]) == {"g_loss", "pair_g_loss"}


def test_an_encoder_and_a_generator_learn_to_draw_pairs_again() -> None:
    torch.manual_seed(0)
    algorithm = method_of(replace(RECIPE, kl=1e-3, augmentation="none"), SPEC, CPU)
    optimizer = torch.optim.Adam(algorithm.method.players["generator"], 3e-3)
    errors = []
    for step in range(16):
        data = {k: v.float() / 127.5 - 1 if v.dtype == torch.uint8 else v for k, v in stream(16 * step, 16).items()}
        loss, terms = algorithm.generator_turn(Batch(data, 0, 16, (step,)), Clock(0, 100, 16))
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
        errors.append(terms["reconstruction"].item())
        assert terms["kl"] >= 0
    assert np.mean(errors[-5:]) < 0.8 * errors[0]


def test_both_frames_of_a_pair_get_the_same_augmentation() -> None:
    data = Batch(batch().tensors | {"image": torch.rand(8, 3, 16, 16)}, 0, 8, (0, 0))
    same = Batch({**data.tensors, "other": data["image"]}, 0, 8, (0, 0))
    for policy in ("light", "full"):
        one, two = PairAugmentation(policy, flip=True).real(of_pairs(same), generator()).chunk(2, 1)
        assert torch.equal(one, two) and not torch.equal(one, data["image"])


def trained(place: Path, images: int, budget: int) -> dict[str, Tensor]:
    torch.manual_seed(0)
    algorithm = method_of(RECIPE, SPEC, CPU, "light")
    plan = Plan(images=budget, batch=8, optimizers={player: getattr(RECIPE, f"{player}_optimizer") for player in PLAYERS})
    fit(algorithm.method, stream, place, plan, device=CPU, quiet=True, callbacks=[StopAt(images)])
    return algorithm.generator.state_dict()


def test_resumed_equals_unbroken(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", 32, 32)
    trained(tmp_path / "broken", 16, 32)
    again = trained(tmp_path / "broken", 32, 32)
    assert all(torch.equal(value, again[key]) for key, value in whole.items())


def test_a_light_and_a_dark_clip_are_told_apart_by_the_distance() -> None:
    """The discriminator of pairs learns which distances fit which frames: frames of other distances are less real to it."""
    torch.manual_seed(0)
    net = motion.pair_discriminator(SPEC, motion.TINY_DISCRIMINATOR)
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    for step in range(30):
        rows = of_pairs(Batch({k: v.float() / 127.5 - 1 if v.dtype == torch.uint8 else v for k, v in stream(32 * step, 32).items()}, 0, 32))
        wrong = motion.distance_features((torch.from_numpy(stream(32 * step, 32)["distance"].numpy()) + 0.5) % 1)
        right, other = net(rows["image"], rows["vector"]), net(rows["image"], wrong)
        loss: Any = torch.relu(1 - right).mean() + torch.relu(1 + other).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (right - other).mean() > 0.2 and np.isfinite(loss.item())


@pytest.mark.slow
def test_two_ranks_give_what_one_gives(tmp_path: Path) -> None:
    from training.test_ranks import alike, train

    more = ["--recipe", "motion", "--generator.width", "8", "--discriminator.width", "8", "--pair-discriminator.width", "8", "--encoder.width", "8"]
    more += ["--generator.motion-width", "8", "--batch", "8", "--sync-batch-norm", "--size", "16"]
    for player in PLAYERS:
        name = player.replace("_", "-")
        more += [f"--{name}-optimizer.name", "sgd", f"--{name}-optimizer.lr", "0.02", f"--{name}-optimizer.beta1", "0"]
    place = folder(tmp_path / "clips", 20)
    one, two = (train(tmp_path / f"{ranks}", place, ranks, *more) for ranks in (1, 2))
    alike(one, two)
