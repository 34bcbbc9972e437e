"""Each security rule of the web applications, over real connections: tests send bytes, so that nothing corrects them."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from limner.apps.web.access import COOKIE, Access
from limner.apps.web.errors import Refusal
from limner.apps.web.factory import create_app
from limner.apps.web.guard import SECURITY_HEADERS
from limner.apps.web.running import Background, read_key
from limner.apps.web.static import StaticFiles, add_page

pytest.importorskip("fastapi")
KEY = "correct-horse-battery"
MAX_BODY = 10_000
PAGE = b"<!doctype html><meta name=limner-token content='{{token}}'><script src=/static/a.js></script>"


def application(access: Access, body_seconds: float = 30.0) -> Any:
    app = create_app("test", access, MAX_BODY, body_seconds)
    add_page(app, StaticFiles({"index.html": PAGE, "a.js": b"'use strict';"}), access)
    app.state.changed = 0

    from starlette.requests import Request

    async def change(request: Request) -> dict[str, int]:
        body = await request.body()
        app.state.changed += 1
        return {"bytes": len(body)}

    def wrong() -> None:
        raise ValueError("The number is odd: give an even one.")

    def broken() -> None:
        raise RuntimeError("secret of the machine")

    change.__annotations__ = {"request": Request}
    app.add_api_route("/change", change, methods=["POST", "DELETE"])
    app.add_api_route("/wrong", wrong)
    app.add_api_route("/broken", broken)
    app.add_api_route("/healthz", lambda: {"ok": True})
    return app


class Server:
    def __init__(self, access: Access, url: str, app: Any) -> None:
        self.access, self.app = access, app
        self.port = int(url.rpartition(":")[2])
        self.host = f"127.0.0.1:{self.port}"

    def send(self, raw: bytes) -> tuple[int, dict[str, str], bytes]:
        """Send bytes and return status, headers (names in lower case) and body of the answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            connection.sendall(raw)
            answer = b""
            while part := connection.recv(65536):
                answer += part
        head, _, body = answer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        return int(first.split()[1]), {k.lower(): v for k, _, v in (line.partition(": ") for line in lines)}, body

    def ask(
        self, method: str, path: str, body: bytes = b"", host: str | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host or self.host}", "Connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        if body or method == "POST":
            lines.append(f"Content-Length: {len(body)}")
        return self.send("\r\n".join([*lines, "", ""]).encode() + body)

    def change(self, **headers: str) -> int:
        return self.ask("POST", "/change", b"x", **headers)[0]


def serve(access: Access, body_seconds: float = 30.0) -> Iterator[Server]:
    app = application(access, body_seconds)
    with Background(app) as background:
        yield Server(access, background.url, app)


@pytest.fixture(scope="module")
def page() -> Iterator[Server]:
    """On loopback, with a token."""
    yield from serve(Access.of("127.0.0.1", token=True))


@pytest.fixture(scope="module")
def locked() -> Iterator[Server]:
    """As off loopback, with a key and a token, and one name allowed."""
    yield from serve(Access.of("0.0.0.0", KEY, token=True, allow_hosts=["art.example"], public=["/healthz"]))


# ---- hosts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]", "127.0.0.2", "localhost."])
def test_names_of_loopback_are_hosts(page: Server, name: str) -> None:
    assert page.ask("GET", "/", host=f"{name}:{page.port}")[0] == 200
    assert page.ask("GET", "/", host=name)[0] == 200  # a forwarded port is another one


@pytest.mark.parametrize(
    "name", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "0.0.0.0", "evil.example:8000"]
)
def test_dns_rebinding_is_refused(page: Server, name: str) -> None:
    status, _, body = page.ask("GET", "/", host=name)
    assert status == 421
    assert b"token" not in body.lower()


@pytest.mark.parametrize("name", ["a b", "evil.example/@localhost", "localhost@evil.example", "", "[::1", "localhost:port"])
def test_invalid_hosts_are_refused(page: Server, name: str) -> None:
    assert page.send(f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())[0] in (400, 421)


def test_two_hosts_or_none_are_refused(page: Server) -> None:
    two = f"GET / HTTP/1.1\r\nHost: {page.host}\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    assert page.send(two.encode())[0] == 400
    assert page.send(b"GET / HTTP/1.0\r\n\r\n")[0] == 400


def test_off_loopback_only_the_own_names_and_addresses_are_hosts(locked: Server) -> None:
    bearer = {"Authorization": f"Bearer {KEY}"}
    assert locked.ask("GET", "/", host="art.example", **bearer)[0] == 200
    assert locked.ask("GET", "/", host="192.168.1.7:80", **bearer)[0] == 200
    assert locked.ask("GET", "/", host="evil.example", **bearer)[0] == 421


