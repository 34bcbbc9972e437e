"""The report of a study: `report.md`, `report.json`, and `pictures.png` with the most and the least convincing pictures.

It holds no names of raters: they are in `raters.jsonl` alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from limner.apps.study import store
from limner.apps.study.plan import FAKE, REAL, plan
from limner.apps.study.results import FEW_RATERS, Rate, Results, Shown, convincing, results
from limner.apps.study.store import Answer, Study
from limner.core import lettering
from limner.core.files import write_whole
from limner.core.images import to_pil, write_png
from limner.core.text import counted, printable_json

REPORT, FIGURES, SHEET = "report.md", "report.json", "pictures.png"
SHOWN = 10            # pictures of a row of the sheet
CELL = 112            # pixels of a picture's larger side in the sheet, at least
GAP, LETTERS = 8, 15  # pixels
LABELS = {
    "error": "error",
    "error_fakes": "error on fakes (taken for real)",
    "error_reals": "error on reals (taken for fake)",
}


def write_report(study: Study) -> Results:
    """Write the three files into the study's folder and return the results. Raises ValueError when nobody has judged a picture."""
    answers = store.answers(study.folder)
    found = results(answers, study.settings.pairs, _finished(study, answers))
    write_png(study.folder / SHEET, sheet(study, found))
    write_whole(study.folder / FIGURES, printable_json(figures(study, found)) + "\n")
    write_whole(study.folder / REPORT, markdown(study, found))
    return found


def figures(study: Study, found: Results) -> dict[str, Any]:
    """Return the results as JSON."""

    def of(rate: Rate | None) -> Any:
        return None if rate is None else asdict(rate)

    return {
        "kind": "two-alternative" if study.settings.pairs else "real-or-fake",
        "names": list(study.settings.names),
        "raters": found.raters,
        "finished": found.finished,
        **{name: of(rate) for name, rate in found.rates.items()},
        "consistency": of(found.consistency),
        **({"left": of(found.left)} if found.left else {}),
        "median_seconds": found.seconds,
        "confidence": 0.95,
        "pictures": [
            {
                "rows": one.rows,  # of pictures.npz; of a pair, the first run's picture and the second's
                "kind": {REAL: "real", FAKE: "fake"}.get(one.kind, "pair"),
                "chosen": one.chosen,  # times taken for real; of a pair, times that the first run was preferred
                "answers": one.n,
                "median_seconds": one.seconds,
            }
            for one in found.shown
        ],
    }


def lines(study: Study, found: Results) -> list[tuple[str, str, str, str]]:
    """Return the rows of the table: what, rate, interval over raters, Wilson interval."""
    rows = []
    for name, rate in found.rates.items():
        label = LABELS.get(name) or f"{study.settings.names[0]} preferred to {study.settings.names[1]}"
        rows.append((label, rate))
    if found.consistency:
        rows.append(("same answer when repeated", found.consistency))
    if found.left:
        rows.append(("left picture chosen", found.left))
    return [
        (label, f"{percent(rate.value)} of {rate.n:,}", _bounds(rate.raters) if rate.raters else "-", _bounds(rate.wilson))
        for label, rate in rows
    ]


def summary(study: Study, found: Results) -> str:
    """Return the result as a sentence."""
    first, second = study.settings.names
    name, rate = next(iter(found.rates.items()))
    low, high = rate.interval
    who = counted(found.raters, "rater")
    if name == "win_rate":
        verdict = f"prefer {first}" if low > 0.5 else f"prefer {second}" if high < 0.5 else "have no clear preference"
        return f"{who} chose {first} over {second} in {percent(rate.value)} of pairs ({_bounds((low, high))}): they {verdict}."
    verdict = "50 % would be chance, which the interval contains" if low <= 0.5 <= high else "50 % would be chance"
    return f"{who} judged {percent(rate.value)} of the pictures wrongly ({_bounds((low, high))}); {verdict}."


