"""Directions: closed forms, components, attributes, class changes, and what is stored and refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import limner
from limner.apps.editing.attributes import attributes, attributes_of, measure
from limner.apps.editing.class_change import change_class, class_look
from limner.apps.editing.closed_form import closed_form, principal, readers
from limner.apps.editing.codes import Codes, drawn, latents_of, pictures
from limner.apps.editing.directions import Direction, Directions
from limner.apps.editing.edit import by_seed, edit, mix, parse_layers
from limner.apps.editing.effect import Effect, gather
from limner.apps.editing.find import class_differences, find, named, scaled, style_axes, with_effect
from limner.apps.editing.latent import Latent, fingerprint, render
from limner.apps.editing.like import discriminant, shrunk
from limner.core.condition import Condition
from limner.core.images import ImageSpec
from limner.networks import NAMES, architecture


@dataclass
class Fake:
    """A generator model around any network, as the functions use it."""

    network: Any
    spec: ImageSpec
    folder: Path = Path("runs/fake")

    def __post_init__(self) -> None:
        self.description = {"network": {"name": "generator"}, "data": {}, "kind": "generator"}
        self.noise, self._device, self._precision = "normal", torch.device("cpu"), torch.float32
        self.classes = [f"class {k}" for k in range(self.spec.classes)]

    def labels(self, n: int, label: Any, rng: np.random.Generator) -> np.ndarray | None:
        count = self.spec.classes
        if not count:
            return None
        return rng.integers(0, count, n) if label is None else np.full(n, label)

    def latents(self, n: int, rng: np.random.Generator, labels: np.ndarray | None = None) -> np.ndarray:
        return rng.standard_normal((n, self.network.z_size), np.float32)


def fake(name: str, classes: int = 0, channels: int = 3) -> Fake:
    home = architecture(name)
    torch.manual_seed(0)
    spec = ImageSpec(channels, 32, 32, Condition.classes(classes))
    return Fake(home.Generator(spec, home.TINY_GENERATOR).eval(), spec)


class Painter(nn.Module):
    """A generator whose latent is known: z0 is brightness, z1 the place of a square across, z2 its height; the rest is unused."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__()
        self.spec, self.z_size = spec, 8
        self.first = nn.Linear(8, 8, bias=False)
        with torch.no_grad():
            self.first.weight.copy_(torch.diag(torch.tensor([3.0, 2.0, 1.0, 0, 0, 0, 0, 0])))
        self.mix = nn.Conv2d(8, 8, 1, bias=False)
        with torch.no_grad():
            self.mix.weight.copy_(torch.eye(8)[:, :, None, None])
        self.table = nn.Embedding(max(1, spec.classes), 1)
        with torch.no_grad():
            self.table.weight.copy_(torch.linspace(0, 0.2, max(1, spec.classes))[:, None])

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        y = self.mix(self.first(z)[:, :, None, None])[:, :, 0, 0]
        side = self.spec.height
        rows, columns = torch.linspace(-1, 1, side)[:, None], torch.linspace(-1, 1, side)[None]
        across, height = 0.2 * torch.tanh(y[:, 1] / 2), 0.2 * torch.tanh(y[:, 2])
        wide = torch.zeros(len(z))
        if c is not None:
            wide = (c @ self.table.weight if c.is_floating_point() else self.table(c))[:, 0]
        inside = torch.sigmoid(30 * (0.4 + wide[:, None, None] - (columns - across[:, None, None]).abs()))
        inside = inside * torch.sigmoid(30 * (0.4 - (rows - height[:, None, None]).abs()))
        light = 0.6 + 0.1 * torch.tanh(y[:, 0] / 3)
        return (light[:, None, None] * inside)[:, None] * 2 - 1


def painter(classes: int = 0) -> Fake:
    spec = ImageSpec(1, 32, 32, Condition.classes(classes))
    return Fake(Painter(spec).eval(), spec)


# ---- closed form -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("name", NAMES)
def test_every_architecture_has_closed_form_directions_that_move_pictures(name: str, classes: int) -> None:
    model = fake(name, classes)
    axes = style_axes(model)
    size = drawn(model, 1, 0).code.shape[-1]
    assert axes.shape == (size, size) and np.allclose(axes @ axes.T, np.eye(size), atol=1e-8)
    codes = drawn(model, 8, 1)
    first, last = (pictures(model, codes.moved(np.float32(2) * axes[i].astype(np.float32), 1.0)).float() for i in (0, -1))
    base = pictures(model, codes).float()
    assert (first - base).abs().mean() > 0
    assert (first - base).abs().mean() >= (last - base).abs().mean() * 0.5


def test_the_closed_form_of_a_known_matrix() -> None:
    model = painter()
    start = torch.from_numpy(drawn(model, 2, 0).code)
    found = readers(model.network, model.network, start)
    assert list(found) == ["first"] and found["first"].shape == (16, 8)
    assert torch.allclose(found["first"][:8], model.network.first.weight.double(), atol=1e-5)
    axes, values = closed_form(found["first"])
    assert torch.allclose(axes[:3], torch.eye(8, dtype=torch.float64)[:3], atol=1e-5)
    assert torch.allclose(values[:3] / values[0], torch.tensor([1, 4 / 9, 1 / 9], dtype=torch.float64), atol=1e-5)


