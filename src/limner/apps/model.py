"""A trained generator that samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from limner.apps.editing.latent import Latent, render
from limner.apps.output import ImageArray, Progress
from limner.apps.pictures_out import as_picture
from limner.apps.truncation import LATENTS, mean_style, truncated
from limner.apps.typical import (
    FEATURE_IMAGES,
    FEATURE_SAMPLES,
    MANY_CLASSES,
    MODES,
    PICTURES_OF_MANY,
    PICTURES_PER_CLASS,
    PICTURES_PER_MODE,
    Features,
    Typicality,
    learn_features,
    reduced,
)
from limner.core import device, latents
from limner.core.device import autocast
from limner.core.images import ImageSpec
from limner.data import Damaged
from limner.networks.contracts import StyleBased
from limner.networks.inference import inference_form
from limner.sampling.generate import generate

CHUNK = 64                         # pictures per forward pass
MAX_PICTURES = 10_000_000          # per call
MIN_TRUNCATION = 0.05              # of a fraction: each picture is then chosen among 20
MAX_DRAWS = 40                     # per picture, times 1/truncation; after that the most typical one is taken


class GeneratorModel:
    """A trained generator.

    spec: shape of its pictures and number of classes. classes: their names. description: the content of limner.json.
    """

    def __init__(self, network: nn.Module, spec: ImageSpec, description: dict[str, Any], where: torch.device,
                 folder: Path) -> None:  # fmt: skip
        self.network, self.spec, self.description, self.folder = network, spec, description, folder
        self.classes: list[str] = list(description["data"].get("classes") or [])
        self.noise = latents.validate_name(description["network"].get("noise", "normal"))
        self._device = where
        self._precision = device.precision(where)
        self._features: Features | None = None if 1 < spec.classes < MANY_CLASSES else reduced  # None: not trained yet
        self._typicality: dict[int, Typicality] = {}  # by class, -1 without classes
        self._inverter: Any = None  # what `invert` computes once
        self._mean_styles: dict[int, Tensor] = {}  # by class, -1 without classes: the mean style [W] of a style-based network

    @property
    def z_size(self) -> int:
        return int(self.network.z_size)  # type: ignore[arg-type]

    @cached_property
    def inference(self) -> nn.Module:
        """The network as it samples fastest (`networks.inference`). Its own layers are those of `network`."""
        return inference_form(self.network, self._precision)

    def sample(self, n: int = 16, *, seed: int = 0, label: str | int | Sequence[int] | None = None,
               truncation: float | None = None) -> ImageArray:  # fmt: skip
        """Generate pictures. A seed always gives the same pictures; a smaller n gives the first of them.

        Parameters
        ----------
        n
            How many.
        seed
            Seed of the latents, and of the classes where they are drawn.
        label
            A class by name or number, "all" (classes in turn), one number per picture, or None (as frequent as in the
            training data).
        truncation
            Fidelity against diversity, 1 for neither: psi of a style-based network, else the share of the most typical
            pictures to choose from (see `stream`).

        Returns
        -------
        ImageArray
            uint8 [n,C,H,W]; its `save` writes a sheet, a folder or a .zip.

        Raises
        ------
        ValueError
            For an unknown label and for numbers out of range.

        Examples
        --------
        After the example of `limner.train`:

        >>> import limner
        >>> pictures = limner.load("runs/noise", "cpu").sample(4, seed=0)
        >>> pictures.shape
        (4, 1, 16, 16)
        >>> pictures.save("grid.png").exists()
        True
        """
        parts: list[np.ndarray] = list(self.stream(n, seed=seed, label=label, truncation=truncation))
        empty = np.zeros((0, self.spec.channels, *self.spec.size), np.uint8)
        return np.concatenate(parts or [empty]).view(ImageArray)

    def stream(self, n: int, *, seed: int = 0, label: str | int | Sequence[int] | None = None,
               truncation: float | None = None, calibration: Progress | None = None) -> Iterator[ImageArray]:  # fmt: skip
        """Yield the pictures of `sample`, in batches of at most CHUNK.

        truncation: 1 leaves samples unchanged; lower values raise fidelity at the cost of diversity. For a network with a
        style space it is psi, 0 to 1: the same pictures with styles moved toward the mean (`apps.truncation`). For other
        networks it is the fraction of the model's pictures to choose from, 0.05 to 1: latents are redrawn until the picture
        is among that fraction of the most typical ones of its mode (`apps.typical`), about 1/truncation draws per picture.
        calibration: progress of the calibration (`calibrate`).
        """
        check_numbers(n, seed)
        psi = self.check_truncation(truncation)
        for_labels, for_latents = np.random.default_rng(seed).spawn(2)
        labels = self.labels(n, label, for_labels)
        if n and psi < 1:
            self.calibrate(labels, calibration)
        for start in range(0, n, CHUNK):
            rows = range(start, min(n, start + CHUNK))
            y = None if labels is None else labels[start : start + CHUNK]
            if psi == 1 or self.has_styles:
                yield self.render(self.latents(len(rows), for_latents, y), y, psi)
            else:
                yield self._typical_draws([np.random.default_rng([seed, i]) for i in rows], y, psi)[1]

    @property
    def has_styles(self) -> bool:
        """Return whether `truncation` is psi in the style space; otherwise it is a fraction of typical pictures."""
        return isinstance(self.network, StyleBased)

    def check_truncation(self, truncation: float | None) -> float:
        """Return the truncation, 1 for None. Raises ValueError when it is outside the range of this model."""
        lower, meaning = MIN_TRUNCATION, "fraction of the model's pictures to choose from"
        if self.has_styles:
            lower, meaning = 0.0, "factor on the styles"
        if truncation is not None and not lower <= truncation <= 1:  # also False for NaN
            raise ValueError(f"The truncation is the {meaning}, {lower:g} to 1, not {truncation:g}.")
        return 1.0 if truncation is None else truncation

    def calibrate(self, labels: np.ndarray | None, progress: Progress | None = None) -> None:
        """Compute what truncation needs for each class of `labels` [N], or without classes: the mean style, or the modes.

        The result is kept. The samples have seeds of their own, so that it does not depend on earlier calls.
        """
        calibrated: dict[int, Any] = self._mean_styles if self.has_styles else self._typicality
        missing = [group for group in np.unique(_groups(1, labels)).tolist() if group not in calibrated]
        per_class = PICTURES_PER_CLASS if self.spec.classes < MANY_CLASSES else PICTURES_OF_MANY
        modes, pictures = (MODES, MODES * PICTURES_PER_MODE) if labels is None else (1, per_class)
        count = LATENTS if self.has_styles else pictures
        learning = missing and not self.has_styles and self._features is None
        total, done = len(missing) * count + (FEATURE_SAMPLES + FEATURE_IMAGES if learning else 0), 0

        def advance(steps: int) -> None:
            nonlocal done
            done += steps
            if progress:
                progress(done, total)

        if learning:
            even = np.arange(FEATURE_SAMPLES) % self.spec.classes
            pool = self._draw(FEATURE_SAMPLES, even, -1, advance)
            seen = done
            self._features = learn_features(
                pool, torch.from_numpy(even), self.spec.classes,
                lambda shown, of: advance(seen + FEATURE_IMAGES * shown // of - done),
            )  # fmt: skip
        for group in missing:
            y = None if labels is None else np.full(count, group)
            if self.has_styles:
                calibrated[group] = self._mean_style(self.latents(count, np.random.default_rng([0, 0, 0, group + 1]), y), y)
                advance(count)
            else:
                assert self._features is not None
                calibrated[group] = Typicality(self._features, self._draw(count, y, group, advance), modes)

    def _draw(self, count: int, labels: np.ndarray | None, group: int, advance: Callable[[int], None]) -> Tensor:
        """Return calibration pictures uint8 [count,C,H,W] of a class, -1 for all. advance: called with the size of each batch."""
        z, made = self.latents(count, np.random.default_rng([0, 0, 0, group + 1]), labels), []
        for start in range(0, count, CHUNK):
            made.append(self.render(z[start : start + CHUNK], None if labels is None else labels[start : start + CHUNK]))
            advance(len(made[-1]))
        return torch.from_numpy(np.concatenate(made))

    @torch.no_grad()
    def _mean_style(self, z: np.ndarray, labels: np.ndarray | None) -> Tensor:
        """Return the mean style [W], on the device, of latents [N,Z] of one class."""
        latent = latents.transform(torch.from_numpy(z).to(self._device), self.noise)
        assert isinstance(self.network, StyleBased)
        with autocast(self._device, self._precision):
            return mean_style(self.network, latent, None if labels is None else torch.from_numpy(labels).to(self._device))

    def _typical_draws(
        self, streams: Sequence[np.random.Generator], labels: np.ndarray | None, truncation: float
    ) -> tuple[np.ndarray, ImageArray]:
        """Return for each row the first latent of its random stream whose picture is typical enough: latents [N,Z], pictures.

        Each row has its own stream, so that the result does not depend on the number of rows or the batch.
        """
        n = len(streams)
        z = np.zeros((n, self.z_size), np.float32)
        pictures = np.zeros((n, self.spec.channels, *self.spec.size), np.uint8)
        best = np.full(n, np.inf)
        waiting = np.arange(n)
        for _ in range(round(MAX_DRAWS / truncation)):
            y = None if labels is None else labels[waiting]
            drawn = np.concatenate([
                self.latents(1, streams[i], None if labels is None else labels[i : i + 1]) for i in waiting.tolist()
            ])
            made = np.asarray(self.render(drawn, y))
            rank = self._ranks(made, y)
            better = rank < best[waiting]
            z[waiting[better]], pictures[waiting[better]], best[waiting[better]] = drawn[better], made[better], rank[better]
            waiting = waiting[best[waiting] > truncation]
            if not len(waiting):
                break
        return z, pictures.view(ImageArray)

    def _ranks(self, pictures: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
        """Return the ranks [N] of pictures uint8 [N,C,H,W] in their modes, 0 for the most typical; the classes are calibrated."""
        ranks = np.zeros(len(pictures))
        groups = _groups(len(pictures), labels)
        for group in np.unique(groups).tolist():
            rows = groups == group
            ranks[rows] = self._typicality[group].rank(torch.from_numpy(pictures[rows])).numpy()
        return ranks

    def latents(self, n: int, rng: np.random.Generator, labels: np.ndarray | None = None) -> np.ndarray:
        """Return standard normal latents [n, z_size]; `render` transforms them to the model's latent distribution.

        labels: class numbers [n], for models whose latents depend on the class.
        """
        return latents.normal(rng, n, self.z_size)

    def key_latents(self, count: int, n: int, rng: np.random.Generator, labels: np.ndarray | None = None) -> np.ndarray:
        """Return `count` latents for each of n walks, which interpolations keep likely, float32 [count, n, z_size]."""
        return np.stack([self.latents(n, rng, labels) for _ in range(count)])

    def typical_key_latents(self, count: int, n: int, seed: int, labels: np.ndarray | None, truncation: float) -> np.ndarray:
        """Return `key_latents` of typical pictures; latents between two of them are not selected."""
        return np.stack([
            self._typical_draws([np.random.default_rng([seed, i, k]) for i in range(n)], labels, truncation)[0]
            for k in range(count)
        ])  # fmt: skip

    def labels(self, n: int, label: str | int | Sequence[int] | None, rng: np.random.Generator) -> np.ndarray | None:
        """Return one class number per picture, int64 [n], or None for a model without a condition.

        Raises ValueError for an unknown label, and for a model with a condition other than classes, which `render` takes.
        """
        condition = self.spec.condition
        if condition.kind not in ("none", "classes"):
            raise ValueError(f"This model is conditioned on {condition}, not on classes that have labels: give the condition to `render(z, labels)`.")
        count = condition.size
        if not count:
            if label is not None:
                raise ValueError("This model has no classes: leave the label out.")
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
                raise ValueError(f"The label {label!r} is unknown: choose all, or one of {', '.join(self.classes)}.")
            label = int(label)
        numbers = np.broadcast_to(np.asarray(label, np.int64), (n,)).copy()
        if numbers.min() < 0 or numbers.max() >= count:
            raise ValueError(f"Labels go from 0 to {count - 1}.")
        return numbers

    @torch.no_grad()
    def render(self, z: np.ndarray | Latent | Sequence[Latent], labels: np.ndarray | None = None, psi: float = 1.0) -> ImageArray:
        """Generate pictures uint8 [n,C,H,W] from standard normal latents float32 [n, z_size] (and class numbers [n]).

        The latents are transformed to the model's latent distribution (`core.latents`). psi: for a style-based network whose
        classes are calibrated, the factor on the distance of styles from their mean. z: or a `Latent` (`invert`), or several,
        which have their own labels; raises ValueError for one of another generator.
        """
        if not isinstance(z, np.ndarray):
            return render(self, [z] if isinstance(z, Latent) else z).view(ImageArray)
        if not len(z):
            return np.zeros((0, self.spec.channels, *self.spec.size), np.uint8).view(ImageArray)

        def network(latent: torch.Tensor, c: torch.Tensor | None) -> torch.Tensor:
            if psi == 1:
                made = self.inference(latent, c)
            else:
                groups = _groups(len(latent), None if c is None else c.cpu().numpy())
                mean = torch.stack([self._mean_styles[group] for group in groups.tolist()])  # [N,W]
                made = truncated(self.network, latent, c, mean, psi)
            return finite(made)

        latent = latents.transform(torch.from_numpy(z), self.noise)
        c = None if labels is None else torch.from_numpy(labels)
        return generate(network, latent, c, self._device, self._precision, CHUNK).numpy().view(ImageArray)

    def invert(self, image: Image.Image | np.ndarray | str | Path, *, label: str | int | None = None, steps: int | None = None,
               encoder: bool = True, progress: Progress | None = None) -> Latent:  # fmt: skip
        """Find the latent of a picture.

        Parameters
        ----------
        image
            A file, a Pillow image or uint8 [C,H,W] of any size and mode; it is cropped and resized as the training data were.
        label
            The class by name or number; None finds the one that fits best.
        steps
            Steps of the search; None takes `editing.invert.STEPS`.
        encoder
            Start from the run's encoder, which the first inversion trains, once; False starts from random latents.
        progress
            Of the training of the encoder.

        Returns
        -------
        Latent
            For `render` and for edits; its `save` writes a .latent.npz.

        Raises
        ------
        ValueError
            For a picture that cannot be read, an unknown label, and a model with a condition other than classes.

        Examples
        --------
        After the example of `limner.train`:

        >>> import limner
        >>> model = limner.load("runs/noise", "cpu")
        >>> latent = model.invert(model.sample(1, seed=3)[0], encoder=False)
        >>> model.render(latent).shape
        (1, 1, 16, 16)
        """
        from limner.apps.editing.invert import STEPS, Inverter, target_of

        number = None if label is None else self.labels(1, label if isinstance(label, str) else [label], np.random.default_rng(0))
        try:
            target = target_of(self, as_picture(np.asarray(image) if isinstance(image, np.ndarray) else image))
        except Damaged as error:
            raise ValueError(f"The picture cannot be used: {error}.") from error
        if self._inverter is None or (encoder and self._inverter.encoder is None):
            self._inverter = Inverter(self, encoder, progress)
        found: Latent = self._inverter.invert(target, None if number is None else int(number[0]), STEPS if steps is None else steps).latent
        return found


def _groups(n: int, labels: np.ndarray | None) -> np.ndarray:
    """Return the group of each picture for truncation: the class numbers [n], or -1 without classes."""
    return np.full(n, -1) if labels is None else labels


def finite(made: torch.Tensor) -> torch.Tensor:
    """Return the outputs of a network, in or near [-1,1]. Raises ValueError when one is not finite."""
    if not torch.isfinite(made.sum()):
        raise ValueError("The model's outputs are not finite: its weights are damaged, so copy it again.")
    return made


def check_numbers(n: int, seed: int = 0) -> None:
    """Raise ValueError for an invalid number of pictures or seed."""
    for value, what in ((n, "number of pictures"), (seed, "seed")):
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise ValueError(f"The {what} is a whole number, not {value!r}.")
    if not 0 <= n <= MAX_PICTURES:
        raise ValueError(f"At most {MAX_PICTURES:,} pictures are made at once: give a smaller number, with another --seed for more.")
    if not 0 <= seed < 2**64:
        raise ValueError("The seed is a whole number from 0 up, below 2^64.")
