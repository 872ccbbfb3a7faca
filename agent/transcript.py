"""The transcript that the model is shown: one pure function from turn logs to a complete conversation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
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
    Notice,
    Outcome,
    Resumed,
    Spent,
    Undelivered,
    UndeliveredPart,
)
from agent.media import Attachment

UNKNOWN = (
    "unknown: interrupted by a restart. The call may have taken effect, fully or in part, or may still be running. It "
    "was not run again. Check before repeating it."
)
RUNS_EXTERNALLY = "unknown: the call runs externally, and its result has not been supplied yet."
SUMMARY = "Summary of the earlier conversation, which had grown too long to be shown in full:\n"
TURN_ENDED = "The turn ended here: "
NEVER_STARTED = "Skipped: the turn was interrupted before this call started. It was not run."


@dataclass(frozen=True, slots=True)
class Result:
    """The one result of a tool call, as the model sees it. `full` is the whole text if it was too long; `foreign` are
    the sources of foreign text in it."""

    call: Call
    outcome: Outcome
    text: str
    images: tuple[Attachment, ...] = ()
    full: Attachment | None = None
    foreign: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Results:
    """A result for each call of the previous answer, in the order of the calls."""

    results: tuple[Result, ...]


@dataclass(frozen=True, slots=True)
class SystemNote:
    """A note of the gateway to the model, for example that a turn was stopped or that the steps are used up.

    `summary`: it replaces the earlier part of the conversation, in which there was foreign text of these sources.
    """

    text: str
    summary: bool = False
    foreign: tuple[str, ...] = ()


Exchange = MessagesRead | ModelAnswered | Results | SystemNote
"""One part of the conversation."""


@dataclass(frozen=True, slots=True)
class RenderedTurn:
    """An ended turn as the model sees it later, or the summary of several turns; `id` is then the last one's.

    `size` is how many tokens the conversation had at its end, as far as a provider counted them; 0 if that is unknown
    since a compaction, None if the turn has no answer.
    """

    id: str
    exchanges: tuple[Exchange, ...]
    size: int | None = None


def transcript(entries: Iterable[Entry]) -> list[Exchange]:
    """One turn's log as the model sees it: every call has exactly one result in any case.

    A compacted turn shows the summary first, then all messages of people and the later steps.
    """
    entries = tuple(entries)
    started = {entry.call_id: entry for entry in entries if isinstance(entry, CallStarted)}
    ended = {entry.call_id: entry for entry in entries if isinstance(entry, CallEnded)}
    undelivered = undelivered_parts(entries)
    compacted = last_compaction(entries)
    exchanges: list[Exchange] = [] if compacted is None else [_summary_note(compacted)]
    first = 0 if compacted is None else compacted.step
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
                    results = [_result(call, started, ended) for call in calls]
                    exchanges.append(Results(tuple(_as_delivered(result, undelivered) for result in results)))
            case Notice(text=text, for_model=True):
                exchanges.append(SystemNote(text))
            case Ended(outcome="stopped" | "failed", reason=reason):
                exchanges.append(SystemNote(f"{TURN_ENDED}{reason}"))
            case (
                CallStarted()
                | CallEnded()
                | Spent()
                | ApprovalRequested()
                | ApprovalDecided()
                | InputRequested()
                | InputEnded()
                | Compacted()
                | Notice()
                | Resumed()
                | Ended()
                | Undelivered()
            ):
                pass
            case _:
                assert_never(entry)
    called = {call.id for entry in entries if isinstance(entry, ModelAnswered) for call in entry.calls}
    return [*exchanges, *(_undelivered_note(part) for part in undelivered if part.call_id not in called)]


def undelivered_parts(entries: Sequence[Entry]) -> tuple[UndeliveredPart, ...]:
    """What people were not shown of the reply, as far as the log knows."""
    return next((entry.parts for entry in reversed(entries) if isinstance(entry, Undelivered)), ())


def last_compaction(entries: Sequence[Entry]) -> Compacted | None:
    """The last compaction in the log, which replaces the earlier ones."""
    return next((entry for entry in reversed(entries) if isinstance(entry, Compacted)), None)


def model_view(
    past: Sequence[RenderedTurn], entries: Sequence[Entry]
) -> tuple[tuple[RenderedTurn, ...], tuple[Exchange, ...]]:
    """The past turns and the current turn, as the model sees them now, each oldest first.

    A summary in the turn's log replaces the past turns that it covers.
    """
    own = tuple(transcript(entries))
    compacted = last_compaction(entries)
    if compacted is None:
        return tuple(past), own
    covered = next((number for number, turn in enumerate(past, 1) if turn.id == compacted.through), 0)
    if covered == 0:
        return tuple(past), own
    return (RenderedTurn(compacted.through, own[:1], 0), *past[covered:]), own[1:]


def conversation(past: Sequence[RenderedTurn], entries: Sequence[Entry] = ()) -> list[Exchange]:
    """The whole input of the model's next answer, oldest first."""
    turns, own = model_view(past, entries)
    return [*(exchange for turn in turns for exchange in turn.exchanges), *own]


class Conversation:
    """`conversation` for a running turn: called again with a longer log, it renders only the new entries.

    `past` is the conversation before the turn.
    """

    def __init__(self, past: Sequence[RenderedTurn]) -> None:
        self.past = past
        self._rendered: list[Exchange] = []
        self._count = 0

    def up_to(self, entries: Sequence[Entry]) -> list[Exchange]:
        """The model's input now; `entries` is the turn's log, never shorter than before."""
        new = entries[self._count :]
        is_changed = any(isinstance(entry, Compacted | Undelivered) for entry in new)
        if self._count == 0 or is_changed:
            exchanges = conversation(self.past, entries)
        else:
            exchanges = [*self._rendered, *transcript(new)]
        if _all_ended(new):
            # Later entries do not change this rendering, except for a summary and what was not delivered.
            self._rendered, self._count = exchanges, len(entries)
        return exchanges


def _all_ended(entries: Sequence[Entry]) -> bool:
    ended = {entry.call_id for entry in entries if isinstance(entry, CallEnded)}
    return all(call.id in ended for entry in entries if isinstance(entry, ModelAnswered) for call in entry.calls)


def _summary_note(compacted: Compacted) -> SystemNote:
    text = compacted.summary if compacted.left_out else f"{SUMMARY}{compacted.summary}"
    return SystemNote(text, summary=True, foreign=compacted.foreign)


def _as_delivered(result: Result, undelivered: Sequence[UndeliveredPart]) -> Result:
    """The result with why its attachments were not shown, if they were not."""
    for part in undelivered:
        if part.call_id == result.call.id:
            note = f"not delivered: {part.reason}. The person has not been shown it."
            return replace(result, text="\n\n".join(filter(None, (result.text, note))))
    return result


def _undelivered_note(part: UndeliveredPart) -> SystemNote:
    what = "The reply above could not be shown" if part.whole else "A part of the reply above could not be shown"
    return SystemNote(f"{what} to the person: {part.reason}")


def _result(call: Call, started: dict[str, CallStarted], ended: dict[str, CallEnded]) -> Result:
    end, start = ended.get(call.id), started.get(call.id)
    if end is not None:
        return Result(call, end.outcome, end.text, end.images, end.full, end.foreign)
    if start is not None:
        return Result(call, "unknown", UNKNOWN if start.until is None else RUNS_EXTERNALLY)
    return Result(call, "skipped", NEVER_STARTED)
