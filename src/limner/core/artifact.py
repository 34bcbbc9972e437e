"""A trained model on disk: a self-describing folder that is safe to load from an untrusted source.

    weights.safetensors   the EMA weights, `<network>.<parameter>`
    limner.json           recipe, data, network configuration, training state and metrics
    preview.png           sample outputs
    README.md             the model card
    log.jsonl             losses, speed and the validation metric over images seen

Loading executes no code: the files hold JSON and raw tensors only. The names and shapes of all tensors are compared with
those of the described network before any tensor is read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from limner.core import checkpoint, schema
from limner.core.documents import check_description, check_entry
from limner.core.files import open_regular, read_bytes, write_tensors, write_whole

FORMAT = 2
WEIGHTS, CARD = "weights.safetensors", "limner.json"
DECISIONS = "run.json"    # decisions made at the start of a run; written before any picture
OWN = (WEIGHTS, CARD, DECISIONS, "README.md", "preview.png", "progress.webp", "log.jsonl", "samples", "best", "checkpoint")
MAX_LOG_BYTES = 1 << 30
MAX_PARAMETERS = 20_000_000_000  # a description with more is damaged or hostile


def save(folder: Path, nets: Mapping[str, nn.Module], description: Mapping[str, Any], model_card: str) -> None:
    """Write the networks, their description and the model card, each file atomically. Raises ValueError on disk errors."""
    tensors = {f"{name}.{key}": value for name, net in nets.items() for key, value in net.state_dict().items()}
    write_tensors(folder / WEIGHTS, tensors, {"format": "pt", "sha256": content_hash(tensors)})
    write_whole(folder / CARD, json.dumps({"format": FORMAT, **description}, indent=1, ensure_ascii=False) + "\n")
    if not _edited(folder / "README.md"):
        write_whole(folder / "README.md", model_card + _signature(model_card))


def _signature(text: str) -> str:
    digest = hashlib.sha256(text.strip().encode()).hexdigest()[:16]
    return f"\n<!-- Written by Limner ({digest}); once edited, it is kept as it is. -->\n"


def _edited(path: Path) -> bool:
    """Return whether `path` holds a README.md that differs from the one `save` wrote."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    except (OSError, UnicodeDecodeError):
        return True
    body, marker, _ = text.rpartition("\n<!-- Written by Limner (")
    return not marker or text != body + _signature(body)


