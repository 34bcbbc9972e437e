"""What single families promise, against closed forms and the papers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from limner.core import latents
from limner.core.condition import Condition
from limner.core.images import ImageSpec
from limner.networks import biggan, dcgan, fastgan, progan, r3gan, stylegan2
from limner.networks.attention import SelfAttention, attended
from limner.networks.batch_stats import CrossSampleLayer, MinibatchDiscrimination, MinibatchStddev
from limner.networks.contracts import ProgressiveNet, SelfSupervised, StyleBased, growth
from limner.networks.equalized import EqualConv2d, EqualLinear, pixel_norm, rectified
from limner.networks.layers import SpectralUpConv2d
from limner.recipes import gan
from limner.recipes.config import Recipe

SPEC = ImageSpec(3, 32, 32)


# ---- equalized rates -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: EqualLinear(300, 400), (64, 300)),
        (lambda: EqualLinear(300, 400, lr_multiplier=0.01), (64, 300)),
        (lambda: EqualConv2d(40, 50, 3), (8, 40, 12, 12)),
        (lambda: EqualConv2d(80, 90, 1), (8, 80, 12, 12)),
    ],
    ids=["linear", "slow linear", "3x3", "1x1"],
)
def test_equalised_layers_keep_unit_variance_with_unit_weights(layer, shape) -> None:
    torch.manual_seed(0)
    made = layer()
    inside = made(torch.randn(shape))
    if inside.ndim == 4:
        inside = inside[..., 1:-1, 1:-1]  # away from the zeros around
    assert inside.std().item() == pytest.approx(1, rel=0.05)
    assert made.weight.std().item() * made.__dict__.get("lr_multiplier", 1) == pytest.approx(1, rel=0.05)
    assert rectified(inside).square().mean().item() == pytest.approx(1, rel=0.05)


def test_a_slow_layer_takes_smaller_steps_by_its_rate() -> None:
    """Under Adam, which moves every weight by the learning rate, the effective weight moves by rate times that."""
    moves = []
    for rate in (1.0, 0.01):
        layer = EqualLinear(10, 10, lr_multiplier=rate)
        optimizer = torch.optim.Adam(layer.parameters(), 1e-3)
        before = layer(torch.eye(10)).detach()
        layer(torch.eye(10)).sum().backward()
        optimizer.step()
        moves.append((layer(torch.eye(10)) - before).abs().mean().item())
    assert moves[1] / moves[0] == pytest.approx(0.01, rel=1e-3)


def test_pixel_norm_gives_every_pixel_a_mean_square_of_one() -> None:
    x = pixel_norm(torch.randn(2, 5, 3, 4) * 7)
    torch.testing.assert_close(x.square().mean(1), torch.ones(2, 3, 4))


# ---- modulation ------------------------------------------------------------------------------------------------------


def test_demodulation_equals_a_convolution_of_its_own_a_picture() -> None:
    torch.manual_seed(0)
    layer = stylegan2.Modulated(6, 5, 3, 4).double()
    x, w = torch.randn(3, 6, 7, 8, dtype=torch.double), torch.randn(3, 4, dtype=torch.double)
    styles = layer.style(w)
    for i in range(3):
        scaled = layer.conv.weight * layer.conv.scale * styles[i][None, :, None, None]  # eq. 1
        scaled = scaled / (scaled.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()  # eq. 3
        want = F.conv2d(x[i : i + 1], scaled, padding=1)
        # the layer computes its factors in fp32 by design
        torch.testing.assert_close(layer(x, w)[i : i + 1], want, rtol=1e-5, atol=1e-6)


def test_demodulation_gives_unit_variance_whatever_the_style() -> None:
    torch.manual_seed(0)
    layer = stylegan2.Modulated(64, 64, 3, 8)
    y = layer(torch.randn(8, 64, 16, 16), torch.randn(8, 8) * 20)[..., 1:-1, 1:-1]
    torch.testing.assert_close(y.std((1, 2, 3)), torch.ones(8), rtol=0.05, atol=0.05)


def test_styles_can_be_mixed_and_doubling_is_the_papers_filter() -> None:
    torch.manual_seed(0)
    generator = stylegan2.Generator(SPEC, stylegan2.TINY_GENERATOR).eval()
    assert isinstance(generator, StyleBased)
    w = generator.mapping(torch.randn(2, 8), None)
    whole = generator.synthesis(w[:, None].expand(-1, generator.layers, -1))
    mixed = w[:, None].repeat(1, generator.layers, 1)
    mixed[:, -2:] = w.flip(0)[:, None]
    assert not torch.allclose(generator.synthesis(mixed), whole)
    x = torch.randn(1, 1, 6, 6)
    taps = torch.tensor([1.0, 3, 3, 1]) / 4
    want = F.conv_transpose2d(x, torch.outer(taps, taps)[None, None], stride=2, padding=1)
    torch.testing.assert_close(stylegan2.upsampled(x)[..., 1:-1, 1:-1], want[..., 1:-1, 1:-1])


def test_noise_is_fresh_in_training_and_still_after() -> None:
    generator = stylegan2.Generator(SPEC, stylegan2.TINY_GENERATOR)
    for name, p in generator.named_parameters():
        if name.endswith("strength"):
            torch.nn.init.ones_(p)
    z = torch.randn(2, 8)
    assert not torch.equal(generator(z), generator(z))
    generator.eval()
    assert torch.equal(generator(z), generator(z))


# ---- growth ----------------------------------------------------------------------------------------------------------


def test_growth_holds_and_fades_in_turn_and_ends_whole() -> None:
    levels = [growth(i / 100, 2, 0.4) for i in range(101)]
    assert levels[0] == 0 and levels[10] == 0 and levels[15] == pytest.approx(0.5) and levels[25] == 1
    assert levels[35] == pytest.approx(1.5) and levels[40] == 2 and levels[100] == 2
    assert levels == sorted(levels)
    assert growth(0.0, 3, 0.0) == 3


def test_growing_is_continuous_and_small_levels_show_small_pictures() -> None:
    torch.manual_seed(0)
    generator, discriminator = progan.Generator(SPEC, progan.TINY_GENERATOR).eval(), progan.Discriminator(SPEC, progan.TINY_DISCRIMINATOR).eval()
    assert isinstance(generator, ProgressiveNet)
    z, x = torch.randn(2, 8), torch.randn(2, 3, 32, 32)
    generator.at(0.0)
    coarse = generator(z)
    torch.testing.assert_close(coarse, F.interpolate(F.avg_pool2d(coarse, 8), scale_factor=8))  # 4x4, enlarged
    edge = generator.share / 6  # depth 3: six periods
    for k in range(1, 6):
        values = []
        for progress in (edge * k - 1e-5, edge * k + 1e-5):
            generator.at(progress)
            discriminator.at(progress)
            values.append((generator(z), discriminator(generator.at_level(x))))
        for a, b in zip(*values, strict=True):
            torch.testing.assert_close(a, b, atol=2e-3, rtol=2e-3)
    generator.at(1.0)
    assert torch.equal(generator.at_level(x), x)


def test_real_pictures_fade_with_the_level() -> None:
    generator = progan.Generator(ImageSpec(1, 17, 21), progan.TINY_GENERATOR)  # two doublings
    x = torch.randn(3, 1, 17, 21)
    generator.at(generator.share * 0.375)  # half of level 1 faded in
    assert generator.level == pytest.approx(0.5)
    assert generator.at_level(x).shape == x.shape and not torch.equal(generator.at_level(x), x)
    flat = torch.full((1, 1, 17, 21), 0.25)
    torch.testing.assert_close(generator.at_level(flat), flat)


def test_a_trained_growing_net_keeps_its_level() -> None:
    one, two = progan.Generator(SPEC, progan.TINY_GENERATOR).eval(), progan.Generator(SPEC, progan.TINY_GENERATOR).eval()
    one.at(0.3)
    two.load_state_dict(one.state_dict())
    z = torch.randn(2, 8)
    assert two.level == one.level and torch.equal(one(z), two(z))
    traced = torch.export.export(two, (z,)).module()  # an exporter sees the level that was loaded
    torch.testing.assert_close(traced(z), one(z))


# ---- across rows -----------------------------------------------------------------------------------------------------


def test_minibatch_deviation_is_the_groups_own() -> None:
    torch.manual_seed(0)
    layer = MinibatchStddev(group=2)
    x = torch.randn(4, 3, 5, 5)
    y = layer(x)
    assert y.shape == (4, 4, 5, 5) and torch.equal(y[:, :3], x)
    for group in (x[:2], x[2:]):
        want = (group.var(0, correction=0) + 1e-8).sqrt().mean()
        assert any(torch.allclose(y[i, 3], want.expand(5, 5)) for i in range(4))
    assert layer(x[:1].repeat(4, 1, 1, 1))[:, 3].max() < 1e-3  # all alike: no deviation
    assert layer(x[:3]).shape == (3, 4, 5, 5)  # a batch that two does not divide
    assert torch.equal(layer(x)[2:], layer(x[2:]))  # slices of whole groups form the same groups


@pytest.mark.parametrize("rows", [5, 7, 25])
def test_minibatch_deviation_sees_a_batch_that_no_group_divides(rows: int) -> None:
    x = torch.randn(rows, 3, 4, 4)
    want = (x.var(0, correction=0) + 1e-8).sqrt().mean()
    torch.testing.assert_close(MinibatchStddev()(x)[:, 3], want.expand(rows, 4, 4))


@pytest.mark.parametrize("make", [MinibatchStddev, lambda: MinibatchDiscrimination(6, 3)], ids=["stddev", "distances"])
def test_out_of_training_a_row_ignores_the_others(make) -> None:
    layer = make()
    assert isinstance(layer, CrossSampleLayer)
    x = torch.randn(8, 6, 2, 2) if isinstance(layer, MinibatchStddev) else torch.randn(8, 6)
    for _ in range(200):
        trained = layer(x)
    layer.eval()
    assert torch.equal(layer(x)[:1], layer(x[:1]))
    mean = trained[:, 6:].mean(0).flatten()
    torch.testing.assert_close(layer(x)[0, 6:].flatten(), mean, rtol=1e-2, atol=1e-2)


def test_minibatch_discrimination_counts_the_close_ones() -> None:
    torch.manual_seed(0)
    layer = MinibatchDiscrimination(4, 2)
    alike = layer(torch.ones(5, 4))
    torch.testing.assert_close(alike[:, 4:], torch.full((5, 2), 4.0))  # four others, each at distance 0
    apart = layer(torch.randn(5, 4) * 1000)
    assert apart[:, 4:].max() < 1e-3


def test_dcgans_critic_takes_discrimination_and_does_without_norms() -> None:
    config = dcgan.DiscriminatorConfig(width=8, minibatch_kernels=5, batch_norm=False)
    discriminator = dcgan.Discriminator(SPEC, config)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in discriminator.modules())
    x = torch.randn(4, 3, 32, 32)
    for p in discriminator.parameters():
        torch.nn.init.normal_(p, 0, 0.1)
    alone = discriminator(x)
    assert not torch.allclose(discriminator(x[:1].repeat(4, 1, 1, 1))[0], alone[0])  # rows see each other
    alone.sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in discriminator.parameters())


# ---- a reference batch --------------------------------------------------------------------------------------------------


def test_the_reference_stays_what_it_was_and_training_rows_do_not_see_each_other() -> None:
    spec = ImageSpec(1, 16, 16, Condition.classes(2))
    torch.manual_seed(0)
    generator = dcgan.Generator(spec, replace(dcgan.TINY_GENERATOR, norm="virtual", reference_batch=6)).train()
    before = {key: value.clone() for key, value in generator.named_buffers()}
    assert before["reference_z"].shape == (6, 8) and before["reference_c"].tolist() == [0, 1] * 3
    z, y = torch.randn(4, 8), torch.arange(4) % 2
    x = generator(z, y)
    x.square().mean().backward()
    torch.testing.assert_close(generator(z[1:3], y[1:3]), x[1:3])  # as batch normalization's would not
    assert all(torch.equal(value, before[key]) for key, value in generator.named_buffers())
    x = generator.eval()(z, y)
    generator.reference_z += 1
    assert not torch.allclose(generator(z, y), x, atol=1e-3)


def test_a_reference_is_of_the_kind_of_noise_that_is_trained_on() -> None:
    config = replace(dcgan.TINY_GENERATOR, norm="virtual", reference_batch=200)
    kinds = {}
    for noise in ("normal", "uniform"):
        torch.manual_seed(0)
        recipe = Recipe(architecture="dcgan", generator=config, discriminator=dcgan.TINY_DISCRIMINATOR, noise=noise)
        kinds[noise] = gan.players(recipe, ImageSpec(1, 16, 16))["generator"].reference_z
    assert kinds["uniform"].abs().max() <= 1 < kinds["normal"].abs().max()
    torch.testing.assert_close(kinds["uniform"], latents.transform(kinds["normal"], "uniform"))


@pytest.mark.parametrize("size", [(28, 28), (36, 44)], ids=str)
def test_progans_cells_are_those_its_critic_pools(size: tuple[int, int]) -> None:
    """The first level at sizes that are no multiple of its cells: real pictures shown at it are made of the same cells."""
    generator = progan.Generator(ImageSpec(3, *size), progan.TINY_GENERATOR)
    generator.at(0.0)
    x = generator(torch.randn(2, generator.z_size))
    cell = 2**generator.depth
    assert torch.equal(x, x[..., ::cell, ::cell].repeat_interleave(cell, 2).repeat_interleave(cell, 3)[..., : size[0], : size[1]])


@pytest.mark.parametrize(("size", "halvings"), [((64, 64), 1), ((128, 128), 2), ((64, 256), 2), ((16, 512), 2), ((8, 64), 1)])
def test_attention_never_looks_at_more_places_than_a_square_has(size: tuple[int, int], halvings: int) -> None:
    assert attended(ImageSpec(3, *size)) == halvings


# ---- attention, latents, lessons -------------------------------------------------------------------------------------


def test_attention_starts_as_the_identity_and_then_reaches_everywhere() -> None:
    torch.manual_seed(0)
    layer = SelfAttention(8).eval()
    x = torch.randn(1, 8, 6, 4, requires_grad=True)
    assert torch.equal(layer(x), x)
    torch.nn.init.ones_(layer.gain)
    layer(x)[0, :, 0, 0].sum().backward()
    assert x.grad is not None and x.grad[0, :, -2:, -2:].abs().sum() > 0  # the far corner is seen
    assert attended(ImageSpec(3, 128, 128)) == 2 and attended(SPEC) == 1 and attended(ImageSpec(3, 16, 16)) == 1


def test_spectral_doubling_is_of_norm_one() -> None:
    torch.manual_seed(0)
    layer = SpectralUpConv2d(3, 4)
    x = torch.randn(2, 3, 5, 5)
    layer.eval()
    want = F.conv2d(F.interpolate(x, scale_factor=2), layer.normalized(), layer.bias, padding=1)
    torch.testing.assert_close(layer(x), want, rtol=1e-4, atol=1e-5)
    assert torch.linalg.matrix_norm(layer.normalized().flatten(1), 2).item() == pytest.approx(1, abs=0.05)


def test_each_part_of_biggans_latent_enters_at_its_level() -> None:
    torch.manual_seed(0)
    generator = biggan.Generator(SPEC, biggan.TINY_GENERATOR).eval()
    assert sum(generator.chunks) == generator.z_size and len(generator.chunks) == 4
    z = torch.randn(1, 8)
    for start in range(0, 8, 2):
        other = z.clone()
        other[:, start : start + 2] += 3
        assert not torch.allclose(generator(other), generator(z), atol=1e-6)
    with pytest.raises(ValueError, match="shared out over 4 levels"):
        biggan.Generator(SPEC, biggan.GeneratorConfig(z_size=3))


@pytest.mark.parametrize("spec", [SPEC, ImageSpec(1, 17, 41), ImageSpec(4, 20, 36, Condition.classes(3)), ImageSpec(3, 64, 64)], ids=str)
def test_fastgans_lesson_can_be_learned(spec: ImageSpec) -> None:
    torch.manual_seed(0)
    discriminator = fastgan.Discriminator(spec, fastgan.TINY_DISCRIMINATOR)
    assert isinstance(discriminator, SelfSupervised)
    x = torch.tanh(torch.randn(4, spec.channels, 1, 1)).expand(-1, -1, *spec.size)  # plain colors
    y = torch.arange(4) % spec.classes if spec.classes else None
    optimizer = torch.optim.Adam(discriminator.parameters(), 1e-2)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        _, loss = discriminator.forward_with_aux(x, y, torch.rand(4))
        assert loss.shape == (4,)
        loss.sum().backward()
        optimizer.step()
        losses.append(loss.mean().item())
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("size", [(32, 32), (28, 28), (44, 28)], ids=str)
def test_fastgans_lesson_compares_a_quarter_with_the_pixels_it_stands_for(size: tuple[int, int]) -> None:
    """A discriminator that keeps its cells' colors paints them back without an error, wherever the map's sides are odd too."""
    discriminator = fastgan.Discriminator(ImageSpec(3, *size), fastgan.TINY_DISCRIMINATOR)
    cell = 2 ** (discriminator.depth - 1)
    colors = torch.randn(4, 3, size[0] // cell, size[1] // cell)
    discriminator.whole, discriminator.part = torch.nn.Identity(), torch.nn.Upsample(scale_factor=2)  # type: ignore[assignment]
    x = colors.repeat_interleave(cell, 2).repeat_interleave(cell, 3)
    assert discriminator.aux_loss(x, colors, colors, torch.tensor([0.1, 0.3, 0.6, 0.9])).max() < 1e-5


def test_fastgans_small_maps_switch_large_ones() -> None:
    layer = fastgan.Excitation(4, 3, (4, 5), 1)
    large = torch.randn(2, 3, 32, 40)
    y = layer(torch.randn(2, 4, 8, 10), large)
    ratio = (y / large).flatten(2)
    torch.testing.assert_close(ratio, ratio[:, :, :1].expand_as(ratio), rtol=1e-3, atol=1e-4)
    assert ratio.min() > 0 and ratio.max() < 1


# ---- R3GAN -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "group", "groups"), [(64, 16, 4), (50, 16, 2), (40, 12, 2), (8, 32, 1)])
def test_r3gans_groups_divide_any_width(width: int, group: int, groups: int) -> None:
    assert r3gan.ResidualBlock(width, group, 4).mix.groups == groups
