"""Files whole or not at all; schedules as pure functions."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limner.core import schedule
from limner.core.files import write_error, write_tensors, write_whole, writing


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    write_whole(path, "old")
    with pytest.raises(RuntimeError), writing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["x.txt"]


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "The disk is full"),
        (errno.EROFS, "no permission"),
        (errno.ENOTDIR, "file stands where a folder"),
        (errno.EISDIR, "a folder stands there"),
        (errno.EIO, "could not be written"),
    ],
)
def test_errors_of_the_disk_are_sentences(number: int, said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said), writing(tmp_path / "x"):
        raise OSError(number, "system's words")
    assert str(write_error(OSError(number, "x"), tmp_path)).endswith(".")


def test_tensors_of_any_layout_come_back_equal(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    x = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    write_tensors(tmp_path / "x.safetensors", {"x": x})
    assert torch.equal(load_file(tmp_path / "x.safetensors")["x"], x)


@given(st.integers(1, 10**7), st.floats(0, 0.99))
def test_rates_start_at_one_end_at_zero_and_never_rise_again(budget: int, start: float) -> None:
    for shape in ("cosine", "linear"):
        values = [schedule.lr_factor(budget * i // 20, budget, shape, start) for i in range(21)]
        assert values[0] == 1 and values[-1] == pytest.approx(0)
        assert all(a >= b for a, b in zip(values, values[1:], strict=False))
        assert schedule.lr_factor(2 * budget, budget, shape, start) == pytest.approx(0)
    assert schedule.lr_factor(budget, budget, "constant", start) == 1


def test_the_shapes_of_rates() -> None:
    def at(*hundredths: int, shape: str = "cosine", lr_warmup: float = 0.0) -> list[float]:
        return [round(schedule.lr_factor(h, 100, shape, 0.5, lr_warmup), 6) for h in hundredths]

    assert at(50, 75, 100) == [1, 0.5, 0] and at(50, 60, 75, 90, shape="linear") == [1, 0.8, 0.5, 0.2]
    assert at(0, 5, 10, 20, lr_warmup=0.2) == [0, 0.25, 0.5, 1] and at(100, lr_warmup=1.0, shape="constant") == [1]
    with pytest.raises(ValueError, match="constant, linear, cosine"):
        at(60, shape="cubic")


def test_the_average_forgets_half_over_its_half_life_and_the_random_start_soon() -> None:
    decay = schedule.ema_decay(10**6, 50, half_life=1000)
    assert decay ** (1000 / 50) == pytest.approx(0.5)
    assert schedule.ema_decay(100, 50, half_life=1000) < 0.01


def test_passing_a_multiple() -> None:
    crossed = [seen for seen in range(32, 400, 32) if schedule.crosses_multiple(seen, 32, 100)]
    assert crossed == [128, 224, 320]  # the first batch ends at or after 100, 200 and 300


def test_preview_marks_are_dense_at_first_and_end_with_the_budget() -> None:
    marks = schedule.preview_milestones(1_000_000)
    assert marks[0] == 0 and marks[-1] == 1_000_000 and marks == sorted(set(marks)) and marks[1] < 10_000
    assert schedule.preview_milestones(3)[-1] == 3
