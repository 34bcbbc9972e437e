"""Commands that turn pictures into latents of a trained generator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from limner.cli.app import Device, Progress, app, open_model, print_line, tell


@app.command
def invert(
    run: Path,
    pictures: Annotated[list[Path], Parameter(negative=())],
    /,
    *,
    out: Path | None = None,
    label: str | None = None,
    tune: bool = False,
    steps: int | None = None,
    seconds: float | None = None,
    encoder: bool = True,
    sheet: Path | None = None,
    device: Device = "auto",
) -> None:
    """Find the latents of pictures, for editing; write the pictures above what the generator makes of them.

    The first inversion of a run trains an encoder beside it, once.

    Parameters
    ----------
    run
        The folder that `limner train` wrote.
    pictures
        Pictures, folders or zips, of any size and mode: they are cropped and resized as the training data were.
    out
        A .latent.npz for one picture, a folder for many (default: in the run's folder).
    label
        The class of the pictures by name or number (default: the one that fits best).
    tune
        Also tune a copy of the generator for each picture, stored as a delta beside its latent; the run is not changed.
    steps
        Steps of the search (default: 10).
    seconds
        End the search of a picture, and its tuning, after so many seconds.
    encoder
        Start from the run's encoder; without, from random latents: nothing is trained.
    sheet
        Where to write the sheet, a .png (default: beside the latents).
    """
    from limner.apps.editing.invert_files import invert as make
    from limner.apps.model import GeneratorModel

    model = open_model(run, device, GeneratorModel, "invert")
    with Progress("inverting") as progress, Progress("training the encoder") as training:
        print_line(make(model, pictures, out, label, tune, steps, seconds, encoder, sheet, progress, training, tell))
