"""Waiting for a job: until it is done, the client has left, or the time is over."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request

from limner.apps.serve.batching import Abandoned, Job
from limner.apps.web.errors import Refusal

JOBS = "limner.jobs"  # the jobs of a request in its scope
LEFT = 499  # status of a request whose client has left, in the log and the metrics only


async def result_of(request: Request, job: Job, timeout: float) -> Any:
    """Return the result of a job. Whatever happens it is abandoned, as nobody else waits for it, and closed after the answer.

    Raises Refusal, 504, when the time is over, and what the computation raised.
    """
    request.scope.setdefault(JOBS, []).append(job)
    done = asyncio.wrap_future(job.future)
    left = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait({done, left}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if done.done() and not done.cancelled():
            return done.result()
        if left.done():
            raise Refusal("The client has left.", LEFT)
        if done.cancelled():
            raise Refusal("The server is shutting down.", 503)
        raise Refusal(f"The request took more than {timeout:g} seconds: ask for fewer pictures or a smaller one.", 504)
    except Abandoned as error:
        raise Refusal("The client has left.", LEFT) from error
    finally:
        left.cancel()
        job.abandon()


async def _disconnected(request: Request) -> None:
    """Return when the client has closed the connection. The body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
