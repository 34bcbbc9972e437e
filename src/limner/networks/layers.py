"""Layers that more than one architecture uses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from math import log2
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from limner.core import distributed
from limner.core.condition import Condition
from limner.core.device import full_precision
from limner.core.images import ImageSpec
from limner.networks.condition import ConditionEmbedding, LinearEmbedding, Projection


def levels(spec: ImageSpec, bottom: int = 4) -> int:
    """The number of downsamplings after which the short side of an image is nearest to `bottom`, in octaves.

    A generator whose last map is larger than the image crops it; fewer levels would leave a discriminator's receptive field
    too small.
    """
    return max(1, round(log2(min(spec.size) / bottom)))


def base_size(spec: ImageSpec, halvings: int) -> tuple[int, int]:
    """The resolution at which a generator starts; rounded up, so that its output is cropped and never too small."""
    return -(-spec.height // 2**halvings), -(-spec.width // 2**halvings)


def center_crop(x: Tensor, size: tuple[int, int]) -> Tensor:
    """The middle [N,C,*size] of x."""
    if x.shape[-2:] == size:
        return x
    top, left = (x.shape[-2] - size[0]) // 2, (x.shape[-1] - size[1]) // 2
    return x[..., top : top + size[0], left : left + size[1]]


def to_map(x: Tensor, channels: int, size: tuple[int, int]) -> Tensor:
    """[N, H*W*C] -> [N,C,H,W], channels_last without a copy."""
    return x.view(-1, *size, channels).permute(0, 3, 1, 2)


def to_row(x: Tensor) -> Tensor:
    """[N,C,H,W] -> [N, H*W*C], without a copy when x is channels_last."""
    return x.permute(0, 2, 3, 1).flatten(1)


# ---- resize-convolution ----------------------------------------------------------------------------------------------


_TAPS = torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 1.0], [1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])  # of the 3 weights along one axis
_FOLDING = torch.einsum("pa,qb->pqab", _TAPS, _TAPS).reshape(16, 9)


@cache
def _folding_on(device: torch.device, dtype: torch.dtype) -> Tensor:
    """The matrix [16,9] on an accelerator, copied there once: a copy at each call makes the device wait for the host."""
    with torch.inference_mode(False):  # an inference tensor could not be used in training later
        return _FOLDING.to(device, dtype)


def fold_upsampling(weight: Tensor) -> Tensor:
    """The kernel [I,O,4,4] of the transposed convolution (stride 2, padding 1) that equals nearest-neighbor doubling
    followed by the 3x3 convolution (padding 1) of `weight` [O,I,3,3].

    Each output pixel sees a doubled pixel twice or once; summing those taps beforehand is exact and takes 4 instead of
    9 multiplications an output: along one axis the taps are (w2, w1+w2, w0+w1, w0). As one product of matrices it costs half
    as much as sums of slices.
    """
    outputs, inputs = weight.shape[:2]
    with full_precision(weight.device):
        taps = weight.permute(2, 3, 1, 0).reshape(9, inputs * outputs)
        folding = _FOLDING.to(weight) if weight.device.type == "cpu" else _folding_on(weight.device, weight.dtype)
        return (folding @ taps).view(4, 4, inputs, outputs).permute(2, 3, 0, 1)


class UpConv2d(nn.Conv2d):
    """Double by nearest neighbor, then a 3x3 convolution (Odena et al. 2016, "Deconvolution and checkerboard
    artifacts"), computed as one folded transposed convolution. [N,I,H,W] -> [N,O,2H,2W]"""

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, 3, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(x, fold_upsampling(self.weight), self.bias, stride=2, padding=1)


class PatchUpConv2d(nn.Conv2d):
    """Repeat each position P times along both axes (nearest neighbors), then a convolution of (2P+1)x(2P+1) pixels.
    [N,I,H,W] -> [N,O P^2,H,W], the pixels of each square as channels, in the order of `pixel_shuffle`

    It is computed as one 3x3 convolution on the small map. The pixels of a square differ only where the map does: there is no
    grid on even areas, which the same convolution with free weights draws (Odena et al. 2016, "Deconvolution and checkerboard
    artifacts").
    """

    def __init__(self, inputs: int, outputs: int, patch: int) -> None:
        super().__init__(inputs, outputs, 2 * patch + 1, padding=patch)
        self.patch = patch

    def folded(self) -> tuple[Tensor, Tensor]:
        """Return the weight [O P^2,I,3,3] and the bias [O P^2] of the 3x3 convolution."""
        outputs, inputs, size, _ = self.weight.shape
        with full_precision(self.weight.device):
            taps = _patch_taps(self.patch, self.weight.device, self.weight.dtype)
            across = (self.weight.reshape(-1, size) @ taps).view(outputs, inputs, size, -1).transpose(2, 3)  # [O,I,P*3,K]
            both = (across.reshape(-1, size) @ taps).view(outputs, inputs, self.patch, 3, self.patch, 3)  # of x, then of y
            weight = both.permute(0, 4, 2, 1, 5, 3).reshape(-1, inputs, 3, 3)
            assert self.bias is not None
            return weight, self.bias.repeat_interleave(self.patch**2)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, *self.folded(), padding=1)


