"""Commands that hand a trained model to other programs: export."""

from __future__ import annotations

from pathlib import Path

from limner.cli.app import Progress, app, open_model, print_line, tell


@app.command
def export(
    run: Path,
    out: Path,
    /,
    *,
    part: str | None = None,
) -> None:
    """Export a trained model for programs without PyTorch; it is compared with PyTorch before anything is written.

    Parameters
    ----------
    run
        The folder that `limner train` wrote.
    out
        An .onnx file, an .html page that runs offline by a double click, or a folder to publish on a model hub.
    part
        The part of the model (default: the one that its kind is used for).
    """
    from limner.apps.export.dispatch import export as make

    model = open_model(run, "cpu", object, "export")
    with Progress("comparing with PyTorch") as progress:
        report = make(model, out, part, progress)
    print_line(str(report))
    for note in report.notes:
        tell(note)
