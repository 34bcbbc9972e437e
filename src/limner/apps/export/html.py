"""One HTML file that runs a trained model offline, by double click: the weights, a runtime in WebAssembly and a page.

The page makes no request (its content security policy forbids all) and needs nothing beside it. It verifies itself: it computes an
example whose output PyTorch gave at export, and shows the largest difference.
"""

from __future__ import annotations

import base64
import copy
import html
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from limner.apps.autoencode import Autoencoder
from limner.apps.editing.axes import axes_of
from limner.apps.export.emulate import emulate
from limner.apps.export.freeze import freeze_reference
from limner.apps.export.lower import lower
from limner.apps.export.page_text import text_axes, text_facts
from limner.apps.export.program import Program, packed
from limner.apps.export.wrap import mixture_tables
from limner.apps.model import GeneratorModel
from limner.apps.restore import Restorer
from limner.apps.text import TextGenerator
from limner.apps.translate import Translator
from limner.core import artifact, latents
from limner.core.files import write_whole
from limner.data.image import parse_color
from limner.networks.contracts import StyleBased

TOLERANCE = 1e-4  # of the difference from PyTorch; the rounding of float32 gives some 1e-6
CHECKED = 1024    # numbers of the example's output that the page compares
GENERATOR: tuple[str, ...] = ("runtime.js", "numbers.js", "page.js", "generator.js", "walk.js")
TEXT: tuple[str, ...] = (*GENERATOR[:3], "text.js", *GENERATOR[3:])
TRANSLATOR: tuple[str, ...] = ("runtime.js", "numbers.js", "page.js", "translator.js", "drawing.js")
Progress = Callable[[int, int], None]  # (done, total)
Made = tuple[Program, dict[str, np.ndarray], np.ndarray]  # a program, example inputs, and PyTorch's output [h,w,c]


@dataclass(frozen=True)
class PageReport:
    """What was written.

    size: bytes of the file. error: the largest difference from PyTorch of an output, in [-1,1], with the weights as they are stored.
    weights: bytes of the networks' weights as float32. operators: of the programs, in all. notes: further sentences for people.
    """

    path: Path
    size: int
    error: float
    weights: int
    operators: int
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return (
            f"{self.path} has {self.size / 1e6:.1f} MB and differs from PyTorch by at most {self.error:.1g}; it opens in any browser, "
            "without a network."
        )


def write(model: Any, out: Path, *, bits: int = 24, progress: Progress | None = None) -> PageReport:
    """Write a model as one HTML page that runs offline.

    Parameters
    ----------
    model
        What `limner.load` returned: a GeneratorModel, a TextGenerator, an Autoencoder with a prior, a Translator, or a Restorer (but
        one that fills holes).
    out
        The .html file.
    bits
        Of each stored weight: 24 is as exact as float32; 16 or 8 make a smaller file whose pictures differ, by how much the page
        shows.
    progress
        Called with (done, total) steps.

    Raises
    ------
    ValueError
        For another kind of model, another suffix, a network with an operator that the runtime lacks, and a program that differs
        from PyTorch.
    """
    if out.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"A page is written to a .html file, not to {out.name!r}.")
    if bits not in (8, 16, 24):
        raise ValueError(f"Weights are stored with 8, 16 or 24 bits, not {bits}.")
    if isinstance(model, GeneratorModel):
        facts, made, weights = _generator(model, progress)
        template, scripts = "generator.html", GENERATOR
    elif isinstance(model, TextGenerator):
        facts, made, weights = _text_generator(model, progress)
        template, scripts = "generator.html", TEXT
    elif isinstance(model, Translator | Restorer):
        facts, made, weights = _translator(model)
        template, scripts = "translator.html", TRANSLATOR
    else:
        kind = getattr(model, "description", {}).get("kind", type(model).__name__)
        raise ValueError(f"A {kind} has no page: export a generator, a translator or a restorer.")
    facts |= {"card": card(model.description), "bits": bits, "programs": []}
    blocks, error = [], 0.0
    for i, (program, inputs, expected) in enumerate(made):
        found = float(np.abs(emulate(program, inputs, bits) - expected).max())
        error = max(error, found)
        if bits == 24 and found > TOLERANCE * max(1, float(np.abs(expected).max())):
            raise ValueError(f"The page would differ from PyTorch by {found:.1g}, so none is written: report this model's architecture.")
        words, blob = packed(program, bits)
        facts["programs"].append({
            "inputs": program.inputs, "output": program.output, "size": program.buffers[program.output].size,
            "fixed": program.fixed,
        })  # fmt: skip
        blocks += [(f"words-{i}", words), (f"blob-{i}", blob)]
    page = assembled(template, scripts, title(model.description), facts, [("wasm", resource("runtime/runtime.wasm")), *blocks])
    write_whole(out, page)
    return PageReport(out, len(page.encode()), error, weights, sum(len(program.ops) for program, *_ in made))


# ---- models ----------------------------------------------------------------------------------------------------------


