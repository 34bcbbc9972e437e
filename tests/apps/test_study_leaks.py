"""Nothing but the pixels tells a fake: not ids, headers, lengths or times. A bot that learns from them scores as by chance."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from limner.apps.study.plan import FAKE
from limner.apps.study.session import Session
from study_bot import Wire, noise_study, score, watch

pytest.importorskip("fastapi")


@pytest.mark.slow
def test_a_bot_that_does_not_look_at_pixels_scores_as_by_chance(tmp_path: Path) -> None:
    seen = watch(noise_study(tmp_path, 100, 20), 20)
    right, n = score(seen)
    assert n == 4400 and abs(right - 0.5) <= 0.03  # 4 standard errors


@pytest.mark.slow
def test_the_same_of_pairs(tmp_path: Path) -> None:
    right, n = score(watch(noise_study(tmp_path, 220, 10, pairs=True), 10))
    assert n == 2420 and abs(right - 0.5) <= 0.03


def test_the_bot_finds_leaks(tmp_path: Path) -> None:
    """The test above could fail: a header of fakes alone, or a fifth of a millisecond, is found."""
    study = noise_study(tmp_path, 40, 4)
    session = Session(study)
    fakes = {
        picture
        for number in range(4)
        for trial in session.start(f"bot {number}").trials
        for picture, row in zip(trial.pictures, trial.items, strict=True)
        if study.pool.kinds[row] == FAKE
    }
    session.close()

    def is_fake(scope: Any) -> bool:
        return scope["type"] == "http" and scope["path"].rpartition("/")[2] in fakes

    def with_header(app: Any) -> Any:
        async def wrapped(scope: Any, receive: Any, send: Any) -> None:
            async def more(message: Any) -> None:
                if message["type"] == "http.response.start" and is_fake(scope):
                    message = {**message, "headers": [*message["headers"], (b"etag", b"1")]}
                await send(message)

            await app(scope, receive, more)

        return wrapped

    def slower(app: Any) -> Any:
        async def wrapped(scope: Any, receive: Any, send: Any) -> None:
            end = time.perf_counter() + (0.0002 if is_fake(scope) else 0)
            while time.perf_counter() < end:
                pass
            await app(scope, receive, send)

        return wrapped

    for change, least in ((with_header, 0.99), (slower, 0.6)):
        (study.folder / "answers.jsonl").write_text("")
        right, _ = score(watch(study, 4, change=change))
        assert right >= least, change.__name__


def test_on_the_wire_all_pictures_have_the_same_headers_and_length(tmp_path: Path) -> None:
    study = noise_study(tmp_path, 10, 2)
    seen = watch(study, 2, Wire)
    names = {name for one in seen.features for name in one}
    headers = {name for name in names if "header" in name}
    assert headers and all(headers <= set(one) for one in seen.features), "each header has one place and one value"
    assert {one["0 length"] for one in seen.features} == {4 * 8 * 8}
    lower = " ".join(headers).lower()
    assert "no-store" in lower and not any(f" {name} " in lower for name in ("etag", "last-modified", "content-encoding", "set-cookie"))
