"""A package outside Limner adds an architecture, an objective, a family and a verb; its pip install is all that is needed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import limner as package

EXAMPLE = Path(__file__).parents[1] / "examples/plugin"
LIMNER = [sys.executable, "-m", "limner"]
TRAIN = ["--batch", "8", "--device", "cpu", "--threads", "1", "--checkpoint-minutes", "0.005"]


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example package, installed by pip into a folder of its own."""
    source, site = tmp_path_factory.mktemp("plugin") / "source", tmp_path_factory.mktemp("site")
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--disable-pip-version-check", "--target", site, source], check=True, timeout=120)
    return site


def environment(*sites: Path) -> dict[str, str]:
    """The environment in which the packages of some folders are installed."""
    paths = [*map(str, sites), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "200"}


def limner(env: Mapping[str, str], *arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*LIMNER, *map(str, arguments)], capture_output=True, text=True, timeout=120, env=env)
    assert done.returncode == code and "Traceback" not in done.stderr, (arguments, done.stderr)
    return done


def same(a: Path, b: Path) -> bool:
    one, two = load_file(a / "weights.safetensors"), load_file(b / "weights.safetensors")
    return one.keys() == two.keys() and all(torch.equal(value, two[key]) for key, value in one.items())


def seen(run: Path) -> int:
    try:
        return max(json.loads(line)["images"] for line in (run / "log.jsonl").read_text().splitlines())
    except (OSError, ValueError, KeyError):
        return 0


