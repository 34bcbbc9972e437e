"""Text to image: who moves when, what the two losses compare, resuming, two ranks, and that words come to mean
something."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from limner.core.condition import Condition
from limner.core.images import ImageSpec
from limner.core.tokenizer import Tokenizer
from limner.core.wordllama import WordLlama
from limner.data import open_source, prepare
from limner.data.captioned import Captioned, with_captions
from limner.methods.phase import Batch, Clock
from limner.methods.text_gan import TextGAN
from limner.networks import rebuild_text_generator, text2image
from limner.networks.attention import WordAttention
from limner.recipes.automatic import GAIN, LR
from limner.recipes.config import TextRecipe
from limner.recipes.text2image import for_size, method_of
from limner.training.iteration import Plan
from limner.training.loop import fit
from limner.training.state import OptimizerConfig
from stopping import StopAt

CPU = torch.device("cpu")
TOKENIZER = Tokenizer(300, 4, 6)
GENERATOR = dataclasses.replace(text2image.TINY_GENERATOR, word_tokens=6)
RECIPE = TextRecipe(generator=GENERATOR, discriminator=text2image.TINY_DISCRIMINATOR, batch=16)
SPEC = ImageSpec(3, 16, 16, TOKENIZER.condition)
ATTENDING = dataclasses.replace(RECIPE, generator=dataclasses.replace(GENERATOR, attention=True))
COLORS = {"red": (220, 20, 20), "green": (20, 220, 20), "blue": (20, 20, 220)}


needs_vectors = pytest.mark.skipif(not importlib.util.find_spec("wordllama"), reason="pip install 'limner[text]'")
KINDS = [  # recipe, and whether words have frozen vectors
    pytest.param(RECIPE, False, id="hashed"),
    pytest.param(ATTENDING, False, id="attention"),
    pytest.param(ATTENDING, True, id="attention to frozen vectors", marks=needs_vectors),
]


def algorithm(seed: int = 0, recipe: TextRecipe = RECIPE, spec: ImageSpec = SPEC) -> TextGAN:
    torch.manual_seed(seed)
    return method_of(recipe, spec, CPU)


@pytest.fixture(scope="module")
def squares() -> Captioned:
    """60 pictures of one of three colors, in the upper or the lower half, captioned so."""
    pictures, captions = np.full((60, 16, 16, 3), 120, np.uint8), []
    for i, picture in enumerate(pictures):
        name, place = list(COLORS)[i % 3], ("top", "bottom")[i // 3 % 2]
        rows = slice(0, 8) if place == "top" else slice(8, 16)
        picture[rows] = np.array(COLORS[name]) + np.random.default_rng(i).integers(-15, 15, 3)
        captions.append((f"{name} {place}",))
    return with_captions(prepare(open_source(pictures), cache=False), captions, "here", TOKENIZER)


def embedded(squares: Captioned, frozen: bool) -> Captioned:
    """The squares, maybe with frozen vectors of their words."""
    return Captioned(squares.pictures, squares.captions, WordLlama(4), squares.whole) if frozen else squares


def batch(data: Captioned, first: int = 0, count: int = 16) -> Batch:
    tensors = data.batch(first, count, 0)
    return Batch({**tensors, "image": tensors["image"].float() / 127.5 - 1}, 0, count, (0, 0))


@pytest.mark.parametrize(("recipe", "frozen"), KINDS)
def test_each_phase_moves_only_its_player(squares: Captioned, recipe: TextRecipe, frozen: bool) -> None:
    squares = embedded(squares, frozen)
    one = algorithm(0, recipe, squares.spec)
    for module in one.generator.modules():
        if isinstance(module, WordAttention):
            module.gain.data.fill_(0.1)
    for phase in one.method.phases:
        for net in one.method.nets.values():
            net.zero_grad()
        loss, terms = phase.loss(batch(squares), Clock(0, 100, 16))
        wanted = one.method.players[phase.player]
        gradients = torch.autograd.grad(loss.mean(), wanted, allow_unused=True)
        assert all(g is not None for g in gradients), phase.player
        assert {"discriminator": "d_loss", "generator": "g_loss"}[phase.player] in terms
        before = {name: [p.clone() for p in ps] for name, ps in one.method.players.items()}
        torch.optim.SGD(wanted, 0.1).zero_grad()
        loss, _ = phase.loss(batch(squares), Clock(0, 100, 16))
        loss.mean().backward()
        torch.optim.SGD(wanted, 0.1).step()
        for name, ps in one.method.players.items():
            changed = any(not torch.equal(a, b) for a, b in zip(before[name], ps, strict=True))
            assert changed == (name == phase.player)


def test_the_loss_is_the_mean_of_two_hinge_losses(squares: Captioned) -> None:
    one, items = algorithm(), batch(squares)
    discriminator = one.gan.discriminator.eval()
    real, own, other = items["image"], items["tokens"], items["other_tokens"]
    fake = one.gan.fake(items)
    loss, terms = one.discriminator_turn(items, Clock(0, 100, 16))
    matched, generated, mismatched = discriminator(real, own), discriminator(fake, own), discriminator(real, other)
    wanted = torch.relu(1 - matched) + (torch.relu(1 + generated) + torch.relu(1 + mismatched)) / 2
    torch.testing.assert_close(loss, wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(terms["match_gap"], (matched - mismatched).mean(), rtol=1e-4, atol=1e-4)


def trained(
    data: Captioned, folder: Path, images: int, budget: int, seed: int = 0, recipe: TextRecipe = RECIPE
) -> TextGAN:
    one = algorithm(seed, recipe, data.spec)
    adam = OptimizerConfig(lr=4e-3, beta1=0.5, beta2=0.99)
    plan = Plan(images=budget, batch=16, optimizers={"discriminator": adam, "generator": adam}, ema_half_life=500)
    fit(
        one.method,
        lambda first, count: data.batch(first, count, 0),
        folder,
        plan,
        device=CPU,
        quiet=True,
        callbacks=[StopAt(images)],
    )
    return one


@pytest.mark.parametrize(("recipe", "frozen"), KINDS)
def test_resumed_equals_unbroken(squares: Captioned, tmp_path: Path, recipe: TextRecipe, frozen: bool) -> None:
    data = embedded(squares, frozen)
    whole = trained(data, tmp_path / "whole", 96, 96, recipe=recipe)
    trained(data, tmp_path / "broken", 32, 96, recipe=recipe)
    again = trained(data, tmp_path / "broken", 96, 96, seed=1, recipe=recipe)
    gains = [m.gain for m in whole.generator.modules() if isinstance(m, WordAttention)]
    assert all(gain != 0 for gain in gains) and bool(gains) == recipe.generator.attention
    for name, net in whole.method.nets.items():
        other = again.method.nets[name].state_dict()
        assert all(torch.equal(value, other[key]) for key, value in net.state_dict().items())


def colored(generator: Any, texts: list[str]) -> Tensor:
    """The mean color of the upper and the lower half of eight pictures of each text, [T,2,3]."""
    z = torch.randn(8, generator.z_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        made = [generator.eval()(z, TOKENIZER.encode([text]).expand(8, -1)) for text in texts]
    return torch.stack([torch.stack([x[:, :, :8].mean((0, 2, 3)), x[:, :, 8:].mean((0, 2, 3))]) for x in made])


@pytest.mark.slow
def test_words_come_to_mean_a_color_and_a_place(squares: Captioned, tmp_path: Path) -> None:
    one = trained(squares, tmp_path, 24_000, 24_000)
    texts = [f"{color} {place}" for color in COLORS for place in ("top", "bottom")]
    right = 0
    for text, halves in zip(texts, colored(one.generator, texts), strict=True):
        color, place = text.split()
        own = halves[("top", "bottom").index(place)]
        right += int(own.argmax()) == list(COLORS).index(color)
    assert right >= 5


def test_pictures_are_drawn_from_the_sentence() -> None:
    generator = algorithm().generator.eval()
    c = TOKENIZER.encode(["red top", "blue bottom"])
    z = torch.randn(2, generator.z_size)
    with torch.no_grad():
        sentences = generator.features(c)
        torch.testing.assert_close(generator(z, c), generator.pictures(z, sentences))
    torch.testing.assert_close(sentences.square().mean(1), torch.ones(2), rtol=1e-3, atol=1e-3)
    assert not torch.allclose(sentences[0], sentences[1])


def test_order_matters_and_padding_does_not() -> None:
    encoder = text2image.SentenceEncoder(TOKENIZER.condition, 8, 8, 6).eval()
    with torch.no_grad():
        a, b = encoder(TOKENIZER.encode(["red dog blue", "blue dog red"]))
        assert not torch.allclose(a, b)
        longer = Tokenizer(300, 9, 6)
        wide = text2image.SentenceEncoder(longer.condition, 8, 8, 6)
        wide.load_state_dict(encoder.state_dict())
        torch.testing.assert_close(wide(longer.encode(["red dog blue"]))[0], a)
        assert encoder(torch.zeros(1, 24, dtype=torch.long)).isfinite().all()
    with pytest.raises(ValueError, match="6 tokens or 256 numbers a word"):
        text2image.SentenceEncoder(Condition.tokens(300, 25), 8, 8, 6)


def test_larger_pictures_are_computed_in_patches() -> None:
    large = for_size(TextRecipe(), ImageSpec(4, 64, 64, TOKENIZER.condition))
    assert (large.generator.patch, large.discriminator.patch, large.generator.upsampling) == (2, 2, "nearest")
    assert (large.discriminator.gain, large.generator_optimizer.lr) == (GAIN, LR)
    assert for_size(TextRecipe(), SPEC) == TextRecipe()
    assert for_size(RECIPE, ImageSpec(4, 64, 64)).generator.width == 8
    mine = dataclasses.replace(TextRecipe(), generator_optimizer=OptimizerConfig(lr=1e-4))
    assert for_size(mine, ImageSpec(3, 64, 64)).generator_optimizer.lr == 1e-4


def test_a_description_is_rebuilt_and_a_damaged_one_refused() -> None:
    described = {"architecture": "text2image", "config": dataclasses.asdict(GENERATOR)}
    rebuilt = rebuild_text_generator(SPEC, described)
    assert rebuilt.state_dict().keys() == algorithm().generator.state_dict().keys()
    with pytest.raises(ValueError, match="without texts"):
        rebuild_text_generator(ImageSpec(3, 16, 16), described)
