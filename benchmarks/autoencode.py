"""What an autoencoder gives on pictures it has not seen: bits a dimension, reconstruction, samples.

    python benchmarks/autoencode.py --recipes vae vaegan vqvae --minutes 10 --threads 1
    python benchmarks/autoencode.py --runs runs/fashion-vae       # a run that is there already

Data: Fashion-MNIST's 60,000 training images at 32x32; measured on the 10,000 test images, with one draw of each latent.
Bits a dimension are the bound (the negative ELBO) over the numbers of a picture, and the latent's part of it; `mixture saves`
is what the learned prior would take off. Error is the root mean square in [-1,1] of reconstructions from the mean latent. A
number of the latent is in use where its mean varies over the pictures by more than 0.01. The Fréchet distance is that of
10,000 samples on own features (yardstick.py), drawn from the learned prior and from N(0, I). A VQ-VAE has no bound and draws no
samples: its row tells the error and the bits of its codes. Prints a line a recipe, writes results/autoencode.json and a
preview each.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from math import log, log2
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import limner
from limner.core import device
from limner.core.images import to_float, to_uint8
from limner.families.train import train
from limner.losses import fidelity
from limner.networks.vae import ACTIVE
from yardstick import RESULTS, TRAIN, Yardstick, yardstick

CHUNK = 250


@torch.no_grad()
def bound(net: Any, likelihood: str, images: Tensor, labels: Tensor | None) -> dict[str, float]:
    """Of uint8 pictures [N,C,H,W]: what the bound costs, and how far reconstructions are.

    labels [N]: for a prior of classes; another takes None.
    """
    random, nats_of = torch.Generator().manual_seed(0), fidelity.likelihood(likelihood)
    sums, means = torch.zeros(4, dtype=torch.float64), []
    for rows in torch.arange(len(images)).split(CHUNK):
        x, y = to_float(images[rows]), None if labels is None else labels[rows]
        mean, log_variance = net.encoder(x)
        z = mean + torch.exp(0.5 * log_variance) * torch.randn(mean.shape, generator=random)
        kl = fidelity.kl_to_standard(mean, log_variance).sum(1)
        standard = -0.5 * (z.square() + log(2 * np.pi)).sum(1)
        error = (net(x) - x).square().mean((1, 2, 3))
        parts = nats_of(x, net.decoder.distribution(z)) + kl, kl, net.prior(z, y) - standard, error
        sums += torch.stack([part.double().sum() for part in parts])
        means.append(mean)
    bits, latent, saved, error_sum = (sums / len(images)).tolist()
    per = images[0].numel() * log(2)
    return {
        "bits_per_dim": bits / per, "latent_bits_per_dim": latent / per, "latent_nats": latent, "mixture_saves": saved / per,
        "rmse": error_sum**0.5, "active": int((torch.cat(means).var(0, correction=0) > ACTIVE).sum()),
    }  # fmt: skip


def samples(net: Any, learned: bool, count: int = 10_000) -> np.ndarray:
    """uint8 [count,C,H,W], from the learned prior (with classes, as many of each) or from N(0, I)."""
    rng = np.random.default_rng(1)
    noise = torch.from_numpy(rng.standard_normal((count, net.z_size), np.float32))
    chance = torch.from_numpy(rng.random(count, np.float32))
    labels = torch.arange(count) % net.prior.classes if net.prior.classes else None
    z = net.prior.draw(noise, chance, labels) if learned else noise
    with torch.no_grad():
        return torch.cat([to_uint8(net.decode(part)) for part in z.split(CHUNK)]).numpy()


def measured(folder: Path, stick: Yardstick) -> dict[str, Any]:
    """A row: what a trained run gives on the test pictures."""
    model: Any = limner.load(folder, "cpu")
    net, recipe, images = model.autoencoder, model.description["recipe"], stick.test.images
    row = {"recipe": recipe["name"], "images": model.description["training"]["images"]}
    if recipe["name"] == "vqvae":
        made = torch.from_numpy(np.asarray(model.reconstruct(images.numpy())))
        places = np.asarray(model.encode(images[:1].numpy())).size
        error = (to_float(made) - to_float(images)).square().mean().sqrt().item()
        return row | {"rmse": error, "code_bits_per_dim": places * log2(recipe["network"]["codes"]) / images[0].numel()}
    row |= bound(net, recipe["network"]["likelihood"], images, stick.test.labels if net.prior.classes else None)
    for name, learned in (("samples", True), ("samples of N(0, I)", False)):
        found = stick.measure(samples(net, learned))
        row |= {f"{name}: {m.label}": m.value for m in found.metrics}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="*", default=["vae", "vaegan", "vqvae"])
    parser.add_argument("--runs", nargs="*", type=Path, default=[], help="measure these and train none")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    device.configure_runtime(asked.threads)
    RESULTS.mkdir(exist_ok=True)
    stick, rows = yardstick(), []
    with tempfile.TemporaryDirectory() as temporary:
        for name in asked.runs or asked.recipes:
            folder = Path(name) if asked.runs else Path(temporary) / name
            if not asked.runs:
                train(
                    str(TRAIN), recipe=name, size=32, minutes=asked.minutes, seed=asked.seed, threads=asked.threads,
                    device="cpu", out=folder,
                )  # fmt: skip
            rows.append(row := measured(folder, stick))
            print("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)
            (RESULTS / f"autoencode-{row['recipe']}.png").write_bytes((folder / "preview.png").read_bytes())
            (RESULTS / "autoencode.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
