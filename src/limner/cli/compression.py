"""Commands of a codec: compress, decompress."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from limner.cli.app import Device, Progress, app, open_model, print_line, tell


@app.command
def compress(
    run: Path,
    source: Annotated[Path, Parameter(name="in")],
    out: Path,
    /,
    *,
    quality: int = 50,
    archive: Annotated[bool, Parameter(negative=())] = False,
    effort: int = 0,
    metadata: bool = True,
    device: Device = "auto",
) -> None:
    """Compress a picture, a folder or a zip with a trained codec; `limner decompress` with the same run gives them back.

    Parameters
    ----------
    run
        The folder that `limner train` wrote, of the recipe codec.
    source
        A picture, a folder or a zip.
    out
        A .limn for one picture, and for many with --archive; otherwise a folder or a .zip, which keeps the tree of names.
    quality
        0 (smallest) to 100 (best), the ends of the range that the codec was trained for; not the scale of JPEG's quality.
    archive
        Write many pictures into one file with one header. It is smaller when the pictures are small and of one size.
    effort
        Steps of refinement of each picture's latents, such as 8: smaller files for more time, and the same decoding.
    metadata
        Keep ICC profiles and EXIF data.
    """
    from limner.apps.compress import Codec
    from limner.apps.compress_files import compress as make

    model = open_model(run, device, Codec, "compress")
    with Progress("compressing") as progress:
        print_line(make(model, source, out, quality, archive, effort, metadata, progress, tell))


@app.command
def decompress(
    run: Path,
    source: Annotated[Path, Parameter(name="in")],
    out: Path,
    /,
    *,
    device: Device = "auto",
) -> None:
    """Decompress what `limner compress` wrote, with the run that compressed it.

    Parameters
    ----------
    run
        The folder that `limner train` wrote.
    source
        A .limn, a folder or a zip of them.
    out
        A picture (.png, .webp and .tif are written without loss, .jpg is not) for one; a folder or a .zip for many, as .png.
    """
    from limner.apps.compress import Codec
    from limner.apps.compress_files import decompress as make

    model = open_model(run, device, Codec, "decompress")
    with Progress("decompressing") as progress:
        print_line(make(model, source, out, progress, tell))
