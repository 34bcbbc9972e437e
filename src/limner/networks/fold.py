"""Networks with the computations on weights done once, for inference and export.

    Spectral...      the weight divided by its largest singular value
    Equal...         the weight times its scale
    UpConv2d         doubling and convolution as one transposed convolution
    PatchUpConv2d    repetition and convolution as one convolution to squares
    WeightNorm...    the weight with its norm
    Modulated        the energies that demodulation needs, of all weights (Karras et al. 2020, eq. 3)
    VirtualBatch...  the statistics of the reference batch

The functions stay the same up to rounding. `networks.inference` folds batch normalization too; exporters do so themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from limner.networks.convnet import WeightNormConv2d
from limner.networks.equalized import GAIN, EqualConv2d, EqualLinear, RectifiedConv2d
from limner.networks.layers import (
    PatchUpConv2d,
    SpectralConv2d,
    SpectralLinear,
    SpectralUpConv2d,
    UpConv2d,
    VirtualBatchNorm2d,
    fold_upsampling,
)
from limner.networks.stylegan2 import Modulated


@torch.no_grad()
def fold(module: nn.Module) -> nn.Module:
    """Replace layers inside a module, in place, and return it. The module is in evaluation mode."""
    for part in list(module.modules()):
        if getattr(part, "reference", 0) and hasattr(part, "reference_z"):
            _freeze_reference(part)
    for name, child in module.named_children():
        make = PLAIN.get(type(child))
        setattr(module, name, fold(child) if make is None else make(child).eval().requires_grad_(False))
    return module


def _conv(layer: nn.Conv2d, weight: Tensor) -> nn.Module:
    made = nn.Conv2d(
        layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding, layer.dilation,  # type: ignore[arg-type]
        layer.groups, layer.bias is not None, layer.padding_mode, device="meta",
    )  # fmt: skip
    return _filled(made, weight, layer.bias)


def _up(layer: nn.Conv2d, weight: Tensor) -> nn.Module:
    bias = layer.bias is not None
    made = nn.ConvTranspose2d(layer.in_channels, layer.out_channels, 4, 2, 1, bias=bias, device="meta")
    return _filled(made, fold_upsampling(weight), layer.bias)


def _patch_up(layer: PatchUpConv2d) -> nn.Module:
    weight, bias = layer.folded()
    return _filled(nn.Conv2d(weight.shape[1], len(weight), 3, padding=1, device="meta"), weight, bias)


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Module:
    return _filled(nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta"), weight, bias)


def _filled(made: nn.Module, weight: Tensor, bias: Tensor | None) -> nn.Module:
    made.weight = nn.Parameter(weight.detach().clone().contiguous())
    if bias is not None:
        made.bias = nn.Parameter(bias.detach().clone())
    return made


def _equal_linear(layer: EqualLinear) -> nn.Module:
    return _linear(layer.weight * layer.scale, None if layer.bias is None else layer.bias * layer.lr_multiplier)


def _equal_conv(layer: EqualConv2d, gain: float = 1.0) -> nn.Conv2d:
    outputs, inputs, kernel, _ = layer.weight.shape
    made = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=layer.bias is not None, device="meta")
    _filled(made, layer.weight * (layer.scale * gain), None if layer.bias is None else layer.bias * gain)
    return made


def _rectified_conv(layer: RectifiedConv2d) -> nn.Module:
    return nn.Sequential(_equal_conv(layer, GAIN), nn.LeakyReLU(0.2))


def _weight_norm(layer: WeightNormConv2d) -> nn.Module:
    norm = layer.weight.flatten(1).norm(dim=1).clamp_min(1e-8)
    return _conv(layer, layer.weight * (layer.gain / norm)[:, None, None, None])


class PlainModulated(nn.Module):
    """`networks.stylegan2.Modulated` with its energies computed: scale the input, convolve, demodulate the output."""

    energy: Tensor | None  # [I,O]

    def __init__(self, layer: Modulated) -> None:
        super().__init__()
        self.style, self.conv = _equal_linear(layer.style), _equal_conv(layer.conv)
        self.bias = nn.Parameter(layer.bias.detach().clone())
        self.register_buffer("energy", self.conv.weight.detach().square().sum((2, 3)).T.contiguous() if layer.demodulate else None)

    def forward(self, x: Tensor, w: Tensor, gain: float = 1.0) -> Tensor:
        style = self.style(w)  # [N,I]
        y: Tensor = self.conv(x * style[:, :, None, None])
        if self.energy is not None:
            y = y * ((style.square() @ self.energy + 1e-8).rsqrt() * gain)[:, :, None, None]
        return y + (self.bias * gain)[:, None, None]


class FrozenVirtualNorm(nn.Module):
    """`networks.layers.VirtualBatchNorm2d` without the reference rows, of which it keeps the moments [2,1,C]. [N,C,H,W] -> the same"""

    theirs: Tensor

    def __init__(self, layer: VirtualBatchNorm2d, theirs: Tensor) -> None:
        super().__init__()
        self.reference, self.eps = layer.reference, layer.eps
        self.weight, self.bias = layer.weight, layer.bias
        self.register_buffer("theirs", theirs)

    def forward(self, x: Tensor) -> Tensor:
        y = x.float()
        moments = torch.stack([y.mean((2, 3)), y.square().mean((2, 3))])  # [2,N,C]
        mean, square = ((self.theirs * self.reference + moments) / (self.reference + 1)).unbind(0)
        scale = (square - mean.square()).clamp_min(0).add(self.eps).rsqrt() * self.weight
        return (y * scale[:, :, None, None] + (self.bias - mean * scale)[:, :, None, None]).to(x.dtype)


def _freeze_reference(generator: nn.Module) -> None:
    """Replace the virtual batch normalizations of a generator by the statistics of its reference batch."""
    found: dict[int, Tensor] = {}

    def remember(norm: nn.Module, given: tuple[Tensor, ...]) -> None:
        x = given[0][: norm.reference]
        found[id(norm)] = torch.stack([x.mean((2, 3)), x.square().mean((2, 3))]).mean(1, keepdim=True)

    handles = [norm.register_forward_pre_hook(remember) for norm in generator.norms]  # type: ignore[union-attr]
    spec = generator.spec
    generator(generator.reference_z[:1], generator.reference_c[:1] if spec.condition else None)  # type: ignore[index, union-attr]
    for handle in handles:
        handle.remove()
    generator.norms = nn.ModuleList([FrozenVirtualNorm(norm, found[id(norm)]) for norm in generator.norms])  # type: ignore[union-attr]
    generator.reference = 0  # type: ignore[assignment]


PLAIN: Mapping[type, Callable[..., nn.Module]] = {
    UpConv2d: lambda layer: _up(layer, layer.weight),
    PatchUpConv2d: _patch_up,
    SpectralUpConv2d: lambda layer: _up(layer, layer.normalized()),
    SpectralConv2d: lambda layer: _conv(layer, layer.normalized()),
    SpectralLinear: lambda layer: _linear(layer.normalized(), layer.bias),
    EqualLinear: _equal_linear,
    EqualConv2d: _equal_conv,
    RectifiedConv2d: _rectified_conv,
    WeightNormConv2d: _weight_norm,
    Modulated: PlainModulated,
}
