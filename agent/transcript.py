"""What the model is shown: one pure function from turn logs to a complete conversation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import assert_never

from agent.log import (
    ApprovalDecided,
    ApprovalRequested,
    Call,
    CallEnded,
    CallStarted,
    Ended,
    Entry,
    MessagesRead,
    ModelAnswered,
    Notice,
    Outcome,
    Resumed,
    Spent,
    Compacted,
)
from agent.media import Attachment

UNKNOWN = (
    "unknown: interrupted by a restart. The call may or may not have taken effect, wholly or in part, may even "
    "still be running, and was not run again. Check before repeating it."
)
OUTSIDE = "unknown: it is run outside of here, and its result is still waited for."
SUMMARY = "What was said and done before, summed up, as the conversation had grown too long to be shown whole:\n"
NEVER_STARTED = "Skipped: the turn was interrupted before this call started; nothing of it was done."


@dataclass(frozen=True, slots=True)
class Result:
    """The one result of a tool call, as the model sees it. `full` holds all of a text that was too long for it."""

    call: Call
    outcome: Outcome
    text: str
    images: tuple[Attachment, ...] = ()
    full: Attachment | None = None


@dataclass(frozen=True, slots=True)
class Results:
    """A result for each call of the answer before, in the order of the calls."""

    results: tuple[Result, ...]


@dataclass(frozen=True, slots=True)
class SystemNote:
    """Something the gateway tells the model: that a turn was stopped, that the steps are used up.

    `summary`: it stands in place of what came before it.
    """

    text: str
    summary: bool = False


Exchange = MessagesRead | ModelAnswered | Results | SystemNote
"""One part of the conversation, in the order in which the model is to read it."""


@dataclass(frozen=True, slots=True)
class RenderedTurn:
    """An ended turn as later ones are shown it, or, where turns were summed up, what is shown in their place; `id` is
    then that of the last of them."""

    id: str
    exchanges: tuple[Exchange, ...]


def transcript(entries: Iterable[Entry]) -> list[Exchange]:
    """One turn's log as the model is to see it: every call has exactly one result, whatever happened.

    A turn that was summed up shows the summary first, all words of people, and its steps since.
    """
    entries = tuple(entries)
    started = {entry.call_id: entry for entry in entries if isinstance(entry, CallStarted)}
    ended = {entry.call_id: entry for entry in entries if isinstance(entry, CallEnded)}
    summarised = last_summary(entries)
    exchanges: list[Exchange] = [] if summarised is None else [_notice(summarised)]
    first = 0 if summarised is None else summarised.step
    for entry in entries:
        match entry:
            case MessagesRead():
                exchanges.append(entry)
            case ModelAnswered(parts=()):
                pass
            case ModelAnswered(step=step) if step < first:
                pass
            case ModelAnswered():
                exchanges.append(entry)
                if calls := entry.calls:
                    exchanges.append(Results(tuple(_result(call, started, ended) for call in calls)))
            case Ended(outcome="stopped" | "failed", reason=reason):
                exchanges.append(SystemNote(f"The turn ended here: {reason}"))
            case (
                CallStarted()
                | CallEnded()
                | Spent()
                | ApprovalRequested()
                | ApprovalDecided()
                | Compacted()
                | Notice()
                | Resumed()
                | Ended()
            ):
                pass
            case _:
                assert_never(entry)
    return exchanges


def last_summary(entries: Sequence[Entry]) -> Compacted | None:
    """The one that counts: each goes before those it follows."""
    return next((entry for entry in reversed(entries) if isinstance(entry, Compacted)), None)


def shown(
    past: Sequence[RenderedTurn], entries: Sequence[Entry]
) -> tuple[tuple[RenderedTurn, ...], tuple[Exchange, ...]]:
    """The turns before this one and the turn itself, as the model is to see them now, each oldest first.

    A summary in the turn's log takes the place of the past turns that it covers.
    """
    own = tuple(transcript(entries))
    summarised = last_summary(entries)
    if summarised is None:
        return tuple(past), own
    covered = next((number for number, turn in enumerate(past, 1) if turn.id == summarised.through), 0)
    if covered == 0:
        return tuple(past), own
    return (RenderedTurn(summarised.through, own[:1]), *past[covered:]), own[1:]


def conversation(past: Sequence[RenderedTurn], entries: Sequence[Entry] = ()) -> list[Exchange]:
    """All that the model is to see before its next answer, oldest first."""
    turns, own = shown(past, entries)
    return [*(exchange for turn in turns for exchange in turn.exchanges), *own]


class Conversation:
    """`conversation` for a turn that goes on: asked again with a log that has grown, it renders what is new.

    `past` is the conversation before the turn.
    """

    def __init__(self, past: Sequence[RenderedTurn]) -> None:
        self.past = past
        self._rendered: list[Exchange] = []
        self._count = 0

    def up_to(self, entries: Sequence[Entry]) -> list[Exchange]:
        """All that the model is to see now; `entries` is the turn's log, never shorter than it was."""
        later = entries[self._count :]
        if self._count == 0 or last_summary(later) is not None:
            exchanges = conversation(self.past, entries)
        else:
            exchanges = [*self._rendered, *transcript(later)]
        if _all_ended(later):
            # Nothing that is still to come changes how this reads, except for a summary.
            self._rendered, self._count = exchanges, len(entries)
        return exchanges


def _all_ended(entries: Sequence[Entry]) -> bool:
    ended = {entry.call_id for entry in entries if isinstance(entry, CallEnded)}
    return all(call.id in ended for entry in entries if isinstance(entry, ModelAnswered) for call in entry.calls)


def _notice(summarised: Compacted) -> SystemNote:
    return SystemNote(summarised.summary if summarised.left_out else f"{SUMMARY}{summarised.summary}", summary=True)


def _result(call: Call, started: dict[str, CallStarted], ended: dict[str, CallEnded]) -> Result:
    end, start = ended.get(call.id), started.get(call.id)
    if end is not None:
        return Result(call, end.outcome, end.text, end.images, end.full)
    if start is not None:
        return Result(call, "unknown", UNKNOWN if start.until is None else OUTSIDE)
    return Result(call, "skipped", NEVER_STARTED)
