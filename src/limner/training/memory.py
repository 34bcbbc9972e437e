"""The memory that training will need at least, found before it is asked for.

Networks are built on the meta device, where nothing is allocated, and a pass over two pictures tells which tensors the
backward pass would keep. The sum is a lower bound (temporary tensors, penalties and the allocator's own needs come on
top), so that a run which fits is never refused.
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

MARGIN = 0.95  # share of the free memory that the lower bound may take
ROWS = 2  # of the pass that is looked at; batch norm needs more than one


def available(device: torch.device) -> int | None:
    """Bytes that are free for a process on the device; None where the system does not tell.

    On the CPU: what the kernel says is available, at most what the limits of the process and its control group leave.
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
        with suppress(OSError, ValueError):  # "max" is no number, and no limit
            most, now = int(Path(limit).read_text()), int(Path(used).read_text())
            found.append(max(0, most - now) + _reclaimable(Path(limit).with_name("memory.stat")))
    with suppress(ImportError, OSError, ValueError, IndexError):
        import resource  # which Windows has not

        most = resource.getrlimit(resource.RLIMIT_AS)[0]
        if most != resource.RLIM_INFINITY:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            found.append(max(0, most - pages * resource.getpagesize()))
    return min(found, default=None)


def _reclaimable(stat: Path) -> int:
    """Bytes of file cache in a control group, which the kernel gives back when memory is short."""
    with suppress(OSError, ValueError):
        figures = dict(line.split() for line in stat.read_text().splitlines())
        return sum(int(figures.get(name, 0)) for name in ("inactive_file", "active_file"))
    return 0


def of_parameters(nets: Iterable[nn.Module], averaged: Iterable[nn.Module] = (), slots: int = 2) -> int:
    """Bytes of weights, gradients, `slots` tensors of the optimizer for each, and a second copy of averaged networks."""
    trained = sum(p.numel() * p.element_size() for net in nets for p in net.parameters())
    return (2 + slots) * trained + sum(t.numel() * t.element_size() for net in averaged for t in net.state_dict().values())


def of_activations(net: nn.Module, inputs: Sequence[Any]) -> int:
    """Bytes that the backward pass of `net` keeps for each row of `inputs`, meta tensors of ROWS rows.

    0 for a network that cannot be passed on the meta device.
    """
    own = {p.data_ptr() if not p.is_meta else id(p) for p in net.parameters()}
    kept: dict[int, int] = {}
    alive: list[Tensor] = []  # an id means one tensor only while that is there

    def note(tensor: Tensor) -> Tensor:
        if id(tensor) not in own and not isinstance(tensor, nn.Parameter) and tensor.ndim and len(tensor) == ROWS:
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
    """Raises ValueError where training needs more memory than is free, before any of it is asked for.

    passes: of every network, each listed once, built on the meta device; those that one iteration keeps at the same time.
    averaged: networks of which an average is kept. batch, micro_batch: images an iteration, and a forward pass.
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
    """Raises ValueError where a training needs more memory than there is. needed: what for -> (bytes, what to lower)."""
    free = available(device)
    total = sum(size for size, _ in needed.values())
    if free is None or total <= MARGIN * free:
        return
    name, (size, lower) = max(needed.items(), key=lambda item: item[1][0])
    raise ValueError(
        f"This training needs at least {_said(total)} of memory ({_said(size)} for {name}), and {_said(free)} are free: "
        f"lower {lower}."
    )


def _said(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size < 1e15 else f"{size / 1e12:,.0f} TB"
