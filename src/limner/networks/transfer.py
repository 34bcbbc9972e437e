"""The weights of one network in another of the same architecture, for other pictures: channels, classes and sizes are mapped.

    same name and shape      copied
    another number of        inputs: each weight so that a gray picture, or the colors of one, gives what it gave before;
    channels                 outputs: gray is repeated for each color, colors give gray by Rec. 601 luma
    other classes            embeddings are matched by the name of the class; those of new classes start at the mean of all
    another size             lists of layers are aligned at the end where the shapes agree; layers of equal shape are copied
    with or without a        what the condition adds to the inputs starts at zero; class-conditional norms and plain ones are
    condition                made from each other
    anything else            stays as the new network has it

Weights are compared as functions: equalized layers divide by the root of their inputs, spectrally normalized ones estimate their
largest singular value anew where the weight changed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isqrt

import torch
from torch import Tensor, nn

from limner.networks import classifier, convnet, mlp
from limner.networks.condition import ConditionEmbedding, LinearEmbedding
from limner.networks.equalized import EqualConv2d, EqualLinear
from limner.networks.layers import ConditionalBatchNorm2d, spectral_layers
from limner.networks.mixture import Mixture

LUMA = (0.299, 0.587, 0.114)  # Rec. 601, as pictures are made gray
_IN_A_LIST = re.compile(r"(.*?)\.(\d+)\.(.*)")


@dataclass(frozen=True)
class Change:
    """What differs between the pictures of two networks: (before, now)."""

    channels: tuple[int, int]
    classes: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())  # names; empty: no classes

    @property
    def classes_match(self) -> list[int | None]:
        """For each class now, the index of the class of this name before; None for a new one."""
        before, now = self.classes
        return [before.index(name) if name in before else None for name in now]


@dataclass(frozen=True)
class Taken:
    """How much of a network was taken over. new: names of its parameters and buffers that were not, or not all of them."""

    parameters: int
    taken: int  # of them, those that come from the other network
    new: tuple[str, ...] = field(default=())


@torch.no_grad()
def take_over(net: nn.Module, before: Mapping[str, Tensor], change: Change) -> Taken:
    """Copy into `net`, in place, what fits of another network's tensors by name."""
    now = net.state_dict()
    found = _with_norms(net, _aligned(now, before), change)
    parameters = {name for name, _ in net.named_parameters()}
    total = taken = 0
    new: list[str] = []
    mapped: dict[str, Tensor] = {}
    for name, tensor in now.items():
        size = tensor.numel() if name in parameters else 0
        total += size
        value = _mapped(net, name, tensor, found[name], change) if name in found else None
        if value is None:
            new.append(name)
        else:
            taken += size
            mapped[name] = value
    net.load_state_dict(now | mapped)
    for prefix, layer in spectral_layers(net):
        weight = f"{prefix}weight"
        if weight not in mapped:
            continue
        same = torch.equal(mapped[weight].cpu(), found[weight].cpu())  # then its singular vectors are too
        if not same or f"{prefix}u" in new or f"{prefix}v" in new:
            layer.estimate()
    return Taken(total, taken, tuple(name for name in new if name in parameters))


# ---- alignment of lists of layers --------------------------------------------------------------------------------------


