"""`limner doctor`: a run's findings and the doctor's adjustments, as a table and as an HTML page with plots."""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limner.core import artifact
from limner.core.files import write_whole

if TYPE_CHECKING:
    from rich.table import Table

EARLY = 8  # checks before the first finding: BURN_IN + WINDOW of monitor.doctor, which apps do not import
DESCRIPTIONS = {  # signal -> caption of its plot
    "d_accuracy": "fraction of (real picture, sample) pairs that the discriminator orders correctly (0.5: chance)",
    "d_accuracy_b2a": "the same for translations from b to a",
    "overfitting": "how low the discriminator rates held-out pictures (0: as training pictures, 1: as samples)",
    "diversity": "typical distance between outputs (1: that between training or target pictures)",
    "diversity_b2a": "the same for translations from b to a",
    "drift": "change of a sample since the last check (1: a different picture)",
    "variety": "typical distance between training pictures, relative to their norm",
    "explained": "1 - error / error of the best constant picture",
    "active_latents": "latents that vary over pictures (VAE)",
    "codes_in_use": "fraction of the codebook that a few dozen pictures use (VQ-VAE)",
    "output_change": "distance of translations from their inputs (0: a copy, 1: that of the targets)",
    "output_change_b2a": "the same for translations from b to a",
    "logit_gap": "mean logit of real pictures - mean logit of samples",
    "gradient_discriminator": "norm of the discriminator's gradient",
    "gradient_generator": "norm of the generator's gradient",
    "step_discriminator": "step of the discriminator, relative to its weights' norm",
    "step_generator": "step of the generator, relative to its weights' norm",
}


@dataclass(frozen=True)
class DoctorReport:
    """The doctor's findings and signals in the log of a finished or unfinished run."""

    name: str
    entries: list[dict[str, Any]]  # all lines of the log
    budget: int  # images

    @property
    def findings(self) -> list[dict[str, Any]]:
        """The findings in order, each with the keys images, finding, message, advice and action."""
        return [{"images": e["images"], **e["doctor"]} for e in self.entries if "doctor" in e]

    @property
    def checks(self) -> int:
        """Number of checks."""
        return sum("variety" in e for e in self.entries)

    @property
    def verdict(self) -> str:
        """A summary in one sentence."""
        found = self.findings
        if found:
            names = ", ".join(dict.fromkeys(f["finding"] for f in found))
            last = found[-1]
            then = f"Adjusted: {last['action']}." if last["action"] else f"Advice: {last['advice']}"
            return f"Found: {names}. The latest: {last['message']}. {then}"
        if not self.checks:
            return "The doctor has not checked this run: it ran with --no-doctor, or has not reached the first check."
        if self.checks < EARLY:
            return f"Too early for a finding: {self.checks} of the {EARLY} checks that it needs."
        return f"Nothing is wrong: {self.checks} checks, no finding."


def read_report(folder: Path) -> DoctorReport:
    """Read a run folder. Raises ValueError when it holds no run or no log."""
    description = artifact.read_description(folder)
    entries = artifact.read_log(folder)
    if not entries:
        raise ValueError(f"{folder} holds no log.jsonl: give the folder of a run that has started training.")
    return DoctorReport(folder.resolve().name, entries, int(description["training"]["budget"]))


def table(report: DoctorReport) -> Table:
    """Return the findings as a rich table."""
    from rich.markup import escape
    from rich.table import Table

    result = Table(
        "images seen", "finding", "description", "action", title=escape(report.name), caption=escape(report.verdict),
        title_justify="left", caption_justify="left",
    )  # fmt: skip
    for f in report.findings:
        cells = (f"{f['images']:,}", f["finding"], f["message"], f["action"] or f"advice: {f['advice']}")
        result.add_row(*map(escape, cells))
    return result


def write_page(report: DoctorReport, path: Path) -> None:
    """Write one self-contained HTML page: the verdict, the findings, every signal and loss over images seen."""
    from limner.evaluation.report import page, plot

    e = html.escape
    rows = "".join(
        f"<tr><td class=number>{f['images']:,}</td><td>{e(f['finding'])}</td><td>{e(f['message'])}</td>"
        f"<td>{e(f['action'] or f['advice'])}</td></tr>"
        for f in report.findings
    )
    parts = [f"<h1>{e(report.name)}</h1><p>{e(report.verdict)}</p>"]
    if rows:
        parts.append(f"<table><tr><th>images seen</th><th>finding</th><th>description</th><th>action or advice</th></tr>{rows}</table>")
    names = dict.fromkeys(n for e in report.entries for n, v in e.items() if isinstance(v, int | float))
    marks = [(f["images"], f["finding"]) for f in report.findings]
    for name in [*(n for n in DESCRIPTIONS if n in names), *(n for n in names if n not in DESCRIPTIONS)]:
        points = [(e["images"], float(e[name])) for e in report.entries if name in e]
        if name not in ("images", "seconds") and len(points) > 1:
            parts.append(plot(f"{name}: {DESCRIPTIONS[name]}" if name in DESCRIPTIONS else name, points, report.budget, marks))
    write_whole(path, page(f"Doctor: {report.name}", parts))
