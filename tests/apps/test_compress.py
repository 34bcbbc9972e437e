"""Pictures through the codec: every mode and size, metadata, tiles, qualities, and what damaged bytes give."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from codec_model import SMALL, codec, network, picture
from limner.apps import compress as app
from limner.coding import container, entropy
from limner.coding.container import Tile
from limner.core.images import to_float, to_uint8
from limner.networks.hyperprior import MEAN_BITS

MODEL = codec()


def rendered(model: app.Codec, image: np.ndarray, quality: int) -> np.ndarray:
    """What one pass of the network over the whole padded picture gives, without a file: uint8 [H,W,C]."""
    h, w, _ = image.shape
    padded = np.pad(image, ((0, -h % 64), (0, -w % 64), (0, 0)), mode="edge")
    x = to_float(torch.from_numpy(np.ascontiguousarray(padded.transpose(2, 0, 1)))[None])
    net, level = model.network, model.streams.level(quality)
    with torch.no_grad():
        y = net.analysis(x, level)
        mean, _ = net.prior(net.hyper_analysis(y).round().long(), level)
        symbols = (y - mean / 2**MEAN_BITS).round()
        symbols[:, :, -(-h // 16) :] = 0
        symbols[:, :, :, -(-w // 16) :] = 0
        made = to_uint8(net.synthesis(symbols + mean / 2**MEAN_BITS, level))
    return made[0, :, :h, :w].numpy().transpose(1, 2, 0)


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (63, 65), (64, 64), (100, 37), (129, 300)])
def test_a_file_gives_what_the_network_makes(size: tuple[int, int]) -> None:
    image = picture(*size)
    for quality in (0, 37, 100):
        content = MODEL.compress(Image.fromarray(image), quality)
        made = MODEL.decompress(content)
        assert made.size == size[::-1] and made.mode == "RGB"
        assert np.abs(np.asarray(made).astype(int) - rendered(MODEL, image, quality)).max() <= 1


def test_a_long_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    image = picture(30, 4000)
    content = MODEL.compress(Image.fromarray(image))
    assert len(MODEL.open(content).groups[0].streams) == 4
    made = np.asarray(MODEL.decompress(content))
    monkeypatch.setattr(container, "TILE", 4096)
    whole = np.asarray(MODEL.decompress(MODEL.compress(Image.fromarray(image))))
    assert made.shape == image.shape and np.abs(made.astype(int) - whole).mean() < 1
    assert np.square(made.astype(float) - image).mean() < 1.02 * np.square(whole.astype(float) - image).mean()


@pytest.mark.parametrize("wide", [1, 3 * 176 * 256, 1 << 22])
def test_tiles_are_rendered_as_one_picture(monkeypatch: pytest.MonkeyPatch, wide: int) -> None:
    """The latents differ at seams (the prior of a tile sees nothing beyond it); the rendering of given latents does not."""
    monkeypatch.setattr(container, "TILE", 128)
    monkeypatch.setattr("limner.apps.streams.WIDE", wide)  # one column of latents at a time, a few, all
    image = picture(300, 410)
    content = MODEL.compress(Image.fromarray(image))
    file = MODEL.open(content)
    tiles = file.header.items[0].tiles()
    assert len(tiles) == 12 and tiles[-1] == Tile(256, 384, 44, 26)
    streams = MODEL.streams
    latents = [streams.decode(s, 1, t, 50, file.context(0, i)) for i, (s, t) in enumerate(zip(file.groups[0].streams, tiles, strict=True))]
    rows = [torch.cat(latents[i : i + 4], 3) for i in range(0, 12, 4)]
    whole = streams.render(torch.cat(rows, 2), 50)[0, :, :300, :410].numpy().transpose(1, 2, 0)
    assert np.abs(np.asarray(MODEL.decompress(content)).astype(int) - whole).max() <= 1
    monkeypatch.setattr(container, "TILE", 1024)
    untiled = np.asarray(MODEL.decompress(MODEL.compress(Image.fromarray(image))))
    error, other = (np.square(made.astype(float) - image).mean() for made in (whole, untiled))
    assert error < 1.05 * other  # the encoder sees beyond a tile, so seams cost nothing


def test_a_pixel_depends_on_no_latent_and_a_latent_on_no_pixel_beyond_the_radius() -> None:
    config = replace(SMALL, decoder_blocks=2, encoder_blocks=2)
    for net in (network(), network(config=config)):
        level, r = torch.tensor([1.0]), net.radius
        latents = torch.zeros(1, 24, 4 * r + 3, 1, requires_grad=True)
        middle = 2 * r + 1
        net.synthesis(latents, level)[:, :, 16 * middle : 16 * middle + 16].square().sum().backward()
        reached = latents.grad.abs().sum((0, 1, 3)).nonzero().flatten()
        assert reached.min() == middle - r and reached.max() == middle + r
        margin = net.encoder_radius
        x = torch.rand(1, 3, 64 * 10, 64, requires_grad=True)
        net.analysis(x, level)[:, :, 20].square().sum().backward()
        reached = x.grad.abs().sum((0, 1, 3)).nonzero().flatten()
        assert 320 - margin <= reached.min() <= 320 - margin + 32 and 320 + 15 + margin - 32 <= reached.max() <= 320 + 15 + margin


def test_gray_stays_gray_and_a_gray_codec_takes_color() -> None:
    gray = Image.fromarray(picture(70, 50)[..., 0])
    assert MODEL.decompress(MODEL.compress(gray)).mode == "L"
    model = codec(1)
    assert model.decompress(model.compress(gray)).mode == "L"
    color = model.prepare(Image.fromarray(picture(70, 50)))
    assert color.notes == ("is stored in gray, as the codec was trained",)
    assert model.decompress(model.compress(Image.fromarray(picture(70, 50)))).mode == "L"


def test_transparency_is_kept_without_loss_or_goes_through_a_codec_of_four_channels() -> None:
    image = Image.fromarray(picture(90, 120))
    alpha = (np.hypot(*np.mgrid[-45:45, -60:60]) < 40).astype(np.uint8) * 200
    image.putalpha(Image.fromarray(alpha))
    for model, exact in ((MODEL, True), (codec(1), True), (codec(4), False)):
        made = model.decompress(model.compress(image))
        assert made.mode == "RGBA" and made.size == image.size
        difference = np.abs(np.asarray(made)[..., 3].astype(int) - alpha)
        assert difference.max() == 0 if exact else difference.mean() < 40
    for mode in ("RGB", "L"):
        assert codec(4).decompress(codec(4).compress(image.convert(mode))).mode == mode


def test_other_modes_and_depths() -> None:
    deep = Image.fromarray(picture(40, 40)[..., 0].astype(np.uint16) * 257)
    assert MODEL.prepare(deep).notes == ("has more than 8 bits a channel and is stored with 8",)
    assert MODEL.decompress(MODEL.compress(deep)).mode == "L"
    palette = Image.fromarray(picture(40, 40)).convert("P")
    assert MODEL.decompress(MODEL.compress(palette)).mode == "RGB"
    array = picture(40, 30).transpose(2, 0, 1)
    assert MODEL.decompress(MODEL.compress(array)).size == (30, 40)
    with pytest.raises(ValueError, match="transpose it"):
        MODEL.compress(picture(40, 30))


def test_orientation_is_applied_and_metadata_kept(tmp_path: Path) -> None:
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    Image.fromarray(picture(40, 80)).save(tmp_path / "turned.jpg", exif=exif, icc_profile=icc)
    content = MODEL.compress(tmp_path / "turned.jpg")
    made = MODEL.decompress(content)
    assert made.size == (40, 80) and made.info["icc_profile"] == icc
    kept = Image.Exif()
    kept.load(made.info["exif"])
    assert dict(kept) == {0x010E: "a description"}
    assert len(MODEL.compress(tmp_path / "turned.jpg", metadata=False)) < len(content) - 300
    cmyk = Image.fromarray(picture(40, 80)).convert("CMYK")
    cmyk.info["icc_profile"] = b"\0" * 16 + b"CMYK" + b"\0" * 200  # no profile for the RGB that is stored
    assert MODEL.prepare(cmyk).item.icc == b""


def test_a_factorized_codec() -> None:
    model = codec(config=replace(SMALL, factorized=True))
    image = picture(100, 150)
    for quality in (0, 20, 100):
        made = np.asarray(model.decompress(model.compress(Image.fromarray(image), quality)))
        assert np.abs(made.astype(int) - rendered(model, image, quality)).max() <= 1


def test_a_small_file_costs_its_bits_and_a_short_header() -> None:
    image = picture(64, 64)
    content = MODEL.compress(Image.fromarray(image))
    file = MODEL.open(content)
    stream = file.groups[0].streams[0]
    assert stream is not None and len(content) - len(stream) == 13
    parts = []
    real = entropy.encode
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("limner.apps.streams.encode", lambda given, context: parts.extend(given) or real(given, context))
        MODEL.compress(Image.fromarray(image))
    ideal = sum(coder.bits(values, rows) for values, rows, coder in parts)
    assert ideal < len(stream) * 8 <= ideal * 1.001 + 41  # the CRC-32, and what a whole byte wastes


@pytest.mark.parametrize("factorized", [False, True])
def test_a_file_is_within_a_percent_of_the_rate_that_training_estimates(factorized: bool) -> None:
    model = codec(config=replace(SMALL, factorized=factorized))
    image, net = picture(256, 256), model.network
    x = to_float(torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None])
    for quality in (0, 50, 100):
        level = model.streams.level(quality)
        y = net.analysis(x, level)
        estimated = net.rate_distortion(x, y, net.hyper_analysis(y), level)[0].item()
        real = len(model.compress(Image.fromarray(image), quality)) * 8
        # far from their means, where random weights leave many latents, an escape is cheaper than the estimate's least likelihood
        assert 0.7 * estimated < real < 1.01 * estimated + 17 * 8, (quality, estimated, real)


def test_refinement_lowers_the_objective_and_decodes_alike() -> None:
    image = picture(100, 90)
    costs = []
    weight = float(MODEL.network.lambdas(MODEL.streams.level(50)))
    for effort in (0, 8):
        content = MODEL.compress(Image.fromarray(image), 50, effort)
        error = np.square(np.asarray(MODEL.decompress(content)).astype(float) - image).mean()
        costs.append(len(content) * 8 / 9000 + weight * error)
    assert costs[1] < 0.99 * costs[0], costs
    assert MODEL.compress(Image.fromarray(image), 50, 8) == content  # seeded


def test_options_out_of_range() -> None:
    image = Image.fromarray(picture(8, 8))
    for quality in (-1, 101, 0.5):
        with pytest.raises(ValueError, match="from 0"):
            MODEL.compress(image, quality)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="effort"):
        MODEL.compress(image, effort=-1)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda c: b"", "not a picture that"),
        (lambda c: b"PNG" + c[3:], "not a picture that"),
        (lambda c: c[:3] + b"\2" + c[4:], "newer Limner"),
        (lambda c: c[:5] + b"\0\0\0\0" + c[9:], "another model"),
        (lambda c: c[:9] + b"\xff" + c[10:], "header is damaged"),
        (lambda c: c[:10] + b"\xff\xff\xff\xff\x0f" + c[11:], "exceeds its limit"),
        (lambda c: c[:12], "truncated"),
        (lambda c: c[:-3], "damaged"),
        (lambda c: c[:-3] + bytes([c[-3] ^ 8]) + c[-2:], "damaged"),
        (lambda c: c + b"x", "damaged"),
    ],
)
def test_what_is_damaged_is_one_sentence(change: object, match: str) -> None:
    content = MODEL.compress(Image.fromarray(picture(64, 64)))
    with pytest.raises(ValueError, match=match) as error:
        MODEL.decompress(change(content))  # type: ignore[operator]
    assert str(error.value).startswith("The picture cannot be decompressed: ") and str(error.value).endswith(".")


def test_another_model_and_a_damaged_picture() -> None:
    content = MODEL.compress(Image.fromarray(picture(64, 64)))
    with pytest.raises(ValueError, match="decompress it with the run that compressed it"):
        codec(seed=1).decompress(content)
    buffer = io.BytesIO()
    Image.fromarray(picture(64, 64)).save(buffer, "PNG")
    with pytest.raises(ValueError, match=r"cannot be used: truncated"):
        MODEL.compress(Image.open(io.BytesIO(buffer.getvalue()[:2000])))


def test_tiles_of_a_file_cannot_be_exchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "TILE", 64)
    flat = Image.fromarray(np.full((64, 128, 3), 99, np.uint8))
    file = MODEL.open(MODEL.compress(flat))
    a, b = file.groups[0].streams
    swapped = container.write(file.header, [container.Group([b, a])])
    with pytest.raises(ValueError, match="damaged"):
        MODEL.decompress(swapped)


def test_pictures_of_one_size_that_need_tiles_are_archived():
    model = codec()
    pictures = [model.prepare(Image.fromarray(picture(30, 1100, seed=i))) for i in range(2)]
    items = [replace(one.item, name=f"{i}.png") for i, one in enumerate(pictures)]
    content = model.write(items, lambda i: pictures[i], archive=True)
    for one, (_, image) in zip(pictures, model.images(model.open(content)), strict=True):
        alone = model.decompress(model.compress_prepared(one))
        assert np.array_equal(np.asarray(image), np.asarray(alone))


def test_numbers_that_mean_nothing_are_one_sentence():
    for quality in (-1, 101, 49.5, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="whole number from 0"):
            codec().compress(np.zeros((3, 8, 8), np.uint8), quality)
    with pytest.raises(ValueError, match="whole number of steps"):
        codec().compress(np.zeros((3, 8, 8), np.uint8), effort=1.5)
