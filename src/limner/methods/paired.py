"""Paired translation: a translator that comes near the truth, and a critic that tells pairs from would-be pairs."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from limner.losses.adversarial import Objective
from limner.methods.phase import Batch, Clock, Phase, Stateful, Terms
from limner.networks import augment


class Paired:
    """Isola et al. 2017, eq. 4: L1 to the truth and an adversarial term; the critic sees both sides (eq. 1).

    features: weight of the distance in the critic's features (Wang et al. 2018, "High-resolution image synthesis ... with
    conditional GANs", eq. 3). Without a critic only L1 is left. The translator moves first, and the critic then judges
    what that turn made: every picture is translated once an iteration.
    """

    averaged: Sequence[str] = ("translators",)

    def __init__(
        self,
        translators: nn.Module,
        critic: nn.Module | None,
        objective: Objective,
        *,
        pixels: float = 100.0,
        features: float = 0.0,
        flip: bool = False,
        shift: bool = False,
    ) -> None:
        self.translators: Any = translators
        self.critic: Any = critic
        self.nets: Mapping[str, nn.Module] = {"translators": translators}
        self.players: Mapping[str, Sequence[nn.Parameter]] = {"translators": list(translators.parameters())}
        self.phases: Sequence[Phase] = [Phase("translators", self.translator_turn)]
        self.memory: Mapping[str, Stateful] = {}
        self.levers: MutableMapping[str, float] = {}
        if critic is not None:
            self.nets = {**self.nets, "critic": critic}
            self.players = {**self.players, "critic": list(critic.parameters())}
            self.phases = [*self.phases, Phase("critic", self.critic_turn)]
        self.objective, self.pixels, self.features = objective, pixels, features
        self.flip, self.shift = flip, shift
        self._fresh: dict[int, tuple[Tensor, Tensor]] = {}  # row -> pairs, real and would-be, of the turn before

    def translator_turn(self, batch: Batch, clock: Clock) -> tuple[Tensor, Terms]:
        a, b = self._sides(batch)
        made = self.translators["a2b"](a)
        distance = (made - b).abs().mean((1, 2, 3))
        terms = {"l1": distance.detach().mean()}
        loss = self.pixels * distance
        if self.critic is None:
            return loss, terms
        real, fake = torch.cat([a, b], 1), torch.cat([a, made], 1)
        self._fresh[batch.first] = real, fake.detach()
        maps, logits = self.critic.look(fake)
        real_maps, real_logits = [], logits.detach()
        if self.features or self.objective.sees_real:
            with torch.no_grad():
                real_maps, real_logits = self.critic.look(real)
        fooled = self.objective.generator(real_logits, logits).flatten(1).mean(1)
        loss, terms["generator"] = loss + fooled, fooled.detach().mean()
        if self.features:
            gaps = [(x.float() - y.float()).abs().flatten(1).mean(1) for x, y in zip(maps, real_maps, strict=True)]
            likeness = torch.stack(gaps).mean(0)
            loss, terms["features"] = loss + self.features * likeness, likeness.detach().mean()
        return loss, terms

    def critic_turn(self, batch: Batch, clock: Clock) -> tuple[Tensor, Terms]:
        real, fake = self.critic(torch.cat(self._fresh.pop(batch.first))).chunk(2)
        loss = self.objective.critic(real, fake).flatten(1).mean(1)
        return loss, {"critic": loss.detach().mean(), "gap": real.detach().mean() - fake.detach().mean()}

    def _sides(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Both sides, mirrored and shifted alike."""
        a, b = batch["a"], batch["b"]
        if self.flip:
            u = batch.uniform("flip")
            a, b = augment.flip(a, u), augment.flip(b, u)
        if self.shift:
            u = batch.uniform("shift", 2)
            a, b = augment.translation(a, u), augment.translation(b, u)
        return a, b
