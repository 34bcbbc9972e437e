"""What a codec's network must keep, above all: the path from bits to tables is the same on every machine."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from limner import networks
from limner.core.images import ImageSpec
from limner.networks import hyperprior, integer, transform
from limner.networks.hyperprior import (
    GAIN_BITS,
    MAX_GAIN,
    MAX_MEAN,
    MEAN_BITS,
    MIN_SCALE,
    SCALE_STEP,
    SCALES,
    TINY,
    Codec,
    Config,
)

SPECS = [ImageSpec(1, 64, 64), ImageSpec(3, 64, 128), ImageSpec(4, 64, 64)]
SMALL = Config(latent_channels=24, hyper_channels=16, hyper_width=32, encoder_width=8, decoder_width=8)


def made(config: Config = SMALL, spec: ImageSpec = SPECS[1], seed: int = 0) -> Codec:
    torch.manual_seed(seed)
    net = Codec(spec, config).eval()
    with torch.no_grad():  # as training leaves it: nothing is zero, and the scales differ
        for name, p in net.named_parameters():
            if "linear" not in name:
                p.add_(torch.randn_like(p) * (0.2 if "hyper_decoder.last.weight" in name else 0.03))
    net.finalize()
    return net


def symbols(net: Codec, count: int = 2, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(-9, 10, (count, net.hyper_channels, 3, 2)))


@pytest.mark.parametrize("factorized", [False, True])
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_shapes_and_description(spec: ImageSpec, factorized: bool) -> None:
    config = replace(TINY, factorized=factorized)
    net = made(config, spec)
    x, quality = torch.rand(2, spec.channels, *spec.size) * 2 - 1, torch.tensor([0.0, 1.3])
    y = net.analysis(x, quality)
    assert y.shape == (2, 12, spec.height // 16, spec.width // 16) and y.dtype == torch.float32
    z = net.hyper_analysis(y).round()
    assert z.shape == (2, 0 if factorized else 4, spec.height // 64, spec.width // 64)
    mean, index = net.prior(z.long(), quality)
    assert mean.shape == index.shape == y.shape and mean.dtype == index.dtype == torch.int64
    assert index.min() >= 0 and index.max() < len(net.y_tables)
    assert net.synthesis(y, quality).shape == x.shape
    again = networks.rebuild_codec(spec, networks.describe("hyperprior", config))
    again.load_state_dict(net.state_dict(), assign=True)
    assert torch.equal(again.eval()(x, quality), net(x, quality))
    bits, error = net.rate_distortion(x, y, z, quality)
    assert bits.shape == error.shape == (2,)
    torch.testing.assert_close(error, (net(x, quality).clamp(-1, 1) - x).square().mean((1, 2, 3)) * 127.5**2)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_untrained_codec_is_an_orthonormal_transform(channels: int) -> None:
    kernels, spread = transform.cosine_transform(channels, channels * 256 + 5)
    assert spread.shape == (len(kernels),) and (spread > 0).all()
    rows = kernels.flatten(1)[: channels * 256]
    torch.testing.assert_close(rows @ rows.T, torch.eye(channels * 256), atol=1e-5, rtol=0)
    assert not kernels[channels * 256 :].any()
    net = Codec(ImageSpec(channels, 64, 64), Config(latent_channels=channels * 256, encoder_width=4, decoder_width=4))
    x, quality = torch.rand(1, channels, 64, 64) * 2 - 1, torch.tensor([5.0])
    torch.testing.assert_close(net.synthesis(net.analysis(x, quality), quality), x, atol=1e-4, rtol=0)


def test_integers_agree_with_floating_point() -> None:
    net, quality = made(), torch.tensor([0.4, 3.05])  # a hundredth of the range is 0.05
    z = symbols(net)
    mean, index = net.prior(z, quality)
    float_mean, scale = net.prior_float(z.float(), quality)
    level = torch.log(scale / MIN_SCALE) / SCALE_STEP
    assert index.float().std() > 1 and mean.float().std() > 2**MEAN_BITS / 4
    torch.testing.assert_close(mean / 2**MEAN_BITS, float_mean, atol=6 * 2**-MEAN_BITS, rtol=1e-3)
    assert (index - level).abs().max() < 0.51  # rounded to nearest


def test_integers_are_whole_and_bounded_by_construction() -> None:
    net = made()
    with torch.no_grad():
        for layer in (net.hyper_decoder.first, net.hyper_decoder.second, net.hyper_decoder.last):
            layer.weight.fill_(1e9)  # far beyond what is represented
            layer.bias.fill_(1e9)
    net.finalize()
    z = torch.full((1, net.hyper_channels, 3, 3), 2**40)
    sums, _ = net.hyper_decoder.exact(z.double())
    assert torch.equal(sums, sums.round()) and sums.abs().max() < integer.EXACT / 2
    whole = sum_in_python(net.hyper_decoder.last, net)
    assert int(sums[0, 0, 5, 5]) == whole
    with torch.no_grad():
        net.gain.first.fill_(99.0)
    net.finalize()
    mean, index = net.prior(z, torch.zeros(1))
    assert mean.max() == MAX_MEAN * MAX_GAIN * 2**MEAN_BITS and index.max() == SCALES - 1
    assert MAX_MEAN * 2**GAIN_BITS * MAX_GAIN * 2**GAIN_BITS < integer.EXACT / 2
    with pytest.raises(AssertionError, match="too wide"):
        integer.ExactConv2d(4096, 8)


def sum_in_python(layer: integer.ExactConv2d, net: Codec) -> int:
    """The largest sum of the last layer, in Python's integers."""
    most = int(integer.ACTIVATION_MAX * 2**integer.ACTIVATION_BITS)
    return sum(int(w) * most for w in layer.fixed_weight[0].flatten()) + int(layer.fixed_bias[0])


