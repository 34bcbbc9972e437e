"""The protocol of feature extractors, and the resizing and channel conversion of their inputs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from limner.core.files import writing
from limner.data.cache import cache_folder


class Extractor(Protocol):
    """Maps uint8 [N,C,H,W] to float32 [N,F]; row i depends on picture i only."""

    name: str      # short name, part of every label: own, inception, dinov2 … (features.NAMES)
    identity: str  # hex; equal for extractors with equal features, whose values can be compared
    width: int     # F
    resize: str    # description of the resizing

    def __call__(self, images: Tensor) -> Tensor: ...


def extract(extractor: Extractor, images: Tensor | Iterable[Tensor], batch: int = 256) -> Tensor:
    """Return the features [N,F] of uint8 [N,C,H,W] or of batches of it; up to rounding independent of the batch size."""
    parts = images.split(batch) if isinstance(images, Tensor) else images
    with torch.inference_mode():
        rows = [extractor(part) for part in parts]
    if not rows:
        raise ValueError("There are no pictures to measure: the set is empty.")
    return torch.cat(rows).clone()


def extract_cached(extractor: Extractor, images: Tensor, fingerprint: str) -> Tensor:
    """Return the features as `extract`, cached on disk by the content of the pictures and the identity of the extractor.

    Failures to read or write the cache are ignored: the features are then computed.
    """
    key = hashlib.sha256(f"{fingerprint} {extractor.identity}".encode()).hexdigest()[:32]
    path = cache_folder() / "features" / f"{key}.safetensors"
    try:
        rows = load_file(path)["features"]
        if rows.shape == (len(images), extractor.width) and torch.isfinite(rows).all():
            return rows
    except (OSError, KeyError, SafetensorError):
        pass
    rows = extract(extractor, images)
    try:
        with writing(path) as temporary:
            save_file({"features": rows.contiguous()}, temporary)
    except (ValueError, SafetensorError):
        pass
    return rows


def resized(images: Tensor, size: tuple[int, int], mode: str = "bilinear") -> Tensor:
    """Return uint8 [N,C,H,W] resized to `size`, antialiased when smaller; unchanged if it has that size. mode: or bicubic."""
    if tuple(images.shape[2:]) == tuple(size):
        return images
    wide = F.interpolate(images.float(), size, mode=mode, antialias=True, align_corners=False)
    return wide.round_().clamp_(0, 255).to(torch.uint8)


def with_channels(images: Tensor, channels: int) -> Tensor:
    """Return uint8 [N,C,H,W] with 1, 3 or 4 channels: transparency blended with white, color to gray by Rec. 601 luma."""
    if images.shape[1] == channels:
        return images
    if images.shape[1] == 4:
        alpha = images[:, 3:].float() / 255
        images = (images[:, :3].float() * alpha + 255 * (1 - alpha)).round_().to(torch.uint8)
    if images.shape[1] == 3 and channels == 1:
        weights = torch.tensor([0.299, 0.587, 0.114], device=images.device)[:, None, None]
        return (images.float() * weights).sum(1, keepdim=True).round_().to(torch.uint8)
    if images.shape[1] == 1 and channels >= 3:
        images = images.expand(-1, 3, -1, -1)
    if channels == 4:
        return torch.cat([images, torch.full_like(images[:, :1], 255)], 1)
    return images


def digest(*parts: object) -> str:
    """Return a short hex digest of the parts."""
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:16]
