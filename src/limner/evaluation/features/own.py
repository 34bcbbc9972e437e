"""`own`: features trained once on the reference set itself, so that measuring needs no download.

If the reference has labels of two classes or more, the encoder is a classifier; otherwise it is trained contrastively. Values
of `own` features can be compared only for the same encoder: its identity is part of every protocol.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from limner.core.files import write_whole, writing
from limner.core.images import to_float
from limner.data.cache import cache_folder
from limner.evaluation.features.encoder import (
    RECIPE,
    WIDTH,
    Encoder,
    Progress,
    contrastive_head,
    train_classifier,
    train_contrastive,
    working_size,
)
from limner.evaluation.features.extractor import digest, resized, with_channels
from limner.evaluation.inputs import ImageSet


class OwnFeatures:
    """The extractor of a trained encoder: uint8 [N,C,H,W] of any size -> float32 [N,128].

    It runs in fp32 (on CUDA in TF32, PyTorch's default for convolutions): bf16 was measured to change the Fréchet distance by
    up to 3.5 % (Fashion-MNIST with faint noise).
    """

    name = "own"
    width = WIDTH

    def __init__(self, encoder: Encoder, channels: int, size: tuple[int, int], classes: int, device: str = "cpu") -> None:
        self.device = torch.device(device)
        self.encoder = encoder.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.channels, self.size, self.classes = channels, size, classes
        self.resize = f"bilinear, antialiased, to {size[0]}x{size[1]}"
        # Identified by the weights: two machines may train encoders that differ in the last digits.
        total = [tensor.double().sum().item() for tensor in encoder.state_dict().values()]
        squares = [tensor.double().square().sum().item() for tensor in encoder.state_dict().values()]
        self.identity = digest("own", channels, size, classes, total, squares)

    def __call__(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            return self.encoder(self._prepared(images)).cpu()

    def probabilities(self, images: Tensor) -> Tensor:
        """Return class probabilities [N,K]. Raises ValueError if the reference had no labels."""
        if not self.classes:
            raise ValueError("These features were trained without labels and cannot classify: give a labeled reference.")
        with torch.no_grad():
            return self.encoder.predict(self._prepared(images)).softmax(1).cpu()

    def layers(self, images: Tensor) -> list[Tensor]:
        """Return activations [N,c,h,w] after each stage, for distances between pictures (see pairs.layer_distance)."""
        with torch.no_grad():
            return [layer.cpu() for layer in self.encoder.layers(self._prepared(images))]

    def _prepared(self, images: Tensor) -> Tensor:
        images = resized(with_channels(images, self.channels), self.size).to(self.device)
        return to_float(images).contiguous(memory_format=torch.channels_last)


def own_features(reference: ImageSet, cache: bool = True, device: str = "cpu", progress: Progress | None = None) -> OwnFeatures:
    """Return the encoder of a reference set: from the cache, or trained now (a few seconds to about a minute).

    It is cached by the content of the pictures and labels, as safetensors with a JSON beside it. Raises ValueError for fewer
    than 16 pictures.
    """
    if len(reference) < 16:
        raise ValueError(f"{len(reference)} reference pictures are too few to train features: give 16 or more, or choose pixels.")
    spec = reference.spec
    size = working_size(spec.height, spec.width)
    known = 0 if reference.labels is None else len(reference.labels.unique())
    classes = max(len(reference.classes), int(reference.labels.max()) + 1) if reference.labels is not None else 0
    classes = classes if known >= 2 else 0
    path = cache_folder() / "encoders" / f"{digest(RECIPE, reference.fingerprint, classes)}.safetensors"
    encoder = _load(path, spec.channels, size, classes) if cache else None
    if encoder is None:
        images = torch.cat([resized(part, size) for part in reference.images.split(1024)])
        if classes and reference.labels is not None:
            encoder = train_classifier(images, reference.labels, classes, progress=progress)
        else:
            encoder = train_contrastive(images, progress=progress)
        if cache:
            _save(path, encoder, reference, size, classes)
    return OwnFeatures(encoder, spec.channels, size, classes, device)


def _head(classes: int) -> nn.Module:
    return nn.Linear(WIDTH, classes) if classes else contrastive_head()


def _load(path: Path, channels: int, size: tuple[int, int], classes: int) -> Encoder | None:
    """Return the encoder cached at `path`; None if there is none or it is damaged."""
    try:
        encoder = Encoder(channels, size, _head(classes))
        encoder.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError):
        return None
    return encoder.eval().requires_grad_(False)


def _save(path: Path, encoder: Encoder, reference: ImageSet, size: tuple[int, int], classes: int) -> None:
    facts = {
        "recipe": RECIPE, "reference": reference.name, "fingerprint": reference.fingerprint, "n": len(reference),
        "size": size, "channels": reference.spec.channels, "classes": classes, "torch": torch.__version__,
        "learned": "classification" if classes else "instance discrimination",
    }
    try:
        with writing(path) as temporary:
            save_file({key: value.contiguous() for key, value in encoder.state_dict().items()}, temporary)
        write_whole(path.with_suffix(".json"), json.dumps(facts, indent=1) + "\n")
    except (ValueError, SafetensorError):  # a cache that cannot be written costs time, not the result
        pass
