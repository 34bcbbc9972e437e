"""Objects by name or opaque id: a request holds a key of this table, never a path."""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

from limner.apps.web.errors import Refusal
from limner.core.text import shortened

T = TypeVar("T")
ID_BYTES = 12  # of randomness in an id


class Registry(Generic[T]):
    """Objects by key, safe to use from several threads.

    what: how messages name an object. limit: how many are kept; None keeps all, otherwise the oldest is dropped.
    """

    def __init__(self, what: str, limit: int | None = None) -> None:
        self.what, self.limit = what, limit
        self._objects: dict[str, T] = {}
        self._lock = threading.Lock()

    def add(self, value: T, name: str | None = None) -> str:
        """Keep an object and return its key: the name in lower-case letters, digits and `-_.`, or a random id without one."""
        with self._lock:
            key = self._free(slug(name, self.what)) if name is not None else secrets.token_urlsafe(ID_BYTES)
            self._objects[key] = value
            while self.limit is not None and len(self._objects) > self.limit:
                del self._objects[next(iter(self._objects))]
        return key

    def get(self, key: str) -> T:
        """Return an object. Raises Refusal, 404, for an unknown key."""
        with self._lock:
            if key in self._objects:
                return self._objects[key]
        raise Refusal(f"There is no {self.what} {shortened(key)!r}.", 404)

    def remove(self, key: str) -> T:
        """Remove and return an object. Raises Refusal, 404, for an unknown key."""
        value = self.get(key)
        with self._lock:
            self._objects.pop(key, None)
        return value

    def items(self) -> list[tuple[str, T]]:
        """Return (key, object) in the order in which they were added."""
        with self._lock:
            return list(self._objects.items())

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[str]:
        return iter([key for key, _ in self.items()])

    def _free(self, key: str) -> str:
        taken, number = key, 2
        while taken in self._objects:
            taken, number = f"{key}-{number}", number + 1
        return taken


def slug(name: str, fallback: str = "model") -> str:
    """Return a name as lower-case letters, digits and `-_.` that fits into a URL, at most 64 characters."""
    text = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-.")[:64].rstrip("-.")
    return text or fallback
