"""One HTML file: what is written, and the page in a real browser from file://, with the network off."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import export_models as models
from limner.apps.autoencode import Autoencoder
from limner.apps.export.html import in_script, write
from limner.apps.model import GeneratorModel
from limner.apps.restore import Restorer
from limner.apps.translate import Translator
from limner.core import hashing
from limner.core.condition import Condition
from limner.core.images import ImageSpec
from limner.networks import architecture, plain, resnet, vae
from texts import TEXTS, random_text

CHROMIUM = Path("/usr/bin/chromium")
HOSTILE = "</script><img src=x onerror='document.title=1'><!--"


def description(spec: ImageSpec, kind: str, **network: Any) -> dict[str, Any]:
    size = {"kind": spec.condition.kind, "size": spec.condition.size, "length": 0}
    return {
        "kind": kind, "limner": "0.1.0", "recipe": {"name": "tiny"}, "license": None, "metrics": {}, "training": {"images": 64, "seed": 0},
        "network": {"name": kind, **network},
        "data": {
            "name": "squares", "origin": "the folder squares", "count": 96, "attribution": None, "fit": "crop", "background": "white",
            "spec": {"channels": spec.channels, "height": spec.height, "width": spec.width, "condition": size},
            "classes": [HOSTILE, *map(str, range(1, spec.classes))][: spec.classes],
        },
    }  # fmt: skip


def generator(name: str = "conv", classes: int = 3, channels: int = 3) -> GeneratorModel:
    torch.manual_seed(0)
    spec = ImageSpec(channels, 32, 24, Condition("classes", classes) if classes else Condition())
    home = architecture(name)
    net = home.Generator(spec, home.TINY_GENERATOR).eval().requires_grad_(False)
    model = GeneratorModel(net, spec, description(spec, "generator"), torch.device("cpu"), Path("squares"))
    model._precision = torch.float32  # on some CPUs it is bfloat16
    return model


def autoencoder(classes: int = 3) -> Autoencoder:
    torch.manual_seed(0)
    spec = ImageSpec(1, 32, 24, Condition("classes", classes) if classes else Condition())
    net = vae.Autoencoder(spec, vae.TINY).eval().requires_grad_(False)
    net.prior.means.add_(torch.randn_like(net.prior.means))
    net.prior.factors.add_(0.3 * torch.randn_like(net.prior.factors))
    model = Autoencoder(net, spec, description(spec, "autoencoder"), torch.device("cpu"), Path("squares"))
    model._precision = torch.float32
    return model


def translator() -> Translator:
    torch.manual_seed(0)
    spec = ImageSpec(3, 32, 32)
    nets = torch.nn.ModuleDict({name: resnet.Translator(spec, resnet.TINY) for name in ("a2b", "b2a")}).eval().requires_grad_(False)
    model = Translator(nets, spec, description(spec, "translator"), torch.device("cpu"), Path("squares"))
    model._precision = torch.float32
    return model


def restorer(scale: int = 1) -> Restorer:
    torch.manual_seed(0)
    spec = ImageSpec(3, 32, 32)
    net = plain.Restorer(spec, plain.Config(width=8, depth=1), scale)
    net.last.weight.data.normal_(std=0.02)
    return Restorer(net, spec, description(spec, "restorer", task="denoise"), torch.device("cpu"), Path("squares"))


def test_the_file_is_small_and_holds_no_markup_from_names(tmp_path: Path) -> None:
    report = write(generator(), tmp_path / "out.html")
    text = report.path.read_text()
    assert report.size == report.path.stat().st_size <= 1.4 * report.weights + 100_000
    assert HOSTILE not in text
    assert text.count("</script>") == text.count("<script"), "no name closes a script element"
    assert not re.search(r"(src|href)\s*=\s*[\"']?http", text)
    assert "onerror" not in re.sub(r'<script type="application/json".*?</script>', "", text, flags=re.DOTALL)


def test_json_in_a_script_element() -> None:
    document = {"name": HOSTILE + "\u2028"}
    text = in_script(document)
    assert "<" not in text
    assert ">" not in text
    assert json.loads(text) == document


def test_what_has_no_page_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"written to a .html file, not to 'out.png'"):
        write(generator(), tmp_path / "out.png")
    with pytest.raises(ValueError, match="8, 16 or 24 bits"):
        write(generator(), tmp_path / "out.html", bits=4)
    with pytest.raises(ValueError, match="A classifier has no page"):
        write(type("Model", (), {"description": {"kind": "classifier"}})(), tmp_path / "out.html")
    model = generator()
    model.spec = ImageSpec(3, 32, 24, Condition("vector", 4))
    with pytest.raises(ValueError, match="a page offers classes only"):
        write(model, tmp_path / "out.html")
    assert not list(tmp_path.iterdir())


# ---- in a browser ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not CHROMIUM.exists():
        pytest.skip("Chromium is missing: apt install chromium")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is missing: pip install playwright")
    with api.sync_playwright() as play:
        started = play.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield started
        started.close()


class Opened:
    """A page from file:// with the network off; problems and requests are recorded."""

    def __init__(self, browser: Any, path: Path, width: int = 1280, **context: Any) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 800}, offline=True, **context)
        self.page, self.problems = self.context.new_page(), []
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", lambda message: message.type == "error" and self.problems.append(message.text))
        self.page.on("request", lambda request: request.url.startswith(("file:", "blob:", "data:")) or self.problems.append(request.url))
        self.page.goto(path.as_uri())
        self.until("typeof facts !== 'undefined' && facts.error !== undefined")

    def until(self, condition: str) -> None:
        """Wait until a JavaScript expression is true; playwright's own way evaluates text in the page, which its CSP forbids."""
        for _ in range(600):
            if self.page.evaluate(condition):
                return
            self.page.wait_for_timeout(100)
        raise AssertionError(f"{condition} did not become true: {self.problems}")

    def pixels(self, canvas: str = "picture") -> np.ndarray:
        data = self.page.evaluate(
            "(id) => { const c = document.getElementById(id); return [c.width, c.height, ...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]; }",
            canvas,
        )
        return np.asarray(data[2:], np.uint8).reshape(data[1], data[0], 4)

    def settle(self) -> None:
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


