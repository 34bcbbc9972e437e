"""Commands that direct a trained generator: directions, edit, mix, dream, explain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from limner.cli.app import Device, Progress, app, open_model, print_line, show_table


@app.command
def directions(
    run: Path,
    /,
    *,
    like: Annotated[list[Path] | None, Parameter(consume_multiple=True, negative=())] = None,
    classifier: Path | None = None,
    data: str | None = None,
    labels: Path | None = None,
    axes: int = 6,
    steps: int = 7,
    at: Path | None = None,
    seed: int = 0,
    out: Path | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
    device: Device = "auto",
) -> None:
    """Find what a generator's latents control: named directions, each with its measured effect, and a sheet of them.

    They are stored beside the run, for `limner edit`.

    Parameters
    ----------
    run
        The folder that `limner train` wrote.
    like
        Pictures with something in common, better 8 than 2: latents, pictures, or a folder of them. Adds the direction "like".
    classifier
        A classifier that `limner train` wrote: measures how classes change, and without classes of its own gives the generator
        directions toward the classifier's.
    data
        Labeled real pictures to train a small classifier on instead (default: the embedded sample, where the generator was
        trained on one).
    labels
        A CSV or JSON of the classes of --data, where they are not its folders.
    axes
        Directions of each kind that are found without names: those of the weights, and those of the features.
    steps
        Pictures in a row of the sheet.
    at
        The latent or picture that the sheet moves (default: the sample of the seed).
    seed
        Random seed of the samples that are measured.
    out
        Where to write the sheet, a .png (default: editing/directions.png in the run folder).
    json
        Print JSON instead of the table.
    """
    from limner.apps.classify import Classifier
    from limner.apps.editing.direct import find_directions, table, to_json
    from limner.apps.model import GeneratorModel

    model = open_model(run, device, GeneratorModel, "directions")
    trained = None if classifier is None else open_model(classifier, device, Classifier, "directions --classifier")
    with Progress("training a classifier") as learning, Progress("measuring") as progress:
        found, told = find_directions(model, out, like or (), trained, data, labels, axes, steps, at, seed, progress, learning)
    if json:
        print(to_json(found))
        return
    show_table(table(found))
    print_line(told)


@app.command
def edit(
    run: Path,
    source: Annotated[Path | None, Parameter(name="latent")] = None,
    /,
    *,
    seed: int = 0,
    label: str | None = None,
    direction: Annotated[list[str] | None, Parameter(negative=())] = None,
    by: Annotated[list[float] | None, Parameter(negative=(), allow_leading_hyphen=True)] = None,
    layers: str | None = None,
    keep: bool = True,
    out: Path | None = None,
    device: Device = "auto",
) -> None:
    """Move a picture of a generator along directions that `limner directions` found.

    Parameters
    ----------
    run
        The folder that `limner train` wrote.
    source
        A latent that `limner invert` or `limner edit` wrote, or a picture, which is inverted first (default: a sample).
    seed
        Without a latent: random seed of the sample.
    label
        Without a latent: the class of the sample.
    direction
        The name of a direction, such as brighter or class:bag; may be given several times.
    by
        How far, in standard deviations of the latents, or for a class 1 to reach it; one after each direction (default: 2, or
        1).
    layers
        Layers of a style-based network to move: 0-3 or 5,6 (default: all).
    keep
        Let the latent follow a change of class, so that brightness, size and the like stay what they are for the class.
    out
        A .png, .jpg or .webp, or a .latent.npz to edit further (default: edited.png in the run folder).
    """
    from limner.apps.editing.direct import edit_picture, with_amounts
    from limner.apps.editing.edit import parse_layers
    from limner.apps.model import GeneratorModel

    model = open_model(run, device, GeneratorModel, "edit")
    moves = with_amounts(model, direction or [], by or [])
    print_line(edit_picture(model, source, moves, out, seed, label, parse_layers(layers), keep))


@app.command
def mix(
    run: Path,
    a: Path,
    b: Path,
    /,
    *,
    layers: str,
    out: Path | None = None,
    device: Device = "auto",
) -> None:
    """Mix two pictures of a generator layer by layer: early layers decide shape and pose, late ones color and texture.

    Parameters
    ----------
    run
        The folder that `limner train` wrote, with --recipe stylegan2 or biggan.
    a
        The latent or picture that gives all other layers.
    b
        The latent or picture that gives --layers.
    layers
        Layers taken from b: 0-3 or 5,6.
    out
        A .png, .jpg or .webp, or a .latent.npz (default: mixed.png in the run folder).
    """
    from limner.apps.editing.direct import mix_pictures
    from limner.apps.editing.edit import parse_layers
    from limner.apps.model import GeneratorModel

    model = open_model(run, device, GeneratorModel, "mix")
    print_line(mix_pictures(model, a, b, parse_layers(layers) or [], out))


@app.command
def dream(
    run: Path,
    photo: Path | None = None,
    /,
    *,
    layer: str | None = None,
    unit: int | None = None,
    octaves: int = 3,
    steps: int = 20,
    rate: float = 0.01,
    seed: int = 0,
    out: Path | None = None,
    device: Device = "auto",
) -> None:
    """Change a picture until a layer of a trained network answers as strongly as it can (Inceptionism).

    The network is a generator's discriminator (from the run's checkpoint), a classifier, an autoencoder's encoder, a translator
    or a restorer.

    Parameters
    ----------
    run
        The folder that `limner train` wrote.
    photo
        The picture to start from (default: gray noise).
    layer
        Name or number of a layer; an unknown one lists all (default: one in the middle).
    unit
        A channel of the layer (default: all of them).
    octaves
        Sizes at which the picture is changed, from coarse to fine.
    steps
        Steps at each size.
    rate
        Mean change of a pixel in one step; pixels go from -1 to 1.
    seed
        Random seed.
    out
        A .png, .jpg or .webp (default: dream.png in the run folder).
    """
    from limner.apps.editing.dream import dream_to

    model = open_model(run, device, object, "dream")
    with Progress("dreaming") as progress:
        print_line(dream_to(model, photo, out, layer, unit, octaves, steps, rate, seed, progress))


@app.command
def explain(
    run: Path,
    /,
    *,
    layer: str | None = None,
    units: int = 12,
    label: str | None = None,
    seed: int = 0,
    out: Path | None = None,
    device: Device = "auto",
) -> None:
    """Show which units of a generator draw what: each is switched off, and the pictures with and without it are compared.

    Parameters
    ----------
    run
        The folder that `limner train` wrote.
    layer
        Name or number of a layer; an unknown one lists all (default: one in the first half).
    units
        How many units to show, those of the largest effect.
    label
        A class by name (default: classes as frequent as in the training data).
    seed
        Random seed of the samples.
    out
        Where to write the sheet, a .png (default: explain.png in the run folder).
    """
    from limner.apps.editing.explain import explain_to
    from limner.apps.model import GeneratorModel

    model = open_model(run, device, GeneratorModel, "explain")
    with Progress("switching units off") as progress:
        print_line(explain_to(model, out, layer, units, seed, label, progress))
