"""Closed forms, principal components, attributes of pictures, and more like these."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from direction_models import fake, painter
from editing_models import model_of
from limner.apps.editing.attributes import attributes, attributes_of, measure
from limner.apps.editing.axes import axes_of, pixel_metric
from limner.apps.editing.closed_form import closed_form, principal, readers
from limner.apps.editing.codes import drawn, pictures
from limner.apps.editing.find import style_axes
from limner.apps.editing.latent import mapped
from limner.apps.editing.like import discriminant, shrunk
from limner.networks import NAMES

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
    with pytest.raises(ValueError, match="No dense layer"):
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


# ---- more like these --------------------------------------------------------------------------------------------------


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


def test_the_pixel_metric_is_that_of_a_linear_map() -> None:
    rng = np.random.default_rng(0)
    matrix = torch.from_numpy(rng.standard_normal((12, 30)).astype(np.float32))
    for classes in (0, 3):
        metric = pixel_metric(lambda q, c: q @ matrix * (1 if c is None else 2), 12, classes)
        assert np.allclose(metric, (matrix @ matrix.T).numpy() * (4 if classes else 1), rtol=1e-3, atol=1e-2)


def test_axes_of_styles_are_uncorrelated_standard_deviations() -> None:
    """Coordinates of the generator's own styles have no mean, unit variance and no correlation."""
    model = model_of("stylegan2", classes=0)
    axes = axes_of(model, 4)
    w = mapped(model, model.latents(4000, np.random.default_rng(9)), None)
    found = axes.coordinates(w.astype(np.float64))
    assert np.abs(found.mean(0)).max() < 0.15
    assert np.abs(np.cov(found.T) - np.eye(4)).max() < 0.25
