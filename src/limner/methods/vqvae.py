"""The vector-quantized autoencoder: one player, and a codebook that follows by itself."""

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

GRACE = 2.0  # the running count that a restarted code begins with, as a multiple of the count at which it is dead


class VQVAE:
    """van den Oord et al. 2017, eq. 3: reconstruction and commitment; the codebook follows the vectors it stands for.

    A code whose running count of choices an iteration falls below `dead` is put where one of the batch's vectors lies
    (Dhariwal et al. 2020, "Jukebox", section 3.1). It is dead again in a few dozen iterations unless it is chosen: the
    encoder moves fast at first, and in a sparse picture most vectors are background, where codes are plenty.
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
        # a spread of 0.1 in the picture, about what a code leaves open, balances the two terms
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
        """Let the codebook follow the choices of all ranks; returns how many codes are as good as in even use."""
        book = self.autoencoder.codebook
        rows, chosen = vectors.permute(0, 2, 3, 1).flatten(0, 2), codes.flatten()  # [M,D], [M]
        k = len(book.vectors)
        count = torch.bincount(chosen, minlength=k).float()
        total = torch.zeros_like(book.vectors).index_add_(0, chosen, rows)
        # A dead code's candidate is a vector of the global batch, whoever holds it: ranks choose as one would. Of an
        # accumulated batch only those restart whose candidate lies in this slice.
        each = len(rows) // len(batch)
        anywhere = (replace(batch, first=0).uniform("restart", k)[0] * (batch.total * each)).long()
        where = anywhere.clamp_max(batch.total * each - 1) - batch.first * each
        here = ((where >= 0) & (where < len(rows))).to(rows.dtype)
        candidates = rows[where.clamp(0, len(rows) - 1)] * here[:, None]
        share = rows.new_full((1,), len(batch) / batch.total)
        distributed.all_reduce_in_place([count, total, here, candidates, share])
        # a slice of an accumulated batch moves the codebook by its share, and counts as if it were the whole
        book.follow(count / share, total / share, self.decay ** share.item())
        book.restart((book.counts < self.dead) & (here > 0), candidates, GRACE * self.dead)
        p = count / count.sum()
        return torch.exp(-(p * p.clamp_min(1e-10).log()).sum())
