"""Errors in the form that OpenAI's clients read."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from agent.media import FileTooLarge, MediaError
from channels.channel import NotStored
from channels.runs import UnknownRun, WrongResults
from channels.web.parse import BadPost
from gateway.api.problems import INTERNAL, Problem, of_http
from gateway.media import DatabaseUnavailable
from gateway.store.errors import StoreError


class Refusal(Exception):
    """Ends a request with this status."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def response(
    status: int,
    code: str,
    message: str,
    retry_after: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    headers = dict(headers or {}) | ({} if retry_after is None else {"Retry-After": str(retry_after)})
    message = message.encode(errors="replace").decode()
    return JSONResponse({"error": {"message": message, "type": kind, "param": None, "code": code}}, status, headers)


def answer_errors(api: FastAPI) -> None:
    def answer(kind: type[Exception], status: int, code: str) -> None:
        async def handle(request: Request, error: Exception) -> Response:
            return response(status, code, str(error), 5 if status == 503 else None)

        api.add_exception_handler(kind, handle)

    def answer_as(kind: type[Exception], make: Callable[[Exception], Response]) -> None:
        async def handle(request: Request, error: Exception) -> Response:
            return make(error)

        api.add_exception_handler(kind, handle)

    answer(BadPost, 400, "invalid_request")
    answer(UnknownRun, 400, "unknown_tool_call")
    answer(WrongResults, 400, "wrong_tool_results")
    answer(NotStored, 503, "not_stored")
    answer(StoreError, 503, "store_failed")
    answer(DatabaseUnavailable, 503, "store_failed")
    answer(FileTooLarge, 413, "file_too_large")
    answer(MediaError, 507, "file_not_stored")
    answer_as(Exception, lambda _: response(500, "internal_error", INTERNAL))
    answer_as(Refusal, _of_refusal)
    answer_as(Problem, of_problem)
    answer_as(HTTPException, _of_http)
    answer_as(ValidationError, _invalid)
    answer_as(RequestValidationError, _invalid)


def _of_refusal(error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return response(error.status, error.code, str(error))


def of_problem(error: Exception) -> Response:
    assert isinstance(error, Problem)
    return response(error.status, error.code, error.detail, error.retry_after, error.headers)


def _of_http(error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return of_problem(of_http(error))


def _invalid(error: Exception) -> Response:
    assert isinstance(error, ValidationError | RequestValidationError)
    found = [f"{'.'.join(map(str, each['loc'])) or 'body'}: {each['msg']}" for each in error.errors()[:5]]
    return response(422, "invalid_request", f"The request is not valid: {'; '.join(found)}.")
