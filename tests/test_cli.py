"""The command line as people use it: real processes, real files, exit codes, one sentence an error."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import limner as package
from limner import cli
from limner.cli.flags import flags
from limner.families import presets
from limner.families.train import AUTO, defaults, train
from limner.runs.options import Options

LIMNER = [sys.executable, "-m", "limner"]
TINY = ["--recipe", "spectral", "--generator.width", "8", "--discriminator.width", "8", "--batch", "16", "--device", "cpu", "--threads", "1"]


def limner(*arguments: object, **more) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*LIMNER, *map(str, arguments)], capture_output=True, text=True, timeout=120, **more)


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    """The one sentence of a refused command."""
    assert done.returncode == 2, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert lines, "nothing was said"
    return lines[-1]


def same(a: Path, b: Path) -> bool:
    one, two = load_file(a / "weights.safetensors"), load_file(b / "weights.safetensors")
    assert one.keys() == two.keys()
    return all(torch.equal(value, two[key]) for key, value in one.items())


# ---- the way through -------------------------------------------------------------------------------------------------


def test_from_data_to_samples(squares: Path, tmp_path: Path) -> None:
    run = tmp_path / "a run"
    done = limner("train", squares, *TINY, "--images", 320, "--out", run)
    assert done.returncode == 0, done.stderr
    said = done.stderr
    for fact in ("spectral", "96 pictures", "16x16 gray, 2 classes", "parameters", "320 images seen", "about"):
        assert fact in said, said
    entries = [json.loads(line) for line in (run / "log.jsonl").open()]
    assert entries[-1]["images"] == 320 and {"d_loss", "g_loss", "logit_gap"} <= entries[-1].keys()
    assert len(list((run / "samples").glob("*.png"))) > 5
    done = limner("sample", run, "-n", 8, "--label", "all", "--out", tmp_path / "s.png")
    assert done.returncode == 0 and Image.open(tmp_path / "s.png").size[0] > 32
    shown = limner("show", run)
    assert shown.returncode == 0 and "320 of 320" in shown.stdout
    again = limner("train", squares, *TINY, "--images", 320, "--out", run)
    assert again.returncode == 0 and "Done" in again.stderr


def test_help_is_quick_and_lists_the_verbs() -> None:
    times = []
    for _ in range(3):
        start = time.monotonic()
        done = limner("--help")
        times.append(time.monotonic() - start)
    assert all(verb in done.stdout for verb in ("data", "train", "sample", "show", "recipes"))
    # heavy rooms are what made it slow; the time itself is measured in benchmarks
    code = "import sys; sys.argv = ['limner', '--help']\ntry:\n import limner.cli; limner.cli.main()\n"
    code += "except SystemExit: pass\nassert not {'torch', 'numpy', 'PIL'} & set(sys.modules), 'heavy'"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_recipes_and_their_own_help() -> None:
    listed = limner("recipes").stdout
    assert all(name in listed for name in ("auto", "spectral", "r3gan", "dcgan", "gan"))
    own = limner("train", "--recipe", "dcgan", "--help", env=os.environ | {"COLUMNS": "200"}).stdout
    assert "--generator.z-size" in own and "--discriminator.z-size" not in own and "default: 128" in own.replace("\n", " ")
    words = " ".join(own.replace("│", " ").split())
    assert "--generator.width INT Channels at full resolution; doubled at each downsampling, at most 8x. [default: 64]" in words
    assert "--gamma FLOAT Weight of the penalty; by default the paper's, or from resolution and batch size. Needs penalty." in words
    assert "--schedule STR Learning-rate schedule. One of: constant, linear, cosine. [default: constant]" in words


@pytest.mark.parametrize("name", ["options", AUTO, *presets()])
def test_every_option_has_help(name: str) -> None:
    def silent(made: type) -> list[str]:
        found = []
        for f in dataclasses.fields(made):
            if dataclasses.is_dataclass(f.type):
                found += silent(f.type)
            elif not f.type.__metadata__[0].help:
                found.append(f.name)
        return found

    values = Options() if name == "options" else defaults(name)
    assert not silent(flags(type(values), values))


def test_data_reports_and_draws(squares: Path, tmp_path: Path) -> None:
    done = limner("data", squares, "--sheet", tmp_path / "sheet.png")
    assert done.returncode == 0 and "96" in done.stdout
    assert Image.open(tmp_path / "sheet.png").size[0] > 100


def test_a_sheet_never_lies_among_the_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    for i in range(2):
        Image.new("L", (16, 16), 90 * i).save(folder / f"{i}.png")
    before = sorted(tmp_path.rglob("*"))
    assert limner("data", folder, cwd=tmp_path).returncode == 0 and sorted(tmp_path.rglob("*")) == before
    assert "among the pictures it shows" in sentence(limner("data", folder, "--sheet", folder / "deep" / "sheet.png"))


# ---- killed and resumed ----------------------------------------------------------------------------------------------


def kill_when(process: subprocess.Popen, condition, number: int) -> None:
    """Send the signal once the condition holds; fails when the process ends or two minutes pass before."""
    end = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, "it ended before it was killed"
        assert time.monotonic() < end
        time.sleep(0.005)
    process.send_signal(number)
    process.wait(60)


def logged(run: Path) -> int:
    try:
        return max(json.loads(line)["images"] for line in (run / "log.jsonl").read_text().splitlines())
    except (OSError, ValueError, KeyError):
        return 0


@pytest.mark.parametrize("recipe", ["spectral", pytest.param("r3gan", marks=pytest.mark.slow)])
def test_killed_at_random_moments_and_resumed_equals_unbroken(recipe: str, squares: Path, tmp_path: Path) -> None:
    command = ["train", str(squares), *TINY, "--images", "4800", "--checkpoint-minutes", "0.002"]
    command[command.index("--recipe") + 1] = recipe
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert limner(*command, "--out", whole).returncode == 0
    chance = random.Random(0)
    for marks in (400, 1600, 3000):
        process = subprocess.Popen([*LIMNER, *command, "--out", str(broken)], stderr=subprocess.DEVNULL)
        kill_when(process, lambda marks=marks: logged(broken) >= marks, signal.SIGKILL)
        time.sleep(chance.random() * 0.05)
        assert process.returncode == -signal.SIGKILL
        limner("sample", broken, "-n", 1, "--out", tmp_path / "x.png")  # the folder is usable at any moment
    last = limner(*command, "--out", broken)
    assert last.returncode == 0 and "Resuming at" in last.stderr, last.stderr
    assert same(whole, broken)


def test_ctrl_c_saves_and_says_how_to_go_on(squares: Path, tmp_path: Path) -> None:
    command = ["train", str(squares), *TINY, "--images", "200000", "--out", str(tmp_path / "run")]
    process = subprocess.Popen([*LIMNER, *command], stderr=subprocess.PIPE, text=True)
    kill_when(process, lambda: logged(tmp_path / "run") > 200, signal.SIGINT)
    assert process.stderr is not None
    said = process.stderr.read()
    assert process.returncode == 130 and f"limner train --resume {tmp_path / 'run'}" in said and "Traceback" not in said
    assert limner("sample", tmp_path / "run", "-n", 2, "--out", tmp_path / "x.png").returncode == 0


# ---- made longer, and resumed by its folder ----------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_made_longer_equals_the_longer_run_under_a_constant_schedule(squares: Path, tmp_path: Path) -> None:
    command = ["train", str(squares), *TINY, "--schedule", "constant", "--quiet"]
    assert limner(*command, "--images", 640, "--out", tmp_path / "long").returncode == 0
    run = tmp_path / "run"
    assert limner(*command, "--images", "320", "--out", run).returncode == 0
    shutil.move(run, tmp_path / "moved")
    run = tmp_path / "moved"
    done = limner("train", "--resume", run, "--more", "320 images", cwd=tmp_path / "long")
    assert done.returncode == 0 and "Resuming at 320" in done.stderr and "Done: 640" in done.stderr, done.stderr
    assert same(run, tmp_path / "long")
    described = json.loads((run / "limner.json").read_text())["training"]
    assert described["images"] == described["budget"] == 640
    again = limner("train", "--resume", run)
    assert again.returncode == 0 and "Done: 640" in again.stderr and same(run, tmp_path / "long")
    assert json.loads((run / "checkpoint/command.json").read_text())["data"]["data"] == str(squares)


@pytest.mark.slow
def test_a_run_is_killed_while_it_is_made_longer_and_resumed_by_its_folder(squares: Path, tmp_path: Path) -> None:
    command = ["train", str(squares), *TINY, "--images", "320", "--quiet", "--checkpoint-minutes", "0.002"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for run in (whole, broken):
        assert limner(*command, "--out", run).returncode == 0
    assert limner("train", "--resume", whole, "--more", "4k images").returncode == 0
    longer = [*LIMNER, "train", "--resume", str(broken), "--more", "4k images"]
    process = subprocess.Popen(longer, stderr=subprocess.DEVNULL)
    kill_when(process, lambda: logged(broken) >= 1600, signal.SIGKILL)
    assert limner("train", "--resume", broken, "--quiet").returncode == 0
    assert same(whole, broken)


@pytest.mark.slow
def test_a_run_of_minutes_is_killed_and_ends_as_its_decisions_say(squares: Path, tmp_path: Path) -> None:
    """Killed and resumed, then the recorded decisions are played in a new folder without a break: the same weights."""
    command = ["train", str(squares), *TINY, "--minutes", "15s", "--quiet", "--checkpoint-minutes", "0.002"]
    broken, replayed = tmp_path / "broken", tmp_path / "replayed"
    for after in (0, 700):
        process = subprocess.Popen([*LIMNER, *command, "--out", str(broken)], stderr=subprocess.DEVNULL)
        kill_when(process, lambda after=after: logged(broken) > after, signal.SIGKILL)
    assert limner(*command, "--out", broken).returncode == 0
    decided = json.loads((broken / "run.json").read_text())["decided"]
    assert decided["revisions"]
    replayed.mkdir()
    shutil.copy(broken / "run.json", replayed / "run.json")
    assert limner(*command, "--out", replayed).returncode == 0
    assert json.loads((replayed / "run.json").read_text())["decided"] == decided
    assert same(broken, replayed)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--resume", "nowhere"], "There is no folder nowhere"),
        (["--resume", "."], "is not the folder of a run"),
        (["DATA", "--resume", "RUN"], "data has no meaning"),
        (["--resume", "RUN", "--seed", "3"], "--seed has no meaning"),
        (["--resume", "RUN", "--minutes", "3"], "--minutes has no meaning"),
        (["--resume", "RUN", "--size", "8"], "size has no meaning"),
        (["--resume", "RUN", "--batch", "4"], "batch has no meaning"),
        (["--resume", "RUN", "--more", "long"], "is not understood"),
        (["--resume", "RUN", "--more", "-3"], "must be more than 0"),
        (["DATA", "--more", "3"], "give its folder with --resume"),
        (["--resume", "BROKEN"], "is damaged: give the command"),
        (["--resume", "PART"], "is damaged: give the command"),
    ],
)
def test_what_cannot_be_resumed_is_a_sentence(arguments: list[str], said: str, squares: Path, tmp_path: Path) -> None:
    for name, text in (("run", None), ("broken", "[1]"), ("part", '{"data": {"data": "x"}, "options": {}, "recipe": "spectral", "changes": {}}')):
        (tmp_path / name / "checkpoint").mkdir(parents=True)
        if text:
            (tmp_path / name / "checkpoint/command.json").write_text(text)
    places = {"DATA": str(squares), "RUN": str(tmp_path / "run"), "BROKEN": str(tmp_path / "broken"), "PART": str(tmp_path / "part")}
    assert said in sentence(limner("train", *(places.get(a, a) for a in arguments), cwd=tmp_path))


def test_the_first_line_comes_at_once(squares: Path, tmp_path: Path) -> None:
    start = time.monotonic()
    command = [*LIMNER, "train", str(squares), *TINY, "--images", "16", "--out", str(tmp_path / "run")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    line, took = process.stderr.readline(), time.monotonic() - start
    said = process.stderr.read()
    assert process.wait(60) == 0 and line.startswith("Starting") and took < 2
    assert "Reading the pictures" in said and "Measuring the speed" in said


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_second_process_in_the_same_folder(squares: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = ["train", str(squares), *TINY, "--images", "200000", "--out", str(run)]
    first = subprocess.Popen([*LIMNER, *command], stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 60
        while not (run / "checkpoint/latest.safetensors").exists() and time.monotonic() < end:
            time.sleep(0.05)
        assert "Another process is training in" in sentence(limner(*command))
    finally:
        first.terminate()
        assert first.wait(60) == 128 + signal.SIGTERM


@pytest.mark.slow
def test_another_command_in_the_same_folder(squares: Path, tmp_path: Path) -> None:
    command = ["train", squares, *TINY, "--images", 64, "--out", tmp_path / "run"]
    assert limner(*command).returncode == 0
    before = (tmp_path / "run/weights.safetensors").read_bytes()
    said = sentence(limner(*command, "--seed", 1))
    assert "was started with seed 0, now it is 1" in said and "--out" in said
    command[command.index("--images") + 1] = 128
    assert "was started with images 64, now it is 128" in sentence(limner(*command))
    assert (tmp_path / "run/weights.safetensors").read_bytes() == before


@pytest.mark.slow
def test_a_full_disk_leaves_what_was_written(squares: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = ["train", squares, *TINY, "--images", 64, "--out", run]
    assert limner(*command).returncode == 0
    before = (run / "weights.safetensors").read_bytes()

    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    other = tmp_path / "other"
    said = sentence(limner("train", squares, *TINY, "--images", 64, "--out", other, preexec_fn=small_files))
    assert said.startswith("The disk is full") and not list(other.rglob("*.partial"))
    assert "The disk is full" in sentence(limner(*command, preexec_fn=small_files))
    assert (run / "weights.safetensors").read_bytes() == before
    assert limner(*command).returncode == 0


def test_an_unwritable_place(squares: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert "file stands where a folder is needed" in sentence(
        limner("train", squares, *TINY, "--images", 64, "--out", tmp_path / "file/run")
    )
    if os.geteuid():
        (tmp_path / "locked").mkdir(mode=0o500)
        said = sentence(limner("train", squares, *TINY, "--images", 64, "--out", tmp_path / "locked/run"))
        assert "no permission" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "nowhere", "--images", "16"], "nowhere"),
        (["train", "DATA", "--recipe", "dcgaan"], "choose one of auto, spectral"),
        (["train", "DATA", "--minutes", "1", "--images", "16"], "not both"),
        (["train", "DATA", "--minutes", "0"], "must be more than 0"),
        (["train", "DATA", "--size", "big"], "height and width as 48x64"),
        (["train", "DATA", "--size", "4", "--images", "16"], "16"),
        (["train", "DATA", "--objective", "best", "--images", "16"], "choose minimax, non-saturating"),
        (["train", "DATA", "--schedule", "cubic", "--images", "16"], "choose constant, linear or cosine"),
        (["train", "DATA", "--mixing", "0.5", "--images", "16"], "conv has no styles to mix: choose --mixing 0"),
        (["train", "DATA", "--device", "tpu", "--images", "16"], "choose auto, cpu, cuda or mps"),
        (["train", "DATA", "--augmentation", "wild", "--images", "16"], "choose auto, none, light, full or ada"),
        (["train", "DATA", "--sizee", "32"], "--size"),
        (["train"], "data requires an argument"),
        (["restore", "RUN"], "IN is missing: `limner restore --help` shows what the command takes."),
        (["compress"], "RUN is missing: `limner compress --help`"),
        (["evaluate", "RUN"], "--data is missing: `limner evaluate --help`"),
        (["evaluate", "RUN", "--data", "x", "-n"], "-n needs a value: `limner evaluate --help`"),
        (["restore", "RUN", "x", "y", "--strength", "much"], "of --strength is not understood: give a number."),
        (["data", "nowhere", "--sheet", "x.jpg"], "written as a .png, not as 'x.jpg'"),
        (["sample", "nowhere"], "There is no folder"),
        (["show", "."], "is not a trained run"),
        (["paint"], "Available commands"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_mistakes_are_sentences(arguments: list[str], said: str, squares: Path, tmp_path: Path) -> None:
    arguments = [str(squares) if a == "DATA" else a for a in arguments]
    assert said in sentence(limner(*arguments, cwd=tmp_path))


@pytest.mark.parametrize(
    ("recipe", "changes", "said"),
    [
        ("spectral", {"batch": 0}, "The option batch is 0: give 1 or more."),
        ("cyclegan", {"micro_batch": -1}, "The option micro_batch is -1: give 0 or more."),
        ("cyclegan", {"pool": -1}, "The option pool is -1: give 0 or more."),
        ("cut", {"patches": 0}, "The option patches is 0: give 2 or more."),
        ("vae", {"beta": -1.0}, "The option beta is -1.0: give 0 or more."),
        ("vae", {"network.z_size": 0}, "The option network.z_size is 0: give 1 to 65536."),
        ("vqvae", {"codebook_decay": 2.0}, "The option codebook_decay is 2.0: give 0 to 1."),
        ("vqvae", {"network.codes": 0}, "The option network.codes is 0: give 1 to 65536."),
        ("cyclegan", {"discriminator.downsamplings": 4}, "4 downsamplings leave no patches in 16x16"),
        ("vaegan", {"discriminator.downsamplings": 5}, "5 downsamplings leave no patches in 16x16"),
        ("cyclegan", {"penalty": "wgan-gp"}, "The option penalty is 'wgan-gp': choose none, r1, r2 or r1r2."),
        ("cyclegan", {"penalty": "r1-fast"}, "The option penalty is 'r1-fast': choose none, r1, r2 or r1r2."),
        ("cyclegan", {"objective": "feature-matching"}, "choose non-saturating, least-squares, hinge or relativistic."),
        ("pix2pix", {"objective": "minimax"}, "The option objective is 'minimax': choose non-saturating"),
        ("vaegan", {"objective": "best"}, "choose non-saturating"),
        ("vae", {"feature_matching": 1.0}, "feature_matching does nothing while adversarial is off: turn adversarial on, or leave feature_matching out"),
        ("vae", {"objective": "relativistic"}, "objective does nothing while adversarial is off"),
        ("pix2pix", {"adversarial": False, "objective": "hinge"}, "objective does nothing while adversarial is off"),
        ("spectral", {"architecture": "cnn"}, "The architecture 'cnn' is unknown: choose one of mlp"),
        ("vae", {"architecture": "dcgan"}, "The recipe has no option 'architecture'"),
        ("vaegan", {"adversarial": 0, "discriminator.width": 8}, "discriminator.width does nothing while adversarial is off"),
        ("pix2pix", {"adversarial": False, "feature_matching": 5.0}, "feature_matching does nothing while adversarial is off"),
        ("pix2pix", {"adversarial": False, "discriminator_optimizer.lr": 1e-3}, "discriminator_optimizer.lr does nothing while adversarial is off"),
        ("cyclegan", {"gamma": 1.0}, "gamma does nothing while penalty is none"),
        ("dcgan", {"lr_decay_start": 0.5}, "lr_decay_start does nothing while schedule is constant: choose another schedule"),
        ("spectral", {"penalty_every": 4}, "penalty_every does nothing while penalty is none"),
        ("spectral", {"regularizer_weight": 4.0}, "regularizer_weight does nothing while regularizer is none"),
        ("vae", {"network.mixtures": 5}, "network.mixtures does nothing while network.likelihood is gaussian: set network.likelihood to logistic"),
        ("dcgan", {"generator.reference_batch": 8}, "generator.reference_batch does nothing while generator.norm is batch"),
        ("spectral", {"discriminator_optimizer.name": "sgd", "discriminator_optimizer.beta2": 0.9}, "discriminator_optimizer.beta2 does nothing while discriminator_optimizer.name is sgd"),
        ("auto", {"images": None, "minutes": math.inf}, "The budget must be more than 0 and at most one year"),
        ("auto", {"seed": 2**70}, "The option seed is 1180591620717411303424: give 0 to 9223372036854775807."),
        ("auto", {"ada_target": 0.5}, "ada_target does nothing while augmentation is auto: set augmentation to ada"),
        ("vqvae", {"labels": Path("classes.csv")}, "--labels has no meaning to a recipe that learns no classes"),
        ("auto", {"labels": Path("classes.csv"), "unconditional": True}, "leave one out"),
        ("pix2pix", {"drop_duplicates": True}, "--drop-duplicates has no meaning to a recipe that translates"),
        ("cyclegan", {"unconditional": True}, "--unconditional has no meaning to a recipe that translates"),
        ("cut", {"labels": Path("classes.csv")}, "--labels has no meaning to a recipe that translates"),
    ],
)
def test_values_that_make_no_sense(recipe: str, changes: dict, said: str, squares: Path, tmp_path: Path) -> None:
    second = squares if recipe in ("cyclegan", "pix2pix", "cut") else None
    with pytest.raises(ValueError, match=said):
        train(squares, second, recipe=recipe, out=tmp_path / "run", device="cpu", **{"images": 16, **changes})
    assert not (tmp_path / "run").exists()


def test_a_critic_may_be_left_out(squares: Path, tmp_path: Path) -> None:
    """Options of a discriminator that a preset states, and nobody asked for, are no reason to refuse."""
    for recipe, changes in (("pix2pix", {"adversarial": False}), ("vaegan", {"adversarial": 0.0})):
        second = squares if recipe == "pix2pix" else None
        run = train(squares, second, recipe=recipe, images=16, out=tmp_path / recipe, quiet=True, **changes)
        assert run.outcome.finished


@pytest.mark.parametrize(("recipe", "more"), [("vqvae", {}), ("vae", {"unconditional": True}), ("auto", {"unconditional": True})])
def test_pictures_without_a_class_are_trained_on_where_classes_mean_nothing(
    recipe: str, more: dict, tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(6):
        Image.fromarray(rng.integers(0, 256, (16, 16), np.uint8)).save(folder / f"{i}.png")
    (folder / "labels.csv").write_text("file,label\n0.png,a\n1.png,b\n2.png,a\n3.png,b\n")
    run = train(folder, recipe=recipe, images=16, batch=4, out=tmp_path / "run", quiet=True, device="cpu", **more)
    description = package.load(run.folder).description
    assert description["data"]["count"] == 6 and not package.load(run.folder).spec.classes
    assert not (run.folder / "skipped.txt").exists()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes."),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
    ],
)
def test_too_little_memory_is_a_sentence(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(folder: Path) -> None:
        raise error

    monkeypatch.setattr("limner.apps.show.table", fail)
    if "train" in cli.app:  # a process makes it once
        del cli.app["train"]
    with pytest.raises(RuntimeError if "mat1" in str(error) else SystemExit) as ended:
        cli.main(["show", "run"])
    if isinstance(ended.value, SystemExit):
        said = capsys.readouterr().err
        assert ended.value.code == 2 and said.startswith("There is not enough memory") and said.count("\n") == 1


@pytest.mark.slow
def test_a_run_stays_apart_from_the_data_and_from_what_is_no_run(tmp_path: Path) -> None:
    photos = tmp_path / "album" / "photos"
    photos.mkdir(parents=True)
    for i in range(4):
        Image.new("L", (16, 16), 60 * i).save(photos / f"{i}.png")
    for place in (photos, tmp_path / "album"):
        (place / "README.md").write_text("mine")
    (tmp_path / "link").symlink_to(photos)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "README.md").write_text("mine")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    for out, said in (
        (photos, "lies in the data"), (photos / "deep" / "run", "lies in the data"), (tmp_path / "link" / "x", "lies in the data"),
        (tmp_path / "album", "holds the data"), (tmp_path / "other", "holds other files, such as README.md"),
    ):  # fmt: skip
        assert said in sentence(limner("train", photos, *TINY, "--images", 16, "--out", out))
    assert "lies in the data" in sentence(limner("train", ".", *TINY, "--images", 16, cwd=photos))
    second = ["train", tmp_path / "link", photos, "--recipe", "cut", "--images", 16, "--out", photos / "run"]
    assert "lies in the data" in sentence(limner(*second))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.slow
def test_which_pictures_changed_is_said_and_an_edited_card_is_kept(tmp_path: Path) -> None:
    photos, run = tmp_path / "photos", tmp_path / "run"
    photos.mkdir()
    for i in range(4):
        Image.new("L", (16, 16), 60 * i).save(photos / f"{i}.png")
    command = ["train", photos, *TINY, "--images", 16, "--out", run]
    first = limner(*command)
    assert first.returncode == 0 and "4 pictures are too few for a generator" in first.stderr, first.stderr
    card = run / "README.md"
    card.write_text(card.read_text() + "License: mine\n")
    assert limner(*command).returncode == 0 and card.read_text().endswith("License: mine\n")
    Image.new("L", (16, 16), 7).save(photos / "0.png")
    (photos / "1.png").rename(photos / "new.png")
    said = sentence(limner(*command))
    assert "started on other pictures (1 added (new.png); 1 removed (1.png); 1 changed (0.png))" in said
    (run / "checkpoint" / "pictures.json.gz").write_bytes(b"damaged")
    assert "started on other pictures: give those" in sentence(limner(*command))


def test_an_empty_folder_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "is empty: give a folder that holds pictures" in sentence(limner("train", tmp_path / "empty", "--images", 16))
