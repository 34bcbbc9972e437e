"""The table of wrong commands and damaged files that test_hostile.py runs."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

Damage = Callable[[Path], None]
Case = tuple[str, list[str], Damage | None]  # name, command, what is done to the folder before

# ---- commands that are wrong in themselves ---------------------------------------------------------------------------

RECIPES = ("spectral", "r3gan", "dcgan", "vae", "vaegan", "vqvae")
FIT = ["train", "DATA", "--images", "16", "--threads", "1"]
WORDS = ["", "abc", "1.5x", "--", "1e", "½"]

COMMANDS: list[list[str]] = [
    ["paint"], ["-x"], ["--versio"], ["train"], ["sample"], ["show"], ["doctor"], ["data"], ["evaluate"], ["encode"],
    ["translate"], ["translate", "GAN"], ["reconstruct"], ["reconstruct", "VAE"], ["interpolate", "VAE"], ["traverse"],
    ["train", "DATA", "b", "c"], ["show", "GAN", "x"], ["doctor", "GAN", "x"], ["sample", "GAN", "x"], ["recipes", "x"],
    ["data", "DATA", "x"], ["evaluate", "GAN"], ["evaluate", "GAN", "--data"], ["encode", "VAE", "DATA", "x"],
    *([verb, place] for verb in ("show", "doctor", "sample") for place in
      ("nowhere", ".", "DATA", "/dev/null", "/dev/zero", "~nobody/x", "x" * 5000, "a/" * 2500, "a\nb", "\x1b[31mred", "\u202eabc")),
    *(["data", place] for place in ("nowhere", "~nobody/x", "x" * 5000, "\x1b]0;title\x07")),
    *(["train", place, "--images", "16"] for place in ("nowhere", "~nobody/x", "x" * 5000)),
    *([verb, "nowhere", "DATA"] for verb in ("reconstruct", "traverse", "encode", "translate")),
    *([verb, "GAN", "DATA"] for verb in ("reconstruct", "traverse")),
    ["translate", "GAN", "DATA", "out"], ["restore", "GAN", "DATA", "out"],
    ["edit", "GAN", "nowhere.latent.npz"], ["edit", "GAN", "--direction", "brighter"],
    ["edit", "GAN", "--out", "x.txt"], ["edit", "GAN", "--layers", "a"], ["mix", "GAN", "PNG", "PNG"],
    ["directions", "GAN", "--axes", "-1"], ["directions", "GAN", "--like", "DATA"], ["dream", "GAN", "--layer", "none"],
    ["dream", "GAN", "--octaves", "0"], ["explain", "GAN", "--layer", "none"], ["sample", "GAN", "--loop"],
    ["sample", "GAN", "--frames", "nowhere.latent.npz", "--out", "x.gif"], ["interpolate", "GAN", "nowhere.png", "b.png"],
    ["interpolate", "GAN", "a.png", "b.png"], ["interpolate", "VAE", "a.png", "b.png"],
    ["interpolate", "VAE", "PNG", "nowhere.png"], ["interpolate", "VAE", "PNG", "PNG", "--steps", "1"],
    ["interpolate", "VAE", "PNG", "PNG", "--out", "x.bmp"], ["traverse", "VAE", "DATA", "--dims", "0"],
    ["traverse", "VAE", "DATA", "--steps", "1"], ["traverse", "VAE", "DATA", "--around", "nowhere.png"],
    ["encode", "VAE", "DATA", "--out", "x.txt"], ["reconstruct", "VAE", "DATA", "--out", "x.jpg"],
    ["reconstruct", "VAE", "DATA", "-n", "0"], ["reconstruct", "VAE", "nowhere"], ["encode", "VAE", "nowhere"],
    ["sample", "GAN", "--out", "x.bmp"], ["sample", "GAN", "--out", "x.txt"], ["sample", "GAN", "-n", "0"],
    ["sample", "GAN", "-n", "-1"], ["sample", "GAN", "--label", "cat"], ["sample", "GAN", "--label", "7"],
    ["sample", "VAE", "--label", "99"], ["sample", "GAN", "--truncation", "0"], ["sample", "GAN", "--truncation", "-1"],
    ["sample", "GAN", "--device", "tpu"], ["sample", "GAN", "--device", "Auto"], ["sample", "GAN", "--device", ""],
    ["sample", "GAN", "--n", "3"], ["sample", "GAN", "--out", "/dev/full"], ["sample", "GAN", "--out", "/dev/null"],
    ["sample", "GAN", "--out", "GAN/limner.json/x.png"], ["sample", "GAN", "--out", "x" * 300 + ".png"],
    ["sample", "GAN", "--out", "/proc/x.png"],
    *(["sample", "GAN", option, word] for option in ("-n", "--seed", "--truncation", "--seconds") for word in WORDS),
    ["evaluate", "GAN", "--data", "nowhere"], ["evaluate", "nowhere", "--data", "DATA"],
    ["evaluate", "GAN", "--data", "DATA", "--metrics", "best"], ["evaluate", "GAN", "--data", "DATA", "--features", "best"],
    ["evaluate", "GAN", "--data", "DATA", "--direction", "a2b"], ["evaluate", "GAN", "--data", "DATA", "--direction", "up"],
    ["evaluate", "GAN", "--data", "DATA", "--out", "x.pdf"], ["evaluate", "GAN", "--data", "DATA", "--size", "big"],
    ["evaluate", "GAN", "--data", "DATA", "DATA"], ["evaluate", "GAN", "--data", "DATA", "--out", "limner.html"],
    ["evaluate", "GAN", "--data", "DATA", "--size", "8"], ["evaluate", "GAN", "--data", "DATA", "--features", "inception"],
    *(["data", "DATA", "--size", size] for size in ("big", "0", "-4", "4x", "x4", "4x4x4", "1e3", " ")),
    *(["data", "DATA", "--fit", fit] for fit in ("Crop", "zoom", "")),
    *(["data", "DATA", "--channels", c] for c in ("2", "rgb", "")),
    *(["data", "DATA", "--background", c] for c in ("nocolor", "#12", "")),
    ["data", "DATA", "--sheet", "x.jpg"], ["data", "DATA", "--labels", "nowhere.csv"],
    *([*FIT, *more] for more in (
        ["--recipe", "dcgaan"], ["--recipe", ""], ["--recipe"], ["--size", "big"], ["--size", "4"], ["--size", "0"],
        ["--minutes", "1"], ["--device", "tpu"], ["--device", "Auto"], ["--precision", "fp16"], ["--precision", "Auto"],
        ["--metric", "fid"], ["--metric", "None"], ["--threads", "2"], ["--sizee", "3"], ["--out"],
        ["--objective", "best"], ["--objective", "Hinge"], ["--schedule", "cubic"], ["--mixing", "0.5"],
        ["--augmentation", "wild"], ["--penalty", "r3"], ["--regularizer", "lengthy"], ["--noise", "pink"],
        ["--architecture", "cnn"], ["--gamma", "1"], ["--penalty-every", "2"], ["--ada-target", "0.5"],
        ["--regularizer-weight", "1"], ["--discriminator-optimizer.name", "lion"], ["--fit", "zoom"], ["--channels", "2"],
        ["--background", "nocolor"], ["--labels", "nowhere.csv"], ["--unconditional", "--labels", "DATA"],
        ["--out", "/dev/null/x"], ["--out", "DATA"], ["--out", "x" * 300], ["--out", "/proc/x"],
        ["--auto-tune", "--no-doctor"], ["--out", "GAN"], ["--out", "GAN", "--seed", "1"],
        ["--recipe", "vae", "--architecture", "dcgan"], ["--recipe", "vae", "--auto-tune"], ["--recipe", "vae", "--feature-matching", "1"],
        ["--recipe", "vae", "--network.likelihood", "cauchy"], ["--recipe", "dcgan", "--generator.norm", "layer"],
        ["--recipe", "dcgan", "--regularizer", "path-length"], ["--recipe", "pix2pix", "--unconditional"],
        ["--recipe", "vae", "--labels", "x.csv"], ["--recipe", "vqvae", "--network.likelihood", "x"],
        ["--generator.depth", "3"], ["--generator", "5"], ["--batch", "32", "--batch", "16"],
    )),
    *([*FIT, f"--{name}", value] for name, values in {
        "batch": ("0", "-1", "1.5x", "abc", "", "1" + "0" * 20), "generator.width": ("0", "-8", "abc", "100000", "1" + "0" * 30),
        "generator.z-size": ("0", "-1", "1" + "0" * 12), "generator_optimizer.lr": ("-1", "nan", "inf", "abc"),
        "discriminator_optimizer.beta1": ("1.0", "-0.1", "2", "nan"), "discriminator_optimizer.beta2": ("1.0", "-1", "1e9"), "grad_clip": ("-1", "nan", "inf"),
        "lr-decay-start": ("-1", "2", "nan"), "lr_warmup": ("-1", "2", "nan"), "ema-half-life": ("-1", "nan", "inf"),
        "seed": ("-1", "abc", "1" + "0" * 30), "threads": ("0", "-1", "1" + "0" * 9), "checkpoint-minutes": ("-1", "nan", "inf"),
        "images": ("0", "-5", "abc", "1" + "0" * 20), "discriminator-steps": ("0", "-1"), "micro_batch": ("-1", "abc"), "flip": ("maybe",),
        "historical": ("-1", "nan"), "classifier": ("-1", "nan"), "discriminator-optimizer.weight-decay": ("-1", "nan", "inf"),
    }.items() for value in values if name not in ("threads", "images")),
    *(["train", "DATA", "--images", value] for value in ("0", "-5", "abc", "1" + "0" * 20)),
    *(["train", "DATA", "--minutes", value] for value in ("0", "-5", "abc", "nan", "inf")),
    *(["train", "DATA", "--images", "16", "--threads", value] for value in ("0", "-1", "1" + "0" * 9)),
    *([*FIT, "--recipe", recipe, "--batch", "0"] for recipe in RECIPES),
    *([*FIT, "--recipe", recipe, f"--{'network' if 'vae' in recipe else 'generator'}.width", "-8"] for recipe in RECIPES),
]  # fmt: skip

# ---- files that were damaged -----------------------------------------------------------------------------------------


def field(path: str, value: Any, file: str = "limner.json") -> Damage:
    """Set a value of a JSON file by dotted name; DROP removes it."""

    def damage(run: Path) -> None:
        document = json.loads((run / file).read_text())
        *above, last = path.split(".")
        at = document
        for key in above:
            at = at[key]
        at.pop(last) if value is DROP else at.__setitem__(last, value)
        (run / file).write_text(json.dumps(document))

    return damage


DROP = object()


def content(file: str, data: bytes) -> Damage:
    return lambda run: (run / file).write_bytes(data) and None


def instead(file: str, make: Callable[[Path], object]) -> Damage:
    """Another kind of thing in the place of a file."""

    def damage(run: Path) -> None:
        shutil.rmtree(run / file) if (run / file).is_dir() else (run / file).unlink(missing_ok=True)
        make(run / file)

    return damage


def scalars(change: Callable[[dict], object]) -> Damage:
    """Change the scalars of every checkpoint."""

    def damage(run: Path) -> None:
        for name in ("latest", "previous", "rollback"):
            path = run / f"checkpoint/{name}.safetensors"
            with safe_open(path, "pt") as file:
                found = json.loads(file.metadata()["scalars"])
            changed = change(found)
            tensors = load_file(path)
            path.unlink()  # two of them may be one file
            save_file(tensors, path, {"scalars": json.dumps(found if changed is None else changed)})

    return damage


def tensor(name: str, value: Any) -> Damage:
    def damage(run: Path) -> None:
        for path in run.glob("checkpoint/*.safetensors"):
            with safe_open(path, "pt") as file:
                kept = file.metadata()
            tensors = load_file(path) | {name: value}
            path.unlink()
            save_file(tensors, path, kept)

    return damage


KINDS: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo, "a folder": lambda p: p.mkdir(), "a device": lambda p: p.symlink_to("/dev/zero"),
    "a loop": lambda p: p.symlink_to(p), "unreadable": lambda p: (p.write_text("{}"), p.chmod(0)),
}  # fmt: skip
BYTES = {"nothing": b"", "not UTF-8": b"\xff\xfe{", "zeros": b"\0" * 64, "deep": b"[" * 100_000, "half": b'{"format": 1, "a": {',
         "a list": b"[]", "a number": b"7", "null": b"null", "deep object": b'{"format":' * 50_000}  # fmt: skip

DESCRIPTIONS: dict[str, tuple[Any, ...]] = {
    "format": (DROP, "1", 99), "kind": (DROP, "painter", [], ""), "recipe": (DROP, [], {"name": []}), "recipe.name": (DROP, ["x"], ""),
    "data": (DROP, [], "x"), "data.name": (DROP, [], 5), "data.origin": (DROP, {}), "data.count": ("s", -1, [], 1e400),
    "data.spec": (DROP, [], {}), "data.spec.height": ("16", -1, 0, 10**12, True), "data.spec.channels": (2, "1", [1]),
    "data.spec.condition": (DROP, 3, {}), "data.spec.condition.kind": (DROP, "sound", 3), "data.spec.condition.size": (3, -1, 10**12, "two"), "data.spec.condition.length": (DROP, 5, -1),
    "data.classes": ("ab", [1, 2], {}, ["a"]), "data.class_counts": ("xx", [0, 0], [-1, 2], [1]),
    "data.fit": ("zoom", 5), "network": (DROP, [], "x"), "network.name": (DROP, [], ""), "network.architecture": (DROP, [], ""),
    "network.config": (DROP, [], {"width": []}, {"width": {"a": 1}}), "training": (DROP, [], {}), "training.images": ("s", -1, [], 1.5),
    "training.budget": (DROP, 0, "x"), "training.seconds": ([], -1, "x", float("nan")), "training.machine": (5, []),
    "training.seed": ("0", -1, []), "metrics": (DROP, [], {"a": "b"}), "license": (DROP, [], 5),
}  # fmt: skip
NETWORKS: dict[str, tuple[Any, ...]] = {
    "network.architecture": ("nonesuch", "vae", "../../x"), "network.name": ("discriminator",),
    "network.config": ({"widht": 8}, {"width": -8}, {"width": 10**9}, {"width": 0}, {"width": 8.5}, {"width": "8"}, {"z_size": 10**15}),
    "network.noise": ("pink", ""), "data.spec.height": (17, 65_536),
}  # fmt: skip
DECISIONS: dict[str, tuple[Any, ...]] = {
    "decided": (DROP, {}, [], 5), "decided.images": ("many", -5, 0, 1e300, None, DROP),
    "decided.images_per_second": (0, -1, "fast", [], DROP), "decided.precision": ("fp8", 5), "decided.costs": (DROP, [], ["x"]),
    "decided.besides": (DROP, "x"), "request": (DROP, [], 5),
}  # fmt: skip
SCALARS: dict[str, Callable[[dict], object]] = {
    "nothing": lambda s: s.clear(), "a list": lambda s: [], "seen 10^12": lambda s: s.update(seen=10**12),
    "seen -1": lambda s: s.update(seen=-1), "seen text": lambda s: s.update(seen="x"), "no seen": lambda s: s.pop("seen") and None,
    "seconds": lambda s: s.update(seconds=[]), "lr_scale": lambda s: s.update(lr_scale={}), "caution text": lambda s: s.update(lr_scale={"discriminator": "x", "generator": 1}),
    "levers": lambda s: s.update(levers={"gravity": 1}), "grad_stats": lambda s: s.update(grad_stats=5), "nonfinite_count": lambda s: s.update(nonfinite_count="x"),
    "memory": lambda s: s.update(memory={}), "doctor": lambda s: s.update(memory={"doctor": []}),
    "doctor's signals": lambda s: s["memory"]["doctor"].update(signals=[["a"]]), "doctor's numbers": lambda s: s["memory"]["doctor"].update(signals=[{"right": "x"}]),
    "doctor's last adjustment": lambda s: s["memory"]["doctor"].update(last_adjusted="x"),
}  # fmt: skip
LINES = {"images": b'{"images": "many"}\n', "negative": b'{"images": -5}\n', "a figure": b'{"images": 1, "logit_gap": "x"}\n',
         "a finding": b'{"images": 1, "doctor": 5}\n', "a finding's text": b'{"images": 1, "doctor": {"finding": []}}\n',
         "a list": b"[]\n", "huge": b'{"images": 1e300}\n'}  # fmt: skip

AGAIN = ["train", "DATA", "--recipe", "spectral", "--generator.width", "8", "--discriminator.width", "8", "--batch", "16", "--threads", "1", "--images", "64",
         "--out", "GAN", "--quiet"]  # fmt: skip


def damaged() -> list[Case]:
    """Every damage to a run, with the verbs that must refuse it."""
    found: list[Case] = []
    for path, values in DESCRIPTIONS.items():
        for i, value in enumerate(values):
            verb = ("show", "sample", "doctor")[i % 3]
            found.append((f"limner.json {path} {i}", [verb, "GAN"], field(path, value)))
    for path, values in NETWORKS.items():
        found += [(f"limner.json {path} {value!s:.30}", ["sample", "GAN"], field(path, value)) for value in values]
    for path, values in DECISIONS.items():
        found += [(f"run.json {path} {i}", AGAIN, field(path, value, "run.json")) for i, value in enumerate(values)]
    for name, data in BYTES.items():
        found.append((f"limner.json holds {name}", ["show", "GAN"], content("limner.json", data)))
        found.append((f"run.json holds {name}", AGAIN, content("run.json", data)))
    for name, make in KINDS.items():
        found.append((f"limner.json is {name}", ["show", "GAN"], instead("limner.json", make)))
        found.append((f"log.jsonl is {name}", ["doctor", "GAN"], instead("log.jsonl", make)))
        found.append((f"run.json is {name}", AGAIN, instead("run.json", make)))
        found.append((f"weights are {name}", ["sample", "GAN"], instead("weights.safetensors", make)))
        if name not in ("a loop",):
            found.append((f"a checkpoint is {name}", AGAIN, instead("checkpoint/latest.safetensors", make)))
    found += [(f"log.jsonl: {name}", ["doctor", "GAN"], content("log.jsonl", data)) for name, data in LINES.items()]
    found.append(("log.jsonl is gone", ["doctor", "GAN"], lambda run: (run / "log.jsonl").unlink()))
    found += [(f"scalars: {name}", AGAIN, scalars(change)) for name, change in SCALARS.items()]
    tensors = {"optimizer.discriminator.999.exp_avg": np.zeros(3), "optimizer.discriminator.x.exp_avg": np.zeros(3), "optimizer.discriminator.0.memory": np.zeros(3),
               "optimizer.discriminator.0.exp_avg": np.zeros(3), "optimizer.stranger.0.step": np.zeros(1), "net.stranger.w": np.zeros(3)}  # fmt: skip
    found += [(f"tensor {name}", AGAIN, tensor(name, torch.from_numpy(v.astype(np.float32)))) for name, v in tensors.items()]
    for file in ("weights.safetensors",):
        for name, data in {"nothing": b"", "zeros": b"\0" * 99, "a huge head": b"\xff" * 8, "half": b"\x10\0\0\0\0\0\0\0{}"}.items():
            found.append((f"{file} holds {name}", ["sample", "GAN"], content(file, data)))
    return found


NONSENSE: list[list[str]] = [  # numbers without meaning, runs into their data, endless data, more than memory
    ["sample", "GAN", "--truncation", "1e-9"], ["sample", "GAN", "--truncation", "nan"], ["sample", "GAN", "--seed", "1.5"],
    ["sample", "GAN", "--seed", "-1"], ["sample", "GAN", "-n", "1.5"], ["sample", "GAN", "-n", "1" + "0" * 12],
    *(["sample", "GAN", "--seconds", value, "--out", "x.gif"] for value in ("inf", "-1", "1e9", "nan", "0")),
    ["train", "DATA", "--minutes", "1e308"], ["train", "PNGS", "--images", "16", "--out", "PNGS"],
    ["data", "/dev/zero"], ["train", "/dev/zero", "--images", "16"], ["data", "NESTED"],
    [*FIT, "--batch", "100000000"], [*FIT, "--generator.width", "60000"],
]  # fmt: skip

CASES: list[Case] = [(" ".join(c)[:80], c, None) for c in COMMANDS + NONSENSE] + damaged()
