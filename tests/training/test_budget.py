"""The budget of a run: revised by the clock at recorded moments, exact on resume; threads by measuring."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toy import CPU, PLAN, Toy, stream, weights

from limner.core.schedule import milestone_batches, preview_milestones
from limner.methods.phase import Clock
from limner.training import loop
from limner.training.budget import MOMENTS, Budget, Decision
from limner.training.loop import fit
from limner.training.trial import choose_threads, thread_counts
from stopping import StopAt


def played(budget: Budget, cost, seconds: float = 0.0, seen: int = 0, batch: int = 10) -> tuple[int, float]:
    """A run by an invented clock: cost(seen, budget) seconds an image. Returns (images, seconds)."""
    while seen < budget.at(seen):
        seconds += batch * cost(seen, budget.at(seen))
        seen += batch
        if budget.open and (decision := budget.revised(seen, seconds, [])):
            budget.decide(decision)
    return seen, seconds


@pytest.mark.parametrize("factor", [15.0, 2.0, 1.0, 0.5, 1 / 15])
def test_a_trial_that_was_wrong_is_corrected_to_the_minutes(factor: float) -> None:
    """factor: how many times faster the run is than the trial said, from too small to too large a budget."""
    budget = Budget([Decision(0, 60_000, 0.0, 600.0)], 10, [0.01])
    images, seconds = played(budget, lambda seen, images: 0.01 / factor)
    assert seconds == pytest.approx(600, rel=0.01) and images == pytest.approx(60_000 * factor, rel=0.01)
    assert 2 <= len(budget.decisions) <= 1 + len(MOMENTS)
    assert all(d.seconds < 0.25 * 600 for d in budget.decisions)


def test_a_machine_that_becomes_free_while_the_run_is_young() -> None:
    budget = Budget([Decision(0, 6_000, 0.0, 600.0)], 10, [0.1])
    clock = [0.0]

    def cost(seen: int, images: int) -> float:
        each = 0.1 if clock[0] < 40 else 0.01
        clock[0] += 10 * each
        return each

    assert played(budget, cost)[1] == pytest.approx(600, rel=0.02)


def test_a_game_that_grows_is_not_mistaken_for_a_fast_one() -> None:
    costs = [0.01, 0.02, 0.04, 0.08]
    budget = Budget([Decision(0, 16_000, 0.0, 600.0)], 10, costs)
    images, seconds = played(budget, lambda seen, images: costs[min(3, 4 * seen // images)])
    assert seconds == pytest.approx(600, rel=0.02) and images == pytest.approx(16_000, rel=0.02)


def test_time_for_the_hooks_that_are_left_is_kept_free() -> None:
    budget = Budget([Decision(0, 60_000, 0.0, 600.0)], 10, [0.01])
    assert budget.revised(10, 0.1, []) is None
    decision = budget.revised(1300, 13.0 + 4 * 5.0, [5.0] * 4)
    assert decision and decision.images < 60_000 - 16 * 5.0 / 0.01 * 0.9


class Rests:
    """Periodic work of 20 seconds, three times in a run, at quarters of the budget."""

    title = "Resting"

    def __init__(self) -> None:
        self.count, self.at, self.seconds = 0, [], 0.0

    def due(self, clock: Clock) -> bool:
        return self.count < min(3, int(4 * clock.fraction))

    def run(self, clock: Clock) -> None:
        self.count += 1
        self.at.append(clock.seen)
        self.seconds += 20.0

    def remaining(self, clock: Clock, cost: float) -> float:
        return (3 - self.count) * 20.0


@pytest.mark.parametrize("factor", [3.0, 1.0, 0.4])
def test_time_for_periodic_work_that_is_left_is_kept_free(factor: float) -> None:
    """Also for what is done inside the window by which a speed is measured: it is not taken for slowness."""
    work, seen, seconds = Rests(), 0, 0.0
    budget = Budget([Decision(0, 60_000, 0.0, 600.0)], 10, [0.01])
    while seen < budget.at(seen):
        if work.due(clock := Clock(seen, budget.at(seen), 10)):
            work.run(clock)
            seconds += 20.0
        seen, seconds = seen + 10, seconds + 10 * 0.01 / factor
        if budget.open and (decision := budget.revised(seen, seconds, [], work)):
            budget.decide(decision)
    assert work.count == 3 and seconds == pytest.approx(600, rel=0.01) and seen == pytest.approx(54_000 * factor, rel=0.01)
    assert budget.affordable(0, 100.0, periodic=Rests()) == 4_000


def test_a_run_of_few_batches_has_no_more_callbacks_than_batches() -> None:
    """Twenty callbacks were paid for however few batches there were, so that a slow validation left a single batch."""
    for images, batch, calls in ((8, 8, 2), (24, 8, 4), (10_000, 8, 20), (100, 100, 2)):
        due = {0} | {seen for seen in range(batch, images + 1, batch) if any(seen - batch < at <= seen for at in preview_milestones(images))}
        assert milestone_batches(images, batch) == len(due) == calls
        assert milestone_batches(images, batch, 0) == calls - 1
    budget = Budget([Decision(0, 8, 0.0, 60.0)], 8, [0.01])
    assert budget.affordable(0, 50.0, callback=5.0) == 9 * 8  # a callback after every batch: 9 * (0.08 + 5) < 50


def test_a_budget_in_images_is_never_revised() -> None:
    budget = Budget.fixed(100, 10)
    assert not budget.open and budget.revised(50, 1e9, []) is None and budget.at(99) == 100


def test_decisions_take_effect_where_they_were_made_and_the_newest_counts() -> None:
    budget = Budget([Decision(0, 100, 0.0, 60.0), Decision(30, 200, 2.0), Decision(20, 400, 9.0, 90.0)], 10)
    assert [budget.at(seen) for seen in (0, 10, 20, 30)] == [100, 100, 400, 400]
    assert [Decision.read(entry) for entry in budget.entries()] == budget.decisions
    for wrong in ({}, [], {"at": -1, "images": 5, "seconds": 0}, {"at": 0, "images": 0, "seconds": 0}, {"at": "x"}):
        with pytest.raises(ValueError, match="decision about the budget"):
            Decision.read(wrong)  # type: ignore[arg-type]


def test_a_revised_run_is_a_pure_function_of_its_recorded_decisions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unbroken, broken at several places, and replayed on a machine of another speed: the same weights, bit for bit."""
    plan, written = replace(PLAN, images=800), []

    def run(folder: str, decisions: list[Decision], **more):
        method = Toy()
        budget = Budget(decisions, plan.batch, [0.002], lambda entries: written.append(entries))
        outcome = fit(method, stream, tmp_path / folder, plan, device=CPU, quiet=True, budget=budget, **more)
        return outcome, weights(method), budget

    monkeypatch.setattr(loop.distributed, "broadcast_from_rank0", lambda value: value)
    outcome, whole, budget = run("whole", [Decision(0, 800, 0.0, 0.8)])
    assert outcome.finished and len(budget.decisions) > 1 and written[-1] == budget.entries()
    assert outcome.seen == budget.decisions[-1].images != 800
    replayed, again, other = run("replayed", budget.decisions)
    assert replayed.seen == outcome.seen and other.decisions == budget.decisions
    assert all(torch.equal(value, again[key]) for key, value in whole.items())
    stops = sorted({8, budget.decisions[-1].at, budget.decisions[-1].at + 8})
    for i, at in enumerate(stops):
        broken, _, _ = run(f"broken{i}", budget.decisions, callbacks=[StopAt(at)])
        assert not broken.finished
        ended, recorded, _ = run(f"broken{i}", budget.decisions)
        assert ended.finished and all(torch.equal(value, recorded[key]) for key, value in whole.items())


