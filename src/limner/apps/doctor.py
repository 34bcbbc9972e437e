"""`limner doctor`: what was found in a run, when, and what was done about it, as a table and as a page with plots."""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limner.core import artifact
from limner.core.files import write_whole

if TYPE_CHECKING:
    from rich.table import Table

EARLY = 8  # visits before the first finding: the settling and the window of training.doctor, which apps do not import
MEANINGS = {  # signal -> what it is, for people
    "right": "pairs of a real picture and a sample that the discriminator orders rightly (0.5: it cannot tell)",
    "right_b2a": "the same of the translations from b to a",
    "by_heart": "how wrong held-out pictures look to the discriminator (1: as wrong as samples)",
    "spread": "how much samples differ from each other (1: as much as pictures of the data)",
    "change": "how much a sample has changed since the visit before (1: into another picture)",
    "variety": "how much the pictures of the data differ",
    "explained": "how much nearer outputs are to what they should be than one constant picture (0: no nearer, 1: equal)",
    "diversity": "how much outputs differ from each other (1: as much as they should)",
    "diversity_b2a": "the same of the translations from b to a",
    "active_latents": "latents that vary over pictures (of a VAE)",
    "codes_in_use": "share of the codebook that a few dozen pictures need (of a VQ-VAE)",
    "output_change": "how far translations are from their inputs (0: a copy, 1: as far as the target is)",
    "output_change_b2a": "the same of the translations from b to a",
    "gap": "how much higher the discriminator's logits of real pictures are",
    "gradient_discriminator": "norm of the discriminator's gradient",
    "gradient_generator": "norm of the generator's gradient",
    "step_discriminator": "a step of the discriminator as a share of its weights",
    "step_generator": "a step of the generator as a share of its weights",
}


@dataclass(frozen=True)
class Report:
    """A finished or running run as its log tells it."""

    name: str
    entries: list[dict[str, Any]]  # every line of the log
    budget: int

    @property
    def findings(self) -> list[dict[str, Any]]:
        """What was told, in order: images, finding, says, advice, done."""
        return [{"images": e["images"], **e["doctor"]} for e in self.entries if "doctor" in e]

    @property
    def visits(self) -> int:
        return sum("variety" in e for e in self.entries)

    @property
    def verdict(self) -> str:
        """One sentence."""
        found = self.findings
        if found:
            names = ", ".join(dict.fromkeys(f["finding"] for f in found))
            last = found[-1]
            then = f"Done: {last['done']}." if last["done"] else f"To do: {last['advice']}"
            return f"Found: {names}. The newest: {last['says']}. {then}"
        if not self.visits:
            return "Nothing was looked at while this trained: it ran with --no-doctor, or has yet to reach the first visit."
        if self.visits < EARLY:
            return f"Too early to tell: {self.visits} of the {EARLY} visits that a finding needs."
        return f"Nothing is wrong: {self.visits} visits, no alarm."


def examine(folder: Path) -> Report:
    """Read a run folder. Raises ValueError when it holds no run or no log."""
    description = artifact.read_description(folder)
    entries = artifact.read_log(folder)
    if not entries:
        raise ValueError(f"{folder} holds no log.jsonl to look at: give the folder of a run that has recorded_request to train.")
    return Report(folder.resolve().name, entries, int(description["training"]["budget"]))


def table(report: Report) -> Table:
    """The findings (rich)."""
    from rich.markup import escape
    from rich.table import Table

    result = Table(
        "images seen", "finding", "what was seen", "done", title=escape(report.name), caption=escape(report.verdict),
        title_justify="left", caption_justify="left",
    )  # fmt: skip
    for f in report.findings:
        cells = (f"{f['images']:,}", f["finding"], f["says"], f["done"] or f"advised: {f['advice']}")
        result.add_row(*map(escape, cells))
    return result


def write_page(report: Report, path: Path) -> None:
    """One HTML page that needs nothing else: the verdict, the findings, every signal and loss over images seen."""
    from limner.evaluation.report import page, plot

    e = html.escape
    rows = "".join(
        f"<tr><td class=number>{f['images']:,}</td><td>{e(f['finding'])}</td><td>{e(f['says'])}</td>"
        f"<td>{e(f['done'] or f['advice'])}</td></tr>"
        for f in report.findings
    )
    parts = [f"<h1>{e(report.name)}</h1><p>{e(report.verdict)}</p>"]
    if rows:
        parts.append(f"<table><tr><th>images seen</th><th>finding</th><th>what was seen</th><th>done or to do</th></tr>{rows}</table>")
    names = dict.fromkeys(n for e in report.entries for n, v in e.items() if isinstance(v, int | float))
    marks = [(f["images"], f["finding"]) for f in report.findings]
    for name in [*(n for n in MEANINGS if n in names), *(n for n in names if n not in MEANINGS)]:
        points = [(e["images"], float(e[name])) for e in report.entries if name in e]
        if name not in ("images", "seconds") and len(points) > 1:
            parts.append(plot(f"{name}: {MEANINGS[name]}" if name in MEANINGS else name, points, report.budget, marks))
    write_whole(path, page(f"Doctor: {report.name}", parts))
