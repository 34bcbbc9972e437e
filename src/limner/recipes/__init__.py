"""Recipes: one file a family, each stating every decision of its runs. `train` is the door to all of them."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from limner.core import amounts, distributed
from limner.core.files import lies_in
from limner.core.options import check
from limner.data import open_source, prepare
from limner.data.layout import ClassesFrom
from limner.data.open import located
from limner.data.pairs import prepare_pairs
from limner.recipes import automatic, gan, translate, vae
from limner.recipes.changes import changed
from limner.recipes.measured import measurements, protocol, told
from limner.runs import command
from limner.runs.options import Options
from limner.runs.run import Trained, run_folder, start
from limner.training.loop import Callback
from limner.training.run import check_free, recorded_request

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
    data: Any = None,
    second: Any = None,
    *,
    resume: str | Path | None = None,
    more: float | str | None = None,
    recipe: Any = AUTO,
    size: int | tuple[int, int] | None = None,
    fit: str = "crop",
    channels: str = "auto",
    background: str = "white",
    labels: Path | None = None,
    drop_duplicates: bool = False,
    unconditional: bool = False,
    classes_from: ClassesFrom = "auto",
    halves: bool = False,
    options: Options | None = None,
    progress: Any = None,
    changes: dict[str, Any] | None = None,
    callbacks: Sequence[Callback] = (),
    started: float | None = None,
    **named: Any,
) -> Trained:
    """Train a generator on pictures, or resume; the same call again continues where it stopped.

    data: a folder, zip, IDX file, .npy/.npz, array, `fashion` or `emoji`; translators take two, or pairs in one
    (`data.pairs.prepare_pairs`). recipe: a name or a whole Recipe. size: height and width in pixels (default: the
    pictures' own, or 64). fit: crop, pad or stretch. classes_from: which folders are classes (`data.open_source`).
    halves: one set for a translator holds pictures of two sides, whatever their proportions. drop_duplicates: train on one of each group of equal pictures.
    Further keywords are those of `Options` (minutes, images, out, seed, device …), or options of the recipe
    (`batch=64`), which `changes` takes too with dots for nested ones ({"generator.width": 48}).

    resume: the folder of a run, which is trained on with everything that it was started with; no data is given then.
    more: how much longer than its budget that run is trained, a duration ("10m", or a number of minutes) or a number of
    images ("50k images"); every schedule is stretched to the longer budget (`recipes.extending`).

    hooks are called between iterations (`training.loop.Callback`). started: the `time.monotonic()` at which the wait for the
    run began, if before this call; a budget in minutes counts from there.

    Returns the run folder and how the run ended. Raises ValueError in one sentence for whatever a person can mend.
    """
    started = time.monotonic() if started is None else started
    changes = dict(changes or {})
    names = {f.name for f in dataclasses.fields(Options)}
    given = {name: named.pop(name) for name in list(named) if name in names}
    changes |= named
    if "out" in given and given["out"] is not None:
        given["out"] = Path(given["out"])
    options = _read_amounts(dataclasses.replace(options or Options(), **given))
    extra = None if more is None else amounts.amount(more, "value of --more")
    if resume is not None:
        asked = {
            "data": data, "second": second, "recipe": recipe if recipe != AUTO else None, "size": size, "labels": labels,
            "fit": fit if fit != "crop" else None, "channels": channels if channels != "auto" else None,
            "background": background if background != "white" else None, "drop_duplicates": drop_duplicates,
            "unconditional": unconditional, "classes_from": classes_from if classes_from != "auto" else None, "halves": halves,
            **changes,
        }  # fmt: skip
        if wrong := [name for name, value in asked.items() if value not in (None, False)]:
            raise ValueError(f"--resume takes everything from the run, so {wrong[0]} means nothing: leave it out.")
        return _train(**command.read(Path(resume), options), progress=progress, callbacks=callbacks, started=started, more=extra)
    if more is not None:
        raise ValueError("--more trains a run longer: name its folder with --resume.")
    if data is None:
        raise ValueError("The parameter data requires an argument: a folder of pictures, say; or give --resume and the folder of a run.")
    keep_apart(options.out, [data, second])
    return _train(
        data, second, recipe=recipe, size=size, fit=fit, channels=channels, background=background, labels=labels,
        drop_duplicates=drop_duplicates, unconditional=unconditional, classes_from=classes_from, halves=halves,
        options=options, progress=progress, changes=changes, callbacks=callbacks, started=started,
    )  # fmt: skip


def _read_amounts(options: Options) -> Options:
    """The options with their durations and counts as numbers. Raises ValueError for those that cannot be read."""
    check(options)
    if options.minutes is not None and options.images is not None:
        raise ValueError("Give the budget in minutes or in images, not both.")
    return dataclasses.replace(
        options,
        minutes=None if options.minutes is None else amounts.minutes(options.minutes, "budget"),
        images=None if options.images is None else amounts.count(options.images, "budget"),
        checkpoint_minutes=amounts.minutes(options.checkpoint_minutes, "time between checkpoints")
        if options.checkpoint_minutes not in (0, "0") else 0.0,
    )  # fmt: skip


def _train(
    data: Any,
    second: Any,
    *,
    recipe: Any,
    size: int | tuple[int, int] | None,
    fit: str,
    channels: str,
    background: str,
    labels: Path | None,
    drop_duplicates: bool,
    unconditional: bool,
    classes_from: ClassesFrom,
    halves: bool,
    options: Options,
    progress: Any,
    changes: dict[str, Any],
    callbacks: Sequence[Callback],
    started: float,
    more: tuple[float | None, int | None] | None = None,
) -> Trained:
    name, chosen, why = "custom", recipe, ""
    if isinstance(recipe, str):
        name, chosen = (AUTO, None) if recipe == AUTO else (recipe, preset(recipe).make())
    with distributed.process_group(options.device) as ranks:
        machine = start(options, ranks)
        machine.started, machine.more = started, more
        machine.command = command.command_of(
            options, changes, data=data, second=second, recipe=recipe, size=size, fit=fit, channels=channels,
            background=background, labels=labels, drop_duplicates=drop_duplicates, unconditional=unconditional,
            classes_from=classes_from, halves=halves,
        )  # fmt: skip
        if ranks.first and not options.quiet:
            print("Reading the pictures ...", file=sys.stderr, flush=True)
        shape: dict[str, Any] = {"size": size, "fit": fit, "channels": channels, "background": background, "progress": progress}
        if isinstance(chosen, translate.RECIPES):
            strange = {"--labels": labels, "--classes-from": classes_from != "auto", "--drop-duplicates": drop_duplicates, "--unconditional": unconditional}
            if wrong := [flag for flag, value in strange.items() if value]:
                raise ValueError(f"{wrong[0]} means nothing to the recipe {name}, which translates: leave it out.")
            chosen = changed(chosen, changes)
            paired = isinstance(chosen, translate.PairedRecipe)
            pairs = prepare_pairs(data, second, paired=paired, swap=chosen.swap, as_halves=halves, **shape)
            return translate.train(name, chosen, pairs, options, machine, "", callbacks)
        if halves:
            raise ValueError(f"--halves means nothing to the recipe {name}, which does not translate: leave it out.")
        if second is not None:
            raise ValueError(f"The recipe {name} learns from one set of pictures: give one, or another recipe.")
        if isinstance(chosen, vae.VQVAERecipe) and labels:
            raise ValueError(f"--labels means nothing to the recipe {name}, which learns no classes: leave it out.")
        if unconditional and labels:
            raise ValueError("--labels says which classes there are and --unconditional ignores them: leave one out.")
        if isinstance(chosen, vae.VQVAERecipe) and not unconditional:
            unconditional, why = True, vae.classes_unused(name, data)
        source = open_source(data, False if unconditional else labels or True, classes_from)
        dataset = prepare(source, drop_duplicates=drop_duplicates, **shape)
        if recipe == AUTO:
            known = recorded_request(run_folder(options, dataset, automatic.NAME))
            name, chosen, why = automatic.choose(dataset.spec, len(dataset), options, machine, changes, known)
        return family_of(chosen).train(name, changed(chosen, changes), dataset, options, machine, why, callbacks)


def keep_apart(out: Path | None, data: Sequence[Any]) -> None:
    """Raises ValueError where a run's folder would be the data's, lie in it or hold it, or holds what is no run.

    A run writes a README.md and pictures of its own, which must neither replace a person's nor be read as data.
    """
    folder = out or Path("runs") / "new"
    for place in data:
        path = located(place) if isinstance(place, (str, Path)) and str(place) else None
        if path is None or not os.path.exists(path):  # noqa: PTH110 - a sample, an array, or what opening complains of
            continue
        if lies_in(folder, path) or (out and lies_in(path, out)):
            where = f"The run would go to {out or 'runs'}, which"
            raise ValueError(
                f"{where} {'lies in' if lies_in(folder, path) else 'holds'} the data {place}: choose a folder apart from it "
                "with --out."
            )
    if out:
        check_free(out)
