"""A tuned copy of a generator: what to add to its weights, as half-precision safetensors. The run itself is never changed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from limner.core.artifact import content_hash
from limner.core.files import open_regular, write_tensors


def save_delta(path: Path, delta: Mapping[str, Tensor], fingerprint: str) -> str:
    """Write changes of parameters by name, rounded to float16; return their SHA-256. Raises ValueError on disk errors.

    fingerprint: of the generator that they belong to.
    """
    tensors = {name: rounded(change) for name, change in delta.items()}
    digest = content_hash(tensors)
    write_tensors(path, tensors, {"format": "pt", "generator": fingerprint, "sha256": digest})
    return digest


def rounded(change: Tensor) -> Tensor:
    """Return a change as it is stored, in float16."""
    return change.detach().to(torch.float16)


def load_delta(path: Path, network: nn.Module, fingerprint: str, sha256: str, device: torch.device) -> dict[str, Tensor]:
    """Return the changes of a network's parameters by name, float32 on `device`.

    Names, shapes and types are compared with the network's before any tensor is read. Raises ValueError when the file is
    missing or damaged, or when it belongs to another generator or another latent.
    """
    own = dict(network.named_parameters())
    damaged = f"{path} is damaged or belongs to another latent: tune the picture again with `limner invert --tune`."
    try:
        open_regular(path).close()
        with safe_open(path, "pt", device=str(device)) as file:
            known = file.metadata() or {}
            names = list(file.keys())
            if known.get("generator") != fingerprint or known.get("sha256") != sha256 or not set(names) <= own.keys():
                raise ValueError(damaged)
            for name in names:
                part = file.get_slice(name)
                if tuple(part.get_shape()) != tuple(own[name].shape) or part.get_dtype() != "F16":
                    raise ValueError(damaged)
            tensors = {name: file.get_tensor(name) for name in names}
    except FileNotFoundError as error:
        raise ValueError(f"The tuned copy {path} is missing: copy it to the latent's folder, or tune the picture again.") from error
    except (SafetensorError, OSError) as error:
        raise ValueError(damaged) from error
    if content_hash(tensors) != sha256 or not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise ValueError(damaged)
    return {name: tensor.float() for name, tensor in tensors.items()}
