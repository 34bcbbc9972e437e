"""Labels that spread from a few pictures to all others, along a graph of nearest neighbors.

Zhou et al. 2003, "Learning with local and global consistency". With the features of the network that is being trained:
Iscen et al. 2019, "Label propagation for deep semi-supervised learning". A prediction is confirmed by whatever the network
already believes; a graph sees that pictures of one class are linked to each other by many that lie between them, such as
sevens with a bar, of which none may be labeled.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from limner.core import distributed
from limner.core.components import principal_axes, project
from limner.core.condition import UNLABELED
from limner.core.device import full_precision
from limner.methods.phase import Clock

NEIGHBORS = 10
ALPHA = 0.99  # of Zhou et al.: the share of a picture's label that comes from its neighbors
ROUNDS = 60  # of conjugate gradients, whose error falls to at most 13/15 in each for this alpha
FOLDS = 5  # of known labels, hidden in turn to test the propagation
RELIABLE = 0.8  # of propagated labels must be right, or fewer are used: those of the largest share
ROWS = 1000  # of distances that are computed at once
MOST_RENEWALS = 3
COMPONENTS = 40  # principal components of the network's features
LEARNED = 0.4  # weight of the network's features in the second and later graphs, beside those that need no training
CLOSEST = 0.25  # of the median scale, the least of a picture: equal pictures would have no link to others
TINY = 1e-12
FEATURES = 1 / 3  # of the time of training on as many pictures, that the network's features take
NUMBERS = ("accuracy", "tested", "surest", "taught", "propagations")  # of the state


def neighbors(x: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the `count` nearest other rows of each row of unit length, float32 [n,D]: their numbers int64 [n,k] and the squared
    distances float32 [n,k], rising. k = count, fewer if there are fewer rows."""
    n, count = len(x), min(count, len(x) - 1)
    numbers, cosines = torch.empty(n, count, dtype=torch.int64), torch.empty(n, count)
    products = torch.empty(min(ROWS, n), n)  # allocated once: with new ones in each round, memory in use grows
    for start in range(0, n, ROWS):
        part = products[: min(ROWS, n - start)]
        torch.mm(x[start : start + ROWS], x.T, out=part)
        rows = torch.arange(len(part))
        part[rows, start + rows] = -2.0  # not itself
        cosines[start : start + ROWS], numbers[start : start + ROWS] = part.topk(count, 1)
    return numbers, (2 - 2 * cosines).clamp_min(0)


def affinity(numbers: Tensor, distances: Tensor) -> Tensor:
    """Return the matrix D^-1/2 W D^-1/2 of Zhou et al. 2003, section 2, as sparse CSR float32 [n,n].

    W = exp(-d^2 / (s_i s_j)) between neighbors, where s_i is the distance to the middle one of the neighbors of i (self-tuning: Zelnik-Manor & Perona
    2004); it is symmetric by the larger of the two directions. numbers, distances: of `neighbors`.
    """
    n, k = numbers.shape
    scale = distances[:, k // 2].sqrt()
    scale = torch.maximum(scale, CLOSEST * scale.median()).clamp_min(1e-6)
    weights = torch.exp(-distances / (scale[:, None] * scale[numbers]))
    rows, columns, values = torch.arange(n).repeat_interleave(k), numbers.flatten(), weights.flatten()
    keys, order = torch.cat([rows * n + columns, columns * n + rows]).sort(stable=True)
    found, counts = keys.unique_consecutive(return_counts=True)
    first = counts.cumsum(0) - counts
    values = values.repeat(2)[order]
    values = torch.maximum(values[first], values[first + counts - 1])  # a pair stands there once or twice
    rows, columns = found // n, found % n
    degree = torch.zeros(n).index_add_(0, rows, values).clamp_min(TINY).sqrt()
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), rows.bincount(minlength=n).cumsum(0)])
    with warnings.catch_warnings():  # that the format is new
        warnings.simplefilter("ignore", UserWarning)
        return torch.sparse_csr_tensor(starts, columns, values / (degree[rows] * degree[columns]), (n, n))


