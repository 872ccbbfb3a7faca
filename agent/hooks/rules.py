"""What a hook may do at each point: the parts of the subject that it may change, and the rulings that it may give."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

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
)
from agent.hooks.runner import HookError, shortened
from agent.model import ModelSettings

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
    """The parts that may be changed; those that are set are. Types are taken at their word: "1" is no number."""

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
    arguments: dict[str, JsonValue] = {}


class _EndChange(Change):
    text: str = ""
    for_user: str = ""


class _PartChange(Change):
    text: str = ""


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


def checked(point: Point, subject: S, said: object) -> S | Ruling:
    """What the hook said, if it may say so: the subject as it goes on, or a ruling. Raises `HookError`."""
    match said:
        case None:
            return subject
        case Respond() | Ask() | Deny() | End() | Stop():
            return _checked_ruling(point, said)
        case _ if type(said) is type(subject):
            return _checked_change(point, subject, said)
        case _:
            raise HookError(f"it gave a {type(said).__name__}, which is no answer at {point}")


def changed(point: Point, subject: S, change: bytes) -> S:
    """The subject with the JSON object of changed parts in it. Raises `HookError`."""
    try:
        parts = CHANGES[point].model_validate_json(change)
    except ValidationError as error:
        raise HookError(explained(error)) from error
    return replace(subject, **_parts(parts, parts.model_fields_set))


def denial(point: Point, reason: str) -> Ruling:
    """The ruling nearest to a denial that the point knows."""
    return Deny(reason) if Deny in RULINGS[point] else End(reason)


def explained(error: ValidationError) -> str:
    return shortened("; ".join(_problem(problem["type"], problem["loc"], problem["msg"]) for problem in error.errors()))


def _problem(kind: str, place: tuple[int | str, ...], message: str) -> str:
    name = ".".join(map(str, place)) or "the answer"
    return f"{name} cannot be changed here" if kind == "extra_forbidden" and len(place) == 1 else f"{name}: {message}"


def _checked_ruling(point: Point, ruling: Ruling) -> Ruling:
    if not isinstance(ruling, RULINGS[point]):
        raise HookError(f"{type(ruling).__name__.lower()} is no answer at {point}")
    words = ruling.text if isinstance(ruling, Respond) else ruling.reason
    if not isinstance(words, str):
        raise HookError(f"the words of {type(ruling).__name__} are a {type(words).__name__}, not a text")
    return ruling


def _checked_change(point: Point, subject: S, said: S) -> S:
    may = CHANGES[point].model_fields.keys()
    must_not = [field.name for field in fields(subject) if field.name not in may]
    before, after = _parts(subject, must_not), _parts(said, must_not)
    for name in must_not:
        if before[name] != after[name]:
            raise HookError(f"{name} cannot be changed here")
    try:
        parts = CHANGES[point].model_validate(_parts(said, may))
    except ValidationError as error:
        raise HookError(explained(error)) from error
    now = replace(subject, **_parts(parts, may))
    if isinstance(now, ModelRequest) and isinstance(subject, ModelRequest):
        _check_tools(subject, now)
    return now


def _check_tools(before: ModelRequest, now: ModelRequest) -> None:
    more = [name for name in now.tools if name not in before.tools]
    if more or len(set(now.tools)) < len(now.tools):
        raise HookError(f"tools can only be left out, not added: {shortened(', '.join(more or now.tools))}")


def _parts(whole: object, names: Any) -> dict[str, Any]:
    return {name: getattr(whole, name) for name in names}
