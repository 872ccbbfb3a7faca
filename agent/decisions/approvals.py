"""Approvals: requests before a call runs or a limit is exceeded, and the results of their decisions."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import assert_never

from agent.log import ApprovalDecided, ApprovalDecision, ApprovalRequested, Call, CallEnded, Entry
from agent.tool import Effect, Tool

APPROVAL_OPTIONS = ("Allow once", "Allow for this conversation", "Deny")
GROUP_APPROVAL_OPTIONS = ("Allow once", "Allow for everyone here", "Deny")
"""In a group the conversation is everybody's, and so is what is allowed for it."""

EACH_TIME_OPTIONS = ("Allow once", "Deny")
LIMIT_OPTIONS = ("Continue", "Stop here")

MAX_ARGUMENT_LENGTH = 1000

ALL_BELOW = "… ({count:,} characters in total; the file {name} has all of them)"

DROPPED = "Skipped: a new message arrived while this call was waiting for approval. It was not run."

_EFFECTS: dict[Effect, str] = {
    "read": "Read-only.",
    "write": "Changes files in the workspace.",
    "external": "Can access files and network outside the workspace.",
}


def call_approval(
    tool: Tool,
    call: Call,
    arguments: str,
    reason: str,
    expires_at: float,
    result: CallEnded | None = None,
    *,
    in_group: bool = False,
    mask: Callable[[str], str],
) -> ApprovalRequested:
    """The request to approve the call of the tool with these arguments (JSON text); `result` is what a hook supplied in
    place of running it. Only tools that need approval once offer to allow it for the conversation. `mask` removes
    secrets from what is shown."""
    given = mask(arguments)
    shown = [f"{name}:\n{_fenced(value, tool)}" if name else _fenced(value, tool) for name, value in _values(given)]
    lines = [f"**May I use `{tool.name}`?** {_EFFECTS[tool.effect]}", *shown]
    if reason:
        lines.append(f"Reason: {mask(reason)}")
    options: tuple[str, ...] = EACH_TIME_OPTIONS
    if tool.approval == "once":
        options = GROUP_APPROVAL_OPTIONS if in_group else APPROVAL_OPTIONS
    other = "" if tool.name == call.name else tool.name
    question, masked = "\n\n".join(lines), "" if given == arguments else given
    return ApprovalRequested(
        call.id, "call", question, options, expires_at, arguments, result=result, tool=other, masked=masked
    )


def decision_options(request: ApprovalRequested) -> tuple[ApprovalDecision, ...]:
    """The decisions that the options of the request stand for, in their order."""
    has_always = request.options in (APPROVAL_OPTIONS, GROUP_APPROVAL_OPTIONS)
    return ("allowed", "allowed_always", "denied") if has_always else ("allowed", "denied")


def limit_approval(id: str, limit: str, expires_at: float) -> ApprovalRequested:
    """The request to exceed the limit."""
    return ApprovalRequested(id, "limit", f"**{limit}** Continue anyway?", LIMIT_OPTIONS, expires_at)


def open_decision(entries: Iterable[Entry]) -> ApprovalRequested | None:
    """The request without a decision, if there is one."""
    request: ApprovalRequested | None = None
    for entry in entries:
        match entry:
            case ApprovalRequested():
                request = entry
            case ApprovalDecided() if request is not None and entry.id == request.id:
                request = None
            case _:
                pass
    return request


def decision_on(call_id: str, entries: Sequence[Entry]) -> tuple[ApprovalRequested, ApprovalDecided] | None:
    """The request for the call and its decision; None if there is no decision."""
    decisions = _decisions(entries)
    request = next((e for e in reversed(decisions) if isinstance(e, ApprovalRequested) and e.id == call_id), None)
    decided = next((e for e in reversed(decisions) if isinstance(e, ApprovalDecided) and e.id == call_id), None)
    return None if request is None or decided is None else (request, decided)


