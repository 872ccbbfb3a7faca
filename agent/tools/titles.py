"""Titles of tool calls, as people read them in replies and in the list of background tasks."""

from __future__ import annotations

import json

from agent.gate import text


def call_title(tool: str, arguments: str) -> str:
    """One line of any length that says what the call does: the tool's name and its first argument, if that is a text or
    a number. `arguments` is JSON text, valid or not."""
    try:
        values = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        return tool
    first = next(iter(values.values()), "") if isinstance(values, dict) else ""
    short = " ".join(text(str(first)).split()) if isinstance(first, str | int | float) else ""
    return f"{tool}: {short}" if short else tool
