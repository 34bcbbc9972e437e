"""What the loop makes of a batch's tensors, by their names, and a restorer that learns from crops degraded on the fly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from toy import CPU

from limner.core.images import IMAGES, to_float
from limner.data import open_source
from limner.data.crops import Crops
from limner.data.degrade import Degraded, GaussianNoise
from limner.data.native import prepare_native
from limner.data.split import split
from limner.methods.phase import Batch, Clock, Phase
from limner.training.iteration import Plan
from limner.training.loop import fit
from limner.training.state import OptimizerConfig
from stopping import StopAt


class Denoiser:
    """The smallest restorer: three convolutions that predict the noise."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 3, 3, padding=1)]
        self.nets = {"restorer": nn.Sequential(*layers)}
        self.averaged = ["restorer"]
        self.players = {"restorer": list(self.nets["restorer"].parameters())}
        self.phases = [Phase("restorer", self.loss)]
        self.memory: dict[str, Any] = {}
        self.periodic = None
        self.levers: dict[str, float] = {}
        self.seen: list[Mapping[str, Tensor]] = []

    def loss(self, batch: Batch, clock: Clock) -> tuple[Tensor, Mapping[str, Tensor]]:
        self.seen.append(batch.tensors)
        loss = (self(batch["image"]) - batch["target"]).square().mean((1, 2, 3))
        return loss, {"loss": loss.detach().mean()}

    def __call__(self, image: Tensor) -> Tensor:
        return image - self.nets["restorer"](image)


def plan(images: int) -> Plan:
    return Plan(images=images, batch=16, optimizers={"restorer": OptimizerConfig(lr=3e-3)}, seed=2)


def test_names_decide_what_is_a_picture(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    given = {
        name: torch.from_numpy(rng.integers(0, 256, (16, 3, 8, 8), dtype=np.uint8)) for name in ("image", "target", "a", "b", "other", "mask")
    } | {"label": torch.arange(16), "vector": torch.randn(16, 5)}
    assert given.keys() >= IMAGES
    method = Denoiser()
    fit(method, lambda first, count: given, tmp_path / "run", plan(16), device=CPU, quiet=True)
    (batch,) = method.seen
    for name, tensor in batch.items():
        if name in IMAGES:
            assert tensor.dtype == torch.float32 and torch.equal(tensor, to_float(given[name]))
            assert tensor.min() >= -1 and tensor.max() <= 1
        else:
            assert tensor.dtype == given[name].dtype and torch.equal(tensor, given[name])


def test_a_restorer_learns_from_degraded_crops_and_resumes(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    y, x = np.mgrid[:48, :64]
    for i in range(20):  # smooth pictures of two sizes
        waves = [127 + 100 * np.sin(x / (5 + i % 7) + y / (4 + i % 5) + c) for c in range(3)]
        Image.fromarray(np.stack(waves, -1)[: 40 + i % 2].astype(np.uint8)).save(tmp_path / "set" / f"{i}.png")
    pairs = Degraded(Crops(prepare_native(open_source(tmp_path / "set")), 16, flip=True), GaussianNoise(30))
    train, held = split(pairs, 0)
    assert held is not None and len(held) == 2

    def trained(name: str, *callbacks: Any) -> Denoiser:
        method = Denoiser()
        stream = lambda first, count: train.batch(first, count, 2)  # noqa: E731
        fit(method, stream, tmp_path / name, plan(1600), device=CPU, quiet=True, callbacks=callbacks)
        return method

    whole = trained("whole")
    trained("broken", StopAt(160))
    resumed = trained("broken")
    for p, q in zip(whole.players["restorer"], resumed.players["restorer"], strict=True):
        assert torch.equal(p, q)
    batch = held.batch(0, 64, 0)
    noisy, clean = to_float(batch["image"]), to_float(batch["target"])
    with torch.no_grad():
        error, before = (whole(noisy) - clean).square().mean(), (noisy - clean).square().mean()
    assert error < 0.35 * before  # pictures that it was not trained on
