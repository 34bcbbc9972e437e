"""A trained restorer, and `limner restore`: one picture or many, of any size, mode and depth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from limner.apps.pictures_out import Progress, as_picture
from limner.apps.pixels import (
    DEEP,
    Picture,
    as_image,
    blended,
    fill_hidden,
    fitting,
    luma,
    metadata,
    planes,
    read_box,
    to_rgb,
)
from limner.apps.tiles import Box, blended_rows, exact_tiles, pad_to_minimum
from limner.core import device
from limner.core.device import autocast
from limner.core.images import ImageSpec
from limner.data.image import convert_channels, upright
from limner.networks.restoration import ENSEMBLES, composed, ensembled

TILE = 512  # pixels a side, for networks of plain convolutions
CONTEXT_TILE, OVERLAP = 768, 128  # for networks whose outputs depend on the whole picture
MAX_TILE = 8192
MIN_TILE = 128  # below, tiles are mostly margin and hardly need less memory
BLACK = (0, 0, 0)  # behind a transparent mask: no hole
HOLE = 128  # gray value that fills holes, as in training
KEEPS_COLOR = ("super-resolution", "denoise", "deblur", "dejpeg", "restore")  # tasks that keep the mean color
WHOLE_BYTES = 96 << 20  # of an output in float32 whose mean color is measured as a whole; that of larger ones on samples
SAMPLE_GRID, SAMPLE_SIDE = 3, 128  # samples along each side, and their size in pixels
ALPHA_REACH = 2  # pixels; enlarged alpha stays within the range of this neighborhood
Read = Callable[[Box], Tensor]  # a box -> that part of the picture, [1,C,h,w]
Through = Callable[[Tensor], Tensor]  # [1,C,h,w] -> [1,C',s*h,s*w]


class Restorer:
    """A trained restorer. spec: of its training crops. task: what it undoes. scale: output pixels per input pixel of a side."""

    def __init__(self, network: nn.Module, spec: ImageSpec, description: dict[str, Any], where: torch.device, folder: Path) -> None:
        fused: Any = network.fused()  # type: ignore[operator]
        self.network: Any = fused.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self.spec, self.description, self.folder = spec, description, folder
        self.scale, self.task = int(self.network.scale), str(description["network"]["task"])
        self.fills_holes = int(self.network.inputs) == spec.channels + 1
        self.adds_color = int(self.network.inputs) == 1 and spec.channels == 3
        self._device, self._precision = where, device.precision(where)

    def restore(
        self,
        image: Image.Image | np.ndarray | str | Path,
        strength: float = 1.0,
        mask: Image.Image | np.ndarray | str | Path | None = None,
        scale: float | None = None,
        tile: int | None = None,
        ensemble: int = 1,
        progress: Progress | None = None,
    ) -> Image.Image:
        """Restore one picture of any size.

        A picture is computed in tiles. With a network of plain convolutions on a CPU with oneDNN (x86), the result of every tile
        size and number of threads is that of the whole picture bit for bit; with a U-Net, tiles overlap and are blended. The
        computation is in bfloat16 where the hardware has it, which is as exact and changes an 8-bit result by less than its
        rounding does, and in float32 elsewhere and for pictures of 16 bits.

        Gray pictures stay gray, and 16-bit gray stays 16-bit. A model of gray pictures restores each color by itself. The ICC
        profile and EXIF are kept in `info`; the EXIF orientation is applied and reset. Alpha is kept exactly; when the picture
        is enlarged, it goes through the network as a gray picture. The mean color of mid-tones is kept, except by models that
        brighten, add color or fill holes.

        Parameters
        ----------
        image
            A file, a Pillow image, or uint8 [C,H,W].
        strength
            Between the picture itself, or its bicubic enlargement (0, exactly), and the network's output (1).
        mask
            For a model that fills holes: a picture of the same size, white in the hole. Other pixels do not change. Default:
            pixels that are less than half opaque are the hole, and the result is opaque.
        scale
            Enlargement of each side, from 1 to the model's own: its output, made smaller with Lanczos's filter.
        tile
            Side in pixels of the tiles (default: 512, or 768 for a U-Net).
        ensemble
            1, 2, 4 or 8: the mean over as many mirrored and turned copies of the picture, in as many times the time.
        progress
            Called with (done, total) tiles.

        Returns
        -------
        PIL.Image.Image
            The restored picture, in mode L, LA, RGB, RGBA or I;16.

        Raises
        ------
        ValueError
            For options out of range, a picture that cannot be read, and a missing, meaningless or misfit mask.

        Examples
        --------
        >>> import limner
        >>> import numpy as np
        >>> pictures = np.random.default_rng(0).integers(0, 256, (32, 32, 32, 3), dtype=np.uint8)
        >>> small = {"network.width": 8, "network.depth": 1, "scale": 2}
        >>> run = limner.train(
        ...     pictures, recipe="super-resolution", size=16, images=16, changes=small, out="runs/twice", quiet=True
        ... )
        >>> model = limner.load(run.folder, "cpu")
        >>> model.restore(np.zeros((3, 20, 30), np.uint8)).size
        (60, 40)
        """
        factor = self.check(strength, mask is not None, scale, tile, ensemble)
        opened = as_picture(image)
        info = metadata(opened)
        picture = planes(opened)
        hole = self._hole(picture, mask)
        size = (max(1, round(picture.size[0] * factor)), max(1, round(picture.size[1] * factor)))
        try:
            if strength == 0:
                made = Picture(_base(picture, size), picture.alpha and _resized(picture.alpha, size), picture.mode)
            else:
                if self.fills_holes and mask is None:
                    picture = Picture(picture.color, None, picture.mode)
                made = self._restored(picture, hole, tile, ensemble, progress, size)
                if strength < 1:
                    base = _base(picture, size)
                    base = base if made.color.mode == base.mode else to_rgb(base)
                    made = Picture(blended(base, made.color, strength), made.alpha, made.mode)
        except (MemoryError, RuntimeError) as error:
            if not device.out_of_memory(error):
                raise
            raise ValueError(self._needs_memory(picture.size, tile)) from error
        result = made.image()
        result.info.clear()
        result.info.update(fitting(info, result.mode))
        return result

    def check(self, strength: float, masked: bool, scale: float | None, tile: int | None, ensemble: int = 1) -> float:
        """Return the enlargement of each side. Raises ValueError for options out of range."""
        if not 0 <= strength <= 1:
            raise ValueError(f"The strength goes from 0 (the picture itself) to 1, and {strength:g} is outside.")
        if masked and not self.fills_holes:
            raise ValueError(f"A mask is for a model that fills holes (inpaint), and this one does {self.task}: leave it out.")
        if scale is not None and not 1 <= scale <= self.scale:
            if self.scale == 1:
                raise ValueError(f"This model ({self.task}) keeps the size of a picture: leave the scale out.")
            raise ValueError(f"This model enlarges {self.scale} times: give a scale from 1 to {self.scale}, not {scale:g}.")
        if tile is not None and not 16 <= tile <= MAX_TILE:
            raise ValueError(f"A tile has 16 to {MAX_TILE:,} pixels a side, not {tile:,}.")
        if ensemble not in ENSEMBLES:
            raise ValueError(f"An ensemble is of 1, 2, 4 or 8 copies of the picture, not of {ensemble}.")
        return self.scale if scale is None else scale

    def _needs_memory(self, size: tuple[int, int], tile: int | None) -> str:
        """Return the error message for a picture of (W,H) `size` for which there is not enough memory."""
        side = tile or (CONTEXT_TILE if self.network.radius is None else TILE)
        cure = f"give a smaller --tile, such as {side // 4}" if side > MIN_TILE and max(size) > MIN_TILE else "cut the picture into parts"
        return f"There is not enough memory for {size[0]}x{size[1]} pixels in tiles of {side}: {cure}."

    def _hole(self, picture: Picture, mask: Image.Image | np.ndarray | str | Path | None) -> Image.Image | None:
        """Return the hole in mode L, 255 inside and 0 elsewhere; None for models that fill none. Raises ValueError."""
        if not self.fills_holes:
            return None
        if mask is None:
            if picture.alpha is None or not any(picture.alpha.histogram()[:128]):
                raise ValueError(
                    "This model fills holes, and the picture has none: give a mask that is white where something is missing, "
                    "or make those pixels transparent."
                )
            return picture.alpha.point([255] * 128 + [0] * 128)
        white = convert_channels(upright(as_picture(mask)), 1, BLACK)
        if white.size != picture.size:
            raise ValueError(
                f"The mask has {white.width}x{white.height} pixels and the picture {picture.size[0]}x{picture.size[1]}: give a "
                "mask of the picture's size."
            )
        return white.point([0] * 128 + [255] * 128)

    def _restored(
        self, picture: Picture, hole: Image.Image | None, tile: int | None, ensemble: int, progress: Progress | None,
        size: tuple[int, int],
    ) -> Picture:  # fmt: skip
        """Return the network's output in planes of (W,H) `size`."""
        color, alpha = picture.color, picture.alpha
        if alpha is not None:
            color = fill_hidden(color, alpha)
        with_alpha = self.spec.channels == 4

        def read(box: Box) -> Tensor:
            parts = [read_box(color, box)]
            if with_alpha:
                parts.append(read_box(alpha, box) if alpha else torch.ones_like(parts[0][:, :1]))
            if hole is not None:
                mask = (read_box(hole, box) > 0).float()
                parts = [torch.where(mask > 0, torch.full_like(part, HOLE / 127.5 - 1), part) for part in parts] + [mask]
            return torch.cat(parts, 1)

        channels = 1 if color.mode in ("L", DEEP) else 3
        keeps = channels if self.task in KEEPS_COLOR else 0

        def through(x: Tensor) -> Tensor:
            precision = torch.float32 if color.mode == DEEP else self._precision
            return self._colors(x, channels, hole is not None, precision, ensemble)

        mode = "RGB" if self.adds_color else color.mode
        made = self._compute(read, through, color.size, mode, tile, progress, keeps)
        if alpha is not None and self.scale > 1:
            alpha = self._enlarged_alpha(alpha, tile, ensemble, progress)
        if made.size != size:
            made = made.resize(size, Image.Resampling.LANCZOS)
            alpha = alpha and alpha.resize(size, Image.Resampling.LANCZOS)
        return Picture(made, alpha, "RGB" if self.adds_color else picture.mode)

    def _enlarged_alpha(self, alpha: Image.Image, tile: int | None, ensemble: int, progress: Progress | None) -> Image.Image:
        """Return alpha enlarged by the network; where the neighborhood of a pixel is flat, it stays exactly flat."""

        def read(box: Box) -> Tensor:
            x = read_box(alpha, box)
            return torch.cat([x, torch.ones_like(x)], 1) if self.spec.channels == 4 else x

        def through(x: Tensor) -> Tensor:
            made, side = self._colors(x, 1, False, self._precision, ensemble), 2 * ALPHA_REACH + 1
            high, low = F.max_pool2d(x[:, :1], side, 1, ALPHA_REACH), -F.max_pool2d(-x[:, :1], side, 1, ALPHA_REACH)
            return made.clamp(*(F.interpolate(bound, scale_factor=self.scale) for bound in (low, high)))

        return self._compute(read, through, alpha.size, "L", tile, progress, 0)

    def _colors(self, x: Tensor, channels: int, masked: bool, precision: torch.dtype, ensemble: int) -> Tensor:
        """Apply the network to a tile [1,C,h,w] of 1 or 3 colors, then alpha and mask if it takes them.

        Returns [1,C',s*h,s*w] of the same colors, or 3 from a model that adds color.
        """
        color, rest = x[:, :channels], x[:, channels:]
        if masked and not x[:, -1:].any():  # no hole in this tile
            return color
        if self.adds_color:
            taken = luma(color) if channels == 3 else color
        elif self.spec.channels == 1:
            taken, rest = color.transpose(0, 1), rest.expand(channels, -1, -1, -1)  # each color is a gray picture
        else:
            taken = color.expand(-1, 3, -1, -1)
        (h, w), s = x.shape[-2:], self.scale
        taken, _ = pad_to_minimum(torch.cat([taken, rest], 1), int(self.network.least))
        with torch.no_grad(), autocast(self._device, precision):
            made = ensembled(self.network, taken.to(self._device).contiguous(memory_format=torch.channels_last), ensemble)
        made = made[..., : s * h, : s * w].float().cpu()
        if self.spec.channels == 1:
            made = made.transpose(0, 1)
        elif channels == 1 and not self.adds_color:
            made = luma(made)
        made = made[:, :3]
        return composed(color, made, x[:, -1:]) if masked else made

    def _compute(
        self, read: Read, through: Through, size: tuple[int, int], mode: str, tile: int | None, progress: Progress | None, keeps: int
    ) -> Image.Image:
        """Return a picture of (W,H) `size` computed in tiles, in `mode`. keeps: colors whose mean is kept."""
        width, height = size
        scale, radius = self.scale, self.network.radius
        if radius is not None:
            margin = max(int(radius), ALPHA_REACH)
            parts = exact_tiles(read, through, (height, width), tile or TILE, margin, int(self.network.multiple), scale, progress)
        else:
            side = max(tile or CONTEXT_TILE, int(self.network.least))
            margin = min(OVERLAP, side // 2)
            rows = blended_rows(
                lambda top, bottom: read((0, top, width, bottom)), through, (height, width), side, margin, progress
            )
            parts = ((top, 0, band) for top, band in rows)
        out = Image.new(mode, (width * scale, height * scale))
        shift: Tensor | None = None
        if keeps and 4 * keeps * out.width * out.height <= WHOLE_BYTES:
            whole = torch.empty(1, keeps, out.height, out.width)
            for top, left, part in parts:
                whole[..., top : top + part.shape[-2], left : left + part.shape[-1]] = part
            shift = color_shift([(read((0, 0, width, height))[:, :keeps], whole)], scale)
            parts = ((top, 0, whole[..., top : top + TILE, :]) for top in range(0, out.height, TILE))
        elif keeps:
            shift = color_shift(self._samples(read, through, size, margin, keeps), scale)
        for top, left, part in parts:
            out.paste(as_image(part if shift is None else shifted(part, shift), mode == DEEP), (left, top))
        return out

    def _samples(
        self, read: Read, through: Through, size: tuple[int, int], margin: int, keeps: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (input, output) of evenly spaced squares of a large picture, the same for every tile size."""
        s, inner = self.scale, SAMPLE_SIDE
        tops, lefts = ([(2 * i + 1) * side // (2 * SAMPLE_GRID) - inner // 2 for i in range(SAMPLE_GRID)] for side in size[::-1])
        for top in tops:
            for left in lefts:
                first, start = max(0, top - margin), max(0, left - margin)
                box = (start, first, min(size[0], left + inner + margin), min(size[1], top + inner + margin))
                x = read(box)
                y = through(x)
                down, right = max(0, top) - first, max(0, left) - start
                yield (
                    x[:, :keeps, down : down + inner, right : right + inner],
                    y[..., down * s : (down + inner) * s, right * s : (right + inner) * s],
                )


def color_shift(pairs: Iterable[tuple[Tensor, Tensor]], scale: int) -> Tensor:
    """Return what is added to each color of the output, so that mid-tones keep the mean they have in the input.

    pairs: (input [1,C,h,w], output [1,C,s*h,s*w]). Pixels near black and white are left out, where clipped noise makes the
    input too bright or too dark, and so are those that the network changed by over a quarter of the range, such as scratches.
    The shift is 0 if less than a sixteenth of the pixels remain. Returns [C,1,1].
    """
    total = counts = pixels = np.float64(0)
    for x, y in pairs:
        small = F.avg_pool2d(y, scale) if scale > 1 else y
        change = (x - small)[0].numpy()
        used = (np.abs(change) <= 0.5) & (np.abs(small[0].numpy()) <= 0.5)
        total = total + np.where(used, change, 0).sum((1, 2), dtype=np.float64)  # in one order for any number of threads
        counts = counts + used.sum((1, 2))
        pixels += change[0].size
    shift = np.where(counts * 16 >= pixels, total / np.maximum(counts, 1), 0)
    return torch.from_numpy(shift.astype(np.float32))[:, None, None]


def shifted(x: Tensor, shift: Tensor) -> Tensor:
    """Return x [1,C,h,w] in [-1,1] plus the shift [C,1,1], which fades out over the last sixteenth toward black and white."""
    return x + shift * ((1 - x.abs()) * 8).clamp(0, 1)


def _base(picture: Picture, size: tuple[int, int]) -> Image.Image:
    """Return the color of a picture at (W,H) `size`, without a fringe of the color of fully transparent pixels."""
    color = picture.color
    if picture.alpha is not None and picture.size != size:
        color = fill_hidden(color, picture.alpha)
    return _resized(color, size)


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return an image at (W,H) `size` by Pillow's bicubic interpolation; a copy if it has that size."""
    return image.copy() if image.size == size else image.resize(size, Image.Resampling.BICUBIC)
