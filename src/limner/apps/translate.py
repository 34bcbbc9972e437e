"""A trained translator, and `limner translate`: one picture or many, of any size, mode and format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from limner.apps.pictures_out import Made, Progress, Words, as_picture, encoded, write_all
from limner.apps.tiles import in_tiles, normalized_as, pad_to_minimum, thumbnail
from limner.core import artifact, device
from limner.core.device import autocast
from limner.core.images import ImageSpec, to_float, to_pil, to_uint8
from limner.data.image import convert_channels, fill_transparent, parse_color, upright

TILE, OVERLAP = 512, 64  # pixels; larger pictures are processed in tiles
WORDS = Words("translated", "a translation")


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
        seen = upright(as_picture(image))
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
            x, size = pad_to_minimum(x, int(network.least))  # type: ignore[arg-type]
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
    model.network(direction)  # raises before any picture is read

    def make(image: Image.Image, name: str, ending: str, progress: Progress | None) -> Made:
        before = upright(image)
        after = model.translate(before, direction, progress=progress)
        return Made(encoded(after, ending), before, after)

    return write_all(source, out, make, WORDS, sheet, progress, say)
