"""What the doctor measures on autoencoders and translators: outputs for a few fixed pictures of the training set.

A probe changes nothing of the run and draws no random numbers; everything it returns is a function of the networks and
the data, so that it keeps no state of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.core.device import autocast
from limner.core.images import to_float
from limner.core.machine import Machine
from limner.data import Dataset
from limner.data.dataset import Subset
from limner.data.pairs import Pairs
from limner.monitor.doctor import ALIKE, Rule
from limner.networks.vae import ACTIVE

AUTOENCODED = 64  # pictures that an autoencoder is probed with
TRANSLATED = 16  # pictures of each set that a translator is probed with


@contextmanager
def evaluating(nets: Iterable[nn.Module], machine: Machine) -> Iterator[None]:
    """The networks in evaluation mode, in the run's precision and without gradients; back in training mode afterwards."""
    nets = list(nets)
    for net in nets:
        net.eval()
    try:
        with torch.no_grad(), autocast(machine.device, machine.precision):
            yield
    finally:
        for net in nets:
            net.train()


def typical_distance(x: Tensor, labels: Tensor | None = None) -> Tensor:
    """The mean distance between two rows, of one class where there are labels. [N,F] -> []

    Of any two rows when no two are of one class; zero when there is but one row.
    """
    apart = torch.ones(len(x), len(x), dtype=torch.bool, device=x.device).triu(1)
    if labels is not None:
        alike = apart & (labels[:, None] == labels)
        apart = alike if alike.any() else apart
    return torch.cdist(x, x)[apart].mean() if apart.any() else x.new_zeros(())


def coarse(x: Tensor) -> Tensor:
    """[N,C,H,W] -> [N,F]: at most 16 pixels a side, so that noise does not pass for variety."""
    return F.adaptive_avg_pool2d(x.float(), (min(16, x.shape[2]), min(16, x.shape[3]))).flatten(1)


def variety(x: Tensor) -> float:
    """How much pictures [N,C,H,W] differ from each other, as a share of their own size."""
    rows = coarse(x)
    return typical_distance(rows).item() / max(rows.norm(dim=1).mean().item(), 1e-6)


def spaced(dataset: Dataset | Subset, count: int) -> Tensor:
    """Pictures at even distances in the data set, which is sorted by class. -> uint8 [at most count,C,H,W]"""
    return dataset.rows(torch.linspace(0, len(dataset) - 1, min(count, len(dataset))).long().numpy())["image"]


def in_parts(function: Callable[[Tensor], Tensor], x: Tensor, size: int) -> Tensor:
    """`function` of x, at most `size` rows at once."""
    return torch.cat([function(part) for part in x.split(size)])


def _root_mean_square(x: Tensor) -> float:
    return x.float().square().mean().sqrt().item()


class AutoencoderProbe:
    """The signals of an autoencoder.

    variety: how much the pictures differ, as a share of their own size; the only signal of pictures that are all alike.
    explained: 1 - MSE(reconstruction) / MSE(mean picture): 1 is perfect, 0 no better than the mean picture.
    diversity: how much reconstructions differ from each other, as a share of what the pictures do.
    active_latents: latents whose posterior mean varies over pictures (Burda et al. 2016, section 5.2), of a VAE.
    codes_in_use: codes chosen at least once, as a share of the codebook, of a VQ-VAE. Not the perplexity, which is low where
    most of a picture is background.
    """

    def __init__(self, net: nn.Module, dataset: Dataset | Subset, rules: Sequence[Rule], chunk: int, machine: Machine) -> None:
        self.net: Any = net
        self.dataset, self.rules, self.chunk, self.machine = dataset, rules, chunk, machine

    @cached_property
    def _pictures(self) -> Tensor:
        return to_float(spaced(self.dataset, AUTOENCODED).to(self.machine.device))

    def __call__(self, seen: int) -> dict[str, float]:
        x = self._pictures
        signals = {"variety": variety(x)}
        if signals["variety"] <= ALIKE:
            return signals
        with evaluating([self.net], self.machine):
            latents = in_parts(self.net.encode, x, self.chunk)
            outputs = in_parts(self.net.decode, latents, self.chunk).float()
        error, constant = (outputs - x).square().mean(), (x - x.mean(0)).square().mean()
        signals["explained"] = 1 - (error / constant).item()
        signals["diversity"] = (typical_distance(coarse(outputs)) / typical_distance(coarse(x))).item()
        if latents.is_floating_point():
            signals["active_latents"] = (latents.float().var(0, correction=0) > ACTIVE).sum().item()
        else:
            signals["codes_in_use"] = len(latents.unique()) / min(len(self.net.codebook.vectors), latents.numel())
        return signals

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


class TranslatorProbe:
    """The signals of a translator; a second direction's end in _b2a.

    variety: how much pictures of the set that differs less do, as a share of their own size; the only signal of pictures
    that are all alike.
    output_change: root mean square of output - input, as a share of that of target - input; without pairs, of any picture
    of the target set - input. 0 is a copy.
    diversity: how much outputs differ from each other, as a share of what pictures of the target set do.
    explained, of pairs only: 1 - L1(output, target) / L1(median picture of the targets, target), the best constant.
    right, where a direction has a discriminator: share of pairs of a target and an output that it orders rightly, by the
    mean of its patches' logits.
    """

    def __init__(
        self, nets: nn.Module, pairs: Pairs, rules: Sequence[Rule], chunk: int, machine: Machine,
        discriminators: Mapping[str, nn.Module] | None = None,
    ) -> None:  # fmt: skip
        self.nets: Any = nets
        self.discriminators: Mapping[str, nn.Module] = discriminators or {}  # direction -> what judges its outputs
        self.pairs, self.rules, self.chunk, self.machine = pairs, rules, chunk, machine

    @cached_property
    def _sets(self) -> tuple[Tensor, Tensor]:
        a, b = (to_float(spaced(side, TRANSLATED).to(self.machine.device)) for side in (self.pairs.a, self.pairs.b))
        return a, b

    def __call__(self, seen: int) -> dict[str, float]:
        a, b = self._sets
        signals = {"variety": min(variety(a), variety(b))}
        if signals["variety"] <= ALIKE:
            return signals
        signals |= self._direction("a2b", a, b)
        if "b2a" in self.nets:
            signals |= {f"{name}_b2a": value for name, value in self._direction("b2a", b, a).items()}
        return signals

    def _direction(self, name: str, x: Tensor, target: Tensor) -> dict[str, float]:
        with evaluating([self.nets], self.machine):
            outputs = in_parts(self.nets[name], x, self.chunk).float()
        signals = {"diversity": (typical_distance(coarse(outputs)) / typical_distance(coarse(target))).item()}
        if self.pairs.paired:
            due = _root_mean_square(target - x)
            constant = (target - target.median(0).values).abs().mean()
            if constant > 0:
                signals["explained"] = 1 - ((outputs - target).abs().mean() / constant).item()
        else:
            squares = torch.cdist(x.flatten(1), target.flatten(1)).square() / x[0].numel()
            due = squares.mean().sqrt().item()
        if due > 0:
            signals["output_change"] = _root_mean_square(outputs - x) / due
        if discriminator := self.discriminators.get(name):
            with evaluating([discriminator], self.machine):
                real, fake = (in_parts(discriminator, y, self.chunk).flatten(1).mean(1) for y in (target, outputs))
            signals["right"] = (real[:, None] > fake).float().mean().item()
        return signals

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass
