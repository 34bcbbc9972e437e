"""The verbs. Flags are derived from typed functions and from the recipes' dataclasses, never written twice; heavy rooms
are imported by the verb that needs them, so that `limner --help` answers at once."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from cyclopts import CycloptsError

from limner.cli import making, using
from limner.cli.app import app, tell
from limner.cli.flags import flags, with_flags

__all__ = ["app", "main", "making", "using"]


def _recipe_named(arguments: Sequence[str]) -> str:
    """The value of --recipe among the arguments: it decides which options there are."""
    for i, argument in enumerate(arguments):
        if argument == "--recipe" and i + 1 < len(arguments):
            return arguments[i + 1]
        if argument.startswith("--recipe="):
            return argument.partition("=")[2]
    return "auto"


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script. Exit codes: 0 done, 2 something a person can mend (one sentence), 130/143 stopped."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if "train" in arguments[:1]:
            from limner import recipes as rooms

            name = _recipe_named(arguments)
            base = rooms.defaults(name)
            chosen = flags(type(base), base, unset=name == rooms.AUTO)
            app.command(with_flags(making.train, flags(rooms.Options), chosen))
        else:
            app.command(with_flags(making.train, type("Options", (), {}), type("Choices", (), {})), name="train")
        result = app(arguments, exit_on_error=False, print_error=False)
        code = result if isinstance(result, int) else 0
    except CycloptsError as error:
        tell(str(error).strip().splitlines()[0] if str(error).strip() else "The command is not understood.")
        code = 2
    except ValueError as error:
        tell(str(error))
        code = 2
    except BrokenPipeError:
        code = 0
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)
