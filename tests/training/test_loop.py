"""The loop's invariants, on a game small enough to train in milliseconds."""

from __future__ import annotations

import errno
import json
import math
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from toy import CPU, PLAN, Counter, Toy, stream, weights

from limner.core.files import writing
from limner.methods.phase import Batch, Clock, Phase
from limner.training import state as checkpoints
from limner.training.interrupt import Diverged
from limner.training.iteration import Plan
from limner.training.loop import Outcome, View, fit
from limner.training.run import locked
from limner.training.state import OptimizerConfig, State
from limner.training.trial import measure
from stopping import StopAt


def run(folder: Path, method: Toy, plan: Plan = PLAN, **more) -> Outcome:
    return fit(method, stream, folder, plan, device=CPU, quiet=True, **more)


def test_resumed_equals_unbroken_bit_for_bit(tmp_path: Path) -> None:
    whole = Toy()
    assert run(tmp_path / "whole", whole).finished
    for at in (8, 24, 104):
        broken = Toy()
        outcome = run(tmp_path / f"broken{at}", broken, callbacks=[StopAt(at)])
        assert not outcome.finished and outcome.signal == 15 and at <= outcome.seen <= at + 8
    seen = []
    for at in (8, 24, 104):
        again = Toy()
        assert run(tmp_path / f"broken{at}", again).finished
        assert all(torch.equal(v, weights(whole)[k]) for k, v in weights(again).items())
        assert again.memory["counter"].count == whole.memory["counter"].count
        seen.append([json.loads(line)["images"] for line in (tmp_path / f"broken{at}/log.jsonl").open()])
    assert all(s == sorted(set(s)) and s[-1] == 160 for s in seen)  # no image told twice


def test_each_phase_moves_only_its_player(tmp_path: Path) -> None:
    for player in ("a", "b"):
        method = Toy()
        method.phases = [p for p in method.phases if p.player == player]
        before = weights(method)
        run(tmp_path / player, method)
        for key, value in weights(method).items():
            learned = "running" not in key and "batches" not in key
            if learned:
                assert torch.equal(value, before[key]) == (not key.startswith(f"{player}.")), key


def test_accumulated_equals_whole_batch(tmp_path: Path) -> None:
    results = []
    for micro_batch in (0, 4, 3):
        method = Toy()
        method.nets["a"] = nn.Linear(4, 1)  # no batch norm, whose statistics are of the slice
        method.nets["a"].load_state_dict({"weight": torch.ones(1, 4), "bias": torch.zeros(1)})
        method.players["a"] = list(method.nets["a"].parameters())
        turn = method.a_turn

        def without_own_noise(batch: Batch, clock: Clock, method: Toy = method):
            loss = (method.nets["a"](batch["x"] + batch.normal("z", 4)) - method.nets["b"](batch["x"])).square()
            return loss.squeeze(1), {}

        assert turn
        method.phases[0] = Phase("a", without_own_noise)
        run(tmp_path / f"m{micro_batch}", method, replace(PLAN, micro_batch=micro_batch))
        results.append(weights(method))
    for other in results[1:]:
        for key, value in other.items():
            torch.testing.assert_close(value, results[0][key], rtol=1e-5, atol=1e-6)


def test_a_batch_draws_the_same_rows_however_it_is_cut() -> None:
    whole = Batch({"x": torch.zeros(8, 1)}, 0, 8, (3, 16, 1))
    part = Batch({"x": torch.zeros(4, 1)}, 4, 8, (3, 16, 1))
    assert torch.equal(whole.normal("z", 5)[4:], part.normal("z", 5))
    assert torch.equal(whole.rows(slice(6, 8)).uniform("u"), whole.uniform("u")[6:])
    assert not torch.equal(whole.normal("z", 5), whole.normal("other", 5))
    assert not torch.equal(whole.normal("z", 5), Batch(whole.tensors, 0, 8, (3, 24, 1)).normal("z", 5))
    assert whole.integers("y", 3).max() < 3


def test_measuring_changes_nothing(tmp_path: Path) -> None:
    measured, plain = Toy(), Toy()
    before = weights(measured)
    assert measure(measured, stream, PLAN, CPU, seconds=0.2) > 0
    assert all(torch.equal(v, before[k]) for k, v in weights(measured).items())
    run(tmp_path / "a", measured)
    run(tmp_path / "b", plain)
    assert all(torch.equal(v, weights(plain)[k]) for k, v in weights(measured).items())


