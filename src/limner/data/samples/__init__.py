"""Embedded samples: small real data sets that work offline. NOTICE states their sources and licenses."""

from __future__ import annotations

import json
import lzma
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from limner.data.arrays import from_array
from limner.data.source import Source

SAMPLES = ("fashion", "emoji")
FOLDER = Path(__file__).parent
SKIN_TONES = {  # code point -> name, as Unicode's CLDR writes it after the name of a person
    "1f3fb": "light skin tone", "1f3fc": "medium-light skin tone", "1f3fd": "medium skin tone",
    "1f3fe": "medium-dark skin tone", "1f3ff": "dark skin tone",
}  # fmt: skip


def open_sample(name: str, labels: bool = True) -> Source:
    """Return a Source of a sample: `fashion`, 10,000 gray 28x28 in 10 classes, or `emoji`, 3,786 RGBA 64x64 in 10 categories."""
    assert name in SAMPLES, name
    facts = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    raw = bytearray(lzma.decompress((FOLDER / f"{name}.xz").read_bytes()))  # writable, as torch requires
    source = from_array(
        np.frombuffer(raw, np.uint8).reshape(facts["shape"]), np.array(facts["labels"]) if labels else None, name=name,
        origin=f"the embedded sample {name} ({facts['origin']})", class_names=tuple(facts["classes"]),
        attribution=facts["attribution"], names=facts["names"],
    )
    table = json.dumps(captions(name, facts)).encode()
    return replace(source, text=lambda file: table if file == "captions.json" else None)


def captions(name: str, facts: dict[str, Any]) -> dict[str, str]:
    """Return the caption of each picture of a sample: its class, or the emoji's name with the skin tones that its code has."""
    if name != "emoji":
        return {str(i): facts["classes"][label] for i, label in enumerate(facts["labels"])}
    made = {}
    for file in facts["names"]:
        code, _, caption = file.partition(" ")
        tones = [SKIN_TONES[part] for part in code.split("-") if part in SKIN_TONES]
        made[file] = caption + (": " + ", ".join(dict.fromkeys(tones)) if tones else "")
    return made
