"""A server's list of tools: what of it can be used, and why the rest cannot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.gate import one_line, text
from agent.mcp.schemas import BadSchema, usable_schema

MAX_TOOLS = 500
"""Tools of one server; further ones are left out, and named as a problem."""

MAX_DESCRIPTION = 4_000
"""Characters of a tool's description."""

MAX_TOOL_NAME = 200
MAX_PROBLEMS = 20

HINTS = ("readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint")


@dataclass(frozen=True, slots=True)
class ListedTool:
    """A tool as its server describes it, checked. `schema` is for the model."""

    name: str
    description: str
    schema: dict[str, Any]
    annotations: Mapping[str, bool]


@dataclass(frozen=True, slots=True)
class Listing:
    """`problems` has a line for each tool that cannot be used."""

    tools: tuple[ListedTool, ...] = ()
    problems: tuple[str, ...] = ()


def read_listing(tools: Sequence[object]) -> Listing:
    """Checks each tool of a list; a bad one costs itself only."""
    found: dict[str, ListedTool] = {}
    problems: list[str] = []
    if len(tools) > MAX_TOOLS:
        problems.append(f"it lists {len(tools):,} tools; those after the first {MAX_TOOLS} are left out")
    for each in tools[:MAX_TOOLS]:
        try:
            tool = _read_tool(each)
            if tool.name in found:
                raise BadSchema("it is listed twice")
        except BadSchema as error:
            name = each.get("name") if isinstance(each, Mapping) else None
            problems.append(f"the tool {one_line(name, 80) if isinstance(name, str) else '(no name)'}: {error}")
        else:
            found[tool.name] = tool
    if len(problems) > MAX_PROBLEMS:
        problems[MAX_PROBLEMS:] = [f"and {len(problems) - MAX_PROBLEMS:,} more problems"]
    return Listing(tuple(found.values()), tuple(problems))


def _read_tool(given: object) -> ListedTool:
    if not isinstance(given, Mapping):
        raise BadSchema("it is not an object")
    name, description = given.get("name"), given.get("description")
    if not isinstance(name, str) or not 0 < len(name) <= MAX_TOOL_NAME:
        raise BadSchema(f"its name is not a text of up to {MAX_TOOL_NAME} characters")
    if description is not None and not isinstance(description, str):
        raise BadSchema("its description is not a text")
    annotations = given.get("annotations")
    annotations = annotations if isinstance(annotations, Mapping) else {}
    hints = {hint: annotations[hint] for hint in HINTS if isinstance(annotations.get(hint), bool)}
    return ListedTool(name, _shortened(text(description or name)), usable_schema(given.get("inputSchema")), hints)


def _shortened(description: str) -> str:
    return description if len(description) <= MAX_DESCRIPTION else f"{description[:MAX_DESCRIPTION]}…"
