"""Generative adversarial networks: a discriminator of real and generated pictures, and a generator trained against it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from limner.losses.adversarial import Objective
from limner.losses.penalties import DiscriminatorContext, requires_input_grad
from limner.losses.regularizers import GeneratorContext
from limner.methods.memory import History, RunningMeans
from limner.methods.phase import Batch, Clock, Method, Phase, Stateful, Terms
from limner.methods.terms import Augmentation, ClassifierTerm, LatentSource, PenaltyTerm, RegularizerTerm, TensorFn
from limner.networks.batch_stats import CrossSampleLayer
from limner.networks.contracts import ProgressiveNet, SelfSupervised, StyleBased

T = TypeVar("T")


@dataclass(frozen=True)
class Scores:
    """The outputs of a forward pass of the discriminator."""

    logits: Tensor  # [N]
    features: Tensor  # [N,F], the input of its last layer; F = 0 if no term uses it
    aux_loss: Tensor | None = None  # [N], of a self-supervised discriminator on real pictures


class GAN:
    """Goodfellow et al. 2014, algorithm 1, with any objective: the discriminator's turn, then the generator's.

    penalty, regularizer, classifier: terms of one player's loss or both (`methods.terms`). historical: weight of the
    distance of either player from the mean of its past weights (Salimans et al. 2016, section 3.3). discriminator_steps:
    turns of the discriminator per turn of the generator. weight_clip: the discriminator's weights stay within +- this
    (Arjovsky et al. 2017, algorithm 1).

    `method` is what the loop trains. Its levers: "penalty", a factor on the penalty's weight; "augmentation", the
    probability of ADA's transformations on top of a fixed policy.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        objective: Objective,
        *,
        penalty: PenaltyTerm | None = None,
        regularizer: RegularizerTerm | None = None,
        classifier: ClassifierTerm | None = None,
        historical: float = 0.0,
        augmentation: Augmentation | None = None,
        latent: LatentSource | None = None,
        discriminator_steps: int = 1,
        weight_clip: float = 0.0,
    ) -> None:
        if penalty and penalty.penalty.estimated and any(isinstance(m, nn.Dropout) and m.p > 0 for m in discriminator.modules()):
            raise ValueError(
                "A penalty by finite differences (-fast) compares two outputs of the discriminator, which dropout makes random: "
                "set the network's dropout to 0, or take the penalty without -fast."
            )
        self.generator, self.discriminator, self.objective = generator, discriminator, objective
        self.penalty, self.regularizer, self.classifier = penalty, regularizer, classifier
        self.augmentation = augmentation = augmentation or Augmentation()
        self.latent, self.historical, self.weight_clip = latent or LatentSource(), historical, weight_clip
        # One forward pass over both halves keeps the matrices large. Separate passes are needed by a discriminator with
        # layers across rows, which would learn which pictures share a batch (Radford et al. 2016 separate them too); by one
        # with an auxiliary task in the same pass; and by a penalty at one half, whose gradient must not depend on the other.
        crosses_rows = any(isinstance(m, nn.modules.batchnorm._BatchNorm | CrossSampleLayer) for m in discriminator.modules())
        self.separate = crosses_rows or isinstance(discriminator, SelfSupervised) or len(self._penalized_at) == 1
        self.needs_features = objective.features or classifier is not None
        self.running_mean = RunningMeans(
            [*(penalty.penalty.tracked if penalty else ()), *(regularizer.regularizer.tracked if regularizer else ())]
        )
        heads = {"classifier": classifier.head} if classifier else {}
        nets: dict[str, nn.Module] = {"generator": generator, "discriminator": discriminator, **heads}
        players = {
            "discriminator": [p for net in (discriminator, *heads.values()) for p in net.parameters()],
            "generator": list(generator.parameters()),
        }
        self.histories = {name: History(ps) for name, ps in players.items()} if historical else {}
        memory: dict[str, Stateful] = {f"{name} history": history for name, history in self.histories.items()}
        if self.running_mean.means:
            memory["running_mean"] = self.running_mean
        if augmentation.controller:
            memory["augmentation"] = augmentation.controller
        self.levers = {"penalty": 1.0} if penalty else {}
        if not augmentation.controller:  # the controller sets the probability itself
            self.levers["augmentation"] = 0.0
        phases = [Phase("discriminator", self.discriminator_turn)]
        if penalty and penalty.every > 1:
            phases.append(Phase("discriminator", self.penalty_turn, every=penalty.every))
        phases.append(Phase("generator", self.generator_turn, every=discriminator_steps))
        if regularizer and regularizer.every > 1:
            phases.append(Phase("generator", self.regularizer_turn, every=discriminator_steps * regularizer.every))
        self.method = Method(
            nets=nets, players=players, phases=phases, averaged=("generator",), memory=memory, levers=self.levers
        )

    @property
    def _penalized_at(self) -> tuple[str, ...]:
        """Pictures, "real" or "fake", at which the discriminator's main phase computes the gradient penalty."""
        return self.penalty.penalty.gradient_at if self.penalty and self.penalty.every == 1 else ()

    # ---- phases ------------------------------------------------------------------------------------------------------

    def discriminator_turn(self, batch: Batch, clock: Clock) -> tuple[Tensor, Terms]:
        self.begin(clock)
        y = batch.condition()
        real = requires_input_grad(self.real(batch), "real" in self._penalized_at)
        fake = requires_input_grad(self.fake(batch), "fake" in self._penalized_at)
        on_real, on_fake = self._score_both(real, fake, y, batch)
        loss = self.objective.discriminator(on_real.logits, on_fake.logits)
        terms = {
            "d_loss": loss.detach().mean(),
            "logit_gap": on_real.logits.detach().mean() - on_fake.logits.detach().mean(),
        }
        if self.classifier:
            class_loss = self.classifier.loss(on_real.features, y)
            loss, terms["class_loss_real"] = loss + self.classifier.weight * class_loss, class_loss.detach().mean()
        if on_real.aux_loss is not None:
            loss, terms["aux_loss"] = loss + on_real.aux_loss, on_real.aux_loss.detach().mean()
        if self.penalty and self.penalty.every == 1:
            more, parts = self._penalty_loss(
                self.penalty, batch, lambda: real, lambda: fake, lambda: on_real.logits, lambda: on_fake.logits
            )
            loss, terms = loss + more, {**terms, **parts}
        if controller := self.augmentation.controller:
            middle = self.objective.middle
            controller.note((on_real.logits - (on_fake.logits if middle is None else middle)).detach())
            terms["augmentation"] = loss.new_tensor(controller.p)
        return self._with_history(loss, "discriminator", clock), terms

    def penalty_turn(self, batch: Batch, clock: Clock) -> tuple[Tensor, Terms]:
        """Return the penalty alone, for its own phase."""
        assert self.penalty is not None
        self.begin(clock)
        discriminator, y, at = self.discriminator, batch.condition(), self.penalty.penalty.gradient_at
        real = cache(lambda: requires_input_grad(self.real(batch), "real" in at))
        fake = cache(lambda: requires_input_grad(self.fake(batch), "fake" in at))
        return self._penalty_loss(
            self.penalty, batch, real, fake, lambda: discriminator(real(), y), lambda: discriminator(fake(), y)
        )

    def generator_turn(self, batch: Batch, clock: Clock) -> tuple[Tensor, Terms]:
        self.begin(clock)
        made = self.latent.generate(self.generator, batch, batch.condition())
        loss, terms = self.generator_loss(made, batch)
        if self.regularizer and self.regularizer.every == 1:
            more, parts = self._regularizer_loss(self.regularizer, batch, lambda: made)
            loss, terms = loss + more, {**terms, **parts}
        return self._with_history(loss, "generator", clock), terms

    def generator_loss(self, made: Tensor, batch: Batch) -> tuple[Tensor, Terms]:
        """Return the generator's adversarial and class losses [N] for its pictures `made` [N,C,H,W], not yet augmented."""
        objective, y = self.objective, batch.condition()
        on_fake = self._score(self._augmented(made, batch), y)
        on_real = Scores(on_fake.logits.detach(), on_fake.features.detach())
        if objective.sees_real:
            with torch.no_grad():
                on_real = self._score(self.real(batch), y)
        if objective.features:
            loss = objective.generator(on_real.features, on_fake.features)
        else:
            loss = objective.generator(on_real.logits, on_fake.logits)
        terms = {"g_loss": loss.detach().mean()}
        if self.classifier:
            class_loss = self.classifier.loss(on_fake.features, y)
            loss, terms["class_loss_fake"] = loss + self.classifier.weight * class_loss, class_loss.detach().mean()
        return loss, terms

    def regularizer_turn(self, batch: Batch, clock: Clock) -> tuple[Tensor, Terms]:
        """Return the regularizer alone, for its own phase."""
        assert self.regularizer is not None
        self.begin(clock)
        made = cache(lambda: self.latent.generate(self.generator, batch, batch.condition()))
        return self._regularizer_loss(self.regularizer, batch, made)

    # ---- what phases share -------------------------------------------------------------------------------------------

    def begin(self, clock: Clock) -> None:
        """Set networks and running statistics to this iteration; repeated calls in an iteration change nothing."""
        for net in self.method.nets.values():
            if isinstance(net, ProgressiveNet):
                net.at(clock.fraction)
        self.running_mean.begin(clock.seen)
        if self.augmentation.controller:
            self.augmentation.controller.begin(clock.seen)
        if self.weight_clip:
            with torch.no_grad():
                for p in self.method.players["discriminator"]:
                    p.clamp_(-self.weight_clip, self.weight_clip)

    def real(self, batch: Batch) -> Tensor:
        return self.augmentation.real(batch, self.generator, self.levers.get("augmentation", 0.0))

    def fake(self, batch: Batch) -> Tensor:
        """Return generated, augmented pictures, detached, for the labels of the batch: their classes are as frequent as in the
        data, and relativistic pairs have equal classes."""
        with torch.no_grad():
            return self._augmented(self.latent.generate(self.generator, batch, batch.condition()), batch)

    def _augmented(self, fake: Tensor, batch: Batch) -> Tensor:
        return self.augmentation.apply(fake, batch, "augment fake", self.levers.get("augmentation", 0.0))

    def _score_both(self, real: Tensor, fake: Tensor, y: Tensor | None, batch: Batch) -> tuple[Scores, Scores]:
        """Return the scores of real and generated pictures [N,C,H,W] of the labels y [N]."""
        if self.separate:
            draws = batch.uniform("aux_loss") if isinstance(self.discriminator, SelfSupervised) else None
            return self._score(real, y, draws), self._score(fake, y)
        both = self._score(torch.cat([real, fake]), None if y is None else torch.cat([y, y]))
        (real_logits, fake_logits), (real_features, fake_features) = both.logits.chunk(2), both.features.chunk(2)
        return Scores(real_logits, real_features), Scores(fake_logits, fake_features)

    def _score(self, x: Tensor, y: Tensor | None, draws: Tensor | None = None) -> Scores:
        """Return the scores of one forward pass. draws: uniform numbers [N] for the auxiliary task of a self-supervised
        discriminator."""
        discriminator = self.discriminator

        def forward() -> tuple[Tensor, Tensor | None]:
            if draws is None:
                return discriminator(x, y), None
            return cast(SelfSupervised, discriminator).forward_with_aux(x, y, draws)

        if self.needs_features:
            (logits, aux_loss), features = with_last_features(discriminator, forward)
        else:
            (logits, aux_loss), features = forward(), x.new_empty(len(x), 0)
        return Scores(logits, features, aux_loss)

    def _penalty_loss(
        self, term: PenaltyTerm, batch: Batch, real: TensorFn, fake: TensorFn, real_logits: TensorFn, fake_logits: TensorFn
    ) -> tuple[Tensor, Terms]:
        """Return the weighted penalty on the discriminator, at pictures and logits that a phase may have computed already."""
        discriminator, y = self.discriminator, batch.condition()
        context = DiscriminatorContext(
            discriminator=lambda x: discriminator(x, y if y is None or len(x) == len(y) else y.repeat(len(x) // len(y), *[1] * (y.ndim - 1))),
            real=real,
            fake=fake,
            real_logits=real_logits,
            fake_logits=fake_logits,
            normal=batch.normal,
            uniform=batch.uniform,
            running_mean=self.running_mean,
        )
        parts = term.penalty.terms(context)
        loss = torch.stack(list(parts.values())).sum(0) if len(parts) > 1 else next(iter(parts.values()))
        weight = term.penalty.scale * term.weight * term.every * self.levers["penalty"]
        return loss * weight, {name: part.detach().mean() for name, part in parts.items()}

    def _regularizer_loss(self, term: RegularizerTerm, batch: Batch, made: TensorFn) -> tuple[Tensor, Terms]:
        """Return the weighted regularizer of the generator."""
        generator, y = self.generator, batch.condition()
        styled = generator if isinstance(generator, StyleBased) else None
        context = GeneratorContext(
            latent=lambda name: self.latent.draw(batch, name, cast(int, generator.z_size)),
            fake=made,
            generate=lambda z: generator(z, y),
            mapping=lambda z: styled.mapping(z, y)[:, None].repeat(1, styled.layers, 1) if styled else z[:, None],
            synthesis=styled.synthesis if styled else lambda styles: generator(styles.squeeze(1), y),
            weights=[p for m in generator.modules() if not isinstance(m, nn.Embedding) for p in m.parameters(recurse=False)],
            normal=batch.normal,
            running_mean=self.running_mean,
        )
        loss = term.regularizer.loss(context)
        return loss * (term.weight * term.every), {"regularizer": loss.detach().mean()}

    def _with_history(self, loss: Tensor, player: str, clock: Clock) -> Tensor:
        if not self.histories:
            return loss
        return loss + self.historical * self.histories[player].distance(clock.seen)


def with_last_features(discriminator: nn.Module, forward: Callable[[], T]) -> tuple[T, Tensor]:
    """Return the result of a forward pass of the discriminator, and the input of its last layer in that pass [N,F]."""
    found: list[Tensor] = []
    handle = cast(nn.Module, discriminator.last).register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
    try:
        result = forward()
    finally:
        handle.remove()
    return result, found[0].flatten(1).float()
