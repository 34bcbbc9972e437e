"""The doctor: detects training failures from cheap signals, advises, and adjusts settings within bounds.

The doctor checks a run CHECKS times. The signals of a check are a pure function of the networks at that moment (a family's
`Probe` computes them), a finding is a pure function of the signals so far, and an adjustment a pure function of the
finding. The checkpoint holds the doctor's state, so that an adjusted run resumes bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Protocol

from limner.core import schedule
from limner.core.documents import DoctorState
from limner.core.schema import conform
from limner.methods.phase import Clock

CHECKS = 40  # per run; each costs a few dozen pictures
BURN_IN = 4  # first checks of a run, whose signals are not meaningful yet
LEARNING = CHECKS // 4  # checks between which every sample changes, because it is still being learned
WINDOW = 4  # checks that a finding is based on
REPEAT_AFTER = 8  # checks after which a finding that comes back is reported again
COOLDOWN = 4  # checks between two adjustments, which need time to take effect

MIN_VARIETY = 0.01  # variety of the training pictures below which there is nothing to learn
MAX_STEPS = ((0.1, 0.0), (0.015, 4.0), (0.005, 8.0))  # (step / weight norm, step / the other player's step) that are too large
MIN_OVERFITTING, MIN_ACCURACY = 0.5, 0.7  # `overfitting` and `d_accuracy` from which the discriminator overfits
LOW_DIVERSITY, DIVERSITY_DROP = 0.25, 0.6  # diversity of samples, and as a fraction of its maximum, below which it collapsed
NEVER_DIVERSE = 0.15  # diversity at half the budget below which the generator never became diverse
PERFECT, SMALL_GRADIENT = 0.995, 0.1  # `d_accuracy`; the discriminator's gradient norm as a fraction of its maximum
VANISHING = 1e-3  # gradient norm as a fraction of its maximum
MAX_DRIFT = 0.9  # change of a sample between two checks; 1 means a different picture

Signals = Mapping[str, float]


class Probe(Protocol):
    """Computes a family's signals from its networks, and keeps its state between two checks."""

    @property
    def rules(self) -> Sequence[Rule]:
        """The rules for its signals, in order of severity; causes before their effects."""
        ...

    def __call__(self, seen: int) -> Signals: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


# ---- findings --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Finding:
    """A detected training failure."""

    name: str
    message: str  # one sentence: what is wrong
    advice: str  # one sentence: what to do
    player: str = ""  # the player that causes it, where known

    def log_entry(self, action: str) -> dict[str, str]:
        """Return the finding as a field of `log.jsonl`. action: what was changed, or an empty string."""
        return {"finding": self.name, "message": self.message, "advice": self.advice, "action": action}


Rule = Callable[[Sequence[Signals]], Finding | None]
"""Maps the signals of all checks so far, in order, to a finding or None."""


def not_finite(player: str, seen: int) -> Finding:
    """Return the finding for a loss or gradient that is not finite, which the training loop detects."""
    return Finding(
        "not-finite",
        f"the {player}'s loss was not finite after {seen:,} images",
        "use lower learning rates, a stronger penalty, or gradient clipping (--grad-clip 1).",
    )


def _recent(signals: Sequence[Signals], name: str, window: int = WINDOW) -> float | None:
    """Return the median of a signal over the last `window` checks; None while there are fewer."""
    values = [s[name] for s in signals[-window:] if name in s]
    return median(values) if len(values) == window else None


def _players(signals: Sequence[Signals], kind: str) -> list[str]:
    return [name.removeprefix(kind) for name in signals[-1] if name.startswith(kind)]


def _low_variety(signals: Sequence[Signals]) -> Finding | None:
    if signals[-1].get("variety", 1.0) > MIN_VARIETY:
        return None
    return Finding(
        "pictures-alike",
        "the training pictures are nearly identical, or there is only one",
        "inspect them with `limner data`: a model can learn nothing else from them.",
    )


def _lr_too_high(signals: Sequence[Signals]) -> Finding | None:
    for player in _players(signals, "step_"):
        step = _recent(signals, f"step_{player}")
        if step is None:
            continue
        others = [_recent(signals, f"step_{other}") for other in _players(signals, "step_") if other != player]
        other = max((other for other in others if other is not None), default=None)
        if any(step > size and (not ratio or (other is not None and step > ratio * other)) for size, ratio in MAX_STEPS):
            return Finding(
                f"{player}-lr-too-high",
                f"each step changes the {player}'s weights by {step:.1%}, faster than the other networks can adapt",
                f"its learning rate is far too high: lower --{player}-optimizer.lr.",
                player,
            )
    return None


