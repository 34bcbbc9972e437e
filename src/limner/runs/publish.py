"""The product of a run: a self-describing folder with a model card."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import limner
from limner.core import artifact
from limner.core.condition import class_counts
from limner.core.machine import Machine
from limner.core.text import counted
from limner.runs.experiment import Experiment, TrainingSet, Validator
from limner.runs.options import Options
from limner.training.log import duration
from limner.training.loop import View


def publish(
    experiment: Experiment,
    options: Options,
    machine: Machine,
    view: View,
    decided: Mapping[str, Any],
    folder: Path | None = None,
    figures: Mapping[str, float] | None = None,
) -> None:
    """Write the averaged network as a self-describing folder: the run's own, or `folder` with its own figures. decided: `run.json`'s."""
    product = experiment.product
    description: dict[str, Any] = {
        "limner": limner.__version__,
        "kind": product.kind,
        "recipe": {"name": experiment.name, **dataclasses.asdict(experiment.recipe)},
        "data": describe_data(experiment.data),
        "network": {"name": product.network, **product.description},
        "training": {
            "images": view.clock.seen,
            "budget": view.clock.budget,
            "batch": view.clock.batch,
            "seconds": round(view.seconds, 1),
            "seed": options.seed,
            "machine": str(machine),
            "torch": str(torch.__version__),
            "started": decided["started"],
            "doctor": experiment.probe is not None,
            "held_out_count": experiment.held_out_count,
            "auto_tune": options.auto_tune,
            "settings": dict(view.settings),
        },
        "metrics": dict(figures or newest_figures(view, experiment.validators)),
        "license": None,
    }
    network = view.averages[product.network]
    if experiment.method.finalize:
        experiment.method.finalize(network)
    if "transfer" in decided:
        description["parents"] = decided["transfer"]["parents"]
    if product.copies and folder is None and view.clock.seen >= view.clock.budget:
        description["copies"] = product.copies(network)
    card = model_card(description, experiment)
    artifact.save(folder or view.folder, {product.network: network}, description, card)


def describe_data(data: TrainingSet) -> dict[str, Any]:
    """Return the description of a run's training data for `limner.json`."""
    labeled = data.labels is not None and data.spec.classes
    counts = class_counts(data.labels, len(data.classes)) if labeled and data.labels is not None else []
    return {
        "name": data.name,
        "origin": data.origin,
        "count": len(data),
        "spec": dataclasses.asdict(data.spec),
        "fit": data.fit,
        "background": data.background,
        "classes": list(data.classes),
        "class_counts": counts,
        "fingerprint": data.fingerprint,
        "attribution": data.attribution,
    }


def newest_figures(view: View, validators: Sequence[Validator]) -> dict[str, float]:
    """Return the latest values of the validators and the images seen at that time; empty before the first."""
    columns = [column for validator in validators for column in validator.columns]
    for entry in reversed(artifact.read_log(view.folder)):
        if any(column in entry for column in columns):
            return {column: entry[column] for column in columns if column in entry} | {"at_images": entry["images"]}
    return {}


def _article(kind: str) -> str:
    """Return a kind of product with its article."""
    return f"a {kind}" if "image" in kind else f"an image {kind}"


BEST = """
The weights beside this card are the newest. `best/`, if it exists, is a folder like this one with the weights of the moment
at which this metric was {extreme}: {title}. All commands accept it instead of the run folder.
"""


def _origin_of(description: Mapping[str, Any]) -> str:
    """Return the paragraph of a model card on the runs it began with; empty if there are none."""
    lines = [
        f"- {p['name']}: `{p['recipe']}`, {p['images']:,} images seen, trained on {p['origin']}, license {p['license'] or 'not stated'}; SHA-256 "
        f"of its weights {p['sha256']}"
        for p in description.get("parents", [])
    ]
    return "\nIt did not start from nothing, but from the weights of another run, whose pictures shape it too:\n\n" + "\n".join(lines) + "\n" if lines else ""


def model_card(description: Mapping[str, Any], experiment: Experiment) -> str:
    """Return the README.md of a run folder, with the front matter that model hubs read."""
    data, training, spec = description["data"], description["training"], description["data"]["spec"]
    done = training["images"] / training["budget"]
    classes = f"\nClasses: {', '.join(data['classes'])}.\n" if spec["condition"]["kind"] == "classes" else ""
    if experiment.product.card.classes:
        classes = f"\n{experiment.product.card.classes}\n"
    attribution = f"\n{data['attribution']}\n" if data["attribution"] else ""
    metrics = "\n".join(f"- {name}: {value}" for name, value in description["metrics"].items())
    metrics = metrics or "No figures were measured; `limner evaluate` measures them."
    best = ""
    if experiment.validators and description["metrics"]:
        first = experiment.validators[0]
        best = BEST.format(extreme="highest" if first.better == "higher" else "lowest", title=first.title)
    channels = {1: "gray", 3: "RGB", 4: "RGBA"}[spec["channels"]]
    copies = f"A test for copies says: {description['copies']['verdict']}\n" if "copies" in description else ""
    held_out = f"; {training['held_out_count']:,} of them were held out and never trained on" if training["held_out_count"] else ""
    return f"""---
library_name: limner
license: {description["license"] or "other  # state the license of your pictures and weights here"}
tags: [{experiment.product.card.tags}, limner]
---

# {data["name"]}: {_article(description["kind"])}

![samples](preview.png)

Made by Limner {description["limner"]} with the recipe `{description["recipe"]["name"]}`.

## What it was trained on

{data["origin"]}: {counted(data["count"], "picture")} of {spec["height"]}x{spec["width"]} pixels, {channels}{held_out}.
{classes}{attribution}{_origin_of(description)}
## How

{training["images"]:,} images seen ({done:.0%} of the budget) in {duration(training["seconds"])} on {training["machine"]}, seed {training["seed"]}.
Every setting is in `limner.json`.

## Figures

{metrics}
{best}
## Use

{experiment.product.card.usage}
The folder holds data only: loading it executes no code.

## Limits

It imitates its training pictures, with their biases and gaps, and may reproduce single ones of them if they were few.
{copies}State the license of the pictures and of these weights in the front matter above before you share it.
"""
