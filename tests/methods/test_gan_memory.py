"""The adversarial game's options: what each does, that lazy turns weigh the same in expectation, that memory is exact."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from games import gan_of
from limner import networks
from limner.core.condition import Condition
from limner.core.images import ImageSpec
from limner.losses.penalties import PENALTIES
from limner.losses.regularizers import REGULARIZERS
from limner.methods.gan import GAN, with_last_features
from limner.methods.memory import Adaptive, History, RunningMeans
from limner.methods.phase import Batch, Clock
from limner.networks import ada, conv, mlp, progan, r3gan, stylegan2
from limner.networks.classifier import Classifier
from limner.training import state as checkpoints
from limner.training.iteration import Plan
from limner.training.loop import fit
from limner.training.state import OptimizerConfig, State
from limner.training.trial import measure
from stopping import StopAt

SPEC = ImageSpec(3, 16, 16, Condition.classes(2))
CPU = torch.device("cpu")
CLOCK = Clock(0, 100, 8)


def batch(turn: int = 0, seen: int = 0, rows: slice = slice(0, 8)) -> Batch:
    g = torch.Generator().manual_seed(5)
    tensors = {"image": torch.rand(8, 3, 16, 16, generator=g) * 2 - 1, "label": torch.arange(8) % 2}
    return Batch(tensors, 0, 8, (0, seen, turn)).rows(rows)


def game(home=conv, **more) -> GAN:
    torch.manual_seed(0)
    name = more.pop("objective", "hinge")
    if more.get("classifier"):
        unlabeled = home.Discriminator(replace(SPEC, condition=Condition.none()), home.TINY_DISCRIMINATOR)
        head = Classifier(unlabeled, SPEC.classes)
        return gan_of(home.Generator(SPEC, home.TINY_GENERATOR), unlabeled, name, **more | {"classifier": head})
    return gan_of(home.Generator(SPEC, home.TINY_GENERATOR), home.Discriminator(SPEC, home.TINY_DISCRIMINATOR), name, **more)


def stream(first: int, count: int) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(first)
    images = torch.randint(0, 256, (count, 3, 16, 16), generator=g, dtype=torch.uint8)
    return {"image": images, "label": torch.arange(first, first + count) % 2}


PLAN = Plan(images=48, batch=8, optimizers={"discriminator": OptimizerConfig(), "generator": OptimizerConfig()}, seed=1)


def played(gan: GAN, folder: Path, plan: Plan = PLAN, stop: int | None = None) -> GAN:
    fit(gan.method, stream, folder, plan, device=CPU, quiet=True, callbacks=[StopAt(stop)] if stop else [])
    return gan


def everything(gan: GAN) -> dict[str, Tensor]:
    return {f"{n}.{k}": v for n, net in gan.method.nets.items() for k, v in net.state_dict().items()}


# ---- every combination plays -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", networks.NAMES)
@pytest.mark.parametrize("penalty", ["r1r2", "wgan-gp", "r1-fast"])
def test_every_architecture_takes_penalties(name: str, penalty: str) -> None:
    home = networks.architecture(name)
    if penalty.endswith("fast") and name == "mlp":
        with pytest.raises(ValueError, match="dropout"):
            game(home, penalty=penalty)
        return
    gan = game(home, penalty=penalty, gamma=1.0)
    for turn, phase in enumerate(gan.method.phases):
        loss, terms = phase.loss(batch(turn), CLOCK)
        assert loss.isfinite().all() and loss.requires_grad
        loss.sum().backward()
        assert all(value.ndim == 0 and not value.requires_grad for value in terms.values())


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("lazy", [1, 4])
def test_every_penalty_is_lazy_alike(penalty: str, lazy: int) -> None:
    one, many = game(penalty=penalty, gamma=2.0), game(penalty=penalty, gamma=2.0, penalty_every=lazy)
    a, b = (gan.penalty_turn(batch(1), CLOCK)[0] for gan in (one, many))
    torch.testing.assert_close(b, lazy * a)
    assert a.shape == (8,)


@pytest.mark.parametrize("name", REGULARIZERS)
@pytest.mark.parametrize("home", [conv, stylegan2], ids=["conv", "stylegan2"])
def test_every_regulariser_moves_the_generator_alone(name: str, home) -> None:
    gan = game(home, regularizer=name, regularizer_every=3)
    assert [(p.player, p.every) for p in gan.method.phases] == [("discriminator", 1), ("generator", 1), ("generator", 3)]
    loss, terms = gan.regularizer_turn(batch(2), CLOCK)
    torch.testing.assert_close(loss.mean(), terms["regularizer"] * 3 * REGULARIZERS[name].weight)
    for p in gan.method.players["discriminator"]:
        p.requires_grad_(False)
    loss.sum().backward()
    assert any(p.grad is not None and p.grad.any() for p in gan.method.players["generator"])


def test_every_turn_plays_with_the_noise_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Tensor] = []
    mapping = stylegan2.Generator.mapping
    monkeypatch.setattr(stylegan2.Generator, "mapping", lambda net, z, y: given.append(z) or mapping(net, z, y))
    kinds = {}
    for noise in ("normal", "uniform"):
        gan = game(stylegan2, noise=noise, penalty="r1r2", regularizer="path-length", mixing=0.9)
        given.clear()
        for turn, phase in enumerate(gan.method.phases):
            phase.loss(batch(turn), CLOCK)
        kinds[noise] = torch.cat(given)
    assert len(kinds["uniform"]) >= 8 * 5 and kinds["uniform"].abs().max() <= 1 < kinds["normal"].abs().max()
    torch.testing.assert_close(kinds["uniform"], torch.erf(kinds["normal"] / 2**0.5))
    with pytest.raises(ValueError, match="noise"):
        game(noise="pink")


@pytest.mark.parametrize("name", networks.NAMES)
def test_features_are_what_the_last_layer_takes(name: str) -> None:
    home = networks.architecture(name)
    discriminator = home.Discriminator(ImageSpec(3, 16, 16), home.TINY_DISCRIMINATOR).eval()
    x = batch()["image"]
    logits, found = with_last_features(discriminator, lambda: discriminator(x, None))
    assert torch.equal(logits, discriminator(x))
    assert found.shape[0] == 8 and found.ndim == 2 and found.shape[1] > 1
    torch.testing.assert_close(discriminator.last(found).flatten(), discriminator(x), rtol=1e-4, atol=1e-4)
    assert not discriminator.last._forward_pre_hooks


def test_feature_matching_reaches_the_generator() -> None:
    gan = game(objective="feature-matching")
    loss, _ = gan.generator_turn(batch(), CLOCK)
    loss.sum().backward()
    assert all(p.grad is not None for p in gan.method.players["generator"])


# ---- options ---------------------------------------------------------------------------------------------------------


def test_weights_stay_clipped_and_the_critic_plays_more_often(tmp_path: Path) -> None:
    gan = game(objective="wasserstein", weight_clip=0.01, discriminator_steps=3)
    assert [p.every for p in gan.method.phases] == [1, 3]
    played(gan, tmp_path)
    gan.begin(CLOCK)  # as the next turn would
    assert all(p.abs().max() <= 0.01 for p in gan.method.players["discriminator"])


def test_style_mixing_changes_styles_midway_for_its_share() -> None:
    plain, never, always = (game(stylegan2, mixing=share) for share in (0.0, 1e-9, 1.0))
    for gan in (plain, never, always):
        gan.method.nets["generator"].eval()
    x, same, mixed = (gan.fake(batch())[0] for gan in (plain, never, always))
    torch.testing.assert_close(same, x)
    assert all(not torch.allclose(a, b) for a, b in zip(mixed, x, strict=True))


def test_growing_nets_are_told_the_clock() -> None:
    gan = game(progan)
    for seen in (0, 30, 80):
        gan.discriminator_turn(batch(), Clock(seen, 100, 8))
        assert all(float(net.progress) == pytest.approx(seen / 100) for net in gan.method.nets.values())


def test_history_is_the_mean_of_all_weights() -> None:
    weight = nn.Parameter(torch.tensor([1.0, 2.0]))
    history = History([weight])
    assert history.distance(0).item() == 0
    with torch.no_grad():
        weight += 3
    assert history.distance(8).item() == pytest.approx(2 * 1.5**2)  # the mean is halfway
    assert history.distance(8).item() == pytest.approx(2 * 1.5**2)  # a second slice counts nothing again
    history.distance(16).backward()
    assert weight.grad is not None and weight.grad[0].item() == pytest.approx(2 * 1.0)


def test_what_is_noted_counts_from_the_next_batch_on_however_it_is_cut() -> None:
    whole, cut = RunningMeans(["a"], 0.5), RunningMeans(["a"], 0.5)
    values = torch.arange(6.0)
    for seen in (0, 8, 16):
        whole.begin(seen)
        whole.note("a", values + seen)
        for part in (values[:4], values[4:]):
            cut.begin(seen)
            cut.note("a", part + seen)
            assert cut.mean("a") == whole.mean("a")
    whole.begin(24)
    assert whole.mean("a") == pytest.approx(0.125 * 2.5 + 0.25 * 10.5 + 0.5 * 18.5)


# ---- adaptive augmentation -------------------------------------------------------------------------------------------


def test_the_controller_reaches_its_target_rate_and_stays() -> None:
    """A discriminator that is the surer of real pictures the less they are augmented: r = 1 - p."""
    torch.manual_seed(0)
    controller = Adaptive(target=0.6, images=2_000)
    history = []
    for seen in range(0, 16_000, 16):
        controller.begin(seen)
        right = torch.rand(16) < (2 - controller.p) / 2  # E[sign] = 1 - p
        controller.note(torch.where(right, 1.0, -1.0))
        history.append(controller.p)
    assert sum(history[-300:]) / 300 == pytest.approx(0.4, abs=0.06)
    assert min(history) >= 0 and max(history) <= controller.most
    climb = Adaptive(images=1000, interval=2)
    for seen in range(0, 400, 8):
        climb.begin(seen)
        climb.note(torch.ones(8))
    assert climb.p == pytest.approx(0.392)  # the 49 batches judged so far, of a thousand images


def test_adaptive_augmentation_is_the_identity_at_zero_and_keeps_what_it_does_not_touch() -> None:
    torch.manual_seed(0)
    x, u = torch.rand(64, 4, 12, 16) * 2 - 1, torch.rand(64, ada.DRAWS)
    assert ada.augment(x, u, 0.0) is x
    y = ada.augment(x, u, 0.3)
    untouched = (u[:, : ada.GATES] >= 0.3).all(1)
    torch.testing.assert_close(y[untouched], x[untouched])
    assert y.shape == x.shape and y.isfinite().all() and not torch.allclose(y[~untouched], x[~untouched])
    still = (u[:, :6] >= 0.3).all(1)
    torch.testing.assert_close(y[still][:, 3], x[still][:, 3])  # alpha has no color


@pytest.mark.parametrize(
    ("gate", "draw", "want"),
    [
        (0, None, lambda x: x.flip(3)),
        (1, (0, 0.3), lambda x: torch.rot90(x, 1, (2, 3))),
        (1, (0, 0.6), lambda x: x.flip(2, 3)),
        (8, None, lambda x: x - 2 * x.mean(1, keepdim=True)),
    ],
    ids=["mirror", "quarter turn", "half turn", "luma"],
)
def test_single_changes_are_exact(gate: int, draw, want) -> None:
    torch.manual_seed(0)
    x, u = torch.randn(2, 3, 8, 8), torch.full((2, ada.DRAWS), 0.9)
    u[:, gate] = 0.0
    if draw:
        u[:, ada.GATES + draw[0]] = draw[1]
    y = ada.augment(x, u, 0.5)
    close = [torch.allclose(y, candidate, atol=1e-4) for candidate in (want(x), torch.rot90(want(x), 2, (2, 3)))]
    assert close[0] or (gate == 1 and close[1])  # the sense of a quarter turn is a convention


@pytest.mark.parametrize("gate", [0, 8], ids=["mirror", "luma"])
def test_what_has_two_states_happens_to_less_than_half_at_any_probability(gate: int) -> None:
    """Were it half or more, the discriminator could not tell which state is the data's."""
    torch.manual_seed(0)
    x, u = torch.randn(1, 3, 8, 8).expand(2000, -1, -1, -1), torch.full((2000, ada.DRAWS), 0.9)
    u[:, gate] = torch.rand(2000)
    for p in (0.4, 0.8):
        changed = (ada.augment(x, u, p) - x).abs().amax((1, 2, 3)) > 0.01
        assert changed.float().mean().item() == pytest.approx(p / 2, abs=0.04)


