"""Parts that take pictures: translators, restorers, encoders, classifiers, autoencoders as a whole, the analysis of a codec."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from limner.apps.discriminator import last_input, load_discriminator
from limner.apps.encode import MAX_CLASSES, with_mask
from limner.apps.export.latent_parts import CODING
from limner.apps.export.part import COLUMNS, Axes, Draw, Part, picture_rows, random_pictures
from limner.apps.export.wrap import AnalysisGraph, ClassifierGraph, EncoderGraph, FillGraph, PictureGraph

PICTURE = "pixel_values"  # as transformers name it
MADE = "reconstruction"


def translator(direction: str) -> Any:
    """Return the function that makes the part of one direction: pixels -> pixels, of any size"""

    def make(model: Any) -> Part:
        network, channels = model.network(direction), model.spec.channels
        left = "`limner translate` keeps transparency and computes large pictures in tiles; the graph takes what fits in memory."
        return _any_size(direction, PictureGraph(network), model, channels, channels, int(network.least), left)

    return make


def restorer(model: Any) -> Part:
    """pixels, or pixels and mask -> pixels, of any size"""
    network, channels = model.network, model.spec.channels
    left = (
        "`limner restore` also keeps the mean color of mid-tones, transparency and 16-bit gray, and computes large pictures in tiles; "
        "the graph takes what fits in memory."
    )
    if model.fills_holes:
        return _any_size("restorer", FillGraph(network), model, channels, channels, int(network.least), left, mask=True)
    inputs = 1 if model.adds_color else channels
    return _any_size("restorer", PictureGraph(network), model, inputs, channels, int(network.least), left, scale=model.scale)


def _any_size(
    name: str, module: Any, model: Any, channels: int, made: int, least: int, left_out: str, mask: bool = False, scale: int = 1
) -> Part:
    """The part of a network that takes pictures of any size from `least` up."""
    inputs: dict[str, Axes] = {PICTURE: (COLUMNS[0], channels, *COLUMNS[2:])}
    if mask:
        inputs["mask"] = (COLUMNS[0], 1, *COLUMNS[2:])
    taller = ("batch", made, *(COLUMNS[2:] if scale == 1 else (f"{scale} * height", f"{scale} * width")))
    size = (max(least, model.spec.height), max(least, model.spec.width))
    sizes = ((least + 1 + size[0] // 2 * 2, least + size[1]), (max(16, least), max(21, least)))
    outputs: dict[str, Axes] = {MADE: taller}
    return Part(name, module, inputs, outputs, _pictures(channels, mask), size, sizes, picture_rows(size), left_out=(left_out,))


def _pictures(channels: int, mask: bool = False) -> Draw:
    def draw(n: int, seed: int, size: tuple[int, int]) -> tuple[Tensor, ...]:
        rng = np.random.default_rng(seed)
        pictures = random_pictures(rng, n, channels, size)
        return (pictures, (random_pictures(rng, n, 1, size) > 0.5).float()) if mask else (pictures,)

    return draw


def classifier(model: Any) -> Part:
    """pixels -> logits, calibrated, and features"""
    spec, network = model.spec, model.network
    inputs: dict[str, Axes] = {PICTURE: ("batch", spec.channels, *spec.size)}
    features = network.features(torch.zeros(1, spec.channels, *spec.size)).shape[1]
    outputs: dict[str, Axes] = {"logits": ("batch", spec.classes), "features": ("batch", features)}
    return Part("classifier", ClassifierGraph(network), inputs, outputs, _pictures(spec.channels), spec.size, rows=picture_rows(spec.size))


def autoencoder(model: Any) -> Part:
    """pixels -> their reconstruction"""
    spec = model.spec
    axes: Axes = ("batch", spec.channels, *spec.size)
    module, rows = PictureGraph(model.autoencoder), picture_rows(spec.size)
    return Part("autoencoder", module, {PICTURE: axes}, {MADE: axes}, _pictures(spec.channels), spec.size, rows=rows)


def encoder(model: Any) -> Part:
    """pixels -> what `limner encode` writes of them: features, latents or codes"""
    spec, kind, name = model.spec, str(model.description["kind"]), "features"
    channels, size, meaning = spec.channels, spec.size, None
    if kind == "generator":
        net = load_discriminator(model)
        k = 0 if model.description["recipe"].get("classifier") else spec.classes  # an AC-GAN's is not given the class
        every = np.unique(np.linspace(0, k - 1, min(k, MAX_CLASSES)).round().astype(int)).tolist() if k else []
        groups = _needed(net, every, channels, size)
        module = EncoderGraph(net, lambda net, x: _class_features(net, x, groups))
    elif kind == "autoencoder":
        module = EncoderGraph(model.autoencoder, lambda net, x: net.encode(x))
        name = "latents" if hasattr(model.autoencoder, "z_size") else "codes"
        meaning = None if name == "latents" else model.autoencoder.codebook.look_up  # several codes may stand for one vector
    elif kind == "translator":
        module = EncoderGraph(model.network(model.directions[0]), lambda net, x: net.bottleneck(x).float().mean((2, 3)))
    else:
        channels = min(channels, int(model.network.inputs))
        module = EncoderGraph(model.network, lambda net, x: last_input(net, with_mask(x, net.inputs)))
    with torch.no_grad():
        shape = module.eval()(torch.zeros(1, channels, *size)).shape[1:]
    inputs: dict[str, Axes] = {PICTURE: ("batch", channels, *size)}
    rows, outputs = picture_rows(size), {name: ("batch", *shape)}
    return Part("encoder", module, inputs, outputs, _pictures(channels), size, rows=rows, meaning=meaning)


def _class_features(net: Any, x: Tensor, groups: list[int]) -> Tensor:
    """The discriminator's features [N,F], averaged over classes."""
    if not groups:
        return last_input(net, x)
    zero = torch.zeros_like(x[:, 0, 0, 0], dtype=torch.long)
    rows = [last_input(net, x, zero + group) for group in groups]
    return rows[0] if len(rows) == 1 else torch.stack(rows).mean(0)


def _needed(net: Any, groups: list[int], channels: int, size: tuple[int, int]) -> list[int]:
    """One class if the features do not depend on it, else all."""
    with torch.no_grad():
        x = random_pictures(np.random.default_rng(0), 2, channels, size) * 2 - 1
        same = len(groups) > 1 and torch.equal(_class_features(net, x, groups[:1]), _class_features(net, x, groups[-1:]))
    return groups[:1] if same else groups


def analysis(model: Any) -> Part:
    """(pixels, quality) -> latents before rounding: the first step of a codec's encoder; sides are multiples of 64"""
    network, channels = model.network, model.spec.channels

    def draw(n: int, seed: int, size: tuple[int, int]) -> tuple[Tensor, ...]:
        rng = np.random.default_rng(seed)
        quality = torch.from_numpy(rng.random(n, np.float32) * (network.qualities - 1))
        return random_pictures(rng, n, channels, size), quality

    inputs: dict[str, Axes] = {PICTURE: (COLUMNS[0], channels, *COLUMNS[2:]), "quality": ("batch",)}
    outputs: dict[str, Axes] = {"latents": ("batch", network.latent_channels, "rows", "columns")}
    size, sizes = (128, 64), ((64, 64), (64, 192))
    return Part("encoder", AnalysisGraph(network), inputs, outputs, draw, size, sizes, picture_rows(size), left_out=(CODING,))
