"""Validators: what a run measures of itself while it trains, on pictures that it is not trained on where there are such."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache

import torch
from torch import Tensor, nn

from limner.core.device import autocast
from limner.core.images import to_float, to_uint8
from limner.core.machine import Machine
from limner.evaluation import FrechetProbe, ImageSet
from limner.evaluation.image_quality import WINDOW, psnr, ssim
from limner.runs.experiment import Validator

AUTO, NONE = "auto", "none"
FEATURES = ("convolutions", "pixels", "own")  # of a Fréchet distance
FIDELITY = ("psnr", "ssim")  # of pairs of pictures
METRICS = (AUTO, *FEATURES, *FIDELITY, NONE)
SAMPLES, REFERENCE = 500, 5_000  # pictures that a Fréchet distance compares
FEWEST = 50  # pictures of a set below which a distance between distributions means nothing
PAIRS = 64  # pairs of pictures that fidelity is measured on, at most
BATCH = 32  # pictures of one forward pass
HIGHEST_PSNR = 100.0  # dB, of equal pictures

Sample = Callable[[nn.Module, int], Tensor]  # (network, n) -> uint8 [n,C,H,W]
Reconstruct = Callable[[nn.Module, Tensor], Tensor]  # (network, [N,C,H,W] in [-1,1]) -> the same shape


def chosen(metric: str, known: Sequence[str], kind: str) -> str | None:
    """The metric that a run of this kind is measured by; None where it is measured by none.

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
    """The Fréchet distance of some samples to at most 5,000 reference pictures; None where either are too few.

    It serves the curve of one run and the choice of its best state, not the comparison of models: so few samples bias it.
    """
    if min(len(reference), samples) < FEWEST:
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


def fidelity(
    reconstruct: Reconstruct, inputs: Tensor, targets: Tensor, metric: str, title: str, machine: Machine
) -> Validator:
    """PSNR and SSIM of outputs against targets, means over pictures; `metric` decides which state is the best.

    inputs, targets: uint8 [N,C,H,W], row by row a pair. SSIM is left out of pictures that are smaller than its window.
    """
    with_ssim = min(targets.shape[-2:]) >= WINDOW
    if metric == "ssim" and not with_ssim:
        raise ValueError(f"--metric ssim needs pictures of at least {WINDOW} pixels a side: choose psnr.")

    @torch.no_grad()
    def measure(network: nn.Module) -> Mapping[str, float]:
        parts = []
        for part in inputs.split(BATCH):
            with autocast(machine.device, machine.precision):
                parts.append(to_uint8(reconstruct(network, to_float(part.to(machine.device)))).cpu())
        outputs = torch.cat(parts)
        figures = {"psnr": psnr(outputs, targets).clamp(max=HIGHEST_PSNR).mean().item()}
        if with_ssim:
            figures["ssim"] = ssim(outputs, targets).mean().item()
        return {name: float(f"{value:.5g}") for name, value in figures.items()}

    def cost(network: nn.Module) -> float:
        start = time.monotonic()
        measure(network)
        return time.monotonic() - start

    columns = (metric, *(name for name in FIDELITY if name != metric and (name == "psnr" or with_ssim)))
    name = {"psnr": "PSNR in dB", "ssim": "SSIM"}[metric]
    return Validator(columns=columns, title=f"{name} of {len(inputs):,} {title}", better="higher", measure=measure, cost=cost)
