"""A model with its worker: the requests that it takes, each as a job."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from PIL import Image

from limner.apps.autoencode import Autoencoder
from limner.apps.classify import Classifier
from limner.apps.compress import Codec, validate_quality
from limner.apps.model import GeneratorModel, check_numbers
from limner.apps.restore import Restorer
from limner.apps.serve.batching import Full, Job, Observe, Worker
from limner.apps.serve.pace import Pace
from limner.apps.serve.pictures import as_file
from limner.apps.serve.settings import MAX_N, Settings
from limner.apps.text import TextGenerator
from limner.apps.translate import Translator
from limner.apps.web.errors import Refusal
from limner.coding.container import File, Item
from limner.coding.entropy import Corrupt, check_installed
from limner.core import artifact
from limner.core import latents as normals
from limner.data.image import decode_image, parse_color

MAX_LATENT = 100.0  # of a number of a latent; those of a sample are below 10
REQUEST_WORK = 2.0  # what a request costs besides its pictures, as a number of small pictures
VARIATION = 0.4  # share of a random latent in that of a variation
MEGAPIXEL_WORK = 100.0  # what a megapixel costs, in the same unit: about right for restorers of 10 GFLOP a megapixel
Latents = Callable[[], tuple[np.ndarray, np.ndarray | None]]  # -> latents [n,Z], class numbers [n] or None


class Editor(Protocol):
    """What is done with pictures of a generator beyond sampling. A code is what the editor makes of it: a latent, styles.

    directions: their names, without spaces. inverts: whether `invert` can be called.
    """

    directions: Sequence[str]
    inverts: bool

    def invert(self, image: Image.Image, progress: Callable[..., None]) -> Any:
        """Return the code of the picture of the model that is nearest to a given one. progress may raise, to stop."""

    def code(self, z: np.ndarray, label: int | None) -> Any:
        """Return the code of a latent [Z]."""

    def move(self, code: Any, amounts: Mapping[str, float]) -> Any:
        """Return a code moved along directions by name, each by an amount in standard deviations."""

    def vary(self, code: Any, z: np.ndarray) -> Sequence[Any]:
        """Return a code near the given one for each standard normal latent [N,Z]. Raises Refusal where codes cannot be varied."""

    def draw(self, codes: Sequence[Any]) -> np.ndarray:
        """Return the pictures uint8 [N,C,H,W] of codes."""


def near(z: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return latents that keep a correlation of 1 - VARIATION^2 / 2, about, with z [Z]: standard normal if z and other [N,Z] are."""
    made: np.ndarray = (math.sqrt(1 - VARIATION**2) * z + VARIATION * other).astype(np.float32)
    return made


class AutoencoderEditor:
    """An autoencoder as its own editor: its encoder inverts."""

    directions: Sequence[str] = ()
    inverts = True

    def __init__(self, model: Autoencoder) -> None:
        self.model = model
        how = artifact.preparation(model.description)
        self.fit, self.background = how["fit"], parse_color(how["background"])

    def invert(self, image: Image.Image, progress: Callable[..., None]) -> np.ndarray:
        spec = self.model.spec
        pixels, _ = decode_image(image, spec.size, spec.channels, self.fit, self.background)
        return self.model.encode(np.ascontiguousarray(pixels.transpose(2, 0, 1))[None])[0]

    def code(self, z: np.ndarray, label: int | None) -> np.ndarray:
        return z

    def move(self, code: np.ndarray, amounts: Mapping[str, float]) -> np.ndarray:
        return code

    def vary(self, code: np.ndarray, z: np.ndarray) -> Sequence[np.ndarray]:
        return list(near(code, z))

    def draw(self, codes: Sequence[np.ndarray]) -> np.ndarray:
        return np.asarray(self.model.decode(np.stack(codes)))


