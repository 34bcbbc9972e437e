"""A trained text-to-image generator, and `limner sample` and `limner interpolate` for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from limner.apps.model import CHUNK, check_numbers, finite
from limner.apps.output import SHEETS, ImageArray, Progress, check_sheet, form, write_pictures
from limner.apps.sample import (
    at_least_one,
    check_film,
    destination,
    first_ready,
    is_film,
    refuse_seconds,
    slerp,
    write_film,
)
from limner.core import device, latents
from limner.core.device import autocast
from limner.core.hashing import LONGEST, words
from limner.core.images import ImageSpec, grid
from limner.core.text import counted, shortened
from limner.core.wordllama import tokenizer_of
from limner.data.image import reason
from limner.networks.inference import inference_form
from limner.sampling.generate import generate

MAX_TEXTS = 10_000  # of a call
MAX_FILE_BYTES = MAX_TEXTS * 1000
FILM_SECONDS = 4.0  # default duration of a film between two texts
EACH = 8  # default number of pictures of each of several texts


class TextGenerator:
    """A trained text-to-image generator.

    spec: shape of its pictures. description: the content of limner.json. captions: of the run's preview.
    """

    def __init__(
        self, network: nn.Module, spec: ImageSpec, description: dict[str, Any], where: torch.device, folder: Path
    ) -> None:
        self.network, self.spec, self.description, self.folder = network, spec, description, folder
        described = description["network"]
        tokenizer, captions = described.get("tokenizer"), described.get("captions")
        if not isinstance(tokenizer, dict) or not isinstance(captions, list) or not captions:
            raise ValueError(f"{folder} is damaged: its limner.json has no tokenizer or no captions.")
        self.tokenizer = tokenizer_of(tokenizer)
        if self.tokenizer.condition != spec.condition:
            raise ValueError(f"{folder} is damaged: in its limner.json, tokenizer and condition contradict each other.")
        self.captions = [str(caption) for caption in captions]
        self.noise = latents.validate_name(described.get("noise", "normal"))
        self._device, self._precision = where, device.precision(where)

    @property
    def z_size(self) -> int:
        return int(self.network.z_size)  # type: ignore[arg-type]

    @cached_property
    def inference(self) -> nn.Module:
        """The network behind its sentence encoder, as it samples fastest (`networks.inference`)."""
        return inference_form(self.network.pictures, self._precision)  # type: ignore[arg-type]

    def sample(self, n: int = 16, *, text: str | Sequence[str] | None = None, seed: int = 0) -> ImageArray:
        """Generate pictures of a text, or of each of several. A seed always gives the same pictures.

        Parameters
        ----------
        n
            How many of each text.
        text
            One text or several; None takes the captions of the run's preview.
        seed
            Seed of the latents; the i-th pictures of all texts have the same latent.

        Returns
        -------
        ImageArray
            uint8 [texts * n,C,H,W], those of a text one after another; its `save` writes a sheet, a folder or a .zip.

        Raises
        ------
        ValueError
            For a text without words, and for numbers out of range.

        Examples
        --------
        >>> import limner
        >>> import numpy as np
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> Path("squares").mkdir()
        >>> for i in range(32):
        ...     color = ("red", "blue")[i % 2]
        ...     Image.new("RGB", (16, 16), color).save(f"squares/{i}.png")
        ...     _ = Path(f"squares/{i}.txt").write_text(f"a {color} square")
        >>> small = {"generator.width": 4, "discriminator.width": 4}
        >>> more = {"batch": 8, "images": 64, "changes": small, "out": "runs/squares", "quiet": True}
        >>> run = limner.train("squares", recipe="text2image", **more)
        >>> model = limner.load("runs/squares", "cpu")
        >>> model.sample(4, text="a red square").shape
        (4, 3, 16, 16)
        >>> model.sample(2, text=["a red square", "a blue square"], seed=1).save("squares.png").exists()
        True
        """
        parts: list[np.ndarray] = list(self.stream(n, text=text, seed=seed))
        empty = np.zeros((0, self.spec.channels, *self.spec.size), np.uint8)
        return np.concatenate(parts or [empty]).view(ImageArray)

    def stream(self, n: int, *, text: str | Sequence[str] | None = None, seed: int = 0) -> Iterator[ImageArray]:
        """Yield the pictures of `sample`, in batches of at most CHUNK."""
        check_numbers(n, seed)
        for features in self.features(self.texts(text)):
            rng = np.random.default_rng(seed)
            for start in range(0, n, CHUNK):
                z = latents.normal(rng, min(CHUNK, n - start), self.z_size)
                yield self.render(z, np.broadcast_to(features, (len(z), len(features))))

    def texts(self, text: str | Sequence[str] | None) -> list[str]:
        """Return texts as a list; None gives the captions of the preview. Raises ValueError for a text without
        words."""
        found = self.captions if text is None else [text] if isinstance(text, str) else list(text)
        if not found:
            raise ValueError("There is no text: give at least one.")
        if len(found) > MAX_TEXTS:
            raise ValueError(f"At most {MAX_TEXTS:,} texts are taken at once, not {len(found):,}: give fewer.")
        for one in found:
            if not isinstance(one, str) or not words(one):
                raise ValueError(f"The text {shortened(one)!r} has no words: describe a picture.")
            if len(one) > LONGEST:
                raise ValueError(f"A text has at most {LONGEST:,} characters, not {len(one):,}.")
        return found

    def sample_each(self, texts: Sequence[str], seed: int = 0) -> ImageArray:
        """Generate one picture of each text, with a latent of its own: uint8 [texts,C,H,W]. Raises ValueError as
        `sample` does."""
        rng, made = np.random.default_rng(seed), []
        for start in range(0, len(texts), CHUNK):
            part = self.texts(texts[start : start + CHUNK])
            made.append(self.render(latents.normal(rng, len(part), self.z_size), self.features(part)))
        return np.concatenate(made).view(ImageArray)

    @torch.no_grad()
    def features(self, texts: Sequence[str]) -> np.ndarray:
        """Return what the network draws of texts, float32 [N,F]: their sentences and, with attention, their words. Raises
        ValueError where the word vectors that it was trained with are not installed."""
        found = []
        for start in range(0, len(texts), CHUNK):
            c = self.tokenizer.encode(texts[start : start + CHUNK]).to(self._device)
            with autocast(self._device, self._precision):
                found.append(self.network.features(c).float().cpu())  # type: ignore[operator]
        return torch.cat(found).numpy()

    def render(self, z: np.ndarray, features: np.ndarray) -> ImageArray:
        """Generate pictures uint8 [n,C,H,W] from standard normal latents float32 [n, z_size] and features of texts
        float32 [n,F]."""

        def network(latent: Tensor, c: Tensor | None) -> Tensor:
            return finite(self.inference(latent, c))

        latent = latents.transform(torch.from_numpy(z), self.noise)
        c = torch.from_numpy(np.array(features, np.float32))  # a copy: the features of one text for all pictures are a view
        return generate(network, latent, c, self._device, self._precision, CHUNK).numpy().view(ImageArray)

    def between(self, a: str, b: str, steps: int = 10, *, n: int = 1, seed: int = 0) -> Iterator[ImageArray]:
        """Yield pictures uint8 [n,C,H,W] for each of `steps` points on the way from one text to another, with the same
        latents.

        Sentences move along a great circle, which keeps their length; attention sees the words of both texts, weighted by
        their nearness. Raises ValueError as `sample` does, and for fewer than two steps.
        """
        check_numbers(n, seed)
        if steps < 2:
            raise ValueError("An interpolation has at least 2 pictures, its ends: give --steps 2 or more.")
        first, second = self.features(self.texts([a, b]))
        size = int(self.network.sentence_size)  # type: ignore[arg-type]
        z = latents.normal(np.random.default_rng(seed), n, self.z_size)
        for t in np.linspace(0, 1, steps):
            sentence = slerp(first[None, :size], second[None, :size], float(t))[0]
            words = [_weighted(features[size:], size, share) for features, share in ((first, 1 - t), (second, t))]
            features = np.concatenate([sentence, *words])
            yield self.render(z, np.broadcast_to(features, (n, len(features))))


def _weighted(words: np.ndarray, size: int, share: float) -> np.ndarray:
    """Return the words of a text, float32 [W (size+1)] as of `networks.text2image.Generator.features`, with `share` of their
    weights."""
    rows = words.reshape(-1, size + 1).copy()
    rows[:, -1] *= share
    return rows.ravel()


def read_texts(path: Path) -> list[str]:
    """Return the lines of a file of texts, without empty ones. Raises ValueError when it cannot be read or holds
    none."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ValueError(f"{path} is too large for a file of texts: give at most {MAX_TEXTS:,} lines.")
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8: save it as such, a text a line.") from error
    except OSError as error:
        raise ValueError(f"The file of texts {path} cannot be read: {reason(error)}.") from error
    found = [line.strip() for line in lines if line.strip()]
    if not found:
        raise ValueError(f"{path} holds no text: write one a line.")
    return found


