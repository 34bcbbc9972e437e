"""Truncation in the style space: w' = w_mean + psi (w - w_mean), Karras et al. 2019, "A style-based generator architecture
for generative adversarial networks", appendix B.

With classes, each class has a mean of its own: pictures between classes belong to neither.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from limner.networks.contracts import StyleBased

LATENTS = 4096  # for the mean style of a class; its standard error is then 1/64 of the styles' standard deviation


def mean_style(network: StyleBased, z: Tensor, y: Tensor | None) -> Tensor:
    """Return the mean style, float32 [W], of latents [N,Z] that all have one class."""
    return network.mapping(z, y).double().mean(0).float()


def truncated(network: nn.Module, z: Tensor, y: Tensor | None, mean: Tensor, psi: float) -> Tensor:
    """Return pictures [N,C,H,W] of latents [N,Z] with styles moved toward the means [N,W]; psi 1 changes no bit.

    All layers are truncated (in the paper's appendix B only the coarse ones).
    """
    assert isinstance(network, StyleBased)
    w = torch.lerp(mean, network.mapping(z, y).float(), psi)  # exact at 0 and at 1
    return network.synthesis(w[:, None].expand(-1, network.layers, -1))
