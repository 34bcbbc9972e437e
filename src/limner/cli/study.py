"""The command of human studies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from limner.cli.app import Device, Progress, app, open_model, print_line, show_table, tell
from limner.cli.listening import Listening, Port


@app.command
def study(
    run: Path,
    other: Path | None = None,
    /,
    *,
    data: str | None = None,
    report: Annotated[bool, Parameter(negative=())] = False,
    pictures: int | None = None,
    raters: int | None = None,
    truncation: float | None = None,
    seed: int | None = None,
    out: Path | None = None,
    port: Port = 8008,
    listening: Listening | None = None,
    device: Device = "auto",
) -> None:
    """Let people judge on a local page: real or generated, or which of two runs looks more real; --report shows the result.

    Every answer is on the disk at once. The same command continues a study, and a rater goes on under the same name.

    Parameters
    ----------
    run
        The folder that `limner train` wrote, or that of a study.
    other
        A second run, to choose between pairs of pictures of both. Without it, real pictures are mixed with those of the run.
    data
        The real pictures. For two translators or restorers: the pictures that both get.
    report
        Write report.md, report.json and pictures.png into the study's folder, and show the rates, instead of serving the page.
    pictures
        How many real and how many generated pictures one rater judges, or how many pairs (default: 50).
    raters
        How many raters get pictures of their own; further ones see pictures again. 1 shows the same to all (default: 10).
    truncation
        Of the samples, as in `limner sample`.
    seed
        Random seed of the pictures (default: 0). Order and sides are random in any case.
    out
        The study's folder (default: study in the run folder; for two runs, study-NAME).
    """
    from limner.apps.study import run as studies
    from limner.apps.study import store
    from limner.core import artifact

    runs = [run] if other is None else [run, other]
    folder = studies.place(runs, out)
    is_study = folder == run or ((report or (data is None and other is None)) and store.exists(folder))
    making = {"data": data, "pictures": pictures, "raters": raters, "truncation": truncation, "seed": seed}
    given = [f"--{name}" for name, value in making.items() if value is not None]
    if is_study and given:
        raise ValueError(f"The pictures of the study in {folder} are made already: leave {' and '.join(given)} out, or give another --out for a new study.")
    if report:
        if not is_study:
            artifact.read_description(run)  # no run at all is the better message
            raise ValueError(f"There is no study in {folder}: start one with `limner study {run} --data PICTURES`.")
        show_report(folder)
        return
    from limner.apps.web.running import check_installed, listen

    check_installed()
    listening = listening or Listening()
    access = listening.access(token=True)
    with listen(listening.host, port) as bound:  # before the pictures are made, which takes seconds
        if is_study:
            current = store.load(folder)
        else:
            models = [open_model(place, device, object, "study") for place in runs]
            studies.check_kinds(models)
            with Progress("making the pictures") as progress:
                count = studies.PICTURES if pictures is None else pictures
                some = studies.RATERS if raters is None else raters
                current = studies.prepare(folder, models, data, count, some, seed or 0, truncation, progress)
        studies.serve(current, access, bound, tell)
    if any(not answer.practice for answer in store.answers(folder)):
        show_report(folder)
    else:
        tell(f"Nobody has judged a picture yet; `limner study {folder}` goes on.")


def show_report(folder: Path) -> None:
    """Write the report of a study and show its table."""
    from rich.table import Table

    from limner.apps.study import report, store

    current = store.load(folder)
    found = report.write_report(current)
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for title in ("rate", "95 % over raters", "95 % Wilson"):
        table.add_column(title, justify="right")
    for line in report.lines(current, found):
        table.add_row(*line)
    show_table(table)
    print_line(report.summary(current, found))
    print_line(f"The report is in {folder / report.REPORT}.")