def sample(
    model: TextGenerator,
    texts: Sequence[str],
    file: Path | None,
    out: Path | None = None,
    n: int | None = None,
    seed: int = 0,
    columns: int | None = None,
    progress: Progress | None = None,
) -> str:
    """Write n pictures of each text to `out`: a sheet with a row for each text, a .zip or a folder.

    texts: none takes those of `file`, a text a line, or the captions of the preview. n: None is 64 of one text,
    otherwise EACH. out: None writes samples.png in the run folder. Returns a sentence that names the output. Raises
    ValueError for texts without words, unknown suffixes and numbers out of range, before anything is generated.
    """
    if texts and file:
        raise ValueError("Give the texts with --text or in a file with --text-file, not both.")
    given = model.texts(read_texts(file) if file else list(texts) or None)
    n = (64 if len(given) == 1 else EACH) if n is None else n
    at_least_one(n)
    check_numbers(n, seed)
    out = destination(model.folder, out, "samples.png")
    if is_film(out, None):
        raise ValueError(
            "A film of texts goes from one to another: `limner interpolate RUN TEXT TEXT --out FILM`."
        )
    ending = form(out)
    if columns is not None and ending not in SHEETS:
        raise ValueError("Only a sheet has columns: write to a .png, .jpg or .webp, or leave --columns out.")
    rows = [n] * len(given) if ending in SHEETS and columns is None and len(given) > 1 else None
    total = n * len(given)
    if ending in SHEETS:
        check_sheet(out, total, model.spec, columns, rows)
    write_pictures(out, first_ready(model.stream(n, text=given, seed=seed)), total, model.spec, columns, progress, rows)
    what = f"of {shortened(given[0])!r}" if len(given) == 1 else f"of {len(given):,} texts, {n:,} of each"
    return f"{counted(total, 'picture is', 'pictures are')} in {out}: {what}."


