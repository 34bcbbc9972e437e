"""Pools, contrast, whose turn moves whom, and runs that resume exactly and learn."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import limner
from limner.data.pairs import Pairs, prepare_pairs
from limner.methods.cut import patch_nce
from limner.methods.phase import Batch, Clock
from limner.methods.pool import Pool
from limner.networks import patch, resnet, unet
from limner.recipes import translate
from limner.training.iteration import Plan
from limner.training.trial import measure

CPU = torch.device("cpu")
NETS = {"cyclegan": resnet.TINY, "cut": resnet.TINY, "pix2pix": unet.TINY}
RECIPES = list(NETS)


@pytest.fixture(autouse=True)
def _no_speed_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limner.runs.decide.measure", lambda *args, **more: 100.0)


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two .npz of 40 gray 16x16 pictures: random boxes, and the same with black and white exchanged."""
    rng = np.random.default_rng(0)
    images = np.full((40, 16, 16), 30, np.uint8)
    for image in images:
        top, left = rng.integers(0, 10, 2)
        image[top : top + 6, left : left + 6] = rng.integers(150, 255)
    folder = tmp_path_factory.mktemp("sides")
    np.savez(folder / "a.npz", images=images)
    np.savez(folder / "b.npz", images=255 - images)
    return folder / "a.npz", folder / "b.npz"


def game(name: str, sides: tuple[Path, Path], **more: object) -> tuple[translate.Any, Pairs]:
    made = translate.PRESETS[name].make()
    recipe = translate.PRESETS[name].make().__class__(
        **{"network": NETS[name], "discriminator": patch.Config(width=8), "batch": made.batch} | more  # type: ignore[arg-type]
    )
    pairs = prepare_pairs(*sides, paired=name == "pix2pix")
    torch.manual_seed(0)
    return (*translate.method_of(recipe, pairs.spec, CPU)[:2], recipe), pairs


# ---- the pool --------------------------------------------------------------------------------------------------------


def rows(values: list[float], seen: int) -> tuple[torch.Tensor, Batch]:
    made = torch.tensor(values).view(-1, 1, 1, 1)
    return made, Batch({"a": made}, 0, len(made), (0, seen, 1))


def test_pool_fills_then_exchanges_half() -> None:
    pool = Pool(50, (1, 1, 1))
    given, returned = [], []
    for i in range(1000):
        made, batch = rows([4.0 * i + k for k in range(4)], i)
        shown = pool.exchange(made, batch)
        given += made.flatten().tolist()
        returned += shown.flatten().tolist()
    assert returned[:50] == given[:50]  # while it fills
    late, back = np.array(given[400:]), np.array(returned[400:])
    assert abs((late == back).mean() - 0.5) < 0.03
    assert set(returned) <= set(given) and len(set(returned[50:])) == len(returned[50:])  # once out, it is gone
    # a picture stays 2 * 50 pictures on average before it comes back
    assert abs((late - back)[late != back].mean() - 100) < 12


def test_pool_restores_and_goes_on_alike() -> None:
    one, two = Pool(5, (1, 1, 1)), Pool(5, (1, 1, 1))
    for i in range(10):
        one.exchange(*rows([i, i + 0.5], i))
    two.load_state_dict({k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in one.state_dict().items()})
    for i in range(10, 20):
        assert torch.equal(one.exchange(*rows([i, i + 0.5], i)), two.exchange(*rows([i, i + 0.5], i)))


def test_measuring_leaves_the_pools_as_they_were(sides: tuple[Path, Path]) -> None:
    (method, moves, recipe), pairs = game("cyclegan", sides, pool=6)
    before = {k: v.clone() for k, v in method.memory["made_a"].state_dict().items() if isinstance(v, torch.Tensor)}
    plan = Plan(images=100, batch=4, optimizers=moves)
    measure(method, lambda first, n: pairs.batch(first, n, 0), plan, CPU, seconds=0.1)
    assert method.memory["made_a"].filled == 0 and torch.equal(method.memory["made_a"].pictures, before["pictures"])


# ---- contrast --------------------------------------------------------------------------------------------------------


def test_patch_nce_in_closed_form() -> None:
    eye = torch.eye(4)[None]
    expected = -math.log(math.exp(1 / 0.07) / (math.exp(1 / 0.07) + 3))
    assert patch_nce(eye, eye).item() == pytest.approx(expected, abs=1e-5)
    same = torch.ones(2, 4, 3) / 3**0.5
    assert patch_nce(same, same).tolist() == pytest.approx([math.log(4)] * 2)
    assert patch_nce(eye, eye.flip(1)).item() > 10


