"""A discriminator that names classes (AC-GAN): what either player pays, on every architecture, and that classes are learned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import limner
from games import gan_of
from limner import networks
from limner.core.condition import Condition
from limner.core.images import ImageSpec
from limner.losses.adversarial import OBJECTIVES
from limner.methods.gan import GAN
from limner.methods.phase import Batch, Clock
from limner.networks import conv, dcgan, mlp
from limner.networks.classifier import Classifier
from limner.recipes import gan as recipes
from limner.recipes.config import Recipe
from limner.runs import decide

SPEC = ImageSpec(1, 16, 16, Condition.classes(2))
CLOCK = Clock(0, 100, 8)


def batch() -> Batch:
    g = torch.Generator().manual_seed(5)
    tensors = {"image": torch.rand(8, 1, 16, 16, generator=g) * 2 - 1, "label": torch.arange(8) % 2}
    return Batch(tensors, 0, 8, (0, 0, 0))


def game(name: str = "conv", weight: float = 2.0, objective_name: str = "hinge", **more) -> GAN:
    home = networks.architecture(name)
    torch.manual_seed(0)
    nets = recipes.players(Recipe(architecture=name, generator=home.TINY_GENERATOR, discriminator=home.TINY_DISCRIMINATOR, classifier=weight), SPEC)
    return gan_of(nets["generator"], nets["discriminator"], objective_name, classifier=nets.get("classifier"),
                  classifier_weight=weight, **more)  # fmt: skip


@pytest.mark.parametrize("name", networks.NAMES)
def test_every_architecture_can_name_classes(name: str) -> None:
    gan = game(name)
    for phase in gan.method.phases:
        loss, terms = phase.loss(batch(), CLOCK)
        assert loss.shape == (8,) and loss.isfinite().all()
        loss.sum().backward()
        assert all(value.ndim == 0 and not value.requires_grad for value in terms.values())
    for turn, what in ((gan.discriminator_turn, "class_loss_real"), (gan.generator_turn, "class_loss_fake")):
        assert what in turn(batch(), CLOCK)[1]
    assert all(p.grad is not None and p.grad.any() for p in gan.method.nets["classifier"].parameters())


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_critic_pays_for_names_of_real_pictures_and_the_generator_for_its_own(name: str) -> None:
    """On nets whose rows do not see each other, so that the halves may be looked at alone."""
    gan = game(weight=2.0, objective_name=name)
    plain = gan_of(gan.method.nets["generator"], gan.method.nets["discriminator"], name)
    x, y = batch()["image"], batch()["label"]
    for net in gan.method.nets.values():
        net.eval()
    fake = gan.fake(batch())

    def class_loss(pictures: torch.Tensor) -> torch.Tensor:
        features = []
        handle = gan.method.nets["discriminator"].last.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))
        gan.method.nets["discriminator"](pictures, None)
        handle.remove()
        return F.cross_entropy(gan.method.nets["classifier"](features[0].flatten(1)), y, reduction="none")

    torch.testing.assert_close(gan.discriminator_turn(batch(), CLOCK)[0], plain.discriminator_turn(batch(), CLOCK)[0] + 2 * class_loss(x))
    torch.testing.assert_close(
        gan.generator_turn(batch(), CLOCK)[0], plain.generator_turn(batch(), CLOCK)[0] + 2 * class_loss(fake)
    )


def test_the_critic_is_not_told_the_class_and_the_head_moves_with_it() -> None:
    gan = game("dcgan")
    discriminator = gan.method.nets["discriminator"].eval()
    x = batch()["image"]
    assert torch.equal(discriminator(x, torch.zeros(8, dtype=torch.long)), discriminator(x, torch.ones(8, dtype=torch.long)))
    theirs = {id(p) for p in gan.method.players["discriminator"]}
    assert theirs == {id(p) for name in ("discriminator", "classifier") for p in gan.method.nets[name].parameters()}
    gan.discriminator_turn(batch(), CLOCK)[0].sum().backward()
    assert all(p.grad is None for p in gan.method.nets["generator"].parameters())


@pytest.mark.parametrize(("home", "width"), [(conv, 8 * 2 * 16), (dcgan, 8 * 2 * 16), (mlp, 8)], ids=str)
def test_the_head_is_as_wide_as_the_critics_last_layer(home, width: int) -> None:
    head = Classifier(home.Discriminator(ImageSpec(1, 16, 16), home.TINY_DISCRIMINATOR), 5)
    assert head(torch.randn(3, width)).shape == (3, 5)


def test_pictures_without_classes_are_refused_in_a_sentence(tmp_path: Path) -> None:
    pictures = np.zeros((20, 16, 16), np.uint8)
    for choice in ({"recipe": "acgan"}, {"recipe": "spectral", "classifier": 1.0}):
        with pytest.raises(ValueError, match=r"^The classifier needs classes, and these pictures have none: [^\n]+\.$"):
            limner.train(pictures, images=8, out=tmp_path / "run", quiet=True, **choice)


def test_classes_are_learned_from_their_names_alone(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bright squares lie at the left or at the right; only the head tells the generator which is which."""
    monkeypatch.setattr(decide, "measure", lambda *a, **k: 100.0)
    limner.train(squares, recipe="acgan", images=16 * 200, batch=16, out=tmp_path, quiet=True, metric="none",
                 changes={"generator.width": 8, "discriminator.width": 8})  # fmt: skip
    model = limner.load(tmp_path)
    for label in (0, 1):
        halves = model.sample(32, label=label).astype(float).mean((0, 1, 2)).reshape(2, 8).mean(1)
        assert halves[label] > halves[1 - label] + 30, (label, halves)
