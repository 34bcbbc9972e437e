"""Convolutions in exact integer arithmetic, so that every machine computes the same numbers.

Ballé et al. 2019, "Integer networks for data compression with latent-variable models": where an entropy decoder depends on a
network, one rounding that differs between two machines destroys the rest of the file. Here weights and activations are fixed-point
numbers, held as integer-valued float64. Every sum stays below 2^53 (asserted when a layer is built), so each product and each
partial sum is exact, in any order, with or without fused operations, on any number of threads.

A layer is trained as a plain convolution and fixed afterwards: `fix` rounds its weights to integer buffers. The rounding is finer
than training can tell (2^-16 of weights, 2^-12 of activations).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WEIGHT_BITS, WEIGHT_MAX = 16, 4.0  # fractional bits and largest magnitude of weights
ACTIVATION_BITS, ACTIVATION_MAX = 12, 1024.0  # of activations, which are not negative
BIAS_MAX = 1024.0
INPUT_MAX = 2.0**15  # largest magnitude of a network's input, which has no fractional bits
EXACT = 2.0**53  # integers up to here are exact in float64


class ExactConv2d(nn.Conv2d):
    """A convolution that is trained in floating point and evaluated in integers. [N,I,H,W] -> [N,O,H,W]

    kernel: its side, odd. first: its input is the network's, whole numbers of both signs; otherwise it is the output of `activate`
    or `activate_exact`.
    """

    fixed_weight: Tensor
    fixed_bias: Tensor

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, *, first: bool = False) -> None:
        super().__init__(inputs, outputs, kernel)
        self.side = kernel
        self.input_bits = 0 if first else ACTIVATION_BITS
        largest = INPUT_MAX if first else ACTIVATION_MAX * 2**ACTIVATION_BITS
        bound = kernel**2 * inputs * WEIGHT_MAX * 2**WEIGHT_BITS * largest + BIAS_MAX * 2**self.sum_bits
        assert 2 * bound < EXACT, f"a layer of {inputs} channels is too wide for exact sums"  # 2: rounding adds a half unit
        self.register_buffer("fixed_weight", torch.zeros(outputs, inputs, kernel, kernel, dtype=torch.int32))
        self.register_buffer("fixed_bias", torch.zeros(outputs, dtype=torch.int64))
        self._converted: tuple[Tensor, int, Tensor] | None = None  # the buffer, its version, and it as `_matrix`

    @property
    def sum_bits(self) -> int:
        """Fractional bits of the sums that `exact` returns."""
        return WEIGHT_BITS + self.input_bits

    def forward(self, x: Tensor) -> Tensor:
        assert self.bias is not None
        bias = self.bias.clamp(-BIAS_MAX, BIAS_MAX)
        return F.conv2d(self._padded(x), self.weight.clamp(-WEIGHT_MAX, WEIGHT_MAX), bias)

    def _padded(self, x: Tensor) -> Tensor:
        """Pad by replication. A crop of training is hardly larger than what the network sees, and its border everywhere: with
        zeros around it, the network would meet something new in the middle of a large picture."""
        return F.pad(x, [self.side // 2] * 4, mode="replicate") if self.side > 1 else x

    @torch.no_grad()
    def fix(self) -> None:
        """Round the parameters to the integer buffers."""
        assert self.bias is not None
        weight, bias = self.weight.double(), self.bias.double()
        self.fixed_weight.copy_(weight.clamp(-WEIGHT_MAX, WEIGHT_MAX).mul(2**WEIGHT_BITS).round())
        self.fixed_bias.copy_(bias.clamp(-BIAS_MAX, BIAS_MAX).mul(2**self.sum_bits).round())

    def exact(self, x: Tensor) -> Tensor:
        """Integer-valued float64 [N,I,H,W] on the CPU -> sums [N,O,H,W], also integer-valued, in units of 2^-sum_bits.

        A matrix product of patches: convolution kernels may transform their input, which would round.
        """
        n, _, h, w = x.shape
        patches = F.unfold(self._padded(x), self.side) if self.side > 1 else x.flatten(2)
        sums = (self._matrix() @ patches).add_(self.fixed_bias.cpu().double()[:, None])
        return sums.view(n, -1, h, w)

    def _matrix(self) -> Tensor:
        """Return the integer weights as float64 [O, I * kernel^2] on the CPU, converted once for many small pictures."""
        source = self.fixed_weight
        if self._converted is None or self._converted[0] is not source or self._converted[1] != source._version:
            self._converted = source, source._version, source.cpu().double().flatten(1).contiguous()
        return self._converted[2]


def activate(x: Tensor) -> Tensor:
    """ReLU, clamped to the range of the integer activations."""
    return x.clamp(0, ACTIVATION_MAX)


def activate_exact(sums: Tensor, bits: int) -> Tensor:
    """`activate` of sums with `bits` fractional bits, rounded to ACTIVATION_BITS; in place."""
    return shift_right_(sums, bits - ACTIVATION_BITS).clamp_(0, ACTIVATION_MAX * 2**ACTIVATION_BITS)


def shift_right_(x: Tensor, bits: int) -> Tensor:
    """Divide integer-valued float64 by 2^bits and round to nearest, halves up: exact, since a power of two only moves the exponent.

    In place: of a large picture, new memory costs more than the arithmetic.
    """
    assert bits > 0
    return x.add_(2.0 ** (bits - 1)).mul_(2.0**-bits).floor_()
