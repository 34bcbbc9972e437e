"""Which parameters of networks that were taken over stay as they are: few pictures can train few of them.

    freeze-d    the discriminator's layers at high resolution are not trained (Mo et al. 2020, "Freeze the discriminator: a simple
                baseline for fine-tuning GANs", section 3)
    styles      of the generator, only modulation is trained: scales and shifts of normalizations (Noguchi & Harada 2019, "Image
                generation from small datasets via batch statistics adaptation", section 3.2), style maps, embeddings of classes
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from limner.core.images import ImageSpec
from limner.networks.biggan import ModulatedNorm
from limner.networks.condition import ConditionEmbedding, LinearEmbedding
from limner.networks.layers import ConditionalBatchNorm2d
from limner.networks.stylegan2 import Modulated

ADAPTATIONS = ("full", "freeze-d", "styles")


def frozen(adapt: str, nets: dict[str, nn.Module], spec: ImageSpec, new: Collection[str]) -> list[str]:
    """Return the names (`generator.first.weight`) of the parameters that stay as they are.

    nets: those of a GAN of pictures, by name. new: names of parameters that were not taken over, which are always trained. Raises
    ValueError for networks without such layers.
    """
    if adapt == "full":
        return []
    wanted = {"freeze-d": "discriminator", "styles": "generator"}[adapt]
    if not {"generator", "discriminator"} <= nets.keys() or "encoder" in nets:
        raise ValueError(f"--adapt {adapt} is for GANs of pictures, which this recipe does not train: leave it out.")
    net = nets[wanted]
    if adapt == "freeze-d":
        names = high_resolution(net, spec)
        if not names:
            raise ValueError("--adapt freeze-d needs a discriminator with convolutions at several resolutions: leave it out.")
    else:
        trained = modulation(net)
        if not trained:
            raise ValueError("--adapt styles needs a generator with normalizations or styles, and this one has none: leave it out.")
        names = [name for name, _ in net.named_parameters() if name not in trained]
    return [f"{wanted}.{name}" for name in names if f"{wanted}.{name}" not in new]


def modulation(generator: nn.Module) -> set[str]:
    """Return the names of a generator's parameters that scale or shift its feature maps, or lead to those that do."""
    found: set[str] = set()
    for prefix, module in generator.named_modules():
        if isinstance(module, ConditionalBatchNorm2d | ModulatedNorm | _BatchNorm | ConditionEmbedding | LinearEmbedding):
            found |= {f"{prefix}.{name}" for name, _ in module.named_parameters()}
        elif isinstance(module, Modulated):
            found |= {f"{prefix}.bias", *(f"{prefix}.style.{name}" for name, _ in module.style.named_parameters())}
    return found


@torch.no_grad()
def high_resolution(discriminator: nn.Module, spec: ImageSpec) -> list[str]:
    """Return the names of a discriminator's parameters in the layers whose output is in the upper half of its resolutions.

    The resolutions, those of the outputs of its convolutions on a picture, are halved by count, rounded down: of 16, 8 and 4
    pixels the layers at 16.
    """
    sizes: dict[str, int] = {}

    def remember(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor) and output.ndim == 4:  # [N,C,H,W]
                sizes.setdefault(name, output.shape[-2])

        return hook

    layers = [(name, m) for name, m in discriminator.named_modules() if any(True for _ in m.parameters(recurse=False))]
    leaves = [(name, m) for name, m in layers if not isinstance(m, nn.Embedding)]  # of tokens: [N,W,K,E], which are no maps
    handles = [module.register_forward_hook(remember(name)) for name, module in leaves]
    training = discriminator.training
    device = next(discriminator.parameters()).device
    try:
        c = spec.condition.examples(2)
        x = torch.zeros(2, spec.channels, spec.height, spec.width, device=device)
        discriminator.eval()(x, None if c is None else c.to(device))
    finally:
        discriminator.train(training)
        for handle in handles:
            handle.remove()
    resolutions = sorted(set(sizes.values()), reverse=True)
    kept = set(resolutions[: len(resolutions) // 2])
    return [f"{name}.{key}" for name, module in leaves if sizes.get(name) in kept for key, _ in module.named_parameters(recurse=False)]
