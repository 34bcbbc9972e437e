"""Networks taken over by others for other pictures: compared as functions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from limner import networks
from limner.core.condition import Condition
from limner.core.images import ImageSpec
from limner.networks import conv, text2image
from limner.networks.adapt import frozen, high_resolution, modulation
from limner.networks.transfer import LUMA, Change, channel_matrix, take_over

GRAY = ImageSpec(1, 16, 16)
COLOR = ImageSpec(3, 16, 16)
every_architecture = pytest.mark.parametrize("name", networks.NAMES)


def pair(name: str, spec: ImageSpec, seed: int) -> dict[str, nn.Module]:
    torch.manual_seed(seed)
    home = networks.architecture(name)
    return {
        "generator": home.Generator(spec, home.TINY_GENERATOR).eval(),
        "discriminator": home.Discriminator(spec, home.TINY_DISCRIMINATOR).eval(),
    }


def moved(name: str, before: ImageSpec, now: ImageSpec, classes: Any = ((), ())) -> tuple[dict[str, nn.Module], dict[str, nn.Module], Any]:
    """The networks of two specs, of which the second pair has taken over the first, and what it took."""
    old, new = pair(name, before, 0), pair(name, now, 1)
    change = Change((before.channels, now.channels), classes)
    return old, new, {net: take_over(new[net], old[net].state_dict(), change) for net in old}


def latents(net: nn.Module, n: int = 6) -> torch.Tensor:
    return torch.randn(n, net.z_size, generator=torch.Generator().manual_seed(3))  # type: ignore[arg-type, call-overload]


@every_architecture
def test_equal_pictures_take_over_everything(name: str) -> None:
    spec = ImageSpec(3, 16, 16, Condition.classes(3))
    names = ("a", "b", "c")
    old, new, taken = moved(name, spec, spec, (names, names))
    for net in old:
        assert taken[net].taken == taken[net].parameters and not taken[net].new
        assert all(torch.equal(a, b) for a, b in zip(old[net].state_dict().values(), new[net].state_dict().values(), strict=True))


@pytest.mark.parametrize("name", ["conv", "r3gan", "stylegan2", "progan", "mlp"])
@torch.no_grad()
def test_gray_networks_work_alike_on_colors(name: str) -> None:
    old, new, taken = moved(name, GRAY, COLOR)
    z = latents(old["generator"])
    made = new["generator"](z)
    torch.testing.assert_close(made, old["generator"](z).expand(-1, 3, -1, -1), rtol=1e-4, atol=1e-4)
    assert not taken["generator"].new
    if name not in ("conv",):  # spectral normalization divides the sum over the colors by another singular value
        x = torch.rand(4, 1, 16, 16) * 2 - 1
        torch.testing.assert_close(new["discriminator"](x.expand(-1, 3, -1, -1)), old["discriminator"](x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["r3gan", "stylegan2", "progan"])
@torch.no_grad()
def test_color_networks_work_alike_on_gray(name: str) -> None:
    old, new, _ = moved(name, COLOR, GRAY)
    z = latents(old["generator"])
    luma = (old["generator"](z) * torch.tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
    torch.testing.assert_close(new["generator"](z), luma, rtol=1e-4, atol=1e-4)
    x = torch.rand(4, 1, 16, 16) * 2 - 1
    torch.testing.assert_close(new["discriminator"](x), old["discriminator"](x.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-4)


def test_transparency_is_new_and_colors_are_kept() -> None:
    old, new, _ = moved("r3gan", COLOR, ImageSpec(4, 16, 16))
    fresh = pair("r3gan", ImageSpec(4, 16, 16), 1)["generator"].last.weight
    weight = new["generator"].last.weight
    assert torch.equal(weight[:3], old["generator"].last.weight) and torch.equal(weight[3], fresh[3])
    assert not new["discriminator"].first.weight[:, 3].any()


@pytest.mark.parametrize("name", ["conv", "dcgan", "r3gan", "stylegan2", "progan", "biggan", "sngan"])
@torch.no_grad()
def test_classes_are_matched_by_name(name: str) -> None:
    before, now = ("cat", "dog", "owl"), ("owl", "bee", "cat", "elk")
    specs = ImageSpec(1, 16, 16, Condition.classes(3)), ImageSpec(1, 16, 16, Condition.classes(4))
    old, new, _ = moved(name, *specs, (before, now))
    z = latents(old["generator"])
    for there, here in ((2, 0), (0, 2)):  # owl, cat
        made = new["generator"](z, torch.full((6,), here))
        torch.testing.assert_close(made, old["generator"](z, torch.full((6,), there)), rtol=1e-4, atol=1e-4)
    if name in ("conv", "sngan"):
        tables = [net["generator"].state_dict() for net in (old, new)]
        key = next(key for key in tables[0] if key.endswith("scale.table.weight"))
        torch.testing.assert_close(tables[1][key][1], tables[0][key].mean(0))
    if name in ("r3gan", "stylegan2", "progan"):
        x = torch.rand(6, 1, 16, 16) * 2 - 1
        scores = new["discriminator"](x, torch.full((6,), 2)), old["discriminator"](x, torch.full((6,), 0))
        torch.testing.assert_close(*scores, rtol=1e-4, atol=1e-4)


def test_inputs_mixed_with_classes_start_anew() -> None:
    spec = ImageSpec(1, 16, 16, Condition.classes(2))
    _, _, taken = moved("mlp", spec, spec, (("a", "b"), ("b", "a")))
    assert taken["generator"].new == ("layers.0.weight",)


@pytest.mark.parametrize("name", ["conv", "r3gan", "stylegan2"])
@torch.no_grad()
def test_a_condition_is_added_without_an_effect_and_left_out_again(name: str) -> None:
    classed = ImageSpec(1, 16, 16, Condition.classes(3))
    old, new, _ = moved(name, GRAY, classed, ((), ("a", "b", "c")))
    z = latents(old["generator"])
    y = torch.tensor([0, 1, 2, 0, 1, 2])
    torch.testing.assert_close(new["generator"](z, y), old["generator"](z), rtol=1e-4, atol=1e-4)
    if name == "conv":
        _, back, _ = moved(name, classed, GRAY, (("a", "b", "c"), ()))
        assert back["generator"](z).isfinite().all()


@pytest.mark.parametrize("name", ["conv", "r3gan", "stylegan2"])
@pytest.mark.parametrize("sides", [(16, 32), (32, 16)], ids=str)
def test_another_size_shares_the_layers_of_equal_shape(name: str, sides: tuple[int, int]) -> None:
    before, now = (ImageSpec(1, side, side) for side in sides)
    old, new, taken = moved(name, before, now)
    kept = {"conv": "ups", "r3gan": "stages", "stylegan2": "stages"}[name]
    last_old, last_new = (list(getattr(nets["generator"], kept))[-1].state_dict() for nets in (old, new))
    assert last_old.keys() == last_new.keys()
    same = [key for key in last_old if not key.endswith("fixed_noise")]
    assert all(torch.equal(last_old[key], last_new[key]) for key in same), "the layers at full resolution"
    assert 0 < taken["generator"].taken < taken["generator"].parameters or name != "conv"
    first_old, first_new = (dict(nets["discriminator"].named_parameters()) for nets in (old, new))
    key = {"conv": "convs.0.weight", "r3gan": "first.weight", "stylegan2": "first.weight"}[name]
    assert torch.equal(first_old[key], first_new[key])


def test_singular_values_are_estimated_where_a_weight_changed() -> None:
    _, new, _ = moved("conv", GRAY, COLOR)
    layer = new["discriminator"].convs[0]
    sigma = torch.linalg.matrix_norm(layer.normalized().flatten(1), 2)
    torch.testing.assert_close(sigma, torch.tensor(1.0), rtol=0.05, atol=0)


def test_channels_of_patches_pairs_and_masks() -> None:
    patches = channel_matrix(4, 12, (1, 3), inputs=False)
    assert patches is not None and patches.shape == (12, 4)
    assert torch.equal(patches @ torch.arange(4.0).double(), torch.arange(4.0).double().repeat(3)), "channel by channel"
    beside = channel_matrix(2, 6, (1, 3), inputs=True)
    assert beside is not None and torch.equal(beside @ torch.tensor([3.0, 6.0]).double(), torch.tensor([1.0] * 3 + [2.0] * 3).double())
    masked = channel_matrix(2, 4, (1, 3), inputs=True)
    assert masked is not None and masked[3].tolist() == [0, 1]
    behind = channel_matrix(9, 11, (1, 3), inputs=True)
    assert behind is not None and torch.equal(behind[:8, :8], torch.eye(8).double()) and behind[8:, 8].tolist() == [1 / 3] * 3
    assert channel_matrix(8, 16, (1, 3), inputs=True) is None and channel_matrix(8, 16, (3, 3), inputs=True) is None


def test_the_sides_of_a_kernel_are_not_taken_for_channels() -> None:
    """From patches of 2x2 to 8x8 a kernel grows from 5 to 17, as 1 channel grows to 4 of a picture among 4 others."""
    small, large = ImageSpec(1, 64, 64), ImageSpec(4, 256, 256)
    old = conv.Generator(small, conv.GeneratorConfig(width=8, patch=2, upsampling="nearest"))
    new = conv.Generator(large, conv.GeneratorConfig(width=8, patch=8, upsampling="nearest"))
    assert channel_matrix(5, 17, (1, 4), inputs=False) is not None
    assert "last.weight" in take_over(new, old.state_dict(), Change((1, 4))).new


# ---- what is trained ---------------------------------------------------------------------------------------------------


def test_freeze_d_keeps_the_upper_half_of_the_resolutions() -> None:
    net = pair("conv", ImageSpec(1, 64, 64), 0)["discriminator"]  # convolutions at 32, 16, 8 and 4 pixels
    names = {name.rpartition(".")[0] for name in high_resolution(net, ImageSpec(1, 64, 64))}
    assert names == {"convs.0", "convs.1"}
    texts = ImageSpec(1, 64, 64, Condition.tokens(100, 24))
    found = {name.rpartition(".")[0] for name in high_resolution(text2image.Discriminator(texts), texts)}
    assert found == {"pictures.convs.0", "pictures.convs.1"}, "the embeddings of tokens are no maps"


@pytest.mark.parametrize("name", [n for n in networks.NAMES if n not in ("r3gan", "progan", "fastgan", "mlp")])
def test_styles_are_a_small_part_of_a_generator(name: str) -> None:
    generator = pair(name, ImageSpec(3, 32, 32), 0)["generator"]
    names = modulation(generator)
    sizes = {key: p.numel() for key, p in generator.named_parameters()}
    assert names and names <= sizes.keys()
    assert sum(sizes[key] for key in names) < 0.6 * sum(sizes.values())


def test_new_layers_are_trained_in_any_case() -> None:
    nets = pair("conv", GRAY, 0)
    assert frozen("full", nets, GRAY, ()) == []
    assert "generator.first.weight" in frozen("styles", nets, GRAY, ())
    assert "generator.first.weight" not in frozen("styles", nets, GRAY, ("generator.first.weight",))


@pytest.mark.parametrize(
    ("adapt", "name", "message"), [("styles", "r3gan", "this one has none"), ("freeze-d", "mlp", "several resolutions")]
)
def test_networks_without_such_layers_are_refused(adapt: str, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        frozen(adapt, pair(name, GRAY, 0), GRAY, ())
