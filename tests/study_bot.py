"""A bot that takes a study over HTTP and does not look at pixels: it learns from everything else what betrays a fake.

It sees what a curious rater's tools see: ids, addresses, status lines, names, order and values of headers, lengths, the numbers of
the question, and the time of each answer. A linear classifier learns from half of the raters, whose truths it is given, and
is scored on the other half. It scores 50 % if and only if none of these carries information (up to chance).
"""

from __future__ import annotations

import asyncio
import http.client
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from limner.apps.study import store
from limner.apps.study.plan import FAKE, REAL, Trial
from limner.apps.study.server import create
from limner.apps.study.session import Session
from limner.apps.study.store import Settings, Study
from limner.apps.web.access import Access
from limner.apps.web.running import Background

FETCHES = 2  # of each picture, of which the shortest time counts


def noise_study(folder: Path, count: int, raters: int, pairs: bool = False, side: int = 8) -> Study:
    """Return a study of noise: real and fake pictures have one distribution, so that pixels could not help either."""
    rng = np.random.default_rng(0)
    n = count * raters + (0 if pairs else 3)
    pictures = rng.integers(0, 256, (2 * n, 3, side, side), dtype=np.uint8)
    kinds = np.repeat([REAL, FAKE], n)
    if not pairs:
        kinds = rng.permutation(kinds)
    settings = Settings(("photos", "run"), pairs, count, raters, 0, "test", "ab" * 32)  # a fixed key: a repeatable test
    return store.create(folder, settings, pictures, kinds)


@dataclass(frozen=True)
class Reply:
    """An answer of the server, with the seconds that it took."""

    status: int
    headers: list[tuple[str, str]]
    content: bytes
    seconds: float


@dataclass
class Seen:
    """What was seen of each question: features [N,F], and the truths [N] from the study's plan, not from the server."""

    features: list[dict[str, float]] = field(default_factory=list)
    truths: list[int] = field(default_factory=list)
    raters: list[int] = field(default_factory=list)

    def matrix(self) -> np.ndarray:
        """Return the features, standardized, with a column for every name that occurs; of times their ranks, which no outlier bends."""
        names = sorted({name for one in self.features for name in one})
        x = np.array([[one.get(name, 0.0) for name in names] for one in self.features])
        for column, name in enumerate(names):
            if name.endswith("time"):
                x[:, column] = x[:, column].argsort().argsort()
        spread = x.std(0)
        return (x[:, spread > 0] - x[:, spread > 0].mean(0)) / spread[spread > 0]


class Wire:
    """Requests over a socket, to a server in a thread of this process."""

    def __init__(self, app: Any) -> None:
        self.server = Background(app)

    def __enter__(self) -> Wire:
        host, port = self.server.__enter__().url.removeprefix("http://").split(":")
        self.connection = http.client.HTTPConnection(host, int(port))
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()
        self.server.__exit__()

    def __call__(self, method: str, path: str, headers: dict[str, str], body: bytes | None) -> Reply:
        start = time.perf_counter()
        self.connection.request(method, path, body, headers)
        response = self.connection.getresponse()
        content = response.read()
        return Reply(response.status, response.getheaders(), content, time.perf_counter() - start)


