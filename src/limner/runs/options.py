"""What every `train` understands, whatever the recipe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Options:
    """What every `train` understands, whatever the recipe."""

    minutes: float | str | None = None  # budget in minutes, or as 90s, 10m, 1h30 (default 10m), start-up included
    images: int | str | None = None  # budget in images seen, instead of minutes: 50000, 500k or 1e6
    out: Path | None = None  # run folder (default: runs/DATA-RECIPE-SIZE)
    seed: int = 0  # of everything random
    device: str = "auto"  # auto, cpu, cuda or mps
    precision: str = "auto"  # auto, bf16 or fp32
    threads: int | None = None  # CPU threads (default: what a trial at the start finds fastest)
    checkpoint_minutes: float | str = 2.0  # at most this much is lost by a kill
    doctor: bool = True  # look for trouble while training; for generators keeps one picture in twenty aside, at most 256
    auto_tune: bool = False  # let the doctor change rates, penalty and augmentation within bounds, each change logged
    metric: str = "auto"  # measured while training, and decides which state is kept as best/: auto, none, or one that the recipe lists (convolutions, pixels, own; psnr, ssim)
    tensorboard: bool = False  # write curves and grids for TensorBoard too (needs limner[tensorboard])
    quiet: bool = False  # say nothing while it works
