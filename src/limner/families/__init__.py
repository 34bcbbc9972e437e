"""The kinds of products: a registry of families, which packages extend by the entry point `limner.families`.

A family defines how its data is loaded, how an experiment is built, how a trained folder is loaded and which command uses it;
this is the only place that lists the kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from torch import nn

from limner.apps.autoencode import Autoencoder
from limner.apps.classify import Classifier
from limner.apps.compress import Codec
from limner.apps.model import GeneratorModel
from limner.apps.restore import Restorer
from limner.apps.text import TextGenerator
from limner.apps.translate import Translator
from limner.core.images import ImageSpec
from limner.core.plugins import entries
from limner.networks import (
    rebuild_autoencoder,
    rebuild_classifier,
    rebuild_codec,
    rebuild_generator,
    rebuild_restorer,
    rebuild_text_generator,
    rebuild_translators,
)
from limner.recipes import classify, codec, generators, restore, text2image, translate, vae
from limner.runs.experiment import Experiment, Preset


@dataclass(frozen=True, kw_only=True)
class Family:
    """One kind of product.

    kind: its name in `limner.json`. recipes: the dataclasses of its configurations. presets: recipes by name.
    load_data: (recipe, `data.request.DataRequest`, progress) -> a data set (`runs.experiment.TrainingSet`).
    build: (name, recipe, data, options, machine) -> the experiment.
    rebuild: (spec, network description of `limner.json`) -> the published network, on the meta device.
    model: (network, spec, description, device, folder) -> the object that `limner.load` returns.
    usage: the command suggested after a run, with {run} for its folder and capitals for arguments to fill in.
    """

    kind: str
    recipes: tuple[type, ...]
    presets: Mapping[str, Preset]
    load_data: Callable[..., Any]
    build: Callable[..., Experiment]
    rebuild: Callable[[ImageSpec, Mapping[str, Any]], nn.Module]
    model: Callable[..., Any]
    usage: str


BUILT_IN = (
    Family(
        kind="generator",
        recipes=generators.RECIPES,
        presets=generators.PRESETS,
        load_data=generators.load_data,
        build=generators.build,
        rebuild=rebuild_generator,
        model=GeneratorModel,
        usage="limner sample {run}",
    ),
    Family(
        kind="text-to-image generator",
        recipes=text2image.RECIPES,
        presets=text2image.PRESETS,
        load_data=text2image.load_data,
        build=text2image.build,
        rebuild=rebuild_text_generator,
        model=TextGenerator,
        usage="limner sample {run} --text TEXT",
    ),
    Family(
        kind="autoencoder",
        recipes=vae.RECIPES,
        presets=vae.PRESETS,
        load_data=vae.load_data,
        build=vae.build,
        rebuild=rebuild_autoencoder,
        model=Autoencoder,
        usage="limner reconstruct {run} PICTURES",
    ),
    Family(
        kind="translator",
        recipes=translate.RECIPES,
        presets=translate.PRESETS,
        load_data=translate.load_data,
        build=translate.build,
        rebuild=rebuild_translators,
        model=Translator,
        usage="limner translate {run} PICTURES OUT",
    ),
    Family(
        kind="restorer",
        recipes=restore.RECIPES,
        presets=restore.PRESETS,
        load_data=restore.load_data,
        build=restore.build,
        rebuild=rebuild_restorer,
        model=Restorer,
        usage="limner restore {run} PICTURES OUT",
    ),
    Family(
        kind="codec",
        recipes=codec.RECIPES,
        presets=codec.PRESETS,
        load_data=codec.load_data,
        build=codec.build,
        rebuild=rebuild_codec,
        model=Codec,
        usage="limner compress {run} PICTURES OUT",
    ),
    Family(
        kind="classifier",
        recipes=classify.RECIPES,
        presets=classify.PRESETS,
        load_data=classify.load_data,
        build=classify.build,
        rebuild=rebuild_classifier,
        model=Classifier,
        usage="limner classify {run} PICTURES",
    ),
)


@cache
def families() -> Mapping[str, Family]:
    """Return all families by kind: the built-in ones, then those of installed packages.

    Raises ValueError for an entry point that cannot be loaded, and for a kind or preset name that exists already.
    """
    found: dict[str, Family] = {}
    for family in (*BUILT_IN, *(entry.load(Family) for entry in entries("limner.families"))):
        taken = {name for other in found.values() for name in other.presets}
        if family.kind in found or taken & family.presets.keys():
            name = family.kind if family.kind in found else sorted(taken & family.presets.keys())[0]
            raise ValueError(f"An installed package adds {name!r}, which Limner has already: uninstall that package.")
        found[family.kind] = family
    return found


def presets() -> dict[str, Preset]:
    """Return the presets of all families by name."""
    return {name: preset for family in families().values() for name, preset in family.presets.items()}


def family_of(recipe: Any) -> Family:
    """Return the family of a recipe's dataclass. Raises ValueError for anything else."""
    for family in families().values():
        if isinstance(recipe, family.recipes):
            return family
    raise ValueError(f"{recipe!r} is not a recipe: give the name of one, or an instance of its dataclass.")
