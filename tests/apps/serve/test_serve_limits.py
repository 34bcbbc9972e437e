"""`limner serve`: the queue, clients that leave, health, metrics, access, and the command, on a live server."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from limner.apps.serve.prompt import parse_prompt, parse_settings
from limner.apps.serve.served import Served
from limner.apps.serve.settings import Settings
from limner.apps.web.access import Access
from limner.apps.web.errors import Refusal
from limner.cli import main
from serving import PICTURE, encoded, server

pytest.importorskip("fastapi")


# ---- the queue --------------------------------------------------------------------------------------------------------


class Slow:
    """Replaces the computation of a served model by one that waits for a signal."""

    def __init__(self, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered, self.release, self.computed = threading.Event(), threading.Event(), 0
        compute = served.worker.compute

        def slow(jobs: Any) -> Any:
            self.entered.set()
            self.release.wait(20)
            self.computed += len(jobs)
            return compute(jobs)

        monkeypatch.setattr(served.worker, "compute", slow)


def test_a_full_queue_is_429_with_retry_after(runs: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with server({"squares": runs["squares"]}, queue_requests=2, queue_seconds=1000) as (client, app), ThreadPoolExecutor(8) as pool:
        served = app.state.service.models.get("squares")
        slow = Slow(served, monkeypatch)
        first = pool.submit(client.get, "/v1/runs/squares/picture")
        assert slow.entered.wait(20)
        waiting = [pool.submit(client.get, "/v1/runs/squares/picture") for _ in range(2)]
        while served.worker.waiting() < 2:
            time.sleep(0.01)
        refused = client.get("/v1/runs/squares/picture")
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["type"] == "rate_limit_error"
        assert client.get("/healthz").status_code == 200
        slow.release.set()
        assert [future.result().status_code for future in (first, *waiting)] == [200] * 3


def test_a_request_that_takes_too_long_is_504_and_leaves_the_queue(runs: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with server({"squares": runs["squares"]}, timeout=0.3, queue_seconds=1000) as (client, app), ThreadPoolExecutor(4) as pool:
        slow = Slow(app.state.service.models.get("squares"), monkeypatch)
        first = pool.submit(client.get, "/v1/runs/squares/picture")
        assert slow.entered.wait(20)
        late = client.get("/v1/runs/squares/picture")
        assert (late.status_code, first.result().status_code) == (504, 504)
        slow.release.set()
        time.sleep(0.1)
        assert client.get("/v1/runs/squares/picture").status_code == 200
        assert slow.computed == 2  # the first, which was running, and the last: not the one that waited


def test_clients_that_leave_do_not_occupy_the_worker(runs: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with server({"squares": runs["squares"]}, queue_seconds=1000) as (client, app):
        served = app.state.service.models.get("squares")
        slow = Slow(served, monkeypatch)
        host, port = client.base_url.host, client.base_url.port
        connections = []
        for _ in range(5):
            connection = socket.create_connection((host, port))
            connection.sendall(f"GET /v1/runs/squares/picture HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
            connections.append(connection)
            slow.entered.wait(20)
        while served.worker.waiting() < 4:
            time.sleep(0.01)
        for connection in connections:
            connection.close()
        deadline = time.monotonic() + 20
        while served.worker.waiting() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert served.worker.waiting() == 0
        slow.release.set()
        assert client.get("/v1/runs/squares/picture").status_code == 200
        assert slow.computed == 2


def test_a_long_restoration_stops_when_its_client_leaves(runs: dict[str, Any]) -> None:
    started, calls, model = threading.Event(), [0], runs["twice"]

    class Long:
        description, spec, folder = model.description, model.spec, model.folder

    served = Served("long", model, Settings())
    original = type(model).restore

    def restore(self: Any, *args: Any, progress: Any = None, **more: Any) -> Any:
        for i in range(10_000):
            started.set()
            calls[0] += 1
            time.sleep(0.002)
            progress(i, 10_000)
        return original(self, *args, **more)

    with pytest.MonkeyPatch.context() as change:
        change.setattr(type(model), "restore", restore)
        job = served.apply(Image.new("RGB", (8, 8)))
        assert started.wait(20)
        job.abandon()
        deadline = time.monotonic() + 20
        while not job.future.done() and time.monotonic() < deadline:
            time.sleep(0.01)
    assert 0 < calls[0] < 9000
    served.worker.close()


def test_too_many_open_requests_are_429_but_health_answers(runs: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with server({"squares": runs["squares"]}, max_open=3, queue_seconds=1000) as (client, app), ThreadPoolExecutor(8) as pool:
        slow = Slow(app.state.service.models.get("squares"), monkeypatch)
        waiting = [pool.submit(client.get, "/v1/runs/squares/picture") for _ in range(3)]
        while app.state.service.open_requests < 3:
            time.sleep(0.01)
        refused = client.get("/v1/models")
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert client.get("/readyz").status_code == 200
        slow.release.set()
        assert [future.result().status_code for future in waiting] == [200] * 3
        end = time.monotonic() + 10  # a request is closed just after its client has the answer
        while app.state.service.open_requests and time.monotonic() < end:
            time.sleep(0.01)
        assert app.state.service.open_requests == 0


def test_an_unexpected_error_is_a_500_that_hides_it(runs: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with server({"squares": runs["squares"]}) as (client, app):
        served = app.state.service.models.get("squares")

        def broken(jobs: Any) -> Any:
            raise RuntimeError("/home/someone/secret")

        with monkeypatch.context() as change:
            change.setattr(served.worker, "compute", broken)
            answer = client.get("/v1/runs/squares/picture")
        assert answer.status_code == 500
        assert "secret" not in answer.text
        assert client.get("/v1/runs/squares/picture").status_code == 200


# ---- health, metrics, description -------------------------------------------------------------------------------------


def test_health_and_readiness(runs: dict[str, Any]) -> None:
    with server({"squares": runs["squares"]}) as (client, app):
        assert client.get("/healthz").json() == {"status": "ok"}
        assert client.get("/readyz").json() == {"status": "ready"}
        app.state.service.close()
        assert client.get("/readyz").status_code == 503
        assert client.get("/v2/health/ready").status_code == 503
        assert client.get("/healthz").status_code == 200


SAMPLE = re.compile(r'[a-z_]+(\{([a-z]+="(\\.|[^"\\\n])*",?)+\})? -?[0-9.e+-]+')


def test_metrics_are_prometheus_text_with_bounded_labels(runs: dict[str, Any]) -> None:
    with server({"squares": runs["squares"]}) as (client, _):
        for number in range(5):
            client.get(f"/v1/runs/squares/picture?seed={number}")
            client.get(f"/nothing/{number}")
            client.request("BREW", f"/v1/runs/{number}")
        answer = client.get("/metrics")
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        lines = answer.text.splitlines()
        assert all(line.startswith(("# HELP ", "# TYPE ")) or SAMPLE.fullmatch(line) for line in lines)
        assert 'limner_requests_total{route="/v1/runs/{run}/picture",method="GET",status="200"} 5' in lines
        assert 'limner_requests_total{route="other",method="GET",status="404"} 5' in lines
        assert 'limner_pictures_total{model="squares"} 5' in lines
        assert "limner_open_requests 1" in lines
        counts = [int(line.split()[1]) for line in lines if line.startswith('limner_request_seconds_bucket{route="/v1/runs/{run}/picture"')]
        assert counts == sorted(counts)
        assert counts[-1] == 5
        assert "/nothing" not in answer.text


def test_the_description_is_complete(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.")
    assert {
        "/v1/models", "/v1/images/generations", "/v1/images/edits", "/v1/runs/{run}/generate", "/v1/runs/{run}/apply",
        "/v2/models/{model}/infer", "/healthz", "/readyz", "/metrics",
    } <= document["paths"].keys()  # fmt: skip
    assert "multipart/form-data" in document["paths"]["/v1/images/edits"]["post"]["requestBody"]["content"]
    assert client.get("/docs").status_code == 404  # its page would load scripts from another site


def test_runs_are_described_by_id_without_paths(client: httpx.Client, runs: dict[str, Any]) -> None:
    found = {run["id"]: run for run in client.get("/v1/runs").json()["runs"]}
    assert list(found) == list(runs)
    assert found["squares"]["latent_size"] == runs["squares"].z_size
    assert (found["styled"]["truncation"], found["squares"]["truncation"]) == ("styles", None)
    assert found["twice"]["scale"] == 2
    assert str(runs["squares"].folder.parent) not in client.get("/v1/runs").text
    assert client.get("/v1/runs/..%2fsquares").status_code == 404


def test_class_names_are_text() -> None:
    classes = ["<script>alert(1)</script>", "a=b", "seed=7", "Ünïcode 🙂", "A", "a"]
    for name in classes:
        assert parse_prompt(name, classes, ("seed",)) == (name, {})
    assert parse_prompt("seed=9 ünïcode 🙂", classes, ("seed",)) == ("Ünïcode 🙂", {"seed": "9"})
    assert parse_prompt("a=b seed=3", classes, ("seed",)) == ("a=b", {"seed": "3"})
    assert parse_settings("SMILE-2=3 any", ("Smile-2",)) == {"Smile-2": "3"}
    assert parse_prompt(" any  SEED=3 ", (), ("seed",)) == (None, {"seed": "3"})
    with pytest.raises(Refusal, match="this model has no classes"):
        parse_prompt("cat", (), ("seed",))


@pytest.mark.parametrize(
    "settings", [{"max_batch": 0}, {"batch_wait": -1}, {"queue_seconds": float("nan")}, {"timeout": 0}, {"max_pixels": 10**12}]
)
def test_settings_out_of_range(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"--[a-z-]+ goes from"):
        Settings(**settings)


def test_access_rules_hold_for_every_api(runs: dict[str, Any]) -> None:
    key = "k" * 16
    access = Access.of("0.0.0.0", key, public=("/healthz",))
    with server({"squares": runs["squares"]}, access) as (client, _):
        for method, path in (("GET", "/v1/models"), ("POST", "/v1/images/generations"), ("GET", "/v1/runs"), ("GET", "/v2"),
                             ("POST", "/v2/models/squares/infer"), ("GET", "/metrics"), ("GET", "/openapi.json"), ("GET", "/readyz")):  # fmt: skip
            assert client.request(method, path).status_code == 401
            bearer = {"authorization": f"Bearer {key}"}
            assert client.request(method, path, headers={**bearer, "host": "evil.example"}).status_code == 421
            assert client.request(method, path, headers={**bearer, "origin": "http://evil.example"}).status_code == 403
        assert client.get("/healthz").status_code == 200
        assert client.get("/v1/models", headers=bearer).status_code == 200


def test_forms_of_other_sites_are_refused(client: httpx.Client) -> None:
    """On loopback no key is needed; a page of another site still cannot make the machine compute."""
    for origin in ("http://evil.example", "null"):
        answer = client.post("/v1/runs/negative/apply", files={"image": encoded(PICTURE)}, headers={"origin": origin})
        assert answer.status_code == 403
        text = {"origin": origin, "content-type": "text/plain"}
        assert client.post("/v1/images/generations", content='{"prompt": "1"}', headers=text).status_code == 403
    plain = client.post("/v1/images/generations", content='{"prompt": "1"}', headers={"content-type": "text/plain"})
    assert plain.status_code == 400  # a form could send this type without asking


def test_the_command_serves_until_it_is_stopped(runs: dict[str, Any], tmp_path: Path) -> None:
    folder = runs["squares"].folder
    command = [sys.executable, "-m", "limner", "serve", str(folder), str(folder), "--port", "0", "--device", "cpu"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        address = re.search(r"http://[\d.:]+", line)
        assert address, line
        answer = httpx.get(f"{address[0]}/v1/models", timeout=60, trust_env=False).json()
        assert [model["id"] for model in answer["data"]] == ["squares", "squares-2"]
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "squares-2 is a generator of 16x16 gray, 2 classes." in out
    assert err == "The server has ended.\n"
    assert not list(tmp_path.iterdir())


def test_the_command_says_what_is_wrong(
    runs: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(runs["squares"].folder)
    monkeypatch.delenv("LIMNER_KEY", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for arguments, reason in (
            ([folder, "--host", "0.0.0.0"], "a key is needed: set LIMNER_KEY, or give --key-file"),
            ([folder, "--port", str(taken.getsockname()[1])], "is in use: stop the other program"),
            ([str(tmp_path / "none"), "--port", "0"], "There is no folder"),
            ([folder, "--timeout", "0"], "--timeout goes from 0.1 to 3,600"),
        ):
            with pytest.raises(SystemExit) as ended:
                main(["serve", *arguments])
            error = capsys.readouterr().err
            assert ended.value.code == 2
            assert reason in error
            assert len(error.splitlines()) == 1


def test_missing_packages_are_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(SystemExit) as ended:
        main(["serve", "nowhere"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "This command needs FastAPI and uvicorn, which are not installed: `pip install 'limner[studio]'` adds them.\n"
    )


def test_requests_are_independent_of_the_event_loop_policy(runs: dict[str, Any]) -> None:
    """The application runs under any ASGI server: here none at all."""
    from limner.apps.serve.service import serve_app

    app = serve_app([("squares", runs["squares"])], Access.of("127.0.0.1"))

    async def ask() -> int:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return (await client.get("/v1/runs/squares/picture")).status_code

    assert asyncio.run(ask()) == 200
    app.state.service.close()
