"""`limner evaluate`: compares a run or any pictures with real ones; writes a table, a JSON and an HTML report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import RenderableType

from limner.apps.classify_report import measure_classifier
from limner.apps.model import GeneratorModel
from limner.apps.rate_distortion import RateDistortion, evaluate_codec
from limner.apps.text import TextGenerator
from limner.apps.translate import Translator
from limner.core import artifact
from limner.core.images import write_png
from limner.data import Dataset, open_source, prepare, prepare_validation
from limner.data.captions import read_captions
from limner.data.clips import prepare_clips
from limner.data.dataset import Subset
from limner.data.pairs import Pairs, prepare_pairs
from limner.evaluation import PAIRED, ImageSet, Result, validate_metrics
from limner.evaluation import evaluate as compare
from limner.evaluation.cas import REAL_PER_CLASS
from limner.evaluation.report import table as result_table
from limner.evaluation.report import write_html, write_json
from limner.networks.contracts import Moving

Progress = Callable[[int, int], None]  # (done, total)
SAMPLES = 10_000  # default maximum number of pictures


@dataclass(frozen=True, kw_only=True)
class Request:
    """The options of `evaluate` that a kind with metrics of its own may take."""

    data: Sequence[str]
    n: int | None
    size: tuple[int, int] | None
    labels: Path | None
    seed: int
    out: Path | None
    progress: Progress | None


@dataclass(frozen=True)
class OwnMetrics:
    """How a kind with metrics of its own is measured. takes: options with a meaning for it, besides those of every kind."""

    measure: Callable[[Any, Request], tuple[Result | RateDistortion, Path]]  # returns the result and the path of the report
    takes: frozenset[str]


def _classifier(model: Any, request: Request) -> tuple[Result, Path]:
    if request.out:
        validate_report_path(request.out)
    n = SAMPLES if request.n is None else request.n
    result = measure_classifier(model, request.data, n, request.seed, request.labels, request.progress)
    return result, write_report(result, request.out or model.folder / "evaluation.html", model.folder, request.data)


def _codec(model: Any, request: Request) -> tuple[RateDistortion, Path]:
    if len(request.data) != 1:
        raise ValueError("A codec is measured on one set of pictures: give one to --data.")
    side = max(request.size) if request.size else None
    return evaluate_codec(model, request.data[0], request.n, side, request.seed, request.out, progress=request.progress)


BY_KIND: Mapping[str, OwnMetrics] = {
    "classifier": OwnMetrics(_classifier, frozenset({"--labels"})),
    "codec": OwnMetrics(_codec, frozenset({"--size"})),
}


def evaluate(
    evaluated: Path | GeneratorModel | Translator | Any,
    data: str | Sequence[str],
    metrics: Sequence[str] | None = None,
    features: Sequence[str] = ("own",),
    n: int | None = None,
    held_out: str | None = None,
    weights: Path | None = None,
    seed: int = 0,
    out: Path | None = None,
    device: str = "auto",
    size: int | tuple[int, int] | None = None,
    progress: Progress | None = None,
    direction: str | None = None,
    halves: bool = False,
    labels: Path | None = None,
    real_per_class: Sequence[int] | None = None,
    captions: str | None = None,
) -> tuple[Result | RateDistortion, Path | None]:
    """Compare the outputs of a run, or any pictures, with real ones; write the report and its JSON beside it.

    evaluated: a generator, of which n samples are drawn (10,000 by default); a translator; a kind with metrics of its own
    (`BY_KIND`); or a path to pictures. For a translator, data is its training data or similar: two sets or one set of pairs, of
    which the first side is translated, or with direction "b2a" the second. labels: the classes of the data, for a classifier.
    real_per_class: numbers of real pictures of each class, for cas. captions: of the data, for a text-to-image generator, as of
    `data.captions.read_captions`. Returns the result and the path of the report: by default
    evaluation.html in the run folder, for a codec rate-distortion.json, None for pictures without a run. Raises ValueError for
    what cannot be compared.
    """
    model = None if isinstance(evaluated, Path) else evaluated
    places = [data] if isinstance(data, str) else list(data)
    if not places:
        raise ValueError("There is nothing to compare with: give --data and a set of pictures.")
    sides = (size, size) if isinstance(size, int) else size
    if model is not None and (own := BY_KIND.get(kind := model.description["kind"])):
        given: dict[str, Any] = {
            "--metrics": metrics, "--features": list(features) != ["own"], "--held-out": held_out, "--weights": weights, "--size": size,
            "--direction": direction, "--halves": halves, "--labels": labels, "--real-per-class": real_per_class,
            "--captions": captions,
        }  # fmt: skip
        for option, value in given.items():
            if value and option not in own.takes:
                raise ValueError(f"{option} has no meaning for a {kind}, which has metrics of its own: leave it out.")
        return own.measure(
            model, Request(data=places, n=n, size=sides, labels=labels, seed=seed, out=out, progress=progress)
        )
    n = SAMPLES if n is None else n
    validate_metrics(metrics)  # as the report's path, before any work is done
    if out:
        validate_report_path(out)
    if real_per_class and "cas" not in (metrics or ()):
        raise ValueError("--real-per-class is of the metric cas: give --metrics cas, or leave it out.")
    curve: list[dict[str, float]] = []
    subject = evaluated if isinstance(evaluated, Path) else evaluated.folder
    pictures: ImageSet | str = str(subject)
    if labels:
        raise ValueError(f"{subject} is no classifier, which --labels is for: leave it out.")
    if captions and not isinstance(model, TextGenerator):
        raise ValueError(f"{subject} is no text-to-image generator, which --captions is for: leave it out.")
    reference: Dataset | ImageSet | str = places[0]
    validation: Dataset | str | None = held_out
    folder: Path | None = None
    paired = False
    if not isinstance(model, Translator):
        if len(places) != 1:
            raise ValueError(f"{subject} is compared with one set of pictures: only a translator takes two.")
        if direction:
            raise ValueError(f"{subject} is not a translator, which --direction is for: leave it out.")
        if model is not None and size:
            raise ValueError(f"{subject} generates pictures of one size, at which it is measured: leave --size out.")
    if model is not None and not isinstance(model, Translator) and (of_pairs := [m for m in validate_metrics(metrics) if m in PAIRED]):
        raise ValueError(
            f"{of_pairs[0]} has no meaning for {subject}: its samples are new pictures without a target to compare them with; "
            "leave it out."
        )
    if isinstance(model, Translator):
        folder = subject
        pictures, reference, paired = translate_data(model, places, direction or "a2b", metrics, sides, n, seed, progress, halves)
        sides = pictures.spec.size
    elif model is not None:
        if not isinstance(model, GeneratorModel | TextGenerator):
            raise ValueError(f"{subject} holds a {model.description['kind']}, which this command cannot evaluate.")
        curve = metric_curve(subject)
        sides, folder = model.spec.size, subject
        reference = prepare_like_training(model, places[0], sides)
        if isinstance(model, GeneratorModel):
            pictures = draw_samples(model, n, seed)
        else:
            reference, texts = with_caption(reference, places[0], captions)
            pictures = draw_illustrations(model, texts, n, seed)
        validation = validation or prepare_validation(reference)
    if model is not None and held_out:  # at the size and channels of the model's own pictures
        validation = prepare_like_training(model, held_out, sides)
    result = compare(
        pictures,
        reference,
        held_out=validation,
        metrics=metrics,
        paired=paired,
        translated=isinstance(model, Translator),
        features=list(features),
        n=n,
        weights=weights,
        size=sides,
        device=device,
        seed=seed,
        curve=curve,
        progress=progress,
        real_per_class=real_per_class or REAL_PER_CLASS,
    )
    report = out or (folder / "evaluation.html" if folder else None)
    if report is None:
        return result, None
    return result, write_report(result, report, subject, places)


def tables(result: Result | RateDistortion) -> RenderableType:
    """Return a result for the terminal."""
    return result.tables() if isinstance(result, RateDistortion) else result_table(result)


def written(report: Path) -> str:
    """Return a sentence that names the files of a result. report: the path that `evaluate` returned."""
    if report.suffix == ".html":
        return f"The report is in {report}."
    picture = report.with_suffix(".png")
    return f"The figures are in {report}" + (f", the curves in {picture}." if picture.exists() else ".")


def write_report(result: Result, report: Path, subject: Path, places: Sequence[str]) -> Path:
    """Write the report, its JSON and its pictures side by side; return the path of the report."""
    write_html(result, report, report_title(subject, places))
    write_json(result, report.with_suffix(".json"))
    for name, picture in result.pictures.items():
        write_png(report.with_name(f"{name}.png"), picture)
    return report


def report_title(subject: Path, places: Sequence[str]) -> str:
    """Return the title of a report, with names only: a report is shared, and full paths would reveal the author's machine."""
    return f"{subject.resolve().name} against {' and '.join(Path(place).resolve().name for place in places)}"


