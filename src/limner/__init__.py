"""Limner: turn a folder of pictures into an image generator, trained on the machine you have.

    import limner

    limner.train("photos/", size=64, minutes=10, out="runs/photos")
    model = limner.load("runs/photos")
    model.sample(16, seed=0).save("grid.png")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from limner.apps.autoencode import Autoencoder
    from limner.apps.classify import Classifier
    from limner.apps.compress import Codec
    from limner.apps.editing.latent import Latent
    from limner.apps.model import GeneratorModel
    from limner.apps.output import ImageArray
    from limner.apps.restore import Restorer
    from limner.apps.text import TextGenerator
    from limner.apps.translate import Translator
    from limner.core.condition import Condition
    from limner.core.images import ImageSpec
    from limner.core.options import group, option
    from limner.families import Family
    from limner.families.export import export
    from limner.families.load import load
    from limner.families.train import train
    from limner.losses.adversarial import Objective
    from limner.methods.phase import Batch, Clock, Method, Phase
    from limner.recipes.config import Training
    from limner.runs.experiment import Card, Experiment, Preset, Product, Trained, Validator
    from limner.training.state import OptimizerConfig

_HOMES = {  # imported at first use: PyTorch takes seconds
    "Autoencoder": "limner.apps.autoencode",
    "Batch": "limner.methods.phase",
    "Card": "limner.runs.experiment",
    "Classifier": "limner.apps.classify",
    "Clock": "limner.methods.phase",
    "Codec": "limner.apps.compress",
    "Condition": "limner.core.condition",
    "Experiment": "limner.runs.experiment",
    "Family": "limner.families",
    "GeneratorModel": "limner.apps.model",
    "ImageArray": "limner.apps.output",
    "ImageSpec": "limner.core.images",
    "Latent": "limner.apps.editing.latent",
    "Method": "limner.methods.phase",
    "Objective": "limner.losses.adversarial",
    "OptimizerConfig": "limner.training.state",
    "Phase": "limner.methods.phase",
    "Preset": "limner.runs.experiment",
    "Product": "limner.runs.experiment",
    "Restorer": "limner.apps.restore",
    "TextGenerator": "limner.apps.text",
    "Trained": "limner.runs.experiment",
    "Training": "limner.recipes.config",
    "Translator": "limner.apps.translate",
    "Validator": "limner.runs.experiment",
    "export": "limner.families.export",
    "group": "limner.core.options",
    "load": "limner.families.load",
    "option": "limner.core.options",
    "train": "limner.families.train",
}

__all__ = [
    "Autoencoder", "Batch", "Card", "Classifier", "Clock", "Codec", "Condition", "Experiment", "Family", "GeneratorModel", "ImageArray",
    "ImageSpec", "Latent", "Method", "Objective", "OptimizerConfig", "Phase", "Preset", "Product", "Restorer", "TextGenerator", "Trained", "Training", "Translator", "Validator",
    "__version__", "export", "group", "load", "option", "train",
]  # fmt: skip


def __dir__() -> list[str]:
    """List what most people need: the other names of `__all__` are for packages that extend Limner."""
    return sorted({"load", "train", *(name for name in globals() if name.startswith("__"))})


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'limner' has no attribute {name!r}")
