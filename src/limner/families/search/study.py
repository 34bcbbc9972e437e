"""The study of a search on disk: settings drawn by optuna, and what their runs measured, in one SQLite file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from limner.families.search.halving import Run
from limner.families.search.space import Range

FILE = "study.db"
NAME = "limner"
STARTUP = 5  # settings drawn at random before optuna's model of the space decides


def check_installed() -> None:
    """Raise ValueError without optuna."""
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise ValueError("The search needs optuna: `pip install 'limner[search]'` adds it.") from error


@contextmanager
def stored(folder: Path) -> Iterator[None]:
    """Raise ValueError for a study in `folder` that cannot be read or written, where optuna and SQLAlchemy raise their own errors."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (StorageInternalError, SQLAlchemyError) as error:
        full = "full" in str(error.__cause__ or error)  # SQLite: "database or disk is full"
        raise ValueError(
            f"The disk is full: {folder / FILE} could not be written. Free some space and give the same command again."
            if full
            else f"{folder / FILE} is damaged or cannot be written: search in another folder with --out."
        ) from error


class Study:
    """Settings and results. Every change is on the disk at once, so that a killed search goes on where it was.

    A setting is a trial of optuna, told with its value at rung 0; the values of the later rungs are attributes of the study.
    """

    def __init__(self, folder: Path, better: str, seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._optuna: Any = optuna
        self.better, self.seed = better, seed
        storage = f"sqlite:///{(folder / FILE).absolute()}"
        direction = optuna.study.StudyDirection.MINIMIZE if better == "lower" else optuna.study.StudyDirection.MAXIMIZE
        with stored(folder):
            self._study: Any = optuna.create_study(storage=storage, study_name=NAME, direction=direction, load_if_exists=True)

    # ---- what belongs to the whole search ----------------------------------------------------------------------------

    def get(self, name: str, default: Any = None) -> Any:
        return self._study.user_attrs.get(name, default)

    def set(self, name: str, value: Any) -> None:
        self._study.set_user_attr(name, value)

    def check_request(self, request: Mapping[str, Any]) -> None:
        """Keep what the search was started with. Raises ValueError if it was started with something else."""
        now, before = json.loads(json.dumps(request)), self.get("request")
        if before is None:
            self.set("request", now)
            return
        name = next((key for key in [*now, *before] if now.get(key) != before.get(key)), None)
        if name == "data":
            raise ValueError("This search was started on other pictures: give those again, or another folder with --out.")
        if name:
            raise ValueError(
                f"This search was started with {name} {before.get(name)}, now it is {now.get(name)}: give the command it was started with "
                "to continue it, or another folder with --out."
            )

    # ---- settings ----------------------------------------------------------------------------------------------------

    def draw(self, space: Mapping[str, Range], defaults: Mapping[str, Any]) -> int:
        """Draw a setting; the first is that of the defaults, as far as they lie in the space. Returns its number."""
        count = len(self._study.trials)
        # seeded by its number, so that a search that was killed draws what it would have drawn
        sampler = self._optuna.samplers.TPESampler(n_startup_trials=STARTUP, seed=self.seed * 10_007 + count)
        self._study.sampler = sampler
        if not count:
            self._study.enqueue_trial({name: defaults[name] for name, found in space.items() if found.holds(defaults[name])})
        trial = self._study.ask({name: self._distribution(found) for name, found in space.items()})
        return int(trial.number)

    def _distribution(self, found: Range) -> Any:
        made = self._optuna.distributions
        if found.choices:
            return made.CategoricalDistribution(found.choices)
        if found.step:
            return made.IntDistribution(int(found.low), int(found.high), step=found.step)
        return made.FloatDistribution(found.low, found.high, log=found.log)

    def options(self, setting: int) -> dict[str, Any]:
        """Return the options of a setting by dotted name."""
        return dict(self._study.get_trials(deepcopy=False)[setting].params)

    def budget(self, setting: int) -> int | None:
        """Return the budget of a setting in images, once it is known."""
        return self.get(f"budget-{setting}")

    # ---- results -----------------------------------------------------------------------------------------------------

    def report(self, setting: int, repeat: int, rung: int, value: float) -> None:
        """Record the metric of a run at a rung."""
        self.set(f"values-{setting}-{repeat}", {**self.get(f"values-{setting}-{repeat}", {}), str(rung): value})
        if not repeat and not rung:
            self._tell(setting, value)

    def fail(self, setting: int, repeat: int, reason: str) -> None:
        """Record that a run ended with an error."""
        self.set(f"failed-{setting}-{repeat}", reason)
        if not repeat:
            self._tell(setting, None)

    def _tell(self, setting: int, value: float | None) -> None:
        state = self._optuna.trial.TrialState
        if self._study.trials[setting].state == state.RUNNING:
            self._study.tell(setting, value, state=state.COMPLETE if value is not None else state.FAIL)

    def runs(self) -> list[Run]:
        """Return all runs of the search so far."""
        attributes = self._study.user_attrs  # one query
        found = []
        for setting in range(len(self._study.get_trials(deepcopy=False))):
            for repeat in (0, 1):
                values, failed = attributes.get(f"values-{setting}-{repeat}"), f"failed-{setting}-{repeat}" in attributes
                if not repeat or values or failed:
                    found.append(Run(setting, repeat, {int(rung): value for rung, value in (values or {}).items()}, failed))
        return found
