"""Damaged files: each gives a sentence or the right picture, in bounded time and memory.

The cases run in a process of their own, whose address space is limited once everything is imported.
"""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from codec_model import codec, picture
from limner.coding import container
from limner.coding.container import Group, Header, Item, varint
from limner.coding.entropy import Corrupt

MEMORY = 1 << 30  # bytes beyond what the imports and the model take
SECONDS = 5.0     # for one file
MODEL = codec()


def originals() -> list[bytes]:
    """One file of each form: with a profile, with transparency, in tiles, and an archive of pictures of several sizes, two in tiles."""
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    plain = Image.fromarray(picture(70, 90))
    plain.info["icc_profile"] = icc
    clear = Image.fromarray(picture(40, 64))
    clear.putalpha(Image.fromarray(picture(40, 64, 1, 5)[..., 0]))
    tiled = Image.fromarray(picture(200, 140, seed=2))
    many = [MODEL.prepare(Image.fromarray(picture(40 + 30 * (i % 2), 40, seed=i))) for i in range(6)] + [MODEL.prepare(clear)]
    many += [MODEL.prepare(Image.fromarray(picture(30, 140, seed=i))) for i in range(2)]
    items = [Item(**{**vars(one.item), "name": f"folder/{i}.png"}) for i, one in enumerate(many)]
    return [
        MODEL.compress(plain),
        MODEL.compress(clear, 10),
        MODEL.compress(tiled, 90),
        MODEL.write(items, lambda i: many[i], archive=True),
    ]


Decoded = dict[str, tuple[str, bytes, bytes]]


def decoded(content: bytes) -> tuple[Decoded, int]:
    """Return (name -> mode, pixels and metadata of what could be decoded, how many were damaged). Raises Corrupt."""
    found, bad = {}, 0
    for item, image in MODEL.images(MODEL.open(content)):
        if isinstance(image, Corrupt):
            assert str(image) and "\n" not in str(image)
            bad += 1
        else:
            found[item.name] = image.mode, image.tobytes(), image.info.get("icc_profile", b"")
    return found, bad


# ---- mutations -------------------------------------------------------------------------------------------------------


def flip(content: bytes, rng: random.Random) -> bytes:
    out = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 8])):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def insert(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content) + 1)
    return content[:at] + rng.randbytes(rng.randrange(1, 9)) + content[at:]


def remove(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content))
    return content[:at] + content[at + rng.randrange(1, 9) :]


def swap(content: bytes, rng: random.Random) -> bytes:
    a, b, c = sorted(rng.randrange(len(content) + 1) for _ in range(3))
    return content[:a] + content[b:c] + content[a:b] + content[c:]


def header_bytes(content: bytes, rng: random.Random) -> bytes:
    out = bytearray(content)
    out[rng.randrange(min(30, len(out)))] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
    return bytes(out)


def swap_streams(content: bytes, rng: random.Random) -> bytes:
    file = container.read(content)
    streams = [(group, i) for group in file.groups for i in range(len(group.streams))]
    (a, i), (b, k) = rng.choice(streams), rng.choice(streams)
    a.streams[i], b.streams[k] = b.streams[k], a.streams[i]
    return container.write(file.header, file.groups)


def new_size(content: bytes, rng: random.Random) -> bytes:
    """Another size, up to the largest, with a stream for each tile: a header that is valid in itself."""
    file = container.read(content)
    old = file.header.items[0]
    width, height = rng.choice([(1, 1), (old.width + 1, old.height), (old.height, old.width), (1024, 1024), (13_000, 13_000), (1 << 20, 160)])
    items = [Item(**{**vars(old), "width": width, "height": height}), *file.header.items[1:]]
    header = Header(file.header.fingerprint, file.header.quality, items, file.header.archive)
    known = [stream for group in file.groups for stream in group.streams]
    groups = [Group([rng.choice(known) for _ in items[numbers[0]].tiles()], b"alpha") for numbers in header.groups]
    return container.write(header, groups)


def new_check(content: bytes, rng: random.Random) -> bytes:
    """Another quality or form, and streams that are encoded anew, so that every checksum fits."""
    file = container.read(content)
    items = [Item(**{**vars(item), "form": rng.choice(["L", "RGB"])}) for item in file.header.items]
    header = Header(file.header.fingerprint, rng.randrange(101), items, file.header.archive)
    pictures = [MODEL.prepare(Image.fromarray(np.zeros((i.height, i.width, 3), np.uint8))) for i in items]
    return MODEL.write(header.items, lambda i: pictures[i], header.quality, archive=header.archive)


def huge_number(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(10, min(40, len(content)))
    return content[:at] + varint(rng.choice([1 << 14, 1 << 20, 1 << 31, 1 << 34, 1 << 60])) + content[at + 1 :]


MUTATIONS: list[Callable[[bytes, random.Random], bytes]] = [
    flip, flip, flip, cut, insert, remove, swap, header_bytes, swap_streams, new_size, new_check, huge_number,
]  # fmt: skip


def run(count: int, seed: int) -> Counter[str]:
    """Decode `count` mutated files; count what came of each mutation."""
    container.TILE = 128
    files = originals()
    right = [decoded(content) for content in files]
    assert not any(bad for _, bad in right)
    with Path("/proc/self/statm").open() as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    rng, outcomes = random.Random(seed), Counter[str]()
    for _ in range(count):
        place = rng.randrange(len(files))
        mutation = rng.choice(MUTATIONS)
        content = mutation(files[place], rng)
        began = time.perf_counter()
        try:
            found, bad = decoded(content)
        except Corrupt as error:
            assert str(error) and "\n" not in str(error)
            outcomes[f"{mutation.__name__}: refused"] += 1
        else:
            if mutation is not new_check:  # which makes sound files
                for name, made in found.items():
                    assert made == right[place][0][name], (mutation, name)
            outcomes[f"{mutation.__name__}: {'partly' if bad else 'decoded'}"] += 1
        assert time.perf_counter() - began < SECONDS, (mutation, len(content))
    return outcomes


def check(count: int, seed: int) -> None:
    code = f"import sys; sys.path.insert(0, 'tests/apps'); import test_compress_fuzz as t; print(t.json.dumps(t.run({count}, {seed})))"
    root = Path(__file__).parents[2]
    env_path = f"{root / 'src'}:{root / 'tests'}"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=280, check=False,
        env={"PYTHONPATH": env_path, "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    outcomes = json.loads(done.stdout)
    assert sum(outcomes.values()) == count
    noticed = {name for name in outcomes if not name.endswith("decoded")}
    assert all(any(name.startswith(mutation.__name__) for name in noticed) for mutation in MUTATIONS if mutation is not new_check)
    assert set(outcomes) - noticed <= {"new_check: decoded", "swap_streams: decoded", "header_bytes: decoded", "swap: decoded"}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_two_thousand_damaged_files() -> None:
    check(2_000, 0)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("seed", range(1, 6))
def test_ten_thousand_more(seed: int) -> None:
    check(2_000, seed)
