"""The two-player game: a discriminator that tells real from generated, and a generator that learns from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from functools import cache
from typing import TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.core import latents
from limner.losses.adversarial import Objective
from limner.losses.penalties import DiscriminatorContext, discriminator_penalty, requires_input_grad
from limner.losses.regularizers import GeneratorContext, generator_regularizer
from limner.methods.memory import Adaptive, History, RunningMeans
from limner.methods.phase import Batch, Clock, Phase, Stateful, Terms
from limner.networks import ada, diffaugment
from limner.networks.batch_stats import CrossSampleLayer
from limner.networks.contracts import ProgressiveNet, SelfSupervised, StyleBased

T = TypeVar("T")
Pictures = Callable[[], Tensor]  # or what is said of them: made where it is asked for, or there already


class GAN:
    """Goodfellow et al. 2014, algorithm 1, with any objective: the discriminator's turn, then the generator's.

    penalty, gamma: one of `losses.penalties` on the discriminator and its weight; regularizer, regularizer_weight: one of
    `losses.regularizers` on the generator. Either is a part of its player's loss, as its paper has it; where it comes only
    every so many turns of that player, it has turns of its own and weighs as much more (Karras et al. 2020, "lazy
    regularization"; equal in expectation).
    augmentation: a policy of `networks.augment`, or `ada` (steered by `controller`), of all that the discriminator sees.
    critic_steps: turns of the discriminator for one of the generator. clip_weights: the discriminator's weights stay within +- this
    (Arjovsky et al. 2017, algorithm 1). historical: weight of the distance of either player from its own past.
    mixing: share of pictures that change styles midway (Karras et al. 2019, section 3.1); needs a generator with styles.
    noise: the kind of latents, one of `core.latents`.
    classifier, classifier_weight: a head [N,F] -> [N,K] on the discriminator's last features that names the class of a picture,
    and what its cross-entropy weighs on both players (Odena et al. 2017, eq. 2-3). The discriminator learns to name real
    pictures only, where the paper has it name generated ones too: of those it soon reads the class from other traces
    than real ones have, and the generator, named as asked, made bags that were boots. It moves with the discriminator, which
    then is one without labels.

    Levers: "penalty", a factor on its weight; "augmentation", the probability of more of it (Karras et al. 2020,
    "Training GANs with limited data"), where nothing steers it already.
    """

    averaged: Sequence[str] = ("generator",)

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        objective: Objective,
        *,
        penalty: str = "none",
        gamma: float = 0.0,
        penalty_every: int = 1,
        regularizer: str = "none",
        regularizer_weight: float | None = None,
        regularizer_every: int = 1,
        augmentation: str = "none",
        controller: Adaptive | None = None,
        flip: bool = False,
        discriminator_steps: int = 1,
        clip_weights: float = 0.0,
        historical: float = 0.0,
        mixing: float = 0.0,
        noise: str = "normal",
        classifier: nn.Module | None = None,
        classifier_weight: float = 1.0,
    ) -> None:
        if penalty.endswith("-fast") and any(isinstance(m, nn.Dropout) and m.p > 0 for m in discriminator.modules()):
            raise ValueError(
                f"The penalty {penalty} compares two answers of the discriminator, which dropout makes random: set the "
                "network's dropout to 0, or take the penalty without -fast."
            )
        heads = {} if classifier is None else {"classifier": classifier}
        self.nets: Mapping[str, nn.Module] = {"generator": generator, "discriminator": discriminator, **heads}
        self.players: Mapping[str, Sequence[nn.Parameter]] = {
            "discriminator": [p for net in (discriminator, *heads.values()) for p in net.parameters()],
            "generator": list(generator.parameters()),
        }
        self.objective = objective
        self.classifier, self.classifier_weight = classifier, classifier_weight
        self.penalty, self.gamma, self.penalty_every = discriminator_penalty(penalty), gamma, penalty_every
        self.regularizer, self.regularizer_every = generator_regularizer(regularizer), regularizer_every
        default = self.regularizer.weight if self.regularizer else 0.0
        self.regularizer_weight = default if regularizer_weight is None else regularizer_weight
        self.augmentation, self.flip, self.noise = augmentation, flip, latents.known(noise)
        self.clip_weights, self.historical, self.mixing = clip_weights, historical, mixing
        self.mixes_rows = any(isinstance(m, nn.modules.batchnorm._BatchNorm | CrossSampleLayer) for m in discriminator.modules())
        self.usual = RunningMeans(
            [*(self.penalty.keeps if self.penalty else ()), *(self.regularizer.keeps if self.regularizer else ())]
        )
        self.controller = (controller or Adaptive()) if augmentation == "ada" else None
        self.histories = {name: History(ps) for name, ps in self.players.items()} if historical else {}
        memory: dict[str, Stateful] = {f"{name} history": history for name, history in self.histories.items()}
        if self.usual.means:
            memory["usual"] = self.usual
        if self.controller:
            memory["augmentation"] = self.controller
        self.memory: Mapping[str, Stateful] = memory
        self.levers: MutableMapping[str, float] = {"penalty": 1.0} if self.penalty else {}
        if not self.controller:  # which has a will of its own
            self.levers["augmentation"] = 0.0
        self.phases: Sequence[Phase] = [
            Phase("discriminator", self.discriminator_turn),
            *([Phase("discriminator", self.penalty_turn, every=penalty_every)] if self.penalty and penalty_every > 1 else []),
            Phase("generator", self.generator_turn, every=discriminator_steps),
        ]
        if self.regularizer and regularizer_every > 1:
            self.phases = [*self.phases, Phase("generator", self.regularizer_turn, every=discriminator_steps * regularizer_every)]

    # ---- turns -------------------------------------------------------------------------------------------------------

    def discriminator_turn(self, batch: Batch, clock: Clock) -> tuple[Tensor, Terms]:
        self._begin(clock)
        discriminator = self.nets["discriminator"]
        at = self.penalty.at if self.penalty and self.penalty_every == 1 else ()
        real, y = requires_input_grad(self._real(batch), "real" in at), batch.get("label")
        fake, fake_y = self._fake(batch)
        fake = requires_input_grad(fake, "fake" in at)
        # One forward over both halves keeps the matrices large. A discriminator whose rows see each other sees each half
        # alone: it would be told which pictures came together (Radford et al. 2016 feed them apart as well). One that
        # teaches itself does so from the same look at real pictures. A slope at one half is not to pass through both.
        aux_loss: Tensor | None = None
        if isinstance(discriminator, SelfSupervised):
            u = batch.uniform("aux_loss")
            (real_logits, aux_loss), features = self._with_features(lambda: discriminator.forward_with_aux(real, y, u), real)
            fake_logits, _ = self._discriminate(fake, fake_y)
        elif self.mixes_rows or len(at) == 1:
            (real_logits, features), (fake_logits, _) = self._discriminate(real, y), self._discriminate(fake, fake_y)
        else:
            both = None if y is None or fake_y is None else torch.cat([y, fake_y])
            logits, found = self._discriminate(torch.cat([real, fake]), both)
            (real_logits, fake_logits), (features, _) = logits.chunk(2), found.chunk(2)
        loss = self.objective.discriminator(real_logits, fake_logits)
        gap = real_logits.detach().mean() - fake_logits.detach().mean()
        terms = {"d_loss": loss.detach().mean(), "logit_gap": gap}
        if self.classifier is not None:
            class_loss = self._class_loss(features, y)
            loss, terms["class_loss_real"] = loss + self.classifier_weight * class_loss, class_loss.detach().mean()
        if aux_loss is not None:
            loss, terms["aux_loss"] = loss + aux_loss, aux_loss.detach().mean()
        if self.penalty and self.penalty_every == 1:
            more, parts = self._penalized(batch, lambda: real, lambda: fake, lambda: real_logits, lambda: fake_logits)
            loss, terms = loss + more, {**terms, **parts}
        if self.controller:
            middle = self.objective.middle
            self.controller.note((real_logits - (fake_logits if middle is None else middle)).detach())
            terms["augmentation"] = real_logits.new_tensor(self.controller.p)
        return self._with_history(loss, "discriminator", clock), terms

    def penalty_turn(self, batch: Batch, clock: Clock) -> tuple[Tensor, Terms]:
        """The penalty alone, of which the discriminator's other turns know nothing."""
        self._begin(clock)
        discriminator, y = self.nets["discriminator"], batch.get("label")
        assert self.penalty is not None
        at = self.penalty.at
        real = cache(lambda: requires_input_grad(self._real(batch), "real" in at))
        fake = cache(lambda: requires_input_grad(self._fake(batch)[0], "fake" in at))
        return self._penalized(batch, real, fake, lambda: discriminator(real(), y), lambda: discriminator(fake(), y))

    def generator_turn(self, batch: Batch, clock: Clock) -> tuple[Tensor, Terms]:
        self._begin(clock)
        objective = self.objective
        y = batch.get("label")
        made = self._generated(batch, y)
        fakes = self._discriminate(self._augmented(made, batch, "augment fake"), y)
        if objective.sees_real:
            with torch.no_grad():
                reals = self._discriminate(self._real(batch), y)
        else:
            reals = fakes[0].detach(), fakes[1].detach()
        which = 1 if objective.features else 0  # what the discriminator looks at, or what it says
        loss = objective.generator(reals[which], fakes[which])
        terms = {"g_loss": loss.detach().mean()}
        if self.classifier is not None:
            class_loss = self._class_loss(fakes[1], y)
            loss, terms["class_loss_fake"] = loss + self.classifier_weight * class_loss, class_loss.detach().mean()
        if self.regularizer and self.regularizer_every == 1:
            more, parts = self._regularized(batch, lambda: made)
            loss, terms = loss + more, {**terms, **parts}
        return self._with_history(loss, "generator", clock), terms

    def regularizer_turn(self, batch: Batch, clock: Clock) -> tuple[Tensor, Terms]:
        """The penalty on the generator alone."""
        self._begin(clock)
        return self._regularized(batch, lambda: self._generated(batch, batch.get("label")))

    # ---- what turns share --------------------------------------------------------------------------------------------

    def _penalized(
        self, batch: Batch, real: Pictures, fake: Pictures, real_logits: Pictures, fake_logits: Pictures
    ) -> tuple[Tensor, Terms]:
        """The penalty on the discriminator, weighed. What it asks for comes from the turn that has it already."""
        assert self.penalty is not None
        discriminator, y = self.nets["discriminator"], batch.get("label")
        context = DiscriminatorContext(
            discriminator=lambda x: discriminator(x, y if y is None or len(x) == len(y) else y.repeat(len(x) // len(y))),
            real=real,
            fake=fake,
            real_logits=real_logits,
            fake_logits=fake_logits,
            normal=batch.normal,
            uniform=batch.uniform,
            usual=self.usual,
        )
        parts = self.penalty.parts(context)
        loss = torch.stack(list(parts.values())).sum(0) if len(parts) > 1 else next(iter(parts.values()))
        terms = {name: part.detach().mean() for name, part in parts.items()}
        weight = self.penalty.scale * self.gamma * self.penalty_every * self.levers["penalty"]
        return loss * weight, terms

    def _regularized(self, batch: Batch, made: Pictures) -> tuple[Tensor, Terms]:
        """The penalty on the generator, weighed."""
        assert self.regularizer is not None
        generator, y = self.nets["generator"], batch.get("label")
        styled = generator if isinstance(generator, StyleBased) else None
        context = GeneratorContext(
            latent=lambda name: self._latent(batch, name),
            made=made,
            generate=lambda z: generator(z, y),
            style=lambda z: styled.mapping(z, y)[:, None].repeat(1, styled.layers, 1) if styled else z[:, None],
            paint=styled.synthesis if styled else lambda styles: generator(styles.squeeze(1), y),
            weights=[p for m in generator.modules() if not isinstance(m, nn.Embedding) for p in m.parameters(recurse=False)],
            normal=batch.normal,
            usual=self.usual,
        )
        loss = self.regularizer.loss(context)
        return loss * (self.regularizer_weight * self.regularizer_every), {"regularizer": loss.detach().mean()}

    def _begin(self, clock: Clock) -> None:
        """Tell whoever counts which batch it is; nothing happens the second time."""
        for net in self.nets.values():
            if isinstance(net, ProgressiveNet):
                net.at(clock.fraction)
        self.usual.begin(clock.seen)
        if self.controller:
            self.controller.begin(clock.seen)
        if self.clip_weights:
            with torch.no_grad():
                for p in self.players["discriminator"]:
                    p.clamp_(-self.clip_weights, self.clip_weights)

    def _discriminate(self, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """What the discriminator says [N], and the last features [N,F] where somebody asks for them (else F = 0)."""
        return self._with_features(lambda: self.nets["discriminator"](x, y), x)

    def _with_features(self, say: Callable[[], T], x: Tensor) -> tuple[T, Tensor]:
        if self.objective.features or self.classifier is not None:
            return with_last_features(self.nets["discriminator"], say)
        return say(), x.new_empty(len(x), 0)

    def _class_loss(self, features: Tensor, y: Tensor | None) -> Tensor:
        """What it costs to be named otherwise than y. [N,F], [N] -> [N]"""
        assert self.classifier is not None and y is not None, "a classifier needs labels"
        return F.cross_entropy(self.classifier(features), y, reduction="none")

    def _with_history(self, loss: Tensor, player: str, clock: Clock) -> Tensor:
        if not self.histories:
            return loss
        return loss + self.historical * self.histories[player].distance(clock.seen)

    def _real(self, batch: Batch) -> Tensor:
        x = batch["image"]
        if self.flip:
            x = diffaugment.flip(x, batch.uniform("flip"))
        generator = self.nets["generator"]
        if isinstance(generator, ProgressiveNet):
            x = generator.shown(x)
        return self._augmented(x, batch, "augment real")

    def _fake(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Generated pictures as the discriminator sees them, without a way back, and the labels they were asked for.

        Labels are those of the batch: their frequencies are the data's, and relativistic pairs share their class.
        """
        y = batch.get("label")
        with torch.no_grad():
            return self._augmented(self._generated(batch, y), batch, "augment fake"), y

    def _generated(self, batch: Batch, y: Tensor | None) -> Tensor:
        generator = self.nets["generator"]
        z = self._latent(batch, "z")
        if not self.mixing:
            return generator(z, y)
        assert isinstance(generator, StyleBased)
        one = generator.mapping(z, y)
        two = generator.mapping(self._latent(batch, "mixed z"), y)
        crossing = 1 + batch.integers("crossing", generator.layers - 1)
        crossing = torch.where(batch.uniform("mixing") < self.mixing, crossing, generator.layers)
        second = torch.arange(generator.layers, device=z.device) >= crossing[:, None]  # [N,L]
        return generator.synthesis(torch.where(second[:, :, None], two[:, None], one[:, None]))

    def _latent(self, batch: Batch, name: str) -> Tensor:
        """[n,Z], the same whenever asked by this name."""
        return latents.transform(batch.normal(name, cast(int, self.nets["generator"].z_size)), self.noise)

    def _augmented(self, x: Tensor, batch: Batch, name: str) -> Tensor:
        if self.controller:
            return ada.adaptive(x, batch.uniform(name, ada.DRAWS), self.controller.p)
        if self.augmentation != "none":  # draw nothing for nothing: this is asked three times an iteration
            x = diffaugment.augment(x, batch.uniform(name, diffaugment.DRAWS), self.augmentation)
        if more := self.levers["augmentation"]:
            x = ada.adaptive(x, batch.uniform(f"{name} more", ada.DRAWS), more)
        return x


def with_last_features(discriminator: nn.Module, say: Callable[[], T]) -> tuple[T, Tensor]:
    """What the discriminator is made to say, and what goes into its last layer meanwhile [N,F]."""
    found: list[Tensor] = []
    handle = cast(nn.Module, discriminator.last).register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
    try:
        said = say()
    finally:
        handle.remove()
    return said, found[0].flatten(1).float()
