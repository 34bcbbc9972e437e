"""The page of a study: its interface over HTTP, and a rater's way through it in a browser."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from limner.apps.study import store
from limner.apps.study.plan import PRACTICE
from limner.apps.study.server import create, state
from limner.apps.study.session import Session
from limner.apps.web.access import Access
from limner.apps.web.running import Background
from study_bot import Bot, Direct, Wire, noise_study

pytest.importorskip("fastapi")
CHROMIUM = Path("/usr/bin/chromium")
SCREENSHOTS = os.environ.get("LIMNER_SCREENSHOTS")  # a folder, to look at them


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(noise_study(tmp_path, 5, 2, side=16))


@pytest.fixture
def bot(session: Session) -> Iterator[Bot]:
    access = Access.of("127.0.0.1", token=True)
    with Direct(create(session, access)) as request:
        yield Bot(request, access.token or "")


def test_the_state_holds_nothing_about_kinds(session: Session) -> None:
    """Its fields are these, and none depends on a kind but the score at the end."""
    progress = session.start("A")
    document = state(session.study, progress)
    assert sorted(document) == sorted(
        ["rater", "name", "pairs", "height", "width", "phase", "trial", "pictures", "next", "number", "total"]
    )
    rows = [session.row(picture) for picture in document["pictures"]]
    assert rows == list(progress.trials[0].items) and document["phase"] == "practice" and document["total"] == PRACTICE


def test_pictures_are_raw_pixels(bot: Bot, session: Session) -> None:
    found = bot.json("POST", "/raters", {"name": "A"})
    reply = bot.request("GET", f"/pictures/{found['pictures'][0]}", {}, None)
    picture = session.study.pictures[session.row(found["pictures"][0])]
    assert len(reply.content) == 16 * 16 * 4
    assert reply.content[:4] == bytes([*picture[:, 0, 0].tolist(), 255]) and reply.content[4:7] == bytes(picture[:, 0, 1].tolist())


def test_what_is_refused(bot: Bot) -> None:
    found = bot.json("POST", "/raters", {"name": "A"})
    json = {"content-type": "application/json"}
    token = {**json, "x-limner-token": bot.token}
    answers = f"/raters/{found['rater']}/answers"
    for method, path, headers, body, status in (
        ("POST", "/raters", json, b'{"name": "B"}', 403), ("POST", "/raters", token, b'{"name": "B", "more": 1}', 400),
        ("POST", "/raters", {**token, "origin": "http://elsewhere.example"}, b"{}", 403), ("POST", "/raters", token, b"x" * 5000, 413),
        ("POST", answers, token, b'{"trial": "0", "choice": 0, "seconds": 1}', 409), ("POST", answers, token, b'{"trial": "0", "choice": 2, "seconds": 1}', 400),
        ("POST", answers, token, b'{"trial": "0", "choice": 0, "seconds": NaN}', 400), ("GET", "/raters/0", {}, None, 404),
        ("GET", "/pictures/0", {}, None, 404), ("GET", "/pictures/..%2f..%2fstudy.json", {}, None, 404), ("GET", "/static/../server.py", {}, None, 404),
        ("GET", "/docs", {}, None, 404),
    ):  # fmt: skip
        assert bot.request(method, path, headers, body).status == status, (method, path, body)


def test_names_are_text_and_the_page_has_no_inline_script(bot: Bot) -> None:
    page = bot.request("GET", "/", {}, None)
    text = page.content.decode()
    assert text.count("<script") == 1 and 'src="/static/study.js"' in text and "style=" not in text and "onclick" not in text
    policy = dict(page.headers)["content-security-policy"]
    assert "script-src 'self'" in policy and "unsafe" not in policy
    assert bot.json("POST", "/raters", {"name": "<b>A</b>\x00\u202e"})["name"] == "<b>A</b>\\x00\\u202e"


def test_practice_gives_feedback_and_the_rest_does_not(bot: Bot, session: Session) -> None:
    found = bot.json("POST", "/raters", {"name": "A"})
    for i in range(PRACTICE + 14):
        reply = bot.json("POST", f"/raters/{found['rater']}/answers", {"trial": found["trial"], "choice": 0, "seconds": 1.5})
        assert (reply["feedback"] is not None) == (i < PRACTICE)
        found = reply["state"]
    assert found["phase"] == "done" and found["judged"] == 10 and found["correct"] == 5
    assert "trial" not in found and bot.json("POST", "/raters", {"name": "a"})["phase"] == "done"


def test_answers_over_a_socket(session: Session) -> None:
    access = Access.of("127.0.0.1", token=True)
    with Wire(create(session, access)) as request:
        bot = Bot(request, access.token or "")
        found = bot.json("POST", "/raters", {"name": "A"})
        bot.json("POST", f"/raters/{found['rater']}/answers", {"trial": found["trial"], "choice": 1, "seconds": 0.5})
    assert len(store.answers(session.study.folder)) == 1


# ---- in a browser ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="the page is tested with `pip install playwright`")
    if not CHROMIUM.exists():
        pytest.skip("The page is tested in Chromium: `apt-get install chromium` installs it.")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def url(session: Session) -> Iterator[str]:
    with Background(create(session, Access.of("127.0.0.1", token=True))) as server:
        yield server.url


def open_page(browser: Any, url: str, width: int = 1000, scheme: str = "light") -> Any:
    page = browser.new_context(viewport={"width": width, "height": 720}, color_scheme=scheme).new_page()
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("console", lambda message: page.problems.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: page.problems.append(request.url) if not request.url.startswith((url, "data:")) else None)
    page.goto(url)
    return page


def look(page: Any, name: str) -> None:
    if SCREENSHOTS:
        page.screenshot(path=str(Path(SCREENSHOTS) / f"study-{name}.png"), full_page=True)


def ready(page: Any, text: str) -> None:
    page.wait_for_function("t => count.textContent === t && !first.disabled", arg=text, timeout=60_000)


def test_a_rater_with_keys_and_buttons_who_reloads(browser: Any, url: str, session: Session) -> None:
    page = open_page(browser, url)
    page.get_by_label("Your name").fill("Ann")
    page.keyboard.press("Enter")
    for i, key in enumerate(["f", "j", "ArrowLeft", "ArrowRight", "F", "J"], 1):
        ready(page, f"Practice {i} of 6")
        page.keyboard.press(key)
        page.wait_for_selector("#feedback:not([hidden])")
        assert page.inner_text("#verdict").startswith(("Right: this picture is", "Wrong: this picture is"))
        page.keyboard.press("f")  # no second answer
        page.keyboard.press("Enter")
    ready(page, "Question 1 of 14")
    page.keyboard.press("j")
    ready(page, "Question 2 of 14")
    page.get_by_role("button", name="Real").click()
    ready(page, "Question 3 of 14")
    canvas = page.evaluate("(c => [c.width, c.height, ...c.getContext('2d').getImageData(0, 0, 1, 1).data])(document.querySelector('canvas'))")
    progress = session.start("Ann")
    trial = progress.trial
    assert trial is not None
    assert canvas == [16, 16, *session.study.pictures[trial.items[0]][:, 0, 0].tolist(), 255], "the canvas shows exactly these pixels"
    page.reload()
    ready(page, "Question 3 of 14")
    other = open_page(browser, url)  # another browser, the same name
    other.get_by_label("Your name").fill("ann")
    other.get_by_role("button", name="Start").click()
    ready(other, "Question 3 of 14")
    other.keyboard.press("f")
    ready(other, "Question 4 of 14")
    page.keyboard.press("j")  # that question is answered already: the page moves on
    ready(page, "Question 4 of 14")
    for i in range(4, 15):
        ready(page, f"Question {i} of 14")
        page.keyboard.press("f")
    page.wait_for_selector("#done:not([hidden])")
    assert "of 10 pictures" in page.inner_text("#score")
    look(page, "done")
    answers = store.answers(session.study.folder)
    assert [a.position for a in answers] == list(range(20)) and all(0 <= a.seconds < 300 for a in answers)
    assert [a.choice for a in answers[:8]] == [0, 1, 0, 1, 0, 1, 1, 0]
    conflicts = [problem for problem in page.problems if "409" not in problem]
    assert not conflicts and not other.problems, (conflicts, other.problems)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_dark_and_light(browser: Any, url: str, scheme: str) -> None:
    page = open_page(browser, url, 320, scheme)
    page.wait_for_selector("#welcome:not([hidden])")
    look(page, f"welcome-{scheme}-320")
    page.get_by_role("button", name="Start").click()
    ready(page, "Practice 1 of 6")
    look(page, f"question-{scheme}-320")
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    for name in ("Real", "Generated"):
        box = page.get_by_role("button", name=name).bounding_box()
        assert box["height"] >= 44 and box["x"] >= 0 and box["x"] + box["width"] <= 320
    luminance = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]")
    assert (luminance > 200) == (scheme == "light")
    assert not page.problems


def test_pairs_side_by_side(browser: Any, tmp_path: Path) -> None:
    session = Session(noise_study(tmp_path / "pairs", 5, 1, pairs=True, side=64))
    with Background(create(session, Access.of("127.0.0.1", token=True))) as server:
        page = open_page(browser, server.url, 320)
        page.get_by_role("button", name="Start").click()
        ready(page, "Question 1 of 7")
        look(page, "pairs-320")
        assert page.locator("canvas").count() == 2 and page.evaluate("document.documentElement.scrollWidth") <= 320
        for i in range(1, 8):
            ready(page, f"Question {i} of 7")
            page.keyboard.press("ArrowLeft")
        page.wait_for_selector("#done:not([hidden])")
        assert page.inner_text("#score") == "You compared 5 pairs." and not page.problems
    assert all(a.side == 0 for a in store.answers(session.study.folder))


def test_a_server_that_is_killed_and_started_again_loses_nothing(browser: Any, tmp_path: Path) -> None:
    """`limner study FOLDER` is killed with SIGKILL; after a new start on the same port the open page goes on."""
    noise_study(tmp_path / "study", 5, 1)

    def serve(port: str) -> tuple[subprocess.Popen[str], str]:
        command = [sys.executable, "-m", "limner", "study", str(tmp_path / "study"), "--port", port]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("Open "):
                return process, line.split()[1].rstrip("/")
        raise AssertionError("the server did not start")

    process, url = serve("0")
    try:
        page = open_page(browser, url)
        page.get_by_role("button", name="Start").click()
        ready(page, "Practice 1 of 6")
        page.keyboard.press("f")
        page.wait_for_selector("#feedback:not([hidden])")
        page.keyboard.press("Enter")
        ready(page, "Practice 2 of 6")
        process.kill()
        process.wait()
        page.keyboard.press("f")
        page.wait_for_selector("#problem:not([hidden])")
        assert "saved" in page.inner_text("#problem-text")
        process, _ = serve(url.rpartition(":")[2])
        page.get_by_role("button", name="Try again").click()  # the new server has a new token: the page loads itself anew
        ready(page, "Practice 2 of 6")
        page.keyboard.press("j")
        page.wait_for_selector("#feedback:not([hidden])")
    finally:
        process.terminate()
        process.wait()
    deadline = time.monotonic() + 10
    while len(found := store.answers(tmp_path / "study")) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert [a.choice for a in found] == [0, 1]
