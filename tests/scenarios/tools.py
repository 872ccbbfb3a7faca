"""The tools of a scenario: declared in its words, and held in each call until the scenario lets it go on."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import create_model

from agent.decisions.questions import ask_user
from agent.tool import Tool, ToolContext
from agent.tool_result import ToolResult
from agent.tools.background import background
from agent.tools.delegate import delegate
from agent.tools.todos import todos

BUILT_IN = {tool.name: tool for tool in (ask_user, todos, delegate, background)}
"""The product's own, which a scenario may name among its tools."""

Manner = Callable[[Tool, str], Tool]

_MANNERS: dict[str, Manner] = {
    "reads": lambda tool, _: replace(tool, effect="read", on_steer="cancel", repeatable=True),
    "writes": lambda tool, _: replace(tool, effect="write", on_steer="finish"),
    "reaches out": lambda tool, _: replace(tool, effect="external", on_steer="finish"),
    "is cancelled when steered": lambda tool, _: replace(tool, on_steer="cancel"),
    "is finished when steered": lambda tool, _: replace(tool, on_steer="finish"),
    "goes to the background when steered": lambda tool, _: replace(tool, on_steer="background"),
    "may be repeated": lambda tool, _: replace(tool, repeatable=True),
    "must not be repeated": lambda tool, _: replace(tool, repeatable=False),
    "needs approval once": lambda tool, _: replace(tool, approval="once"),
    "needs approval always": lambda tool, _: replace(tool, approval="always"),
    r"at most ([0-9.]+) s": lambda tool, seconds: replace(tool, timeout=float(seconds)),
    r"is undone by (.*)": lambda tool, words: replace(tool, compensation=words),
}
"""What may be said of a tool behind its name, and what it makes of the tool."""

_DECLARED = re.compile(r"(?P<name>[a-z_]+)\((?P<parameters>[a-z_, ]*)\) (?P<manners>.+)")


class NoSuchTool(Exception):
    """The message says what cannot be understood of its declaration."""


@dataclass(eq=False)
class Run:
    """One call of a tool that runs. `noted`: the scenario has said how it ended."""

    tool: str
    arguments: Mapping[str, Any]
    context: ToolContext
    noted: bool = False
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    outcome: asyncio.Future[ToolResult] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def state(self) -> str:
        return "cancelled" if self.cancelled.is_set() else "ended" if self.outcome.done() else "running"

    def fits(self, name: str, arguments: Mapping[str, Any] | None) -> bool:
        return self.tool == name and arguments in (None, self.arguments)


Ring = Callable[[Run], None]
"""Told of each run when it begins."""


def declared(line: str, notify: Ring) -> Tool:
    """`look(path) reads, at most 5 s`, or the name of a tool of the product's. Raises `NoSuchTool`."""
    if line in BUILT_IN:
        return BUILT_IN[line]
    match = _DECLARED.fullmatch(line)
    if match is None:
        raise NoSuchTool(f"a tool is declared as `name(parameters) manners`, not as `{line}`")
    parameters = [name.strip() for name in match["parameters"].split(",") if name.strip()]
    tool = _held(match["name"], parameters, notify)
    for manner in match["manners"].split(", "):
        tool = _with(tool, manner)
    return tool


def _with(tool: Tool, manner: str) -> Tool:
    for pattern, change in _MANNERS.items():
        if match := re.fullmatch(pattern, manner):
            return change(tool, next(iter(match.groups()), ""))
    raise NoSuchTool(f"nothing is known of a tool that `{manner}`; there are: {', '.join(_MANNERS)}")


def _held(name: str, parameters: list[str], notify: Ring) -> Tool:
    async def run(context: ToolContext, **arguments: str) -> ToolResult:
        running = Run(name, arguments, context)
        notify(running)
        try:
            return await asyncio.shield(running.outcome)
        except asyncio.CancelledError:
            running.cancelled.set()
            raise
        finally:
            running.over.set()

    fields: dict[str, Any] = dict.fromkeys(parameters, (str, ...))
    return Tool(
        name=name,
        description=f"The tool {name} of this scenario.",
        arguments=create_model(name, __config__={"extra": "forbid"}, **fields),
        run=run,
        effect="read",
        on_steer="cancel",
        timeout=600.0,
    )


def split(subject: str) -> tuple[str, Mapping[str, Any] | None]:
    """`look {"path": "a"}`: the tool's name and the arguments that are meant, if any are named."""
    name, _, arguments = subject.partition(" ")
    return name, json.loads(arguments) if arguments else None
