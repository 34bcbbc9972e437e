"""`limner study`: starts a study or continues it, and serves its page; or writes its report."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from limner.apps.model import GeneratorModel
from limner.apps.output import Progress
from limner.apps.sample import destination
from limner.apps.study import store
from limner.apps.study.pictures import identity, names_of, of_two_runs, real_and_fake
from limner.apps.study.session import Session
from limner.apps.study.store import Settings, Study
from limner.apps.web.access import Access
from limner.core.text import counted

MAX_COUNT = 5_000    # pictures of each kind that one rater judges
MAX_RATERS = 1_000   # who have pictures of their own
PICTURES, RATERS = 50, 10
FOLDER = "study"     # in the run folder


def place(runs: Sequence[Path], out: Path | None = None) -> Path:
    """Return the folder of a study: `out`, else `study` in the run folder, or `study-NAME` for a comparison with the run NAME.

    A folder that holds a study is itself one.
    """
    if len(runs) == 1 and store.exists(runs[0]):
        if out is not None:
            raise ValueError(f"{runs[0]} holds a study, which is continued where it is: leave --out out.")
        return runs[0]
    name = FOLDER if len(runs) == 1 else f"{FOLDER}-{runs[1].resolve().name}"
    return destination(runs[0], out, name)


def check_kinds(models: Sequence[Any]) -> None:
    """Raise ValueError for a single run that is no generator: what it makes of a picture has no real counterpart to be mixed with."""
    if len(models) == 1 and not isinstance(models[0], GeneratorModel):
        raise ValueError(
            f"{models[0].folder} holds a {models[0].description['kind']}: real or generated is asked about a generator alone. Give a second run to "
            "compare two."
        )


def prepare(
    folder: Path,
    models: Sequence[Any],
    data: str | None,
    count: int = PICTURES,
    raters: int = RATERS,
    seed: int = 0,
    truncation: float | None = None,
    progress: Progress | None = None,
) -> Study:
    """Return the study in `folder`: a new one, or the one that was started there with the same runs, data and numbers.

    models: one generator, which is compared with the real pictures `data`, or two runs. count: pictures of each kind, or pairs,
    that one rater judges. raters: how many get pictures of their own. Raises ValueError for numbers out of range, and when the
    folder holds another study.
    """
    for number, most, what in ((count, MAX_COUNT, "number of pictures"), (raters, MAX_RATERS, "number of raters")):
        if not 1 <= number <= most:
            raise ValueError(f"The {what} is from 1 to {most:,}, not {number}.")
    pairs = len(models) == 2
    if not pairs and data is None:
        raise ValueError("Give the real pictures as --data, such as those that the run was trained on, or a second run.")
    if pairs and truncation is not None:
        raise ValueError("Two runs are compared as they are: leave --truncation out.")
    made_from = identity(models, data, truncation)
    if store.exists(folder):
        study = store.load(folder)
        known = (study.settings.pairs, study.settings.pictures, study.settings.raters, study.settings.seed, study.settings.made_from)
        if known != (pairs, count, raters, seed, made_from):
            raise ValueError(
                f"{folder} holds a study of other runs, pictures or numbers: continue it with `limner study {folder}`, or give another "
                "--out for a new one."
            )
        return study
    if pairs:
        pictures, kinds = of_two_runs(models[0], models[1], data, count, raters, seed, progress)
    else:
        assert data is not None
        pictures, kinds = real_and_fake(models[0], data, count, raters, seed, truncation, progress)
    settings = Settings(names_of(models, data), pairs, count, raters, seed, made_from, Settings.new_key())
    return store.create(folder, settings, pictures, kinds)


def serve(study: Study, access: Access, bound: socket.socket, say: Callable[[str], None] = print) -> None:
    """Serve the page of a study on a socket of `web.running.listen` until Ctrl-C. Raises ValueError when another process serves it."""
    from limner.apps.study.server import create
    from limner.apps.web.running import serve_bound

    with store.locked(study.folder):
        session = Session(study)
        try:
            if known := store.raters(study.folder):
                say(f"{counted(len(known), 'rater has', 'raters have')} given {counted(len(store.answers(study.folder)), 'answer')} so far.")
            if access.key:
                say("Raters on other machines open http://ADDRESS:PORT/?key=KEY with this machine's address and the key.")
            serve_bound(create(session, access), bound, say)
        finally:
            session.close()
