"""Fuzzed requests to a live server: never a 500, never a crash, no file outside of the runs read, none written.

Requests are mutations of valid ones of every route: values of other types, sizes and encodings, damaged bodies, wrong lengths, paths
that climb, and bytes that are no HTTP. An audit hook notes the files that the process opens.
"""

from __future__ import annotations

import json
import os
import random
import re
import socket
import sys
import sysconfig
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from serving import PICTURE, encoded, server

pytest.importorskip("fastapi")
ALLOWED = {200, 307, 400, 401, 403, 404, 405, 408, 413, 414, 421, 422, 429, 431, 501, 505}
ODD: list[Any] = [
    None, True, -1, 0, 1, 7, 10, 11, 2**31, 2**63, 2**64, 10**30, 0.5, -0.0, 1e308, "", "1", "any", "all", "a" * 5000, "../../etc/passwd",
    "/etc/passwd", "..\\..\\x", "file:///etc/passwd", "\x00", "\ud800", "<script>", "{{7*7}}", "%s%n", "seed=7", "seed=", "seed=-1", "1 seed=7",
    "truncation=nan", "squares", "negative", "styled", "FP32", "UINT8", [], [1], [[1.0]], [[]], [None], ["1", 2], {}, {"a": 1}, {"light": 1e9},
    [[[[[]]]]], [0.0] * 100, [[0.0] * 64], [1, 1, 16, 16], [-1, 64], [2**40, 64], [0] * 256,
]  # fmt: skip
PATHS = [
    "/", "/v1/models", "/v1/models/{m}", "/v1/images/generations", "/v1/images/edits", "/v1/images/variations", "/v1/runs", "/v1/runs/{m}",
    "/v1/runs/{m}/generate", "/v1/runs/{m}/picture", "/v1/runs/{m}/apply", "/v1/runs/{m}/classify", "/v1/runs/{m}/compress", "/v1/runs/{m}/decompress", "/v2", "/v2/models/{m}",
    "/v2/models/{m}/infer", "/v2/models/{m}/ready", "/v2/health/live", "/healthz", "/readyz", "/metrics", "/openapi.json", "/static/{m}", "/{m}",
]  # fmt: skip
IDS = ["squares", "styled", "coder", "negative", "sides", "twice", "fill", "packer", "..", "%2e%2e", "..%2f..%2fetc%2fpasswd", "%00", "%ff", "a" * 300, "🙂", ""]
FIELDS = ["prompt", "model", "n", "size", "response_format", "output_format", "stream", "seed", "seeds", "latents", "label", "labels", "truncation",
          "directions", "format", "inputs", "outputs", "id", "direction", "strength", "scale"]  # fmt: skip


class Opened:
    """The files that this process opens, by an audit hook; hooks cannot be removed, so this one is switched off."""

    def __init__(self) -> None:
        self.on, self.seen = False, set[tuple[str, bool]]()
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.on and event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
            writes = bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) if isinstance(arguments[2], int) else False
            self.seen.add((os.path.realpath(os.fsdecode(arguments[0])), writes))
        elif self.on and event in ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "subprocess.Popen", "os.system", "shutil.rmtree"):
            self.seen.add((f"{event} {arguments}", True))


@pytest.fixture(scope="module")
def opened() -> Iterator[Opened]:
    hook = Opened()
    yield hook
    hook.on = False


def value(rng: random.Random, depth: int = 0) -> Any:
    kind = rng.random()
    if kind < 0.75 or depth > 3:
        return rng.choice(ODD)
    if kind < 0.87:
        return [value(rng, depth + 1) for _ in range(rng.randint(0, 4))]
    return {rng.choice([*FIELDS, "name", "shape", "datatype", "data"]): value(rng, depth + 1) for _ in range(rng.randint(0, 4))}


