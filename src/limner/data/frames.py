"""The frames of one clip: an animated picture (GIF, WebP, APNG, AVIF), a video (with PyAV), or a folder of numbered pictures.

Whatever a file holds, reading it ends: after MAX_FRAMES frames, MAX_READ frames that were decoded, or MAX_PIXELS pixels. Frames
that follow one another faster than FASTEST a second are thinned out. A clip that is damaged in the middle keeps the frames before.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from limner.data.image import SUFFIXES, Damaged, decode_image, header, open_image, reason

VIDEOS = frozenset([".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi"])
ANIMATIONS = frozenset([".gif", ".webp", ".png", ".apng", ".avif", ".avifs"])  # pictures that may have frames
MAX_FRAMES = 512         # of a clip that are kept
MAX_READ = 8 * MAX_FRAMES  # of a clip that are decoded
MAX_PIXELS = 1 << 30     # of all frames of a clip, at their own size
FASTEST = 25.0           # frames a second that are kept
SHORTEST = 0.015         # seconds; browsers show frames with less for DEFAULT, as the files mean it
DEFAULT = 0.1            # seconds of a frame whose file states no duration
FOLDER_FPS = 24.0        # of the pictures in a folder, which state no times
NO_VIDEO = "a video, which needs PyAV: pip install limner[video]"

Frame = tuple[Image.Image, float]  # and the seconds that it is shown


@dataclass(frozen=True)
class ClipFile:
    """A clip that was found but not read. files: one, or the pictures of a folder in order. size: (H,W) of the first frame."""

    name: str
    files: tuple[Path, ...]
    size: tuple[int, int]


@dataclass(frozen=True, eq=False)
class ClipFrames:
    """The frames of a clip. pictures: uint8 [n,H,W,C]; seconds: float64 [n], how long each is shown. cut: why frames are missing, or ""."""

    pictures: np.ndarray
    seconds: np.ndarray
    clear: bool  # whether some pixels are transparent
    cut: str = ""


def inspect_file(path: Path) -> tuple[bool, tuple[int, int]]:
    """Return (whether a file has several frames, (H,W) of the first). Raises Damaged with the reason."""
    if path.suffix.lower() in VIDEOS:
        for image, _ in _of_video(path):
            return True, (image.height, image.width)
        raise Damaged("a video without frames")
    with _opened(path) as image:
        head = header(image)
        try:
            return path.suffix.lower() in ANIMATIONS and bool(getattr(image, "is_animated", False)), (head.height, head.width)
        except Exception as error:  # decoders may raise anything for damaged files
            raise Damaged(reason(error)) from error


def is_picture(path: Path) -> bool:
    """Return whether a file is a picture or video by its name."""
    return path.suffix.lower() in SUFFIXES | VIDEOS


def read(clip: ClipFile, target: tuple[int, int], channels: int, fit: str, fill: tuple[int, int, int]) -> ClipFrames:
    """Return the frames of a clip at (H,W) `target`. Raises Damaged for fewer than two.

    channels, fit, fill: as of `data.image.decode_image`.
    """
    pictures: list[np.ndarray] = []
    seconds: list[float] = []
    clear, cut, pixels, seen = False, "", 0, 0
    try:
        for image, shown in _frames(clip):
            seen += 1
            pixels += image.width * image.height
            bounded = seen > MAX_READ or pixels > MAX_PIXELS
            if not bounded and seconds and seconds[-1] < 1 / FASTEST - 1e-3:
                seconds[-1] += shown
                continue
            if bounded or len(pictures) == MAX_FRAMES:
                cut = f"longer than is read: its first {len(pictures):,} frames are used"
                break
            array, real = decode_image(image, target, channels, fit, fill)
            pictures.append(array)
            seconds.append(shown)
            clear = clear or real
    except Exception as error:  # decoders may raise anything for damaged files
        if len(pictures) < 2:
            raise Damaged(reason(error)) from error
        cut = f"{reason(error)}: its first {len(pictures):,} frames are used"
    if len(pictures) < 2:
        raise Damaged("a single frame: a clip has at least two")
    return ClipFrames(np.stack(pictures), np.array(seconds), clear, cut)


def _frames(clip: ClipFile) -> Iterator[Frame]:
    if len(clip.files) > 1:
        for path in clip.files:
            with _opened(path) as image:
                image.load()
                yield image, 1 / FOLDER_FPS
    elif clip.files[0].suffix.lower() in VIDEOS:
        yield from _of_video(clip.files[0])
    else:
        with _opened(clip.files[0]) as image:
            yield from _of_animation(image)


def _of_animation(image: Image.Image) -> Iterator[Frame]:
    """Yield the frames of an animated picture. Each is read as it is asked for: a file may promise any number."""
    for number in range(MAX_READ + 1):
        try:
            image.seek(number)
        except EOFError:
            return
        image.load()
        shown = float(image.info.get("duration") or 0) / 1000
        yield image.copy(), shown if shown >= SHORTEST else DEFAULT


def _of_video(path: Path) -> Iterator[Frame]:
    """Yield the frames of the first video stream. Raises Damaged without PyAV, or for a file that is none."""
    try:
        import av
    except Exception as error:  # importing an optional third-party package may fail in any way
        raise Damaged(NO_VIDEO) from error
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise Damaged("a file without a picture track")
            stream = container.streams.video[0]
            default_duration = 1 / float(stream.average_rate or FOLDER_FPS)
            before: Any = None
            for frame in container.decode(stream):  # a frame is shown until the next one
                if before is not None:
                    shown = default_duration if frame.time is None or before.time is None else frame.time - before.time
                    yield before.to_image(), shown if 0 < shown < 10 else default_duration
                before = frame
            if before is not None:
                yield before.to_image(), default_duration
    except av.FFmpegError as error:
        raise Damaged("damaged: its contents cannot be decoded") from error


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open a picture for as long as its frames are read. Raises Damaged with the reason."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise Damaged(reason(error)) from error
    with file:
        yield open_image(file)
