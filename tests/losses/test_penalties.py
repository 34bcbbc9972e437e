"""Every penalty against closed forms and finite differences."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from limner.losses.adversarial import PATCH_OBJECTIVES, objective
from limner.losses.penalties import (
    PENALTIES,
    DiscriminatorContext,
    discriminator_penalty,
    estimated_gradient_norm,
    gamma_for,
    squared_gradient_norm,
    unit_gradient_penalty,
    weight_for,
)
from limner.losses.regularizers import (
    REGULARIZERS,
    GeneratorContext,
    generator_regularizer,
    mode_seeking,
    orthogonal,
    path_lengths,
)
from limner.methods.memory import RunningMeans
from limner.methods.patch_adversarial import PatchAdversarialLoss

W = torch.tensor([[1.0, -2.0], [0.5, 1.5]], dtype=torch.double)


def drawn(n: int):
    def normal(name: str, *shape: int) -> Tensor:
        return torch.randn(n, *shape, generator=torch.Generator().manual_seed(len(name)), dtype=torch.double)

    def uniform(name: str, *shape: int) -> Tensor:
        return torch.rand(n, *shape, generator=torch.Generator().manual_seed(len(name)), dtype=torch.double)

    return normal, uniform


def discriminator_context(discriminator, n: int = 6) -> DiscriminatorContext:
    normal, uniform = drawn(n)
    g = torch.Generator().manual_seed(0)
    real, fake = (torch.randn(n, 1, 2, 2, generator=g, dtype=torch.double).requires_grad_() for _ in range(2))
    logits = (lambda: discriminator(real)), (lambda: discriminator(fake))
    return DiscriminatorContext(discriminator, lambda: real, lambda: fake, *logits, normal, uniform, RunningMeans(["real", "fake"]))


@pytest.mark.parametrize("name", PENALTIES)
def test_per_sample_positive_and_with_the_gradient_that_differences_give(name: str) -> None:
    def total(w: Tensor) -> Tensor:
        here = discriminator_context(lambda x: ((x * w).sum((1, 2, 3)) + 0.3 * (x * w).square().sum((1, 2, 3))).tanh())
        terms = PENALTIES[name].terms(here)
        assert all(part.shape == (6,) and (part >= 0).all() for part in terms.values())
        assert set(here.running_mean.means) >= set(PENALTIES[name].tracked)
        return torch.stack(list(terms.values())).sum()

    w = (0.5 * W).clone().requires_grad_(True)
    total(w).backward()
    assert w.grad is not None
    for index in ((0, 0), (1, 0), (1, 1)):
        step = torch.zeros_like(W)
        step[index] = 1e-3
        want = (total(w.detach() + step) - total(w.detach() - step)) / 2e-3
        # sums are in fp32 by design
        assert w.grad[index].item() == pytest.approx(want.item(), rel=2e-2, abs=2e-2)


@pytest.mark.parametrize("name", PENALTIES)
def test_the_value_for_a_critic_of_known_slope(name: str) -> None:
    terms = PENALTIES[name].terms(discriminator_context(lambda x: (x * W).sum((1, 2, 3))))
    length = W.square().sum().sqrt().item()  # everywhere
    for key, part in terms.items():
        if key == "gradient_penalty":
            torch.testing.assert_close(part, torch.full((6,), (length - 1) ** 2))
        elif key in ("r1", "r2") and not name.endswith("fast"):
            torch.testing.assert_close(part, torch.full((6,), length**2))
    assert weight_for(name, 32, 32, 32) == (PENALTIES[name].weight or gamma_for(32, 32, 32))
    assert any(c.isdigit() for c in PENALTIES[name].source)


def test_the_fast_slope_is_the_slope_in_expectation() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 1, 2, 2).expand(20_000, -1, -1, -1)
    discriminator = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))

    def logits(v: Tensor) -> Tensor:
        return discriminator(v).squeeze(1)

    fast = estimated_gradient_norm(logits, x, torch.randn(x.shape)).mean().item()
    assert fast == pytest.approx(squared_gradient_norm(logits, x[:1]).item(), rel=0.04)


def test_wgan_gp_looks_between_and_dragan_around_the_data() -> None:
    seen = []

    def discriminator(x: Tensor) -> Tensor:
        seen.append(x.detach())
        return x.square().sum((1, 2, 3))

    here = discriminator_context(discriminator)
    PENALTIES["wgan-gp"].terms(here)
    low, high = torch.minimum(here.real(), here.fake()), torch.maximum(here.real(), here.fake())
    assert ((seen[0] >= low) & (seen[0] <= high)).all()
    PENALTIES["dragan"].terms(here)
    assert (seen[1] - here.real()).flatten(1).std(1).tolist() == pytest.approx([0.25] * len(seen[1]), rel=0.5)
    torch.testing.assert_close(  # slope 2x
        unit_gradient_penalty(discriminator, here.real()), (2 * here.real().square().sum((1, 2, 3)).sqrt() - 1).square().float()
    )


def test_lecam_pulls_towards_the_running_mean_of_the_other_side() -> None:
    here = discriminator_context(lambda x: x.sum((1, 2, 3)))
    here.running_mean.means.update(real=2.0, fake=-1.0)
    real, fake = here.real().sum((1, 2, 3)), here.fake().sum((1, 2, 3))
    torch.testing.assert_close(PENALTIES["lecam"].terms(here)["lecam"], (real + 1) ** 2 + (fake - 2) ** 2)
    here.running_mean.begin(8)
    assert here.running_mean.mean("real") == pytest.approx(0.99 * 2 + 0.01 * real.mean().item())


def test_unknown_names_are_sentences() -> None:
    assert discriminator_penalty("none") is None and generator_regularizer("none") is None
    for find in (discriminator_penalty, generator_regularizer):
        with pytest.raises(ValueError, match=r"choose one of none.*\.$"):
            find("strict")


# ---- regularizers ---------------------------------------------------------------------------------------------------------


def generator_context(generate, weights=()) -> GeneratorContext:
    normal, _ = drawn(5)
    return GeneratorContext(
        latent=lambda name: normal(name, 3),
        fake=lambda: generate(normal("z", 3)),
        generate=generate,
        mapping=lambda z: z[:, None],
        synthesis=lambda styles: generate(styles.squeeze(1)),
        weights=list(weights),
        normal=normal,
        running_mean=RunningMeans(["path"]),
    )


@pytest.mark.parametrize("name", REGULARIZERS)
def test_regularisers_have_a_gradient_for_the_generator(name: str) -> None:
    torch.manual_seed(0)
    weight = torch.randn(3, 12, dtype=torch.double, requires_grad=True)
    loss = REGULARIZERS[name].loss(generator_context(lambda z: (z @ weight).tanh().view(-1, 3, 2, 2), [weight]))
    assert loss.shape in ((5,), ()) and loss.isfinite().all()
    loss.sum().backward()
    assert weight.grad is not None and weight.grad.isfinite().all() and weight.grad.any()
    assert REGULARIZERS[name].weight > 0


def test_mode_seeking_punishes_alike_pictures_of_unlike_latents() -> None:
    z = torch.zeros(2, 4)
    near, far = torch.zeros(2, 1, 3, 3), torch.ones(2, 1, 3, 3)
    alike = mode_seeking(near, near + 0.01, z, z + 1)
    unlike = mode_seeking(near, far, z, z + 1)
    torch.testing.assert_close(unlike, torch.ones(2), rtol=1e-4, atol=1e-4)
    assert (alike > 50 * unlike).all()
    one, two = torch.zeros(4, 1, 3, 3), torch.tensor([0.0, 1.0, 1.0, 2.0]).view(4, 1, 1, 1).expand(4, 1, 3, 3)
    z = torch.zeros(4, 4)  # a pair that happens to be alike is one of the batch, and not all that counts
    torch.testing.assert_close(mode_seeking(one, two, z, z + 1), torch.ones(4), rtol=1e-4, atol=1e-4)


def test_orthogonal_rows_cost_nothing_whatever_their_length() -> None:
    rows = torch.linalg.qr(torch.randn(6, 6)).Q[:4] * 3
    assert orthogonal([rows, torch.randn(5), torch.randn(1, 9)]).item() == pytest.approx(0, abs=1e-6)
    pair = torch.tensor([[1.0, 0.0], [2.0, 1.0]])
    assert orthogonal([pair]).item() == pytest.approx(2 * 2.0**2)  # eq. 3: both off-diagonal products


@pytest.mark.parametrize("shape", [(40, 6), (6, 40), (12, 12)], ids=str)
def test_orthogonal_is_the_sum_over_pairs_of_rows_of_any_matrix(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape, requires_grad=True)
    pairs = (matrix @ matrix.T)[~torch.eye(len(matrix), dtype=torch.bool)].square().sum()
    (want,) = torch.autograd.grad(pairs, matrix)
    with torch.autocast("cpu", torch.bfloat16):  # which would round every product to 8 bits
        found = orthogonal([matrix])
    (gradient,) = torch.autograd.grad(found, matrix)
    assert found.item() == pytest.approx(pairs.item(), rel=1e-5)
    torch.testing.assert_close(gradient, want, rtol=1e-4, atol=1e-3)


def test_path_lengths_of_a_linear_generator() -> None:
    """E|J^T e|^2 = |J|^2 / pixels for e ~ N(0, I / pixels)."""
    torch.manual_seed(0)
    jacobian = torch.randn(3, 8)
    styles = torch.randn(4000, 1, 3)
    lengths = path_lengths(
        lambda s: (s.squeeze(1) @ jacobian).view(-1, 2, 2, 2), styles, lambda *shape: torch.randn(4000, *shape)
    )
    assert lengths.square().mean().item() == pytest.approx(jacobian.square().sum().item() / 4, rel=0.05)


@pytest.mark.parametrize(("name", "share"), [("r1", (1, 0)), ("r2", (0, 1)), ("r1r2", (1, 1))])
def test_a_critic_of_patches_is_held_by_its_mean_logit(name: str, share: tuple[int, int]) -> None:
    """Four patches, each the square of its pixel: the mean's slope at x is x / 2."""
    real, fake = torch.randn(2, 3, 1, 2, 2).unbind()
    one, two = ((x / 2).square().sum((1, 2, 3)).mean() for x in (real, fake))
    discriminator = torch.nn.Module()
    discriminator.forward = lambda x: x.square().squeeze(1)
    goal = objective("least-squares", PATCH_OBJECTIVES)
    plain, _ = PatchAdversarialLoss(goal).discriminator_loss(discriminator, real, fake)
    loss, terms = PatchAdversarialLoss(goal, name, gamma=3.0).discriminator_loss(discriminator, real, fake)
    torch.testing.assert_close(terms["gradient_penalty"], share[0] * one + share[1] * two)
    torch.testing.assert_close((loss - plain).mean(), 1.5 * terms["gradient_penalty"])
