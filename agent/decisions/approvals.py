"""Decisions of people in a turn: what they are asked before a call runs or a limit is passed, and what follows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import assert_never

from agent.log import ApprovalDecided, ApprovalDecision, ApprovalRequested, Call, CallEnded, Entry
from agent.tool import Effect, Tool

APPROVAL_OPTIONS = ("Allow once", "Allow for this conversation", "Deny")
EACH_TIME_OPTIONS = ("Allow once", "Deny")
LIMIT_OPTIONS = ("Continue", "Stop here")

LONGEST_ARGUMENT = 1000

DROPPED = "Skipped: a new message arrived while this call was waiting for approval. It was not run."

_EFFECTS: dict[Effect, str] = {
    "read": "Read-only.",
    "write": "Changes files in the workspace.",
    "external": "Can access files and network outside the workspace.",
}


def approval(
    tool: Tool, call: Call, arguments: str, why: str, expires_at: float, response: str | None = None
) -> ApprovalRequested:
    """The question whether the call may run with these arguments (JSON text). To allow it for the conversation is
    available_tools where that will be remembered."""
    lines = [f"**May I use `{tool.name}`?** {_EFFECTS[tool.effect]}", *_arguments(arguments)]
    if why:
        lines.append(f"Reason: {why}")
    options = APPROVAL_OPTIONS if tool.approval == "once" else EACH_TIME_OPTIONS
    return ApprovalRequested(call.id, "call", "\n\n".join(lines), options, expires_at, arguments, response)


def decision_options(asked: ApprovalRequested) -> tuple[ApprovalDecision, ...]:
    """What the options of the question say, in their order."""
    return ("allowed", "allowed_always", "denied") if asked.options == APPROVAL_OPTIONS else ("allowed", "denied")


def limit_question(id: str, limit: str, expires_at: float) -> ApprovalRequested:
    """The question whether the turn may go beyond the limit."""
    return ApprovalRequested(id, "limit", f"**{limit}** Continue anyway?", LIMIT_OPTIONS, expires_at)


def open_decision(entries: Iterable[Entry]) -> ApprovalRequested | None:
    """What people are asked to decide, and have not."""
    asked: ApprovalRequested | None = None
    for entry in entries:
        match entry:
            case ApprovalRequested():
                asked = entry
            case ApprovalDecided() if asked is not None and entry.id == asked.id:
                asked = None
            case _:
                pass
    return asked


def decision_on(call_id: str, entries: Sequence[Entry]) -> tuple[ApprovalRequested, ApprovalDecided] | None:
    """What was decided about the call, and what had been asked; None if nothing was."""
    decisions = _decisions(entries)
    asked = next((e for e in reversed(decisions) if isinstance(e, ApprovalRequested) and e.id == call_id), None)
    decided = next((e for e in reversed(decisions) if isinstance(e, ApprovalDecided) and e.id == call_id), None)
    return None if asked is None or decided is None else (asked, decided)


def allowed_tools(entries: Sequence[Entry], calls: Iterable[Call]) -> frozenset[str]:
    """The tools that were allowed for the whole conversation in this turn."""
    always = {
        entry.id for entry in entries if isinstance(entry, ApprovalDecided) and entry.decision == "allowed_always"
    }
    return frozenset(call.name for call in calls if call.id in always)


def limit_extensions(entries: Iterable[Entry]) -> int:
    """How often people have allowed the turn to go beyond its limit."""
    decisions = _decisions(entries)
    asked = {entry.id for entry in decisions if isinstance(entry, ApprovalRequested) and entry.subject == "limit"}
    return sum(isinstance(e, ApprovalDecided) and e.id in asked and e.decision == "allowed" for e in decisions)


def refused_limit(entries: Sequence[Entry]) -> str | None:
    """Why the turn has to stop at its limit; None if nobody has decided that."""
    decisions = _decisions(entries)
    last = next((entry for entry in reversed(decisions) if isinstance(entry, ApprovalDecided)), None)
    if last is None or last.decision not in ("denied", "expired"):
        return None
    asked = next((e for e in reversed(decisions) if isinstance(e, ApprovalRequested) and e.id == last.id), None)
    if asked is None or asked.subject != "limit":
        return None
    if last.decision == "expired":
        return "limit reached, and not extended in time"
    return f"limit reached, and {last.by or 'somebody'} chose to stop"


def _decisions(entries: Iterable[Entry]) -> list[ApprovalRequested | ApprovalDecided]:
    """The few entries that are about decisions, in one look at a log that may be long."""
    kinds = (ApprovalRequested, ApprovalDecided)
    return [entry for entry in entries if isinstance(entry, kinds)]


def denial(call: Call, decided: ApprovalDecided) -> CallEnded:
    """The result of a call that may not run."""
    match decided.decision:
        case "denied":
            because = f": {decided.reason}" if decided.reason else "."
            text = (
                f"Denied by {decided.by or 'the person'}{because} The call was not run. Do not retry it in another way."
            )
        case "expired":
            text = "Denied: no decision in time. The call was not run."
        case "dropped":
            return CallEnded(call.id, "skipped", DROPPED)
        case "allowed" | "allowed_always":
            raise ValueError("an allowed call has a result of its own")
        case _:
            assert_never(decided.decision)
    return CallEnded(call.id, "denied", text)


def _arguments(arguments: str) -> list[str]:
    """Each argument in a block of its own, so that nothing in it is taken for formatting."""
    try:
        values = json.loads(arguments or "{}")
    except ValueError:
        return [_fenced(arguments)]
    if not isinstance(values, dict):
        return [_fenced(arguments)]
    return [
        f"{name}:\n{_fenced(value if isinstance(value, str) else json.dumps(value))}" for name, value in values.items()
    ]


def _fenced(text: str) -> str:
    short = text if len(text) <= LONGEST_ARGUMENT else f"{text[:LONGEST_ARGUMENT]}… ({len(text):,} characters in all)"
    fence = "```"
    while fence in short:
        fence += "`"
    return f"{fence}\n{short}\n{fence}"
