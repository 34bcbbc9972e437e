"""What an exported page costs in a browser: its size, its first picture, its speed, its difference from PyTorch.

    python benchmarks/export_browser.py RUN... [--ort FOLDER] [--rounds 5] [--chromium /usr/bin/chromium]

Each run's page is opened from file:// with the network off in headless Chromium, several times; the best is kept, as a busy machine
only adds time. CPU time a picture is that of the page's process, which a busy machine hardly changes. With --ort (the unpacked npm package onnxruntime-web 1.30: `npm pack onnxruntime-web@1.30`), the same network is
exported to ONNX and inlined with that runtime in a page of its own, one thread like ours. Also prints PyTorch's time on one
thread. A picture is one of batch 1, from the latent to numbers. Writes results/export_browser.json.

Needs playwright and Chromium; --ort also onnx and onnxscript.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import json
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from playwright.sync_api import Browser, sync_playwright

import limner
from limner.apps.export.html import _plain, encoded, write
from limner.core import latents

RESULTS = Path(__file__).parent / "results"

# The loop that both pages time: milliseconds of the fastest call, and pictures a second of the fastest half second.
TIMED = """
async (seconds) => {
  const z = new Float32Array(facts.z).map(() => Math.random() - 0.5);
  let best = Infinity, most = 0, all = 0;
  for (let round = 0; round < 6; round++) {
    const began = performance.now();
    let count = 0, now = began;
    while (now - began < 1000 * seconds) {
      const call = performance.now();
      const made = picture(z);
      if (made instanceof Promise) await made;
      now = performance.now();
      best = Math.min(best, now - call);
      count++, all++;
    }
    most = Math.max(most, (1000 * count) / (now - began));
  }
  return { ms: best, per_second: most, count: all };
}"""

ORT = """<!doctype html><meta charset="utf-8"><title>ort</title><script>%(js)s</script>
<script type="text/plain" id="mjs">%(mjs)s</script><script type="text/plain" id="wasm">%(wasm)s</script>
<script type="text/plain" id="model">%(model)s</script><script>
const facts = %(facts)s, text = (id) => document.getElementById(id).textContent;
const bytes = (s) => Uint8Array.fromBase64 ? Uint8Array.fromBase64(s) : Uint8Array.from(atob(s), (c) => c.charCodeAt(0));
const inflate = async (b) => new Uint8Array(await new Response(new Blob([b]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer());
let session;
async function picture(z, label = facts.classes - 1) {
  const feeds = { z: new ort.Tensor("float32", z, [1, z.length]) };
  if (facts.classes) feeds.c = new ort.Tensor("int64", BigInt64Array.from([BigInt(label)]), [1]);
  return (await session.run(feeds)).out.data;
}
(async () => {
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmBinary = await inflate(bytes(text("wasm")));
  ort.env.wasm.wasmPaths = { mjs: URL.createObjectURL(new Blob([await inflate(bytes(text("mjs")))], { type: "text/javascript" })) };
  session = await ort.InferenceSession.create(bytes(text("model")), { executionProviders: ["wasm"], graphOptimizationLevel: "all" });
  const made = await picture(new Float32Array(bytes(facts.latent).buffer));
  performance.mark("first-picture");
  const want = new Float32Array(bytes(facts.expected).buffer);
  facts.error = want.reduce((most, value, i) => Math.max(most, Math.abs(value - made[i])), 0);
})().catch((error) => (facts.failed = String(error)));
</script>"""

OURS = "window.picture = (z) => generate(z, weightsOf(count - 1)); facts.noise = 'normal'"


def cpu_seconds(browser: Browser) -> float:
    """Return the CPU time of all pages' processes so far."""
    session = browser.new_browser_cdp_session()
    found = session.send("SystemInfo.getProcessInfo")["processInfo"]
    session.detach()
    return sum(process["cpuTime"] for process in found if process["type"] == "renderer")


def cpu_to_first_picture(browser: Browser, page_file: Path, rounds: int) -> float:
    """Return the milliseconds of CPU time from opening a page to its first picture, where it stops; less those of an empty page."""
    marked, found = 'performance.mark("first-picture");', []
    stopping, empty = page_file.with_name("stopping.html"), page_file.with_name("empty.html")
    stopping.write_text(page_file.read_text().replace(marked, f'{marked} facts.error = 0; throw new Error("enough");'))
    empty.write_text("<!doctype html><title>empty</title><script>const facts = { error: 0 };</script>")
    for path in [empty, stopping] * rounds:
        context = browser.new_context(offline=True)
        page = context.new_page()
        before = cpu_seconds(browser)
        page.goto(path.as_uri())
        while not page.evaluate("typeof facts !== 'undefined' && (facts.error !== undefined || !!facts.failed)"):
            page.wait_for_timeout(20)
        found.append(1000 * (cpu_seconds(browser) - before))
        context.close()
    return max(0.0, min(found[1::2]) - min(found[::2]))


def best_of(browser: Browser, page_file: Path, rounds: int, prepare: str = "") -> dict[str, float]:
    """Return the best first-picture time, time a picture, and the difference, over several fresh pages."""
    found: list[dict[str, float]] = []
    for _ in range(rounds):
        context = browser.new_context(offline=True)
        page = context.new_page()
        page.goto(page_file.as_uri())
        for _ in range(600):
            if page.evaluate("facts.error !== undefined || facts.failed"):
                break
            page.wait_for_timeout(50)
        if failed := page.evaluate("facts.failed"):
            raise ValueError(f"{page_file.name} failed: {failed}")
        page.wait_for_timeout(1500)  # what the page does on its own is over
        if prepare:
            page.evaluate(prepare)
        before = cpu_seconds(browser)
        timed = page.evaluate(TIMED.strip().removesuffix("}") + "}", 0.5)
        timed["cpu_ms"] = 1000 * (cpu_seconds(browser) - before) / timed["count"]
        first = page.evaluate("performance.getEntriesByName('first-picture')[0].startTime")
        found.append({"first_ms": first, "error": page.evaluate("facts.error"), **timed})
        context.close()
    return {
        "first_ms": min(f["first_ms"] for f in found), "first_cpu_ms": cpu_to_first_picture(browser, page_file, rounds),
        "ms": min(f["ms"] for f in found), "cpu_ms": min(f["cpu_ms"] for f in found),
        "per_second": max(f["per_second"] for f in found), "error": max(f["error"] for f in found),
    }  # fmt: skip


def ort_page(model: Any, package: Path, out: Path) -> None:
    """Write a page with onnxruntime-web and the model inlined, its runtime compressed."""
    network, k = _plain(model.network), model.spec.classes
    z = torch.from_numpy(latents.normal(np.random.default_rng(1), 1, model.z_size))
    inputs = (z, torch.tensor([k - 1])) if k else (z,)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "model.onnx"
        torch.onnx.export(network, inputs, path, input_names=["z", "c"][: len(inputs)], output_names=["out"], dynamo=True,
                          external_data=False, verbose=False)  # fmt: skip
        content = path.read_bytes()

    def packed(name: str) -> str:
        return base64.b64encode(gzip.compress((package / "dist" / name).read_bytes(), 9)).decode()

    facts = {"z": model.z_size, "classes": k, "latent": encoded(z.numpy()), "expected": encoded(network(*inputs).numpy())}
    out.write_text(ORT % {
        "js": (package / "dist/ort.wasm.min.js").read_text().replace("</script", "<\\/script"),
        "mjs": packed("ort-wasm-simd-threaded.mjs"), "wasm": packed("ort-wasm-simd-threaded.wasm"),
        "model": base64.b64encode(content).decode(), "facts": json.dumps(facts),
    })  # fmt: skip


@torch.no_grad()
def pytorch(model: Any) -> float:
    """Return the milliseconds of CPU time that PyTorch takes for a picture in float32, the best of several rounds."""
    torch.set_num_threads(1)
    network, k = _plain(model.network).to(memory_format=torch.channels_last), model.spec.classes
    z, c = torch.randn(1, model.z_size), torch.zeros(1, dtype=torch.long) if k else None
    best = float("inf")
    for _ in range(20):
        started = time.process_time()
        for _ in range(20):
            network(z, c)
        best = min(best, (time.process_time() - started) / 20)
    return 1000 * best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--ort", type=Path, help="the unpacked npm package onnxruntime-web")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with sync_playwright() as play, tempfile.TemporaryDirectory() as folder:
        browser = play.chromium.launch(executable_path=options.chromium, args=["--no-sandbox"])
        for run in options.runs:
            model = limner.load(run, "cpu")
            page = Path(folder) / "page.html"
            report = write(model, page)
            row = {"run": run.name, "spec": str(model.spec), "runtime": "limner", "bytes": report.size, "weights": report.weights}
            rows.append(row | best_of(browser, page, options.rounds, OURS) | {"pytorch_ms": pytorch(model)})
            if options.ort:
                ort_page(model, options.ort, page)
                row |= {"runtime": "onnxruntime-web", "bytes": page.stat().st_size}
                rows.append(row | best_of(browser, page, options.rounds))
        browser.close()
    print(f"{'run':12} {'runtime':16} {'MB':>6} {'of weights':>10} {'first ms':>9} {'CPU':>6} {'ms':>7} {'CPU ms':>7} {'a second':>9} {'difference':>11}")
    for row in rows:
        print(f"{row['run']:12} {row['runtime']:16} {row['bytes'] / 1e6:6.2f} {row['bytes'] / row['weights']:10.2f} {row['first_ms']:9.0f} "
              f"{row['first_cpu_ms']:6.0f} "
              f"{row['ms']:7.2f} {row['cpu_ms']:7.2f} {row['per_second']:9.0f} {row['error']:11.1e}")  # fmt: skip
        if "pytorch_ms" in row:
            print(f"{'':12} {'PyTorch, CPU':16} {'':6} {'':10} {'':9} {'':6} {'':7} {row['pytorch_ms']:7.2f}")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "export_browser.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
