"""The command-line interface. Flags are derived from typed functions and the recipes' dataclasses, never written twice.

Heavy modules are imported by the command that needs them, so that `limner --help` is fast.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cyclopts import CycloptsError

from limner.cli import (
    classification,
    compression,
    directing,
    editing,
    exporting,
    inference,
    motion,
    restoration,
    searching,
    serving,
    studio,
    study,
    training,
)
from limner.cli.app import app, tell, widen
from limner.cli.errors import parse_error_message
from limner.cli.flags import check_groups, flags, with_flags
from limner.cli.plugins import add_verbs
from limner.core.files import read_error

__all__ = [
    "app", "classification", "compression", "directing", "editing", "exporting", "inference", "main", "motion", "restoration", "searching", "serving", "studio", "study", "training",
]


def _option_value(arguments: Sequence[str], option: str) -> str | None:
    """Return the value of an option in the arguments, before the parser's options are defined; None if it is absent."""
    for i, argument in enumerate(arguments):
        if argument == option and i + 1 < len(arguments):
            return arguments[i + 1]
        if argument.startswith(f"{option}="):
            return argument.partition("=")[2]
    return None


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the console script. Exit codes: 0 success, 2 an error that the user can correct, 128 + signal when stopped."""
    try:
        code = _run(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()  # a full disk or a closed pipe raises here rather than at the interpreter's exit
    except BrokenPipeError:
        code = _silenced(128 + 13)  # SIGPIPE, by number: Windows has none
    except OSError as error:
        code = _silenced(2)
        tell(f"The output could not be written: {error.strerror}.")
    sys.exit(code)


def _silenced(code: int) -> int:
    """Redirect output streams that cannot be flushed to the null device; return the code."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                os.dup2(nowhere, stream.fileno())
    return code


def _run(arguments: list[str]) -> int:
    """Run a command and return its exit code. Raises OSError when its output cannot be written."""
    widen()
    code = 2
    try:
        if "train" in arguments[:1]:
            if not {"--help", "-h", "--quiet"} & {*arguments}:
                tell("Starting (loading PyTorch) ...")  # takes seconds without other output
            from limner.families.train import AUTO, defaults, parent_recipe
            from limner.runs.options import Options

            name, parent = _option_value(arguments, "--recipe") or AUTO, _option_value(arguments, "--from")
            architecture = _option_value(arguments, "--architecture")
            base = defaults(name, architecture) if name != AUTO or not parent else parent_recipe(Path(parent), architecture)
            check_groups(type(base), arguments)
            chosen = flags(type(base), base, unset=name == AUTO)
            train = with_flags(training.train, flags(Options), chosen)
        else:
            train = with_flags(training.train, type("Options", (), {}), type("Choices", (), {}))
        if "train" in app:  # from an earlier call in this process, with the flags of another recipe
            del app["train"]
        app.command(train, name="train")
        add_verbs(app, arguments)
        app(arguments, exit_on_error=False, print_error=False)  # raises SystemExit with the command's return value
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):  # raised in Rich, which would exit with 1
            return 128 + 13
        code = ended.code if isinstance(ended.code, int) else 0
    except CycloptsError as error:
        tell(parse_error_message(error))
    except ValueError as error:
        tell(str(error))
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.filename is None:  # an output stream; files have a name
            raise
        tell(str(read_error(error, error.filename)))
    except (MemoryError, RuntimeError) as error:
        from limner.core.device import out_of_memory

        if not out_of_memory(error):
            raise
        tell(
            "There is not enough memory: train with a smaller --batch, --size or network width (--generator.width, --network.width), or with fewer pictures per "
            "pass (--micro-batch 8); use a trained model with a smaller -n."
        )
    except KeyboardInterrupt:
        code = 130
    return code
