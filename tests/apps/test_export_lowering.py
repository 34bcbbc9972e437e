"""The browser runtime computes what PyTorch does: operators one by one, then whole networks."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.apps.export.freeze import freeze_reference
from limner.apps.export.html import resource
from limner.apps.export.lower import lower
from limner.apps.export.program import Code, quantized, unfolded
from limner.core.condition import Condition
from limner.core.images import ImageSpec
from limner.networks import NAMES, architecture, dcgan, plain, resnet, restoration_unet, unet
from limner.networks.layers import UpConv2d, fold_upsampling

sys.path.insert(0, str(Path(__file__).parents[1]))
from wasm import error, needs_node, rows, run

ROOT = Path(__file__).parents[2]


def picture(c: int, h: int, w: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal((1, c, h, w), np.float32))


CONVOLUTIONS = {
    "1x1": nn.Conv2d(5, 7, 1),
    "3x3": nn.Conv2d(5, 13, 3, padding=1),
    "few outputs": nn.Conv2d(5, 3, 3, padding=1, bias=False),
    "strided": nn.Conv2d(5, 8, 4, 2, 1),
    "uneven": nn.Conv2d(5, 9, (3, 5), (2, 1), (0, 2)),
    "dilated": nn.Conv2d(5, 8, 3, padding=4, dilation=4),
    "groups": nn.Conv2d(6, 12, 3, padding=1, groups=3),
    "depthwise": nn.Conv2d(6, 6, 3, padding=1, groups=6),
    "reflecting": nn.Conv2d(5, 4, 7, padding=3, padding_mode="reflect"),
    "transposed": nn.ConvTranspose2d(5, 8, 4, 2, 1),
    "transposed uneven": nn.ConvTranspose2d(5, 3, (2, 5), (3, 2), (0, 1)),
    "transposed groups": nn.ConvTranspose2d(6, 4, 3, 2, 1, groups=2),
    "doubling": UpConv2d(5, 8),
}


@needs_node
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name: str) -> None:
    torch.manual_seed(0)
    conv = CONVOLUTIONS[name]
    assert error(conv, picture(conv.in_channels, 11, 14)) < 2e-6


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": lambda x: torch.tanh(4 * x),
    "tanh near zero": lambda x: torch.tanh(0.1 * x),
    "sigmoid": lambda x: torch.sigmoid(50 * x),
    "silu": F.silu,
    "exp": lambda x: torch.exp(3 * x),
    "clamp": lambda x: x.clamp(-0.5, 0.7),
    "leaky": lambda x: F.leaky_relu(x, 0.2) * 2**0.5,
    "roots": lambda x: (x.square() + 0.1).rsqrt() + (x.abs() + 1).sqrt(),
    "broadcast": lambda x: (x - x.mean((2, 3), keepdim=True)) / (1 + x.square().mean(1, keepdim=True)),
    "sum": lambda x: x * x.sum(1, keepdim=True),
    "from a number": lambda x: 1 - x,
    "pools": lambda x: F.max_pool2d(x, 2) + F.avg_pool2d(x, 2),
    "nearest": lambda x: F.interpolate(x, scale_factor=3),
    "bilinear": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "shuffle": lambda x: F.pixel_shuffle(F.pixel_unshuffle(x, 2).tanh(), 2),
    "replicate": lambda x: F.pad(x, (1, 2, 3, 0), mode="replicate"),
    "zeros": lambda x: F.pad(x, (1, 0, 0, 2)),
    "crop": lambda x: x[..., 1:5, 2:7] * 2,
    "channels": lambda x: torch.cat([x[:, 3:], x[:, :2].tanh()], 1),
    "gated": lambda x: F.glu(x, 1),
    "instance norm": lambda x: F.instance_norm(x, weight=torch.arange(6.0).to(x), bias=torch.ones(6).to(x)),
    "row to map": lambda x: F.tanh(x.flatten(1)).view(1, 6, 8, 10),
    "attention": lambda x: (torch.softmax(x.flatten(2).transpose(1, 2) @ x.flatten(2), 2) @ x.flatten(2).transpose(1, 2)).transpose(1, 2),
}


@needs_node
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name: str) -> None:
    assert error(FUNCTIONS[name], picture(6, 8, 10)) < 2e-6


@needs_node
@pytest.mark.parametrize("name", [*NAMES, "virtual"])
def test_every_generator(name: str) -> None:
    torch.manual_seed(0)
    home = dcgan if name == "virtual" else architecture(name)
    config = dcgan.GeneratorConfig(z_size=8, width=8, norm="virtual", reference_batch=4) if name == "virtual" else home.TINY_GENERATOR
    net = home.Generator(ImageSpec(3, 32, 24, Condition("classes", 5)), config).eval().requires_grad_(False)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_var is not None and module.running_mean is not None:
            module.running_var.uniform_(0.5, 2)
            module.running_mean.normal_()
    z = torch.randn(1, net.z_size)
    frozen = copy.deepcopy(net)
    freeze_reference(frozen, (z, torch.tensor([4])))
    program = lower(frozen, {"z": z, "classes": torch.tensor([4])})
    made, arena = run(program, [{"z": z.numpy(), "classes": np.eye(5)[i : i + 1]} for i in (2, 4)])
    want = np.concatenate([rows(net(z, torch.tensor([i]))).ravel() for i in (2, 4)])
    assert np.abs(made - want).max() < 1e-5 * max(1, np.abs(want).max())
    held = sum(4 * int(np.prod(b.size)) for b in program.buffers if b.constant is None)
    assert arena < held, "buffers that are not needed at once share memory"


TRANSLATORS = {
    "unet": lambda spec: unet.Translator(spec, unet.TINY),
    "resnet": lambda spec: resnet.Translator(spec, resnet.TINY),
    "mask": lambda spec: resnet.Translator(spec, resnet.Config(width=8, blocks=2, attention_mask=True)),
    "plain": lambda spec: plain.Restorer(spec, plain.Config(width=8, depth=2, unshuffle=2)),
    "enlarging": lambda spec: plain.Restorer(spec, plain.Config(width=8, depth=2), 3),
    "coloring": lambda spec: restoration_unet.Restorer(spec, restoration_unet.TINY, 1),
    "context": lambda spec: restoration_unet.Restorer(spec, restoration_unet.TINY),
}


@needs_node
@pytest.mark.parametrize("name", TRANSLATORS)
def test_translators_take_any_size(name: str) -> None:
    torch.manual_seed(0)
    net = TRANSLATORS[name](ImageSpec(3, 32, 32)).eval().requires_grad_(False)
    for parameter in net.parameters():
        if not parameter.any():
            parameter.normal_(std=0.1)  # a layer that starts at zero
    channels = getattr(net, "inputs", 3)
    program = lower(net, {"x": picture(channels, 32, 32)}, picture=True)
    assert not program.fixed
    sizes = [(32, 32), (64, 96), (48, 32)]
    inputs = [picture(channels, *size).clamp(-1, 1) for size in sizes]
    made, _ = run(program, [{"x": rows(x)} for x in inputs], sizes)
    assert np.abs(made - np.concatenate([rows(net(x)).ravel() for x in inputs])).max() < 1e-5


@needs_node
@pytest.mark.parametrize(("bits", "most"), [(32, 2e-6), (24, 2e-6), (16, 1e-3), (8, 0.2)])
def test_fewer_bits_cost_exactness(bits: int, most: float) -> None:
    torch.manual_seed(0)
    found = error(nn.Sequential(nn.Conv2d(8, 16, 3), nn.ReLU(), UpConv2d(16, 4)), picture(8, 9, 9), bits)
    assert found < most
    assert bits >= 24 or found > most / 1000


def test_an_operator_that_is_missing_is_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"cannot run in a browser page: the runtime has nothing for the operator cumsum"):
        lower(nn.Sequential(nn.Conv2d(3, 3, 1), _Cumsum()), {"x": picture(3, 8, 8)}, picture=True)


class _Cumsum(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.cumsum(2)


def test_batch_norms_and_activations_disappear() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.LeakyReLU(0.2), nn.ConvTranspose2d(8, 3, 4, 2, 1), nn.Tanh()).eval()
    program = lower(net, {"x": picture(3, 8, 8)}, picture=True)
    assert [op.code for op in program.ops] == [Code.CONV, Code.CONV]


def test_quantization_to_24_bits_is_that_of_float32() -> None:
    rows_ = np.random.default_rng(0).standard_normal((5, 400))
    rows_[3] = 0
    content, scales = quantized(rows_, 24)
    padded = np.frombuffer(content, np.uint8).reshape(-1, 3)
    whole = np.pad(padded, ((0, 0), (1, 0))).copy().view("<i4")[:, 0] >> 8
    made = whole.reshape(5, 400) * scales[:, None].astype(np.float64)
    assert np.abs(made - rows_).max() <= np.abs(rows_).max() * 2**-23
    assert not made[3].any()


def test_folded_doubling_is_stored_as_it_was() -> None:
    weight = torch.randn(5, 4, 3, 3)
    found = unfolded(fold_upsampling(weight).transpose(0, 1).numpy())
    assert found is not None
    assert np.abs(found - weight.numpy()).max() < 1e-6
    assert unfolded(torch.randn(5, 4, 4, 4).numpy()) is None


@needs_node
@pytest.mark.skipif(not (shutil.which("clang") and shutil.which("wasm-ld")), reason="clang is missing: apt install clang lld")
@pytest.mark.skipif(not (ROOT / "scripts/build_runtime.sh").exists(), reason="the build script is in the repository only")
def test_the_committed_runtime_is_built_from_its_sources(tmp_path: Path) -> None:
    built = tmp_path / "runtime.wasm"
    subprocess.run(["sh", str(ROOT / "scripts/build_runtime.sh"), str(built)], check=True, env=dict(os.environ))
    if built.read_bytes() == resource("runtime/runtime.wasm"):
        return
    torch.manual_seed(0)  # another compiler: the same numbers
    net = nn.Sequential(nn.Conv2d(3, 9, 3, 2, 1), nn.InstanceNorm2d(9), nn.ReLU(), UpConv2d(9, 3), nn.Tanh()).eval()
    x = picture(3, 16, 16)
    program = lower(net, {"x": x}, picture=True)
    results = [run(program, [{"x": rows(x)}], [(16, 16)], wasm=wasm)[0] for wasm in (b"", built.read_bytes())]
    assert np.abs(results[0] - results[1]).max() < 1e-6