@pytest.mark.parametrize(("name", "classes", "channels"), [("conv", 3, 3), ("conv", 0, 1), ("stylegan2", 3, 4), pytest.param("biggan", 0, 3, marks=pytest.mark.slow)])
def test_a_generator_in_a_browser(browser: Any, tmp_path: Path, name: str, classes: int, channels: int) -> None:
    model = generator(name, classes, channels)
    if name == "conv":
        model.noise = "truncated"
    write(model, tmp_path / "out.html")
    opened = Opened(browser, tmp_path / "out.html")
    page = opened.page
    assert page.evaluate("facts.error") <= 1e-5
    first = opened.pixels()
    assert first.shape == (32, 24, 4)
    page.locator("#axis-0").focus()
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    opened.settle()
    moved = opened.pixels()
    assert (moved != first).any(), "a slider changes the picture"
    assert page.locator("#axis-0").input_value() == "1"
    page.click("#new")
    opened.settle()
    page.fill("#seed", "0")
    page.keyboard.press("Tab")
    opened.settle()
    assert (opened.pixels() == first).all(), "a seed gives the same picture"
    assert page.locator("#class").is_visible() == bool(classes)
    assert page.locator("#psi").is_visible() == (name == "stylegan2")
    if classes:
        assert page.locator("#class option").first.text_content() == HOSTILE
        assert page.locator("img").count() == 0
        page.select_option("#class", "2")
        opened.settle()
        if name == "stylegan2":
            assert (opened.pixels() != first).any()
    # the pixels are those of PyTorch for the latent that the page draws
    z = np.asarray(page.evaluate("[...base.z]"), np.float32)[None]
    want = np.asarray(model.render(z, np.array([2]) if classes else None))[0].transpose(1, 2, 0).astype(int)
    shown = opened.pixels()[..., :channels].astype(int)
    opaque = shown[..., 3:] > 250 if channels == 4 else np.ones_like(shown[..., :1], bool)  # a canvas keeps colors premultiplied
    assert np.abs(np.where(opaque, shown - want, 0)).max() <= 1
    assert not opened.problems


