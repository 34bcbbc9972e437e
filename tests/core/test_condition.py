"""Kinds of conditions, and their way through a description on disk."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from limner.core.condition import TENSORS, Condition
from limner.core.documents import Spec
from limner.core.images import ImageSpec
from limner.core.schema import conform

ALL = [Condition.none(), Condition.classes(10), Condition.vector(5), Condition.tokens(100, 7)]


@pytest.mark.parametrize("condition", ALL, ids=str)
def test_a_spec_comes_back_from_json_with_its_condition(condition: Condition) -> None:
    spec = ImageSpec(3, 20, 36, condition)
    document = json.loads(json.dumps(dataclasses.asdict(spec)))
    assert conform(document, Spec) is document and ImageSpec.from_json(document) == spec
    assert bool(condition) == (condition != ALL[0]) and Condition.classes(0) == ALL[0]
    assert spec.classes == (10 if condition.kind == "classes" else 0)


@pytest.mark.parametrize("condition", ALL[1:], ids=str)
def test_examples_are_of_the_shape_and_type_that_the_kind_states(condition: Condition) -> None:
    torch.manual_seed(0)
    c = condition.examples(64)
    assert c is not None and condition.kind in TENSORS
    if condition.kind == "classes":
        assert c.dtype == torch.int64 and c[:12].tolist() == [*range(10), 0, 1]
    elif condition.kind == "vector":
        assert c.shape == (64, 5) and c.dtype == torch.float32 and c.std().item() == pytest.approx(1, abs=0.1)
    else:
        assert c.shape == (64, 7) and c.dtype == torch.int64 and c.min() == 0 and c.max() < 100
        real = c != 0
        assert real[:, 0].all() and (real[:, 1:] <= real[:, :-1]).all()  # the padding is at the end
        assert len(real.sum(1).unique()) > 3


@pytest.mark.parametrize(
    "wrong",
    [("sound", 3, 0), ("none", 3, 0), ("classes", 0, 0), ("classes", 3, 2), ("vector", -1, 0), ("tokens", 1, 4), ("tokens", 9, 0)],
    ids=str,
)
def test_a_condition_that_cannot_be_is_refused_in_a_sentence(wrong: tuple[str, int, int]) -> None:
    with pytest.raises(ValueError, match=r"^A condition [^\n]+\.$"):
        Condition(*wrong)


def test_features_of_classes_say_that_they_need_them() -> None:
    assert Condition.classes(3).require_classes("The classifier") == 3 and Condition.none().require_classes("It") == 0
    with pytest.raises(ValueError, match=r"^The classifier needs classes, and these images have vectors of 5 numbers: [^\n]+\.$"):
        Condition.vector(5).require_classes("The classifier")
