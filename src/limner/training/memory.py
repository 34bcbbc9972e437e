"""A lower bound of the memory that training needs, computed before it is allocated.

Networks are built on the meta device, where nothing is allocated, and a forward pass of two pictures shows which tensors the
backward pass keeps. The sum is a lower bound (temporary tensors, penalties and the allocator's overhead come on top), so that
a run that fits is never rejected.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limner.core.images import ImageSpec
from limner.core.machine import Machine

MAX_FRACTION = 0.95  # of the free memory, for the lower bound
ROWS = 2  # of the measured pass; batch normalization needs more than one


def available(device: torch.device) -> int | None:
    """Return the bytes that are free for a process on the device; None if the system does not report them.

    On the CPU: the available memory of the kernel, limited by the process and its control group.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    found: list[int] = []
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found.append(1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]))
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        with suppress(OSError, ValueError):  # "max" is not a number, and means no limit
            most, now = int(Path(limit).read_text()), int(Path(used).read_text())
            found.append(max(0, most - now) + _reclaimable(Path(limit).with_name("memory.stat")))
    with suppress(ImportError, OSError, ValueError, IndexError):
        import resource  # not available on Windows

        most = resource.getrlimit(resource.RLIMIT_AS)[0]
        if most != resource.RLIM_INFINITY:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            found.append(max(0, most - pages * resource.getpagesize()))
    return min(found, default=None)


def _reclaimable(stat: Path) -> int:
    """Return the bytes of file cache in a control group, which the kernel can reclaim."""
    with suppress(OSError, ValueError):
        figures = dict(line.split() for line in stat.read_text().splitlines())
        return sum(int(figures.get(name, 0)) for name in ("inactive_file", "active_file"))
    return 0


def of_parameters(nets: Iterable[nn.Module], averaged: Iterable[nn.Module] = (), slots: int = 2) -> int:
    """Return the bytes of weights, gradients, `slots` optimizer tensors for each, and a second copy of averaged networks."""
    trained = sum(p.numel() * p.element_size() for net in nets for p in net.parameters())
    return (2 + slots) * trained + sum(t.numel() * t.element_size() for net in averaged for t in net.state_dict().values())


def of_activations(net: nn.Module, inputs: Sequence[Any]) -> int:
    """Return the bytes that the backward pass of `net` keeps for each row of `inputs`, meta tensors of ROWS rows.

    0 for a network that does not run on the meta device.
    """
    kept: dict[int, int] = {}
    alive: list[Tensor] = []  # keeps the tensors, since an id is unique only while its object exists

    def note(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter) and tensor.ndim and len(tensor) == ROWS:
            storage = tensor.untyped_storage()
            kept[storage._cdata] = storage.nbytes()
            alive.append(tensor)
        return tensor

    try:
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            net.train()(*inputs)
    except (RuntimeError, NotImplementedError, TypeError, ValueError):
        return 0
    return sum(kept.values()) // ROWS


@dataclass(frozen=True)
class Pass:
    """One forward pass of training, on meta tensors of ROWS rows."""

    network: nn.Module
    inputs: Sequence[Any]


def refuse_too_large(
    passes: Sequence[Pass], averaged: Sequence[nn.Module], spec: ImageSpec, batch: int, micro_batch: int, machine: Machine
) -> None:
    """Raise ValueError when training needs more memory than is free, before any is allocated.

    passes: one of every network, built on the meta device, whose activations an iteration keeps at the same time. averaged:
    networks with a moving average. batch, micro_batch: images per iteration, and per forward pass.
    """
    kept = sum(of_activations(one.network, one.inputs) for one in passes)
    share = -(-batch // machine.ranks.world)
    rows = min(micro_batch or share, share)
    width = 2 if machine.precision == torch.float32 else 4  # activations may be half as wide as on the meta device
    images = share * spec.channels * spec.height * spec.width * 5  # as uint8 and as float32
    lower = "--batch, --size or the networks' width, or pass fewer at once (--micro-batch 8)"
    refuse_beyond(
        {
            "weights and their optimizers": (of_parameters([one.network for one in passes], averaged), "the networks' width or --size"),
            "the activations of a pass": (rows * kept * 2 // width, lower),
            "a batch": (images, "--batch"),
        },
        machine.device,
    )


def refuse_beyond(needed: Mapping[str, tuple[int, str]], device: torch.device) -> None:
    """Raise ValueError when training needs more memory than is free. needed: part -> (bytes, options to lower)."""
    free = available(device)
    total = sum(size for size, _ in needed.values())
    if free is None or total <= MAX_FRACTION * free:
        return
    name, (size, lower) = max(needed.items(), key=lambda item: item[1][0])
    raise ValueError(
        f"This training needs at least {_format_bytes(total)} of memory ({_format_bytes(size)} for {name}), and {_format_bytes(free)} are free: "
        f"lower {lower}."
    )


def _format_bytes(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size < 1e15 else f"{size / 1e12:,.0f} TB"