def test_a_text_generator_in_a_browser(browser: Any, tmp_path: Path) -> None:
    model = models.text_generator(tmp_path / "run", [HOSTILE + " a red heart", "a blue house"])
    model._precision = torch.float32
    report = write(model, tmp_path / "out.html")
    assert report.error < 1e-5
    opened = Opened(browser, tmp_path / "out.html")
    page = opened.page
    assert page.evaluate("facts.error") <= 1e-5, "with the sentence that the page computes of the first caption"
    assert page.locator("img").count() == 0 and not page.locator("#class").is_visible()
    first = opened.pixels()
    page.fill("#text", "a blue 家 of Straße 12")
    opened.settle()
    assert (opened.pixels() != first).any(), "the text changes the picture"
    z = np.asarray(page.evaluate("[...base.z]"), np.float32)[None]
    want = np.asarray(model.render(z, model.features(["a blue 家 of Straße 12"])))[0].transpose(1, 2, 0).astype(int)
    assert np.abs(opened.pixels()[..., :3].astype(int) - want).max() <= 1
    assert page.evaluate("state.steps.length") == 8
    with page.expect_download() as download:
        page.click("#save")
    with Image.open(download.value.path()) as saved:
        saved.load()
        assert json.loads(saved.text["limner"])["text"] == "a blue 家 of Straße 12"  # type: ignore[attr-defined]
    before = opened.pixels()
    page.fill("#text", "...")
    opened.settle()
    assert (opened.pixels() == before).all() and not page.evaluate("document.getElementById('text').validity.valid")
    assert not opened.problems


def test_the_tokens_of_a_page_are_those_of_the_run(browser: Any, tmp_path: Path) -> None:
    write(models.text_generator(tmp_path / "run"), tmp_path / "out.html")
    opened = Opened(browser, tmp_path / "out.html")
    rng = random.Random(1)
    captions = [*TEXTS, *(random_text(rng) for _ in range(300))]
    made = opened.page.evaluate("(texts) => texts.map((given) => wordsOf(given).map(tokensOf))", captions)
    for caption, found in zip(captions, made, strict=True):
        assert found == [hashing.tokens_of(word, 200, 12) for word in hashing.words(caption)], repr(caption)


@pytest.mark.parametrize("classes", [0, 3])
def test_an_autoencoder_draws_from_its_prior_in_a_browser(browser: Any, tmp_path: Path, classes: int) -> None:
    model = autoencoder(classes)
    report = write(model, tmp_path / "out.html")
    assert report.error < 1e-5
    opened = Opened(browser, tmp_path / "out.html")
    page = opened.page
    assert page.evaluate("facts.error") <= 1e-5
    first = opened.pixels()
    if classes:
        page.select_option("#class", "2")
        opened.settle()
        assert (opened.pixels() != first).any(), "each class has a prior of its own"
    z = np.asarray(page.evaluate("[...base.z]"), np.float32)[None]
    want = np.asarray(model.render(z))[0].transpose(1, 2, 0).astype(int)
    assert np.abs(opened.pixels()[..., :1].astype(int) - want).max() <= 1
    # 4,000 latents of the page and of the prior have the same mean and covariance
    rows = np.asarray(page.evaluate("Array.from({ length: 4000 }, (_, i) => [...latent(i)])"))
    true = model.latents(4000, np.random.default_rng(0), np.full(4000, 2) if classes else None)
    assert np.abs(rows.mean(0) - true.mean(0)).max() < 0.2
    assert np.abs(np.cov(rows.T) - np.cov(true.T)).max() < 0.15 * np.abs(np.cov(true.T)).max()
    assert not opened.problems


