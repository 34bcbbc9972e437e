"""The recipe of a run, with its options, as the defaults of a run that starts from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from limner.core import artifact
from limner.core.images import ImageSpec
from limner.core.options import values_of
from limner.data.request import DataRequest
from limner.families import presets
from limner.recipes.changes import changed


def with_parent(folder: Path, recipe: Any, changes: Mapping[str, Any], request: DataRequest) -> tuple[Any, dict[str, Any], DataRequest]:
    """Return the recipe, changes and data options of a run that starts from the run in `folder`, where the user gives none of their own.

    recipe: None where none is given. Raises ValueError for a folder that is no trained run, and for one whose recipe is not known by a name.
    """
    description = artifact.read_description(folder)
    spec = ImageSpec.from_json(description["data"]["spec"])
    if request.size is None:
        request = dataclasses.replace(request, size=spec.size)
    if recipe is not None:
        return recipe, dict(changes), request
    name, options = recipe_of(folder, description)
    networks = ("generator.", "discriminator.")
    for key in ("groups", *(f"{net}vectors" for net in networks)):
        options.pop(key, None)  # groups of other pictures
    if "architecture" in changes:
        options = {key: value for key, value in options.items() if not key.startswith(networks) and key != "architecture"}
    known = values_of(changed(presets()[name].make(), options | dict(changes)))
    grown = {f"{net}growing": 0.0 for net in networks if f"{net}growing" in known}  # the parent's networks have grown already
    return name, options | grown | dict(changes), request


def recipe_of(folder: Path, description: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the preset's name of a run, and its options that differ from the preset by dotted name."""
    name = description["recipe"]["name"]
    if name not in presets():
        raise ValueError(f"{folder} was trained with the recipe {name!r}, which is not known by this name here: give --recipe.")
    stored = dict(_nested({key: value for key, value in description["recipe"].items() if key != "name"}))
    made = presets()[name].make()
    architecture = stored.get("architecture")
    if architecture and architecture != made.architecture:
        made = changed(made, {"architecture": architecture})
        differing = {"architecture": architecture}
    else:
        differing = {}
    own = values_of(made)
    unknown = next((key for key in stored if key not in own), None)
    if unknown:
        raise ValueError(f"{folder} was trained with the option {unknown}, which this Limner does not have: give --recipe.")
    return name, differing | {key: value for key, value in stored.items() if value != own[key] and key != "architecture"}


def _nested(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _nested(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
