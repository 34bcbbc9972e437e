"""A diffusion model at equal wall-clock: a U-Net of diffusers against the default.

    .venv/bin/pip install --no-deps --target build/diffusers diffusers==0.42.1     # not a dependency of the project
    PYTHONPATH=build/diffusers .venv/bin/python benchmarks/diffusion.py --minutes 10 --threads 1

DDPM (Ho et al. 2020) with the cosine schedule of Nichol and Dhariwal 2021 and v-prediction (Salimans and Ho 2022): AdamW at --lr with
warm-up and a cosine decay to the end of the time, EMA, bf16. Attention and the channels_last layout are left out, since their backward passes are slow
on a CPU: without both it trains on 66 instead of 27 images a second. Samples take --steps of DPM-Solver++
(Lu et al. 2022). Fashion-MNIST at 32x32 with its classes; the U-Net's clock starts with its first iteration, that of `auto` with the command, so that start and validation count; sampling
is not counted and its speed is stated. Both are compared with the 10,000 test pictures, by --samples samples each, on the features of
benchmarks/quality.py. Prints rows, and writes results/diffusion.json and sheets of the first samples.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, UNet2DModel
from torch import Tensor

import limner
from limner.core.images import grid, to_float, to_uint8, write_png
from yardstick import RESULTS, TEST, TRAIN, figures, yardstick

WARMUP = 100  # iterations
HALF_LIFE = 200  # of the EMA, in iterations, early a twentieth of those so far
NOISE = {"num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"}


class Diffusion:
    """The U-Net, its average, and the loop."""

    def __init__(self, images: Tensor, labels: Tensor, widths: list[int], batch: int, lr: float, seed: int) -> None:
        """images: uint8 [N,1,32,32]; labels: int64 [N]."""
        torch.manual_seed(seed)
        self.images, self.labels, self.batch, self.lr, self.seen = images, labels, batch, lr, 0
        self.classes = int(labels.max()) + 1
        plain = [("DownBlock2D",) * len(widths), ("UpBlock2D",) * len(widths)]
        self.net = UNet2DModel(
            sample_size=32, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=tuple(widths), norm_num_groups=8,
            down_block_types=plain[0], up_block_types=plain[1], add_attention=False, num_class_embeds=self.classes,
        )  # fmt: skip
        self.average = copy.deepcopy(self.net).requires_grad_(False)
        self.noise = DDPMScheduler(**NOISE)
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr)

    def run(self, seconds: float) -> None:
        start, iteration = time.monotonic(), 0
        while (spent := time.monotonic() - start) < seconds:
            lr = self.lr * min(1, (iteration + 1) / WARMUP) * (1 + math.cos(math.pi * spent / seconds)) / 2
            for group in self.optimizer.param_groups:
                group["lr"] = lr
            rows = torch.randint(len(self.images), (self.batch,))
            x, t = to_float(self.images[rows]), torch.randint(1000, (self.batch,))
            noise = torch.randn_like(x)
            with torch.autocast("cpu", torch.bfloat16):
                made = self.net(self.noise.add_noise(x, noise, t), t, self.labels[rows]).sample.float()
            self.optimizer.zero_grad()
            F.mse_loss(made, self.noise.get_velocity(x, noise, t)).backward()
            torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
            self.optimizer.step()
            iteration += 1
            share = 1 - 0.5 ** (1 / min(HALF_LIFE, 1 + iteration / 20))
            torch._foreach_lerp_(list(self.average.parameters()), [p.detach() for p in self.net.parameters()], share)
            self.seen += self.batch

    @torch.no_grad()
    def sample(self, n: int, steps: int, batch: int = 250) -> np.ndarray:
        """Return uint8 [n,1,32,32], the classes in turn."""
        generator, labels, made = torch.Generator().manual_seed(1), torch.arange(n) % self.classes, []
        for y in labels.split(batch):
            solver = DPMSolverMultistepScheduler(**NOISE)
            solver.set_timesteps(steps)
            x = torch.randn(len(y), 1, 32, 32, generator=generator)
            for t in solver.timesteps:
                with torch.autocast("cpu", torch.bfloat16):
                    velocity = self.average(x, t, y).sample.float()
                x = solver.step(velocity, t, x).prev_sample
            made.append(to_uint8(x))
        return torch.cat(made).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--widths", nargs="+", type=int, default=[32, 64, 96])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=["diffusion", "auto"])
    parser.add_argument("--runs", type=Path, default=Path("build/diffusion"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    references = yardstick(TRAIN, TEST)
    rows: list[dict[str, Any]] = []
    for name in [args.only] if args.only else ["diffusion", "auto"]:
        used = time.process_time()
        if name == "diffusion":
            assert references.train.labels is not None
            model = Diffusion(references.train.images, references.train.labels, args.widths, args.batch, args.lr, args.seed)
            model.run(args.minutes * 60)
            seen, used, start = model.seen, time.process_time() - used, time.process_time()
            samples = model.sample(args.samples, args.steps)
        else:
            folder = args.runs / f"auto-{args.seed}"
            limner.train(TRAIN, size=32, minutes=args.minutes, seed=args.seed, threads=args.threads, out=folder)
            trained = limner.load(folder)
            seen, used, start = trained.description["training"]["images"], time.process_time() - used, time.process_time()
            samples = trained.sample(args.samples, seed=1, label=[i % len(trained.classes) for i in range(args.samples)])
        speed = args.samples / (time.process_time() - start)
        rows.append({"name": name, "images": seen, "cpu_minutes": round(used / 60, 2), "samples_per_cpu_second": round(speed, 1), **figures(references.measure(samples))})
        print(" ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in rows[-1].items()), flush=True)
        RESULTS.mkdir(exist_ok=True)
        write_png(RESULTS / f"diffusion-{name}.png", grid(samples[:100], columns=20))
    (RESULTS / f"diffusion{'-' + args.only if args.only else ''}.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
