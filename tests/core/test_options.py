"""Options: what a field states is what validation, the command line, the JSON Schema and the docs say."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from limner import networks
from limner.core.options import (
    Needs,
    bounds,
    check,
    check_needs,
    group,
    json_schema,
    option,
    options,
    parse,
    replace,
    rows,
)
from limner.core.schema import Mismatch
from limner.families import presets
from limner.runs.options import Options

PAGES = Path(__file__).parents[2] / "scripts/build_options.py"
KINDS = ["linear"]  # what a plug-in adds to


@dataclass(frozen=True, kw_only=True)
class Inner:
    kind: str = option("adam", "Algorithm.", choices=("adam", "sgd", "lion"))
    beta: float = option(0.9, "Momentum.", low=0, high=0.99, needs=Needs("kind", ("adam", "lion")))


@dataclass(frozen=True, kw_only=True)
class Outer:
    batch: int = option(8, "Images.", low=1)
    penalty: str = option("none", "Penalty.", choices=("none", "r1"))
    gamma: float | None = option(None, "Weight.", low=0, needs=Needs("penalty"))
    adversarial: float = option(0.0, "Adversarial weight.", low=0)
    inner: Inner = group(lambda: Inner(beta=0.5), "Optimizer.", needs=Needs("adversarial"))
    flip: bool = option(False, "Mirror.")
    shape: str = option("linear", "Shape.", choices=lambda: KINDS)
    out: Path | None = option(None, "Folder.")


def every_config() -> dict[str, Any]:
    """Each config that a person can set, with its defaults."""
    found: dict[str, Any] = {"options": Options()}
    found |= {name: preset.make() for name, preset in presets().items()}
    for name in networks.NAMES:
        home = networks.architecture(name)
        found |= {f"{name}.generator": home.GeneratorConfig(), f"{name}.discriminator": home.DiscriminatorConfig()}
    return found


every = pytest.mark.parametrize("config", [pytest.param(config, id=name) for name, config in every_config().items()])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"batch": 0}, "The option batch is 0: give 1 or more."),
        ({"batch": 10**16}, "The option batch is 10000000000000000: give 1 to 1000000000000000."),
        ({"batch": 2.5}, "The option batch is 2.5: give a whole number."),
        ({"batch": True}, "The option batch is True: give a whole number."),
        ({"batch": "8"}, "The option batch is '8': give a whole number."),
        ({"gamma": -1}, "The option gamma is -1: give 0 or more."),
        ({"gamma": math.nan}, "The option gamma is nan: give 0 or more."),
        ({"gamma": math.inf}, "The option gamma is inf: give 0 or more."),
        ({"gamma": "x"}, "The option gamma is 'x': give a number."),
        ({"flip": 1}, "The option flip is 1: give true or false."),
        ({"penalty": "r3"}, "The option penalty is 'r3': choose none or r1."),
        ({"inner.beta": 1.0}, "The option inner.beta is 1.0: give 0 to 0.99."),
        ({"inner.kind": "adagrad"}, "The option inner.kind is 'adagrad': choose adam, sgd or lion."),
        ({"inner": None}, "The option inner is None: give an instance of Inner."),
        ({"out": "x"}, "The option out is 'x': give a path."),
    ],
)
def test_a_value_that_an_option_does_not_take_is_one_sentence(changes: dict, sentence: str) -> None:
    with pytest.raises(ValueError) as refused:
        check(replace(Outer(), changes))
    assert str(refused.value) == sentence


def test_values_at_the_bounds_are_taken() -> None:
    for changes in ({"batch": 1}, {"batch": 10**15}, {"gamma": 0}, {"gamma": None}, {"inner.beta": 0.99}, {"out": Path("x")}):
        check(replace(Outer(), changes))


def test_choices_may_grow() -> None:
    check_of_cubic = replace(Outer(), {"shape": "cubic"})
    with pytest.raises(ValueError, match="The option shape is 'cubic': choose linear"):
        check(check_of_cubic)
    KINDS.append("cubic")
    try:
        check(check_of_cubic)
    finally:
        KINDS.remove("cubic")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"gamma": 1.0}, "The option gamma does nothing while penalty is none: choose another penalty, or leave gamma out."),
        ({"inner.kind": "lion"}, "The option inner.kind does nothing while adversarial is off: turn adversarial on, or leave inner.kind out."),
        ({"adversarial": 1.0, "inner.kind": "sgd", "inner.beta": 0.1},
         "The option inner.beta does nothing while inner.kind is sgd: set inner.kind to adam or lion, or leave inner.beta out."),
    ],
)  # fmt: skip
def test_an_option_without_effect_is_refused(changes: dict, sentence: str) -> None:
    config = replace(Outer(), changes)
    with pytest.raises(ValueError) as refused:
        check_needs(config, changes)
    assert str(refused.value) == sentence


def test_an_option_with_effect_is_taken() -> None:
    for changes in ({"gamma": 1.0, "penalty": "r1"}, {"adversarial": 0.5, "inner.beta": 0.1}, {"flip": True}):
        check_needs(replace(Outer(), changes), changes)


def test_names_that_are_no_options_are_refused() -> None:
    with pytest.raises(ValueError, match=r"no option 'inner\.speed': it has kind, beta"):
        replace(Outer(), {"inner.speed": 1})
    with pytest.raises(ValueError, match=r"no option 'batch\.size': it is a single value"):
        replace(Outer(), {"batch.size": 1})


def test_a_config_is_read_from_a_file_of_unknown_origin() -> None:
    assert parse(Inner, {"kind": "sgd"}, "network.config") == Inner(kind="sgd")
    for values, said in (
        ({"kindd": "sgd"}, "'network.config' has no option 'kindd'"),
        ({"beta": 2}, "'network.config.beta' is 2: give 0 to 0.99"),
        ({"beta": [1]}, r"'network.config.beta' is \[1\]: give a number"),
        ({"kind": {"a": 1}}, "give text"),
    ):
        with pytest.raises(Mismatch, match=said):
            parse(Inner, values, "network.config")


def test_the_schema_of_a_config() -> None:
    schema = json_schema(Outer)
    assert schema["additionalProperties"] is False and list(schema["properties"]) == [f.name for f in dataclasses.fields(Outer)]
    assert schema["properties"]["batch"] == {
        "type": "integer", "default": 8, "description": "Images.", "minimum": 1, "maximum": 10**15,
    }  # fmt: skip
    assert schema["properties"]["gamma"] == {
        "type": ["number", "null"], "default": None, "description": "Weight.", "minimum": 0,
    }  # fmt: skip
    assert schema["properties"]["penalty"]["enum"] == ["none", "r1"]
    assert schema["properties"]["inner"]["properties"]["beta"]["default"] == 0.5  # the group's, not the class's


def defaults_of(schema: dict) -> dict[str, Any]:
    """The values that a schema gives as defaults."""
    return {
        name: defaults_of(entry) if entry["type"] == "object" else entry["default"]
        for name, entry in schema["properties"].items()
    }


@every
def test_a_schema_holds_the_whole_config(config: Any) -> None:
    schema = json.loads(json.dumps(json_schema(config)))
    assert defaults_of(schema) == json.loads(json.dumps(dataclasses.asdict(config)))


@every
def test_every_option_has_a_help_in_sentences_and_every_number_bounds(config: Any) -> None:
    for name, about, kind in options(config):
        assert about.help[:1].isupper() and about.help.endswith(".") and "  " not in about.help, name
        value = getattr(config, name)
        if dataclasses.is_dataclass(value):
            test_every_option_has_a_help_in_sentences_and_every_number_bounds(value)
        elif kind in (int, float, int | None, float | None):
            assert bounds(about, kind)[0] > -math.inf, name
        if about.needs:
            assert about.needs.option in {f.name for f in dataclasses.fields(config)}, name
    check(config)


@pytest.mark.parametrize("name", networks.NAMES)
def test_the_networks_of_a_description_have_bounds_on_both_sides(name: str) -> None:
    """A stranger's file may not ask for layers by the million."""
    home = networks.architecture(name)
    for _, about, kind in options(home.GeneratorConfig):
        if kind in (int, float):
            assert -math.inf < about.low <= about.high <= 65_536


def test_the_rows_of_a_config() -> None:
    found = {name: rest for name, *rest in rows(Outer())}
    assert found["gamma"] == ["", "0 or more", "Weight. Needs penalty."]
    assert found["inner"] == ["beta=0.5", "", "Optimizer. Needs adversarial."]
    assert found["inner.beta"] == ["0.5", "0 to 0.99", "Momentum. Needs kind adam or lion."]
    assert found["penalty"] == ["none", "none, r1", "Penalty."]
    assert found["flip"] == ["False", "True, False", "Mirror."]


def test_the_page_of_options_is_fresh() -> None:
    done = subprocess.run([sys.executable, PAGES, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
