"""What some architectures can do beyond the contract. A method asks with `isinstance`, never by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn


def growth(progress: float, depth: int, share: float) -> float:
    """The level of a net that doubles its resolution `depth` times over the first `share` of a run, in [0, depth].

    Every level is first held and then faded into the next, all for equally long (Karras et al. 2018, section 2); a
    whole number is a level at rest, 1.3 is level 2 faded in by 0.3.
    """
    if share <= 0 or progress >= share:
        return float(depth)
    position = progress / share * 2 * depth
    level = int(position) // 2
    return level + max(0.0, position - 2 * level - 1)


class ProgressiveNet(nn.Module):
    """A net whose resolution grows with the share of the run that is over; whoever trains it says `at(share)`.

    The share is a buffer: a checkpoint holds it, a trained net keeps it, and an average of weights carries the average
    share, so that it shows the level that its weights have seen. A net that nobody told anything is whole.
    """

    progress: Tensor

    def __init__(self, depth: int, share: float) -> None:
        super().__init__()
        self.depth, self.share = depth, share
        self.register_buffer("progress", torch.ones(()))
        self.told = 1.0  # the same, for an exporter, to which a buffer is a name without a value
        self.register_load_state_dict_post_hook(_tell_what_was_loaded)

    def at(self, progress: float) -> None:
        self.progress.fill_(progress)
        self.told = progress

    @property
    def level(self) -> float:
        progress = self.told if torch.compiler.is_compiling() else float(self.progress)
        return growth(progress, self.depth, self.share)

    def shown(self, x: Tensor) -> Tensor:
        """Real pictures as a net of this level could make them. [N,C,H,W] -> the same"""
        return x


def _tell_what_was_loaded(net: nn.Module, _: object) -> None:
    assert isinstance(net, ProgressiveNet)
    if not net.progress.is_meta:
        net.told = float(net.progress)


@runtime_checkable
class StyleBased(Protocol):
    """A generator in two halves, mapping and synthesis: styles can be mixed, and path lengths taken between them."""

    layers: int  # styles that a picture takes

    def mapping(self, z: Tensor, c: Tensor | None) -> Tensor:
        """[N,Z] -> style [N,W]"""

    def synthesis(self, styles: Tensor) -> Tensor:
        """[N,layers,W] -> pictures [N,C,H,W]"""


@runtime_checkable
class UsesReferenceBatch(Protocol):
    """A generator that may normalize by a batch of latents of its own, which must be of the kind that it is trained on."""

    def refer(self, bend: Callable[[Tensor], Tensor]) -> None:
        """Bend the standard normal latents [R,Z] of the reference, if there is one, to that kind; once."""


@runtime_checkable
class SelfSupervised(Protocol):
    """A discriminator that also learns from real pictures by a task of its own."""

    def forward_with_aux(self, x: Tensor, c: Tensor | None, u: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [N] of real pictures [N,C,H,W] and the loss [N] of that task, with a uniform number [N] a picture."""
