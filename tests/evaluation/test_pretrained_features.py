"""DINOv2 and CLIP from local weights, on tiny random networks: parity with the library, every refusal, no network."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from limner.evaluation import evaluate
from limner.evaluation.features import choose, extract, resized
from limner.evaluation.features.pretrained import ENCODERS
from limner.evaluation.inputs import ImageSet

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read once, when the library is first imported
transformers = pytest.importorskip("transformers")

RANDOM = torch.Generator().manual_seed(0)
IMAGES = torch.randint(0, 256, (5, 3, 40, 52), generator=RANDOM, dtype=torch.uint8)
REFERENCE = ImageSet(IMAGES)
SIDES, WIDTHS = {"dinov2": 224, "clip": 32}, {"dinov2": 16, "clip": 12}
TINY = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = {**TINY, "intermediate_size": 24, "image_size": 32, "patch_size": 8, "projection_dim": 12}
TEXT = {**TINY, "intermediate_size": 24, "vocab_size": 20, "projection_dim": 12, "bos_token_id": 1, "eos_token_id": 2}
every_kind = pytest.mark.parametrize("name", ENCODERS)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No network, and no weights but those of the test."""

    def refuse(*arguments: object, **options: object) -> None:
        pytest.fail("the network was asked")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("LIMNER_WEIGHTS", raising=False)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds both under their standard names, and all of CLIP as the hub has it."""
    base = tmp_path_factory.mktemp("weights")
    with torch.random.fork_rng(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        torch.manual_seed(0)
        dinov2 = transformers.Dinov2Model(transformers.Dinov2Config(**TINY, image_size=266, patch_size=14))
        for parameter in dinov2.parameters():  # as it starts, its layers hardly matter
            parameter.data.add_(0.2 * torch.randn_like(parameter))
        clip = transformers.CLIPModel(transformers.CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=12))
        clip.save_pretrained(base / "whole")
        dinov2.save_pretrained(base / ENCODERS["dinov2"].standard)
        alone = transformers.CLIPVisionModelWithProjection(clip.vision_model.config)
        alone.vision_model.load_state_dict(clip.vision_model.state_dict())
        alone.visual_projection.load_state_dict(clip.visual_projection.state_dict())
        alone.save_pretrained(base / ENCODERS["clip"].standard)
    return base


def directly(name: str, folder: Path, images: torch.Tensor) -> torch.Tensor:
    """What the library gives for these pictures."""
    side = SIDES[name]
    ours = resized(images, (side, side), "bicubic").permute(0, 2, 3, 1).numpy()
    mean, std = {
        "dinov2": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        "clip": ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]),
    }[name]
    x = torch.from_numpy((ours / 255 - mean) / std).float().permute(0, 3, 1, 2)
    with torch.no_grad():
        if name == "dinov2":
            return transformers.Dinov2Model.from_pretrained(folder).eval()(x).last_hidden_state[:, 0]
        net = transformers.CLIPVisionModelWithProjection.from_pretrained(folder).eval()
        rows = net.visual_projection(net.vision_model(x).pooler_output)
        return rows / rows.square().sum(1, keepdim=True).sqrt()


@every_kind
def test_features_are_the_librarys(name: str, folders: Path) -> None:
    folder = folders / ENCODERS[name].standard
    extractor = choose(name, REFERENCE, weights=folder)
    rows = extract(extractor, IMAGES)
    assert rows.shape == (5, WIDTHS[name]) and rows.dtype == torch.float32 and extractor.width == WIDTHS[name]
    assert extractor.name == name and extractor.resize == f"bicubic, antialiased, to {SIDES[name]}x{SIDES[name]}"
    assert torch.allclose(rows, directly(name, folder, IMAGES), atol=1e-5)
    assert rows.std(0).max() > 1e-3  # pictures tell
    assert torch.equal(extract(extractor, IMAGES), rows)
    assert torch.allclose(extract(extractor, IMAGES, batch=2), rows, atol=1e-5)
    assert torch.allclose(extract(extractor, IMAGES.flip(0)).flip(0), rows, atol=1e-5)
    if name == "clip":
        assert torch.allclose(rows.norm(dim=1), torch.ones(5), atol=1e-6)


@pytest.mark.parametrize("side", [32, 224])
def test_bicubic_resizing_is_pillows(side: int) -> None:
    """On grays of the middle: where bicubic overshoots black or white, Pillow cuts off twice, after rows and columns."""
    middle = IMAGES // 3 + 85
    pixels = middle.permute(0, 2, 3, 1).numpy()
    theirs = np.stack([np.asarray(Image.fromarray(x).resize((side, side), Image.Resampling.BICUBIC)) for x in pixels])
    ours = resized(middle, (side, side), "bicubic").permute(0, 2, 3, 1).numpy()
    assert np.abs(ours.astype(int) - theirs).max() <= 1


@every_kind
def test_grey_and_transparent_pictures(name: str, folders: Path) -> None:
    extractor = choose(name, REFERENCE, weights=folders)
    gray = IMAGES[:2, :1]
    assert torch.equal(extractor(gray), extractor(gray.expand(-1, 3, -1, -1)))
    clear = torch.cat([IMAGES[:2], torch.zeros_like(gray)], 1)
    assert torch.equal(extractor(clear), extractor(torch.full_like(IMAGES[:2], 255)))


def test_all_of_clip_gives_what_its_vision_tower_gives(folders: Path) -> None:
    alone, whole = choose("clip", REFERENCE, weights=folders), choose("clip", REFERENCE, weights=folders / "whole")
    assert torch.equal(alone(IMAGES), whole(IMAGES)) and alone.identity == whole.identity
    assert alone.identity != choose("dinov2", REFERENCE, weights=folders).identity


@every_kind
def test_weights_are_found_where_they_may_lie(
    name: str, folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = ENCODERS[name]
    identity = choose(name, REFERENCE, weights=folders).identity
    # the hub's own cache
    held = tmp_path / "hub" / f"models--{kind.repository.replace('/', '--')}"
    shutil.copytree(folders / kind.standard, held / "snapshots" / "0123")
    (held / "refs").mkdir()
    (held / "refs" / "main").write_text("0123")
    assert choose(name, REFERENCE).identity == identity
    shutil.rmtree(held)
    with pytest.raises(ValueError, match="need the weights"):
        choose(name, REFERENCE)
    monkeypatch.setenv("LIMNER_WEIGHTS", str(folders))
    assert choose(name, REFERENCE).identity == identity


@every_kind
def test_missing_damaged_and_foreign_weights_are_told(name: str, folders: Path, tmp_path: Path) -> None:
    kind, other = ENCODERS[name], ENCODERS["clip" if name == "dinov2" else "dinov2"]
    with pytest.raises(ValueError, match=f"need the weights of {kind.repository} .* fetch them once"):
        choose(name, REFERENCE)
    pickled, cut, lacking, registers = (tmp_path / x for x in ("pickled", "cut", "lacking", "registers"))
    for folder in (pickled, cut, lacking, registers):
        shutil.copytree(folders / kind.standard, folder)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    whole = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    shutil.copy(folders / other.standard / "model.safetensors", lacking)  # none of its tensors fits
    config = (registers / "config.json").read_text()
    types = ("dinov2", "clip_vision_model")
    for known in types:
        config = config.replace(f'"model_type": "{known}"', '"model_type": "dinov2_with_registers"')
    (registers / "config.json").write_text(config)
    for folder, says in (
        (tmp_path / "nowhere", "need the weights"), (pickled, "need the weights"), (cut, "is damaged"),
        (lacking, "tensors are missing"), (registers, "names it 'dinov2_with_registers'"),
        (folders / other.standard, "config.json names it"),
    ):
        with pytest.raises(ValueError, match=says) as caught:
            choose(name, REFERENCE, weights=folder)
        assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


@every_kind
def test_the_network_is_not_asked_even_where_it_is_allowed(
    name: str, folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Older and newer libraries of the hub ask it for more than files; `offline` fails the test where one does."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.AGENT_HARNESSES_PATH", str(tmp_path / "none"), raising=False)
    if "huggingface_hub.utils._detect_agent" in sys.modules:
        monkeypatch.setattr("huggingface_hub.utils._detect_agent._registry", None)
    choose(name, REFERENCE, weights=folders)
    with pytest.raises(ValueError, match="need the weights"):
        choose(name, REFERENCE)
    assert sys.modules["huggingface_hub.constants"].HF_HUB_OFFLINE is False  # as it was


@every_kind
def test_a_missing_library_is_told(name: str, folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match=r"pip install 'limner\[features\]'"):
        choose(name, REFERENCE, weights=folders)


def test_the_one_call_measures_with_both(folders: Path) -> None:
    found = evaluate(
        IMAGES, IMAGES.flip(3), metrics=["mmd_gaussian"], features=["clip", "dinov2"], weights=folders, device="cpu", cache=False
    )
    assert [m.label for m in found.metrics] == ["mmd_gaussian_clip", "mmd_gaussian_dinov2"]
    assert [used["width"] for used in found.protocol["features"]] == [12, 16]
