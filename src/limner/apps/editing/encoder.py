"""The inversion encoder of a run: trained once on pairs of coordinates and the generator's own pictures of them.

Beside the run, `editing/encoder.safetensors` keeps it with the fingerprint of the generator; other weights train their own. A
training that is stopped is kept too, and goes on where it stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor

from limner.apps.editing.latent import synthesize
from limner.apps.editing.spaces import Space
from limner.core.artifact import content_hash
from limner.core.device import autocast
from limner.core.files import open_regular, write_tensors
from limner.networks.latent_encoder import LatentEncoder

PICTURES = 120_000       # that it is trained on
SECONDS = 75.0           # after which it ends, whatever their number
BATCH = 64
LR = 2e-3
KEEP_EVERY = 15.0        # seconds between two files of an unfinished training
QUANTIZATION = 1 / 255   # standard deviation of noise that stands for the rounding of real pictures, in [-1,1]
Progress = Callable[[int, int], None]  # (done, total)
Say = Callable[[str], None]


def path_of(folder: Path) -> Path:
    """Return where the encoder of a run folder is kept."""
    return folder / "editing" / "encoder.safetensors"


def encoder_for(
    model: Any, space: Space, fingerprint: str, progress: Progress | None = None, say: Say | None = None
) -> LatentEncoder:
    """Return the encoder of a generator, frozen: the one beside the run, trained first where there is none.

    fingerprint: of the generator. progress: of a training, in thousandths. say: called with a sentence when one begins.
    """
    encoder = LatentEncoder(model.spec, space.size).to(model._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    done = _load(path_of(model.folder), encoder, fingerprint)
    if done < 1:
        if say:
            verb = "goes on with the training of" if done else "trains"
            say(f"The first inversion of a run {verb} its encoder, which takes about {SECONDS * (1 - done):.0f} s and is kept in {path_of(model.folder)}.")
        _train(model, space, encoder, fingerprint, done, progress)
    return encoder.eval().requires_grad_(False)


def has_encoder(model: Any, space: Space, fingerprint: str) -> bool:
    """Return whether the run has a trained encoder."""
    return _load(path_of(model.folder), LatentEncoder(model.spec, space.size), fingerprint) >= 1


def _train(model: Any, space: Space, encoder: LatentEncoder, fingerprint: str, done: float, progress: Progress | None) -> None:
    """Train from the share `done` on, to the number of pictures or the time, whichever comes first, and keep the result.

    The schedule follows the larger of the two shares, so that it ends at zero either way.
    """
    where = model._device
    rng = np.random.default_rng([0, 0, 2, round(done * 1e6)])
    optimizer = torch.optim.Adam(encoder.parameters(), LR, (0.9, 0.99))
    encoder.train().requires_grad_(True)
    start = kept = time.monotonic()
    pictures = 0
    share = done
    try:
        while share < 1:
            optimizer.param_groups[0]["lr"] = LR * 0.5 * (1 + math.cos(math.pi * share))
            q, c, x = _pairs(model, space, rng)
            with autocast(where, model._precision):
                features = encoder(x)
                loss = F.mse_loss(encoder.code(features, c), q)
                if c is not None:
                    loss = loss + F.cross_entropy(encoder.logits(features), c)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            pictures += BATCH
            now = time.monotonic()
            share = min(1.0, done + max(pictures / PICTURES, (now - start) / SECONDS))
            if progress:
                progress(int(1000 * share), 1000)
            if now - kept > KEEP_EVERY and share < 1:
                _save(model.folder, encoder, fingerprint, share)
                kept = now
    finally:  # after Ctrl-C too
        _save(model.folder, encoder, fingerprint, share)


@torch.no_grad()
def _pairs(model: Any, space: Space, rng: np.random.Generator) -> tuple[Tensor, Tensor | None, Tensor]:
    """Return coordinates [B,D], classes [B] | None, and the generator's pictures of them [B,C,H,W] with rounding noise."""
    where = model._device
    q = space.draw(BATCH, rng).to(where)
    c = torch.from_numpy(rng.integers(0, model.spec.classes, BATCH)).to(where) if model.spec.classes else None
    with autocast(where, model._precision):
        x = synthesize(model, space.code(q, c), c).float().clamp(-1, 1)
    noise = torch.from_numpy(rng.standard_normal(x.shape, np.float32)).to(where)
    return q, c, (x + QUANTIZATION * noise).contiguous(memory_format=torch.channels_last)


def _save(folder: Path, encoder: LatentEncoder, fingerprint: str, share: float) -> None:
    """Write the encoder beside the run; where the folder cannot be written, it is only used now."""
    tensors = {name: value.detach() for name, value in encoder.state_dict().items()}
    known = {"format": "pt", "generator": fingerprint, "share": f"{share:.6f}", "sha256": content_hash(tensors)}
    try:
        write_tensors(path_of(folder), tensors, known)
    except ValueError:
        return


def _load(path: Path, encoder: LatentEncoder, fingerprint: str) -> float:
    """Load a kept encoder; return the share of its training that is done, 0 where there is none that fits."""
    expected = encoder.state_dict()
    try:
        open_regular(path).close()
        with safe_open(path, "pt") as file:
            known = file.metadata() or {}
            if known.get("generator") != fingerprint or set(file.keys()) != expected.keys():
                return 0.0
            if any(tuple(file.get_slice(name).get_shape()) != tuple(value.shape) for name, value in expected.items()):
                return 0.0
            tensors = {name: file.get_tensor(name) for name in expected}
            share = float(known.get("share", "0"))
    except (OSError, ValueError, SafetensorError):
        return 0.0
    if content_hash(tensors) != known.get("sha256") or any(tensors[name].dtype != value.dtype for name, value in expected.items()):
        return 0.0
    if not 0 < share <= 1 or not all(value.isfinite().all() for value in tensors.values()):
        return 0.0
    encoder.load_state_dict(tensors)
    return share
