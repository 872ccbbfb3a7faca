"""Lines of a reply as short markdown: tool calls, approval decisions, reasoning and notes."""

from __future__ import annotations

import json
import re
from typing import assert_never

from agent.log import ApprovalDecided, ApprovalRequested, Call, Native
from agent.tools.titles import call_title
from channels.reply import ApprovalDecision, CallSegment, CallState
from gateway.outbound.wording import literal, plain

TITLE_LENGTH = 80
NOTE_LENGTH = 160
MAX_REASONING_LENGTH = 1500
"""Characters shown of the reasoning in one step."""

_STATES: dict[CallState, tuple[str, str]] = {
    "waiting": ("…", ""),
    "running": ("⏳", ""),
    "done": ("✓", ""),
    "failed": ("✗", "failed"),
    "skipped": ("↷", "skipped"),
    "cancelled": ("■", "cancelled"),
    "denied": ("✗", "denied"),
    "unknown": ("?", "interrupted by a restart"),
    "background": ("↗", "goes on in the background"),
}

_PUNCTUATION = re.compile(r"[!-+\--/:<-@\[-`{-~]")


def short_title(call: Call) -> str:
    """One short line: the tool's name and its first argument."""
    return one_line(call_title(call.name, call.arguments), TITLE_LENGTH)


def native_tool_name(native: Native) -> str:
    """The provider's name for its tool."""
    try:
        data = json.loads(native.data)
    except ValueError:
        return native.provider
    fields = data if isinstance(data, dict) else {}
    names = (fields.get("name"), fields.get("type"))
    return next((name.removesuffix("_call") for name in names if isinstance(name, str)), native.provider)


def call_line(call: CallSegment) -> str:
    """The call as an item of a list; a failed one with the beginning of its error."""
    icon, outcome = _STATES[call.state]
    line = f"- {icon} {code(call.title)}{f' {outcome}' if outcome else ''}"
    error = _first_line(call.detail, TITLE_LENGTH) if call.state == "failed" else ""
    return f"{line}: {_escape(error)}" if error else line


def describe_decision(request: ApprovalRequested, decided: ApprovalDecided) -> tuple[str, ApprovalDecision]:
    """The decision in words, and as a value."""
    by, limit = f" by {plain(decided.by)}" if decided.by else "", request.subject == "limit"
    reason = f": {decided.reason}" if decided.reason else ""
    match decided.decision:
        case "allowed":
            return f"{'Extended' if limit else 'Allowed'}{by}{reason}", "allowed"
        case "allowed_always":
            return f"Allowed for this conversation{by}{reason}", "allowed"
        case "denied":
            return f"{'Stopped here' if limit else 'Denied'}{by}{reason}", "denied"
        case "expired":
            return "Nobody decided in time", "undecided"
        case "dropped":
            return "Dropped, because a new message arrived", "undecided"
        case _:
            assert_never(decided.decision)


def quote_reasoning(reasoning: str, *, open: bool = False) -> str:
    """Its end while it grows (`open`), afterwards its beginning."""
    reasoning = reasoning.strip()
    if len(reasoning) > MAX_REASONING_LENGTH:
        reasoning = f"…{reasoning[-MAX_REASONING_LENGTH:]}" if open else f"{reasoning[:MAX_REASONING_LENGTH]}…"
    return "\n".join(f"> {line}".rstrip() for line in reasoning.splitlines())


def note(text: str) -> str:
    """Plain text as one line in italics."""
    return f"_{_escape(_first_line(text, NOTE_LENGTH))}_"


def _first_line(text: str, limit: int) -> str:
    return one_line(text.strip().partition("\n")[0], limit)


def one_line(text: str, limit: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def _escape(text: str) -> str:
    """Markdown that displays the text as it is."""
    return _PUNCTUATION.sub(literal, text)


def code(text: str) -> str:
    """The text as a code span: https://spec.commonmark.org/0.31.2/#code-spans"""
    longest = max(map(len, re.findall("`+", text)), default=0)
    space = " " if text.startswith("`") or text.endswith("`") else ""
    fence = "`" * (longest + 1)
    return f"{fence}{space}{text}{space}{fence}"
