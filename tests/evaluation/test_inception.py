"""Inception v3 in FID's form: shapes, parameter count and names of the field's file, its resizing, and its refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from limner.evaluation.features.inception import STANDARD, Inception, InceptionV3, resize_as_tensorflow

PARTS = ["conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"]
A = {
    "branch1x1": (64, None, 1, 1), "branch5x5_1": (48, None, 1, 1), "branch5x5_2": (64, 48, 5, 5),
    "branch3x3dbl_1": (64, None, 1, 1), "branch3x3dbl_2": (96, 64, 3, 3), "branch3x3dbl_3": (96, 96, 3, 3),
}
E = {
    "branch1x1": (320, None, 1, 1), "branch3x3_1": (384, None, 1, 1), "branch3x3_2a": (384, 384, 1, 3),
    "branch3x3_2b": (384, 384, 3, 1), "branch3x3dbl_1": (448, None, 1, 1), "branch3x3dbl_2": (384, 448, 3, 3),
    "branch3x3dbl_3a": (384, 384, 1, 3), "branch3x3dbl_3b": (384, 384, 3, 1), "branch_pool": (192, None, 1, 1),
}


def c(k: int) -> dict[str, tuple[int, int | None, int, int]]:
    return {
        "branch1x1": (192, None, 1, 1), "branch7x7_1": (k, None, 1, 1), "branch7x7_2": (k, k, 1, 7),
        "branch7x7_3": (192, k, 7, 1), "branch7x7dbl_1": (k, None, 1, 1), "branch7x7dbl_2": (k, k, 7, 1),
        "branch7x7dbl_3": (k, k, 1, 7), "branch7x7dbl_4": (k, k, 7, 1), "branch7x7dbl_5": (192, k, 1, 7),
        "branch_pool": (192, None, 1, 1),
    }


BLOCKS = {  # block -> (channels in, branch -> kernel shape, None for the channels in)
    "Mixed_5b": (192, {**A, "branch_pool": (32, None, 1, 1)}),
    "Mixed_5c": (256, {**A, "branch_pool": (64, None, 1, 1)}),
    "Mixed_5d": (288, {**A, "branch_pool": (64, None, 1, 1)}),
    "Mixed_6a": (288, {
        "branch3x3": (384, None, 3, 3), "branch3x3dbl_1": (64, None, 1, 1), "branch3x3dbl_2": (96, 64, 3, 3),
        "branch3x3dbl_3": (96, 96, 3, 3),
    }),
    "Mixed_6b": (768, c(128)), "Mixed_6c": (768, c(160)), "Mixed_6d": (768, c(160)), "Mixed_6e": (768, c(192)),
    "Mixed_7a": (768, {
        "branch3x3_1": (192, None, 1, 1), "branch3x3_2": (320, 192, 3, 3), "branch7x7x3_1": (192, None, 1, 1),
        "branch7x7x3_2": (192, 192, 1, 7), "branch7x7x3_3": (192, 192, 7, 1), "branch7x7x3_4": (192, 192, 3, 3),
    }),
    "Mixed_7b": (1280, E), "Mixed_7c": (2048, E),
}
STEM = {
    "Conv2d_1a_3x3": (32, 3, 3, 3), "Conv2d_2a_3x3": (32, 32, 3, 3), "Conv2d_2b_3x3": (64, 32, 3, 3),
    "Conv2d_3b_1x1": (80, 64, 1, 1), "Conv2d_4a_3x3": (192, 80, 3, 3),
}


def expected() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the field's file, from the published structure and not from our code."""
    layers = dict(STEM)
    for block, (before, branches) in BLOCKS.items():
        layers |= {f"{block}.{name}": (s[0], s[1] or before, *s[2:]) for name, s in branches.items()}
    found: dict[str, tuple[int, ...]] = {}
    for name, shape in layers.items():
        found |= {f"{name}.{part}": shape if part == "conv.weight" else shape[:1] for part in PARTS}
    return found | {"fc.weight": (1008, 2048), "fc.bias": (1008,)}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of random weights with the field's names; called otherwise, for its hash cannot be the field's."""
    random = torch.Generator().manual_seed(0)
    state = {}
    for key, shape in expected().items():
        if key.endswith("conv.weight"):
            state[key] = torch.randn(shape, generator=random) * (2 / np.prod(shape[1:])) ** 0.5
        else:
            state[key] = torch.ones(shape) if key.endswith(("bn.weight", "running_var")) else torch.zeros(shape)
    state["fc.weight"] = torch.randn(1008, 2048, generator=random) * 0.01
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(state, path)
    return path


def test_names_shapes_and_count_are_the_fields() -> None:
    with torch.device("meta"):
        net = InceptionV3()
    ours = {k: tuple(v.shape) for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}
    assert ours == expected()
    assert sum(p.numel() for p in net.parameters()) == 23_850_960  # 23,834,568 with 1,000 classes


def test_a_file_with_those_names_loads_and_runs(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extractor = Inception.load(weights)
    shapes: dict[str, tuple[int, ...]] = {}
    for name, module in extractor.net.named_children():
        module.register_forward_hook(lambda m, i, out, name=name: shapes.__setitem__(name, tuple(out.shape[1:])))
    images = torch.randint(0, 256, (2, 3, 40, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    rows = extractor(images)
    assert rows.shape == (2, 2048) and torch.isfinite(rows).all() and rows.std() > 0
    assert shapes["Conv2d_1a_3x3"] == (32, 149, 149) and shapes["Mixed_5d"] == (288, 35, 35)
    assert shapes["Mixed_6e"] == (768, 17, 17) and shapes["Mixed_7c"] == (2048, 8, 8)
    assert torch.allclose(extractor(images[1:]), rows[1:], atol=1e-4)
    assert torch.allclose(extractor.probabilities(images).sum(1), torch.ones(2), atol=1e-5)
    monkeypatch.setenv("LIMNER_WEIGHTS", str(weights))
    assert Inception.load().identity == extractor.identity


def test_resizing_reads_the_places_that_tensorflow_reads() -> None:
    x = torch.arange(12.0).reshape(1, 1, 3, 4)
    ours = resize_as_tensorflow(x, side=8)[0, 0]
    for i in range(8):
        for j in range(8):
            u, v = i * 3 / 8, j * 4 / 8
            a, b = int(u), int(v)
            a1, b1, s, t = min(a + 1, 2), min(b + 1, 3), u - a, v - b
            top = x[0, 0, a, b] * (1 - t) + x[0, 0, a, b1] * t
            low = x[0, 0, a1, b] * (1 - t) + x[0, 0, a1, b1] * t
            assert float(ours[i, j]) == pytest.approx(float(top * (1 - s) + low * s), abs=1e-5)
    same = torch.rand(1, 3, 299, 299)
    assert torch.equal(resize_as_tensorflow(same), same)


def test_missing_damaged_and_foreign_files_are_told(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIMNER_WEIGHTS", raising=False)
    with pytest.raises(ValueError, match=f"need the file {STANDARD}"):
        Inception.load()
    cut = tmp_path / "cut.pth"
    cut.write_bytes(weights.read_bytes()[:100_000])
    foreign, pickled = tmp_path / "foreign.pth", tmp_path / "pickled.pth"
    torch.save({"fc.weight": torch.zeros(3, 3)}, foreign)
    torch.save([Path("x")], pickled)  # anything but tensors is refused unread
    posing = tmp_path / STANDARD
    posing.write_bytes(foreign.read_bytes())
    for path, says in (
        (cut, "truncated"), (foreign, "not the Inception"), (pickled, "cannot be read"), (posing, "sha256"),
        (tmp_path / "none.pth", "need the file"), (tmp_path / "nowhere", "need the file"),
    ):
        with pytest.raises(ValueError, match=says):
            Inception.load(path)
