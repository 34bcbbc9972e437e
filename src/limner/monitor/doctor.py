"""The doctor: what the cheap signals of a run mean, in one sentence, and what to do about it, within bounds.

A visit is due a few dozen times a run. The signals of a visit are a pure function of the networks at that moment (a
family's `Probe` computes them), the findings a pure function of the signals so far, and a treatment a pure
function of the findings; all of it is in the checkpoint, so that a run which is treated resumes as exactly as any.
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

CHECKS = 40  # a run; each costs a few dozen pictures
SETTLING = 4  # visits at the start of a run whose signals mean nothing yet
WINDOW = 4  # visits that a finding rests on
SILENCE = 8  # visits without a finding after which it is told again
REST = 4  # visits between two treatments, which need time to show

ALIKE = 0.01  # variety of the pictures below which there is nothing to learn
LEAPS = ((0.1, 0.0), (0.015, 4.0), (0.005, 8.0))  # a step as a share of the weights, and as a multiple of the other's
BY_HEART, SURE = 0.5, 0.7  # how wrong held-out pictures look, and how sure the discriminator is of samples
NARROW, FALLEN = 0.25, 0.6  # spread of samples, and as a share of its best: the generator has recorded_request to repeat itself
NEVER = 0.15  # spread of samples at half the budget: it has never done anything else
PERFECT, FADED = 0.995, 0.1  # pairs ordered rightly; the discriminator's gradient as a share of its largest
FAINT = 1e-3  # of the largest gradient so far
RESTLESS = 0.9  # change of a sample between visits, where 1 is another picture

Signals = Mapping[str, float]


class Probe(Protocol):
    """What a family looks at: signals from its networks, and what it must remember between two visits."""

    @property
    def rules(self) -> Sequence[Rule]:
        """What its signals are judged by, the gravest, or the cause of others, first."""
        ...

    def __call__(self, seen: int) -> Signals: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


# ---- findings --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a run."""

    name: str
    says: str  # one sentence: what is happening
    advice: str  # one sentence: what to do
    player: str = ""  # whose doing it is, where that is known

    def told(self, done: str) -> dict[str, str]:
        """As the log keeps it, with what was changed."""
        return {"finding": self.name, "says": self.says, "advice": self.advice, "done": done}


Rule = Callable[[Sequence[Signals]], Finding | None]
"""The signals of every visit so far, in order -> what is wrong, or None."""


def not_finite(player: str, seen: int) -> Finding:
    """A loss or gradient that was no number, which the loop meets itself."""
    return Finding(
        "not-finite",
        f"the {player}'s loss was not finite after {seen:,} images",
        "take lower learning rates, a stronger penalty, or clip gradients (--grad-clip 1).",
    )


def _recent(signals: Sequence[Signals], name: str, window: int = WINDOW) -> float | None:
    """The median of a signal over the last visits; None while there are too few of them."""
    values = [s[name] for s in signals[-window:] if name in s]
    return median(values) if len(values) == window else None


def _players(signals: Sequence[Signals], kind: str) -> list[str]:
    return [name.removeprefix(kind) for name in signals[-1] if name.startswith(kind)]


def _alike(signals: Sequence[Signals]) -> Finding | None:
    if signals[-1].get("variety", 1.0) > ALIKE:
        return None
    return Finding(
        "pictures-alike",
        "the training pictures are all but equal, or there is one",
        "look at them with `limner data`: there is nothing else to learn.",
    )


def _leaping(signals: Sequence[Signals]) -> Finding | None:
    for player in _players(signals, "step_"):
        step = _recent(signals, f"step_{player}")
        if step is None:
            continue
        beside = [_recent(signals, f"step_{other}") for other in _players(signals, "step_") if other != player]
        other = max((other for other in beside if other is not None), default=None)
        if any(step > size and (not times or (other is not None and step > times * other)) for size, times in LEAPS):
            return Finding(
                f"{player}-leaps",
                f"every step changes the {player}'s weights by {step:.1%}, far more than what it plays against can follow",
                f"its learning rate is far too high: lower --{player}-optimizer.lr.",
                player,
            )
    return None


