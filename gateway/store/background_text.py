"""Texts about background work, for the model and for people, and what the logs of its turns contain."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agent.log import CallEnded, Entry, ModelAnswered
from agent.media import Attachment
from gateway.store.records import BackgroundResult, BackgroundRow

MAX_TITLE_LENGTH = 80
MAX_TEXT_LENGTH = 30_000
"""Characters of a result in a message; of a longer result, the beginning and the end are shown."""

NO_ANSWER = "(It ended without words.)"


def title_of(text: str) -> str:
    """The first line, short."""
    line = next(iter(text.strip().splitlines()), "")
    return line if len(line) <= MAX_TITLE_LENGTH else f"{line[:MAX_TITLE_LENGTH]}…"


def message(row: BackgroundRow, result: BackgroundResult) -> str:
    """The message to the model about work that has ended and that no turn waits for."""
    kind = "The delegated task" if row.kind == "task" else "Background task"
    name = f"{kind} {row.handle} ({row.title})"
    text = cut(result.text, MAX_TEXT_LENGTH)
    match result.state:
        case "done":
            late = " This is its late answer: nothing waited for it any more." if row.waited else ""
            return f"{name} has ended.{late}\n\n{text}"
        case "failed":
            return f"{name} has failed: {text}"
        case "stopped":
            return f"{name} was stopped: {text}"
        case "lost":
            return f"{name} has been lost. {text}"
        case "running":
            raise ValueError("a running task has no result")


def answer_in(entries: Sequence[Entry]) -> str:
    """The answer of a turn that has ended: its last text, or the results that were made its answer."""
    answered = next((entry for entry in reversed(entries) if isinstance(entry, ModelAnswered)), None)
    if answered is None:
        return ""
    asked = {call.id for call in answered.calls}
    ends = (entry for entry in entries if isinstance(entry, CallEnded))
    finals = [end.text for end in ends if end.final and end.call_id in asked]
    return "\n\n".join(text for text in (answered.text.strip(), *finals) if text)


def files_in(entries: Iterable[Entry]) -> tuple[Attachment, ...]:
    """The files that a turn's tools made for people."""
    return tuple(file for entry in entries if isinstance(entry, CallEnded) for file in entry.attachments)


def status_in(entries: Sequence[Entry]) -> str:
    """What a turn does at the moment, in one line."""
    if not entries:
        return "not begun yet"
    ended = {entry.call_id for entry in entries if isinstance(entry, CallEnded)}
    answers = [entry for entry in entries if isinstance(entry, ModelAnswered)]
    calls = [call.name for call in (answers[-1].calls if answers else ()) if call.id not in ended]
    if calls:
        return f"step {len(answers)}: {', '.join(f'`{name}`' for name in calls)}"
    return f"step {len(answers) + 1}: the model is answering"


def with_answers(reason: str, logs: Sequence[Sequence[Entry]]) -> str:
    """The reason, with what the model had answered until then."""
    texts = [entry.text.strip() for log in logs for entry in log if isinstance(entry, ModelAnswered)]
    answers = "\n\n".join(text for text in texts if text)
    return f"{reason}\n\nUntil then it had said:\n\n{answers}" if answers else reason


def cut(text: str, length: int) -> str:
    """The text, without its middle if it is too long."""
    if len(text) <= length:
        return text
    half = length // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half:,} characters left out …]\n{text[-half:]}"