def validate_report_path(path: Path) -> Path:
    """Return the path of a report. Raises ValueError when it or the JSON beside it would replace another file."""
    if path.suffix.lower() != ".html" or path.is_dir():
        raise ValueError(f"The report is written as an .html, with a .json beside it, not as {path.name!r}.")
    if path.with_suffix(".json").name in (artifact.CARD, artifact.DECISIONS):
        raise ValueError(f"The JSON beside {path} would replace a file of a run: choose another name.")
    return path


def metric_curve(folder: Path) -> list[dict[str, float]]:
    """Return the points of the validation metric in a run's log, without the other columns."""
    points = [
        {name: value for name, value in entry.items() if name == "images" or name.startswith(("fid", "fd_"))}
        for entry in artifact.read_log(folder)
    ]
    return [point for point in points if len(point) > 1]


def prepare_like_training(model: GeneratorModel | TextGenerator | Translator, place: str, size: tuple[int, int] | None) -> Dataset:
    """Return the pictures at `place`, of a generator of clips their frames, preprocessed as the training data, at (H,W) `size`."""
    how = artifact.preparation(model.description)
    if isinstance(model, GeneratorModel) and isinstance(model.network, Moving):
        return prepare_clips(place, size=size, channels=model.spec.channels, **how).frames
    return prepare(open_source(place), size=size, channels=model.spec.channels, **how)