def allowed_tools(entries: Sequence[Entry], calls: Iterable[Call]) -> frozenset[str]:
    """The tools that people have allowed in this turn for the whole conversation."""
    decisions = _decisions(entries)
    always = {e.id for e in decisions if isinstance(e, ApprovalDecided) and e.decision == "allowed_always"}
    others = {e.id: e.tool for e in decisions if isinstance(e, ApprovalRequested) and e.tool}
    return frozenset(others.get(call.id, call.name) for call in calls if call.id in always)


def limit_extensions(entries: Iterable[Entry]) -> int:
    """How often people have allowed the turn to exceed a limit."""
    decisions = _decisions(entries)
    limits = {entry.id for entry in decisions if isinstance(entry, ApprovalRequested) and entry.subject == "limit"}
    return sum(isinstance(e, ApprovalDecided) and e.id in limits and e.decision == "allowed" for e in decisions)


def limit_requests(entries: Iterable[Entry]) -> int:
    """How often the turn has asked whether it may exceed a limit."""
    return sum(isinstance(e, ApprovalRequested) and e.subject == "limit" for e in entries)


def refused_limit(entries: Sequence[Entry]) -> str | None:
    """Why the turn stops at its limit; None if it does not."""
    decisions = _decisions(entries)
    last = next((entry for entry in reversed(decisions) if isinstance(entry, ApprovalDecided)), None)
    if last is None or last.decision not in ("denied", "expired"):
        return None
    request = next((e for e in reversed(decisions) if isinstance(e, ApprovalRequested) and e.id == last.id), None)
    if request is None or request.subject != "limit":
        return None
    if last.decision == "expired":
        return "limit reached, and not extended in time"
    return f"limit reached, and {last.by or 'somebody'} chose to stop"


def _decisions(entries: Iterable[Entry]) -> list[ApprovalRequested | ApprovalDecided]:
    """The requests and decisions, in one pass over a log that may be long."""
    kinds = (ApprovalRequested, ApprovalDecided)
    return [entry for entry in entries if isinstance(entry, kinds)]


def denial(call: Call, decided: ApprovalDecided) -> CallEnded:
    """The result of a call that was not approved."""
    match decided.decision:
        case "denied":
            reason = f": {decided.reason}" if decided.reason else "."
            text = (
                f"Denied by {decided.by or 'the person'}{reason} The call was not run. Do not retry it in another way."
            )
        case "expired":
            text = "Denied: no decision in time. The call was not run."
        case "dropped":
            return CallEnded(call.id, "skipped", DROPPED)
        case "allowed" | "allowed_always":
            raise ValueError("an allowed call has its own result")
        case _:
            assert_never(decided.decision)
    return CallEnded(call.id, "denied", text)


def full_arguments(arguments: str) -> str | None:
    """All of the arguments as people read them; None if the request shows them all."""
    values = _values(arguments)
    if all(len(value) <= MAX_ARGUMENT_LENGTH for _, value in values):
        return None
    return "\n\n".join(f"{name}:\n{value}" if name else value for name, value in values)


def arguments_file(tool: Tool) -> str:
    """The name of the file with all of the arguments."""
    return f"{tool.name}-call.txt"


def _values(arguments: str) -> list[tuple[str, str]]:
    """Each argument with its name, "" if it has none, as people read it."""
    try:
        values = json.loads(arguments or "{}")
    except ValueError:
        return [("", visible(arguments))]
    if not isinstance(values, dict):
        return [("", visible(arguments))]
    return [
        (visible(name), visible(value if isinstance(value, str) else json.dumps(value)))
        for name, value in values.items()
    ]


def visible(text: str) -> str:
    """The text with escapes for characters that hide it, change its direction, or move the cursor."""
    return "".join(each if each in "\n\t" or _is_plain(each) else _escape(each) for each in text)


def _is_plain(character: str) -> bool:
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def _escape(character: str) -> str:
    number = ord(character)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x1_0000 else f"\\U{number:08x}"


def _fenced(text: str, tool: Tool) -> str:
    """In a code block, so that its content is not interpreted as formatting."""
    if len(text) > MAX_ARGUMENT_LENGTH:
        text = text[:MAX_ARGUMENT_LENGTH] + ALL_BELOW.format(count=len(text), name=arguments_file(tool))
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}\n{text}\n{fence}"
