"""A trained generator in the hand: sample it, save what it made."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from limner.core import device, latents
from limner.core.files import for_people, write_whole, writing
from limner.core.images import ImageSpec, grid, to_pil, to_uint8, write_png

CHUNK = 64  # pictures a forward pass


class Pictures(np.ndarray):
    """uint8 [N,C,H,W] that can save itself."""

    def save(self, path: str | Path) -> Path:
        """Write a sheet (`x.png`), every picture by itself (a folder) or in a zip (`x.zip`). Returns the path.

        Raises ValueError for another ending, and when the place cannot be written.
        """
        path, pictures = Path(path), np.asarray(self)
        ending = form(path)
        if ending == ".png":
            write_png(path, grid(pictures))
        elif ending == ".zip":
            with writing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
                for i, picture in enumerate(pictures):
                    archive.writestr(f"{i:06d}.png", _png(picture))
        else:
            try:
                path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise for_people(error, path) from error
            for i, picture in enumerate(pictures):
                write_whole(path / f"{i:06d}.png", _png(picture))
        return path


def form(path: Path) -> str:
    """How pictures are saved at a path: ".png" (a sheet), ".zip" or "" (a folder, whose name may have a dot if it is
    there). Raises ValueError for another ending."""
    ending = "" if path.is_dir() else path.suffix.lower()
    if ending not in (".png", ".zip", ""):
        raise ValueError(f"Pictures are saved as a sheet (.png), a .zip or a folder, not as {path.name!r}.")
    return ending


def _png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    to_pil(picture).save(buffer, "PNG")
    return buffer.getvalue()


class Model:
    """A trained generator.

    spec: shape of its pictures and number of classes. classes: their names. description: all of limner.json.
    """

    def __init__(self, network: nn.Module, spec: ImageSpec, description: dict[str, Any], where: torch.device,
                 folder: Path) -> None:  # fmt: skip
        self.network, self.spec, self.description, self.folder = network, spec, description, folder
        self.classes: list[str] = list(description["data"].get("classes") or [])
        self.noise = latents.known(description["network"].get("noise", "normal"))
        self._device = where
        self._precision = device.precision(where)

    @property
    def z_size(self) -> int:
        return int(self.network.z_size)  # type: ignore[arg-type]

    def sample(self, n: int = 16, *, seed: int = 0, label: str | int | Sequence[int] | None = None,
               truncation: float | None = None) -> Pictures:  # fmt: skip
        """n pictures, uint8 [n,C,H,W]; the same seed gives the same pictures.

        label: a class by name or number, "all" (classes in turn), one number a picture, or None (as frequent as in the
        training data). truncation: latents beyond this many standard deviations are drawn again: less variety, fewer
        failures (Brock et al. 2019, section 3.1). Raises ValueError for an unknown label or a truncation of 0 or less.
        """
        rng = np.random.default_rng(seed)
        labels = self.labels(n, label, rng)
        return self.render(self.latents(n, rng, truncation, labels), labels)

    def latents(self, n: int, rng: np.random.Generator, truncation: float | None = None,
                labels: np.ndarray | None = None) -> np.ndarray:  # fmt: skip
        """Standard normal latents [n, z_size], truncated by drawing again; `render` bends them to the model's kind.

        labels: class numbers [n], for models whose latents depend on the class.
        """
        return latents.normal(rng, n, self.z_size, truncation)

    def keys(self, count: int, n: int, rng: np.random.Generator, truncation: float | None = None,
             labels: np.ndarray | None = None) -> np.ndarray:  # fmt: skip
        """What n walks pass: `count` latents for each, between which latents are as likely, float32 [count, n, z_size]."""
        return np.stack([self.latents(n, rng, truncation, labels) for _ in range(count)])

    def labels(self, n: int, label: str | int | Sequence[int] | None, rng: np.random.Generator) -> np.ndarray | None:
        """One class number a picture, int64 [n], or None for a model without classes."""
        count = self.spec.classes
        if not count:
            if label is not None:
                raise ValueError("This model knows no classes: leave the label out.")
            return None
        if label is None:
            frequencies = np.asarray(self.description["data"].get("class_counts") or [1] * count, float)
            return rng.choice(count, n, p=frequencies / frequencies.sum())
        if isinstance(label, str):
            if label == "all":
                return np.arange(n) * count // n if n >= count else np.arange(n)
            names = {name.lower(): i for i, name in enumerate(self.classes)}
            names |= {name: i for i, name in enumerate(self.classes)}  # A and a may be two classes
            if (found := names.get(label, names.get(label.lower()))) is not None:
                return np.full(n, found)
            if not label.isdigit():
                raise ValueError(f"The label {label!r} is not known: say all, or one of {', '.join(self.classes)}.")
            label = int(label)
        numbers = np.broadcast_to(np.asarray(label, np.int64), (n,)).copy()
        if numbers.min() < 0 or numbers.max() >= count:
            raise ValueError(f"Labels go from 0 to {count - 1}.")
        return numbers

    @torch.no_grad()
    def render(self, z: np.ndarray, labels: np.ndarray | None = None) -> Pictures:
        """Standard normal latents float32 [n, z_size] (and class numbers [n]) -> uint8 [n,C,H,W].

        A model trained from another kind of noise gets them bent to that kind, as `core.latents` does.
        """
        parts = []
        for start in range(0, len(z), CHUNK):
            latent = latents.bent(torch.from_numpy(z[start : start + CHUNK]).to(self._device), self.noise)
            y = None if labels is None else torch.from_numpy(labels[start : start + CHUNK]).to(self._device)
            with torch.autocast(self._device.type, self._precision, enabled=self._precision != torch.float32):
                parts.append(to_uint8(self.network(latent, y)).contiguous().cpu().numpy())
        empty = np.zeros((0, self.spec.channels, *self.spec.size), np.uint8)
        return np.concatenate(parts or [empty]).view(Pictures)