def test_readers_of_biggan_and_stylegan_are_all_layers_that_take_the_code() -> None:
    big, style = fake("biggan", 3), fake("stylegan2")
    z = torch.from_numpy(drawn(big, 2, 0).code)
    names = readers(lambda x: big.network(x, torch.zeros(len(x), dtype=torch.long)), big.network, z)
    assert "first" in names and sum("scale" in name or "shift" in name for name in names) == 4 * (len(big.network.chunks) - 1)
    w = torch.from_numpy(drawn(style, 2, 0).rows)
    names = readers(lambda x: style.network.synthesis(x[:, None].expand(-1, style.network.layers, -1)), style.network, w)
    assert len(names) == 2 * len(style.network.stages) - 1 + len(style.network.colors) and all(name.endswith("style") for name in names)


def test_a_network_without_a_dense_layer_is_refused() -> None:
    net = nn.Conv2d(1, 1, 1)
    with pytest.raises(ValueError, match="no dense layer|No dense layer"):
        readers(lambda z: net(z[:, None, None]), net, torch.zeros(1, 4))


def test_principal_components_are_regressed_back_to_the_codes() -> None:
    rng = np.random.default_rng(0)
    z = torch.from_numpy(rng.standard_normal((500, 6)))
    mixing = torch.from_numpy(np.linalg.qr(rng.standard_normal((40, 6)))[0]) * torch.tensor([5.0, 3, 1, 0.1, 0.1, 0.1])
    features = z @ mixing.T
    wide, _ = principal(features, z, 3)
    narrow, share = principal(features[:, :], z[:, :], 3)
    assert torch.allclose(wide, narrow) and share[0] > share[1] > share[2]
    assert (wide.abs().argmax(1) == torch.arange(3)).all() and (wide.amax(1) > 0.98).all()
    gram, _ = principal(torch.cat([features] * 20, 1), z, 3)  # more features than samples: the other Gram matrix
    assert torch.allclose(gram.abs(), wide.abs(), atol=1e-6)


# ---- attributes ------------------------------------------------------------------------------------------------------


def square(top: int, left: int, high: int, wide: int, value: int, channels: int = 1) -> np.ndarray:
    made = np.zeros((channels, 32, 32), np.uint8)
    made[:, top : top + high, left : left + wide] = value
    return made


def test_attributes_measure_what_they_are_named_for() -> None:
    base = square(10, 10, 12, 12, 120)
    changed = {
        "brightness": square(10, 10, 12, 12, 200), "area": square(8, 8, 16, 16, 120), "shape": square(12, 6, 8, 20, 120),
        "across": square(10, 16, 12, 12, 120), "height": square(16, 10, 12, 12, 120),
    }  # fmt: skip
    names = [a.name for a in attributes_of(1)]
    before = measure(torch.from_numpy(base[None]))[0]
    for name, picture in changed.items():
        after = measure(torch.from_numpy(picture[None]))[0]
        assert after[names.index(name)] > before[names.index(name)] + 0.01, name
    moved = measure(torch.from_numpy(changed["across"][None]))[0]
    assert abs(moved[names.index("area")] - before[names.index("area")]) < 1e-6
    assert moved[names.index("symmetry")] < before[names.index("symmetry")]
    noisy = base.copy()
    noisy[:, ::2, ::2] = 255
    assert measure(torch.from_numpy(noisy[None]))[0][names.index("edges")] > before[names.index("edges")]


def test_color_and_transparency() -> None:
    names = [a.name for a in attributes_of(3)]
    red = np.zeros((3, 16, 16), np.uint8)
    red[0] = 200
    found = dict(zip(names, measure(torch.from_numpy(red[None]))[0].tolist(), strict=True))
    assert found["red-blue"] > 0.7 and found["saturation"] > 0.7 and found["green-magenta"] < 0
    clear = np.full((4, 16, 16), 0, np.uint8)
    clear[3, 4:8, 4:8] = 255
    found = dict(zip(names, measure(torch.from_numpy(clear[None]))[0].tolist(), strict=True))
    assert found["area"] == pytest.approx(16 / 256) and found["brightness"] == pytest.approx(1 - 16 / 256)
    assert measure(torch.zeros(0, 3, 16, 16, dtype=torch.uint8)).shape == (0, len(names))


def test_attributes_are_differentiable() -> None:
    x = torch.rand(2, 3, 16, 16, requires_grad=True)
    attributes(x).sum().backward()
    assert x.grad is not None and x.grad.isfinite().all() and x.grad.abs().sum() > 0


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


def test_more_like_these_finds_what_eight_marked_pictures_share() -> None:
    rng = np.random.default_rng(0)
    codes = rng.standard_normal((2000, 16)).astype(np.float32)
    marked = rng.standard_normal((8, 16)).astype(np.float32)
    marked[:, 3] = 1.8 + 0.1 * marked[:, 3]
    vector = discriminant(marked, codes, np.eye(16)[:10])
    unit = vector / np.linalg.norm(vector)
    assert unit.argmax() == 3 and unit[3] > 0.85 and np.allclose(vector[10:], 0)
    plain = marked.mean(0) - codes.mean(0)
    assert unit[3] > (plain / np.linalg.norm(plain))[3]  # than the difference of means
    with pytest.raises(ValueError, match="at least 2"):
        discriminant(marked[:1], codes, np.eye(16))


def test_few_rows_are_shrunk_more_than_many() -> None:
    rng = np.random.default_rng(0)
    true = np.diag(np.linspace(0.2, 2, 10))

    def error(n: int) -> tuple[float, float]:
        rows = rng.standard_normal((n, 10)) @ np.sqrt(true)
        rows -= rows.mean(0)
        return np.linalg.norm(shrunk(rows, np.eye(10)) - true), np.linalg.norm(rows.T @ rows / n - true)

    assert error(8)[0] < error(8)[1]
    assert error(20_000)[0] == pytest.approx(error(20_000)[1], rel=0.5)


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
