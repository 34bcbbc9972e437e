"""Two sets of 128x128 pictures on which generators are compared: drawings and crops of photographs; never committed.

    .venv/bin/pip install --no-deps resvg_py
    .venv/bin/python benchmarks/larger_sets.py [--into build/larger-sets]

Writes INTO/openmoji, the 4,495 color emoji of openmoji (npm; CC BY-SA 4.0) rendered on white, and INTO/crops, twelve squares of
each of 169 photographs (photographs.py), at random places and of random sides from 128 pixels, if there are as many, to the
short side, scaled to 128.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from photographs import photographs

SIDE = 128
OPENMOJI = "openmoji@17.0.0"
SQUARES = 12  # of each photograph


def openmoji(into: Path) -> Path:
    """Return the folder of rendered emoji, fetched once with npm."""
    import resvg_py  # not a dependency of the project

    if not (into / "complete").exists():
        (into / "openmoji").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as place:
            subprocess.run(["npm", "pack", "--silent", OPENMOJI], cwd=place, check=True, stdout=subprocess.DEVNULL)
            (package,) = Path(place).glob("*.tgz")
            subprocess.run(["tar", "xzf", package.name, "package/color/svg"], cwd=place, check=True)
            for path in sorted((Path(place) / "package/color/svg").glob("*.svg")):
                drawn = resvg_py.svg_to_bytes(svg_path=str(path), width=SIDE, height=SIDE, background="#ffffff")
                Image.open(io.BytesIO(drawn)).convert("RGB").save(into / "openmoji" / f"{path.stem}.png")
        (into / "complete").touch()
    return into / "openmoji"


def crops(into: Path) -> Path:
    """Return the folder of squares of the photographs."""
    folder = into / "crops"
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for path in sorted(path for source in photographs() for path in source.glob("*.png")):
        photograph = Image.open(path)
        for i in range(SQUARES):
            side = int(random.integers(min(SIDE, *photograph.size), min(photograph.size) + 1))
            left, top = (int(random.integers(0, length - side + 1)) for length in photograph.size)
            photograph.resize((SIDE, SIDE), Image.Resampling.BOX, (left, top, left + side, top + side)).save(folder / f"{path.stem}-{i:02}.png")
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, default=Path("build/larger-sets"))
    args = parser.parse_args()
    for folder in (openmoji(args.into), crops(args.into)):
        print(f"{len(list(folder.iterdir()))} pictures in {folder}", file=sys.stderr)
