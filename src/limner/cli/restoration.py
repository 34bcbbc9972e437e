"""Commands of trained restorers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from limner.cli.app import Device, Progress, app, open_model, print_line, tell


@app.command
def restore(
    run: Path,
    source: Annotated[Path, Parameter(name="in")],
    out: Path,
    /,
    *,
    strength: float = 1.0,
    mask: Path | None = None,
    scale: float | None = None,
    tile: int | None = None,
    quality: int = 95,
    sheet: Path | None = None,
    ensemble: int = 1,
    device: Device = "auto",
) -> None:
    """Restore a picture, a folder or a zip at any size; names, transparency, color profile, EXIF and 16-bit gray are kept.

    Parameters
    ----------
    run
        The folder that `limner train` wrote.
    source
        A picture, a folder or a zip.
    out
        A file for one picture; a folder or a .zip for many.
    strength
        Between the picture itself, or its bicubic enlargement (0), and the restored one (1).
    mask
        For a model that fills holes: a picture that is white in the hole, or a folder or zip of them by the pictures' names
        (default: transparent pixels are the hole).
    scale
        Enlargement of each side, from 1 to the model's own: 2.5 (default: the model's own).
    tile
        Side in pixels of the tiles that pictures are computed in: less needs less memory (default: 512, or 768 for a U-Net).
    quality
        Quality of JPEG and WebP, 1 to 100.
    sheet
        A PNG of the middle of pictures above the same part restored.
    ensemble
        1, 2, 4 or 8: the mean over as many mirrored and turned copies of a picture; more exact, in as many times the time.
    """
    from limner.apps.restore import Restorer
    from limner.apps.restore_files import restore as make

    model = open_model(run, device, Restorer, "restore")
    with Progress("restoring") as progress:
        print_line(make(model, source, out, strength, mask, scale, tile, quality, sheet, ensemble, progress, tell))