class Slow(Toy):
    """A game whose turns take a known time and are counted."""

    def __init__(self, **takes: tuple[int, float]) -> None:  # name -> (every, milliseconds)
        super().__init__()
        self.played: list[str] = []
        self.phases = [Phase("b", partial(self.turn, name, ms), every) for name, (every, ms) in takes.items()]

    def turn(self, name: str, ms: float, batch: Batch, clock: Clock):
        self.played.append(name)
        time.sleep(ms / 1000)
        return super().b_turn(batch, clock)


class Noted(Counter):
    """Periodic work that is due at the start and in the middle of a run."""

    title, seconds = "Counting", 0.0

    def due(self, clock: Clock) -> bool:
        return self.count < 1 + int(2 * clock.fraction)

    def run(self, clock: Clock) -> None:
        self.count += 1
        self.trail[self.count] = clock.seen

    def remaining(self, clock: Clock, cost: float) -> float:
        return 0.0


def test_periodic_work_is_done_before_its_iteration_once_also_after_a_resume(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trails = []
    for name, stops in (("whole", []), ("stopped", [StopAt(80)])):
        work, outcome = None, Outcome(0, 0.0, False)
        while not outcome.finished:
            method = Toy()
            method.periodic = work = Noted()
            method.memory["noted"] = work
            assert measure(method, stream, PLAN, CPU, seconds=0.01) > 0 and work.count == 0  # a trial does none
            outcome = fit(method, stream, tmp_path / name, PLAN, device=CPU, callbacks=stops)
            stops = []
        trails.append(work.trail.tolist())
        assert capsys.readouterr().err.count("Counting ...") == 2
    assert trails == [[0, 0, 80]] * 2


def test_a_trial_counts_lazy_phases_by_their_share_and_never_waits_for_their_turn() -> None:
    method = Slow(plain=(1, 4), lazy=(20, 40), rare=(200, 40))
    assert 1 / 0.08 < measure(method, stream, replace(PLAN, batch=1), CPU, seconds=1.0) < 1 / 0.0062
    assert len(method.played) < 150
    slow = Slow(plain=(1, 1), lazy=(7, 1), rare=(300, 1))
    measure(slow, stream, PLAN, CPU, seconds=0.0)
    assert len(slow.played) == 4 * (3 + 5)  # one of all, then each once


def test_a_loss_that_is_no_number_goes_back_once_and_on_at_half_the_rates(tmp_path: Path) -> None:
    method = Toy()
    method.poison = {80}
    assert run(tmp_path, method).finished
    state = State(Toy(), PLAN.optimizers)
    checkpoints.load(state, tmp_path / "checkpoint", CPU)
    assert set(state.lr_scale.values()) == {0.5} and state.nonfinite_count == 1
    assert all(v.isfinite().all() for v in weights(method).values())


def test_a_step_back_is_kept_at_once(tmp_path: Path) -> None:
    """A kill after it resumes behind it, instead of playing the bad stretch and telling of it once more."""


    class Killed:
        times = 0

        def due(self, clock: Clock) -> bool:
            self.times += clock.seen == 72
            return self.times == 2  # the second time that it comes by

        def __call__(self, view: View) -> None:
            raise KeyError("killed")

    method = Toy()
    method.poison = {120}
    with pytest.raises(KeyError):
        run(tmp_path, method, replace(PLAN, rollback_every=64, checkpoint_seconds=1e9), callbacks=[Killed()])
    state = State(Toy(), PLAN.optimizers)
    checkpoints.load(state, tmp_path / "checkpoint", CPU)
    assert (state.seen, state.nonfinite_count) == (64, 1)


@pytest.mark.parametrize("seconds, stops", [(0.0, ()), (1e9, (8, 104)), (1e9, (64, 112)), (1e9, (96, 80))])
def test_it_goes_back_to_the_same_state_however_often_the_run_was_saved_or_stopped(
    seconds: float, stops: tuple[int, ...], tmp_path: Path
) -> None:
    plan, whole, poison = replace(PLAN, rollback_every=64), Toy(), {120}
    whole.poison = {120}
    run(tmp_path / "whole", whole, replace(plan, checkpoint_seconds=1e9))
    for callbacks in (*([StopAt(at)] for at in stops), []):
        method = Toy()
        method.poison = poison
        done = run(tmp_path / "other", method, replace(plan, checkpoint_seconds=seconds), callbacks=callbacks)
    assert done.finished and all(torch.equal(v, weights(whole)[k]) for k, v in weights(method).items())


def test_a_second_one_ends_with_advice_and_a_usable_folder(tmp_path: Path) -> None:
    method = Toy()
    method.poison = {0, 8}
    with pytest.raises(Diverged, match=r"learning rates or a stronger penalty\.$"):
        run(tmp_path, method)
    state = State(Toy(), PLAN.optimizers)
    assert checkpoints.load(state, tmp_path / "checkpoint", CPU)
    assert all(v.isfinite().all() for v in state.tensors().values())


def test_a_nan_gradient_behind_a_finite_loss_is_caught(tmp_path: Path) -> None:
    method = Toy()

    def bad(batch: Batch, clock: Clock) -> tuple[Tensor, Mapping[str, Tensor]]:
        x = method.nets["a"](batch["x"]).squeeze(1) * 0
        return torch.sqrt(x.abs()), {}  # value 0, slope inf * 0

    method.phases = [Phase("a", bad)]
    before = {k: v for k, v in weights(method).items() if "running" not in k and "batches" not in k}
    with pytest.raises(Diverged):
        run(tmp_path, method)
    assert all(torch.equal(v, weights(method)[k]) for k, v in before.items())


def test_a_damaged_newest_checkpoint_gives_the_one_before(tmp_path: Path) -> None:
    whole, method = Toy(), Toy()
    run(tmp_path / "whole", whole)
    run(tmp_path / "run", method, replace(PLAN, checkpoint_seconds=0), callbacks=[StopAt(80)])
    latest = tmp_path / "run/checkpoint/latest.safetensors"
    latest.write_bytes(latest.read_bytes()[:100])
    again = Toy()
    assert run(tmp_path / "run", again).finished
    assert all(torch.equal(v, weights(whole)[k]) for k, v in weights(again).items())
    for path in (tmp_path / "run/checkpoint").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"are damaged (.*): train into a new folder\.$"):
        run(tmp_path / "run", Toy())


