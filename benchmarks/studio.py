"""The studio in a browser: from the click to the first sheet, from a slider to its pixels, and what an open page costs a training.

    python benchmarks/studio.py drag runs/fashion            300 slider events; --training also while a training runs
    python benchmarks/studio.py start                        from the click to the first sheet of both samples
    python benchmarks/studio.py cost                         CPU time of a training with and without a page that watches it

Run it on a machine with nothing else to do. `cost` compares the CPU time of the training process for the same images, in turns,
which other programs disturb least; with few cores the wall time shows what the page takes away, and is printed too.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "apps" / "studio"))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from test_browser import CHROMIUM, drag

from limner.apps.studio.launch import identity
from limner.core import process
from studio_process import PROGRAM, serving, until


@contextmanager
def page_of(**options: Any) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900}, **options)
        page.set_default_timeout(180_000)
        yield page
        browser.close()


def percentiles(values: list[float]) -> str:
    ordered = sorted(values)
    p95 = ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]
    return f"median {statistics.median(ordered):.1f} ms, p95 {p95:.1f} ms, longest {ordered[-1]:.1f} ms of {len(ordered)} frames"


def benchmark_drag(run: Path, training: bool) -> None:
    """Print the times from a slider's event to its pixels."""
    with tempfile.TemporaryDirectory() as folder:
        home, busy = Path(folder) / "runs", None
        shutil.copytree(run, home / run.name)
        with serving(home, Path(folder) / "cache") as (address, _), page_of() as page:
            if training:
                busy = subprocess.Popen([*PROGRAM, "train", "fashion", "--minutes", "10", "--out", str(home / "busy"), "--quiet"])
                until(lambda: (home / "busy" / "log.jsonl").exists())
            page.goto(f"{address}#/run/{identity(home / run.name)}/explore")
            page.locator(".strip canvas").first.wait_for()
            time.sleep(2)
            drag(page, 60)  # warm
            print(f"{run.name}{', while training' if training else ''}: {percentiles(drag(page))}")
        if busy:
            busy.terminate()
            busy.wait()


def benchmark_start() -> None:
    """Print the seconds from the click to the first sheet."""
    for sample in ("Fashion", "Emoji"):
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder) / "runs"
            with serving(home, Path(folder) / "cache") as (address, _), page_of() as page:
                page.goto(address)
                page.locator("a.sample", has_text=sample).click()
                page.locator("form .big").wait_for()
                page.locator(".command code", has_text="--minutes").wait_for()
                time.sleep(6)  # a person looks at the pictures first; the process that will train is loading meanwhile
                began = time.monotonic()
                page.locator("form .big").click()
                sheet = page.locator("img.sheet:not([hidden])")
                sheet.wait_for()
                until(lambda: sheet.evaluate("image => image.naturalWidth") > 100)  # noqa: B023
                print(f"{sample}: {time.monotonic() - began:.1f} s from the click to the first sheet")
            if (number := process.find(home / sample.lower())) is not None:
                os.kill(number, 2)
                until(lambda: process.find(home / sample.lower()) is None)  # noqa: B023


def benchmark_cost(images: int, rounds: int) -> None:
    """Print the CPU and wall time of a training with and without a page open on it, in turns."""
    found: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "runs"
        with serving(home, Path(folder) / "cache") as (address, _), page_of() as page:
            for turn in range(2 * rounds):
                watched, out = turn % 2 == 1, home / f"run-{turn}"
                page.goto("about:blank")
                before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
                child = subprocess.Popen([*PROGRAM, "train", "fashion", "--images", str(images), "--threads", "1", "--out", str(out), "--quiet"])
                if watched:
                    until(lambda: (out / "run.json").exists())  # noqa: B023
                    page.goto(f"{address}#/run/{identity(out)}/watch")
                child.wait()
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
                cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
                found[watched].append((cpu, time.monotonic() - began))
                print(f"{'with the page' if watched else 'alone'}: {found[watched][-1][0]:.1f} s of CPU time, {found[watched][-1][1]:.1f} s", flush=True)
    for i, what in enumerate(("CPU time", "wall time")):
        ratio = statistics.median(with_page[i] / alone[i] for alone, with_page in zip(found[False], found[True], strict=True))
        print(f"{what} with the page open / alone: {ratio:.3f} (median of {rounds} pairs)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("drag", "start", "cost"))
    parser.add_argument("run", nargs="?", type=Path)
    parser.add_argument("--training", action="store_true")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    if given.what == "drag":
        assert given.run, "give the folder of a trained generator"
        benchmark_drag(given.run, given.training)
    elif given.what == "start":
        benchmark_start()
    else:
        benchmark_cost(given.images, given.rounds)
