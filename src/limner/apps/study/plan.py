"""What each rater sees: a practice round, then a random order of pictures with some of them twice.

A plan is a pure function of the study's key, so that a rater goes on after a restart. The key is secret and random: order, sides
and ids cannot be known from the source code and a seed. Ids are 16 bytes of HMAC-SHA256 under the key, of the rater and the
position, so that the two views of one picture have different ids, and the same picture has other ids for another rater.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

import numpy as np

REAL, FAKE = 0, 1          # kinds of pictures
FIRST, SECOND = 0, 1       # of two runs
PRACTICE = 6               # trials with feedback
REPEATED = 0.1             # share of the trials that are shown twice
LEAST_REPEATED = 2         # trials that are shown twice, of each kind


@dataclass(frozen=True)
class Trial:
    """One question. items: rows of the study's pictures, one, or those at the left and the right.

    id: of the question. pictures: ids of its pictures. repeats: the position of the trial that it repeats.
    """

    id: str
    pictures: tuple[str, ...]
    items: tuple[int, ...]
    practice: bool = False
    repeats: int | None = None


@dataclass(frozen=True)
class Pool:
    """Rows of the pictures of a study: of each kind, or with pairs, where row i of both belong together."""

    kinds: np.ndarray  # int64 [N], REAL or FAKE; of pairs FIRST or SECOND
    pairs: bool

    def rows(self, kind: int) -> np.ndarray:
        """Return the rows of one kind, in an order that was random when they were made."""
        return np.flatnonzero(self.kinds == kind)


def plan(pool: Pool, count: int, key: bytes, rater: int) -> list[Trial]:
    """Return the trials of a rater, counted from 0: practice, then `count` pictures of each kind or `count` pairs, and repeats.

    Raters take the pictures in turn, each the next `count`; when all are used, the first come again. Of pairs there is no
    practice round: there is no right answer.
    """
    rng = np.random.default_rng(list(_digest(key, f"order {rater}")))
    practice: list[tuple[int, ...]] = []
    if pool.pairs:
        first, second = pool.rows(FIRST), pool.rows(SECOND)
        chosen = _turn(len(first), count, rater)
        items: list[tuple[int, ...]] = [(int(first[i]), int(second[i])) for i in chosen]
        order = _with_repeats([items], rng)
        swapped = _balanced(len(order), rng)
        shown = [(pair[::-1] if swap else pair, repeats) for (pair, repeats), swap in zip(order, swapped, strict=True)]
    else:
        groups: list[list[tuple[int, ...]]] = []
        for kind in (REAL, FAKE):
            rows = pool.rows(kind)
            practice += [(int(row),) for row in rows[: PRACTICE // 2]]
            rest = rows[PRACTICE // 2 :]
            groups.append([(int(rest[i]),) for i in _turn(len(rest), count, rater)])
        practice = [practice[i] for i in rng.permutation(len(practice))]
        shown = _with_repeats(groups, rng)
    trials = [(one, None) for one in practice] + [
        (one, None if repeats is None else repeats + len(practice)) for one, repeats in shown
    ]
    return [
        Trial(
            _id(key, rater, position, "trial"),
            tuple(_id(key, rater, position, f"picture {side}") for side in range(len(one))),
            one,
            position < len(practice),
            repeats,
        )
        for position, (one, repeats) in enumerate(trials)
    ]


def repeated(count: int) -> int:
    """Return how many of `count` trials of a kind are shown twice."""
    return min(count, max(LEAST_REPEATED, round(REPEATED * count)))


def _turn(available: int, count: int, rater: int) -> list[int]:
    """Return the next `count` of the available numbers for a rater, each at most once."""
    assert available >= count, (available, count)
    return [(rater * count + i) % available for i in range(count)]


def _with_repeats(groups: list[list[tuple[int, ...]]], rng: np.random.Generator) -> list[tuple[tuple[int, ...], int | None]]:
    """Return (items, position that it repeats or None) in random order; repeats come in the second half, originals in the first.

    Half of each group's trials, rounded up, are in the first half, so that the share of a kind says nothing about the position.
    """
    early: list[tuple[int, ...]] = []
    late: list[tuple[tuple[int, ...], tuple[int, ...] | None]] = []
    for group in groups:
        shuffled = [group[i] for i in rng.permutation(len(group))]
        middle = (len(group) + 1) // 2
        early += shuffled[:middle]
        late += [(items, None) for items in shuffled[middle:]]
        late += [(items, items) for items in shuffled[: min(repeated(len(group)), middle)]]
    first = [early[i] for i in rng.permutation(len(early))]
    position = {items: i for i, items in enumerate(first)}
    last = [late[i] for i in rng.permutation(len(late))]
    return [(items, None) for items in first] + [(items, None if of is None else position[of]) for items, of in last]


def _balanced(count: int, rng: np.random.Generator) -> np.ndarray:
    """Return bool [count] in random order, of which half are true: neither run is more often at the left."""
    return rng.permutation(np.arange(count) % 2 == 0)


def _digest(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def _id(key: bytes, rater: int, position: int, what: str) -> str:
    return _digest(key, f"{what} {position} of rater {rater}")[:16].hex()
