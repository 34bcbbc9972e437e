"""Record the first 50 iterations of every preset, or compare them with a record: the proof that a refactoring changed nothing.

    python scripts/record_losses.py record.json           # write
    python scripts/record_losses.py record.json --check   # exit 1 at the first difference

Each preset trains for 50 iterations at fixed seeds on the embedded samples, on one CPU thread, in fp32 and in bf16. Kept are the
columns of `log.jsonl` and a hash of the published weights that does not depend on the names of the tensors.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.torch import load_file

import limner

ITERATIONS, SIZE = 50, 16
IGNORED = {"images", "seconds", "doctor"}


def weights_hash(folder: Path) -> str:
    """The counters of batch normalization, which no network reads, do not count: averages hold them since a later version."""
    tensors = load_file(folder / "weights.safetensors")
    found = [t.new_zeros(t.shape) if name.endswith("num_batches_tracked") else t for name, t in tensors.items()]
    digests = sorted(hashlib.sha256(str(tuple(t.shape)).encode() + t.contiguous().numpy().tobytes()).hexdigest() for t in found)
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def pictures(folder: Path, kind: str) -> tuple[Path, ...]:
    """The data of a family: one array of pictures with classes, two arrays of pictures for translators, or a folder of clips."""
    from limner.data import open_source

    source = open_source("fashion")
    images = np.asarray(source.array)[:2000]
    if kind == "motion":
        for i, image in enumerate(images[:40, :, :, 0]):
            frames = [Image.fromarray(np.roll(image, 2 * k, 1)) for k in range(14)]  # once around
            (folder / "clips").mkdir(exist_ok=True)
            frames[0].save(folder / f"clips/{i}.png", save_all=True, append_images=frames[1:], duration=50)
        return (folder / "clips",)
    if kind != "translator":
        path = folder / "data.npz"
        np.savez(path, images=images, labels=np.asarray(source.labels)[:2000])
        return (path,)
    for name, array in (("a", images), ("b", 255 - images)):
        np.save(folder / f"{name}.npy", array)
    return folder / "a.npy", folder / "b.npy"


def captions(folder: Path) -> Path:
    """A table of captions: the classes of the pictures by name."""
    from limner.data import open_source

    source = open_source("fashion")
    labels = np.asarray(source.labels)[:2000].tolist()
    (folder / "captions.json").write_text(json.dumps({str(i): source.classes[label] for i, label in enumerate(labels)}))
    return folder / "captions.json"


def record(name: str, precision: str, kind: str, batch: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        data = pictures(folder, kind)
        out = folder / "run"
        more = {"captions": str(captions(folder))} if kind == "text" else {}
        limner.train(
            *map(str, data), recipe=name, size=SIZE, images=ITERATIONS * batch, out=out, quiet=True, threads=1, device="cpu",
            precision=precision, seed=1, doctor=False, metric="none", **more,
        )  # fmt: skip
        lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
        kept = [{k: v for k, v in line.items() if k not in IGNORED and not k.startswith(("fid", "fd"))} for line in lines]
        return {"log": kept, "weights": weights_hash(out)}


def differences(before: dict, now: dict) -> list[str]:
    """What differs, a line each. Values are compared column by column; columns may have been renamed, so as sorted values."""
    found = []
    for key in before:
        if key not in now:
            found.append(f"{key}: missing")
            continue
        old, new = before[key], now[key]
        rows = [sorted(map(repr, row.values())) for row in old["log"]] == [sorted(map(repr, row.values())) for row in new["log"]]
        if old["weights"] != new["weights"] or not rows:
            found.append(f"{key}: " + " and ".join([*(["losses"] if not rows else []), *(["weights"] if old["weights"] != new["weights"] else [])]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--only", nargs="*", help="presets (default: all)")
    asked = parser.parse_args()
    from limner.families import presets

    now: dict[str, dict] = {}
    for name, preset in presets().items():
        if asked.only and name not in asked.only:
            continue
        made = preset.make()
        kind = "motion" if name == "motion" else "text" if "Text" in type(made).__name__ else "translator" if "Cycle" in type(made).__name__ or "Cut" in type(made).__name__ or "Paired" in type(made).__name__ else "other"
        for precision in ("fp32", "bf16"):
            now[f"{name} {precision}"] = record(name, precision, kind, made.batch)
            print(name, precision, now[f"{name} {precision}"]["weights"][:12], flush=True)
    if not asked.check:
        asked.file.write_text(json.dumps(now, indent=1))
        return
    before = {k: v for k, v in json.loads(asked.file.read_text()).items() if k in now}
    found = differences(before, now)
    print("\n".join(found) or f"{len(now)} runs are equal bit for bit.")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
