"""A Source: pictures by number, wherever they are stored, with the facts known before any is decoded."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np
from PIL import Image

from limner.data.image import Damaged, open_image, reason

Rejected = tuple[str, str]  # (name, reason in a few plain words)


def no_text(name: str) -> None:
    """Return None: there are no other files beside the pictures."""


@dataclass(frozen=True, eq=False)
class Source:
    """Pictures that can be opened one by one, in a fixed order, from several threads at once."""

    name: str                                        # short, usable in the name of a run folder
    origin: str                                      # what it is and where, as shown to people
    names: list[str]                                 # [N], unique: path below the folder, or number
    content: Callable[[int], BinaryIO | np.ndarray]  # returns a file, or a picture uint8 [H,W,C]; raises OSError or Damaged
    version: Callable[[], str]                       # returns a text that changes whenever a picture may have changed
    classes: tuple[str, ...] = ()                    # empty without labels
    labels: np.ndarray | None = None                 # int64 [N], an index into classes
    attribution: str = ""                            # author and license of an embedded sample
    bad: list[Rejected] = field(default_factory=list)     # found unusable before opening
    others: dict[str, int] = field(default_factory=dict)  # suffix -> number of files that are not pictures
    notes: list[str] = field(default_factory=list)   # decisions to report to the user
    array: np.ndarray | None = None                  # all pictures uint8 [N,H,W,C], if they are one array
    validation: Source | None = None                 # the split that is held out of training, if the data has one
    text: Callable[[str], bytes | None] = no_text    # content of a text file, named as the pictures are; None: there is none

    def __post_init__(self) -> None:
        assert (self.labels is None) == (not self.classes), "labels require classes, and the reverse"
        assert self.labels is None or len(self.labels) == len(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def open(self, index: int) -> Image.Image:
        """Open picture `index`: reads its header, decodes no pixels. Raises Damaged with the reason."""
        try:
            content = self.content(index)
        except OSError as error:
            raise Damaged(reason(error)) from error
        if isinstance(content, np.ndarray):
            return Image.fromarray(content[..., 0] if content.shape[-1] == 1 else content)
        return open_image(content)

    def read(self, index: int) -> Image.Image:
        """Return picture `index` as stored (first frame, original mode, not yet upright). Raises Damaged."""
        image = self.open(index)
        try:
            image.load()
        except Exception as error:  # decoders may raise anything for damaged files
            raise Damaged(reason(error)) from error
        return image

    def fingerprint(self) -> str:
        """Return a hex digest of names, labels and version: equal digests mean the same training set."""
        digest = hashlib.sha256(self.version().encode())
        for text in (*self.classes, "\0", *self.names):
            digest.update(text.encode("utf-8", "replace") + b"\n")
        if self.labels is not None:
            digest.update(self.labels.tobytes())
        return digest.hexdigest()


def short_name(text: str) -> str:
    """Return `text` as a short lower-case name that is safe in a path: letters and digits of any script, and hyphens."""
    return re.sub(r"[\W_]+", "-", text.lower()).strip("-")[:40].strip("-") or "pictures"
