"""Recipes: one file a family, each stating every decision of its runs. `train` is the door to all of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from math import inf
from pathlib import Path
from typing import Any

from limner.core import dist
from limner.data import open_source, prepare
from limner.data.pairs import prepare_pairs
from limner.recipes import automatic, gan, translate, vae
from limner.recipes.changes import changed, check
from limner.recipes.measured import measurements, protocol, told
from limner.recipes.session import Options, Trained, run_folder, start
from limner.training.loop import Hook
from limner.training.run import begun

AUTO = "auto"
FAMILIES: tuple[Any, ...] = (gan, vae, translate)  # each has PRESETS, RECIPES (their dataclasses) and train
PRESETS: dict[str, Any] = {name: made for family in FAMILIES for name, made in family.PRESETS.items()}


def preset(name: str) -> Any:
    """The preset of a name. Raises ValueError for an unknown one."""
    if name not in PRESETS:
        raise ValueError(f"The recipe {name!r} is not known: say one of {', '.join([AUTO, *PRESETS])}.")
    return PRESETS[name]


def family_of(recipe: Any) -> Any:
    """The module whose `train` plays a recipe. Raises ValueError for what is no recipe."""
    for family in FAMILIES:
        if isinstance(recipe, family.RECIPES):
            return family
    raise ValueError(f"{recipe!r} is no recipe: give the name of one, or an instance of a Recipe.")


def next_verb(name: str) -> str:
    """The command that uses what a recipe makes."""
    return "sample" if name == AUTO else {vae: "reconstruct", translate: "translate"}.get(
        family_of(preset(name).make()), "sample"
    )


def defaults(name: str, architecture: str | None = None) -> Any:
    """The values of a recipe before anybody changes one; for `auto`, which decides later, those of the dataclass.

    architecture: the one that is asked for in place of the recipe's own. Raises ValueError where a recipe has no choice.
    """
    made = gan.Recipe() if name == AUTO else preset(name).make()
    return changed(made, {"architecture": architecture}) if architecture else made


def table() -> Any:
    """The recipes as a table (rich), with what they were measured to give where they were."""
    from rich.table import Table

    found = measurements()
    result = Table("recipe", "what it is", "from", title="limner train DATA --recipe NAME", title_justify="left")
    rows = [(AUTO, "spectral, at the width that measured best for your pictures' size and your minutes", "")]
    rows += [(name, made.summary, made.source) for name, made in PRESETS.items()]
    if found["rows"]:
        result.add_column("measured", no_wrap=True)
        result.caption, result.caption_justify = protocol(found), "left"
    for name, *rest in rows:
        result.add_row(name, *rest, *([told(found, name)] if found["rows"] else []))
    return result


def train(
    data: Any,
    second: Any = None,
    *,
    recipe: Any = AUTO,
    size: int | tuple[int, int] | None = None,
    fit: str = "crop",
    channels: str = "auto",
    background: str = "white",
    labels: Path | None = None,
    drop_duplicates: bool = False,
    unconditional: bool = False,
    options: Options | None = None,
    progress: Any = None,
    changes: dict[str, Any] | None = None,
    hooks: Sequence[Hook] = (),
    **more: Any,
) -> Trained:
    """Train a generator on pictures, or resume; the same call again continues where it stopped.

    data: a folder, zip, IDX file, .npy/.npz, array, `fashion` or `emoji`; translators take two, or pairs in one
    (`data.pairs.prepare_pairs`). recipe: a name or a whole Recipe. size: height and width in pixels (default: the
    pictures' own, or 64). fit: crop, pad or stretch. drop_duplicates: train on one of each group of equal pictures.
    Further keywords are those of `Options` (minutes, images, out, seed, device …), or options of the recipe
    (`batch=64`), which `changes` takes too with dots for nested ones ({"network.width": 48}).

    hooks are called between iterations (`training.loop.Hook`).

    Returns the run folder and how the run ended. Raises ValueError in one sentence for whatever a person can mend.
    """
    changes = dict(changes or {})
    names = {f.name for f in dataclasses.fields(Options)}
    given = {name: more.pop(name) for name in list(more) if name in names}
    changes |= more
    if "out" in given and given["out"] is not None:
        given["out"] = Path(given["out"])
    options = dataclasses.replace(options or Options(), **given)
    check(options)
    if options.minutes is not None and options.images is not None:
        raise ValueError("Give the budget in minutes or in images, not both.")
    if (options.minutes is not None and not 0 < options.minutes < inf) or (options.images is not None and options.images < 1):
        raise ValueError("The budget must be more than nothing and have an end: give --minutes or --images above 0.")
    name, chosen, why = "custom", recipe, ""
    if isinstance(recipe, str):
        name, chosen = (AUTO, None) if recipe == AUTO else (recipe, preset(recipe).make())
    with dist.joined(options.device) as ranks:
        machine = start(options, ranks)
        shape: dict[str, Any] = {"size": size, "fit": fit, "channels": channels, "background": background, "progress": progress}
        if isinstance(chosen, translate.RECIPES):
            strange = {"--labels": labels, "--drop-duplicates": drop_duplicates, "--unconditional": unconditional}
            if wrong := [flag for flag, value in strange.items() if value]:
                raise ValueError(f"{wrong[0]} means nothing to the recipe {name}, which translates: leave it out.")
            chosen = changed(chosen, changes)
            paired = isinstance(chosen, translate.PairedRecipe)
            pairs = prepare_pairs(data, second, paired=paired, swap=chosen.swap, **shape)
            return translate.train(name, chosen, pairs, options, machine, "", hooks)
        if second is not None:
            raise ValueError(f"The recipe {name} learns from one set of pictures: give one, or another recipe.")
        if isinstance(chosen, vae.RECIPES):  # what class a picture is of is for the latent to say
            if labels:
                raise ValueError(f"--labels means nothing to the recipe {name}, which learns no classes: leave it out.")
            unconditional = True
        if unconditional and labels:
            raise ValueError("--labels says which classes there are and --unconditional ignores them: leave one out.")
        source = open_source(data, labels=False if unconditional else labels or True)
        dataset = prepare(source, drop_duplicates=drop_duplicates, **shape)
        if recipe == AUTO:
            known = begun(run_folder(options, dataset, automatic.NAME))
            name, chosen, why = automatic.choose(dataset.spec, len(dataset), options, machine, changes, known)
        return family_of(chosen).train(name, changed(chosen, changes), dataset, options, machine, why, hooks)
