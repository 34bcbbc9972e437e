"""Errors as one sentence of JSON: `{"error": {"message": ..., "type": ..., "param": null, "code": null}}`, OpenAI's form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from limner.core.text import sentence

MAX_MESSAGE = 500  # characters
ErrorBody = Callable[[str, int, str], Any]
"""(path, status, sentence) -> the JSON of an error"""


class Refusal(ValueError):
    """An answer other than success: a sentence for a person, the HTTP status, and further headers."""

    def __init__(self, message: str, status: int = 400, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.headers = status, dict(headers or {})


def openai_error(path: str, status: int, message: str) -> Any:
    """Return the JSON of an error in the form of OpenAI's API."""
    kind = "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


def short(message: object) -> str:
    """Return a message on one line of printable characters, at most MAX_MESSAGE of them."""
    text = sentence(str(message))
    return text if len(text) <= MAX_MESSAGE else f"{text[: MAX_MESSAGE - 1]}…"


def status_phrase(status: int) -> str:
    """Return a sentence for a status that has no message of its own."""
    try:
        return f"{HTTPStatus(status).phrase}."
    except ValueError:
        return "The request failed."


def install_handlers(app: Any, error_body: ErrorBody = openai_error) -> None:
    """Make a FastAPI application answer ValueError with 400, Refusal with its status, and invalid requests with 400."""
    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response

    def answer(request: Request, status: int, message: object, headers: Mapping[str, str] | None = None) -> Response:
        return JSONResponse(error_body(request.url.path, status, short(message)), status, dict(headers or {}))

    def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, ValueError)
        status, headers = (error.status, error.headers) if isinstance(error, Refusal) else (400, {})
        return answer(request, status, error, headers)

    def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return answer(request, 400, validation_message(error.errors()))

    def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        phrase = status_phrase(error.status_code)
        if error.status_code == 404:
            phrase = "There is nothing at this address."
        detail = error.detail if error.detail and f"{error.detail}." != status_phrase(error.status_code) else phrase
        return answer(request, error.status_code, detail, error.headers)

    app.add_exception_handler(ValueError, refused)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)


def validation_message(errors: Any) -> str:
    """Return the first of pydantic's errors as a sentence."""
    first: Any = next(iter(errors), {})
    where = ".".join(str(part) for part in first.get("loc", ())[1:])
    what = str(first.get("msg", "it is not valid")).removeprefix("Value error, ").rstrip(".")
    if first.get("type") == "json_invalid":
        return "The body is not valid JSON."
    return f"{where}: {what}." if where else f"The request is not valid: {what}."
