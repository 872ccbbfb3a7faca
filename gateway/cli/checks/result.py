"""The result of one check, as a line for a person, and what the checks over HTTP share."""

from __future__ import annotations

from dataclasses import dataclass

TIMEOUT = 15.0
"""Seconds for each request."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """`part` is what was checked, such as "slack scopes"; `text` the outcome and, where it is not `ok`, what to do."""

    part: str
    ok: bool
    text: str

    def __str__(self) -> str:
        return f"  {'ok' if self.ok else '!!'}  {self.part}: {self.text}"


def unreachable(part: str, url: str, error: Exception) -> CheckResult:
    """Names the type of the error only: its message may hold the URL, and a Bot API URL holds the token."""
    return CheckResult(part, False, f"{url} cannot be reached ({type(error).__name__})")


def unexpected_status(url: str, status: int) -> str:
    return f"{url} returned HTTP status {status}"
