"""A translator in the hand: one picture or many, of any size, mode and ending."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor, nn

from limner.apps.tiles import in_tiles, normalised_as, thumbnail
from limner.core import artifact, device
from limner.core.files import for_people, write_whole, writing
from limner.core.images import ImageSpec, grid, png, to_float, to_pil, to_uint8, write_png
from limner.data import Damaged, open_source
from limner.data.decode import ENDINGS, as_colour, clean, in_channels, opened, reason, upright

TILE, OVERLAP = 512, 64  # pixels; larger pictures go through in pieces
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}
SHOWN = 8  # pictures on a before/after sheet
WHITE = (255, 255, 255)
Progress = Callable[[int, int], None]  # (done, of how many)


class Translator:
    """Trained translators. spec: what they were trained on. directions: "a2b", "b2a" or both."""

    def __init__(self, networks: nn.Module, spec: ImageSpec, description: dict[str, Any], where: torch.device,
                 folder: Path) -> None:  # fmt: skip
        assert isinstance(networks, nn.ModuleDict)
        self.networks, self.spec, self.description, self.folder = networks, spec, description, folder
        self.directions = list(networks)
        self.ground = as_colour(artifact.preparation(description)["background"])  # what it saw behind the transparent
        self._device, self._precision = where, device.precision(where)

    def translate(self, image: Image.Image | np.ndarray | str | Path, direction: str = "a2b", tile: int = TILE,
                  overlap: int = OVERLAP, progress: Progress | None = None) -> Image.Image:  # fmt: skip
        """One picture at its own size: a file, a Pillow image or uint8 [C,H,W]. progress: of its tiles, if it is large.

        It is turned upright as its EXIF says. Transparency is kept: colours are translated on what the training had
        behind the transparent, unless the model knows transparency itself. Raises ValueError for an unknown direction
        and a picture that cannot be read.
        """
        network = self._network(direction)
        if isinstance(image, np.ndarray):
            image = to_pil(image)
        elif isinstance(image, (str, Path)):
            image = read(Path(image))
        seen = upright(image)
        array = np.array(in_channels(seen, self.spec.channels, self.ground)).reshape(seen.height, seen.width, -1)
        if self.spec.channels == 4:
            clean(array, self.ground)
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
        """uint8 [N,C,H,W] -> translated uint8 [N,C,H,W], in tiles where they are large."""

        def through(x: Tensor) -> Tensor:
            x, size = _at_least(x, int(network.least))  # type: ignore[arg-type]
            with torch.autocast(self._device.type, self._precision, enabled=self._precision != torch.float32):
                return network(x)[..., : size[0], : size[1]].float()

        tile = max(tile, 2 * overlap, *self.spec.size)
        x = to_float(pictures.to(self._device)).contiguous(memory_format=torch.channels_last)
        if max(x.shape[-2:]) <= tile:
            return to_uint8(torch.cat([through(one) for one in x.split(1)])).cpu()
        made = []
        for one in x.split(1):
            small = thumbnail(one, tile, int(network.least))  # type: ignore[arg-type]
            with normalised_as(network, through, small):
                made.append(in_tiles(through, one, tile, overlap, progress))
        return to_uint8(torch.cat(made)).cpu()

    def _network(self, direction: str) -> nn.Module:
        if direction not in self.directions:
            raise ValueError(f"This model translates {' and '.join(self.directions)}, not {direction!r}.")
        return self.networks[direction]


def _at_least(x: Tensor, least: int) -> tuple[Tensor, tuple[int, int]]:
    """x with its border repeated until no side is shorter than `least`, and the size that it had."""
    h, w = x.shape[-2:]
    below, right = max(0, least - h), max(0, least - w)
    return (F.pad(x, (0, right, 0, below), mode="replicate") if below or right else x), (h, w)


def read(path: Path) -> Image.Image:
    """A picture file, upright, in mode L, RGB or RGBA. Raises ValueError in one sentence."""
    try:
        return upright(opened(io.BytesIO(path.read_bytes())))
    except (Damaged, OSError) as error:
        raise ValueError(f"{path} cannot be used: {reason(error)}.") from error


# ---- many ------------------------------------------------------------------------------------------------------------

Sink = Callable[[str, bytes], None]


def translate(
    model: Translator,
    source: Path,
    out: Path,
    direction: str = "a2b",
    sheet: Path | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] = print,
) -> str:
    """Translate a file, a folder or a zip; names are kept. Returns a sentence that says what was written.

    out: a file for a file; a folder or a .zip for many. sheet: write a PNG of pictures above their translations.
    A damaged picture is told through `say` and skipped. Raises ValueError when none could be translated.
    """
    model._network(direction)
    if sheet:
        png(sheet)  # said before hours are spent
    shown: list[tuple[Image.Image, Image.Image]] = []
    if source.is_file() and source.suffix.lower() not in (".zip", ".npy", ".npz"):
        before = read(source)
        out = out / source.name if out.is_dir() or not out.suffix else out
        out = out if out.suffix.lower() in FORMATS else out.with_name(out.name + ".png")
        _keep_apart(source, out)
        after = model.translate(before, direction, progress=progress)
        write_whole(out, encoded(after, out.suffix))
        shown.append((before, after))
        done, bad = 1, 0
    else:
        pictures = open_source(source, with_labels=False)
        _keep_apart(source, out)
        done, bad, taken = 0, len(pictures.bad), set(pictures.names)
        for name, why in pictures.bad:
            say(f"Skipped {name}: {why}.")
        with ExitStack() as stack:
            put = _sink(out, stack)
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
                name = written_as(name, taken)
                put(name, encoded(after, PurePosixPath(name).suffix))
                done += 1
                if len(shown) < SHOWN:
                    shown.append((before, after))
            if progress:
                progress(len(pictures), len(pictures))
            if not done:  # said in here, so that no empty .zip is left behind
                raise ValueError(f"No picture of {source} could be translated: all {bad:,} are damaged.")
    if sheet:
        write_png(sheet, before_after(shown, max(model.spec.size)))
    skipped = f"; {bad:,} were skipped" if bad else ""
    return f"{done:,} translated picture{'s are' if done > 1 else ' is'} in {out}{skipped}."


def _keep_apart(source: Path, out: Path) -> None:
    """Raises ValueError where a translation would take the place of what it was made from."""
    among = source.is_dir() and not out.suffix and source.resolve() in out.resolve().parents
    if among or (out.exists() and out.resolve() == source.resolve()):
        raise ValueError(f"In {out} the pictures themselves would be lost: choose another place to write to.")


def written_as(name: str, taken: set[str]) -> str:
    """The name of a translation: that of its picture, with .png where the picture's format is not written here.

    taken: names that are not free; the new one is added.
    """
    path = PurePosixPath(name)
    if path.suffix.lower() in FORMATS:
        return name
    known = path.suffix.lower() in ENDINGS  # a dot may also be part of the name
    renamed = str(path.with_suffix(".png")) if known else f"{name}.png"
    renamed = f"{name}.png" if renamed in taken else renamed
    taken.add(renamed)
    return renamed


def _sink(out: Path, stack: ExitStack) -> Sink:
    """Where translations go by name: a .zip, or a folder. Names never lead out of it."""
    if out.suffix.lower() == ".zip":
        archive = stack.enter_context(zipfile.ZipFile(stack.enter_context(writing(out)), "w"))
        return archive.writestr
    if out.suffix or out.is_file():
        raise ValueError(f"Many pictures go into a folder or a .zip, not into {out.name!r}.")

    def put(name: str, content: bytes) -> None:
        path = out.joinpath(*(part for part in PurePosixPath(name).parts if part not in ("..", "/")))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise for_people(error, path) from error
        write_whole(path, content)

    return put


def encoded(image: Image.Image, ending: str) -> bytes:
    """A picture as the bytes of a file of that ending; JPEG, which knows no transparency, is flattened on white."""
    kind = FORMATS[ending.lower()]
    if kind == "JPEG" and image.mode == "RGBA":
        image = in_channels(image, 3, WHITE)
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"quality": 95} if kind == "JPEG" else {}))
    return buffer.getvalue()


def before_after(pairs: list[tuple[Image.Image, Image.Image]], side: int) -> np.ndarray:
    """A sheet uint8 [3,H,W]: pictures in a row, each fitted into a square, above their translations."""
    side = max(64, min(side, 256))
    cells = []
    for row in zip(*pairs, strict=True):
        for image in row:
            flat = in_channels(upright(image), 3, WHITE)
            cells.append(np.asarray(ImageOps.pad(flat, (side, side), color=WHITE)).transpose(2, 0, 1))
    return grid(np.stack(cells), columns=len(pairs))
