"""The Fréchet distance between two Gaussians, as of FID, computed with real numbers for covariances of any rank."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from limner.evaluation.statistics import Estimate, Features, Statistics, same_width, statistics_of, table


def frechet_from_statistics(a: Statistics, b: Statistics) -> float:
    """Return |μ₁ - μ₂|² + tr(S₁ + S₂ - 2 (S₁S₂)^½), Dowson & Landau 1982 eq. 16; Heusel et al. 2017 eq. 6.

    The reference code computes the square root of the matrix S₁S₂, which is not symmetric, so that the root may be complex, and
    fails for singular ones. Only its trace is needed, which is the sum of the singular values of A·Bᵀ for any factors S₁ = AᵀA
    and S₂ = BᵀB: real, not negative, and small if a set has fewer rows than features.
    """
    same_width(len(a.mean), len(b.mean))
    base = ((a.mean - b.mean).square().sum() + a.covariance.trace() + b.covariance.trace()).item()
    # A constant feature of one set gives a zero row there: leaving it out is exact, and keeps the factors of the rest well
    # conditioned.
    alive = (a.covariance.diagonal() > 0) & (b.covariance.diagonal() > 0)
    if not alive.any():
        return base
    root, error = _by_eigenvalues(a, b, alive)
    if 2 * error > 1e-9 * (base - 2 * root):
        root = torch.linalg.svdvals(_factor(a, alive) @ _factor(b, alive).T).sum().item()
    return max(0.0, base - 2 * root)  # rounding may leave -1e-12 for equal sets


def frechet_distance(a: Features | Statistics, b: Features | Statistics) -> float:
    """Return the Fréchet distance of two feature sets [N,F], [M,F] (or of their statistics); FID for Inception's pool features.

    Each set needs at least 2 rows; below a few thousand (or F) the value is biased upwards: see `frechet_infinity`.
    """
    return frechet_from_statistics(a if isinstance(a, Statistics) else statistics_of(a), b if isinstance(b, Statistics) else statistics_of(b))


def frechet_estimate(a: Features, b: Features | Statistics, groups: int = 10, seed: int = 0) -> Estimate:
    """Return the Fréchet distance with its standard error over draws of `a` [N,F], leaving out one of `groups` parts at a time.

    It is the delete-a-group jackknife, with the reference fixed. The error covers the variance of the value, not its bias: see
    `frechet_infinity`.
    """
    rows = table(a, least=2)
    reference = b if isinstance(b, Statistics) else statistics_of(b)
    value, n = frechet_distance(rows, reference), len(rows)
    groups = min(groups, n // 2)
    if groups < 2:
        return Estimate(value, float("nan"))
    part = torch.randperm(n, generator=torch.Generator().manual_seed(seed)) % groups
    left = np.array([frechet_distance(rows[part != group], reference) for group in range(groups)])
    return Estimate(value, float(((groups - 1) / groups * np.square(left - left.mean()).sum()) ** 0.5))


def frechet_infinity(
    a: Features, b: Features | Statistics, points: int = 15, least: int | None = None, seed: int = 0
) -> Estimate:
    """Return the distance for infinitely many samples of `a` [N,F]: its intercept against 1/N (Chong & Forsyth 2020, sec. 3.2).

    The bias is proportional to 1/N, so that a line through the distances of random subsets (`points` sizes evenly from `least`,
    by default 5,000 or half of N, to N) has the unbiased value as its intercept. The bias of the reference set remains. The
    error is that of the regression. Raises ValueError for fewer than 20 rows.
    """
    rows = table(a, least=20)
    reference = b if isinstance(b, Statistics) else statistics_of(b)
    n = len(rows)
    first = min(least or 5000, n // 2)
    sizes = np.linspace(first, n, points).round().astype(int)
    order = torch.Generator().manual_seed(seed)
    values = [frechet_distance(rows[torch.randperm(n, generator=order)[:size]], reference) for size in sizes.tolist()]
    return _intercept(1 / sizes, values)


def _intercept(x: np.ndarray, y: Sequence[float]) -> Estimate:
    """Return the intercept of the least-squares line through the points, with its standard error."""
    design = np.stack([np.ones_like(x), x], axis=1)
    solution, residual, *_ = np.linalg.lstsq(design, np.asarray(y), rcond=None)
    variance = float(residual[0]) / (len(x) - 2) if len(residual) else 0.0
    return Estimate(float(solution[0]), float(np.sqrt(variance * np.linalg.inv(design.T @ design)[0, 0])))


def _by_eigenvalues(a: Statistics, b: Statistics, alive: Tensor) -> tuple[float, float]:
    """Return (tr (S₁S₂)^½ from the eigenvalues of A·S₂·Aᵀ, an estimate of its rounding error).

    It takes half the time of singular values, but these are squared: if the spectra span many orders of magnitude, as those of
    deep features may, the roots of the smallest eigenvalues are rounding errors, which the estimate shows.
    """
    if b.n < a.n:
        a, b = b, a  # the roles are interchangeable; factor the set of lower rank
    factor = _factor(a, alive)
    values = torch.linalg.eigvalsh(factor @ b.covariance[alive][:, alive] @ factor.T)
    noise = 4 * torch.finfo(values.dtype).eps * values.abs().max()  # of each eigenvalue
    if noise == 0:
        return 0.0, 0.0
    roots = values.clamp(min=0).sqrt()
    # The errors of many eigenvalues have either sign and add as squares; that of a root is δ/2√λ, at most √δ.
    errors = torch.minimum(noise / (2 * roots).clamp(min=1e-300), noise.sqrt())
    return roots.sum().item(), errors.norm().item()


def _factor(m: Statistics, alive: Tensor) -> Tensor:
    """Return A [r,F'] with AᵀA = the covariance of the features `alive`: the rows, a Cholesky factor, or by eigenvectors."""
    if m.factor is not None:
        return m.factor[:, alive]
    covariance = m.covariance[alive][:, alive]
    lower, failed = torch.linalg.cholesky_ex(covariance)
    pivots = lower.diagonal()
    if failed == 0 and pivots.min() > 1e-6 * pivots.max():  # well within full rank
        return lower.T
    values, vectors = torch.linalg.eigh(covariance)
    kept = values > values[-1] * len(values) * torch.finfo(values.dtype).eps  # up to the numerical rank
    return (vectors[:, kept] * values[kept].sqrt()).T
