"""The verbs. Flags are derived from typed functions and from the recipes' dataclasses, never written twice; heavy rooms
are imported by the verb that needs them, so that `limner --help` answers at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from cyclopts import CycloptsError

from limner.cli import making, using
from limner.cli.app import app, tell, widen
from limner.cli.flags import flags, with_flags
from limner.cli.mistakes import understood
from limner.cli.plugins import add_verbs
from limner.core.files import read_error

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
    """The console script. Exit codes: 0 done, 2 something a person can mend (one sentence), 128 + signal when stopped."""
    try:
        code = _run(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()  # a full disk or a closed pipe shows here rather than in the interpreter's last moments
    except BrokenPipeError:
        code = _silenced(128 + 13)  # SIGPIPE, by number: Windows has none
    except OSError as error:
        code = _silenced(2)
        tell(f"What was printed could not be written: {error.strerror}.")
    sys.exit(code)


def _silenced(code: int) -> int:
    """The code, after what is still to be printed was sent to where it disturbs nobody."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                os.dup2(nowhere, stream.fileno())
    return code


def _run(arguments: list[str]) -> int:
    """The exit code of a command. Raises OSError when its output cannot be written."""
    widen()
    code = 2
    try:
        if "train" in arguments[:1]:
            if not {"--help", "-h", "--quiet"} & {*arguments}:
                tell("Starting (loading PyTorch) ...")  # which is silent for seconds
            from limner.families.train import AUTO, defaults
            from limner.runs.options import Options

            name = _said(arguments, "--recipe") or AUTO
            base = defaults(name, _said(arguments, "--architecture"))
            chosen = flags(type(base), base, unset=name == AUTO)
            train = with_flags(making.train, flags(Options), chosen)
        else:
            train = with_flags(making.train, type("Options", (), {}), type("Choices", (), {}))
        if "train" in app:  # of an earlier call in this process, with another recipe's flags
            del app["train"]
        app.command(train, name="train")
        add_verbs(app, arguments)
        app(arguments, exit_on_error=False, print_error=False)  # ends the process itself, with what the verb returns
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):  # Rich met it, and would end with 1
            return 128 + 13
        code = ended.code if isinstance(ended.code, int) else 0
    except CycloptsError as error:
        tell(understood(error))
    except ValueError as error:
        tell(str(error))
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.filename is None:  # what is printed cannot be written; every file has a name
            raise
        tell(str(read_error(error, error.filename)))
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        tell(
            "There is not enough memory: train with a smaller --batch, --size or network width (--generator.width, --network.width), or with fewer pictures a "
            "pass (--micro-batch 8); use what is trained with a smaller -n."
        )
    except KeyboardInterrupt:
        code = 130
    return code
