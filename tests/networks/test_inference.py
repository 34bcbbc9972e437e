"""The form in which generators sample computes the same function."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from limner.core.condition import Condition
from limner.core.device import autocast
from limner.core.images import ImageSpec
from limner.networks import NAMES, architecture, conv, dcgan
from limner.networks.contracts import BatchNormalized
from limner.networks.inference import Inference, inference_form

CPU = torch.device("cpu")
CONDITIONS = [Condition(), Condition.classes(3), Condition.vector(5), Condition.tokens(7, 4)]


def trained(network: nn.Module) -> nn.Module:
    """The network with statistics, scales and embeddings that training could have left."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2)
            if isinstance(module, nn.BatchNorm2d) and module.affine:
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.3)
            if isinstance(module, nn.Embedding):
                module.weight.add_(torch.randn_like(module.weight) * 0.2)
    return network.eval()


def generator(name: str, condition: Condition) -> nn.Module:
    """A generator of an architecture; "conv, patches" computes squares of pixels."""
    home = architecture(name.split(",")[0])
    config = conv.GeneratorConfig(z_size=8, width=8, patch=2, upsampling="nearest") if "," in name else home.TINY_GENERATOR
    torch.manual_seed(0)
    return trained(home.Generator(ImageSpec(3, 24, 32, condition), config))


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda c: c.kind)
@pytest.mark.parametrize("name", ["conv", "conv, patches", "dcgan", "sngan", "sagan", "biggan", "fastgan"])
def test_the_inference_form_computes_the_same(name: str, condition: Condition) -> None:
    network = generator(name, condition)
    z, c = torch.randn(6, network.z_size), condition.examples(6)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with torch.inference_mode():
        exact, made = network(z, c), inference_form(network, torch.float32)(z, c)
        assert exact.std() > 0.01 and (made - exact).abs().max() < 1e-5
        with autocast(CPU, torch.bfloat16):
            rounded, folded = network(z, c), inference_form(network, torch.bfloat16)(z, c)
    assert folded.dtype == torch.float32
    rms = lambda error: error.square().mean().sqrt().item()  # noqa: E731
    assert rms(folded - exact) < 1.5 * rms(rounded - exact) + 1e-4  # no more than autocast's own rounding
    assert network.state_dict().keys() == before.keys() and all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_norms_are_folded_where_a_layer_precedes_them() -> None:
    for name in ("conv", "conv, patches", "dcgan", "fastgan"):
        assert not any(isinstance(m, nn.BatchNorm2d) for m in inference_form(generator(name, Condition()), torch.float32).modules())
    for name in ("conv", "sngan"):  # a conditional norm is an affine map by itself
        made = inference_form(generator(name, Condition.classes(3)), torch.float32)
        assert sum(isinstance(m, nn.BatchNorm2d) for m in made.modules()) == (name == "sngan")


def test_blends_of_classes_and_virtual_norms() -> None:
    network = generator("conv", Condition.classes(3))
    z, c = torch.randn(4, network.z_size), torch.rand(4, 3)
    assert (inference_form(network, torch.float32)(z, c) - network(z, c)).abs().max() < 1e-5
    small = trained(conv.Generator(ImageSpec(1, 8, 8), conv.TINY_GENERATOR))  # its only doubling is the last layer
    z = torch.randn(4, 8)
    assert (inference_form(small, torch.float32)(z) - small(z)).abs().max() < 1e-5
    virtual = trained(dcgan.Generator(ImageSpec(1, 32, 32), dcgan.GeneratorConfig(z_size=8, width=8, norm="virtual", reference_batch=8)))
    z = torch.randn(4, 8)
    with torch.no_grad():
        assert (inference_form(virtual, torch.float32)(z) - virtual(z)).abs().max() < 1e-5
        assert (inference_form(virtual, torch.bfloat16)(z) - virtual(z)).abs().max() < 0.05


def test_other_generators_are_left_as_they_are() -> None:
    others = {name for name in NAMES if not isinstance(generator(name, Condition()), BatchNormalized)}
    assert others == {"mlp", "progan", "stylegan2", "r3gan"}
    for name in others:
        network = generator(name, Condition())
        assert inference_form(network, torch.bfloat16) is network
    assert isinstance(inference_form(conv.Generator(ImageSpec(1, 16, 16), conv.TINY_GENERATOR), torch.bfloat16), Inference)
