"""Objectives against finite differences and theory; penalties against closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from limner.losses.adversarial import OBJECTIVES, objective
from limner.losses.penalties import gamma_for, penalised, squared_slope

every_objective = pytest.mark.parametrize("name", OBJECTIVES)


@every_objective
def test_per_sample_and_gradients_match_finite_differences(name: str) -> None:
    torch.manual_seed(0)
    game = OBJECTIVES[name]
    real = torch.randn(7, dtype=torch.double, requires_grad=True)
    fake = torch.randn(7, dtype=torch.double, requires_grad=True)
    for loss in (game.critic, game.generator):
        assert loss(real, fake).shape == (7,)
        assert torch.autograd.gradcheck(loss, (real, fake))


@every_objective
def test_players_pull_apart(name: str) -> None:
    game = OBJECTIVES[name]
    real, fake = torch.zeros(1, requires_grad=True), torch.full((1,), 0.3, requires_grad=True)
    game.critic(real, fake).backward()
    assert real.grad is not None and fake.grad is not None
    assert real.grad < 0 < fake.grad  # a step against the gradient raises real and lowers fake
    fake.grad = None
    game.generator(real.detach(), fake).backward()
    assert fake.grad < 0  # the generator raises its own


@pytest.mark.parametrize(
    ("name", "want"),
    [
        ("minimax", lambda p, q: math.log(p / q)),  # Goodfellow et al. 2014, prop. 1: D = p/(p+q)
        ("non-saturating", lambda p, q: math.log(p / q)),
        ("least-squares", lambda p, q: p / (p + q)),  # Mao et al. 2017, eq. 5 with a=0, b=1
    ],
)
def test_the_critics_optimum_is_where_theory_puts_it(name: str, want) -> None:
    p, q = 0.8, 0.3  # density of real and of generated pictures at one point
    logit = torch.zeros(1, dtype=torch.double, requires_grad=True)
    optimiser = torch.optim.LBFGS([logit], max_iter=100, line_search_fn="strong_wolfe")
    far = torch.zeros(1, dtype=torch.double)

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        game = OBJECTIVES[name].critic
        rest = game(far, far)  # the half of each call that belongs to no density here
        value = (p * (game(logit, far) - rest) + q * (game(far, logit) - rest)).sum()
        value.backward()
        return value

    optimiser.step(loss)
    assert logit.item() == pytest.approx(want(p, q), abs=1e-5)


def test_hinge_is_flat_beyond_the_margin_and_relativistic_sees_differences_only() -> None:
    hinge, pairs = OBJECTIVES["hinge"], OBJECTIVES["relativistic"]
    assert hinge.critic(torch.tensor([1.5]), torch.tensor([-2.0])).item() == 0
    a, b = torch.randn(5), torch.randn(5)
    torch.testing.assert_close(pairs.critic(a + 3, b + 3), pairs.critic(a, b))
    assert pairs.sees_real


def test_unknown_names_are_sentences() -> None:
    with pytest.raises(ValueError, match="say one of"):
        objective("cosine")
    with pytest.raises(ValueError, match="say one of"):
        penalised("r3")


def test_squared_slope_of_a_known_critic() -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 2, 3, 3, dtype=torch.double)
    w = torch.randn(2, 3, 3, dtype=torch.double)
    linear = squared_slope(lambda v: (v * w).sum((1, 2, 3)), x)
    torch.testing.assert_close(linear, w.square().sum().float().expand(5))
    quadratic = squared_slope(lambda v: v.square().sum((1, 2, 3)), x)  # slope 2x
    torch.testing.assert_close(quadratic, (4 * x.square().sum((1, 2, 3))).float())


def test_squared_slope_has_a_gradient_for_the_critic() -> None:
    w = torch.tensor([2.0], requires_grad=True)
    squared_slope(lambda v: w * v.sum((1, 2, 3)), torch.ones(1, 1, 2, 2)).sum().backward()
    assert w.grad is not None and w.grad.item() == pytest.approx(16)  # d/dw of 4 w^2


def test_gamma_grows_with_pixels_and_falls_with_the_batch() -> None:
    assert gamma_for(64, 64, 32) == pytest.approx(4 * gamma_for(32, 32, 32))
    assert gamma_for(32, 32, 64) == pytest.approx(gamma_for(32, 32, 32) / 2)
