"""Move pictures of a generator with classes toward another class, and keep how they look within their class.

The class is changed by the weights of the class embeddings (Miyato & Koyama 2018, "cGANs with projection discriminator", section
4.2.2, interpolate between classes so), or between the mean styles of the classes in a style space. The same latent may look
quite different in another class: nothing in training asks a generator to use it alike. So the latent follows until the
picture's attributes, in standard deviations from the mean of its class, are what they were: a dark and narrow shirt becomes a
dark and narrow bag. The attributes' slopes are those of a linear regression for each class; Gauss-Newton steps on rendered
pictures take care of what is not linear.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from limner.apps.editing.attributes import attributes, measure
from limner.apps.editing.codes import Codes, drawn, pictures
from limner.apps.editing.latent import CHUNK, synthesize

PICTURES = 400       # of each class, on which means and slopes are measured
MAX_PICTURES = 20_000  # of all classes
STEPS = 40           # of Adam
RATE = 0.1           # in standard deviations of a code
HOLD = 0.01          # weight of the squared length of the change


@dataclass(frozen=True)
class ClassLook:
    """How the pictures of each class look: statistics of K classes, A attributes and codes of D numbers."""

    mean: np.ndarray    # float32 [K,A]
    sd: np.ndarray      # float32 [K,A]
    slopes: np.ndarray  # float32 [K,A,D], of the attributes in standard deviations
    centers: np.ndarray  # float32 [K,D], the mean code of each class; zero for latents z

    def relative(self, attributes: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return attributes [N,A] in standard deviations from the means of their classes, of weights [N,K]."""
        weights = shares(weights)
        return (attributes - weights @ self.mean) / (weights @ self.sd)


def shares(weights: np.ndarray) -> np.ndarray:
    """Return weights of classes [N,K] without negative ones, with sum 1: beyond a class, its own statistics hold."""
    clipped = np.clip(weights, 0, None)
    return clipped / np.maximum(clipped.sum(1, keepdims=True), 1e-6)


def class_look(model: Any, seed: int = 0) -> ClassLook:
    """Measure how the pictures of each class look. Raises ValueError for a model without classes."""
    count = model.spec.classes
    if not count:
        raise ValueError(f"The generator in {model.folder} has no classes to move between.")
    n = max(8, min(PICTURES, MAX_PICTURES // count))
    rows, found = [], []
    for k in range(count):
        codes = drawn(model, n, seed + 1, k)
        rows.append(codes.rows)
        found.append(measure(pictures(model, codes)).numpy())
    x, a = np.stack(rows).astype(np.float64), np.stack(found)  # [K,n,D], [K,n,A]
    mean, sd = a.mean(1), np.maximum(a.std(1), 1e-4)
    standard = (a - mean[:, None]) / sd[:, None]
    centers = x.mean(1)
    away = x - centers[:, None]
    enough = n >= 3 * x.shape[2]  # for a regression of each class; otherwise all share one
    slopes = [_slopes(away[k], standard[k]) for k in range(count)] if enough else [_slopes(np.concatenate(away), np.concatenate(standard))] * count
    styled = drawn(model, 1, 0).code.ndim == 3
    return ClassLook(*(v.astype(np.float32) for v in (mean, sd, np.stack(slopes), centers if styled else 0 * centers)))


def _slopes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the coefficients of a ridge regression of y [N,A] on x [N,D], both centered: [A,D]."""
    gram = x.T @ x
    gram += 0.01 * np.trace(gram) / len(gram) * np.eye(len(gram))
    return np.asarray(np.linalg.solve(gram, x.T @ y).T)


def change_class(model: Any, codes: Codes, target: int, by: float, look: ClassLook, keep: bool = True) -> Codes:
    """Move codes toward a class: by 0 changes nothing, 1 is the class, more is beyond it.

    keep: let the latents follow, so that the pictures keep their look within their class. The classes of the result are weights
    float32 [N,K].
    """
    before = codes.weights(model.spec.classes)
    after = before + np.float32(by) * (np.eye(before.shape[1], dtype=np.float32)[target] - before)
    moved = Codes(codes.code, after)
    if codes.code.ndim == 3:  # styles contain the class
        shift = (after - before) @ look.centers  # [N,W]
        moved = Codes(codes.code + shift[:, None], after)
    if not keep or not by:
        return moved
    wanted = look.relative(measure(pictures(model, codes)).numpy(), before)
    return follow(model, moved, wanted, look)


def follow(model: Any, codes: Codes, wanted: np.ndarray, look: ClassLook) -> Codes:
    """Change codes of class weights [N,K] until their pictures have the attributes `wanted` [N,A], relative to their classes."""
    parts = [
        _follow(model, Codes(codes.code[i : i + CHUNK], codes.c[i : i + CHUNK]), wanted[i : i + CHUNK], look)  # type: ignore[index]
        for i in range(0, len(codes), CHUNK)
    ]
    return Codes(np.concatenate(parts), codes.c)


def _follow(model: Any, codes: Codes, wanted: np.ndarray, look: ClassLook) -> np.ndarray:
    assert codes.c is not None
    part, where = shares(codes.c), model._device
    mean, sd, aim, c = (torch.from_numpy(v).float().to(where) for v in (part @ look.mean, part @ look.sd, wanted, codes.c))
    start = torch.from_numpy(codes.code).to(where)
    change = torch.zeros_like(start[:, 0] if start.ndim == 3 else start).requires_grad_()
    optimizer = torch.optim.Adam([change], lr=RATE, betas=(0.9, 0.9))
    best, error = start, torch.full((len(start),), torch.inf, device=where)
    for step in range(STEPS + 1):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, 2 * (1 - step / (STEPS + 1)))
        code = start + (change[:, None] if start.ndim == 3 else change)
        x = (synthesize(model, code, c) + 1) / 2
        off = (attributes(x.clamp(0, 1)) - mean) / sd - aim  # [N,A]
        loss = off.square().sum(1)
        better = loss < error
        error = torch.where(better, loss, error).detach()
        best = torch.where(better.view(-1, *[1] * (start.ndim - 1)), code.detach(), best)
        optimizer.zero_grad(set_to_none=True)
        (loss + HOLD * change.square().sum(1)).sum().backward()
        optimizer.step()
    return np.asarray(best.cpu().numpy(), np.float32)


def look_tensors(look: ClassLook) -> dict[str, torch.Tensor]:
    """Return the statistics as named tensors, for a file."""
    return {f"look.{name}": torch.from_numpy(np.ascontiguousarray(getattr(look, name))) for name in ("mean", "sd", "slopes", "centers")}
