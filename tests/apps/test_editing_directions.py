"""Directions: found and named, changes of class, and what is stored, edited and refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import limner
from direction_models import fake, painter
from limner.apps.editing.attributes import measure
from limner.apps.editing.class_change import RIDGE, change_class, class_look, discriminant, downscaled
from limner.apps.editing.codes import Codes, drawn, latents_of, pictures
from limner.apps.editing.directions import Direction, Directions
from limner.apps.editing.edit import by_seed, edit, mix, parse_layers
from limner.apps.editing.effect import Effect, gather
from limner.apps.editing.find import class_differences, find, named, scaled, with_effect
from limner.apps.editing.latent import Latent, fingerprint, render

# ---- find ------------------------------------------------------------------------------------------------------------


def test_directions_of_a_known_generator_are_named_by_what_they_change() -> None:
    model = painter()
    found = find(model, count=3)
    assert {"brighter", "to-the-right", "lower"} <= set(found.names)
    for name, column in (("brighter", 0), ("to-the-right", 1), ("lower", 2)):
        direction = found[name]
        assert np.abs(direction.vector).argmax() == column and direction.vector[column] > 0.9
        assert direction.effect is not None and direction.effect.attributes[direction.effect.main] > 1
        assert direction.effect.agreement[direction.effect.main] == 1
        leak = abs(direction.effect.attributes[direction.effect.leak])
        if name != "brighter":  # on black, a brighter square has more contrast and edges too
            assert leak < 0.35 * direction.effect.attributes[direction.effect.main], name
    assert len(set(found.names)) == len(found)
    axes = [d for d in found if d.method == "closed form"]
    assert np.allclose(np.abs(np.stack([d.vector / np.linalg.norm(d.vector) for d in axes])), np.eye(8)[:3], atol=1e-3)


def test_the_same_seed_finds_the_same_directions() -> None:
    one, two = find(painter(), count=2, seed=3), find(painter(), count=2, seed=3)
    assert one.names == two.names and all(np.array_equal(a.vector, b.vector) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("name", ["mlp", "dcgan", "biggan", "stylegan2", "progan"])
def test_find_works_for_untrained_generators_of_several_architectures(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limner.apps.editing.find.CODES", 64)
    monkeypatch.setattr("limner.apps.editing.find.QUERIES", 8)
    monkeypatch.setattr("limner.apps.editing.class_change.PICTURES", 16)
    monkeypatch.setattr("limner.apps.editing.class_change.STEPS", 2)
    monkeypatch.setattr("limner.apps.editing.find.gather", lambda m, p, s: gather(m, p, s, count=64))
    model = fake(name, 2)
    found = find(model, count=2)
    assert sum(d.method == "class" for d in found) == 2 and sum(d.method == "closed form" for d in found) == 2
    assert all(np.isfinite(d.vector).all() for d in found)


LEVEL = float(pictures(painter(), drawn(painter(), 400, 1)).float().mean((1, 2, 3)).median())


class Halves:
    """A predictor of brightness: class "bright" above a threshold."""

    classes, origin = ("dark", "bright"), "a threshold"

    def probabilities(self, images: Tensor) -> Tensor:
        bright = images.float().mean((1, 2, 3)) > LEVEL
        return torch.stack([~bright, bright], 1).float()

    def __call__(self, images: Tensor) -> Tensor:
        return images.float().flatten(1)[:, ::7]


def test_class_differences_flip_the_predicted_class_and_keep_identity() -> None:
    model = painter()
    found = find(model, Halves(), count=1)
    bright = found["class:bright"]
    assert bright.label is None and bright.vector[0] > 0.9 and bright.effect is not None
    assert bright.effect.to_class is not None and bright.effect.to_class >= 0.9
    assert bright.effect.by <= 6 and found.predictor == "a threshold"


def test_rare_classes_get_no_direction() -> None:
    rows = np.random.default_rng(0).standard_normal((200, 3))
    assert class_differences(rows, np.zeros(200, int), ("a", "b")) == []
    assert [d.name for d in class_differences(rows, (rows[:, 1] > 0).astype(int), ("a", "b"))] == ["class:a", "class:b"]


# ---- classes ---------------------------------------------------------------------------------------------------------


def test_a_change_of_class_reaches_it_and_keeps_the_look() -> None:
    model = painter(3)
    look = class_look(model)
    codes = drawn(model, 20, 5, 0)
    still = change_class(model, codes, 2, 0.0, look)
    assert np.array_equal(still.code, codes.code) and np.array_equal(still.c, codes.weights(3))
    whole = change_class(model, codes, 2, 1.0, look, keep=False)
    assert np.array_equal(whole.c, np.eye(3, dtype=np.float32)[[2] * 20])
    assert torch.equal(pictures(model, whole), pictures(model, Codes(codes.code, np.full(20, 2))))
    kept = change_class(model, codes, 2, 1.0, look)
    wanted = look.relative(measure(pictures(model, codes)).numpy(), codes.weights(3))

    def error(end: Codes) -> float:
        assert end.c is not None
        return float(np.square(look.relative(measure(pictures(model, end)).numpy(), end.c) - wanted).mean())

    assert error(kept) < 0.5 * error(whole) or error(whole) < 0.01
    assert np.allclose(np.linalg.norm(kept.code, axis=1), np.linalg.norm(codes.code, axis=1), rtol=1e-5), "latents keep their length"


def test_a_change_of_class_brings_pictures_into_the_class() -> None:
    """By the discriminant, which a generator with random weights does not reach by its class alone."""
    model = fake("conv", 3)
    for module in model.network.modules():  # classes of an untrained network all look alike
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, module.weight.mean().item(), 0.3)
    look = class_look(model)
    codes = drawn(model, 24, 5, 0)

    def margin(end: Codes) -> float:
        odds = downscaled(pictures(model, end).float() / 127.5 - 1).numpy() @ look.slopes + look.offsets
        return float(np.mean(odds[:, 2] - np.maximum(odds[:, 0], odds[:, 1])))

    assert margin(change_class(model, codes, 2, 1.0, look)) > margin(change_class(model, codes, 2, 1.0, look, keep=False))


def test_the_discriminant_gives_the_log_odds_of_gaussians() -> None:
    rng = np.random.default_rng(0)
    means, root = rng.standard_normal((2, 3)), np.tril(rng.standard_normal((3, 3))) + 2 * np.eye(3)
    cells = means[:, None] + rng.standard_normal((2, 20_000, 3)) @ root.T
    slopes, offsets = discriminant(cells)
    at = rng.standard_normal((5, 3))
    covariance = root @ root.T
    precision = np.linalg.inv(covariance + RIDGE * np.trace(covariance) / 3 * np.eye(3))
    true = [-0.5 * ((at - mean) @ precision * (at - mean)).sum(1) for mean in means]
    found = at @ slopes + offsets
    assert np.allclose(found[:, 1] - found[:, 0], true[1] - true[0], rtol=0.02, atol=0.03)


def test_class_changes_move_styles_by_the_difference_of_their_means() -> None:
    model = fake("stylegan2", 2)
    look = class_look(model)
    codes = drawn(model, 3, 0, 0)
    moved = change_class(model, codes, 1, 0.5, look, keep=False)
    assert np.allclose(moved.code - codes.code, 0.5 * (look.centers[1] - look.centers[0]), atol=1e-5)


def test_a_generator_without_classes_has_no_look() -> None:
    with pytest.raises(ValueError, match="no classes"):
        class_look(painter())


# ---- names -----------------------------------------------------------------------------------------------------------


def effect_of(main: float, agreement: float = 1.0) -> Effect:
    return Effect(2.0, {"brightness": main, "area": 0.1}, {"brightness": agreement, "area": 0.5}, None, 1.0)


def test_unclear_axes_are_numbered_and_names_are_unique() -> None:
    zero = np.zeros(4, np.float32)
    made = named([
        Direction("brighter", "attribute", zero, effect=effect_of(0.9)), Direction("larger", "attribute", zero, effect=effect_of(0.9)),
        Direction("", "closed form", zero, effect=effect_of(0.9)), Direction("", "closed form", zero, effect=effect_of(0.1)),
        Direction("", "components", zero, effect=effect_of(0.9, 0.6)), Direction("class:Axis-2", "class", zero, 0),
    ], 1)  # fmt: skip
    assert [d.name for d in made] == ["brighter", "brighter-2", "axis-2", "axis-3", "class:Axis-2"]


def test_an_axis_is_turned_so_that_its_main_attribute_grows() -> None:
    model = painter()
    samples = gather(model, None, count=200)
    vector = np.zeros(8, np.float32)
    vector[0] = -1
    turned = with_effect(model, Direction("", "closed form", vector), samples, None, None)
    assert turned.vector[0] == 1 and turned.effect is not None and turned.effect.attributes["brightness"] > 0


def test_a_vector_is_one_standard_deviation_long() -> None:
    rows = np.random.default_rng(0).standard_normal((4000, 3)) * [1, 5, 1]
    assert scaled(np.array([0.0, 2, 0]), rows) == pytest.approx([0, 5, 0], rel=0.05)


# ---- stored, edited, refused -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "squares"
    limner.train(squares, images=64, recipe="spectral", changes={"generator.width": 8, "discriminator.width": 8}, out=out, quiet=True)
    return out


def stored(model: Any) -> Directions:
    rng = np.random.default_rng(0)
    size, classes = model.z_size, model.spec.classes
    items = (
        Direction("more-detail", "closed form", rng.standard_normal(size).astype(np.float32), effect=effect_of(1.0)),
        *(Direction(f"class:{name}", "class", np.zeros(size, np.float32), k) for k, name in enumerate(model.classes)),
    )
    look = class_look(model) if classes else None
    return Directions(items, fingerprint(model), look, "nobody")


def test_directions_are_stored_beside_the_run_and_belong_to_its_weights(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = limner.load(run, "cpu")
    assert Directions.load(model) is None
    made = stored(model)
    made.save(run)
    found = Directions.load(model)
    assert found is not None and found.names == made.names and found.predictor == "nobody" and found.look is not None
    assert np.array_equal(found["More Detail"].vector, made["more-detail"].vector)
    assert found["more-detail"].effect == made["more-detail"].effect
    with pytest.raises(ValueError, match="choose one of more-detail, class:0"):
        found["nothing"]
    with torch.no_grad():
        next(model.network.parameters()).add_(1)
    assert Directions.load(model) is None  # of other weights


@pytest.mark.parametrize("change", ["json", "tensors", "shape", "label", "truncated"])
def test_damaged_directions_are_refused_or_found_again(run: Path, tmp_path: Path, change: str) -> None:
    model = limner.load(run, "cpu")
    model.folder = tmp_path
    made = stored(model)
    if change == "shape":
        made = Directions((Direction("a", "closed form", np.zeros(3, np.float32)),), made.fingerprint, made.look)
    if change == "label":
        made = Directions((Direction("a", "class", np.zeros(model.z_size, np.float32), 99),), made.fingerprint, made.look)
    made.save(tmp_path)
    facts, tensors = tmp_path / "editing/directions.json", tmp_path / "editing/directions.safetensors"
    if change == "json":
        facts.write_text(facts.read_text()[:-20])
    if change == "truncated":
        tensors.write_bytes(tensors.read_bytes()[:50])
    if change == "tensors":
        Directions(made.items[:1], made.fingerprint).save(tmp_path / "other")
        tensors.write_bytes((tmp_path / "other/editing/directions.safetensors").read_bytes())
        assert Directions.load(model) is None  # as after a kill between the two writes
        return
    with pytest.raises(ValueError, match="damaged"):
        Directions.load(model)


def test_edit_moves_a_latent_and_keeps_its_tuned_copy(run: Path) -> None:
    model = limner.load(run, "cpu")
    directions = stored(model)
    latent = by_seed(model, 7, 0)
    assert np.array_equal(np.asarray(model.sample(1, seed=7, label=0)), render(model, [latent]))
    moved = edit(model, latent, [("more-detail", 1.5)], directions)
    assert np.allclose(moved.code - latent.code, 1.5 * directions["more-detail"].vector, atol=1e-5) and moved.label == 0
    half = edit(model, latent, [("class:1", 0.5)], directions, keep=False)
    assert half.blend is not None and half.blend.tolist() == [0.5, 0.5]
    whole = edit(model, half, [("class:1", 1.0)], directions, keep=False)
    assert whole.blend is None and whole.label == 1 and np.array_equal(whole.code, latent.code)
    assert np.array_equal(render(model, [whole]), np.asarray(model.render(latent.code[None], np.array([1]))))
    with pytest.raises(ValueError, match="is moved by a number"):
        edit(model, latent, [("more-detail", float("nan"))], directions)
    with pytest.raises(ValueError, match="one layer"):
        edit(model, latent, [("more-detail", 1)], directions, layers=[1])


def test_a_blend_of_classes_is_saved_with_its_latent(run: Path, tmp_path: Path) -> None:
    model = limner.load(run, "cpu")
    half = edit(model, by_seed(model, 3, 0), [("class:1", 0.5)], stored(model))
    again = Latent.load(half.save(tmp_path / "half.latent.npz"))
    assert np.array_equal(render(model, [again]), render(model, [half])) and again.blend is not None


def test_styles_and_chunks_are_mixed_by_layer() -> None:
    style, big = fake("stylegan2"), fake("biggan", 2)
    a, b = latents_of(style, drawn(style, 2, 0))
    made = mix(style, a, b, [0, 1])
    assert made.styles is not None and a.styles is not None and b.styles is not None
    assert np.array_equal(made.styles[:2], b.styles[:2]) and np.array_equal(made.styles[2:], a.styles[2:])
    a, b = latents_of(big, drawn(big, 2, 0))
    made = mix(big, a, b, [1])
    chunk = slice(big.network.chunks[0], big.network.chunks[0] + big.network.chunks[1])
    assert np.array_equal(made.code[chunk], b.code[chunk]) and made.label == a.label
    assert np.array_equal(np.delete(made.code, np.r_[chunk]), np.delete(a.code, np.r_[chunk]))
    with pytest.raises(ValueError, match="has layers 0 to"):
        mix(style, *latents_of(style, drawn(style, 2, 0)), [99])
    plain = fake("dcgan")
    with pytest.raises(ValueError, match="one layer"):
        mix(plain, *latents_of(plain, drawn(plain, 2, 0)), [0])


def test_layers_are_numbers_and_ranges() -> None:
    assert parse_layers("0-3") == [0, 1, 2, 3] and parse_layers("5, 0-1") == [0, 1, 5] and parse_layers(None) is None
    for text in ("", "a", "3-1", "1-", "-1", "0-99999"):
        with pytest.raises(ValueError, match="numbers and ranges"):
            parse_layers(text)