def draw_samples(model: GeneratorModel, n: int, seed: int) -> ImageSet:
    """Return n samples with classes as frequent as in the training data."""
    labels = model.labels(n, None, np.random.default_rng(seed).spawn(2)[0])  # the labels that `sample` draws for this seed
    images = model.sample(n, seed=seed)
    return ImageSet(
        torch.from_numpy(np.asarray(images)),
        None if labels is None else torch.from_numpy(labels),
        tuple(model.classes) if labels is not None else (),
        model.folder.name,
    )


def with_caption(pictures: Dataset, place: str, given: str | None) -> tuple[Dataset, list[str]]:
    """Return the real pictures that have a caption, as in training, and the first one of each. Raises ValueError when none has."""
    captions, origin = read_captions(open_source(place, labels=False), pictures.names, given)
    kept = np.array([i for i, texts in enumerate(captions) if texts])
    known = [captions[i][0] for i in kept]
    if len(kept) == len(captions):
        return pictures, known
    note = f"{len(captions) - len(kept):,} of {len(captions):,} pictures have no caption in {origin} and are left out."
    return replace(pictures.copied(kept), notes=[*pictures.notes, note]), known


def draw_illustrations(model: TextGenerator, captions: Sequence[str], n: int, seed: int) -> ImageSet:
    """Return n samples of a text-to-image generator for captions drawn from those of the real pictures."""
    rows = np.random.default_rng([seed, 1]).integers(0, len(captions), n)
    images = model.sample_each([captions[row] for row in rows], seed)
    return ImageSet(torch.from_numpy(np.asarray(images)), None, (), model.folder.name)


def translate_data(
    model: Translator,
    places: Sequence[str],
    direction: str,
    metrics: Sequence[str] | None,
    size: tuple[int, int] | None,
    n: int,
    seed: int,
    progress: Progress | None,
    halves: bool = False,
) -> tuple[ImageSet, ImageSet, bool]:
    """Return (at most n translations, their targets or the target set, whether they are pairs), at the training's size.

    places: two sets, or one that holds pairs. Two sets are treated as pairs if the translator was trained on pairs or paired
    metrics are requested: equal names in two unpaired sets may be a coincidence, such as numbers.
    """
    if len(places) > 2:
        raise ValueError("A translator is measured on at most two sets of pictures: inputs and targets.")
    network = model.network(direction)
    second = places[1] if len(places) == 2 else None
    swap = bool(model.description["recipe"].get("swap"))
    notes: list[str] = []

    def pairs_of(paired: bool) -> Pairs:
        return prepare_pairs(
            places[0], second, paired=paired, swap=swap, as_halves=halves, size=size or model.spec.size,
            channels=str(model.spec.channels), **artifact.preparation(model.description),
        )  # fmt: skip

    requested = any(name in PAIRED for name in validate_metrics(metrics))
    trained_on_pairs = model.description["network"].get("paired", False)
    if second is None or requested:
        pairs = pairs_of(True)
    elif trained_on_pairs:
        try:
            pairs = pairs_of(True)
        except ValueError as error:
            pairs = pairs_of(False)
            notes.append(f"The sets are compared as a whole, not as pairs. {error}")
    else:
        pairs = pairs_of(False)
        notes.append("The sets are compared as a whole, since the model was trained without pairs; --metrics psnr ssim compares pairs.")
    before, after = (_set(data) for data in ((pairs.a, pairs.b) if direction == "a2b" else (pairs.b, pairs.a)))
    before = before.some(n, seed)
    after = after.some(n, seed) if pairs.paired else after
    parts = []
    for i, picture in enumerate(before.images.split(1)):
        parts.append(model.render(picture, network))
        if progress:
            progress(i + 1, len(before))
    made = ImageSet(torch.cat(parts), name=model.folder.name, notes=[*pairs.notes, *notes], names=before.names)
    return made, after, pairs.paired


def _set(data: Dataset | Subset) -> ImageSet:
    return ImageSet(data.images, name=data.name, names=tuple(data.names))
