"""The hooks of a scenario: declared in its words, asked by the product's own chain of hooks."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from agent.hook import (
    Ask,
    Deny,
    End,
    HookContext,
    MessageIn,
    ModelAnswer,
    ModelRequest,
    Point,
    ReplyPart,
    Respond,
    Ruling,
    Stop,
    Subject,
    ToolCall,
    ToolEnd,
)
from agent.hooks.chain import RegisteredHook
from agent.media import NewFile
from tests.scenarios.steps_people import file_named
from tests.scenarios.tools import split


class NoSuchHook(Exception):
    """The message says what cannot be understood of its declaration."""


@dataclass(frozen=True)
class Declared:
    """One thing that a hook does at one point, to the tool `tool` ("": whatever comes)."""

    point: Point
    tool: str
    says: Callable[[Subject], Subject | Ruling]


class Runner:
    """Implements `agent.hooks.runner.Runner`."""

    def __init__(self, declared: Declared) -> None:
        self._declared = declared

    async def __aenter__(self) -> Runner:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None

    async def ask(self, point: Point, context: HookContext, subject: Subject) -> Subject | Ruling | None:
        about = subject.tool if isinstance(subject, ToolCall | ToolEnd) else ""
        if self._declared.tool and self._declared.tool != about:
            return None
        return self._declared.says(subject)

    async def observe(self, context: HookContext, event: Mapping[str, Any]) -> None:
        return None

    problem = ""


FILES = ("files", "images")

_RULINGS: dict[str, Callable[[str], Ruling]] = {
    "answers": Respond,
    "asks": Ask,
    "denies": Deny,
    "ends": End,
    "stops": Stop,
}

_DECLARED = re.compile(
    r"(?P<name>[a-z]+) (?P<point>[a-z_]+)(?: of (?P<tool>[a-z_]+))?"
    r" (?P<verb>answers|asks|denies|ends|stops|writes|replaces|breaks|uses|hides|supplies|calls)(?P<trusted>, trusted)?"
    r"(?:: (?P<words>.*))?"
)


def declared(line: str) -> RegisteredHook:
    """`guard before_tool of change denies: not today`. Raises `NoSuchHook`."""
    match = _DECLARED.fullmatch(line)
    if match is None:
        raise NoSuchHook(f"a hook is declared as `name point of tool does: words`, not as `{line}`")
    words = match["words"] or ""
    point: Point = match["point"]  # type: ignore[assignment]  # the chain finds no other among its points
    says = Declared(point, match["tool"] or "", lambda subject: _say(match["verb"], words, subject))
    return RegisteredHook(match["name"], Runner(says), (point,), trusted=match["trusted"] is not None)


def _say(verb: str, words: str, subject: Subject) -> Subject | Ruling:
    match verb:
        case "breaks":
            raise ValueError(words or "a fault")
        case "writes":
            return _written(subject, words)
        case "replaces":
            old, _, new = words.partition(" by ")
            return _replaced(subject, old, new)
        case "supplies":
            return _supplied(json.loads(words))
        case "calls" if isinstance(subject, ToolCall):
            tool, arguments = split(words)
            return replace(subject, tool=tool, arguments=arguments or {})
        case "uses" if isinstance(subject, ModelRequest):
            return replace(subject, model=words)
        case "hides" if isinstance(subject, ModelRequest):
            return replace(subject, tools=tuple(tool for tool in subject.tools if tool != words))
        case _:
            return _RULINGS[verb](words)


def _supplied(fields: Mapping[str, Any]) -> Respond:
    """A whole result; its files are those that people send under these names."""
    files = {kind: tuple(NewFile(name, file_named(name)) for name in fields.get(kind, ())) for kind in FILES}
    return Respond(**{**fields, **files})


def _written(subject: Subject, words: str) -> Subject:
    """With other arguments, a note, or a word to the model."""
    match subject:
        case ToolCall():
            return replace(subject, arguments=json.loads(words))
        case MessageIn():
            return replace(subject, note=words)
        case ModelRequest():
            return replace(subject, notices=(*subject.notices, words))
        case _:
            raise NoSuchHook(f"nothing can be written into {subject}")


def _replaced(subject: Subject, old: str, new: str) -> Subject:
    match subject:
        case MessageIn() | ModelAnswer() | ToolEnd() | ReplyPart():
            return replace(subject, text=subject.text.replace(old, new))
        case _:
            raise NoSuchHook(f"there are no words to replace in {subject}")
