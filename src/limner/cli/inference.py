"""Verbs after training: sample, evaluate, reconstruct, interpolate, traverse, encode, translate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from limner.cli.app import Progress, app, open_model, print_line, show_table, tell
from limner.cli.flags import parse_size
from limner.core import amounts


@app.command
def sample(
    run: Path,
    /,
    *,
    n: Annotated[str, Parameter(name=["-n", "--number"])] = "64",
    seed: str = "0",
    label: str | None = None,
    truncation: float | None = None,
    out: Path | None = None,
    columns: int | None = None,
    seconds: float | None = None,
    device: str = "auto",
) -> None:
    """Make pictures with a trained generator; the same seed makes the same ones.

    Parameters
    ----------
    run
        The folder that `limner train` wrote.
    n
        How many pictures: 64, or 1e6. Into a folder or .zip they are written as they are made.
    seed
        Another seed, other pictures.
    label
        A class by name, or all (default: as frequent as in the training data).
    truncation
        Fewer failures and less variety the lower it is; 1 changes nothing. With stylegan2 it is psi (0 to 1), which draws
        styles towards the mean of their class. With any other network it is the share of the model's pictures to choose
        from, the most typical ones (0.05 to 1): 1/truncation are drawn for each. Of a walk, the pictures that it passes.
    out
        A sheet (.png, .jpg, .webp), a folder, a .zip, or a walk through the latents (.gif, .mp4, or .webp with --seconds).
        Default: samples.png in the run folder.
    columns
        Pictures in a row of the sheet (default: about a square; with --label all, a row a class).
    seconds
        How long a walk lasts (default 8, at most 600).
    device
        auto, cpu, cuda or mps.
    """
    from limner.apps.model import GeneratorModel
    from limner.apps.sample import sample as make

    count, number = amounts.count(n, "number of pictures"), amounts.count(seed, "seed", minimum=0)
    model = open_model(run, device, GeneratorModel, "sample")
    with Progress("calibrating the truncation") as calibration, Progress("sampling") as progress:
        print_line(make(model, out, count, number, label, truncation, seconds, columns, progress, calibration))


@app.command
def evaluate(
    pictures: Path,
    /,
    *,
    data: Annotated[list[str], Parameter(consume_multiple=True, negative=())],
    metrics: Annotated[list[str] | None, Parameter(consume_multiple=True, negative=())] = None,
    features: Annotated[list[str] | None, Parameter(consume_multiple=True, negative=())] = None,
    n: Annotated[int, Parameter(name=["-n", "--number"])] = 10_000,
    held_out: str | None = None,
    size: str | None = None,
    direction: Literal["a2b", "b2a"] | None = None,
    halves: bool = False,
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
        A run folder (n pictures are sampled or translated), or any pictures as `limner train` takes them.
    data
        The real pictures to compare with. For a translator's run what it was trained on: two sets, or one of pairs.
    metrics
        Names such as fd, mmd, precision_recall, memorization (default: a standard set; an unknown name lists all). Of pairs,
        each picture with its target of the same name: psnr, ssim, ms_ssim, perceptual.
    features
        own (learned from the data, offline), pixels, convolutions, or from local weights inception, dinov2 or clip
        (default: own).
    n
        At most so many pictures.
    held_out
        Real pictures that were not trained on: they calibrate the copy check.
    size
        Height and width to bring folders of mixed sizes to: 64 or 48x64 (pairs need none: each has its own).
    direction
        Of a translator: from the first kind to the second (a2b, the default) or back (b2a).
    halves
        Of a translator: the one set holds pictures of two sides, though not twice as wide as tall.
    weights
        Inception's file, the folder of DINOv2's or CLIP's weights, or a folder that holds them all.
    seed
        Of the samples and of every random choice.
    out
        Where the report goes, an .html, with a .json beside it (default: evaluation.html in the run folder; for pictures without a run, none).
    json
        Print the JSON in place of the table.
    device
        auto, cpu, cuda or mps.
    """
    from limner.apps.evaluate import evaluate as measure
    from limner.core import artifact
    from limner.evaluation.report import table
    from limner.families.load import load

    with Progress("evaluating") as progress:
        result, report = measure(
            load(pictures, device) if (pictures / artifact.CARD).exists() else pictures,
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
            direction,
            halves,
        )
    if json:
        print(result.to_json())
    else:
        show_table(table(result))
        for warning in result.warnings:
            tell(warning)
    if report:
        tell(f"The report is in {report}.")


@app.command
def reconstruct(
    run: Path,
    source: Annotated[str, Parameter(name="data")],
    /,
    *,
    n: Annotated[int, Parameter(name=["-n", "--number"])] = 32,
    out: Path | None = None,
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
        How many of them, spread evenly over the set.
    out
        Where to write the sheet, a .png (default: reconstructed.png in the run folder).
    device
        auto, cpu, cuda or mps.
    """
    from limner.apps.autoencode import Autoencoder
    from limner.apps.autoencode import reconstruct as make

    print_line(make(open_model(run, device, Autoencoder, "reconstruct"), source, out, n, tell))


@app.command
def interpolate(
    run: Path,
    a: Path,
    b: Path,
    /,
    *,
    steps: int = 10,
    out: Path | None = None,
    seconds: float | None = None,
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
        A row (.png, .jpg, .webp), a folder, a .zip, or a film (.gif, .mp4, or .webp with --seconds). Default: between.png in
        the run folder.
    seconds
        How long a film lasts (default 4, at most 600).
    device
        auto, cpu, cuda or mps.
    """
    from limner.apps.autoencode import Autoencoder
    from limner.apps.autoencode import interpolate as make

    print_line(make(open_model(run, device, Autoencoder, "interpolate"), a, b, out, steps, seconds))


@app.command
def traverse(
    run: Path,
    source: Annotated[str, Parameter(name="data")],
    /,
    *,
    dims: int = 8,
    steps: int = 7,
    around: Path | None = None,
    n: Annotated[int, Parameter(name=["-n", "--number"])] = 1000,
    out: Path | None = None,
    device: str = "auto",
) -> None:
    """Show what each number of an autoencoder's latent does: a sheet with a row for each, the one that says most first.

    Parameters
    ----------
    run
        The folder that `limner train` wrote.
    source
        Pictures, as `limner train` takes them: what each number costs is measured on them.
    dims
        How many numbers.
    steps
        How many pictures a row, from 3 standard deviations below a number's mean to 3 above.
    around
        A picture to start from (default: the mean latent).
    n
        At most so many pictures are measured, spread evenly over the set.
    out
        Where to write the sheet, a .png (default: traverse.png in the run folder).
    device
        auto, cpu, cuda or mps.
    """
    from limner.apps.autoencode import Autoencoder
    from limner.apps.autoencode import traverse as make

    print_line(make(open_model(run, device, Autoencoder, "traverse"), source, out, dims, steps, around, n, tell))


@app.command
def encode(
    run: Path,
    source: Annotated[str, Parameter(name="data")],
    /,
    *,
    out: Path | None = None,
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
        Where to write them (default: latents.npz in the run folder).
    device
        auto, cpu, cuda or mps.
    """
    from limner.apps.autoencode import Autoencoder
    from limner.apps.autoencode import encode as make

    print_line(make(open_model(run, device, Autoencoder, "encode"), source, out, tell))


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
    from limner.apps.translate import Translator
    from limner.apps.translate import translate as make

    model = open_model(run, device, Translator, "translate")
    with Progress("translating") as progress:
        print_line(make(model, source, out, direction, sheet, progress, tell))