# ---- turns -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("objective", ["least-squares", "relativistic"])
def test_each_turn_gives_gradients_to_its_player_only(name: str, objective: str, sides: tuple[Path, Path]) -> None:
    more: dict[str, object] = {}
    if name != "pix2pix":  # with and without its terms by choice
        more = {"identity": 2.5} if objective == "least-squares" else {"penalty": "r1r2"}
    (method, _, _), pairs = game(name, sides, objective=objective, **more)
    batch = Batch({k: v.float() / 127.5 - 1 for k, v in pairs.batch(0, 4, 0).items()}, 0, 4, (0, 0, 0))
    for phase in method.phases:
        for player, parameters in method.players.items():
            for p in parameters:
                p.grad = None
                p.requires_grad_(player == phase.player)
        loss, terms = phase.loss(batch, Clock(0, 100, 4))
        assert loss.shape == (4,) and all(v.ndim == 0 and not v.requires_grad for v in terms.values())
        loss.sum().backward()
        for player, parameters in method.players.items():
            moved = [p.grad is not None and bool(p.grad.any()) for p in parameters]
            assert any(moved) == (player == phase.player), (phase.loss.__name__, player)


def test_cycle_states_its_terms(sides: tuple[Path, Path]) -> None:
    """With translators that do nothing, cycles and identities cost nothing and the discriminators' verdict is left."""
    (method, _, _), pairs = game("cyclegan", sides, identity=2.5)
    for net in method.nets["translators"].values():
        net.forward = lambda x: x
    batch = Batch({k: v.float() / 127.5 - 1 for k, v in pairs.batch(0, 4, 0).items()}, 0, 4, (0, 0, 0))
    loss, terms = method.phases[0].loss(batch, Clock(0, 100, 4))
    assert terms["cycle"] == 0 and terms["identity"] == 0
    expected = sum(
        0.5 * (discriminator(batch[side]) - 1).square().mean((1, 2))
        for discriminator, side in ((method.nets["discriminator_a"], "b"), (method.nets["discriminator_b"], "a"))
    )
    torch.testing.assert_close(loss, expected)


# ---- whole runs ------------------------------------------------------------------------------------------------------


class Stop(Exception):
    pass


class StopAt:
    """A hook that dies in the middle of a run, as a machine does."""

    def __init__(self, seen: int) -> None:
        self.seen = seen

    def due(self, clock: Clock) -> bool:
        return clock.seen == self.seen

    def __call__(self, view: object) -> None:
        raise Stop


@pytest.mark.parametrize("name", RECIPES)
def test_resumed_equals_unbroken(name: str, sides: tuple[Path, Path], tmp_path: Path) -> None:
    changes = {"network": NETS[name], "discriminator": patch.Config(width=8)} | ({"pool": 6} if name == "cyclegan" else {})

    def train(out: str, *callbacks: StopAt) -> Path:
        return limner.train(*sides, recipe=name, images=48, out=tmp_path / out, changes=changes,
                            checkpoint_minutes=0, device="cpu", callbacks=callbacks).folder  # fmt: skip

    with pytest.raises(Stop):
        train("broken", StopAt(28))
    whole, again = (load_file(train(k) / "checkpoint/latest.safetensors") for k in ("whole", "broken"))
    assert whole.keys() == again.keys() and all(torch.equal(v, again[k]) for k, v in whole.items())
    assert name != "cyclegan" or "memory.made_a.pictures" in whole


def test_pix2pix_learns_the_negative(sides: tuple[Path, Path], tmp_path: Path) -> None:
    x = np.load(sides[0])["images"][:, None]
    run = limner.train(*sides, recipe="pix2pix", images=1200, out=tmp_path / "run", ema_half_life=100.0, device="cpu",
                       changes={"network": unet.TINY, "discriminator": patch.Config(width=8), "translator_optimizer.lr": 2e-3}).folder  # fmt: skip
    model = limner.load(run)
    made = np.stack([np.asarray(model.translate(picture)) for picture in x])
    assert np.abs(made.astype(float) - (255 - x[:, 0])).mean() < 20  # identity: about 150
    assert "limner translate" in (run / "README.md").read_text()


def test_one_set_for_two_and_two_for_one_are_sentences(sides: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="trained on one set"):
        limner.train(*sides, recipe="spectral", images=16, out=tmp_path)