@cache
def _patch_taps(patch: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Which of the 2P+1 weights along one axis meet which position, [2P+1,P*3]: for pixel p of a square, weight d + P, with d from -P
    to P, meets the position (p + d) // P, one of -1, 0 and 1."""
    met = (torch.arange(patch) + torch.arange(-patch, patch + 1)[:, None]).div(patch, rounding_mode="floor") + 1  # [2P+1,P]
    with torch.inference_mode(False):  # an inference tensor could not be used in training later
        return F.one_hot(met, 3).flatten(1).to(device, dtype)


# ---- spectral normalization ------------------------------------------------------------------------------------------


class _Spectral(nn.Module):
    """Weight divided by its largest singular value (Miyato et al. 2018, "Spectral normalization", eq. 8 and alg. 1).

    One power iteration a training forward, and only while the layer itself is being trained; gradients flow through
    sigma with u and v held. The matrix is the weight as [outputs, rest], as in the paper, the rest in the order of memory of
    channels_last weights, which then need no copy.
    """

    weight: Tensor
    u: Tensor
    v: Tensor

    _joint: list[Tensor]  # the normalized weight within `jointly_normalized`; else empty

    def _prepare(self) -> None:
        self._joint = []
        matrix = _matrix(self.weight).detach()
        self.register_buffer("u", F.normalize(torch.randn(matrix.shape[0], device=matrix.device), dim=0))
        self.register_buffer("v", F.normalize(torch.randn(matrix.shape[1], device=matrix.device), dim=0))
        if matrix.device.type != "meta":
            self.estimate()

    def estimate(self) -> None:
        """Estimate the singular vectors of the weight as it is now."""
        with torch.no_grad(), full_precision(self.weight.device):
            for _ in range(15):
                _iterate([self], [_matrix(self.weight)])

    def normalized(self) -> Tensor:
        return self._joint[0] if self._joint else _normalized([self])[0]


def _matrix(weight: Tensor) -> Tensor:
    """[O,I,...] -> [O, rest], a view of channels_last weights"""
    return weight if weight.ndim == 2 else weight.movedim(1, -1).flatten(1)


def _unit(vectors: list[Tensor]) -> tuple[Tensor, ...]:
    """The vectors divided by their lengths."""
    lengths = torch._foreach_norm(vectors)
    torch._foreach_clamp_min_(lengths, 1e-12)
    return torch._foreach_div(vectors, lengths)


def _iterate(layers: Sequence[_Spectral], matrices: Sequence[Tensor]) -> tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]:
    """One power iteration of each layer. Returns copies of the new u and v, and W v."""
    v = _unit([matrix.T.mv(layer.u) for layer, matrix in zip(layers, matrices, strict=True)])
    products = [matrix.mv(vector) for matrix, vector in zip(matrices, v, strict=True)]
    u = _unit(products)
    torch._foreach_copy_([*(layer.u for layer in layers), *(layer.v for layer in layers)], [*u, *v])
    return u, v, products


