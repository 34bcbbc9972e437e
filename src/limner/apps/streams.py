"""Between pictures and the streams of a compressed file: latents, symbols and their rows of the frequency tables.

From the bits to the symbols and the means everything is integer arithmetic and the same on every machine. The synthesis is
floating-point in fp32: its pixels may differ by one level between machines, thread counts and batch sizes.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, features
from torch import Tensor

from limner.apps.refine import refine
from limner.coding.container import Tile
from limner.coding.entropy import Coder, Corrupt, Decoder, encode
from limner.coding.tables import Tables
from limner.core.images import to_float, to_uint8
from limner.networks.hyperprior import MEAN_BITS
from limner.networks.integer import INPUT_MAX

LATENT = 16             # pixels of a latent's side
MAX_WEBP = 16_383       # pixels of a WebP's side
RENDERED = 1 << 20      # pixels of small pictures decoded at a time
WIDE = 1 << 22          # of a large one


class StreamCoder:
    """The network of a codec with the models of its frequency tables."""

    def __init__(self, network: Any, device: torch.device) -> None:
        self.network, self.device = network, device
        self.y = Coder(Tables(network.y_tables.cpu().numpy()))
        self.z = Coder(Tables(network.z_tables.cpu().numpy())) if network.hyper_channels else None

    def level(self, quality: int, n: int = 1) -> Tensor:
        """Return a quality from 0 to 100 in the network's levels, float [n]."""
        return torch.full((n,), quality / 100 * (self.network.qualities - 1), device=self.device)

    def padded(self, length: int) -> int:
        return int(length + -length % self.network.multiple)

    @torch.no_grad()
    def encode(self, pixels: np.ndarray, tile: Tile, quality: int, context: bytes, steps: int = 0) -> bytes:
        """Return the stream of a tile of pictures of one size, uint8 [N,H,W,C]. steps: of latent refinement."""
        n, height, width, _ = pixels.shape
        level = self.level(quality, n)
        margin = self.padded(self.network.encoder_radius)
        rows, top = _span(tile.top, self.padded(tile.height), self.padded(height), margin, height)
        columns, left = _span(tile.left, self.padded(tile.width), self.padded(width), margin, width)
        crop = np.ascontiguousarray(pixels[:, rows][:, :, columns].transpose(0, 3, 1, 2))
        x = to_float(torch.from_numpy(crop).to(self.device)).contiguous(memory_format=torch.channels_last)
        cells = self.padded(tile.height) // LATENT, self.padded(tile.width) // LATENT
        own = (..., slice(top, top + cells[0] * LATENT), slice(left, left + cells[1] * LATENT))
        y = self.network.analysis(x, level)
        y = y[..., top // LATENT : top // LATENT + cells[0], left // LATENT : left // LATENT + cells[1]]
        if not y.isfinite().all():
            raise ValueError("The network's latents of this picture are not finite: train the run anew.")
        z = self.network.hyper_analysis(y).round().clamp(1 - INPUT_MAX, INPUT_MAX - 1).long()
        mean, index = self.network.prior(z, level)
        center = mean.double() / 2**MEAN_BITS
        symbols = (y.double() - center).round()
        if steps:
            size = tile.height, tile.width
            symbols = refine(self.network, self.y.tables, x[own], size, y - center.float(), center.float(), index, level, steps)
        parts = [(z.cpu().numpy(), self._channels(z.shape), self.z)] if self.z else []
        coded = (..., slice(0, -(-tile.height // LATENT)), slice(0, -(-tile.width // LATENT)))  # the padding is not
        return encode([*parts, (symbols[coded].cpu().numpy(), index[coded].cpu().numpy(), self.y)], context)

    @torch.no_grad()
    def decode(self, content: bytes, n: int, tile: Tile, quality: int, context: bytes) -> Tensor:
        """Return the latents of a tile of n pictures, float [n,M,h,w], exactly those of the encoder. Raises Corrupt."""
        cells = self.padded(tile.height) // LATENT, self.padded(tile.width) // LATENT
        shape = n, self.network.hyper_channels, self.padded(tile.height) // 64, self.padded(tile.width) // 64
        decoder = Decoder(content, context)
        z = np.zeros(shape, np.int64)
        if self.z:
            z = decoder.pop(self._channels(shape), self.z).reshape(shape).astype(np.int64)
        mean, index = self.network.prior(torch.from_numpy(z), self.level(quality, n).cpu())
        assert tuple(mean.shape[2:]) == cells
        rows = index[..., : -(-tile.height // LATENT), : -(-tile.width // LATENT)].cpu().numpy()
        symbols = torch.from_numpy(decoder.pop(rows, self.y).reshape(rows.shape))
        decoder.finish()
        latents = mean.cpu().double() / 2**MEAN_BITS
        latents[..., : rows.shape[2], : rows.shape[3]] += symbols  # exact, as the mean is
        return latents.float()

    @torch.no_grad()
    def render(self, latents: Tensor, quality: int) -> Tensor:
        """latents [n,M,h,w] -> pictures uint8 [n,C,16h,16w], as many at a time as RENDERED allows"""
        at_once = max(1, RENDERED // (latents.shape[2] * latents.shape[3] * LATENT**2))
        parts = latents.to(self.device).contiguous(memory_format=torch.channels_last).split(at_once)
        return torch.cat([
            to_uint8(self.network.synthesis(part, self.level(quality, len(part)))).cpu() for part in parts
        ])  # fmt: skip

    def strips(self, tiles: Sequence[Tile], latents: Callable[[int], Tensor], quality: int) -> Iterator[Tensor]:
        """Yield a large picture from the top, a row of tiles at a time: uint8 [C,h,W].

        latents: returns those of a tile by number. A part is rendered with `radius` latents of its neighbors, so that the
        picture is that of a single pass.
        """
        by_row: dict[int, list[int]] = {}
        for i, tile in enumerate(tiles):
            by_row.setdefault(tile.top, []).append(i)
        rows = list(by_row.values())
        r = self.network.radius
        joined = [torch.cat([latents(i) for i in rows[0]], 3)]
        for k, row in enumerate(rows):
            if k + 1 < len(rows):
                joined.append(torch.cat([latents(i) for i in rows[k + 1]], 3))
            above = joined[0][:, :, -r:] if k and r else joined[0][:, :, :0]
            middle = joined[1] if k else joined[0]
            below = joined[-1][:, :, :r] if k + 1 < len(rows) else middle[:, :, :0]
            whole = torch.cat([above, middle, below], 2)
            down, height = above.shape[2] * LATENT, tiles[row[0]].height
            width = tiles[row[-1]].left + tiles[row[-1]].width
            columns = max(1, WIDE // (whole.shape[2] * LATENT**2))  # of latents at a time
            parts = []
            for begin in range(0, -(-width // LATENT), columns):
                first = max(0, begin - r)
                made = self.render(whole[..., first : begin + columns + r], quality)[0]
                across = (begin - first) * LATENT
                parts.append(made[:, down : down + height, across : across + min(columns * LATENT, width - begin * LATENT)])
            yield torch.cat(parts, 2)
            joined = joined[-2:]

    def _channels(self, shape: Sequence[int]) -> np.ndarray:
        """Return the row of the table of each z: its channel."""
        return np.broadcast_to(np.arange(shape[1])[None, :, None, None], tuple(shape))


def _span(begin: int, length: int, limit: int, margin: int, real: int) -> tuple[np.ndarray, int]:
    """Return (the places of a tile and its margin along an axis, the tile's place among them).

    limit: the padded length of the axis; places beyond the `real` one repeat its border.
    """
    first, last = max(0, begin - margin), min(limit, begin + length + margin)
    return np.minimum(np.arange(first, last), real - 1), begin - first


# ---- transparency ----------------------------------------------------------------------------------------------------


def encode_alpha(planes: Sequence[np.ndarray]) -> bytes:
    """Return planes uint8 [H,W] of one size without loss: below each other in a PNG, or in a WebP where that is smaller."""
    sheet = Image.fromarray(np.concatenate(planes))
    found = []
    for form, options in (("PNG", {"optimize": True}), ("WEBP", {"lossless": True, "quality": 100, "method": 6})):
        if form == "WEBP" and (max(sheet.size) > MAX_WEBP or not features.check("webp")):
            continue
        buffer = io.BytesIO()
        sheet.save(buffer, form, **options)
        found.append(buffer.getvalue())
    return min(found, key=len)


def decode_alpha(content: bytes, count: int, height: int, width: int) -> list[np.ndarray]:
    """Return the planes of `encode_alpha`. Raises Corrupt."""
    try:
        image = Image.open(io.BytesIO(content), formats=["PNG", "WEBP"])
        if image.size != (width, height * count):
            raise Corrupt("the size of its transparency is another one")
        if image.mode != ("L" if image.format == "PNG" else "RGB"):
            raise Corrupt("its transparency has another kind of pixels")
        image.load()
    except Corrupt:
        raise
    except Exception as error:  # decoders may raise anything
        raise Corrupt("its transparency cannot be decoded") from error
    return np.split(np.array(image.convert("L")), count)