def test_saving_walking_and_the_map(browser: Any, tmp_path: Path) -> None:
    write(generator(), tmp_path / "out.html")
    opened = Opened(browser, tmp_path / "out.html")
    page = opened.page
    with page.expect_download() as download:
        page.click("#save")
    with Image.open(download.value.path()) as saved:
        saved.load()
        assert json.loads(saved.text["limner"])["seed"] == 0  # type: ignore[attr-defined]
        assert (np.asarray(saved.convert("RGB")) == opened.pixels()[..., :3]).all()
    before = opened.pixels()
    page.click("#play")
    page.wait_for_timeout(300)
    page.click("#play")
    opened.settle()
    assert (opened.pixels() != before).any(), "a walk changes the picture"
    box = page.locator("#map").bounding_box()
    page.mouse.click(box["x"] + 0.9 * box["width"], box["y"] + 0.1 * box["height"])
    opened.settle()
    assert [float(page.locator(f"#axis-{i}").input_value()) for i in (0, 1)] == pytest.approx([2.4, 2.4], abs=0.06)
    opened.until("mapLeft === MAP_CELLS ** 2")
    assert len(np.unique(opened.pixels("map").reshape(-1, 4), axis=0)) > 100
    assert not opened.problems


@pytest.mark.parametrize("kind", ["generator", "text", "translator", "restorer"])
def test_a_narrow_dark_page(browser: Any, tmp_path: Path, kind: str) -> None:
    makers: dict[str, Any] = {
        "generator": generator, "text": lambda: models.text_generator(tmp_path / "run"), "translator": translator, "restorer": restorer,
    }  # fmt: skip
    model = makers[kind]()
    write(model, tmp_path / "out.html")
    opened = Opened(browser, tmp_path / "out.html", 320, color_scheme="dark", reduced_motion="reduce")
    assert opened.page.evaluate("document.documentElement.scrollWidth") == 320
    unnamed = """[...document.querySelectorAll("input, select, canvas:not(button canvas)")].filter(
        (e) => !(e.labels && e.labels.length) && !e.getAttribute("aria-label")).map((e) => e.id)"""
    assert opened.page.evaluate(unnamed) == []
    assert opened.page.evaluate("facts.error") <= 1e-5
    assert not opened.problems


def test_a_translator_in_a_browser(browser: Any, tmp_path: Path) -> None:
    model = translator()
    write(model, tmp_path / "out.html")
    picture = np.random.default_rng(0).integers(0, 256, (30, 21, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "in.png")
    opened = Opened(browser, tmp_path / "out.html")
    page = opened.page
    for direction in (0, 1):
        page.set_input_files("#file", tmp_path / "in.png")
        page.select_option("#direction", str(direction))
        opened.until("document.getElementById('speed').textContent.startsWith('21×30')")
        opened.until("document.getElementById('progress').className === 'done'")
        page.wait_for_timeout(300)
        want = np.asarray(model.translate(picture.transpose(2, 0, 1), model.directions[direction]))
        assert np.abs(opened.pixels()[..., :3].astype(int) - want).max() <= 1
    box = page.locator("#input").bounding_box()
    before = opened.pixels("input")
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 + 20, box["y"] + box["height"] / 2 + 9)
    page.mouse.up()
    assert (opened.pixels("input") != before).any(), "a stroke is drawn"
    page.click("#undo")
    assert (opened.pixels("input") == before).all()
    assert not opened.problems


def test_a_restorer_in_a_browser(browser: Any, tmp_path: Path) -> None:
    model = restorer(2)
    write(model, tmp_path / "out.html")
    opened = Opened(browser, tmp_path / "out.html")
    assert opened.page.evaluate("facts.error") <= 1e-5
    assert not opened.page.locator("#color").is_visible()
    picture = np.random.default_rng(0).integers(0, 256, (30, 21, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "in.png")
    opened.page.set_input_files("#file", tmp_path / "in.png")
    opened.until("document.getElementById('speed').textContent.startsWith('21×30')")
    x = torch.from_numpy(picture.transpose(2, 0, 1)[None].astype(np.float32) / 127.5 - 1)
    want = ((model.network(x)[0].permute(1, 2, 0) + 1) * 127.5).clamp(0, 255).numpy()
    made = opened.pixels()[..., :3]
    assert made.shape == (60, 42, 3)
    assert np.abs(made - want).max() < 1
    assert not opened.problems
