"""Errors of the client."""

from __future__ import annotations

import httpx


class ApiError(Exception):
    """The gateway refused a request. `code` is one of docs/reference/http-api.md, `status` that of HTTP; `retry_after`
    is in seconds, where a later attempt may do."""

    def __init__(self, status: int, code: str, detail: str, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.retry_after = retry_after


class Unreachable(Exception):
    """The gateway did not answer. Whether it has got the request is not known: send a message again with the same
    `client_id`, and it is stored once."""


class StillRunning(Exception):
    """The run has not ended in time; `run` is its id."""

    def __init__(self, run: str, seconds: float) -> None:
        super().__init__(f"the run {run} has not ended within {seconds:g} seconds")
        self.run = run


def raise_for(response: httpx.Response) -> None:
    """Raises `ApiError` if the response is one."""
    if response.is_success:
        return
    try:
        body = response.json()
    except ValueError:
        body = {}
    if not isinstance(body, dict):
        body = {}
    after = response.headers.get("Retry-After", "")
    raise ApiError(
        response.status_code,
        str(body.get("code", "http_error")),
        str(body.get("detail", f"The gateway answered with the status {response.status_code}.")),
        float(after) if after.isdecimal() else None,
    )