def _overfitting(signals: Sequence[Signals]) -> Finding | None:
    overfitting, accuracy = _recent(signals, "overfitting", 2 * WINDOW), _recent(signals, "d_accuracy", 2 * WINDOW)
    if overfitting is None or accuracy is None or overfitting < MIN_OVERFITTING or accuracy < MIN_ACCURACY:
        return None
    return Finding(
        "overfitting",
        f"the discriminator overfits: it rates held-out pictures {min(overfitting, 1):.0%} as low as samples, compared with "
        "training pictures",
        "add pictures, augment (--augmentation ada, --flip), or use an earlier checkpoint (best/).",
    )


def _collapsed(signals: Sequence[Signals]) -> Finding | None:
    diversity = _recent(signals, "diversity")
    if diversity is None:
        return None
    best = max(s.get("diversity", 0.0) for s in signals[BURN_IN:])
    dropped = diversity < min(LOW_DIVERSITY, DIVERSITY_DROP * best)
    never = len(signals) >= CHECKS // 2 and diversity < NEVER_DIVERSE
    if not (dropped or never):  # a small generator starts with identical samples and becomes diverse slowly
        return None
    return Finding(
        "mode-collapse",
        f"the generator has collapsed: its samples differ from each other only {diversity:.0%} as much as training pictures do",
        "add or strengthen a penalty (--penalty r1, --gamma), lower --generator-optimizer.lr, use a relativistic objective, or "
        "add mode seeking (--regularizer mode-seeking).",
    )


def _too_strong(signals: Sequence[Signals]) -> Finding | None:
    recent, gradient = signals[-2 * WINDOW :], _recent(signals, "gradient_discriminator", 2 * WINDOW)
    if gradient is None or min(s.get("d_accuracy", 0.0) for s in recent) < PERFECT:
        return None
    if gradient > SMALL_GRADIENT * max(s.get("gradient_discriminator", 0.0) for s in signals):
        return None  # its loss is not near zero yet: every discriminator is accurate at first
    return Finding(
        "discriminator-too-strong",
        "the discriminator separates all samples from all real pictures with a near-zero loss, so the generator gets little gradient",
        "lower --discriminator-optimizer.lr, strengthen the penalty (--penalty r1, --gamma), or augment a small data set.",
    )


def _vanishing_gradient(signals: Sequence[Signals]) -> Finding | None:
    for player in _players(signals, "gradient_"):
        name = f"gradient_{player}"
        now, best = _recent(signals, name), max(s.get(name, 0.0) for s in signals)
        if now is None or now >= VANISHING * best or (player == "discriminator" and _too_strong(signals)):
            continue  # a discriminator that is always right has no gradient for that reason (with hinge, exactly none)
        advice = "use an objective that does not saturate (non-saturating, hinge) or a lower --discriminator-optimizer.lr."
        if player == "discriminator":
            advice = "lower --discriminator-optimizer.lr, or add or strengthen a penalty (--penalty r1, --gamma)."
        message = f"the {player}'s gradient norm has shrunk to {now / best:.0e} of its maximum: it no longer learns"
        return Finding(f"{player}-vanishing-gradient", message, advice, player)
    return None


def _oscillation(signals: Sequence[Signals]) -> Finding | None:
    drift = _recent(signals[LEARNING:], "drift", 2 * WINDOW)
    if drift is None or drift < MAX_DRIFT:
        return None
    steps = {player: _recent(signals, f"step_{player}") or 0.0 for player in _players(signals, "step_")}
    faster = max(steps, key=steps.__getitem__, default="discriminator")
    return Finding(
        "oscillation",
        f"training oscillates: between two checks a sample changes {drift:.0%} as much as two training pictures differ",
        f"lower --{faster}-optimizer.lr, whose steps are larger, or add or strengthen a penalty (--penalty r1, --gamma).",
        faster,
    )


GAN_RULES: Sequence[Rule] = (  # in order of severity; causes before their effects
    _lr_too_high,
    _overfitting,
    _collapsed,
    _vanishing_gradient,
    _too_strong,
    _oscillation,
)


def diagnose(signals: Sequence[Signals], rules: Sequence[Rule] = GAN_RULES) -> Finding | None:
    """Return the finding of the first rule that applies; None for a healthy run.

    signals: those of all checks so far, in order. Nearly identical training pictures are found without a rule, at the
    first check; nothing else is found in fewer than BURN_IN + WINDOW checks.
    """
    if not signals:
        return None
    if len(signals) < BURN_IN + WINDOW or signals[-1].get("variety", 1.0) <= MIN_VARIETY:
        return _low_variety(signals)
    return next((found for rule in rules if (found := rule(signals))), None)


