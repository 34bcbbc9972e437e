"""A trained generator in the hand: sample it, save what it made."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from limner.apps.truncation import LATENTS, mean_style, truncated
from limner.apps.typical import MODES, OF_CLASS, PICTURES, POOL, SHOWN, Features, Typicality, learn_features, reduced
from limner.core import device, latents
from limner.core.device import autocast
from limner.core.files import write_error, write_whole, writing
from limner.core.images import ImageSpec, grid, to_pil, to_uint8
from limner.networks.contracts import StyleBased

CHUNK = 64                       # pictures a forward pass
MOST = 10_000_000                # pictures that one call makes
LEAST_TRUNCATION = 0.05          # of a share: every picture is then chosen among 20
TRIES = 40                       # times 1/truncation draws; after so many the most typical one is taken
SHEETS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
SIDE = {"PNG": 2**31 - 1, "JPEG": 65_535, "WEBP": 16_383}  # pixels a side that the format can hold
SHEET_BYTES = 400_000_000        # of a sheet in memory
Progress = Callable[[int, int], None]  # (done, of how many)


class Pictures(np.ndarray):
    """uint8 [N,C,H,W] that can save itself."""

    def save(self, path: str | Path, columns: int | None = None) -> Path:
        """Write a sheet (.png, .jpg or .webp), every picture by itself (a folder) or in a .zip. Returns the path.

        columns: of a sheet; None makes it about square. Raises ValueError for another ending, for a sheet too large for
        its format, and when the place cannot be written.
        """
        pictures = np.asarray(self)
        write_pictures(Path(path), iter([pictures]), len(pictures), ImageSpec(*pictures.shape[1:]), columns)
        return Path(path)


def write_pictures(path: Path, batches: Iterable[np.ndarray], n: int, spec: ImageSpec, columns: int | None = None,
                   progress: Progress | None = None, rows: Sequence[int] | None = None) -> None:  # fmt: skip
    """Write n pictures that come in batches uint8 [B,C,H,W]: a sheet, a .zip, or a folder of .png files. A batch is written
    as it comes, except into a sheet. rows: of a sheet, as of `grid`. Raises ValueError as `Pictures.save` does."""
    ending = form(path)
    if ending in SHEETS:
        check_sheet(path, n, spec, columns, rows)
        parts = []
        for batch in _counted(batches, n, progress):
            parts.append(np.asarray(batch))
        write_sheet(path, grid(np.concatenate(parts), columns, rows=rows))
        return
    digits, i = max(6, len(str(n - 1))), 0
    if ending == ".zip":
        with writing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for batch in _counted(batches, n, progress):
                for picture in batch:
                    archive.writestr(f"{i:0{digits}d}.png", _png(picture))
                    i += 1
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(error, path) from error
    for batch in _counted(batches, n, progress):
        for picture in batch:
            write_whole(path / f"{i:0{digits}d}.png", _png(picture))
            i += 1


def _counted(batches: Iterable[np.ndarray], n: int, progress: Progress | None) -> Iterator[np.ndarray]:
    done = 0
    for batch in batches:
        yield batch
        done += len(batch)
        if progress:
            progress(done, n)


def check_sheet(
    path: Path, n: int, spec: ImageSpec, columns: int | None = None, rows: Sequence[int] | None = None
) -> None:
    """Raises ValueError when n pictures are too many for one sheet of that format, before anything is drawn."""
    if columns is not None and columns < 1:
        raise ValueError("A sheet has 1 column at least.")
    columns = max(rows) if rows else min(n, columns or max(1, round((n * spec.height / spec.width) ** 0.5)))
    height, width = (len(rows) if rows else -(-n // columns)) * (spec.height + 2), columns * (spec.width + 2)
    most = SIDE[SHEETS[path.suffix.lower()]]
    if max(height, width) > most or height * width * spec.channels > SHEET_BYTES:
        raise ValueError(
            f"A sheet of {n:,} pictures would have {width:,}x{height:,} pixels, too many for {path.name!r}: write to a folder "
            "or a .zip, or ask for fewer."
        )


def write_sheet(path: Path, image: np.ndarray) -> None:
    """Write one picture uint8 [C,H,W] as .png, .jpg (flattened on white) or .webp (lossless)."""
    kind, picture = SHEETS[path.suffix.lower()], to_pil(image)
    if kind == "JPEG" and picture.mode == "RGBA":
        white = Image.new("RGBA", picture.size, "white")
        white.alpha_composite(picture)
        picture = white.convert("RGB")
    options: dict[str, Any] = {"quality": 95} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    write_whole(path, buffer.getvalue())


def form(path: Path) -> str:
    """How pictures are saved at a path: the ending of a sheet, ".zip" or "" (a folder, whose name may have a dot if it is
    there). Raises ValueError for another ending."""
    ending = "" if path.is_dir() else path.suffix.lower()
    if ending not in (*SHEETS, ".zip", ""):
        raise ValueError(f"Pictures are saved as a sheet (.png, .jpg, .webp), a .zip or a folder, not as {path.name!r}.")
    return ending


def _png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    to_pil(picture).save(buffer, "PNG")
    return buffer.getvalue()


class GeneratorModel:
    """A trained generator.

    spec: shape of its pictures and number of classes. classes: their names. description: all of limner.json.
    """

    def __init__(self, network: nn.Module, spec: ImageSpec, description: dict[str, Any], where: torch.device,
                 folder: Path) -> None:  # fmt: skip
        self.network, self.spec, self.description, self.folder = network, spec, description, folder
        self.classes: list[str] = list(description["data"].get("classes") or [])
        self.noise = latents.validate_name(description["network"].get("noise", "normal"))
        self._device = where
        self._precision = device.precision(where)
        self._features: Features | None = None if spec.classes > 1 else reduced  # None: not learned yet
        self._typicality: dict[int, Typicality] = {}  # class, or -1 without classes -> what its pictures are like
        self._mean_styles: dict[int, Tensor] = {}  # the same -> its mean style [W], of a style-based network

    @property
    def z_size(self) -> int:
        return int(self.network.z_size)  # type: ignore[arg-type]

    def sample(self, n: int = 16, *, seed: int = 0, label: str | int | Sequence[int] | None = None,
               truncation: float | None = None) -> Pictures:  # fmt: skip
        """n pictures, uint8 [n,C,H,W]; the same seed gives the same pictures, and fewer of them are the first of more.

        label: a class by name or number, "all" (classes in turn), one number a picture, or None (as frequent as in the
        training data). truncation: as of `stream`. Raises ValueError for an unknown label and for numbers out of range.
        """
        parts: list[np.ndarray] = list(self.stream(n, seed=seed, label=label, truncation=truncation))
        empty = np.zeros((0, self.spec.channels, *self.spec.size), np.uint8)
        return np.concatenate(parts or [empty]).view(Pictures)

    def stream(self, n: int, *, seed: int = 0, label: str | int | Sequence[int] | None = None,
               truncation: float | None = None, calibration: Progress | None = None) -> Iterator[Pictures]:  # fmt: skip
        """What `sample` gives, in batches of at most CHUNK pictures.

        truncation: 1 leaves samples as they are; fidelity rises as it falls, at the cost of variety. For a network with
        a style space it is psi, from 0 up: the same pictures, their styles drawn towards the mean (`apps.truncation`).
        For every other it is the share of the model's pictures to choose from, 0.05 or more: samples are drawn again
        until they are among that share of the most typical ones of their mode (`apps.typical`), so that a picture costs
        1/truncation drawn ones. calibration: progress of what is drawn beforehand to know the mean style or the mode.
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
        """Whether `truncation` is psi in the space of styles; else it is a share of typical pictures."""
        return isinstance(self.network, StyleBased)

    def check_truncation(self, truncation: float | None) -> float:
        """The truncation, 1 for None. Raises ValueError for one out of this model's range."""
        least, what = LEAST_TRUNCATION, "share of the model's pictures to choose from"
        if self.has_styles:
            least, what = 0.0, "factor of the styles"
        if truncation is not None and not least <= truncation <= 1:  # nan is neither
            raise ValueError(f"The truncation is the {what}, {least:g} to 1, not {truncation:g}.")
        return 1.0 if truncation is None else truncation

    def calibrate(self, labels: np.ndarray | None, progress: Progress | None = None) -> None:
        """Learn once what truncation needs of each class of `labels` [N] (or of all without classes): its mean style, or
        the modes of its pictures. Drawn from seeds of their own, so that no sample depends on what came before."""
        known: dict[int, Any] = self._mean_styles if self.has_styles else self._typicality
        missing = [group for group in np.unique(_groups(1, labels)).tolist() if group not in known]
        modes, pictures = (MODES, MODES * PICTURES) if labels is None else (1, OF_CLASS)
        count = LATENTS if self.has_styles else pictures
        learning = missing and not self.has_styles and self._features is None
        total, done = len(missing) * count + (POOL + SHOWN if learning else 0), 0

        def advance(steps: int) -> None:
            nonlocal done
            done += steps
            if progress:
                progress(done, total)

        if learning:
            even = np.arange(POOL) % self.spec.classes
            pool = self._draw(POOL, even, -1, advance)
            seen = done
            self._features = learn_features(
                pool, torch.from_numpy(even), self.spec.classes,
                lambda shown, of: advance(seen + SHOWN * shown // of - done),
            )  # fmt: skip
        for group in missing:
            y = None if labels is None else np.full(count, group)
            if self.has_styles:
                known[group] = self._mean_style(self.latents(count, np.random.default_rng([0, 0, 0, group + 1]), y), y)
                advance(count)
            else:
                assert self._features is not None
                known[group] = Typicality(self._features, self._draw(count, y, group, advance), modes)

    def _draw(self, count: int, labels: np.ndarray | None, group: int, advance: Callable[[int], None]) -> Tensor:
        """Calibration pictures uint8 [count,C,H,W] of a group, -1 for all classes; `advance` gets the number of each batch."""
        z, made = self.latents(count, np.random.default_rng([0, 0, 0, group + 1]), labels), []
        for start in range(0, count, CHUNK):
            made.append(self.render(z[start : start + CHUNK], None if labels is None else labels[start : start + CHUNK]))
            advance(len(made[-1]))
        return torch.from_numpy(np.concatenate(made))

    @torch.no_grad()
    def _mean_style(self, z: np.ndarray, labels: np.ndarray | None) -> Tensor:
        """Latents [N,Z] of one class -> their mean style [W] on the device."""
        latent = latents.transform(torch.from_numpy(z).to(self._device), self.noise)
        assert isinstance(self.network, StyleBased)
        with autocast(self._device, self._precision):
            return mean_style(self.network, latent, None if labels is None else torch.from_numpy(labels).to(self._device))

    def _typical_draws(
        self, streams: Sequence[np.random.Generator], labels: np.ndarray | None, truncation: float
    ) -> tuple[np.ndarray, Pictures]:
        """For each row, the first latent of its own stream whose picture is typical enough: latents [N,Z] and pictures.

        Rows have streams of their own, so that neither their number nor the batch decides what a row becomes.
        """
        n = len(streams)
        z = np.zeros((n, self.z_size), np.float32)
        pictures = np.zeros((n, self.spec.channels, *self.spec.size), np.uint8)
        best = np.full(n, np.inf)
        waiting = np.arange(n)
        for _ in range(round(TRIES / truncation)):
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
        return z, pictures.view(Pictures)

    def _ranks(self, pictures: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
        """uint8 [N,C,H,W] -> how typical each is of its mode, 0 most, [N]; their classes are calibrated."""
        ranks = np.zeros(len(pictures))
        groups = _groups(len(pictures), labels)
        for group in np.unique(groups).tolist():
            rows = groups == group
            ranks[rows] = self._typicality[group].rank(torch.from_numpy(pictures[rows])).numpy()
        return ranks

    def latents(self, n: int, rng: np.random.Generator, labels: np.ndarray | None = None) -> np.ndarray:
        """Standard normal latents [n, z_size]; `render` bends them to the model's kind.

        labels: class numbers [n], for models whose latents depend on the class.
        """
        return latents.normal(rng, n, self.z_size)

    def keys(self, count: int, n: int, rng: np.random.Generator, labels: np.ndarray | None = None) -> np.ndarray:
        """What n walks pass: `count` latents for each, between which latents are as likely, float32 [count, n, z_size]."""
        return np.stack([self.latents(n, rng, labels) for _ in range(count)])

    def typical_keys(self, count: int, n: int, seed: int, labels: np.ndarray | None, truncation: float) -> np.ndarray:
        """As `keys`, each of them a latent of a typical picture; what lies between two is not chosen."""
        return np.stack([
            self._typical_draws([np.random.default_rng([seed, i, k]) for i in range(n)], labels, truncation)[0]
            for k in range(count)
        ])  # fmt: skip

    def labels(self, n: int, label: str | int | Sequence[int] | None, rng: np.random.Generator) -> np.ndarray | None:
        """One class number a picture, int64 [n], or None for a model without a condition.

        Raises ValueError for an unknown label, and for a model with another condition than classes, which `render` takes.
        """
        condition = self.spec.condition
        if condition.kind not in ("none", "classes"):
            raise ValueError(f"This model is conditioned on {condition}, not on classes that a label could name: give the condition to `render(z, labels)`.")
        count = condition.size
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
    def render(self, z: np.ndarray, labels: np.ndarray | None = None, psi: float = 1.0) -> Pictures:
        """Standard normal latents float32 [n, z_size] (and class numbers [n]) -> uint8 [n,C,H,W].

        A model trained from another kind of noise gets them bent to that kind, as `core.latents` does. psi: of a
        style-based network whose classes are calibrated, how far styles are from the mean.
        """
        parts = []
        for start in range(0, len(z), CHUNK):
            latent = latents.transform(torch.from_numpy(z[start : start + CHUNK]).to(self._device), self.noise)
            y = None if labels is None else torch.from_numpy(labels[start : start + CHUNK]).to(self._device)
            with autocast(self._device, self._precision):
                if psi == 1:
                    made = self.network(latent, y)
                else:
                    groups = _groups(len(latent), None if labels is None else labels[start : start + CHUNK])
                    mean = torch.stack([self._mean_styles[group] for group in groups.tolist()])  # [N,W]
                    made = truncated(self.network, latent, y, mean, psi)
            if not torch.isfinite(made).all():
                raise ValueError("The model makes values that are no numbers: its weights are damaged, so copy it again.")
            parts.append(to_uint8(made).contiguous().cpu().numpy())
        empty = np.zeros((0, self.spec.channels, *self.spec.size), np.uint8)
        return np.concatenate(parts or [empty]).view(Pictures)


def _groups(n: int, labels: np.ndarray | None) -> np.ndarray:
    """What truncation tells apart: the class numbers [n], or -1 without classes."""
    return np.full(n, -1) if labels is None else labels


def check_numbers(n: int, seed: int = 0) -> None:
    """Raises ValueError for a number of pictures or a seed that nothing can be made of."""
    for value, what in ((n, "number of pictures"), (seed, "seed")):
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise ValueError(f"The {what} is a whole number, not {value!r}.")
    if not 0 <= n <= MOST:
        raise ValueError(f"At most {MOST:,} pictures are made at once: ask for fewer, with another --seed for more.")
    if not 0 <= seed < 2**64:
        raise ValueError("The seed is a whole number from 0 up, below 2^64.")