def interpolate(
    model: TextGenerator,
    a: str,
    b: str,
    out: Path | None = None,
    steps: int = 10,
    seconds: float | None = None,
    progress: Progress | None = None,
) -> str:
    """Write pictures on the way from one text to another: a row for each of EACH latents, a folder or .zip of one, or a
    film.

    out: None writes between.png in the run folder. Returns a sentence that names the output. Raises ValueError as
    `sample`.
    """
    out = destination(model.folder, out, "between.png")
    if is_film(out, seconds):
        seconds = FILM_SECONDS if seconds is None else seconds
        frames = check_film(out, seconds, EACH, model)
        write_film(out, map(grid, model.between(a, b, frames, n=EACH)), frames, seconds, progress)
        return f"A film of {frames} frames is in {out}."
    refuse_seconds(seconds)
    n = EACH if form(out) in SHEETS else 1
    if n > 1:
        check_sheet(out, n * steps, model.spec, max(1, steps))
        made = np.stack(list(model.between(a, b, steps, n=n)), 1)  # [n,steps,C,H,W]
        write_pictures(out, iter([made.reshape(-1, *made.shape[2:])]), n * steps, model.spec, steps, progress)
    else:
        write_pictures(out, first_ready(model.between(a, b, steps)), steps, model.spec, progress=progress)
    return f"{counted(n * steps, 'picture is', 'pictures are')} in {out}."
