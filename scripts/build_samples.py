"""Rebuild the embedded samples in src/limner/data/samples from their public sources.

    python scripts/build_samples.py fashion /usr/share/datasets/fashion-mnist
    python scripts/build_samples.py emoji emoji-datasource-twitter-16.0.0.tgz

fashion: the Debian package dataset-fashion-mnist. emoji: the npm package emoji-datasource-twitter.
Each sample is NAME.xz, the raw uint8 pictures [N,H,W,C], and NAME.json, all that is known of them. Raw pixels under
xz beat PNG and lossless WebP here (6.3 MB against 10.5 and 7.6 for the emoji), because skin tones repeat whole
pictures far apart.
"""

from __future__ import annotations

import gzip
import io
import json
import lzma
import sys
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

SAMPLES = Path(__file__).parents[1] / "src" / "limner" / "data" / "samples"
FASHION = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]


def write(name: str, pictures: np.ndarray, facts: dict) -> None:
    assert pictures.dtype == np.uint8 and pictures.ndim == 4
    packed = lzma.compress(pictures.tobytes(), check=lzma.CHECK_CRC32, preset=9 | lzma.PRESET_EXTREME)
    (SAMPLES / f"{name}.xz").write_bytes(packed)
    text = json.dumps({"shape": pictures.shape, **facts}, ensure_ascii=False, separators=(",", ":"))
    (SAMPLES / f"{name}.json").write_text(text + "\n")
    print(f"{name}: {pictures.shape}, {len(packed):,} + {len(text):,} bytes")


def fashion(folder: Path) -> None:
    """Its 10,000 test pictures: enough for a first portrait, and small enough to ship."""
    images = gzip.decompress((folder / "t10k-images-idx3-ubyte.gz").read_bytes())[16:]
    labels = gzip.decompress((folder / "t10k-labels-idx1-ubyte.gz").read_bytes())[8:]
    write("fashion", np.frombuffer(images, np.uint8).reshape(10_000, 28, 28, 1), {
        "origin": "Fashion-MNIST, its 10,000 test pictures",
        "attribution": "Fashion-MNIST, copyright 2017 Zalando SE, MIT license, github.com/zalandoresearch/fashion-mnist",
        "classes": FASHION, "labels": list(labels), "names": None,
    })


def emoji(tarball: Path) -> None:
    """All pictures of 64x64 with their category; the color of clear pixels, which no one sees, is set to zero."""
    with tarfile.open(tarball) as archive:
        content = {m.name: archive.extractfile(m).read() for m in archive if  # type: ignore[union-attr]
                   m.name.startswith("package/img/twitter/64/") or m.name == "package/emoji.json"}
    known = {}
    for entry in json.loads(content.pop("package/emoji.json")):
        for form in (entry, *entry.get("skin_variations", {}).values()):
            known[form["image"]] = (entry["category"], (entry["name"] or entry["short_name"]).lower())
    files = sorted(content)
    pictures = np.stack([np.asarray(Image.open(io.BytesIO(content[file])).convert("RGBA")) for file in files])
    pictures[pictures[..., 3] == 0] = 0
    found = [known[Path(file).name] for file in files]
    classes = sorted({category for category, _ in found})
    write("emoji", pictures, {
        "origin": "Twemoji, the emoji pictures first made at Twitter",
        "attribution": "Twemoji graphics, copyright Twitter, Inc. and other contributors, CC-BY 4.0, "
                       "github.com/jdecked/twemoji, by way of the npm package emoji-datasource-twitter",
        "classes": classes, "labels": [classes.index(category) for category, _ in found],
        "names": [f"{Path(file).stem} {name}" for file, (_, name) in zip(files, found, strict=True)],
    })


if __name__ == "__main__":
    {"fashion": fashion, "emoji": emoji}[sys.argv[1]](Path(sys.argv[2]))
