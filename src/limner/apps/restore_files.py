"""`limner restore`: a picture, a folder or a zip through a restorer, with masks by the pictures' names."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from PIL import Image

from limner.apps.pictures_out import QUALITY, Made, Progress, Say, Words, as_picture, encoded, open_many, write_all
from limner.apps.pixels import loses_depth
from limner.apps.restore import Restorer
from limner.core.text import counted
from limner.data import Damaged
from limner.data.image import SUFFIXES, upright
from limner.data.source import Source

WORDS = Words("restored", "a restored picture")
SHEET_CROP = 256  # pixels a side of the part of a picture that the sheet shows, at the restored size


class Masks:
    """The masks of pictures: one picture for all of them, or those of a folder or zip by name."""

    def __init__(self, place: Path) -> None:
        """Raises ValueError when there is no mask at `place`."""
        self.place = place
        self._one: Image.Image | None = None
        self._many: Source | None = None
        if place.is_file() and place.suffix.lower() != ".zip":
            self._one = upright(as_picture(place))
        else:
            self._many = open_many(place)
            self._rows = {_stem(name): i for i, name in enumerate(self._many.names)}

    def of(self, name: str) -> Image.Image:
        """Return the mask of a picture, whatever its own file format. Raises Damaged when there is none."""
        if self._many is None:
            assert self._one
            return self._one
        row = self._rows.get(_stem(name))
        if row is None:
            raise Damaged(f"no mask of its name is in {self.place}")
        try:
            return upright(self._many.open(row))
        except Damaged as error:
            raise Damaged(f"its mask cannot be used ({error})") from error


def _stem(name: str) -> str:
    path = PurePosixPath(name)
    return str(path.with_suffix("") if path.suffix.lower() in SUFFIXES else path)


def restore(
    model: Restorer,
    source: Path,
    out: Path,
    strength: float = 1.0,
    mask: Path | None = None,
    scale: float | None = None,
    tile: int | None = None,
    quality: int = QUALITY,
    sheet: Path | None = None,
    ensemble: int = 1,
    progress: Progress | None = None,
    say: Say = print,
) -> str:
    """Restore a file, a folder or a zip; names are kept. Returns a sentence that names the output.

    out: a file for a file; a folder or a .zip for many. mask: a picture, or a folder or zip of pictures by the same names.
    sheet: a PNG of the middle of pictures above the same part restored. say: called with a sentence for each damaged picture,
    which is skipped. Other options are those of `Restorer.restore`. Raises ValueError when nothing could be restored.
    """
    model.check(strength, mask is not None, scale, tile, ensemble)  # raises before any picture is read
    if not 1 <= quality <= 100:
        raise ValueError(f"The quality of JPEG and WebP goes from 1 to 100, and {quality} is outside.")
    masks = None if mask is None else Masks(mask)
    shallow: list[str] = []

    def make(image: Image.Image, name: str, ending: str, progress: Progress | None) -> Made:
        loses = loses_depth(image)
        try:
            after = model.restore(image, strength, masks.of(name) if masks else None, scale, tile, ensemble, progress)
            content = encoded(after, ending, quality)
        except Damaged:
            raise
        except ValueError as error:  # of this picture: its mask does not fit, it is too large for its format or for the memory
            text = str(error).rstrip(".")
            raise Damaged(text[:1].lower() + text[1:]) from error
        shallow.extend([name] * loses)
        return Made(content, *(_middle(image, after) if sheet else (image, after)))

    sentence = write_all(source, out, make, WORDS, sheet, progress, say)
    if shallow:
        sentence += f" {counted(len(shallow), 'has', 'have')} 16 bits per channel in color, which Pillow reads at 8: {shallow[0]}."
    return sentence


def _middle(before: Image.Image, after: Image.Image) -> tuple[Image.Image, Image.Image]:
    """Return the middle of a restored picture, and the same part of the original enlarged to it."""
    width, height = (min(side, SHEET_CROP) for side in after.size)
    left, top = (after.width - width) // 2, (after.height - height) // 2
    original = upright(before)
    factor = original.width / after.width, original.height / after.height
    box = (left * factor[0], top * factor[1], (left + width) * factor[0], (top + height) * factor[1])
    part = original.resize((width, height), Image.Resampling.BICUBIC, box)
    return part, after.crop((left, top, left + width, top + height))
