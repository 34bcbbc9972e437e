"""Classifiers: from a recipe and pictures of which only some have a class to an experiment; the presets by name.

Held-out pictures are labeled ones: by default a tenth of them where that is at least 50. With fewer labels all are trained on,
since a hundred labels are worth more in training than the few that could be held out are as a measurement (the accuracy of 10
pictures has a standard error of about 10 points). Then nothing is validated, there is no `best/`, and probabilities are not
calibrated; a note says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.core.condition import NONE, UNLABELED
from limner.core.device import autocast, on_meta
from limner.core.images import ImageSpec, to_float
from limner.core.machine import Machine
from limner.core.text import counted
from limner.data import Dataset
from limner.data.dataset import Subset
from limner.data.decode import Progress
from limner.data.partial import MIN_LABELED_HELD_OUT, PartlyLabeled, draw_labels, split_labeled
from limner.data.request import DataRequest
from limner.losses.calibration import calibrated_temperature
from limner.methods.phase import Method
from limner.methods.propagation import PropagatedLabels
from limner.methods.semi_supervised import SemiSupervised
from limner.monitor.family_probes import spaced
from limner.networks import conv, convnet, describe
from limner.recipes.config import ClassifierRecipe
from limner.recipes.descriptors import Detail, components
from limner.recipes.presets import CLASSIFIERS
from limner.recipes.sources import load_single_set
from limner.runs.experiment import Card, Experiment, Product, Validator
from limner.runs.options import Options
from limner.runs.validate import CLASSES, choose_metric
from limner.sampling.generate import BATCH, Preview
from limner.training import memory
from limner.training.state import OptimizerConfig

RECIPES = (ClassifierRecipe,)
PRESETS = CLASSIFIERS
MOST_LINKED = 60_000  # pictures among which labels propagate: the time to find neighbors grows with its square
DETAIL = Detail(cells=10, orientations=8, components=80)  # of the descriptors that propagation compares
PREVIEWED = 200  # pictures that the preview chooses from


def load_data(recipe: ClassifierRecipe, request: DataRequest, progress: Progress | None = None) -> Dataset:
    """Return pictures of which at least some have a class. Raises ValueError for unreadable data and for less than two classes."""
    request.refuse(("unconditional",), "to a recipe that learns classes")
    dataset = load_single_set(request, progress, partial=True)
    if dataset.labels is None or dataset.spec.classes < 2:
        raise ValueError(
            "A classifier needs labeled pictures of at least two classes: put them in a folder for each class, with those of "
            "unknown class in one named unlabeled, or give a table of file,label with --labels."
        )
    if recipe.labels_per_class:
        dataset = replace(dataset, labels=draw_labels(dataset.labels, recipe.labels_per_class, recipe.label_draw))
        dataset.fingerprint += f"-{recipe.labels_per_class}-{recipe.label_draw}"
    assert dataset.labels is not None
    labeled = int((dataset.labels != UNLABELED).sum())
    if labeled < len(dataset):
        dataset.notes.append(f"{labeled:,} of {len(dataset):,} pictures have a class; the others are used without one.")
    return dataset


def method_of(
    recipe: ClassifierRecipe,
    spec: ImageSpec,
    device: torch.device,
    finalize: Callable[[nn.Module], None] | None = None,
    propagated: Callable[[convnet.Classifier], PropagatedLabels] | None = None,
) -> tuple[Method, dict[str, OptimizerConfig]]:
    """Return the method of a recipe with new networks on the device, and the optimizer of each player.

    propagated: returns the labels of the other pictures for a classifier.
    """
    classifier = convnet.Classifier(spec, recipe.network)
    optimizers = {"classifier": recipe.classifier_optimizer}
    generator = None
    if recipe.adversarial and recipe.labeled_every > 1:
        generator = conv.Generator(replace(spec, condition=NONE), recipe.generator)
        optimizers["generator"] = recipe.generator_optimizer
    for net in (classifier, generator):
        if net is not None:
            net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    algorithm = SemiSupervised(
        classifier,
        generator,
        labeled_every=recipe.labeled_every,
        adversarial=recipe.adversarial,
        pull_away=recipe.pull_away,
        entropy=recipe.entropy,
        strength=recipe.strength,
        elastic=recipe.elastic,
        stroke=recipe.stroke,
        shift=recipe.shift,
        flip=recipe.flip,
        propagated=propagated(classifier) if propagated and recipe.propagate else None,
        propagate=recipe.propagate,
        generator_every=recipe.generator_every,
        finalize=finalize,
    )
    return algorithm.method, optimizers


def refuse_too_large(recipe: ClassifierRecipe, spec: ImageSpec, machine: Machine) -> None:
    """Raise ValueError when training needs more memory than is free."""
    with on_meta():
        method, _ = method_of(recipe, spec, torch.device("meta"))
        x = torch.empty(memory.ROWS, spec.channels, spec.height, spec.width)
        inputs = {"classifier": x}
        if "generator" in method.nets:
            inputs["generator"] = torch.empty(memory.ROWS, recipe.generator.z_size)
    passes = [memory.Pass(method.nets[name], (tensor,)) for name, tensor in inputs.items()]
    memory.refuse_too_large(passes, [method.nets["classifier"]], spec, recipe.batch, recipe.micro_batch, machine)


def linked(labels: Tensor, most: int = MOST_LINKED) -> np.ndarray:
    """Return the rows of the pictures that labels propagate among, int64 [M] in order. labels: int64 [N], of which some are not known.

    Of more than `most` pictures these are the labeled ones, at most half of `most`, and others in equal steps.
    """
    if len(labels) <= most:
        return np.arange(len(labels))
    known, free = (np.flatnonzero(mask) for mask in (labels.numpy() != UNLABELED, labels.numpy() == UNLABELED))
    known = known[:: -(-len(known) // (most // 2))]
    return np.sort(np.concatenate([known, free[:: -(-len(free) // (most - len(known)))]]))


def propagation(pictures: Dataset | Subset, machine: Machine, classifier: convnet.Classifier) -> PropagatedLabels:
    """Return the labels that propagate among pictures, by their descriptors and by the features of the classifier."""
    assert pictures.labels is not None

    def descriptors() -> Tensor:
        return components(lambda rows: pictures.rows(rows)["image"], len(pictures), DETAIL)

    @torch.no_grad()
    def features() -> Tensor:
        classifier.eval()
        try:
            rows = np.array_split(np.arange(len(pictures)), -(-len(pictures) // BATCH))
            return torch.cat([outputs_of(classifier.features, pictures.rows(part)["image"], machine) for part in rows])
        finally:
            classifier.train()

    return PropagatedLabels(pictures.labels, pictures.spec.classes, descriptors, features)


def build(name: str, recipe: ClassifierRecipe, dataset: Dataset, options: Options, machine: Machine) -> Experiment:
    """Return the experiment of a recipe. Raises ValueError for options that conflict."""
    if recipe.adversarial and recipe.labeled_every == 1:
        raise ValueError("--adversarial needs rows without a label: raise --labeled-every, or leave --adversarial out.")
    refuse_too_large(recipe, dataset.spec, machine)
    metric = choose_metric(options.metric, CLASSES, "classifier")
    training, held_out = held_out_of(dataset, recipe, options) if metric else (dataset, None)
    torch.manual_seed(options.seed)
    finalize = calibration(held_out, machine) if held_out is not None else None
    assert training.labels is not None
    complete = bool((training.labels != UNLABELED).all())
    alone = complete and not recipe.adversarial and not recipe.entropy
    used = replace(recipe, labeled_every=1) if alone else recipe  # else most rows of a batch would go without their label
    if used.batch // machine.ranks.world < used.labeled_every:
        raise ValueError(
            f"A batch of {used.batch} is too small for one labeled image in {used.labeled_every} on each rank: raise --batch, or "
            "lower --labeled-every."
        )
    others = linked(training.labels) if used.propagate and used.labeled_every > 1 and not complete else None
    labels_of = None if others is None else partial(propagation, training.subset(others), machine)
    method, optimizers = method_of(used, dataset.spec, machine.device, finalize, labels_of)
    notes = []
    if held_out is not None:
        notes.append(f"{counted(len(held_out), 'labeled picture is', 'labeled pictures are')} held out for validation; --validation 0 trains on them too.")
    elif metric:
        notes.append(
            "All labeled pictures are trained on, so no accuracy is measured and probabilities are not calibrated; --validation 0.2 "
            "holds a fifth of them out."
        )
    return Experiment(
        name=name,
        recipe=recipe,
        data=dataset,
        batches=PartlyLabeled(training, used.labeled_every, others),
        method=method,
        optimizers=optimizers,
        product=Product(
            kind="classifier",
            network="classifier",
            description=describe("convnet", recipe.network),
            preview=preview_of(dataset if held_out is None else held_out, machine),
            card=Card("image-classification", USAGE),
        ),
        validators=[accuracy(held_out, metric, machine)] if metric and held_out is not None else [],
        held_out_count=0 if held_out is None else len(held_out),
        notes=notes,
    )


USAGE = """\
    limner classify THIS_FOLDER PICTURES
    limner classify THIS_FOLDER PICTURES --out table.csv
