"""A trained translator, and `limner translate`: one picture or many, of any size, mode and format."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import count
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor, nn

from limner.apps.tiles import in_tiles, normalized_as, thumbnail
from limner.core import artifact, device
from limner.core.device import autocast
from limner.core.files import write_error, write_whole, writing
from limner.core.images import MODES, WHITE, ImageSpec, grid, png, to_float, to_pil, to_uint8, write_png
from limner.data import Damaged, open_source
from limner.data.dataset import and_skipped
from limner.data.folder import kind, list_files
from limner.data.image import SUFFIXES, convert_channels, fill_transparent, open_image, parse_color, reason, upright

TILE, OVERLAP = 512, 64  # pixels; larger pictures are processed in tiles
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}
MAX_SHEET_PICTURES = 8  # on a before/after sheet
Progress = Callable[[int, int], None]  # (done, total)


class Translator:
    """A trained translator. spec: of its training pictures. directions: "a2b", "b2a" or both."""

    def __init__(self, networks: nn.Module, spec: ImageSpec, description: dict[str, Any], where: torch.device,
                 folder: Path) -> None:  # fmt: skip
        assert isinstance(networks, nn.ModuleDict)
        self.networks, self.spec, self.description, self.folder = networks, spec, description, folder
        self.directions = list(networks)
        self.background = parse_color(artifact.preparation(description)["background"])  # of transparent training pictures
        self._device, self._precision = where, device.precision(where)

    def translate(self, image: Image.Image | np.ndarray | str | Path, direction: str = "a2b", tile: int = TILE,
                  overlap: int = OVERLAP, progress: Progress | None = None) -> Image.Image:  # fmt: skip
        """Translate one picture at its own size.

        The EXIF orientation is applied. Transparency is kept: colors are translated on the background of the training data,
        unless the model was trained on RGBA pictures.

        Parameters
        ----------
        image
            A file, a Pillow image, or uint8 [C,H,W].
        direction
            "a2b", from the first kind to the second, or "b2a".
        tile
            Side in pixels of the tiles that larger pictures are translated in.
        overlap
            Pixels by which tiles overlap.
        progress
            Called with (done, total) tiles.

        Returns
        -------
        PIL.Image.Image
            The translation, of the picture's size.

        Raises
        ------
        ValueError
            For an unknown direction and for a picture that cannot be read.

        Examples
        --------
        >>> import limner
        >>> import numpy as np
        >>> pictures = np.random.default_rng(0).integers(0, 256, (32, 16, 16), dtype=np.uint8)
        >>> small = {"network.width": 8, "discriminator.width": 8}
        >>> run = limner.train(
        ...     pictures, 255 - pictures, recipe="pix2pix", images=16, changes=small, out="runs/negative", quiet=True
        ... )
        >>> model = limner.load(run.folder, "cpu")
        >>> model.translate(np.zeros((1, 20, 30), np.uint8)).size
        (30, 20)
        """
        network = self.network(direction)
        if isinstance(image, np.ndarray):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[0] not in MODES:
                raise ValueError(
                    f"A picture as an array is uint8 [C,H,W] with 1, 3 or 4 channels, not {image.dtype} {image.shape}: "
                    "transpose it, or give the Pillow image or the file."
                )
            image = to_pil(image)
        elif isinstance(image, (str, Path)):
            image = read(Path(image))
        seen = upright(image)
        array = np.array(convert_channels(seen, self.spec.channels, self.background)).reshape(seen.height, seen.width, -1)
        if self.spec.channels == 4:
            fill_transparent(array, self.background)
        x = torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)))[None]
        made = self.render(x, network, tile, overlap, progress)[0]
        result = to_pil(made)
        if seen.mode == "RGBA" and self.spec.channels < 4:
            result = result.convert("RGB")
            result.putalpha(seen.getchannel("A"))
        return result

    @torch.no_grad()
    def render(self, pictures: Tensor, network: nn.Module, tile: int = TILE, overlap: int = OVERLAP,
               progress: Progress | None = None) -> Tensor:  # fmt: skip
        """Translate uint8 [N,C,H,W] -> uint8 [N,C,H,W], in tiles if the pictures are large."""

        def through(x: Tensor) -> Tensor:
            x, size = _pad_to_minimum(x, int(network.least))  # type: ignore[arg-type]
            with autocast(self._device, self._precision):
                return network(x)[..., : size[0], : size[1]].float()

        tile = max(tile, 2 * overlap, *self.spec.size)
        x = to_float(pictures.to(self._device)).contiguous(memory_format=torch.channels_last)
        if max(x.shape[-2:]) <= tile:
            return to_uint8(torch.cat([through(one) for one in x.split(1)])).cpu()
        made = []
        for one in x.split(1):
            small = thumbnail(one, tile, int(network.least))  # type: ignore[arg-type]
            with normalized_as(network, through, small):
                made.append(in_tiles(through, one, tile, overlap, progress))
        return to_uint8(torch.cat(made)).cpu()

    def network(self, direction: str) -> nn.Module:
        if direction not in self.directions:
            raise ValueError(f"This model translates {' and '.join(self.directions)}, not {direction!r}.")
        return self.networks[direction]


def _pad_to_minimum(x: Tensor, least: int) -> tuple[Tensor, tuple[int, int]]:
    """Return x with its border replicated until no side is shorter than `least`, and its original (H, W)."""
    h, w = x.shape[-2:]
    below, right = max(0, least - h), max(0, least - w)
    return (F.pad(x, (0, right, 0, below), mode="replicate") if below or right else x), (h, w)


def read(path: Path) -> Image.Image:
    """Return a picture file, upright, in mode L, RGB or RGBA. Raises ValueError when it cannot be read."""
    try:
        return upright(open_image(io.BytesIO(path.read_bytes())))
    except (Damaged, OSError) as error:
        raise ValueError(f"{path} cannot be used: {reason(error)}.") from error


# ---- many ------------------------------------------------------------------------------------------------------------

Writer = Callable[[str, bytes], None]


def translate(
    model: Translator,
    source: Path,
    out: Path,
    direction: str = "a2b",
    sheet: Path | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] = print,
) -> str:
    """Translate a file, a folder or a zip; names are kept. Returns a sentence that names the output.

    out: a file for a file; a folder or a .zip for many. sheet: a PNG of pictures above their translations. say: called with a
    sentence for each damaged picture, which is skipped. Raises ValueError when none could be translated.
    """
    model.network(direction)
    if sheet:
        png(sheet)  # before any picture is translated
    shown: list[tuple[Image.Image, Image.Image]] = []
    if source.is_file() and source.suffix.lower() not in (".zip", ".npy", ".npz"):
        before = read(source)
        out = out / source.name if out.is_dir() or not out.suffix else out
        out = out if out.suffix.lower() in FORMATS else out.with_name(out.name + ".png")
        check_no_overwrite([source], [out], sheet)
        after = model.translate(before, direction, progress=progress)
        write_whole(out, encoded(after, out.suffix))
        shown.append((before, after))
        done, bad = 1, 0
    else:
        pictures = open_source(source, labels=False, splits=False)
        zipped = out.suffix.lower() == ".zip" and not out.is_dir()
        if not zipped and not out.is_dir() and (out.suffix or out.is_file()):
            raise ValueError(f"Many pictures go into a folder or a .zip, not into {out.name!r}.")
        inside = source.is_dir() and not zipped and source.resolve() in (out.resolve(), *out.resolve().parents)
        if inside:  # the next run would translate the translations
            raise ValueError(f"{out} would overwrite the originals: choose another place to write to.")
        names = output_names(pictures.names)
        originals = [source]
        if source.is_dir():
            originals = [source / name for name, _ in list_files(source)[0] if kind(name)[0] != "other"]
        check_no_overwrite(originals, [out, *(() if zipped else (out / name for name in names))], sheet)
        done, bad = 0, len(pictures.bad)
        for name, why in pictures.bad:
            say(f"Skipped {name}: {why}.")
        with ExitStack() as stack:
            write = file_writer(out, zipped, stack)
            for i, name in enumerate(pictures.names):
                if progress and i:
                    progress(i, len(pictures))
                try:
                    before = pictures.read(i)
                    after = model.translate(before, direction)
                except (Damaged, OSError) as error:
                    say(f"Skipped {name}: {reason(error)}.")
                    bad += 1
                    continue
                write(names[i], encoded(after, PurePosixPath(names[i]).suffix))
                done += 1
                if len(shown) < MAX_SHEET_PICTURES:
                    shown.append((before, after))
            if progress:
                progress(len(pictures), len(pictures))
            if not done:  # raised within the context, so that no empty .zip is left behind
                raise ValueError(f"No picture of {source} could be translated: all {bad:,} are damaged.")
    if sheet:
        write_png(sheet, before_after(shown))
    return f"{done:,} translated picture{'s are' if done > 1 else ' is'} in {out}{and_skipped(bad)}."


def check_no_overwrite(originals: Iterable[Path], targets: Sequence[Path], sheet: Path | None) -> None:
    """Raise ValueError when a file to write would replace an original, or the sheet a translation."""
    kept = {_identity(path) for path in originals}
    for path in (*targets, *([sheet] if sheet else [])):
        if _identity(path) in kept:
            raise ValueError(f"{path} would overwrite an original: choose another place to write to.")
    if sheet and _identity(sheet) in {_identity(path) for path in targets}:
            raise ValueError(f"The sheet {sheet} would replace a translation: choose another name for it.")


def _identity(path: Path) -> object:
    """Return a value that is equal for all names of one file, whether or not it exists."""
    try:
        found = path.stat()
    except OSError:
        return os.path.realpath(path)
    return found.st_dev, found.st_ino


def output_names(names: Sequence[str]) -> list[str]:
    """Return the file names of translations: those of their pictures, with .png if the format cannot be written.

    They are unique, also on file systems that ignore case, and stay within the folder or zip.
    """
    inner = ["/".join(_without_drive(part) for part in PurePosixPath(name).parts if part.strip("./")) for name in names]
    taken = {str(folder).casefold() for name in inner for folder in PurePosixPath(name).parents}  # names of folders
    found: dict[int, str] = {}
    for i, name in enumerate(inner):  # names that can be kept take precedence over those that must change
        if name == names[i] and name.casefold() not in taken and PurePosixPath(name).suffix.lower() in FORMATS:
            taken.add(name.casefold())
            found[i] = name
    for i, name in enumerate(inner):
        if i not in found:
            found[i] = next(new for new in _new_names(name) if new.casefold() not in taken)
            taken.add(found[i].casefold())
    return [found[i] for i in range(len(names))]


def _without_drive(part: str) -> str:
    """Return a part of a path without a Windows drive: there `C:` in front of any part leads out of the folder."""
    return part.replace(":", "") if PureWindowsPath(part).drive else part


def _new_names(name: str) -> Iterator[str]:
    """Yield candidates for the name of a translation, the best first."""
    path = PurePosixPath(name)
    is_format = path.suffix.lower() in SUFFIXES  # a dot may also be part of the name
    ending = path.suffix if path.suffix.lower() in FORMATS else ".png"
    stem = str(path.with_suffix("")) if is_format else name
    yield stem + ending
    if ending != path.suffix:
        yield name + ending
    yield from (f"{stem}-{i}{ending}" for i in count(2))


def file_writer(out: Path, zipped: bool, stack: ExitStack) -> Writer:
    """Return a function that writes a named file into the .zip or folder `out`."""
    if zipped:
        archive = stack.enter_context(zipfile.ZipFile(stack.enter_context(writing(out)), "w"))
        return archive.writestr

    def write(name: str, content: bytes) -> None:
        path = out / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(error, path) from error
        write_whole(path, content)

    return write


def encoded(image: Image.Image, ending: str) -> bytes:
    """Return a picture as the bytes of a file with that suffix; JPEG has no transparency and gets a white background."""
    form = FORMATS[ending.lower()]
    if form == "JPEG" and image.mode == "RGBA":
        image = convert_channels(image, 3, WHITE)
    buffer = io.BytesIO()
    image.save(buffer, form, **({"quality": 95} if form == "JPEG" else {}))
    return buffer.getvalue()


def before_after(pairs: list[tuple[Image.Image, Image.Image]]) -> np.ndarray:
    """Return a sheet uint8 [3,H,W]: a row of pictures, each fitted into a square of 64 to 256 pixels, above their translations."""
    side = min(256, max(64, *(max(before.size) for before, _ in pairs)))
    cells = []
    for row in zip(*pairs, strict=True):
        for image in row:
            flat = convert_channels(upright(image), 3, WHITE)
            cells.append(np.asarray(ImageOps.pad(flat, (side, side), color=WHITE)).transpose(2, 0, 1))
    return grid(np.stack(cells), columns=len(pairs))
