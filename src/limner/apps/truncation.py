"""Truncation in the style space: w' = w_mean + psi (w - w_mean), Karras et al. 2019, "A style-based generator architecture
for generative adversarial networks", appendix B.

The mean is of a class where there are classes: between classes lie pictures of neither.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from limner.networks.contracts import StyleBased

LATENTS = 4096  # for the mean style of a class; its standard error is then 1/64 of the spread of styles


def mean_style(network: StyleBased, z: Tensor, y: Tensor | None) -> Tensor:
    """Latents [N,Z], all of one class -> their mean style float32 [W]"""
    return network.mapping(z, y).double().mean(0).float()


def truncated(network: nn.Module, z: Tensor, y: Tensor | None, mean: Tensor, psi: float) -> Tensor:
    """Pictures [N,C,H,W] of latents [N,Z] whose styles are drawn towards the mean styles [N,W]; psi 1 leaves every bit.

    All layers are truncated alike (the paper's appendix B: the coarse ones only).
    """
    assert isinstance(network, StyleBased)
    w = torch.lerp(mean, network.mapping(z, y).float(), psi)  # exact at 0 and at 1
    return network.synthesis(w[:, None].expand(-1, network.layers, -1))
