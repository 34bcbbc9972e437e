"""The parts of the web room without a server: files, names, pictures, addresses; and the end of a server by a signal."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import threading
import zlib

import pytest
from PIL import Image

from limner.apps.web.access import host_name, is_loopback
from limner.apps.web.errors import Refusal
from limner.apps.web.registry import Registry, slug
from limner.apps.web.running import listen, run
from limner.apps.web.static import StaticFiles, fill
from limner.apps.web.uploads import picture, picture_from_base64

pytest.importorskip("fastapi")


def test_static_files_of_a_package_are_read_once_by_suffix() -> None:
    assert StaticFiles.of_package("limner.apps", "web").files == {}  # no .py
    files = StaticFiles({"a.js": b"1"})
    assert files.get("a.js").type.startswith("text/javascript")
    with pytest.raises(Refusal):
        files.get("b.js")


def test_values_in_html_are_text() -> None:
    assert fill("<p title='{{name}}'>", {"name": "'><script>"}) == "<p title='&#x27;&gt;&lt;script&gt;'>"


def test_keys_of_the_registry_are_no_paths() -> None:
    registry: Registry[int] = Registry("model", limit=3)
    assert registry.add(1, "../../etc/Über pictures") == "etc-ber-pictures"
    assert registry.add(2, "../../etc/Über pictures") == "etc-ber-pictures-2"
    assert registry.add(3, "///") == "model"
    assert slug("A" * 100) == "a" * 64
    random = registry.add(4)
    assert len(random) >= 16
    assert [value for _, value in registry.items()] == [2, 3, 4]  # the oldest went
    for unknown in ("etc-ber-pictures", "../etc", "", "x" * 10_000):
        with pytest.raises(Refusal) as caught:
            registry.get(unknown)
        assert caught.value.status == 404
        assert len(str(caught.value)) < 300
    assert registry.remove(random) == 4


def encoded(image: Image.Image, form: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form)
    return buffer.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few hundred bytes whose header claims that size."""
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big") for kind, data in chunks
    )


def test_pictures_are_limited_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert picture(encoded(Image.new("RGB", (20, 30)), "PNG")).size == (20, 30)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("pixels were decoded"))
    for content, limit in ((bomb(100_000, 100_000), 10**12), (bomb(5000, 5000), 1_000_000)):
        with pytest.raises(Refusal) as caught:
            picture(content, limit)
        assert caught.value.status == 413


def test_icons_are_refused_for_their_size_is_not_that_of_the_header() -> None:
    icon = bytearray(encoded(Image.new("RGB", (64, 64)), "ICO"))
    with pytest.raises(Refusal, match="is a ICO, which is not accepted"):
        picture(bytes(icon))


@pytest.mark.parametrize("content", [b"", b"x", b"<svg onload=alert(1)>", b"%PDF-1.4", b"%!PS", bomb(100, 100)])
def test_what_is_no_picture_is_one_sentence(content: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        picture(content)
    assert caught.value.status == 400


def test_base64_pictures() -> None:
    import base64

    text = base64.b64encode(encoded(Image.new("L", (4, 5)), "PNG")).decode()
    assert picture_from_base64(text).size == (4, 5)
    assert picture_from_base64(f"data:image/png;base64,{text}").size == (4, 5)
    for bad in ("*", "data:,", "é", text[:30]):
        with pytest.raises(Refusal):
            picture_from_base64(bad)


# ---- running ----------------------------------------------------------------------------------------------------------


def test_host_names() -> None:
    names = {"a.b:80": "a.b", "[::1]:80": "::1", "A": "a", "a:": None, "a b": None, "": None, "::1": None, "a.": "a"}
    assert {name: host_name(name) for name in names} == names
    assert [is_loopback(name) for name in ("localhost", "127.8.0.1", "::1", "0.0.0.0", "evil.localhost", "x")] == [True] * 3 + [False] * 3


def test_a_port_in_use_is_one_sentence() -> None:
    bound = listen("127.0.0.1", 0)
    bound.listen()
    with bound, pytest.raises(ValueError, match=r"Port \d+ is in use: stop the other program, or give another --port"):
        run(None, "127.0.0.1", bound.getsockname()[1])
    for host in ("256.1.1.1", "203.0.113.7", "no such name"):
        with pytest.raises(ValueError, match="is no address of this machine"):
            listen(host, 0)
    with pytest.raises(ValueError, match="0 to 65535"):
        listen("127.0.0.1", 65536)


PROGRAM = """
import time
from limner.apps.web.access import Access
from limner.apps.web.factory import create_app
from limner.apps.web.running import run
app = create_app("test", Access.of("127.0.0.1"))
def slow():
    print("begun", flush=True)
    time.sleep(0.5)
    return {"done": True}
app.add_api_route("/slow", slow)
run(app, "127.0.0.1", 0, say=lambda text: print(text, flush=True))
print("ended")
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_server_after_the_requests_at_hand(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().split("/ (")[0].rpartition(":")[2])
        answers: list[bytes] = []

        def ask() -> None:
            with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
                connection.sendall(f"GET /slow HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
                while part := connection.recv(4096):
                    answers.append(part)

        thread = threading.Thread(target=ask)
        thread.start()
        assert process.stdout.readline() == "begun\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
        thread.join(20)
    assert (process.returncode, out, err) == (0, "ended\n", "")
    assert b'{"done":true}' in b"".join(answers)
