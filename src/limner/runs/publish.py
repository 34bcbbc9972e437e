"""The product of a run: a folder that describes itself, with its model card."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import limner
from limner.core import artifact
from limner.training.log import duration
from limner.training.loop import View

if TYPE_CHECKING:
    from limner.core.machine import Machine
    from limner.runs.run import Job


def publish(job: Job, machine: Machine, view: View, decided: Mapping[str, Any], folder: Path | None = None,
            figures: Mapping[str, float] | None = None) -> None:  # fmt: skip
    """Write the averaged network as a self-describing folder: the run's own, or another with its own figures."""
    data = job.dataset
    description = {
        "limner": limner.__version__,
        "kind": job.kind,
        "recipe": {"name": job.name, **dataclasses.asdict(job.recipe)},
        "data": {
            "name": data.name,
            "origin": data.origin,
            "count": len(data),
            "spec": dataclasses.asdict(data.spec),
            "fit": data.fit,
            "background": data.background,
            "classes": list(data.classes),
            "class_counts": torch.bincount(data.labels, minlength=len(data.classes)).tolist()
            if data.labels is not None and data.spec.classes
            else [],
            "fingerprint": data.fingerprint,
            "attribution": data.attribution,
        },
        "network": {"name": job.published, **job.network},
        "training": {
            "images": view.clock.seen,
            "budget": view.clock.budget,
            "batch": view.clock.batch,
            "seconds": round(view.seconds, 1),
            "seed": job.options.seed,
            "machine": str(machine),
            "torch": str(torch.__version__),
            "started": decided["started"],
            "doctor": job.examine is not None,
            "held_out_count": job.held_out_count,
            "auto_tune": job.options.auto_tune,
            "settings": dict(view.settings),
        },
        "metrics": dict(figures or newest_metric(view)),
        "license": None,
    }
    artifact.save(
        folder or view.folder, {job.published: view.averages[job.published]}, description, model_card(description)
    )


def newest_metric(view: View) -> dict[str, float]:
    """The last value of the metric that the run watched, with the images seen by then."""
    for entry in reversed(artifact.read_log(view.folder)):
        found = {name: value for name, value in entry.items() if name.startswith("fid_")}
        if found:
            return {**found, "at_images": entry["images"]}
    return {}


BEST = """
The weights beside this card are the newest. `best/`, where it is there, is a folder like this one with the weights of the
moment at which the Fréchet distance above, of a few samples and watched during training, was lowest; every command takes
it in place of the run folder.
"""

TAGS = {  # kind -> what model hubs find it by
    "generator": "image-generation, gan",
    "autoencoder": "autoencoder, image-reconstruction",
    "translator": "image-to-image",
}

USES = {  # kind -> commands
    "generator": """\
    limner sample THIS_FOLDER -n 64 --out grid.png

    import limner
    model = limner.load("THIS_FOLDER")
    model.sample(16, seed=0).save("grid.png")
""",
    "autoencoder": """\
    limner reconstruct THIS_FOLDER PICTURES --out reconstructed.png
    limner encode THIS_FOLDER PICTURES --out latents.npz
""",
    "translator": """\
    limner translate THIS_FOLDER IN OUT

    import limner
    model = limner.load("THIS_FOLDER")
    model.translate("photo.jpg").save("translated.png")
""",
}

MORE = {  # architecture -> what it can besides
    "vae": """\
    limner sample THIS_FOLDER -n 64 --out grid.png
    limner interpolate THIS_FOLDER A.png B.png --out between.gif
    limner traverse THIS_FOLDER PICTURES --out numbers.png
""",
}


def model_card(description: Mapping[str, Any]) -> str:
    """The README.md of a run folder, with the front matter that model hubs read."""
    data, training, spec = description["data"], description["training"], description["data"]["spec"]
    done = training["images"] / training["budget"]
    classes = f"\nClasses: {', '.join(data['classes'])}.\n" if spec["condition"]["kind"] == "classes" else ""
    attribution = f"\n{data['attribution']}\n" if data["attribution"] else ""
    metrics = "\n".join(f"- {name}: {value}" for name, value in description["metrics"].items())
    metrics = metrics or "No figures were measured; `limner evaluate` does."
    watched = any(name.startswith("fid_") for name in description["metrics"])
    best = BEST if description["kind"] == "generator" and watched else ""
    channels = {1: "gray", 3: "RGB", 4: "RGBA"}[spec["channels"]]
    aside = f"; {training['held_out_count']:,} of them were kept aside and never trained on" if training["held_out_count"] else ""
    return f"""---
library_name: limner
license: {description["license"] or "other  # state the license of your pictures and weights here"}
tags: [{TAGS[description["kind"]]}, limner]
---

# {data["name"]}: an image {description["kind"]}

![samples](preview.png)

Made by Limner {description["limner"]} with the recipe `{description["recipe"]["name"]}`.

## What it was trained on

{data["origin"]}: {data["count"]:,} pictures of {spec["height"]}x{spec["width"]} pixels, {channels}{aside}.
{classes}{attribution}
## How

{training["images"]:,} images seen ({done:.0%} of the budget) in {duration(training["seconds"])} on {training["machine"]}, seed {training["seed"]}.
Every setting is in `limner.json`.

## Figures

{metrics}
{best}
## Use

{USES[description["kind"]]}{MORE.get(description["network"]["architecture"], "")}
The folder holds numbers and text only: loading it runs no code.

## Limits

It imitates its training pictures, with their biases and gaps, and may come close to single ones of them when they were few.
State the license of the pictures and of these weights in the front matter above before you share it.
"""
