"""Lines of a reply: calls, decisions, thoughts and notes, as short markdown."""

from __future__ import annotations

import json
import re
from typing import assert_never

from agent.log import ApprovalDecided, ApprovalRequested, Call, Native
from agent.tools.titles import call_title
from channels.reply import ApprovalDecision, CallSegment, CallState

TITLE_LENGTH = 80
NOTE_LENGTH = 160
MOST_THOUGHT = 1500
"""Characters that are shown of what the model thought in one step."""

_STATES: dict[CallState, tuple[str, str]] = {
    "waiting": ("…", ""),
    "running": ("⏳", ""),
    "done": ("✓", ""),
    "failed": ("✗", "failed"),
    "skipped": ("↷", "skipped"),
    "cancelled": ("■", "cancelled"),
    "denied": ("✗", "denied"),
    "unknown": ("?", "interrupted by a restart"),
}

_MARKS = re.compile(r"([!-/:-@\[-`{-~])")


def title_of_call(call: Call) -> str:
    """One short line that says what the call does: its name and its first argument."""
    return one_line(call_title(call.name, call.arguments), TITLE_LENGTH)


def name_of_native(native: Native) -> str:
    """What the provider calls the tool."""
    try:
        data = json.loads(native.data)
    except ValueError:
        return native.provider
    name = data.get("name") if isinstance(data, dict) else None
    return name if isinstance(name, str) else native.provider


def call_line(call: CallSegment) -> str:
    """The call as a line of a list; a failed one with the first words of why."""
    icon, outcome = _STATES[call.state]
    line = f"- {icon} {_code(call.title)}{f' {outcome}' if outcome else ''}"
    why = _first_line(call.detail, TITLE_LENGTH) if call.state == "failed" else ""
    return f"{line}: {_literal(why)}" if why else line


def decision_words(asked: ApprovalRequested, decided: ApprovalDecided) -> tuple[str, ApprovalDecision]:
    """What became of it, in words, and in short."""
    by, limit = f" by {decided.by}" if decided.by else "", asked.about == "limit"
    because = f": {decided.reason}" if decided.reason else ""
    match decided.decision:
        case "allowed":
            return f"{'Extended' if limit else 'Allowed'}{by}{because}", "allowed"
        case "allowed_always":
            return f"Allowed for this conversation{by}{because}", "allowed"
        case "denied":
            return f"{'Stopped here' if limit else 'Denied'}{by}{because}", "denied"
        case "expired":
            return "Nobody decided in time", "undecided"
        case "dropped":
            return "Dropped, because something was said", "undecided"
        case _:
            assert_never(decided.decision)


def quoted_thought(thought: str, *, open: bool = False) -> str:
    """The newest of it as long as it grows, then its beginning."""
    thought = thought.strip()
    if len(thought) > MOST_THOUGHT:
        thought = f"…{thought[-MOST_THOUGHT:]}" if open else f"{thought[:MOST_THOUGHT]}…"
    return "\n".join(f"> {line}".rstrip() for line in thought.splitlines())


def quiet(words: str) -> str:
    """What was not written as markdown, as one line in italics."""
    return f"_{_literal(_first_line(words, NOTE_LENGTH))}_"


def _first_line(text: str, limit: int) -> str:
    return one_line(text.strip().partition("\n")[0], limit)


def one_line(text: str, limit: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def _literal(text: str) -> str:
    """Markdown that reads as the text: https://spec.commonmark.org/0.31.2/#backslash-escapes"""
    return _MARKS.sub(r"\\\1", text)


def _code(text: str) -> str:
    """The text as a code span: https://spec.commonmark.org/0.31.2/#code-spans"""
    longest = max(map(len, re.findall("`+", text)), default=0)
    space = " " if text.startswith("`") or text.endswith("`") else ""
    fence = "`" * (longest + 1)
    return f"{fence}{space}{text}{space}{fence}"
