"""`train`: from a command to a trained run."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limner.core import amounts, artifact, distributed
from limner.core.files import lies_in
from limner.core.machine import Machine
from limner.core.options import check
from limner.data.open import expand_path
from limner.data.request import DataRequest
from limner.families import Family, families, family_of, presets
from limner.families.parents import recipe_of, with_parent
from limner.families.ranks import started
from limner.recipes import automatic
from limner.recipes.changes import changed
from limner.recipes.config import Recipe
from limner.recipes.measured import format_row, measurements, protocol
from limner.runs import command
from limner.runs.experiment import Experiment, Invocation, Preset, Trained, TrainingSet
from limner.runs.options import Options
from limner.runs.run import run, run_folder, start
from limner.training.interrupt import NO_PAUSE, Pause
from limner.training.loop import Callback
from limner.training.run import check_free, recorded_request

AUTO = "auto"


def preset(name: str) -> Preset:
    """Return the preset of a name. Raises ValueError for an unknown one."""
    known = presets()
    if name not in known:
        raise ValueError(f"The recipe {name!r} is unknown: choose one of {', '.join([AUTO, *known])}.")
    return known[name]


def next_command(name: str, folder: Path) -> str:
    """Return the command that uses the product of a recipe, with arguments to fill in in capitals."""
    family = families()["generator"] if name == AUTO else family_of(preset(name).make())
    return family.usage.format(run=folder)


def defaults(name: str, architecture: str | None = None) -> Any:
    """Return the default values of a recipe; for `auto`, which chooses later, those of the dataclass.

    architecture: replaces the recipe's own. Raises ValueError for a recipe without this option.
    """
    made = Recipe() if name == AUTO else preset(name).make()
    return changed(made, {"architecture": architecture}) if architecture else made


def parent_recipe(folder: Path, architecture: str | None = None) -> Any:
    """Return the recipe of the run in `folder`, whose options a run that starts from it has. Raises ValueError for no trained run."""
    name, options = recipe_of(folder, artifact.read_description(folder))
    return defaults(name, architecture) if architecture else changed(preset(name).make(), options)


def table() -> Any:
    """Return the recipes as a table (rich), with their measured results."""
    from rich.table import Table

    found = measurements()
    result = Table("recipe", "what it is", "from", title="limner train DATA --recipe NAME", title_justify="left")
    rows = [(AUTO, "spectral, at the width that measured best for your pictures' size and your minutes", "")]
    rows += [(name, made.summary, made.source) for name, made in presets().items()]
    if found["rows"]:
        result.add_column("measured", no_wrap=True)
        result.caption, result.caption_justify = protocol(found), "left"
    for name, *rest in rows:
        result.add_row(name, *rest, *([format_row(found, name)] if found["rows"] else []))
    return result


def train(
    data: Any = None,
    second: Any = None,
    *,
    resume: str | Path | None = None,
    from_: str | Path | None = None,
    more: float | str | None = None,
    recipe: Any = AUTO,
    options: Options | None = None,
    progress: Any = None,
    changes: dict[str, Any] | None = None,
    callbacks: Sequence[Callback] = (),
    started: float | None = None,
    pause: Pause = NO_PAUSE,
    **named: Any,
) -> Trained:
    """Train on pictures, or resume; the same call continues a run that was stopped.

    Parameters
    ----------
    data
        A folder, zip, IDX file, .npy/.npz, array, or the name of a sample (`fashion`, `emoji`).
    second
        For translators, the pictures of the second kind; without it, `data` holds pairs.
    resume
        The folder of a run to continue with its own options; no data is given then.
    from_
        The folder of a trained run to start from: its networks and their averages are taken over, as far as they fit the
        pictures; recipe, options and size are those of that run unless they are given.
    more
        How much longer than its budget to train that run: a duration ("10m", or a number of minutes) or a number of
        images ("50k images"); every schedule is stretched to the longer budget. The set may have more pictures than before.
    recipe
        The name of a recipe (`limner recipes` lists them), or an instance of its dataclass.
    options
        Options that every recipe has, as one object instead of as keywords.
    progress
        Called with (done, total) while pictures are decoded.
    changes
        Options of the recipe by name, with dots for nested ones: `{"generator.width": 48}`.
    callbacks
        Called between iterations with the state of the run (`limner.training.loop.Callback`).
    started
        The `time.monotonic()` from which a budget in minutes counts (default: this call).
    pause
        When to end early, before the budget; the same call continues the run.
    named
        How pictures are read (size, fit, channels, background, labels, captions, classes_from, unconditional, drop_duplicates,
        halves), options of every run (minutes, images, out, seed, device, metric, doctor ...), and options of the recipe
        (`batch=64`).

    Returns
    -------
    Trained
        The run folder, how the run ended, and the name of the recipe.

    Raises
    ------
    ValueError
        In one sentence, for whatever a user can fix.

    Examples
    --------
    >>> import limner
    >>> import numpy as np
    >>> pictures = np.random.default_rng(0).integers(0, 256, (64, 16, 16), dtype=np.uint8)
    >>> small = {"generator.width": 4, "discriminator.width": 4}
    >>> run = limner.train(pictures, recipe="dcgan", batch=16, images=64, changes=small, out="runs/noise", quiet=True)
    >>> run.folder.name, run.outcome.finished, run.outcome.seen
    ('noise', True, 64)
    """
    invocation = Invocation(time.monotonic() if started is None else started, pause=pause)
    changes = dict(changes or {})
    data_options = _take(named, DataRequest)
    given = _take(named, Options)
    changes |= named
    if "out" in given and given["out"] is not None:
        given["out"] = Path(given["out"])
    options = read_amounts(dataclasses.replace(options or Options(), **given))
    request = DataRequest(data=data, second=second, **data_options)
    if resume is not None:
        wrong = [*(["from"] if from_ is not None else []), *request.changed(), *(["recipe"] if recipe != AUTO else []), *changes]
        if wrong:
            raise ValueError(f"--resume takes everything from the run, so {wrong[0]} has no meaning: leave it out.")
        extra = None if more is None else amounts.amount(more, "value of --more")
        request, recipe, options, changes = command.read(Path(resume), options)
        return _train(request, recipe, options, changes, callbacks, progress, dataclasses.replace(invocation, more=extra, resume=True))
    if more is not None:
        raise ValueError("--more extends a run: give its folder with --resume.")
    if data is None:
        raise ValueError("The parameter data requires an argument: give a folder of pictures, or --resume and the folder of a run.")
    check_apart(options.out, [data, second])
    if from_ is not None:
        parent = Path(from_).expanduser()
        recipe, changes, request = with_parent(parent, None if recipe == AUTO else recipe, changes, request)
        invocation = dataclasses.replace(invocation, parent=parent)
    elif options.adapt != "full":
        raise ValueError("--adapt chooses what a run trains that starts from another: give that one with --from, or leave --adapt out.")
    return _train(request, recipe, options, changes, callbacks, progress, invocation)


def _take(named: dict[str, Any], cls: type) -> dict[str, Any]:
    """Remove the keywords that are fields of a dataclass from `named`, and return them."""
    return {f.name: named.pop(f.name) for f in dataclasses.fields(cls) if f.name in named}


def read_amounts(options: Options) -> Options:
    """Return the options with durations and counts as numbers. Raises ValueError for invalid ones."""
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


@dataclass(frozen=True)
class Choice:
    """The recipe of a command and its data. note: why the recipe was chosen, for people."""

    name: str
    recipe: Any
    family: Family
    data: TrainingSet
    note: str = ""

    def build(self, options: Options, machine: Machine) -> Experiment:
        """Return a new experiment. Raises ValueError as the family's `build` does."""
        return self.family.build(self.name, self.recipe, self.data, options, machine)