def document(rng: random.Random, path: str) -> Any:
    """A valid body of a route, with some of its fields changed."""
    size = 64 if rng.random() < 0.8 else 16
    tensors = [
        {"name": "latents", "shape": [1, size], "datatype": "FP32", "data": [rng.gauss(0, 1) for _ in range(size)]},
        {"name": "labels", "shape": [1], "datatype": "INT64", "data": [rng.randint(0, 1)]},
        {"name": "images", "shape": [1, 1, 4, 4], "datatype": "UINT8", "data": [rng.randrange(256) for _ in range(16)]},
    ]
    body: dict[str, Any] = {"prompt": f"1 seed={rng.randrange(99)}", "n": rng.randint(1, 3)} if "images" in path else {"seed": 3, "n": 2}
    if path.startswith("/v2"):
        body = {"inputs": rng.sample(tensors, rng.randint(0, 3))}
        if rng.random() < 0.5 and body["inputs"]:
            body["inputs"][0] |= {rng.choice(["name", "shape", "datatype", "data"]): value(rng)}
    for _ in range(rng.choice([0, 0, 1, 1, 2, 5])):
        body[rng.choice(FIELDS)] = value(rng)
    return value(rng) if rng.random() < 0.05 else body


def damaged(rng: random.Random, content: bytes) -> bytes:
    """Bytes with some removed, repeated or changed."""
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(content) + 1)
        part = rng.choice([b"", b"\x00", b"\xff\xfe", b"\r\n", b"{", b'"', b"9" * 5000, b"[" * 2000, rng.randbytes(rng.randint(1, 40))])
        content = content[:at] + part + content[at + rng.choice([0, 1, 5, len(part)]) :]
    return content


