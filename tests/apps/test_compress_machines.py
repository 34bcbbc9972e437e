"""The same bits are the same symbols whatever the threads, the instruction sets and the batch; pixels differ by at most a level."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from codec_model import codec, picture
from limner.coding.container import Item
from limner.networks.hyperprior import Config

CONFIG = Config(latent_channels=40, hyper_channels=16, hyper_width=32, encoder_width=8, decoder_width=8, qualities=4)
MACHINES = {
    "one thread, no vectors": {"OMP_NUM_THREADS": "1", "ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    "two threads, AVX2": {"OMP_NUM_THREADS": "2", "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "four threads": {"OMP_NUM_THREADS": "4"},
    "without oneDNN and FMA": {"OMP_NUM_THREADS": "1", "MKL_CBWR": "COMPATIBLE", "LIMNER_TEST_NO_MKLDNN": "1"},
}


def read_all(weights: str, path: str, out: str) -> str:
    """Decode an archive with the weights of a file; write its pixels; return the hash of its latents."""
    model = codec(config=CONFIG)
    model.network.load_state_dict(load_file(weights))  # random weights are another machine's own
    file = model.open(Path(path).read_bytes())
    digest = hashlib.sha256()
    for number, numbers in enumerate(file.header.groups):
        tiles = file.header.items[numbers[0]].tiles()
        for k, stream in enumerate(file.groups[number].streams):
            assert stream is not None
            latents = model.streams.decode(stream, len(numbers), tiles[k], file.header.quality, file.context(number, k))
            digest.update(latents.numpy().tobytes())
    pixels = {item.name: np.asarray(image) for item, image in model.images(file)}
    np.savez(out, **pixels)
    return digest.hexdigest()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = codec(config=CONFIG)
    folder = tmp_path_factory.mktemp("machines")
    save_file(model.network.state_dict(), folder / "weights")
    pictures = [model.prepare(Image.fromarray(picture(*size, seed=i))) for i, size in enumerate([(130, 200)] * 3 + [(64, 64)] * 5)]
    items = [Item(**{**vars(one.item), "name": str(i)}) for i, one in enumerate(pictures)]
    (folder / "all").write_bytes(model.write(items, lambda i: pictures[i], 80, archive=True))
    return folder


def test_symbols_are_equal_and_pixels_within_a_level(archive: Path, tmp_path: Path) -> None:
    expected = read_all(str(archive / "weights"), str(archive / "all"), str(tmp_path / "here.npz"))
    here = np.load(tmp_path / "here.npz")
    root = Path(__file__).parents[2]
    code = (
        "import os, sys, torch; torch.set_num_threads(int(os.environ['OMP_NUM_THREADS']));\n"
        "torch.backends.mkldnn.flags(enabled=False).__enter__() if os.environ.get('LIMNER_TEST_NO_MKLDNN') else None\n"
        "import test_compress_machines as t; print(t.read_all(*sys.argv[1:]))"
    )
    jobs = {}
    for name, environment in MACHINES.items():
        arguments = [sys.executable, "-c", code, str(archive / "weights"), str(archive / "all"), str(tmp_path / f"{name}.npz")]
        paths = f"{root / 'src'}:{root / 'tests'}:{root / 'tests' / 'apps'}"
        jobs[name] = subprocess.Popen(
            arguments, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": paths, **environment},
        )  # fmt: skip
    for name, job in jobs.items():
        output, errors = job.communicate(timeout=120)
        assert job.returncode == 0, errors[-2000:]
        assert output.strip() == expected, name
        there = np.load(tmp_path / f"{name}.npz")
        assert set(there) == set(here)
        for key in here:
            assert np.abs(here[key].astype(int) - there[key]).max() <= 1, (name, key)


def test_latents_do_not_depend_on_the_batch() -> None:
    """The prior of many pictures is that of each."""
    net = codec(config=CONFIG).network
    z = torch.from_numpy(np.random.default_rng(0).integers(-20, 21, (7, 16, 3, 4)))
    level = torch.linspace(0, 3, 7)
    mean, index = net.prior(z, level)
    for i in range(7):
        one = net.prior(z[i : i + 1], level[i : i + 1])
        assert torch.equal(one[0][0], mean[i]) and torch.equal(one[1][0], index[i])
