"""`limner reconstruct`, `interpolate` and `traverse`: uses of a trained autoencoder."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from limner.apps.model import CHUNK, GeneratorModel
from limner.apps.output import SHEETS, ImageArray, check_sheet, form
from limner.apps.sample import at_least_one, check_film, destination, is_film, refuse_seconds, write_film
from limner.apps.traverse import Traversal, traversal
from limner.core import artifact
from limner.core.device import autocast
from limner.core.images import ImageSpec, grid, png, to_float, to_uint8, write_png
from limner.core.text import counted
from limner.data import Damaged, Dataset, open_source, prepare
from limner.data.dataset import and_skipped
from limner.data.image import decode_image, open_image, parse_color, reason
from limner.data.scan import evenly_spaced


class Autoencoder(GeneratorModel):
    """A trained autoencoder. It samples as a generator does if it has a prior, and also encodes and reconstructs pictures."""

    def __init__(self, network: nn.Module, spec: ImageSpec, description: dict[str, Any], where: torch.device,
                 folder: Path) -> None:  # fmt: skip
        super().__init__(getattr(network, "decoder", network), spec, description, where, folder)
        self.autoencoder: Any = network

    @property
    def z_size(self) -> int:
        """Dimensions of a latent. Raises ValueError for a model of discrete codes, which has no prior to sample from."""
        if not hasattr(self.autoencoder, "z_size"):
            raise ValueError("This model encodes pictures as discrete codes and has no prior: train `--recipe vae` to sample.")
        return int(self.autoencoder.z_size)

    def latents(self, n: int, rng: np.random.Generator, labels: np.ndarray | None = None) -> np.ndarray:
        """Return n latents of the prior, float32 [n, z_size].

        labels: class numbers [n] of a model with classes; by default drawn as frequently as in the training data.
        """
        noise = super().latents(n, rng)
        return self._from_prior(noise, rng.random(n, np.float32), self.labels(n, None, rng) if labels is None else labels)

    def key_latents(self, count: int, n: int, rng: np.random.Generator, labels: np.ndarray | None = None) -> np.ndarray:
        """Return `count` latents for each of n walks, each walk within one component of the prior: no pictures lie between two."""
        noise = [super(Autoencoder, self).latents(n, rng) for _ in range(count)]
        chance = rng.random(n, np.float32)
        labels = self.labels(n, None, rng) if labels is None else labels
        return np.stack([self._from_prior(one, chance, labels) for one in noise])

    def _from_prior(self, noise: np.ndarray, chance: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
        """Return samples of the prior for standard normal noise [N,Z].

        chance: uniform numbers [N] that choose the component of the mixture. labels: class numbers [N], or None.
        """
        y, parts = None if labels is None else torch.from_numpy(labels), []
        for start in range(0, max(1, len(noise)), CHUNK):  # each row needs a matrix of its own
            one, two = (torch.from_numpy(x[start : start + CHUNK]).to(self._device) for x in (noise, chance))
            some_y = None if y is None else y[start : start + CHUNK].to(self._device)
            parts.append(self.autoencoder.prior.draw(one, two, some_y).cpu().numpy())
        return np.concatenate(parts)

    def encode(self, pictures: np.ndarray) -> np.ndarray:
        """Encode pictures.

        Parameters
        ----------
        pictures
            uint8 [N,C,H,W] of the size and channels that the model was trained on.

        Returns
        -------
        numpy.ndarray
            Latents float32 [N,Z], or codes int64 [N,h,w] of a VQ-VAE.

        Raises
        ------
        ValueError
            For pictures of another shape or type.

        Examples
        --------
        >>> import limner
        >>> import numpy as np
        >>> pictures = np.random.default_rng(0).integers(0, 256, (64, 16, 16), dtype=np.uint8)
        >>> small = {"network.width": 8, "network.z_size": 5}
        >>> run = limner.train(pictures, recipe="vae", images=64, changes=small, out="runs/vae", quiet=True)
        >>> model = limner.load(run.folder, "cpu")
        >>> model.encode(pictures[:3, None]).shape
        (3, 5)
        """
        if pictures.shape[1:] != (self.spec.channels, *self.spec.size) or pictures.dtype != np.uint8:
            raise ValueError(
                f"This model takes uint8 pictures of {self.spec}, not {pictures.dtype} {pictures.shape[1:]}."
            )
        return self._in_chunks(np.asarray(pictures), lambda x: self.autoencoder.encode(to_float(x)))

    def decode(self, latents: np.ndarray) -> ImageArray:
        """Decode latents.

        Parameters
        ----------
        latents
            float32 [N,Z], or codes int64 [N,h,w] of a VQ-VAE, as `encode` returns them.

        Returns
        -------
        ImageArray
            uint8 [N,C,H,W]

        Examples
        --------
        After the example of `encode`:

        >>> import limner
        >>> import numpy as np
        >>> limner.load("runs/vae", "cpu").decode(np.zeros((2, 5))).shape
        (2, 1, 16, 16)
        """
        latents = np.asarray(latents, np.float32 if hasattr(self.autoencoder, "z_size") else np.int64)
        return self._in_chunks(latents, lambda z: to_uint8(self.autoencoder.decode(z)).contiguous()).view(ImageArray)

    def reconstruct(self, pictures: np.ndarray) -> ImageArray:
        """Encode pictures and decode them again.

        Parameters
        ----------
        pictures
            uint8 [N,C,H,W] of the size and channels that the model was trained on.

        Returns
        -------
        ImageArray
            The reconstructions, uint8 [N,C,H,W].

        Raises
        ------
        ValueError
            For pictures of another shape or type.

        Examples
        --------
        After the example of `encode`:

        >>> import limner
        >>> import numpy as np
        >>> limner.load("runs/vae", "cpu").reconstruct(np.zeros((3, 1, 16, 16), np.uint8)).shape
        (3, 1, 16, 16)
        """
        return self.decode(self.encode(pictures))

    @torch.no_grad()
    def between(self, a: np.ndarray, b: np.ndarray, steps: int) -> ImageArray:
        """Interpolate between two pictures.

        Parameters
        ----------
        a, b
            uint8 [C,H,W]
        steps
            How many pictures, both ends included.

        Returns
        -------
        ImageArray
            uint8 [steps,C,H,W], from the reconstruction of a to that of b.

        Raises
        ------
        ValueError
            For fewer than 2 steps, and for pictures of another shape or type.

        Examples
        --------
        After the example of `encode`:

        >>> import limner
        >>> import numpy as np
        >>> dark, bright = np.zeros((1, 16, 16), np.uint8), np.full((1, 16, 16), 255, np.uint8)
        >>> limner.load("runs/vae", "cpu").between(dark, bright, steps=7).shape
        (7, 1, 16, 16)
        """
        if steps < 2:
            raise ValueError("An interpolation has at least 2 steps.")
        one, two = (torch.from_numpy(z).to(self._device) for z in np.split(self.encode(np.stack([a, b])), 2))
        t = torch.linspace(0, 1, steps, device=self._device)
        parts = [to_uint8(self.autoencoder.between(one, two, part)).cpu().numpy() for part in t.split(CHUNK)]
        return np.ascontiguousarray(np.concatenate(parts)).view(ImageArray)

    def traverse(
        self, pictures: np.ndarray, dims: int = 8, steps: int = 7, around: np.ndarray | None = None
    ) -> Traversal:
        """Vary the `dims` latent dimensions of the largest KL divergence, each alone, over 3 standard deviations on either
        side of its mean.

        pictures: uint8 [N,C,H,W], on which divergences, means and deviations are measured. around: a picture uint8 [C,H,W]
        whose latent the other dimensions keep; None keeps them at their means. Raises ValueError for discrete codes.
        """
        if not hasattr(self.autoencoder, "z_size"):
            raise ValueError("This model encodes pictures as discrete codes, which have no values in between: train `--recipe vae`.")
        parameters = self._in_chunks(pictures, lambda x: torch.cat(self.autoencoder.encoder(to_float(x)), 1))  # [N,2Z]
        base = None if around is None else self.encode(around[None])[0]
        means, log_variances = np.split(parameters, 2, axis=1)
        return traversal(means, log_variances, self.decode, base, dims, steps)

    @torch.no_grad()
    def _in_chunks(self, array: np.ndarray, work: Callable[[Tensor], Tensor]) -> np.ndarray:
        parts = []
        for start in range(0, max(1, len(array)), CHUNK):  # an empty array is passed too, for the shape of the result
            part = torch.from_numpy(np.ascontiguousarray(array[start : start + CHUNK])).to(self._device)
            with autocast(self._device, self._precision):
                parts.append(work(part).cpu().numpy())
        return np.concatenate(parts)


def pictures_of(model: Autoencoder, data: str) -> Dataset:
    """Return the pictures of a data set at the model's size and channels."""
    how = artifact.preparation(model.description)
    return prepare(open_source(data, labels=False, splits=False), size=model.spec.size, channels=str(model.spec.channels), **how)