def content_hash(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of the names and values of tensors, in hex.

    It is stored in the metadata of the weights file, so that a kill between two writes cannot separate them.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_description(folder: Path) -> dict[str, Any]:
    """Read and validate the `limner.json` of a trained model. Raises ValueError when it is missing or invalid."""
    path = folder / CARD
    try:
        description = schema.parse(read_bytes(path, schema.MAX_JSON_BYTES))
        version = description.get("format") if isinstance(description, dict) else None
        if not isinstance(version, int):
            raise ValueError(f"{path} is not a description that Limner wrote.")
        if version > FORMAT:
            raise ValueError(f"{folder} was written by a newer Limner: update with `pip install -U limner`.")
        if version < FORMAT:
            raise ValueError(f"{folder} has format {version}, and this Limner reads format {FORMAT}: train it again.")
        return check_description(description)
    except FileNotFoundError as error:
        if not folder.is_dir():
            raise ValueError(f"There is no folder {folder}: give the folder that `limner train` wrote.") from error
        raise ValueError(f"{folder} is not a trained run: it holds no {CARD}.") from error
    except schema.Mismatch as error:
        raise ValueError(f"{path} is damaged: {error}.") from error


def preparation(description: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keywords of `data.prepare` that reproduce the preprocessing of the training data."""
    data = description["data"]
    return {"fit": str(data.get("fit", "crop")), "background": str(data.get("background", "white"))}


def images_seen(line: str) -> int | None:
    """Return the images seen of a line of `log.jsonl`; None for a truncated line. Raises Mismatch for invalid fields."""
    entry = _entry(line)
    return None if entry is None else int(entry["images"])


def _entry(line: str) -> dict[str, Any] | None:
    try:
        entry = schema.parse(line)
    except schema.Mismatch:
        return None
    return check_entry(entry)


def read_lines(path: Path) -> list[str]:
    """Return the lines of a run's log; empty when there is none.

    Bytes that are not UTF-8 become U+FFFD: a machine that lost power may leave any. Raises ValueError when the log cannot
    be read.
    """
    try:
        return read_bytes(path, MAX_LOG_BYTES).decode("utf-8", "replace").split("\n")
    except FileNotFoundError:
        return []


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Return the entries of a run's `log.jsonl`, in order; empty when there is none.

    A truncated line is skipped. Raises ValueError naming line and field of an invalid entry.
    """
    path, entries = folder / "log.jsonl", []
    for i, line in enumerate(read_lines(path), 1):
        try:
            entry = _entry(line)
        except schema.Mismatch as error:
            raise ValueError(f"{path} is damaged: in line {i:,}, {error}.") from error
        if entry is not None:
            entries.append(entry)
    return entries


def load_from_checkpoint(folder: Path, name: str, net: nn.Module, device: torch.device) -> nn.Module:
    """Load the network `name` of a run's newest readable checkpoint into `net`, as `load_weights` does a published network.

    A checkpoint holds every network of a training, such as the discriminator, at its last state and not averaged; `best/` has
    none and uses that of its run. Raises ValueError when there is none, or when it does not hold this network.
    """
    expected, prefix, run = net.state_dict(), f"net.{name}.", checkpoint.run_of(folder)
    if sum(t.numel() for t in expected.values()) > MAX_PARAMETERS:
        raise ValueError(f"{folder / CARD} describes a network too large to be true.")

    def read(file: Any) -> dict[str, Tensor]:
        if {key for key in file.keys() if key.startswith(prefix)} != {prefix + key for key in expected}:  # noqa: SIM118 - not a dict
            raise schema.Mismatch("the tensors are of another network")
        if any(tuple(file.get_slice(prefix + key).get_shape()) != tuple(t.shape) for key, t in expected.items()):
            raise schema.Mismatch("the tensors have other shapes")
        found = {key: file.get_tensor(prefix + key) for key in expected}
        if not all(found[key].dtype == t.dtype and found[key].isfinite().all() for key, t in expected.items()):
            raise schema.Mismatch("the values are of another type, or not finite")
        return found

    tensors, problems = checkpoint.newest(run / "checkpoint", read, (checkpoint.LATEST, checkpoint.PREVIOUS), str(device))
    if tensors is not None:
        net.load_state_dict(tensors, assign=True)
        return net.requires_grad_(False).eval()
    if problems:
        raise ValueError(f"The checkpoints of {run} hold no readable {name} that fits {CARD}: copy the run again, or train anew.")
    raise ValueError(
        f"{run} holds no folder checkpoint, where a run keeps its {name}: give the folder as `limner train` left it, not only the "
        "published files."
    )


def load_weights(folder: Path, name: str, net: nn.Module, device: torch.device) -> nn.Module:
    """Load the weights of the network `name` into `net`, which is on the meta device; return it on `device`, frozen.

    Raises ValueError when the file is missing or damaged, when names, shapes or types differ from the network's, or when
    values are not finite.
    """
    path = folder / WEIGHTS
    expected = net.state_dict()
    if sum(t.numel() for t in expected.values()) > MAX_PARAMETERS:
        raise ValueError(f"{folder / CARD} describes a network too large to be true.")
    damaged = f"{path} does not fit its description: the run folder is damaged or was changed."
    tensors: dict[str, Tensor] = {}
    try:
        open_regular(path).close()  # raises a clear error, and never blocks on a pipe
        with safe_open(path, "pt", device=str(device)) as file:
            if set(file.keys()) != {f"{name}.{key}" for key in expected}:
                raise ValueError(damaged)
            for key, wanted in expected.items():
                if tuple(file.get_slice(f"{name}.{key}").get_shape()) != tuple(wanted.shape):
                    raise ValueError(damaged)
            tensors = {key: file.get_tensor(f"{name}.{key}") for key in expected}
            if content_hash({f"{name}.{key}": t for key, t in tensors.items()}) != (file.metadata() or {}).get("sha256"):
                raise ValueError(f"{path} is damaged (its content does not fit its SHA-256): copy it again, or train anew.")
    except FileNotFoundError as error:
        raise ValueError(f"{folder} holds no {WEIGHTS}: the run was stopped before its first checkpoint.") from error
    except (SafetensorError, OSError) as error:
        raise ValueError(damaged) from error
    if any(tensors[key].dtype != wanted.dtype for key, wanted in expected.items()):
        raise ValueError(damaged)
    if not all(t.isfinite().all() for t in tensors.values()):
        raise ValueError(f"{path} holds values that are not finite: the training failed, so train anew.")
    net.load_state_dict(tensors, assign=True)
    return net.requires_grad_(False).eval()