def train_killed_once(env: Mapping[str, str], command: list[str], run: Path) -> None:
    """Train by the command, killed once in the middle and resumed by the run's folder."""
    process = subprocess.Popen([*LIMNER, *command, "--out", str(run)], env=env, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while seen(run) < 160:
        assert process.poll() is None and time.monotonic() < end, "it ended before it was killed"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL
    resumed = limner(env, "train", "--resume", run)
    assert "Resuming at" in resumed.stderr, resumed.stderr


@pytest.fixture(scope="session")
def colors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A .npz of 48 RGB pictures of 16x16: dark ones are blue, bright ones are orange."""
    rng = np.random.default_rng(0)
    images = np.empty((48, 16, 16, 3), np.uint8)
    for i in range(48):
        images[i] = (20, 30, rng.integers(120, 160)) if i % 2 else (rng.integers(230, 256), 170, 60)
        images[i, : rng.integers(1, 15)] = (20, 30, 140)
    path = tmp_path_factory.mktemp("colors") / "colors.npz"
    np.savez(path, images=images)
    return path


# ---- the example -----------------------------------------------------------------------------------------------------


def test_limner_does_not_know_the_example() -> None:
    sources = "\n".join(path.read_text() for path in Path(package.__file__).parent.rglob("*.py"))
    assert not re.search("cppn|pearson|colorizer|limner.example", sources, re.IGNORECASE)


def test_help_lists_the_verb_without_importing_the_package(installed: Path) -> None:
    code = (
        "import sys\nfrom limner.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit: pass\n"
        "print({'torch', 'limner_example'} & sys.modules.keys())\n"
    )
    env = environment(installed)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
    assert "colorize" in done.stdout and done.stdout.endswith("set()\n"), done.stdout
    assert "colorize" not in limner(environment(), "--help").stdout
    assert "RUN PICTURE OUT" in limner(env, "colorize", "--help").stdout


def test_architecture_and_objective_train_resume_load_and_sample(installed: Path, squares: Path, tmp_path: Path) -> None:
    env = environment(installed)
    own = ["--architecture", "cppn", "--objective", "pearson", "--generator.width", "16", "--generator.depth", "2"]
    command = ["train", str(squares), *own, "--discriminator.width", "8", *TRAIN, "--metric", "none", "--images", "960"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    limner(env, *command, "--out", whole)
    train_killed_once(env, command, broken)
    assert same(whole, broken)

    described = json.loads((whole / "limner.json").read_text())
    assert described["network"]["architecture"] == "cppn" and described["recipe"]["objective"] == "pearson"
    assert described["network"]["config"] == {"z_size": 64, "width": 16, "depth": 2}
    limner(env, "sample", whole, "-n", 6, "--out", tmp_path / "from-cli")
    code = (
        "import sys, limner\nmodel = limner.load(sys.argv[1], 'cpu')\n"
        "print(type(model).__name__, type(model.network).__module__)\nmodel.sample(6, seed=0).save(sys.argv[2])\n"
    )
    arguments = [sys.executable, "-c", code, str(whole), str(tmp_path / "from-python")]
    done = subprocess.run(arguments, capture_output=True, text=True, env=env, check=True)
    assert done.stdout == "GeneratorModel limner_example\n"
    samples = [sorted((tmp_path / place).iterdir()) for place in ("from-cli", "from-python")]
    assert len(samples[0]) == 6
    for a, b in zip(*samples, strict=True):
        assert np.array_equal(np.array(Image.open(a)), np.array(Image.open(b)))
    refused = limner(environment(), "sample", whole, "-n", 1, "--out", tmp_path / "x.png", code=2).stderr
    assert "The architecture 'cppn' is unknown" in refused
    assert "The option objective is 'pearson'" in limner(environment(), "train", squares, "--objective", "pearson", code=2).stderr


@pytest.mark.slow
def test_family_trains_resumes_and_is_used_by_its_verb(installed: Path, colors: Path, tmp_path: Path) -> None:
    env = environment(installed)
    command = ["train", str(colors), "--recipe", "colorizer", "--network.width", "8", "--network.depth", "2", *TRAIN, "--images", "1200"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    trained = limner(env, *command, "--out", whole)
    assert f"Next: limner colorize {whole} GRAY.png COLORED.png" in trained.stderr
    train_killed_once(env, command, broken)
    assert same(whole, broken)
    described = json.loads((whole / "limner.json").read_text())
    assert described["kind"] == "colorizer" and described["training"]["held_out_count"] == 2
    assert described["metrics"]["psnr"] > 10 and (whole / "best/limner.json").exists()

    picture = np.full((20, 31), 40, np.uint8)
    picture[:, 16:] = 180
    Image.fromarray(picture).save(tmp_path / "gray.png")
    said = limner(env, "colorize", whole, tmp_path / "gray.png", tmp_path / "colored.png").stdout
    assert said == f"The colored picture is in {tmp_path / 'colored.png'}.\n"
    colored = Image.open(tmp_path / "colored.png")
    assert colored.size == (31, 20) and colored.mode == "RGB"
    assert np.abs(np.array(colored.convert("L")).astype(int) - picture).max() <= 6  # bf16 and rounding
    red, _, blue = np.array(colored).astype(int).transpose(2, 0, 1)
    assert (blue - red)[:, :8].mean() > 40 and (red - blue)[:, 24:].mean() > 40  # dark is blue and bright is orange

    assert "colorizer" in limner(env, "recipes").stdout and "colorizer" in limner(environment(), "show", whole).stdout
    refused = limner(env, *command, "--metric", "pixels", "--out", tmp_path / "x", code=2).stderr
    assert "--metric pixels does not measure a colorizer" in refused
    refused = limner(environment(), "sample", whole, code=2).stderr
    assert "holds a colorizer, which this Limner cannot load: install the package that trained it" in refused


# ---- packages that do not fit ----------------------------------------------------------------------------------------


def fake(site: Path, group: str, name: str, value: str, module: str = "") -> Path:
    """A package `stranger` with one entry point, as an installer leaves it."""
    info = site / "stranger-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {value}\n")
    (site / "stranger.py").write_text(module)
    return site


@pytest.mark.parametrize(
    ("group", "name", "value", "module", "command", "said"),
    [
        ("limner.verbs", "wave", "absent:wave", "", ["wave"], "stranger adds 'wave' to Limner, which cannot be loaded (ModuleNotFoundError"),
        ("limner.verbs", "wave", "stranger:wave", "wave = 3", ["wave"], "whose type is int and must be function"),
        ("limner.verbs", "sample", "stranger:f", "", ["recipes"], "stranger adds the verb 'sample', which Limner has already"),
        ("limner.verbs", "Wave!", "stranger:f", "", ["recipes"], "adds the verb 'Wave!', which is no name for a command"),
        ("limner.families", "f", "stranger:f", "f = 3", ["recipes"], "whose type is int and must be Family"),
        ("limner.families", "f", "stranger:f", "raise OSError('no disk')", ["recipes"], "cannot be loaded (OSError: no disk)"),
        ("limner.architectures", "a", "stranger", "Generator = 1", ["train", "fashion", "--architecture", "a"], "the architecture 'a', which has no GeneratorConfig"),
        ("limner.objectives", "o", "stranger:o", "o = abs", ["train", "fashion", "--objective", "o"], "whose type is builtin_function_or_method and must be Objective"),
    ],
)  # fmt: skip
def test_a_package_that_does_not_fit_is_a_sentence(
    group: str, name: str, value: str, module: str, command: list[str], said: str, tmp_path: Path
) -> None:
    env = environment(fake(tmp_path / "site", group, name, value, module))
    assert said in limner(env, *command, *(["--out", tmp_path / "run"] if "train" in command else []), code=2).stderr


def test_a_verb_that_cannot_be_loaded_leaves_the_others_usable(tmp_path: Path) -> None:
    env = environment(fake(tmp_path / "site", "limner.verbs", "wave", "absent:wave"))
    assert "A verb of stranger." in limner(env, "--help").stdout
    assert "spectral" in limner(env, "recipes").stdout