# ---- origins and tokens -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "origin", ["null", "http://evil.example", "http://localhost", "http://127.0.0.1:1", "file://", "http://127.0.0.1:{port}.evil.example"]
)
def test_other_origins_are_refused_even_with_the_token(page: Server, origin: str) -> None:
    before = page.app.state.changed
    headers = {"Origin": origin.replace("{port}", str(page.port)), "X-Limner-Token": str(page.access.token)}
    status, answer, _ = page.ask("POST", "/change", b"x", **headers)
    assert status == 403
    assert not [name for name in answer if name.startswith("access-control")]
    assert page.ask("GET", "/wrong", **headers)[0] == 403
    assert page.app.state.changed == before


def test_cross_site_requests_without_an_origin_are_refused(page: Server) -> None:
    token = str(page.access.token)
    for site in ("cross-site", "same-site"):  # another port of this machine is the same site
        assert page.change(Sec_Fetch_Site=site, X_Limner_Token=token) == 403
    assert page.change(Sec_Fetch_Site="same-origin", X_Limner_Token=token) == 200


def test_cors_is_off(page: Server) -> None:
    status, headers, _ = page.ask("OPTIONS", "/change", Origin="http://evil.example", Access_Control_Request_Method="POST")
    assert status == 403
    assert not [name for name in headers if name.startswith("access-control")]


def test_changes_need_the_token(page: Server) -> None:
    before = page.app.state.changed
    token = str(page.access.token)
    assert page.change() == 403
    assert page.change(X_Limner_Token="") == 403
    assert page.change(X_Limner_Token=token[:-1]) == 403
    assert page.change(Cookie=f"X-Limner-Token={token}") == 403
    assert page.ask("POST", f"/change?token={token}", b"x")[0] == 403
    assert page.ask("DELETE", "/change")[0] == 403
    assert page.app.state.changed == before
    assert page.change(X_Limner_Token=token, Origin=f"http://{page.host}") == 200
    assert page.app.state.changed == before + 1


def test_the_page_holds_the_token_of_its_process(page: Server) -> None:
    status, headers, body = page.ask("GET", "/")
    assert status == 200
    assert f"content='{page.access.token}'".encode() in body
    assert headers["cache-control"] == "no-store"
    assert Access.of("127.0.0.1", token=True).token != page.access.token


def test_websockets_are_checked_too() -> None:
    access = Access.of("127.0.0.1", token=True)
    host = (b"host", b"127.0.0.1:80")
    query = f"token={access.token}".encode()
    access.check("websocket", "GET", "/live", [host], query)
    for headers, asked in (([host], b""), ([host], b"token=x"), ([host, (b"origin", b"null")], query)):
        with pytest.raises(Refusal):
            access.check("websocket", "GET", "/live", headers, asked)


# ---- keys -------------------------------------------------------------------------------------------------------------


def test_a_key_is_compulsory_off_loopback() -> None:
    for host in ("0.0.0.0", "::", "192.168.1.7", "art.example"):
        with pytest.raises(ValueError, match="a key is needed: set LIMNER_KEY"):
            Access.of(host)
    with pytest.raises(ValueError, match="a key is needed"):
        Access.of("127.0.0.1", allow_hosts=["art.example"])  # behind a proxy, others reach it
    for key in ("short", "a" * 15, "with a space in it", "ключ" * 8):
        with pytest.raises(ValueError, match="at least 16 characters"):
            Access.of("0.0.0.0", key)
    assert KEY not in repr(Access.of("0.0.0.0", KEY))


def test_every_request_needs_the_key(locked: Server) -> None:
    for path in ("/", "/static/a.js", "/openapi.json", "/change", "/nothing", "/%68ealthz/"):
        status, headers, _ = locked.ask("GET", path)
        assert (status, headers["www-authenticate"]) == (401, "Bearer")
    for wrong in (f"Bearer {KEY}x", f"Bearer {KEY[:-1]}", f"Basic {KEY}", KEY, "Bearer", "Bearer \xff"):
        assert locked.ask("GET", "/", Authorization=wrong)[0] == 401
    assert locked.ask("GET", f"/change?key={KEY}")[0] == 401
    assert locked.ask("GET", "/", Authorization=f"Bearer {KEY}")[0] == 200
    assert locked.change(Authorization=f"Bearer {KEY}") == 200  # browsers never send it by themselves, so no token
    assert locked.ask("GET", "/healthz")[0] == 200


def test_the_key_in_the_address_signs_a_browser_in(locked: Server) -> None:
    assert locked.ask("GET", "/?key=wrong")[0] == 401
    assert locked.ask("GET", f"/?key={KEY}", host="evil.example")[0] == 421
    status, headers, _ = locked.ask("GET", f"/?key={KEY}")
    assert (status, headers["location"]) == (303, "/")
    assert headers["set-cookie"].endswith("HttpOnly; SameSite=Strict")
    assert KEY not in headers["set-cookie"]
    cookie = headers["set-cookie"].partition(";")[0]
    assert locked.ask("GET", "/", Cookie=cookie)[0] == 200
    assert locked.ask("GET", "/", Cookie=f"{COOKIE}=x")[0] == 401
    assert locked.change(Cookie=cookie) == 403  # a cookie comes with forged requests too: they lack the token
    assert locked.change(Cookie=cookie, X_Limner_Token=str(locked.access.token)) == 200


