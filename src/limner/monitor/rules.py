"""The doctor's rules for autoencoders and translators: a value that is bad and has stopped improving.

Each function here returns a rule, a pure function of the signals so far; the advice names options of the recipe at hand,
so that the recipe's probe (`recipes.probes`) gives it.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from limner.monitor.doctor import CHECKS, PERFECT, WINDOW, Finding, Rule, Signals

FIRST = CHECKS // 4  # visits before any of these rules may fire: a quarter of the budget
FIRST_COPIED = CHECKS // 2  # visits before copies are a failure: unpaired translators first learn to leave pictures alone
LAST_COPIED = 3 * CHECKS // 4  # visits before it is one that a single direction copies, for the other is learned first
BETTER = 0.1  # share of a value, or of its bound, by which it must rise from one window to the next to be improving

UNEXPLAINED = 0.05  # share of the pictures' variation that outputs explain
SAME = 0.02  # distance between outputs, as a share of that between the pictures they should be
COPIED = 0.1  # distance of an output from its input, as a share of what it should be
DEAD = 0.1  # codes chosen for any of the pictures, as a share of the codebook
POOR = 0.5  # share of the variation explained from which on few codes are enough, as they are for simple pictures
SPENT = 0.05  # a translator's gradient, as a share of its largest, while its discriminators are right about everything
STILL = 1e-7  # largest step of a run, as a share of the weights, below which they do not move


def stuck_below(signals: Sequence[Signals], name: str, bound: float, first: int = FIRST) -> float | None:
    """The median of a signal over the last window if it is below the bound and not improving; otherwise None.

    Nothing is found in fewer than `first` visits.

    Not improving: it has not risen by a tenth of its size, nor by a tenth of the bound, over the window before.
    """
    if len(signals) < first:
        return None
    values = [s[name] for s in signals[-2 * WINDOW :] if name in s]
    if len(values) < 2 * WINDOW:
        return None
    before, now = median(values[:WINDOW]), median(values[WINDOW:])
    improving = now - before > BETTER * max(abs(before), bound)
    return now if now < bound and not improving else None


def posterior_collapse(advice: str) -> Rule:
    """No latent of a VAE depends on the picture (Bowman et al. 2016, section 3.1): the KL term has won."""

    def rule(signals: Sequence[Signals]) -> Finding | None:
        if stuck_below(signals, "active_latents", 1) is None:
            return None
        says = "no latent depends on the picture (posterior collapse): every picture gets the same reconstruction"
        return Finding("posterior-collapse", says, advice)

    return rule


def dead_codes(advice: str) -> Rule:
    """Almost all codes of a VQ-VAE are never chosen, and those that are do not suffice."""

    def rule(signals: Sequence[Signals]) -> Finding | None:
        used = stuck_below(signals, "codes_in_use", DEAD)
        if used is None or signals[-1].get("explained", 0.0) >= POOR:
            return None
        says = f"pictures are coded with {used:.1%} of the codebook: the other codes are dead"
        return Finding("dead-codes", says, advice)

    return rule


def same_output(advice: str) -> Rule:
    """Outputs of different inputs are all but equal."""

    def rule(signals: Sequence[Signals]) -> Finding | None:
        for name, direction in _directions(signals, "diversity"):
            value = stuck_below(signals, name, SAME)
            if value is not None:
                says = f"outputs of different inputs{direction} are all but equal: they differ {value:.1%} as much as they should"
                return Finding("same-output", says, advice)
        return None

    return rule


def copies_input(advice: str) -> Rule:
    """A translator returns its input."""

    def rule(signals: Sequence[Signals]) -> Finding | None:
        directions = _directions(signals, "output_change")
        stuck = [(stuck_below(signals, name, COPIED, FIRST_COPIED), direction) for name, direction in directions]
        copied = [(value, direction) for value, direction in stuck if value is not None]
        if not copied or (len(copied) < len(directions) and len(signals) < LAST_COPIED):
            return None
        value, direction = copied[0]
        says = f"the translator{direction} copies its input: outputs are {value:.1%} as far from it as they should be"
        return Finding("copies-input", says, advice)

    return rule


def discriminator_ahead(advice: str) -> Rule:
    """The discriminators of an unpaired translator order every pair rightly, and have no gradient left for it.

    That they are right is no failure by itself: those of a healthy run are for most of it. Some translators leave their input
    only after half of the run, so that nothing is found before three quarters.
    """

    def rule(signals: Sequence[Signals]) -> Finding | None:
        recent, gradient = signals[-2 * WINDOW :], "gradient_translator"
        if len(signals) < LAST_COPIED or not all(gradient in s for s in recent):
            return None
        if min(s.get(name, 0.0) for s in recent for name, _ in _directions(signals, "right")) < PERFECT:
            return None
        best = max(s.get(gradient, 0.0) for s in signals)
        if max(s[gradient] for s in recent) > SPENT * best:
            return None  # one large gradient may be the one that leaves the input
        says = (
            "the discriminator tells every translation from every picture, and the translator's gradient has shrunk to "
            f"{median(s[gradient] for s in recent) / max(best, 1e-30):.1%} of what it was: it learns little"
        )
        return Finding("discriminator-ahead", says, advice, "discriminator")

    return rule


def learns_nothing(player: str, constant: str, advice: str) -> Rule:
    """Outputs are no better than one constant picture.

    player: whose learning rate the advice is about, where its weights do not move. constant: the picture's name.
    """

    def rule(signals: Sequence[Signals]) -> Finding | None:
        if stuck_below(signals, "explained", UNEXPLAINED) is None:
            return None
        says = f"outputs are no nearer to what they should be than {constant} is, and no longer improve"
        still = max(s.get(f"step_{player}", 1.0) for s in signals) < STILL
        wrong = f"its weights do not move: raise --{player}-optimizer.lr." if still else advice
        return Finding("learns-nothing", says, wrong, player)

    return rule


def _directions(signals: Sequence[Signals], name: str) -> list[tuple[str, str]]:
    """The names of a signal that a translator of two directions has twice, each with words for the direction."""
    both = f"{name}_b2a" in signals[-1]
    return [(name, " from a to b" if both else ""), *([(f"{name}_b2a", " from b to a")] if both else [])]
