"""A folder for a model hub, and its upload.

    onnx/model.onnx            the default part; model_fp16.onnx and model_quantized.onnx on request (transformers.js's names)
    config.json                what kind of model it is, and its classes
    preprocessor_config.json   how pictures become its input, for parts that take pictures
    README.md                  the run's model card, with code that needs numpy and onnxruntime only
    tokenizer.py               for parts that take tokens: the words of a text as numbers, in Python and numpy
    weights.safetensors, limner.json, preview.png    the run itself, for `limner.load`

transformers.js chooses a class by `model_type`. Its classes of a network that classifies pictures (`resnet`) and of one that turns
pictures into pictures (`swin2sr`) fit these graphs, so `pipeline("image-classification")` and `pipeline("image-to-image")` load them;
generators are loaded by `AutoModel`.
"""

from __future__ import annotations

import json
import re
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from limner.apps.export import onnx
from limner.apps.export.metadata import license_of, tokenizer_of
from limner.apps.export.part import Part
from limner.apps.export.parts import part_of
from limner.apps.export.report import Report
from limner.apps.export.snippet import snippet
from limner.apps.output import Progress
from limner.core import artifact, hashing
from limner.core.files import read_bytes, write_error, write_whole
from limner.core.schema import MAX_JSON_BYTES

FILES = {"fp32": "model.onnx", "fp16": "model_fp16.onnx", "int8": "model_quantized.onnx"}
TASKS = {
    "generator": "unconditional-image-generation", "autoencoder": "image-to-image", "translator": "image-to-image",
    "restorer": "image-to-image", "classifier": "image-classification", "text-to-image generator": "text-to-image",
}  # fmt: skip
TOKENIZER, COMPILED = "tokenizer.py", "__pycache__"  # Python leaves the second where it imported the first
OWN = ("onnx", "config.json", "preprocessor_config.json", "README.md", TOKENIZER, COMPILED, artifact.WEIGHTS, artifact.CARD, "preview.png")
MISSING = "Publishing needs the package huggingface_hub, which is not installed: `pip install 'limner[hub]'` adds it."
NO_TOKEN = "Publishing needs an access token of the hub: set HF_TOKEN, or log in once with `hf auth login`."
NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


