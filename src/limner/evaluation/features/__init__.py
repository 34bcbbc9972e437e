"""Feature extractors by name: own, efficientnet, inception, dinov2, clip, pixels, lowpass, convolutions."""

from __future__ import annotations

from pathlib import Path

from limner.evaluation.features.efficientnet import EfficientNet
from limner.evaluation.features.encoder import Progress
from limner.evaluation.features.extractor import Extractor, extract, extract_cached, resized, with_channels
from limner.evaluation.features.inception import Inception
from limner.evaluation.features.own import OwnFeatures, own_features
from limner.evaluation.features.pretrained import ENCODERS, Pretrained
from limner.evaluation.features.simple import Convolutions, LowPass, Pixels
from limner.evaluation.inputs import ImageSet

NAMES = ("own", "efficientnet", "inception", *ENCODERS, "pixels", "lowpass", "convolutions")

__all__ = [
    "NAMES", "Convolutions", "EfficientNet", "Extractor", "Inception", "LowPass", "OwnFeatures", "Pixels", "Pretrained", "choose",
    "extract", "extract_cached", "own_features", "resized", "with_channels",
]


def choose(
    name: str | Extractor, reference: ImageSet, weights: Path | None = None, device: str = "cpu", cache: bool = True,
    progress: Progress | None = None,
) -> Extractor:
    """Return the extractor of a name for a reference set; an extractor is returned unchanged.

    weights: Inception's file, the folder of DINOv2's or CLIP's, or a folder that holds them all. Raises ValueError for an
    unknown name, and for missing weights or libraries.
    """
    if not isinstance(name, str):
        return name
    if name == "own":
        return own_features(reference, cache, device, progress)
    if name == "efficientnet":
        return EfficientNet(device)
    if name == "inception":
        return Inception.load(weights, device)
    if name in ENCODERS:
        return Pretrained.load(name, weights, device)
    if name == "pixels":
        return Pixels(reference)
    if name == "lowpass":
        return LowPass(reference.spec.size)
    if name == "convolutions":
        return Convolutions(reference.spec.channels, reference.spec.size)
    raise ValueError(f"There are no features called {name!r}: choose {', '.join(NAMES)}.")