class Direct:
    """Requests that call the application in this thread: no socket and no scheduler hides a difference in time."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.loop = asyncio.new_event_loop()

    def __enter__(self) -> Direct:
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    def __call__(self, method: str, path: str, headers: dict[str, str], body: bytes | None) -> Reply:
        pairs = [(b"host", b"127.0.0.1")] + [(name.encode(), value.encode()) for name, value in headers.items()]
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path, "query_string": b"",
            "raw_path": path.encode(), "root_path": "", "scheme": "http", "headers": pairs, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
        }  # fmt: skip
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": body or b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        start = time.perf_counter()
        self.loop.run_until_complete(self.app(scope, receive, send))
        elapsed = time.perf_counter() - start
        answered = [(name.decode(), value.decode()) for name, value in sent[0]["headers"]]
        return Reply(sent[0]["status"], answered, b"".join(part.get("body", b"") for part in sent[1:]), elapsed)


class Bot:
    """A rater that looks at everything but pixels."""

    def __init__(self, request: Wire | Direct, token: str) -> None:
        self.request, self.token = request, token

    def json(self, method: str, path: str, body: Any = None) -> Any:
        """Return the JSON of an answer."""
        headers = {} if body is None else {"content-type": "application/json", "x-limner-token": self.token}
        reply = self.request(method, path, headers, None if body is None else json.dumps(body).encode())
        assert reply.status == 200, (reply.status, reply.content)
        return json.loads(reply.content)

    def look(self, state: dict[str, Any]) -> dict[str, float]:
        """Return the features of the present question."""
        found: dict[str, float] = {"number": state["number"], "fields": len(state)}
        for side, picture in enumerate(state["pictures"]):
            seconds = []
            for _ in range(FETCHES):
                reply = self.request("GET", f"/pictures/{picture}", {}, None)
                seconds.append(reply.seconds)
            found[f"{side} first time"], found[f"{side} time"], found[f"{side} length"] = seconds[0], min(seconds), len(reply.content)
            found[f"{side} status {reply.status}"] = 1
            for place, (name, value) in enumerate(reply.headers):
                if name.lower() != "date":  # tells the time of day alone
                    found[f"{side} header {place} {name} {value}"] = 1
            for i, byte in enumerate(bytes.fromhex(picture)):
                found[f"{side} id {i}"] = byte
        for i, byte in enumerate(bytes.fromhex(state["trial"])):
            found[f"trial {i}"] = byte
        return found


def watch(study: Study, raters: int, over: type[Wire] | type[Direct] = Direct, change: Callable[[Any], Any] | None = None) -> Seen:
    """Return what a bot sees that takes a study as several raters. change: wraps the application, to prove
    that leaks are found."""
    session, seen = Session(study), Seen()
    access = Access.of("127.0.0.1", token=True)
    app = create(session, access)
    rng = np.random.default_rng(1)
    with over(change(app) if change else app) as request:
        bot = Bot(request, access.token or "")
        for number in range(raters):
            state = bot.json("POST", "/raters", {"name": f"bot {number}"})
            trials = session.progress(state["rater"]).trials
            while state["phase"] != "done":
                trial = next(one for one in trials if one.id == state["trial"])
                if not trial.practice:
                    seen.features.append(bot.look(state))
                    seen.truths.append(truth(study, trial))
                    seen.raters.append(number)
                choice = int(rng.integers(2))
                if over is Wire:
                    given = {"trial": state["trial"], "choice": choice, "seconds": 0.1}
                    state = bot.json("POST", f"/raters/{state['rater']}/answers", given)["state"]
                else:  # saves a change of threads for each question
                    session.answer(state["rater"], state["trial"], choice, 0.1)
                    state = bot.json("GET", f"/raters/{state['rater']}")
    session.close()
    return seen


def truth(study: Study, trial: Trial) -> int:
    """Return what is to be found out: the kind of the picture, or of pairs the run at the left."""
    return int(study.pool.kinds[trial.items[0]])


def score(seen: Seen) -> tuple[float, int]:
    """Return the share of right answers of a ridge classifier on the raters that it did not learn from, both ways, and their number."""
    x, y = seen.matrix(), np.array(seen.truths) * 2.0 - 1
    odd = np.array(seen.raters) % 2 == 1
    right = np.zeros(len(y), bool)
    for learn, judge in ((odd, ~odd), (~odd, odd)):
        a = np.c_[x[learn], np.ones(learn.sum())]
        weights = np.linalg.solve(a.T @ a + len(a) * 1e-2 * np.eye(a.shape[1]), a.T @ y[learn])
        right[judge] = (np.c_[x[judge], np.ones(judge.sum())] @ weights > 0) == (y[judge] > 0)
    return float(right.mean()), len(y)
