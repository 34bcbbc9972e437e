"""Verbs of installed packages (`limner.verbs`: name -> function): listed by their metadata, imported when they are used."""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import FunctionType

from cyclopts import App

from limner.core.plugins import entries

_added: set[str] = set()  # by an earlier call in this process


def add_verbs(app: App, arguments: Sequence[str]) -> None:
    """Register the verbs of installed packages; the one that `arguments` begin with is imported, the others are not.

    A verb that is not imported shows the summary of its package in the help. Raises ValueError for a name that is taken or
    cannot be typed, and for a verb that cannot be imported.
    """
    for verb in entries("limner.verbs"):
        name = verb.name
        if name in _added:
            del app[name]
        elif name in app:
            raise ValueError(f"{verb.package} adds the verb {name!r}, which Limner has already: uninstall that package.")
        if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
            raise ValueError(f"{verb.package} adds the verb {name!r}, which is no name for a command: uninstall that package.")
        if name in arguments[:1]:
            app.command(verb.load(FunctionType), name=name)
        else:
            app.command(verb.point.value, name=name, help=verb.summary or f"A verb of {verb.package}.")
        _added.add(name)
