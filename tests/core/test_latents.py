"""Each kind of latents has the distribution it is named for, and is a function of the same normal numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from limner.core import latents

DISTRIBUTIONS = {
    "normal": stats.norm(),
    "uniform": stats.uniform(-1, 2),
    "truncated": stats.truncnorm(-2, 2),
}


@pytest.mark.parametrize("kind", latents.DISTRIBUTIONS)
def test_a_kind_has_the_distribution_it_is_named_for(kind: str) -> None:
    z = latents.draw(np.random.default_rng(0), 200, 100, kind)
    assert z.shape == (200, 100) and z.dtype == torch.float32
    assert stats.kstest(z.flatten().numpy(), DISTRIBUTIONS[kind].cdf).pvalue > 0.01
    limit = {"normal": np.inf, "uniform": 1.0, "truncated": 2.0}[kind]
    far = latents.transform(torch.tensor([[-40.0, -6.0, 6.0, 40.0]]), kind)  # numbers that hardly ever occur stay finite
    assert far.isfinite().all() and far.abs().max() <= limit * (1 + 1e-5)


@pytest.mark.parametrize("kind", latents.DISTRIBUTIONS)
def test_kinds_are_increasing_functions_of_the_same_numbers(kind: str) -> None:
    z = torch.linspace(-3, 3, 101)[None]
    transform = latents.transform(z, kind)
    assert (transform.diff() > 0).all() and transform[0, 50].abs() < 1e-6
    rng = np.random.default_rng(3)
    assert torch.equal(latents.draw(np.random.default_rng(3), 4, 5, kind),
                       latents.transform(torch.from_numpy(rng.standard_normal((4, 5), np.float32)), kind))  # fmt: skip


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="noise 'pink' is unknown: choose one of normal, uniform, truncated"):
        latents.validate_name("pink")
