"""The doctor's probes of autoencoders and translators: signals from outputs for a few fixed training pictures.

A probe changes nothing in the run, draws no random numbers and has no state: its signals are a function of the networks
and the data.
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
from limner.data.batches import Batches
from limner.data.dataset import Subset
from limner.data.pairs import Pairs
from limner.monitor.doctor import MIN_VARIETY, Rule
from limner.networks.restoration import bicubic, network_input
from limner.networks.vae import ACTIVE

AUTOENCODED = 64  # pictures that an autoencoder is probed with
TRANSLATED = 16  # pictures of each set that a translator is probed with
RESTORED = 16  # crops that a restorer is probed with


@contextmanager
def evaluating(nets: Iterable[nn.Module], machine: Machine) -> Iterator[None]:
    """Context: networks in eval mode, autocast to the run's precision, no gradients; restores training mode at the end."""
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
    """Return the mean distance between two rows, of the same class where there are labels. [N,F] -> []

    If no two rows share a class, of any two rows; zero for a single row.
    """
    pairs = torch.ones(len(x), len(x), dtype=torch.bool, device=x.device).triu(1)
    if labels is not None:
        same_class = pairs & (labels[:, None] == labels)
        pairs = same_class if same_class.any() else pairs
    return torch.cdist(x, x)[pairs].mean() if pairs.any() else x.new_zeros(())


def coarse(x: Tensor) -> Tensor:
    """Downsample [N,C,H,W] to at most 16x16 and flatten to [N,F], so that pixel noise does not count as variety."""
    return F.adaptive_avg_pool2d(x.float(), (min(16, x.shape[2]), min(16, x.shape[3]))).flatten(1)


def variety(x: Tensor) -> float:
    """Return the typical distance between pictures [N,C,H,W], relative to their mean norm."""
    rows = coarse(x)
    return typical_distance(rows).item() / max(rows.norm(dim=1).mean().item(), 1e-6)


def spaced(dataset: Dataset | Subset, count: int) -> Tensor:
    """Return evenly spaced pictures of the data set, which is sorted by class: uint8 [at most count,C,H,W]."""
    return dataset.rows(torch.linspace(0, len(dataset) - 1, min(count, len(dataset))).long().numpy())["image"]


def in_chunks(function: Callable[[Tensor], Tensor], x: Tensor, size: int) -> Tensor:
    """Return `function(x)`, evaluated on chunks of at most `size` rows."""
    return torch.cat([function(chunk) for chunk in x.split(size)])


def _rms(x: Tensor) -> float:
    return x.float().square().mean().sqrt().item()


class AutoencoderProbe:
    """Computes the signals of an autoencoder.

    variety: typical distance between pictures, relative to their norm; the only signal if pictures are nearly identical.
    explained: 1 - MSE(reconstruction) / MSE(mean picture): 1 is perfect, 0 no better than the mean picture.
    diversity: typical distance between reconstructions, relative to that between pictures.
    active_latents (VAE): latents whose posterior mean varies over pictures (Burda et al. 2016, section 5.2).
    codes_in_use (VQ-VAE): fraction of the codebook that is used at least once. Not the perplexity, which is low where
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
        if signals["variety"] <= MIN_VARIETY:
            return signals
        with evaluating([self.net], self.machine):
            latents = in_chunks(self.net.encode, x, self.chunk)
            outputs = in_chunks(self.net.decode, latents, self.chunk).float()
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
    """Computes the signals of a translator; those of the second direction end in _b2a.

    variety: typical distance between pictures, relative to their norm, in the less varied set; the only signal if pictures
    are nearly identical.
    output_change: RMS of output - input, relative to the RMS of target - input; without pairs, of all pictures of the
    target set - input. 0 is a copy.
    diversity: typical distance between outputs, relative to that between pictures of the target set.
    explained (pairs only): 1 - L1(output, target) / L1(median target, target); the median target is the best constant.
    d_accuracy (directions with a discriminator of outputs alone): fraction of (target, output) pairs in which the mean of
    its patches' logits is higher for the target.
    """

    def __init__(
        self, nets: nn.Module, pairs: Pairs, rules: Sequence[Rule], chunk: int, machine: Machine,
        discriminators: Mapping[str, nn.Module] | None = None,
    ) -> None:  # fmt: skip
        self.nets: Any = nets
        self.discriminators: Mapping[str, nn.Module] = discriminators or {}  # direction -> discriminator of its outputs
        self.pairs, self.rules, self.chunk, self.machine = pairs, rules, chunk, machine

    @cached_property
    def _sets(self) -> tuple[Tensor, Tensor]:
        a, b = (to_float(spaced(side, TRANSLATED).to(self.machine.device)) for side in (self.pairs.a, self.pairs.b))
        return a, b

    def __call__(self, seen: int) -> dict[str, float]:
        a, b = self._sets
        signals = {"variety": min(variety(a), variety(b))}
        if signals["variety"] <= MIN_VARIETY:
            return signals
        signals |= self._direction("a2b", a, b)
        if "b2a" in self.nets:
            signals |= {f"{name}_b2a": value for name, value in self._direction("b2a", b, a).items()}
        return signals

    def _direction(self, name: str, x: Tensor, target: Tensor) -> dict[str, float]:
        with evaluating([self.nets], self.machine):
            outputs = in_chunks(self.nets[name], x, self.chunk).float()
        signals = {"diversity": (typical_distance(coarse(outputs)) / typical_distance(coarse(target))).item()}
        if self.pairs.paired:
            expected = _rms(target - x)
            constant = (target - target.median(0).values).abs().mean()
            if constant > 0:
                signals["explained"] = 1 - ((outputs - target).abs().mean() / constant).item()
        else:
            squares = torch.cdist(x.flatten(1), target.flatten(1)).square() / x[0].numel()
            expected = squares.mean().sqrt().item()
        if expected > 0:
            signals["output_change"] = _rms(outputs - x) / expected
        if discriminator := self.discriminators.get(name):
            with evaluating([discriminator], self.machine):
                real, fake = (in_chunks(discriminator, y, self.chunk).flatten(1).mean(1) for y in (target, outputs))
            signals["d_accuracy"] = (real[:, None] > fake).float().mean().item()
        return signals

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


class RestorerProbe:
    """Computes the signals of a restorer.

    explained: 1 - MSE(restored) / MSE(degraded, enlarged if need be): 1 is perfect, 0 no better than the degraded picture. There
    are no signals where degraded pictures equal clean ones.
    """

    def __init__(self, net: nn.Module, pairs: Batches, rules: Sequence[Rule], chunk: int, scale: int, machine: Machine) -> None:
        self.net: Any = net
        self.pairs, self.rules, self.chunk, self.scale, self.machine = pairs, rules, chunk, scale, machine

    @cached_property
    def _rows(self) -> tuple[Tensor, Tensor, float]:
        """(inputs of the network, clean crops, mean squared error of the degraded ones)."""
        batch = {name: tensor.to(self.machine.device) for name, tensor in self.pairs.batch(0, RESTORED, 0).items()}
        image, target = to_float(batch["image"]), to_float(batch["target"])
        enlarged = bicubic(image, self.scale) if self.scale > 1 else image
        return network_input(self.net, image, batch.get("mask")), target, (enlarged - target).square().mean().item()

    def __call__(self, seen: int) -> dict[str, float]:
        x, target, unrestored = self._rows
        if unrestored == 0:
            return {}
        with evaluating([self.net], self.machine):
            error = (in_chunks(self.net, x, self.chunk).float() - target).square().mean().item()
        return {"explained": 1 - error / unrestored}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass
