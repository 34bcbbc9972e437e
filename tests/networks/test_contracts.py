"""What every architecture must keep, parametrized over what exists."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from limner import networks
from limner.core.condition import Condition
from limner.core.images import ImageSpec
from limner.core.options import replace
from limner.networks import contracts
from limner.networks.contracts import ProgressiveNet, SelfSupervised
from limner.recipes.config import Recipe

SPECS = [
    ImageSpec(1, 28, 28, Condition.classes(10)),
    ImageSpec(3, 32, 32),
    ImageSpec(4, 20, 36, Condition.classes(3)),
    ImageSpec(3, 16, 16),
    ImageSpec(1, 17, 41),
]
VARIANTS: dict[str, dict[str, Any]] = {  # options that make another network of an architecture
    "conv, patches": {"generator.patch": 2, "generator.upsampling": "nearest", "discriminator.patch": 2, "discriminator.gain": 6.0},
    "dcgan, virtual norm": {"generator.norm": "virtual", "generator.reference_batch": 6, "discriminator.minibatch_kernels": 3},
}
every_architecture = pytest.mark.parametrize("name", [*networks.NAMES, *VARIANTS])
every_spec = pytest.mark.parametrize("spec", SPECS, ids=str)


def tiny(name: str) -> tuple[str, Any, Any]:
    """The architecture of a name or variant, and the smallest configs of its two networks."""
    plain = name.split(",")[0]
    home = networks.architecture(plain)
    both = Recipe(architecture=plain, generator=home.TINY_GENERATOR, discriminator=home.TINY_DISCRIMINATOR)
    both = replace(both, VARIANTS.get(name, {}))
    return plain, both.generator, both.discriminator


def build(name: str, spec: ImageSpec) -> tuple[torch.nn.Module, torch.nn.Module]:
    torch.manual_seed(0)
    plain, generator, discriminator = tiny(name)
    home = networks.architecture(plain)
    return home.Generator(spec, generator), home.Discriminator(spec, discriminator)


def inputs(generator: torch.nn.Module, spec: ImageSpec, n: int = 4) -> tuple[torch.Tensor, torch.Tensor | None]:
    y = torch.arange(n) % spec.classes if spec.classes else None
    return torch.randn(n, generator.z_size), y


def test_every_network_keeps_its_contract() -> None:
    spec = ImageSpec(3, 32, 32)
    for name in networks.NAMES:
        generator, discriminator = build(name, spec)
        assert isinstance(generator, contracts.Generator) and isinstance(discriminator, contracts.Discriminator), name
        assert not isinstance(discriminator, contracts.Generator | contracts.Translator), name
    for name in networks.TRANSLATORS:
        translator = networks.translators(name, spec, import_module(f"limner.networks.{name}").TINY, ["a2b"])["a2b"]
        assert isinstance(translator, contracts.Translator) and not isinstance(translator, contracts.Generator), name
    for name in networks.AUTOENCODERS:
        home = import_module(f"limner.networks.{name}")
        assert isinstance(home.Autoencoder(spec, home.TINY), contracts.Autoencoder), name


@every_architecture
@every_spec
def test_shapes_types_and_range(name: str, spec: ImageSpec) -> None:
    generator, discriminator = build(name, spec)
    z, y = inputs(generator, spec)
    x = generator(z, y)
    assert x.shape == (4, spec.channels, *spec.size) and x.dtype == torch.float32
    assert x.abs().max() < 20  # tanh or a sane linear end
    logits = discriminator(x, y)
    assert logits.shape == (4,) and logits.dtype == torch.float32


@every_architecture
@every_spec
def test_gradient_reaches_every_parameter(name: str, spec: ImageSpec) -> None:
    generator, discriminator = build(name, spec)
    # Fixup starts the last convolution of each branch at zero, which hides those before it from the first gradient
    for net in (generator, discriminator):
        for p in net.parameters():
            if not p.any():
                torch.nn.init.normal_(p, 0, 0.1)
    z, y = inputs(generator, spec, 2 * max(4, spec.classes))
    real = torch.randn(len(z), spec.channels, *spec.size)
    # a growing net has layers that are in play at some of its levels only
    for progress in (0.0, 0.1, 0.2, 0.3, 0.4, 0.45, 1.0) if isinstance(discriminator, ProgressiveNet) else (1.0,):
        for net in (generator, discriminator):
            if isinstance(net, ProgressiveNet):
                net.at(progress)
        (discriminator(generator(z, y), y).square().sum() + discriminator(real, y).square().sum()).backward()
    if isinstance(discriminator, SelfSupervised):
        discriminator.forward_with_aux(real, y, torch.rand(len(real)))[1].sum().backward()
    for net in (generator, discriminator):
        for key, p in net.named_parameters():
            assert p.grad is not None and p.grad.isfinite().all() and p.grad.any(), key


@every_architecture
def test_eval_is_deterministic_and_rows_are_independent(name: str) -> None:
    spec = SPECS[0]
    generator, discriminator = (net.eval() for net in build(name, spec))
    z, y = inputs(generator, spec)
    assert y is not None
    x = generator(z, y)
    assert torch.equal(x, generator(z, y))
    changed = z.clone()
    changed[1:] += 1
    torch.testing.assert_close(generator(changed, y)[0], x[0])
    torch.testing.assert_close(discriminator(x, y)[2:], discriminator(x[2:], y[2:]))


@every_architecture
def test_label_matters(name: str) -> None:
    spec = SPECS[0]
    generator, discriminator = (net.eval() for net in build(name, spec))
    for net in (generator, discriminator):
        for p in net.parameters():  # conditional norms start alike for all classes
            p.data += 0.3 * torch.randn_like(p)
    z = torch.randn(1, generator.z_size).repeat(2, 1)
    x = generator(z, torch.tensor([0, 7]))
    assert not torch.allclose(x[0], x[1])
    logits = discriminator(x[:1].repeat(2, 1, 1, 1), torch.tensor([0, 7]))
    assert logits[0] != logits[1]
    with pytest.raises(AssertionError, match="conditioned on 10 classes"):
        generator(z)


@every_architecture
@every_spec
def test_saved_and_rebuilt_from_its_description(name: str, spec: ImageSpec) -> None:
    generator, _ = build(name, spec)
    generator.eval()
    z, y = inputs(generator, spec)
    described = networks.describe(*tiny(name)[:2])
    raw = save_tensors({k: v.contiguous() for k, v in generator.state_dict().items()})
    again = networks.rebuild_generator(spec, described)
    assert all(t.is_meta for t in again.state_dict().values())
    again.load_state_dict(load_tensors(raw), assign=True)
    assert torch.equal(again.eval()(z, y), generator(z, y))


@every_architecture
def test_bf16_and_channels_last_agree_with_fp32(name: str) -> None:
    spec = SPECS[1]
    generator, discriminator = (net.eval() for net in build(name, spec))
    z, y = inputs(generator, spec)
    x = generator(z, y)
    logits = discriminator(x, y)
    for net in (generator, discriminator):
        net.to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        wrong = (generator(z, y) - x).abs() > 0.05 + 0.05 * x.abs()
        assert wrong.float().mean() < 0.01  # pixel normalization enlarges the rounding of the odd dark pixel
        torch.testing.assert_close(discriminator(x, y), logits, atol=0.05 * max(1, logits.abs().max().item()), rtol=0.05)


@pytest.mark.parametrize(
    "description",
    [
        {},
        {"architecture": "conv"},
        {"architecture": "conv", "config": {"color": 3}},
        {"architecture": "conv", "config": {"width": "wide"}},
        {"architecture": "conv", "config": {"width": -4}},
        {"architecture": "dcgan", "config": {"norm": "layer"}},
        {"architecture": "dcgan", "config": {"norm": "virtual", "reference_batch": 1}},
        {"architecture": "../../evil", "config": {}},
    ],
    ids=str,
)
def test_a_description_that_cannot_be_built_is_a_sentence(description: dict) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+\.$"):
        networks.rebuild_generator(SPECS[0], description)


def test_every_architecture_names_its_source() -> None:
    for name in networks.NAMES:
        home = networks.architecture(name)
        assert any(character.isdigit() for character in home.SOURCE) and home.__doc__
