"""The studio, and the commands of its pictures: studio, picture, edges."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from limner.cli.app import Device, Progress, app, open_model, print_line, tell
from limner.cli.flags import parse_size
from limner.cli.listening import Listening, Port
from limner.core import amounts

PORT = 8321
# A process that has loaded what a training imports, and then runs a command as `limner` would. The order is read from the
# standard input; its end without an order ends the process. `limner.cli` is imported last: its clock starts the budget.
STANDBY = """
import json, os, sys
import limner.families.train
import limner.runs.options
import torch._dynamo
order = sys.stdin.readline()
if order:
    order = json.loads(order)
    output = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    for number, handle in ((0, os.open(os.devnull, os.O_RDONLY)), (1, output), (2, output)):
        os.dup2(handle, number)
    from limner.cli import main
    main(order["arguments"])
"""


@app.command
def studio(
    runs: Path = Path("runs"),
    /,
    *,
    port: Port = PORT,
    listening: Listening | None = None,
    browser: bool = True,
    device: Device = "auto",
) -> None:
    """Open the studio in the browser: train on a folder of pictures, watch, explore and use models.

    Trainings are processes of their own: they go on when the page or this command ends, and the next studio finds them.

    Parameters
    ----------
    runs
        The folder of runs, or one run.
    browser
        Open the browser.
    """
    import sys
    import webbrowser

    from limner.apps.web import running

    running.check_installed()
    from limner.apps.studio.app import application
    from limner.apps.studio.runs import is_run
    from limner.apps.studio.studio import RecipeInfo, Studio
    from limner.core.device import configure_runtime
    from limner.families import families
    from limner.families.load import load
    from limner.families.train import AUTO

    listening = listening or Listening()
    access = listening.access(token=True)
    bound = running.listen(listening.host, port)  # before anything is loaded
    if runs.exists() and not runs.is_dir():
        raise ValueError(f"{runs} is a file: give the folder of runs, or one run.")
    configure_runtime(1)  # one small picture gains nothing from more threads, and a training beside the page keeps its cores
    auto = RecipeInfo(AUTO, "chosen by your pictures and minutes", "generator")
    recipes = [RecipeInfo(name, one.summary, kind) for kind, family in families().items() for name, one in family.presets.items()]
    home = runs.absolute().parent if is_run(runs) else runs.absolute()
    program, standby = [sys.executable, "-m", "limner"], [sys.executable, "-c", STANDBY]
    made = Studio([runs.absolute()], home, lambda folder: load(folder, device), program, [auto, *recipes], standby)

    def say(sentence: str) -> None:
        tell(sentence)
        if browser:
            webbrowser.open(running.address(bound))

    try:
        running.serve_bound(application(made, access), bound, say)
    finally:
        made.launches.close()


@app.command
def picture(
    run: Path,
    out: Path,
    /,
    *,
    seed: str = "0",
    label: str | None = None,
    truncation: float = 1.0,
    axis: Annotated[list[str] | None, Parameter(consume_multiple=True, negative=())] = None,
    direction: Annotated[list[str] | None, Parameter(consume_multiple=True, negative=())] = None,
    at: str | None = None,
    mix_seed: str | None = None,
    mix_from: int = 0,
    latent: str | None = None,
    device: Device = "auto",
) -> None:
    """Draw one picture of a generator, as the studio shows it: the command beside each of its pictures.

    Parameters
    ----------
    run
        The folder that `limner train` wrote.
    out
        A .png. Its text chunks hold this command.
    seed
        Seed of the latent. Without further options it is the first picture of `limner sample` with this seed.
    label
        A class by name.
    truncation
        As of `limner sample`.
    axis
        NUMBER=AMOUNT: standard deviations along an axis of the latent space, along which pictures vary most: 1=2.5.
    direction
        NAME=AMOUNT: along a direction that `limner directions` found.
    at
        X,Y: the place on the studio's map, in standard deviations along the first two axes.
    mix_seed
        Of a network with a style space: seed of the styles from layer --mix-from on.
    mix_from
        The first layer with the styles of --mix-seed, from 0.
    latent
        A .latent.npz of `limner invert`, in place of the seed.
    """
    from limner.apps.model import GeneratorModel
    from limner.apps.sample import destination
    from limner.apps.studio.generator import Drawing
    from limner.apps.studio.state import State, named_numbers, png, texts_of, whole_axes
    from limner.core.files import write_whole
    from limner.core.images import png as check_png

    check_png(out)
    state = State(
        seed=amounts.count(seed, "seed", minimum=0),
        label=label,
        truncation=truncation,
        axes=whole_axes(named_numbers(axis or [], "--axis")),
        directions=named_numbers(direction or [], "--direction"),
        at=None if at is None else _pair(at),
        mix_seed=None if mix_seed is None else amounts.count(mix_seed, "seed", minimum=0),
        mix_from=mix_from,
        latent=latent,
    )
    model = open_model(run, device, GeneratorModel, "picture")
    with Progress("calibrating the truncation") as calibration:
        made = Drawing(model).draw(state, calibration)
    out = destination(model.folder, out, "picture.png")
    write_whole(out, png(made, texts_of(run, state)))
    print_line(f"The picture is in {out}.")


def _pair(text: str) -> tuple[float, float]:
    """Parse `0.5,-1.2`. Raises ValueError for anything else."""
    try:
        x, y = map(float, text.split(","))
    except ValueError:
        raise ValueError(f"The place {text!r} is not understood: give two numbers as 0.5,-1.2.") from None
    return x, y


@app.command
def edges(source: Annotated[str, Parameter(name="data")], out: Path, /, *, size: str | None = None) -> None:
    """Make pairs for a translator from any pictures: line drawings beside them, found by a filter (XDoG).

    Parameters
    ----------
    source
        A folder, zip, array file, or a sample: fashion, emoji.
    out
        A new folder: its subfolders edges and pictures are what `limner train` takes.
    size
        Height and width in pixels: 64 or 48x64 (default: the pictures' own, or 64).
    """
    from limner.data.edges import make_pairs

    with Progress("drawing") as progress:
        print_line(make_pairs(source, out, parse_size(size), progress))