def test_keys_come_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIMNER_KEY", raising=False)
    assert read_key() is None
    monkeypatch.setenv("LIMNER_KEY", KEY)
    assert read_key() == KEY
    (tmp_path / "key").write_text(f" {KEY}-2 \n\n")
    assert read_key(tmp_path / "key") == f"{KEY}-2"
    (tmp_path / "empty").write_text("\n")
    for bad in ("empty", "missing"):
        with pytest.raises(ValueError, match=bad):
            read_key(tmp_path / bad)


# ---- bodies -----------------------------------------------------------------------------------------------------------


def post(server: Server, lines: list[str], body: bytes) -> int:
    head = ["POST /change HTTP/1.1", f"Host: {server.host}", f"X-Limner-Token: {server.access.token}", "Connection: close"]
    return server.send("\r\n".join([*head, *lines, "", ""]).encode() + body)[0]


def chunked(body: bytes, size: int = 1000) -> bytes:
    parts = (body[i : i + size] for i in range(0, len(body), size))
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def test_bodies_are_limited_with_and_without_a_length(page: Server) -> None:
    for size, status in ((MAX_BODY, 200), (MAX_BODY + 1, 413), (10 * MAX_BODY, 413)):
        assert post(page, [f"Content-Length: {size}"], b"x" * size) == status
        assert post(page, ["Transfer-Encoding: chunked"], chunked(b"x" * size)) == status
    assert post(page, [f"Content-Length: {10**30}"], b"x") in (400, 413)
    for lie in ("-1", "1_0", "x", "+5"):
        assert post(page, [f"Content-Length: {lie}"], b"xxxxx") in (400, 413)
    both = ["Content-Length: 5", "Transfer-Encoding: chunked"]  # chunked counts, and the length is ignored
    assert post(page, both, chunked(b"x" * 10 * MAX_BODY)) in (400, 413)


def test_a_large_body_is_refused_before_it_arrives(page: Server) -> None:
    assert post(page, [f"Content-Length: {MAX_BODY + 1}"], b"") == 413


def test_a_slow_body_is_cut_off() -> None:
    for server in serve(Access.of("127.0.0.1"), body_seconds=0.3):
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
            connection.sendall(f"POST /change HTTP/1.1\r\nHost: {server.host}\r\nContent-Length: 100\r\n\r\nx".encode())
            assert connection.recv(4096).startswith(b"HTTP/1.1 408")


def test_headers_are_limited(page: Server) -> None:
    assert page.ask("GET", "/", X_Long="x" * 100_000)[0] in (400, 431)


# ---- answers ----------------------------------------------------------------------------------------------------------


def test_every_answer_has_the_security_headers(page: Server) -> None:
    token = {"X-Limner-Token": str(page.access.token)}
    for method, path, host in (
        ("GET", "/", None), ("GET", "/static/a.js", None), ("GET", "/nothing", None), ("GET", "/broken", None),
        ("GET", "/wrong", None), ("POST", "/change", None), ("GET", "/", "evil.example"), ("PUT", "/change", None),
    ):  # fmt: skip
        headers = page.ask(method, path, host=host, **token)[1]
        assert {name: headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS, (method, path)
        assert "server" not in headers
    policy = SECURITY_HEADERS["content-security-policy"]
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy


def test_errors_are_one_sentence_and_hide_the_machine(page: Server) -> None:
    status, headers, body = page.ask("GET", "/wrong")
    assert (status, headers["content-type"]) == (400, "application/json")
    assert json.loads(body)["error"]["message"] == "The number is odd: give an even one."
    status, _, body = page.ask("GET", "/broken")
    assert status == 500
    assert b"secret" not in body
    assert b"Traceback" not in body
    assert json.loads(page.ask("GET", "/nothing")[2])["error"]["message"] == "There is nothing at this address."


# ---- files, names and pictures ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../web/access.py", "..%2faccess.py", "%2e%2e/%2e%2e/etc/passwd", "/etc/passwd", "a.js%00", "A.JS", "a.js/", ".", "a.js.map"]
)
def test_static_files_are_a_fixed_list(page: Server, name: str) -> None:
    assert page.ask("GET", f"/static/{name}")[0] in (307, 404)
    assert page.ask("GET", "/static/a.js")[2] == b"'use strict';"


def test_unchanged_files_are_not_sent_again(page: Server) -> None:
    tag = page.ask("GET", "/static/a.js")[1]["etag"]
    assert page.ask("GET", "/static/a.js", If_None_Match=tag)[0] == 304