def test_a_damaged_newest_checkpoint_never_replaces_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, Toy(), replace(PLAN, checkpoint_seconds=0), callbacks=[StopAt(80)])
    saves = tmp_path / "checkpoint"
    whole = (saves / "latest.safetensors").read_bytes()
    (saves / "latest.safetensors").unlink()
    (saves / "latest.safetensors").write_bytes(whole[:-1])
    state = State(Toy(), PLAN.optimizers)
    assert checkpoints.load(state, saves, CPU)

    def killed(*_: object) -> None:
        raise ValueError("killed while writing")

    with monkeypatch.context() as patch, pytest.raises(ValueError, match="killed"):
        patch.setattr(checkpoints, "write_tensors", killed)
        checkpoints.save(state, saves)
    again = State(Toy(), PLAN.optimizers)
    assert checkpoints.load(again, saves, CPU) and again.seen == state.seen > 0
    (saves / "previous.safetensors").unlink()
    assert checkpoints.load(again, saves, CPU) and again.seen == 0  # the mark is better than nothing


def test_a_disk_without_links_that_is_full_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = State(Toy(), PLAN.optimizers)
    checkpoints.save(state, tmp_path)

    def full(self: Path, content: bytes) -> int:
        self.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    def none(self: Path, other: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", none)
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ValueError, match="The disk is full"):
        checkpoints.save(state, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["latest.safetensors"]


def test_a_new_start_sweeps_what_kills_left_half_written(tmp_path: Path) -> None:
    left = []
    for name in ("checkpoint/latest.safetensors", "checkpoint/rollback.safetensors", "weights.safetensors", "other.txt"):
        with writing(tmp_path / name) as temporary:
            temporary.write_bytes(b"whole")
        left.append(temporary)
        temporary.write_bytes(b"half")  # as after a kill
    with locked(tmp_path):
        assert [path.exists() for path in left] == [False, False, False, True]
        assert (tmp_path / "weights.safetensors").read_bytes() == b"whole"


def test_a_checkpoint_of_other_networks_is_refused(tmp_path: Path) -> None:
    run(tmp_path, Toy(), callbacks=[StopAt(8)])
    other = Toy()
    other.nets["b"] = nn.Linear(4, 2)
    other.players["b"] = list(other.nets["b"].parameters())
    with pytest.raises(ValueError, match="another b than this recipe builds"):
        run(tmp_path, other)


def test_restored_optimisers_keep_the_layout_of_their_parameters(tmp_path: Path) -> None:
    def build() -> State:
        method = Toy()
        method.nets["b"] = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        method.players["b"] = list(method.nets["b"].parameters())
        return State(method, PLAN.optimizers)

    state = build()
    for p in state.method.players["b"]:
        p.grad = torch.ones_like(p)
    state.optimizers["b"].step()
    checkpoints.save(state, tmp_path)
    again = build()
    checkpoints.load(again, tmp_path, CPU)
    for p in again.method.players["b"]:
        assert again.optimizers["b"].state[p]["momentum_buffer"].stride() == p.stride()


def test_clipping_bounds_the_gradient(tmp_path: Path) -> None:
    method = Toy()
    start = weights(method)
    plan = replace(PLAN, images=8, grad_clip=1e-3, optimizers={"a": OptimizerConfig(name="sgd", lr=1.0, beta1=0.0),
                                                          "b": OptimizerConfig()}, lr_factor=lambda c: 1.0)  # fmt: skip
    method.phases = method.phases[:1]
    run(tmp_path, method, plan)
    moved = [(v - start[k]).square().sum() for k, v in weights(method).items() if k in {"a.0.weight", "a.0.bias",
             "a.1.weight", "a.1.bias", "a.2.weight", "a.2.bias"}]  # fmt: skip
    assert math.sqrt(sum(moved)) == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("name", ["adam", "adamw", "rmsprop", "sgd"])
def test_every_optimiser_lowers_a_loss_and_resumes(name: str, tmp_path: Path) -> None:
    plan = replace(PLAN, optimizers={k: OptimizerConfig(name=name, lr=1e-2, beta1=0.5) for k in "ab"})
    whole, broken, again = Toy(), Toy(), Toy()
    run(tmp_path / "w", whole, plan)
    run(tmp_path / "b", broken, plan, callbacks=[StopAt(56)])
    run(tmp_path / "b", again, plan)
    assert all(torch.equal(v, weights(whole)[k]) for k, v in weights(again).items())
    error = {
        name: (method.nets["b"](stream(0, 50)["x"]) - 1).square().mean().item()
        for name, method in (("before", Toy()), ("after", whole))
    }
    assert error["after"] < error["before"]


@pytest.mark.parametrize("name", ["adam", "adamw", "rmsprop", "sgd"])
def test_layers_that_come_into_play_late_begin_with_steps_of_the_rate_and_resume(name: str, tmp_path: Path) -> None:
    def build() -> Toy:
        method = Toy()
        method.nets["b"] = nn.ModuleList([nn.Linear(4, 1, bias=False), nn.Linear(4, 1, bias=False)])
        method.players["b"] = list(method.nets["b"].parameters())

        def turn(batch: Batch, clock: Clock):
            first, late = method.nets["b"]
            x = first(batch["x"]) + (late(batch["x"]) if clock.seen >= 80 else 0)
            return (x - 100).square().mean(), {}

        method.phases = [Phase("b", turn)]
        return method

    plan = replace(PLAN, lr_factor=lambda clock: 1.0, optimizers={k: OptimizerConfig(name=name, lr=1e-3) for k in "ab"})
    whole, short, started = build(), build(), build()
    run(tmp_path / "whole", whole, plan)
    run(tmp_path / "started", started, replace(plan, images=88))
    moved = (started.nets["b"][1].weight - short.nets["b"][1].weight).abs().max().item()
    assert name == "sgd" or 0 < moved < 1.01e-3 / (0.1 if name == "rmsprop" else 1)  # rmsprop corrects no bias
    for at in (40, 120):
        broken, again = build(), build()
        run(tmp_path / f"{at}", broken, plan, callbacks=[StopAt(at)])
        run(tmp_path / f"{at}", again, plan)
        assert all(torch.equal(v, weights(whole)[k]) for k, v in weights(again).items())


def test_unknown_optimiser_is_a_sentence() -> None:
    with pytest.raises(ValueError, match="choose one of adam"):
        OptimizerConfig(name="lion").build([nn.Parameter(torch.zeros(1))])
