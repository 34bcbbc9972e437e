"""The verbs. Flags are derived from the typed functions and dataclasses below and in the recipes, never written twice;
heavy rooms are imported by the verb that needs them, so that `limner --help` answers at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter

import limner
from limner.flags import changes as changes_of
from limner.flags import flags, parse_size, with_flags

app = App(
    name="limner",
    help="Turn a folder of pictures into an image generator, trained on the machine you have.",
    version=limner.__version__,
    help_format="plaintext",
)


@app.command
def data(
    source: Annotated[str, Parameter(name="data")],
    /,
    *,
    size: str | None = None,
    fit: Literal["crop", "pad", "stretch"] = "crop",
    channels: Literal["auto", "1", "3", "4"] = "auto",
    background: str = "white",
    labels: Path | None = None,
    sheet: Path = Path("data.png"),
) -> None:
    """Look at a set of pictures before training: what is there, what is damaged, what would be trained.

    Parameters
    ----------
    source
        A folder, zip, IDX file, .npy or .npz array, or a sample: fashion, emoji.
    size
        Height and width in pixels: 64 or 48x64 (default: the pictures' own, or 64).
    fit
        How a picture of another shape is brought to the size.
    channels
        1 grey, 3 RGB, 4 RGBA; auto takes what the pictures have.
    background
        What transparent pictures are flattened on, and bars of --fit pad are filled with.
    labels
        A CSV or JSON file that names each picture's class.
    sheet
        Where to write a sheet of thumbnails.
    """
    from rich.console import Console

    from limner.data import open_source, scan
    from limner.data.report import report_table, write_sheet

    with _progress("reading") as progress:
        opened = open_source(source, labels=labels)
        report = scan(
            opened, size=parse_size(size), fit=fit, channels=channels, background=background, progress=progress
        )
    Console().print(report_table(report))
    write_sheet(sheet, report)
    print(f"A sheet of thumbnails is in {sheet}.")


def train(
    source: Annotated[str, Parameter(name="data")],
    second: Annotated[str | None, Parameter(name="second")] = None,
    /,
    *,
    recipe: str = "auto",
    size: str | None = None,
    fit: Literal["crop", "pad", "stretch"] = "crop",
    channels: Literal["auto", "1", "3", "4"] = "auto",
    background: str = "white",
    labels: Path | None = None,
    unconditional: bool = False,
    options: Any = None,
    choices: Any = None,
) -> int:
    """Train on a set of pictures. The same command again resumes; `--recipe NAME --help` shows a recipe's own options.

    Parameters
    ----------
    source
        A folder, zip, IDX file, .npy or .npz array, or a sample: fashion, emoji.
    second
        What to translate to, for recipes that translate: pictures of equal names for pix2pix, any for cyclegan and cut.
        Without it, the first holds pairs: pictures of two sides, or a CSV of two columns.
    recipe
        How to train: auto, or one that `limner recipes` lists.
    size
        Height and width in pixels: 64 or 48x64 (default: the pictures' own, or 64).
    fit
        How a picture of another shape is brought to the size.
    channels
        1 grey, 3 RGB, 4 RGBA; auto takes what the pictures have.
    background
        What transparent pictures are flattened on, and bars of --fit pad are filled with.
    labels
        A CSV or JSON file that names each picture's class.
    unconditional
        Ignore the classes.
    """
    from limner import recipes

    with _progress("decoding") as progress:
        trained = recipes.train(
            source,
            second,
            recipe=recipe,
            size=parse_size(size),
            fit=fit,
            channels=channels,
            background=background,
            labels=labels,
            unconditional=unconditional,
            options=recipes.Options(**(vars(options) if options else {})),
            progress=progress,
            changes=changes_of(choices, recipes.defaults(recipe)) if choices else {},
        )
    outcome = trained.outcome
    if outcome.finished:
        _tell(f"Done: {outcome.seen:,} images seen. Samples: {trained.folder / 'preview.png'}")
        _tell(f"Next: limner {recipes.next_verb(recipe)} {trained.folder}")
        return 0
    _tell(f"Stopped at {outcome.seen:,} images; everything is saved. The same command again goes on from there.")
    return 128 + (outcome.signal or 0)


@app.command
def sample(
    run: Path,
    /,
    *,
    n: Annotated[int, Parameter(name=["-n", "--number"])] = 64,
    seed: int = 0,
    label: str | None = None,
    truncation: float | None = None,
    out: Path = Path("samples.png"),
    seconds: float = 8.0,
    device: str = "auto",
) -> None:
    """Make pictures with a trained generator; the same seed makes the same ones.

    Parameters
    ----------
    run
        The folder that `limner train` wrote.
    n
        How many pictures.
    seed
        Another seed, other pictures.
    label
        A class by name, or all (default: as frequent as in the training data).
    truncation
        Keep latents within this many standard deviations: less variety, fewer failures.
    out
        A sheet (.png), a folder, a .zip, or a walk through the latents (.gif, .webp, .mp4).
    seconds
        How long a walk lasts.
    device
        auto, cpu, cuda or mps.
    """
    from limner.apps.loading import load_kind
    from limner.apps.model import Model
    from limner.apps.sample import sample as make

    print(make(load_kind(run, device, Model, "sample"), out, n, seed, label, truncation, seconds))


@app.command
def reconstruct(
    run: Path,
    source: Annotated[str, Parameter(name="data")],
    /,
    *,
    n: Annotated[int, Parameter(name=["-n", "--number"])] = 32,
    out: Path = Path("reconstructed.png"),
    device: str = "auto",
) -> None:
    """Code pictures with an autoencoder and decode them again: a sheet of both, and the error.

    Parameters
    ----------
    run
        The folder that `limner train` wrote.
    source
        Pictures, as `limner train` takes them.
    n
        How many of them.
    out
        Where to write the sheet.
    device
        auto, cpu, cuda or mps.
    """
    from limner.apps.autoencode import Autoencoder
    from limner.apps.autoencode import reconstruct as make
    from limner.apps.loading import load_kind

    print(make(load_kind(run, device, Autoencoder, "reconstruct"), source, out, n))


@app.command
def interpolate(
    run: Path,
    a: Path,
    b: Path,
    /,
    *,
    steps: int = 10,
    out: Path = Path("between.png"),
    seconds: float = 4.0,
    device: str = "auto",
) -> None:
    """Go from one picture to another through an autoencoder's latents.

    Parameters
    ----------
    run
        The folder that `limner train` wrote.
    a
        The picture to start from.
    b
        The picture to end at.
    steps
        How many pictures, both ends included.
    out
        A row (.png), a folder, a .zip, or a film (.gif, .webp, .mp4).
    seconds
        How long a film lasts.
    device
        auto, cpu, cuda or mps.
    """
    from limner.apps.autoencode import Autoencoder
    from limner.apps.autoencode import interpolate as make
    from limner.apps.loading import load_kind

    print(make(load_kind(run, device, Autoencoder, "interpolate"), a, b, out, steps, seconds))


@app.command
def encode(
    run: Path,
    source: Annotated[str, Parameter(name="data")],
    /,
    *,
    out: Path = Path("latents.npz"),
    device: str = "auto",
) -> None:
    """Write the latents (or codes) that an autoencoder gives pictures, with their names, to an .npz file.

    Parameters
    ----------
    run
        The folder that `limner train` wrote.
    source
        Pictures, as `limner train` takes them.
    out
        Where to write them.
    device
        auto, cpu, cuda or mps.
    """
    from limner.apps.autoencode import Autoencoder
    from limner.apps.autoencode import encode as make
    from limner.apps.loading import load_kind

    print(make(load_kind(run, device, Autoencoder, "encode"), source, out))


@app.command
def translate(
    run: Path,
    source: Annotated[Path, Parameter(name="in")],
    out: Path,
    /,
    *,
    direction: Literal["a2b", "b2a"] = "a2b",
    sheet: Path | None = None,
    device: str = "auto",
) -> None:
    """Translate a picture, a folder or a zip at their own sizes; names, transparency and orientation are kept.

    Parameters
    ----------
    run
        The folder that `limner train` wrote.
    source
        A picture, a folder or a zip.
    out
        A file for one picture; a folder or a .zip for many.
    direction
        From the first kind to the second (a2b) or back (b2a).
    sheet
        A PNG to write of pictures above their translations.
    device
        auto, cpu, cuda or mps.
    """
    from limner.apps.loading import load_kind
    from limner.apps.translate import Translator
    from limner.apps.translate import translate as make

    model = load_kind(run, device, Translator, "translate")
    with _progress("translating") as progress:
        print(make(model, source, out, direction, sheet, progress, _tell))


@app.command
def evaluate(
    pictures: Path,
    /,
    *,
    data: str,
    metrics: list[str] | None = None,
    features: list[str] | None = None,
    n: Annotated[int, Parameter(name=["-n", "--number"])] = 10_000,
    held_out: str | None = None,
    size: str | None = None,
    weights: Path | None = None,
    seed: int = 0,
    out: Path | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
    device: str = "auto",
) -> None:
    """Measure how good pictures are, how varied, and whether they are copies; works offline and on few pictures.

    Parameters
    ----------
    pictures
        A run folder (n pictures are sampled), or any pictures as `limner train` takes them.
    data
        The real pictures to compare with.
    metrics
        Names such as fid, kid, precision_recall, copies (default: the usual ones; a wrong name lists all).
    features
        own (learned from the data, offline), pixels, convolutions or inception (default: own).
    n
        At most so many pictures.
    held_out
        Real pictures that were not trained on: they calibrate the copy check.
    size
        Height and width to bring folders of mixed sizes to: 64 or 48x64.
    weights
        The file of Inception's weights.
    seed
        Of the samples and of every random choice.
    out
        Where the HTML report and the JSON go (default: evaluation.html and .json in the run folder, or here).
    json
        Print the JSON in place of the table.
    device
        auto, cpu, cuda or mps.
    """
    from rich.console import Console

    from limner.apps.evaluate import evaluate as measure
    from limner.evaluation.report import table

    with _progress("learning features") as progress:
        result, report = measure(
            pictures,
            data,
            metrics,
            features or ["own"],
            n,
            held_out,
            weights,
            seed,
            out,
            device,
            parse_size(size),
            progress,
        )
    if json:
        print(result.to_json())
    else:
        Console().print(table(result))
        for warning in result.warnings:
            _tell(warning)
    _tell(f"The report is in {report}.")


@app.command
def show(run: Path, /) -> None:
    """Tell what a run folder holds: the data, the recipe, how far it is, its figures.

    Parameters
    ----------
    run
        The folder that `limner train` wrote.
    """
    from rich.console import Console

    from limner.apps.show import table

    Console().print(table(run))


@app.command
def recipes() -> None:
    """List the recipes and where they come from."""
    from rich.console import Console

    from limner.recipes import table

    Console().print(table())


# ---- the door --------------------------------------------------------------------------------------------------------


def _tell(sentence: str) -> None:
    """Say it to the person; of several ranks only the first speaks."""
    if os.environ.get("RANK", "0") == "0":
        print(sentence, file=sys.stderr, flush=True)


class _progress:
    """A bar for reading pictures, shown when it takes long enough to be worth it, and on a terminal only."""

    def __init__(self, verb: str) -> None:
        self.verb = verb
        self.bar: Any = None

    def __enter__(self) -> Callable[[int, int], None]:
        return self._update

    def __exit__(self, *_: object) -> None:
        if self.bar:
            self.bar.stop()

    def _update(self, done: int, total: int) -> None:
        if not sys.stderr.isatty():
            return
        if self.bar is None:
            from rich.console import Console
            from rich.progress import Progress

            self.bar = Progress(console=Console(stderr=True), transient=True)
            self.task = self.bar.add_task(self.verb, total=total)
            self.bar.start()
        self.bar.update(self.task, completed=done, total=total)
        if done >= total:
            self.bar.stop()


def _recipe_named(arguments: Sequence[str]) -> str:
    """The value of --recipe among the arguments: it decides which options there are."""
    for i, argument in enumerate(arguments):
        if argument == "--recipe" and i + 1 < len(arguments):
            return arguments[i + 1]
        if argument.startswith("--recipe="):
            return argument.partition("=")[2]
    return "auto"


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script. Exit codes: 0 done, 2 something a person can mend (one sentence), 130/143 stopped."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if "train" in arguments[:1]:
            from limner import recipes as rooms

            name = _recipe_named(arguments)
            base = rooms.defaults(name)
            chosen = flags(type(base), base, unset=name == rooms.AUTO)
            app.command(with_flags(train, flags(rooms.Options), chosen))
        else:
            app.command(with_flags(train, type("Options", (), {}), type("Choices", (), {})), name="train")
        result = app(arguments, exit_on_error=False, print_error=False)
        code = result if isinstance(result, int) else 0
    except CycloptsError as error:
        _tell(str(error).strip().splitlines()[0] if str(error).strip() else "The command is not understood.")
        code = 2
    except ValueError as error:
        _tell(str(error))
        code = 2
    except BrokenPipeError:
        code = 0
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)
