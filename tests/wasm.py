"""The WebAssembly runtime of exported pages, run in Node.js."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from limner.apps.export.emulate import emulate
from limner.apps.export.html import resource
from limner.apps.export.lower import lower
from limner.apps.export.program import Program, packed

needs_node = pytest.mark.skipif(not shutil.which("node"), reason="node is missing: apt install nodejs")

SCRIPT = """
const fs = require("fs"), folder = process.argv[2], read = (name) => fs.readFileSync(`${folder}/${name}`);
(async () => {
  const facts = JSON.parse(read("facts.json")), network = await Network.load(read("wasm"), read("words"), read("blob"), facts);
  const numbers = [];
  facts.sizes.forEach(([height, width], i) => {
    network.plan(height, width);
    for (const name in facts.inputs) network.input(name).set(new Float32Array(new Uint8Array(read(`${name}-${i}`)).buffer));
    for (const number of network.run()) numbers.push(number);
    if (numbers.at(-1) !== network.run().at(-1)) throw new Error("a second run differs");
  });
  fs.writeFileSync(`${folder}/out`, new Uint8Array(Float32Array.from(numbers).buffer));
  console.log(network.arena);
})();
"""


def run(program: Program, calls: list[Mapping[str, np.ndarray]], sizes: list[tuple[int, int]] | None = None,
        bits: int = 24, wasm: bytes = b"") -> tuple[np.ndarray, int]:  # fmt: skip
    """Return the outputs of calls, each of inputs by name, behind each other, and the bytes of the last plan's arena."""
    words, blob = packed(program, bits)
    facts = {"inputs": program.inputs, "output": program.output, "sizes": sizes or [(0, 0)] * len(calls)}
    with TemporaryDirectory() as name:
        folder = Path(name)
        files = {"wasm": wasm or resource("runtime/runtime.wasm"), "words": words, "blob": blob, "facts.json": json.dumps(facts).encode()}
        files["run.js"] = resource("page/runtime.js") + SCRIPT.encode()
        for i, call in enumerate(calls):
            files |= {f"{key}-{i}": np.ascontiguousarray(array, np.float32).tobytes() for key, array in call.items()}
        for key, content in files.items():
            (folder / key).write_bytes(content)
        done = subprocess.run(["node", str(folder / "run.js"), name], capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr[-2000:]
        return np.frombuffer((folder / "out").read_bytes(), np.float32), int(done.stdout)


def rows(x: Tensor) -> np.ndarray:
    """[1,C,H,W] -> [H,W,C]; other tensors as they are"""
    return (x[0].permute(1, 2, 0) if x.ndim == 4 else x).detach().numpy()


class Applied(nn.Module):
    """A function as a network."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def error(network: Any, x: Tensor, bits: int = 24) -> float:
    """Return the largest difference between the runtime and PyTorch in float64, relative to the largest output."""
    network = (network if isinstance(network, nn.Module) else Applied(network)).eval().requires_grad_(False)
    program = lower(network, {"x": x}, picture=x.ndim == 4)
    made, _ = run(program, [{"x": rows(x)}], [tuple(x.shape[-2:])] if x.ndim == 4 else None, bits)  # type: ignore[list-item]
    with torch.no_grad():
        want = rows(network.double()(x.double())).ravel()
    assert made.shape == want.shape
    emulated = emulate(program, {"x": rows(x)}, bits).ravel()
    assert np.abs(made - emulated).max() < 4e-6 * max(1, np.abs(want).max()), "the emulation is of this runtime"
    return float(np.abs(made - want).max() / max(1, np.abs(want).max()))
