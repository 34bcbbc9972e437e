"""Options of the commands that serve a page or an API."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

Port = Annotated[int, Parameter(help="Port to listen on; 0 takes a free one.")]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Listening:
    """Where a server listens, and who may use it."""

    host: Annotated[
        str, Parameter(help="Address to listen on; 0.0.0.0 lets other machines in. Off this machine a key is compulsory: the variable LIMNER_KEY, or --key-file.")
    ] = "127.0.0.1"
    key_file: Annotated[
        Path | None,
        Parameter(help="A file whose first line is the key, of at least 16 characters: clients of an API send it as `Authorization: Bearer KEY`, browsers open /?key=KEY."),
    ] = None
    allow_host: Annotated[
        list[str] | None,
        Parameter(consume_multiple=True, negative=(), help="Names under which others reach this server, such as that of a reverse proxy; any other Host is refused."),
    ] = None

    def access(self, **rules: Any) -> Any:
        """Return the `Access` of these options. rules: token, public. Raises ValueError as `Access.of`."""
        from limner.apps.web.access import Access
        from limner.apps.web.running import read_key

        return Access.of(self.host, read_key(self.key_file), allow_hosts=self.allow_host or (), **rules)
