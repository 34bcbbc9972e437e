"""Unpaired translation in one direction with a contrastive loss on patches (CUT)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.core.device import full_precision
from limner.losses.adversarial import Objective
from limner.methods.patch_adversarial import PatchAdversarialLoss
from limner.methods.phase import Batch, Clock, Method, Phase, Terms
from limner.networks import diffaugment


def patch_nce(query: Tensor, key: Tensor, temperature: float = 0.07) -> Tensor:
    """Return the InfoNCE loss [N]: cross-entropy of the input patch at the same place among all of the picture (Park et al.
    2020, eq. 3).

    query, key: features [N,P,D] of unit length of output and input; row p of one corresponds to row p of the other.
    """
    with full_precision(query.device):  # bf16 would round the logits, up to 1/temperature, to 0.06
        logits = (query.float() / temperature) @ key.float().transpose(1, 2)  # [N,P,P]
    target = torch.arange(logits.shape[1], device=logits.device).expand(len(logits), -1)
    return F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none").view(target.shape).mean(1)


class CUT:
    """Park et al. 2020, eq. 5: adversarial, contrastive, and contrastive identity terms; no inverse translator is trained.

    Keys come from the translator's own forward pass over the picture, so that only the queries cost a second, half pass.
    penalty: gamma/2 |grad D|^2 at real (r1) and generated (r2) pictures, for objectives that need it.
    """

    def __init__(
        self,
        translators: nn.Module,
        heads: nn.Module,
        discriminator: nn.Module,
        objective: Objective,
        *,
        nce: float = 1.0,
        identity: float = 1.0,
        patches: int = 256,
        penalty: str = "none",
        gamma: float = 0.0,
        flip: bool = False,
    ) -> None:
        self.translators: Any = translators
        self.heads: Any = heads
        self.discriminator: Any = discriminator
        self.adversarial_loss, self.nce, self.identity = PatchAdversarialLoss(objective, penalty, gamma), nce, identity
        self.patches, self.flip = patches, flip
        self.method = Method(
            nets={"translators": translators, "heads": heads, "discriminator": discriminator},
            players={
                "translator": [*translators.parameters(), *heads.parameters()],
                "discriminator": list(discriminator.parameters()),
            },
            phases=[Phase("translator", self.translator_turn), Phase("discriminator", self.discriminator_turn)],
            averaged=("translators",),
        )

    def translator_turn(self, batch: Batch, clock: Clock) -> tuple[Tensor, Terms]:
        a, b = batch["a"], batch["b"]
        if self.flip:
            a, b = diffaugment.flip(a, batch.uniform("flip a")), diffaugment.flip(b, batch.uniform("flip b"))
        n, translator = len(a), self.translators["a2b"]
        out, keys = translator.with_features(torch.cat([a, b]) if self.identity else a)
        made = out[:n]
        batch.keep("translations", b, made)
        generator_loss = self.adversarial_loss.generator_loss(self.discriminator, b, made)
        nce = self._nce(translator.features(out), keys, batch)
        loss = generator_loss + self.nce * nce[:n]
        terms = {"g_loss": generator_loss.detach().mean(), "nce": nce[:n].detach().mean()}
        if self.identity:
            loss, terms["identity"] = loss + self.identity * nce[n:], nce[n:].detach().mean()
        return loss, terms

    def discriminator_turn(self, batch: Batch, clock: Clock) -> tuple[Tensor, Terms]:
        return self.adversarial_loss.discriminator_loss(self.discriminator, *batch.kept("translations"))

    def _nce(self, queries: Sequence[Tensor], keys: Sequence[Tensor], batch: Batch) -> Tensor:
        """Return the mean over feature maps of `patch_nce` at random places, equal in both: [N], or [2N] with identity."""
        losses = []
        for i, (query, key) in enumerate(zip(queries, keys, strict=True)):
            area = query.shape[2] * query.shape[3]
            place = batch.uniform(f"places {i}", area).argsort(1)[:, : min(self.patches, area)]  # [n,P]
            place = place.repeat(len(query) // len(place), 1)[:, :, None]
            one, two = (
                self.heads(x.permute(0, 2, 3, 1).flatten(1, 2).gather(1, place.expand(-1, -1, x.shape[1])), i)
                for x in (query, key)
            )
            losses.append(patch_nce(one, two.detach()))
        return torch.stack(losses).mean(0)
