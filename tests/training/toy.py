"""A game small enough to train in milliseconds, and what tests of the loop do with it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from limner.methods.phase import Batch, Clock, PeriodicWork, Phase
from limner.training.iteration import Plan
from limner.training.state import OptimizerConfig

CPU = torch.device("cpu")
PLAN = Plan(
    images=160,
    batch=8,
    optimizers={"a": OptimizerConfig(lr=1e-2), "b": OptimizerConfig(name="sgd", lr=1e-2, beta1=0.9)},
    lr_factor=lambda clock: 1 - clock.fraction,
)


class Toy:
    """Two players who pull one number apart, with a memory and a lazy phase, as a GAN has them."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.nets = {"a": nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1)), "b": nn.Linear(4, 1)}
        self.averaged = ["a"]
        self.players = {name: list(net.parameters()) for name, net in self.nets.items()}
        self.phases = [Phase("a", self.a_turn), Phase("b", self.b_turn, every=3)]
        self.memory = {"counter": Counter()}
        self.periodic: PeriodicWork | None = None
        self.levers: dict[str, float] = {}
        self.poison: set[int] = set()
        self.moved: list[str] = []

    def a_turn(self, batch: Batch, clock: Clock) -> tuple[Tensor, Mapping[str, Tensor]]:
        self.memory["counter"].count += len(batch)
        noise = batch.normal("z", 4) + 0.1 * torch.rand(1)  # both kinds of randomness
        loss = (self.nets["a"](batch["x"] + noise) - self.nets["b"](batch["x"])).square().squeeze(1)
        if clock.seen in self.poison:
            self.poison.discard(clock.seen)
            loss = loss * float("nan")
        return loss, {"a": loss.detach().mean()}

    def b_turn(self, batch: Batch, clock: Clock) -> tuple[Tensor, Mapping[str, Tensor]]:
        loss = (self.nets["b"](batch["x"]) - 1).square().mean()
        return loss, {"b": loss.detach()}


class Counter:
    def __init__(self) -> None:
        self.count, self.trail = 0, torch.zeros(3)

    def state_dict(self) -> dict:
        return {"count": self.count, "trail": self.trail}

    def load_state_dict(self, state: dict) -> None:
        self.count, self.trail = state["count"], state["trail"]


def stream(first: int, count: int) -> dict[str, Tensor]:
    rows = [torch.randn(4, generator=torch.Generator().manual_seed(i % 50)) for i in range(first, first + count)]
    return {"x": torch.stack(rows)}


def weights(method: Toy) -> dict[str, Tensor]:
    return {f"{n}.{k}": v.clone() for n, net in method.nets.items() for k, v in net.state_dict().items()}