def _by_heart(signals: Sequence[Signals]) -> Finding | None:
    known, ahead = _recent(signals, "by_heart", 2 * WINDOW), _recent(signals, "right", 2 * WINDOW)
    if known is None or ahead is None or known < BY_HEART or ahead < SURE:
        return None
    return Finding(
        "by-heart",
        f"the discriminator knows its pictures by heart: held-out ones look to it {min(known, 1):.0%} as wrong as samples do",
        "give more pictures, augment (--augmentation ada, --flip), or use an earlier state (best/).",
    )


def _collapsed(signals: Sequence[Signals]) -> Finding | None:
    spread = _recent(signals, "spread")
    if spread is None:
        return None
    best = max(s.get("spread", 0.0) for s in signals[SETTLING:])
    fallen, never = spread < min(NARROW, FALLEN * best), len(signals) >= CHECKS // 2 and spread < NEVER
    if not (fallen or never):  # a small generator spreads slowly from a start that knows one picture
        return None
    return Finding(
        "collapse",
        f"samples of different latents differ only {spread:.0%} as much as pictures of the data do: the generator repeats "
        "itself",
        "take a penalty or a stronger one (--penalty r1, --gamma), a lower --generator-optimizer.lr, or an objective that compares "
        "pairs (relativistic).",
    )


def _ahead(signals: Sequence[Signals]) -> Finding | None:
    recent, gradient = signals[-2 * WINDOW :], _recent(signals, "gradient_discriminator", 2 * WINDOW)
    if gradient is None or min(s.get("right", 0.0) for s in recent) < PERFECT:
        return None
    if gradient > FADED * max(s.get("gradient_discriminator", 0.0) for s in signals):
        return None  # it still has to work for it, as every discriminator has at first
    return Finding(
        "discriminator-ahead",
        "the discriminator tells every sample from every real picture without effort, so the generator learns little from it",
        "lower --discriminator-optimizer.lr, strengthen the penalty (--penalty r1, --gamma), or augment if pictures are few.",
    )


def _faint(signals: Sequence[Signals]) -> Finding | None:
    for player in _players(signals, "gradient_"):
        name = f"gradient_{player}"
        now, best = _recent(signals, name), max(s.get(name, 0.0) for s in signals)
        if now is not None and now < FAINT * best:
            return Finding(
                f"{player}-starves",
                f"the {player}'s gradient has shrunk to {now / best:.0e} of what it was: it no longer learns",
                "take an objective that does not saturate (non-saturating, hinge) or a lower --discriminator-optimizer.lr.",
                player,
            )
    return None


def _restless(signals: Sequence[Signals]) -> Finding | None:
    change = _recent(signals[SETTLING:], "change", 2 * WINDOW)  # at first every picture changes: it is being learned
    if change is None or change < RESTLESS:
        return None
    steps = {player: _recent(signals, f"step_{player}") or 0.0 for player in _players(signals, "step_")}
    faster = max(steps, key=steps.__getitem__, default="discriminator")
    return Finding(
        "oscillation",
        f"between two looks a sample changes {change:.0%} as much as two pictures differ: the players chase each other",
        f"lower --{faster}-optimizer.lr, whose steps are the larger ones, or take a penalty or a stronger one (--penalty r1, --gamma).",
        faster,
    )


GAN_RULES: Sequence[Rule] = (  # the gravest, or the cause of others, first
    _leaping,
    _by_heart,
    _collapsed,
    _faint,
    _ahead,
    _restless,
)


def diagnose(signals: Sequence[Signals], rules: Sequence[Rule] = GAN_RULES) -> Finding | None:
    """What is wrong by the first rule that finds something; None for a healthy run.

    signals: those of every visit so far, in order. Pictures that are all alike are found without a rule, at once.
    """
    if not signals:
        return None
    if len(signals) < SETTLING + WINDOW or signals[-1].get("variety", 1.0) <= ALIKE:
        return _alike(signals)
    return next((found for rule in rules if (found := rule(signals))), None)


# ---- treatments ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Adjustment:
    """One step of a setting, and the bound at which it ends."""

    setting: str  # "lr of discriminator", "lr of {player}", or a lever of the method: "penalty", "augmentation"
    factor: float = 1.0
    plus: float = 0.0
    least: float = 0.0
    most: float = float("inf")

    def taken(self, value: float) -> float:
        """One dose further, never beyond the bound, nor back to it from where another treatment went further."""
        further = value * self.factor + self.plus
        if further < value:
            return round(max(further, min(self.least, value)), 6)
        return round(min(further, max(self.most, value)), 6)


