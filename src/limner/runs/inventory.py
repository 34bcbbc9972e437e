"""The pictures that a run was started on, by name and digest, so that a later start can say which of them changed."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path

from limner.core.files import write_whole
from limner.data import Dataset
from limner.data.dataset import Subset
from limner.data.pairs import Pairs
from limner.runs.experiment import TrainingSet

FILE = Path("checkpoint") / "pictures.json.gz"  # in the run folder; relative names only
MOST = 200_000  # pictures; of more nothing is recorded
LARGEST = 256 << 20  # bytes of the unpacked record
SHOWN = 3  # names of each kind in the sentence


def digests(data: TrainingSet) -> dict[str, str]:
    """Each picture's name -> a digest of its pixels and class; equal names of one set are numbered. Nothing of data that is
    neither a set of pictures nor two of them."""
    sides: dict[str, Dataset | Subset] = {}
    if isinstance(data, Dataset):
        sides = {"": data}
    elif isinstance(data, Pairs):
        sides = {" (first set)": data.a, " (second set)": data.b}
    found: dict[str, str] = {}
    for side, one in sides.items():
        images = one.images
        for i, name in enumerate(one.names):
            digest = hashlib.blake2b(images[i].permute(1, 2, 0).numpy().tobytes(), digest_size=8)
            if one.labels is not None:
                digest.update(one.classes[int(one.labels[i])].encode())
            key = f"{name}{side}"
            found[key if key not in found else f"{key} #{i}"] = digest.hexdigest()
    return found


def record(folder: Path, data: TrainingSet) -> None:
    """Keep the names and digests of a run's pictures in its folder. Raises ValueError on disk errors."""
    if len(data) <= MOST:
        write_whole(folder / FILE, gzip.compress(json.dumps(digests(data), ensure_ascii=False).encode(), mtime=0))


def difference(folder: Path, data: TrainingSet) -> str:
    """Which pictures are not as they were at the start, as the end of a sentence; "" where that was not recorded."""
    try:
        with gzip.open(folder / FILE) as file:
            before = json.loads(file.read(LARGEST))
        if not isinstance(before, dict):
            return ""
    except (OSError, EOFError, ValueError, RecursionError):
        return ""
    now = digests(data)
    kinds = {
        "added": [name for name in now if name not in before],
        "removed": [name for name in before if name not in now],
        "changed": [name for name in now if name in before and now[name] != before[name]],
    }
    if len(kinds["changed"]) == len(now) > 1 and not kinds["removed"]:
        return ", or all of them were prepared in another way (--fit, --background, --channels, --labels, --classes-from)"
    told = [
        f"{len(names):,} {kind} ({', '.join(names[:SHOWN])}{' …' if len(names) > SHOWN else ''})"
        for kind, names in kinds.items()
        if names
    ]
    return f" ({'; '.join(told)})" if told else " (the same ones in another order)"
