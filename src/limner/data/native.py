"""Pictures decoded once and kept at their own sizes, for crops (in a Dataset all have one size).

All pixels lie in one array, in memory up to 1 GiB and otherwise memory-mapped from the cache: a crop of a large picture reads
only its own rows, and nothing is decoded twice.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import PIL
import torch
from PIL import Image
from torch import Tensor

from limner.core.images import MODES
from limner.data import cache as store
from limner.data.dataset import CHANNELS, MIN_CACHED_BYTES, duplicates_note, skipped_note
from limner.data.decode import Progress, Reading, suppress_warnings
from limner.data.image import Damaged, convert_channels, fill_transparent, parse_color, upright
from limner.data.source import Rejected, Source


@dataclass(frozen=True, eq=False)
class Native:
    """Pictures at their own sizes, ready for crops."""

    pixels: np.ndarray                               # uint8 [bytes]: the pictures [H,W,C], concatenated
    offsets: np.ndarray                              # int64 [N]: start of each picture
    sizes: np.ndarray                                # int64 [N,2]: height and width of each
    channels: int                                    # 1 (gray), 3 (RGB) or 4 (RGBA, straight alpha)
    labels: Tensor | None                            # int64 [N], an index into classes
    classes: tuple[str, ...]                         # empty without labels
    names: list[str]                                 # [N]
    name: str                                        # short, for a run folder
    origin: str                                      # as shown to people
    attribution: str                                 # author and license of an embedded sample
    fingerprint: str                                 # SHA-256, in hex, of the pictures and labels
    bad: list[Rejected] = field(default_factory=list)           # skipped pictures with the reason
    notes: list[str] = field(default_factory=list)              # decisions to report to the user
    duplicates: list[list[str]] = field(default_factory=list)   # groups of names of identical pictures
    background: str = "white"                        # color behind transparent pictures
    validation: Source | None = None                 # the held-out split, not decoded yet

    def __len__(self) -> int:
        return len(self.offsets)

    def picture(self, row: int) -> np.ndarray:
        """Return a picture, uint8 [H,W,C]: a read-only view of the pixels."""
        height, width = self.sizes[row]
        start = self.offsets[row]
        return self.pixels[start : start + height * width * self.channels].reshape(height, width, self.channels)


def prepare_native(
    source: Source, *, channels: int | str = "auto", background: str = "white", workers: int | None = None,
    progress: Progress | None = None, cache: bool = True,
) -> Native:
    """Decode every picture of `source` once at its own size, upright, or load them from the cache.

    channels: 1, 3, 4, or auto: gray if the headers of all files are gray, otherwise RGB. background: color behind transparent
    pictures, unless there are 4 channels. workers: decoding threads, None for one per core. progress: called with (done, total).
    Raises ValueError for invalid options, when no picture is usable, and when the cache's disk has no space for pictures of
    more than 1 GiB.
    """
    if str(channels) not in CHANNELS:
        raise ValueError(f"channels {channels!r} is unknown: choose auto, 1 (gray), 3 (RGB) or 4 (RGBA).")
    parse_color(background)  # raises before anything is read
    wanted = CHANNELS[str(channels)]
    cache = cache and (source.array is None or source.array.nbytes > MIN_CACHED_BYTES)
    key, note = "", ""
    if cache:
        text = json.dumps([store.VERSION, "native", PIL.__version__, wanted, background, source.fingerprint()])
        key = hashlib.sha256(text.encode()).hexdigest()[:40]
        if found := store.load(key):
            return _finish(source, *found, background, "")
    pixels, facts, retry = _decode(source, wanted, background, workers, progress)
    if cache and not retry:
        if problem := store.store(key, pixels, facts):
            note = f"The decoded pictures could not be cached: {problem}"
        elif pixels.nbytes > store.MAX_MEMORY_BYTES and (found := store.load(key)):
            pixels = found[0]  # releases the unlinked file they were decoded into
    return _finish(source, pixels, facts, background, note)


def _decode(
    source: Source, wanted: int | None, background: str, workers: int | None, progress: Progress | None
) -> tuple[np.ndarray, dict[str, Any], bool]:
    """Return (pixels uint8 [bytes], facts about them, whether some failures may not occur again)."""
    fill, reading = parse_color(background), Reading(source, workers, progress)
    with suppress_warnings():
        heads = reading.read_headers()
        channels = wanted or (3 if any(head.color for _, head in heads) else 1)
        lengths = [head.height * head.width * channels for _, head in heads]
        offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        pixels = _allocate(int(offsets[-1]))
        digests: list[bytes | None] = [None] * len(heads)

        def decode(row: int, image: Image.Image) -> None:
            _, head = heads[row]
            array = _decode_whole(image, channels, fill)
            if array.shape[:2] != (head.height, head.width):
                raise Damaged("its size differs from that in its header")
            pixels[offsets[row] : offsets[row + 1]] = array.reshape(-1)
            digests[row] = hashlib.blake2b(f"{array.shape}".encode() + array.tobytes(), digest_size=16).digest()

        reading.read_pixels(heads, decode)
    rows = reading.usable_rows(heads)
    for row in np.setdiff1d(np.arange(len(heads)), rows):  # the fingerprint includes the places of damaged pictures
        pixels[offsets[row] : offsets[row + 1]] = 0
    kept = [heads[row][0] for row in rows]
    labels = None if source.labels is None else source.labels[kept]
    groups: dict[bytes | None, list[int]] = {}
    for k, row in enumerate(rows):
        groups.setdefault(digests[row], []).append(k)
    facts = {
        "fingerprint": store.content_hash(pixels, labels), "labels": None if labels is None else labels.tolist(),
        "kept": kept, "bad": reading.bad, "channels": channels, "offsets": offsets[rows].tolist(),
        "sizes": [[heads[row][1].height, heads[row][1].width] for row in rows],
        "equal": [group for group in groups.values() if len(group) > 1],
    }  # fmt: skip
    return pixels, facts, reading.transient


def _allocate(size: int) -> np.ndarray:
    """Return a new array uint8 [size], on disk beyond 1 GiB. Raises ValueError when the disk has no space for it."""
    pixels = store.allocate((size,))
    if size > store.MAX_MEMORY_BYTES and not isinstance(pixels, np.memmap):
        raise ValueError(
            f"These pictures need {size / 1e9:.1f} GB decoded, for which {store.cache_folder()} has no space: free some, set "
            "LIMNER_CACHE to a folder on another disk, or use fewer pictures."
        )
    return pixels


def _decode_whole(image: Image.Image, channels: int, fill: tuple[int, int, int]) -> np.ndarray:
    """Decode an opened image to uint8 [H,W,C], upright. Raises Damaged."""
    turned = convert_channels(upright(image), channels, fill)
    array = np.array(turned).reshape(turned.height, turned.width, channels)
    if channels == 4:
        fill_transparent(array, fill)
    return array


def _finish(source: Source, pixels: np.ndarray, facts: dict[str, Any], background: str, note: str) -> Native:
    kept, sizes, channels = facts["kept"], np.array(facts["sizes"], np.int64), facts["channels"]
    names = [source.names[i] for i in kept]
    bad = source.bad + [(str(name), str(why)) for name, why in facts["bad"]]
    duplicates = [[names[row] for row in rows] for rows in facts["equal"]]
    notes = [*source.notes, _sizes_note(sizes, channels)]
    notes += [text for text in (skipped_note(bad) if bad else "", duplicates_note(duplicates) if duplicates else "", note) if text]
    digest = hashlib.sha256(f"{facts['fingerprint']} {channels} {facts['sizes']} {facts['offsets']}".encode())
    return Native(
        pixels, np.array(facts["offsets"], np.int64), sizes, channels,
        None if source.labels is None else torch.from_numpy(source.labels[kept]), source.classes, names, source.name,
        source.origin, source.attribution, digest.hexdigest(), bad, notes, duplicates, background, source.validation,
    )  # fmt: skip


def _sizes_note(sizes: np.ndarray, channels: int) -> str:
    (common, count), *others = Counter(map(tuple, sizes.tolist())).most_common()
    kind = {"L": "gray"}.get(MODES[channels], MODES[channels])
    if not others:
        return f"Pictures are kept at their own size, {common[0]}x{common[1]} {kind}."
    least, most = sizes.min(0), sizes.max(0)
    return (
        f"Pictures are kept at their own sizes in {kind}: height {least[0]} to {most[0]}, width {least[1]} to {most[1]}; "
        f"{count:,} are {common[0]}x{common[1]}."
    )
