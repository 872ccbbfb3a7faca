"""The built-in tools, each loaded only if it is enabled."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Literal, assert_never, get_args

if TYPE_CHECKING:
    # The worker processes are modules of this package and must start without the tools' own imports.
    from agent.tool import Tool

ToolName = Literal[
    "shell",
    "read_file",
    "write_file",
    "edit_file",
    "list_files",
    "fetch_url",
    "draw_chart",
    "send_file",
    "view_image",
    "ask_user",
    "todos",
    "delegate",
    "background",
    "schedule",
    "memory",
    "run_python",
    "generate_image",
    "web_search",
]

TOOL_NAMES: tuple[ToolName, ...] = get_args(ToolName)


class UnknownTool(ValueError):
    def __init__(self, name: str) -> None:
        nearest = get_close_matches(name, TOOL_NAMES, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"available tools: {', '.join(TOOL_NAMES)}"
        super().__init__(f"there is no tool {name!r}; {hint}")


def load_tools(enabled: Sequence[str]) -> tuple[Tool, ...]:
    """The enabled tools, in that order, without duplicates. Raises `UnknownTool`."""
    return tuple(load_tool(name) for name in dict.fromkeys(enabled))


def load_tool(name: str) -> Tool:
    """The tool of that name. Raises `UnknownTool`."""
    return _load(_checked_name(name))


def _checked_name(name: str) -> ToolName:
    for known in TOOL_NAMES:
        if known == name:
            return known
    raise UnknownTool(name)


def _load(name: ToolName) -> Tool:
    match name:
        case "shell":
            from agent.tools.shell import shell

            return shell
        case "read_file":
            from agent.tools.files import read_file

            return read_file
        case "write_file":
            from agent.tools.files import write_file

            return write_file
        case "edit_file":
            from agent.tools.files import edit_file

            return edit_file
        case "list_files":
            from agent.tools.files import list_files

            return list_files
        case "fetch_url":
            from agent.tools.fetch import fetch_url

            return fetch_url
        case "draw_chart":
            from agent.tools.chart import draw_chart

            return draw_chart
        case "send_file":
            from agent.tools.media import send_file

            return send_file
        case "view_image":
            from agent.tools.media import view_image

            return view_image
        case "ask_user":
            from agent.decisions.questions import ask_user

            return ask_user
        case "todos":
            from agent.tools.todos import todos

            return todos
        case "delegate":
            from agent.tools.delegate import delegate

            return delegate
        case "background":
            from agent.tools.background import background

            return background
        case "schedule":
            from agent.tools.schedule import schedule

            return schedule
        case "memory":
            from agent.tools.memory import memory

            return memory
        case "run_python":
            from agent.tools.run_python import run_python

            return run_python
        case "generate_image":
            from agent.tools.generate_image import generate_image

            return generate_image
        case "web_search":
            from agent.tools.web_search import web_search

            return web_search
        case _:
            assert_never(name)
