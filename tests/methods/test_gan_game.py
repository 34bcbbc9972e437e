"""The two-player game: who moves, what is asked of whom, and that it learns."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from games import gan_of
from limner.core.condition import Condition
from limner.core.images import ImageSpec
from limner.losses.adversarial import OBJECTIVES
from limner.losses.penalties import PENALTIES
from limner.losses.regularizers import REGULARIZERS
from limner.methods.gan import GAN
from limner.methods.phase import Batch, Clock
from limner.networks import conv, dcgan
from limner.training.iteration import Plan
from limner.training.loop import fit
from limner.training.state import OptimizerConfig

SPEC = ImageSpec(1, 16, 16, Condition.classes(2))
CLOCK = Clock(0, 100, 8)


def batch(turn: int = 0) -> Batch:
    torch.manual_seed(5)
    tensors = {"image": torch.rand(8, 1, 16, 16) * 2 - 1, "label": torch.arange(8) % 2}
    return Batch(tensors, 0, 8, (0, 0, turn))


def game(home=conv, **more) -> GAN:
    torch.manual_seed(0)
    name = more.pop("objective", "hinge")
    return gan_of(home.Generator(SPEC, home.TINY_GENERATOR), home.Discriminator(SPEC, home.TINY_DISCRIMINATOR), name, **more)


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("home", [conv, dcgan], ids=["conv", "dcgan"])
def test_losses_are_per_sample_and_finite(name: str, home) -> None:
    gan = game(home, objective=name, penalty="r1r2", gamma=1.0, augmentation="full", flip=True)
    for turn, phase in enumerate(gan.method.phases):
        loss, terms = phase.loss(batch(turn), CLOCK)
        assert loss.shape == (8,) and loss.isfinite().all() and loss.requires_grad
        assert all(value.ndim == 0 and not value.requires_grad for value in terms.values())


def test_the_critics_turn_sends_no_gradient_to_the_generator() -> None:
    gan = game(penalty="r1r2", gamma=1.0)
    for turn in (gan.discriminator_turn, gan.penalty_turn):
        turn(batch(), CLOCK)[0].sum().backward()
    assert all(p.grad is None for p in gan.method.nets["generator"].parameters())


def test_a_lazy_penalty_weighs_as_much_in_all() -> None:
    often, lazy = (game(penalty="r1", gamma=2.0, penalty_every=every) for every in (1, 4))
    a, b = (gan.penalty_turn(batch(), CLOCK)[0] for gan in (often, lazy))
    torch.testing.assert_close(b, 4 * a)
    assert [phase.every for phase in lazy.method.phases] == [1, 4, 1]


@pytest.mark.parametrize("penalty", PENALTIES)
def test_a_penalty_of_every_turn_is_a_part_of_the_critics_loss(penalty: str) -> None:
    """One step on the sum, as the papers have it, and not two, of which Adam would make each as long as one."""
    plain, alone, both = game(), game(penalty=penalty, gamma=2.0), game(penalty=penalty, gamma=2.0)
    for gan in (plain, alone, both):
        for net in gan.method.nets.values():
            net.eval()  # or spectral norms would go on at every look
    assert [phase.every for phase in both.method.phases] == [1, 1]
    loss, terms = both.discriminator_turn(batch(), CLOCK)
    more, parts = alone.penalty_turn(batch(), CLOCK)
    torch.testing.assert_close(loss, plain.discriminator_turn(batch(), CLOCK)[0] + more)
    assert more.abs().max() > 0 and {"d_loss", "logit_gap", *parts} <= set(terms)


@pytest.mark.parametrize("name", REGULARIZERS)
def test_a_regulariser_of_every_turn_is_a_part_of_the_generators_loss(name: str) -> None:
    plain, alone, both = game(), game(regularizer=name), game(regularizer=name)
    for gan in (plain, alone, both):
        for net in gan.method.nets.values():
            net.eval()
    assert [phase.every for phase in both.method.phases] == [1, 1]
    loss, terms = both.generator_turn(batch(), CLOCK)
    more, _ = alone.regularizer_turn(batch(), CLOCK)
    torch.testing.assert_close(loss, plain.generator_turn(batch(), CLOCK)[0] + more)
    assert more.abs().max() > 0 and {"g_loss", "regularizer"} <= set(terms)


def test_a_regulariser_weighs_as_much_however_often_the_critic_moves() -> None:
    once, thrice = (game(regularizer="orthogonal", regularizer_every=2, discriminator_steps=steps) for steps in (1, 3))
    a, b = (gan.regularizer_turn(batch(), CLOCK)[0] for gan in (once, thrice))
    torch.testing.assert_close(b, a)  # an equal share of the generator's turns
    assert [phase.every for phase in once.method.phases] == [1, 1, 2] and [phase.every for phase in thrice.method.phases] == [1, 3, 6]


def test_orthogonal_leaves_the_tables_of_classes_alone() -> None:
    gan = game(regularizer="orthogonal")
    tables = [m for m in gan.method.nets["generator"].modules() if isinstance(m, nn.Embedding)]
    gan.regularizer_turn(batch(), CLOCK)[0].sum().backward()
    assert tables and all(table.weight.grad is None for table in tables)


def test_flips_mirror_about_half_of_the_real_pictures() -> None:
    gan = game(flip=True)
    big = Batch({"image": torch.arange(256.0).view(1, 1, 16, 16).repeat(400, 1, 1, 1)}, 0, 400, (0, 0, 0))
    flipped = (gan.real(big)[:, 0, 0, 0] == 15).float().mean()
    assert 0.4 < flipped < 0.6


class Points(nn.Module):
    """Two small networks for points in the plane, as pictures [N,1,1,2]."""

    spec = None
    z_size = 8

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(inputs, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, outputs)
        )

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        x = self.layers(x.flatten(1))
        return x.squeeze(1) if x.shape[1] == 1 else x.view(-1, 1, 1, 2)


def test_a_tiny_gan_covers_a_ring_of_eight(tmp_path: Path) -> None:
    angles = torch.arange(8) * torch.pi / 4
    centers = torch.stack([angles.cos(), angles.sin()], 1)

    def stream(first: int, count: int) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(first)
        which = torch.randint(8, (count,), generator=random)
        return {"image": (centers[which] + 0.03 * torch.randn(count, 2, generator=random)).view(-1, 1, 1, 2)}

    torch.manual_seed(0)
    generator = Points(8, 2)
    gan = gan_of(generator, Points(2, 1), "relativistic", penalty="r1r2", gamma=0.1)
    adam = OptimizerConfig(lr=1e-3, beta1=0.0, beta2=0.99)
    plan = Plan(images=256 * 1500, batch=256, optimizers={"discriminator": adam, "generator": adam}, ema_half_life=5000)
    fit(gan.method, stream, tmp_path, plan, device=torch.device("cpu"), quiet=True)
    points = generator(torch.randn(2000, 8, generator=torch.Generator().manual_seed(1))).view(-1, 2)
    distance, nearest = torch.cdist(points, centers).min(1)
    good = distance < 0.2
    counts = nearest[good].bincount(minlength=8)
    assert (counts > 2000 * 0.9 / 8 / 4).all(), counts  # every mode has at least a quarter of its share
    assert good.float().mean() > 0.7, good.float().mean()