class _Divide(torch.autograd.Function):
    """(u, v, W v, weights) -> the weights, each divided by sigma = u W v. Its gradient, for constant u and v, is
    (g - <g, W / sigma> u v') / sigma (Miyato et al. 2018, eq. 12)."""

    @staticmethod
    def forward(
        ctx: Any, u: Sequence[Tensor], v: Sequence[Tensor], products: Sequence[Tensor], *weights: Tensor
    ) -> tuple[Tensor, ...]:
        sigmas = [torch.dot(a, b) for a, b in zip(u, products, strict=True)]
        results = torch._foreach_div(weights, sigmas)
        ctx.save_for_backward(*results, *u, *v, *sigmas)
        return tuple(results)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        count, saved = len(grads), ctx.saved_tensors
        results, u, v, sigmas = (saved[i * count : (i + 1) * count] for i in range(4))
        found = []
        for grad, result, left, right in zip(grads, results, u, v, strict=True):
            matrix = _matrix(grad)
            inner = torch.dot(matrix.flatten(), _matrix(result).flatten())
            found.append(torch.addr(matrix, left * -inner, right))
        torch._foreach_div_(found, sigmas)
        shapes = [(len(grad), *grad.shape[2:], grad.shape[1]) for grad in grads]
        return None, None, None, *(matrix.view(shape).movedim(-1, 1) for matrix, shape in zip(found, shapes, strict=True))


def _normalized(layers: Sequence[_Spectral]) -> Sequence[Tensor]:
    """The normalized weights of layers that are all trained or all not, for one forward pass."""
    weights, training = [layer.weight for layer in layers], layers[0].training
    with full_precision(weights[0].device):  # autocast would round sigma to bf16's 8 bits
        with torch.no_grad():
            matrices = [_matrix(weight) for weight in weights]
            if training and weights[0].requires_grad:
                u, v, products = _iterate(layers, matrices)
            else:
                u, v = [layer.u for layer in layers], [layer.v for layer in layers]
                # averaged over training, as an EMA has them, unit vectors are no longer quite that long
                if not training:
                    u, v = _unit(u), _unit(v)
                products = [matrix.mv(vector) for matrix, vector in zip(matrices, v, strict=True)]
        return _Divide.apply(u, v, products, *weights)  # type: ignore[no-untyped-call]


@contextmanager
def jointly_normalized(layers: Sequence[_Spectral]) -> Iterator[None]:
    """Normalize the weights of layers for one forward pass together, in a fraction of the operations that they take one by one:
    those of small layers cost more than their arithmetic. Layers of which only some are trained are normalized one by one."""
    if len({layer.training and layer.weight.requires_grad for layer in layers}) > 1:
        yield
        return
    for layer, weight in zip(layers, _normalized(layers), strict=True):
        layer._joint.append(weight)
    try:
        yield
    finally:
        for layer in layers:
            layer._joint.clear()


class SpectralConv2d(nn.Conv2d, _Spectral):
    """A convolution of spectral norm 1 (of its flattened kernel)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0,
                 bias: bool = True) -> None:  # fmt: skip
        super().__init__(inputs, outputs, kernel, stride, padding, bias=bias)
        nn.init.orthogonal_(self.weight)
        self._prepare()

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.normalized(), self.bias)


class SpectralUpConv2d(SpectralConv2d):
    """`UpConv2d` of spectral norm 1 (of its flattened 3x3 kernel). [N,I,H,W] -> [N,O,2H,2W]"""

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, 3, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(x, fold_upsampling(self.normalized()), self.bias, stride=2, padding=1)


class SpectralLinear(nn.Linear, _Spectral):
    """A linear map of spectral norm 1."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, bias)
        nn.init.orthogonal_(self.weight)
        self._prepare()

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.normalized(), self.bias)


def spectral_layers(net: nn.Module) -> Iterator[tuple[str, _Spectral]]:
    """(prefix of its tensors' names, layer) of each spectrally normalized layer of a network."""
    for name, module in net.named_modules():
        if isinstance(module, _Spectral):
            yield f"{name}." if name else "", module


def spectral_projection(condition: Condition, features: int) -> Projection:
    """The projection of a condition on features [N,features] by an embedding of spectral norm 1."""
    return Projection(LinearEmbedding(condition, SpectralLinear(condition.size, features, bias=False)))


