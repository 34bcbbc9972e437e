"""Classification of pictures of which only some have a class: semi-supervised GANs, pseudo-labels, or labels alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.core import distributed
from limner.core.condition import UNLABELED
from limner.losses.semi_supervised import entropy, generated_loss, pseudo_label_loss, pull_away, real_loss
from limner.methods.memory import ClassMarginal
from limner.methods.phase import Batch, Clock, Method, Phase, Terms
from limner.networks import diffaugment, warp

LEAST_FREQUENCY = 1e-4  # of a predicted class, in the alignment
Z = 1.96  # quantile of the normal distribution, for intervals of 95 %


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
                              pseudo-labels on a strongly augmented view (FixMatch)            pseudo_labels
        generator             distance of the mean features of unlabeled and generated pictures (Salimans et al. 2016,
                              section 3.1), and the pull-away term on those features (Dai et al. 2017)

    The bad generator of Dai et al. also keeps to regions of low density by a density model that is trained beforehand
    (PixelCNN++); that term is left out here. Each kind of row is weighted so that its mean counts, whatever its
    share of the batch. The classifier's turn keeps the unlabeled rows' mean features for the generator's turn, which so uses those
    of before the step and saves a pass. The random numbers of views are the batch's, so results do not depend on ranks.

    Pseudo-labels confirm themselves: a class that is predicted too often is taught more often, until others are gone. Against
    that, predictions are weighted such that their running mean has the frequencies of the labeled rows (distribution alignment,
    Berthelot et al. 2020, "ReMixMatch", section 3.1), as far as these are known: few labels tell frequencies with a wide
    interval, and within it nothing is changed. Alignment to the middle of it would, over a long training, move pictures to other
    classes until a wrong frequency is met.

    counts: labeled pictures of each class, [K]; None aligns nothing. labeled_every: rows of a batch per labeled
    one. strength, elastic, stroke: of the warps of labeled rows and strong views (`networks.warp`); the weak view of unlabeled
    rows is only shifted and, where `flip`, mirrored.
    """

    def __init__(
        self,
        classifier: nn.Module,
        generator: nn.Module | None,
        *,
        labeled_every: int,
        counts: Tensor | None = None,
        adversarial: float = 1.0,
        pull_away: float = 0.0,
        entropy: float = 0.0,
        pseudo_labels: float = 0.0,
        threshold: float = 0.95,
        strength: float = 1.0,
        elastic: float = 0.0,
        stroke: float = 0.0,
        shift: bool = True,
        flip: bool = False,
        generator_every: int = 1,
        finalize: Callable[[nn.Module], None] | None = None,
    ) -> None:
        self.classifier: Any = classifier
        self.generator: Any = generator
        self.labeled_every = labeled_every
        self.adversarial, self.pull_away = adversarial, pull_away
        self.entropy, self.pseudo_labels, self.threshold = entropy, pseudo_labels, threshold
        self.strength, self.elastic, self.stroke, self.shift, self.flip = strength, elastic, stroke, shift, flip
        self.separate = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in classifier.modules())
        nets, players = {"classifier": classifier}, {"classifier": list(classifier.parameters())}
        phases = [Phase("classifier", self.classifier_turn)]
        if generator is not None:
            nets["generator"], players["generator"] = generator, list(generator.parameters())
            phases.append(Phase("generator", self.generator_turn, every=generator_every))
        self.bounds = frequency_bounds(counts) if counts is not None else None
        self.marginal = ClassMarginal(len(counts)) if pseudo_labels and counts is not None else None
        memory = {"marginal": self.marginal} if self.marginal else {}
        self.method = Method(
            nets=nets, players=players, phases=phases, averaged=("classifier",), memory=memory, finalize=finalize
        )

    def classifier_turn(self, batch: Batch, clock: Clock) -> tuple[Tensor, Terms]:
        labels = batch["label"]
        known = labels != UNLABELED
        free = ~known
        weak, strong = self._views(batch)
        trains_weak = self.generator is not None or self.entropy > 0  # else weak views need no gradient
        parts = [torch.where(known[:, None, None, None], strong, weak) if trains_weak else strong]
        if trains_weak and self.pseudo_labels and free.any():
            parts.append(strong[free])
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
        if self.pseudo_labels:
            with torch.no_grad():
                given = self._aligned(self.classifier(weak[free]), clock)
            taught = outputs[1] if trains_weak else own
            add("pseudo_loss", self.pseudo_labels, pseudo_label_loss(taught, given, self.threshold))
            terms["confident"] = (given.softmax(1).max(1).values >= self.threshold).float().mean()
        return loss, terms

    def _aligned(self, logits: Tensor, clock: Clock) -> Tensor:
        """Return the logits [n,K] of unlabeled rows, aligned to the frequencies of the classes; they enter the running mean."""
        if self.marginal is None:
            return logits
        assert self.bounds is not None
        self.marginal.begin(clock.seen)
        self.marginal.note(logits.softmax(1))
        if not self.marginal.mean.sum():
            return logits
        predicted = (self.marginal.mean / self.marginal.mean.sum()).clamp_min(LEAST_FREQUENCY)
        ratio = (predicted.clamp(*self.bounds) / predicted).log()
        return logits + ratio.to(logits)

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

    def _views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the pictures weakly augmented (flip, shift) and strongly (flip, stroke, warp)."""
        x = batch["image"]
        if self.flip:
            x = diffaugment.flip(x, batch.uniform("flip"))
        weak = diffaugment.translation(x, batch.uniform("shift", 2)) if self.shift else x
        strong = warp.stroke(x, batch.uniform("stroke", 1), self.stroke) if self.stroke else x
        strong = warp.warp(strong, batch.uniform("warp", warp.DRAWS), self.strength, self.elastic)
        return weak, strong


def frequency_bounds(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return the lower and upper limits of the 95 % intervals of the frequencies of classes with these counts, float64 [K] each.

    Normal approximation, by Agresti & Coull 1998, "Approximate is better than exact for interval estimation of binomial proportions".
    """
    n = counts.sum().double() + Z**2
    p = (counts.double() + Z**2 / 2) / n
    half = Z * (p * (1 - p) / n).sqrt()
    return (p - half).clamp_min(LEAST_FREQUENCY), p + half


def _mean(x: Tensor, mask: Tensor) -> Tensor:
    return (x * mask).sum() / mask.sum().clamp_min(1)
