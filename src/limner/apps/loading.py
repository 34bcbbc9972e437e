"""From a run folder to the thing in the hand: a generator, an autoencoder or a translator, by what the folder says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from limner.apps.autoencode import Autoencoder
from limner.apps.model import Model
from limner.apps.translate import Translator
from limner.core import artifact, device
from limner.core.images import ImageSpec
from limner.networks import rebuild_autoencoder, rebuild_generator, rebuild_translators

KINDS: dict[str, Any] = {  # kind -> (its network from spec and description, what it is in the hand)
    "generator": (rebuild_generator, Model),
    "autoencoder": (rebuild_autoencoder, Autoencoder),
    "translator": (rebuild_translators, Translator),
}


def load(folder: str | Path, device_name: str = "auto") -> Any:
    """The model of a run folder. Runs no code of the folder; raises ValueError when it is not a whole model.

    A generator samples; an autoencoder also encodes and reconstructs; a translator translates.
    """
    folder = Path(folder)
    description = artifact.read_description(folder)
    if description["kind"] not in KINDS:
        raise ValueError(f"{folder / artifact.CARD} is damaged: 'kind' must be {' or '.join(KINDS)}.")
    rebuild, thing = KINDS[description["kind"]]
    shape = description["data"]["spec"]
    spec = ImageSpec.from_json(shape)
    name = description["network"]["name"]
    network = rebuild(spec, description["network"])
    chosen = device.select_device(device_name)
    device.configure_runtime()
    artifact.load_weights(folder, name, network, chosen)
    network.to(memory_format=torch.channels_last)
    return thing(network, spec, description, chosen, folder)


def load_kind(folder: Path, device_name: str, kind: type, verb: str) -> Any:
    """As `load`, for a verb that needs a certain kind. Raises ValueError when the folder holds another."""
    model = load(folder, device_name)
    if not isinstance(model, kind):
        raise ValueError(f"{folder} holds a trained {model.description['kind']}, which `limner {verb}` cannot use.")
    return model
