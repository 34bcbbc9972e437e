"""Dream: change a picture until a unit of a trained network answers as strongly as it can.

Mordvintsev et al. 2015, "Inceptionism: going deeper into neural networks": gradient ascent on the pixels, from coarse to fine
(octaves), with random shifts. The gradient is divided by its mean magnitude, and smoothed where it is coarse, so that one step
size serves all layers (their code's normalization; Olah et al. 2017, "Feature visualization", on why smooth updates look
natural). The network is the discriminator of a generator's run, a classifier, or the encoder of another run, so that a dream
shows what that network has learned to see in one's own pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from limner.apps.discriminator import load_discriminator
from limner.apps.encode import with_mask
from limner.apps.output import SHEETS, Progress, write_sheet
from limner.apps.pictures_out import open_file
from limner.apps.sample import destination
from limner.core import artifact
from limner.core.images import to_float, to_uint8
from limner.data.image import decode_image, parse_color, upright

OCTAVES, STEPS, RATE = 3, 20, 0.01
RATIO = 1.4          # between the sizes of two octaves
SHIFT = 8            # pixels at most, at random before each step
MAX_SIDE = 1024      # pixels, to which larger photographs are reduced
CELLS = 6            # along each side: larger patterns than a cell do not grow
START = 16.0         # gray levels, the standard deviation of the noise that a dream without a picture starts from


@dataclass(frozen=True)
class Seer:
    """A network that looks at pictures. work: x [1,C,H,W] in [-1,1] -> anything. size: of the training's pictures."""

    network: nn.Module
    work: Callable[[Tensor], Any]
    channels: int
    size: tuple[int, int]


class _Reached(Exception):
    """The layer has answered: what comes after it, which may need the training's size, need not run."""


def seer_of(model: Any) -> Seer:
    """Return the network of a run that looks at pictures. Raises ValueError for a kind that has none, or without a checkpoint."""
    kind, channels, size = str(model.description["kind"]), int(model.spec.channels), model.spec.size
    if kind == "generator":
        net = load_discriminator(model)
        told = model.spec.classes and not model.description["recipe"].get("classifier")  # an AC-GAN's is not given the class
        label = torch.zeros(1, dtype=torch.long, device=model._device) if told else None  # maps come before it is used
        return Seer(net, lambda x: net(x, label), channels, size)
    if kind == "classifier":
        return Seer(model.network, model.network, channels, size)
    if kind == "autoencoder":
        return Seer(model.autoencoder, model.autoencoder.encode, channels, size)
    if kind == "translator":
        network: Any = model.networks[model.directions[0]]
        return Seer(network, network, channels, size)
    if kind == "restorer":
        network = model.network
        return Seer(network, lambda x: network(with_mask(x, network.inputs)), min(channels, network.inputs), size)
    raise ValueError(f"{model.folder} holds a {kind}, which has no network to dream with: give a generator, classifier, autoencoder, translator or restorer.")


@torch.no_grad()
def layers_of(seer: Seer) -> dict[str, tuple[int, int, int]]:
    """Return the layers that give a map, with its (channels, height, width) for a picture of the training's size, in order."""
    found: dict[str, tuple[int, int, int]] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, out: Any) -> None:
            if isinstance(out, Tensor) and out.ndim == 4 and out.shape[1] > 1:
                found.setdefault(name, (out.shape[1], out.shape[2], out.shape[3]))

        return hook

    handles = [m.register_forward_hook(note(name)) for name, m in seer.network.named_modules() if name and not list(m.children())]
    try:
        seer.work(torch.zeros(1, seer.channels, *seer.size, device=next(seer.network.parameters()).device))
    finally:
        for handle in handles:
            handle.remove()
    if not found:
        raise ValueError("This network has no layer that gives a map of features, so that it cannot dream.")
    return found


