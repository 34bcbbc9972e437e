"""A small convolutional encoder with two short trainings: supervised by labels, or contrastive without labels.

It is small so that a few hundred thousand pictures take about a minute on two cores.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from limner.core.device import precision
from limner.core.images import to_float

WIDTH = 128         # features per picture
MAX_SIDE = 64       # larger pictures are resized (antialiased) to this longer side
BATCH = 128
RECIPE = 1          # version of network and training; raise it when either changes, so that cached encoders are not used

Progress = Callable[[int, int], None]  # (images seen, images to see)


class Encoder(nn.Module):
    """Maps float [N,C,H,W] in [-1,1] to features [N,128], and by `predict` to the outputs of a head [N,K].

    It halves the resolution until the shorter side is about 4 (at most four times), then averages over positions.
    """

    def __init__(self, channels: int, size: tuple[int, int], head: nn.Module) -> None:
        super().__init__()
        halvings = max(1, min(4, round(torch.tensor(min(size) / 4.0).log2().item())))
        widths = [32, 64, 128, 128][4 - halvings if halvings < 3 else 0 :][:halvings]
        widths[-1] = WIDTH
        stages: list[nn.Module] = []
        for i, width in enumerate(widths):
            before = widths[i - 1] if i else channels
            stages += [nn.Conv2d(before, width, 4, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            if i:  # at full resolution it would cost as much as all other stages together
                stages += [nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        self.stages = nn.Sequential(*stages)
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        return self.stages(x).float().mean((2, 3))  # [N,C,H,W] -> [N,128]

    def predict(self, x: Tensor) -> Tensor:
        return self.head(self(x))  # [N,K]

    def layers(self, x: Tensor) -> list[Tensor]:
        """Return the activations after each stage, [N,c,h,w] each, for distances between pictures layer by layer."""
        found = []
        for stage in self.stages:
            x = stage(x)
            if isinstance(stage, nn.ReLU):
                found.append(x.float())
        return found


def working_size(height: int, width: int) -> tuple[int, int]:
    """Return the size at which the encoder takes pictures of this size: at most 64 on the longer side, at least 8."""
    factor = min(1.0, MAX_SIDE / max(height, width))
    return max(8, round(height * factor)), max(8, round(width * factor))


def budget(n: int) -> int:
    """Return the number of training images for a set of n: 20 n, at least 16,000 and at most 400,000."""
    return min(400_000, max(16_000, 20 * n))


def contrastive_head() -> nn.Module:
    """Return the two layers between the features and the codes that are compared, which discard details instead of the features."""
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))


def train_classifier(
    images: Tensor, labels: Tensor, classes: int, seed: int = 0, progress: Progress | None = None, shown: int | None = None
) -> Encoder:
    """Return an encoder trained by cross-entropy on uint8 [N,C,H,W] (already at working size) and labels [N].

    shown: images seen in training (default: `budget`).
    """

    def loss(net: Encoder, rows: Tensor, random: torch.Generator) -> Tensor:
        x = to_float(_shifted(images[rows], random))
        return F.cross_entropy(net.predict(x), labels[rows], label_smoothing=0.05)

    return _train(images, lambda: nn.Linear(WIDTH, classes), loss, shown or budget(len(images)), seed, progress)


def train_contrastive(images: Tensor, seed: int = 0, progress: Progress | None = None) -> Encoder:
    """Return an encoder trained to match two views of a picture among others (SimCLR, Chen et al. 2020, eq. 1; temperature 0.2).

    Views differ by crop, flip, brightness and contrast, but not by blur or noise, to which the features must be sensitive.
    """

    def loss(net: Encoder, rows: Tensor, random: torch.Generator) -> Tensor:
        x = to_float(images[rows])
        codes = F.normalize(net.predict(torch.cat([_view(x, random), _view(x, random)])), dim=1)  # [2n,128]
        similar = codes @ codes.T / 0.2
        similar.fill_diagonal_(float("-inf"))
        n = len(rows)
        return F.cross_entropy(similar, torch.cat([torch.arange(n, 2 * n), torch.arange(n)]))

    return _train(images, contrastive_head, loss, budget(len(images)) // 2, seed, progress)  # two views each


def _train(
    images: Tensor, head: Callable[[], nn.Module], loss: Callable[[Encoder, Tensor, torch.Generator], Tensor],
    shown: int, seed: int, progress: Progress | None,
) -> Encoder:
    """Train with AdamW, warm-up and cosine decay, on a fixed number of images. Deterministic by data and seed on a machine."""
    random = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):  # does not change the caller's random state
        torch.manual_seed(seed)
        net = Encoder(images.shape[1], (images.shape[2], images.shape[3]), head())
    net = net.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    # A set smaller than a batch is passed whole.
    steps, size = -(-shown // BATCH), min(BATCH, len(images))
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.02, fused=True)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.1)
    half = precision(torch.device("cpu")) == torch.bfloat16
    order = torch.empty(0, dtype=torch.long)
    for step in range(steps):
        if len(order) < size:
            order = torch.cat([order, torch.randperm(len(images), generator=random)])
        rows, order = order[:size], order[size:]
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            value = loss(net, rows, random)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        scheduler.step()
        if progress and (step % 20 == 0 or step == steps - 1):
            progress((step + 1) * size, steps * size)
    return net.eval().requires_grad_(False)


def _shifted(images: Tensor, random: torch.Generator) -> Tensor:
    """Each picture moved by up to a sixteenth of its size, the edge repeated: uint8 [n,C,H,W], channels_last."""
    n, _, h, w = images.shape
    pixels = images.permute(0, 2, 3, 1)
    across = [
        (torch.randint(-(side // 16), side // 16 + 1, (n, 1), generator=random) + torch.arange(side)).clamp_(0, side - 1)
        for side in (h, w)
    ]
    moved = pixels[torch.arange(n)[:, None, None], across[0][:, :, None], across[1][:, None, :]]  # [n,H,W,C]
    return moved.permute(0, 3, 1, 2)


def _view(x: Tensor, random: torch.Generator) -> Tensor:
    """A random crop of 30 to 100 % of the area at the old size, mirrored half the time, brighter or flatter."""
    n = len(x)

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(n, generator=random) * (high - low) + low

    scale, aspect = uniform(0.3, 1).sqrt(), uniform(-0.25, 0.25).exp()
    tall, wide = (scale * aspect).clamp(max=1), (scale / aspect).clamp(max=1)
    mirror = (uniform(0, 1) < 0.5) * 2.0 - 1
    zero = torch.zeros(n)
    theta = torch.stack([
        torch.stack([wide * mirror, zero, uniform(-1, 1) * (1 - wide)], 1),
        torch.stack([zero, tall, uniform(-1, 1) * (1 - tall)], 1),
    ], 1)  # [n,2,3]
    view = F.grid_sample(x, F.affine_grid(theta, list(x.shape), align_corners=False), align_corners=False)
    return view * uniform(0.6, 1.4)[:, None, None, None] + uniform(-0.3, 0.3)[:, None, None, None]
