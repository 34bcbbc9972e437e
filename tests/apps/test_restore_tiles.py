"""Tiles of a restorer: they equal the whole picture bit for bit, and are read one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from limner.apps.tiles import MIN_INPUT, blended_rows, exact_spans, exact_tiles, in_tiles, spans
from limner.core.device import cpu_has_bf16
from limner.core.images import to_float
from restorers import network, noise, photo, restorer


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def cut(x: torch.Tensor, box: tuple[int, int, int, int]) -> torch.Tensor:
    return x[..., box[1] : box[3], box[0] : box[2]]


def put_together(tiles: Iterable[tuple[int, int, torch.Tensor]], like: torch.Tensor) -> torch.Tensor:
    made = torch.full_like(like, torch.nan)
    for top, left, part in tiles:
        made[..., top : top + part.shape[-2], left : left + part.shape[-1]] = part
    return made


# ---- tiles -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "scale", "config"), [(3, 1, {}), (3, 2, {}), (1, 2, {}), (3, 1, {"unshuffle": 2})], ids=str)
def test_tiles_equal_the_whole_bit_for_bit(channels: int, scale: int, config: dict, threads: int) -> None:
    fused: Any = network(channels, scale, **config).fused().eval().to(memory_format=torch.channels_last)  # type: ignore[operator]
    x = to_float(torch.from_numpy(noise(1, channels, 1000, 777))).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        torch.set_num_threads(1)
        whole = fused(x)
        torch.set_num_threads(threads)
        for tile in (16, 384) if threads == 1 else (200,):
            found = exact_tiles(
                lambda box: cut(x, box), lambda part: fused(part.contiguous(memory_format=torch.channels_last)),
                (1000, 777), tile, fused.radius, fused.multiple, scale,
            )  # fmt: skip
            assert torch.equal(put_together(found, whole), whole), tile


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("shape", [(1000, 777, 3), (1000, 777), (30, 4000, 3)], ids=str)
def test_a_picture_restored_in_tiles_is_that_restored_as_a_whole(
    shape: tuple[int, ...], scale: int, precision: torch.dtype
) -> None:
    if precision == torch.bfloat16 and not cpu_has_bf16():
        pytest.skip("bf16 is emulated here and not used")
    model = restorer(3, scale, "denoise", width=8, depth=1)
    model._precision = precision
    one, many = (np.asarray(model.restore(Image.fromarray(noise(*shape)), tile=tile)) for tile in (8000, 160))
    assert np.array_equal(one, many) and one.shape[:2] == (shape[0] * scale, shape[1] * scale)


@pytest.mark.parametrize(("scale", "config"), [(2, {}), (1, {"unshuffle": 2})], ids=str)
def test_an_ensemble_in_tiles_is_that_of_the_whole(scale: int, config: dict) -> None:
    """Also where the sides are odd and the network computes on a grid of 2 pixels, which must not move as a tile is mirrored."""
    model = restorer(3, scale, "denoise", width=8, depth=1, **config)
    model._precision = torch.float32
    picture = Image.fromarray(noise(301, 333, 3))
    one, many = (np.asarray(model.restore(picture, tile=tile, ensemble=8)) for tile in (8000, 160))
    assert np.array_equal(one, many) and one.shape[:2] == (301 * scale, 333 * scale)
    assert not np.array_equal(one, np.asarray(model.restore(picture)))


def test_a_margin_that_is_too_small_is_seen() -> None:
    """The comparison above would fail if tiles were computed without the pixels that the network sees."""
    net = network(3).eval()
    x = to_float(torch.from_numpy(noise(1, 3, 600, 400)))
    with torch.no_grad():
        found = exact_tiles(lambda box: cut(x, box), net, (600, 400), 150, 2, 1, 1)
        assert not torch.allclose(put_together(found, net(x)), net(x), atol=1e-3)


@pytest.mark.parametrize("length", [1, 5, 63, 64, 65, 200, 777])
@pytest.mark.parametrize(("count", "margin", "multiple"), [(1, 7, 1), (2, 7, 4), (5, 12, 8), (9, 3, 1)])
def test_tiles_of_a_side_cover_it_once_with_margin(length: int, count: int, margin: int, multiple: int) -> None:
    found = spans(length, count, margin, multiple)
    assert len(found) <= count
    assert [span.first for span in found[1:]] == [span.last for span in found[:-1]]
    assert found[0].first == 0 and found[-1].last == length
    extents = [span.stop - span.start for span in found]
    assert max(extents) - min(extents) < multiple or len(extents) == 1
    for span in found:
        assert span.start % multiple == 0 and span.start <= max(0, span.first - margin)
        assert span.stop >= min(length, span.last + margin)


@pytest.mark.parametrize("size", [(1, 1), (30, 4000), (4000, 30), (144, 143), (2000, 2000), (3, 100_000)], ids=str)
def test_no_tile_is_too_small_for_the_algorithm_of_the_whole(size: tuple[int, int]) -> None:
    rows, columns = exact_spans(size, 16, 5, 1)
    smallest = min(row.stop - row.start for row in rows) * min(column.stop - column.start for column in columns)
    assert smallest >= min(MIN_INPUT, size[0] * size[1])


def test_blended_rows_are_those_of_the_whole_for_a_known_reach() -> None:
    net = nn.Conv2d(2, 3, 5, padding=2)
    x = torch.rand(1, 2, 190, 300)
    with torch.no_grad():
        rows = list(blended_rows(lambda top, bottom: x[..., top:bottom, :], net, (190, 300), 64, 16))
        assert [top for top, _ in rows] == sorted(top for top, _ in rows) and len(rows) > 3
        torch.testing.assert_close(torch.cat([band for _, band in rows], -2), net(x), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(in_tiles(net, x, 64, 16), net(x), atol=1e-5, rtol=1e-4)


def test_a_large_picture_is_read_in_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int, int, int]] = []
    from limner.apps import restore as module

    before = module.read_box
    monkeypatch.setattr(module, "read_box", lambda image, box: seen.append(box) or before(image, box))
    monkeypatch.setattr(module, "WHOLE_BYTES", 1000)
    progress: list[tuple[int, int]] = []
    tall = photo(200, 3000)
    made = restorer(task="denoise").restore(tall, tile=256, progress=lambda *at: progress.append(at))
    assert made.size == (200, 3000) and max(bottom - top for _, top, _, bottom in seen) < 300
    assert progress == [(i + 1, 12) for i in range(12)]
    assert np.array_equal(np.asarray(made), np.asarray(restorer(task="denoise").restore(tall, tile=700)))
