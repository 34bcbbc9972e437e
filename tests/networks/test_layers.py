"""Layers against closed forms."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from limner.core.condition import Condition
from limner.core.images import ImageSpec
from limner.networks import conv, diffaugment
from limner.networks.fold import fold
from limner.networks.layers import (
    BatchNorm2d,
    ConditionalBatchNorm2d,
    InstanceNorm2d,
    PatchUpConv2d,
    SpectralConv2d,
    SpectralLinear,
    UpConv2d,
    VirtualBatchNorm2d,
    base_size,
    center_crop,
    jointly_normalized,
    levels,
    to_map,
    to_row,
)


@pytest.mark.parametrize(("size", "want"), [((16, 16), 2), ((28, 28), 3), ((32, 32), 3), ((20, 99), 2), ((64, 48), 4)])
def test_levels_leave_a_bottom_of_about_four(size: tuple[int, int], want: int) -> None:
    spec = ImageSpec(1, *size)
    assert levels(spec) == want
    assert 2.8 < min(size) / 2**want < 5.7
    base = base_size(spec, want)
    assert base[0] * 2**want >= size[0] and base[1] * 2**want >= size[1]


def test_maps_and_rows_are_inverse_and_free() -> None:
    row = torch.randn(3, 5 * 4 * 6)
    picture = to_map(row, 5, (4, 6))
    assert picture.shape == (3, 5, 4, 6) and picture.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(to_row(picture), row) and to_row(picture).data_ptr() == row.data_ptr()


def test_centre_crop() -> None:
    x = torch.arange(36.0).view(1, 1, 6, 6)
    assert torch.equal(center_crop(x, (4, 2)), x[:, :, 1:5, 2:4])


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 8)])
def test_folded_upsampling_is_exact(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    layer = UpConv2d(3, 5).double()
    x = torch.randn(2, 3, *size, dtype=torch.double, requires_grad=True)
    plain = F.conv2d(F.interpolate(x, scale_factor=2), layer.weight, layer.bias, padding=1)
    torch.testing.assert_close(layer(x), plain, rtol=1e-12, atol=1e-12)
    upstream = torch.randn_like(plain)
    for of in (x, layer.weight):
        a = torch.autograd.grad(layer(x), of, upstream)[0]
        b = torch.autograd.grad(plain, of, upstream, retain_graph=True)[0]
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


def test_the_matrix_of_folding_is_copied_to_a_device_once() -> None:
    copies: list[str] = []

    class Copies(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if "_to_copy" in str(func):
                copies.append(str(func))
            return func(*args, **(kwargs or {}))

    layer = UpConv2d(3, 5).to("meta")
    x = torch.randn(2, 3, 4, 4, device="meta")
    with torch.inference_mode():
        layer(x)
    with Copies():
        out = layer(x)
    assert not copies and out.shape == (2, 5, 8, 8)
    out.sum().backward()  # the copy of the first call is no inference tensor


@pytest.mark.parametrize("layer", [SpectralConv2d(3, 8, 4, 2, 1), SpectralLinear(12, 7)], ids=["conv", "linear"])
def test_spectral_norm_is_one_after_iterations(layer: nn.Module) -> None:
    torch.manual_seed(0)
    nn.init.normal_(layer.weight, 0, 3)
    for _ in range(2000):  # slow when the two largest are close
        weight = layer.normalized()
    assert torch.linalg.matrix_norm(weight.flatten(1), 2).item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("layer", [SpectralConv2d(3, 8, 4, 2, 1), SpectralLinear(12, 7)], ids=["conv", "linear"])
def test_spectral_norm_is_one_as_estimated(layer: nn.Module) -> None:
    torch.manual_seed(0)
    nn.init.normal_(layer.weight, 0, 3)
    layer.estimate()
    layer.requires_grad_(False)
    for training in (True, False):
        weight = layer.train(training).normalized()
        assert torch.linalg.matrix_norm(weight.flatten(1), 2).item() == pytest.approx(1, abs=0.05)


def test_spectral_iteration_moves_only_in_training_of_the_layer_itself() -> None:
    layer = SpectralLinear(6, 4)
    x = torch.randn(3, 6)
    nn.init.normal_(layer.weight, 0, 3)
    before = layer.u.clone()
    layer.eval()(x)
    layer.train().requires_grad_(False)(x)  # the generator's turn: the discriminator must not move
    assert torch.equal(layer.u, before)
    layer.requires_grad_(True)(x)
    assert not torch.equal(layer.u, before)


def test_spectral_gradient_matches_finite_differences() -> None:
    torch.manual_seed(1)
    layer = SpectralLinear(4, 3).double().eval()  # eval: u and v are held, as in the derivation
    x = torch.randn(5, 4, dtype=torch.double)
    weight = layer.weight.detach().clone().requires_grad_(True)

    def run(w: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, {"weight": w}, (x,))

    assert torch.autograd.gradcheck(run, weight)


@pytest.mark.parametrize("layer", [SpectralConv2d(3, 5, 4, 2, 1), SpectralLinear(4, 3)], ids=["conv", "linear"])
def test_spectral_gradient_is_that_of_the_quotient_with_held_vectors(layer: nn.Module) -> None:
    layer.double()
    upstream = torch.randn_like(layer.weight)
    found = torch.autograd.grad(layer.normalized(), layer.weight, upstream)[0]  # after one more iteration, whose vectors the buffers hold
    sigma = layer.u @ layer.weight.movedim(1, -1).flatten(1) @ layer.v
    torch.testing.assert_close(found, torch.autograd.grad(layer.weight / sigma, layer.weight, upstream)[0], rtol=1e-12, atol=1e-12)


def test_spectral_layers_are_together_what_they_are_alone() -> None:
    torch.manual_seed(0)
    together = nn.ModuleList([SpectralConv2d(3, 4, 4, 2, 1), SpectralLinear(4, 2)]).to(memory_format=torch.channels_last)
    alone = copy.deepcopy(together)
    x = torch.randn(2, 3, 8, 8)
    for training in (True, False):
        together.train(training), alone.train(training)
        with jointly_normalized(list(together)):
            y = together[1](together[0](x).sum((2, 3)))
        z = alone[1](alone[0](x).sum((2, 3)))
        assert torch.equal(y, z)
        for mine, its in zip(torch.autograd.grad(y.sum(), together.parameters()), torch.autograd.grad(z.sum(), alone.parameters()), strict=True):
            assert torch.equal(mine, its)
    for mine, its in zip(together.buffers(), alone.buffers(), strict=True):
        assert torch.equal(mine, its)


def test_spectral_layers_that_are_not_trained_do_not_move_with_others() -> None:
    layers = [SpectralLinear(4, 4).requires_grad_(False), SpectralLinear(4, 2)]
    for layer in layers:
        nn.init.normal_(layer.weight)
    before = [layer.u.clone() for layer in layers]
    with jointly_normalized(layers):
        layers[1](layers[0](torch.randn(3, 4)))
    assert torch.equal(layers[0].u, before[0]) and not torch.equal(layers[1].u, before[1])


def test_batch_norm_is_pytorchs_when_alone() -> None:
    torch.manual_seed(0)
    ours, theirs = BatchNorm2d(4), nn.BatchNorm2d(4)
    x = torch.randn(8, 4, 5, 5)
    assert torch.equal(ours(x), theirs(x)) and torch.equal(ours.running_var, theirs.running_var)


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_instance_norm_is_pytorchs_and_keeps_the_layout(form: torch.memory_format) -> None:
    torch.manual_seed(0)
    ours, theirs = InstanceNorm2d(4), nn.InstanceNorm2d(4, affine=True)
    with torch.no_grad():
        for mine, its in zip(ours.parameters(), theirs.parameters(), strict=True):
            its.copy_(nn.init.normal_(mine))
    x = (2 + 3 * torch.randn(3, 4, 5, 6)).to(memory_format=form).requires_grad_()
    found = []
    for layer in (ours, theirs):
        y = layer(x)
        (input_gradient,) = torch.autograd.grad(y.square().sum() / 2 + y.sin().sum(), x, create_graph=True)
        found.append([y, input_gradient, *torch.autograd.grad(input_gradient.square().sum(), [x, *layer.parameters()])])
    for mine, its in zip(*found, strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-4)
    assert found[0][0].is_contiguous(memory_format=form)
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(x.detach().bfloat16()).dtype == torch.bfloat16


def test_virtual_batch_norm_takes_a_row_as_one_more_of_the_reference() -> None:
    torch.manual_seed(0)
    reference, rows = 2 + 3 * torch.randn(5, 4, 3, 6), torch.randn(2, 4, 3, 6)
    layer = VirtualBatchNorm2d(4, 5)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    found = layer(torch.cat([reference, rows]))

    def normalized(x: torch.Tensor) -> torch.Tensor:
        return F.batch_norm(x, None, None, layer.weight, layer.bias, training=True)

    torch.testing.assert_close(found[:5], normalized(reference))
    for i in range(2):
        torch.testing.assert_close(found[5 + i], normalized(torch.cat([reference, rows[i : i + 1]]))[5])
    layer.eval()
    assert torch.equal(layer(torch.cat([reference, rows])), found)  # nothing runs behind


def test_conditional_batch_norm_scales_by_class() -> None:
    layer = ConditionalBatchNorm2d(2, Condition.classes(3))
    with torch.no_grad():
        layer.scale.table.weight[1], layer.shift.table.weight[1] = 2.0, 5.0
    x = torch.randn(6, 2, 4, 4)
    y = torch.tensor([0, 1, 0, 1, 2, 2])
    plain = F.batch_norm(x, None, None, training=True)
    want = torch.where((y == 1)[:, None, None, None], plain * 2 + 5, plain)
    torch.testing.assert_close(layer(x, y), want)


# ---- augmentation ----------------------------------------------------------------------------------------------------


def test_augmentation_none_is_the_identity_and_full_keeps_alpha_of_colours() -> None:
    torch.manual_seed(0)
    x = torch.rand(4, 4, 12, 10) * 2 - 1
    u = torch.rand(4, diffaugment.DRAWS)
    assert diffaugment.augment(x, u, "none") is x
    for change, column in ((diffaugment.brightness, 0), (diffaugment.saturation, 1), (diffaugment.contrast, 2)):
        y = change(x, u[:, column])
        assert torch.equal(y[:, 3], x[:, 3]) and not torch.equal(y[:, :3], x[:, :3])


def test_translation_shifts_and_repeats_the_edge() -> None:
    x = torch.arange(64.0).view(1, 1, 8, 8)
    moved = diffaugment.translation(x, torch.tensor([[1.0, 0.5]]))  # one row down the picture, no column
    assert torch.equal(moved[0, 0, :7], x[0, 0, 1:]) and torch.equal(moved[0, 0, 7], x[0, 0, 7])


def test_cutout_greys_a_box_only() -> None:
    x = torch.ones(1, 3, 16, 16)
    y = diffaugment.cutout(x, torch.tensor([[0.5, 0.5]]))
    assert (y == 0).any() and (y == 1).any() and ((y == 0) | (y == 1)).all()


@pytest.mark.parametrize("policy", diffaugment.POLICIES)
def test_gradient_flows_through_augmentation(policy: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 3, 16, 16, requires_grad=True)
    diffaugment.augment(x, torch.rand(3, diffaugment.DRAWS), policy).sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0


def test_flip_mirrors_half() -> None:
    x = torch.randn(2, 3, 4, 5)
    y = diffaugment.flip(x, torch.tensor([0.2, 0.8]))
    assert torch.equal(y[0], x[0].flip(2)) and torch.equal(y[1], x[1])


@pytest.mark.parametrize("patch", [2, 3, 4, 8])
def test_squares_of_a_resize_convolution_are_those_of_the_two_steps_and_flat_where_the_map_is(patch: int) -> None:
    layer, x = PatchUpConv2d(5, 3, patch), torch.randn(2, 5, 6, 7, requires_grad=True)
    nn.init.normal_(layer.bias)  # type: ignore[arg-type]
    steps = F.conv2d(F.interpolate(x, scale_factor=patch), layer.weight, layer.bias, padding=patch)
    made = F.pixel_shuffle(layer(x), patch)
    torch.testing.assert_close(made, steps, atol=1e-5, rtol=1e-5)
    upstream = torch.randn_like(made)
    of = [x, *layer.parameters()]
    for found, right in zip(torch.autograd.grad(made, of, upstream), torch.autograd.grad(steps, of, upstream), strict=True):
        torch.testing.assert_close(found, right, atol=1e-3, rtol=1e-4)
    flat = F.pixel_shuffle(layer(torch.ones(1, 5, 5, 5)), patch)[..., patch:-patch, patch:-patch]
    assert flat.std((2, 3)).max() < 1e-5
    assert torch.equal(fold(nn.Sequential(layer).eval())(x), layer(x))


@pytest.mark.parametrize(("channels", "patch"), [(1, 2), (3, 2), (4, 4), (3, 3)])
def test_patches_are_those_of_pixel_shuffle_exactly(channels: int, patch: int) -> None:
    x = torch.randn(2, channels, 4 * patch, 3 * patch, requires_grad=True)
    made = conv.to_patches(x, patch)
    assert torch.equal(made, F.pixel_unshuffle(x, patch)) and torch.equal(conv.to_patches(x, patch, 6.0), 6 * made)
    for training in (False, True):
        assert torch.equal(conv.from_patches(made, patch, training), x)
    upstream = torch.randn_like(made)
    (gradient,) = torch.autograd.grad(made, x, upstream, retain_graph=True)
    assert torch.equal(gradient, F.pixel_shuffle(upstream, patch))
    (back,) = torch.autograd.grad(conv.from_patches(made, patch, True), made, x.detach())
    assert torch.equal(back, F.pixel_unshuffle(x, patch))
