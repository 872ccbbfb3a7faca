"""Errors of the API: `application/problem+json` (RFC 9457) with a stable `code`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from agent.media import FileTooLarge, MediaError, MediaMissing
from channels.channel import NotStored
from channels.runs import UnknownRun, WrongResults
from gateway.api.waiting import ClientGone
from gateway.media import DatabaseUnavailable
from gateway.store.errors import StoreError

MEDIA_TYPE = "application/problem+json"
_MAX_PROBLEMS = 5

INTERNAL = "Internal error. See the gateway's log."
"""What is told of an unexpected error, whose own words may say what is nobody's business."""


class Problem(Exception):
    """Ends a request with this status. `code` is for programs and never changes its meaning, `detail` is for people;
    `retry_after` is in seconds, `headers` are others of the answer."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        retry_after: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.retry_after = retry_after
        self.headers = dict(headers or {})

    def response(self) -> Response:
        headers = self.headers | ({} if self.retry_after is None else {"Retry-After": str(self.retry_after)})
        # It may name what the request has, and JSON of a request may have surrogates that are no characters.
        detail = self.detail.encode(errors="replace").decode()
        body = {"status": self.status, "code": self.code, "detail": detail}
        return JSONResponse(body, self.status, headers, MEDIA_TYPE)


class ProblemBody(BaseModel):
    """The body of an error."""

    status: int
    code: str
    detail: str


def _described(what: str) -> dict[str, Any]:
    return {"description": what, "content": {MEDIA_TYPE: {"schema": ProblemBody.model_json_schema()}}}


DESCRIBED: dict[int | str, dict[str, Any]] = {
    422: _described("The request is not valid."),
    "4XX": _described("The request is refused."),
    "5XX": _described("The gateway cannot answer it at the moment."),
}
"""Errors in the description of a route."""


def answer_problems(api: FastAPI) -> None:
    """Turns errors into problems. Unexpected errors are logged by the server."""

    def answer(kind: type[Exception], make: Callable[[Exception], Problem]) -> None:
        async def handle(request: Request, error: Exception) -> Response:
            return make(error).response()

        api.add_exception_handler(kind, handle)

    answer(Problem, lambda error: error if isinstance(error, Problem) else _unexpected(error))
    answer(UnknownRun, lambda error: Problem(404, "run_not_found", str(error)))
    answer(WrongResults, lambda error: Problem(409, "wrong_results", str(error)))
    answer(ClientDisconnect, lambda error: Problem(499, "client_gone", "The client has gone."))
    answer(ClientGone, lambda error: Problem(499, "client_gone", "The client has gone."))
    answer(NotStored, lambda error: Problem(503, "not_stored", str(error), retry_after=5))
    answer(StoreError, lambda error: Problem(503, "store_failed", str(error), retry_after=5))
    answer(DatabaseUnavailable, lambda error: Problem(503, "store_failed", str(error), retry_after=5))
    answer(MediaMissing, lambda error: Problem(404, "file_not_found", str(error)))
    answer(FileTooLarge, lambda error: Problem(413, "file_too_large", str(error)))
    answer(MediaError, lambda error: Problem(507, "file_not_stored", str(error)))
    answer(HTTPException, lambda error: of_http(error) if isinstance(error, HTTPException) else _unexpected(error))
    answer(ValidationError, _invalid)
    answer(RequestValidationError, _invalid)
    answer(Exception, _unexpected)


def of_http(error: HTTPException) -> Problem:
    """What the framework refuses: unknown addresses, wrong methods, bodies that cannot be read."""
    if isinstance(error.__cause__, UnicodeDecodeError):
        return Problem(422, "invalid_request", "The request is not valid: body: it is not text in UTF-8.")
    codes = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}
    code = codes.get(error.status_code, "http_error")
    return Problem(error.status_code, code, str(error.detail), headers=error.headers)


def _invalid(error: Exception) -> Problem:
    assert isinstance(error, ValidationError | RequestValidationError)
    found = [f"{'.'.join(map(str, each['loc'])) or 'body'}: {each['msg']}" for each in error.errors()[:_MAX_PROBLEMS]]
    return Problem(422, "invalid_request", f"The request is not valid: {'; '.join(found)}.")


def _unexpected(error: Exception) -> Problem:
    return Problem(500, "internal_error", INTERNAL)
