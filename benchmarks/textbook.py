"""The loop that every tutorial has, written here to be compared with: what people use instead of Limner.

Pictures are decoded one by one by Pillow in a DataLoader; nets are contiguous fp32 with plain layers; Adam at its
defaults but for (2e-4, 0.5); gradients flow through both players on the generator's turn. The layers are those of the
`dcgan` recipe: nearest-neighbor doubling and 3x3 convolutions, strided 4x4 convolutions, batch norm.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

Z = 100


class Folder(torch.utils.data.Dataset):
    """PNG files, decoded and transformed at every access."""

    def __init__(self, folder: Path, size: int) -> None:
        self.paths, self.size = sorted(folder.glob("*.png")), size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> Tensor:
        with Image.open(self.paths[i]) as picture:
            picture = picture.resize((self.size, self.size), Image.Resampling.BILINEAR)
            array = np.asarray(picture, np.float32) / 255
        return torch.from_numpy((array - 0.5) / 0.5)[None]


def write_pngs(images: np.ndarray, folder: Path) -> Path:
    """uint8 [N,H,W] as PNG files, once."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        path = folder / f"{i:05d}.png"
        if not path.exists():
            Image.fromarray(image).save(path)
    return folder


def generator(channels: int = 1, width: int = 64) -> nn.Module:
    """4x4 -> 32x32, the layers of networks.dcgan at depth 3, unfolded."""
    w = [width * 4, width * 2, width]
    layers: list[nn.Module] = [nn.Linear(Z, w[0] * 16, bias=False), nn.Unflatten(1, (w[0], 4, 4))]
    for a, b in zip(w, [*w[1:], channels], strict=True):
        layers += [nn.BatchNorm2d(a), nn.ReLU(), nn.Upsample(scale_factor=2), nn.Conv2d(a, b, 3, 1, 1)]
    return nn.Sequential(*layers, nn.Tanh())


def discriminator(channels: int = 1, width: int = 64) -> nn.Module:
    """32x32 -> a logit, the layers of networks.dcgan at depth 3."""
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(zip([channels, width, width * 2], [width, width * 2, width * 4], strict=True)):
        layers += [nn.Conv2d(a, b, 4, 2, 1, bias=i == 0)]
        layers += [] if i == 0 else [nn.BatchNorm2d(b)]
        layers += [nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * 4 * 16, 1))


def radford(net: nn.Module) -> nn.Module:
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.normal_(layer.weight, 0, 0.02)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1, 0.02)
    return net


class Loop:
    """The tutorial's training loop; `run` goes on from where it was."""

    def __init__(self, folder: Path, size: int = 32, batch: int = 64, seed: int = 0, workers: int = 0) -> None:
        torch.manual_seed(seed)
        self.g, self.d, self.batch = radford(generator()), radford(discriminator()), batch
        self.loader = torch.utils.data.DataLoader(
            Folder(folder, size), batch_size=batch, shuffle=True, drop_last=True, num_workers=workers
        )
        self.opt_g = torch.optim.Adam(self.g.parameters(), lr=2e-4, betas=(0.5, 0.999))
        self.opt_d = torch.optim.Adam(self.d.parameters(), lr=2e-4, betas=(0.5, 0.999))
        self.bce = nn.BCEWithLogitsLoss()
        self.batches = iter(self.loader)
        self.seen = 0

    def step(self) -> None:
        try:
            real = next(self.batches)
        except StopIteration:
            self.batches = iter(self.loader)
            real = next(self.batches)
        ones, zeros = torch.ones(len(real), 1), torch.zeros(len(real), 1)
        fake = self.g(torch.randn(len(real), Z))
        self.opt_d.zero_grad()
        (self.bce(self.d(real), ones) + self.bce(self.d(fake.detach()), zeros)).backward()
        self.opt_d.step()
        self.opt_g.zero_grad()
        self.bce(self.d(fake), ones).backward()
        self.opt_g.step()
        self.seen += len(real)

    def run(self, seconds: float, at: dict[float, Callable[[Loop, float], None]] | None = None) -> None:
        """Train for so many seconds of training time; `at` maps seconds to what to do then, off the clock."""
        waiting = sorted((at or {}).items())
        spent = 0.0
        while spent < seconds or waiting:
            start = time.monotonic()
            self.step()
            spent += time.monotonic() - start
            while waiting and spent >= waiting[0][0]:
                waiting.pop(0)[1](self, spent)

    @torch.no_grad()
    def sample(self, n: int, seed: int = 0) -> np.ndarray:
        """uint8 [n,C,H,W], in evaluation mode."""
        self.g.eval()
        z = torch.randn(n, Z, generator=torch.Generator().manual_seed(seed))
        images = torch.cat([self.g(part) for part in z.split(500)])
        self.g.train()
        return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()
