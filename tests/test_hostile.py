"""Wrong commands and damaged files: each is refused with exit code 2 and one sentence, at once, and changes nothing.

The cases stand in hostile.py. Every one runs in a process forked from this one, which has imported everything, so that
hundreds take seconds.
"""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import limner
import limner.apps.evaluate
from hostile import CASES, field
from limner.families import load as loading

if not hasattr(os, "fork"):
    pytest.skip("cases are forked, which this system cannot do", allow_module_level=True)

SECONDS = 10  # in which a command must answer
MEMORY = 12 << 30  # bytes of address space: a library's threads and maps take some of it
GROUPS = 12  # tests that the cases are shared out to, for parallel workers

# ---- running them ----------------------------------------------------------------------------------------------------


def run(arguments: list[str], where: Path, out: Path, nobody: bool = False) -> tuple[int, float, str]:
    """(exit code or 128 + signal, seconds, what was said) of a command in a forked process in the folder `where`."""
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        code = 99
        try:
            os.chdir(where)
            signal.alarm(SECONDS + 5)
            handle = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            nothing = os.open(os.devnull, os.O_RDWR)
            os.dup2(nothing, 0), os.dup2(nothing, 1), os.dup2(handle, 2)
            sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            if nobody and os.geteuid() == 0:  # whom no permission stops
                os.setgroups([])
                os.setresgid(65534, 65534, 65534)
                os.setresuid(65534, 65534, 65534)
            from limner.cli import main

            main(arguments)
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 98
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    return os.waitstatus_to_exitcode(status), time.monotonic() - start, out.read_text(errors="replace")


def state(folder: Path) -> dict[str, str]:
    """What stands in a folder: the kind and content of everything but a lock, which says nothing."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink() or path.is_fifo():
            found[name] = "special"
        elif path.is_dir():
            found[name] = "folder"
        elif path.name != ".lock":
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def warm() -> None:
    """Bring in once, for all cases, what PyTorch imports at its first network without memory and its first optimizer."""
    with torch.device("meta"):
        torch.nn.init.normal_(torch.nn.Conv2d(1, 1, 3).weight)
    torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], fused=True).zero_grad()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, squares: Path) -> Path:
    """A folder with data, a picture, and the runs of a generator and an autoencoder."""
    warm()
    folder = tmp_path_factory.mktemp("hostile")
    shutil.copy(squares, folder / "data.npz")
    Image.new("L", (16, 16), 90).save(folder / "one.png")
    (folder / "pngs").mkdir()
    shutil.copy(folder / "one.png", folder / "pngs")
    (folder / "nested" / "/".join("d" * 100)).mkdir(parents=True)  # 1,500 are another test's: tools cannot remove them
    small = ["--batch", "16", "--threads", "1", "--images", "64", "--quiet"]
    narrow = {"gan": ["--generator.width", "8", "--discriminator.width", "8"], "vae": ["--network.width", "8"]}
    for recipe, name in (("spectral", "gan"), ("vae", "vae")):
        code, _, said = run(["train", "data.npz", "--recipe", recipe, *small, *narrow[name], "--out", name], folder, folder.parent / "said.txt")
        assert code == 0, said
    for name in ("gan", "vae"):
        loading.load(folder / name, "cpu")
    return folder


DOING = ("Starting (loading PyTorch) ...", "Reading the pictures ...", "Measuring the speed ...")
PLACES = {"DATA": "data.npz", "GAN": "gan", "VAE": "vae", "PNG": "one.png", "PNGS": "pngs", "NESTED": "nested"}


@pytest.mark.parametrize("group", range(GROUPS))
def test_refused_in_one_sentence_and_nothing_changes(group: int, template: Path, tmp_path: Path) -> None:
    wrong = []
    whole = state(template)
    for name, command, damage in CASES[group::GROUPS]:
        where = template
        if damage:
            where = tmp_path / "damaged"
            shutil.rmtree(where, ignore_errors=True)
            shutil.copytree(template, where)
            damage(where / "gan")
            _open_to_all(where)
        before = whole if not damage else state(where)
        code, seconds, said = run([_placed(word) for word in command], where, tmp_path / "said.txt", nobody="unreadable" in name)
        lines = [line for line in said.splitlines() if line.strip() and line not in DOING]
        faults = [
            f"exit {code}" if code != 2 and code < 128 else "",
            f"{len(lines)} lines" if len(lines) != 1 else "",
            "traceback" if "Traceback" in said else "",
            "control characters" if any(not c.isprintable() and c != "\n" for c in said) else "",
            f"{seconds:.1f} s" if seconds > SECONDS else "",
            "the disk changed" if state(where) != before else "",
        ]
        if any(faults):
            whole = state(template)  # one fault is not to be told of every case after it
            wrong.append(f"{name}: {', '.join(filter(None, faults))}\n    {said[-300:]}")
    assert not wrong, f"{len(wrong)} of {len(CASES[group::GROUPS])}:\n" + "\n".join(wrong)


def _placed(word: str) -> str:
    for key, value in PLACES.items():
        word = value + word[len(key) :] if word == key or word.startswith(f"{key}/") else word
    return word


def _open_to_all(folder: Path) -> None:
    """Let the process of a case, which is nobody where this one is root, write whatever was not locked on purpose."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink() and path.stat().st_mode & 0o777:
            path.chmod(0o777 if path.is_dir() else 0o666)


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 300 and len({name for name, *_ in CASES}) > 290


