"""The JSON forms of what hooks are asked and what they answer, the same for processes and endpoints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal, assert_never

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from agent.hook import Ask, Deny, End, Point, Respond, Ruling, Stop, Subject, HookContext
from agent.hooks.rules import changed, explained
from agent.hooks.runner import HookError, shortened

VERSION = 1
"""Of the forms and of the protocols that carry them."""

LONGEST = 1_048_576
"""Bytes of one question or answer."""


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Continue(_Form):
    decision: Literal["continue"]


class _Modify(_Form):
    decision: Literal["modify"]
    change: dict[str, JsonValue]


class _Respond(_Form):
    decision: Literal["respond"]
    text: str


class _Ask(_Form):
    decision: Literal["ask"]
    reason: str = ""


class _Deny(_Form):
    decision: Literal["deny"]
    reason: str


class _End(_Form):
    decision: Literal["end"]
    reason: str


class _Stop(_Form):
    decision: Literal["stop"]
    reason: str


_Decision = _Continue | _Modify | _Respond | _Ask | _Deny | _End | _Stop
_decisions: TypeAdapter[_Decision] = TypeAdapter(Annotated[_Decision, Field(discriminator="decision")])


def question(context: HookContext, subject: Subject) -> dict[str, Any]:
    return {"context": asdict(context), "subject": asdict(subject)}


def news(context: HookContext, event: Mapping[str, Any]) -> dict[str, Any]:
    return {"context": asdict(context), "event": dict(event)}


def written(form: Mapping[str, Any]) -> bytes:
    """One line of ASCII, in the order of the form's keys. Raises `HookError` for what JSON cannot hold."""
    try:
        line = json.dumps(form, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise HookError(f"it cannot be told this in JSON: {shortened(error)}") from error
    if len(line) > LONGEST:
        raise HookError(f"it cannot be told this: {len(line):,} bytes are more than {LONGEST:,}")
    return line


def read(line: bytes) -> object:
    """The JSON value. Raises `HookError`."""
    try:
        return from_json(line, allow_inf_nan=False)
    except ValueError:
        raise HookError(f"it says what is not JSON: {shortened(line[:2000].decode(errors='replace'), 100)}") from None


def decision(point: Point, subject: Subject, answer: object) -> Subject | Ruling | None:
    """What the answer, a JSON object as it was read, makes of the subject. Raises `HookError`."""
    try:
        said = _decisions.validate_python(answer)
    except ValidationError as error:
        raise HookError(f"its answer does not fit: {explained(error)}") from error
    match said:
        case _Continue():
            return None
        case _Modify():
            return changed(point, subject, to_json(said.change))
        case _Respond():
            return Respond(said.text)
        case _Ask():
            return Ask(said.reason)
        case _Deny():
            return Deny(said.reason)
        case _End():
            return End(said.reason)
        case _Stop():
            return Stop(said.reason)
        case _:
            assert_never(said)
