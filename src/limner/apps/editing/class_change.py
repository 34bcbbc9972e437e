"""Move pictures of a generator with classes toward another class, and keep how they look within their class.

The class is changed by the weights of the class embeddings (Miyato & Koyama 2018, "cGANs with projection discriminator", section
4.2.2, interpolate between classes so), or between the mean styles of the classes in a style space. The same latent may look
quite different in another class: nothing in training asks a generator to use it alike. So the latent follows until the
picture's attributes, in standard deviations from the mean of its class, are what they were: a dark and narrow shirt becomes a
dark and narrow bag.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limner.apps.editing.attributes import attributes, measure
from limner.apps.editing.codes import Codes, drawn, pictures
from limner.apps.editing.latent import CHUNK, synthesize

PICTURES = 400       # of each class, on which means and deviations are measured
MAX_PICTURES = 20_000  # of all classes
STEPS = 16           # of Levenberg-Marquardt
DAMPING = 0.03       # at the start, of the mean diagonal entry of J J^T
LONGEST = 2.0        # of a step, in standard deviations of a code


@dataclass(frozen=True)
class ClassLook:
    """How the pictures of each class look: statistics of K classes and A attributes, codes of D numbers."""

    mean: np.ndarray    # float32 [K,A]
    sd: np.ndarray      # float32 [K,A]
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
    styled = drawn(model, 1, 0).code.ndim == 3
    centers = x.mean(1) if styled else np.zeros((count, x.shape[2]))
    return ClassLook(*(v.astype(np.float32) for v in (a.mean(1), np.maximum(a.std(1), 1e-4), centers)))


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
    """Levenberg-Marquardt steps of least length, each row with a damping of its own (Levenberg 1944; Marquardt 1963)."""
    assert codes.c is not None
    part, where = shares(codes.c), model._device
    mean, sd, aim, c = (torch.from_numpy(v).float().to(where) for v in (part @ look.mean, part @ look.sd, wanted, codes.c))
    at = torch.from_numpy(codes.code).to(where)
    count, styled = aim.shape[1], at.ndim == 3

    def missing(code: Tensor) -> Tensor:
        x = (synthesize(model, code, c) + 1) / 2
        return aim - (attributes(x.clamp(0, 1)) - mean) / sd  # [N,A]

    def shifted(move: Tensor) -> Tensor:
        return at + (move[:, None] if styled else move)

    damping = torch.full((len(at), 1, 1), DAMPING, device=where)
    for _ in range(STEPS):
        move = torch.zeros(len(at), at.shape[-1], device=where, requires_grad=True)
        off = missing(shifted(move))
        rows = [torch.autograd.grad(off[:, i].sum(), move, retain_graph=i < count - 1)[0] for i in range(count)]
        slopes = -torch.stack(rows, 1)  # [N,A,D]
        off = off.detach()
        normal = slopes @ slopes.mT
        scale = normal.diagonal(dim1=1, dim2=2).mean(1)[:, None, None].clamp_min(1e-6)
        with torch.no_grad():
            solved = torch.linalg.solve(normal + damping * scale * torch.eye(count, device=where), off[:, :, None])
            step = (slopes.mT @ solved)[:, :, 0]
            step = step * (LONGEST / step.norm(dim=1, keepdim=True).clamp_min(LONGEST))
            there = shifted(step)
            better = missing(there).square().sum(1) < off.square().sum(1)
        at = torch.where(better.view(-1, *[1] * (at.ndim - 1)), there, at)
        damping = torch.where(better[:, None, None], damping / 4, damping * 6).clamp(1e-4, 1e4)
    return np.asarray(at.cpu().numpy(), np.float32)


def look_tensors(look: ClassLook) -> dict[str, torch.Tensor]:
    """Return the statistics as named tensors, for a file."""
    return {f"look.{name}": torch.from_numpy(np.ascontiguousarray(getattr(look, name))) for name in ("mean", "sd", "centers")}
