"""Objectives against finite differences and theory; penalties against closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from limner.losses.adversarial import OBJECTIVES, objective
from limner.losses.penalties import discriminator_penalty, gamma_for, squared_gradient_norm

every_objective = pytest.mark.parametrize("name", OBJECTIVES)


@every_objective
def test_per_sample_and_gradients_match_finite_differences(name: str) -> None:
    torch.manual_seed(0)
    game = OBJECTIVES[name]
    real = torch.randn(7, dtype=torch.double, requires_grad=True)
    fake = torch.randn(7, dtype=torch.double, requires_grad=True)
    for loss in (game.discriminator, game.generator):
        assert loss(real, fake).shape == (7,)
        assert torch.autograd.gradcheck(loss, (real, fake))


@every_objective
def test_players_pull_apart(name: str) -> None:
    game = OBJECTIVES[name]
    real, fake = torch.zeros(1, requires_grad=True), torch.full((1,), 0.3, requires_grad=True)
    game.discriminator(real, fake).backward()
    assert real.grad is not None and fake.grad is not None
    assert real.grad < 0 < fake.grad  # a step against the gradient raises real and lowers fake
    fake.grad = None
    if game.features:
        return  # its generator sees no logits
    game.generator(real.detach(), fake).backward()
    assert fake.grad < 0  # the generator raises its own


@pytest.mark.parametrize(
    ("name", "want"),
    [
        ("minimax", lambda p, q: math.log(p / q)),  # Goodfellow et al. 2014, prop. 1: D = p/(p+q)
        ("non-saturating", lambda p, q: math.log(p / q)),
        ("least-squares", lambda p, q: p / (p + q)),  # Mao et al. 2017, eq. 5 with a=0, b=1
        # Salimans et al. 2016, section 3.4: D = 0.9 p / (p + q)
        ("smoothed", lambda p, q: math.log(0.9 * p / (0.1 * p + q))),
    ],
)
def test_the_critics_optimum_is_where_theory_puts_it(name: str, want) -> None:
    p, q = 0.8, 0.3  # density of real and of generated pictures at one point
    logit = torch.zeros(1, dtype=torch.double, requires_grad=True)
    optimizer = torch.optim.LBFGS([logit], max_iter=100, line_search_fn="strong_wolfe")
    far = torch.zeros(1, dtype=torch.double)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        game = OBJECTIVES[name].discriminator
        rest = game(far, far)  # the half of each call that belongs to no density here
        value = (p * (game(logit, far) - rest) + q * (game(far, logit) - rest)).sum()
        value.backward()
        return value

    optimizer.step(loss)
    assert logit.item() == pytest.approx(want(p, q), abs=1e-5)


@pytest.mark.parametrize("name", [n for n, game in OBJECTIVES.items() if game.middle is not None and n != "smoothed"])
def test_the_middle_is_where_a_critic_cannot_tell(name: str) -> None:
    """Of real and generated pictures that are alike, theory's discriminator gives the middle; hinge is flat around it.
    (Smoothing moves the optimum down by design.)"""
    middle = torch.tensor([OBJECTIVES[name].middle], requires_grad=True)
    OBJECTIVES[name].discriminator(middle, middle).sum().backward()
    assert middle.grad is not None and middle.grad.item() == pytest.approx(0, abs=1e-6)


def test_relativistic_average_compares_with_the_mean_of_the_others() -> None:
    game = OBJECTIVES["relativistic-average"]
    a, b = torch.randn(6), torch.randn(6)
    torch.testing.assert_close(game.discriminator(a + 3, b + 3), game.discriminator(a, b))
    torch.testing.assert_close(game.discriminator(a, b), game.generator(b, a))  # the roles change
    same = torch.zeros(4)
    torch.testing.assert_close(game.discriminator(same, same), torch.full((4,), 2 * math.log(2)))


def test_feature_matching_is_of_means_over_the_batch() -> None:
    game = OBJECTIVES["feature-matching"]
    real, fake = torch.randn(5, 3), torch.randn(5, 3, requires_grad=True)
    loss = game.generator(real, fake)
    assert loss.shape == (5,)
    torch.testing.assert_close(loss.mean(), (real.mean(0) - fake.mean(0)).square().sum())
    assert game.generator(real, real.flip(0)).max() < 1e-10  # the same set in another order
    loss.mean().backward()
    torch.testing.assert_close(fake.grad, (2 / 5 * (fake - real).mean(0)).detach().expand(5, 3))


def test_hinge_is_flat_beyond_the_margin_and_relativistic_sees_differences_only() -> None:
    hinge, pairs = OBJECTIVES["hinge"], OBJECTIVES["relativistic"]
    assert hinge.discriminator(torch.tensor([1.5]), torch.tensor([-2.0])).item() == 0
    a, b = torch.randn(5), torch.randn(5)
    torch.testing.assert_close(pairs.discriminator(a + 3, b + 3), pairs.discriminator(a, b))
    assert pairs.sees_real


def test_unknown_names_are_sentences() -> None:
    with pytest.raises(ValueError, match="choose one of"):
        objective("cosine")
    with pytest.raises(ValueError, match="choose one of"):
        discriminator_penalty("r3")


def test_squared_slope_of_a_known_critic() -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 2, 3, 3, dtype=torch.double)
    w = torch.randn(2, 3, 3, dtype=torch.double)
    linear = squared_gradient_norm(lambda v: (v * w).sum((1, 2, 3)), x)
    torch.testing.assert_close(linear, w.square().sum().float().expand(5))
    quadratic = squared_gradient_norm(lambda v: v.square().sum((1, 2, 3)), x)  # slope 2x
    torch.testing.assert_close(quadratic, (4 * x.square().sum((1, 2, 3))).float())


def test_squared_slope_has_a_gradient_for_the_critic() -> None:
    w = torch.tensor([2.0], requires_grad=True)
    squared_gradient_norm(lambda v: w * v.sum((1, 2, 3)), torch.ones(1, 1, 2, 2)).sum().backward()
    assert w.grad is not None and w.grad.item() == pytest.approx(16)  # d/dw of 4 w^2


def test_gamma_grows_with_pixels_and_falls_with_the_batch() -> None:
    assert gamma_for(64, 64, 32) == pytest.approx(4 * gamma_for(32, 32, 32))
    assert gamma_for(32, 32, 64) == pytest.approx(gamma_for(32, 32, 32) / 2)
