"""A codec from training to files and curves, by the commands as people give them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import limner
from codec_model import picture
from limner.apps.compress import Codec
from limner.cli import main
from limner.networks import hyperprior


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("codec")
    (root / "in").mkdir()
    for i in range(12):
        Image.fromarray(picture(96, 128, seed=i)).save(root / "in" / f"{i}.png")
    with pytest.MonkeyPatch.context() as change:
        change.setattr("limner.runs.decide.measure", lambda *args, **more: 100.0)
        limner.train(
            root / "in", recipe="codec", images=64, size=64, out=root / "run", device="cpu", quiet=True,
            changes={"network": hyperprior.TINY},
        )  # fmt: skip
    return root


def command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    return int(ended.value.code or 0)


def test_a_run_is_a_codec_whose_files_survive_loading_it_again(folder: Path) -> None:
    content = limner.load(folder / "run", "cpu").compress(folder / "in" / "0.png", 80)
    model = limner.load(folder / "run", "cpu")
    assert isinstance(model, Codec)
    made = np.asarray(model.decompress(content)).astype(float)
    assert made.shape == (96, 128, 3) and np.square(made - picture(96, 128, seed=0)).mean() < 400


def test_compress_and_decompress(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for out, options in (("out", []), ("all.limn", ["--archive", "--effort", 3, "--no-metadata"])):
        assert command("compress", folder / "run", folder / "in", folder / out, "--quality", 30, *options) == 0
        assert "12 compressed pictures are in" in capsys.readouterr().out
        assert command("decompress", folder / "run", folder / out, folder / f"back-{out[:3]}") == 0
        assert "12 pictures are in" in capsys.readouterr().out
        assert sorted(p.name for p in (folder / f"back-{out[:3]}").iterdir()) == sorted(f"{i}.png" for i in range(12))


def test_evaluate(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limner.apps.rate_distortion.SETTINGS", (10, 50, 90))
    assert command("evaluate", folder / "run", "--data", folder / "in", "-n", 3, "--size", 64) == 0
    shown = capsys.readouterr()
    assert "BD-rate" in shown.out and "AVIF" in shown.out and "rate-distortion.json" in shown.err
    content = json.loads((folder / "run" / "rate-distortion.json").read_text())
    assert content["curves"][0]["name"] == "run" and content["curves"][0]["settings"] == [0, 20, 40, 60, 80, 100]
    assert (folder / "run" / "rate-distortion.png").exists()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["compress", "run", "in", "out", "--quality", "101"], "from 0 (smallest) to 100 (best)"),
        (["compress", "run", "in/0.png", "x.jpg"], "written as a .limn"),
        (["decompress", "run", "in/0.png", "x.png"], "not a picture that `limner compress` wrote"),
        (["evaluate", "run", "--data", "in", "--metrics", "fd"], "--metrics has no meaning for a codec"),
        (["evaluate", "run", "--data", "in", "--labels", "x.csv"], "--labels has no meaning for a codec"),
        (["evaluate", "run", "--data", "in", "in"], "one set of pictures"),
        (["sample", "run"], "holds a trained codec"),
        (["evaluate", "run", "--data", "in", "-n", "0"], "at least one picture"),
    ],
)
def test_what_a_user_can_mend_is_one_sentence(
    folder: Path, arguments: list[str], match: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert command(*arguments) == 2
    error = capsys.readouterr().err.strip()
    assert match in error and "\n" not in error and "Traceback" not in error