def markdown(study: Study, found: Results) -> str:
    """Return the report as Markdown."""
    first, second = study.settings.names
    title = f"{_plain(first)} or {_plain(second)}" if study.settings.pairs else f"{_plain(second)}: real or fake"
    table = ["| | rate | 95 % over raters | 95 % Wilson |", "|---|---|---|---|"]
    table += [f"| {_plain(label)} | {value} | {over} | {alone} |" for label, value, over, alone in lines(study, found)]
    times = ", ".join(f"{name} {value:.1f} s" for name, value in found.seconds.items())
    notes = [
        "The interval over raters holds for other raters and pictures like these; that of Wilson takes all answers as independent, "
        "which holds for one rater.",
    ]
    if found.raters == 1:
        notes.append("With one rater, nothing is known about other people: ask at least 5.")
    elif found.raters < FEW_RATERS:
        notes.append(f"With fewer than {FEW_RATERS} raters the interval over raters is wide, and not reliable if they judged the same pictures.")
    if not study.settings.pairs:
        notes.append(
            "An error of 50 % means that real and generated pictures could not be told apart. A model that copies its training "
            "pictures reaches it too: see `limner evaluate --metrics memorization`."
        )
    return "\n".join([
        f"# Human study: {title}", "", _plain(summary(study, found)), "", *table, "",
        f"{counted(found.raters, 'rater')}, of whom {found.finished} answered every question. Median time of an answer: {times}.", "",
        *notes, "", f"![Pictures with the most and the fewest errors]({SHEET})", "",
    ])  # fmt: skip


def sheet(study: Study, found: Results) -> np.ndarray:
    """Return the pictures as one RGB picture uint8 [3,H,W]: rows with a heading, and the answers below each picture."""
    first, second = study.settings.names
    if study.settings.pairs:
        sections = [
            (f"{first} (above) preferred to {second} (below)", convincing(found.shown, -1, True, SHOWN), False, _share),
            (f"{second} (above) preferred to {first} (below)", convincing(found.shown, -1, False, SHOWN), True, _other),
        ]
    else:
        sections = [
            ("Generated, most often taken for real", convincing(found.shown, FAKE, True, SHOWN), False, _share),
            ("Generated, most often recognized", convincing(found.shown, FAKE, False, SHOWN), False, _other),
            ("Real, most often taken for generated", convincing(found.shown, REAL, False, SHOWN), False, _other),
        ]
    height, width = study.pictures.shape[2:]
    scale = max(1, -(-CELL // max(height, width)))
    cell = width * scale + GAP, (height * scale + GAP // 2) * (2 if study.settings.pairs else 1) + LETTERS + GAP
    size = GAP + SHOWN * cell[0], sum(LETTERS + 2 * GAP + cell[1] for _ in sections)
    page = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(page)
    top = GAP
    for heading, pictures, reverse, answers in sections:
        lettering.write(draw, (GAP, top), lettering.fitted(lettering.drawable(heading, "Preferred", LETTERS), size[0] - 2 * GAP, LETTERS), LETTERS)
        top += LETTERS + GAP
        if not pictures:
            lettering.write(draw, (GAP, top), "none", LETTERS, fill="gray")
        for i, one in enumerate(pictures):
            left, below = GAP + i * cell[0], top
            for row in one.rows[::-1] if reverse else one.rows:
                picture = to_pil(study.pictures[row]).convert("RGB")
                page.paste(picture.resize((width * scale, height * scale), Image.Resampling.NEAREST), (left, below))
                below += height * scale + GAP // 2
            lettering.write(draw, (left + width * scale / 2, below), answers(one), LETTERS - 2, anchor="ma", fill="#444444")
        top += cell[1] + GAP
    return np.asarray(page).transpose(2, 0, 1)


def percent(share: float) -> str:
    """Return a share as a percentage with one decimal."""
    return f"{100 * share:.1f} %"


def _share(one: Shown) -> str:
    return f"{one.chosen} of {one.n}"


def _other(one: Shown) -> str:
    return f"{one.n - one.chosen} of {one.n}"


def _bounds(bounds: tuple[float, float]) -> str:
    return f"{100 * bounds[0]:.1f} to {100 * bounds[1]:.1f} %"


def _plain(text: str) -> str:
    """Return text without the signs that are Markdown or HTML: names are text."""
    return "".join(f"\\{c}" if c in "\\`*_[]|#<>!" else c for c in text)


def _finished(study: Study, answers: Sequence[Answer]) -> int:
    length = len(plan(study.pool, study.settings.pictures, study.key, 0))
    return sum(1 for a in answers if a.position == length - 1)

