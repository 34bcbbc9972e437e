"""A mixture of Gaussians with full covariances: what the latents of an autoencoder are distributed like.

Drawn from N(0, I), where the encoder puts hardly any picture, latents decode to nothing in particular; drawn from a
density that is fitted to the latents they decode to pictures (Ghosh et al. 2020, "From variational to deterministic
autoencoders", section 4, who fit it after training).
"""

from __future__ import annotations

from math import log, pi

import torch
from torch import Tensor, nn


class Mixture(nn.Module):
    """z [N,Z] -> log density [N]. Component k has the mean m and the precision PᵀP, P triangular: P (z - m) is N(0, I)."""

    def __init__(self, components: int, size: int) -> None:
        super().__init__()
        if components < 1:
            raise ValueError(f"A prior has 1 component at least, not {components}.")
        self.size = size
        self.weights = nn.Parameter(torch.zeros(components))  # logits
        self.means = nn.Parameter(0.3 * torch.randn(components, size))  # apart, or they stay alike; together near N(0, I)
        self.log_diagonals = nn.Parameter(torch.zeros(components, size))
        self.factors = nn.Parameter(torch.zeros(components, size, size))  # only what lies below the diagonal counts

    def forward(self, z: Tensor) -> Tensor:
        with torch.autocast(z.device.type, enabled=False):
            white = torch.einsum("kij,nkj->nki", self._triangles(), z.float()[:, None] - self.means)  # [N,K,Z]
            each = self.log_diagonals.sum(1) - 0.5 * white.square().sum(2) - 0.5 * self.size * log(2 * pi)
            return torch.logsumexp(self.weights.log_softmax(0) + each, 1)

    @torch.no_grad()
    def draw(self, noise: Tensor, chance: Tensor) -> Tensor:
        """Standard normal [N,Z] and uniform in [0,1) [N] -> draws [N,Z]; the chance chooses the component."""
        ends = self.weights.cpu().double().softmax(0).cumsum(0)  # on the CPU: Apple's GPUs know no doubles
        k = torch.searchsorted(ends, chance.cpu().double(), right=True).clamp_max(len(ends) - 1).to(noise.device)
        away = torch.linalg.solve_triangular(self._triangles()[k], noise.float()[..., None], upper=False)[..., 0]
        return self.means[k] + away

    def _triangles(self) -> Tensor:
        return self.factors.tril(-1) + torch.diag_embed(self.log_diagonals.exp())  # [K,Z,Z]
