"""Code that uses an exported file with numpy and onnxruntime alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from limner.apps.export.part import Part

PICTURES = """\
import numpy as np, onnxruntime
from PIL import Image
{imports}
model = onnxruntime.InferenceSession("{file}")
rng = np.random.default_rng(0)
feed = {{{feed}}}
pixels = (model.run(None, feed)[0] * 255).round().astype(np.uint8)  # [16,C,H,W]
sheet = np.concatenate([np.concatenate(list(row), 2) for row in np.split(pixels, 4)], 1)  # 4x4 pictures [C,4H,4W]
Image.fromarray(sheet.transpose(1, 2, 0).squeeze()).save("pictures.png")
"""
PICTURE = """\
import numpy as np, onnxruntime
from PIL import Image

model = onnxruntime.InferenceSession("{file}")
picture = np.asarray(Image.open("picture.png").convert("{mode}"){resize}, np.float32) / 255
made = model.run(None, {{"pixel_values": np.atleast_3d(picture).transpose(2, 0, 1)[None]}})[0][0]
{last}
"""
MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def snippet(part: Part, file: str, classes: Mapping[int, str] | Any = (), tokens: str = "") -> str:
    """Return about ten lines of Python that use a part; "" for one whose inputs are not for people.

    tokens: an expression for the tokens of 16 texts, which may call `encode` of a module `tokenizer`.
    """
    names = list(part.inputs)
    if names[0] == "z":
        feed = [f'"z": rng.standard_normal((16, {part.inputs["z"][1]}), np.float32)']
        if "chance" in names:
            feed.append('"chance": rng.random(16, np.float32)')
        if "label" in names:
            feed.append(f'"label": np.arange(16) % {max(1, len(classes))}')
        if "vector" in names:
            feed.append(f'"vector": rng.standard_normal((16, {part.inputs["vector"][1]}), np.float32)')
        if "tokens" in names:
            feed.append(f'"tokens": {tokens}')
        if set(names) - {"z", "chance", "label", "vector", "tokens", "truncation"} or ("tokens" in names and not tokens):
            return ""
        imports = "from tokenizer import encode\n" if tokens else ""
        return PICTURES.format(file=file, feed=", ".join(feed), imports=imports)
    if names != ["pixel_values"]:
        return ""
    axes = part.inputs["pixel_values"]
    resize = "" if isinstance(axes[3], str) else f".resize(({axes[3]}, {axes[2]}))"
    output, made = next(iter(part.outputs.items()))
    last = "print(made)"
    if output == "logits":
        last = f"print({list(classes)!r}[made.argmax()])"
    elif len(made) == 4:
        last = 'Image.fromarray((made * 255).round().astype(np.uint8).transpose(1, 2, 0).squeeze()).save("made.png")'
    return PICTURE.format(file=file, mode=MODES[int(axes[1])], resize=resize, last=last)
