"""The extractors: each picture by itself, whatever the batch; resized once; `own` learns, is kept, and notices damage."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from limner.data.cache import cache_folder
from limner.evaluation.features import (
    Convolutions,
    EfficientNet,
    LowPass,
    Pixels,
    choose,
    extract,
    extract_cached,
    own_features,
    resized,
    with_channels,
)
from limner.evaluation.features.encoder import WIDTH, Encoder, budget, train_classifier
from limner.evaluation.frechet import frechet_distance
from limner.evaluation.inputs import ImageSet


def shapes(n: int, seed: int = 0, size: int = 16) -> ImageSet:
    """Gray pictures of two classes, a bright square or a bright bar at any place, over noise."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 40, (n, 1, size, size), dtype=np.uint8)
    labels = np.arange(n) % 2
    for i in range(n):
        h, w = (6, 6) if labels[i] == 0 else (3, 12)
        top, left = random.integers(0, size - h), random.integers(0, size - w + 1)
        images[i, 0, top : top + h, left : left + w] = random.integers(150, 255)
    return ImageSet(torch.from_numpy(images), torch.from_numpy(labels), ("square", "bar"), "shapes")


REFERENCE = shapes(300)


@pytest.fixture(autouse=True, scope="module")
def brief():
    """Trainings of a quarter of the least length: the pictures here are simple."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("limner.evaluation.features.encoder.budget", lambda n: 5000)
        yield


@pytest.fixture(scope="module")
def trained():
    return own_features(REFERENCE, cache=False)


def test_every_extractor_takes_pictures_one_by_one(trained) -> None:
    for extractor in (trained, Pixels(REFERENCE), LowPass((16, 16)), Convolutions(1, (16, 16)), EfficientNet()):
        rows = extract(extractor, REFERENCE.images[:40])
        assert rows.shape == (40, extractor.width) and rows.dtype == torch.float32
        assert torch.allclose(extract(extractor, REFERENCE.images[:40], batch=7), rows, atol=1e-4)
        assert torch.allclose(extract(extractor, iter(REFERENCE.images[:40].split(3))), rows, atol=1e-4)
        color = REFERENCE.images[:5].expand(-1, 3, -1, -1)
        assert torch.allclose(extract(extractor, color), rows[:5], atol=1e-4)
        larger = resized(REFERENCE.images[:5], (32, 32))
        assert extract(extractor, larger).shape == (5, extractor.width)


def test_own_tells_classes_apart_and_is_the_same_again(trained) -> None:
    test = shapes(200, seed=1)
    assert test.labels is not None
    assert (trained.probabilities(test.images).argmax(1) == test.labels).double().mean() > 0.95
    random = torch.get_rng_state()
    again = own_features(REFERENCE, cache=False)
    assert torch.equal(torch.get_rng_state(), random)  # the caller's stream is left alone
    assert again.identity == trained.identity
    assert torch.equal(extract(again, test.images), extract(trained, test.images))


def test_own_notices_blur_noise_a_lost_class_and_duplicates(trained) -> None:
    real = extract(trained, REFERENCE.images)
    fresh = shapes(300, seed=2)
    assert fresh.labels is not None
    base = frechet_distance(extract(trained, fresh.images), real)
    noise = torch.randn(fresh.images.shape, generator=torch.Generator().manual_seed(0))
    damaged = {
        "noise": (fresh.images + 40 * noise).clamp(0, 255).to(torch.uint8),
        "blur": torch.nn.functional.avg_pool2d(fresh.images.float(), 5, 1, 2).to(torch.uint8),
        "lost class": fresh.images[fresh.labels == 0],
        "duplicates": fresh.images[:12].repeat(25, 1, 1, 1),
    }
    for name, images in damaged.items():
        assert frechet_distance(extract(trained, images), real) > 1.5 * base, name


def test_without_labels_it_learns_to_tell_pictures_apart() -> None:
    bare = ImageSet(REFERENCE.images[:64])
    extractor = own_features(bare, cache=False)
    rows = torch.nn.functional.normalize(extract(extractor, bare.images), dim=1)
    moved = torch.nn.functional.normalize(extract(extractor, bare.images.roll(1, 3)), dim=1)
    assert ((moved @ rows.T).argmax(1) == torch.arange(64)).double().mean() > 0.5
    with pytest.raises(ValueError, match="without labels"):
        extractor.probabilities(bare.images)


def test_own_is_kept_by_content_and_a_damaged_file_is_made_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LIMNER_CACHE", str(tmp_path))
    trainings = []

    def quick(images: torch.Tensor, labels: torch.Tensor, classes: int, **options: object) -> Encoder:
        trainings.append(1)
        torch.manual_seed(0)
        return Encoder(1, (16, 16), torch.nn.Linear(WIDTH, classes)).eval()

    monkeypatch.setattr("limner.evaluation.features.own.train_classifier", quick)
    first = own_features(REFERENCE)
    assert own_features(REFERENCE).identity == first.identity and len(trainings) == 1
    (path,) = (cache_folder() / "encoders").glob("*.safetensors")
    assert json.loads(path.with_suffix(".json").read_text())["n"] == 300
    path.write_bytes(path.read_bytes()[:1000])
    assert own_features(REFERENCE).identity == first.identity and len(trainings) == 2
    own_features(shapes(300, seed=5))
    assert len(trainings) == 3


def test_features_are_kept_by_content_and_a_damaged_file_is_made_again() -> None:
    calls = []

    class Counting(Convolutions):
        def __call__(self, images: torch.Tensor) -> torch.Tensor:
            calls.append(len(images))
            return super().__call__(images)

    extractor = Counting(1, (16, 16))
    rows = extract_cached(extractor, REFERENCE.images, "abc")
    assert torch.equal(extract_cached(extractor, REFERENCE.images, "abc"), rows) and sum(calls) == 300
    for path in (cache_folder() / "features").iterdir():
        path.write_bytes(b"broken")
    assert torch.equal(extract_cached(extractor, REFERENCE.images, "abc"), rows) and sum(calls) == 600


def test_resizing_is_antialiased_like_pillows_and_identity_at_equal_size() -> None:
    x = torch.randint(0, 256, (2, 3, 60, 48), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    assert resized(x, (60, 48)) is x
    for size in ((15, 12), (20, 30)):
        theirs = Image.fromarray(x[0].permute(1, 2, 0).numpy()).resize(size[::-1], Image.Resampling.BILINEAR)
        ours = resized(x, size)[0].permute(1, 2, 0).numpy().astype(int)
        assert np.abs(ours - np.asarray(theirs)).max() <= 1


def test_channels() -> None:
    x = torch.tensor([255, 0, 0, 128], dtype=torch.uint8).reshape(1, 4, 1, 1)
    assert with_channels(x, 3).flatten().tolist() == [255, 127, 127]
    assert with_channels(x[:, :3], 1).item() == 76
    assert with_channels(x[:, :1], 4).flatten().tolist() == [255] * 4


def test_the_budget_and_small_or_odd_pictures() -> None:
    assert (budget(10), budget(2000), budget(10**6)) == (16_000, 40_000, 400_000)
    for size in ((8, 8), (9, 33), (64, 48), (28, 28)):
        net = Encoder(3, size, torch.nn.Linear(WIDTH, 4)).eval()
        assert net.predict(torch.zeros(2, 3, *size)).shape == (2, 4)
        assert all(layer.shape[0] == 2 for layer in net.layers(torch.zeros(2, 3, *size)))


def test_the_shift_keeps_pixels_and_training_reports() -> None:
    seen: list[tuple[int, int]] = []
    assert REFERENCE.labels is not None
    train_classifier(REFERENCE.images[:16], REFERENCE.labels[:16], 2, progress=lambda a, b: seen.append((a, b)))
    assert seen[-1][0] == seen[-1][1] and len(seen) > 2


def test_what_is_not_there_is_told() -> None:
    with pytest.raises(ValueError, match="no features called"):
        choose("vgg", REFERENCE)
    with pytest.raises(ValueError, match="16 or more"):
        own_features(shapes(5))
    with pytest.raises(ValueError, match="empty"):
        extract(Convolutions(1, (16, 16)), [])


def test_lowpass_sees_shape_and_no_texture() -> None:
    """A fine checkerboard vanishes in means of areas; a shift by a quarter of the picture does not."""
    random = np.random.default_rng(0)
    coarse = np.repeat(np.repeat(random.integers(60, 196, (80, 3, 8, 8)), 8, 2), 8, 3)
    checks = 40 * (np.indices((64, 64)).sum(0) % 2 * 2 - 1)
    extractor = LowPass((64, 64))
    plain, textured, moved = (torch.from_numpy(x.astype(np.uint8)) for x in (coarse, coarse + checks, np.roll(coarse, 16, 3)))
    assert torch.allclose(extractor(plain), extractor(textured), atol=4e-3)  # luma is rounded
    assert (extractor(plain) - extractor(moved)).abs().mean() > 0.1


def test_efficientnet_tells_a_blurred_set_from_a_sharp_one() -> None:
    random = torch.Generator().manual_seed(0)
    sharp = torch.randint(0, 256, (120, 3, 32, 32), generator=random, dtype=torch.uint8)
    blurred = torch.nn.functional.avg_pool2d(sharp.float(), 3, 1, 1).to(torch.uint8)
    a, b, c = (EfficientNet()(x) for x in (sharp[:60], sharp[60:], blurred[:60]))
    assert frechet_distance(a, c) > 2 * frechet_distance(a, b)
