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
from limner.recipes import codec, gan

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
            gan.refuse_too_large(recipe, ImageSpec(3, size, size), MACHINE)
        assert said in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("name", gan.PRESETS)
def test_presets_are_not_refused(name: str) -> None:
    gan.refuse_too_large(gan.PRESETS[name].make(), ImageSpec(3, 32, 32, Condition.classes(2)), MACHINE)


def test_codecs_that_cannot_fit_are_refused_and_presets_are_not() -> None:
    for preset in codec.PRESETS.values():
        for side in (28, 128):
            codec.refuse_too_large(preset.make(), ImageSpec(3, side, side), MACHINE)
    usual = codec.PRESETS["codec"].make()
    with pytest.raises(ValueError, match="lower --batch, --size"):
        codec.refuse_too_large(dataclasses.replace(usual, batch=10**6), ImageSpec(3, 128, 128), MACHINE)
