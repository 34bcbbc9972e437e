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

PIXELS = 50_000_000      # of the pictures that it is trained on, channels not counted: 64,000 of 28x28, 12,000 of 64x64
LEAST_PICTURES = 6_400
BATCH = 64
MEASURED = 20            # steps after which the time of a training is known
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

    fingerprint: of the generator. progress: of a training, in pictures. say: called with a sentence that says how long one takes,
    once that is measured.
    """
    encoder = LatentEncoder(model.spec, space.size).to(model._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    done = _load(path_of(model.folder), encoder, fingerprint)
    if done < training_pictures(model):
        _train(model, space, encoder, fingerprint, done, progress, say)
    return encoder.eval().requires_grad_(False)


def training_pictures(model: Any) -> int:
    """Return the number of pictures that the encoder of a model is trained on."""
    return max(LEAST_PICTURES, PIXELS // (model.spec.height * model.spec.width)) // BATCH * BATCH


def _train(
    model: Any, space: Space, encoder: LatentEncoder, fingerprint: str, done: int, progress: Progress | None, say: Say | None
) -> None:
    """Train after the first `done` pictures, and keep the result. The pictures are the same for the same generator."""
    where, total = model._device, training_pictures(model)
    optimizer = torch.optim.Adam(encoder.parameters(), LR, (0.9, 0.99))
    encoder.train().requires_grad_(True)
    start = kept = time.monotonic()
    first = done
    try:
        while done < total:
            optimizer.param_groups[0]["lr"] = LR * 0.5 * (1 + math.cos(math.pi * done / total))
            q, c, x = _pairs(model, space, np.random.default_rng([0, 0, 2, done]))
            with autocast(where, model._precision):
                features = encoder(x)
                loss = F.mse_loss(encoder.code(features, c), q)
                if c is not None:
                    loss = loss + F.cross_entropy(encoder.logits(features), c)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            done += BATCH
            now = time.monotonic()
            if say and done - first == MEASURED * BATCH:
                left = (now - start) / (done - first) * (total - done)
                verb = "goes on with" if first else "trains"
                say(f"The first inversion of a run {verb} its encoder: about {left:.0f} s more; it is kept in {path_of(model.folder)}.")
            if progress:
                progress(done, total)
            if now - kept > KEEP_EVERY and done < total:
                _save(model.folder, encoder, fingerprint, done)
                kept = now
    finally:  # after Ctrl-C too
        if done > first:
            _save(model.folder, encoder, fingerprint, done)


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


def _save(folder: Path, encoder: LatentEncoder, fingerprint: str, done: int) -> None:
    """Write the encoder beside the run; where the folder cannot be written, it is only used now."""
    tensors = {name: value.detach() for name, value in encoder.state_dict().items()}
    known = {"format": "pt", "generator": fingerprint, "pictures": str(done), "sha256": content_hash(tensors)}
    try:
        write_tensors(path_of(folder), tensors, known)
    except ValueError:
        return


def _load(path: Path, encoder: LatentEncoder, fingerprint: str) -> int:
    """Load a kept encoder; return the number of pictures that it was trained on, 0 where there is none that fits."""
    expected = encoder.state_dict()
    try:
        open_regular(path).close()
        with safe_open(path, "pt") as file:
            known = file.metadata() or {}
            if known.get("generator") != fingerprint or set(file.keys()) != expected.keys():
                return 0
            if any(tuple(file.get_slice(name).get_shape()) != tuple(value.shape) for name, value in expected.items()):
                return 0
            tensors = {name: file.get_tensor(name) for name in expected}
            done = int(known.get("pictures", "0"))
    except (OSError, ValueError, SafetensorError):
        return 0
    if content_hash(tensors) != known.get("sha256") or any(tensors[name].dtype != value.dtype for name, value in expected.items()):
        return 0
    if done < 1 or not all(value.isfinite().all() for value in tensors.values()):
        return 0
    encoder.load_state_dict(tensors)
    return done
