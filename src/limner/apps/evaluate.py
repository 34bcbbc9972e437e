"""`limner evaluate`: a run or any pictures against real ones, as a table, a JSON and a picture report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from limner.apps.model import GeneratorModel
from limner.apps.translate import Translator
from limner.core import artifact
from limner.data import Dataset, open_source, prepare, prepare_validation
from limner.data.dataset import Subset
from limner.data.pairs import Pairs, prepare_pairs
from limner.evaluation import PAIRED, ImageSet, Result, validate_metrics
from limner.evaluation import evaluate as compare
from limner.evaluation.report import write_html, write_json

Watch = Callable[[int, int], None]


def evaluate(
    given: Path | GeneratorModel | Translator,
    data: str | Sequence[str],
    metrics: Sequence[str] | None = None,
    features: Sequence[str] = ("own",),
    n: int = 10_000,
    held_out: str | None = None,
    weights: Path | None = None,
    seed: int = 0,
    out: Path | None = None,
    device: str = "auto",
    size: int | tuple[int, int] | None = None,
    progress: Watch | None = None,
    direction: str | None = None,
    halves: bool = False,
) -> tuple[Result, Path | None]:
    """Compare what a run makes, or any pictures, with real ones; write the report and its JSON beside it.

    given: a generator (n samples are drawn); a translator (data is then what it was trained on, or like it:
    two sets or one of pairs, and the first is translated, or with direction "b2a" the second); or any pictures. Returns
    the result and the report's path: evaluation.html in the run folder by default, and none for pictures without a run. Raises ValueError in one sentence for what cannot be compared.
    """
    validate_metrics(metrics)  # said before the work is done, as is what is wrong with the report's place
    if out:
        page_of(out)
    curve: list[dict[str, float]] = []
    sides = (size, size) if isinstance(size, int) else size
    model = None if isinstance(given, Path) else given
    subject = given if isinstance(given, Path) else given.folder
    pictures: ImageSet | str = str(subject)
    places = [data] if isinstance(data, str) else list(data)
    if not places:
        raise ValueError("Say what to compare with: --data and a set of pictures.")
    reference: Dataset | ImageSet | str = places[0]
    held: Dataset | str | None = held_out
    folder: Path | None = None
    paired = False
    if not isinstance(model, Translator):
        if len(places) != 1:
            raise ValueError(f"{subject} is compared with one set of pictures: only a translator takes two.")
        if direction:
            raise ValueError(f"{subject} is no translator, which --direction is for: leave it out.")
        if model is not None and size:
            raise ValueError(f"{subject} makes pictures of one size, at which it is measured: leave --size out.")
    if model is not None and not isinstance(model, Translator) and (of_pairs := [m for m in validate_metrics(metrics) if m in PAIRED]):
        raise ValueError(
            f"{of_pairs[0]} has no meaning for {subject}: its samples are new pictures, none of which has a truth to be "
            "compared with; leave it out."
        )
    if isinstance(model, Translator):
        folder = subject
        pictures, reference, paired = translated(model, places, direction or "a2b", metrics, sides, n, seed, progress, halves)
        sides = pictures.spec.size
    elif model is not None:
        if not isinstance(model, GeneratorModel):
            raise ValueError(f"{subject} holds a {model.description['kind']}, whose pictures this command cannot draw.")
        curve = watched(subject)
        pictures, sides, folder = sampled(model, n, seed), model.spec.size, subject
        reference = as_trained(model, places[0], sides)
        held = held or prepare_validation(reference)
    if model is not None and held_out:  # the model's own pictures decide what other data is brought to
        held = as_trained(model, held_out, sides)
    result = compare(
        pictures,
        reference,
        held_out=held,
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
    )
    report = out or (folder / "evaluation.html" if folder else None)
    if report is None:
        return result, None
    write_html(result, report, title_of(subject, places))
    write_json(result, report.with_suffix(".json"))
    return result, report


def title_of(subject: Path, places: Sequence[str]) -> str:
    """What was compared with what, by names alone: a report is shared, and a path tells of the machine it lay on."""
    return f"{subject.resolve().name} against {' and '.join(Path(place).resolve().name for place in places)}"


def page_of(path: Path) -> Path:
    """The path of a report. Raises ValueError where it, or the JSON beside it, would take the place of something else."""
    if path.suffix.lower() != ".html" or path.is_dir():
        raise ValueError(f"The report is written as an .html, with a .json beside it, not as {path.name!r}.")
    if path.with_suffix(".json").name in (artifact.CARD, artifact.DECISIONS):
        raise ValueError(f"The JSON beside {path} would take the place of a run's own: choose another name.")
    return path


def watched(folder: Path) -> list[dict[str, float]]:
    """The points of the metric that a run watched while it trained, without what else its log tells at those moments."""
    points = [
        {name: value for name, value in entry.items() if name == "images" or name.startswith(("fid", "fd_"))}
        for entry in artifact.read_log(folder)
    ]
    return [point for point in points if len(point) > 1]


def as_trained(model: GeneratorModel | Translator, place: str, size: tuple[int, int] | None) -> Dataset:
    """ImageSet brought to their shape as those were that the model learned from, at (H,W) `size`."""
    how = artifact.preparation(model.description)
    return prepare(open_source(place), size=size, channels=model.spec.channels, **how)


def sampled(model: GeneratorModel, n: int, seed: int) -> ImageSet:
    """n samples with classes as frequent as in the training data."""
    labels = model.labels(n, None, np.random.default_rng(seed).spawn(2)[0])  # those of the same seed's samples
    images = model.sample(n, seed=seed)
    return ImageSet(
        torch.from_numpy(np.asarray(images)),
        None if labels is None else torch.from_numpy(labels),
        tuple(model.classes) if labels is not None else (),
        model.folder.name,
    )


def translated(
    model: Translator,
    places: Sequence[str],
    direction: str,
    metrics: Sequence[str] | None,
    size: tuple[int, int] | None,
    n: int,
    seed: int,
    progress: Watch | None,
    halves: bool = False,
) -> tuple[ImageSet, ImageSet, bool]:
    """(at most n translations, what they should be or be like, whether they are pairs), at the size of the training.

    places: as at the training, two sets or one that holds pairs. Two sets are pairs where the translator learned from
    pairs or metrics of pairs are asked for: equal names of two heaps may be an accident, such as numbers.
    """
    if len(places) > 2:
        raise ValueError("A translator is measured on two sets of pictures at most: what it translates, and the truth.")
    network = model._network(direction)
    second = places[1] if len(places) == 2 else None
    swap = bool(model.description["recipe"].get("swap"))
    notes: list[str] = []

    def pairs_of(paired: bool) -> Pairs:
        return prepare_pairs(
            places[0], second, paired=paired, swap=swap, as_halves=halves, size=size or model.spec.size,
            channels=str(model.spec.channels), **artifact.preparation(model.description),
        )  # fmt: skip

    asked = any(name in PAIRED for name in validate_metrics(metrics))
    learned = "l1" in model.description["recipe"]  # the weight of the L1 distance, which recipes of pairs alone have
    if second is None or asked:
        pairs = pairs_of(True)
    elif learned:
        try:
            pairs = pairs_of(True)
        except ValueError as error:
            pairs = pairs_of(False)
            notes.append(f"The sets are compared as wholes, not as pairs. {error}")
    else:
        pairs = pairs_of(False)
        notes.append("The sets are compared as wholes, as the model learned without pairs; --metrics psnr ssim takes pairs.")
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
