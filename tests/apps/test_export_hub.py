"""`limner export RUN FOLDER`, `limner push`, smaller numbers, the code in model cards, and the command."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

import export_models as models
import limner
from limner.apps.export import check, hub, onnx, quantize
from limner.apps.export.dispatch import export
from limner.apps.export.parts import part_of
from limner.apps.export.snippet import snippet
from test_cli import limner as command
from test_cli import sentence

pytestmark = pytest.mark.usefixtures("brief_export_checks")


# ---- smaller numbers -------------------------------------------------------------------------------------------------


def test_fp16_halves_the_size_and_int8_quarters_it_and_both_say_what_is_lost(tmp_path: Path) -> None:
    model = models.generator(tmp_path / "run", "conv", models.CLASSES, width=32)
    whole = onnx.write(model, tmp_path / "32.onnx")
    for precision, share, best in (("fp16", 0.6, 50), ("int8", 0.4, 25)):
        report = onnx.write(model, tmp_path / f"{precision}.onnx", precision=precision)
        assert report.size < share * whole.size and whole.error < report.error < 0.3
        psnr = float(report.notes[0].split(":")[1].split(" dB")[0])
        assert report.notes[0].startswith(precision) and best < psnr < 120 and "ms of CPU time" in report.notes[0]
        session = check.session((tmp_path / f"{precision}.onnx").read_bytes())
        feed = {"z": np.zeros((2, model.z_size), np.float32), "label": np.arange(2)}
        assert session.run(None, feed)[0].dtype == np.float32
        assert session.get_modelmeta().custom_metadata_map["limner.kind"] == "generator"


def test_pictures_of_the_preview_calibrate_parts_that_take_pictures(tmp_path: Path) -> None:
    model = models.classifier(tmp_path / "run")
    red = np.zeros((40, 50, 3), np.uint8)
    red[..., 0] = 200
    Image.fromarray(red).save(tmp_path / "run/preview.png")
    rows = quantize.calibration(part_of(model), tmp_path / "run")
    assert len(rows) == quantize.CALIBRATION and rows[0]["pixel_values"].shape == (1, 3, 16, 16)
    assert all(np.allclose(row["pixel_values"][0, :, 3, 3], [200 / 255, 0, 0]) for row in rows)
    assert quantize.cuttings(tmp_path / "run/preview.png", (2, 1, 64, 16), np.random.default_rng(0)).shape == (2, 1, 64, 16)


# ---- folders ---------------------------------------------------------------------------------------------------------


def test_a_folder_holds_the_graph_its_config_the_card_and_the_run(tmp_path: Path) -> None:
    model = models.classifier(tmp_path / "run", channels=1)
    report = export(model, tmp_path / "hub", precision="fp16")
    assert report.size == sum(p.stat().st_size for p in (tmp_path / "hub").rglob("*") if p.is_file())
    assert {p.name for p in (tmp_path / "hub/onnx").iterdir()} == {"model.onnx", "model_fp16.onnx"}
    config = json.loads((tmp_path / "hub/config.json").read_text())
    assert config["model_type"] == "resnet" and config["id2label"] == {"0": "class 0", "1": "class 1", "2": "class 2"}
    processor = json.loads((tmp_path / "hub/preprocessor_config.json").read_text())
    assert processor["size"] == {"height": 16, "width": 16} and processor["do_convert_grayscale"]
    card = (tmp_path / "hub/README.md").read_text()
    assert card.startswith("---\npipeline_tag: image-classification\nlibrary_name: limner\nlicense: mit\n---\n")
    assert "import numpy as np, onnxruntime" in card and "Written by Limner" not in card
    again = limner.load(tmp_path / "hub", "cpu")  # the folder is a run too
    x = np.zeros((1, 1, 16, 16), np.uint8)
    assert np.array_equal(again.classify(x), model.classify(x))
    export(again, tmp_path / "hub2")
    export(model, tmp_path / "hub")  # an earlier export is replaced


def test_folders_of_others_and_files_are_left_alone(tmp_path: Path) -> None:
    model = models.generator(tmp_path / "run", "mlp")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("dear")
    for out, part, precision, message in (
        (tmp_path / "mine", None, "fp32", "holds other files"),
        (tmp_path / "run", None, "fp32", "is the run itself"),
        (tmp_path / "x.pt", None, "fp32", r"as \.onnx, \.html or a folder"),
        (tmp_path / "new", "encoder", "fp32", "leave --part out"),
        (tmp_path / "x.html", "encoder", "fp32", "leave --part out"),
    ):
        with pytest.raises(ValueError, match=message):
            export(model, out, part, precision)
    assert {p.name for p in tmp_path.iterdir()} == {"mine", "run"} and len(list((tmp_path / "mine").iterdir())) == 1


def test_a_page_is_left_to_its_own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    class Page:
        @staticmethod
        def write(model: Any, out: Path, **more: Any) -> str:
            given.append((model, more))
            out.write_text("<html>")
            return "x.html has 1 picture."

    monkeypatch.setattr("limner.apps.export.dispatch.html", Page)
    report = export("a model", tmp_path / "x.html", precision="int8")
    assert given == [("a model", {"bits": 8, "progress": None})] and (str(report), report.size) == ("x.html has 1 picture.", 6)


# ---- code ------------------------------------------------------------------------------------------------------------


def ran(code: str, folder: Path) -> str:
    """The output of a program in a process that can import neither torch nor limner."""
    blocked = "import sys; sys.modules['torch'] = sys.modules['limner'] = None\n"
    done = subprocess.run([sys.executable, "-c", blocked + code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_code_of_model_cards_makes_the_pictures_of_the_model(tmp_path: Path) -> None:
    model = models.generator(tmp_path / "run", "conv", models.CLASSES)
    onnx.write(model, tmp_path / "model.onnx")
    code = snippet(part_of(model), "model.onnx", model.classes)
    assert len(code.strip().splitlines()) <= 10
    ran(code, tmp_path)
    rng, labels = np.random.default_rng(0), np.arange(16) % 3
    truth = np.asarray(model.render(rng.standard_normal((16, 8), np.float32), labels)).astype(int)
    sheet = np.asarray(Image.open(tmp_path / "pictures.png")).astype(int)
    assert sheet.shape == (64, 64, 3)
    picture = sheet[16:32, 48:64].transpose(2, 0, 1)  # row 1, column 3
    assert np.abs(picture - truth[7]).max() <= 3  # Limner may compute in bfloat16


def test_the_documentation_shows_the_same_code(tmp_path: Path) -> None:
    part = part_of(models.generator(tmp_path / "run", "mlp", z_size=64))
    assert snippet(part, "photos.onnx") in (Path(__file__).parents[2] / "docs/export.md").read_text()


def test_the_code_for_pictures_runs(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 41, 3), np.uint8)).save(tmp_path / "picture.png")
    for model in (models.classifier(tmp_path / "c", channels=1), models.restored(tmp_path / "r", "plain", "super-resolution", 2)):
        onnx.write(model, tmp_path / "model.onnx")
        printed = ran(snippet(part_of(model), "model.onnx", model.description["data"]["classes"]), tmp_path)
        assert ("class" in printed) == (model.description["kind"] == "classifier")
    assert Image.open(tmp_path / "made.png").size == (82, 60)


# ---- push ------------------------------------------------------------------------------------------------------------


class Stub(BaseHTTPRequestHandler):
    """What a hub answers when a model is uploaded; it keeps the files of the commit."""

    files: dict[str, bytes]
    paths: list[str]
    tokens: set[str | None]

    def do_GET(self) -> None:
        self.answer({"id": "me/noise", "sha": "0" * 40, "siblings": [], "name": "me", "private": False})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        type(self).tokens.add(self.headers.get("Authorization"))
        address = f"http://{self.headers['Host']}/me/noise"
        if self.path.endswith("/commit/main"):
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    type(self).files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
        wanted = json.loads(body)["files"] if "/preupload/" in self.path else []
        self.answer({
            "url": address, "id": "me/noise", "commitUrl": f"{address}/commit/0", "commitOid": "0" * 40, "success": True,
            "errors": [], "warnings": [],
            "files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in wanted],
        })  # fmt: skip

    def answer(self, content: dict[str, Any]) -> None:
        type(self).paths.append(self.path)
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def stub() -> Iterator[tuple[type[Stub], str]]:
    class Own(Stub):
        files, paths, tokens = {}, [], set()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Own)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Own, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_push_uploads_the_folder(tmp_path: Path, stub: tuple[type[Stub], str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("huggingface_hub")
    models.generator(tmp_path / "run", "mlp")
    for name, value in {"HF_ENDPOINT": stub[1], "HF_TOKEN": "hf_test", "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0"}.items():
        monkeypatch.setitem(os.environ, name, value)
    done = command("push", str(tmp_path / "run"), "me/noise")
    assert done.returncode == 0, done.stderr
    assert f"{stub[1]}/me/noise" in done.stdout
    folder = tmp_path / "run-hub"
    written = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert stub[0].files == written and "onnx/model.onnx" in written
    assert stub[0].tokens == {"Bearer hf_test"} and any(path.startswith("/api/repos/create") for path in stub[0].paths)


@pytest.mark.slow
def test_push_without_a_token_a_name_or_a_hub_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("huggingface_hub")
    model = models.generator(tmp_path / "run", "mlp")
    with pytest.raises(ValueError, match="named user/name"):
        hub.push(model, "noise", tmp_path / "out")
    monkeypatch.setattr(hub, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'limner\[hub\]'"):
        hub.push(model, "me/noise", tmp_path / "out")
    monkeypatch.setitem(os.environ, "HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setitem(os.environ, "HF_HUB_OFFLINE", "0")
    monkeypatch.setitem(os.environ, "HF_ENDPOINT", "http://127.0.0.1:9")  # discard: nothing answers
    monkeypatch.delenv("HF_TOKEN", raising=False)
    assert "hf auth login" in sentence(command("push", str(tmp_path / "run"), "me/noise"))
    assert not (tmp_path / "run-hub").exists()
    monkeypatch.setitem(os.environ, "HF_TOKEN", "hf_test")
    assert "The hub did not take the model" in sentence(command("push", str(tmp_path / "run"), "me/noise"))


# ---- the command and the function ------------------------------------------------------------------------------------


def test_the_command_and_the_function_write_the_same_file(tmp_path: Path) -> None:
    models.generator(tmp_path / "run", "mlp")
    done = command("export", str(tmp_path / "run"), str(tmp_path / "a.onnx"))
    assert done.returncode == 0 and "differs from PyTorch by at most" in done.stdout
    assert limner.export(tmp_path / "run", tmp_path / "b.onnx").error < 1e-5
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert "give --fp16 or --int8" in sentence(command("export", str(tmp_path / "run"), str(tmp_path / "c.onnx"), "--fp16", "--int8"))
