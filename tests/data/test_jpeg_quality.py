"""The quality of JPEG files as libjpeg wrote them, and the note about sources of low quality."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from limner.data import open_source
from limner.data.jpeg_quality import SAMPLE, jpeg_qualities, low_quality_note


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_the_quality_is_that_of_the_writer(tmp_path: Path, noise: Callable[..., Image.Image], mode: str) -> None:
    qualities = [10, 25, 49, 50, 51, 60, 75, 80, 90, 95, 100]
    for i, quality in enumerate(qualities):
        noise(16, 16, mode, i).save(tmp_path / f"{i:02}.jpg", quality=quality)
    assert jpeg_qualities(open_source(tmp_path)) == (qualities, len(qualities))


def test_a_note_for_low_quality_only(tmp_path: Path, noise: Callable[..., Image.Image]) -> None:
    for i in range(6):
        noise(seed=i).save(tmp_path / f"{i}.jpg", quality=95 if i < 2 else 55 + i)
    noise(seed=9).save(tmp_path / "9.png")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff" + bytes(40))
    note = low_quality_note(open_source(tmp_path))
    assert note is not None and note.startswith("4 of 6 JPEGs have a quality of about 58: ") and "better originals" in note
    good, few = tmp_path / "good", tmp_path / "few"
    for place, low in ((good, 0), (few, 1)):
        place.mkdir()
        for i in range(8):
            noise(seed=i).save(place / f"{i}.jpg", quality=40 if i < low else 92)
        assert low_quality_note(open_source(place)) is None
    assert low_quality_note(open_source(np.zeros((3, 3, 9, 9), np.uint8))) is None


def test_a_large_set_is_sampled(tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 8))
    for i in range(SAMPLE + 50):
        image.save(tmp_path / f"{i:03}.jpg", quality=30)
    found, read = jpeg_qualities(open_source(tmp_path))
    assert len(found) == read == SAMPLE
    assert (note := low_quality_note(open_source(tmp_path))) and "200 of 200 JPEGs of a sample of 200 pictures" in note
