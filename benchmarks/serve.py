"""A server under load: 64 clients that ask as fast as they are answered, for minutes, on loopback.

    python benchmarks/serve.py RUN --minutes 10 --clients 64

The server is `limner serve RUN --port 0` in a process of its own (further options are passed to it); the clients share this process and one thread, each with a
connection that stays open. Requests are of three kinds: pictures of a prompt by OpenAI's API (n from 1 to 4, in one of ten cases
10), one picture as a file, and latents by the Open Inference Protocol. A client that is refused with 429 waits for --backoff
seconds (at most its Retry-After) and asks again.

Goals: no status but 2xx and 429; the 99th percentile of accepted requests at most 1 s; at most 50 MB more memory at the end than
after a tenth of the time. Printed and written to results/serve.json: the statuses, the percentiles of seconds from the request to
the last byte, pictures a second, the mean size of a batch, the server's memory and CPU seconds. The program ends with 1 if a goal
is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results"
GOAL_SECONDS, GOAL_GROWTH = 1.0, 50.0  # 99th percentile; MB
MIB = 1 << 20


@dataclass
class Tally:
    """What the clients saw."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)  # of accepted requests
    pictures: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    memory: list[tuple[float, float]] = field(default_factory=list)  # (seconds since the start, MB)


def request_of(rng: random.Random, about: dict[str, Any]) -> tuple[bytes, int]:
    """Return method, path, headers and body of a random valid request, and its number of pictures."""
    kind, classes = rng.random(), about["classes"]
    seed = rng.randrange(2**32)
    label = rng.choice(classes) if classes else "any"
    if kind < 0.6:
        n = 10 if rng.random() < 0.1 else rng.randint(1, 4)
        return _post("/v1/images/generations", {"prompt": f"{label} seed={seed}", "n": n, "model": about["id"]}), n
    if kind < 0.9:
        return f"GET /v1/runs/{about['id']}/picture?seed={seed} HTTP/1.1\r\n".encode(), 1
    n = rng.randint(1, 4)
    z = [round(rng.gauss(0, 1), 5) for _ in range(n * about["latent_size"])]
    inputs: list[dict[str, Any]] = [{"name": "latents", "shape": [n, about["latent_size"]], "datatype": "FP32", "data": z}]
    if classes:
        inputs.append({"name": "labels", "shape": [n], "datatype": "INT64", "data": [rng.randrange(len(classes)) for _ in range(n)]})
    return _post(f"/v2/models/{about['id']}/infer", {"inputs": inputs}), n


def _post(path: str, document: Any) -> bytes:
    body = json.dumps(document).encode()
    head = f"POST {path} HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


async def exchange(reader: Any, writer: Any, raw: bytes, host: str) -> tuple[int, dict[str, str], bytes]:
    """Send a request and return status, headers and body of the answer."""
    first, _, rest = raw.partition(b"\r\n")
    rest = rest or b"\r\n"
    writer.write(first + f"\r\nHost: {host}\r\n".encode() + rest)
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
    return int(head[0].split()[1]), headers, await reader.readexactly(int(headers.get("content-length", "0")))


async def client(number: int, port: int, about: dict[str, Any], until: float, backoff: float, tally: Tally) -> None:
    """Ask until the time is over."""
    rng, host, connection = random.Random(number), f"127.0.0.1:{port}", None
    while time.monotonic() < until:
        raw, n = request_of(rng, about)
        try:
            connection = connection or await asyncio.open_connection("127.0.0.1", port)
            started = time.monotonic()
            status, headers, body = await asyncio.wait_for(exchange(*connection, raw, host), 60)
        except (OSError, EOFError, TimeoutError, asyncio.IncompleteReadError) as error:
            tally.failures[type(error).__name__] += 1
            connection = None
            await asyncio.sleep(backoff)
            continue
        tally.statuses[status] += 1
        if status == 200:
            tally.seconds.append(time.monotonic() - started)
            tally.pictures += n
        elif status == 429:
            assert int(headers["retry-after"]) >= 1
            await asyncio.sleep(backoff)
        if headers.get("connection") == "close":
            connection[1].close()
            connection = None
    if connection:
        connection[1].close()


def memory_of(process: int) -> float:
    """Return the resident memory of a process in MB."""
    text = Path(f"/proc/{process}/status").read_text()
    match = re.search(r"VmRSS:\s+(\d+)", text)
    assert match
    return int(match[1]) / 1024


