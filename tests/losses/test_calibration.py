"""Temperature scaling: a known temperature is recovered, predictions stay, and few pictures do not give certainty."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from limner.losses.calibration import calibrated_temperature


def drawn(n: int, k: int, temperature: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [n,k] and labels drawn from softmax(logits / temperature)."""
    random = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(n, k, generator=random)
    labels = torch.multinomial((logits.double() / temperature).softmax(1), 1, generator=random)[:, 0]
    return logits, labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5, 6.0])
def test_a_known_temperature_is_recovered(temperature: float) -> None:
    assert calibrated_temperature(*drawn(20_000, 10, temperature)) == pytest.approx(temperature, rel=0.04)


def test_it_is_the_minimum_of_the_cross_entropy_with_smoothed_targets() -> None:
    logits, labels = drawn(300, 4, 1.7, seed=3)
    n, k = logits.shape
    x = logits.double().numpy()
    targets = np.full((n, k), 1 / k / (n + 1))
    targets[np.arange(n), labels.numpy()] = (n + 1 / k) / (n + 1)

    def nll(log_t: float) -> float:
        scaled = x / np.exp(log_t)
        scaled = scaled - scaled.max(1, keepdims=True)
        return float(-(targets * (scaled - np.log(np.exp(scaled).sum(1, keepdims=True)))).sum(1).mean())

    best = np.exp(minimize_scalar(nll, bounds=(-4, 4), method="bounded", options={"xatol": 1e-9}).x)
    assert calibrated_temperature(logits, labels) == pytest.approx(best, rel=1e-5)


def test_a_shift_of_the_logits_changes_nothing_and_a_factor_scales() -> None:
    logits, labels = drawn(500, 5, 1.3)
    found = calibrated_temperature(logits, labels)
    assert calibrated_temperature(logits + torch.randn(500, 1), labels) == pytest.approx(found, rel=1e-5)
    assert calibrated_temperature(4 * logits, labels) == pytest.approx(4 * found, rel=1e-6)


def test_no_mistake_on_few_pictures_is_no_certainty() -> None:
    labels = torch.arange(20) % 4
    logits = 5.0 * torch.nn.functional.one_hot(labels, 4).float()
    sure = (logits / calibrated_temperature(logits, labels)).softmax(1).max(1).values
    assert sure.max().item() == pytest.approx((20 + 1 / 4) / 21, abs=1e-6)


def test_nothing_to_calibrate_with() -> None:
    assert calibrated_temperature(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)) == 1.0
    assert calibrated_temperature(torch.zeros(3, 1), torch.zeros(3, dtype=torch.long)) == 1.0
    assert np.isfinite(calibrated_temperature(torch.zeros(3, 2), torch.zeros(3, dtype=torch.long)))
