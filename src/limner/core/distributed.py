"""Distributed training by several processes (ranks), started by torchrun or by `train`. With one process every function is a no-op."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as torch_dist
from torch import Tensor, nn


@dataclass(frozen=True)
class Ranks:
    """This process's rank among `world`; only rank 0 writes files and prints."""

    rank: int = 0
    world: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        return self.rank == 0

    def rows(self, batch: int) -> slice:
        """Return this rank's rows of a global batch. Raises ValueError when `batch` is not a multiple of the ranks."""
        if batch % self.world:
            raise ValueError(f"A batch of {batch} cannot be split evenly over {self.world} ranks: choose a multiple of it.")
        each = batch // self.world
        return slice(self.rank * each, (self.rank + 1) * each)


ALONE = Ranks()
_sync_batch_norm = False  # of the process group


@dataclass(frozen=True)
class Member:
    """A place in a process group that `train` started itself: the rank, and the store by which its processes meet."""

    ranks: Ranks
    store: Any  # of torch.distributed


def by_torchrun() -> Ranks | None:
    """Return the ranks that torchrun's environment describes; None without it."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    return None if world == 1 else Ranks(int(os.environ["RANK"]), world, int(os.environ.get("LOCAL_RANK", "0")))


@contextmanager
def process_group(device: str = "auto", sync_batch_norm: bool = False, member: Member | None = None) -> Iterator[Ranks]:
    """Initialize the process group of `member`, by default the one that torchrun's environment describes (NCCL on CUDA, else Gloo);
    destroy it on exit.

    sync_batch_norm: layers normalize over the rows of all ranks instead of each rank's own. Raises ValueError when there are more
    local ranks than GPUs.
    """
    global _sync_batch_norm
    ranks = member.ranks if member else by_torchrun()
    if ranks is None:
        yield ALONE
        return
    cuda = device != "cpu" and torch.cuda.is_available()
    if cuda and ranks.local >= torch.cuda.device_count():
        raise ValueError(f"Rank {ranks.local} has no GPU of its own: there are {torch.cuda.device_count()}, so start as many ranks.")
    if cuda:
        torch.cuda.set_device(ranks.local)
    # The default arguments of this module's functions hold the group that exists when it is imported. Imported later, by
    # the first optimizer, they would keep the group and its threads alive until the interpreter's teardown.
    from torch.distributed.nn import functional  # noqa: F401

    own = {"store": member.store, "rank": ranks.rank, "world_size": ranks.world} if member else {}
    torch_dist.init_process_group("nccl" if cuda else "gloo", **own)
    _sync_batch_norm = sync_batch_norm
    try:
        yield ranks
        torch_dist.barrier()  # no rank leaves while another still communicates
    finally:
        torch_dist.destroy_process_group()


def is_distributed() -> bool:
    """Return whether more than one rank trains."""
    return torch_dist.is_available() and torch_dist.is_initialized() and torch_dist.get_world_size() > 1


def world_size() -> int:
    """Return the number of ranks."""
    return torch_dist.get_world_size() if is_distributed() else 1


def syncs_batch_norm() -> bool:
    """Return whether batch statistics are those of the rows of all ranks: every layer that has some then waits for all ranks, in both
    directions. Otherwise they are those of a rank's own rows, and the training loop averages the running statistics."""
    return is_distributed() and _sync_batch_norm


def unsynchronized(networks: Iterable[nn.Module]) -> list[Tensor]:
    """Return the running statistics of networks that differ between ranks, since each normalizes its own rows.

    They are linear in what each rank has seen: their mean over the ranks, at any time, is the running statistic of all.
    """
    if not is_distributed() or _sync_batch_norm:
        return []
    names = ("running_mean", "running_var")
    return [b for net in networks for name, b in net.named_buffers() if name.rpartition(".")[2] in names]


def all_reduce_in_place(tensors: Sequence[Tensor]) -> None:
    """Sum each tensor over all ranks, in place, in one flat all-reduce. A no-op with one rank.

    Gradients are summed once a phase instead of by DDP's hooks, so that double backward, calls of submodules and several
    forward passes work.
    """
    if not is_distributed() or not tensors:
        return
    flat = tensors[0].new_empty(sum(t.numel() for t in tensors))
    parts = [_laid_out_as(t, part) for t, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True)]
    torch._foreach_copy_(parts, list(tensors))
    torch_dist.all_reduce(flat)
    torch._foreach_copy_(list(tensors), parts)


def _laid_out_as(tensor: Tensor, part: Tensor) -> Tensor:
    """Return a view of a part of a flat buffer with the shape of a tensor, and its memory order where that is channels_last:
    kernels of convolutions are then copied as they lie. Gradients have the layout of their parameter, the same on all ranks."""
    if tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
        n, c, h, w = tensor.shape
        return part.view(n, h, w, c).permute(0, 3, 1, 2)
    return part.view(tensor.shape)


class _Sum(torch.autograd.Function):
    """Sum over ranks; its gradient is the sum of the ranks' gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone()
        torch_dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return _Sum.apply(g.contiguous())  # type: ignore[no-untyped-call]


def all_reduce_sum(x: Tensor) -> Tensor:
    """Return the sum of x over ranks, differentiable on every rank; x itself with one rank."""
    return _Sum.apply(x) if is_distributed() else x  # type: ignore[no-untyped-call]


def all_gather(x: Tensor) -> Tensor:
    """Concatenate the rows of all ranks, in rank order, differentiably; x itself with one rank.

    Every rank has equally many rows. [n,...] -> [world*n,...]
    """
    if not is_distributed():
        return x
    rows = [torch.zeros_like(x) for _ in range(torch_dist.get_world_size())]
    rows[torch_dist.get_rank()] = x
    return all_reduce_sum(torch.cat(rows))


def broadcast_from_rank0(value: object) -> object:
    """Return rank 0's value (a measured speed, for example) on every rank; the value itself with one rank."""
    if not is_distributed():
        return value
    values = [value]
    torch_dist.broadcast_object_list(values, src=0)
    return values[0]
