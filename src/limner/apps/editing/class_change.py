"""Move pictures of a generator with classes toward another class, and keep how they look within their class.

The class is changed by the weights of the class embeddings (Miyato & Koyama 2018, "cGANs with projection discriminator", section
4.2.2, interpolate between classes so), or between the mean styles of the classes in a style space. The same latent may look
quite different in another class: nothing in training asks a generator to use it alike. So the latent follows until the
picture's attributes, in standard deviations from the mean of its class, are what they were: a dark and narrow shirt becomes a
dark and narrow bag. Two things hold it in the class: a latent z keeps its length, since one far from the shell |z| = sqrt(Z) is unlike all
that the generator was trained on, and a linear discriminant, fitted to the generator's own samples, is to find the picture clearly in the
class. The discriminant sees downscaled pixels, and has nothing to do with a classifier that judges the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from limner.apps.editing.attributes import attributes, measure
from limner.apps.editing.codes import Codes, drawn, pictures
from limner.apps.editing.latent import CHUNK, synthesize
from limner.core.images import to_float

PICTURES = 400       # of each class, on which means and deviations are measured
MAX_PICTURES = 20_000  # of all classes
STEPS = 32           # of Levenberg-Marquardt
IDLE = 4             # steps without a gain after which it ends
DAMPING = 0.03       # at the start, of the mean diagonal entry of J J^T
LONGEST = 2.0        # of a step, in standard deviations of a code
SIDE = 14            # cells a side, to which pictures are downscaled for the discriminant
RIDGE = 0.05         # of its covariance, of the mean variance
MARGIN = 4.0         # of the class, in log odds, above which the discriminant is content
CLASS_WEIGHT = 1.0   # of what is missing of it, beside one standard deviation of an attribute


LOOK = ("mean", "sd", "centers", "slopes", "offsets")  # fields of a ClassLook


@dataclass(frozen=True)
class ClassLook:
    """How the pictures of each class look: statistics of K classes and A attributes, codes of D numbers, F downscaled pixels."""

    mean: np.ndarray    # float32 [K,A]
    sd: np.ndarray      # float32 [K,A]
    centers: np.ndarray  # float32 [K,D], the mean code of each class; zero for latents z
    slopes: np.ndarray  # float32 [F,K], of the log probability of each class, up to a common constant
    offsets: np.ndarray  # float32 [K]

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
    rows, found, cells = [], [], []
    for k in range(count):
        codes = drawn(model, n, seed + 1, k)
        shown = pictures(model, codes)
        rows.append(codes.rows)
        found.append(measure(shown).numpy())
        cells.append(downscaled(to_float(shown)).double().numpy())
    x, a = np.stack(rows).astype(np.float64), np.stack(found)  # [K,n,D], [K,n,A]
    styled = drawn(model, 1, 0).code.ndim == 3
    centers = x.mean(1) if styled else np.zeros((count, x.shape[2]))
    found_look = (a.mean(1), np.maximum(a.std(1), 1e-4), centers, *discriminant(np.stack(cells)))
    return ClassLook(*(v.astype(np.float32) for v in found_look))


def downscaled(x: Tensor) -> Tensor:
    """Return means over at most SIDE x SIDE cells: [N,C,H,W] -> [N,F]"""
    return F.adaptive_avg_pool2d(x, (min(SIDE, x.shape[2]), min(SIDE, x.shape[3]))).flatten(1)


def discriminant(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return slopes [F,K] and offsets [K] of Fisher's linear discriminant of rows [K,n,F], n of each class.

    x @ slopes + offsets are log probabilities, up to a constant, of Gaussians of one covariance (Fisher 1936).
    """
    mean = cells.mean(1)  # [K,F]
    rest = (cells - mean[:, None]).reshape(-1, cells.shape[2])
    covariance = rest.T @ rest / len(rest)
    covariance += (RIDGE * np.trace(covariance) / len(covariance) + 1e-9) * np.eye(len(covariance))
    slopes = np.linalg.solve(covariance, mean.T)
    return slopes, -0.5 * (mean * slopes.T).sum(1)


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
    pull = np.clip(shares(after)[:, target] - shares(before)[:, target], 0, 1)
    return follow(model, moved, wanted, look, target, pull)


def follow(model: Any, codes: Codes, wanted: np.ndarray, look: ClassLook, target: int, pull: np.ndarray) -> Codes:
    """Change codes of class weights [N,K] until their pictures have the attributes `wanted` [N,A], relative to their classes, and
    lie in the class `target` as far as `pull` [N] in [0,1] demands."""
    assert codes.c is not None
    parts = []
    for i in range(0, len(codes), CHUNK):
        some = slice(i, i + CHUNK)
        parts.append(_follow(model, Codes(codes.code[some], codes.c[some]), wanted[some], look, target, pull[some]))
    return Codes(np.concatenate(parts), codes.c)


def _follow(model: Any, codes: Codes, wanted: np.ndarray, look: ClassLook, target: int, pull: np.ndarray) -> np.ndarray:
    """Levenberg-Marquardt steps of least length, each row with a damping of its own (Levenberg 1944; Marquardt 1963)."""
    assert codes.c is not None
    part, where = shares(codes.c), model._device
    mean, sd, aim, c = (torch.from_numpy(v).float().to(where) for v in (part @ look.mean, part @ look.sd, wanted, codes.c))
    slopes_of, offsets, strength = (torch.from_numpy(v).float().to(where) for v in (look.slopes, look.offsets, CLASS_WEIGHT * pull))
    at = torch.from_numpy(codes.code).to(where)
    styled, others, idle = at.ndim == 3, [k for k in range(len(look.mean)) if k != target], 0
    length = at.norm(dim=-1, keepdim=True)

    def missing(code: Tensor) -> Tensor:
        x = synthesize(model, code, c)
        off = aim - (attributes(((x + 1) / 2).clamp(0, 1)) - mean) / sd  # [N,A]
        if not others:
            return off
        odds = downscaled(x) @ slopes_of + offsets
        margin = odds[:, target] - odds[:, others].logsumexp(1)
        return torch.cat([off, (strength * F.softplus(MARGIN - margin))[:, None]], 1)  # [N,A+1]

    def shifted(move: Tensor) -> Tensor:
        return at + move[:, None] if styled else _of_length(at + move, length)

    count = aim.shape[1] + bool(others)
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
        idle = 0 if better.any() else idle + 1
        if idle == IDLE:
            break
    return np.asarray(at.cpu().numpy(), np.float32)


def _of_length(z: Tensor, length: Tensor) -> Tensor:
    """Return latents [N,Z] scaled to the lengths [N,1]."""
    return z * (length / z.norm(dim=1, keepdim=True).clamp_min(1e-12))


def look_tensors(look: ClassLook) -> dict[str, torch.Tensor]:
    """Return the statistics as named tensors, for a file."""
    return {f"look.{name}": torch.from_numpy(np.ascontiguousarray(getattr(look, name))) for name in LOOK}
