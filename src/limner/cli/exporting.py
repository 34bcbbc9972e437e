"""Commands that hand a trained model to other programs: export, push."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from limner.cli.app import Progress, app, open_model, print_line, tell


@app.command
def export(
    run: Path,
    out: Path,
    /,
    *,
    part: str | None = None,
    fp16: Annotated[bool, Parameter(negative=())] = False,
    int8: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Export a trained model for programs without PyTorch; it is compared with PyTorch before anything is written.

    Parameters
    ----------
    run
        The folder that `limner train` wrote.
    out
        An .onnx file, an .html page that runs offline by a double click, or a folder to publish on a model hub.
    part
        For .onnx: the part of the model, such as encoder (default: what its kind is used for; an unknown name lists all).
    fp16
        Store and compute in float16: half the size. What is lost is measured and printed.
    int8
        Quantize to 8 bits: a quarter of the size. What is lost is measured and printed.
    """
    from limner.apps.export.dispatch import export as make

    if fp16 and int8:
        raise ValueError("A model is exported in float16 or in 8 bits: give --fp16 or --int8.")
    model = open_model(run, "cpu", object, "export")
    with Progress("comparing with PyTorch") as progress:
        report = make(model, out, part, "fp16" if fp16 else "int8" if int8 else "fp32", progress)
    print_line(str(report))
    for note in report.notes:
        tell(note)


@app.command
def push(
    run: Path,
    name: str,
    /,
    *,
    out: Path | None = None,
    private: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Publish a trained model on a model hub: what `limner export RUN FOLDER` writes is uploaded.

    The access token is that of `hf auth login` or of the variable HF_TOKEN, the hub that of HF_ENDPOINT (default: huggingface.co).

    Parameters
    ----------
    run
        The folder that `limner train` wrote.
    name
        The repository on the hub: user/name.
    out
        Where to keep the folder that is uploaded (default: RUN-hub beside the run).
    private
        Create the repository as a private one.
    """
    from limner.apps.export.hub import push as upload

    model = open_model(run, "cpu", object, "push")
    with Progress("comparing with PyTorch") as progress:
        address = upload(model, name, out or run.with_name(f"{run.resolve().name}-hub"), private, progress)
    print_line(f"{run} is published at {address}.")
