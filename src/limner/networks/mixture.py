"""A mixture of Gaussians with full covariances: the learned prior of an autoencoder's latents.

The encoder leaves much of N(0, I) without images, and samples from there decode to noise; samples from a density that is
fitted to the latents decode to images (Ghosh et al. 2020, "From variational to deterministic
autoencoders", section 4, who fit it after training). With classes it is a prior p(z|y), as a conditional autoencoder has
(Sohn et al. 2015, "Learning structured output representation using deep conditional generative models", section 4.1):
each class has weights and means of its own, and all share the covariances.
"""

from __future__ import annotations

from math import log, pi

import torch
from torch import Tensor, nn

from limner.core.device import full_precision


class Mixture(nn.Module):
    """z [N,Z], y [N] -> log density [N]; y is None where there are no classes.

    Component k has the mean m and the precision PᵀP, P triangular: P (z - m) is N(0, I).
    """

    def __init__(self, components: int, size: int, classes: int = 0) -> None:
        super().__init__()
        if components < 1:
            raise ValueError(f"A prior has 1 component at least, not {components}.")
        self.size, self.classes, each = size, classes, max(1, classes)
        means = 0.3 * torch.randn(components, size)  # distinct, or they would stay equal; together near N(0, I)
        self.weights = nn.Parameter(torch.zeros(each, components))  # logits, a row for each class
        self.means = nn.Parameter(means.repeat(each, 1, 1))
        self.log_diagonals = nn.Parameter(torch.zeros(components, size))
        self.factors = nn.Parameter(torch.zeros(components, size, size))  # only what lies below the diagonal counts

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        weights, means = self._of(y)
        with full_precision(z.device):
            white = torch.einsum("kij,nkj->nki", self._triangles(), z.float()[:, None] - means)  # [N,K,Z]
            each = self.log_diagonals.sum(1) - 0.5 * white.square().sum(2) - 0.5 * self.size * log(2 * pi)
            return torch.logsumexp(weights.log_softmax(1) + each, 1)

    @torch.no_grad()
    def draw(self, noise: Tensor, chance: Tensor, y: Tensor | None = None) -> Tensor:
        """Standard normal [N,Z], uniform in [0,1) [N] and classes [N] -> samples [N,Z]; the uniform number chooses the component."""
        weights, means = self._of(y)
        ends = weights.cpu().double().softmax(1).cumsum(1).expand(len(noise), -1)  # on the CPU: MPS has no float64
        k = torch.searchsorted(ends.contiguous(), chance.cpu().double()[:, None], right=True)[:, 0]
        k = k.clamp_max(ends.shape[1] - 1).to(noise.device)
        away = torch.linalg.solve_triangular(self._triangles()[k], noise.float()[..., None], upper=False)[..., 0]
        return means.expand(len(noise), -1, -1)[torch.arange(len(noise), device=noise.device), k] + away

    def _of(self, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """Logits [N,K] and means [N,K,Z] of the classes y [N]; without classes, one row for all."""
        assert (y is not None) == (self.classes > 0), "a prior with classes needs labels, and another takes none"
        return (self.weights, self.means) if y is None else (self.weights[y], self.means[y])

    def _triangles(self) -> Tensor:
        return self.factors.tril(-1) + torch.diag_embed(self.log_diagonals.exp())  # [K,Z,Z]