def choose(
    request: DataRequest, recipe: Any, options: Options, changes: Mapping[str, Any], progress: Any, machine: Machine
) -> Choice:
    """Load the data and choose the recipe, by name or by data, machine and budget, with its changes. Raises ValueError for either."""
    if recipe == AUTO:
        family = families()["generator"]
        dataset = family.load_data(Recipe(), request, progress)
        known = recorded_request(run_folder(options, dataset, automatic.NAME))
        name, chosen, note = automatic.choose(dataset.spec, len(dataset), options, machine, changes, known)
        return Choice(name, changed(chosen, changes), family, dataset, note)
    name, chosen = (recipe, preset(recipe).make()) if isinstance(recipe, str) else ("custom", recipe)
    family, chosen = family_of(chosen), changed(chosen, changes)
    return Choice(name, chosen, family, family.load_data(chosen, request, progress))


def _train(
    request: DataRequest,
    recipe: Any,
    options: Options,
    changes: dict[str, Any],
    callbacks: Sequence[Callback],
    progress: Any,
    invocation: Invocation,
    member: distributed.Member | None = None,
) -> Trained:
    """Load the data, build the experiment, run it. member: the place in a group that another process started; by default this one starts
    the ranks that the options ask for."""
    group = nullcontext(member) if member else _own_ranks(request, recipe, options, changes, invocation)
    with group as place, distributed.process_group(options.device, options.sync_batch_norm, place) as ranks:
        machine = start(options, ranks)
        kept = command.command_of(request, recipe, options, changes)
        if ranks.first and not options.quiet:
            print("Reading the pictures ...", file=sys.stderr, flush=True)
        choice = _first_rank_first(lambda: choose(request, recipe, options, changes, progress, machine), ranks)
        note, experiment = choice.note, choice.build(options, machine)
        experiment = dataclasses.replace(
            experiment,
            callbacks=[*experiment.callbacks, *callbacks],
            notes=[*([note] if note else []), *experiment.notes],
        )
        return run(experiment, options, machine, dataclasses.replace(invocation, command=kept))


