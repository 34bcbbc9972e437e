"""The doctor's rules for autoencoders and translators: a signal that is bad and no longer improves.

Each public function takes the advice, which names options of the recipe, and returns a rule: a pure function of the
signals so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from limner.monitor.doctor import CHECKS, PERFECT, WINDOW, Finding, Rule, Signals

FIRST_CHECK = CHECKS // 4  # number of checks before any of these rules applies: a quarter of the budget
FIRST_COPY_CHECK = CHECKS // 2  # before copies count as a failure: unpaired translators first learn the identity
ONE_WAY_COPY_CHECK = 3 * CHECKS // 4  # before copies in one direction count: the other direction is learned first
MIN_IMPROVEMENT = 0.1  # rise from one window to the next, relative to the value or to its bound

MIN_EXPLAINED = 0.05  # `explained`
MIN_DIVERSITY = 0.02  # `diversity`
MIN_OUTPUT_CHANGE = 0.1  # `output_change`
MIN_CODES_IN_USE = 0.1  # `codes_in_use`
GOOD_EXPLAINED = 0.5  # `explained` above which few codes are enough, as for simple pictures
SPENT_GRADIENT = 0.05  # a translator's gradient norm, as a fraction of its maximum, against perfect discriminators
ZERO_STEP = 1e-7  # largest step of a run, relative to the weights' norm, below which the weights do not change


def stuck_below(signals: Sequence[Signals], name: str, bound: float, first: int = FIRST_CHECK) -> float | None:
    """Return the median of a signal over the last window if it is below `bound` and not improving; otherwise None.

    Improving: the median rose by more than MIN_IMPROVEMENT of its previous value, and of the bound. Returns None in fewer
    than `first` checks.
    """
    if len(signals) < first:
        return None
    values = [s[name] for s in signals[-2 * WINDOW :] if name in s]
    if len(values) < 2 * WINDOW:
        return None
    before, now = median(values[:WINDOW]), median(values[WINDOW:])
    improving = now - before > MIN_IMPROVEMENT * max(abs(before), bound)
    return now if now < bound and not improving else None


def posterior_collapse(advice: str) -> Rule:
    """Return the rule for posterior collapse: no latent of a VAE depends on the picture (Bowman et al. 2016, section 3.1)."""

    def rule(signals: Sequence[Signals]) -> Finding | None:
        if stuck_below(signals, "active_latents", 1) is None:
            return None
        message = "no latent depends on the picture (posterior collapse): every picture gets the same reconstruction"
        return Finding("posterior-collapse", message, advice)

    return rule


def dead_codes(advice: str) -> Rule:
    """Return the rule for codebook collapse: most codes of a VQ-VAE are never used, and the used ones do not suffice."""

    def rule(signals: Sequence[Signals]) -> Finding | None:
        used = stuck_below(signals, "codes_in_use", MIN_CODES_IN_USE)
        if used is None or signals[-1].get("explained", 0.0) >= GOOD_EXPLAINED:
            return None
        message = f"only {used:.1%} of the codebook is used: the other codes are dead"
        return Finding("dead-codes", message, advice)

    return rule


def constant_output(advice: str) -> Rule:
    """Return the rule for outputs that hardly depend on the input."""

    def rule(signals: Sequence[Signals]) -> Finding | None:
        for name, direction in _directions(signals, "diversity"):
            value = stuck_below(signals, name, MIN_DIVERSITY)
            if value is not None:
                message = f"outputs{direction} hardly depend on the input: they differ {value:.1%} as much as they should"
                return Finding("constant-output", message, advice)
        return None

    return rule


def copies_input(advice: str) -> Rule:
    """Return the rule for a translator that returns its input."""

    def rule(signals: Sequence[Signals]) -> Finding | None:
        directions = _directions(signals, "output_change")
        stuck = [(stuck_below(signals, name, MIN_OUTPUT_CHANGE, FIRST_COPY_CHECK), direction) for name, direction in directions]
        copied = [(value, direction) for value, direction in stuck if value is not None]
        if not copied or (len(copied) < len(directions) and len(signals) < ONE_WAY_COPY_CHECK):
            return None
        value, direction = copied[0]
        message = f"the translator{direction} copies its input: outputs are {value:.1%} as far from it as they should be"
        return Finding("copies-input", message, advice)

    return rule


def discriminator_too_strong(advice: str) -> Rule:
    """Return the rule for an unpaired translator whose discriminators are always right and give it no gradient any more.

    Accurate discriminators alone are no failure: those of a healthy run are accurate for most of it. Some translators leave
    the identity only after half of the run, so nothing is found before three quarters of it.
    """

    def rule(signals: Sequence[Signals]) -> Finding | None:
        recent, gradient = signals[-2 * WINDOW :], "gradient_translator"
        if len(signals) < ONE_WAY_COPY_CHECK or not all(gradient in s for s in recent):
            return None
        if min(s.get(name, 0.0) for s in recent for name, _ in _directions(signals, "d_accuracy")) < PERFECT:
            return None
        best = max(s.get(gradient, 0.0) for s in signals)
        if max(s[gradient] for s in recent) > SPENT_GRADIENT * best:
            return None  # one large gradient may be the one that leaves the identity
        message = (
            "the discriminator separates all translations from all pictures, and the translator's gradient norm has shrunk to "
            f"{median(s[gradient] for s in recent) / max(best, 1e-30):.1%} of its maximum: it learns little"
        )
        return Finding("discriminator-too-strong", message, advice, "discriminator")

    return rule


def learns_nothing(player: str, constant: str, advice: str) -> Rule:
    """Return the rule for outputs that are no better than one constant picture.

    player: the network whose learning rate is too low if its weights do not change. constant: the constant picture's name.
    """

    def rule(signals: Sequence[Signals]) -> Finding | None:
        if stuck_below(signals, "explained", MIN_EXPLAINED) is None:
            return None
        message = f"outputs are no nearer to the targets than {constant} is, and no longer improve"
        frozen = max(s.get(f"step_{player}", 1.0) for s in signals) < ZERO_STEP
        chosen = f"its weights do not change: raise --{player}-optimizer.lr." if frozen else advice
        return Finding("learns-nothing", message, chosen, player)

    return rule


def _directions(signals: Sequence[Signals], name: str) -> list[tuple[str, str]]:
    """Return (signal name, words for the direction) for each direction of a translator."""
    both = f"{name}_b2a" in signals[-1]
    return [(name, " from a to b" if both else ""), *([(f"{name}_b2a", " from b to a")] if both else [])]
