"""Each degradation against a closed form, the codec's own file or its stated moments, on 1, 3 and 4 channels."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

from limner.data.degradations.blur import (
    KERNELS,
    Blur,
    MotionBlur,
    convolve,
    gaussian_kernel,
    motion_kernel,
    random_sinc,
    sinc_kernel,
)
from limner.data.degradations.codecs import Jpeg, Webp
from limner.data.degradations.holes import Holes
from limner.data.degradations.noise import GaussianNoise, LowLight, PoissonNoise
from limner.data.degradations.protocol import Degradation
from limner.data.degradations.resize import Downscale, Gray


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def picture(height: int = 48, width: int = 60, channels: int = 3, seed: int = 0) -> np.ndarray:
    """A smooth random picture, uint8 [H,W,C]."""
    small = rng(seed).integers(0, 256, (6, 6, channels), np.uint8)
    planes = [Image.fromarray(small[..., c]).resize((width, height), Image.Resampling.BICUBIC) for c in range(channels)]
    return np.stack([np.asarray(plane) for plane in planes], -1)


SIMPLE: dict[str, Degradation] = {
    "noise": GaussianNoise(20, gray=0.5), "poisson": PoissonNoise(2, gray=0.5), "low-light": LowLight(), "blur": Blur(),
    "motion": MotionBlur(), "jpeg": Jpeg((10, 60)), "webp": Webp((5, 60)), "holes": Holes(0.3), "downscale": Downscale(3),
}  # fmt: skip


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("name", SIMPLE)
def test_pure_and_alike_in_both_dtypes(name: str, channels: int) -> None:
    degrade, image = SIMPLE[name], picture(channels=channels)
    before = image.copy()
    made = degrade(image, rng(3))
    assert (image == before).all() and made.dtype == np.uint8
    assert made.shape == (48 // degrade.scale, 60 // degrade.scale, channels)
    assert (made == degrade(image, rng(3))).all() and (made != degrade(image, rng(4))).any() == (name != "downscale")
    float_image = image.astype(np.float32)
    exact = degrade(float_image, rng(3))
    assert exact.dtype == np.float32 and (float_image == before).all()
    tolerance = 2 if name == "downscale" and channels != 4 else 0.501  # between its two 8-bit passes Pillow rounds and clips
    assert np.abs(np.clip(exact, 0, 255) - made).max() <= tolerance
    if channels == 4 and name in ("noise", "poisson", "low-light", "jpeg", "webp"):
        assert (made[..., 3] == image[..., 3]).all()


@pytest.mark.parametrize("degrade", [*SIMPLE.values(), Gray()], ids=[*SIMPLE, "gray"])
def test_the_smallest_pictures(degrade: Degradation) -> None:
    side = degrade.scale
    assert degrade(np.full((side, side, 3), 77, np.uint8), rng()).shape[:2] == (1, 1)
    assert degrade(np.full((side, 40 * side, 3), 77, np.uint8), rng()).shape[:2] == (1, 40)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_downscaling_is_the_antialiased_bicubic_of_the_field(scale: int) -> None:
    image = picture(24 * scale, 20 * scale)
    made = Downscale(scale)(image.astype(np.float32), rng())

    def weights(size: int) -> np.ndarray:  # Keys' kernel, a = -0.5, stretched by the scale, with a mirrored border as MATLAB's
        matrix = np.zeros((size, size * scale))
        for i in range(size):
            center = (i + 0.5) * scale - 0.5
            for j in range(math.floor(center - 2 * scale), math.ceil(center + 2 * scale) + 1):
                x = abs(center - j) / scale
                w = 1.5 * x**3 - 2.5 * x**2 + 1 if x <= 1 else -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0
                last = size * scale - 1
                matrix[i, -j - 1 if j < 0 else 2 * last - j + 1 if j > last else j] += w
        return matrix / matrix.sum(1, keepdims=True)

    expected = np.einsum("ij,jkc,lk->ilc", weights(24), image, weights(20))
    assert np.abs(made - expected)[2:-2, 2:-2].max() < 1e-3
    pil = Image.fromarray(image).resize((20, 24), Image.Resampling.BICUBIC)
    assert (Downscale(scale)(image, rng()) == np.asarray(pil)).all()


def test_the_color_of_transparent_pixels_does_not_bleed() -> None:
    image = np.zeros((40, 40, 4), np.uint8)
    image[..., 1] = 255                          # an invisible green
    image[:, :20] = (200, 0, 0, 255)
    for degrade in (Downscale(4), Blur(3.0, ["isotropic"], sinc=0), MotionBlur(9)):
        made = degrade(image, rng()).astype(int)
        visible = made[..., 3] > 8
        assert np.abs(made[visible][:, :3] - (200, 0, 0)).max() <= 2
        assert visible.any() and not visible.all() and len(np.unique(made[..., 3])) > 2
        assert (made[:, -1] == (0, 255, 0, 0)).all()


def test_poisson_noise_has_its_variance() -> None:
    for value in (10, 100, 240):
        flat = np.full((200, 200, 3), value, np.float32)
        noise = PoissonNoise(2.0)(flat, rng(value)) - flat
        expected = 4 * 255 * value / 256  # strength^2 255^2 x / 256
        assert abs(noise.mean()) < 4 * (expected / noise.size) ** 0.5 and abs(noise.var() / expected - 1) < 0.03
    assert (PoissonNoise(3)(np.zeros((9, 9, 3), np.uint8), rng()) == 0).all()  # no light, no noise


def test_gray_noise_is_the_same_in_all_colors() -> None:
    flat = np.full((50, 50, 3), (60.0, 120.0, 180.0), np.float32)
    for kind in (GaussianNoise, PoissonNoise):
        noise = kind(1.0, gray=1.0)(flat, rng()) - flat
        assert np.abs(noise - noise[..., :1]).max() < 1e-3 and noise.std() > 0.9
        shares = [np.ptp(kind(5.0, gray=0.4)(flat, rng(seed)) - flat, axis=-1).max() < 1e-2 for seed in range(300)]
        assert abs(np.mean(shares) - 0.4) < 4 * (0.24 / 300) ** 0.5


def test_low_light_follows_its_curve() -> None:
    image = picture().astype(np.float32)
    made = LowLight(0.95, 0.7, 2.5, 0, 0)(image, rng())
    assert np.abs(made - 255 * 0.7 * (0.95 * image / 255) ** 2.5).max() < 1e-3
    flat = np.full((200, 200, 3), 200, np.float32)
    noise = LowLight(1, 0.8, 2, 0.3, 4)(flat, rng()) - (dark := 255 * 0.8 * (200 / 255) ** 2)
    assert abs(noise.mean()) < 0.1 and abs(noise.var() / (0.3 * dark + 16) - 1) < 0.03
    assert all(LowLight()(picture(), rng(seed)).mean() < 0.7 * picture().mean() for seed in range(20))


@pytest.mark.parametrize("quality", [5, 40, 95])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_and_webp_are_the_files_of_pillow(quality: int, channels: int) -> None:
    image = picture(37, 51, channels)
    pil = Image.fromarray(image[..., 0] if channels == 1 else image)
    for degrade, format, options in ((Jpeg(quality), "JPEG", {}), (Webp(quality), "WEBP", {"method": 2})):
        file = io.BytesIO()
        pil.save(file, format, quality=quality, **options)
        read = np.asarray(Image.open(file).convert(pil.mode)).reshape(image.shape)
        assert (degrade(image, rng()) == read).all()
        assert (degrade(image + np.float32(0.3), rng()) == read).all()  # a codec rounds


def test_jpeg_draws_quality_and_subsampling() -> None:
    image = picture()
    exact = {q: Jpeg(q)(image, rng()).tobytes() for q in (50, 51, 52)}
    found = [Jpeg((50, 52))(image, rng(seed)).tobytes() for seed in range(60)]
    assert set(found) == set(exact.values())  # both limits included
    fine, coarse = Jpeg(90, "4:4:4")(image, rng()), Jpeg(90, "4:2:0")(image, rng())
    assert np.abs(fine.astype(int) - image).mean() < np.abs(coarse.astype(int) - image).mean()
    drawn = {Jpeg(90, ["4:4:4", "4:2:0"])(image, rng(seed)).tobytes() for seed in range(20)}
    assert drawn == {fine.tobytes(), coarse.tobytes()}


def test_kernels_sum_to_one_and_keep_the_center() -> None:
    kernels = [Blur(kinds=[kind], sinc=0).kernel(rng(seed)) for kind in KERNELS for seed in range(30)]
    kernels += [random_sinc(rng(seed)) for seed in range(30)] + [motion_kernel(length, 0.7) for length in (1, 2.5, 15)]
    for kernel in kernels:
        side = len(kernel)
        assert kernel.shape == (side, side) and side % 2 == 1 and abs(kernel.sum() - 1) < 1e-12
        assert np.abs(kernel - kernel[::-1, ::-1]).max() < 1e-12  # point-symmetric: the picture is not shifted
    assert {len(kernel) for kernel in kernels[:180]} == {7, 9, 11, 13, 15, 17, 19, 21}


def test_kernels_have_the_shapes_of_the_paper() -> None:
    wide = gaussian_kernel(41, (2.0, 4.0), 0.0)
    x = np.arange(41) - 20
    assert np.allclose([(wide * x**2).sum(), (wide * x[:, None] ** 2).sum()], [4, 16], rtol=1e-3)
    assert np.allclose(gaussian_kernel(41, (2.0, 4.0), math.pi / 2), wide.T)
    assert np.allclose(gaussian_kernel(15, (2, 3), 0.3, "generalized", 1.0), gaussian_kernel(15, (2, 3), 0.3))
    flat = gaussian_kernel(21, (3, 3), 0, "plateau", 2.0)
    assert flat[10, 13] / flat[10, 10] == pytest.approx(0.5) and flat[10, 16] / flat[10, 10] == pytest.approx(1 / 17)
    heavy = gaussian_kernel(21, (3, 3), 0, "generalized", 0.5)
    assert heavy[10, 16] / heavy[10, 10] == pytest.approx(math.exp(-1))
    ring = sinc_kernel(21, math.pi / 3)
    r = 4.0  # J1 from its integral, (1 / pi) int cos(t - z sin t) dt
    t = (np.arange(100_000) + 0.5) * math.pi / 100_000
    j1 = np.cos(t - math.pi / 3 * r * np.sin(t)).mean()
    assert ring[10, 14] / ring[10, 10] == pytest.approx((math.pi / 3 * j1 / (2 * math.pi * r)) / ((math.pi / 3) ** 2 / (4 * math.pi)))
    assert ring.min() < 0
    still, across = motion_kernel(1, 0), motion_kernel(9, 0)
    assert (across[len(across) // 2] > 0).sum() in (9, 11) and np.count_nonzero(across.sum(1)) == 1
    assert still.max() > 0.7


def test_a_blur_is_a_convolution_with_a_mirrored_border() -> None:
    image, kernel = picture(30, 41).astype(np.float32), gaussian_kernel(9, (1.0, 3.0), 0.5)
    padded = torch.from_numpy(np.pad(image, ((4, 4), (4, 4), (0, 0)), "reflect")).double().permute(2, 0, 1)[:, None]
    weight = torch.from_numpy(kernel[::-1, ::-1].copy())[None, None]
    expected = torch.nn.functional.conv2d(padded, weight)[:, 0].permute(1, 2, 0).numpy()
    assert np.abs(convolve(image, kernel) - expected).max() < 1e-3
    skewed = np.zeros((3, 3))
    skewed[1, 2] = 1  # a shift to the right
    assert np.abs(convolve(image, skewed)[:, 1:] - image[:, :-1]).max() < 1e-3
    assert np.abs(Blur(3.0)(np.full((20, 20, 3), 128, np.uint8), rng()).astype(int) - 128).max() == 0


def test_sinc_filters_replace_a_share_of_the_kernels() -> None:
    rings = [(Blur().kernel(rng(seed)) < 0).any() for seed in range(1000)]
    assert abs(np.mean(rings) - 0.1) < 0.03
    assert not any((Blur(sinc=0).kernel(rng(seed)) < 0).any() for seed in range(200))


@pytest.mark.parametrize("size", [(64, 64), (61, 97), (256, 200)])
@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.6])
def test_holes_cover_the_fraction(size: tuple[int, int], fraction: float) -> None:
    image = picture(*size)
    for seed in range(5):
        for shapes, most in (("rectangles", 1 / size[0]), ("brush", 0.06)):
            made, mask = Holes(fraction, shapes).with_mask(image, rng(seed))
            assert mask.shape == size and mask.dtype == np.uint8 and set(np.unique(mask)) <= {0, 1}
            assert fraction <= mask.mean() <= fraction + most
            assert (made[mask == 1] == 128).all() and (made[mask == 0] == image[mask == 0]).all()
            assert (Holes(fraction, shapes)(image, rng(seed)) == made).all()
    if fraction:
        masks = [Holes((0.1, 0.5)).with_mask(image, rng(seed))[1].mean() for seed in range(60)]
        assert min(masks) < 0.2 and max(masks) > 0.4


def test_holes_hide_transparency_too() -> None:
    made, mask = Holes(0.3).with_mask(picture(channels=4), rng())
    assert (made[mask == 1] == 128).all()


def test_gray_is_the_luma_of_pillow() -> None:
    image = picture()
    expected = np.asarray(Image.fromarray(image).convert("L"))
    made = Gray()(image, rng())
    assert made.shape == (48, 60, 1) and (made[..., 0] == expected).all()
    assert np.abs(Gray()(image.astype(np.float32), rng())[..., 0] - image @ [0.299, 0.587, 0.114]).max() < 1e-3
    assert (Gray()(picture(channels=4), rng()) == Gray()(picture(channels=4)[..., :3], rng())).all()
    assert (Gray()(image[..., :1], rng()) == image[..., :1]).all()


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (Downscale, {"factor": 5}, "cannot be made 5 times smaller: choose a scale of 1, 2, 3 or 4"),
        (GaussianNoise, {"gray": 1.5}, "gray 1.5 is not a probability"),
        (GaussianNoise, {"sigma": "12"}, "sigma '12' is not a noise level"),
        (PoissonNoise, {"strength": (3, 1)}, "give a number from 0"),
        (LowLight, {"gamma": -1}, "gamma -1 of low light is invalid"),
        (LowLight, {"alpha": (0.5, 1.5)}, "from 0 to 1"),
        (Jpeg, {"quality": 0}, "JPEG quality 0 is invalid"),
        (Jpeg, {"quality": (20, 10)}, "whole number from 1 to 100"),
        (Jpeg, {"quality": 12.5}, "whole number"),
        (Jpeg, {"subsampling": "4:1:1"}, "choose 4:4:4, 4:2:2, 4:2:0"),
        (Webp, {"quality": "best"}, "WebP quality 'best' is invalid"),
        (Blur, {"sigma": 0}, "from 0.05 to 10"),
        (Blur, {"kinds": ["box"]}, "choose from isotropic"),
        (MotionBlur, {"length": 0.5}, "from 1 to 100"),
        (Holes, {"fraction": 1.0}, "from 0 to 0.95"),
        (Holes, {"shapes": "circles"}, "choose rectangles, brush"),
    ],
)
def test_invalid_options_are_sentences(kind: type, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**options)
