"""Likelihoods that sum to one, and KL against Monte Carlo."""

from __future__ import annotations

import math

import pytest
import torch

from limner.losses import fidelity
from limner.losses.fidelity import LEVEL


def levels() -> torch.Tensor:
    """Every value of an 8-bit pixel as a picture of its own: [256,1,1,1]."""
    return (torch.arange(256.0) * LEVEL - 1).view(-1, 1, 1, 1)


@pytest.mark.parametrize("log_scale", [-6.0, -3.0, 0.0, 2.0])
def test_logistic_mixture_sums_to_one_over_the_levels(log_scale: float) -> None:
    parameters = torch.tensor([0.3, -1.0, 0.5, -0.7, log_scale, log_scale - 1]).view(1, -1, 1, 1).repeat(256, 1, 1, 1)
    chances = torch.exp(-fidelity.logistic_mixture(levels(), parameters))
    assert chances.sum().item() == pytest.approx(1, abs=1e-4)


def test_logistic_mixture_in_closed_form_and_finite_far_from_the_mean() -> None:
    x = torch.tensor([0.2]).view(1, 1, 1, 1)
    snapped = ((x + 1) / LEVEL).round() * LEVEL - 1
    parameters = torch.tensor([0.0, 0.1, -1.0]).view(1, 3, 1, 1)
    above, below = ((snapped + d * LEVEL / 2 - 0.1) / math.exp(-1) for d in (1, -1))
    expected = -torch.log(torch.sigmoid(above) - torch.sigmoid(below)).item()
    assert fidelity.logistic_mixture(snapped, parameters).item() == pytest.approx(expected, rel=1e-4)
    far = torch.tensor([0.0, -1.0, -7.0]).view(1, 3, 1, 1).requires_grad_(True)
    loss = fidelity.logistic_mixture(snapped, far)
    loss.sum().backward()
    assert loss.isfinite().all() and far.grad is not None and far.grad.isfinite().all()


def test_channels_of_a_pixel_share_their_component() -> None:
    # two components, white and black: a pixel half white, half black is far less probable than either
    parameters = torch.zeros(1, 1 + 2 * 2, 2, 1, 1)
    parameters[0, 1:3, 0], parameters[0, 1:3, 1] = 1.0, -1.0
    parameters[0, 3:] = -4.0
    flat = parameters.flatten(1, 2)
    white, mixed = torch.ones(1, 2, 1, 1), torch.tensor([1.0, -1.0]).view(1, 2, 1, 1)
    assert fidelity.logistic_mixture(mixed, flat) > fidelity.logistic_mixture(white, flat) + 50


@pytest.mark.parametrize("scale", [0.02, 0.1, 0.5])
def test_gaussian_is_the_chance_of_a_level(scale: float) -> None:
    parameters = torch.tensor([0.013, math.log(scale)]).view(1, 2, 1, 1).repeat(256, 1, 1, 1)
    inside = torch.exp(-fidelity.gaussian(levels(), parameters)).sum().item()
    normal = torch.distributions.Normal(0.013, scale)
    expected = (normal.cdf(torch.tensor(1 + LEVEL / 2)) - normal.cdf(torch.tensor(-1 - LEVEL / 2))).item()
    assert inside == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("likelihood", [fidelity.gaussian, fidelity.logistic_mixture])
def test_a_scale_beyond_its_bounds_comes_back(likelihood) -> None:
    scale = torch.full((1, 1, 1, 1), -20.0, requires_grad=True)
    known = torch.zeros(1, 1 if likelihood is fidelity.gaussian else 2, 1, 1)
    for x, wider in ((0.5, True), (0.0, False)):  # an error that asks for a wider scale, and none, which asks for less
        (found,) = torch.autograd.grad(likelihood(torch.full((1, 1, 1, 1), x), torch.cat([known, scale], 1)).sum(), scale)
        assert (found.item() < 0) == wider and (wider or found.item() == 0)


def test_gaussian_never_promises_more_than_certainty() -> None:
    parameters = torch.tensor([0.0, -20.0]).view(1, 2, 1, 1)
    assert fidelity.gaussian(torch.zeros(1, 1, 1, 1), parameters).item() > 0


def test_bernoulli_at_black_and_white() -> None:
    logits = torch.tensor([0.0, 2.0]).view(2, 1, 1, 1)
    nats = fidelity.bernoulli(torch.ones(2, 1, 1, 1), logits)
    assert nats.tolist() == pytest.approx([math.log(2), math.log(1 + math.exp(-2))], rel=1e-5)


def test_kl_agrees_with_monte_carlo() -> None:
    mean, log_variance = torch.tensor([[0.7, -1.2, 0.0]]), torch.tensor([[0.3, -1.0, 0.0]])
    torch.manual_seed(0)
    q = torch.distributions.Normal(mean, torch.exp(0.5 * log_variance))
    z = q.sample((200_000,))
    sampled = (q.log_prob(z) - torch.distributions.Normal(0.0, 1.0).log_prob(z)).mean(0)
    torch.testing.assert_close(fidelity.kl_to_standard(mean, log_variance), sampled, atol=0.01, rtol=0.02)
    assert fidelity.kl_to_standard(mean, log_variance)[0, 2] == 0


def test_free_bits_cost_nothing_below_and_change_nothing_above() -> None:
    kl = torch.tensor([[0.01, 5.0]], requires_grad=True)
    loss = fidelity.with_free_bits(kl, 0.5)
    loss.sum().backward()
    assert loss.item() == pytest.approx(5 + 0.5 * math.log(2)) and kl.grad is not None
    assert kl.grad.tolist() == [[0.0, 1.0]]
    assert fidelity.with_free_bits(kl, 0).item() == pytest.approx(5.01)


def test_bits_per_dimension_of_a_uniform_picture_is_eight() -> None:
    x = torch.zeros(3, 2, 4, 5)
    assert fidelity.bits_per_dimension(torch.full((3,), 40 * math.log(256)), x).tolist() == pytest.approx([8.0] * 3)
