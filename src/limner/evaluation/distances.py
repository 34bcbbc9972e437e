"""Distances between two sets of features: KID, MMD, sliced Wasserstein; and the Inception score. For FID, see frechet.py.

All are pure functions of features [N,F] in float64, for any extractor.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from limner.evaluation.statistics import Estimate, Features, table, two_tables

BLOCK = 2048  # rows of a kernel matrix in memory


def polynomial_mmd(a: Features, b: Features, subset: int | None = None, subsets: int = 100, seed: int = 0) -> Estimate:
    """Return the kernel inception distance: the unbiased squared MMD with k(x,y) = (x·y/F + 1)³ (Bińkowski et al. 2018, sec. 4).

    subset None uses all pairs of up to 10,000 rows of each set (drawn by `seed`), which has the least variance for the time,
    with the standard error of a two-sample U-statistic (`_unbiased`). A number gives the older form: the mean over `subsets`
    random subsets of that size, with the standard error of that mean. Unbiased, so that it may be negative for equal sets.
    """
    x, y = two_tables(a, b, least=2)

    def kernel(p: Tensor, q: Tensor) -> Tensor:
        return (p @ q.T / p.shape[1] + 1).pow_(3)

    random = torch.Generator().manual_seed(seed)
    if subset is None:
        return _unbiased(_draw(x, 10_000, random), _draw(y, 10_000, random), kernel)
    if subset < 2 or subset > min(len(x), len(y)):
        raise ValueError(f"A subset of {subset} cannot be drawn: choose 2 to {min(len(x), len(y))}, the smaller set.")
    values = torch.tensor(
        [_unbiased(_draw(x, subset, random), _draw(y, subset, random), kernel).value for _ in range(subsets)],
        dtype=torch.float64,
    )
    return Estimate(values.mean().item(), (values.std().item() / subsets**0.5) if subsets > 1 else 0.0)


def gaussian_mmd(a: Features, b: Features, sigma: float = 10.0, scale: float = 1000.0) -> float:
    """Return the squared MMD with the Gaussian kernel exp(-|x-y|²/2σ²), times `scale`, as in CMMD (Jayasumana et al. 2024).

    As there, it is the estimate with the least variance (including the diagonal), of rows scaled to unit length, with σ 10 and
    scale 1000. It is CMMD only with CLIP's embeddings. It takes N² kernel values, in blocks.
    """
    x, y = (torch.nn.functional.normalize(t, dim=1) for t in two_tables(a, b))

    def mean_kernel(p: Tensor, q: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float64, device=p.device)
        for part in p.split(BLOCK):
            # |p-q|² = 2 - 2 p·q on the unit sphere, but a zero row has length 0: use the general form
            squared = part.square().sum(1)[:, None] + q.square().sum(1) - 2 * part @ q.T
            total += squared.mul_(-0.5 / sigma**2).exp_().sum()
        return total / (len(p) * len(q))

    return scale * (mean_kernel(x, x) + mean_kernel(y, y) - 2 * mean_kernel(x, y)).item()


def sliced_wasserstein(a: Features, b: Features, projections: int = 512, seed: int = 0) -> float:
    """Return the sliced 2-Wasserstein distance: the root of the mean squared 1-D distance over random directions (Bonneel 2015).

    Each 1-D distance is exact for sets of different sizes too: the quantile functions are compared on the union of their
    steps. It has the unit of the features.
    """
    x, y = two_tables(a, b)
    random = torch.Generator().manual_seed(seed)
    directions = torch.randn(x.shape[1], projections, generator=random, dtype=torch.float64).to(x.device)
    directions /= directions.norm(dim=0)
    n, m = len(x), len(y)
    # quantile levels in units of 1/(n·m), as integers, so that equal steps are equal
    levels = torch.cat([torch.arange(0, n) * m, torch.arange(0, m) * n]).unique()
    widths = torch.diff(levels, append=torch.tensor([n * m])).double().to(x.device) / (n * m)
    in_x, in_y = (levels // m).to(x.device), (levels // n).to(x.device)
    total = torch.zeros((), dtype=torch.float64, device=x.device)
    for part in directions.split(64, dim=1):  # [F,64]
        step = (x @ part).sort(0).values[in_x] - (y @ part).sort(0).values[in_y]  # [levels,64]
        total += (step.square_() * widths[:, None]).sum()
    return (total / projections).sqrt().item()


def inception_score(predictions: Features, splits: int = 10, logits: bool = True) -> Estimate:
    """Return exp E KL(p(y|x) | p(y)) (Salimans et al. 2016, sec. 4), the mean over `splits` consecutive parts.

    predictions [N,K]: logits, or probabilities with logits=False. The error is the standard deviation over the splits, as is
    common. The score ignores the reference set: it detects neither copies nor another style.
    """
    rows = table(predictions, least=splits)
    log_p = rows.log_softmax(1) if logits else rows.clamp_min(1e-300).log()
    scores = []
    for i in range(splits):
        part = log_p[i * len(rows) // splits : (i + 1) * len(rows) // splits]
        p = part.exp()
        marginal = p.mean(0, keepdim=True).clamp_min(1e-300).log()
        scores.append((p * (part - marginal)).sum(1).mean().exp())
    values = torch.stack(scores)
    return Estimate(values.mean().item(), values.std(correction=0).item())


def _draw(rows: Tensor, most: int, random: torch.Generator) -> Tensor:
    """Return `most` random rows without replacement; all, in their order, if there are no more."""
    return rows if len(rows) <= most else rows[torch.randperm(len(rows), generator=random)[:most]]


def _unbiased(x: Tensor, y: Tensor, kernel: Callable[[Tensor, Tensor], Tensor]) -> Estimate:
    """Return the unbiased squared MMD (Gretton et al. 2012, eq. 3) over all pairs, with its standard error.

    The variance has a first-order term, 4 var(u)/n + 4 var(v)/m with u, v the projections of the kernel on one observation (its
    mean over its own set minus that over the other), and the second-order term of a degenerate U-statistic, which alone remains
    when both sets have the same distribution.
    """
    n, m = len(x), len(y)
    within_x, square_x = _row_sums(x, x, kernel, skip_diagonal=True)
    within_y, square_y = _row_sums(y, y, kernel, skip_diagonal=True)
    across = torch.zeros(n, dtype=torch.float64, device=x.device)
    down = torch.zeros(m, dtype=torch.float64, device=x.device)
    square_xy = 0.0
    for start in range(0, n, BLOCK):
        part = kernel(x[start : start + BLOCK], y)
        across[start : start + BLOCK] = part.sum(1)
        down += part.sum(0)
        square_xy += part.square_().sum().item()
    u, v = within_x / (n - 1) - across / m, within_y / (m - 1) - down / n
    value = within_x.sum() / (n * (n - 1)) + within_y.sum() / (m * (m - 1)) - 2 * across.sum() / (n * m)
    # Second order: the variance of the kernel without its row and column means (double centering).
    rest_x = _rest(square_x / (n * (n - 1)), within_x / (n - 1))
    rest_y = _rest(square_y / (m * (m - 1)), within_y / (m - 1))
    rest_xy = _rest(square_xy / (n * m), across / m, down / n)
    # u and v are means over finite sets, so their variance contains a part of the second order, which must not count twice.
    first = 4 / n * max(0.0, u.var().item() - rest_x / (n - 1) - rest_xy / m)
    first += 4 / m * max(0.0, v.var().item() - rest_y / (m - 1) - rest_xy / n)
    second = 2 * rest_x / (n * (n - 1)) + 2 * rest_y / (m * (m - 1)) + 4 * rest_xy / (n * m)
    return Estimate(value.item(), (first + second) ** 0.5)


def _rest(mean_square: float, rows: Tensor, columns: Tensor | None = None) -> float:
    """Return the mean square of a matrix without its row and column means (equal for a symmetric one), at least 0."""
    columns = rows if columns is None else columns
    rest = mean_square - rows.square().mean() - columns.square().mean() + rows.mean().square()
    return max(0.0, rest.item())


def _row_sums(
    x: Tensor, y: Tensor, kernel: Callable[[Tensor, Tensor], Tensor], skip_diagonal: bool
) -> tuple[Tensor, float]:
    """Return the sum of each row of the kernel matrix [N] and the sum of all squares, in blocks, with or without the diagonal."""
    sums, squares = [], 0.0
    for start in range(0, len(x), BLOCK):
        part = kernel(x[start : start + BLOCK], y)
        if skip_diagonal:
            part.diagonal(start).zero_()
        sums.append(part.sum(1))
        squares += part.square_().sum().item()
    return torch.cat(sums), squares