def test_saturation_keeps_grey_and_hue_keeps_luma() -> None:
    u = torch.full((2, ada.DRAWS), 0.9)
    u[:, 9:11] = 0.0
    gray = torch.randn(2, 1, 5, 5).expand(-1, 3, -1, -1)
    torch.testing.assert_close(ada.augment(gray, u, 0.5), gray)
    x = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(ada.augment(x, u, 0.5).mean(1), x.mean(1), rtol=1e-4, atol=1e-4)


def test_gradient_flows_through_adaptive_augmentation_of_any_shape() -> None:
    for shape in ((4, 1, 17, 41), (4, 3, 16, 16), (4, 4, 20, 36)):
        x = torch.randn(shape, requires_grad=True)
        ada.augment(x, torch.rand(4, ada.DRAWS), 0.7).square().sum().backward()
        assert x.grad is not None and x.grad.isfinite().all() and x.grad.any()


# ---- exact on resume, slices ------------------------------------------------------------------------------------------

MEMORABLE = {
    "ada": {"augmentation": "ada", "controller": Adaptive(target=0.0, images=60, interval=2)},
    "lecam": {"penalty": "lecam", "gamma": 0.3},
    "path-length": {"home": stylegan2, "regularizer": "path-length", "regularizer_every": 2, "mixing": 0.9},
    "historical": {"historical": 0.1},
    "classifier": {"classifier": True},
    "growing": {"home": progan, "penalty": "wgan-gp", "gamma": 10.0},
}


