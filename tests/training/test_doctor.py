"""The doctor's findings from signals, its adjustments, and exact resumption of an adjusted run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from toy import CPU, Toy, stream, weights
from toy import PLAN as FAST

from limner.monitor.doctor import (
    ADJUSTMENTS,
    BURN_IN,
    CHECKS,
    COOLDOWN,
    GAN_RULES,
    LEARNING,
    WINDOW,
    Doctor,
    Finding,
    adjust,
    diagnose,
)
from limner.training.loop import fit
from limner.training.state import OptimizerConfig
from stopping import StopAt

PLAN = replace(  # forty visits, and no leaps of its own
    FAST, images=CHECKS * FAST.batch, optimizers={name: OptimizerConfig(lr=1e-4) for name in FAST.optimizers}
)
HEALTHY = {
    "variety": 0.7, "diversity": 0.8, "drift": 0.4, "d_accuracy": 0.85, "overfitting": 0.1, "gradient_discriminator": 5.0,
    "gradient_generator": 3.0, "step_discriminator": 0.004, "step_generator": 0.003,
}  # fmt: skip


def course(length: int = CHECKS, **odd: float) -> list[dict[str, float]]:
    """A healthy start, then some signals as given."""
    return [HEALTHY] * (BURN_IN + WINDOW) + [HEALTHY | odd] * (length - BURN_IN - WINDOW)


@pytest.mark.parametrize(
    "odd, name",
    [
        ({"variety": 0.001}, "pictures-alike"),
        ({"step_discriminator": 0.04}, "discriminator-lr-too-high"),
        ({"step_discriminator": 0.02, "step_generator": 0.0045}, "discriminator-lr-too-high"),
        ({"step_generator": 0.3}, "generator-lr-too-high"),
        ({"overfitting": 0.8}, "overfitting"),
        ({"diversity": 0.1}, "mode-collapse"),
        ({"gradient_generator": 1e-4}, "generator-vanishing-gradient"),
        ({"d_accuracy": 1.0, "gradient_discriminator": 0.3}, "discriminator-too-strong"),
        ({"drift": 1.1}, "oscillation"),
    ],
)
def test_each_finding_needs_signals_that_last(odd: dict[str, float], name: str) -> None:
    assert diagnose(course()) is None
    found = diagnose(course(**odd))
    assert found is not None and found.name == name and found.message and found.advice.endswith(".")
    if name != "pictures-alike":
        assert diagnose([*course()[:-1], HEALTHY | odd]) is None, "one odd check is no finding"


def test_low_diversity_is_a_collapse_only_late_in_the_run() -> None:
    slow = [HEALTHY | {"diversity": 0.01 * i} for i in range(CHECKS)]
    assert all(diagnose(slow[: i + 1]) is None for i in range(CHECKS // 2))
    stuck = [HEALTHY | {"diversity": 0.05}] * CHECKS
    assert diagnose(stuck[: CHECKS // 2 - 1]) is None
    assert diagnose(stuck).name == "mode-collapse"  # type: ignore[union-attr]


def test_a_small_step_is_no_finding_even_if_much_larger_than_the_other() -> None:
    assert diagnose(course(step_discriminator=0.004, step_generator=0.0001)) is None
    assert diagnose(course(step_discriminator=0.012, step_generator=0.002)) is None


def test_oscillation_lowers_the_lr_of_the_player_with_larger_steps() -> None:
    for player in ("discriminator", "generator"):
        found = diagnose(course(drift=1.1, **{f"step_{player}": 0.014}))
        assert found is not None and found.name == "oscillation" and f"--{player}-optimizer.lr" in found.advice
        settings = {"lr of discriminator": 1.0, "lr of generator": 1.0}
        assert adjust(found, settings) == f"lr of {player} 1 -> 0.5"


def test_early_drift_is_no_oscillation() -> None:
    """As the default drifted on digits, 40,000 images: checks 4 to 12 have a median of 0.91."""
    early = [HEALTHY | {"drift": 1.2}] * (LEARNING + WINDOW - 1) + [HEALTHY] * (CHECKS - LEARNING - WINDOW + 1)
    assert all(diagnose(early[: i + 1]) is None for i in range(len(early)))
    late = diagnose([HEALTHY | {"drift": 1.2}] * (LEARNING + 2 * WINDOW))
    assert late is not None and late.name == "oscillation"


def test_a_discriminator_without_a_gradient_is_too_strong_only_where_it_is_accurate() -> None:
    """The hinge has no gradient once every margin is kept: another objective is no advice then."""
    ahead = diagnose(course(d_accuracy=1.0, gradient_discriminator=0.0))
    assert ahead is not None and ahead.name == "discriminator-too-strong"
    starved = diagnose(course(d_accuracy=0.5, gradient_discriminator=0.0))
    assert starved is not None and starved.name == "discriminator-vanishing-gradient"
    assert "shrunk to 0e+00" in starved.message and "objective" not in starved.advice and "--discriminator-optimizer.lr" in starved.advice
    generator = diagnose(course(gradient_generator=1e-4))
    assert generator is not None and "objective" in generator.advice and "to 3e-05 of its maximum" in generator.message


def test_adjustments_stay_within_their_bounds_and_end() -> None:
    for name in ADJUSTMENTS:
        settings = {"lr of discriminator": 1.0, "lr of generator": 1.0, "penalty": 1.0, "augmentation": 0.0}
        actions = []
        while (action := adjust(Finding(name, "", "", "discriminator"), settings)) and len(actions) < 100:
            actions.append(action)
        assert 1 <= len(actions) < 30
        assert all(1 / 256 - 1e-6 <= settings[f"lr of {player}"] <= 1 for player in ("discriminator", "generator"))
        assert settings["penalty"] <= 8 and settings["augmentation"] <= 0.6
        assert adjust(Finding(name, "", ""), {}) == "", "a method without levers is not adjusted"


def test_an_adjustment_never_undoes_another() -> None:
    settings = {"lr of discriminator": 1.0}
    for _ in range(4):
        adjust(Finding("discriminator-lr-too-high", "", ""), settings)
    assert settings["lr of discriminator"] == pytest.approx(1 / 256, abs=1e-6)
    assert adjust(Finding("discriminator-too-strong", "", ""), settings) == "", "1/8 is a lower bound here, not a target"
    assert settings["lr of discriminator"] == pytest.approx(1 / 256, abs=1e-6)


def test_a_step_is_not_compared_with_a_missing_one() -> None:
    alone = [{k: v for k, v in HEALTHY.items() if k != "step_generator"} | {"step_discriminator": 0.02}] * CHECKS
    assert diagnose(alone) is None
    assert diagnose([*alone[:-1], HEALTHY | {"step_discriminator": 0.02}]) is None


class Scripted:
    """A probe with scripted signals that counts its checks."""

    rules = GAN_RULES

    def __init__(self, **odd: float) -> None:
        self.odd, self.checks = odd, 0

    def __call__(self, seen: int) -> dict[str, float]:
        self.checks += 1
        return HEALTHY | self.odd | {"check": self.checks}

    def state_dict(self) -> dict[str, Any]:
        return {"checks": self.checks}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.checks = state["checks"]


def run(folder: Path, tune: bool, **more: Any) -> tuple[Toy, list[dict[str, Any]]]:
    method = Toy()
    method.levers = {"penalty": 1.0}
    probe = Scripted(drift=1.1)
    fit(method, stream, folder, PLAN, device=CPU, quiet=True, doctor=Doctor(probe, tune), **more)
    return method, [json.loads(line) for line in (folder / "log.jsonl").open()]


def test_without_tune_it_reports_once_and_changes_nothing(tmp_path: Path) -> None:
    method, log = run(tmp_path / "report", tune=False)
    plain = Toy()
    fit(plain, stream, tmp_path / "plain", PLAN, device=CPU, quiet=True)
    assert all(torch.equal(v, weights(plain)[k]) for k, v in weights(method).items())
    reports = [e["doctor"] for e in log if "doctor" in e]
    assert [t["finding"] for t in reports] == ["oscillation"] and reports[0]["action"] == ""
    assert method.levers == {"penalty": 1.0}


def test_with_tune_it_adjusts_cools_down_logs_and_resumes_exactly(tmp_path: Path) -> None:
    whole, log = run(tmp_path / "whole", tune=True)
    reports = [e for e in log if "doctor" in e and e["doctor"]["action"]]
    assert [e["doctor"]["action"] for e in reports][:2] == ["penalty 1 -> 2", "penalty 2 -> 4"]
    checks = [e["images"] for e in log if "check" in e]
    assert checks.index(reports[1]["images"]) - checks.index(reports[0]["images"]) == COOLDOWN
    assert whole.levers["penalty"] > 1
    for at in (64, 96, 120):
        run(tmp_path / f"broken{at}", tune=True, callbacks=[StopAt(at)])
        again, again_log = run(tmp_path / f"broken{at}", tune=True)
        assert again.levers == whole.levers
        assert all(torch.equal(v, weights(whole)[k]) for k, v in weights(again).items())
        compared = [[{k: v for k, v in e.items() if k in (*HEALTHY, "check", "doctor", "step_a", "step_b")}
                    for e in entries if "check" in e] for entries in (again_log, log)]  # fmt: skip
        assert compared[0] == compared[1]
        assert any("step_b" in e for e in compared[1]), "grad_stats include the player of every third iteration"


def test_a_loss_that_is_not_finite_is_logged(tmp_path: Path) -> None:
    method = Toy()
    method.poison = {80}
    fit(method, stream, tmp_path, PLAN, device=CPU, quiet=True)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").open()]
    (entry,) = [e for e in log if "doctor" in e]
    assert entry["doctor"]["finding"] == "not-finite" and "a's loss" in entry["doctor"]["message"]
    assert "half the learning rates" in entry["doctor"]["action"]
    assert [e["images"] for e in log] == sorted(e["images"] for e in log)