def cpu_seconds(process: int) -> float:
    """Return the CPU seconds of a process."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def watch(process: int, until: float, tally: Tally) -> None:
    """Note the memory of the server every second."""
    started = time.monotonic()
    while time.monotonic() < until:
        tally.memory.append((time.monotonic() - started, memory_of(process)))
        await asyncio.sleep(1)


async def load(port: int, process: int, seconds: float, clients: int, backoff: float) -> tuple[Tally, str]:
    """Run all clients; return what they saw, and the server's metrics."""
    connection = await asyncio.open_connection("127.0.0.1", port)
    _, _, body = await exchange(*connection, b"GET /v1/runs HTTP/1.1\r\n", f"127.0.0.1:{port}")
    about = next(run for run in json.loads(body)["runs"] if run["generates"])
    tally, until = Tally(), time.monotonic() + seconds
    await asyncio.gather(
        watch(process, until, tally), *(client(i, port, about, until, backoff, tally) for i in range(clients))
    )  # fmt: skip
    connection = await asyncio.open_connection("127.0.0.1", port)
    _, _, body = await exchange(*connection, b"GET /metrics HTTP/1.1\r\n", f"127.0.0.1:{port}")
    return tally, body.decode()


def metric(text: str, name: str) -> float:
    """Return the sum of a metric over its labels."""
    return sum(float(line.split()[-1]) for line in text.splitlines() if re.match(rf"{name}(\{{| )", line))


def mean(text: str, name: str) -> float:
    """Return the mean of a histogram over its labels."""
    return round(metric(text, f"{name}_sum") / max(1, metric(text, f"{name}_count")), 4)


def report(tally: Tally, metrics: str, seconds: float, cpu: float, clients: int) -> dict[str, Any]:
    """Return the figures."""
    times = np.array(tally.seconds or [np.nan])
    settled = [used for at, used in tally.memory if at >= seconds / 10] or [0.0]
    return {
        "clients": clients, "minutes": round(seconds / 60, 2), "cores": len(os.sched_getaffinity(0)),
        "load_average": round(os.getloadavg()[0], 1),
        "statuses": {str(status): count for status, count in sorted(tally.statuses.items())}, "failures": dict(tally.failures),
        "seconds": {name: round(float(np.quantile(times, q)), 4) for name, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0))},
        "pictures_per_second": round(tally.pictures / seconds, 1), "requests_per_second": round(len(tally.seconds) / seconds, 1),
        "pictures_per_batch": mean(metrics, "limner_batch_pictures"),
        "memory_mb": {"settled": round(settled[0], 1), "end": round(settled[-1], 1), "most": round(max(settled), 1)},
        "memory_over_time_mb": [round(tally.memory[i][1], 1) for i in range(0, len(tally.memory), max(1, len(tally.memory) // 20))],
        "memory_growth_mb": round(settled[-1] - settled[0], 1), "server_cpu_seconds": round(cpu, 1),
        "mean_seconds": {  # as the clients saw it, from the first to the last byte inside the server, and of a batch
            "client": round(float(times.mean()), 4), "server": mean(metrics, "limner_request_seconds"),
            "batch": mean(metrics, "limner_batch_seconds"),
        },
    }  # fmt: skip


def missed(figures: dict[str, Any]) -> list[str]:
    """Return the goals that are missed, as sentences."""
    found = []
    if other := [status for status in figures["statuses"] if status[0] != "2" and status != "429"] + list(figures["failures"]):
        found.append(f"There were answers other than 2xx and 429: {', '.join(other)}.")
    if not figures["seconds"]["p99"] <= GOAL_SECONDS:
        found.append(f"The 99th percentile is {figures['seconds']['p99']} s, and the goal {GOAL_SECONDS:g} s.")
    if figures["memory_growth_mb"] > GOAL_GROWTH:
        found.append(f"The memory grew by {figures['memory_growth_mb']} MB, and the goal is {GOAL_GROWTH:g} MB.")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a trained generator")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--backoff", type=float, default=0.1, help="seconds that a refused client waits")
    parser.add_argument("--out", type=Path, default=RESULTS / "serve.json")
    given, arguments = parser.parse_known_args()  # others are those of `limner serve`
    command = [sys.executable, "-m", "limner", "serve", str(given.run), "--port", "0", *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as server:
        assert server.stderr
        line = server.stderr.readline()
        match = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
        if not match:
            sys.exit(f"The server did not start: {line}{server.stderr.read()}")
        try:
            before = cpu_seconds(server.pid)
            tally, metrics = asyncio.run(load(int(match[1]), server.pid, 60 * given.minutes, given.clients, given.backoff))
            figures = report(tally, metrics, 60 * given.minutes, cpu_seconds(server.pid) - before, given.clients)
        finally:
            server.send_signal(signal.SIGINT)
            said = server.stderr.read()
    figures["exit_code"] = server.wait()
    figures["log"] = said.splitlines()[-5:]
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))
    failures = missed(figures)
    for sentence in failures:
        print(sentence)
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
