"""`inception`: the Inception v3 of 2015 by which FID is defined, from a local weights file; nothing is downloaded.

Szegedy et al. 2016, as in the TensorFlow graph `inception-2015-12-05`, which differs from later versions: average pools exclude
the padding from the mean, the last block uses max pooling, and there are 1,008 classes. The names of parameters are those of
the standard file of the field, so that a user's copy loads.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from limner.data.cache import cache_folder
from limner.evaluation.features.extractor import digest, with_channels

STANDARD = "pt_inception-2015-12-05-6726825d.pth"
SIDE = 299


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm (ε 0.001), ReLU."""

    def __init__(self, before: int, after: int, kernel: int | tuple[int, int], stride: int = 1,
                 padding: int | tuple[int, int] = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(after, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


def around(x: Tensor) -> Tensor:
    """Return the 3×3 average at stride 1, excluding the padding, as TensorFlow does."""
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


class MixedA(nn.Module):
    """35×35: 1×1, 5×5, double 3×3 and pooled branches."""

    def __init__(self, before: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = ConvNorm(before, 64, 1)
        self.branch5x5_1 = ConvNorm(before, 48, 1)
        self.branch5x5_2 = ConvNorm(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = ConvNorm(before, 64, 1)
        self.branch3x3dbl_2 = ConvNorm(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = ConvNorm(96, 96, 3, padding=1)
        self.branch_pool = ConvNorm(before, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        five = self.branch5x5_2(self.branch5x5_1(x))
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, three, self.branch_pool(around(x))], 1)


class MixedB(nn.Module):
    """35×35 -> 17×17."""

    def __init__(self, before: int) -> None:
        super().__init__()
        self.branch3x3 = ConvNorm(before, 384, 3, 2)
        self.branch3x3dbl_1 = ConvNorm(before, 64, 1)
        self.branch3x3dbl_2 = ConvNorm(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = ConvNorm(96, 96, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), three, F.max_pool2d(x, 3, 2)], 1)


class MixedC(nn.Module):
    """17×17: 1×1, 7×7 and double 7×7 in separate rows and columns, and pooled branches."""

    def __init__(self, before: int, inner: int) -> None:
        super().__init__()
        row, column = {"kernel": (1, 7), "padding": (0, 3)}, {"kernel": (7, 1), "padding": (3, 0)}
        self.branch1x1 = ConvNorm(before, 192, 1)
        self.branch7x7_1 = ConvNorm(before, inner, 1)
        self.branch7x7_2 = ConvNorm(inner, inner, **row)  # type: ignore[arg-type]
        self.branch7x7_3 = ConvNorm(inner, 192, **column)  # type: ignore[arg-type]
        self.branch7x7dbl_1 = ConvNorm(before, inner, 1)
        self.branch7x7dbl_2 = ConvNorm(inner, inner, **column)  # type: ignore[arg-type]
        self.branch7x7dbl_3 = ConvNorm(inner, inner, **row)  # type: ignore[arg-type]
        self.branch7x7dbl_4 = ConvNorm(inner, inner, **column)  # type: ignore[arg-type]
        self.branch7x7dbl_5 = ConvNorm(inner, 192, **row)  # type: ignore[arg-type]
        self.branch_pool = ConvNorm(before, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(around(x))], 1)


class MixedD(nn.Module):
    """17×17 -> 8×8."""

    def __init__(self, before: int) -> None:
        super().__init__()
        self.branch3x3_1 = ConvNorm(before, 192, 1)
        self.branch3x3_2 = ConvNorm(192, 320, 3, 2)
        self.branch7x7x3_1 = ConvNorm(before, 192, 1)
        self.branch7x7x3_2 = ConvNorm(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = ConvNorm(192, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = ConvNorm(192, 192, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_2(self.branch3x3_1(x))
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([three, seven, F.max_pool2d(x, 3, 2)], 1)


class MixedE(nn.Module):
    """8×8: branches that split into rows and columns; the first block pools by mean, the last (Mixed_7c) by maximum."""

    def __init__(self, before: int, maximum: bool) -> None:
        super().__init__()
        self.maximum = maximum
        self.branch1x1 = ConvNorm(before, 320, 1)
        self.branch3x3_1 = ConvNorm(before, 384, 1)
        self.branch3x3_2a = ConvNorm(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3_2b = ConvNorm(384, 384, (3, 1), padding=(1, 0))
        self.branch3x3dbl_1 = ConvNorm(before, 448, 1)
        self.branch3x3dbl_2 = ConvNorm(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = ConvNorm(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = ConvNorm(384, 384, (3, 1), padding=(1, 0))
        self.branch_pool = ConvNorm(before, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = F.max_pool2d(x, 3, 1, 1) if self.maximum else around(x)
        return torch.cat([
            self.branch1x1(x), self.branch3x3_2a(three), self.branch3x3_2b(three),
            self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double), self.branch_pool(pooled),
        ], 1)


class InceptionV3(nn.Module):
    """Maps float [N,3,299,299], (x - 128) / 128, to pool features [N,2048]; `fc` maps them to 1,008 logits."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = ConvNorm(3, 32, 3, 2)
        self.Conv2d_2a_3x3 = ConvNorm(32, 32, 3)
        self.Conv2d_2b_3x3 = ConvNorm(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = ConvNorm(64, 80, 1)
        self.Conv2d_4a_3x3 = ConvNorm(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = MixedA(192, 32), MixedA(256, 64), MixedA(288, 64)
        self.Mixed_6a = MixedB(288)
        self.Mixed_6b, self.Mixed_6c = MixedC(768, 128), MixedC(768, 160)
        self.Mixed_6d, self.Mixed_6e = MixedC(768, 160), MixedC(768, 192)
        self.Mixed_7a = MixedD(768)
        self.Mixed_7b, self.Mixed_7c = MixedE(1280, maximum=False), MixedE(2048, maximum=True)
        self.fc = nn.Linear(2048, 1008)

    def forward(self, x: Tensor) -> Tensor:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))  # [N,64,147,147]
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))  # [N,192,71,71]
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(F.max_pool2d(x, 3, 2))))  # [N,288,35,35]
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))  # [N,768,17,17]
        return self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x))).mean((2, 3))  # [N,2048,8,8] -> [N,2048]


def resize_as_tensorflow(images: Tensor, side: int = SIDE) -> Tensor:
    """Resize float [N,C,H,W] to [N,C,side,side] as TensorFlow 1: output pixel i samples position i·H/side, without antialiasing.

    Corners of pixels are aligned, not their centers, and the last row repeats. FID is defined with this flaw.
    """
    for axis in (2, 3):
        length = images.shape[axis]
        place = torch.arange(side, device=images.device, dtype=torch.float32) * (length / side)
        low = place.long().clamp(max=length - 1)
        high = (low + 1).clamp(max=length - 1)
        shape = [side, 1] if axis == 2 else [1, side]
        part = (place - low).reshape(shape)
        first = images.index_select(axis, low)
        images = first + (images.index_select(axis, high) - first) * part
    return images


class Inception:
    """The extractor: uint8 [N,C,H,W] of any size -> pool features float32 [N,2048], computed in fp32."""

    name = "inception"
    width = 2048
    resize = "bilinear as in TensorFlow 1 (not antialiased), to 299x299"

    def __init__(self, net: InceptionV3, identity: str, device: str = "cpu") -> None:
        self.device = torch.device(device)
        net.eval().requires_grad_(False)
        self.net = net.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.identity = digest("inception", identity)

    @classmethod
    def load(cls, weights: Path | str | None = None, device: str = "cpu") -> Inception:
        """Load the standard file: `weights`, otherwise $LIMNER_WEIGHTS (file or folder), otherwise the cache folder.

        Raises ValueError when it is missing or damaged, or belongs to another network.
        """
        path = find(weights)
        hexes = hashlib.sha256(path.read_bytes()).hexdigest()
        if path.name == STANDARD and not hexes.startswith("6726825d"):
            raise ValueError(f"{path} is damaged (its sha256 does not begin with 6726825d): fetch {STANDARD} again.")
        net = InceptionV3()
        _fill(net, path)
        return cls(net, hexes, device)

    def __call__(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([self.net(self._prepared(part)).cpu() for part in images.split(32)])

    def probabilities(self, images: Tensor) -> Tensor:
        """Return class probabilities [N,1008] for the Inception score; without the bias of fc, as commonly computed."""
        with torch.no_grad():
            return (self(images).to(self.device) @ self.net.fc.weight.T).softmax(1).cpu()

    def _prepared(self, images: Tensor) -> Tensor:
        x = with_channels(images, 3).to(self.device).float()
        return ((resize_as_tensorflow(x) - 128) / 128).contiguous(memory_format=torch.channels_last)


def find(weights: Path | str | None) -> Path:
    """Return the path of the weights. Raises ValueError that says what to download and where to put it."""
    given = weights or os.environ.get("LIMNER_WEIGHTS") or cache_folder() / "weights"
    path = Path(given).expanduser()
    path = path / STANDARD if path.is_dir() or not path.suffix else path
    if not path.is_file():
        raise ValueError(
            f"Inception features need the file {STANDARD} (95 MB, from the releases of mseitzer/pytorch-fid on GitHub): "
            f"fetch it and put it at {path}, or set LIMNER_WEIGHTS to its path."
        )
    return path


def _fill(net: InceptionV3, path: Path) -> None:
    problem = f"{path} is not the Inception of FID: fetch {STANDARD} again and put it there."
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} cannot be read (damaged or truncated): fetch {STANDARD} again.") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(problem)
    ours = {key: value for key, value in net.state_dict().items() if not key.endswith("num_batches_tracked")}
    theirs = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    if {k: v.shape for k, v in ours.items()} != {k: v.shape for k, v in theirs.items()}:
        raise ValueError(problem)
    net.load_state_dict(theirs, strict=False)  # only the batch counters may be absent
