"""The rules of each point: the parts of the subject that a hook may change, and its possible rulings."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from agent.gate import one_line
from agent.hook import (
    Ask,
    Deny,
    End,
    ModelRequest,
    Point,
    Respond,
    Ruling,
    Stop,
    Subject,
    ToolCall,
)
from agent.hooks.runner import HookError
from agent.media import NewFile
from agent.model import ModelSettings
from agent.tool_result import MAX_SUPPLIED_FILES

S = TypeVar("S", bound=Subject)

RULINGS: dict[Point, tuple[type[Ruling], ...]] = {
    "on_message": (Deny,),
    "before_model": (Respond, End, Stop),
    "after_model": (End, Stop),
    "before_tool": (Respond, Ask, Deny, End, Stop),
    "approve_tool": (Ask, Deny, End, Stop),
    "after_tool": (End, Stop),
    "before_reply": (Deny, End, Stop),
    "on_event": (),
}


class Change(BaseModel):
    """The parts that may be changed; the fields that are set are the changes. Types are strict: "1" is no number."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, revalidate_instances="always")


class _MessageChange(Change):
    text: str = ""
    note: str = ""


class _RequestChange(Change):
    instructions: str = ""
    notices: tuple[str, ...] = ()
    model: str = ""
    settings: ModelSettings = ModelSettings()
    tools: tuple[str, ...] = ()


class _AnswerChange(Change):
    text: str = ""


class _CallChange(Change):
    tool: str = ""
    arguments: dict[str, JsonValue] = {}


class _EndChange(Change):
    text: str = ""
    for_user: str = ""


class _PartChange(Change):
    text: str = ""


class _Response(Change):
    """The fields of `Respond`."""

    text: str
    files: tuple[NewFile, ...] = Field(strict=False)
    images: tuple[NewFile, ...] = Field(strict=False)
    caption: str
    for_user: str
    final: bool
    silent: bool
    failed: bool


CHANGES: dict[Point, type[Change]] = {
    "on_message": _MessageChange,
    "before_model": _RequestChange,
    "after_model": _AnswerChange,
    "before_tool": _CallChange,
    "approve_tool": Change,
    "after_tool": _EndChange,
    "before_reply": _PartChange,
    "on_event": Change,
}


def check_answer(point: Point, subject: S, answer: object) -> S | Ruling:
    """The hook's answer: the unchanged or changed subject, or a ruling. Raises `HookError` for an answer against the
    rules."""
    match answer:
        case None:
            return subject
        case Respond() | Ask() | Deny() | End() | Stop():
            return _check_ruling(point, answer)
        case _ if type(answer) is type(subject):
            return _check_change(point, subject, answer)
        case _:
            raise HookError(f"{type(answer).__name__} is not a valid answer at {point}")


def apply_change(point: Point, subject: S, change: bytes) -> S:
    """The subject with the changes of a JSON object. Raises `HookError`."""
    try:
        parts = CHANGES[point].model_validate_json(change)
    except ValidationError as error:
        raise HookError(describe(error)) from error
    return _consistent(replace(subject, **_parts(parts, parts.model_fields_set)), subject)


def denial(point: Point, reason: str) -> Ruling:
    """The denial, or the nearest ruling that the point allows."""
    return Deny(reason) if Deny in RULINGS[point] else End(reason)


def describe(error: ValidationError) -> str:
    """The validation error on one line."""
    return one_line("; ".join(_problem(problem["type"], problem["loc"], problem["msg"]) for problem in error.errors()))


def _problem(kind: str, path: tuple[int | str, ...], message: str) -> str:
    name = ".".join(map(str, path)) or "the answer"
    return f"{name} cannot be changed here" if kind == "extra_forbidden" and len(path) == 1 else f"{name}: {message}"


def _check_ruling(point: Point, ruling: Ruling) -> Ruling:
    if not isinstance(ruling, RULINGS[point]):
        raise HookError(f"{type(ruling).__name__.lower()} is not a valid answer at {point}")
    text = ruling.text if isinstance(ruling, Respond) else ruling.reason
    if not isinstance(text, str):
        raise HookError(f"the text of {type(ruling).__name__} must be a string, not {type(text).__name__}")
    return _check_response(point, ruling) if isinstance(ruling, Respond) else ruling


def _check_response(point: Point, response: Respond) -> Respond:
    try:
        parts = _Response.model_validate(_parts(response, _Response.model_fields))
    except ValidationError as error:
        raise HookError(describe(error)) from error
    response = Respond(**_parts(parts, _Response.model_fields))
    if point == "before_model" and response != Respond(response.text):
        raise HookError("only a text can be the model's answer")
    count = len(response.files) + len(response.images)
    if count > MAX_SUPPLIED_FILES:
        raise HookError(f"a result may have {MAX_SUPPLIED_FILES} files and images, not {count}")
    return response


def _check_change(point: Point, subject: S, changed: S) -> S:
    mutable = CHANGES[point].model_fields.keys()
    immutable = [field.name for field in fields(subject) if field.name not in mutable]
    before, after = _parts(subject, immutable), _parts(changed, immutable)
    for name in immutable:
        if before[name] != after[name]:
            raise HookError(f"{name} cannot be changed here")
    try:
        parts = CHANGES[point].model_validate(_parts(changed, mutable))
    except ValidationError as error:
        raise HookError(describe(error)) from error
    now = _consistent(replace(subject, **_parts(parts, mutable)), subject)
    if isinstance(now, ModelRequest) and isinstance(subject, ModelRequest):
        _check_tools(subject, now)
    return now


def _consistent(now: S, before: S) -> S:
    """A call with the effect of its tool, for the hooks that see it next; "" if there is no such tool."""
    if isinstance(now, ToolCall) and isinstance(before, ToolCall) and now.tool != before.tool:
        return replace(now, effect=before.tools.get(now.tool, ""))
    return now


def _check_tools(before: ModelRequest, now: ModelRequest) -> None:
    added = [name for name in now.tools if name not in before.tools]
    if added or len(set(now.tools)) < len(now.tools):
        raise HookError(f"tools can only be removed, not added: {one_line(', '.join(added or now.tools))}")


def _parts(whole: object, names: Any) -> dict[str, Any]:
    return {name: getattr(whole, name) for name in names}
