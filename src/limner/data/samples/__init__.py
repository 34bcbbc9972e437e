"""Embedded samples: small real data sets that work offline. NOTICE states their sources and licenses."""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import numpy as np

from limner.data.arrays import from_array
from limner.data.source import Source

SAMPLES = ("fashion", "emoji")
FOLDER = Path(__file__).parent


def open_sample(name: str, labels: bool = True) -> Source:
    """Return a Source of a sample: `fashion`, 10,000 gray 28x28 in 10 classes, or `emoji`, 3,786 RGBA 64x64 in 10 categories."""
    assert name in SAMPLES, name
    facts = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    raw = bytearray(lzma.decompress((FOLDER / f"{name}.xz").read_bytes()))  # writable, as torch requires
    return from_array(
        np.frombuffer(raw, np.uint8).reshape(facts["shape"]), np.array(facts["labels"]) if labels else None, name=name,
        origin=f"the embedded sample {name} ({facts['origin']})", class_names=tuple(facts["classes"]),
        attribution=facts["attribution"], names=facts["names"],
    )