# ---- threads ---------------------------------------------------------------------------------------------------------


def test_the_counts_that_are_tried() -> None:
    assert thread_counts(1) == [1] and thread_counts(2) == [1, 2] and thread_counts(6) == [1, 2, 4, 6]
    assert thread_counts(8) == [1, 2, 4, 8]


@pytest.mark.parametrize(
    ("speeds", "best"),
    [
        ({1: 352, 2: 148}, 1),  # beside another busy process
        ({1: 352, 2: 600}, 2),
        ({1: 352, 2: 355}, 1),  # no more than chance
        ({1: 10, 2: 19, 4: 35, 8: 60}, 8),
        ({1: 10, 2: 19, 4: 35, 8: 20}, 4),
    ],
)
def test_the_fastest_number_of_threads_is_chosen(speeds: dict[int, float], best: int) -> None:
    assert choose_threads(lambda n: speeds[n], max(speeds)) == best


def test_counts_beyond_a_slow_one_are_not_tried() -> None:
    tried = []

    def speed(n: int) -> float:
        tried.append(n)
        return {1: 100.0, 2: 10.0}[n]  # 4 would be a KeyError

    assert choose_threads(speed, 8) == 1 and tried == [1, 2, 1, 2]


def test_a_moment_of_noise_does_not_decide() -> None:
    answers = {1: iter([100.0, 100.0, 100.0]), 2: iter([20.0, 190.0, 190.0])}
    assert choose_threads(lambda n: next(answers[n]), 2, rounds=3) == 2
