"""The page in a browser: from an empty start to a live sheet, a slider drag, kills of the server and of the browser."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from limner.apps.studio.launch import Launches, identity
from limner.apps.studio.runs import Runs
from limner.core import process
from studio_process import serving, until

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: `apt-get install chromium` adds it"),
    pytest.mark.timeout(600),
]
SECONDS = 180_000  # milliseconds that an element may take on a busy machine


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: `pip install playwright`; it needs no download beside Chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Watched:
    """A page whose requests and errors are kept."""

    def __init__(self, browser: Any, **options: Any) -> None:
        self.context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(SECONDS)
        self.hosts: set[str] = set()
        self.errors: list[str] = []
        self.context.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc) if request.url.startswith("http") else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" and "ERR_CONNECTION" not in message.text else None)


def test_from_an_empty_start_to_a_live_sheet_and_back_after_kills(browser: Any, tmp_path: Path) -> None:
    """A sample is chosen and trained; the server is killed, then the browser: the training goes on and is found again."""
    home = tmp_path / "runs"
    watched = Watched(browser)
    page = watched.page
    with serving(home, tmp_path / "cache") as (address, server):
        page.goto(address)
        page.get_by_text("Nothing has been trained here yet").wait_for()
        page.locator("a.sample", has_text="Fashion").click()
        page.locator("form .big").wait_for()
        page.fill("input[name=minutes]", "30")
        page.locator(".command code", has_text="--minutes 30").wait_for()
        page.locator("form .big").click()
        sheet = page.locator("img.sheet:not([hidden])")
        until(lambda: sheet.evaluate("image => image.naturalWidth") > 100)
        assert page.locator(".command code").inner_text() == f"limner train fashion --minutes 30 --out {home / 'fashion'}"
        assert page.locator("img.sheet").get_attribute("alt") == "Sheet of fixed inputs after 0 images"
        assert watched.hosts == {urlsplit(address).netloc} and not watched.errors
        server.send_signal(signal.SIGKILL)
        server.wait(20)
    number = until(lambda: process.find(home / "fashion"))
    watched.context.close()
    try:
        with serving(home, tmp_path / "cache") as (address, _):
            watched = Watched(browser)
            page = watched.page
            page.goto(f"{address}#/run/{identity(home / 'fashion')}/watch")
            page.locator(".pill", has_text="training").wait_for()
            assert process.find(home / "fashion") == number
            page.locator(".plot path").first.wait_for()  # the log has been read
            page.get_by_role("button", name="Pause").click()
            page.locator(".pill", has_text="paused").wait_for()
            assert process.find(home / "fashion") is None and (home / "fashion" / "checkpoint" / "latest.safetensors").exists()
            page.get_by_role("button", name="Resume").wait_for()
            assert not watched.errors
            watched.context.close()
    finally:
        if (left := process.find(home / "fashion")) is not None:
            os.kill(left, signal.SIGKILL)
    assert Runs([home], Launches(home, [])).describe(home / "fashion")["images"] > 0


DRAG = """async ({ index, values }) => {
  const canvas = document.querySelector("canvas.picture");
  const input = document.querySelectorAll(".controls .slider input")[index];
  const seen = [];
  const listener = (event) => seen.push(event.detail);
  canvas.addEventListener("drawn", listener);
  for (const value of values) {
    input.value = value;
    input.dispatchEvent(new Event("input", { bubbles: true }));
    await new Promise((resolve) => setTimeout(resolve, 4));
  }
  const last = values.at(-1);
  while (!seen.length || (seen.at(-1).state.axes[index + 1] ?? 0) !== last) await new Promise((resolve) => setTimeout(resolve, 20));
  await new Promise((resolve) => setTimeout(resolve, 400));
  canvas.removeEventListener("drawn", listener);
  return { frames: seen.map((one) => [one.number, one.state.axes[index + 1] ?? 0, one.milliseconds]), picture: canvas.toDataURL() };
}"""
SET = """async ({ index, value }) => {
  const input = document.querySelectorAll(".controls .slider input")[index];
  const canvas = document.querySelector("canvas.picture");
  const drawn = new Promise((resolve) => canvas.addEventListener("drawn", resolve, { once: true }));
  input.value = value;
  input.dispatchEvent(new Event("input", { bubbles: true }));
  await drawn;
  return canvas.toDataURL();
}"""


def drag(page: Any, count: int = 300) -> list[float]:
    """Drag the first slider by `count` events; return the milliseconds from a slider's event to its pixels, for each frame."""
    values = [round(-3 + 6 * i / (count - 1), 2) for i in range(count)]
    made = page.evaluate(DRAG, {"index": 0, "values": values})
    numbers, drawn, milliseconds = zip(*made["frames"], strict=True)
    assert list(numbers) == sorted(numbers) and list(drawn) == sorted(drawn), "frames came out of order"
    assert drawn[-1] == values[-1], "the last frame is not the last value"
    page.evaluate(SET, {"index": 0, "value": 0})
    assert page.evaluate(SET, {"index": 0, "value": values[-1]}) == made["picture"], "the last frame is not the last value's picture"
    return list(milliseconds)


