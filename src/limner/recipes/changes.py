"""Changes that a person makes to a recipe: replaced by dotted names, then checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from limner.core.options import check, check_needs, replace
from limner.networks import architecture

NETWORKS = {"generator": "GeneratorConfig", "discriminator": "DiscriminatorConfig"}  # option -> its class in an architecture


def changed(recipe: Any, changes: Mapping[str, Any]) -> Any:
    """A recipe with some values replaced; dots reach into nested ones (`generator.width`).

    Raises ValueError for a name that the recipe does not have, a value that its option does not take, and a change that
    has no effect.
    """
    if "architecture" in changes:  # before the options of its networks, which may be others
        recipe = _of_architecture(recipe, changes["architecture"])
    recipe = replace(recipe, changes)
    check(recipe)
    check_needs(recipe, changes)
    return recipe


def _of_architecture(recipe: Any, name: str) -> Any:
    """A recipe with the networks of an architecture: its own configs, or the defaults of the architecture."""
    recipe = replace(recipe, {"architecture": name})
    home = architecture(name)
    classes = {option: getattr(home, config_class) for option, config_class in NETWORKS.items()}
    others = {option: cls() for option, cls in classes.items() if not isinstance(getattr(recipe, option), cls)}
    return dataclasses.replace(recipe, **others)
