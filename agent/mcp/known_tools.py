"""The tools and prompts that a server had last, in a file: after a restart they are there before the server is."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agent.gate import one_line
from agent.mcp.listing import ListedTool
from agent.mcp.prompts import Prompt, PromptArgument

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KnownTools:
    tools: tuple[ListedTool, ...] = ()
    has_resources: bool = False
    prompts: tuple[Prompt, ...] = ()


def read_known_tools(file: Path) -> KnownTools:
    """None are known if there is no such file, or if it cannot be read. Blocking."""
    try:
        written = json.loads(file.read_text(encoding="utf-8"))
        tools = tuple(map(_listed, written["tools"]))
        prompts = tuple(map(_prompt, written.get("prompts", ())))
        return KnownTools(tools, bool(written["has_resources"]), prompts)
    except FileNotFoundError:
        return KnownTools()
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        log.warning("the known tools in %s cannot be read: %s", file, one_line(error))
        return KnownTools()


def _prompt(written: dict[str, Any]) -> Prompt:
    return Prompt(**{**written, "arguments": tuple(PromptArgument(**each) for each in written["arguments"])})


def _listed(written: dict[str, Any]) -> ListedTool:
    """Raises `TypeError` for what is no tool."""
    tool = ListedTool(**written)
    for value, kind in ((tool.name, str), (tool.description, str), (tool.schema, dict), (tool.annotations, dict)):
        if not isinstance(value, kind):
            raise TypeError(f"{value!r} is not of the type {kind.__name__}")
    return tool


def write_known_tools(file: Path, known: KnownTools) -> None:
    """Blocking. A file that cannot be written costs nothing but the tools between a restart and the server's start."""
    temporary = file.with_suffix(".new")
    try:
        temporary.write_text(json.dumps(asdict(known)), encoding="utf-8")
        temporary.replace(file)
    except OSError as error:
        log.warning("the known tools cannot be written to %s: %s", file, one_line(error))
