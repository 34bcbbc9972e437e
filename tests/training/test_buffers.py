"""Integer and boolean buffers: averages hold the network's own, through checkpoint, resume and publishing."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from toy import CPU, PLAN, Toy, stream

from limner.core import artifact
from limner.methods.phase import Batch, Clock
from limner.training.loop import View, fit
from limner.training.state import State
from stopping import StopAt


class Counting(nn.Module):
    """The identity, with a count of what it saw beside a table of flags and a running mean."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros((), dtype=torch.int64))
        self.register_buffer("table", torch.arange(6, dtype=torch.int32))
        self.register_buffer("seen", torch.zeros(6, dtype=torch.bool))
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.rows += len(x)
            self.table.copy_(self.table.roll(1))
            self.seen[int(self.rows) // 8 % 6] = True
            self.mean.lerp_(x.detach().mean(0), 0.5)
        return x


class CountingToy(Toy):
    def __init__(self) -> None:
        super().__init__()
        self.nets["a"].insert(0, Counting())

    def a_turn(self, batch: Batch, clock: Clock):
        loss, terms = super().a_turn(batch, clock)
        return loss + 0 * self.nets["a"](batch["x"]).squeeze(1), terms


def integers(net: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in net.state_dict().items() if not value.is_floating_point()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())


def test_an_average_copies_them_and_averages_the_others() -> None:
    method = CountingToy()
    state = State(method, PLAN.optimizers)
    method.nets["a"](torch.ones(8, 4))
    state.average(0.75)
    average = state.averages["a"]
    assert equal(integers(average), integers(method.nets["a"])) and int(average[0].rows) == 8 and average[0].seen.sum() == 1
    assert integers(average)["0.table"].tolist() == [5, 0, 1, 2, 3, 4]
    torch.testing.assert_close(average[0].mean, torch.full((4,), 0.125))  # a quarter of the network's 0.5
    method.nets["a"](torch.ones(8, 4))
    assert int(average[0].rows) == 8  # a copy, not the same tensor


def test_they_survive_checkpoint_resume_and_publishing(tmp_path: Path) -> None:
    def publish(view: View) -> None:
        artifact.save(view.folder, {"a": view.averages["a"]}, {"kind": "toy"}, "")

    unbroken, broken, resumed = CountingToy(), CountingToy(), CountingToy()
    play = partial(fit, stream=stream, device=CPU, quiet=True, publish=publish)
    play(unbroken, folder=tmp_path / "whole", plan=PLAN)
    play(broken, folder=tmp_path / "parts", plan=PLAN, callbacks=[StopAt(80)])
    assert 0 < int(broken.nets["a"][0].rows) < int(unbroken.nets["a"][0].rows)
    play(resumed, folder=tmp_path / "parts", plan=PLAN)
    want = integers(unbroken.nets["a"])
    assert equal(integers(resumed.nets["a"]), want) and want["0.rows"] > 0 and want["0.seen"].any()
    for folder in ("whole", "parts"):
        with torch.device("meta"):
            net = CountingToy().nets["a"]
        published = artifact.load_weights(tmp_path / folder, "a", net, CPU)
        assert equal(integers(published), want)
    assert {value.dtype for value in want.values()} == {torch.int64, torch.int32, torch.bool}
