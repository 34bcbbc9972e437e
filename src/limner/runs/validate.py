"""Validators: metrics of a run during training, on held-out pictures if there are some."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache

from torch import Tensor, nn

from limner.core.machine import Machine
from limner.evaluation import FrechetProbe, ImageSet
from limner.evaluation.image_quality import WINDOW, psnr, ssim
from limner.runs.experiment import Validator
from limner.sampling.generate import BATCH, transform

AUTO, NONE = "auto", "none"
FEATURES = ("convolutions", "pixels", "own")  # of Fréchet distances
FIDELITY = ("psnr", "ssim")  # of pairs
CLASSES = ("accuracy", "nll")  # of classifiers
METRICS = (AUTO, *FEATURES, *FIDELITY, *CLASSES, NONE)
SAMPLES, REFERENCE = 500, 5_000  # pictures that a Fréchet distance compares
MIN_PICTURES = 50  # of a set; a distance between smaller sets is meaningless
PAIRS = 64  # maximum number of pairs for PSNR and SSIM
MAX_PSNR = 100.0  # dB, of identical pictures

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

    def cost(network: nn.Module) -> float:
        start = time.monotonic()
        measure(network)
        return time.monotonic() - start

    columns = (metric, *(name for name in FIDELITY if name != metric and (name == "psnr" or with_ssim)))
    name = {"psnr": "PSNR in dB", "ssim": "SSIM"}[metric]
    return Validator(columns=columns, title=f"{name} of {len(inputs):,} {title}", better="higher", measure=measure, cost=cost)
