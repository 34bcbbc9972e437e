"""Validators: metrics of a run during training, on held-out pictures if there are some."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from limner.core.images import to_float
from limner.core.machine import Machine
from limner.evaluation import FrechetProbe, ImageSet
from limner.evaluation.image_quality import psnr, ssim
from limner.losses.structural import WINDOW
from limner.networks.padding import pad_to
from limner.runs.experiment import Validator
from limner.sampling.generate import BATCH, transform
from limner.sampling.restore import Pairs, restored, simplest

AUTO, NONE = "auto", "none"
FEATURES = ("convolutions", "pixels", "lowpass", "efficientnet", "own")  # of Fréchet distances
FIDELITY = ("psnr", "ssim")  # of pairs
RESTORATION = ("psnr_gain", *FIDELITY)  # of degraded pictures
CODING = ("rd_loss",)  # of codecs
CLASSES = ("accuracy", "nll")  # of classifiers
METRICS = (AUTO, *FEATURES, *RESTORATION, *CODING, *CLASSES, NONE)
SAMPLES, REFERENCE = 500, 5_000  # pictures that a Fréchet distance compares
MIN_PICTURES = 50  # of a set; a distance between smaller sets is meaningless
PAIRS = 64  # maximum number of pairs for PSNR and SSIM
MAX_PSNR = 100.0  # dB, of identical pictures
LEAST_ERROR = 255**2 / 10 ** (MAX_PSNR / 10)  # the squared error at that PSNR

Sample = Callable[[nn.Module, int], Tensor]  # (network, n) -> uint8 [n,C,H,W]
Reconstruct = Callable[[nn.Module, Tensor], Tensor]  # (network, [N,C,H,W] in [-1,1]) -> the same shape


def choose_metric(metric: str, known: Sequence[str], kind: str) -> str | None:
    """Return the validation metric of a run of this kind; None for no validation.

    `auto` is the first of the `known` ones. Raises ValueError for one that does not apply to the kind.
    """
    if metric in (AUTO, NONE):
        return known[0] if metric == AUTO and known else None
    if metric not in known:
        raise ValueError(f"--metric {metric} does not measure a {kind}: choose {', '.join([AUTO, *known, NONE])}.")
    return metric


def frechet(
    sample: Sample, reference: ImageSet, features: str, suffix: str = "", samples: int = SAMPLES
) -> Validator | None:
    """Return a validator of the Fréchet distance of samples to at most 5,000 reference pictures; None if either are too few.

    It is for the curve of one run and the choice of its best state, not for the comparison of models: few samples bias it.
    """
    if min(len(reference), samples) < MIN_PICTURES:
        return None

    @cache
    def probe() -> FrechetProbe:
        return FrechetProbe(reference.some(REFERENCE), features=features, cache=features == "own")

    name = f"fd_{features}{suffix}"

    def measure(network: nn.Module) -> Mapping[str, float]:
        (value,) = probe()(sample(network, samples)).values()
        return {name: float(f"{value:.5g}")}

    def cost(network: nn.Module) -> float:
        start = time.monotonic()
        few = sample(network, BATCH)
        drawing = (time.monotonic() - start) * samples / BATCH
        compare = probe()
        start = time.monotonic()
        compare(few.repeat(-(-samples // len(few)), 1, 1, 1)[:samples])
        return drawing + time.monotonic() - start

    return Validator(
        columns=(name,), title=f"Fréchet distance ({features}) of {samples} samples", better="lower", measure=measure, cost=cost
    )


def timed(measure: Callable[[nn.Module], Mapping[str, float]]) -> Callable[[nn.Module], float]:
    """Return the cost of a validator: a function (network) -> seconds of one measurement, made to find out."""

    def cost(network: nn.Module) -> float:
        start = time.monotonic()
        measure(network)
        return time.monotonic() - start

    return cost


def fidelity(
    reconstruct: Reconstruct, inputs: Tensor, targets: Tensor, metric: str, title: str, machine: Machine
) -> Validator:
    """Return a validator of the mean PSNR and SSIM of outputs and targets; `metric` decides which state is the best.

    inputs, targets: uint8 [N,C,H,W], pairs by row. SSIM is left out for pictures smaller than its window.
    """
    with_ssim = min(targets.shape[-2:]) >= WINDOW
    if metric == "ssim" and not with_ssim:
        raise ValueError(f"--metric ssim needs pictures of at least {WINDOW} pixels a side: choose psnr.")

    def measure(network: nn.Module) -> Mapping[str, float]:
        outputs = transform(lambda x: reconstruct(network, x), inputs, machine)
        figures = {"psnr": psnr(outputs, targets).clamp(max=MAX_PSNR).mean().item()}
        if with_ssim:
            figures["ssim"] = ssim(outputs, targets).mean().item()
        return {name: float(f"{value:.5g}") for name, value in figures.items()}

    columns = (metric, *(name for name in FIDELITY if name != metric and (name == "psnr" or with_ssim)))
    name = {"psnr": "PSNR in dB", "ssim": "SSIM"}[metric]
    return Validator(columns=columns, title=f"{name} of {len(inputs):,} {title}", better="higher", measure=measure, cost=timed(measure))


def restoration(pairs: Pairs, scale: int, metric: str, title: str, machine: Machine) -> Validator:
    """Return a validator of the mean PSNR and SSIM of restored pictures, and of the gain in PSNR over bicubic enlargement, smooth
    filling of holes or doing nothing; `metric` decides which state is the best.

    The gain is that of the squared error of all pictures together: the mean of single gains would be decided by pictures that are
    hardly degraded, whose PSNR has no bound. pairs: degraded pictures and targets by row, always the same. SSIM is left out for
    pictures smaller than its window.
    """
    targets = pairs["target"]
    with_ssim = min(targets.shape[-2:]) >= WINDOW
    if metric == "ssim" and not with_ssim:
        raise ValueError(f"--metric ssim needs pictures of at least {WINDOW} pixels a side: choose psnr.")
    before = _squared_error(simplest(pairs, scale), targets)

    def measure(network: nn.Module) -> Mapping[str, float]:
        outputs = restored(network, pairs, machine)
        after = _squared_error(outputs, targets)
        gain = 10 * math.log10(max(before, LEAST_ERROR) / max(after, LEAST_ERROR))
        figures = {"psnr_gain": gain, "psnr": psnr(outputs, targets).clamp(max=MAX_PSNR).mean().item()}
        if with_ssim:
            figures["ssim"] = ssim(outputs, targets).mean().item()
        return {name: float(f"{value:.5g}") for name, value in figures.items()}

    columns = (metric, *(name for name in RESTORATION if name != metric and (name != "ssim" or with_ssim)))
    over = "bicubic enlargement" if scale > 1 else "smooth filling" if "mask" in pairs else "doing nothing"
    name = {"psnr_gain": f"PSNR gain in dB over {over}", "psnr": "PSNR in dB", "ssim": "SSIM"}[metric]
    return Validator(columns=columns, title=f"{name} of {len(targets):,} {title}", better="higher", measure=measure, cost=timed(measure))


def _squared_error(a: Tensor, b: Tensor) -> float:
    """Return the mean squared error of two uint8 tensors, in units of 1/255."""
    return (a.double() - b.double()).square().mean().item()


def rate_distortion(pictures: Tensor, title: str, machine: Machine) -> Validator:
    """Return a validator of a codec: the mean over its qualities of bits per pixel + lambda * squared error, weighted as in
    training; and the mean estimated bits per pixel and PSNR, for people.

    pictures: uint8 [N,C,H,W]. In full precision, as files are coded.
    """
    x = to_float(pictures)
    height, width = x.shape[2:]

    @torch.no_grad()
    def measure(network: nn.Module) -> Mapping[str, float]:
        codec: Any = network
        sums = dict.fromkeys(("rd_loss", "bpp", "psnr"), 0.0)
        for level in range(codec.qualities):
            for part in x.split(BATCH):
                part = pad_to(part.to(machine.device), codec.multiple)
                quality = torch.full((len(part),), float(level), device=machine.device)
                y = codec.analysis(part, quality)
                bits, error = codec.rate_distortion(part, y, codec.hyper_analysis(y), quality, (height, width))
                bpp = bits / (height * width)
                sums["bpp"] += bpp.sum().item()
                sums["psnr"] += (10 * torch.log10(255**2 / error)).clamp(max=MAX_PSNR).sum().item()
                sums["rd_loss"] += codec.weighted(bpp, error, quality).sum().item()
        return {name: float(f"{value / (codec.qualities * len(x)):.5g}") for name, value in sums.items()}

    name = "rate-distortion loss (bits per pixel + lambda * squared error)"
    return Validator(columns=("rd_loss", "bpp", "psnr"), title=f"{name} of {len(x):,} {title}", better="lower", measure=measure, cost=timed(measure))
