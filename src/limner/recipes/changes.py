"""Changes of a recipe's options, by dotted names, with validation."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from limner.core.options import check, check_needs, replace
from limner.networks import architecture

NETWORKS = {"generator": "GeneratorConfig", "discriminator": "DiscriminatorConfig"}  # option -> its class in an architecture


def changed(recipe: Any, changes: Mapping[str, Any]) -> Any:
    """Return a recipe with some values replaced; dots address nested ones (`generator.width`).

    Raises ValueError for an unknown name, an invalid value, and a change without an effect.
    """
    if "architecture" in changes:  # first, since it determines the options of the networks
        recipe = _of_architecture(recipe, changes["architecture"])
    recipe = replace(recipe, changes)
    check(recipe)
    check_needs(recipe, changes)
    return recipe


def _of_architecture(recipe: Any, name: str) -> Any:
    """Return a recipe with the networks of an architecture: its present configs if they belong to it, otherwise the defaults."""
    recipe = replace(recipe, {"architecture": name})
    home = architecture(name)
    classes = {option: getattr(home, config_class) for option, config_class in NETWORKS.items()}
    others = {option: cls() for option, cls in classes.items() if not isinstance(getattr(recipe, option), cls)}
    return dataclasses.replace(recipe, **others)
