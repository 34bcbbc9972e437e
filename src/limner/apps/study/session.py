"""The raters of a study and their progress. Every answer is on the disk before it counts."""

from __future__ import annotations

import math
import re
import secrets
import threading
import time
from dataclasses import asdict, dataclass

from limner.apps.study import store
from limner.apps.study.plan import Trial, plan
from limner.apps.study.store import Answer, Journal, Rater, Study
from limner.core.text import printable

MAX_NAME = 40          # characters
MAX_RATERS = 10_000
MAX_SECONDS = 86_400.0  # of one answer
AHEAD = 3               # trials whose pictures a page may load before they are shown


class Unknown(ValueError):
    """A rater or picture that does not exist."""


class OutOfTurn(ValueError):
    """An answer to a trial that is not the rater's present one."""


@dataclass(frozen=True)
class Feedback:
    """What a rater learns from an answer in the practice round."""

    correct: bool
    truth: int


@dataclass
class Progress:
    """A rater with the plan and the number of answers given. correct, judged: without practice and repeats."""

    rater: Rater
    trials: list[Trial]
    done: int = 0
    correct: int = 0
    judged: int = 0

    @property
    def trial(self) -> Trial | None:
        """The present trial; None at the end."""
        return self.trials[self.done] if self.done < len(self.trials) else None


class Session:
    """A study that is being judged. Its methods may be called from several threads."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self._lock = threading.Lock()
        self._raters: dict[str, Progress] = {}
        self._names: dict[str, str] = {}     # folded name -> id
        self._pictures: dict[str, int] = {}  # id -> row
        for rater in store.raters(study.folder):
            self._add(rater)
        by_number = {progress.rater.number: progress for progress in self._raters.values()}
        for answer in store.answers(study.folder):
            self._count(by_number[answer.rater], answer)
        self._rater_file = Journal(study.folder / store.RATERS)
        self._answer_file = Journal(study.folder / store.ANSWERS)

    def close(self) -> None:
        """Close the files."""
        self._rater_file.close()
        self._answer_file.close()

    def start(self, name: str = "") -> Progress:
        """Return a new rater, or the one who gave this name before. Raises ValueError for a name that is too long."""
        name = printable(" ".join(name.split()))
        if len(name) > MAX_NAME:
            raise ValueError(f"A name has at most {MAX_NAME} characters.")
        with self._lock:
            if name and (known := self._names.get(name.casefold())):
                return self._raters[known]
            if len(self._raters) >= MAX_RATERS:
                raise ValueError(f"This study has {MAX_RATERS:,} raters and takes no more.")
            rater = Rater(len(self._raters), secrets.token_hex(16), name)
            self._rater_file.write(asdict(rater))
            return self._add(rater)

    def progress(self, rater: str) -> Progress:
        """Return a rater's progress. Raises Unknown for another id."""
        try:
            return self._raters[rater]
        except KeyError:
            raise Unknown("This rater is unknown here: start again with a name.") from None

    def row(self, picture: str) -> int:
        """Return the row of a picture. Raises Unknown for another id."""
        try:
            return self._pictures[picture]
        except KeyError:
            raise Unknown("There is no such picture.") from None

    def answer(self, rater: str, trial: str, choice: int, seconds: float) -> Feedback | None:
        """Store an answer and go on. choice: REAL or FAKE; of pairs 0 for the left and 1 for the right picture.

        Returns feedback in the practice round. Raises OutOfTurn for a trial that is not the present one, such as an answer sent twice.
        """
        if choice not in (0, 1):
            raise ValueError("An answer is 0 or 1.")
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ValueError("The time of an answer is a number of seconds from 0 up.")
        progress = self.progress(rater)
        with self._lock:
            present = progress.trial
            if present is None or present.id != trial:
                raise OutOfTurn("This question is answered already: go on with the next.")
            kinds = self.study.pool.kinds
            pairs = self.study.pool.pairs
            answer = Answer(
                rater=progress.rater.number,
                position=progress.done,
                items=present.items,
                truth=-1 if pairs else int(kinds[present.items[0]]),
                choice=int(kinds[present.items[choice]]) if pairs else choice,
                side=choice if pairs else -1,
                seconds=round(min(seconds, MAX_SECONDS), 3),
                practice=present.practice,
                repeats=present.repeats,
                time=round(time.time(), 3),
            )
            self._answer_file.write(asdict(answer))
            self._count(progress, answer)
        return Feedback(answer.choice == answer.truth, answer.truth) if present.practice else None

    def _add(self, rater: Rater) -> Progress:
        study = self.study
        progress = Progress(rater, plan(study.pool, study.settings.pictures, study.key, rater.number))
        self._raters[rater.id] = progress
        if rater.name:
            self._names[rater.name.casefold()] = rater.id
        for trial in progress.trials:
            self._pictures.update(zip(trial.pictures, trial.items, strict=True))
        return progress

    def _count(self, progress: Progress, answer: Answer) -> None:
        progress.done = answer.position + 1
        if not answer.practice and answer.repeats is None:
            progress.judged += 1
            progress.correct += answer.choice == answer.truth


def is_id(text: str) -> bool:
    """Return whether a text has the form of an id."""
    return re.fullmatch(r"[0-9a-f]{32}", text) is not None