def some(found: Dataset, n: int) -> np.ndarray:
    """Return at most n pictures uint8 [N,C,H,W], spread evenly: the first ones of a folder of classes are all of one class."""
    return found.images[evenly_spaced(None, len(found), n)].numpy()


def picture_of(model: Autoencoder, path: Path) -> np.ndarray:
    """Return a picture file at the model's size, uint8 [C,H,W]. Raises ValueError when it cannot be read."""
    try:
        image = open_image(io.BytesIO(path.read_bytes()))
        how = artifact.preparation(model.description)
        array, _ = decode_image(image, model.spec.size, model.spec.channels, how["fit"], parse_color(how["background"]))
    except (OSError, Damaged) as error:
        raise ValueError(f"{path} cannot be used: {reason(error)}.") from error
    return np.ascontiguousarray(array.transpose(2, 0, 1))


def report_skipped(found: Dataset, say: Callable[[str], None]) -> str:
    """Print the notes on the pictures and the names of those skipped; return the end of a sentence that counts the latter."""
    each = found.bad if len(found.bad) > 1 else ()  # a single one is named by the notes
    for note in (*found.notes, *(f"Skipped {name}: {why}." for name, why in each)):
        say(note)
    return and_skipped(len(found.bad))


def reconstruct(model: Autoencoder, data: str, out: Path | None = None, n: int = 32, say: Callable[[str], None] = print) -> str:
    """Write a sheet of n pictures spread evenly over the set, each row above its reconstructions; return a sentence with the PSNR.

    out: a .png; None writes reconstructed.png in the run folder.
    """
    at_least_one(n)
    out = destination(model.folder, out, "reconstructed.png")
    png(out)
    found = pictures_of(model, data)
    skipped = report_skipped(found, say)
    x = some(found, n)
    y = np.asarray(model.reconstruct(x))
    error = np.square(x.astype(np.float64) - y).mean()
    columns = min(8, len(x))
    rows = []
    for start in range(0, len(x), columns):
        for part in (x, y):
            row = part[start : start + columns]
            blank = np.full((columns - len(row), *row.shape[1:]), 255, np.uint8)
            rows.append(np.concatenate([row, blank]))
    write_png(out, grid(np.concatenate(rows), columns=columns))
    psnr = 10 * np.log10(255**2 / error) if error else np.inf
    return f"{counted(len(x), 'picture above its reconstruction is', 'pictures above their reconstructions are')} in {out}: PSNR {psnr:.2f} dB{skipped}."


