"""Discriminator layers that compute statistics over the batch, so that low diversity is visible to the discriminator."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from limner.core import distributed


class CrossSampleLayer(nn.Module):
    """A layer whose output for a row depends on the other rows in training, and on a running mean in eval mode, as in batch
    normalization. A discriminator that holds one gets real and generated images in separate batches."""

    running_mean: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.ones(features))

    @torch.no_grad()
    def _remember(self, statistic: Tensor) -> None:
        """Update the running mean by the statistic [N,features] of this rank, or of all ranks if they are synchronized."""
        mean, ranks = statistic.float().mean(0), torch.ones(1, device=statistic.device)
        if distributed.syncs_batch_norm():
            distributed.all_reduce_in_place([mean, ranks])
        self.running_mean.lerp_(mean / ranks, 0.05)


class MinibatchStddev(CrossSampleLayer):
    """Appends a channel: the standard deviation over a group of rows, averaged over channels and pixels (Karras et al.
    2018, section 3). [N,C,H,W] -> [N,C+1,H,W]

    Groups are consecutive rows, so slices and ranks with a multiple of `group` rows form the same groups. The largest size
    up to `group` that divides the batch is used, or else the whole batch: a single row has no deviation.
    """

    def __init__(self, group: int = 4) -> None:
        super().__init__(1)
        self.group = group

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        if self.training:
            size = next((g for g in range(min(self.group, n), 1, -1) if n % g == 0), n)
            groups = x.float().unflatten(0, (-1, size))  # [M,G,C,H,W]
            # torch.var along this axis takes ten times as long on a CPU
            variance = (groups - groups.mean(1, keepdim=True)).square().mean(1)
            deviation = (variance + 1e-8).sqrt().mean((1, 2, 3))  # [M]
            deviation = deviation.repeat_interleave(size)[:, None]
            self._remember(deviation)
        else:
            deviation = self.running_mean.expand(n, 1)
        return torch.cat([x, deviation[:, :, None, None].expand(n, 1, h, w).to(x.dtype)], 1)


class MinibatchDiscrimination(CrossSampleLayer):
    """Appends features: the closeness of a row to all others by `kernels` learned distances (Salimans et al. 2016, "Improved
    techniques for training GANs", section 3.2). [N,F] -> [N,F+kernels]

    The others are the rows of this rank; those of all ranks with `distributed.syncs_batch_norm`.
    """

    def __init__(self, features: int, kernels: int, size: int = 8) -> None:
        super().__init__(kernels)
        self.kernels = kernels
        self.project = nn.Linear(features, kernels * size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            m = self.project(x).float().unflatten(1, (self.kernels, -1))  # [N,K,S]
            others = distributed.all_gather(m) if distributed.syncs_batch_norm() else m
            distance = (m[:, None] - others[None]).abs().sum(3)  # [N,M,K]
            closeness = torch.exp(-distance).sum(1) - 1  # to all but itself
            self._remember(closeness)
        else:
            closeness = self.running_mean.expand(len(x), self.kernels)
        return torch.cat([x, closeness.to(x.dtype)], 1)
