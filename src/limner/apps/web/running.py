"""The application on uvicorn: `run` in the foreground, `Background` in a thread."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from limner.apps.web.guard import MAX_HEADERS
from limner.core.files import read_error

KEY_VARIABLE = "LIMNER_KEY"
MISSING = "This command needs FastAPI and uvicorn, which are not installed: `pip install 'limner[studio]'` adds them."
SHUTDOWN_SECONDS = 5  # for requests that are being answered


def check_installed() -> None:
    """Raise ValueError unless the packages of the extra `studio` are installed."""
    try:
        import fastapi  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except Exception as error:  # importing an optional third-party package may fail in any way
        raise ValueError(MISSING) from error


def read_key(key_file: Path | None = None) -> str | None:
    """Return the key: the first line of a file, or the variable LIMNER_KEY, or None. Never an argument: others could list it."""
    if key_file is None:
        return os.environ.get(KEY_VARIABLE) or None
    try:
        lines = key_file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise read_error(error, key_file) if isinstance(error, OSError) else ValueError(f"{key_file} holds no text.") from error
    if not lines or not lines[0].strip():
        raise ValueError(f"{key_file} holds no key: write one on its first line.")
    return lines[0].strip()


def listen(host: str, port: int) -> socket.socket:
    """Return a socket bound to an address; port 0 takes any free one. Raises ValueError when it is in use or not allowed."""
    if not 0 <= port <= 65535:
        raise ValueError(f"A port is a number from 0 to 65535, not {port}.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        bound = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise ValueError(f"{host!r} is no address of this machine: give 127.0.0.1, or 0.0.0.0 for all.") from error
    try:
        if os.name == "posix":  # elsewhere the option would let two servers share a port
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            raise ValueError(f"Port {port} is in use: stop the other program, or give another --port (0 takes a free one).") from error
        if error.errno == errno.EACCES:
            raise ValueError(f"Port {port} is reserved for the system: give a --port from 1024 up.") from error
        raise ValueError(f"{host} is no address of this machine: give 127.0.0.1, or 0.0.0.0 for all.") from error
    return bound


def address(bound: socket.socket) -> str:
    """Return the http address of a bound socket, as a browser on this machine reaches it."""
    host, port = bound.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _server(app: Any) -> Any:
    import uvicorn

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            app.state.stopping.set()  # streams of events end by themselves
            await super().shutdown(sockets)

    config = uvicorn.Config(  # h11: the other parser of uvicorn has no limit of headers
        app, http="h11", log_config=None, log_level="error", access_log=False, server_header=False, proxy_headers=False,
        timeout_keep_alive=15, h11_max_incomplete_event_size=MAX_HEADERS, timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )  # fmt: skip
    return Server(config)


def run(app: Any, host: str = "127.0.0.1", port: int = 8000, say: Callable[[str], None] = print, path: str = "/") -> None:
    """Serve until Ctrl-C or SIGTERM, then finish what is being answered and return.

    say: called with a sentence that names the address, once it accepts connections. path: of the page. Raises ValueError for a
    port in use, before anything is loaded.
    """
    bound = listen(host, port)
    serve_bound(app, bound, say, path)


def serve_bound(app: Any, bound: socket.socket, say: Callable[[str], None] = print, path: str = "/") -> None:
    """Serve on a socket of `listen`, as `run` does."""
    gc.collect()
    gc.freeze()  # a full collection would go through all objects of PyTorch every few seconds, while all requests wait
    bound.listen(2048)  # connections are accepted by the kernel from here on
    with contextlib.closing(bound), _ignored_signals():
        say(f"Open {address(bound)}{path} (stop with Ctrl-C).")
        _server(app).run(sockets=[bound])


@contextmanager
def _ignored_signals() -> Iterator[None]:
    """Make SIGINT and SIGTERM do nothing more after uvicorn's own handling: it raises them again once it has shut down."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Background:
    """The application in a thread, as a context manager: `with Background(app) as server: get(server.url)`."""

    def __init__(self, app: Any, host: str = "127.0.0.1", port: int = 0) -> None:
        self.bound = listen(host, port)
        self.url = address(self.bound)
        self.server = _server(app)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.bound]}, daemon=True)

    def __enter__(self) -> Background:
        self.thread.start()
        while not self.server.started:
            if not self.thread.is_alive():
                raise ValueError("The server did not start.")
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join(SHUTDOWN_SECONDS + 5)
        self.bound.close()