def chosen_layer(seer: Seer, layer: str | None, unit: int | None) -> str:
    """Return the name of a layer: that of the given name or number, or one in the middle. Raises ValueError for unknown ones."""
    known = layers_of(seer)
    names = list(known)
    listed = ", ".join(f"{i} = {name} ({known[name][0]} units)" for i, name in enumerate(names))
    if layer is None:
        name = names[len(names) // 2]
    elif layer in known:
        name = layer
    elif layer.isdigit() and int(layer) < len(names):
        name = names[int(layer)]
    else:
        raise ValueError(f"There is no layer {layer!r}: choose one of {listed}.")
    if unit is not None and not 0 <= unit < known[name][0]:
        raise ValueError(f"Layer {name} has units 0 to {known[name][0] - 1}, not {unit}.")
    return name


def dream(model: Any, picture: np.ndarray | None = None, layer: str | None = None, unit: int | None = None, *, octaves: int = OCTAVES,
          steps: int = STEPS, rate: float = RATE, seed: int = 0, progress: Progress | None = None) -> np.ndarray:  # fmt: skip
    """Change a picture so that a layer, or one unit of it, answers strongly.

    Parameters
    ----------
    model
        What `limner.load` returns: a generator (whose discriminator dreams), classifier, autoencoder, translator or restorer.
    picture
        uint8 [C,H,W]; None starts from gray noise of the size of the training's pictures.
    layer
        Name or number of a layer (`layers_of`); None takes one in the middle.
    unit
        A channel of the layer, whose mean activation grows; None lets the variance of all over the picture grow.
    octaves
        Sizes that the picture is dreamed at, from the smallest to its own, 1.4 times as large each.
    steps
        Steps of gradient ascent at each size.
    rate
        Mean change of a pixel in one step, of the range [-1,1].
    seed
        Random seed of the shifts and the noise.

    Returns
    -------
    numpy.ndarray
        uint8 [C,H,W], of the picture's size.

    Raises
    ------
    ValueError
        For an unknown layer or unit, numbers out of range, and a run without a network to dream with.
    """
    if not 1 <= octaves <= 10 or not 1 <= steps <= 10_000 or not 0 < rate <= 1:
        raise ValueError("A dream has 1 to 10 octaves, 1 to 10,000 steps and a rate above 0 and at most 1.")
    seer = seer_of(model)
    name = chosen_layer(seer, layer, unit)
    random = torch.Generator().manual_seed(seed)
    if picture is None:
        noise = 127.5 + START * torch.randn(seer.channels, *seer.size, generator=random)
        noise[3:] = 255
        picture = noise.round().clamp(0, 255).to(torch.uint8).numpy()
    whole = to_float(torch.from_numpy(np.ascontiguousarray(picture))[None])  # [1,C,H,W]
    sizes = [(max(16, round(whole.shape[2] / RATIO**i)), max(16, round(whole.shape[3] / RATIO**i))) for i in range(octaves)][::-1]
    detail = torch.zeros_like(_resized(whole, sizes[0]))
    for k, size in enumerate(sizes):
        base, detail = _resized(whole, size), _resized(detail, size)
        for step in range(steps):
            detail = _ascent(seer, name, unit, base, detail, rate, random)
            if progress:
                progress(k * steps + step + 1, octaves * steps)
    return to_uint8(_resized(whole, sizes[-1]) + detail)[0].numpy()


def _ascent(seer: Seer, name: str, unit: int | None, base: Tensor, detail: Tensor, rate: float, random: torch.Generator) -> Tensor:
    """Return the detail after one step: what is added to the base [1,C,h,w]."""
    shift = [int(s) for s in torch.randint(-SHIFT, SHIFT + 1, (2,), generator=random)]
    x = (base + detail).roll(shift, (2, 3)).requires_grad_()
    where = next(seer.network.parameters()).device
    found: list[Tensor] = []

    def reached(_: nn.Module, __: Any, out: Tensor) -> None:
        found.append(out)
        raise _Reached

    handle = seer.network.get_submodule(name).register_forward_hook(reached)
    try:
        with suppress(_Reached):
            seer.work(x.to(where))
    finally:
        handle.remove()
    features = found[0].float()
    if unit is None:  # the log of each unit's variance over positions: no unit outweighs the others, nor grows by one color
        answer = (features.var((2, 3)) + 1e-4 * features.square().mean().detach()).log().mean()
    else:
        answer = features[:, unit].mean()
    (gradient,) = torch.autograd.grad(answer, x)
    gradient = gradient.roll([-s for s in shift], (2, 3))
    coarse = F.adaptive_avg_pool2d(gradient, CELLS)
    gradient = gradient - _resized(coarse, (gradient.shape[2], gradient.shape[3]))  # patterns grow, not patches of one color
    gradient[:, 3:] = 0  # so does its transparency
    smooth = sum(F.avg_pool2d(F.pad(gradient, [r] * 4, mode="replicate"), 2 * r + 1, 1) for r in (0, 1, 2))
    assert isinstance(smooth, Tensor)
    made = detail + rate * smooth / smooth.abs().mean().clamp_min(1e-12)
    return (base + made).clamp(-1, 1) - base


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return F.interpolate(x, size, mode="bilinear", antialias=True, align_corners=False)


def prepared(model: Any, image: Image.Image) -> np.ndarray:
    """Return a photograph as uint8 [C,H,W] at its own size, at most MAX_SIDE a side, in the channels of the run."""
    image = upright(image)
    scale = min(1.0, MAX_SIDE / max(image.size))
    size = max(16, round(image.height * scale)), max(16, round(image.width * scale))
    how = artifact.preparation(model.description)
    array, _ = decode_image(image, size, seer_of(model).channels, "stretch", parse_color(how["background"]))
    return np.ascontiguousarray(array.transpose(2, 0, 1))


def dream_to(model: Any, photo: Path | None, out: Path | None, layer: str | None, unit: int | None, octaves: int, steps: int, rate: float,
             seed: int, progress: Progress | None = None) -> str:  # fmt: skip
    """Write a dream of a photograph, or of noise. Returns a sentence. out: a .png, .jpg or .webp; None writes dream.png in the run."""
    out = destination(model.folder, out, "dream.png")
    if out.suffix.lower() not in SHEETS:
        raise ValueError(f"A dream is a picture (.png, .jpg, .webp), not {out.name!r}.")
    seer = seer_of(model)
    name = chosen_layer(seer, layer, unit)
    start = None if photo is None else prepared(model, open_file(photo))
    made = dream(model, start, name, unit, octaves=octaves, steps=steps, rate=rate, seed=seed, progress=progress)
    write_sheet(out, made)
    what = f"all units of layer {name}" if unit is None else f"unit {unit} of layer {name}"
    return f"The dream of {what} is in {out}."
