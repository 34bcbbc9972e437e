"""Successive halving: which run goes on, and how far, as a pure function of what was measured so far.

    rung        each setting sees this share of its budget        and of them go on
    0           1/30                                              the best third
    1           1/10                                              the best three, once more with another seed each
    the end     all                                               only the best, by the mean over both seeds

A run that goes on is resumed, so no picture is seen twice. (Jamieson & Talwalkar 2016, "Non-stochastic best arm identification and
hyperparameter optimization", algorithm 1, with three rungs and a factor of three.) The rungs are in images seen, the same share of each
setting's own budget, which is what it can see in the time of the last run: settings are thus compared at equal time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean
from typing import Literal

SHARES = (1 / 30, 1 / 10, 1.0)  # of the budget at each rung
KEPT = 3  # one in three goes on to the next rung
REPEATED = 3  # settings that run again with another seed
END_SHARE = 0.5  # of the minutes, for the last run alone
EXPLORED_SHARE = 0.35  # of the minutes, until which settings are tried and taken to rung 1
REPEATED_SHARE = 0.5  # of the minutes, until which settings are repeated


@dataclass(frozen=True)
class Run:
    """One run of the search. values: rung -> metric. failed: it ended with an error."""

    setting: int  # number of its options, in the order they were drawn
    repeat: int = 0  # 0: the seed of the search; 1: another
    values: Mapping[int, float] = field(default_factory=dict)
    failed: bool = False


@dataclass(frozen=True)
class Job:
    """The next thing to do: draw a new setting, or take a run to a rung."""

    action: Literal["draw", "run", "repeat"]
    setting: int = 0
    repeat: int = 0
    rung: int = 0


def next_job(runs: Sequence[Run], settings: int, better: str, spent: float = 0.0) -> Job | None:
    """Return what to do next; None when the best run is at its end.

    settings: how many are drawn. better: "lower" or "higher". spent: share of the search's minutes that is over.
    """
    firsts = [run for run in runs if not run.repeat and not run.failed]
    for run in firsts:  # drawn, not yet measured
        if 0 not in run.values:
            return Job("run", run.setting)
    drawn = sum(not run.repeat for run in runs)
    if drawn < settings and (spent < EXPLORED_SHARE * 0.6 or not firsts):
        return Job("draw", drawn)
    survivors = ranked(firsts, 0, better)[: max(1, -(-drawn // KEPT))]
    if spent < EXPLORED_SHARE:
        for run in survivors:
            if 1 not in run.values:
                return Job("run", run.setting, rung=1)
    survivors = [run for run in survivors if 1 in run.values]
    leaders = ranked(survivors, 1, better)[:REPEATED]
    if len(leaders) > 1 and spent < REPEATED_SHARE:
        done = {run.setting for run in runs if run.repeat and (1 in run.values or run.failed)}
        for run in leaders:
            if run.setting not in done:
                return Job("repeat", run.setting, repeat=1, rung=1)
    winner = best(runs, better)
    if winner is None:
        return None
    last = len(SHARES) - 1
    return None if last in winner.values else Job("run", winner.setting, rung=last)


def ranked(runs: Sequence[Run], rung: int, better: str) -> list[Run]:
    """Return the runs with a value at a rung, the best first."""
    known = [run for run in runs if rung in run.values]
    return sorted(known, key=lambda run: run.values[rung], reverse=better == "higher")


def best(runs: Sequence[Run], better: str) -> Run | None:
    """Return the run to be finished: at the highest rung below the last that settings reached, the best by the mean over seeds.

    Settings that were repeated come before those that were not. None if no run has a value.
    """
    firsts = [run for run in runs if not run.repeat and not run.failed]
    rung = 1 if any(1 in run.values for run in firsts) else 0
    repeats = {run.setting: run.values[1] for run in runs if run.repeat and 1 in run.values}
    found = [run for run in firsts if rung in run.values]
    if rung == 1 and repeats:
        found = [run for run in found if run.setting in repeats]
    if not found:
        return None
    sign = -1 if better == "higher" else 1

    def score(run: Run) -> float:
        values = [run.values[rung], *([repeats[run.setting]] if rung == 1 and run.setting in repeats else [])]
        return sign * mean(values)

    return min(found, key=score)


def noise(runs: Sequence[Run]) -> float | None:
    """Return the mean relative difference between two seeds of one setting at rung 1; None if none was repeated."""
    firsts = {run.setting: run.values[1] for run in runs if not run.repeat and 1 in run.values}
    pairs = [(firsts[run.setting], run.values[1]) for run in runs if run.repeat and 1 in run.values and run.setting in firsts]
    apart = [abs(a - b) / max(abs(a + b) / 2, 1e-12) for a, b in pairs]
    return mean(apart) if apart else None
