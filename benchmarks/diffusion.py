"""A diffusion model at equal wall-clock: diffusers' U-Net, trained as its unconditional example is, against the default.

    pip install diffusers==0.42.1        # not part of the project's own environment
    python benchmarks/diffusion.py --minutes 10 --threads 1 --samples 2000

DDPM (Ho et al. 2020): 1.8 M parameters (widths 32, 64, 96, attention at 8x8), a linear schedule of 1,000 steps, the squared error of the noise,
AdamW at --lr with 200 iterations of warm-up and a cosine decay to the end of the time, batch 64, EMA, bf16, channels_last. Samples are drawn by DDIM (Song et al.
2021) in --steps steps. Fashion-MNIST at 32x32 without its classes; the clock of training starts with its first iteration, and the
time of sampling is stated beside it. `auto` has the same minutes from its command on, without classes. Both are compared with the 10,000 test
pictures, by --samples samples each, on the features of benchmarks/quality.py. Prints rows, and writes results/diffusion.json and sheets of the first samples.
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
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel
from torch import Tensor

import limner
from limner.core.images import grid, to_float, to_uint8, write_png
from yardstick import RESULTS, TEST, TRAIN, figures, yardstick

BATCH, WARMUP = 64, 200
HALF_LIFE = 200  # of the EMA, in iterations, early a twentieth of those so far


class Diffusion:
    """The U-Net, its average, and the loop."""

    def __init__(self, images: Tensor, seed: int, lr: float) -> None:
        """images: uint8 [N,1,32,32]"""
        torch.manual_seed(seed)
        self.images, self.lr, self.seen = images, lr, 0
        self.net = UNet2DModel(
            sample_size=32, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(32, 64, 96),
            down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        ).to(memory_format=torch.channels_last)  # fmt: skip
        self.average = copy.deepcopy(self.net).requires_grad_(False)
        self.noise = DDPMScheduler(1000)
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr)

    def run(self, seconds: float) -> None:
        start, iteration = time.monotonic(), 0
        while (spent := time.monotonic() - start) < seconds:
            rate = self.lr * min(1, (iteration + 1) / WARMUP) * (1 + math.cos(math.pi * spent / seconds)) / 2
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            x = to_float(self.images[torch.randint(len(self.images), (BATCH,))])
            noise, t = torch.randn_like(x), torch.randint(1000, (BATCH,))
            with torch.autocast("cpu", torch.bfloat16):
                loss = F.mse_loss(self.net(self.noise.add_noise(x, noise, t), t).sample.float(), noise)
            self.optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
            self.optimizer.step()
            iteration += 1
            share = 1 - 0.5 ** (1 / min(HALF_LIFE, 1 + iteration / 20))
            torch._foreach_lerp_(list(self.average.parameters()), [p.detach() for p in self.net.parameters()], share)
            self.seen += BATCH

    @torch.no_grad()
    def sample(self, n: int, steps: int, batch: int = 250) -> np.ndarray:
        """uint8 [n,1,32,32]"""
        generator = torch.Generator().manual_seed(1)
        scheduler = DDIMScheduler(1000)
        made = []
        for start in range(0, n, batch):
            scheduler.set_timesteps(steps)
            x = torch.randn(min(batch, n - start), 1, 32, 32, generator=generator)
            for t in scheduler.timesteps:
                with torch.autocast("cpu", torch.bfloat16):
                    noise = self.average(x, t).sample.float()
                x = scheduler.step(noise, t, x).prev_sample
            made.append(to_uint8(x))
        return torch.cat(made).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", default=str(TRAIN))
    parser.add_argument("--reference", default=str(TEST))
    parser.add_argument("--only", choices=["diffusion", "auto"])
    parser.add_argument("--runs", type=Path, default=Path("build/diffusion"))
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    judge = yardstick(asked.data, asked.reference)
    rows: list[dict[str, Any]] = []
    for name in [asked.only] if asked.only else ["diffusion", "auto"]:
        used = time.process_time()
        if name == "diffusion":
            model = Diffusion(judge.train.images, asked.seed, asked.lr)
            model.run(asked.minutes * 60)
            seen, used, start = model.seen, time.process_time() - used, time.process_time()
            samples = model.sample(asked.samples, asked.steps)
        else:
            folder = asked.runs / f"auto-{asked.seed}"
            limner.train(asked.data, size=32, minutes=asked.minutes, seed=asked.seed, threads=asked.threads, out=folder, unconditional=True)
            trained = limner.load(folder)
            seen, used, start = trained.description["training"]["images"], time.process_time() - used, time.process_time()
            samples = trained.sample(asked.samples, seed=1)
        speed = asked.samples / (time.process_time() - start)
        rows.append({"name": name, "images": seen, "cpu_minutes": round(used / 60, 2), "samples_per_cpu_second": round(speed, 1), **figures(judge.measure(samples))})
        print(" ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in rows[-1].items()), flush=True)
        RESULTS.mkdir(exist_ok=True)
        write_png(RESULTS / f"diffusion-{name}.png", grid(samples[:96], columns=16))
    (RESULTS / "diffusion.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
