"""The rate-distortion report of a codec: real sizes, real errors, and the files that it writes."""

from __future__ import annotations

import builtins
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from codec_model import codec, picture
from limner.apps import rate_distortion as app
from limner.apps.evaluate import evaluate, written
from limner.evaluation.image_quality import least_side

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()  # which no format may count


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    for i in range(3):
        Image.fromarray(picture(190, 200, seed=i)).save(root / f"{i}.png", icc_profile=PROFILE)
    (root / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return root


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "QUALITIES", (0, 100))
    monkeypatch.setattr(app, "SETTINGS", (10, 50, 90))


def test_points_are_whole_files_and_their_errors(few: None, pictures: Path, tmp_path: Path) -> None:
    model = codec()
    result, path = app.evaluate_codec(model, str(pictures), 2, 100, out=tmp_path / "x.png")
    assert path == tmp_path / "x.json" and (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    assert [curve.name for curve in result.curves] == ["run", "JPEG", "JPEG 4:4:4", "WebP", "AVIF"]
    assert not result.curves[0].ms_ssim and f"at least {least_side()} pixels" in " ".join(result.warnings)
    shown, _ = app.crops(model, str(pictures), 2, 100, 0)
    assert [image.size for image in shown] == [(100, 100)] * 2
    own, jpeg = result.curves[:2]
    contents = [model.compress(image, 100, metadata=False) for image in shown]
    assert own.bpp[1] == pytest.approx(np.mean([len(c) * 8 / 10_000 for c in contents]))
    errors = [np.square(np.asarray(model.decompress(c)).astype(float) - image).mean() for c, image in zip(contents, shown, strict=True)]
    assert own.psnr[1] == pytest.approx(np.mean([10 * np.log10(255**2 / e) for e in errors]))
    sizes = []
    for image in shown:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=50, optimize=True, subsampling=2, icc_profile=None)
        sizes.append(len(buffer.getvalue()))
    assert jpeg.bpp[1] == pytest.approx(np.mean(sizes) * 8 / 10_000)
    content = json.loads(path.read_text())
    assert content["protocol"]["n"] == 2 and content["protocol"]["crop"] == 100 and content["protocol"]["data"] == pictures.name
    assert content["bd_rate"]["WebP"]["ms_ssim"] is None and len(content["curves"]) == 5
    delta = result.delta(jpeg, "psnr")
    assert delta is None or content["bd_rate"]["JPEG"]["psnr"]["percent"] == delta.percent


def test_ms_ssim_where_pictures_are_large_enough_and_gray(few: None, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "OTHERS", {name: app.OTHERS[name] for name in ("JPEG", "JPEG 4:4:4")})
    model = codec(1)
    shown, notes = app.crops(model, str(pictures), 1, 300, 0)
    assert shown[0].mode == "L" and shown[0].size == (200, 190)
    result = app.measure(model, shown, notes)
    assert [curve.name for curve in result.curves] == ["run", "JPEG"]
    assert all(0 < value <= 1 for curve in result.curves for value in curve.ms_ssim)
    assert app.plot(result).startswith(b"\x89PNG")


def test_without_matplotlib_there_is_a_sentence(
    few: None, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def refuse(name: str, *arguments: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.setattr(app, "OTHERS", {})
    monkeypatch.setattr(builtins, "__import__", refuse)
    result, path = app.evaluate_codec(codec(), str(pictures), 3, 64, out=tmp_path / "x.json")
    assert path.exists() and not (tmp_path / "x.png").exists()
    assert any("limner[plots]" in note for note in result.warnings) and any("1 damaged" in note for note in result.warnings)


def test_wrong_arguments(pictures: Path, tmp_path: Path) -> None:
    for name in ("x.html", "limner.json", "run.png"):
        with pytest.raises(ValueError, match=r"written as a \.png|replace a file of a run"):
            app.evaluate_codec(codec(), str(pictures), out=tmp_path / name)
    with pytest.raises(ValueError, match="at least 1"):
        app.evaluate_codec(codec(), str(pictures), size=0)


def test_evaluate_measures_a_codec_and_refuses_what_has_no_meaning_for_one(few: None, pictures: Path, tmp_path: Path) -> None:
    """It raised "which this command cannot evaluate": only the command line knew the codec."""
    result, path = evaluate(codec(), str(pictures), n=1, size=(64, 40), out=tmp_path / "x.png")
    assert isinstance(result, app.RateDistortion) and path == tmp_path / "x.json" and result.protocol["crop"] == 64
    assert written(path) == f"The figures are in {path}, the curves in {tmp_path / 'x.png'}."
    for option in ({"metrics": ["fd"]}, {"labels": path}, {"features": ["pixels"]}, {"real_per_class": [5]}):
        with pytest.raises(ValueError, match=f"--{next(iter(option)).replace('_', '-')} has no meaning for a codec"):
            evaluate(codec(), str(pictures), **option)
