"""Ranks: several processes that train one model, started by torchrun. Alone, everything here costs nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as torch_dist
from torch import Tensor
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors


@dataclass(frozen=True)
class Ranks:
    """Who this process is among `world` equals; rank 0 alone writes files and speaks."""

    rank: int = 0
    world: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        return self.rank == 0

    def rows(self, batch: int) -> slice:
        """The rows of a global batch that are this rank's. Raises ValueError when they cannot be shared evenly."""
        if batch % self.world:
            raise ValueError(f"A batch of {batch} cannot be shared by {self.world} ranks: choose a multiple of it.")
        each = batch // self.world
        return slice(self.rank * each, (self.rank + 1) * each)


ALONE = Ranks()


@contextmanager
def process_group(device: str = "auto") -> Iterator[Ranks]:
    """Join the group that torchrun's environment names (nccl on CUDA, else gloo), and leave it at the end.

    Raises ValueError for a rank without a GPU of its own.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield ALONE
        return
    ranks = Ranks(int(os.environ["RANK"]), world, int(os.environ.get("LOCAL_RANK", "0")))
    cuda = device != "cpu" and torch.cuda.is_available()
    if cuda and ranks.local >= torch.cuda.device_count():
        raise ValueError(f"Rank {ranks.local} has no GPU, for there are {torch.cuda.device_count()}: start as many ranks.")
    if cuda:
        torch.cuda.set_device(ranks.local)
    # Its functions take the group of the moment as their default. The first optimizer brings it in: after the group stands,
    # those defaults would keep the group and its threads alive, to the end of the interpreter and into its teardown.
    from torch.distributed.nn import functional  # noqa: F401

    torch_dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield ranks
        torch_dist.barrier()  # nobody leaves while another still speaks
    finally:
        torch_dist.destroy_process_group()


def is_distributed() -> bool:
    """Whether this process trains together with others."""
    return torch_dist.is_available() and torch_dist.is_initialized() and torch_dist.get_world_size() > 1


def all_reduce_in_place(tensors: Sequence[Tensor]) -> None:
    """Add each tensor over all ranks, in place, in one flat message. Alone: nothing.

    Gradients are summed by this once a turn rather than by DDP's hooks, so double backward, calls of sub-modules and
    several forwards a turn just work.
    """
    if not is_distributed() or not tensors:
        return
    flat = _flatten_dense_tensors(tensors)
    torch_dist.all_reduce(flat)
    for tensor, total in zip(tensors, _unflatten_dense_tensors(flat, tensors), strict=True):
        tensor.copy_(total)


class _Sum(torch.autograd.Function):
    """Sum over ranks; the gradient of a sum that everybody sees is again a sum over ranks."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:  # type: ignore[override]
        x = x.clone()
        torch_dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx, g: Tensor) -> Tensor:  # type: ignore[override]
        return _Sum.apply(g.contiguous())


def all_reduce_sum(x: Tensor) -> Tensor:
    """The sum of x over ranks, through which gradients flow back to every rank. Alone: x."""
    return _Sum.apply(x) if is_distributed() else x


def all_gather(x: Tensor) -> Tensor:
    """The rows of every rank, as many on each, in the order of ranks; gradients flow back to whose they are. Alone: x.

    [n,...] -> [world*n,...]
    """
    if not is_distributed():
        return x
    parts = [torch.zeros_like(x) for _ in range(torch_dist.get_world_size())]
    parts[torch_dist.get_rank()] = x
    return all_reduce_sum(torch.cat(parts))


def broadcast_from_rank0(value: object) -> object:
    """What rank 0 says, on every rank (a measured speed, say). Alone: the value."""
    if not is_distributed():
        return value
    box = [value]
    torch_dist.broadcast_object_list(box, src=0)
    return box[0]
