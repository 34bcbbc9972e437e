"""A Source: pictures by number, wherever they lie, with what is known of them before any is decoded."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np
from PIL import Image

from limner.data.image import Damaged, opened, reason

Rejected = tuple[str, str]  # (name, why it is skipped, in a few plain words)


@dataclass(frozen=True, eq=False)
class Source:
    """Pictures that can be opened one by one, in a fixed order, from several threads at once."""

    name: str                                        # short, fit for the name of a run folder
    origin: str                                      # what it is and where, for people
    names: list[str]                                 # one a picture, unique: its path below the folder, or its number
    content: Callable[[int], BinaryIO | np.ndarray]  # a file to read, or a picture uint8 [H,W,C]; OSError or Damaged
    mark: Callable[[], str]                          # changes whenever a picture may have changed
    classes: tuple[str, ...] = ()                    # empty: pictures carry no label
    labels: np.ndarray | None = None                 # int64 [N], an index into classes
    attribution: str = ""                            # who made it and the license, for embedded samples
    bad: list[Rejected] = field(default_factory=list)     # found unusable before opening
    others: dict[str, int] = field(default_factory=dict)  # ending -> how many files are not pictures
    notes: list[str] = field(default_factory=list)   # decisions a person should know of
    array: np.ndarray | None = None                  # all pictures uint8 [N,H,W,C], where they are one array already
    validation: Source | None = None                 # the split that is held out of training, where the data has one

    def __post_init__(self) -> None:
        assert (self.labels is None) == (not self.classes), "labels and classes come together"
        assert self.labels is None or len(self.labels) == len(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def open(self, index: int) -> Image.Image:
        """Picture `index` with its header read and its pixels not yet. Raises Damaged with the reason."""
        try:
            content = self.content(index)
        except OSError as error:
            raise Damaged(reason(error)) from error
        if isinstance(content, np.ndarray):
            return Image.fromarray(content[..., 0] if content.shape[-1] == 1 else content)
        return opened(content)

    def read(self, index: int) -> Image.Image:
        """Picture `index` as stored (first frame, its own mode, not yet turned upright). Raises Damaged."""
        image = self.open(index)
        try:
            image.load()
        except Exception as error:  # decoders raise nearly anything on damaged files
            raise Damaged(reason(error)) from error
        return image

    def fingerprint(self) -> str:
        """Hex digest over names, labels and the mark of the contents: equal means the same training set."""
        digest = hashlib.sha256(self.mark().encode())
        for text in (*self.classes, "\0", *self.names):
            digest.update(text.encode("utf-8", "replace") + b"\n")
        if self.labels is not None:
            digest.update(self.labels.tobytes())
        return digest.hexdigest()


def short_name(text: str) -> str:
    """`text` as a short lower-case name that is safe in a path: letters and digits of any script, and hyphens."""
    return re.sub(r"[\W_]+", "-", text.lower()).strip("-")[:40].strip("-") or "pictures"
