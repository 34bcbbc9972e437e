"""Contracts of networks: those of every architecture, and optional ones.

N images of C channels and size H x W; Z numbers in a latent; c is a condition as `core.condition.Condition` states it. Networks
compute on any device, under autocast too, and return float32. A method checks for an ability with `isinstance`, never by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

# ---- every architecture ----------------------------------------------------------------------------------------------


@runtime_checkable
class Generator(Protocol):
    """Latents to images."""

    z_size: int  # Z

    def __call__(self, z: Tensor, c: Tensor | None = None, /) -> Tensor:
        """z [N,Z], standard normal or as `core.latents` transforms it, c | None -> images [N,C,H,W], in or near [-1,1]"""


@runtime_checkable
class Discriminator(Protocol):
    """Images to logits, high where it takes an image for real."""

    last: nn.Module  # its input, flattened to [N,F], are the features that feature matching and classifiers use

    def __call__(self, x: Tensor, c: Tensor | None = None, /) -> Tensor:
        """x [N,C,H,W] in [-1,1], c | None -> logits [N], or [N,h,w] for one a patch; without an activation"""


@runtime_checkable
class Translator(Protocol):
    """Images to images of the same size, of any size from `least` up."""

    least: int  # the smallest H and W

    def __call__(self, x: Tensor, /) -> Tensor:
        """x [N,C,H,W] in [-1,1] -> the same shape and range"""


@runtime_checkable
class RestorerNetwork(Protocol):
    """Degraded images to restored ones, `scale` times as large, of any size from `least` up."""

    scale: int  # s
    inputs: int  # I: C; C+1, where the last channel is a mask, 1 in the hole and 0 elsewhere; or 1, the luma of a color picture
    radius: int | None  # an output pixel depends on no input pixel further away than this; None: on any
    multiple: int  # tiles equal the whole picture only where they start at multiples of this
    least: int  # the smallest H and W

    def __call__(self, x: Tensor, /) -> Tensor:
        """x [N,I,H,W] in [-1,1] -> [N,C,sH,sW] in or near [-1,1]"""

    def fused(self) -> nn.Module:
        """The same function and attributes with fewer operations, for inference"""


@runtime_checkable
class Autoencoder(Protocol):
    """Images to latents and back."""

    def encode(self, x: Tensor) -> Tensor:
        """x [N,C,H,W] in [-1,1] -> latents [N,...], always the same for the same image"""

    def decode(self, latent: Tensor) -> Tensor:
        """latents [N,...] -> images [N,C,H,W] in [-1,1]"""

    def between(self, a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        """Images on the path from latent a [1,...] to b [1,...], one for each t [T] in [0,1]: [T,C,H,W]"""

    def __call__(self, x: Tensor, /) -> Tensor:
        """x [N,C,H,W] -> its reconstruction, decode(encode(x))"""


@runtime_checkable
class Classifier(Protocol):
    """Images to logits of classes."""

    temperature: Tensor  # [], divides the logits for calibrated probabilities

    def features(self, x: Tensor) -> Tensor:
        """x [N,C,H,W] in [-1,1] -> features [N,F], the input of the last layer"""

    def __call__(self, x: Tensor, /) -> Tensor:
        """x [N,C,H,W] in [-1,1] -> logits [N,K]"""


# ---- some architectures ----------------------------------------------------------------------------------------------


def growth(progress: float, depth: int, share: float) -> float:
    """The level in [0, depth] of a network that doubles its resolution `depth` times over the first `share` of a run.

    Every level is first held and then faded into the next, all for equally long (Karras et al. 2018, section 2); a
    whole number is a level at rest, 1.3 is level 2 faded in by 0.3.
    """
    if share <= 0 or progress >= share:
        return float(depth)
    position = progress / share * 2 * depth
    level = int(position) // 2
    return level + max(0.0, position - 2 * level - 1)


class ProgressiveNet(nn.Module):
    """A network whose resolution grows with the progress of the run. Until `at()` is called, it runs at full resolution.

    The progress is a buffer, so checkpoints and published weights hold it; an average of weights holds the average
    progress, and so runs at the level that its weights were trained at.
    """

    progress: Tensor

    def __init__(self, depth: int, share: float) -> None:
        super().__init__()
        self.depth, self.share = depth, share
        self.register_buffer("progress", torch.ones(()))
        self._progress_value = 1.0  # the buffer's value for an exporter, which cannot read a buffer
        self.register_load_state_dict_post_hook(_read_loaded_progress)  # type: ignore[no-untyped-call]

    def at(self, progress: float) -> None:
        """Set the share of the run that is over, in [0,1]; the training loop does so before each turn."""
        self.progress.fill_(progress)
        self._progress_value = progress

    @property
    def level(self) -> float:
        """The current level in [0, depth], as `growth` defines it."""
        progress = self._progress_value if torch.compiler.is_compiling() else float(self.progress)
        return growth(progress, self.depth, self.share)

    def at_level(self, x: Tensor) -> Tensor:
        """Real images reduced to the detail that a generator has at this level. [N,C,H,W] -> [N,C,H,W]"""
        return x


def _read_loaded_progress(net: nn.Module, _: object) -> None:
    assert isinstance(net, ProgressiveNet)
    if not net.progress.is_meta:
        net._progress_value = float(net.progress)


@runtime_checkable
class BatchNormalized(Protocol):
    """A generator with batch normalizations that can be folded into the layers before them."""

    def normalized_layers(self) -> list[tuple[nn.Module, nn.Module]]:
        """Each linear layer or convolution whose output goes to a batch normalization and nowhere else, with that normalization"""


@runtime_checkable
class StyleBased(Protocol):
    """A generator in two parts, mapping and synthesis, for style mixing and path-length regularization."""

    layers: int  # L, styles of an image

    def mapping(self, z: Tensor, c: Tensor | None) -> Tensor:
        """z [N,Z], c | None -> style w [N,W]"""

    def synthesis(self, styles: Tensor) -> Tensor:
        """styles [N,L,W] -> images [N,C,H,W]"""


@runtime_checkable
class Moving(Protocol):
    """A generator of clips: its latent holds the time of a frame."""

    def moved(self, z: Tensor, t: Tensor) -> Tensor:
        """Latents a time later: z [N,Z], t [N] in periods -> [N,Z]; z itself for a whole number of periods"""


@runtime_checkable
class UsesReferenceBatch(Protocol):
    """A generator that normalizes by a reference batch of latents, which must follow the distribution that it is trained on."""

    def refer(self, bend: Callable[[Tensor], Tensor]) -> None:
        """Apply `bend` to the standard normal latents [R,Z] of the reference batch, where there is one; call it once."""


@runtime_checkable
class SelfSupervised(Protocol):
    """A discriminator with an auxiliary loss on real images."""

    def forward_with_aux(self, x: Tensor, c: Tensor | None, u: Tensor) -> tuple[Tensor, Tensor]:
        """Real images x [N,C,H,W], c | None, uniform numbers u [N] -> logits [N], auxiliary loss [N]"""
