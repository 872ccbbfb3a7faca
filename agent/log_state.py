"""What a turn's log says of the turn: pure functions that the loop decides by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from agent.decisions.approvals import open_decision
from agent.decisions.external_tools import pending, results_deadline
from agent.decisions.questions import asked
from agent.log import Call, CallEnded, CallStarted, Entry, MessagesRead, ModelAnswered, Outcome, Resumed
from agent.media import Attachment
from agent.transcript import NEVER_STARTED, Exchange

LOOP_REPEATS = 5
LOOP_WINDOW = 20
"""A turn that makes the same call with the same result this often among so many calls goes in circles."""


def step_of(entries: Sequence[Entry]) -> int:
    """The step that the turn is at, counted from 1."""
    last = next((entry for entry in reversed(entries) if isinstance(entry, ModelAnswered)), None)
    return 1 if last is None else last.step + 1


def calls_of(entries: Sequence[Entry]) -> list[Call]:
    return [call for entry in entries if isinstance(entry, ModelAnswered) for call in entry.calls]


def unresolved(entries: Sequence[Entry]) -> list[tuple[Call, bool]]:
    """The calls that have no result yet, each with whether it had started."""
    started = {entry.call_id for entry in entries if isinstance(entry, CallStarted)}
    ended = {entry.call_id for entry in entries if isinstance(entry, CallEnded)}
    return [(call, call.id in started) for call in calls_of(entries) if call.id not in ended]


def endings(entries: Sequence[Entry], outcome: Outcome, text: str) -> tuple[CallEnded, ...]:
    """A result for each call that has none: `outcome` if it had started, else skipped."""
    return tuple(
        CallEnded(call.id, outcome, text) if started else CallEnded(call.id, "skipped", NEVER_STARTED)
        for call, started in unresolved(entries)
    )


def waits_for_people(entries: Sequence[Entry]) -> bool:
    """Whether the turn has asked something that is neither answered nor decided, or waits for results from outside."""
    asks = any(started and asked(call) for call, started in unresolved(entries))
    return asks or open_decision(entries) is not None or bool(pending(entries))


def deadline(entries: Sequence[Entry]) -> float | None:
    """Until when the turn waits, in seconds since 1970; None if that is for as long as it takes."""
    decision = open_decision(entries)
    return results_deadline(entries) if decision is None else decision.expires_at


def is_answered(entries: Sequence[Entry]) -> bool:
    """Whether there is an answer, wanting nothing done, and nothing new was heard since: the model's words, or results
    of calls that are final."""
    final: set[str] = set()
    for entry in reversed(entries):
        match entry:
            case CallEnded(final=True):
                final.add(entry.call_id)
            case ModelAnswered():
                return not entry.interrupted and all(call.id in final for call in entry.calls)
            case MessagesRead():
                return False
            case _:
                pass
    return False


def is_finishing_up(entries: Sequence[Entry]) -> bool:
    """Whether what was heard last asks for the end."""
    heard = (entry.messages for entry in reversed(entries) if isinstance(entry, MessagesRead) and _is_said(entry))
    last = next(heard, ())
    return bool(last) and [message.source for message in last if message.source != "work"][-1] == "wrap"


def restarts_in_a_row(entries: Sequence[Entry]) -> int:
    """Restarts since a call last came to a result of its own."""
    count = 0
    for entry in reversed(entries):
        if isinstance(entry, CallEnded) and entry.outcome in ("done", "failed", "cancelled"):
            break
        count += isinstance(entry, Resumed)
    return count


def steps_since_message(entries: Sequence[Entry]) -> int:
    """Model calls since a person said something."""
    count = 0
    for entry in reversed(entries):
        if isinstance(entry, ModelAnswered):
            count += not entry.interrupted
        elif isinstance(entry, MessagesRead) and _is_said(entry):
            break
    return count


def _is_said(entry: Entry) -> bool:
    """Whether a person said something: not everything heard is."""
    return isinstance(entry, MessagesRead) and any(message.source != "work" for message in entry.messages)


def detect_loop(entries: Sequence[Entry]) -> str | None:
    """The name of the tool that is called again and again with the same arguments and result; None if none is."""
    results: list[CallEnded] = []
    for entry in reversed(entries):
        if _is_said(entry) or len(results) == LOOP_WINDOW:
            break
        if isinstance(entry, CallEnded):
            results.append(entry)
    calls = _calls_ended_by(results, entries) if len(results) >= LOOP_REPEATS else {}
    alike = Counter(
        (call.name, call.arguments, end.outcome, end.text)
        for end in results
        if (call := calls.get(end.call_id)) is not None
    )
    return next((name for (name, *_), count in alike.items() if count >= LOOP_REPEATS), None)


def _calls_ended_by(results: Sequence[CallEnded], entries: Sequence[Entry]) -> dict[str, Call]:
    """By their ids; looked for from the end, as a log may be long."""
    ids = {end.call_id for end in results}
    found: dict[str, Call] = {}
    for entry in reversed(entries):
        if len(found) == len(ids):
            break
        if isinstance(entry, ModelAnswered):
            found |= {call.id: call for call in entry.calls if call.id in ids}
    return found


def received(conversation: Sequence[Entry | Exchange]) -> list[Attachment]:
    """What was attached by people, oldest first."""
    heard = (item for item in conversation if isinstance(item, MessagesRead))
    return [attachment for item in heard for message in item.messages for attachment in message.attachments]


def attachments(conversation: Sequence[Entry | Exchange]) -> tuple[Attachment, ...]:
    """What was attached by people and made by tools, oldest first."""
    found: list[Attachment] = []
    for item in conversation:
        match item:
            case MessagesRead():
                found.extend(received([item]))
            case CallEnded():
                found.extend(item.attachments)
            case _:
                pass
    return tuple(found)