def remembering(options: dict) -> GAN:
    options = dict(options)
    if "controller" in options:
        options["controller"] = Adaptive(target=0.0, images=60, interval=2)
    return game(**options)


@pytest.mark.parametrize("options", MEMORABLE.values(), ids=MEMORABLE)
def test_resume_is_exact_with_memory(options: dict, tmp_path: Path) -> None:
    whole = remembering(options)
    assert measure(whole.method, stream, PLAN, CPU, seconds=0.05) > 0  # which must leave the memory alone
    whole = played(whole, tmp_path / "whole")
    plain = played(remembering(options), tmp_path / "plain")
    assert all(torch.equal(value, everything(whole)[key]) for key, value in everything(plain).items())
    if whole.augmentation.controller:
        assert whole.augmentation.controller.p > 0
    played(remembering(options), tmp_path / "broken", stop=24)
    again = remembering(options)
    played(again, tmp_path / "broken")
    assert all(torch.equal(value, everything(whole)[key]) for key, value in everything(again).items())
    for name, thing in whole.method.memory.items():
        for key, value in thing.state_dict().items():
            other = again.method.memory[name].state_dict()[key]
            assert torch.equal(value, other) if isinstance(value, Tensor) else value == other
    state = State(remembering(options).method, PLAN.optimizers)
    checkpoints.load(state, tmp_path / "whole" / "checkpoint", CPU)
    for name, mean in state.averages.items():
        if hasattr(mean, "progress"):  # the average shows about the level that its weights have seen
            assert 0.5 < float(mean.progress) <= float(whole.method.nets[name].progress)


@pytest.mark.parametrize(
    "more",
    [
        {"penalty": "lecam", "gamma": 1.0},
        {"penalty": "dragan", "gamma": 1.0},
        {"penalty": "r1r2-fast", "gamma": 1.0},
        {"augmentation": "ada"},
        {"regularizer": "orthogonal"},
        {"historical": 1.0},
        {"classifier": True, "classifier_weight": 2.0},
    ],
    ids=str,
)
def test_slices_give_what_the_whole_batch_gives(more: dict) -> None:
    losses = []
    for cuts in ([slice(0, 8)], [slice(0, 4), slice(4, 6), slice(6, 8)]):
        gan = game(mlp, **more) if "fast" not in more.get("penalty", "") else game(r3gan, **more)
        for net in gan.method.nets.values():
            net.eval()
        if gan.augmentation.controller:
            gan.augmentation.controller.p = 0.5
        for seen in (0, 8):
            clock, rows = Clock(seen, 100, 8), []
            for turn, phase in enumerate(gan.method.phases):
                with torch.enable_grad():
                    rows.append(torch.cat([phase.loss(batch(turn, seen, rows=cut), clock)[0] for cut in cuts]))
        losses.append(torch.stack(rows))
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-4)
