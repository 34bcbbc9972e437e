"""Find the directions of a generator by every method, measure what each changes, and name it by that.

    attribute    regression of one attribute on the codes, with as little change of the others as possible
    closed form  eigenvectors of the layers that read the code (SeFa)
    components   principal components of early features (GANSpace), of the styles of a style-based network
    class        the classes of the generator; without classes, differences of means by a classifier
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from limner.apps.editing.attributes import attributes_of, measure
from limner.apps.editing.class_change import ClassLook, change_class, class_look
from limner.apps.editing.closed_form import closed_form, principal, readers
from limner.apps.editing.codes import Codes, drawn, pictures
from limner.apps.editing.directions import Direction, Directions
from limner.apps.editing.effect import (
    QUERIES,
    STEP,
    ClassPredictor,
    Effect,
    Samples,
    effect,
    gather,
    predict,
    within,
)
from limner.apps.editing.latent import fingerprint, synthesize
from limner.apps.editing.like import AXES, discriminant

AXIS_COUNT = 6         # directions of the closed form, and of the components
CODES = 2000           # samples for regressions and components
MAX_FEATURES = 16_384  # numbers of a feature map; larger ones are averaged
SAME = 0.9             # cosine from which two directions are one
CLEAR, AGREED = 0.5, 0.75  # standard deviations, and share of pictures, from which a direction is named by an attribute
FEWEST = 30            # samples of a class for a difference of means
CLASS_QUERIES = 25     # samples moved to each class of the generator
MEASURED_CLASSES = 30  # whose effect is measured
FLIPPED = 0.9          # share of pictures that a direction to a class should bring there
Progress = Callable[[int, int], None]


def find(model: Any, predictor: ClassPredictor | None = None, count: int = AXIS_COUNT, seed: int = 0, progress: Progress | None = None,
         like: np.ndarray | None = None) -> Directions:  # fmt: skip
    """Find the directions of a generator, measure what each changes, and name it by that.

    Parameters
    ----------
    model
        A `limner.GeneratorModel`.
    predictor
        An independent classifier of its pictures (`predictor.independent`); None measures no classes.
    count
        Directions of the closed form, and of the components.
    seed
        Random seed of the samples; the same one gives the same directions.
    progress
        Called with (done, total) directions.
    like
        Codes [M,D] of marked pictures; adds the direction "like" toward what they share.

    Returns
    -------
    Directions
        By name, for `edit.edit`; `save` stores them beside the run.

    Raises
    ------
    ValueError
        For fewer than two marked pictures, and for a generator that reads its latent with no dense layer.

    Examples
    --------
    After the example of `limner.train`:

    >>> import limner
    >>> from limner.apps.editing.find import find
    >>> found = find(limner.load("runs/noise", "cpu"), count=2)
    >>> sorted({direction.method for direction in found} - {"attribute"})
    ['closed form', 'components']
    """
    codes = drawn(model, CODES, seed)
    shown = pictures(model, codes)
    samples = gather(model, predictor, seed)
    look = class_look(model, seed) if model.spec.classes else None
    rows = within(codes.rows, codes.c)
    axes = style_axes(model, seed)
    found = [Direction(n, "attribute", v) for n, v in attribute_directions(model, rows, measure(shown).numpy(), codes.c)]
    if like is not None:
        found.append(Direction("like", "like", scaled(discriminant(like, codes.rows, axes[:AXES]), rows)))
    found += distinct([Direction("", "closed form", scaled(v, rows)) for v in axes[:count]], found[:0])
    found += distinct([Direction("", "components", scaled(v, rows)) for v in components(model, codes, 2 * count)], found)[:count]
    if look is not None:
        size = codes.code.shape[-1]
        names = model.classes or [str(k) for k in range(model.spec.classes)]
        found += [Direction(f"class:{names[k]}", "class", np.zeros(size, np.float32), k) for k in range(model.spec.classes)]
    elif predictor is not None:
        found += class_differences(rows, predict(predictor, shown), predictor.classes)
    measured = []
    for i, direction in enumerate(found):
        measured.append(with_effect(model, direction, samples, look, predictor))
        if progress:
            progress(i + 1, len(found))
    return Directions(tuple(named(measured, model.spec.channels)), fingerprint(model), look, "" if predictor is None else predictor.origin)


def scaled(vector: np.ndarray | Tensor, rows: np.ndarray) -> np.ndarray:
    """Return a vector [D] one standard deviation of the codes' projections on it long, float32; rows: centered codes [N,D]."""
    unit = np.asarray(vector, np.float64)
    unit = unit / max(float(np.linalg.norm(unit)), 1e-12)
    return (unit * (rows @ unit).std()).astype(np.float32)


