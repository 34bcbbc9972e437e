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


def _said(arguments: Sequence[str], option: str) -> str | None:
    """The value of an option among the arguments, before it is known which options there are."""
    for i, argument in enumerate(arguments):
        if argument == option and i + 1 < len(arguments):
            return arguments[i + 1]
        if argument.startswith(f"{option}="):
            return argument.partition("=")[2]
    return None


def _out_of_memory(error: Exception) -> bool:
    """Whether memory was short: PyTorch tells so in words, of whatever device, and its own type is not imported here."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in said or "can't allocate memory" in said


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script. Exit codes: 0 done, 2 something a person can mend (one sentence), 130/143 stopped."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    code = 2
    try:
        if "train" in arguments[:1]:
            if not {"--help", "-h", "--quiet"} & {*arguments}:
                tell("Starting (loading PyTorch) ...")  # which is silent for seconds
            from limner import recipes as rooms

            name = _said(arguments, "--recipe") or rooms.AUTO
            base = rooms.defaults(name, _said(arguments, "--architecture"))
            chosen = flags(type(base), base, unset=name == rooms.AUTO)
            app.command(with_flags(making.train, flags(rooms.Options), chosen))
        else:
            app.command(with_flags(making.train, type("Options", (), {}), type("Choices", (), {})), name="train")
        app(arguments, exit_on_error=False, print_error=False)  # ends the process itself, with what the verb returns
    except CycloptsError as error:
        tell(str(error).strip().splitlines()[0] if str(error).strip() else "The command is not understood.")
    except ValueError as error:
        tell(str(error))
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        tell(
            "There is not enough memory: train with a smaller --batch, --size or --network.width, or with fewer pictures a "
            "pass (--micro 8); use what is trained with a smaller -n."
        )
    except BrokenPipeError:
        code = 0
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)
