"""Projection heads for the patchwise contrastive loss (PatchNCE): a two-layer perceptron for each feature map.

Park et al. 2020, "Contrastive learning for unpaired image-to-image translation", section 3.1 and appendix C: two layers of
256 units, then unit length.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

SOURCE = "Park et al. 2020, Contrastive learning for unpaired image-to-image translation"


class Heads(nn.Module):
    """Features [N,P,W_i] at P places of map i -> unit vectors [N,P,size]"""

    def __init__(self, widths: Sequence[int], size: int = 256) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            [nn.Sequential(nn.Linear(w, size), nn.ReLU(), nn.Linear(size, size)) for w in widths]
        )

    def forward(self, x: Tensor, index: int) -> Tensor:
        return F.normalize(self.heads[index](x).float(), dim=-1)
