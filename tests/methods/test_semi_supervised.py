"""Losses in closed form, whose turn moves whom, and runs that resume exactly and learn."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

import limner
from limner.core.condition import Condition
from limner.core.images import ImageSpec
from limner.losses import semi_supervised as losses
from limner.methods.phase import Batch, Clock
from limner.methods.propagation import PropagatedLabels
from limner.methods.semi_supervised import SemiSupervised, masked_mean
from limner.networks import conv, convnet, warp
from limner.training.loop import View

SPEC = ImageSpec(1, 16, 16, Condition.classes(3))


@pytest.fixture(autouse=True)
def _no_speed_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limner.runs.decide.measure", lambda *args, **more: 100.0)


# ---- losses ----------------------------------------------------------------------------------------------------------


def test_discriminator_is_a_softmax_over_one_more_class() -> None:
    """Salimans et al. 2016, section 5: with l_{K+1} = 0, D(x) = Z / (Z + 1) = 1 - p(K+1 | x)."""
    logits = torch.randn(50, 4, dtype=torch.double) * 3
    explicit = F.log_softmax(torch.cat([logits, torch.zeros(50, 1, dtype=torch.double)], 1), 1)
    torch.testing.assert_close(losses.generated_loss(logits), -explicit[:, -1])
    torch.testing.assert_close(losses.real_loss(logits), -torch.log(explicit[:, :-1].exp().sum(1)))
    z = logits.exp().sum(1)
    torch.testing.assert_close(torch.sigmoid(losses.real_logit(logits)), z / (z + 1))
    # the class given that the picture is real is the softmax of the K logits alone
    torch.testing.assert_close((explicit[:, :-1] + losses.real_loss(logits)[:, None]), F.log_softmax(logits, 1))


def test_entropy_in_closed_form() -> None:
    values = losses.entropy(torch.tensor([[0.0, 0.0, 0.0, 0.0], [100.0, 0.0, 0.0, 0.0]]))
    assert values.tolist() == pytest.approx([np.log(4), 0.0], abs=1e-6)
    p = np.array([0.5, 0.3, 0.2])
    assert losses.entropy(torch.tensor(np.log(p))[None]).item() == pytest.approx(-(p * np.log(p)).sum())


def test_pull_away_in_closed_form() -> None:
    rows = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])
    assert losses.pull_away(rows).item() == pytest.approx((0.0 + 0.5 + 0.5) / 3)
    assert losses.pull_away(torch.eye(5)).item() == 0
    assert losses.pull_away(torch.ones(5, 3)).item() == pytest.approx(1.0)
    assert losses.pull_away(torch.ones(1, 3)).item() == 0


def test_masked_mean_is_that_of_the_chosen_rows() -> None:
    x, mask = torch.randn(6, 3), torch.tensor([True, False, True, True, False, False])
    torch.testing.assert_close(masked_mean(x, mask), x[mask].mean(0))
    assert masked_mean(x, torch.zeros(6, dtype=torch.bool)).tolist() == [0, 0, 0]


# ---- augmentation ----------------------------------------------------------------------------------------------------


def test_warp_of_strength_zero_or_centered_numbers_is_the_identity() -> None:
    x = torch.rand(4, 3, 20, 12) * 2 - 1
    assert warp.warp(x, torch.rand(4, warp.DRAWS), 0.0) is x
    torch.testing.assert_close(warp.warp(x, torch.full((4, warp.DRAWS), 0.5)), x, atol=1e-5, rtol=0)


def test_warp_shifts_and_rotates_by_its_numbers() -> None:
    x = torch.zeros(1, 1, 17, 17)
    x[0, 0, 8, 12] = 1.0
    u = torch.full((1, warp.DRAWS), 0.5)
    u[0, 4] = 0.5 + 2 / (17 * 2 * warp.MAX_SHIFT)  # output to input: the content moves left by two pixels
    assert warp.warp(x, u)[0, 0, 8, 10].item() == pytest.approx(1.0, abs=1e-4)
    bent = torch.full((1, warp.DRAWS), 0.5)
    bent[0, warp.AFFINE_DRAWS : warp.AFFINE_DRAWS + warp.CELLS**2] = 0.5 + 2 / (17 * 2 * warp.MAX_DISPLACEMENT)  # alike everywhere
    assert warp.warp(x, bent, 0.0, 1.0)[0, 0, 8, 10].item() == pytest.approx(1.0, abs=1e-4)
    turned = torch.full((1, warp.DRAWS), 0.5)
    turned[0, 0] = 1.0  # 30 degrees at a radius of 4
    row, column = divmod(int(warp.warp(x, turned)[0, 0].argmax()), 17)
    assert abs(row - 8) == 2 and column in (11, 12)


# ---- turns -----------------------------------------------------------------------------------------------------------


def test_strokes_become_wider_and_narrower() -> None:
    x = -torch.ones(3, 1, 28, 28)
    x[:, :, :, 10:14] = 1.0  # a stroke of 4 pixels
    u = torch.tensor([[1.0], [0.5], [0.0]])
    made = warp.stroke(x, u)[:, 0, 14]
    assert [(row > 0).sum().item() for row in made] == [6, 4, 2]
    torch.testing.assert_close(made[1], x[1, 0, 14])
    assert (warp.stroke(x, u, 0.5)[0, 0, 14, 9] == 0.0).item()  # half of the way between background and stroke
    assert warp.stroke(x, u, 0.0) is x


def propagated(labels: list[int]) -> PropagatedLabels:
    """Labels of pictures that are given, without a propagation."""
    return PropagatedLabels(torch.tensor(labels), 3, lambda: torch.empty(0), lambda: torch.empty(0))


def method(**more: Any) -> SemiSupervised:
    torch.manual_seed(0)
    generator = conv.Generator(ImageSpec(1, 16, 16), conv.TINY_GENERATOR) if more.get("adversarial", 1.0) else None
    return SemiSupervised(convnet.Classifier(SPEC, convnet.TINY), generator, **{"labeled_every": 4} | more)


def batch_of(n: int = 16, every: int = 4) -> Batch:
    torch.manual_seed(1)
    labels = torch.where(torch.arange(n) % every == 0, torch.arange(n) % 3, -1)
    tensors = {"image": torch.rand(n, 1, 16, 16) * 2 - 1, "label": labels, "row": torch.arange(n) % 4}
    return Batch(tensors, 0, n, (0, 0, 0))


SPREAD: dict[str, Any] = {"propagated": propagated([2, -1, 0, 1])}
ALL: dict[str, Any] = {"pull_away": 0.5, "entropy": 0.5} | SPREAD


@pytest.mark.parametrize("more", [{}, ALL, {"adversarial": 0.0} | SPREAD, {"labeled_every": 1, "adversarial": 0.0}])
def test_each_turn_gives_gradients_to_its_player_only(more: dict[str, Any]) -> None:
    algorithm = method(**more)
    made = algorithm.method
    batch = batch_of(every=more.get("labeled_every", 4))
    assert [phase.player for phase in made.phases] == ["classifier", "generator"][: 1 if more.get("adversarial") == 0 else 2]
    for turn, phase in enumerate(made.phases):
        for player, parameters in made.players.items():
            for p in parameters:
                p.grad = None
                p.requires_grad_(player == phase.player)
        loss, terms = phase.loss(batch.turn(turn), Clock(0, 100, 16))
        assert loss.shape in ((16,), ()) and all(v.ndim == 0 and not v.requires_grad for v in terms.values())
        loss.sum().backward()
        for player, parameters in made.players.items():
            moved = [p.grad is not None and bool(p.grad.any()) for p in parameters]
            assert any(moved) == (player == phase.player), (phase.loss.__name__, player)


def test_classifier_turn_is_the_sum_of_its_means() -> None:
    """Labeled rows without augmentation: the mean over the batch is the mean of each kind of row, whatever its share."""
    algorithm = method(strength=0.0, shift=False, entropy=0.5)
    batch = batch_of()
    loss, terms = algorithm.classifier_turn(batch, Clock(0, 100, 16))
    known = batch["label"] >= 0
    net = algorithm.classifier
    with torch.no_grad():
        logits = net(batch["image"])
        fakes = net(algorithm.generator(batch.normal("z", 8)[~known]))
    supervised = F.cross_entropy(logits[known], batch["label"][known])
    adversarial = losses.real_loss(logits[~known]).mean() + losses.generated_loss(fakes).mean()
    expected = supervised + adversarial + 0.5 * losses.entropy(logits[~known]).mean()
    torch.testing.assert_close(loss.mean(), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(terms["d_loss"], adversarial, rtol=1e-4, atol=1e-4)


def test_propagated_labels_are_taught_by_the_row_and_missing_ones_not() -> None:
    algorithm = method(adversarial=0.0, strength=0.0, propagate=0.7, **SPREAD)
    batch = batch_of()
    loss, terms = algorithm.classifier_turn(batch, Clock(0, 100, 16))
    known = batch["label"] >= 0
    with torch.no_grad():
        logits = algorithm.classifier(batch["image"])
    taught = torch.tensor([2, -1, 0, 1])[batch["row"]][~known]
    per_row = F.cross_entropy(logits[~known], taught, ignore_index=-1, reduction="none")
    assert (per_row == 0).sum() == (taught == -1).sum() > 0
    torch.testing.assert_close(terms["propagated_loss"], per_row.mean())
    expected = F.cross_entropy(logits[known], batch["label"][known]) + 0.7 * per_row.mean()
    torch.testing.assert_close(loss.mean(), expected)


def test_slices_add_up_to_the_whole_where_no_mean_crosses_rows() -> None:
    algorithm = method(adversarial=0.0, entropy=0.5, **SPREAD)
    batch = batch_of()
    whole, _ = algorithm.classifier_turn(batch, Clock(0, 100, 16))
    parts = [algorithm.classifier_turn(batch.rows(slice(i, i + 5)), Clock(0, 100, 16))[0] for i in (0, 5, 10)]
    parts.append(algorithm.classifier_turn(batch.rows(slice(15, 16)), Clock(0, 100, 16))[0])
    torch.testing.assert_close(torch.cat(parts), whole)


def test_slice_of_labeled_rows_alone_is_a_turn() -> None:
    algorithm = method()
    one = batch_of().rows(slice(0, 1))
    assert algorithm.classifier_turn(one, Clock(0, 100, 16))[0].isfinite().all()
    loss, _ = algorithm.generator_turn(one, Clock(0, 100, 16))
    assert loss.tolist() == [0.0] and loss.requires_grad


# ---- whole runs ------------------------------------------------------------------------------------------------------


class Stop(Exception):
    pass


class StopAt:
    """A callback that dies in the middle of a run, as a machine does."""

    def __init__(self, seen: int) -> None:
        self.seen = seen

    def due(self, clock: Any) -> bool:
        return bool(clock.seen >= self.seen)

    def __call__(self, view: View) -> None:
        raise Stop


SMALL = {"network": convnet.TINY, "adversarial": 1.0, "generator.width": 8, "generator.z_size": 8, "batch": 16, "labels_per_class": 8}


def test_resume_is_exact(squares: Path, tmp_path: Path) -> None:
    common: dict[str, Any] = {"recipe": "classifier", "device": "cpu", "quiet": True, "images": 640, "checkpoint_minutes": 0, "threads": 1,
                              "changes": SMALL | {"entropy": 0.1, "pull_away": 0.1, "validation": 0.25}}  # fmt: skip
    whole = limner.train(squares, out=tmp_path / "whole", **common).folder
    with pytest.raises(Stop):
        limner.train(squares, out=tmp_path / "cut", callbacks=[StopAt(160)], **common)
    cut = limner.train(squares, out=tmp_path / "cut", **common).folder
    one, two = (load_file(folder / "weights.safetensors") for folder in (whole, cut))
    assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize("recipe", ["classifier", "classifier-supervised"])
def test_recipes_learn_two_classes(recipe: str, squares: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"network": convnet.TINY, "batch": 16, "labels_per_class": 8}
    run = limner.train(squares, recipe=recipe, images=3_000, out=tmp_path / "run", device="cpu", quiet=True,
                       changes=changes | {"strength": 0.2, "elastic": 0.0, "stroke": 0.0})  # fmt: skip
    model = limner.load(run.folder, "cpu")
    with np.load(squares) as given:
        x, y = torch.from_numpy(given["images"])[:, None], torch.from_numpy(given["labels"])
    with torch.no_grad():
        right = (model.network(x.float() / 127.5 - 1).argmax(1) == y).float().mean().item()
    assert right > 0.95


@pytest.mark.slow
def test_two_ranks_give_what_one_gives(squares: Path, tmp_path: Path) -> None:
    # plain gradient steps, since Adam divides by |g|; batches of 10, of which the ranks have different numbers of labeled rows
    more = ["--recipe", "classifier", "--network.width", "8", "--generator.width", "8", "--batch", "10", "--labeled-every", "4", "--images", "40"]
    more += ["--sync-batch-norm", "--adversarial", "1", "--labels-per-class", "8", "--entropy", "0.1", "--precision", "fp32", "--device", "cpu", "--quiet"]
    for player in ("classifier", "generator"):
        more += [f"--{player}-optimizer.name", "sgd", f"--{player}-optimizer.lr", "0.02", f"--{player}-optimizer.beta1", "0"]
    found = []
    for ranks in (1, 2):
        start = [sys.executable, *(["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"] if ranks == 2 else [])]
        command = [*start, "-m", "limner", "train", str(squares), *more, "--out", str(tmp_path / str(ranks))]
        done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found.append(load_file(tmp_path / str(ranks) / "weights.safetensors"))
    one, two = found
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=2e-4, atol=2e-5, msg=lambda m, key=key: f"{key}: {m}")