def write(model: Any, out: Path, precision: str = "fp32", *, progress: Progress | None = None) -> Report:
    """Write a folder for a model hub. Raises ValueError for a folder that holds other files, and as `onnx.write`.

    precision: fp16 or int8 adds a smaller file beside the one in float32.
    """
    check_folder(out, model.folder)
    part = part_of(model)
    report = onnx.write(model, out / "onnx" / FILES["fp32"], progress=progress)
    notes = list(report.notes)
    if precision != "fp32":
        more = onnx.write(model, out / "onnx" / FILES[precision], precision=precision, progress=progress)
        notes += [note for note in more.notes if note not in notes]
    for name, content in configs(model, part).items():
        write_whole(out / name, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    if "tokens" in part.inputs:
        shutil.rmtree(out / COMPILED, ignore_errors=True)
        write_whole(out / TOKENIZER, Path(hashing.__file__).read_bytes())
    for name in (artifact.WEIGHTS, artifact.CARD, "preview.png"):
        if (model.folder / name).exists():
            try:
                shutil.copyfile(model.folder / name, out / name)
            except OSError as error:
                raise write_error(error, out / name) from error
    card = model_card(model, part)
    write_whole(out / "README.md", card)
    if license_of(card) in ("", "other"):
        notes.append(f"State the license of the pictures and the weights in {out / 'README.md'} before you share the folder.")
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    return Report(out, size, report.error, tuple(notes))


def check_folder(out: Path, run: Path) -> None:
    """Raise ValueError unless `out` is new, empty, or an earlier export."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file: give a folder that is new or empty.")
    if out.is_dir() and out.resolve() == run.resolve():
        raise ValueError(f"{out} is the run itself: give another folder.")
    others = [path.name for path in out.iterdir() if path.name not in OWN] if out.is_dir() else []
    if others:
        raise ValueError(f"{out} holds other files ({sorted(others)[0]}): give a folder that is new or empty.")


def configs(model: Any, part: Part) -> dict[str, Any]:
    """Return the contents of config.json, and of preprocessor_config.json for a part that takes pictures."""
    description = model.description
    kind = {"classifier": "resnet", "translator": "swin2sr", "restorer": "swin2sr"}.get(description["kind"], "limner")
    config: dict[str, Any] = {
        "model_type": kind,
        "limner": {
            "kind": description["kind"], "part": part.name, "architecture": description["network"]["architecture"],
            "inputs": {name: list(axes) for name, axes in part.inputs.items()},
            "outputs": {name: list(axes) for name, axes in part.outputs.items()},
            "pixels": [0, 1], "latents": "standard normal",
        },
    }  # fmt: skip
    if "tokens" in part.inputs:
        config["limner"]["tokenizer"] = tokenizer_of(model)
    classes = list(description["data"]["classes"])
    if classes:
        config |= {"num_labels": len(classes), "id2label": {str(i): name for i, name in enumerate(classes)}}
        config["label2id"] = {name: i for i, name in enumerate(classes)}
    found = {"config.json": config}
    axes = part.inputs.get("pixel_values")
    if axes is not None:
        fixed = isinstance(axes[2], int)
        found["preprocessor_config.json"] = {
            "image_processor_type": "ViTImageProcessor" if fixed else "Swin2SRImageProcessor",
            "do_resize": fixed, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": False, "do_pad": False,
            "do_convert_rgb": axes[1] == 3, "do_convert_grayscale": axes[1] == 1,
            **({"size": {"height": axes[2], "width": axes[3]}, "resample": 2} if fixed else {}),
        }  # fmt: skip
    return found


USE = """
## Use without Limner

`onnx/model.onnx` runs wherever ONNX does. Inputs: {inputs}. Outputs: {outputs}. {meaning}

{code}"""


def model_card(model: Any, part: Part) -> str:
    """Return the run's README.md with the task in its front matter and code for the graph."""
    text = read_bytes(model.folder / "README.md", MAX_JSON_BYTES).decode("utf-8", "replace") if (model.folder / "README.md").exists() else ""
    text = re.sub(r"\n<!-- Written by Limner .*?-->\n?", "\n", text)
    task = TASKS.get(str(model.description["kind"]))
    if task and text.startswith("---\n") and "\npipeline_tag:" not in text:
        text = f"---\npipeline_tag: {task}\n" + text.removeprefix("---\n")
    meaning, tokens = "Pixels are in [0,1], latents are standard normal.", ""
    if "tokens" in part.inputs:
        sizes = ", ".join(str(size) for size in (model.tokenizer.vocabulary, model.tokenizer.words, model.tokenizer.word_tokens))
        caption = model.captions[0].replace("`", "'")
        tokens = f"encode([{caption!r}] * 16, {sizes})"
        meaning += f" Tokens are those of `{TOKENIZER}`, as below."
    code = snippet(part, "onnx/model.onnx", model.description["data"]["classes"], tokens)
    use = USE.format(
        inputs=", ".join(f"`{name}` {_shape(axes)}" for name, axes in part.inputs.items()),
        outputs=", ".join(f"`{name}` {_shape(axes)}" for name, axes in part.outputs.items()),
        meaning=meaning,
        code=f"```python\n{code}```\n" if code else "",
    )
    return text.rstrip("\n") + "\n" + use


def _shape(axes: tuple[Any, ...]) -> str:
    return f"[{', '.join(map(str, axes))}]"


def push(model: Any, name: str, out: Path, private: bool = False, progress: Progress | None = None) -> str:
    """Export a model to the folder `out` and upload that to a hub, as the repository `name` (user/name). Returns its address.

    Raises ValueError when the package or the access token is missing, and when the hub refuses.
    """
    if not NAME.fullmatch(name):
        raise ValueError(f"A model on a hub is named user/name, not {name!r}.")
    if not find_spec("huggingface_hub"):
        raise ValueError(MISSING)
    from huggingface_hub import HfApi, get_token

    if get_token() is None:
        raise ValueError(NO_TOKEN)
    write(model, out, progress=progress)
    api = HfApi()
    try:
        address = api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=out, commit_message="Upload a model trained with Limner")
    except Exception as error:  # its errors, and those of the HTTP client below it, have no common class
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"The hub did not take the model ({reason}): check the name, the token and the network.") from error
    return str(address)
