"""The 169 photographs of the Debian package gcompris-qt-data, halved: 50 held out, the others to train on; never committed.

    .venv/bin/python benchmarks/photographs.py [--into build/photographs]

Writes INTO/train and INTO/held-out as PNG. The package holds them as WebP streams inside its .rcc files. They are lossy, so
both sides are halved first (a box filter), which removes most of their compression. Those held out have at least 256 pixels
a side. The package's transparent pictures are drawings and left out.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

PACKAGE = "gcompris-qt-data"
MIN_BYTES = 30_000  # smaller streams are drawings and icons
HELD_OUT, HELD_OUT_SIDE = 50, 256
DEFAULT = Path("build/photographs")


def photographs(into: Path = DEFAULT) -> tuple[Path, Path]:
    """Return the folders (train, held-out), fetched once with apt-get."""
    train, held_out = into / "train", into / "held-out"
    if not (into / "complete").exists():
        with tempfile.TemporaryDirectory() as place:
            subprocess.run(["apt-get", "download", PACKAGE], cwd=place, check=True, stdout=subprocess.DEVNULL)
            (package,) = Path(place).glob("*.deb")
            subprocess.run(["dpkg-deb", "-x", package, "."], cwd=place, check=True)
            streams = [stream for path in sorted(Path(place).rglob("*.rcc")) for stream in webp_streams(path.read_bytes())]
        found = [image for image in map(halved, streams) if image is not None]
        for folder in (train, held_out):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        large = [i for i, image in enumerate(found) if min(image.size) >= HELD_OUT_SIDE]
        chosen = {large[i * len(large) // HELD_OUT] for i in range(HELD_OUT)}  # evenly spaced: neighbors are of one kind
        for i, image in enumerate(found):
            image.save((held_out if i in chosen else train) / f"{i:03}.png")
        (into / "complete").touch()
    return train, held_out


def webp_streams(content: bytes) -> Iterator[bytes]:
    """Yield the WebP files inside another file."""
    start = content.find(b"RIFF")
    while start >= 0:
        length = 8 + int.from_bytes(content[start + 4 : start + 8], "little")
        if content[start + 8 : start + 12] == b"WEBP" and length >= MIN_BYTES:
            yield content[start : start + length]
        start = content.find(b"RIFF", start + 4)


def halved(stream: bytes) -> Image.Image | None:
    """Return a picture at half its size; None for a transparent one."""
    image = Image.open(io.BytesIO(stream))
    return image.reduce(2) if image.mode == "RGB" else None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, default=DEFAULT)
    for folder in photographs(parser.parse_args().into):
        print(f"{len(list(folder.iterdir()))} photographs in {folder}", file=sys.stderr)