# ---- adjustments -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Adjustment:
    """One change of a setting: value * factor + plus, within [least, most]."""

    setting: str  # "lr of NAME", "lr of {player}", or a lever of the method: "penalty", "augmentation"
    factor: float = 1.0
    plus: float = 0.0
    least: float = 0.0
    most: float = float("inf")

    def apply(self, value: float) -> float:
        """Return the next value. A value that is already beyond the bound is not moved back to it."""
        changed = value * self.factor + self.plus
        if changed < value:
            return round(max(changed, min(self.least, value)), 6)
        return round(min(changed, max(self.most, value)), 6)


_DISCRIMINATOR_LR = Adjustment("lr of discriminator", factor=0.5, least=1 / 8)
_GENERATOR_LR = Adjustment("lr of generator", factor=0.5, least=1 / 8)
_PENALTY = Adjustment("penalty", factor=2.0, most=8.0)
_AUGMENT = Adjustment("augmentation", plus=0.1, most=0.6)

ADJUSTMENTS: Mapping[str, Sequence[Adjustment]] = {  # finding -> adjustments; the first that is not at its bound is applied
    "overfitting": (_AUGMENT, _PENALTY),
    "discriminator-lr-too-high": (Adjustment("lr of discriminator", factor=0.25, least=1 / 256),),
    "generator-lr-too-high": (Adjustment("lr of generator", factor=0.25, least=1 / 256),),
    "mode-collapse": (_PENALTY, _GENERATOR_LR, _DISCRIMINATOR_LR),
    "discriminator-too-strong": (_PENALTY, _DISCRIMINATOR_LR, _AUGMENT),
    "generator-vanishing-gradient": (_PENALTY, _DISCRIMINATOR_LR),
    "discriminator-vanishing-gradient": (_DISCRIMINATOR_LR,),
    "oscillation": (_PENALTY, Adjustment("lr of {player}", factor=0.5, least=1 / 8)),
}


def adjust(finding: Finding, settings: MutableMapping[str, float]) -> str:
    """Apply one adjustment for the finding to `settings`, in place.

    Returns what was changed, or an empty string when all adjustments are at their bounds.
    """
    for adjustment in ADJUSTMENTS.get(finding.name, ()):
        setting = adjustment.setting.format(player=finding.player)
        before = settings.get(setting)
        if before is not None and (after := adjustment.apply(before)) != before:
            settings[setting] = after
            return f"{setting} {before:g} -> {after:g}"
    return ""


# ---- the doctor ------------------------------------------------------------------------------------------------------


class Doctor:
    """Checks a run, records its signals, and with `tune` adjusts its settings."""

    def __init__(self, probe: Probe, tune: bool = False) -> None:
        self.probe, self.tune = probe, tune
        self.signals: list[dict[str, float]] = []
        self.last_found: dict[str, int] = {}  # finding -> number of the last check with it
        self.last_adjusted = 0  # number of the last check that adjusted a setting

    def due(self, clock: Clock) -> bool:
        """Return whether a check is due after the last batch."""
        return clock.seen > 0 and schedule.crosses_multiple(clock.seen, clock.batch, max(clock.batch, clock.budget // CHECKS))

    def check(
        self, seen: int, grad_stats: Signals, settings: MutableMapping[str, float]
    ) -> tuple[dict[str, float], Finding | None, str]:
        """Check the run. Returns (signals, a finding that is new or led to an adjustment, the adjustment or "").

        grad_stats: of each player's main phase, the norm of its last gradient (`gradient_NAME`), and its last step as a
        fraction of its weights' norm (`step_NAME`). settings: the adjustable settings, each a factor on a learning rate
        ("lr of NAME") or a lever of the method; changed in place.
        """
        signals = {**self.probe(seen), **grad_stats}
        self.signals.append({name: float(f"{value:.4g}") for name, value in signals.items()})
        number = len(self.signals)
        finding, action = diagnose(self.signals, self.probe.rules), ""
        if finding and self.tune and number - self.last_adjusted >= COOLDOWN:
            action = adjust(finding, settings)
            self.last_adjusted = number if action else self.last_adjusted
        if finding is None:
            return dict(self.signals[-1]), None, ""
        new = number - self.last_found.get(finding.name, -CHECKS) > REPEAT_AFTER
        self.last_found[finding.name] = number
        return dict(self.signals[-1]), finding if new or action else None, action

    def state_dict(self) -> dict[str, Any]:
        own = {"signals": self.signals, "last_found": self.last_found, "last_adjusted": self.last_adjusted}
        return own | {f"probe {name}": value for name, value in self.probe.state_dict().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        conform({name: value for name, value in state.items() if isinstance(value, dict | list | int)}, DoctorState, "doctor")
        self.signals = [dict(s) for s in state.get("signals", [])]
        self.last_found, self.last_adjusted = dict(state.get("last_found", {})), state.get("last_adjusted", 0)
        prefix = "probe "
        self.probe.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
