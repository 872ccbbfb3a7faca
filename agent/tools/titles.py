"""What a tool call is called where people read of it: in a reply, and in the list of what goes on in the background."""

from __future__ import annotations

import json


def call_title(tool: str, arguments: str) -> str:
    """One line, however long, that says what the call does: its tool's name and its first argument, if that is text or
    a number. `arguments` is JSON text, valid or not."""
    try:
        values = json.loads(arguments or "{}")
    except ValueError:
        return tool
    first = next(iter(values.values()), "") if isinstance(values, dict) else ""
    short = " ".join(str(first).split()) if isinstance(first, str | int | float) else ""
    return f"{tool}: {short}" if short else tool
