"""Restoration: closed forms of the losses, whose turn moves whom, and when the sharpening losses set in."""

from __future__ import annotations

import pytest
import torch

from limner.core.images import ImageSpec
from limner.losses.adversarial import objective
from limner.methods.phase import Batch, Clock
from limner.methods.restore import EPSILON, Restoration, charbonnier, ramp
from limner.networks import patch, plain, restoration_unet
from limner.networks.restoration import network_input

SPEC = ImageSpec(3, 32, 32)


def batch_of(scale: int, mask: bool = False) -> Batch:
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(4, 3, 32, 32, generator=generator) * 2 - 1
    tensors = {"image": target[..., ::scale, ::scale].clone(), "target": target}
    if mask:
        tensors["mask"] = torch.zeros(4, 1, 32, 32, dtype=torch.uint8)
        tensors["mask"][:, :, 8:16, 8:24] = 1
        tensors["image"][tensors["mask"].bool().expand(-1, 3, -1, -1)] = 0.0
    return Batch(tensors, 0, 4)


def game(adversarial: float = 0.0, start: float = 0.0) -> Restoration:
    torch.manual_seed(0)
    net = plain.Restorer(SPEC, plain.TINY, 2)
    torch.nn.init.normal_(net.last.weight, 0, 0.1)
    discriminator = patch.Discriminator(SPEC, patch.Config(width=8, norm="spectral")) if adversarial else None
    return Restoration(net, discriminator, objective("relativistic"), adversarial=adversarial, start=start)


def test_charbonnier_is_l1_with_a_smooth_middle() -> None:
    d = torch.tensor([0.0, 1.0, -1.0, 1e-4])
    epsilon = 2 * EPSILON
    torch.testing.assert_close(charbonnier(d), (d**2 + epsilon**2) ** 0.5 - epsilon)
    assert charbonnier(d)[0] == 0 and charbonnier(d)[1] == pytest.approx(1 - epsilon, abs=1e-5)


def test_pixel_loss_is_the_mean_distance_of_each_picture() -> None:
    method, batch = game(), batch_of(2)
    method.distance = torch.abs
    loss, terms = method.restorer_turn(batch, Clock(0, 100, 4))
    with torch.no_grad():
        wanted = (method.restorer(batch["image"]) - batch["target"]).abs().mean((1, 2, 3))
    torch.testing.assert_close(loss.detach(), wanted)
    assert terms["pixel_loss"].item() == pytest.approx(wanted.mean().item())


def test_the_pixel_loss_of_a_hole_is_its_mean_there() -> None:
    net, batch = restoration_unet.Restorer(SPEC, restoration_unet.TINY, 4), batch_of(1, mask=True)
    loss, _ = Restoration(net, loss="l1").restorer_turn(batch, Clock(0, 100, 4))
    made = net(network_input(net, batch["image"], batch["mask"])).detach()
    for error, mask, value in zip((made - batch["target"]).abs(), batch["mask"][:, 0], loss, strict=True):
        assert value.item() == pytest.approx(error[:, mask > 0].mean().item(), rel=1e-5)
    whole = {**batch.tensors, "mask": torch.zeros_like(batch["mask"])}  # no hole: nothing to learn, and not a division by zero
    assert not Restoration(net).restorer_turn(Batch(whole, 0, len(batch)), Clock(0, 100, 4))[0].any()


@pytest.mark.parametrize("player", ["restorer", "discriminator"])
def test_a_turn_moves_its_player_alone(player: str) -> None:
    method, batch = game(adversarial=0.1), batch_of(2)
    turns = {phase.player: phase for phase in method.method.phases}
    turns["restorer"].loss(batch, Clock(0, 100, 4))
    for name, parameters in method.method.players.items():
        for p in parameters:
            p.requires_grad_(name == player)
            p.grad = None
    turns[player].loss(batch, Clock(0, 100, 4))[0].mean().backward()
    for name, parameters in method.method.players.items():
        moved = [p.grad is not None and bool(p.grad.abs().sum() > 0) for p in parameters]
        assert any(moved) if name == player else not any(moved), name


def test_sharpening_losses_set_in_later() -> None:
    method, batch = game(adversarial=0.1, start=0.3), batch_of(2)
    assert "g_loss" not in method.restorer_turn(batch, Clock(30, 100, 4))[1]
    method.discriminator_turn(batch, Clock(30, 100, 4))  # which learns from the start
    assert "g_loss" in method.restorer_turn(batch, Clock(31, 100, 4))[1]
    assert [ramp(f, 0.3) for f in (0.0, 0.3, 0.35, 0.4, 1.0)] == pytest.approx([0, 0, 0.5, 1, 1]) and ramp(0.0, 0.0) == 1


def test_perceptual_distance_is_zero_for_the_same_picture_and_grows() -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    from limner.losses.perceptual import PerceptualLoss

    loss = PerceptualLoss(torch.device("cpu"))
    x = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
    near, far = ((x + s * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))).requires_grad_() for s in (0.05, 0.5))
    assert loss(x, x).tolist() == [0, 0] and bool((loss(near, x) < loss(far, x)).all())
    loss(near, x).sum().backward()
    assert near.grad is not None and bool(near.grad.abs().sum() > 0)
    assert not any(p.requires_grad for p in loss.features.parameters())
    assert loss(x[:, :1], x[:, :1]).tolist() == [0, 0]


def test_without_the_extra_the_perceptual_loss_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from limner.losses import perceptual

    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    perceptual.pretrained.cache_clear()
    perceptual.efficientnet_lite0.cache_clear()
    with pytest.raises(ValueError, match=r"limner\[perceptual\].*--perceptual 0"):
        perceptual.PerceptualLoss(torch.device("cpu"))