_DISCRIMINATOR_LR = Adjustment("lr of discriminator", factor=0.5, least=1 / 8)
_GENERATOR_LR = Adjustment("lr of generator", factor=0.5, least=1 / 8)
_PENALTY = Adjustment("penalty", factor=2.0, most=8.0)
_AUGMENT = Adjustment("augmentation", plus=0.1, most=0.6)

ADJUSTMENTS: Mapping[str, Sequence[Adjustment]] = {  # the first that is not at its bound is taken
    "by-heart": (_AUGMENT, _PENALTY),
    "discriminator-leaps": (Adjustment("lr of discriminator", factor=0.25, least=1 / 256),),
    "generator-leaps": (Adjustment("lr of generator", factor=0.25, least=1 / 256),),
    "collapse": (_PENALTY, _GENERATOR_LR, _DISCRIMINATOR_LR),
    "discriminator-ahead": (_PENALTY, _DISCRIMINATOR_LR, _AUGMENT),
    "generator-starves": (_PENALTY, _DISCRIMINATOR_LR),
    "discriminator-starves": (_DISCRIMINATOR_LR,),
    "oscillation": (_PENALTY, Adjustment("lr of {player}", factor=0.5, least=1 / 8)),
}


def adjust(finding: Finding, settings: MutableMapping[str, float]) -> str:
    """Move one setting by one dose; returns what was done, or an empty string when all are at their bounds."""
    for adjustment in ADJUSTMENTS.get(finding.name, ()):
        setting = adjustment.setting.format(player=finding.player)
        before = settings.get(setting)
        if before is not None and (after := adjustment.taken(before)) != before:
            settings[setting] = after
            return f"{setting} {before:g} -> {after:g}"
    return ""


# ---- the doctor ------------------------------------------------------------------------------------------------------


class Doctor:
    """Visits a run, remembers its signals, and moves its settings when it may (`tune`)."""

    def __init__(self, examine: Probe, tune: bool = False) -> None:
        self.examine, self.tune = examine, tune
        self.signals: list[dict[str, float]] = []
        self.met: dict[str, int] = {}  # finding -> the visit that met it last
        self.adjusted = 0  # visits when the last treatment was given

    def due(self, clock: Clock) -> bool:
        return clock.seen > 0 and schedule.passes(clock.seen, clock.batch, max(clock.batch, clock.budget // CHECKS))

    def visit(
        self, seen: int, grad_stats: Signals, settings: MutableMapping[str, float]
    ) -> tuple[dict[str, float], Finding | None, str]:
        """Look at the run. Returns (signals, a finding that is new or was treated, what was changed or "").

        vitals: of each player's main turn the norm of its last gradient (`gradient_NAME`), and its last step as a share of
        its weights (`step_NAME`). settings: what may be moved, each a factor on a learning rate
        ("lr of NAME") or a lever of the method; moved in place.
        """
        found = {**self.examine(seen), **grad_stats}
        self.signals.append({name: float(f"{value:.4g}") for name, value in found.items()})
        finding, done = diagnose(self.signals, self.examine.rules), ""
        if finding and self.tune and len(self.signals) - self.adjusted >= REST:
            done = adjust(finding, settings)
            self.adjusted = len(self.signals) if done else self.adjusted
        if finding is None:
            return dict(self.signals[-1]), None, ""
        visit = len(self.signals)
        new = visit - self.met.get(finding.name, -CHECKS) > SILENCE
        self.met[finding.name] = visit
        return dict(self.signals[-1]), finding if new or done else None, done

    def state_dict(self) -> dict[str, Any]:
        own = {"signals": self.signals, "met": self.met, "treated": self.adjusted}
        return own | {f"examination {name}": value for name, value in self.examine.state_dict().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        conform({name: value for name, value in state.items() if isinstance(value, dict | list | int)}, DoctorState, "doctor")
        self.signals = [dict(s) for s in state.get("signals", [])]
        self.met, self.adjusted = dict(state.get("met", {})), state.get("treated", 0)
        mark = "examination "
        self.examine.load_state_dict({k.removeprefix(mark): v for k, v in state.items() if k.startswith(mark)})
