"""Classification of pictures of which only some have a class: propagated labels, semi-supervised GANs, or labels alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.core import distributed
from limner.core.condition import UNLABELED
from limner.losses.semi_supervised import entropy, generated_loss, pull_away, real_loss
from limner.methods.phase import Batch, Clock, Method, Phase, Terms
from limner.methods.propagation import PropagatedLabels
from limner.networks import diffaugment, warp


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of the rows of x where mask is true, over the micro-batch of all ranks. [N,F], [N] -> [F]

    It is differentiable on every rank.
    """
    total = distributed.all_reduce_sum((x * mask[:, None]).sum(0))
    return total / distributed.all_reduce_sum(mask.sum().to(x.dtype)).clamp_min(1)


class SemiSupervised:
    """Salimans et al. 2016, section 5, and its extensions; every term has a weight, and 0 leaves it out.

        rows with a label     cross-entropy                                                    weight 1
        rows without one      "real" in a (K+1)-class discriminator, generated pictures "not"  adversarial
                              entropy of the predicted class (Dai et al. 2017)                entropy
                              cross-entropy to a propagated label, on a warped view           propagate
        generator             distance of the mean features of unlabeled and generated pictures (Salimans et al. 2016,
                              section 3.1), and the pull-away term on those features (Dai et al. 2017)

    The bad generator of Dai et al. also keeps to regions of low density by a density model that is trained beforehand
    (PixelCNN++); that term is left out here. Each kind of row is weighted so that its mean counts, whatever its
    share of the batch. The classifier's turn keeps the unlabeled rows' mean features for the generator's turn, which so uses those
    of before the step and saves a pass. The random numbers of views are the batch's, so results do not depend on ranks.

    propagated: labels of the unlabeled rows. labeled_every: rows of a batch per labeled one. strength, elastic, stroke: of the warps
    of rows with a label, given or propagated (`networks.warp`); for the other terms, unlabeled rows are only shifted and, where `flip`,
    mirrored.
    """

    def __init__(
        self,
        classifier: nn.Module,
        generator: nn.Module | None,
        *,
        labeled_every: int,
        adversarial: float = 1.0,
        pull_away: float = 0.0,
        entropy: float = 0.0,
        strength: float = 1.0,
        elastic: float = 0.0,
        stroke: float = 0.0,
        shift: bool = True,
        flip: bool = False,
        propagated: PropagatedLabels | None = None,
        propagate: float = 1.0,
        generator_every: int = 1,
        finalize: Callable[[nn.Module], None] | None = None,
    ) -> None:
        self.classifier: Any = classifier
        self.generator: Any = generator
        self.labeled_every = labeled_every
        self.adversarial, self.pull_away = adversarial, pull_away
        self.entropy = entropy
        self.strength, self.elastic, self.stroke, self.shift, self.flip = strength, elastic, stroke, shift, flip
        self.propagated, self.propagate = propagated, propagate
        self.separate = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in classifier.modules())
        nets, players = {"classifier": classifier}, {"classifier": list(classifier.parameters())}
        phases = [Phase("classifier", self.classifier_turn)]
        if generator is not None:
            nets["generator"], players["generator"] = generator, list(generator.parameters())
            phases.append(Phase("generator", self.generator_turn, every=generator_every))
        self.method = Method(
            nets=nets,
            players=players,
            phases=phases,
            averaged=("classifier",),
            memory={"propagated": propagated} if propagated else {},
            periodic=propagated,
            finalize=finalize,
        )

    def classifier_turn(self, batch: Batch, clock: Clock) -> tuple[Tensor, Terms]:
        labels = batch["label"]
        known = labels != UNLABELED
        free = ~known
        warped = self._warped(batch)
        shifts = self.generator is not None or self.entropy > 0  # else all rows are learned warped
        parts = [torch.where(known[:, None, None, None], warped, self._shifted(batch)) if shifts else warped]
        if shifts and self.propagated and free.any():
            parts.append(warped[free])
        fakes = self._generated(batch, free) if self.generator is not None and free.any() else None
        if fakes is not None and not self.separate:
            parts.append(fakes)
        features = self.classifier.features(torch.cat(parts))
        outputs = self.classifier.classify(features).split([len(part) for part in parts])
        logits = outputs[0]
        loss = self.labeled_every * known * F.cross_entropy(logits, labels.clamp_min(0), reduction="none")
        right = (logits.detach().argmax(1) == labels).float()
        class_loss = _mean(loss.detach() / self.labeled_every, known)
        terms = {"class_loss": class_loss, "accuracy_labeled": _mean(right, known)}
        if not free.any():
            return loss, terms
        per_row = self.labeled_every / (self.labeled_every - 1)

        def add(name: str, weight: float, values: Tensor) -> None:
            """Add a term of the unlabeled rows, [number of them]."""
            nonlocal loss
            terms[name] = values.detach().mean()
            loss = loss.index_add(0, free.nonzero()[:, 0], weight * per_row * values)

        own = logits[free]
        if fakes is not None:
            fake_logits = self.classifier(fakes) if self.separate else outputs[-1]
            add("d_loss", self.adversarial, real_loss(own) + generated_loss(fake_logits))
            batch.keep("features", masked_mean(features[: len(labels)].detach(), free), free)
        if self.entropy:
            add("entropy", self.entropy, entropy(own))
        if self.propagated:
            spread = self.propagated.labels.to(labels.device)[batch["row"][free]]
            taught = outputs[1] if shifts else own
            add("propagated_loss", self.propagate, F.cross_entropy(taught, spread, ignore_index=UNLABELED, reduction="none"))
            terms["propagated"] = loss.new_tensor(self.propagated.taught)
            if self.propagated.tested:
                terms["propagation_accuracy"] = loss.new_tensor(self.propagated.accuracy)
        return loss, terms

    def generator_turn(self, batch: Batch, clock: Clock) -> tuple[Tensor, Terms]:
        free = batch["label"] == UNLABELED
        if not free.any():  # a slice of labeled rows alone
            return sum(p.sum() for p in self.generator.parameters()) * batch["image"].new_zeros(len(free)), {}
        real, _ = batch.kept("features")
        features = self.classifier.features(self.generator(self._latents(batch)[free]))
        ones = torch.ones(len(features), dtype=torch.bool, device=features.device)
        gap = (masked_mean(features, ones) - real).square().sum()
        loss, terms = gap, {"g_loss": gap.detach()}
        if self.pull_away:
            alike = pull_away(features)
            loss, terms["pull_away"] = loss + self.pull_away * alike, alike.detach()
        return loss, terms

    def _generated(self, batch: Batch, free: Tensor) -> Tensor:
        with torch.no_grad():
            return self.generator(self._latents(batch)[free])

    def _latents(self, batch: Batch) -> Tensor:
        return batch.normal("z", self.generator.z_size)

    def _shifted(self, batch: Batch) -> Tensor:
        """Return the pictures flipped and shifted."""
        x = self._flipped(batch)
        return diffaugment.translation(x, batch.uniform("shift", 2)) if self.shift else x

    def _warped(self, batch: Batch) -> Tensor:
        """Return the pictures flipped, with other strokes, and warped."""
        x = self._flipped(batch)
        x = warp.stroke(x, batch.uniform("stroke", 1), self.stroke) if self.stroke else x
        return warp.warp(x, batch.uniform("warp", warp.DRAWS), self.strength, self.elastic)

    def _flipped(self, batch: Batch) -> Tensor:
        return diffaugment.flip(batch["image"], batch.uniform("flip")) if self.flip else batch["image"]


def _mean(x: Tensor, mask: Tensor) -> Tensor:
    return (x * mask).sum() / mask.sum().clamp_min(1)
