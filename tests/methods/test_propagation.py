"""Neighbors, the propagation of labels in closed form, and when it is believed and renewed."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from limner.core.condition import UNLABELED
from limner.methods import propagation
from limner.methods.phase import Clock
from limner.methods.propagation import (
    ALPHA,
    NEIGHBORS,
    PropagatedLabels,
    affinity,
    found_when_hidden,
    least_share,
    neighbors,
    propagate,
    strongest,
)


def unit(n: int, width: int, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(n, width, generator=torch.Generator().manual_seed(seed)), dim=1)


def arcs(n: int) -> tuple[Tensor, Tensor]:
    """Two circles of latitude on a sphere, n points each with a gap in each circle, and which one: [2n,3], [2n]"""
    angle = torch.linspace(0, 5.5, n).repeat(2)
    height = torch.tensor([0.3, -0.3]).repeat_interleave(n)
    width = (1 - height.square()).sqrt()
    return torch.stack([angle.cos() * width, angle.sin() * width, height], 1), torch.arange(2).repeat_interleave(n)


def given(kinds: Tensor, *rows: int) -> Tensor:
    labels = torch.full_like(kinds, UNLABELED)
    labels[list(rows)] = kinds[list(rows)]
    return labels


def test_neighbors_are_the_nearest_other_rows() -> None:
    x = unit(1203, 6)  # more than are compared at once
    numbers, distances = neighbors(x, 4)
    every = torch.cdist(x.double(), x.double()).square().fill_diagonal_(torch.inf)
    expected = every.topk(4, largest=False)
    assert torch.equal(numbers, expected.indices)
    torch.testing.assert_close(distances.double(), expected.values, atol=1e-5, rtol=1e-4)
    assert neighbors(unit(3, 2), 10)[0].shape == (3, 2)


def test_affinity_is_symmetric_and_normalized() -> None:
    matrix = affinity(*neighbors(unit(200, 5), 7)).to_dense()
    torch.testing.assert_close(matrix, matrix.T)
    # the matrix of Zhou et al. has the eigenvalue 1, which no other exceeds
    assert torch.linalg.eigvalsh(matrix.double()).max().item() == pytest.approx(1.0, abs=1e-5)
    assert (matrix >= 0).all() and matrix.diagonal().sum() == 0


def test_affinity_of_three_points_in_closed_form() -> None:
    """With two neighbors each, the scale of a point is its distance to the farther one."""
    angle = torch.tensor([0.0, 0.3, 0.9])
    x = torch.stack([angle.cos(), angle.sin()], 1)
    matrix = affinity(*neighbors(x, 2)).to_dense()
    d = {pair: 2 - 2 * torch.cos(angle[pair[0]] - angle[pair[1]]) for pair in ((0, 1), (0, 2), (1, 2))}
    scale = torch.stack([d[0, 2], d[1, 2], d[0, 2]]).sqrt()
    w = torch.zeros(3, 3)
    for (i, j), square in d.items():
        w[i, j] = w[j, i] = torch.exp(-square / (scale[i] * scale[j]))
    root = w.sum(1).sqrt()
    torch.testing.assert_close(matrix, w / root[:, None] / root, atol=1e-5, rtol=1e-5)


def test_propagation_solves_the_equation_of_the_paper() -> None:
    matrix = affinity(*neighbors(unit(300, 4), NEIGHBORS))
    labels = torch.full((300,), UNLABELED)
    labels[::29] = torch.arange(len(labels[::29])) % 3
    found = propagate(matrix, labels, 3).double()
    y = F.one_hot(labels.clamp_min(0), 3) * (labels != UNLABELED)[:, None]
    exact = torch.linalg.solve(torch.eye(300, dtype=torch.double) - ALPHA * matrix.to_dense().double(), y.double())
    torch.testing.assert_close(found, exact, atol=2e-3 * exact.max().item(), rtol=0)
    assert torch.equal(strongest(found)[0], exact.argmax(1))


def test_one_label_each_is_enough_for_two_circles() -> None:
    x, kinds = arcs(60)
    labels = given(kinds, 0, 119)  # at opposite ends: the nearest label is the wrong one for half of each circle
    found, share = strongest(propagate(affinity(*neighbors(x, 4)), labels, 2))
    assert torch.equal(found, kinds)
    nearest = torch.cdist(x, x[[0, 119]]).argmin(1)
    assert (nearest != kinds).float().mean() > 0.3
    assert (share > 0.5).all() and (share <= 1).all()


def test_pictures_without_a_link_to_a_label_get_none() -> None:
    x = torch.cat([unit(30, 3) * torch.tensor([1.0, 1e-3, 1e-3]), unit(30, 3) * torch.tensor([1e-3, 1e-3, 1.0])])
    x = F.normalize(torch.where(x.abs() > 1e-2, x.abs(), x), dim=1)  # two separate heaps
    labels = torch.full((60,), UNLABELED)
    labels[3] = 1
    found, _ = strongest(propagate(affinity(*neighbors(x, 5)), labels, 2))
    assert found[:30].tolist() == [1] * 30 and found[30:].tolist() == [UNLABELED] * 30


def test_hiding_tells_reliable_labels_from_chance() -> None:
    x, kinds = arcs(150)
    some = given(kinds, *range(0, 300, 10))
    shares, right = found_when_hidden(affinity(*neighbors(x, 4)), some, 2)
    assert len(right) == 30 and right.all() and least_share(shares, right) == 0
    noise = unit(300, 20)
    shares, right = found_when_hidden(affinity(*neighbors(noise, 10)), some, 2)
    assert 0.2 < right.float().mean() < 0.8


def test_least_share_keeps_as_many_as_are_reliable() -> None:
    shares = torch.tensor([0.9, 0.5, 0.8, 0.7, 0.6, 0.4])
    right = torch.tensor([True, False, True, True, True, False])  # 4 of the first 5 are right, 4 of 6 are not enough
    assert least_share(shares, right) == pytest.approx(0.5)
    assert least_share(shares, torch.zeros(6, dtype=torch.bool)) > 1
    assert least_share(shares, torch.ones(6, dtype=torch.bool)) == 0
    assert least_share(torch.empty(0), torch.empty(0, dtype=torch.bool)) == 0


def test_each_class_is_hidden_in_parts_whatever_the_order() -> None:
    """Labels that repeat with the period of the folds: each fold would hide a whole class."""
    kinds = torch.arange(200) % 5
    x = F.normalize(F.one_hot(kinds, 5) + 0.01 * unit(200, 5), dim=1)
    labels = given(kinds, *range(20))
    shares, right = found_when_hidden(affinity(*neighbors(x, 10)), labels, 5)
    assert len(shares) == 20 and right.all()


def test_one_label_a_class_cannot_be_tested_and_is_used() -> None:
    kinds = torch.arange(90) % 3
    propagated = made(F.normalize(F.one_hot(kinds, 3) + 0.01 * unit(90, 3), dim=1), given(kinds, 0, 1, 2), 3)
    pass_time(propagated, Clock(0, 90, 10))
    assert propagated.tested == 0 and propagated.taught == 1 and torch.equal(propagated.labels, kinds)


def test_equal_pictures_keep_their_link_to_others() -> None:
    x, kinds = arcs(60)
    x[20:34] = x[20]  # more than have a place among their neighbors
    found, _ = strongest(propagate(affinity(*neighbors(x, 6)), given(kinds, 0, 119), 2))
    assert torch.equal(found[20:34], kinds[20:34])


def test_the_labels_of_other_pictures_are_refused() -> None:
    x, kinds = arcs(50)
    one, two = made(x, given(kinds, 0, 99)), made(x[:90], given(kinds[:90], 0))
    with pytest.raises(RuntimeError, match="90 labels are expected"):
        two.load_state_dict(one.state_dict())


def made(x: Tensor, labels: Tensor, classes: int = 2, features: Tensor | None = None) -> PropagatedLabels:
    return PropagatedLabels(labels, classes, lambda: x, lambda: x if features is None else features)


def pass_time(propagated: PropagatedLabels, clock: Clock) -> None:
    if propagated.due(clock):
        propagated.run(clock)


def test_given_labels_stay_and_unreliable_ones_are_not_used() -> None:
    _, kinds = arcs(150)
    wrong = given(kinds, *range(0, 300, 10))
    noise = made(unit(300, 20), wrong)
    pass_time(noise, Clock(0, 1000, 10))
    kept = wrong != UNLABELED
    assert torch.equal(noise.labels[kept], wrong[kept])
    assert noise.surest < 0.5 and abs(noise.taught - noise.surest) < 0.11 and noise.tested == 30


def test_labels_are_renewed_with_the_features_of_the_network() -> None:
    x, kinds = arcs(150)
    labels = given(kinds, *range(0, 300, 10))
    apart = F.one_hot(kinds, 2).float() + 0.01 * unit(300, 2)  # a network that has learned the classes
    half = F.normalize(torch.cat([x, unit(300, 30)], 1), dim=1)  # descriptors that are not perfect
    propagated = made(half, labels, features=apart)
    wrong = []
    for seen in (0, 299, 300, 600, 900):
        pass_time(propagated, Clock(seen, 1200, 10))  # the budget allows for 1200 // (2 * 300) = 2 renewals, after 400 and 800 images
        wrong.append((propagated.propagations, int((propagated.labels != kinds).sum())))
    assert [n for n, _ in wrong] == [1, 1, 1, 2, 3]
    assert wrong[0][1] > wrong[3][1]


def test_short_runs_renew_nothing() -> None:
    x, kinds = arcs(50)
    propagated = made(x, given(kinds, 0, 99))
    for seen in range(0, 190, 10):
        pass_time(propagated, Clock(seen, 190, 10))
    assert propagated.propagations == 1


def test_what_remains_is_what_the_last_propagation_took_for_each_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that stands still but for the propagation (4 s, and 2 more with features), the descriptors (10 s) and the test (1 s)."""
    x, kinds = arcs(150)
    propagated, now = made(x, given(kinds, *range(0, 300, 10))), [0.0]

    def later(name: str, seconds: float) -> None:
        run = getattr(propagation, name)
        monkeypatch.setattr(propagation, name, lambda *values: (now.__setitem__(0, now[0] + seconds), run(*values))[1])

    monkeypatch.setattr(propagation.time, "monotonic", lambda: now[0])
    later("affinity", 4.0), later("found_when_hidden", 1.0), later("principal_axes", 2.0)
    propagated.descriptors = lambda: (now.__setitem__(0, now[0] + 10), x)[1]
    pass_time(propagated, Clock(0, 1800, 10))
    assert propagated.seconds == 15
    cost = 0.03  # seconds of training per image: the features of 300 pictures are estimated at 3 s
    assert propagated.remaining(Clock(0, 1800, 10), cost) == pytest.approx(3 * (4 + 3))
    assert propagated.remaining(Clock(0, 599, 10), cost) == 0
    pass_time(propagated, Clock(450, 1800, 10))
    assert propagated.seconds == 21 and propagated.remaining(Clock(450, 1800, 10), cost) == 2 * 6


def test_a_checkpoint_holds_labels_and_the_number_of_renewals() -> None:
    x, kinds = arcs(50)
    one, two = (made(x, given(kinds, *range(0, 100, 9))) for _ in range(2))
    pass_time(one, Clock(0, 1000, 10))
    two.load_state_dict(one.state_dict())
    for each in (one, two):
        pass_time(each, Clock(500, 1000, 10))
    assert one.propagations == two.propagations == 3 and torch.equal(one.labels, two.labels) and one.taught == two.taught


def test_the_number_of_threads_changes_nothing() -> None:
    x, labels = unit(2500, 30), torch.arange(2500) % 5
    labels[torch.arange(2500) % 50 >= 5] = UNLABELED
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(propagate(affinity(*neighbors(x, 10)), labels, 5))
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-4)
    assert torch.equal(found[0].argmax(1), found[1].argmax(1))