class _Truncated(nn.Module):
    """A style-based generator with truncation and moves of the style as inputs: z [1,Z], (class [1],) mean style [1,W], psi [1,1],
    shift [1,W] -> [1,C,H,W]"""

    def __init__(self, network: nn.Module, classes: int) -> None:
        super().__init__()
        self.network, self.classes = network, classes

    def forward(self, z: Tensor, *rest: Tensor) -> Tensor:
        network: Any = self.network
        c, mean, psi, shift = rest if self.classes else (None, *rest)
        w = mean + psi * (network.mapping(z, c) + shift - mean)
        return network.synthesis(w[:, None].expand(-1, network.layers, -1))


def _plain(network: nn.Module) -> Any:
    """Return a copy of a network on the CPU, in float32 and evaluation mode."""
    return copy.deepcopy(network).to("cpu", torch.float32, memory_format=torch.contiguous_format).eval().requires_grad_(False)  # type: ignore[call-overload]


def _weights(network: nn.Module) -> int:
    return sum(4 * t.numel() for t in network.state_dict().values())


def _generator(model: GeneratorModel, progress: Progress | None) -> tuple[dict[str, Any], list[Made], int]:
    condition = model.spec.condition
    if condition.kind not in ("none", "classes"):
        raise ValueError(f"This model is conditioned on {condition}; a page offers classes only.")
    network, k = _plain(model.network), model.spec.classes
    styled, prior = isinstance(network, StyleBased), model.autoencoder.prior if isinstance(model, Autoencoder) else None
    inputs: dict[str, Tensor] = {"z": torch.from_numpy(model.latents(1, np.random.default_rng(1), np.array([k - 1]) if k else None))}
    if k and prior is None:
        inputs["classes"] = torch.tensor([k - 1])
    freeze_reference(network, tuple(inputs.values()))
    whole: nn.Module = network
    facts: dict[str, Any] = {}
    if styled:
        model.calibrate(np.arange(k) if k else None)
        means = np.stack([model._mean_styles[i].cpu().numpy() for i in (range(k) if k else [-1])])
        inputs |= {"mean": torch.from_numpy(means[-1:]), "psi": torch.ones(1, 1), "shift": torch.zeros_like(torch.from_numpy(means[-1:]))}
        whole, facts["means"] = _Truncated(network, k), encoded(means)
    if prior is not None:
        ends, inverses = mixture_tables(prior)
        facts["prior"] = {name: encoded(table.numpy()) for name, table in (("ends", ends), ("means", prior.means.cpu()), ("inverses", inverses))}
    program = lower(whole, inputs)
    with torch.no_grad():
        example = whole(*inputs.values())

    axes = axes_of(model, progress=progress)
    facts |= _common(model, axes.steps, axes.shares, inputs["z"], example)
    facts |= {"classes": [model.classes[i] if i < len(model.classes) else str(i) for i in range(k)], "styled": styled}
    given = {name: np.eye(k)[k - 1 :] if name == "classes" else tensor.numpy() for name, tensor in inputs.items()}
    return facts, [(program, given, _rows(example))], _weights(network) + (0 if prior is None else _weights(prior))


def _text_generator(model: TextGenerator, progress: Progress | None) -> tuple[dict[str, Any], list[Made], int]:
    if model.spec.condition.kind != "tokens":
        raise ValueError("This model takes frozen vectors of words, which a page does not hold: sample it with Limner.")
    if cast(Any, model.network).pictures.attention:
        raise ValueError("A page reads texts without attention to words: export this model as .onnx.")
    network = _plain(model.network)
    z = latents.transform(torch.from_numpy(latents.normal(np.random.default_rng(1), 1, model.z_size)), model.noise)
    with torch.no_grad():
        sentence = network.encoder(model.tokenizer.encode(model.captions[:1]))
        example = network.pictures(z, sentence)
    program = lower(network.pictures, {"z": z, "sentence": sentence})
    steps, shares = text_axes(model, network, progress)
    facts = _common(model, steps, shares, z, example) | {"classes": [], "styled": False, "text": text_facts(model, encoded)}
    return facts, [(program, {"z": z.numpy(), "sentence": sentence.numpy()}, _rows(example))], _weights(network)


def _common(model: Any, steps: np.ndarray, shares: np.ndarray, z: Tensor, example: Tensor) -> dict[str, Any]:
    """Return the facts of the pages of all generators. z, example: a latent as the network takes it, and its picture in PyTorch."""
    return {
        "z": model.z_size, "noise": model.noise, "channels": model.spec.channels, "height": model.spec.height, "width": model.spec.width,
        "axes": encoded(steps), "shares": [round(float(s), 4) for s in shares], "check": {"z": encoded(z.numpy()), **_sampled(example)},
    }  # fmt: skip


