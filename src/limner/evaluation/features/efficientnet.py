"""`efficientnet`: EfficientNet-Lite0 trained on ImageNet, whose weights come with the extra `perceptual`; nothing is downloaded.

Features that saw photographs of a thousand kinds detect what a picture shows; those learned from a small set hardly do. No
generator of Limner is trained on them. Restorers and codecs with a perceptual loss are: it must not measure those.
"""

from __future__ import annotations

import torch
from torch import Tensor

from limner.evaluation.features.extractor import digest, resized, with_channels
from limner.losses.perceptual import efficientnet_lite0

SIDE = 128  # of the pictures the network sees; it was trained at 224
BATCH = 64


class EfficientNet:
    """The means over positions of the last maps, before the classifier: uint8 [N,C,H,W] -> float32 [N,1280], computed in fp32."""

    name = "efficientnet"
    width = 1280
    size = SIDE, SIDE
    resize = f"bilinear, antialiased, to {SIDE}x{SIDE}"

    def __init__(self, device: str = "cpu") -> None:
        """Raises ValueError without the extra `perceptual`."""
        self.device = torch.device(device)
        self.net = efficientnet_lite0().to(self.device)
        self.identity = digest("efficientnet-lite0", SIDE)

    def __call__(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([self._features(part) for part in images.split(BATCH)]).cpu()

    def _features(self, images: Tensor) -> Tensor:
        x = resized(with_channels(images, 3), self.size).to(self.device)
        return self.net.extract_features((x.float() - 127) / 128).mean((2, 3))  # as its authors scale pixels
