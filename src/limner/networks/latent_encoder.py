"""A small convolutional encoder from pictures to latents of a generator, for inversion.

    x [N,C,H,W] -> 4x4 convolutions of stride 2, batch normalization, leaky ReLU -> features [N,F]
    features, class -> code [N,D];  features -> class logits [N,K]

Zhu et al. 2016, "Generative visual manipulation on the natural image manifold", section 3.1.2, predicts latents by a network of
the discriminator's shape; here it regresses latents rather than pixels, which takes no gradient of the generator.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.core.images import ImageSpec
from limner.networks.layers import levels, to_row

WIDTH = 32     # channels of the first convolution, doubled at each further one, at most 4x
HIDDEN = 512   # units of the layer before the code


class LatentEncoder(nn.Module):
    """x [N,C,H,W] in [-1,1] -> features [N,F]; `code` and `logits` of them. size: D, the numbers of a code."""

    def __init__(self, spec: ImageSpec, size: int) -> None:
        super().__init__()
        self.classes = spec.classes
        depth = levels(spec)
        widths = [WIDTH * min(4, 2**i) for i in range(depth)]
        self.convs = nn.ModuleList(
            [nn.Conv2d(a, b, 4, 2, 1, bias=False) for a, b in zip([spec.channels, *widths[:-1]], widths, strict=True)]
        )
        self.norms = nn.ModuleList([nn.BatchNorm2d(width) for width in widths])
        self.features_size = widths[-1] * (spec.height >> depth) * (spec.width >> depth)
        self.hidden = nn.Linear(self.features_size + self.classes, HIDDEN)
        self.last = nn.Linear(HIDDEN, size)
        self.label = nn.Linear(self.features_size, self.classes) if self.classes else None

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.leaky_relu(norm(conv(x)), 0.2)  # [N,W,h/2,w/2]
        return to_row(x)

    def code(self, features: Tensor, c: Tensor | None) -> Tensor:
        """Features [N,F], classes [N] | None -> the mean code [N,D] of pictures with these features"""
        if self.classes:
            assert c is not None
            features = torch.cat([features, F.one_hot(c, self.classes).to(features.dtype)], 1)
        return self.last(F.leaky_relu(self.hidden(features), 0.2)).float()

    def logits(self, features: Tensor) -> Tensor:
        """Features [N,F] -> class logits [N,K], of a generator with classes"""
        assert self.label is not None
        return self.label(features).float()