def _own_ranks(
    request: DataRequest, recipe: Any, options: Options, changes: Mapping[str, Any], invocation: Invocation
) -> AbstractContextManager[distributed.Member | None]:
    """Return the context in which other processes train along, with this one's place among them; None if there is one rank, or torchrun
    has started them. Raises ValueError for ranks that cannot be started."""
    count = options.ranks or 1
    if count > 1 and distributed.by_torchrun():
        if not invocation.resume:  # which may have been started by --ranks
            raise ValueError("torchrun has started the ranks of this run: leave --ranks out.")
        count = 1
    if count == 1:
        return nullcontext()
    written = command.command_of(request, recipe, options, changes)
    if written is None or invocation.pause != NO_PAUSE:
        raise ValueError("Every rank opens the pictures itself, so arrays in memory, recipes made in Python and a search have one: leave --ranks out.")
    order = {"command": written, "out": options.out and str(options.out.absolute()), "more": invocation.more, "resume": invocation.resume}
    order["parent"] = invocation.parent and str(invocation.parent.absolute())
    return started(count, order)


def join(order: Mapping[str, Any], member: distributed.Member) -> None:
    """Train as one of the ranks that `_own_ranks` has started. order: what it has sent."""
    out = Path(order["out"]) if order["out"] else None
    request, recipe, options, changes = command.parse(order["command"], Options(out=out, quiet=True))
    parent = Path(order["parent"]) if order["parent"] else None
    invocation = Invocation(more=order["more"] and tuple(order["more"]), parent=parent, resume=order["resume"])
    _train(request, recipe, options, changes, (), None, invocation, member)


def _first_rank_first(choose: Callable[[], Choice], ranks: distributed.Ranks) -> Choice:
    """Return the choice of rank 0 before the others make theirs: they find the decoded pictures in the cache. Raises ValueError on all
    ranks for what rank 0 cannot read."""
    found: Choice | None = None
    problem: Exception | None = None
    if ranks.first:
        try:
            found = choose()
        except (ValueError, OSError) as error:
            problem = error
    told = distributed.broadcast_from_rank0(None if problem is None else str(problem))
    if told is not None:
        raise problem or ValueError(told)
    return found or choose()


def check_apart(out: Path | None, data: Sequence[Any]) -> None:
    """Raise ValueError if the run folder is the data's, lies in it or contains it, or holds anything but a run.

    A run writes a README.md and pictures, which must neither replace the user's files nor be read as data.
    """
    folder = out or Path("runs") / "new"
    for place in data:
        path = expand_path(place) if isinstance(place, (str, Path)) and str(place) else None
        if path is None or not os.path.exists(path):  # noqa: PTH110 - a sample, an array, or an error raised when opening it
            continue
        if lies_in(folder, path) or (out and lies_in(path, out)):
            where = f"The run would go to {out or 'runs'}, which"
            raise ValueError(
                f"{where} {'lies in' if lies_in(folder, path) else 'holds'} the data {place}: choose a folder apart from it "
                "with --out."
            )
    if out:
        check_free(out)
