"""Reads what a model server says of an error, whatever the shape of its answer."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

from agent.gate import text as storable_text
from agent.models.waits import duration_of, first, seconds_of, wait_in_headers

MAX_WORDS = 20_000
"""Characters of a server's words that are kept."""


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """What a server says of an error: its own words, the parameter that it names, and its codes, in lower case.

    `wait` is the wait that it asks for in its body, in seconds; `status` the HTTP status in it.
    """

    words: str = ""
    codes: frozenset[str] = frozenset()
    wait: float | None = None
    status: int = 0


_WORD_KEYS = ("message", "msg", "error_msg", "error_message", "status_msg", "detail", "error", "error_description")
_NESTED_KEYS = (
    "error",
    "errors",
    "response",
    "detail",
    "details",
    "message",
    "metadata",
    "base_resp",
    "headers",
    "raw",
)
_CODE_KEYS = ("code", "type", "status", "error_type", "error_code", "reason")
_MAX_NESTING = 6


@dataclass(slots=True)
class _Reader:
    """Collects what an error of any shape says."""

    words: list[str] = field(default_factory=list)
    codes: set[str] = field(default_factory=set)
    wait: float | None = None
    status: int = 0

    def read(self, value: object, depth: int = 0) -> None:
        if depth > _MAX_NESTING:
            return
        match value:
            case str():
                self._read_text(value, depth)
            case dict():
                self._read_object(value, depth)
            case list():
                for item in value[:10]:
                    self.read(item, depth + 1)

    def _read_text(self, value: str, depth: int) -> None:
        parsed = _parsed(value)
        if isinstance(parsed, dict | list):
            self.read(parsed, depth + 1)
        elif (words := _plain(value)) and words not in self.words:
            self.words.append(words)

    def _read_object(self, value: dict[object, object], depth: int) -> None:
        self._read_codes(value)
        self._read_wait(value)
        before = len(self.words)
        for key in _WORD_KEYS:
            if isinstance(words := value.get(key), str):
                self._read_text(_with_place(words, value), depth)
        for key in _NESTED_KEYS:
            if isinstance(value.get(key), dict | list) or key == "raw":
                self.read(value.get(key), depth + 1)
        param = value.get("param")
        if isinstance(param, str) and param and not any(param in words for words in self.words[before:]):
            self.words.append(f"({param})")

    def _read_codes(self, value: dict[object, object]) -> None:
        for key in _CODE_KEYS:
            code = value.get(key)
            if isinstance(code, int) and not isinstance(code, bool):
                code = str(code)
            if not isinstance(code, str):
                continue
            self.codes.add(code.lower())
            if not self.status and code.isdecimal() and 400 <= int(code[:4]) < 600:
                self.status = int(code)
        # MiniMax's numbers: https://platform.minimax.io/docs/api-reference/errorcode
        match value.get("status_code"):
            case 1000 | 1013 | 1024 | 1033:
                self.codes.add("server_error")
            case 1001:
                self.codes.add("timeout_error")
            case 1002 | 1039 | 1041 | 2045 | 2056:
                self.codes.add("rate_limit_exceeded")
            case 1004 | 2049:
                self.codes.add("authentication_error")
            case 1008:
                self.codes.add("insufficient_balance")
            case 1026 | 1027:
                self.codes.add("new_sensitive")
            case 1042 | 2013:
                self.codes.add("invalid_request_error")

    def _read_wait(self, value: dict[object, object]) -> None:
        headers = {str(key).lower(): item for key, item in value.items() if isinstance(item, str)}
        given = first(
            seconds_of(value.get("retry_after")),
            seconds_of(value.get("retry_after_seconds")),
            duration_of(value.get("retryDelay")),
            wait_in_headers(headers) if "x-ratelimit-reset" in headers else None,
        )
        self.wait = first(self.wait, given)


def report_of(value: object) -> ErrorReport:
    reader = _Reader()
    reader.read(value)
    words = "; ".join(reader.words)[:MAX_WORDS]
    return ErrorReport(storable_text(words), frozenset(reader.codes), reader.wait, reader.status)


def _parsed(value: str) -> object:
    """The JSON in a text: all of it, or the first event of a stream; None if there is none."""
    value = value.strip()
    if value.startswith(("data:", "event:", "error:")):
        lines = (line.partition(":") for line in value.splitlines())
        value = next((data for field, _, data in lines if field in ("data", "error")), "").strip()
    if not value.startswith(("{", "[")):
        return None
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None


def _plain(value: str) -> str:
    """A text in one line; of a page its title."""
    value = value[:MAX_WORDS]
    if re.match(r"\s*<(?:!doctype|html|head|\?xml)", value, re.IGNORECASE):
        title = re.search(r"<title[^>]*>([^<]*)", value, re.IGNORECASE)
        value = title[1] if title else ""
    return " ".join(value.split())


def _with_place(words: str, value: dict[object, object]) -> str:
    """The words with the place in the request that they are about: FastAPI's and pydantic's servers tell it apart."""
    place = value.get("loc")
    return f"{'.'.join(map(str, place[:10]))}: {words}" if isinstance(place, list) and place else words
