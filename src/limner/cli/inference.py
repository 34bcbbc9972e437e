"""Commands after training: sample, evaluate, reconstruct, interpolate, traverse, encode, translate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from limner.cli.app import Device, Progress, app, open_model, print_line, show_table, tell
from limner.cli.flags import parse_size
from limner.core import amounts


@app.command
def sample(
    run: Path,
    /,
    *,
    n: Annotated[str | None, Parameter(name=["-n", "--number"])] = None,
    seed: str = "0",
    label: str | None = None,
    text: Annotated[list[str] | None, Parameter(consume_multiple=True, negative=())] = None,
    text_file: Path | None = None,
    truncation: float | None = None,
    out: Path | None = None,
    columns: int | None = None,
    seconds: float | None = None,
    fps: float | None = None,
    frames: Annotated[list[Path] | None, Parameter(consume_multiple=True, negative=())] = None,
    loop: bool = False,
    device: Device = "auto",
) -> None:
    """Generate pictures with a trained generator; the same seed gives the same pictures.

    Parameters
    ----------
    run
        The folder that `limner train` wrote.
    n
        How many pictures: 64 (the default), or 1e6; of several texts, how many of each (default 8). Those of a folder or .zip are
        written as they are generated.
    seed
        Random seed of the latents.
    label
        A class by name, or all (default: as frequent as in the training data).
    text
        For text2image: what the pictures show, one text or several (default: the captions of the preview).
    text_file
        A file with a text on each line, in place of --text.
    truncation
        Lower values give fewer failures and less diversity; 1 changes nothing. With stylegan2 it is psi (0 to 1), which moves
        styles toward the mean of their class. With any other network it is the fraction of the model's pictures to choose
        from, the most typical ones (0.05 to 1); each takes about 1/truncation draws. In a walk it applies to the keyframes.
    out
        A sheet (.png, .jpg, .webp), a folder, a .zip, or a walk through the latents (.gif, .mp4, or .webp with --seconds); of a
        generator of clips, clips in place of a walk. Default: samples.png in the run folder, or clips.gif.
    columns
        Pictures in a row of the sheet (default: about a square; with --label all, a row per class).
    seconds
        Duration of a walk (default 8, at most 600) or of clips (default: one period).
    fps
        Frames a second of a walk (default 20) or of clips (default 24), from 1 to 50.
    frames
        Key frames of a walk, in order: latents that `limner invert` or `limner edit` wrote, or pictures, which are inverted first.
    loop
        Let the walk past --frames return to the first of them; let clips close, at the speed nearest to theirs.
    """
    from limner.apps.model import GeneratorModel
    from limner.apps.motion import film, moves, wants_film
    from limner.apps.sample import sample as make
    from limner.apps.text import TextGenerator
    from limner.apps.text import sample as make_of_texts

    count, number = amounts.count("64" if n is None else n, "number of pictures"), amounts.count(seed, "seed", minimum=0)
    model = open_model(run, device, GeneratorModel | TextGenerator, "sample")
    if isinstance(model, TextGenerator):
        meaningless = {"label": label, "truncation": truncation, "seconds": seconds, "frames": frames, "loop": loop or None, "fps": fps}
        if wrong := next((name for name, value in meaningless.items() if value is not None), None):
            raise ValueError(f"--{wrong} has no meaning for a text-to-image generator: leave it out.")
        with Progress("sampling") as progress:
            print_line(make_of_texts(model, text or [], text_file, out, count if n else None, number, columns, progress))
        return
    if text or text_file:
        raise ValueError(f"{run} was trained without captions, so it takes no {'--text' if text else '--text-file'}: leave it out.")
    if moves(model) and not frames and wants_film(out, seconds, fps, loop, label):
        with Progress("sampling") as progress:
            print_line(film(model, out, count, number, truncation, seconds, fps, loop, columns, progress))
        return
    if frames or loop:
        from limner.apps.editing.direct import walk_frames

        with Progress("sampling") as progress:
            print_line(walk_frames(model, frames or [], out, seconds, loop, (label, truncation, columns), progress, fps))
        return
    with Progress("calibrating the truncation") as calibration, Progress("sampling") as progress:
        print_line(make(model, out, count, number, label, truncation, seconds, columns, progress, calibration, fps))


@app.command
def evaluate(
    pictures: Path,
    /,
    *,
    data: Annotated[list[str], Parameter(consume_multiple=True, negative=())],
    metrics: Annotated[list[str] | None, Parameter(consume_multiple=True, negative=())] = None,
    features: Annotated[list[str] | None, Parameter(consume_multiple=True, negative=())] = None,
    n: Annotated[int | None, Parameter(name=["-n", "--number"])] = None,
    held_out: str | None = None,
    size: str | None = None,
    direction: Literal["a2b", "b2a"] | None = None,
    halves: bool = False,
    weights: Path | None = None,
    seed: int = 0,
    labels: Path | None = None,
    real_per_class: Annotated[list[int] | None, Parameter(consume_multiple=True, negative=())] = None,
    captions: str | None = None,
    out: Path | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
    device: Device = "auto",
) -> None:
    """Measure the quality and diversity of pictures, and whether they are copies; works offline and on few pictures.

    For a codec: its rate-distortion curves beside JPEG, WebP and AVIF, and its BD-rates against them.

    Parameters
    ----------
    pictures
        A run folder (n pictures are sampled or translated), or any pictures as `limner train` takes them.
    data
        The real pictures to compare with. For a translator: two sets or one of pairs, as in its training.
    metrics
        Names such as fd, mmd, precision_recall, memorization (default: a standard set; an unknown name lists all). For pairs,
        matched by name: psnr, ssim, ms_ssim, perceptual.
    features
        own (learned from the data, offline), efficientnet (trained on ImageNet; extra `perceptual`), pixels, lowpass (shape at
        16x16), convolutions, or from local weights inception, dinov2 or clip (default: own).
    n
        Maximum number of pictures (default: 10,000; for a codec 50).
    held_out
        Real pictures that were not trained on; they calibrate the memorization test.
    size
        Height and width for folders of mixed sizes: 64 or 48x64 (not needed for pairs: each has its own). For a codec: the
        largest side, beyond which the center of a picture is measured (default 256).
    direction
        For a translator: from the first side to the second (a2b, the default) or back (b2a).
    halves
        For a translator: each picture of the one set holds two sides, even if it is not twice as wide as tall.
    weights
        Inception's file, the folder of DINOv2's or CLIP's weights, or a folder that holds them all.
    seed
        Random seed of the samples and the metrics.
    labels
        For a classifier: a CSV or JSON of the classes, where they are not the folders of the pictures.
    real_per_class
        For --metrics cas: with how many real pictures of each class to try whether generated ones help (default: 10).
    captions
        For text2image: the captions of the real pictures, as `limner train` takes them: a CSV or JSON Lines file, or "names".
    out
        Where to write the report, an .html, with a .json beside it (default: evaluation.html in the run folder; for pictures without a run, none). For a codec: a .png, with a .json beside it.
    json
        Print the JSON instead of the table.
    """
    from limner.apps.evaluate import evaluate as measure
    from limner.apps.evaluate import tables, written
    from limner.core import artifact

    model = open_model(pictures, device, object, "evaluate") if (pictures / artifact.CARD).exists() else pictures
    with Progress("evaluating") as progress:
        result, report = measure(
            model,
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
            labels,
            real_per_class,
            captions,
        )
    if json:
        print(result.to_json())
    else:
        show_table(tables(result))
        for warning in result.warnings:
            tell(warning)
    if report:
        tell(written(report))


@app.command
def reconstruct(
    run: Path,
    source: Annotated[str, Parameter(name="data")],
    /,
    *,
    n: Annotated[int, Parameter(name=["-n", "--number"])] = 32,
    out: Path | None = None,
    device: Device = "auto",
) -> None:
    """Encode and decode pictures with an autoencoder: a sheet of originals and reconstructions, and the PSNR.

    Parameters
    ----------
    run
        The folder that `limner train` wrote.
    source
        Pictures, as `limner train` takes them.
    n
        How many pictures, spread evenly over the set.
    out
        Where to write the sheet, a .png (default: reconstructed.png in the run folder).
    """
    from limner.apps.autoencode import Autoencoder
    from limner.apps.autoencode import reconstruct as make

    print_line(make(open_model(run, device, Autoencoder, "reconstruct"), source, out, n, tell))


@app.command
def interpolate(
    run: Path,
    a: str,
    b: str,
    /,
    *,
    steps: int = 10,
    out: Path | None = None,
    seconds: float | None = None,
    device: Device = "auto",
) -> None:
    """Interpolate between two pictures in the latent space of an autoencoder or a generator, or between two texts.

    Parameters
    ----------
    run
        The folder that `limner train` wrote.
    a
        The picture to start from; for a generator a latent that `limner invert` wrote, or a picture, which is inverted first;
        for text2image a text.
    b
        The picture or text to end at.
    steps
        How many pictures, including both ends.
    out
        A row (.png, .jpg, .webp), a folder, a .zip, or a film (.gif, .mp4, or .webp with --seconds). Default: between.png in
        the run folder.
    seconds
        Duration of a film (default 4, at most 600).
    """
    from limner.apps.autoencode import Autoencoder
    from limner.apps.autoencode import interpolate as make
    from limner.apps.model import GeneratorModel
    from limner.apps.text import TextGenerator
    from limner.apps.text import interpolate as make_texts

    model = open_model(run, device, Autoencoder | GeneratorModel | TextGenerator, "interpolate")
    if isinstance(model, TextGenerator):
        with Progress("interpolating") as progress:
            print_line(make_texts(model, a, b, out, steps, seconds, progress))
        return
    if not isinstance(model, Autoencoder):  # its own encoder finds the latents of pictures
        from limner.apps.editing.direct import interpolate as make_latents

        with Progress("interpolating") as progress:
            print_line(make_latents(model, Path(a), Path(b), out, steps, seconds, progress))
        return
    print_line(make(model, Path(a), Path(b), out, steps, seconds))


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
    device: Device = "auto",
) -> None:
    """Show the effect of each latent dimension of an autoencoder: a sheet with a row for each, the largest KL divergence first.

    Parameters
    ----------
    run
        The folder that `limner train` wrote.
    source
        Pictures, as `limner train` takes them; the KL divergence of each dimension is measured on them.
    dims
        How many dimensions.
    steps
        Pictures per row, from 3 standard deviations below a dimension's mean to 3 above.
    around
        A picture to start from (default: the mean latent).
    n
        Maximum number of pictures to measure, spread evenly over the set.
    out
        Where to write the sheet, a .png (default: traverse.png in the run folder).
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
    labels: Path | None = None,
    out: Path | None = None,
    device: Device = "auto",
) -> None:
    """Write the numbers that a trained network computes of pictures: latents of an autoencoder, features of any other run.

    The .npz holds latents (or features), names, and labels with classes where the pictures have some. Features of a generator
    are those of its discriminator, from the run's checkpoint.

    Parameters
    ----------
    run
        The folder that `limner train` wrote.
    source
        Pictures, as `limner train` takes them.
    labels
        A CSV or JSON of the pictures' classes, where they are not their folders.
    out
        Where to write them (default: latents.npz or features.npz in the run folder).
    """
    from limner.apps.encode import encode as make

    with Progress("encoding") as progress:
        print_line(make(open_model(run, device, object, "encode"), source, out, labels, tell, progress))


@app.command
def translate(
    run: Path,
    source: Annotated[Path, Parameter(name="in")],
    out: Path,
    /,
    *,
    direction: Literal["a2b", "b2a"] = "a2b",
    sheet: Path | None = None,
    device: Device = "auto",
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
        From the first side to the second (a2b) or back (b2a).
    sheet
        A PNG of pictures above their translations.
    """
    from limner.apps.translate import Translator
    from limner.apps.translate import translate as make

    model = open_model(run, device, Translator, "translate")
    with Progress("translating") as progress:
        print_line(make(model, source, out, direction, sheet, progress, tell))