def interpolate(model: Autoencoder, a: Path, b: Path, out: Path | None = None, steps: int = 10,
                seconds: float | None = None) -> str:  # fmt: skip
    """Write an interpolation from picture a to picture b; return a sentence.

    out: a row (.png, .jpg, .webp), every picture (a folder, .zip) or a film (.gif, .mp4, and .webp if `seconds` is given; 4
    seconds by default). None writes between.png in the run folder.
    """
    out = destination(model.folder, out, "between.png")
    if is_film(out, seconds):
        seconds = 4.0 if seconds is None else seconds
        count = check_film(out, seconds, 1, model)
        one, two = (picture_of(model, path) for path in (a, b))
        frames = model.between(one, two, count)
        write_film(out, (grid(frame[None]) for frame in np.asarray(frames)), count, seconds)
        return f"A film of {len(frames)} frames is in {out}."
    refuse_seconds(seconds)
    if form(out) in SHEETS:  # before the pictures are computed
        check_sheet(out, steps, model.spec, max(1, steps))
    one, two = (picture_of(model, path) for path in (a, b))
    model.between(one, two, steps).save(out, columns=steps if form(out) in SHEETS else None)
    return f"{counted(steps, 'picture')} from {a.name} to {b.name} {'is' if steps == 1 else 'are'} in {out}."


def traverse(model: Autoencoder, data: str, out: Path | None = None, dims: int = 8, steps: int = 7, around: Path | None = None,
             n: int = 1000, say: Callable[[str], None] = print) -> str:  # fmt: skip
    """Write the sheet of a traversal, measured on n pictures spread evenly over the set; return a sentence.

    out: a .png; None writes traverse.png in the run folder.
    """
    at_least_one(n)
    out = destination(model.folder, out, "traverse.png")
    png(out)
    pictures = pictures_of(model, data)
    skipped = report_skipped(pictures, say)
    x = some(pictures, n)
    found = model.traverse(x, dims, steps, None if around is None else picture_of(model, around))
    found.save(out)
    return (
        f"{len(found.rows)} of {len(found.nats)} latent dimensions, each varied alone, are in {out}: {found.active} are active, "
        f"and the KL divergence of all is {found.nats.sum():.1f} nats a picture, measured on {counted(len(x), 'picture')}{skipped}."
    )
