"""Loading of a run folder as the object that uses it: a generator, an autoencoder, a translator, a restorer, or a package's own kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from limner.core import artifact, device
from limner.core.images import ImageSpec
from limner.families import families


def load(folder: str | Path, device_name: str = "auto") -> Any:
    """Load the trained model of a run folder. No code of the folder is run.

    Parameters
    ----------
    folder
        A run folder that `limner train` wrote, or its `best/`.
    device_name
        auto, cpu, cuda or mps.

    Returns
    -------
    GeneratorModel, TextGenerator, Autoencoder, Translator, Restorer, Codec, Classifier, or the object of an installed package's family
        By the kind that the folder names.

    Raises
    ------
    ValueError
        When the folder is no complete model, or of a kind that no installed package loads.

    Examples
    --------
    After the example of `limner.train`:

    >>> import limner
    >>> model = limner.load("runs/noise", "cpu")
    >>> type(model).__name__, str(model.spec), model.description["recipe"]["name"]
    ('GeneratorModel', '16x16 gray', 'dcgan')
    >>> limner.load("runs/nothing")
    Traceback (most recent call last):
        ...
    ValueError: There is no folder runs/nothing: give the folder that `limner train` wrote.
    """
    folder = Path(folder)
    description = artifact.read_description(folder)
    family = families().get(description["kind"])
    if family is None:
        raise ValueError(
            f"{folder} holds a {description['kind']}, which this Limner cannot load: install the package that trained it "
            f"(known kinds: {', '.join(families())})."
        )
    spec = ImageSpec.from_json(description["data"]["spec"])
    network = family.rebuild(spec, description["network"])
    chosen = device.select_device(device_name)
    artifact.load_weights(folder, description["network"]["name"], network, chosen)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return family.model(network, spec, description, chosen, folder)


def load_kind(folder: Path, device_name: str, kind: type, verb: str) -> Any:
    """Load the model of a run folder, for a command that needs the class `kind`. Raises ValueError for another kind."""
    model = load(folder, device_name)
    if not isinstance(model, kind):
        trained = model.description["kind"]
        usage = families()[trained].usage.format(run=folder)
        raise ValueError(f"{folder} holds a trained {trained}, which `limner {verb}` cannot use: its command is `{usage}`.")
    return model