def distinct(new: list[Direction], old: list[Direction]) -> list[Direction]:
    """Return the directions that are not nearly parallel to an earlier one of the closed form or the components."""
    kept: list[Direction] = []
    for one in new:
        others = [o.vector for o in [*old, *kept] if o.method in ("closed form", "components")]
        size = np.linalg.norm(one.vector)
        if size > 0 and all(abs(one.vector @ o) < SAME * size * np.linalg.norm(o) for o in others):
            kept.append(one)
    return kept


def style_axes(model: Any, seed: int = 0) -> np.ndarray:
    """Return the directions of the closed form, orthonormal rows float64 [D,D], the most effective first."""
    codes = drawn(model, 4, seed)
    start = torch.from_numpy(codes.rows).to(model._device)
    c = None if codes.c is None else torch.from_numpy(codes.c[:1]).to(model._device)
    layers = None if codes.code.ndim == 2 else codes.code.shape[1]

    def run(code: Tensor) -> Tensor:
        code = code if layers is None else code[:, None].expand(-1, layers, -1)
        return synthesize(model, code, None if c is None else c.expand(len(code)))

    return np.asarray(closed_form(torch.cat(list(readers(run, model.network, start).values())))[0])


def components(model: Any, codes: Codes, count: int) -> np.ndarray:
    """Return directions along the principal components: of the styles, or of the features after the first reader of z."""
    rows = torch.from_numpy(within(codes.rows, codes.c))
    if codes.code.ndim == 3:
        return np.asarray(principal(rows, rows, count)[0])
    features = torch.from_numpy(within(early_features(model, codes).numpy(), codes.c))
    return np.asarray(principal(features, rows, count)[0])


@torch.no_grad()
def early_features(model: Any, codes: Codes) -> Tensor:
    """Return the output of the layer after those that read z, float32 [N,F]; maps are averaged to at most MAX_FEATURES numbers."""
    start = torch.from_numpy(codes.code[:1]).to(model._device)
    c = None if codes.c is None else torch.from_numpy(codes.c[:1]).to(model._device)
    reading = readers(lambda z: synthesize(model, z, None if c is None else c.expand(len(z))), model.network, start)
    layer = _after(model, reading, start, c)
    found: list[Tensor] = []
    handle = layer.register_forward_hook(lambda *given: found.append(_pooled(given[2])))
    try:
        parts = []
        for i in range(0, len(codes), 64):
            found.clear()
            part = Codes(codes.code[i : i + 64], None if codes.c is None else codes.c[i : i + 64])
            pictures(model, part, own_layers=True)
            parts.append(found[0][-len(part) :].float().cpu())  # a reference batch may stand before the codes
    finally:
        handle.remove()
    return torch.cat(parts)


def _after(model: Any, reading: dict[str, Tensor], z: Tensor, c: Tensor | None) -> torch.nn.Module:
    """Return the first layer with a kernel that runs after a reader of z and is none itself."""
    order: list[str] = []
    handles = [
        module.register_forward_hook(lambda *_, name=name: order.append(name))
        for name, module in model.network.named_modules()
        if isinstance(weight := getattr(module, "weight", None), Tensor) and weight.ndim >= 2 and not isinstance(module, torch.nn.Embedding)
    ]
    try:
        synthesize(model, z, c)
    finally:
        for handle in handles:
            handle.remove()
    first = min(order.index(name) for name in reading)
    name = next((n for n in order[first + 1 :] if n not in reading), order[first])
    made: torch.nn.Module = model.network.get_submodule(name)
    return made


def _pooled(x: Tensor) -> Tensor:
    """[N,F] or [N,C,H,W] -> [N,F'], F' at most MAX_FEATURES"""
    if x.ndim == 4 and x[0].numel() > MAX_FEATURES:
        side = max(1, int((MAX_FEATURES / x.shape[1]) ** 0.5))
        x = F.adaptive_avg_pool2d(x.float(), (min(side, x.shape[2]), min(side, x.shape[3])))
    return x.flatten(1).detach()


def attribute_directions(model: Any, rows: np.ndarray, attributes: np.ndarray, labels: np.ndarray | None) -> list[tuple[str, np.ndarray]]:
    """Return a direction for each attribute, which to first order leaves the others as they are: (name, vector) each.

    The attributes' slopes G [A,D] come from a regression; v = C G^T (G C G^T + r I)^-1 e, with the codes' covariance C, is the
    shortest move of the codes that changes the one attribute e alone, as far as the ridge r allows. Projecting the other
    attributes out is conditional manipulation in Shen et al. 2020, "Interpreting the latent space of GANs", section 2.2.
    """
    y = within(attributes, labels)
    y /= np.maximum(y.std(0), 1e-6)
    covariance = rows.T @ rows / len(rows)
    ridge = 0.01 * np.trace(covariance) / len(covariance)
    slopes = np.linalg.solve(covariance + ridge * np.eye(len(covariance)), rows.T @ y / len(rows)).T  # [A,D]
    spread = slopes @ covariance @ slopes.T
    moves = covariance @ slopes.T @ np.linalg.inv(spread + 0.1 * np.trace(spread) / len(spread) * np.eye(len(spread)))  # [D,A]
    known = attributes_of(model.spec.channels)
    return [(a.more.replace(" ", "-"), scaled(moves[:, i], rows)) for i, a in enumerate(known) if attributes[:, i].std() > 1e-4]