# ---- what a run leaves, and what is printed of a stranger's ----------------------------------------------------------


def test_files_have_the_mode_that_the_umask_leaves(template: Path) -> None:
    shown = os.umask(0)
    os.umask(shown)
    for path in (p for p in template.rglob("*") if p.is_file()):
        if path.suffix in (".safetensors", ".json", ".md", ".png"):
            assert path.stat().st_mode & 0o777 == 0o666 & ~shown, path


def test_nothing_that_is_shared_names_a_place_of_the_machine(template: Path, tmp_path: Path) -> None:
    run_folder = tmp_path / "run"
    small = ["--recipe", "spectral", "--generator.width", "8", "--discriminator.width", "8", "--batch", "16", "--threads", "1", "--images", "64", "--quiet"]
    code, _, said = run(["train", str(template / "data.npz"), *small, "--out", str(run_folder)], tmp_path, tmp_path / "s.txt")
    assert code == 0, said
    for command in (["doctor", str(run_folder)], ["evaluate", str(run_folder), "--data", str(template / "data.npz"), "-n", "60",
                    "--features", "pixels"]):  # fmt: skip
        code, _, said = run(command, tmp_path, tmp_path / "s.txt")
        assert code == 0, said
    private = run_folder / "checkpoint"  # holds the command, with the place of the data, that resumes the run
    shared = [p for p in run_folder.rglob("*") if p.suffix in (".json", ".md", ".html", ".txt", ".jsonl") and private not in p.parents]
    assert {p.name for p in shared} >= {"limner.json", "README.md", "doctor.html", "evaluation.html", "evaluation.json"}
    for path in shared:
        assert str(template) not in path.read_text() and str(tmp_path) not in path.read_text(), path


def printed(arguments: list[str], **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "limner", *arguments], capture_output=True, text=True, timeout=60, **more)


def test_names_of_a_stranger_cannot_steer_a_terminal(template: Path, tmp_path: Path) -> None:
    folder = tmp_path / "gan"
    shutil.copytree(template / "gan", folder)
    evil = "\x1b]0;owned\x07\x1b[2J\u202etxt.\x9b31m\n"
    for path in ("recipe.name", "data.name", "data.origin", "training.machine"):
        field(path, evil)(folder)
    field("data.classes", [evil, "b"])(folder)
    for done in (printed(["show", str(folder)]), printed(["sample", str(folder), "--label", "x"])):
        text = done.stdout + done.stderr
        assert "owned" in text.replace("\n", "") and all(c.isprintable() or c == "\n" for c in text)


def test_a_closed_pipe_a_full_disk_and_a_narrow_terminal(template: Path) -> None:
    limner = f"{sys.executable} -m limner"
    done = subprocess.run(["bash", "-c", f"{limner} show gan | true; exit ${{PIPESTATUS[0]}}"], cwd=template, capture_output=True)
    assert done.returncode == 128 + signal.SIGPIPE and not done.stderr
    done = subprocess.run(["bash", "-c", f"{limner} show gan > /dev/full"], cwd=template, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "No space left" in done.stderr
    assert printed(["train", "--help"], env={**os.environ, "COLUMNS": "1"}).returncode == 0


def test_the_package_shows_its_two_functions_only() -> None:
    assert [name for name in dir(limner) if not name.startswith("__")] == ["load", "train"]
