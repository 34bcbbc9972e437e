"""PSNR, SSIM and MS-SSIM agree with scikit-image and torchmetrics; distances by layers behave."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
import skimage.metrics
import torch
from torchmetrics.image import MultiScaleStructuralSimilarityIndexMeasure

from limner.evaluation.image_quality import layer_distance, ms_ssim, psnr, ssim


def images(n: int, c: int, h: int, w: int, seed: int = 0) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    smooth = torch.nn.functional.interpolate(torch.rand(n, c, 6, 6, generator=random), (h, w), mode="bilinear")
    return (smooth * 255).to(torch.uint8)


def noisy(x: torch.Tensor, level: float) -> torch.Tensor:
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(9))
    return (x + level * noise).clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize(("c", "h", "w"), [(1, 11, 30), (3, 40, 33), (3, 64, 64), (1, 266, 523)])
def test_agree_with_scikit_image(c: int, h: int, w: int) -> None:
    a = images(3, c, h, w)
    b = noisy(a, 20)
    for i in range(3):
        p, q = (x[i].permute(1, 2, 0).numpy() for x in (a, b))
        assert float(psnr(a, b)[i]) == pytest.approx(skimage.metrics.peak_signal_noise_ratio(p, q), rel=1e-10)
        theirs = skimage.metrics.structural_similarity(
            p, q, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, channel_axis=2, data_range=255
        )
        assert float(ssim(a, b)[i]) == pytest.approx(theirs, rel=1e-9)


def multi_scale(x: np.ndarray, y: np.ndarray) -> float:
    """Wang, Simoncelli & Bovik 2003 for one picture [C,H,W], with SciPy's filters."""
    window = scipy.signal.windows.gaussian(11, 1.5)
    window = np.outer(window, window) / window.sum() ** 2

    def blur(z: np.ndarray) -> np.ndarray:
        return np.stack([scipy.signal.convolve2d(channel, window, mode="valid") for channel in z])

    result = 1.0
    for i, exponent in enumerate([0.0448, 0.2856, 0.3001, 0.2363, 0.1333]):
        mx, my = blur(x), blur(y)
        contrast = (2 * (blur(x * y) - mx * my) + 58.5225) / (blur(x * x) - mx**2 + blur(y * y) - my**2 + 58.5225)
        light = (2 * mx * my + 6.5025) / (mx**2 + my**2 + 6.5025)
        result *= (contrast if i < 4 else contrast * light).mean() ** exponent
        if i < 4:
            x, y = (z.reshape(len(z), z.shape[1] // 2, 2, z.shape[2] // 2, 2).mean((2, 4)) for z in (x, y))
    return result


def test_multi_scale_is_its_definition_and_near_torchmetrics() -> None:
    a = images(2, 3, 192, 176)
    b = noisy(a, 30)
    ours = ms_ssim(a, b)
    for i in range(2):
        assert float(ours[i]) == pytest.approx(multi_scale(a[i].double().numpy(), b[i].double().numpy()), rel=1e-9)
    # At the coarsest scale torchmetrics also counts the reflected border, which the paper does not.
    theirs = MultiScaleStructuralSimilarityIndexMeasure(data_range=255.0, reduction="none")(a.double(), b.double())
    assert torch.allclose(ours, theirs, atol=1e-3)


def test_multi_scale_at_its_least_size() -> None:
    a = images(1, 1, 176, 191)
    assert 0 < ms_ssim(a, noisy(a, 30)).item() < 1


def test_equal_pictures_are_perfect_and_noise_costs() -> None:
    a = images(2, 3, 48, 48)
    assert torch.isinf(psnr(a, a)).all() and torch.allclose(ssim(a, a), torch.ones(2, dtype=torch.float64))
    for measure in (psnr, ssim, lambda x, y: ms_ssim(x, y, scales=3)):
        values = [measure(a, noisy(a, level)).mean() for level in (2, 10, 40)]
        assert values[0] > values[1] > values[2]
        assert torch.allclose(measure(a, noisy(a, 10)), measure(noisy(a, 10), a))
        assert torch.allclose(measure(a, noisy(a, 10))[1:], measure(a[1:], noisy(a, 10)[1:]))


def test_layer_distance_is_its_definition() -> None:
    def layers(x: torch.Tensor) -> list[torch.Tensor]:
        return [x.float(), torch.nn.functional.avg_pool2d(x.float(), 2)]

    a = images(5, 3, 16, 16) // 2 + 40
    b = noisy(a, 20)
    truth = torch.zeros(5, dtype=torch.float64)
    for p, q in zip(layers(a), layers(b), strict=True):
        p, q = p.double(), q.double()
        truth += ((p / p.norm(dim=1, keepdim=True) - q / q.norm(dim=1, keepdim=True)) ** 2).sum(1).mean((1, 2))
    assert torch.allclose(layer_distance(a, b, layers, batch=2), truth)
    assert layer_distance(a, a, layers).max() == 0


def test_what_cannot_be_compared_is_told() -> None:
    a = images(2, 3, 48, 48)
    for call, says in (
        (lambda: psnr(a, a[:1]), "one shape"),
        (lambda: ssim(a.float(), a.float()), "uint8"),
        (lambda: ssim(a[..., :8], a[..., :8]), "11 pixels"),
        (lambda: ms_ssim(a, a), "176 pixels"),
        (lambda: ms_ssim(images(1, 1, 175, 300), images(1, 1, 175, 300)), "176 pixels"),  # 175, 87, 43, 21, 10: too few
        (lambda: ms_ssim(a, a, scales=6), "1 to 5"),
        (lambda: psnr(a[:0], a[:0]), "empty"),
    ):
        with pytest.raises(ValueError, match=says):
            call()
