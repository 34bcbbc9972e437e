"""Options of every `train`, whatever the recipe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from limner.core.options import option
from limner.networks.adapt import ADAPTATIONS
from limner.runs.validate import METRICS


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of every `train`, whatever the recipe."""

    minutes: float | str | None = option(None, "Budget in minutes, start-up included, or as 90s, 10m, 1h30 (default: 10m).")
    images: int | str | None = option(None, "Budget in images seen, instead of minutes: 50000, 500k or 1e6.")
    out: Path | None = option(None, "Run folder (default: runs/DATA-RECIPE-SIZE).")
    seed: int = option(0, "Seed of all random numbers.", low=0, high=2**63 - 1)
    device: str = option("auto", "Device: auto, cpu, cuda or mps.")
    precision: str = option("auto", "Precision of convolutions and matrix products; auto is bf16 where the hardware has it.", choices=("auto", "bf16", "fp32"))
    threads: int | None = option(None, "CPU threads (default: the fastest number, measured at the start).", low=1, high=4096)
    ranks: int | None = option(None, "Processes on this machine that train one model together; the batch is that of all (default: 1, or as many as a resumed run was started with).", low=1, high=256)
    average_every: int | None = option(None, "With several ranks, iterations between averages of their networks (local SGD); 0 sums the gradients of every turn, so that all ranks hold the same networks at every moment (default: 8 on CPUs, 0 on GPUs and with sync_batch_norm). A stop waits for the next average.", low=0, high=1000)
    sync_batch_norm: bool = option(False, "With several ranks, normalize over the global batch, which gives the weights of one process but waits for all ranks in every norm; by default each rank normalizes its own rows.")
    checkpoint_minutes: float | str = option(2.0, "Minutes between checkpoints; a kill loses at most these.")
    adapt: str = option("full", "What --from trains: full, all parameters; freeze-d, all but the discriminator's layers at high resolution; styles, of the generator only scales and shifts of normalizations and styles.", choices=ADAPTATIONS)
    doctor: bool = option(True, "Detect training failures; this holds out one image in twenty, at most 256.")
    auto_tune: bool = option(False, "Let the doctor adjust learning rates, penalty and augmentation within bounds, each adjustment logged.")
    metric: str = option("auto", "Validation metric; its best state is kept in best/. auto is the first of the recipe's own: convolutions, pixels or own (features of a Fréchet distance); psnr or ssim; psnr_gain (of a restorer); rd_loss (of a codec); accuracy or nll (of a classifier).", choices=METRICS)
    tensorboard: bool = option(False, "Also write curves and image grids for TensorBoard (needs limner[tensorboard]).")
    quiet: bool = option(False, "Print nothing while training.")