def test_exact_layer_equals_integer_convolution() -> None:
    torch.manual_seed(1)
    for kernel, first in ((3, True), (3, False), (1, False)):
        layer = integer.ExactConv2d(5, 7, kernel, first=first)
        layer.fix()
        x = torch.randint(-40 if first else 0, 4_000_000, (2, 5, 4, 6))
        # numpy's object integers have no bound and no rounding
        weight, bias = layer.fixed_weight.numpy().astype(object), layer.fixed_bias.numpy().astype(object)
        padded = np.pad(x.numpy().astype(object), ((0, 0), (0, 0), (kernel // 2,) * 2, (kernel // 2,) * 2), "edge")
        wanted = np.array([[[[
            sum((weight[o] * padded[n, :, i : i + kernel, j : j + kernel]).flatten()) + bias[o]
            for j in range(6)] for i in range(4)] for o in range(7)] for n in range(2)], dtype=object)  # fmt: skip
        assert (layer.exact(x.double()).long().numpy().astype(object) == wanted).all()


def test_prior_does_not_depend_on_batch_and_threads() -> None:
    net = made()
    z = symbols(net, 5)
    quality = torch.zeros(5)
    whole = torch.stack(net.prior(z, quality))
    alone = [torch.stack(net.prior(z[i : i + 1], quality[:1])) for i in range(5)]
    assert torch.equal(torch.cat(alone, 1), whole)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            assert torch.equal(torch.stack(net.prior(z, quality)), whole)
    finally:
        torch.set_num_threads(threads)


SCRIPT = """
import hashlib, sys
import numpy as np, torch
from safetensors.torch import load_file
from limner.core.images import ImageSpec
from limner.networks.hyperprior import Codec, Config
torch.set_num_threads(int(sys.argv[2]))
net = Codec(ImageSpec(3, 64, 128), Config(latent_channels=24, hyper_channels=16, hyper_width=32, encoder_width=8, decoder_width=8)).eval()
net.load_state_dict(load_file(sys.argv[1]))
z = torch.from_numpy(np.random.default_rng(3).integers(-9, 10, (3, 16, 5, 4)))
mean, index = net.prior(z, torch.zeros(3))
print(hashlib.sha256(mean.numpy().tobytes() + index.numpy().tobytes()).hexdigest())
"""
MACHINES = [  # what caps the instructions that PyTorch, oneDNN and MKL use, and the threads
    ({}, 1),
    ({"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}, 2),
    ({"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}, 4),
    ({"ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "MKL_CBWR": "COMPATIBLE"}, 1),
]


def test_prior_is_the_same_in_every_instruction_set(tmp_path) -> None:
    from safetensors.torch import save_file

    net = made()
    path = tmp_path / "net.safetensors"
    save_file({name: value.contiguous() for name, value in net.state_dict().items()}, path)
    found = set()
    for caps, threads in MACHINES:
        command = [sys.executable, "-c", SCRIPT, str(path), str(threads)]
        found.add(subprocess.run(command, env=os.environ | caps, capture_output=True, text=True, check=True).stdout)
    z = torch.from_numpy(np.random.default_rng(3).integers(-9, 10, (3, 16, 5, 4)))
    here = b"".join(t.numpy().tobytes() for t in net.prior(z, torch.zeros(3)))
    assert found == {hashlib.sha256(here).hexdigest() + "\n"}


def test_finalize_changes_integers_only_and_is_idempotent() -> None:
    net = made()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net.finalize()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    with torch.no_grad():
        net.hyper_decoder.last.bias.add_(1)
    net.finalize()
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"hyper_decoder.last.bias", "hyper_decoder.last.fixed_bias"}


def test_gains_rise_with_quality_and_are_geometric_between_levels() -> None:
    net = made()
    quality = torch.linspace(0, 5, 41)
    for gain in (net.gain, net.inverse_gain):
        values = gain(quality)[:, :, 0, 0]
        assert (values.diff(dim=0) > 0).all()
        torch.testing.assert_close(values[4], (values[0] * values[8]).sqrt())  # halfway between levels 0 and 1
    lambdas = net.lambdas(torch.arange(6.0))
    assert lambdas[[0, 5]].tolist() == pytest.approx([0.0018, 0.0483])
    torch.testing.assert_close(lambdas[1:] / lambdas[:-1], (lambdas[5] / lambdas[0]).pow(0.2).expand(5))


def test_densities_sum_to_one_and_agree_with_their_cumulative() -> None:
    torch.manual_seed(0)
    density = hyperprior.Density(3)
    with torch.no_grad():
        for p in density.parameters():
            p.add_(torch.randn_like(p))
    values = torch.arange(-255.0, 256)
    found = density.likelihood(values.expand(1, 3, 1, -1), torch.arange(3)[None])[0, :, 0]
    torch.testing.assert_close(found.sum(1), torch.ones(3), atol=1e-5, rtol=0)
    edges = torch.arange(-255, 257, dtype=torch.float64) - 0.5
    torch.testing.assert_close(density.cumulative(edges).diff(dim=1).float()[:, 1:-1], found[:, 1:-1], atol=1e-6, rtol=0)
    assert density.cumulative(torch.tensor([-255.5, 255.5], dtype=torch.float64)).tolist() == [[0.0, 1.0]] * 3


def test_gaussian_bits_are_those_of_the_normal_distribution() -> None:
    normal = torch.distributions.Normal(torch.zeros((), dtype=torch.float64), 1.7)
    x = torch.tensor([0.0, -1.0, 2.3, 8.0], dtype=torch.float64)
    wanted = -(normal.cdf(x + 0.5) - normal.cdf(x - 0.5)).log2()
    found = hyperprior.gaussian_bits(x[:, None], torch.full((4, 1), 1.7, dtype=torch.float64))
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-6)


def test_rounding_passes_gradients_to_y_and_z() -> None:
    net = made()
    x, quality = torch.rand(1, 3, 64, 64) * 2 - 1, torch.tensor([2.0])
    with torch.no_grad():
        y = net.analysis(x, quality)
        z = net.hyper_analysis(y)
    y, z = y.requires_grad_(), z.requires_grad_()
    bits, error = net.rate_distortion(x, y, z, quality)
    of_bits = torch.autograd.grad(bits.sum(), [y, z], retain_graph=True)
    of_error = torch.autograd.grad(error.sum(), [y, z])
    assert all(g.isfinite().all() for g in (*of_bits, *of_error))
    assert of_bits[0].any() and of_bits[1].any() and of_error[0].any()
    assert not of_error[1].any()  # the mean shifts what is rounded and is added back


def test_the_converted_weights_follow_the_integer_buffers():
    layer, x = integer.ExactConv2d(2, 3, first=True), torch.ones(1, 2, 4, 4, dtype=torch.float64)
    layer.fix()
    before = layer.exact(x).clone()
    with torch.no_grad():
        layer.weight.mul_(2)
    layer.fix()
    changed = layer.exact(x)
    assert not torch.equal(changed, before)
    other = integer.ExactConv2d(2, 3, first=True)
    other.exact(x)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other.exact(x), changed)
    other.load_state_dict({name: torch.zeros_like(tensor) for name, tensor in layer.state_dict().items()}, assign=True)
    assert not other.exact(x).any()