def form(rng: random.Random, pictures: list[bytes]) -> tuple[str, bytes]:
    """Content type and body of a multipart form."""
    boundary = rng.choice(["x", "----b", "a b", ""])
    parts = []
    for _ in range(rng.randint(0, 6)):
        name = rng.choice(["image", "image", "image", "image[]", "mask", "file", "quality", *FIELDS[:6], "direction", "strength", "scale", "../x", ""])
        odd = str(rng.choice(ODD)).encode("utf-8", "replace")
        if name in ("image", "image[]", "mask", "file") or rng.random() < 0.1:
            content = rng.choice(pictures)
            content = damaged(rng, content) if rng.random() < 0.3 else content
            file = rng.choice(["x.png", "../../../etc/passwd", "/tmp/x", "a\\b", "", "<b>.png", "nul\x00.png"])
            parts.append(f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{file}"\r\n\r\n'.encode() + content + b"\r\n")
        else:
            parts.append(f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + odd + b"\r\n")
    body = b"".join(parts) + f"--{boundary}--\r\n".encode()
    return f"multipart/form-data; boundary={boundary}", damaged(rng, body) if rng.random() < 0.1 else body


def request(rng: random.Random, host: str, pictures: list[bytes]) -> bytes:
    """The bytes of one request."""
    if rng.random() < 0.02:
        return rng.randbytes(rng.randint(1, 300)) + b"\r\n\r\n"
    path = rng.choice(PATHS).replace("{m}", rng.choice(IDS if rng.random() < 0.4 else IDS[:8]))
    query = ""
    if rng.random() < 0.3:
        pairs = [f"{rng.choice([*FIELDS, 'index', 'key', 'token'])}={rng.choice(ODD)}" for _ in range(rng.randint(1, 4))]
        query = "?" + re.sub(r"[\s\x00-\x20]", "+", "&".join(pairs))
    posts = path.endswith(("generations", "edits", "variations", "generate", "apply", "classify", "compress", "infer"))
    method = rng.choice(["POST"] * 12 + ["GET", "PUT"]) if posts else rng.choice(["GET"] * 8 + ["POST", "HEAD", "DELETE", "OPTIONS", "PATCH", "BREW"])
    kind, body = rng.choice(["application/json"] * 6 + ["text/plain", "", "application/x-www-form-urlencoded", "\xff"]), b""
    if method in ("POST", "PUT", "PATCH"):
        if path.endswith(("edits", "variations", "apply", "classify", "compress")) and rng.random() < 0.85:
            kind, body = form(rng, pictures)
        else:
            body = json.dumps(document(rng, path)).encode()
            body = damaged(rng, body) if rng.random() < 0.15 else body
    headers = [f"Host: {host if rng.random() < 0.97 else rng.choice(['evil.example', '', 'a b', '[::1', host + ':x'])}", "Connection: close"]
    if kind:
        headers.append(f"Content-Type: {kind}")
    if rng.random() < 0.03:
        headers.append(f"Origin: {rng.choice(['null', 'http://evil.example', f'http://{host}'])}")
    if rng.random() < 0.05:
        headers.append(f"{rng.choice(['Authorization', 'Cookie', 'Range', 'Expect', 'If-None-Match', 'X-Limner-Token'])}: {rng.choice(ODD)!r}")
    length: Any = len(body)
    if rng.random() < 0.03:
        length = rng.choice([0, length + 1, max(0, length - 1), 10**12, "x", -1])
    if rng.random() < 0.04 and body:
        headers.append("Transfer-Encoding: chunked")
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    elif body or method == "POST":
        headers.append(f"Content-Length: {length}")
    head = "\r\n".join([f"{method} {path}{query} HTTP/1.1", *headers, "", ""])
    return head.encode("utf-8", "replace") + body


def status(port: int, raw: bytes) -> int | None:
    """Send bytes; return the status of the answer, or None when the connection was closed without one."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        answer = b""
        try:
            connection.sendall(raw)
            connection.settimeout(60)
            while b"\r\n" not in answer and (part := connection.recv(65536)):
                answer += part
        except (ConnectionResetError, BrokenPipeError):  # refused before the whole body was sent
            pass
    match = re.match(rb"HTTP/1\.[01] (\d{3})", answer)
    return int(match[1]) if match else None


def fuzz(count: int, runs: dict[str, Any], opened: Opened, caplog: pytest.LogCaptureFixture) -> Counter[int | None]:
    rng = random.Random(count)
    large = Image.effect_noise((300, 300), 50)
    pictures = [encoded(PICTURE), encoded(PICTURE.convert("RGB")), encoded(PICTURE.convert("RGBA"), "WEBP"), encoded(PICTURE, "JPEG"),
                encoded(PICTURE, "GIF"), encoded(PICTURE, "TIFF"), encoded(large), encoded(PICTURE, "BMP"), encoded(PICTURE, "ICO"), b"",
                b"<svg onload=alert(1)>", b"%!PS-Adobe-3.0", b"GIF89a"]  # fmt: skip
    with server(runs, max_pixels=40_000, queue_seconds=100, body_seconds=0.5) as (client, app):
        for image in pictures:  # decoders are imported before files are watched
            client.post("/v1/runs/negative/apply", files={"image": image})
        client.get("/openapi.json")
        port, found = int(client.base_url.port or 0), Counter[int | None]()
        lock, remaining = threading.Lock(), iter(range(count))

        def work() -> None:
            while True:
                with lock:
                    number = next(remaining, None)
                    if number is None:
                        return
                    raw = request(rng, f"127.0.0.1:{port}", pictures)
                code = status(port, raw)
                with lock:
                    found[code] += 1
                    if code is not None and code not in ALLOWED:
                        failures.append((code, raw[:2000]))

        failures: list[tuple[int, bytes]] = []
        opened.seen.clear()
        opened.on = True
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        opened.on = False
        assert not failures, failures[:3]
        assert client.get("/readyz").status_code == 200
        made = client.post("/v1/images/generations", json={"prompt": "1 seed=7"})
        assert made.status_code == 200
        end = time.monotonic() + 10  # a request is closed just after its client has the answer
        while app.state.service.open_requests and time.monotonic() < end:
            time.sleep(0.01)
        assert app.state.service.open_requests == 0
        assert all(served.pace._requests == 0 for _, served in app.state.service.models.items())
    assert [record for record in caplog.records if record.name.startswith("limner")] == []
    code = {os.path.realpath(path) for path in (*sysconfig.get_paths().values(), sys.base_prefix, str(Path(__file__).parents[3] / "src"))}
    strange = {(path, writes) for path, writes in opened.seen if writes or not path.startswith((*code, "/dev/urandom", "/proc/self", "/usr/share/zoneinfo"))}
    assert not {entry for entry in strange if entry[0] != os.devnull}, strange
    return found


def test_fuzzed_requests(runs: dict[str, Any], opened: Opened, caplog: pytest.LogCaptureFixture) -> None:
    found = fuzz(600, runs, opened, caplog)
    assert found[200] > 60, found  # the mutations leave enough valid requests to reach every model
    assert found[400] > 60, found


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_thousand_fuzzed_requests(runs: dict[str, Any], opened: Opened, caplog: pytest.LogCaptureFixture) -> None:
    assert sum(fuzz(10_000, runs, opened, caplog).values()) == 10_000