def _aligned(now: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return `before` under the names of `now`: lists of layers of other lengths are aligned at their beginnings or at their ends,
    all of a network alike, wherever more weights agree in shape. A generator for larger pictures has new layers at its beginning,
    a discriminator has them at its end."""
    lengths_now, lengths_before = _lengths(now), _lengths(before)
    shifts = {name: n - lengths_before[name] for name, n in lengths_now.items() if lengths_before.get(name, n) != n}
    if not shifts:
        return dict(before)
    shifted = {_shifted(name, shifts): tensor for name, tensor in before.items()}

    def agreeing(tensors: Mapping[str, Tensor]) -> int:
        return sum(t.numel() for name, t in tensors.items() if name in now and now[name].shape == t.shape)

    return max(dict(before), shifted, key=agreeing)


def _lengths(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the length of each outermost list of layers in the names of tensors."""
    found: dict[str, int] = {}
    for name in tensors:
        if match := _IN_A_LIST.fullmatch(name):
            found[match[1]] = max(found.get(match[1], 0), int(match[2]) + 1)
    return found


def _shifted(name: str, shifts: Mapping[str, int]) -> str:
    match = _IN_A_LIST.fullmatch(name)
    if match is None or match[1] not in shifts:
        return name
    return f"{match[1]}.{int(match[2]) + shifts[match[1]]}.{match[3]}"


def _with_norms(net: nn.Module, before: dict[str, Tensor], change: Change) -> dict[str, Tensor]:
    """Add the scale and shift of class-conditional norms where only plain ones are known, and the other way round."""
    found = _without_vectors(net, before)
    classes = len(change.classes[1])
    for prefix, module in net.named_modules():
        if not isinstance(module, ConditionalBatchNorm2d):
            continue
        for plain, embedding in (("norm.weight", "scale"), ("norm.bias", "shift")):
            one, many, middle = (f"{prefix}.{name}" for name in (plain, f"{embedding}.table.weight", f"{embedding}.bias"))
            mean = before.get(middle, before[many].mean(0) if many in before else before.get(one))  # over conditions
            if mean is None:
                continue
            if module.scale is None:
                found[one] = mean
            elif module.scale.bias is not None:
                found[middle] = mean
            elif one in before and classes and not change.classes[0]:
                found[many] = mean.expand(classes, -1)
    return found


def _without_vectors(net: nn.Module, before: dict[str, Tensor]) -> dict[str, Tensor]:
    """Leave out the given vectors of classes, and, where either network has some, what reads them: they are of other pictures."""
    if "vectors" not in before and getattr(net, "vectors", None) is None:
        return dict(before)
    reading = tuple(
        f"{name}.{part}." for name, module in net.named_modules()
        for part in ("table", "linear") if isinstance(module, ConditionEmbedding | LinearEmbedding) and hasattr(module, part)
    )  # fmt: skip
    return {name: tensor for name, tensor in before.items() if name != "vectors" and not name.startswith(reading)}


# ---- one tensor --------------------------------------------------------------------------------------------------------


def _mapped(net: nn.Module, name: str, now: Tensor, before: Tensor, change: Change) -> Tensor | None:
    """Return the tensor `before` in the shape of `now`; None where it cannot be mapped."""
    value = before.to(now.device, torch.float64 if now.is_floating_point() else now.dtype)
    path, _, last = name.rpartition(".")
    module = net.get_submodule(path)
    axis = class_axis(net, name)
    had, has = change.classes
    if axis is not None and had and has and had != has:
        if axis < 0 or value.shape[axis] != len(had):
            return None
        value = _of_classes(value, axis, change)
        if isinstance(module, EqualLinear) and axis == 1 and not _unit_gain(net, path, len(has)):
            value = value * (len(has) / len(had)) ** 0.5
    if value.ndim != now.ndim or not now.is_floating_point():
        return value.to(now.dtype) if value.shape == now.shape else None
    transposed = isinstance(module, nn.ConvTranspose2d) and last == "weight"
    for axis, (a, b) in enumerate(zip(value.shape, now.shape, strict=True)):
        if a == b:
            continue
        inputs = last == "weight" and now.ndim >= 2 and axis == (0 if transposed else 1)
        matrix = channel_matrix(a, b, change.channels, inputs) if axis < 2 else None  # a kernel's sides are no channels
        if matrix is not None:
            value = torch.movedim(torch.tensordot(matrix, value, ([1], [axis])), 0, axis)
            rows = matrix.abs().sum(1) > 0  # an output without a source, such as transparency, keeps the new weights
            if not inputs and not rows.all():
                keep = rows.view([-1 if i == axis else 1 for i in range(now.ndim)])
                value = torch.where(keep, value, now.double()) if value.shape == now.shape else value
        elif inputs and now.ndim == 2 and bool(had) != bool(has):
            part = min(a, b)  # the condition is concatenated behind
            value = torch.cat([value[:, :part], value.new_zeros(len(value), b - part)], 1)
        else:
            return None
        if inputs and isinstance(module, EqualConv2d | EqualLinear):
            value = value * (b / a) ** 0.5  # they are divided by the root of the inputs at use
    return value.to(now.dtype) if value.shape == now.shape else None


def class_axis(net: nn.Module, name: str) -> int | None:
    """Return the axis of a tensor that counts classes; None if none does, -1 if one mixes them with other inputs."""
    path, _, last = name.rpartition(".")
    above = net.get_submodule(path.rpartition(".")[0])
    module = net.get_submodule(path)
    if isinstance(above, ConditionEmbedding) and above.condition.kind == "classes" and path.endswith("table"):
        return 0
    if isinstance(above, LinearEmbedding) and above.condition.kind == "classes" and last == "weight":
        return 1
    if isinstance(module, Mixture) and module.classes and last in ("weights", "means"):
        return 0
    heads = (isinstance(net, classifier.Classifier) and path == "head") or (isinstance(net, convnet.Classifier) and path == "last")
    if heads and last in ("weight", "bias"):
        return 0
    first = isinstance(net, mlp.Generator | mlp.Discriminator) and path in ("layers.0", "layers.0.linear") and last == "weight"
    return -1 if first else None


def _of_classes(value: Tensor, axis: int, change: Change) -> Tensor:
    """Return the entries of the classes now, along an axis that counts those before."""
    mean = value.mean(axis, keepdim=True)
    parts = [mean if old is None else value.narrow(axis, old, 1) for old in change.classes_match]
    return torch.cat(parts, axis)


def _unit_gain(net: nn.Module, path: str, classes: int) -> bool:
    """Return whether the embedding around a linear map multiplies by the root of the number of classes, which cancels its scale."""
    above = net.get_submodule(path.rpartition(".")[0])
    return isinstance(above, LinearEmbedding) and above.gain == classes**0.5 and classes > 1


def channel_matrix(before: int, now: int, channels: tuple[int, int], inputs: bool) -> Tensor | None:
    """Return the matrix [now, before] that maps an axis of picture channels; None if the sizes are not those of channels.

    A square number of positions per channel are the pixels of a patch, channel by channel; another number are whole pictures
    beside each other (a pair). An input with one channel more than the picture has a mask behind it; one with as many more as the picture
    has, besides others, has the picture behind those.
    """
    (a, b), extra = channels, 0
    if a == b:
        return None
    if before * b != now * a and (before - 1) * b == (now - 1) * a:
        extra = 1
    factor, rest = divmod(before - extra, a)
    one = _colors(a, b, inputs)
    if inputs and before > a + 1 and now - before == b - a:
        return torch.block_diag(torch.eye(before - a, dtype=torch.float64), one)
    if rest or not factor or factor * b + extra != now:
        return None
    eye = torch.eye(factor, dtype=torch.float64)
    whole = torch.kron(one, eye) if isqrt(factor) ** 2 == factor else torch.kron(eye, one)
    return torch.block_diag(whole, torch.eye(extra, dtype=torch.float64)) if extra else whole


def _colors(a: int, b: int, inputs: bool) -> Tensor:
    """Return the matrix [b,a] from a channels to b, each 1 (gray), 3 (RGB) or 4 (RGBA)."""
    matrix = torch.zeros(b, a, dtype=torch.float64)
    if a == 1:
        matrix[: min(b, 3)] = 1 / 3 if inputs else 1.0
    elif b == 1:
        matrix[0, :3] = 1.0 if inputs else torch.tensor(LUMA, dtype=torch.float64)
    else:
        matrix[:3, :3] = torch.eye(3)
    return matrix