# ---- batch normalization ---------------------------------------------------------------------------------------------


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalization (Ioffe & Szegedy 2015) over this rank's rows; with `distributed.syncs_batch_norm`, over the global batch:
    the sums are then reduced over the ranks, so that two ranks compute what one would. `num_batches_tracked` is not counted: only
    a momentum of None would read it."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        momentum = self.momentum or 0.1
        if not distributed.syncs_batch_norm():
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, True, momentum, self.eps)
        y = x.float()
        ones = y.new_tensor([float(y.numel() // y.shape[1])])
        sums = distributed.all_reduce_sum(torch.cat([y.sum((0, 2, 3)), y.square().sum((0, 2, 3)), ones]))
        count = sums[-1].detach()
        mean, square = (sums[:-1] / count).chunk(2)
        variance = (square - mean.square()).clamp_min(0)
        if self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                self.running_mean.lerp_(mean, momentum)
                self.running_var.lerp_(variance * count / (count - 1), momentum)
        scale = (variance + self.eps).rsqrt() * (1 if self.weight is None else self.weight)
        shift = (0 if self.bias is None else self.bias) - mean * scale
        return (y * scale[:, None, None] + shift[:, None, None]).to(x.dtype)


class InstanceNorm2d(nn.InstanceNorm2d):
    """Instance normalization with weight and bias (Ulyanov et al. 2016), [N,C,H,W] -> the same.

    PyTorch's copies every channels_last map to contiguous and leaves it so for the layers behind, which on a CPU is a
    quarter of a translator's step. Batch norm of one image computes the same, and has kernels for channels_last: two to
    eight times as fast, forward and backward. A loop over rows cannot be exported, nor is there anything to win on a GPU.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        last = x.is_contiguous(memory_format=torch.channels_last)
        if not last or x.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(x)
        rows = [F.batch_norm(row, None, None, self.weight, self.bias, True, eps=self.eps) for row in x.split(1)]
        return torch.cat(rows) if len(rows) > 1 else rows[0]


class VirtualBatchNorm2d(nn.Module):
    """Normalization of each row by a fixed reference batch and itself (Salimans et al. 2016, "Improved techniques for
    training GANs", section 3.5). [R+N,C,H,W] -> the same; the first R rows are the reference.

    A row's statistics are those of the R reference rows and its own as one more; the reference rows take their own
    alone. So no row depends on another of its batch, in training and in eval mode, and there are no running statistics.
    """

    def __init__(self, channels: int, reference: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.reference, self.eps = reference, eps
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        y, count = x.float(), self.reference
        statistics = torch.stack([y.mean((2, 3)), y.square().mean((2, 3))])  # [2,R+N,C]
        theirs = statistics[:, :count].mean(1, keepdim=True)
        own = (theirs * count + statistics[:, count:]) / (count + 1)
        mean, square = torch.cat([theirs.expand(-1, count, -1), own], 1)
        scale = (square - mean.square()).clamp_min(0).add(self.eps).rsqrt() * self.weight
        shift = self.bias - mean * scale
        return (y * scale[:, :, None, None] + shift[:, :, None, None]).to(x.dtype)


class ConditionalBatchNorm2d(nn.Module):
    """Batch normalization whose scale and shift are embeddings of the condition (Dumoulin et al. 2017, "A learned
    representation for artistic style", eq. 5); without a condition, plain batch normalization. [N,C,H,W], c -> [N,C,H,W]"""

    def __init__(self, channels: int, condition: Condition) -> None:
        super().__init__()
        self.norm = BatchNorm2d(channels, affine=not condition)
        self.scale = ConditionEmbedding(condition, channels).constant_(1.0) if condition else None
        self.shift = ConditionEmbedding(condition, channels).constant_(0.0) if condition else None

    def forward(self, x: Tensor, c: Tensor | None) -> Tensor:
        x = self.norm(x)
        if self.scale is None or self.shift is None:
            return x
        scale, shift = (embedding(c).to(x.dtype).unflatten(1, (-1, 1, 1)) for embedding in (self.scale, self.shift))
        return torch.addcmul(shift, x, scale)
