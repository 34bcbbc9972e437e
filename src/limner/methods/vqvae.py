"""The vector-quantized autoencoder: one player, and a codebook updated by moving averages."""

from __future__ import annotations

from dataclasses import replace
from math import log2
from typing import Any

import torch
from torch import Tensor, nn

from limner.core import distributed
from limner.methods.phase import Batch, Clock, Method, Phase, Terms
from limner.networks import diffaugment
from limner.networks.vqvae import straight_through

RESTART_COUNT = 2.0  # running count of a restarted code, as a multiple of the threshold below which a code is dead


class VQVAE:
    """van den Oord et al. 2017, eq. 3: reconstruction and commitment; the codebook is a moving average of its vectors.

    A code with a running count per iteration below `dead` is set to a random encoder output of the batch (Dhariwal et al.
    2020, "Jukebox", section 3.1). It is dead again within a few dozen iterations unless it is chosen: the encoder changes fast
    at first, and in a sparse picture most vectors are background, which many codes represent already.
    """

    def __init__(
        self,
        autoencoder: nn.Module,
        *,
        commitment: float = 0.25,
        decay: float = 0.99,
        dead: float = 0.1,
        flip: bool = False,
    ) -> None:
        self.autoencoder: Any = autoencoder
        self.commitment, self.decay, self.dead, self.flip = commitment, decay, dead, flip
        self.method = Method(
            nets={"autoencoder": autoencoder},
            players={"autoencoder": list(autoencoder.parameters())},
            phases=[Phase("autoencoder", self.turn)],
            averaged=("autoencoder",),
        )

    def turn(self, batch: Batch, clock: Clock) -> tuple[Tensor, Terms]:
        net = self.autoencoder
        x = batch["image"]
        x = diffaugment.flip(x, batch.uniform("flip")) if self.flip else x
        vectors = net.features(x)  # [N,D,h,w]
        quantized, codes = net.codebook(vectors)
        # a variance of 0.1 in the picture, about what a code leaves undetermined, balances the two terms
        error = (net.render(straight_through(vectors, quantized)) - x).square().mean((1, 2, 3))
        commitment = (vectors - quantized.detach()).square().mean((1, 2, 3))
        perplexity = self._follow(vectors.detach(), codes, batch)
        bits = codes[0].numel() * log2(len(net.codebook.vectors)) / x[0].numel()
        terms = {
            "error": error.detach().mean().sqrt(),
            "commitment": commitment.detach().mean(),
            "perplexity": perplexity,
            "code_bits_per_dim": error.new_tensor(bits),
        }
        return error / 0.1 + self.commitment * commitment, terms

    @torch.no_grad()
    def _follow(self, vectors: Tensor, codes: Tensor, batch: Batch) -> Tensor:
        """Update the codebook by the choices of all ranks; return the perplexity of the code distribution."""
        book = self.autoencoder.codebook
        rows, chosen = vectors.permute(0, 2, 3, 1).flatten(0, 2), codes.flatten()  # [M,D], [M]
        k = len(book.vectors)
        count = torch.bincount(chosen, minlength=k).float()
        total = torch.zeros_like(book.vectors).index_add_(0, chosen, rows)
        # The candidate of a dead code is a vector of the global batch, on any rank: all ranks choose the same. With an
        # accumulated batch, only codes whose candidate lies in this slice restart.
        each = len(rows) // len(batch)
        anywhere = (replace(batch, first=0).uniform("restart", k)[0] * (batch.total * each)).long()
        where = anywhere.clamp_max(batch.total * each - 1) - batch.first * each
        here = ((where >= 0) & (where < len(rows))).to(rows.dtype)
        candidates = rows[where.clamp(0, len(rows) - 1)] * here[:, None]
        share = rows.new_full((1,), len(batch) / batch.total)
        distributed.all_reduce_in_place([count, total, here, candidates, share])
        # each slice of an accumulated batch updates the codebook by its fraction of the rows
        book.follow(count / share, total / share, self.decay ** share.item())
        book.restart((book.counts < self.dead) & (here > 0), candidates, RESTART_COUNT * self.dead)
        p = count / count.sum()
        return torch.exp(-(p * p.clamp_min(1e-10).log()).sum())
