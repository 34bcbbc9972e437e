"""Random damage to what a run wrote: a reader gives the thing, or one sentence, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limner.apps import doctor, show
from limner.core import artifact
from limner.core.condition import Condition
from limner.core.images import ImageSpec
from limner.families.load import load
from limner.families.train import train
from limner.losses.adversarial import objective
from limner.methods.gan import GAN
from limner.methods.terms import Augmentation
from limner.networks import conv
from limner.training import state as checkpoints
from limner.training.run import read_decisions
from limner.training.state import OptimizerConfig, State

ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 5), st.integers(), st.floats(), st.text(max_size=8), st.just([]), st.just({}),
    st.just([[]]), st.just({"a": [None]}), st.just(10**15), st.just(-1), st.just("\x1b[31m"),
)  # fmt: skip
FILES = ("limner.json", "run.json", "log.jsonl", "weights.safetensors", "checkpoint/latest.safetensors")
QUICK = settings(max_examples=300, deadline=5000, database=None, suppress_health_check=list(HealthCheck))
LONG = settings(QUICK, max_examples=10_000)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, squares: Path) -> Path:
    out = tmp_path_factory.mktemp("fuzz") / "run"
    changes = {"generator.width": 8, "discriminator.width": 8, "batch": 16}
    train(str(squares), recipe="spectral", images=32, out=out, quiet=True, device="cpu", doctor=False, changes=changes)
    return out


def places(tree: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value of a JSON document."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [at, *(way for key, value in inner for way in places(value, (*at, key)))]


def mutated(data: st.DataObject, content: bytes, name: str) -> bytes:
    """Another content: a JSON value replaced or dropped, or bytes overwritten, cut or added."""
    if not name.endswith("safetensors") and data.draw(st.booleans()):
        lines = content.decode().splitlines() if name.endswith("jsonl") else [content.decode()]
        i = data.draw(st.integers(0, len(lines) - 1))
        tree = json.loads(lines[i])
        *above, last = data.draw(st.sampled_from(places(tree)[1:]))
        at = tree
        for key in above:
            at = at[key]
        if data.draw(st.booleans()):
            at[last] = data.draw(ODD)
        else:
            del at[last]
        lines[i] = json.dumps(tree)
        return "\n".join(lines).encode()
    head = min(len(content), 4096)  # names, shapes and scalars stand at the start
    start = data.draw(st.integers(0, head))
    cut = data.draw(st.integers(0, 64))
    return content[:start] + data.draw(st.binary(max_size=64)) + content[start + cut :]


def read_all(folder: Path, name: str) -> None:
    """Everything that reads the file; a ValueError must be one printable sentence."""
    def resume() -> None:
        spec = ImageSpec(1, 16, 16, Condition.classes(2))
        nets = [conv.Generator(spec, conv.TINY_GENERATOR), conv.Discriminator(spec, conv.TINY_DISCRIMINATOR)]
        state = State(GAN(*nets, objective("hinge"), augmentation=Augmentation("light")).method, {"discriminator": OptimizerConfig(), "generator": OptimizerConfig()})
        checkpoints.load(state, folder / "checkpoint", torch.device("cpu"), most=48)

    readers = {
        "limner.json": [lambda: show.table(folder), lambda: load(folder, "cpu"), lambda: doctor.read_report(folder)],
        "run.json": [lambda: read_decisions(folder, {})],
        "log.jsonl": [lambda: artifact.read_log(folder), lambda: doctor.table(doctor.read_report(folder))],
        "weights.safetensors": [lambda: load(folder, "cpu")],
        "checkpoint/latest.safetensors": [resume],
    }
    for reader in readers[name]:
        try:
            reader()
        except ValueError as error:
            said = str(error)
            assert said.endswith((".", "`.")) and "Traceback" not in said and said.count("\n") == 0, said


def attack(data: st.DataObject, whole: Path) -> None:
    name = data.draw(st.sampled_from(FILES))
    path = whole / name
    before = path.read_bytes()
    path.unlink()  # a checkpoint may have a second name
    try:
        path.write_bytes(mutated(data, before, name))
        read_all(whole, name)
    finally:
        path.write_bytes(before)


@QUICK
@given(data=st.data())
def test_damage_is_one_sentence(data: st.DataObject, whole: Path) -> None:
    attack(data, whole)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@LONG
@given(data=st.data())
def test_damage_is_one_sentence_ten_thousand_times(data: st.DataObject, whole: Path) -> None:
    attack(data, whole)
