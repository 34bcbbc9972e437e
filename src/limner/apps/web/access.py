"""Who may use a local web application: pure functions of a request's headers.

A page of any web site can send requests to 127.0.0.1 from the browser of its visitor. Four rules keep it out:

1. Host allowlist. By DNS rebinding a site's own name points to 127.0.0.1, and the browser takes our answers for that site's.
   Its requests then carry its name as Host, which is not in the list.
2. Origin. Browsers send it with every request that is not a plain GET of the same site. It must name the Host of the request;
   `null`, the origin of sandboxed frames and files, is refused. There is no CORS: no other origin may read an answer.
3. Key. Off loopback, every request needs a secret: as `Authorization: Bearer KEY`, or as the cookie that `/?key=KEY` sets.
4. Token. Requests that change state carry a secret of the page that only this origin can read, in a header that no HTML form
   sends. A Bearer key stands in for it: browsers do not add one by themselves, as they do with cookies.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from limner.apps.web.errors import Refusal

SAFE = frozenset({"GET", "HEAD"})  # methods that change nothing
TOKEN_HEADER = "x-limner-token"
COOKIE = "limner_session"
MIN_KEY = 16  # characters
LOOPBACK_NAMES = frozenset({"localhost"})
EVERYWHERE = frozenset({"0.0.0.0", "::"})  # listen on all interfaces
Headers = Sequence[tuple[bytes, bytes]]  # as ASGI gives them: names in lower case
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::(\d{1,5}))?", re.IGNORECASE)


def is_loopback(host: str) -> bool:
    """Return whether an address or name is this machine's own, which no other machine reaches."""
    if host.lower() in LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def host_name(header: str) -> str | None:
    """Return the name of a Host header, `name`, `name:port` or `[v6]:port`, in lower case without the port; None if invalid."""
    match = _HOST.fullmatch(header)
    return (match[1] or match[2]).lower().rstrip(".") if match else None


def is_address(name: str) -> bool:
    """Return whether a host name is an IP address. DNS rebinding needs a name, so an address is always safe as Host."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def values(headers: Headers, name: str) -> list[str]:
    """Return the values of a header, which is given in lower case."""
    return [value.decode("latin-1") for key, value in headers if key == name.encode()]


def same_secret(given: str, secret: str) -> bool:
    """Compare in a time that does not depend on how much of it is right."""
    return secrets.compare_digest(given.encode("utf-8", "surrogatepass"), secret.encode())


@dataclass(frozen=True)
class Access:
    """The rules of one application.

    hosts: names accepted as Host besides IP addresses. loopback: whether only addresses of this machine are accepted.
    key: None for an application on loopback that needs none. token: None for an API without a page. session: value of the
    cookie that stands for the key in browsers. public: paths that need no key, such as a health check.
    """

    hosts: frozenset[str]
    loopback: bool = True
    key: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    session: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    public: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls, host: str, key: str | None = None, token: bool = False, allow_hosts: Sequence[str] = (), public: Sequence[str] = ()
    ) -> Access:
        """Return the rules for an application that listens on `host`.

        token: whether requests that change state need the page's token. allow_hosts: further names, such as that of a reverse
        proxy. Raises ValueError without a key off loopback, for a short key, and for a name that is none.
        """
        loopback = is_loopback(host) and not allow_hosts
        if key is None and not loopback:
            raise ValueError(
                f"Other machines reach {allow_hosts[0] if allow_hosts else host}, so a key is needed: set LIMNER_KEY, or give --key-file, with at "
                f"least {MIN_KEY} characters."
            )
        if key is not None and (len(key) < MIN_KEY or not re.fullmatch(r"[!-~]+", key)):
            raise ValueError(f"The key needs at least {MIN_KEY} characters, letters, digits and signs without spaces.")
        named = {host, *allow_hosts} - EVERYWHERE
        if host in EVERYWHERE:
            named |= {socket.gethostname(), socket.getfqdn()}
        names = set(LOOPBACK_NAMES)
        for given in named:
            name = given.lower() if is_address(given) else host_name(given)
            if name is None:
                raise ValueError(f"{given!r} is no host name: give one such as pictures.example.org.")
            names.add(name)
        return cls(
            frozenset(names), loopback, key, secrets.token_urlsafe(32) if token else None, public=frozenset(public)
        )

    def check(self, kind: str, method: str, path: str, headers: Headers, query: bytes = b"") -> None:
        """Raise Refusal unless the request is allowed. kind: "http" or "websocket"; headers: as ASGI gives them."""
        host = self.check_host(headers)
        changes = kind == "websocket" or method not in SAFE
        check_origin(headers, host, changes)
        bearer = self.has_bearer(headers)
        if self.key is not None and path not in self.public and not (bearer or self.has_session(headers)):
            raise Refusal("The key is missing or wrong: send it as `Authorization: Bearer KEY`.", 401, {"WWW-Authenticate": "Bearer"})
        if self.token is not None and changes and not bearer:
            given = values(headers, TOKEN_HEADER)
            if kind == "websocket":  # browsers cannot set its headers
                given = parse_qs(query.decode("latin-1")).get("token", [])
            if len(given) != 1 or not same_secret(given[0], self.token):
                raise Refusal("The page is older than the server, or not its own: reload it.", 403)

    def check_host(self, headers: Headers) -> str:
        """Return the Host header. Raises Refusal when its name is not in the list."""
        given = values(headers, "host")
        name = host_name(given[0]) if len(given) == 1 else None
        if name is None:
            raise Refusal("A request needs one valid Host header.", 400)
        if name in self.hosts or (is_loopback(name) if self.loopback else is_address(name)):
            return given[0]
        raise Refusal(f"The host name {name!r} is not allowed here: start the server with --allow-host {name} if it is yours.", 421)

    def has_bearer(self, headers: Headers) -> bool:
        """Return whether the request carries the key."""
        given = values(headers, "authorization")
        scheme, _, secret = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        return self.key is not None and scheme.lower() == "bearer" and same_secret(secret.strip(), self.key)

    def has_session(self, headers: Headers) -> bool:
        """Return whether the request carries the cookie that was set for the key."""
        try:
            cookies = SimpleCookie("; ".join(values(headers, "cookie")))
        except CookieError:
            return False
        return COOKIE in cookies and same_secret(cookies[COOKIE].value, self.session)

    def sign_in(self, path: str, method: str, query: bytes) -> bool:
        """Return whether a request is `GET /?key=KEY` with the right key, whose answer sets the cookie."""
        if self.key is None or path != "/" or method != "GET":
            return False
        given = parse_qs(query.decode("latin-1")).get("key", [])
        return len(given) == 1 and same_secret(given[0], self.key)


def check_origin(headers: Headers, host: str, changes: bool) -> None:
    """Raise Refusal for a request of another web site. host: the Host header, already checked. changes: whether it is no GET."""
    given = values(headers, "origin")
    if given and given not in ([f"http://{host}"], [f"https://{host}"]):  # https: behind a proxy
        raise Refusal("Requests from other web sites are refused.", 403)
    site = values(headers, "sec-fetch-site")
    if changes and not given and site and site[0] not in ("same-origin", "none"):  # browsers that leave out the Origin
        raise Refusal("Requests from other web sites are refused.", 403)
