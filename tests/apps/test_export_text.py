"""Exports of text-to-image generators: the graph against PyTorch, and the tokenizer without Limner."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from test_export_hub import ran

import export_models as models
from limner.apps.export import check, hub, onnx
from limner.apps.export.dispatch import export
from limner.apps.export.metadata import metadata_of
from limner.apps.export.parts import part_of
from limner.core import hashing
from limner.core.tokenizer import Tokenizer
from limner.data.samples import FOLDER, captions
from texts import TEXTS, random_text

pytestmark = pytest.mark.usefixtures("brief_export_checks")


def test_the_graph_draws_texts_as_pytorch_does(tmp_path: Path) -> None:
    model = models.text_generator(tmp_path / "run")
    report = onnx.write(model, tmp_path / "whole.onnx")
    assert 0 <= report.error <= 2e-5
    whole = check.session(report.path.read_bytes())
    z, tokens = np.random.default_rng(1).standard_normal((len(TEXTS), 8), np.float32), model.tokenizer.encode(TEXTS)
    pixels = whole.run(None, {"z": z, "tokens": tokens.numpy()})[0]
    with torch.no_grad():
        truth = (model.network(torch.from_numpy(z), tokens).clamp(-1, 1) + 1) / 2
    assert np.abs(pixels - truth.numpy()).max() < 2e-5
    other = whole.run(None, {"z": z[:2], "tokens": tokens[[1, 0]].numpy()})[0]
    assert np.abs(other - pixels[:2]).max() > 1e-3, "the text matters"


@pytest.mark.slow
def test_both_halves_are_the_whole(tmp_path: Path) -> None:
    model = models.text_generator(tmp_path / "run")
    for part in ("text_encoder", "decoder"):
        assert onnx.write(model, tmp_path / f"{part}.onnx", part).error <= 2e-5
    encoder, decoder = (check.session((tmp_path / f"{part}.onnx").read_bytes()) for part in ("text_encoder", "decoder"))
    z, tokens = part_of(model).examples(9, 0)
    sentence = encoder.run(None, {"tokens": tokens.numpy()})[0]
    pixels = part_of(model)(z, tokens)[0].numpy()
    assert np.abs(decoder.run(None, {"z": z.numpy(), "sentence": sentence})[0] - pixels).max() < 2e-5


def test_metadata_holds_what_a_tokenizer_needs(tmp_path: Path) -> None:
    model = models.text_generator(tmp_path / "run", captions=["ein rotes Herz \u2764"])
    found = metadata_of(model, part_of(model))
    assert json.loads(found["limner.tokenizer"]) == {
        "kind": "hashed", "vocabulary": 200, "words": 5, "word_tokens": 12, "hash": "crc32", "letters": 3, "longest": 10_000,
    }  # fmt: skip
    assert json.loads(found["limner.captions"]) == model.captions and found["limner.kind"] == "text-to-image generator"


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_smaller_numbers(precision: str, tmp_path: Path) -> None:
    report = onnx.write(models.text_generator(tmp_path / "run", width=16), tmp_path / "a.onnx", precision=precision)
    assert report.error < 0.3 and report.notes[0].startswith(precision)


def test_the_folder_draws_texts_without_limner(tmp_path: Path) -> None:
    model = models.text_generator(tmp_path / "run", captions=["a ❤ of `gold`"])
    export(model, tmp_path / "hub")
    config = json.loads((tmp_path / "hub/config.json").read_text())["limner"]
    assert config["tokenizer"]["vocabulary"] == 200 and config["inputs"] == {"z": ["batch", 8], "tokens": ["batch", 60]}
    card = (tmp_path / "hub/README.md").read_text()
    assert card.startswith("---\npipeline_tag: text-to-image\n")
    ran(card.split("```python\n")[1].split("```")[0], tmp_path / "hub")
    sheet = np.asarray(Image.open(tmp_path / "hub/pictures.png")).astype(int)
    z = np.random.default_rng(0).standard_normal((16, 8), np.float32)
    truth = model.render(z, model.features(["a ❤ of 'gold'"] * 16)).astype(int)
    assert np.abs(sheet[16:32, 48:64].transpose(2, 0, 1) - truth[7]).max() <= 3  # Limner may compute in bfloat16
    (tmp_path / "hub/pictures.png").unlink()
    (tmp_path / "hub/__pycache__").mkdir(exist_ok=True)  # as an import of the tokenizer leaves it
    hub.check_folder(tmp_path / "hub", tmp_path / "run")  # it may be written again
    assert (tmp_path / "hub/tokenizer.py").read_bytes() == Path(hashing.__file__).read_bytes()


def test_the_tokenizer_of_the_folder_gives_the_tokens_of_the_run(tmp_path: Path) -> None:
    (tmp_path / "hub").mkdir()
    shutil.copy(hashing.__file__, tmp_path / "hub/tokenizer.py")  # as an export does
    rng = random.Random(0)
    emoji = captions("emoji", json.loads((FOLDER / "emoji.json").read_text("utf-8"))).values()
    texts = [*TEXTS, *emoji, *(random_text(rng) for _ in range(2_000))]
    (tmp_path / "hub/texts.json").write_text(json.dumps(texts))
    code = """
import json, numpy
from tokenizer import encode
numpy.save("tokens.npy", encode(json.load(open("texts.json")), 8192, 24, 12))
"""
    ran(code, tmp_path / "hub")
    assert np.array_equal(np.load(tmp_path / "hub/tokens.npy"), Tokenizer().encode(texts).numpy())


def test_attention_goes_into_the_graph_and_not_into_the_page(tmp_path: Path) -> None:
    model = models.text_generator(tmp_path / "run", attention=True)
    assert onnx.write(model, tmp_path / "whole.onnx").error <= 2e-5
    assert onnx.write(model, tmp_path / "decoder.onnx", "decoder").error <= 2e-5
    with pytest.raises(ValueError, match="without attention to words"):
        export(model, tmp_path / "page.html")
