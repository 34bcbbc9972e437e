"""The web page of a study and its answers, on the rules of `apps.web`.

A picture is sent as raw RGBA pixels of one length with the same headers, from memory, by a random id. No answer about a
picture depends on its kind until the rater has answered in the practice round.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from limner.apps.study.plan import plan
from limner.apps.study.session import AHEAD, OutOfTurn, Progress, Session, Unknown, is_id
from limner.apps.study.store import Study
from limner.apps.web.access import Access
from limner.apps.web.errors import Refusal
from limner.apps.web.factory import create_app
from limner.apps.web.static import StaticFiles, add_page

MAX_BODY = 4096  # bytes of an answer


def as_rgba(pictures: np.ndarray) -> list[bytes]:
    """Return each picture uint8 [N,C,H,W] as the RGBA pixels that a canvas takes, H*W*4 bytes in rows."""
    n, _, height, width = pictures.shape
    rgba = np.full((n, height, width, 4), 255, np.uint8)
    rgba[..., :3] = pictures.transpose(0, 2, 3, 1)
    return [picture.tobytes() for picture in rgba]


def state(study: Study, progress: Progress) -> dict[str, Any]:
    """Return what the page needs to show the present question of a rater."""
    trial = progress.trial
    height, width = study.pictures.shape[2:]
    practice = sum(one.practice for one in progress.trials)
    document: dict[str, Any] = {
        "rater": progress.rater.id,
        "name": progress.rater.name,
        "pairs": study.settings.pairs,
        "height": height,
        "width": width,
        "phase": "done" if trial is None else "practice" if trial.practice else "test",
    }
    if trial is None:
        return {**document, "judged": progress.judged, "correct": None if study.settings.pairs else progress.correct}
    return {
        **document,
        "trial": trial.id,
        "pictures": trial.pictures,
        "next": [picture for one in progress.trials[progress.done + 1 : progress.done + 1 + AHEAD] for picture in one.pictures],
        "number": progress.done + 1 - (0 if trial.practice else practice),
        "total": practice if trial.practice else len(progress.trials) - practice,
    }


def create(session: Session, access: Access) -> Any:
    """Return the FastAPI application of a study."""
    from pydantic import BaseModel, ConfigDict, Field
    from starlette.responses import Response

    study = session.study
    blobs = as_rgba(study.pictures)
    app = create_app("Limner study", access, max_body=MAX_BODY)
    add_page(app, StaticFiles.of_package("limner.apps.study", "page"), access)

    class Start(BaseModel):
        model_config = ConfigDict(extra="forbid")
        name: str = Field("", max_length=400)

    class Given(BaseModel):
        model_config = ConfigDict(extra="forbid")
        trial: str = Field(max_length=64)
        choice: int = Field(ge=0, le=1)
        seconds: float = Field(ge=0, allow_inf_nan=False)

    # What needs no disk is answered in the event loop (async); an answer that is written and synced, in a thread.

    async def about() -> dict[str, Any]:
        trials = plan(study.pool, study.settings.pictures, study.key, 0)
        practice = sum(one.practice for one in trials)
        return {"pairs": study.settings.pairs, "questions": len(trials) - practice, "practice": practice}

    def start(body: Start) -> dict[str, Any]:
        return state(study, session.start(body.name))

    async def show(rater: str) -> dict[str, Any]:
        return state(study, known(rater))

    def answer(rater: str, body: Given) -> dict[str, Any]:
        progress = known(rater)
        try:
            feedback = session.answer(rater, body.trial, body.choice, body.seconds)
        except OutOfTurn as error:
            raise Refusal(str(error), 409) from error
        found = None if feedback is None else {"correct": feedback.correct, "truth": feedback.truth}
        return {"feedback": found, "state": state(study, progress)}

    async def picture(id: str) -> Response:
        try:
            row = session.row(id if is_id(id) else "")
        except Unknown as error:
            raise Refusal(str(error), 404) from error
        return Response(blobs[row], media_type="application/octet-stream")

    def known(rater: str) -> Progress:
        try:
            return session.progress(rater)
        except Unknown as error:
            raise Refusal(str(error), 404) from error

    start.__annotations__["body"] = Start  # names of this function, which FastAPI cannot look up
    answer.__annotations__["body"] = Given
    app.add_api_route("/study", about, methods=["GET"])
    app.add_api_route("/raters", start, methods=["POST"])
    app.add_api_route("/raters/{rater}", show, methods=["GET"])
    app.add_api_route("/raters/{rater}/answers", answer, methods=["POST"])
    picture.__annotations__["return"] = Response
    app.add_api_route("/pictures/{id}", picture, methods=["GET"], response_model=None)
    return app
