"""State of methods besides the networks: running means, the ADA controller, the mean of past weights.

The values are exact for any number of ranks and slices: what is added in a batch is summed over both, and takes effect from
the next batch on. A checkpoint between two batches holds everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from limner.core import distributed


class Tally:
    """Sums of named values over a batch."""

    def __init__(self) -> None:
        self.sums: dict[str, list[float]] = {}  # name -> [sum, count]

    def add(self, name: str, values: Tensor) -> None:
        """Add values [n] of this slice; every rank must make the same calls."""
        wide = torch.float32 if values.device.type == "mps" else torch.float64  # Apple GPUs have no float64
        found = torch.stack([values.detach().to(wide).sum(), values.new_tensor(values.numel(), dtype=wide)])
        distributed.all_reduce_in_place([found])
        total, count = self.sums.get(name, [0.0, 0.0])
        self.sums[name] = [total + found[0].item(), count + found[1].item()]

    def copy(self) -> dict[str, list[float]]:
        return {name: list(pair) for name, pair in self.sums.items()}

    def take(self) -> dict[str, tuple[float, float]]:
        """Return name -> (mean, count), and reset."""
        taken = {name: (total / count, count) for name, (total, count) in self.sums.items()}
        self.sums = {}
        return taken


class RunningMeans:
    """Exponential moving averages of named values by batch; zero before the end of the first batch."""

    def __init__(self, names: Sequence[str], decay: float = 0.99) -> None:
        self.means = dict.fromkeys(names, 0.0)
        self.decay = decay
        self.seen = -1
        self.tally = Tally()

    def begin(self, seen: int) -> None:
        """Start the batch after `seen` images: values of the previous batch enter the means."""
        if seen == self.seen:
            return
        self.seen = seen
        for name, (mean, _) in self.tally.take().items():
            self.means[name] = self.decay * self.means[name] + (1 - self.decay) * mean

    def note(self, name: str, values: Tensor) -> None:
        self.tally.add(name, values)

    def mean(self, name: str) -> float:
        return self.means[name]

    def state_dict(self) -> dict[str, Any]:
        return {"means": dict(self.means), "seen": self.seen, "sums": self.tally.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.means, self.seen = dict(state["means"]), state["seen"]
        self.tally.sums = {name: list(pair) for name, pair in state["sums"].items()}


class Adaptive:
    """The controller of ADA's augmentation probability.

    Karras et al. 2020, "Training generative adversarial networks with limited data", section 3.2: r_t = E[sign(D)] over real
    training pictures measures overfitting; every `interval` batches the probability is raised when r_t is above the target
    and lowered otherwise, at a speed at which it goes from 0 to 1 within `images`.
    """

    def __init__(self, target: float = 0.6, images: int = 500_000, interval: int = 4, most: float = 0.8) -> None:
        self.target, self.images, self.interval = target, images, interval
        self.most = most  # above it, augmentations leak into the generated pictures (figure 4)
        self.p, self.rate, self.batches, self.seen = 0.0, 0.0, 0, -1
        self.tally = Tally()

    def begin(self, seen: int) -> None:
        """Start the batch after `seen` images; every `interval` batches, this adjusts the probability."""
        if seen == self.seen:
            return
        self.seen = seen
        self.batches += 1
        if self.batches % self.interval:
            return
        for rate, count in self.tally.take().values():
            self.rate, step = rate, count / self.images
            self.p = min(self.most, max(0.0, self.p + (step if self.rate > self.target else -step)))

    def note(self, margins: Tensor) -> None:
        """Add the discriminator's logits [n] of real pictures, minus the value at which it is undecided."""
        self.tally.add("sign", margins.detach().sign())

    def state_dict(self) -> dict[str, Any]:
        names = ("p", "rate", "batches", "seen")
        return {name: getattr(self, name) for name in names} | {"sums": self.tally.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.p, self.rate, self.batches, self.seen = (state[name] for name in ("p", "rate", "batches", "seen"))
        self.tally.sums = {name: list(pair) for name, pair in state["sums"].items()}


class History:
    """The mean of all past weights of a player, and its distance from the current ones.

    Salimans et al. 2016, "Improved techniques for training GANs", section 3.3: historical averaging.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.parameters = parameters
        self.means = [p.detach().clone() for p in parameters]
        self.count, self.seen = 0, -1

    def distance(self, seen: int) -> Tensor:
        """Return |theta - mean|^2, []; the first call in a batch adds the current weights to the mean."""
        if seen != self.seen:
            self.seen = seen
            self.count += 1
            now = [p.detach() for p in self.parameters]
            with torch.no_grad():
                torch._foreach_lerp_(self.means, now, 1 / self.count)
        apart = [(p - mean).float().square().sum() for p, mean in zip(self.parameters, self.means, strict=True)]
        return torch.stack(apart).sum()

    def state_dict(self) -> dict[str, Any]:
        return {str(i): mean for i, mean in enumerate(self.means)} | {"count": self.count, "seen": self.seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count, self.seen = state["count"], state["seen"]
        for i, mean in enumerate(self.means):
            mean.copy_(state[str(i)])
