"""What a trained model makes of a picture that was dropped or drawn: a translation, restoration, reconstruction, file or class."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from limner.apps.studio.state import command, with_texts
from limner.core import artifact
from limner.core.images import to_pil
from limner.data.decode import suppress_warnings
from limner.data.image import convert_channels, decode_image, parse_color, upright
from limner.evaluation.image_quality import psnr_of

MAX_SIDE = 2048  # of what is shown: the file that is saved has its own size
TOP = 5  # classes


@dataclass(frozen=True)
class Result:
    """What was made of a picture. before, after: of one size, for the slider between them. facts: for people, name -> value."""

    before: bytes
    after: bytes
    command: str
    facts: dict[str, Any] = field(default_factory=dict)
    file: bytes = b""  # of a codec
    classes: list[tuple[str, float]] = field(default_factory=list)


@suppress_warnings()
def use(model: Any, folder: Path, image: Image.Image, name: str, size: int, options: dict[str, Any]) -> Result:
    """Return what the model makes of an image.

    name: of the file, for the command. size: its bytes. options: of the kind's command: direction, strength, quality. Raises
    ValueError for a kind without such a use, and for options out of range.
    """
    kind = str(model.description["kind"])
    works = {"translator": _translate, "restorer": _restore, "codec": _compress, "autoencoder": _reconstruct, "classifier": _classify}
    if kind not in works:
        raise ValueError(f"A {kind} takes no picture of yours by itself.")
    return works[kind](model, folder, image, name, size, options)


def _translate(model: Any, folder: Path, image: Image.Image, name: str, size: int, options: dict[str, Any]) -> Result:
    direction = str(options.get("direction") or model.directions[0])
    after = model.translate(image, direction)
    extra = ["--direction", direction] if direction != "a2b" else []
    line = command("limner", "translate", folder, name, "translated.png", *extra)
    return Result(_shown(upright(image)), with_texts(after, {"Comment": line}), line, {"size": f"{after.width} x {after.height}"})


def _restore(model: Any, folder: Path, image: Image.Image, name: str, size: int, options: dict[str, Any]) -> Result:
    strength = float(options.get("strength", 1.0))
    after = model.restore(image, strength)
    extra = ["--strength", f"{strength:g}"] if strength != 1 else []
    line = command("limner", "restore", folder, name, "restored.png", *extra)
    facts = {"task": model.task, "before": f"{image.width} x {image.height}", "after": f"{after.width} x {after.height}"}
    content = with_texts(after, {"Comment": line})
    before = upright(image).convert("RGB").resize(after.size, Image.Resampling.BICUBIC)
    return Result(_shown(before), content, line, facts)


def _compress(model: Any, folder: Path, image: Image.Image, name: str, size: int, options: dict[str, Any]) -> Result:
    quality = int(options.get("quality", 50))
    content = model.compress(image, quality)
    after = model.decompress(content)
    line = command("limner", "compress", folder, name, "picture.limn", *(["--quality", str(quality)] if quality != 50 else []))
    pixels = after.width * after.height
    facts = {
        "your file": f"{size:,} bytes", "compressed": f"{len(content):,} bytes", "bits a pixel": f"{8 * len(content) / pixels:.3f}",
        "JPEG nearest in bytes": _nearest_jpeg(upright(image), len(content)), "PSNR": f"{_psnr(upright(image), after):.2f} dB",
    }  # fmt: skip
    return Result(_shown(upright(image)), with_texts(after, {"Comment": line}), line, facts, content)


def _reconstruct(model: Any, folder: Path, image: Image.Image, name: str, size: int, options: dict[str, Any]) -> Result:
    how = artifact.preparation(model.description)
    array, _ = decode_image(image, model.spec.size, model.spec.channels, how["fit"], parse_color(how["background"]))
    before = np.ascontiguousarray(array.transpose(2, 0, 1))
    after = np.asarray(model.reconstruct(before[None]))[0]
    line = command("limner", "reconstruct", folder, name)
    return Result(with_texts(to_pil(before), {}), with_texts(to_pil(after), {"Comment": line}), line, {"size": str(model.spec)})


def _classify(model: Any, folder: Path, image: Image.Image, name: str, size: int, options: dict[str, Any]) -> Result:
    chances = model.classify(image)[0]
    order = np.argsort(-chances)[:TOP]
    shown = _shown(upright(image))
    return Result(shown, shown, command("limner", "classify", folder, name), {}, b"", [(model.classes[i], float(chances[i])) for i in order])


def _shown(image: Image.Image) -> bytes:
    """Return an image as a PNG for the page."""
    kept = image if image.mode in ("L", "RGB", "RGBA", "LA") else image.convert("RGBA" if "transparency" in image.info else "RGB")
    return with_texts(kept, {})


def _psnr(a: Image.Image, b: Image.Image) -> float:
    """Return the PSNR in dB of two images of one size, over RGB on white."""
    return psnr_of(*(np.asarray(convert_channels(x, 3, (255, 255, 255))).transpose(2, 0, 1) for x in (a, b)))


def _nearest_jpeg(image: Image.Image, target: int) -> str:
    """Return quality, size and PSNR of the JPEG whose size is closest to `target` bytes, by bisection over the quality."""
    rgb = convert_channels(image, 3, (255, 255, 255))

    def encoded(quality: int) -> bytes:
        buffer = io.BytesIO()
        rgb.save(buffer, "JPEG", quality=quality, optimize=True)
        return buffer.getvalue()

    low, high = 1, 100
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if len(encoded(middle)) <= target else (low, middle)
    quality = min((low, high), key=lambda q: abs(len(encoded(q)) - target))
    content = encoded(quality)
    return f"quality {quality}: {len(content):,} bytes, {_psnr(rgb, Image.open(io.BytesIO(content))):.2f} dB"
