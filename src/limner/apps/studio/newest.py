"""Newest wins: of the requests of one view that wait for their turn, only the last is answered with a picture."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

MAX_VIEWS = 256  # whose last number is remembered


class Superseded(Exception):
    """A newer request of the same view has come."""


class Newest:
    """One turn at a time, for the newest request of each view.

    A slider sends values faster than pictures are drawn. The page keeps one request under way and one waiting value; a request
    that it gave up, or that another connection overtook, is dropped here before anything is drawn for it.
    """

    def __init__(self) -> None:
        self._last: OrderedDict[str, int] = OrderedDict()  # view -> highest number
        self._guard, self._turn = threading.Lock(), threading.Lock()

    @contextmanager
    def turn(self, view: str, number: int) -> Iterator[None]:
        """Wait for the turn of request `number` of a view. Raises Superseded if a later number has arrived before it."""
        with self._guard:
            if number < self._last.get(view, number):
                raise Superseded
            self._last[view] = number
            self._last.move_to_end(view)
            while len(self._last) > MAX_VIEWS:
                self._last.popitem(last=False)
        with self._turn:
            if number < self._last.get(view, number):
                raise Superseded
            yield