class Served:
    """One model of a server. id: how requests name it. editor: None where nothing can be inverted."""

    def __init__(self, id: str, model: Any, settings: Settings, editor: Editor | None = None, observe: Observe | None = None) -> None:
        self.id, self.model, self.settings = id, model, settings
        self.editor = AutoencoderEditor(model) if editor is None and isinstance(model, Autoencoder) else editor
        self.kind = str(model.description["kind"])
        self.classes: list[str] = list(getattr(model, "classes", ()) or ())
        self.generates = isinstance(model, GeneratorModel) and _samples(model)
        self.applies = isinstance(model, Translator | Restorer) or (self.editor is not None and self.editor.inverts)
        self.illustrates = isinstance(model, TextGenerator)
        self.classifies = isinstance(model, Classifier)
        self.compresses = isinstance(model, Codec)
        if self.compresses:
            check_installed()
        self.varies = isinstance(model, GeneratorModel) and self.generates and self.editor is not None and self.editor.inverts
        self.pace = Pace()
        self.worker = Worker(id, self._compute, settings.max_batch, settings.batch_wait, settings.queue_requests, observe)

    # ---- generation --------------------------------------------------------------------------------------------------

    def generate(
        self, n: int, seed: int, label: str | int | Sequence[int] | None = None, truncation: float | None = None,
        directions: Mapping[str, float] | None = None,
    ) -> Job:  # fmt: skip
        """Queue n pictures of a seed: those of `limner sample` with the same numbers. The result is uint8 [n,C,H,W].

        Raises ValueError for unknown labels and numbers out of range, Refusal when the queue is full.
        """
        model = self.generator()
        check_n(n)
        check_numbers(n, seed)
        psi = self._psi(truncation, directions)
        model.labels(n, label, np.random.default_rng(0))  # raises for an unknown label

        def latents() -> tuple[np.ndarray, np.ndarray | None]:
            for_labels, for_latents = np.random.default_rng(seed).spawn(2)  # as in GeneratorModel.stream
            labels = model.labels(n, label, for_labels)
            return model.latents(n, for_latents, labels), labels

        if psi < 1 and not model.has_styles:

            def choose(job: Job) -> np.ndarray:
                return np.asarray(model.sample(n, seed=seed, label=label, truncation=psi))

            return self._submit(None, choose, n, n / psi)
        return self._edited(latents, n, directions) if directions else self._submit(("render", psi), latents, n, n)

    def render(
        self, z: np.ndarray, labels: Sequence[int] | None, truncation: float | None = None,
        directions: Mapping[str, float] | None = None,
    ) -> Job:  # fmt: skip
        """Queue the pictures of latents [n,Z]. Raises ValueError for latents and labels that the model does not have."""
        model = self.generator()
        check_n(len(z))
        if z.shape[1:] != (model.z_size,) or not (np.abs(z) <= MAX_LATENT).all():  # also False for NaN
            raise Refusal(f"Latents are lists of {model.z_size} standard normal numbers between -{MAX_LATENT:g} and {MAX_LATENT:g}.")
        psi = self._psi(truncation, directions)
        if psi < 1 and not model.has_styles:
            raise Refusal("The truncation of this model redraws latents: give seeds in place of latents, or leave it out.")
        if model.spec.classes and labels is None:
            raise Refusal("This model has classes: give a label for each latent.")
        if labels is not None and len(labels) != len(z):
            raise Refusal(f"Give one label for each latent: {len(z)}, not {len(labels)}.")
        y = model.labels(len(z), labels, np.random.default_rng(0))
        z = np.ascontiguousarray(z, np.float32)
        return self._edited(lambda: (z, y), len(z), directions) if directions else self._submit(("render", psi), lambda: (z, y), len(z), len(z))

    def illustrate(self, n: int, seed: int, text: str) -> Job:
        """Queue n pictures of a text: those of `limner sample` with the same seed. The result is uint8 [n,C,H,W].

        Raises ValueError for a text without words, Refusal when the queue is full and for models that take no texts.
        """
        model = self.model
        if not isinstance(model, TextGenerator):
            raise Refusal(f"{self.id} is a {self.kind}, which takes no texts.")
        check_n(n)
        check_numbers(n, seed)
        texts = model.texts(text)

        def latents() -> tuple[np.ndarray, np.ndarray]:
            return normals.normal(np.random.default_rng(seed), n, model.z_size), model.features(texts).repeat(n, 0)

        return self._submit(("illustrate",), latents, n, n)

    def _edited(self, latents: Latents, n: int, directions: Mapping[str, float]) -> Job:
        """Queue pictures moved along directions."""
        editor = self.editor
        if unknown := [name for name in directions if editor is None or name not in editor.directions]:
            known = ", ".join(editor.directions) if editor and editor.directions else "none"
            raise Refusal(f"The direction {unknown[0]!r} is unknown; this model has {known}.")

        def edit(job: Job) -> np.ndarray:
            assert editor is not None
            z, y = latents()
            codes = [editor.code(row, None if y is None else int(y[i])) for i, row in enumerate(z)]
            return editor.draw([editor.move(code, directions) for code in codes])

        return self._submit(None, edit, n, n)

    def _psi(self, truncation: float | None, directions: Mapping[str, float] | None) -> float:
        """Return the truncation, 1 for None. Raises ValueError for one that the model or the server does not offer."""
        model = self.generator()
        psi = model.check_truncation(truncation)
        if psi < 1 and directions:
            raise Refusal("Directions do not go with a truncation: leave one of them out.")
        if psi < 1 and not model.has_styles and not self.settings.truncation:
            raise Refusal("The truncation of this model needs a calibration: start the server with --truncation, or leave it out.")
        return psi

    def generator(self) -> GeneratorModel:
        """Return the model. Raises Refusal when it makes no pictures from latents."""
        if not self.generates:
            use = "makes pictures of texts: send the text as the prompt to /v1/images/generations" if self.illustrates else "makes no pictures from a prompt: send it a picture"
            raise Refusal(f"{self.id} is a {self.kind}, which {use}.")
        assert isinstance(self.model, GeneratorModel)
        return self.model

    # ---- pictures in -------------------------------------------------------------------------------------------------

    def apply(
        self, image: Image.Image, mask: Image.Image | None = None, direction: str | None = None, strength: float | None = None,
        scale: float | None = None, directions: Mapping[str, float] | None = None,
    ) -> Job:  # fmt: skip
        """Queue the translation, restoration, reconstruction or inversion of a picture. The result is a Pillow image, or uint8
        [C,H,W].

        Raises ValueError for options that the model does not have.
        """
        model, editor = self.model, self.editor
        given = {"mask": mask, "direction": direction, "strength": strength, "scale": scale, "directions": directions or None}
        if isinstance(model, Translator):
            self._only(given, "direction")
            way = direction or model.directions[0]
            model.network(way)  # raises for an unknown direction

            def work(job: Job) -> Any:
                return model.translate(image, way, progress=job.check)
        elif isinstance(model, Restorer):
            self._only(given, "mask", "strength", "scale")
            factor = model.check(1.0 if strength is None else strength, mask is not None, scale, None)
            if image.width * image.height * factor**2 > self.settings.max_pixels:
                raise Refusal(f"The restored picture would have more than {self.settings.max_pixels:,} pixels: send a smaller one.", 413)

            def work(job: Job) -> Any:
                return model.restore(image, 1.0 if strength is None else strength, mask, scale, progress=job.check)
        elif editor is not None and editor.inverts:
            self._only(given, "directions")
            if unknown := [name for name in directions or {} if name not in editor.directions]:
                raise Refusal(f"The direction {unknown[0]!r} is unknown; this model has {', '.join(editor.directions) or 'none'}.")

            def work(job: Job) -> Any:
                return editor.draw([editor.move(editor.invert(image, job.check), directions or {})])[0]
        else:
            raise Refusal(f"{self.id} is a {self.kind}, which this server cannot apply to a picture.")
        return self._submit(None, work, 1, MEGAPIXEL_WORK * image.width * image.height / 1e6)

    def vary(self, image: Image.Image, n: int, seed: int) -> Job:
        """Queue n variations of a picture, uint8 [n,C,H,W]: its latent, mixed with random ones. Raises Refusal for models without."""
        model, editor = self.model, self.editor
        if not self.varies:
            why = f"is a {self.kind}" if not self.generates else "has no encoder yet, which `limner invert` trains beside the run"
            raise Refusal(f"{self.id} makes no variations, since it {why}: ask for generations with other seeds, or for an edit.")
        check_n(n)
        check_numbers(n, seed)

        def work(job: Job) -> np.ndarray:
            assert editor is not None
            return editor.draw(editor.vary(editor.invert(image, job.check), normals.normal(np.random.default_rng(seed), n, model.z_size)))

        return self._submit(None, work, n, MEGAPIXEL_WORK * image.width * image.height / 1e6 + n)

    def compress(self, image: Image.Image, quality: int | None, metadata: bool = True) -> Job:
        """Queue the compression of a picture. The result is bytes. Raises ValueError for a quality out of range."""
        codec = self.codec()
        quality = validate_quality(quality)
        work = MEGAPIXEL_WORK * image.width * image.height / 1e6
        return self._submit(None, lambda job: codec.compress(image, quality, metadata=metadata), 1, work)

    def opened(self, content: bytes) -> File:
        """Return the parts of a compressed picture, without its pixels. Raises Refusal: 413 for one of too many pixels."""
        codec = self.codec()
        try:
            file = codec.open(content)
        except Corrupt as error:
            raise Refusal(f"The picture cannot be decompressed: {error}.") from error
        if file.header.archive or len(file.header.items) != 1:
            raise Refusal("The picture cannot be decompressed: it is an archive of many.")
        pixels = file.header.items[0].width * file.header.items[0].height
        if pixels > self.settings.max_pixels:
            raise Refusal(f"The picture has {pixels:,} pixels, and at most {self.settings.max_pixels:,} are decompressed here.", 413)
        return file

    def decompress(self, file: File) -> Job:
        """Queue the decompression of a file that `opened` returned. The result is a Pillow image."""
        codec = self.codec()
        item: Item = file.header.items[0]

        def work(job: Job) -> Image.Image:
            _, image = next(iter(codec.images(file)))
            if isinstance(image, Corrupt):
                raise ValueError(f"The picture cannot be decompressed: {image}.")
            return image

        return self._submit(None, work, 1, MEGAPIXEL_WORK * item.width * item.height / 1e6)

    def codec(self) -> Codec:
        """Return the model. Raises Refusal when it is no codec."""
        if not isinstance(self.model, Codec):
            raise Refusal(f"{self.id} is a {self.kind}, which does not compress.")
        return self.model

    def classify(self, images: Sequence[Image.Image | np.ndarray]) -> Job:
        """Queue the classification of pictures. The result is float64 [n,K], probabilities."""
        model = self.model
        if not isinstance(model, Classifier):
            raise Refusal(f"{self.id} is a {self.kind}, which does not classify.")
        check_n(len(images), self.settings.max_batch)
        return self._submit(None, lambda job: model.classify(list(images)), len(images), len(images))

    def run(self, work: Callable[[Job], Any], pictures: int, cost: float) -> Job:
        """Queue any other work with the model."""
        return self._submit(None, work, pictures, cost)

    def _only(self, given: Mapping[str, Any], *names: str) -> None:
        """Raise Refusal when an option is given that is not among `names`."""
        for name, value in given.items():
            if value is not None and name not in names:
                raise Refusal(f"{self.id} is a {self.kind}, which takes no {name}: leave it out.")

    def warm_up(self, seconds: float = 2.0) -> None:
        """Compute batches of common sizes, the small ones first, until a time is over: the first of each size is slow."""
        started, n = time.monotonic(), 1
        while self.generates and n <= self.settings.max_batch and time.monotonic() - started < seconds:
            labels = self.model.labels(n, None, np.random.default_rng(0))
            as_file(np.asarray(self.model.render(self.model.latents(n, np.random.default_rng(0), labels), labels))[0])
            n = padded(n + 1)

    # ---- the worker --------------------------------------------------------------------------------------------------

    def _submit(self, key: Any, payload: Any, pictures: int, work: float) -> Job:
        work += REQUEST_WORK
        excess = self.pace.expected(work) - self.settings.queue_seconds
        retry = {"Retry-After": str(max(1, math.ceil(excess)))}
        if excess > 0:
            raise Refusal("The server is busy: try again in a moment.", 429, retry)
        self.pace.begin(work)
        try:
            return self.worker.submit(key, payload, pictures, lambda computed: self.pace.end(work, computed))
        except Full as full:
            self.pace.end(work, False)
            raise Refusal("The server is busy: try again in a moment.", 429, retry) from full

    def _compute(self, jobs: Sequence[Job]) -> Sequence[Any]:
        """Compute jobs of one key, on the worker's thread."""
        key = jobs[0].key
        if key is None:
            jobs[0].check()
            return [jobs[0].payload(jobs[0])]
        assert isinstance(key, tuple)
        drawn = [job.payload() for job in jobs]
        z = np.concatenate([z for z, _ in drawn])
        labels = None if drawn[0][1] is None else np.concatenate([y for _, y in drawn])
        rows = np.minimum(np.arange(padded(len(z))), len(z) - 1)
        if self.illustrates:
            pictures = np.asarray(self.model.render(z[rows], labels[rows]))[: len(z)]  # type: ignore[index]
        else:
            model, psi = self.generator(), key[1]
            if psi < 1:
                model.calibrate(labels)
            pictures = np.asarray(model.render(z[rows], None if labels is None else labels[rows], psi))[: len(z)]
        ends = np.cumsum([len(z) for z, _ in drawn])
        return np.split(pictures, ends[:-1])


def padded(n: int) -> int:
    """Return the size of the batch in which n pictures are computed: a power of two up to 16, then a multiple of 16.

    oneDNN compiles and keeps kernels for each size: with all sizes up to 64, those of the default generator take 66 MB in place of
    5, and a size that comes for the first time takes twice as long.
    """
    return 1 << (n - 1).bit_length() if n <= 16 else -(-n // 16) * 16


def check_n(n: int, most: int = MAX_N) -> None:
    """Raise Refusal unless 1 to `most` pictures are asked for."""
    if not 1 <= n <= most:
        raise Refusal(f"A request is for 1 to {most} pictures, not {n:,}.")


def _samples(model: GeneratorModel) -> bool:
    """Return whether latents can be drawn: a VQ-VAE has no prior, and a condition other than classes has no labels."""
    try:
        model.labels(1, None, np.random.default_rng(0))
        return model.z_size > 0
    except ValueError:
        return False
