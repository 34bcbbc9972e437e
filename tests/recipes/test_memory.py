"""What does not fit into memory is refused before it is asked for; presets are not."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from limner.core import distributed
from limner.core.condition import Condition
from limner.core.images import ImageSpec
from limner.core.machine import Machine
from limner.core.options import WIDEST
from limner.recipes import codec, gan, motion, text2image
from limner.recipes.config import Recipe
from limner.training import memory

MACHINE = Machine(torch.device("cpu"), torch.float32, distributed.ALONE)


def test_what_cannot_fit_is_a_sentence() -> None:
    usual = gan.PRESETS["spectral"].make()
    wide = dataclasses.replace(usual, generator=dataclasses.replace(usual.generator, width=WIDEST))
    for recipe, size, said in (
        (dataclasses.replace(usual, batch=10**8), 32, "lower --batch"),
        (wide, 32, "the networks' width or --size"),
        (usual, 16384, "lower --batch, --size"),
    ):
        with pytest.raises(ValueError, match=r"needs at least .* of memory") as refused:
            refuse(recipe, ImageSpec(3, size, size))
        assert said in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("name", gan.PRESETS)
def test_presets_are_not_refused(name: str) -> None:
    refuse(gan.PRESETS[name].make(), ImageSpec(3, 32, 32, Condition.classes(2)))


def test_generators_of_texts_and_clips_are_measured_too(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[int] = []
    monkeypatch.setattr(memory, "refuse_beyond", lambda needed, device: found.append(needed["the activations of a pass"][0]))
    words, frames = text2image.PRESETS["text2image"].make(), motion.PRESETS["motion"].make()
    texts = ImageSpec(3, 32, 32, Condition.tokens(words.vocabulary, words.words * words.generator.word_tokens))
    gan.refuse_too_large(words, texts, MACHINE, lambda: text2image.players(words, texts))
    spec = ImageSpec(3, 32, 32)
    nets = motion.method_of(frames, spec, torch.device("meta")).method.nets
    gan.refuse_too_large(frames, spec, MACHINE, lambda: nets, lambda nets: motion.other_passes(spec, nets))
    gan.refuse_too_large(frames, spec, MACHINE, lambda: nets)
    assert all(found)
    assert found[1] > 1.5 * found[2]  # two frames, and a discriminator of both


def refuse(recipe: Recipe, spec: ImageSpec) -> None:
    gan.refuse_too_large(recipe, spec, MACHINE, lambda: gan.players(recipe, spec))


def test_codecs_that_cannot_fit_are_refused_and_presets_are_not() -> None:
    for preset in codec.PRESETS.values():
        for side in (28, 128):
            codec.refuse_too_large(preset.make(), ImageSpec(3, side, side), MACHINE)
    usual = codec.PRESETS["codec"].make()
    with pytest.raises(ValueError, match="lower --batch, --size"):
        codec.refuse_too_large(dataclasses.replace(usual, batch=10**6), ImageSpec(3, 128, 128), MACHINE)
