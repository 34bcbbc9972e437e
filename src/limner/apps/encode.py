"""`limner encode`: pictures as numbers, by any trained network, for a linear probe, a search or a clustering.

    generator     the input of its discriminator's last layer [F]: the discriminator is in the run's checkpoint
    autoencoder   latents [Z], or codes [h,w]
    translator    the map of the lowest resolution, averaged over its positions [F]
    classifier    the input of its last layer [F]
    restorer      the input of its last layer, averaged over its positions [F]
    codec         mean and mean absolute value of each channel of the latents y, before rounding [2M]

Radford et al. 2016, "Unsupervised representation learning with DCGANs", section 5.1, classify by discriminator features.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.apps.autoencode import report_skipped
from limner.apps.discriminator import last_input, load_discriminator
from limner.apps.sample import destination
from limner.core import artifact, device
from limner.core.device import autocast
from limner.core.files import write_whole
from limner.core.images import to_float
from limner.data import Dataset, open_source, prepare
from limner.data.layout import SPLITS

CHUNK = 64           # pictures per forward pass
MAX_CLASSES = 16     # that features of a class-dependent discriminator are averaged over
Progress = Callable[[int, int], None]  # (done, total)


@dataclass(frozen=True)
class Encoder:
    """What a trained network computes of pictures."""

    work: Callable[[Tensor], Tensor]  # float [N,C,H,W] in [-1,1] -> [N,...]
    channels: int                     # C
    key: str = "features"             # its name in the .npz


def encoder_of(model: Any) -> Encoder:
    """Return the encoder of a trained model. Raises ValueError for a kind that has none."""
    kind, channels = str(model.description["kind"]), int(model.spec.channels)
    if kind == "generator":
        return Encoder(discriminator_features(model), channels)
    if kind == "autoencoder":
        return Encoder(model.autoencoder.encode, channels, "latents")
    if kind == "translator":
        network: Any = model.networks[model.directions[0]]
        return Encoder(lambda x: network.bottleneck(x).float().mean((2, 3)), channels)
    if kind == "classifier":
        return Encoder(model.network.features, channels)
    if kind == "restorer":
        return Encoder(lambda x: last_input(model.network, with_mask(x, model.network.inputs)), min(channels, model.network.inputs))
    if kind == "codec":
        return Encoder(lambda x: codec_latents(model.network, x), channels)
    raise ValueError(f"{model.folder} holds a {kind}, for which Limner computes no features: use a run of another kind, or its own package.")


def discriminator_of(model: Any) -> tuple[nn.Module, list[int]]:
    """Return the discriminator of a generator's run, and the classes that its features are averaged over (none without classes).

    Raises ValueError when the run has no checkpoint.
    """
    spec = model.spec
    if spec.condition.kind not in ("none", "classes"):
        raise ValueError(f"{model.folder} is conditioned on {spec.condition}, which pictures alone do not give: it has no features of them.")
    net = load_discriminator(model)
    k = 0 if model.description["recipe"].get("classifier") else spec.classes  # an AC-GAN's predicts the class and is not given it
    return net, np.unique(np.linspace(0, k - 1, min(k, MAX_CLASSES)).round().astype(int)).tolist() if k else []


def discriminator_features(model: Any) -> Callable[[Tensor], Tensor]:
    """Return a function from pictures to the input of the last layer of a generator's discriminator, [N,C,H,W] -> [N,F].

    Where these features depend on the class that the discriminator is given, they are averaged over the classes (at most
    MAX_CLASSES, evenly chosen), since the class of a picture is often unknown. Raises ValueError when the run
    has no checkpoint.
    """
    net, groups = discriminator_of(model)

    def features(x: Tensor) -> Tensor:
        if not groups:
            return last_input(net, x)
        given = [torch.full((len(x),), group, dtype=torch.long, device=x.device) for group in groups]
        first = last_input(net, x, given[0])
        if len(given) == 1 or torch.equal(first, last_input(net, x, given[-1])):  # a projection comes after the features
            return first
        return torch.stack([first, *(last_input(net, x, c) for c in given[1:])]).mean(0)

    return features


def with_mask(x: Tensor, inputs: int) -> Tensor:
    """Return x with an empty mask as its last channel where the network takes one."""
    return torch.cat([x, torch.zeros_like(x[:, :1])], 1) if inputs > x.shape[1] else x


def codec_latents(network: Any, x: Tensor) -> Tensor:
    """Return mean and mean absolute value of each channel of a codec's latents at its middle quality, [N,2M]."""
    h, w = x.shape[-2:]
    x = F.pad(x, (0, -w % network.multiple, 0, -h % network.multiple), mode="replicate")
    y = network.analysis(x, torch.full((len(x),), (network.qualities - 1) / 2, device=x.device)).float()
    return torch.cat([y.mean((2, 3)), y.abs().mean((2, 3))], 1)


@torch.no_grad()
def encoded(encoder: Encoder, pictures: Tensor, where: torch.device, progress: Progress | None = None) -> np.ndarray:
    """Return what the encoder computes of pictures uint8 [N,C,H,W], in chunks: [N,...]."""
    parts = []
    for start in range(0, max(1, len(pictures)), CHUNK):  # an empty array is passed too, for the shape of the result
        x = to_float(pictures[start : start + CHUNK].to(where)).contiguous(memory_format=torch.channels_last)
        with autocast(where, device.precision(where)):
            made = encoder.work(x)
        parts.append((made.float() if made.is_floating_point() else made).cpu().numpy())
        if progress:
            progress(min(start + CHUNK, len(pictures)), len(pictures))
    return np.concatenate(parts)


def labeled_pictures(model: Any, channels: int, data: str, labels: Path | None) -> Dataset:
    """Return all pictures of a data set, prepared as in the training, with the classes of those that have one."""
    source = open_source(data, labels=labels or True, splits=False, partial=True)
    if source.classes and {name.lower() for name in source.classes} <= SPLITS.keys():  # folders of splits are no classes
        source = replace(source, classes=(), labels=None)
    return prepare(source, size=model.spec.size, channels=str(channels), **artifact.preparation(model.description))


def encode(model: Any, data: str, out: Path | None = None, labels: Path | None = None, say: Callable[[str], None] = print,
           progress: Progress | None = None) -> str:  # fmt: skip
    """Write an .npz of all pictures: `features` [N,...] (`latents` of an autoencoder), `names` [N], and where pictures have
    classes `labels` int64 [N] (-1 for none) and `classes`. Returns a sentence.

    out: None writes features.npz or latents.npz in the run folder.
    """
    kind = "latents" if model.description["kind"] == "autoencoder" else "features"
    out = destination(model.folder, out, f"{kind}.npz")
    if out.suffix.lower() != ".npz":
        raise ValueError(f"{kind.capitalize()} are written to an .npz file, not to {out.name!r}.")
    encoder = encoder_of(model)
    found = labeled_pictures(model, encoder.channels, data, labels)
    skipped = report_skipped(found, say)
    rows = encoded(encoder, found.images, model._device, progress)  # a large set stays memory-mapped
    content = {encoder.key: rows, "names": np.array(found.names)}
    if found.labels is not None:
        content |= {"labels": found.labels.numpy(), "classes": np.array(found.classes)}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **content)  # type: ignore[arg-type]
    write_whole(out, buffer.getvalue())
    return f"{len(rows):,} {kind} of {'x'.join(map(str, rows.shape[1:]))} numbers are in {out}{skipped}."
