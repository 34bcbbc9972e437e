"""Groups of similar pictures that stand for classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import limner
from limner.core.condition import Condition
from limner.core.images import ImageSpec
from limner.core.options import replace
from limner.data import open_source, prepare
from limner.networks import conv
from limner.networks.transfer import Change, take_over
from limner.recipes import gan
from limner.recipes import groups as home
from limner.recipes.groups import find_groups, give_vectors, grouped
from stopping import StopAt


def bars(n: int, channels: int = 3, size: tuple[int, int] = (24, 40)) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of two kinds in turn, n in all: a horizontal or a vertical bar, near the middle, of some brightness. -> [N,H,W,C], kind [N]"""
    rng = np.random.default_rng(0)
    pictures, kinds = np.zeros((n, *size, channels), np.uint8), np.arange(n) % 2
    for picture, kind in zip(pictures, kinds, strict=True):
        at = rng.integers(9, 12)
        place = (slice(at, at + 4), slice(None)) if kind else (slice(None), slice(at, at + 4))
        picture[place] = rng.integers(200, 256)
    return pictures, kinds


def groups_of(images: torch.Tensor, count: int) -> torch.Tensor:
    groups, labels = find_groups(images, count)
    assert labels.equal(groups.of(images))
    return labels


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pictures_of_two_shapes_are_two_groups(channels: int) -> None:
    pictures, kinds = bars(60, channels)
    if channels == 4:
        pictures[..., 3] = 255
    groups = groups_of(torch.from_numpy(pictures).permute(0, 3, 1, 2), 2)
    assert sorted([tuple(set(groups[kinds == kind].tolist())) for kind in (0, 1)]) == [(0,), (1,)]


def test_groups_are_numbered_by_size_and_do_not_depend_on_threads() -> None:
    images = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (500, 1, 16, 16), np.uint8))
    threads = torch.get_num_threads()
    try:
        found = []
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(groups_of(images, 12))
    finally:
        torch.set_num_threads(threads)
    assert found[0].equal(found[1])
    sizes = found[0].bincount().tolist()
    assert sizes == sorted(sizes, reverse=True) and min(sizes) > 0 and len(sizes) <= 12


def test_equal_pictures_make_one_group() -> None:
    assert groups_of(torch.full((20, 3, 8, 8), 7, dtype=torch.uint8), 5).tolist() == [0] * 20


def test_transparent_pixels_have_no_edges() -> None:
    """What a transparent pixel hides is not seen, so it must not decide the group."""
    pictures, kinds = bars(40, 4)
    pictures[..., 3] = 255
    hidden = np.random.default_rng(2).integers(0, 256, pictures.shape, np.uint8)
    clear = pictures[..., :3].sum(-1) == 0
    pictures[clear] = hidden[clear]
    pictures[..., 3] = np.where(clear, 0, 255)
    groups = groups_of(torch.from_numpy(pictures).permute(0, 3, 1, 2), 2)
    assert len(set(groups[kinds == 0].tolist())) == len(set(groups[kinds == 1].tolist())) == 1


def test_the_data_has_the_groups_as_classes() -> None:
    pictures, _ = bars(60)
    plain = prepare(open_source(pictures))
    data = grouped(plain, find_groups(plain.images, 2)[1], 2)
    assert data.classes == ("group 1", "group 2") and data.spec.classes == 2
    assert data.labels is not None and data.labels.bincount().tolist() == [30, 30]
    assert data.fingerprint != plain.fingerprint and plain.labels is None
    assert "groups of similar pictures" in data.notes[-1]
    with pytest.raises(ValueError, match="choose --groups 30 or less"):
        find_groups(plain.images, 31)


def test_the_model_card_says_what_the_classes_are(tmp_path: Path) -> None:
    pictures, _ = bars(60, 1)
    small = {"generator.width": 4, "discriminator.width": 4, "groups": 2, "batch": 8}
    run = limner.train(pictures, out=tmp_path / "run", images=16, changes=small, quiet=True, metric="none", doctor=False)
    card = (run.folder / "README.md").read_text()
    assert "2 groups of similar pictures" in card and "Classes:" not in card


# ---- many groups, by their vectors -------------------------------------------------------------------------------------


NINE = Condition.classes(9)


def with_vectors(condition: Condition = NINE) -> tuple[conv.Generator, conv.Discriminator]:
    torch.manual_seed(0)
    spec = ImageSpec(3, 16, 16, condition)
    nets = (
        conv.Generator(spec, conv.GeneratorConfig(z_size=8, width=8, vectors=5)),
        conv.Discriminator(spec, conv.DiscriminatorConfig(width=8, vectors=5)),
    )
    for net in nets:
        assert net.vectors is not None and not net.vectors.any()
        net.vectors.copy_(torch.randn(9, 5, generator=torch.Generator().manual_seed(1)))
        for parameter in net.parameters():
            torch.nn.init.normal_(parameter, 0, 0.2)
    return nets