"""


def held_out_of(dataset: Dataset, recipe: ClassifierRecipe, options: Options) -> tuple[Dataset | Subset, Dataset | Subset | None]:
    """Return (training data, labeled pictures to validate with or None): the data's own validation split, or a part of the labels."""
    if recipe.validation != 0 and (own := dataset.own_validation()) is not None and own.labels is not None:
        return dataset, own
    rows, held_out = split_labeled(dataset, recipe.validation, options.seed, MIN_LABELED_HELD_OUT)
    return (dataset.subset(rows), dataset.subset(held_out)) if len(held_out) else (dataset, None)


@torch.no_grad()
def outputs_of(network: Callable[[Tensor], Tensor], pictures: Tensor, machine: Machine) -> Tensor:
    """Return the outputs float32 [N,K] on the CPU of a network in evaluation mode. pictures: uint8 [N,C,H,W]."""
    parts = []
    for part in pictures.split(BATCH):
        with autocast(machine.device, machine.precision):
            parts.append(network(to_float(part.to(machine.device))).float().cpu())
    return torch.cat(parts)


def accuracy(held_out: Dataset | Subset, metric: str, machine: Machine) -> Validator:
    """Return a validator of the accuracy and the negative log-likelihood (nll, in nats, not calibrated) of held-out pictures."""
    images, labels = held_out.images, held_out.labels
    assert labels is not None

    def measure(network: nn.Module) -> Mapping[str, float]:
        logits = outputs_of(network, images, machine)
        figures = {"accuracy": (logits.argmax(1) == labels).float().mean().item(), "nll": F.cross_entropy(logits, labels).item()}
        return {name: float(f"{value:.5g}") for name, value in figures.items()}

    def cost(network: nn.Module) -> float:
        start = time.monotonic()
        measure(network)
        return time.monotonic() - start

    return Validator(
        columns=(metric, *(name for name in CLASSES if name != metric)),
        title=f"{'accuracy' if metric == 'accuracy' else 'negative log-likelihood'} of {len(images):,} held-out pictures",
        better="higher" if metric == "accuracy" else "lower",
        measure=measure,
        cost=cost,
    )


def calibration(held_out: Dataset | Subset, machine: Machine) -> Callable[[nn.Module], None] | None:
    """Return a function that sets the temperature of a classifier by held-out pictures; None if they are fewer than 50."""
    if len(held_out) < MIN_LABELED_HELD_OUT:
        return None
    images, labels = held_out.images, held_out.labels
    assert labels is not None

    def finalize(network: nn.Module) -> None:
        network.temperature.fill_(calibrated_temperature(outputs_of(network, images, machine), labels))  # type: ignore[operator]

    return finalize


def preview_of(pictures: Dataset | Subset, machine: Machine) -> Preview:
    """Return a preview with a row per class (at most ten): the eight pictures, of 200, with the highest probability for it."""
    x = spaced(pictures, PREVIEWED)
    x = x[torch.arange(max(8, len(x))) % len(x)]

    def preview(classifier: nn.Module) -> np.ndarray:
        scores = outputs_of(classifier, x, machine).log_softmax(1)
        shown = torch.arange(min(10, scores.shape[1])) * scores.shape[1] // min(10, scores.shape[1])
        rows = torch.stack([scores[:, k].topk(8).indices for k in shown.tolist()])
        return x[rows.flatten()].numpy()

    return preview
