"""`limner evaluate`: a run or any pictures against real ones, as a table, a JSON and a picture report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from limner.apps.loading import load_kind
from limner.apps.model import Model
from limner.core import artifact
from limner.data import open_source, prepare
from limner.evaluation import Pictures, Result
from limner.evaluation import evaluate as compare
from limner.evaluation.report import write_html, write_json


def evaluate(
    subject: Path,
    data: str,
    metrics: Sequence[str] | None = None,
    features: Sequence[str] = ("own",),
    n: int = 10_000,
    held_out: str | None = None,
    weights: Path | None = None,
    seed: int = 0,
    out: Path | None = None,
    device: str = "auto",
    size: int | tuple[int, int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Result, Path]:
    """Compare a run folder's samples, or any pictures, with real ones; write the report and its JSON beside it.

    Returns the result and the report's path. Raises ValueError in one sentence for what cannot be compared.
    """
    curve: list = []
    sides = (size, size) if isinstance(size, int) else size
    given: Pictures | str = str(subject)
    reference = held = None
    folder = Path()
    if (subject / artifact.CARD).exists():
        model = load_kind(subject, device, Model, "evaluate")
        given, sides, folder = sampled(model, n, seed), model.spec.size, subject
        curve = [entry for entry in artifact.read_log(subject) if any(name.startswith("fid_") for name in entry)]
        channels: int | str = model.spec.channels  # the model's own pictures decide what the data is brought to
        reference = prepare(open_source(data), size=sides, channels=channels)
        held = prepare(open_source(held_out), size=sides, channels=channels) if held_out else None
    result = compare(
        given,
        reference or data,
        held_out=held or held_out,
        metrics=metrics,
        features=list(features),
        n=n,
        weights=weights,
        size=sides,
        device=device,
        seed=seed,
        curve=curve,
        progress=progress,
    )
    report = out or folder / "evaluation.html"
    write_html(result, report, f"{subject.name} against {data}")
    write_json(result, report.with_suffix(".json"))
    return result, report


def sampled(model: Model, n: int, seed: int) -> Pictures:
    """n samples with classes as frequent as in the training data."""
    rng = np.random.default_rng(seed)
    labels = model.labels(n, None, rng)
    images = model.render(model.latents(n, rng), labels)
    return Pictures(
        torch.from_numpy(np.asarray(images)),
        None if labels is None else torch.from_numpy(labels),
        tuple(model.classes) if labels is not None else (),
        model.folder.name,
    )
