"""The JSON messages of hooks, the same for processes and endpoints: calls, events and decisions."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal, assert_never

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from agent.gate import one_line
from agent.hook import Ask, Deny, End, HookContext, Point, Respond, Ruling, Stop, Subject
from agent.hooks.rules import apply_change, describe
from agent.hooks.runner import HookError
from agent.media import NewFile

VERSION = 1
"""Version of the messages and of the protocols that carry them."""

MAX_BYTES = 1_048_576
"""Size limit of one message to a hook."""

MAX_ANSWER_BYTES = 16_777_216
"""Size limit of one answer, which may have files in base64."""


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Continue(_Message):
    decision: Literal["continue"]


class _Modify(_Message):
    decision: Literal["modify"]
    change: dict[str, JsonValue]


class _File(_Message):
    name: str
    data: str

    def decoded(self) -> NewFile:
        """Raises `HookError`."""
        try:
            return NewFile(self.name, base64.b64decode(self.data, validate=True))
        except ValueError:
            raise HookError(f"the data of {one_line(self.name, 100)} is not valid base64") from None


class _Respond(_Message):
    decision: Literal["respond"]
    text: str = ""
    files: list[_File] = []
    images: list[_File] = []
    caption: str = ""
    for_user: str = ""
    final: bool = False
    silent: bool = False
    failed: bool = False

    def response(self) -> Respond:
        """Raises `HookError`."""
        return Respond(
            self.text,
            tuple(file.decoded() for file in self.files),
            tuple(file.decoded() for file in self.images),
            self.caption,
            self.for_user,
            self.final,
            self.silent,
            self.failed,
        )


class _Ask(_Message):
    decision: Literal["ask"]
    reason: str = ""


class _Deny(_Message):
    decision: Literal["deny"]
    reason: str


class _End(_Message):
    decision: Literal["end"]
    reason: str


class _Stop(_Message):
    decision: Literal["stop"]
    reason: str


_Decision = _Continue | _Modify | _Respond | _Ask | _Deny | _End | _Stop
_decisions: TypeAdapter[_Decision] = TypeAdapter(Annotated[_Decision, Field(discriminator="decision")])


def question_params(context: HookContext, subject: Subject) -> dict[str, Any]:
    return {"context": asdict(context), "subject": asdict(subject)}


def event_params(context: HookContext, event: Mapping[str, Any]) -> dict[str, Any]:
    return {"context": asdict(context), "event": dict(event)}


def encode(message: Mapping[str, Any]) -> bytes:
    """One line of ASCII JSON, in the order of the keys. Raises `HookError` for values that JSON cannot represent."""
    try:
        line = json.dumps(message, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise HookError(f"the message cannot be encoded as JSON: {one_line(error)}") from error
    if len(line) > MAX_BYTES:
        raise HookError(f"the message is too large: {len(line):,} bytes, the limit is {MAX_BYTES:,}")
    return line


def decode(line: bytes) -> object:
    """The JSON value. Raises `HookError`."""
    try:
        return from_json(line, allow_inf_nan=False)
    except ValueError:
        raise HookError(f"its answer is not JSON: {one_line(line[:2000].decode(errors='replace'), 100)}") from None


def parse_decision(point: Point, subject: Subject, answer: object) -> Subject | Ruling | None:
    """The decision in a decoded JSON answer: None to continue, a changed subject or a ruling. Raises `HookError`."""
    try:
        decision = _decisions.validate_python(answer)
    except ValidationError as error:
        raise HookError(f"its answer is invalid: {describe(error)}") from error
    match decision:
        case _Continue():
            return None
        case _Modify():
            return apply_change(point, subject, to_json(decision.change))
        case _Respond():
            return decision.response()
        case _Ask():
            return Ask(decision.reason)
        case _Deny():
            return Deny(decision.reason)
        case _End():
            return End(decision.reason)
        case _Stop():
            return Stop(decision.reason)
        case _:
            assert_never(decision)
