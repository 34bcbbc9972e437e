"""Restorers: sizes and scales, the radius, fused weights, and enlargement as Pillow has it."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from limner import networks
from limner.core.images import ImageSpec
from limner.networks import contracts, plain, restoration_unet
from limner.networks.restoration import bicubic, composed, ensembled, filled, network_input

VARIANTS: dict[str, tuple[Any, int]] = {  # options of a plain network, and its scale
    "x2": ({"width": 8, "depth": 2}, 2),
    "x3": ({"width": 8, "depth": 1}, 3),
    "x4": ({"width": 8, "depth": 3}, 4),
    "x1": ({"width": 8, "depth": 2}, 1),
    "x1, half": ({"width": 8, "depth": 1, "unshuffle": 2}, 1),
    "x4, branches": ({"width": 8, "depth": 2, "reparameterize": True}, 4),
    "x4, skip alone": ({"width": 8, "depth": 0}, 4),
}


def trained(net: nn.Module) -> Any:
    """The network with random weights in its last layer, as after training."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in net.parameters():
            p += 0.1 * torch.randn(p.shape, generator=generator)
    return net.eval()


def plain_of(name: str, channels: int = 3) -> Any:
    options, scale = VARIANTS[name]
    torch.manual_seed(0)
    return trained(plain.Restorer(ImageSpec(channels, 32, 32), plain.Config(**options), scale))


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("name", VARIANTS)
def test_any_size_and_channels(name: str, channels: int) -> None:
    net = plain_of(name, channels)
    assert isinstance(net, contracts.RestorerNetwork)
    for height, width in ((1, 1), (5, 8), (16, 9)):
        made = net(torch.rand(2, channels, height, width))
        assert made.shape == (2, channels, net.scale * height, net.scale * width) and made.dtype == torch.float32


@pytest.mark.parametrize("name", VARIANTS)
def test_before_training_it_is_the_enlarged_input(name: str) -> None:
    options, scale = VARIANTS[name]
    net, x = plain.Restorer(ImageSpec(3, 32, 32), plain.Config(**options), scale), torch.rand(2, 3, 9, 7)
    assert torch.equal(net(x), bicubic(x, scale) if scale > 1 else x)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_radius_is_exact(name: str) -> None:
    """The output pixels of the middle of a picture depend on inputs `radius` away, and on none farther away."""
    net, side = plain_of(name), 40
    x = torch.rand(1, 3, side, side, requires_grad=True)
    reached = 0
    for row in range(20, 20 + net.multiple):  # pixels of a block see equally far to different sides
        made = net(x)[0, 0, net.scale * row : net.scale * (row + 1), net.scale * 20]
        (gradient,) = torch.autograd.grad(made.abs().sum(), x)
        rows = gradient.abs().sum((0, 1, 3)).nonzero().flatten()
        reached = max(reached, row - int(rows.min()), int(rows.max()) - row)
    assert reached == net.radius


