"""Reads JSON that a server sends, in which anything may have any type."""

from __future__ import annotations

import json
from collections.abc import Sequence

from agent.gate import text
from agent.log import Call, Part, Text, Usage
from agent.model import Answer, Finish, ModelError
from agent.models.errors import MESSAGES, UNREADABLE
from agent.models.protocols.wire import JsonObject

MAX_COST = 1000.0
"""Dollars; a model call that is said to have cost more is one of which nothing was said."""


def parsed(data: str) -> JsonObject:
    """The JSON object. Raises `ModelError` for anything else."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise unreadable() from error
    if not isinstance(value, dict):
        raise unreadable()
    return value


def has_failed(value: JsonObject) -> bool:
    """MiniMax says in an answer that there is none: https://platform.minimax.io/docs/api-reference/errorcode"""
    code = mapping(value.get("base_resp")).get("status_code")
    return isinstance(code, int) and code != 0


def kind_of(event: JsonObject, name: str) -> str:
    """The type of an event, or its name; "error" for an error, also in the form of another protocol."""
    error, kind = event.get("error"), event.get("type")
    if name == "error" or has_failed(event) or (error and isinstance(error, dict | str | list)):
        return "error"
    return kind if isinstance(kind, str) else name


def tools_in(body: JsonObject) -> frozenset[str]:
    """The names of the tools that a request declares."""
    declared = (mapping(tool.get("function")) or tool for tool in mappings(body.get("tools")))
    return frozenset(name for tool in declared if (name := as_sent(tool.get("name"))))


def unreadable() -> ModelError:
    return ModelError("server", UNREADABLE, was_answer=True)


def cut_off() -> ModelError:
    """The stream ended, and the protocol did not say that the answer does."""
    return ModelError(
        "network", "The connection to the model ended in the middle of its answer. Please try again.", was_answer=True
    )


def whole_answer(parts: Sequence[Part], usage: Usage, finish: Finish, model: object) -> Answer:
    """The answer. Raises `ModelError` if the provider refused to give one."""
    has_calls = any(isinstance(part, Call) for part in parts)
    if finish == "refused" and not (has_calls or any(isinstance(part, Text) for part in parts)):
        raise ModelError("refused", MESSAGES["refused"])
    return Answer(tuple(parts), usage, "calls" if finish == "stop" and has_calls else finish, text(model))


def mapping(value: object) -> JsonObject:
    return value if isinstance(value, dict) else {}


def mappings(value: object) -> list[JsonObject]:
    """The objects in a list; the object itself where a server sends one in place of a list."""
    if isinstance(value, dict):
        return [value]
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def piece(value: object) -> str:
    """A piece of text as it was sent: half of a surrogate pair may be completed by the next piece."""
    if isinstance(value, str):
        return value
    return "" if value is None or isinstance(value, bool) else text(value)


def as_sent(value: object) -> str | None:
    """A signature or a name that counts only unchanged; None if it is no text, or one that cannot be stored."""
    return value if isinstance(value, str) and value and text(value) == value else None


def stored(written: str) -> object:
    """The value of JSON text in the log; None if it is broken."""
    try:
        return json.loads(written)
    except (ValueError, RecursionError):
        return None


def cost(value: object) -> float:
    """Dollars; 0 if it is no credible amount."""
    is_amount = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_COST
    return float(value) if is_amount else 0.0  # type: ignore[arg-type]
