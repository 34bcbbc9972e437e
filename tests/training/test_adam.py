"""`training.adam` against PyTorch's own."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from limner.training.adam import Adam, AdamW


def networks(count: int) -> list[nn.Module]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 7, 3), nn.ConvTranspose2d(7, 5, 4), nn.Conv2d(5, 3, 1), nn.Flatten(), nn.Linear(147, 3), nn.Linear(3, 3))
    return [copy.deepcopy(net).to(memory_format=torch.channels_last) for _ in range(count)]


def train(net: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        optimizer.zero_grad()
        layers = net if step % 2 else net[:-1]  # the last layer is not used in every step
        x = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(step))
        layers(x.to(memory_format=torch.channels_last)).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize(("ours", "theirs"), [(Adam, torch.optim.Adam), (AdamW, torch.optim.AdamW)])
def test_a_step_is_pytorchs_bit_for_bit(ours: type[Adam], theirs: type[torch.optim.Optimizer]) -> None:
    a, b = networks(2)
    options = {"lr": 1e-2, "betas": (0.5, 0.99), "weight_decay": 0.1}
    mine, its = ours(a.parameters(), **options), theirs(b.parameters(), fused=True, **options)
    train(a, mine, range(4))
    train(b, its, range(4))
    mine.load_state_dict(copy.deepcopy(its.state_dict()))  # their state is ours
    train(a, mine, range(4, 7))
    train(b, its, range(4, 7))
    for one, two in zip(a.parameters(), b.parameters(), strict=True):
        assert torch.equal(one, two)
        assert all(torch.equal(mine.state[one][key], its.state[two][key]) for key in ("step", "exp_avg", "exp_avg_sq"))
