"""What every translator must keep."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from limner import networks
from limner.core.images import ImageSpec
from limner.networks import resnet, unet

HOMES = {"unet": unet, "resnet": resnet}
every_home = pytest.mark.parametrize("name", networks.TRANSLATORS)


@every_home
@pytest.mark.parametrize("spec", [ImageSpec(1, 28, 28), ImageSpec(3, 32, 32), ImageSpec(4, 17, 41)], ids=str)
def test_contract(name: str, spec: ImageSpec) -> None:
    torch.manual_seed(0)
    home = HOMES[name]
    net = home.Translator(spec, home.TINY)
    x = torch.rand(2, spec.channels, *spec.size) * 2 - 1
    y = net(x)
    assert y.shape == x.shape and y.dtype == torch.float32 and y.abs().max() <= 1
    (y - x).square().sum().backward()
    # a bias before instance normalization is subtracted again
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    net.eval()
    torch.testing.assert_close(net(x)[:1], net(x[:1]), atol=1e-5, rtol=1e-4)
    for size in ((net.least, net.least), (net.least + 3, 50)):
        other = torch.rand(1, spec.channels, *size)
        assert net(other).shape == other.shape


@every_home
def test_rebuilt_from_its_description(name: str) -> None:
    torch.manual_seed(0)
    spec, tiny = ImageSpec(3, 32, 32), HOMES[name].TINY
    nets = networks.translators(name, spec, tiny, ["a2b", "b2a"])
    described = networks.describe(name, tiny) | {"directions": ["a2b", "b2a"]}
    again = networks.rebuild_translators(spec, described)
    again.load_state_dict(nets.state_dict(), assign=True)
    x = torch.randn(1, 3, 32, 32)
    assert torch.equal(again["b2a"].eval()(x), nets["b2a"].eval()(x))
    for wrong in ({}, {"architecture": "os"}, described | {"directions": ["up"]}, described | {"config": {"width": "x"}}):
        with pytest.raises(ValueError, match=r"^[^\n]+\.$"):
            networks.rebuild_translators(spec, wrong)


def test_keeping_starts_near_the_picture_and_reaches_every_colour() -> None:
    torch.manual_seed(0)
    spec = ImageSpec(3, 17, 24)
    net = resnet.Translator(spec, replace(resnet.TINY, attention_mask=True))
    x = torch.rand(2, 3, *spec.size) * 2 - 1
    y = net(x)
    assert y.shape == x.shape and y.abs().max() <= 1 and 0 < (y - x).abs().mean() < 0.1
    y.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    white = torch.ones(1, 3, 32, 32)
    moves = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(60):  # a border of the range is no trap
        moves.zero_grad()
        (net(white) + 1).abs().mean().backward()
        moves.step()
    assert net(white).max() < -0.9


def test_blocks_follow_the_resolution_and_features_come_for_free() -> None:
    small, large = (resnet.Translator(ImageSpec(3, s, s), resnet.Config(width=4)) for s in (64, 256))
    count = [sum(isinstance(m, resnet.ResnetBlock) for m in net.modules()) for net in (small, large)]
    assert count == [6, 9]
    x = torch.randn(1, 3, 64, 64)
    y, features = small.with_features(x)
    assert torch.equal(y, small(x)) and [f.shape[1] for f in features] == small.feature_widths
    assert all(torch.equal(f, g) for f, g in zip(features, small.features(x), strict=True))
