"""Pairs of equal names: what is matched, at which size, what is told; table, JSON and page."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from limner.evaluation import ImageSet, evaluate
from limner.evaluation.image_quality import layer_distance, psnr, ssim
from limner.evaluation.paired import PAIRED
from limner.evaluation.report import render, table

SHAPES = [(40, 30), (24, 24), (33, 20)]  # (H,W): pairs need no common size


@pytest.fixture(autouse=True, scope="module")
def brief():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("limner.evaluation.features.encoder.budget", lambda n: 2000)
        yield


def pair(i: int) -> tuple[np.ndarray, np.ndarray]:
    """A smooth truth uint8 [H,W,3] and what was made of it: the worse the larger i is."""
    rng = np.random.default_rng(i)
    h, w = SHAPES[i % 3]
    coarse = Image.fromarray(rng.integers(0, 255, (4, 4, 3), dtype=np.uint8))
    truth = np.asarray(coarse.resize((w, h), Image.Resampling.BICUBIC))
    return np.clip(truth + rng.normal(0, 2 + 3 * i, truth.shape), 0, 255).astype(np.uint8), truth


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """18 pairs below a folder `deep`, beside them pictures without a match and broken ones."""
    made, truth = (tmp_path_factory.mktemp("pairs") / side for side in ("made", "truth"))
    for folder in (made, truth):
        (folder / "deep").mkdir(parents=True)
    for i in range(18):
        a, b = pair(i)
        Image.fromarray(a).save(made / f"deep/v1.{i:02}.png")
        Image.fromarray(b).save(truth / f"deep/v1.{i:02}.tif")  # the ending does not matter, a dot in a name does not hurt
    Image.fromarray(pair(0)[0]).save(made / "alone.png")
    Image.fromarray(pair(0)[0]).save(truth / "lonely.png")
    Image.fromarray(pair(0)[0]).save(made / "wide.png")
    Image.new("RGB", (90, 20)).save(truth / "wide.png")
    for folder in (made, truth):
        (folder / "broken.png").write_bytes(b"\x89PNG nothing")
    return made, truth


def test_each_pair_is_measured_at_its_own_size(folders: tuple[Path, Path]) -> None:
    made, truth = folders
    found = evaluate(made, truth, metrics=["psnr", "ssim"])
    expected = [[torch.from_numpy(x.transpose(2, 0, 1).copy())[None] for x in pair(i)] for i in range(18)]
    for name, measure in (("psnr", psnr), ("ssim", ssim)):
        values = torch.cat([measure(a, b) for a, b in expected])
        assert found[name] == pytest.approx(values.mean().item(), rel=1e-9)
        assert torch.allclose(found.paired.values[name], values)
    (m,) = (m for m in found.metrics if m.name == "psnr")
    assert m.low < m.value < m.high and m.detail == "mean of 18 pairs" and m.better == "higher"
    assert found.paired.names[3] == "deep/v1.03.png" and found.paired.resized == 0


def test_unmatched_pictures_are_reported(folders: tuple[Path, Path]) -> None:
    found = evaluate(*folders, metrics=["psnr"])
    left = dict(found.paired.left_out)
    assert left["alone.png"] == "no match in truth" and left["lonely.png"] == "no match in made"
    assert "another aspect ratio" in left["wide.png"] and "broken.png" in left and len(left) == 4
    assert any("4 pictures were left out of the pairs" in w and "alone.png" in w for w in found.warnings)


def test_table_json_and_page_state_the_protocol(folders: tuple[Path, Path], tmp_path: Path) -> None:
    found = evaluate(*folders, metrics=["psnr", "ssim", "perceptual"])
    content = json.loads(found.to_json())
    pairs = content["protocol"]["pairs"]
    assert pairs["n"] == 18 and pairs["sizes"] == {"40x30": 6, "24x24": 6, "33x20": 6} and len(pairs["left_out"]) == 4
    assert content["protocol"]["features"][0]["name"] == "own" and content["protocol"]["features"][0]["resize"]
    assert {m["name"] for m in content["metrics"]} == {"psnr", "ssim", "perceptual_own"}
    assert pairs["worst"][0]["name"] in {f"deep/v1.{i:02}.png" for i in range(12, 18)}  # made with the most noise
    console = Console(width=100, record=True, file=(tmp_path / "out").open("w"))
    console.print(table(found))
    text = console.export_text()
    assert "made against truth, 18 pairs" in text and "perceptual_own" in text
    page = render(found)
    assert page.count("data:image/png;base64,") == 4 and "Worst pairs" in page  # twelve pairs in two rows
    assert pairs["worst"][0]["name"] in page


def test_zips_names_and_arrays_meet_too(folders: tuple[Path, Path], tmp_path: Path) -> None:
    whole = evaluate(*folders, metrics=["psnr"])["psnr"]
    with zipfile.ZipFile(tmp_path / "made.zip", "w") as archive:
        for path in sorted(folders[0].rglob("v1*.png"), reverse=True):
            archive.write(path, str(path.relative_to(folders[0])))
    assert evaluate(tmp_path / "made.zip", folders[1], metrics=["psnr"])["psnr"] == pytest.approx(whole)
    a, b = torch.randint(0, 255, (2, 9, 1, 12, 12), dtype=torch.uint8)
    names = tuple("abcdefghi")
    turned = ImageSet(a.flip(0), names=names[::-1])
    direct = evaluate(a, b, metrics=["psnr", "ssim"])  # arrays: row by row
    named = evaluate(turned, ImageSet(b, names=names), metrics=["psnr", "ssim"])
    assert direct["psnr"] == pytest.approx(psnr(a, b).mean().item()) == named["psnr"]
    assert len(evaluate(turned, ImageSet(b, names=names), metrics=["psnr"], n=4).paired) == 4


def test_sizes_that_differ_are_resized_once_and_warned_of(tmp_path: Path) -> None:
    for side, size in (("a", (16, 12)), ("b", (32, 24))):
        (tmp_path / side).mkdir()
        for i in range(3):
            Image.new("RGBA", size, (90 * i, 0, 0, 255 if i else 0)).save(tmp_path / side / f"{i}.png")
    found = evaluate(tmp_path / "a", tmp_path / "b", metrics=["psnr", "ssim"])
    assert found.paired.sizes == {(24, 32): 3} and found.paired.resized == 3
    assert "was resized to" in " ".join(found.warnings) and "to the size of its target" in found.to_json()
    assert found["psnr"] == float("inf") and found.paired.sheet.shape == (6, 3, 32, 32)
    assert json.loads(found.to_json())["metrics"][0]["value"] is None
    same = evaluate(tmp_path / "a", tmp_path / "b", metrics=["psnr"], size=(16, 16))
    assert same.paired.sizes == {(16, 16): 3} and not same.paired.resized


def test_too_small_for_a_measure_is_a_sentence(folders: tuple[Path, Path]) -> None:
    found = evaluate(*folders, metrics=["ssim", "ms_ssim"])
    assert [m.name for m in found.metrics] == ["ssim"]
    assert any("ms_ssim is left out: it needs pictures of at least 176 pixels" in w for w in found.warnings)
    with pytest.raises(ValueError, match=r"needs pictures of at least 176 pixels a side, and the smallest pair is 33x20\.$"):
        evaluate(*folders, metrics=["ms_ssim"])
    large = torch.randint(0, 255, (2, 1, 1, 180, 176), dtype=torch.uint8)
    assert 0 <= evaluate(large[0], large[1], metrics=["ms_ssim"])["ms_ssim"] < 1


def test_sets_and_pairs_in_one_call(folders: tuple[Path, Path]) -> None:
    # brought to one size, the picture of other proportions is cropped, and has a partner
    found = evaluate(*folders, metrics=["mmd", *PAIRED], features=["own", "pixels"], size=(24, 24))
    assert {m.label for m in found.metrics} == {"psnr", "ssim", "perceptual_own", "mmd_own", "mmd_pixels"}
    assert found.generated.spec.size == (24, 24) and "19 pairs" in found.title and "against truth" in found.title
    alone = evaluate(*folders, metrics=["perceptual"], size=(24, 24))["perceptual"]
    assert alone == pytest.approx(found["perceptual"], rel=1e-5)


def test_the_form_of_lpips_is_that_of_its_features() -> None:
    from limner.evaluation.features import own_features

    a, b = torch.randint(0, 255, (2, 20, 3, 16, 16), dtype=torch.uint8)
    layers = own_features(ImageSet(b)).layers
    assert evaluate(a, b, metrics=["perceptual"])["perceptual"] == pytest.approx(layer_distance(a, b, layers).mean().item())


def test_what_has_no_pairs_is_a_sentence(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    Image.new("L", (9, 9)).save(tmp_path / "x/other.png")
    calls = [
        (lambda: evaluate(tmp_path / "x", folders[1], metrics=["psnr"]), "has the name of one of"),
        (lambda: evaluate(folders[0], folders[1], metrics=["perceptual"], features="pixels"), "choose the features own"),
        (lambda: evaluate(folders[0], folders[1], metrics=["psnrr"]), "perceptual"),
    ]
    for call, says in calls:
        with pytest.raises(ValueError, match=says):
            call()


@pytest.mark.parametrize("name", ["memorization", "mmd", "fd_infinity", "mmd_gaussian"])
def test_measures_of_independent_sets_have_no_meaning_for_pairs(name: str, folders: tuple[Path, Path]) -> None:
    with pytest.raises(ValueError, match=f"{name} has no meaning here"):
        evaluate(*folders, metrics=[name], paired=True)
    found = evaluate(*folders, paired=True, features="pixels", metrics=["fd", "psnr"], size=(24, 24))
    assert found.memorization is None and "far too high" not in " ".join(found.warnings)
