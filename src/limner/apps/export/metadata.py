"""What an exported file says about itself."""

from __future__ import annotations

import json
import re
from typing import Any

from limner.apps.export.part import Part
from limner.core import artifact, hashing
from limner.core.files import read_bytes
from limner.core.schema import MAX_JSON_BYTES

BITMAP = {1: "Gray8", 3: "Rgb8", 4: "Rgba8"}  # names of Windows' BitmapPixelFormat, which ONNX's image metadata uses


def metadata_of(model: Any, part: Part) -> dict[str, str]:
    """Return the metadata of a part of a model, as ONNX stores it.

    `Image.BitmapPixelFormat` and `Image.NominalPixelRange` are keys of the ONNX standard (docs/MetadataProps.md); the others are
    Limner's, JSON where they are not plain text.
    """
    description = model.description
    data, network = description["data"], description["network"]
    found = {
        "limner.version": description["limner"],
        "limner.kind": description["kind"],
        "limner.part": part.name,
        "limner.recipe": description["recipe"]["name"],
        "limner.architecture": network["architecture"],
        "limner.data": data["name"],
        "limner.size": json.dumps([model.spec.channels, *model.spec.size]),
        "limner.run": run_hash(model),
        "license": stated_license(model),
    }
    if data["classes"]:
        found["limner.classes"] = json.dumps(data["classes"], ensure_ascii=False)
    if "tokens" in part.inputs:
        found["limner.tokenizer"] = json.dumps(tokenizer_of(model))
        found["limner.captions"] = json.dumps(model.captions, ensure_ascii=False)
    if "z" in part.inputs:
        found["limner.latent_size"] = str(part.inputs["z"][1])
        found["limner.latent_distribution"] = "standard normal"
    if any(len(axes) == 4 and name != "latents" for name, axes in {**part.inputs, **part.outputs}.items()):
        found["Image.BitmapPixelFormat"] = BITMAP[model.spec.channels]
        found["Image.NominalPixelRange"] = "Normalized_0_1"
    if data.get("attribution"):
        found["attribution"] = data["attribution"]
    return found


def tokenizer_of(model: Any) -> dict[str, Any]:
    """Return what `core.hashing` needs to make a model's tokens, and other programs that do as it does."""
    return {**model.tokenizer.to_json(), "hash": "crc32", "letters": hashing.LETTERS, "longest": hashing.LONGEST}


def run_hash(model: Any) -> str:
    """Return the SHA-256 of the run's weights, as their file states it."""
    from safetensors import safe_open

    with safe_open(model.folder / artifact.WEIGHTS, "pt") as file:
        return str((file.metadata() or {}).get("sha256", ""))


def stated_license(model: Any) -> str:
    """Return the license of a run: of its description, or what its model card was edited to state."""
    card = model.folder / "README.md"
    text = read_bytes(card, MAX_JSON_BYTES).decode("utf-8", "replace") if card.exists() else ""
    return str(model.description["license"] or license_of(text) or "other")


def license_of(card: str) -> str:
    """Return the license that the front matter of a model card states, "" for none."""
    front = card.split("\n---", 1)[0] if card.startswith("---\n") else ""
    stated = re.search(r"^license:\s*([^\s#]+)", front, re.MULTILINE)
    return stated[1] if stated else ""