def propagate(matrix: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return the strength float32 [n,K] of each class at each picture: (I - alpha S)^-1 Y of Zhou et al. 2003, eq. 4.

    labels: int64 [n], UNLABELED where the class is not known. Conjugate gradients (Hestenes & Stiefel 1952), each class by itself.
    """
    known = labels != UNLABELED
    rest = torch.zeros(len(labels), classes)  # Y - (I - alpha S) x
    rest[known] = F.one_hot(labels[known], classes).float()
    x = torch.zeros_like(rest)
    direction, square = rest.clone(), rest.square().sum(0)
    for _ in range(ROUNDS):
        change = direction - ALPHA * (matrix @ direction)
        step = square / (direction * change).sum(0).clamp_min(TINY)
        x, rest = x + step * direction, rest - step * change
        new = rest.square().sum(0)
        direction = rest + new / square.clamp_min(TINY) * direction
        square = new
    return x


def strongest(strength: Tensor) -> tuple[Tensor, Tensor]:
    """Return the strongest class of each picture, UNLABELED where none has any strength, and its share of all strength.

    [n,K] -> int64 [n], float32 [n]
    """
    most, label = strength.max(1)
    return torch.where(most > TINY, label, UNLABELED), most / strength.clamp_min(0).sum(1).clamp_min(TINY)


def found_when_hidden(matrix: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Hide a fifth of the known labels of each class and propagate the others, five times.

    Returns, for each label that was hidden, the share of the class that is found, float32 [L], and whether it is right, bool [L].
    A class with one label is not tested: without it the class could not be found.
    """
    folds = torch.full_like(labels, -1)
    for label in range(classes):
        rows = (labels == label).nonzero()[:, 0]
        if len(rows) > 1:
            folds[rows] = torch.arange(len(rows)) % FOLDS
    shares, right = [], []
    for fold in range(FOLDS):
        hidden = folds == fold
        found, share = strongest(propagate(matrix, labels.masked_fill(hidden, UNLABELED), classes))
        shares.append(share[hidden])
        right.append(found[hidden] == labels[hidden])
    return torch.cat(shares), torch.cat(right)


def least_share(shares: Tensor, right: Tensor) -> float:
    """Return the share from which at least RELIABLE of the labels are right, of those that were hidden: 0 if that holds for all of
    them or none was hidden, above 1 if for none."""
    shares, order = shares.sort(descending=True)
    enough = (right[order].float().cumsum(0) / torch.arange(1, len(order) + 1) >= RELIABLE).nonzero()[:, 0]
    if not len(shares) or (len(enough) and enough[-1] == len(shares) - 1):
        return 0.0
    return float(shares[enough[-1]]) if len(enough) else 2.0


class PropagatedLabels:
    """The labels that propagation gives to pictures: at the start by descriptors, and up to three times later by the network too.

    labels: int64 [n], UNLABELED where none is used. taught: the share of pictures with a label. tested: known labels that were hidden to
    test the first propagation. accuracy: the share of them that it found. That test decides which share of the pictures, the surest,
    is labeled by this propagation and by later ones, which cannot be tested so: the network has learned the labels.
    """

    title = "Propagating labels"

    def __init__(
        self, known: Tensor, classes: int, descriptors: Callable[[], Tensor], features: Callable[[], Tensor]
    ) -> None:
        """known: the labels that are given, int64 [n]. descriptors: returns rows of unit length that need no training, float32 [n,D].
        features: returns the network's, float32 [n,F]. Both on the CPU."""
        self.known, self.classes = known, classes
        self.descriptors, self.features = descriptors, features
        self.labels = known.clone()
        self.accuracy, self.tested, self.surest, self.taught, self.propagations = 0.0, 0, 1.0, 0.0, 0
        self.seconds = 0.0
        self._descriptors: Tensor | None = None
        self._last = 0.0  # seconds of the last propagation, without those of the descriptors and of the test

    def _renewals(self, clock: Clock) -> int:
        """Return how many propagations follow the first: a short run has fewer, since the features of all pictures cost time."""
        return min(MOST_RENEWALS, clock.budget // (2 * len(self.known)))

    def _wanted(self, clock: Clock) -> int:
        """Return how many propagations there are up to the clock: one at the start, the others after equal parts of the budget."""
        renewals = self._renewals(clock)
        return 1 + min(renewals, int(clock.fraction * (renewals + 1)))

    def due(self, clock: Clock) -> bool:
        return self.propagations < self._wanted(clock)

    def run(self, clock: Clock) -> None:
        start = time.monotonic()
        with full_precision(self.known.device), torch.no_grad():
            self._propagate()
        self.propagations = self._wanted(clock)
        self.load_state_dict(cast(Any, distributed.broadcast_from_rank0(self.state_dict())))  # equal on all ranks
        self.seconds += time.monotonic() - start

    def remaining(self, clock: Clock, cost: float) -> float:
        """See PeriodicWork. The first propagation, which depends on nothing that is known before it, is left out."""
        count = 1 + self._renewals(clock) - max(1, self.propagations)
        features = FEATURES * len(self.known) * cost if self.propagations <= 1 else 0.0  # later ones are in what is measured
        return max(0, count) * (self._last + features)

    def _propagate(self) -> None:
        if self._descriptors is None:
            self._descriptors = self.descriptors()
        start = time.monotonic()
        x = self._descriptors
        if self.propagations:
            features = self.features().double().nan_to_num()
            learned = project(features, *principal_axes(features, COMPONENTS)).float()
            x = torch.cat([LEARNED**0.5 * learned, (1 - LEARNED) ** 0.5 * x], 1)
        matrix = affinity(*neighbors(x, NEIGHBORS))
        labels, share = strongest(propagate(matrix, self.known, self.classes))
        self._last = time.monotonic() - start
        if not self.propagations:
            shares, right = found_when_hidden(matrix, self.known, self.classes)
            self.tested, self.accuracy = len(right), right.float().mean().item() if len(right) else 0.0
            self.surest = (share >= least_share(shares, right)).float().mean().item()
        kept = share.argsort(descending=True, stable=True)[: round(self.surest * len(share))]
        self.labels = self.known.clone()
        self.labels[kept] = torch.where(self.known[kept] == UNLABELED, labels[kept], self.known[kept])
        self.taught = (self.labels != UNLABELED).float().mean().item()

    def state_dict(self) -> dict[str, Any]:
        return {"labels": self.labels} | {name: getattr(self, name) for name in NUMBERS}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises RuntimeError for the labels of other pictures."""
        labels = state["labels"].cpu()
        if labels.shape != self.known.shape or labels.dtype != self.known.dtype:
            raise RuntimeError(f"{len(self.known):,} labels are expected, not {tuple(labels.shape)} of {labels.dtype}")
        self.labels = labels.clone()
        for name in NUMBERS:
            setattr(self, name, state[name])