def test_after_a_drag_of_300_events_the_last_frame_is_the_last_value(browser: Any, home: Path, tmp_path: Path) -> None:
    with serving(home, tmp_path / "cache") as (address, _):
        watched = Watched(browser)
        page = watched.page
        page.goto(f"{address}#/run/{identity(home / 'squares')}/explore")
        page.locator(".strip canvas").first.wait_for()
        frames = drag(page)
        assert 1 <= len(frames) <= 300
        line = page.locator(".command code").inner_text()
        assert line.endswith("--axis 1=3"), line
        assert watched.hosts == {urlsplit(address).netloc} and not watched.errors
        watched.context.close()


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_at_320_pixels_nothing_is_cut_off_and_all_controls_have_names(browser: Any, home: Path, tmp_path: Path, scheme: str) -> None:
    with serving(home, tmp_path / "cache") as (address, _):
        watched = Watched(browser, color_scheme=scheme, reduced_motion="reduce")
        page = watched.page
        page.set_viewport_size({"width": 320, "height": 700})
        run = identity(home / "squares")
        for place, ready in (("#/", "a.run"), (f"#/run/{run}/watch", ".plot path"), (f"#/run/{run}/explore", ".strip canvas"), (f"#/run/{run}/map", ".landmark canvas"), ("#/new?source=emoji", "form .big")):
            page.goto(address + place)
            page.locator(ready).first.wait_for()
            assert page.evaluate("document.documentElement.scrollWidth") <= 320, place
            unnamed = page.evaluate("""() => [...document.querySelectorAll("button, a[href], input, select, [role=application]")].filter((one) => one.checkVisibility()).filter((one) =>
                !(one.labels?.length || one.getAttribute("aria-label") || one.textContent.trim() || one.type === "submit")).map((one) => one.outerHTML)""")
            assert not unnamed, (place, unnamed)
        assert not watched.errors
        watched.context.close()


def test_the_page_works_by_keyboard_alone(browser: Any, home: Path, tmp_path: Path) -> None:
    with serving(home, tmp_path / "cache") as (address, _):
        watched = Watched(browser)
        page = watched.page
        page.goto(address)
        page.locator("a.run").wait_for()
        page.keyboard.press("Tab")
        for _ in range(40):
            if page.evaluate("document.activeElement.matches('a.run')"):
                break
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none", page.evaluate("document.activeElement.outerHTML")
            page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.locator("nav.tabs a", has_text="Map").focus()
        page.keyboard.press("Enter")
        page.locator(".landmark canvas").first.wait_for()
        page.locator(".map").focus()
        for key in ("ArrowRight", "ArrowRight", "ArrowUp", "Shift+ArrowUp"):
            page.keyboard.press(key)
        page.locator(".command code", has_text="--at 0.2,0.6").wait_for()
        assert page.locator("#status").inner_text() == "0.20, 0.60"
        assert not watched.errors
        watched.context.close()
