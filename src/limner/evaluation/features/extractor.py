"""What turns pictures into features, and the two ways to bring pictures to a size and to a number of channels."""

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
    """uint8 [N,C,H,W] -> float32 [N,F]; row i depends on picture i alone."""

    name: str      # the short name that stands beside every number: own, inception, dinov2 … (features.NAMES)
    identity: str  # hex; equal for extractors that give equal features, so that their numbers compare
    width: int     # F
    resize: str    # how pictures are brought to the extractor's size, in words

    def __call__(self, images: Tensor) -> Tensor: ...


def extract(extractor: Extractor, images: Tensor | Iterable[Tensor], batch: int = 256) -> Tensor:
    """Features [N,F] of uint8 [N,C,H,W] or of batches of it, whatever the batch size to within rounding."""
    parts = images.split(batch) if isinstance(images, Tensor) else images
    with torch.inference_mode():
        rows = [extractor(part) for part in parts]
    if not rows:
        raise ValueError("There are no pictures to measure: the set is empty.")
    return torch.cat(rows).clone()


def extract_cached(extractor: Extractor, images: Tensor, fingerprint: str) -> Tensor:
    """`extract`, kept on disk by the content of the pictures and the identity of the extractor.

    A cache that cannot be read or written is no error: the features are then computed.
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
    """uint8 [N,C,H,W] -> uint8 at `size`, antialiased where smaller; the same where it has that size. Or mode bicubic."""
    if tuple(images.shape[2:]) == tuple(size):
        return images
    wide = F.interpolate(images.float(), size, mode=mode, antialias=True, align_corners=False)
    return wide.round_().clamp_(0, 255).to(torch.uint8)


def with_channels(images: Tensor, channels: int) -> Tensor:
    """uint8 [N,C,H,W] -> uint8 with 1, 3 or 4 channels: transparency onto white, color to gray by Rec. 601 luma."""
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
    """A short hex name for what the parts say."""
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:16]
