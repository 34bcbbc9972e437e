"""The two-player game: a critic that tells real from generated, and a generator that learns from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from limner.losses.adversarial import Objective
from limner.losses.penalties import penalised, squared_slope
from limner.methods.phase import Batch, Clock, Phase, Stateful, Terms
from limner.networks import augment


class GAN:
    """Goodfellow et al. 2014, algorithm 1, with any objective: the critic's turn, then the generator's.

    penalty/gamma: gamma/2 |grad D|^2 at real (r1), generated (r2) or both (r1r2) pictures, every `penalty_every`
    iterations with its weight multiplied by as much (Karras et al. 2020, "lazy regularisation"; equal in expectation).
    augmentation: a policy of `networks.augment`, applied to all that the critic sees.
    """

    averaged: Sequence[str] = ("generator",)

    def __init__(
        self,
        generator: nn.Module,
        critic: nn.Module,
        objective: Objective,
        *,
        penalty: str = "none",
        gamma: float = 0.0,
        penalty_every: int = 1,
        augmentation: str = "none",
        flip: bool = False,
    ) -> None:
        self.nets: Mapping[str, nn.Module] = {"generator": generator, "critic": critic}
        self.players: Mapping[str, Sequence[nn.Parameter]] = {
            "critic": list(critic.parameters()),
            "generator": list(generator.parameters()),
        }
        self.memory: Mapping[str, Stateful] = {}
        self.objective = objective
        self.at_real, self.at_fake = penalised(penalty)
        self.gamma, self.penalty_every = gamma, penalty_every
        self.augmentation, self.flip = augmentation, flip
        lazy = [Phase("critic", self.penalty_turn, every=penalty_every)] if self.at_real or self.at_fake else []
        self.phases: Sequence[Phase] = [
            Phase("critic", self.critic_turn),
            *lazy,
            Phase("generator", self.generator_turn),
        ]

    def critic_turn(self, batch: Batch, clock: Clock) -> tuple[Tensor, Terms]:
        real, y = self._real(batch), batch.get("label")
        fake, fake_y = self._fake(batch)
        # One forward over both halves keeps the matrices large. A critic with batch norm sees each half alone: mixed
        # statistics would tell it which pictures came together (Radford et al. 2016 feed them apart as well).
        if _mixes_rows(self.nets["critic"]):
            real_logits, fake_logits = self.nets["critic"](real, y), self.nets["critic"](fake, fake_y)
        else:
            both = None if y is None or fake_y is None else torch.cat([y, fake_y])
            real_logits, fake_logits = self.nets["critic"](torch.cat([real, fake]), both).chunk(2)
        loss = self.objective.critic(real_logits, fake_logits)
        gap = real_logits.detach().mean() - fake_logits.detach().mean()
        return loss, {"critic": loss.detach().mean(), "gap": gap}

    def penalty_turn(self, batch: Batch, clock: Clock) -> tuple[Tensor, Terms]:
        critic = self.nets["critic"]
        loss: Tensor | float = 0.0
        terms = {}
        if self.at_real:
            y = batch.get("label")
            slope = squared_slope(lambda x: critic(x, y), self._real(batch))
            loss, terms["r1"] = loss + slope, slope.detach().mean()
        if self.at_fake:
            fake, fake_y = self._fake(batch)
            slope = squared_slope(lambda x: critic(x, fake_y), fake)
            loss, terms["r2"] = loss + slope, slope.detach().mean()
        assert isinstance(loss, Tensor)
        return loss * (0.5 * self.gamma * self.penalty_every), terms

    def generator_turn(self, batch: Batch, clock: Clock) -> tuple[Tensor, Terms]:
        fake, fake_y = self._fake(batch, gradient=True)
        fake_logits = self.nets["critic"](fake, fake_y)
        if self.objective.sees_real:
            with torch.no_grad():
                real_logits = self.nets["critic"](self._real(batch), batch.get("label"))
        else:
            real_logits = fake_logits.detach()
        loss = self.objective.generator(real_logits, fake_logits)
        return loss, {"generator": loss.detach().mean()}

    def _real(self, batch: Batch) -> Tensor:
        x = batch["image"]
        if self.flip:
            x = augment.flip(x, batch.uniform("flip"))
        return augment.augment(x, batch.uniform("augment real", augment.DRAWS), self.augmentation)

    def _fake(self, batch: Batch, gradient: bool = False) -> tuple[Tensor, Tensor | None]:
        """Generated pictures as the critic sees them, and the labels they were asked for.

        Labels are those of the batch: their frequencies are the data's, and relativistic pairs share their class.
        """
        generator, y = self.nets["generator"], batch.get("label")
        with torch.set_grad_enabled(gradient):
            fake = generator(batch.normal("z", generator.z_size), y)  # type: ignore[arg-type]
            return augment.augment(fake, batch.uniform("augment fake", augment.DRAWS), self.augmentation), y


def _mixes_rows(critic: nn.Module) -> bool:
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in critic.modules())
