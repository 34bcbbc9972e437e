"""A test for memorization: distances of samples to the training set, compared with those of held-out real pictures."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from limner.evaluation.diversity import kmeans
from limner.evaluation.neighbors import nearest
from limner.evaluation.statistics import Features, table, two_tables


@dataclass(frozen=True)
class Memorization:
    """The result of the test. Distances are in feature units; 'held out' are the real pictures that calibrate it."""

    closer: float                      # probability that a sample is nearer to training than a held-out picture; ideally 0.5
    interval: tuple[float, float]      # of `closer`, 95 %, bootstrap
    z: float                           # Meehan's C_T in standard deviations: below -3 copying, above 3 underfitting
    suspects: float                    # fraction of samples nearer than the held-out 5th percentile; ideally 0.05
    suspects_interval: tuple[float, float]
    baseline: str                      # source of the held-out distances
    distances: Tensor                  # [N] of each sample to its nearest training picture
    neighbors: Tensor                  # [N] index of that picture

    @property
    def copying(self) -> bool:
        """Whether the samples are significantly nearer to the training set as a whole, or too many are very near."""
        return (self.z < -3 and self.interval[0] > 0.5) or self._many_suspects

    @property
    def _many_suspects(self) -> bool:
        return self.suspects_interval[0] > 0.10

    @property
    def closest(self) -> Tensor:
        """Indices of the samples [N], the nearest to the training set first."""
        return self.distances.argsort(stable=True)

    @property
    def verdict(self) -> str:
        """A summary in one sentence."""
        if self._many_suspects:
            return (
                f"It copies: {self.suspects:.0%} of its pictures lie closer to a training picture than 95 % of "
                "real unseen ones do (5 % would be fair); look at the closest pairs."
            )
        if self.copying:
            return (
                f"It may copy: in {self.closer:.0%} of comparisons its picture lies closer to the training set than a real unseen one (50 % "
                "would be fair). Blurred pictures do so too: look at the closest pairs."
            )
        if self.closer < 0.35:
            return "No sign of copying: its pictures lie farther from the training set than real unseen ones do."
        return "No sign of copying: its pictures lie as far from the training set as real unseen ones do."


def memorization_test(
    samples: Features, train: Features, held_out: Features | None = None, resamples: int = 1000, seed: int = 0
) -> Memorization:
    """Compare the distances of samples [N,F] and held-out real rows [H,F] to the training rows [T,F]; at least 20 of each.

    This is the three-sample test of Meehan, Chaudhuri & Dasgupta 2020 (eq. 2: Mann-Whitney's U by cells of the training set),
    with a bootstrap interval, and a test of the tail, since a few exact copies hardly change the mean. held_out None uses the
    training rows themselves, each against all others: the same distances but for one row, if the training set has no
    duplicates.
    """
    x, t = two_tables(samples, train, least=20)
    distances, which = nearest(x, t)
    mine, neighbors = distances[:, 0], which[:, 0]
    if held_out is None:
        # a few thousand rows are enough to calibrate; all of them would need T² distances
        rows = torch.randperm(len(t), generator=torch.Generator().manual_seed(seed))[: min(len(t), max(5000, len(x)))]
        two, index = nearest(t[rows], t, 2)
        own = index[:, 0] == rows
        theirs = torch.where(own, two[:, 1], two[:, 0])  # the nearest that is not itself
        real, baseline = t[rows], "training pictures, each against all others"
    else:
        real = table(held_out, least=20)
        theirs, baseline = nearest(real, t)[0][:, 0], "held-out pictures"
    limit = theirs.quantile(0.05)
    closer, suspects = _closer(mine, theirs), (mine < limit).double().mean().item()
    random = torch.Generator().manual_seed(seed)
    drawn = []
    for _ in range(resamples):
        a = mine[torch.randint(len(mine), (len(mine),), generator=random)]
        b = theirs[torch.randint(len(theirs), (len(theirs),), generator=random)]
        drawn.append((_closer(a, b), (a < b.quantile(0.05)).double().mean().item()))
    bounds = torch.tensor(drawn, dtype=torch.float64).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64), dim=0)
    (low, low_share), (high, high_share) = bounds.tolist()
    cells = kmeans(t[:20_000], max(1, min(10, len(real) // 50, len(x) // 50)), seed)
    z = _by_cells(mine, nearest(x, cells)[1][:, 0], theirs, nearest(real, cells)[1][:, 0], len(cells))
    return Memorization(closer, (low, high), z, suspects, (low_share, high_share), baseline, mine, neighbors)


def mann_whitney(a: Tensor, b: Tensor) -> float:
    """Return U of a against b in standard deviations: negative if a [N] tends to be smaller than b [M]; ties count half."""
    n, m = len(a), len(b)
    both = torch.cat([a, b])
    _, tied = both.unique(return_counts=True)
    ties = float((tied.double() ** 3 - tied).sum()) / ((n + m) * (n + m - 1))
    deviation = (n * m / 12 * (n + m + 1 - ties)) ** 0.5
    return (0.5 - _closer(a, b)) * n * m / deviation if deviation > 0 else 0.0


def _closer(a: Tensor, b: Tensor) -> float:
    """Return P(a < b) + ½ P(a = b) over all pairs."""
    ordered = b.sort().values
    below, to = torch.searchsorted(ordered, a), torch.searchsorted(ordered, a, right=True)
    return 1 - (below + to).double().mean().item() / (2 * len(b))


def _by_cells(mine: Tensor, my_cell: Tensor, theirs: Tensor, their_cell: Tensor, k: int) -> float:
    """Return C_T: Mann-Whitney's z of each cell, weighted by its held-out rows; cells with too few rows are left out.

    The mean over cells shows copying in one region that underfitting in another would hide.
    """
    scores, weights = [], []
    for cell in range(k):
        a, b = mine[my_cell == cell], theirs[their_cell == cell]
        if len(a) >= 10 and len(b) >= 10:
            scores.append(mann_whitney(a, b))
            weights.append(len(b))
    if not weights:
        return mann_whitney(mine, theirs)
    return sum(s * w for s, w in zip(scores, weights, strict=True)) / sum(weights)