def test_networks_see_the_vector_of_a_class_and_blends_are_its_mean() -> None:
    generator, discriminator = (net.eval() for net in with_vectors())
    plain = conv.Generator(ImageSpec(3, 16, 16, Condition.vector(5)), conv.GeneratorConfig(z_size=8, width=8)).eval()
    plain.load_state_dict({key: value for key, value in generator.state_dict().items() if key != "vectors"})
    z, c = torch.randn(4, 8), torch.tensor([8, 0, 3, 3])
    assert torch.equal(generator(z, c), plain(z, generator.vectors[c]))
    blend = torch.zeros(4, 9).scatter(1, c[:, None], 0.5).scatter_add(1, (c[:, None] + 1) % 9, torch.full((4, 1), 0.5))
    mean = (generator.vectors[c] + generator.vectors[(c + 1) % 9]) / 2
    torch.testing.assert_close(generator(z, blend), plain(z, mean))
    x = torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        discriminator.vectors[3] = discriminator.vectors[0]
        logits = discriminator(x, c)
        assert torch.equal(logits[2:], discriminator(x, torch.zeros_like(c))[2:]) and not torch.equal(logits, discriminator(x, c.flip(0)))


def test_vectors_are_for_classes_and_stay_those_of_the_pictures_in_a_transfer() -> None:
    with pytest.raises(ValueError, match="can stand for classes, not for no condition"):
        with_vectors(Condition.none())
    before, now = with_vectors()[0], with_vectors()[0]
    with torch.no_grad():
        now.vectors.mul_(-1)
        before.first.weight.fill_(0.5)
    mine = now.vectors.clone()
    take_over(now, before.state_dict(), Change((3, 3)))
    assert torch.equal(now.vectors, mine) and (now.first.weight == 0.5).all()


@pytest.mark.parametrize(("before", "now"), [(5, None), (None, 5), (5, 5), (0, 5), (5, 0)])
def test_a_transfer_keeps_scales_and_shifts_whatever_the_conditions(before: int | None, now: int | None) -> None:
    """before, now: numbers of the vectors of nine groups, 0 for classes without, None for no classes."""

    def generator(vectors: int | None) -> conv.Generator:
        spec = ImageSpec(3, 16, 16, Condition.none() if vectors is None else NINE)
        return conv.Generator(spec, conv.GeneratorConfig(z_size=8, width=8, vectors=vectors or 0))

    parent, child = generator(before), generator(now)
    norm = parent.norms[0]
    if before is None:
        norm.norm.weight.data.fill_(3.0)
    elif before:
        norm.scale.bias.data.fill_(3.0)
        norm.scale.table.weight.data.normal_()
    else:
        norm.scale.table.weight.data.fill_(3.0)
    take_over(child, parent.state_dict(), Change((3, 3)))
    norm = child.norms[0]
    if now is None:
        assert (norm.norm.weight == 3).all()
    elif now:
        assert (norm.scale.bias == 3).all() and not norm.scale.table.weight.any()  # the axes are those of other pictures
    else:
        assert norm.scale.table.weight.abs().min() > 0.5


def test_the_groups_decide_on_vectors() -> None:
    recipe, (few, many) = gan.PRESETS["spectral"].make(), (home.Groups(torch.zeros(1), torch.zeros(1, 7), torch.rand(n, 7)) for n in (home.MANY - 1, home.MANY))
    assert [home.with_vectors(recipe, many).generator.vectors, home.with_vectors(recipe, many).discriminator.vectors] == [7, 7]
    copied = replace(recipe, {"generator.vectors": 3, "classifier": 1.0})
    assert home.with_vectors(copied, few).generator.vectors == 0
    assert [home.with_vectors(copied, many).generator.vectors, home.with_vectors(copied, many).discriminator.vectors] == [7, 0]
    other = gan.PRESETS["sngan"].make()
    assert home.with_vectors(other, many) is other


def test_a_run_of_many_groups_resumes_and_gives_their_vectors_to_both_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home, "MANY", 4)
    pictures = torch.rand(80, 16, 16, 3).mul(255).to(torch.uint8).numpy()
    small = {"generator.width": 4, "discriminator.width": 4, "groups": 6, "batch": 8}
    whole = limner.train(pictures, out=tmp_path / "whole", images=64, changes=small, quiet=True, metric="none", doctor=False)
    model = limner.load(whole.folder, "cpu")
    kept = home.kept_groups(whole.folder)
    assert kept is not None
    wanted = conv.Generator(model.spec, conv.GeneratorConfig(width=4, vectors=kept.centers.shape[1]))
    give_vectors(wanted, kept)
    torch.testing.assert_close(model.network.vectors.float(), wanted.vectors)
    assert wanted.vectors.square().mean().item() == pytest.approx(1, rel=1e-4) and model.sample(3, seed=0).shape == (3, 3, 16, 16)
    limner.train(pictures, out=tmp_path / "cut", images=64, changes=small, quiet=True, metric="none", doctor=False, callbacks=[StopAt(32)])
    limner.train(pictures, out=tmp_path / "cut", images=64, changes=small, quiet=True, metric="none", doctor=False)
    resumed, unbroken = (load_file(folder / "weights.safetensors") for folder in (tmp_path / "cut", whole.folder))
    assert all(torch.equal(resumed[name], tensor) for name, tensor in unbroken.items())
    with pytest.raises(ValueError, match="those of groups"):
        limner.train(pictures, out=tmp_path / "x", images=8, changes={"generator.vectors": 5}, quiet=True)
    for name, groups, size in (("without", 0, 0), ("with", 6, kept.centers.shape[1])):
        limner.train(pictures, from_=whole.folder, out=tmp_path / name, images=16, groups=groups, quiet=True, metric="none", doctor=False)
        started = limner.load(tmp_path / name, "cpu")
        assert started.spec.classes == groups and started.description["network"]["config"]["vectors"] == size