def _translator(model: Translator | Restorer) -> tuple[dict[str, Any], list[Made], int]:
    if isinstance(model, Restorer):
        if model.fills_holes:
            raise ValueError("A restorer that fills holes needs a mask, which a page does not offer: use `limner restore`.")
        networks: Mapping[str, nn.Module] = {model.task: model.network}
    else:
        networks = {name: model.networks[name] for name in model.directions}
    facts: dict[str, Any] = {
        "names": list(networks), "channels": model.spec.channels, "side": max(model.spec.size), "checks": [],
        "restorer": isinstance(model, Restorer), "inputs": model.spec.channels, "scale": 1,
        "background": "#" + bytes(parse_color(artifact.preparation(model.description)["background"])).hex(),
    }  # fmt: skip
    made: list[Made] = []
    weights = 0
    for network in map(_plain, networks.values()):
        multiple = int(getattr(network, "multiple", 4))
        least = -(-max(int(network.least), multiple) // multiple) * multiple
        h, w = (max(least, -(-side // multiple) * multiple) for side in model.spec.size)
        facts |= {"inputs": int(getattr(network, "inputs", model.spec.channels)), "scale": int(getattr(network, "scale", 1))}
        x = test_picture(h, w, facts["inputs"])
        with torch.no_grad():
            example = network(x)
        made.append((lower(network, {"x": x}, picture=True), {"x": _rows(x)}, _rows(example)))
        facts["checks"].append({"height": h, "width": w, **_sampled(example)})
        facts |= {"multiple": multiple, "least": least}
        weights += _weights(network)
    return facts, made, weights


def test_picture(h: int, w: int, channels: int) -> Tensor:
    """Return the picture [1,C,h,w] that a translator is checked with: sin(i / 10), i counts rows, columns, channels."""
    index = np.arange(h * w * channels, dtype=np.float64)
    return torch.from_numpy(np.sin(index / 10).astype(np.float32).reshape(1, h, w, channels)).permute(0, 3, 1, 2).contiguous()


def _rows(picture: Tensor) -> np.ndarray:
    """[1,C,H,W] -> [H,W,C]"""
    return np.ascontiguousarray(picture[0].permute(1, 2, 0).numpy())


def _sampled(picture: Tensor) -> dict[str, Any]:
    """Return CHECKED numbers of an output [1,C,H,W] in the order of rows, columns, channels, evenly spaced."""
    flat = _rows(picture).reshape(-1)
    step = max(1, len(flat) // CHECKED)
    return {"step": step, "expected": encoded(flat[::step])}


# ---- the page --------------------------------------------------------------------------------------------------------


def encoded(array: np.ndarray) -> str:
    """Return float32 numbers in base64."""
    return base64.b64encode(np.ascontiguousarray(array, "<f4").tobytes()).decode()


def title(description: Mapping[str, Any]) -> str:
    kind = description["kind"]
    return f"{description['data']['name']}: {kind if kind == 'generator' else description['recipe']['name']}"


def card(description: Mapping[str, Any]) -> list[list[str]]:
    """Return the facts of a model card that a page shows, as pairs of texts."""
    data, training = description["data"], description.get("training") or {}
    spec = data["spec"]
    channels = {1: "gray", 3: "RGB", 4: "RGBA"}[spec["channels"]]
    rows = [
        ["Kind", f"{str(description['kind']).capitalize()}, {spec['height']}×{spec['width']} {channels}"],
        ["Recipe", str(description["recipe"]["name"])],
        ["Trained on", f"{data['origin']}, {data['count']:,} pictures"],
    ]
    if data.get("attribution"):
        rows.append(["Pictures by", str(data["attribution"])])
    if training.get("images"):
        rows.append(["Training", f"{training['images']:,} images seen, seed {training.get('seed', 0)}"])
    rows += [[name, f"{value:,}"] for name, value in (description.get("metrics") or {}).items() if isinstance(value, int | float)]
    rows.append(["License", str(description.get("license") or "not stated: ask who made this file")])
    return [*rows, ["Made with", f"Limner {description['limner']}"]]


@cache
def resource(name: str) -> bytes:
    return files("limner.apps.export").joinpath(name).read_bytes()


def in_script(document: Any) -> str:
    """Return JSON that may stand inside a script element: no text in it can close the element or open a comment."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def assembled(template: str, scripts: tuple[str, ...], name: str, facts: Mapping[str, Any], blocks: list[tuple[str, bytes]]) -> str:
    """Return the whole page: the template with its title, style, data and one classic script."""
    data = [f'<script type="application/json" id="facts">{in_script(facts)}</script>']
    data += [f'<script type="text/plain" id="{key}">{base64.b64encode(content).decode()}</script>' for key, content in blocks]
    script = "\n".join(resource(f"page/{part}").decode() for part in scripts)
    parts = {
        "title": html.escape(name), "style": resource("page/page.css").decode(), "data": "\n".join(data), "script": script,
    }  # fmt: skip
    page = resource("page/frame.html").decode().replace("{{main}}", resource(f"page/{template}").decode())
    for key, content in parts.items():
        before, marker, after = page.partition("{{" + key + "}}")
        assert marker, key
        page = before + content + after
        if key == "title":  # it stands in the head and in the heading
            page = page.replace("{{title}}", content)
    return page
