"""What the model is shown: one pure function from turn logs to a complete conversation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import assert_never

from agent.log import Answered, Call, CallEnded, CallStarted, Ended, Entry, Heard, Outcome, Resumed, Told
from agent.media import Attachment

UNKNOWN = (
    "unknown: interrupted by a restart. The call may or may not have taken effect, wholly or in part, may even "
    "still be running, and was not run again. Check before repeating it."
)
NEVER_STARTED = "Skipped: the turn was interrupted before this call started; nothing of it was done."


@dataclass(frozen=True, slots=True)
class Result:
    """The one result of a tool call, as the model sees it."""

    call: Call
    outcome: Outcome
    text: str
    images: tuple[Attachment, ...] = ()


@dataclass(frozen=True, slots=True)
class Results:
    """A result for each call of the answer before, in the order of the calls."""

    results: tuple[Result, ...]


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the gateway tells the model: that a turn was stopped, that the steps are used up."""

    text: str


Exchange = Heard | Answered | Results | Notice
"""One part of the conversation, in the order in which the model is to read it."""


def transcript(entries: Iterable[Entry]) -> list[Exchange]:
    """One turn's log as the model is to see it: every call has exactly one result, whatever happened."""
    entries = tuple(entries)
    started = {entry.call_id for entry in entries if isinstance(entry, CallStarted)}
    ended = {entry.call_id: entry for entry in entries if isinstance(entry, CallEnded)}
    exchanges: list[Exchange] = []
    for entry in entries:
        match entry:
            case Heard():
                exchanges.append(entry)
            case Answered(parts=()):
                pass
            case Answered():
                exchanges.append(entry)
                if entry.calls:
                    exchanges.append(Results(tuple(_result(call, started, ended) for call in entry.calls)))
            case Ended(outcome="stopped" | "failed", reason=reason):
                exchanges.append(Notice(f"The turn ended here: {reason}"))
            case CallStarted() | CallEnded() | Told() | Resumed() | Ended():
                pass
            case _:
                assert_never(entry)
    return exchanges


def _result(call: Call, started: set[str], ended: dict[str, CallEnded]) -> Result:
    end = ended.get(call.id)
    if end is not None:
        return Result(call, end.outcome, end.text, end.images)
    if call.id in started:
        return Result(call, "unknown", UNKNOWN)
    return Result(call, "skipped", NEVER_STARTED)