@pytest.mark.parametrize("name", VARIANTS)
def test_a_tile_with_the_radius_as_margin_equals_the_whole(name: str) -> None:
    net = plain_of(name)
    x = torch.rand(1, 3, 64, 64)
    whole, margin = net(x), -(-net.radius // net.multiple) * net.multiple
    piece = net(x[..., 24 - margin : 40 + margin, 24 - margin : 40 + margin])
    s, inner = net.scale, slice(margin * net.scale, (margin + 16) * net.scale)
    torch.testing.assert_close(piece[..., inner, inner], whole[..., 24 * s : 40 * s, 24 * s : 40 * s], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", VARIANTS)
def test_fused_is_the_same_function_with_plain_convolutions(name: str) -> None:
    net, x = plain_of(name), torch.rand(2, 3, 12, 10)
    fused = net.fused()
    torch.testing.assert_close(fused(x), net(x), rtol=0, atol=1e-5)
    assert not any(isinstance(module, plain.BranchedConv2d) for module in fused.modules())
    assert (fused.scale, fused.inputs, fused.radius, fused.multiple, fused.least) == (
        net.scale, net.inputs, net.radius, net.multiple, net.least
    )  # fmt: skip
    before = copy.deepcopy(net.state_dict())
    with torch.no_grad():
        for p in fused.parameters():
            p.zero_()
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


def test_a_block_is_the_sum_of_its_branches() -> None:
    """Against the branches computed one after another: 3x3 + (1x1, then 3x3)."""
    torch.manual_seed(0)
    block, x = plain.BranchedConv2d(6), torch.rand(2, 6, 9, 9)
    expanded = nn.functional.conv2d(x, block.expand[:, :, None, None])
    branches = nn.functional.conv2d(x, block.weight, block.bias, padding=1) + nn.functional.conv2d(expanded, block.reduce, padding=1)
    torch.testing.assert_close(block(x), branches)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bicubic_is_pillows(scale: int) -> None:
    picture = np.random.default_rng(0).random((24, 31), np.float32)
    wanted = np.asarray(Image.fromarray(picture).resize((31 * scale, 24 * scale), Image.Resampling.BICUBIC))
    made = bicubic(torch.from_numpy(picture)[None, None], scale)[0, 0].numpy()
    edge = 2 * scale  # Pillow cuts the kernel off at the border
    np.testing.assert_allclose(made[edge:-edge, edge:-edge], wanted[edge:-edge, edge:-edge], atol=1e-5)
    flat = bicubic(torch.full((1, 2, 5, 6), 0.3), scale)
    torch.testing.assert_close(flat, torch.full_like(flat, 0.3))


# ---- the U-Net -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "inputs"), [(3, 3), (1, 2), (3, 4), (4, 5), (3, 1), (1, 1)])
def test_unet_takes_masks_and_luma(channels: int, inputs: int) -> None:
    net = restoration_unet.Restorer(ImageSpec(channels, 32, 32), restoration_unet.TINY, inputs)
    assert isinstance(net, contracts.RestorerNetwork) and net.radius is None
    x = torch.rand(2, inputs, 13, 22)
    torch.testing.assert_close(net(x), x[:, :channels] if inputs >= channels else x.expand(-1, channels, -1, -1))
    assert trained(net)(x).shape == (2, channels, 13, 22)
    assert torch.equal(net.fused()(x), net(x))


def test_colors_keep_the_luma() -> None:
    net = trained(restoration_unet.Restorer(ImageSpec(3, 32, 32), restoration_unet.TINY, 1))
    luma = torch.rand(2, 1, 16, 16) * 2 - 1
    red, green, blue = net(luma).split(1, 1)
    assert (red - blue).abs().max() > 0.01
    torch.testing.assert_close(0.299 * red + 0.587 * green + 0.114 * blue, luma, rtol=0, atol=1e-5)


def test_masks_go_in_and_only_holes_come_out() -> None:
    net = restoration_unet.Restorer(ImageSpec(3, 16, 16), restoration_unet.TINY, 4)
    image, mask = torch.rand(2, 3, 8, 8), torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    mask[:, :, 2:5, 3:6] = 1
    x = network_input(net, image, mask)
    assert torch.equal(x[:, 3:], mask.float()) and torch.equal(x[:, :3], image)
    made = composed(image, torch.full_like(image, 9.0), mask)
    assert torch.equal(made == 9.0, mask.bool().expand(-1, 3, -1, -1)) and torch.equal(made[made != 9.0], image[made != 9.0])


def ramp(height: int, width: int) -> torch.Tensor:
    """A picture [1,2,H,W] whose values rise along a diagonal in one channel and are constant in the other."""
    rows, columns = torch.arange(height)[:, None] / height, torch.arange(width)[None] / width
    return torch.stack([rows + columns - 1, torch.full((height, width), 0.3)])[None]


@pytest.mark.parametrize("halvings", [0, 1, 3, 4])
def test_a_hole_is_filled_smoothly_from_its_border_and_by_nothing_in_it(halvings: int) -> None:
    picture, mask = ramp(63, 90), torch.zeros(1, 1, 63, 90)
    mask[..., 20:37, 30:51] = 1
    garbage = torch.where(mask > 0, torch.tensor(77.0), picture)
    made = filled(garbage, mask, halvings)
    assert torch.equal(made, filled(picture, mask, halvings))
    assert torch.equal(made[:, :, mask[0, 0] == 0], picture[:, :, mask[0, 0] == 0])
    torch.testing.assert_close(made[:, 1], picture[:, 1])
    # a plane solves Laplace's equation; without coarser pictures so few rounds do not reach the middle of the hole
    assert (made - picture).abs().max() < (0.5 if halvings < 2 else 0.03)
    mean = torch.where(mask > 0, picture[mask.expand_as(picture) == 0].view(2, -1).mean(1)[None, :, None, None], picture)
    assert (made - picture).square().mean() < 0.3 * (mean - picture).square().mean()


def test_a_picture_that_is_all_hole_is_filled_with_gray() -> None:
    assert not filled(torch.rand(1, 3, 16, 16), torch.ones(1, 1, 16, 16), 2).any()


def test_the_network_starts_from_the_filled_hole_at_any_size() -> None:
    net = restoration_unet.Restorer(ImageSpec(2, 64, 64), restoration_unet.TINY, 3)
    picture, mask = ramp(45, 61), torch.zeros(1, 1, 45, 61)
    mask[..., 30:, 50:] = 1  # at the border, which is repeated
    made = net(torch.cat([torch.where(mask > 0, torch.tensor(-1.0), picture), mask], 1))
    assert torch.equal(made[:, :, mask[0, 0] == 0], picture[:, :, mask[0, 0] == 0])
    assert (made - picture).abs().max() < 0.4 and made.shape == picture.shape


# ---- from a description ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "scale", "task"), [("plain", 4, "super-resolution"), ("plain", 1, "denoise"), ("restoration-unet", 1, "inpaint"), ("restoration-unet", 1, "colorize")])
def test_rebuilt_from_its_description(name: str, scale: int, task: str) -> None:
    spec, home = ImageSpec(3, 32, 32), {"plain": plain, "restoration-unet": restoration_unet}[name]
    net = networks.restorer(name, spec, home.TINY, scale, task)
    rebuilt: Any = networks.rebuild_restorer(spec, networks.describe(name, home.TINY) | {"scale": scale, "task": task})
    assert {key: value.shape for key, value in rebuilt.state_dict().items()} == {key: value.shape for key, value in net.state_dict().items()}
    rebuilt.load_state_dict(net.state_dict(), assign=True)
    x = torch.rand(1, rebuilt.inputs, 16, 16)
    assert torch.equal(rebuilt(x), net(x))


@pytest.mark.parametrize(("change", "said"), [
    ({"scale": 2.5}, "scale"), ({"architecture": "pla in"}, "is unknown"), ({"config": {"width": 0}}, "width"),
    ({"config": {"radius": 3}}, "no option 'radius'"), ({"task": "inpaint"}, "does not do inpaint"),
])  # fmt: skip
def test_a_wrong_description_is_a_sentence(change: dict[str, Any], said: str) -> None:
    description = networks.describe("plain", plain.TINY) | {"scale": 4, "task": "super-resolution"} | change
    with pytest.raises(ValueError, match=said):
        networks.rebuild_restorer(ImageSpec(3, 32, 32), description)


TURNS = {2: lambda x: x.flip(3), 4: lambda x: x.flip(2, 3), 8: lambda x: x.transpose(2, 3)}  # each undoes itself


@pytest.mark.parametrize("count", list(TURNS))
def test_an_ensemble_commutes_with_its_symmetries(count: int) -> None:
    net, turn = plain_of("x2"), TURNS[count]
    x = torch.rand(1, 3, 13, 10) * 2 - 1
    with torch.no_grad():
        whole = ensembled(net, x, count)
        assert whole.shape == (1, 3, 26, 20)
        torch.testing.assert_close(turn(ensembled(net, turn(x), count)), whole, atol=1e-5, rtol=1e-5)
        assert (turn(net(turn(x))) - net(x)).abs().max() > 1e-3  # the network alone does not
        assert torch.equal(ensembled(net, x, 1), net(x))
