"""Edit pictures of a generator: move them along directions, mix two of them layer by layer, and go from one to the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from limner.apps.editing.codes import Codes, codes_of, drawn, latents_of
from limner.apps.editing.directions import Directions
from limner.apps.editing.latent import ENDING, Latent, check
from limner.networks.biggan import Generator as BigGAN

Move = tuple[str, float]  # name of a direction, and by how much


def by_seed(model: Any, seed: int = 0, label: str | int | None = None) -> Latent:
    """Return the latent of the picture that `model.sample(1, seed=seed, label=label)` gives. Raises ValueError as it does."""
    for_labels, for_latents = np.random.default_rng(seed).spawn(2)
    labels = model.labels(1, label, for_labels)
    code = model.latents(1, for_latents, labels)
    return latents_of(model, Codes(code, labels))[0]


def opened(model: Any, given: str | Path) -> Latent:
    """Return the latent of a `.latent.npz`, or of a picture that is inverted first. Raises ValueError for another model's."""
    path = Path(given)
    if path.name.endswith(ENDING):
        try:
            latent = Latent.load(path)
        except FileNotFoundError as error:
            raise ValueError(f"There is no file {path}: make a latent of a picture with `limner invert {model.folder} PICTURE --out {path.name}`.") from error
        check(model, [latent])
        return latent
    if not path.exists():
        raise ValueError(f"There is no file {path}: give a {ENDING} that `limner invert` or `limner edit` wrote, or a picture.")
    return inverted(model, path)


def inverted(model: Any, path: Path) -> Latent:
    """Return the latent of a picture file (`apps.editing.invert`)."""
    raise ValueError(f"{path} is no latent: invert the picture first with `limner invert {model.folder} {path} --out {path.stem}{ENDING}`.")


def edit(model: Any, latent: Latent, moves: Sequence[Move], directions: Directions | None = None, *,
         layers: Sequence[int] | None = None, keep: bool = True) -> Latent:  # fmt: skip
    """Move a latent along directions.

    Parameters
    ----------
    model
        A `limner.GeneratorModel`.
    latent
        A latent of the model: inverted, from `by_seed`, or edited before.
    moves
        Names of directions and by how much each: standard deviations of the latents, or for a class 1 to reach it.
    directions
        From `find`; None loads those beside the run.
    layers
        Layers of a style-based network that are moved; None moves all.
    keep
        Let the latent follow a change of class, so that the picture keeps its look within its class.

    Returns
    -------
    Latent
        Of the edited picture, with the tuned copy of the original.

    Raises
    ------
    ValueError
        For an unknown name, for a latent of another model, and when there are no directions yet.
    """
    directions = directions or Directions.load(model)
    if directions is None:
        raise ValueError(f"{model.folder} has no directions yet: find them with `limner directions {model.folder}`.")
    check_layers(model, layers)
    codes = codes_of(model, [latent])
    for name, by in moves:
        if not np.isfinite(by):
            raise ValueError(f"A direction is moved by a number, not by {by}.")
        codes = directions.moved(model, codes, name, by, layers, keep)
    return latents_of(model, codes, [latent])[0]


def check_layers(model: Any, layers: Sequence[int] | None) -> int:
    """Return the number of layers that take a latent of their own. Raises ValueError for layers that the network lacks."""
    count = layer_count(model)
    if layers is not None and (not layers or min(layers) < 0 or max(layers) >= count):
        if count == 1:
            raise ValueError(
                f"The generator in {model.folder} reads its latent in one layer, so that layers cannot be chosen: leave --layers out, or "
                "train `--recipe stylegan2` or `--recipe biggan`."
            )
        raise ValueError(f"This generator has layers 0 to {count - 1}: choose among them, such as --layers 0-{count // 2 - 1}.")
    return count


def layer_count(model: Any) -> int:
    """Return the number of layers that take a latent of their own: styles of StyleGAN2, chunks of BigGAN, 1 for others."""
    network = model.network
    if isinstance(network, BigGAN):
        return len(network.chunks)
    code = drawn(model, 1, 0).code
    return int(code.shape[1]) if code.ndim == 3 else 1


def mix(model: Any, a: Latent, b: Latent, layers: Sequence[int]) -> Latent:
    """Return a latent with the given layers of b and all others of a.

    Style mixing: Karras et al. 2019, "A style-based generator architecture", section 3.1; the layers of BigGAN are the chunks of
    its latent. Early layers decide shape and pose, late ones color and texture. The class is that of a (styles contain theirs).
    Raises ValueError for a network whose latent is read in one layer, and for layers that it lacks.
    """
    if check_layers(model, layers) == 1:
        check_layers(model, [1])  # raises: there is nothing to choose
    codes = codes_of(model, [a, b])
    code = codes.code[0].copy()
    if code.ndim == 2:
        code[list(layers)] = codes.code[1][list(layers)]
    else:
        bounds = np.cumsum([0, *model.network.chunks])
        for i in layers:
            code[bounds[i] : bounds[i + 1]] = codes.code[1][bounds[i] : bounds[i + 1]]
    made = latents_of(model, Codes(code[None], None if codes.c is None else codes.c[:1]), [a])[0]
    return replace(made, delta=a.delta, delta_sha256=a.delta_sha256)


def parse_layers(text: str | None) -> list[int] | None:
    """Return the layers of a text such as 0-3 or 0,2,5-7; None for none. Raises ValueError for another text."""
    if text is None:
        return None
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()) or (dash and int(last) < int(first)) or int(last or first) > 999:
            raise ValueError(f"--layers are numbers and ranges such as 0-3 or 0,2,5-7, not {text!r}.")
        found |= set(range(int(first), int(last or first) + 1))
    return sorted(found)
