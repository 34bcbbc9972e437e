"""Plain 3x3 convolutions for restoration: a residual on the input, or on its bicubic enlargement.

    x [N,C,H,W] -> (pixel-unshuffle) -> conv, leaky ReLU, `depth` times (conv, leaky ReLU) -> conv -> pixel-shuffle -> + skip

The class of ECBSR (Zhang et al. 2021, "Edge-oriented convolution block for real-time super resolution on mobile devices") and
SPAN (Wan et al. 2024): no normalization over the picture and no pooling, so an output pixel depends on no input further away
than `radius`, and a picture processed in tiles with that margin equals the whole. The pixel-shuffle at the end is Shi et al.
2016, section 3.2; the residual on the enlarged input is Kim et al. 2016 (VDSR), section 3.1.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.core.device import full_precision
from limner.core.images import ImageSpec
from limner.core.options import DEEPEST, WIDEST, check, option
from limner.networks.padding import crop_to, pad_to
from limner.networks.restoration import TAPS, bicubic

SOURCE = "Zhang et al. 2021, Edge-oriented convolution block for real-time super resolution on mobile devices"
SLOPE = 0.1  # of the leaky ReLU
NEAR = 0.2  # size of the random part of a hidden convolution at first, relative to He's


@dataclass(frozen=True, kw_only=True)
class Config:
    width: int = option(48, "Channels of the hidden layers.", low=1, high=WIDEST)
    depth: int = option(8, "3x3 convolutions between the first and the last.", low=0, high=DEEPEST)
    reparameterize: bool = option(False, "Train each hidden convolution as a sum of branches (3x3, and 1x1 before 3x3), merged into one 3x3 convolution for use.")
    unshuffle: int = option(1, "Side of the pixel blocks that become channels at the input: 2 computes at half the resolution, for a quarter of the time.", low=1, high=8)


TINY = Config(width=8, depth=1)


class BranchedConv2d(nn.Conv2d):
    """A 3x3 convolution whose kernel is a sum of branches: 3x3 (which starts near the identity), and a 1x1 followed by a 3x3.

    Zhang et al. 2021, eq. 1 to 4, without the fixed edge filters. The kernels are merged before the convolution is computed
    (Hu et al. 2022, "Online convolutional re-parameterization", section 3.2): a step takes little longer than with one kernel.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width, width, 3, padding=1)
        self.expand = nn.Parameter(torch.empty(2 * width, width))
        self.reduce = nn.Parameter(torch.empty(width, 2 * width, 3, 3))
        nn.init.kaiming_uniform_(self.expand, a=1)
        nn.init.kaiming_uniform_(self.reduce, a=1)
        with torch.no_grad():
            self.expand.mul_(NEAR)
            self.reduce.mul_(NEAR)

    def merged(self) -> Tensor:
        """The kernel [O,I,3,3] of the whole block."""
        return self.weight + torch.einsum("okhw,ki->oihw", self.reduce, self.expand)

    def forward(self, x: Tensor) -> Tensor:
        with full_precision(x.device):
            kernel = self.merged()
        return F.conv2d(x, kernel, self.bias, padding=1)


class Restorer(nn.Module):
    """x [N,C,H,W] in [-1,1] -> [N,C,sH,sW]; with the contract `networks.contracts.RestorerNetwork`.

    Before training, the last layer is zero and the output is the input, or its bicubic enlargement.
    """

    least = 1

    def __init__(self, spec: ImageSpec, config: Config = Config(), scale: int = 1) -> None:
        super().__init__()
        check(config)
        self.scale, self.inputs, self.multiple = scale, spec.channels, config.unshuffle
        self.radius: int | None = (config.depth + 2) * self.multiple + self.multiple - 1
        if scale > 1:
            self.radius = max(self.radius, TAPS)
        width, block = config.width, self.multiple**2
        hidden = [BranchedConv2d(width) if config.reparameterize else _plain(width, width) for _ in range(config.depth)]
        self.convs = nn.ModuleList([_plain(spec.channels * block, width), *(_near_identity(conv) for conv in hidden)])
        self.last = _plain(width, spec.channels * block * scale**2)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        size = (x.shape[-2], x.shape[-1])
        y = pad_to(x, self.multiple)
        y = F.pixel_unshuffle(y, self.multiple) if self.multiple > 1 else y  # [N,Cu²,H/u,W/u]
        for conv in self.convs:
            y = F.leaky_relu(conv(y), SLOPE)  # [N,width,H/u,W/u]
        residual = F.pixel_shuffle(self.last(y).float(), self.multiple * self.scale)  # [N,C,sH,sW]
        skip = bicubic(x, self.scale) if self.scale > 1 else x.float()
        return skip + crop_to(residual, (size[0] * self.scale, size[1] * self.scale))

    def fused(self) -> Restorer:
        """Return the same function with one kernel for each convolution, for inference."""
        made = copy.deepcopy(self)
        for i, conv in enumerate(made.convs):
            if isinstance(conv, BranchedConv2d):
                with torch.no_grad():
                    one = _plain(conv.in_channels, conv.out_channels).to(conv.weight)
                    one.weight.copy_(conv.merged())
                    one.bias.copy_(conv.bias)  # type: ignore[union-attr, arg-type]
                made.convs[i] = one.train(self.training).requires_grad_(conv.weight.requires_grad)
        return made


def _near_identity(conv: nn.Conv2d) -> nn.Conv2d:
    """Initialize a hidden convolution to pass its input on, with small random weights (He et al. 2015) added.

    A deep net without skip connections then learns from the first steps on, as a residual net does.
    """
    nn.init.kaiming_normal_(conv.weight, a=SLOPE)
    with torch.no_grad():
        conv.weight *= NEAR
        middle = range(conv.in_channels)
        conv.weight[middle, middle, 1, 1] += 1
        conv.bias.zero_()  # type: ignore[union-attr]
    return conv


def _plain(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)
