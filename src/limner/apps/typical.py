"""How typical a generated picture is among its generator's samples: the criterion of truncation by selection.

Shrinking or clipping latents leaves the shell |z| = sqrt(Z) that a generator was trained on, and most generators fail there.
Selecting among ordinary samples never does: it needs only the generator. Each mode has its own ranking, so that the selection
favors none of them (multimodal truncation: Mokady et al. 2022, "Self-distilled StyleGAN", section 4.2); within a mode the
density of a Gaussian ranks the pictures (as DeVries et al. 2020, "Instance selection for GANs", section 3.1, rank real ones).
With classes, the features are those of a small classifier of the generator's own samples; without classes they are downscaled
pixels: contrastive features lowered precision where the generator is bad, and those of a classifier of clusters raised it
less. Many classes are mostly groups of a few pictures (`recipes.groups`), which no classifier learns from a few samples each: they
are ranked by downscaled pixels as well.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from limner.evaluation.diversity import kmeans
from limner.evaluation.features.encoder import Progress, train_classifier, working_size
from limner.evaluation.features.extractor import resized
from limner.evaluation.features.own import OwnFeatures

MAX_PIXELS = 16            # a side, to which pictures without classes are downscaled
MAX_COMPONENTS = 64        # principal components
MODES = 16                 # clusters of pictures without classes
PICTURES_PER_MODE = 64     # for calibration
PICTURES_PER_CLASS = 256   # for calibration; a class is one mode
MANY_CLASSES = 100         # from which on the features are downscaled pixels
PICTURES_OF_MANY = 64      # for calibration, of each of many classes: sampling 16 pictures would otherwise draw 4,096 first
FEATURE_SAMPLES = 2560     # samples of all classes on which the features are trained
FEATURE_IMAGES = 4096      # images seen in that training: four times as many were no better
Features = Callable[[Tensor], Tensor]  # uint8 [N,C,H,W] -> float [N,F]


def reduced(pictures: Tensor) -> Tensor:
    """Return pictures uint8 [N,C,H,W] downscaled to at most MAX_PIXELS a side, as features float64 [N,F]."""
    size = (min(MAX_PIXELS, pictures.shape[2]), min(MAX_PIXELS, pictures.shape[3]))
    return F.adaptive_avg_pool2d(pictures.float() / 127.5 - 1, size).flatten(1).double()


def learn_features(pictures: Tensor, labels: Tensor, classes: int, progress: Progress | None = None) -> OwnFeatures:
    """Return the features of a classifier trained on a generator's samples uint8 [N,C,H,W] with labels [N] in [0, classes).

    Deterministic on a machine.
    """
    size = working_size(pictures.shape[2], pictures.shape[3])
    images = torch.cat([resized(part, size) for part in pictures.split(1024)])
    encoder = train_classifier(images, labels, classes, progress=progress, shown=FEATURE_IMAGES)
    return OwnFeatures(encoder, pictures.shape[1], size, classes)


class Typicality:
    """Mode and rank of pictures among calibration pictures uint8 [M,C,H,W] of the same generator, in `modes` clusters.

    One half of the pictures gives the modes and their covariance, the other the ranks (split conformal prediction: Papadopoulos
    et al. 2002, "Inductive confidence machines for regression"). Distances of the pictures that a covariance is computed from are
    not distributed as those of new ones: ranks among them would not keep the share of pictures that is asked for.
    """

    def __init__(self, features: Features, pictures: Tensor, modes: int) -> None:
        self.features = features
        x = features(pictures).double()
        x, others = x[::2], x[1::2]
        self.mean = x.mean(0)
        x = x - self.mean
        _, vectors = torch.linalg.eigh(x.T @ x)
        self.basis = vectors[:, -max(1, min(MAX_COMPONENTS, len(x) // 4)) :]  # [F,D], the largest components
        x = x @ self.basis
        centers = kmeans(x, min(modes, len(x)))
        used, mode = torch.cdist(x, centers).argmin(1).unique(return_inverse=True)
        self.centers = centers[used]  # without those of empty clusters
        self.whiten = torch.linalg.cholesky(torch.linalg.inv(_shrunk_covariance(x - self.centers[mode])))
        mode, distance = self._placed(others)
        self.sorted = [distance[mode == i].sort().values for i in range(len(self.centers))]

    def _placed(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the modes [N] of features float64 [N,F], and the squared Mahalanobis distances [N] to the centers of these."""
        x = (features - self.mean) @ self.basis
        mode = torch.cdist(x, self.centers).argmin(1)
        return mode, ((x - self.centers[mode]) @ self.whiten).square().sum(1)

    def rank(self, pictures: Tensor) -> Tensor:
        """Return for uint8 [N,C,H,W] the fraction [N], float64 in [0,1], of the mode's calibration pictures that are more typical.

        It is 1 beyond all of them, and in a mode that no picture of the second half belongs to: it is too rare to be typical.
        """
        mode, distance = self._placed(self.features(pictures).double())
        ranks = [_share_below(self.sorted[k], d) for k, d in zip(mode.tolist(), distance.tolist(), strict=True)]
        return torch.tensor(ranks, dtype=torch.float64)


def _share_below(distances: Tensor, distance: float) -> float:
    """Return the share of sorted distances [n] that are smaller, linear between two of them; 1 for the largest of all.

    n distances and a new one have n + 1 orders, all as likely; counted out of n, a mode of few pictures would accept too many.
    """
    k = int(torch.searchsorted(distances, distance))
    if k == len(distances):
        return 1.0
    low = float(distances[k - 1]) if k else 0.0
    step = float(distances[k]) - low
    return (k + ((distance - low) / step if step else 0.0)) / (len(distances) + 1)


def _shrunk_covariance(x: Tensor) -> Tensor:
    """Return the covariance [D,D] of centered rows [N,D], shrunk toward the identity (Chen et al. 2010, "Shrinkage algorithms
    for MMSE covariance estimation", eq. 23)."""
    n, d = x.shape
    s = x.T @ x / n
    mean = s.trace() / d
    alpha = s.square().mean()
    rho = ((alpha + mean**2) / ((n + 1) * (alpha - mean**2 / d) + 1e-12)).clamp(0, 1)
    return (1 - rho) * s + (rho * mean + 1e-9) * torch.eye(d, dtype=s.dtype)
