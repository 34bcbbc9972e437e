"""A trained classifier: calibrated probabilities and features of pictures of any size and mode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from limner.apps.pictures_out import as_picture
from limner.core import artifact, device
from limner.core.device import autocast
from limner.core.images import ImageSpec, to_float
from limner.data.image import decode_image, parse_color

CHUNK = 64  # pictures per forward pass
Picture = Image.Image | np.ndarray | str | Path


class Classifier:
    """A trained classifier. classes: the names of its classes. spec: shape of the pictures that its network takes."""

    def __init__(self, network: nn.Module, spec: ImageSpec, description: dict[str, Any], where: torch.device,
                 folder: Path) -> None:  # fmt: skip
        self.network, self.spec, self.description, self.folder = network, spec, description, folder
        self.classes: tuple[str, ...] = tuple(description["data"].get("classes") or ())
        how = artifact.preparation(description)
        self.fit, self.background = how["fit"], parse_color(how["background"])
        self._device, self._precision = where, device.precision(where)

    @property
    def temperature(self) -> float:
        """The number by which logits are divided before the softmax, chosen on held-out pictures; 1 changes nothing."""
        return float(getattr(self.network, "temperature", torch.ones(())))

    def classify(self, pictures: Picture | Sequence[Picture]) -> np.ndarray:
        """Return the probability of each class for each picture.

        Pictures of any size and mode are cropped or padded, resized and converted as those of the training were.

        Parameters
        ----------
        pictures
            A file, a Pillow image, uint8 [C,H,W], or a sequence of them, such as uint8 [N,C,H,W].

        Returns
        -------
        numpy.ndarray
            float64 [N,K], whose rows sum to 1; the classes are in the order of `classes`.

        Raises
        ------
        ValueError
            For arrays of another shape or type, and for a picture that cannot be read.

        Examples
        --------
        >>> import limner
        >>> import numpy as np
        >>> labels = np.arange(64) % 2
        >>> pictures = np.random.default_rng(0).integers(0, 128, (64, 16, 16), dtype=np.uint8)
        >>> pictures[labels == 1] += 100
        >>> small = {"network.width": 8}
        >>> run = limner.train(
        ...     (pictures, labels), recipe="classifier", images=64, changes=small, out="runs/bright", quiet=True
        ... )
        >>> model = limner.load(run.folder, "cpu")
        >>> probabilities = model.classify(pictures[:3, None])
        >>> model.classes, probabilities.shape, probabilities.sum(1).round(6).tolist()
        (('0', '1'), (3, 2), [1.0, 1.0, 1.0])
        """
        return self.probabilities(self.logits(self.prepared(pictures)))

    def encode(self, pictures: Picture | Sequence[Picture]) -> np.ndarray:
        """Return the features of pictures, for a search, a clustering or a classifier of other classes.

        Parameters
        ----------
        pictures
            As `classify` takes them.

        Returns
        -------
        numpy.ndarray
            float32 [N,F], what the last layer of the network takes.

        Raises
        ------
        ValueError
            For arrays of another shape or type, and for a picture that cannot be read.

        Examples
        --------
        After the example of `classify`:

        >>> import limner
        >>> import numpy as np
        >>> limner.load("runs/bright", "cpu").encode(np.zeros((2, 1, 16, 16), np.uint8)).shape
        (2, 16)
        """
        return self._in_chunks(self.prepared(pictures), self.network.features)  # type: ignore[arg-type]

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities float64 [N,K] of logits [N,K]."""
        scaled = logits.astype(np.float64) / self.temperature
        scaled = np.exp(scaled - scaled.max(1, keepdims=True))
        return scaled / scaled.sum(1, keepdims=True)

    def logits(self, pictures: np.ndarray) -> np.ndarray:
        """Return logits float32 [N,K] of prepared pictures."""
        return self._in_chunks(pictures, self.network)

    def prepared(self, pictures: Picture | Sequence[Picture]) -> np.ndarray:
        """Return pictures as the network takes them, uint8 [N,C,H,W]."""
        one = isinstance(pictures, (Image.Image, str, Path)) or (isinstance(pictures, np.ndarray) and pictures.ndim == 3)
        given: Sequence[Any] = [pictures] if one else pictures  # type: ignore[assignment]
        shape = (self.spec.channels, *self.spec.size)
        if isinstance(given, np.ndarray) and given.dtype == np.uint8 and given.shape[1:] == shape:
            return given
        return np.stack([self._prepare(picture) for picture in given]) if len(given) else np.zeros((0, *shape), np.uint8)

    def _prepare(self, picture: Picture) -> np.ndarray:
        """Return one picture, uint8 [C,H,W]. Raises ValueError when it cannot be read or is no picture."""
        return self.decoded(as_picture(picture))

    def decoded(self, image: Image.Image) -> np.ndarray:
        """Return a Pillow image, uint8 [C,H,W]. Raises Damaged."""
        array, _ = decode_image(image, self.spec.size, self.spec.channels, self.fit, self.background)
        return np.ascontiguousarray(array.transpose(2, 0, 1))

    @torch.no_grad()
    def _in_chunks(self, pictures: np.ndarray, work: Callable[[Tensor], Tensor]) -> np.ndarray:
        parts = []
        for start in range(0, max(1, len(pictures)), CHUNK):  # an empty array is passed too, for the shape of the result
            part = torch.from_numpy(np.ascontiguousarray(pictures[start : start + CHUNK])).to(self._device)
            x = to_float(part).contiguous(memory_format=torch.channels_last)
            with autocast(self._device, self._precision):
                parts.append(work(x).float().cpu().numpy())
        found = np.concatenate(parts)
        if not np.isfinite(found).all():
            raise ValueError("The model's outputs are not finite: its weights are damaged, so copy it again.")
        return found
