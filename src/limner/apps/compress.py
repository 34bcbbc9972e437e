"""A trained codec: pictures to bytes and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from limner.apps.pictures_out import as_picture
from limner.apps.streams import StreamCoder, decode_alpha, encode_alpha
from limner.coding import container
from limner.coding.container import File, Group, Header, Item
from limner.coding.entropy import Corrupt, check_installed
from limner.core import artifact
from limner.core.images import ImageSpec, to_pil
from limner.data.image import (
    ORIENTATION,
    Damaged,
    convert_channels,
    fill_transparent,
    parse_color,
    upright,
)

QUALITY = 50  # by default
MAX_EFFORT = 10_000
Progress = Callable[[int, int], None]  # (done, total)


@dataclass(frozen=True)
class Prepared:
    """A picture as it is coded. pixels: uint8 [H,W,C]. alpha: uint8 [H,W] where it is stored beside. notes: what is lost."""

    item: Item
    pixels: np.ndarray
    alpha: np.ndarray | None
    notes: tuple[str, ...] = ()


class Codec:
    """A trained codec. spec: of its training pictures."""

    def __init__(self, network: nn.Module, spec: ImageSpec, description: dict[str, Any], where: torch.device,
                 folder: Path) -> None:  # fmt: skip
        self.network, self.spec, self.description, self.folder = network, spec, description, folder
        self.background = parse_color(artifact.preparation(description)["background"])
        self._device = where

    @cached_property
    def streams(self) -> StreamCoder:
        check_installed()
        return StreamCoder(self.network, self._device)

    @cached_property
    def fingerprint(self) -> bytes:
        """Four bytes of the hash of all weights and tables."""
        return bytes.fromhex(artifact.content_hash(self.network.state_dict()))[:4]

    def compress(self, image: Image.Image | np.ndarray | str | Path, quality: int | None = None, effort: int = 0,
                 metadata: bool = True) -> bytes:  # fmt: skip
        """Compress one picture of any size.

        The EXIF orientation is applied, pictures of more than 8 bits a channel are stored with 8. Transparency is stored without
        loss, unless the codec was trained on RGBA pictures.

        Parameters
        ----------
        image
            A file, a Pillow image, or uint8 [C,H,W].
        quality
            0 (smallest) to 100 (best), the ends of the range that the codec was trained for; 50 by default. It is not the scale
            of JPEG's quality.
        effort
            Steps of latent refinement: smaller files for more time. 0 for none.
        metadata
            Whether to keep the ICC profile and EXIF data.

        Returns
        -------
        bytes
            What `decompress` takes.

        Raises
        ------
        ValueError
            For a picture that cannot be read, a quality out of range, and when the package constriction is not installed.

        Examples
        --------
        >>> import limner
        >>> import numpy as np
        >>> pictures = np.random.default_rng(0).integers(0, 256, (16, 64, 64), dtype=np.uint8)
        >>> small = {f"network.{name}": 8 for name in ("latent_channels", "hyper_width", "encoder_width", "decoder_width")}
        >>> run = limner.train(pictures, recipe="codec", images=16, changes=small, out="runs/codec", quiet=True)
        >>> content = limner.load(run.folder, "cpu").compress(np.zeros((1, 20, 30), np.uint8), quality=30)
        >>> type(content).__name__, len(content) < 100
        ('bytes', True)
        """
        try:
            picture = self.prepare(as_picture(image), metadata)
        except (Damaged, Corrupt) as error:
            raise ValueError(f"{image if isinstance(image, (str, Path)) else 'The picture'} cannot be used: {error}.") from error
        return self.compress_prepared(picture, quality, effort)

    def decompress(self, content: bytes) -> Image.Image:
        """Decompress one picture.

        Its ICC profile and EXIF data are in `info` of the image. The decoded symbols are the same on every machine; pixels may
        differ by one level.

        Parameters
        ----------
        content
            The bytes that `compress` returned.

        Returns
        -------
        PIL.Image.Image
            Of mode L, RGB or RGBA.

        Raises
        ------
        ValueError
            For damaged bytes, those of another model, and archives.

        Examples
        --------
        After the example of `compress`:

        >>> import limner
        >>> import numpy as np
        >>> codec = limner.load("runs/codec", "cpu")
        >>> codec.decompress(codec.compress(np.zeros((1, 20, 30), np.uint8))).size
        (30, 20)
        """
        try:
            file = self.open(content)
            if file.header.archive:
                raise Corrupt("it is an archive of many: use `limner decompress`")
            _, image = next(iter(self.images(file)))
            if isinstance(image, Corrupt):
                raise image
        except Corrupt as error:
            raise ValueError(f"The picture cannot be decompressed: {error}.") from error
        return image

    # ---- compression -------------------------------------------------------------------------------------------------

    def prepare(self, image: Image.Image, metadata: bool = True) -> Prepared:
        """Return a picture as it is coded. Raises Damaged when it cannot be decoded, Corrupt when it is too large."""
        notes = []
        if image.mode.startswith("I;16") or image.mode in ("I", "F"):
            notes.append("has more than 8 bits a channel and is stored with 8")
        seen = upright(image)
        icc, exif = profiles(image, seen.mode) if metadata else (b"", b"")
        channels, form, alpha = self.spec.channels, seen.mode, None
        if form == "RGBA" and channels < 4:
            form, alpha = "RGB+A", np.array(seen.getchannel("A"))
        if channels == 1 and form != "L":
            notes.append("is stored in gray, as the codec was trained")
            icc = b""
        if alpha is not None:
            array = np.array(seen)
            fill_transparent(array, self.background)
            seen = convert_channels(Image.fromarray(array[..., :3]), channels, self.background)
        array = np.array(convert_channels(seen, channels, self.background)).reshape(seen.height, seen.width, channels)
        if channels == 4:
            fill_transparent(array, self.background)
        item = Item(width=seen.width, height=seen.height, form=form, icc=icc, exif=exif)
        return Prepared(item, array, alpha, tuple(notes))

    def compress_prepared(self, picture: Prepared, quality: int | None = None, effort: int = 0) -> bytes:
        """Compress one picture that `prepare` returned."""
        return self.write([picture.item], lambda i: picture, quality, effort)

    def write(self, items: Sequence[Item], picture: Callable[[int], Prepared], quality: int | None = None, effort: int = 0,
              archive: bool = False, progress: Progress | None = None) -> bytes:  # fmt: skip
        """Compress one picture, or with `archive` any number, of which those of one size are coded together.

        items: in an archive with names. picture: returns one by number; at most those of one group are held at a time.
        """
        if len(items) > container.MAX_PICTURES:
            raise ValueError(f"An archive holds at most {container.MAX_PICTURES:,} pictures, not {len(items):,}: make several.")
        header = Header(self.fingerprint, validate_quality(quality), list(items), archive)
        return self._write(header, picture, validate_effort(effort), progress)

    def _write(self, header: Header, picture: Callable[[int], Prepared], effort: int, progress: Progress | None = None) -> bytes:
        file, groups, done = container.start(header), [], 0
        for number, numbers in enumerate(header.groups):
            pictures = [picture(i) for i in numbers]
            pixels = np.stack([one.pixels for one in pictures])
            planes = [one.alpha for one in pictures if one.alpha is not None]
            streams = []
            for k, tile in enumerate(pictures[0].item.tiles()):
                streams.append(self.streams.encode(pixels, tile, header.quality, file.context(number, k), effort))
            groups.append(Group(streams, encode_alpha(planes) if planes else None))
            done += len(numbers)
            if progress:
                progress(done, len(header.items))
        return container.write(header, groups)

    # ---- decompression -----------------------------------------------------------------------------------------------

    def open(self, content: bytes) -> File:
        """Return the parts of a compressed file. Raises Corrupt unless this codec wrote it."""
        return container.read(content, self.fingerprint)

    def images(self, file: File) -> Iterator[tuple[Item, Image.Image | Corrupt]]:
        """Yield the pictures of a file, group by group, or why one is damaged."""
        for number, numbers in enumerate(file.header.groups):
            items = [file.header.items[i] for i in numbers]
            made: Sequence[Image.Image | Corrupt]
            try:
                made = self._group(file, number, items)
            except Corrupt as error:
                made = [error] * len(items)
            yield from zip(items, made, strict=True)

    def _group(self, file: File, number: int, items: Sequence[Item]) -> list[Image.Image]:
        group, quality = file.groups[number], file.header.quality
        if len(group.streams) < items[0].tile_count:
            raise Corrupt(container.TRUNCATED)
        tiles = items[0].tiles()

        def latents(k: int) -> torch.Tensor:
            return self.streams.decode(group.streams[k], len(items), tiles[k], quality, file.context(number, k))

        height, width, channels = items[0].height, items[0].width, self.spec.channels
        if len(tiles) == 1:
            pixels = self.streams.render(latents(0), quality)[..., :height, :width].numpy()
        else:
            top, pixels = 0, np.empty((1, channels, 0, 0), np.uint8)
            for strip in self.streams.strips(tiles, latents, quality):
                if not top:  # the first tiles proved sound
                    pixels = np.empty((1, channels, height, width), np.uint8)
                pixels[0, :, top : top + strip.shape[1]] = strip.numpy()
                top += strip.shape[1]
        with_alpha = [item for item in items if item.form == "RGB+A"]
        planes: Iterator[np.ndarray] = iter(())
        if with_alpha:
            if group.alpha is None:
                raise Corrupt("its transparency is damaged")
            planes = iter(decode_alpha(group.alpha, len(with_alpha), height, width))
        return [
            _image(pixels[i], item, next(planes) if item.form == "RGB+A" else None) for i, item in enumerate(items)
        ]


def _image(pixels: np.ndarray, item: Item, alpha: np.ndarray | None) -> Image.Image:
    """Return decoded pixels uint8 [C,H,W] in the mode of the original, with its metadata in `info`."""
    image = to_pil(pixels)
    if item.form == "L":
        image = image.convert("L")
    elif item.form == "RGBA":
        image = image.convert("RGBA")
    elif image.mode != "L" or alpha is not None:  # a codec for gray pictures keeps what it has
        image = image.convert("RGB")
    if alpha is not None:
        image.putalpha(Image.fromarray(alpha))
    image.info.clear()
    image.info.update({key: data for key, data in (("icc_profile", item.icc), ("exif", item.exif)) if data})
    return image


def profiles(image: Image.Image, mode: str) -> tuple[bytes, bytes]:
    """Return the ICC profile, if it fits the mode after decoding, and the EXIF data without its orientation, which was applied."""
    icc = image.info.get("icc_profile") or b""
    if not isinstance(icc, bytes) or len(icc) > container.MAX_METADATA or icc[16:20] != (b"GRAY" if mode == "L" else b"RGB "):
        icc = b""
    exif = image.info.get("exif") or b""
    if not isinstance(exif, bytes) or len(exif) > container.MAX_METADATA:
        return icc, b""
    try:
        entries = Image.Exif()
        entries.load(exif)
        if ORIENTATION in entries:
            del entries[ORIENTATION]
        exif = entries.tobytes() if len(entries) else b""
    except Exception:  # damaged EXIF data does not make the picture unusable
        exif = b""
    return icc, exif if len(exif) <= container.MAX_METADATA else b""


def validate_quality(quality: int | None) -> int:
    """Return a quality, or the default. Raises ValueError unless it is a whole number from 0 to 100."""
    if quality is None:
        return QUALITY
    if not (0 <= quality <= 100 and int(quality) == quality):
        raise ValueError(f"The quality is a whole number from 0 (smallest) to 100 (best), not {quality}.")
    return int(quality)


def validate_effort(effort: int) -> int:
    if not (0 <= effort <= MAX_EFFORT and int(effort) == effort):
        raise ValueError(f"The effort is a whole number of steps from 0 to {MAX_EFFORT:,}, not {effort}.")
    return int(effort)
