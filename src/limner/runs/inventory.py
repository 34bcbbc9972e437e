"""Names and digests of the pictures of a run's first start, by which a later start reports the ones that changed."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path

from limner.core.files import write_whole
from limner.data import Dataset
from limner.data.clips import ClipPictures
from limner.data.dataset import Subset
from limner.data.pairs import Pairs
from limner.runs.experiment import TrainingSet

FILE = Path("checkpoint") / "pictures.json.gz"  # in the run folder; relative names only
MAX_PICTURES = 200_000  # nothing is recorded for more
MAX_RECORD_BYTES = 256 << 20  # uncompressed
MAX_NAMES = 3  # of each kind in the sentence


def digests(data: TrainingSet) -> dict[str, str]:
    """Return name -> digest of pixels and class of each picture, or of each frame of clips; equal names within a set are numbered.
    Empty for other data than a Dataset, Pairs and clips."""
    sides: dict[str, Dataset | Subset] = {}
    if isinstance(data, Dataset):
        sides = {"": data}
    elif isinstance(data, ClipPictures):
        sides = {"": data.clips.frames}
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
    """Write the names and digests of a run's pictures to its folder. Raises ValueError on disk errors."""
    if len(data) <= MAX_PICTURES:
        write_whole(folder / FILE, gzip.compress(json.dumps(digests(data), ensure_ascii=False).encode(), mtime=0))


def _recorded(folder: Path) -> dict[str, str] | None:
    """Return name -> digest of the first start's pictures; None if they were not recorded."""
    try:
        with gzip.open(folder / FILE) as file:
            before = json.loads(file.read(MAX_RECORD_BYTES))
        return before if isinstance(before, dict) else None
    except (OSError, EOFError, ValueError, RecursionError):
        return None


def only_added(folder: Path, data: TrainingSet) -> bool:
    """Return whether all pictures of the first start are there, unchanged, and others were added."""
    before = _recorded(folder)
    if before is None:
        return False
    now = digests(data)
    return len(now) > len(before) and all(now.get(name) == digest for name, digest in before.items())


def difference(folder: Path, data: TrainingSet) -> str:
    """Return which pictures differ from those of the first start, as the end of a sentence; "" if those were not recorded."""
    before = _recorded(folder)
    if before is None:
        return ""
    now = digests(data)
    kinds = {
        "added": [name for name in now if name not in before],
        "removed": [name for name in before if name not in now],
        "changed": [name for name in now if name in before and now[name] != before[name]],
    }
    if len(kinds["changed"]) == len(now) > 1 and not kinds["removed"]:
        return ", or all of them were prepared in another way (--fit, --background, --channels, --labels, --classes-from)"
    parts = [
        f"{len(names):,} {kind} ({', '.join(names[:MAX_NAMES])}{' …' if len(names) > MAX_NAMES else ''})"
        for kind, names in kinds.items()
        if names
    ]
    return f" ({'; '.join(parts)})" if parts else " (the same ones in another order)"
