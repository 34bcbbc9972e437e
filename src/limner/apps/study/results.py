"""The results of a study: error or win rates with intervals, consistency and times, from its answers.

Rates are of the first view of each picture; repeats measure consistency alone, and practice counts for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from limner.apps.study.intervals import Design, crossed, wilson
from limner.apps.study.plan import FAKE, FIRST, REAL
from limner.apps.study.store import Answer

FEW_RATERS = 5  # below them the interval for raters like these is wide, and too narrow if they judged the same pictures


@dataclass(frozen=True)
class Rate:
    """A share with two 95 % intervals. wilson: of independent answers. raters: for raters and pictures like these, None for one rater."""

    value: float
    n: int
    wilson: tuple[float, float]
    raters: tuple[float, float] | None

    @property
    def interval(self) -> tuple[float, float]:
        """The interval to quote: over raters if there are several."""
        return self.raters or self.wilson


@dataclass(frozen=True)
class Shown:
    """A picture, or a pair, and its answers. rows: in the study's pictures. share: of fakes and reals, taken for real; of pairs, first run."""

    rows: tuple[int, ...]
    kind: int  # REAL or FAKE; of pairs -1
    chosen: int
    n: int
    seconds: float  # median

    def score(self, prior: float) -> float:
        """The share after two more answers like the average one: a single answer is weak evidence."""
        return (self.chosen + 2 * prior) / (self.n + 2)


@dataclass(frozen=True)
class Results:
    """Rates by name: of real and fake `error`, `error_fakes`, `error_reals`; of pairs `win_rate`, of the first run. left: share of left answers."""

    rates: dict[str, Rate]
    consistency: Rate | None
    raters: int
    finished: int
    seconds: dict[str, float]  # medians: all, and by kind
    left: Rate | None
    shown: list[Shown]


def results(answers: Sequence[Answer], pairs: bool, finished: int = 0) -> Results:
    """Return the results of the answers. finished: raters who answered everything. Raises ValueError without answers."""
    judged = [a for a in answers if not a.practice and a.repeats is None]
    if not judged:
        raise ValueError("Nobody has judged a picture yet: there is nothing to report.")
    everything = [a for a in answers if not a.practice]
    seconds = {"all": _median(judged)}
    if pairs:
        rates = {"win_rate": rate(judged, lambda a: a.choice == FIRST, strata=False)}
    else:
        rates = {"error": rate(judged, _wrong, strata=True)}
        for kind, name in ((FAKE, "fakes"), (REAL, "reals")):
            if of_kind := [a for a in judged if a.truth == kind]:
                rates[f"error_{name}"] = rate(of_kind, _wrong, strata=False)
                seconds[name] = _median(of_kind)
    first = {(a.rater, a.position): a.choice for a in judged}
    repeats = [a for a in answers if a.repeats is not None and (a.rater, a.repeats) in first]
    return Results(
        rates,
        rate(repeats, lambda a: a.choice == first[a.rater, a.repeats or 0], strata=False) if repeats else None,
        len({a.rater for a in judged}),
        finished,
        seconds,
        rate(everything, lambda a: a.side == 0, strata=False) if pairs else None,
        _shown(everything, pairs),
    )


def rate(answers: Sequence[Answer], counts: Callable[[Answer], bool], strata: bool) -> Rate:
    """Return the share of answers that count, with its intervals. strata: the mean of the shares of fakes and of reals."""
    hits = np.array([counts(a) for a in answers], np.float64)
    kinds = np.array([a.truth if strata else 0 for a in answers])
    value = float(np.mean([hits[kinds == kind].mean() for kind in np.unique(kinds)]))
    low, high = wilson(np.asarray(value), len(hits))
    over = None
    if len({a.rater for a in answers}) > 1:
        estimate = crossed(hits, Design.of([a.rater for a in answers], [_first_row(a) for a in answers], kinds))
        over = float(estimate.low), float(estimate.high)
    return Rate(value, len(hits), (float(low), float(high)), over)


def convincing(shown: Sequence[Shown], kind: int, most: bool, count: int) -> list[Shown]:
    """Return the pictures of a kind that were most often chosen, or least often; quicker answers first where they are equal.

    Chosen is: taken for real, or of pairs the first run. Only pictures with at least one such answer are returned.
    """
    of_kind = [one for one in shown if one.kind == kind]
    total = sum(one.n for one in of_kind)
    prior = sum(one.chosen for one in of_kind) / total if total else 0.5
    found = [one for one in of_kind if (one.chosen if most else one.n - one.chosen)]
    sign = -1 if most else 1
    return sorted(found, key=lambda one: (sign * round(one.score(prior), 9), one.seconds, one.rows))[:count]


def _shown(answers: Sequence[Answer], pairs: bool) -> list[Shown]:
    """Return each picture with its answers; of pairs, the rows are those of the first run and of the second."""
    groups: dict[tuple[int, ...], list[Answer]] = {}
    for a in answers:
        groups.setdefault(tuple(sorted(a.items)), []).append(a)
    found = []
    for group in groups.values():
        one = group[0]
        rows = one.items
        if pairs:
            left_is_first = (one.side == 0) == (one.choice == FIRST)
            rows = one.items if left_is_first else one.items[::-1]
        chosen = sum(a.choice == (FIRST if pairs else REAL) for a in group)
        found.append(Shown(rows, one.truth, chosen, len(group), _median(group)))
    return found


def _wrong(answer: Answer) -> bool:
    return answer.choice != answer.truth


def _first_row(answer: Answer) -> int:
    return min(answer.items)


def _median(answers: Sequence[Answer]) -> float:
    return float(np.median([a.seconds for a in answers]))
