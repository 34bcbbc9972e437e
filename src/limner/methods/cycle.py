"""Unpaired translation in both directions with a cycle-consistency loss (CycleGAN)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from limner.losses.adversarial import Objective
from limner.methods.patch_adversarial import PatchAdversarialLoss
from limner.methods.phase import Batch, Clock, Method, Phase, Terms
from limner.methods.pool import Pool
from limner.networks import diffaugment


class Cycle:
    """Zhu et al. 2017, eq. 3, and the identity term of section 5.2.

    The translators update first; the discriminators then use the translations of that turn, mixed with those of the pools.
    All inputs of a translator that are known at the same time are passed at once: three passes per iteration instead of six.
    penalty: gamma/2 |grad D|^2 at real (r1) and generated (r2) pictures, for objectives that need it.
    """

    def __init__(
        self,
        translators: nn.Module,
        discriminator_a: nn.Module,
        discriminator_b: nn.Module,
        objective: Objective,
        pools: Mapping[str, Pool],
        *,
        cycle: float = 1.0,
        identity: float = 0.0,
        penalty: str = "none",
        gamma: float = 0.0,
        flip: bool = False,
    ) -> None:
        assert set(pools) == {"a", "b"}
        self.translators: Any = translators
        self.discriminator_a, self.discriminator_b = discriminator_a, discriminator_b
        self.pools = pools
        self.adversarial_loss, self.cycle, self.identity = PatchAdversarialLoss(objective, penalty, gamma), cycle, identity
        self.flip = flip
        self.method = Method(
            nets={"translators": translators, "discriminator_a": discriminator_a, "discriminator_b": discriminator_b},
            players={
                "translator": list(translators.parameters()),
                "discriminator": [*discriminator_a.parameters(), *discriminator_b.parameters()],
            },
            phases=[Phase("translator", self.translator_turn), Phase("discriminator", self.discriminator_turn)],
            averaged=("translators",),
            memory={f"made_{side}": pool for side, pool in pools.items()},
        )

    def translator_turn(self, batch: Batch, clock: Clock) -> tuple[Tensor, Terms]:
        a, b = self._sides(batch)
        a2b, b2a = self.translators["a2b"], self.translators["b2a"]
        n, same = len(a), self.identity > 0
        out = a2b(torch.cat([a, b]) if same else a)
        made_b, same_b = out[:n], out[n:]
        out = b2a(torch.cat([b, made_b, a] if same else [b, made_b]))
        made_a, back_a, same_a = out[:n], out[n : 2 * n], out[2 * n :]
        back_b = a2b(made_a)
        batch.keep("translations", a, b, made_a, made_b)
        generator_loss = self.adversarial_loss.generator_loss(self.discriminator_a, a, made_a) + self.adversarial_loss.generator_loss(self.discriminator_b, b, made_b)
        cycle = _distance(back_a, a) + _distance(back_b, b)
        loss = generator_loss + self.cycle * cycle
        terms = {"g_loss": generator_loss.detach().mean(), "cycle": cycle.detach().mean()}
        if same:
            identity = _distance(same_a, a) + _distance(same_b, b)
            loss, terms["identity"] = loss + self.identity * identity, identity.detach().mean()
        return loss, terms

    def discriminator_turn(self, batch: Batch, clock: Clock) -> tuple[Tensor, Terms]:
        a, b, made_a, made_b = batch.kept("translations")
        one, terms = self.adversarial_loss.discriminator_loss(self.discriminator_a, a, self.pools["a"].exchange(made_a, batch))
        other, more = self.adversarial_loss.discriminator_loss(self.discriminator_b, b, self.pools["b"].exchange(made_b, batch))
        return one + other, {name: terms[name] + more[name] for name in terms}

    def _sides(self, batch: Batch) -> tuple[Tensor, Tensor]:
        a, b = batch["a"], batch["b"]
        if self.flip:
            return diffaugment.flip(a, batch.uniform("flip a")), diffaugment.flip(b, batch.uniform("flip b"))
        return a, b


def _distance(x: Tensor, y: Tensor) -> Tensor:
    return (x - y).abs().mean((1, 2, 3))
