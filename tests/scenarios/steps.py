"""The table of steps: which lines can stand in a scenario, and what is done at each."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tests.scenarios.reading import NotReadable, Scenario, Step

Kind = Literal["given", "event", "look"]
"""What is so from the beginning, what happens, and what is to be seen then."""

PEOPLE = ("ann", "bob", "cleo")

SMALL = "small"
"""The model that sums up."""

_PLACES = {
    "person": "|".join(PEOPLE),
    "model": "[a-z]+",
    "tool": r"[a-z_]+(?: \{[^}]*\})?",
    "quoted": '"[^"]*"',
    "name": r"\S+",
    "number": r"[0-9]+",
    "text": ".*",
}
"""What may stand at a place of a template."""


@dataclass(frozen=True, slots=True)
class StepKind:
    """`template` is the line as a person writes it, with {places}; one that ends with {block} needs a block."""

    template: str
    kind: Kind
    handler: Callable[..., Awaitable[None]]
    pattern: re.Pattern[str]

    @property
    def meaning(self) -> str:
        return inspect.getdoc(self.handler) or ""


@dataclass(frozen=True, slots=True)
class Found:
    """A step and what it means: the handler is called with the world and `values`."""

    step: Step
    kind: StepKind
    values: dict[str, Any]


TABLE: list[StepKind] = []


def step(template: str, kind: Kind = "event") -> Callable[[Callable[..., Awaitable[None]]], Any]:
    """Adds the step to the table. Its handler takes the world and a value for each place of the template."""

    def add(handler: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        TABLE.append(StepKind(template, kind, handler, _pattern(template)))
        return handler

    return add


def found(scenario: Scenario) -> list[Found]:
    """The scenario's steps and their meanings. Raises `NotReadable` for a line that has none, or two."""
    names = [SMALL, "model"]
    for each in scenario.steps:
        what, _, text = each.head.partition(": ")
        names += text.split(", ") if what in ("models", "models to choose from") else []
    return [_find(each, scenario.file, names) for each in scenario.steps]


def _find(step: Step, file: str, models: Sequence[str]) -> Found:
    fitting = [
        Found(step, kind, values)
        for kind in TABLE
        if (values := _values(kind, step)) is not None and _is_of(values, models)
    ]
    if len(fitting) == 1:
        return fitting[0]
    why = "there is no such step" if not fitting else f"it can be read as {[each.kind.template for each in fitting]}"
    raise NotReadable(f"{file}:{step.line}: {why}: {step.head}{' (with a block)' if step.block else ''}")


def _is_of(values: dict[str, Any], models: Sequence[str]) -> bool:
    """Models and tools may do the same things, and are told apart by their names."""
    return values.get("model", SMALL) in models and values.get("tool") not in models


def _values(kind: StepKind, step: Step) -> dict[str, Any] | None:
    """The values of its places, None if the step is none of this kind. A {text} goes on in the block under it."""
    match = kind.pattern.fullmatch(step.head)
    if match is None:
        return None
    values: dict[str, Any] = dict(match.groupdict())
    if "quoted" in values:
        values["quoted"] = values["quoted"][1:-1]
    if "{block}" in kind.template:
        return {**values, "block": step.block} if step.block else None
    if "text" in values:
        values["text"] = "\n".join(filter(None, (match.group("text"), "\n".join(step.block))))
        return values if values["text"] else None
    return None if step.block else values


def _pattern(template: str) -> re.Pattern[str]:
    def place(match: re.Match[str]) -> str:
        name = match.group(1)
        return "" if name == "block" else f"(?P<{name}>{_PLACES[name]})"

    # A text may be empty at the margin and go on in the block, so that the blank before it is left out then.
    escaped = re.sub(r"\\\{(\w+)\\\}", r"{\1}", re.escape(template)).replace(r"\ {text}", r"\ ?{text}")
    return re.compile(re.sub(r"\{(\w+)\}", place, escaped).removesuffix(r"\ "))
