"""Pictures as an array that can save itself: as a sheet, a folder or a .zip."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from limner.core.files import write_error, write_whole, writing
from limner.core.images import ImageSpec, encode_png, grid, to_pil

SHEETS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
MAX_SIDE = {"PNG": 2**31 - 1, "JPEG": 65_535, "WEBP": 16_383}  # pixels, of the file format
MAX_SHEET_BYTES = 400_000_000  # in memory
Progress = Callable[[int, int], None]  # (done, total)


class ImageArray(np.ndarray):
    """Pictures as an array uint8 [N,C,H,W], with a method that writes them to files."""

    def save(self, path: str | Path, columns: int | None = None) -> Path:
        """Write the pictures as one sheet, or each as a file.

        Parameters
        ----------
        path
            A sheet (.png, .jpg or .webp), a .zip, or a folder.
        columns
            Pictures in a row of the sheet; None makes it about square.

        Returns
        -------
        pathlib.Path
            The path.

        Raises
        ------
        ValueError
            For another suffix, for a sheet too large for its format, and when the path cannot be written.

        Examples
        --------
        After the example of `limner.train`:

        >>> import limner
        >>> limner.load("runs/noise", "cpu").sample(12).save("noise.png", columns=6).name
        'noise.png'
        """
        pictures = np.asarray(self)
        write_pictures(Path(path), iter([pictures]), len(pictures), ImageSpec(*pictures.shape[1:]), columns)
        return Path(path)


def write_pictures(path: Path, batches: Iterable[np.ndarray], n: int, spec: ImageSpec, columns: int | None = None,
                   progress: Progress | None = None, rows: Sequence[int] | None = None) -> None:  # fmt: skip
    """Write n pictures that come in batches uint8 [B,C,H,W] to a sheet, a .zip, or a folder of .png files.

    Batches are written as they come, except to a sheet. rows: of a sheet, as in `grid`. Raises ValueError as `ImageArray.save`.
    """
    ending = form(path)
    if ending in SHEETS:
        check_sheet(path, n, spec, columns, rows)
        parts = []
        for batch in _counted(batches, n, progress):
            parts.append(np.asarray(batch))
        write_sheet(path, grid(np.concatenate(parts), columns, rows=rows))
        return
    digits, i = max(6, len(str(n - 1))), 0
    if ending == ".zip":
        with writing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for batch in _counted(batches, n, progress):
                for picture in batch:
                    archive.writestr(f"{i:0{digits}d}.png", encode_png(picture))
                    i += 1
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(error, path) from error
    for batch in _counted(batches, n, progress):
        for picture in batch:
            write_whole(path / f"{i:0{digits}d}.png", encode_png(picture))
            i += 1


def _counted(batches: Iterable[np.ndarray], n: int, progress: Progress | None) -> Iterator[np.ndarray]:
    done = 0
    for batch in batches:
        yield batch
        done += len(batch)
        if progress:
            progress(done, n)


def check_columns(columns: int | None) -> None:
    """Raise ValueError for a sheet without a column."""
    if columns is not None and columns < 1:
        raise ValueError("A sheet has at least 1 column: give --columns 1 or more.")


def check_sheet(
    path: Path, n: int, spec: ImageSpec, columns: int | None = None, rows: Sequence[int] | None = None
) -> None:
    """Raise ValueError when n pictures are too many for one sheet of that format; called before they are generated."""
    check_columns(columns)
    columns = max(rows) if rows else max(1, min(n, columns or round((n * spec.height / spec.width) ** 0.5)))
    height, width = (len(rows) if rows else -(-n // columns)) * (spec.height + 2), columns * (spec.width + 2)
    max_side = MAX_SIDE[SHEETS[path.suffix.lower()]]
    if max(height, width) > max_side or height * width * spec.channels > MAX_SHEET_BYTES:
        raise ValueError(
            f"A sheet of {n:,} pictures would have {width:,}x{height:,} pixels, too many for {path.name!r}: write to a folder "
            "or a .zip, or ask for fewer."
        )


def write_sheet(path: Path, image: np.ndarray) -> None:
    """Write one picture uint8 [C,H,W] as .png, .jpg (on a white background) or .webp (lossless)."""
    kind, picture = SHEETS[path.suffix.lower()], to_pil(image)
    if kind == "JPEG" and picture.mode == "RGBA":
        white = Image.new("RGBA", picture.size, "white")
        white.alpha_composite(picture)
        picture = white.convert("RGB")
    options: dict[str, Any] = {"quality": 95} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    write_whole(path, buffer.getvalue())


def form(path: Path) -> str:
    """Return the format in which pictures are written to a path: the suffix of a sheet, ".zip", or "" for a folder.

    The name of an existing folder may have a suffix. Raises ValueError for another suffix.
    """
    ending = "" if path.is_dir() else path.suffix.lower()
    if ending not in (*SHEETS, ".zip", ""):
        raise ValueError(f"Pictures are saved as a sheet (.png, .jpg, .webp), a .zip or a folder, not as {path.name!r}.")
    return ending
