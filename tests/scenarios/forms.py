"""Short forms: a log, a screen, an inbox and a model's request as the lines that scenarios write, and how they fit."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from difflib import unified_diff
from typing import assert_never

from agent.log import (
    ApprovalDecided,
    ApprovalRequested,
    Call,
    CallEnded,
    CallStarted,
    Compacted,
    Ended,
    Entry,
    InputEnded,
    InputRequested,
    MessagesRead,
    ModelAnswered,
    Native,
    Notice,
    Resumed,
    Spent,
    Text,
    Thinking,
    Undelivered,
    UserMessage,
)
from channels.reply import CallSegment, MediaSegment, QuestionSegment, Reply, Segment, TextSegment
from gateway.store.records import InboxRow
from tests.servers.models import Message

BETWEEN = "--"
"""Stands between two turns of a log and two replies of a screen."""

ANYTHING = "…"
"""In an expected line, anything may stand here; alone on a line, any lines."""


def fits(expected: Sequence[str], seen: Sequence[str]) -> bool:
    pattern = "".join(map(_line_pattern, expected))
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in seen)) is not None


def difference(expected: Sequence[str], seen: Sequence[str]) -> str:
    """What is expected (-) beside what is seen (+); lines that fit but for their dots are shown as equal."""
    dotted = [line for line in expected if ANYTHING in line and line != ANYTHING]
    shown = [next((line for line in dotted if fits([line], [other])), other) for other in seen]
    lines = list(unified_diff(list(expected), shown, "expected", "seen", lineterm="", n=20))
    return "\n".join(lines[3:]) or "(they differ in their number of lines)"


def _line_pattern(line: str) -> str:
    if line == ANYTHING:
        return r"(?:[^\n]*\n)*"
    return "[^\n]*".join(map(re.escape, line.split(ANYTHING))) + "\n"


def lines_of(text: str) -> list[str]:
    """Its lines without the empty ones, which no comparison needs."""
    return [line.rstrip() for line in text.split("\n") if line.strip()]


def separated(groups: Iterable[Sequence[str]]) -> list[str]:
    lines: list[str] = []
    for group in groups:
        lines += ([BETWEEN] if lines else []) + list(group)
    return lines


# The log


def log_lines(entries: Sequence[Entry]) -> list[str]:
    calls = {call.id: call for entry in entries if isinstance(entry, ModelAnswered) for call in entry.calls}
    return [line for entry in entries for text in _entry(entry, calls) for line in lines_of(text)]


def _entry(entry: Entry, calls: dict[str, Call]) -> Iterator[str]:
    match entry:
        case MessagesRead():
            for said in entry.messages:
                yield f"heard{_whose(said)}: {said.text}{_with(said)}"
        case ModelAnswered():
            flags = " (interrupted)" * entry.interrupted + " (cut off)" * entry.cut_off
            parts = " + ".join(filter(None, (_part(part) for part in entry.parts)))
            yield f"answered: {parts or 'nothing'}{flags}"
        case CallStarted(call_id, tool=tool):
            yield f"{_call(calls, call_id)} started" + (f" as {call_form(tool, entry.arguments)}" if tool else "")
        case CallEnded():
            made = "".join(f" [{attachment.name}]" for attachment in entry.attachments)
            flags = " (final)" * entry.final + " (silent)" * entry.silent
            yield f"{_call(calls, entry.call_id)} {entry.outcome}: {entry.text}{made}{flags}"
        case ApprovalRequested():
            yield f"asked to decide: {entry.question} [{', '.join(entry.options)}]"
        case ApprovalDecided():
            by, why = f" by {entry.by}" if entry.by else "", f": {entry.reason}" if entry.reason else ""
            yield f"decided: {entry.decision.replace('_', ' ')}{by}{why}"
        case InputRequested():
            yield f"asked for input: {entry.question} [{', '.join(entry.options)}]"
        case InputEnded():
            yield f"input {entry.outcome}" + (f": {entry.text}" if entry.text else "")
        case Compacted():
            yield "left out without a summary" if entry.left_out else f"summarised: {entry.summary}"
        case Spent():
            yield f"spent on {entry.purpose}"
        case Notice():
            yield f"told: {entry.text}" + (f" [{', '.join(entry.options)}]" if entry.options else "")
        case Resumed():
            yield "resumed"
        case Undelivered(parts):
            yield from (f"not delivered: {part.reason}" for part in parts)
        case Ended():
            yield f"{entry.outcome}: {entry.reason}" if entry.reason else entry.outcome
        case _:
            assert_never(entry)


def _whose(said: UserMessage) -> str:
    source = "" if said.source == "person" else f" from {said.source}"
    return f" {said.sender}{source}" if said.in_group else source


def _with(said: UserMessage) -> str:
    files = "".join(f" [{attachment.name}]" for attachment in said.attachments)
    note = " ".join(said.note.split())
    return f"{files} ({note})" if note else files


def _part(part: Text | Thinking | Call | Native) -> str:
    match part:
        case Text():
            return part.text
        case Thinking():
            return f"thought {part.text}"
        case Call():
            return call_form(part.name, part.arguments)
        case Native():
            return f"by itself: {part.summary}" if part.foreign else ""
        case _:
            assert_never(part)


def _call(calls: dict[str, Call], id: str) -> str:
    call = calls.get(id)
    return call_form(call.name, call.arguments) if call else f"the unknown call {id}"


def call_form(name: str, arguments: str) -> str:
    """`look {"path": "a"}`; without its arguments when it has none."""
    try:
        written = json.dumps(json.loads(arguments or "{}"), ensure_ascii=False)
    except ValueError:
        written = arguments
    return name if written == "{}" else f"{name} {written}"


# The screen


def screen_lines(replies: Iterable[Reply], *, calls: bool = False) -> list[str]:
    """What people see of the replies: in a chat, or with its calls, as on a screen that has room for them."""
    return separated(lines for reply in replies if (lines := _reply(reply, calls)))


def _reply(reply: Reply, calls: bool) -> list[str]:
    lines = [line for segment in reply.segments for text in _segment(segment, calls) for line in lines_of(text)]
    return [*lines, f"~ {reply.status}"] if reply.status else lines


def _segment(segment: Segment, calls: bool) -> Iterator[str]:
    match segment:
        case TextSegment():
            yield segment.markdown
        case MediaSegment():
            yield f"[{segment.attachment.name}] {segment.caption}".rstrip()
        case CallSegment():
            if calls:
                yield f"{segment.title} ({segment.state})"
        case QuestionSegment(open=True):
            yield segment.question
            yield from (f"( ) {option}" for option in segment.options)
        case QuestionSegment():
            yield segment.question
            yield f"→ {segment.answer}" if segment.answer else ""
        case _:
            assert_never(segment)


# The inbox


def inbox_lines(rows: Iterable[InboxRow]) -> list[str]:
    return [_row(row) for row in rows]


def _row(row: InboxRow) -> str:
    where = f" at step {row.step}" if row.state == "consumed" else ""
    why = f", {row.reason}" if row.reason else ""
    return f"{' '.join(row.text.split())}: {row.state}{where}{why}"


# The model's request


def request_lines(messages: Iterable[Message]) -> list[str]:
    """What the model reads, without its instructions: people's words as they are, and who else speaks before theirs."""
    names: dict[str, str] = {}
    lines: list[str] = []
    for message in messages:
        names |= {call.id: call.name for call in message.calls}
        lines += [line for text in _message(message, names) for line in lines_of(text)]
        lines += ["(a picture)"] * len(message.images)
    return lines


def _message(message: Message, names: dict[str, str]) -> Iterator[str]:
    match message.role:
        case "system":
            pass
        case "user":
            yield message.text
        case "assistant":
            if message.text:
                yield f"model: {message.text}"
            yield from (f"model calls {call_form(call.name, call.arguments)}" for call in message.calls)
        case "tool":
            yield f"{names.get(message.call_id or '', 'an unknown call')} -> {message.text}"
        case _:
            assert_never(message.role)
