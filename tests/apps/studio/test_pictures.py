"""A picture of one's own through a model of each kind: what the command that is shown gives."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import limner
from limner.apps.studio.latent_map import request_of
from limner.apps.studio.models import Models, draws
from limner.apps.studio.pictures import use
from limner.families.load import load

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (32, 16, 16), dtype=np.uint8)
LABELS = np.arange(32) % 2
GAN = {"network.width": 8, "discriminator.width": 8}
CODEC = {f"network.{name}": 8 for name in ("latent_channels", "hyper_width", "encoder_width", "decoder_width")}
RUNS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "translator": ((PICTURES, 255 - PICTURES), {"recipe": "pix2pix", "changes": GAN}),
    "restorer": ((RNG.integers(0, 256, (16, 32, 32, 3), dtype=np.uint8),), {"recipe": "super-resolution", "size": 16, "changes": {"network.width": 8, "network.depth": 1, "scale": 2}}),
    "autoencoder": ((PICTURES,), {"recipe": "vae", "changes": {"network.width": 8, "network.z_size": 5}}),
    "classifier": (((PICTURES, LABELS),), {"recipe": "classifier", "changes": {"network.width": 8}}),
    "codec": ((RNG.integers(0, 256, (16, 64, 64), dtype=np.uint8),), {"recipe": "codec", "changes": CODEC}),
}
COMMANDS = {
    "translator": "limner translate {run} cat.png translated.png", "restorer": "limner restore {run} cat.png restored.png --strength 0.5",
    "autoencoder": "limner reconstruct {run} cat.png", "classifier": "limner classify {run} cat.png",
    "codec": "limner compress {run} cat.png picture.limn --quality 30",
}  # fmt: skip


@pytest.fixture(scope="module", params=RUNS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    data, options = RUNS[request.param]
    if request.param == "codec":
        pytest.importorskip("constriction")
    out = tmp_path_factory.mktemp("kinds") / request.param
    limner.train(*data, images=32, out=out, quiet=True, **options)
    return load(out, "cpu")


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def test_each_kind_shows_before_and_after_of_one_size_with_its_command(model: Any) -> None:
    kind = model.description["kind"]
    image = Image.fromarray(RNG.integers(0, 256, (24, 40, 3), dtype=np.uint8))
    made = use(model, model.folder, image, "cat.png", 1234, {"strength": 0.5, "quality": 30})
    assert made.command == COMMANDS[kind].format(run=model.folder)
    assert opened(made.before).size == opened(made.after).size
    if kind == "restorer":
        assert opened(made.after).size == (80, 48)
        assert np.array_equal(np.asarray(opened(made.after)), np.asarray(model.restore(image, 0.5)))
    elif kind == "translator":
        assert np.array_equal(np.asarray(opened(made.after)), np.asarray(model.translate(image)))
    elif kind == "codec":
        assert made.file == model.compress(image, 30) and made.facts["your file"] == "1,234 bytes"
        assert np.array_equal(np.asarray(opened(made.after)), np.asarray(model.decompress(made.file)))
    elif kind == "classifier":
        assert sum(chance for _, chance in made.classes) == pytest.approx(1) and made.classes[0][1] >= made.classes[1][1]
    else:
        assert opened(made.after).size == (16, 16)
    if kind != "classifier":
        assert opened(made.after).text["Comment"] == made.command  # type: ignore[attr-defined]


def test_only_models_with_latents_draw(model: Any) -> None:
    assert draws(model) == (model.description["kind"] == "autoencoder")
    loaded = Models(lambda folder: model).get(model.folder)
    if draws(model):
        assert loaded.require().model is model
    else:
        with pytest.raises(ValueError, match="draws no pictures"):
            loaded.require()


def test_a_generator_takes_no_picture_by_itself(run_folder: Path) -> None:
    with pytest.raises(ValueError, match="takes no picture"):
        use(load(run_folder, "cpu"), run_folder, Image.new("RGB", (8, 8)), "a.png", 1, {})


def test_a_model_is_loaded_again_when_its_weights_were_written(home: Path) -> None:
    models, folder = Models(lambda path: load(path, "cpu")), home / "squares"
    first = models.get(folder)
    assert models.get(folder) is first and models.get(folder, newest=True) is first
    weights = folder / "weights.safetensors"
    weights.write_bytes(weights.read_bytes())
    assert models.get(folder) is first and models.get(folder, newest=True) is not first


def test_a_run_says_what_it_was_trained_on(run_folder: Path, squares: Path, tmp_path: Path) -> None:
    assert request_of(run_folder).data == str(squares)
    with pytest.raises(ValueError, match="does not say where"):
        request_of(tmp_path)
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "command.json").write_text('{"data": {"data": 3}}')
    with pytest.raises(ValueError, match="damaged"):
        request_of(tmp_path)