def class_differences(rows: np.ndarray, predicted: np.ndarray, classes: tuple[str, ...]) -> list[Direction]:
    """Return the difference of the mean codes of each predicted class and of all others, for classes of at least FEWEST samples."""
    found = []
    for k, name in enumerate(classes):
        inside = predicted == k
        if min(inside.sum(), (~inside).sum()) >= FEWEST:
            found.append(Direction(f"class:{name}", "class", scaled(rows[inside].mean(0) - rows[~inside].mean(0), rows)))
    return found


def with_effect(model: Any, direction: Direction, samples: Samples, look: ClassLook | None, predictor: ClassPredictor | None) -> Direction:
    """Return a direction with its measured effect; an axis is turned so that its main attribute grows."""
    if direction.label is not None:
        return _class_effect(model, direction, samples, look, predictor)
    rows = np.arange(QUERIES)
    at = samples.codes.some(QUERIES)
    if direction.method == "class":
        assert predictor is not None and samples.predicted is not None
        return _difference_effect(model, direction, samples, predictor)
    ends = at.moved(direction.vector, STEP), at.moved(direction.vector, -STEP)
    found = effect(model, samples, ends, STEP, rows)
    if direction.method != "attribute" and direction.method != "like" and found.attributes[found.main] < 0:
        turned = {name: -value for name, value in found.attributes.items()}
        return replace(direction, vector=-direction.vector, effect=replace(found, attributes=turned))
    return replace(direction, effect=found)


def _class_effect(model: Any, direction: Direction, samples: Samples, look: ClassLook | None, predictor: ClassPredictor | None) -> Direction:
    assert look is not None and samples.codes.c is not None and direction.label is not None
    if direction.label >= MEASURED_CLASSES:
        return direction
    rows = np.flatnonzero(samples.codes.c != direction.label)[:CLASS_QUERIES]
    at = Codes(samples.codes.code[rows], samples.codes.c[rows])
    end = change_class(model, at, direction.label, 1.0, look)
    target = None
    if predictor is not None and direction.name.removeprefix("class:") in predictor.classes:
        target = predictor.classes.index(direction.name.removeprefix("class:"))

    def relative(attributes: np.ndarray, codes: Codes) -> np.ndarray:
        return look.relative(attributes, codes.weights(model.spec.classes))

    return replace(direction, effect=effect(model, samples, (end, None), 1.0, rows, target, relative))


def _difference_effect(model: Any, direction: Direction, samples: Samples, predictor: ClassPredictor) -> Direction:
    """Measure a difference of means at the shortest whole move that brings FLIPPED of the pictures to the class, at most 6."""
    assert samples.predicted is not None
    target = predictor.classes.index(direction.name.removeprefix("class:"))
    rows = np.flatnonzero(samples.predicted != target)[:QUERIES]
    at = Codes(samples.codes.code[rows])
    best: Effect | None = None
    for by in range(1, 7):
        found = effect(model, samples, (at.moved(direction.vector, by), None), float(by), rows, target)
        if best is None or (found.to_class or 0) > (best.to_class or 0):
            best = found
        if (found.to_class or 0) >= FLIPPED:
            break
    return replace(direction, effect=best)


def named(found: list[Direction], channels: int) -> list[Direction]:
    """Return the directions with unique names: of what an axis changes where that is clear, else axis-1, axis-2, ...

    Attribute directions that do not change their attribute clearly are left out.
    """
    more = {a.name: a.more.replace(" ", "-") for a in attributes_of(channels)}
    own = {name: attribute for attribute, name in more.items()}
    taken: set[str] = set()
    made, axes = [], 0
    for d in found:
        name, e = d.name, d.effect
        if d.method == "attribute":
            assert e is not None
            attribute = own[d.name]
            if e.attributes[attribute] < CLEAR or e.agreement[attribute] < AGREED:
                continue
        elif not name:
            assert e is not None
            axes += 1
            clear = e.attributes[e.main] >= CLEAR and e.agreement[e.main] >= AGREED
            name = more[e.main] if clear else f"axis-{axes}"
        number, base = 1, name
        while name.lower() in taken:
            number += 1
            name = f"{base}-{number}"
        taken.add(name.lower())
        made.append(replace(d, name=name))
    return made
