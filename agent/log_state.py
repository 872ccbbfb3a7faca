"""The state of a turn, derived from its log by pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agent.decisions.approvals import open_decision
from agent.decisions.external_tools import pending, results_deadline
from agent.decisions.questions import parse_question
from agent.log import Call, CallEnded, CallStarted, Entry, MessagesRead, ModelAnswered, Outcome, Resumed
from agent.media import Attachment
from agent.transcript import NEVER_STARTED, Exchange

LOOP_REPEATS = {1: 5, 2: 3, 3: 3, 4: 3, 5: 3, 6: 3}
"""A turn is in a loop if its last calls are one pattern over and over, each with the same result: how often, by the
length of the pattern."""

LOOP_WINDOW = max(length * repeats for length, repeats in LOOP_REPEATS.items())


def step_of(entries: Sequence[Entry]) -> int:
    """The current step of the turn, counted from 1."""
    last = next((entry for entry in reversed(entries) if isinstance(entry, ModelAnswered)), None)
    return 1 if last is None else last.step + 1


def calls_of(entries: Sequence[Entry]) -> list[Call]:
    return [call for entry in entries if isinstance(entry, ModelAnswered) for call in entry.calls]


def unresolved(entries: Sequence[Entry]) -> list[tuple[Call, bool]]:
    """The calls without a result, each with whether it has started."""
    started = {entry.call_id for entry in entries if isinstance(entry, CallStarted)}
    ended = {entry.call_id for entry in entries if isinstance(entry, CallEnded)}
    return [(call, call.id in started) for call in calls_of(entries) if call.id not in ended]


def tools_in_place(entries: Iterable[Entry]) -> dict[str, str]:
    """The tools that hooks had run in place of those that the model called, by the ids of the calls."""
    return {entry.call_id: entry.tool for entry in entries if isinstance(entry, CallStarted) and entry.tool}


def endings(entries: Sequence[Entry], outcome: Outcome, text: str) -> tuple[CallEnded, ...]:
    """A result for each call without one: `outcome` if the call has started, else skipped."""
    return tuple(
        CallEnded(call.id, outcome, text) if started else CallEnded(call.id, "skipped", NEVER_STARTED)
        for call, started in unresolved(entries)
    )


def waits_for_people(entries: Sequence[Entry]) -> bool:
    """Whether the turn waits for an answer, for an approval or for the results of external tools."""
    has_question = any(started and parse_question(call) for call, started in unresolved(entries))
    return has_question or open_decision(entries) is not None or bool(pending(entries))


def deadline(entries: Sequence[Entry]) -> float | None:
    """When the turn stops waiting, in seconds since 1970; None for no limit."""
    decision = open_decision(entries)
    return results_deadline(entries) if decision is None else decision.expires_at


def is_answered(entries: Sequence[Entry]) -> bool:
    """Whether the turn has its answer (an answer of the model without calls, or results of calls that are final) and no
    newer message."""
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
    """Whether the last message of a person is a request to finish up."""
    messages = (entry.messages for entry in reversed(entries) if isinstance(entry, MessagesRead) and _has_person(entry))
    last = next(messages, ())
    return bool(last) and [message.source for message in last if message.source != "work"][-1] == "wrap"


def restarts_in_a_row(entries: Sequence[Entry]) -> int:
    """Restarts since the last call that ended with a result of its own."""
    count = 0
    for entry in reversed(entries):
        if isinstance(entry, CallEnded) and entry.outcome in ("done", "failed", "cancelled"):
            break
        count += isinstance(entry, Resumed)
    return count


def steps_since_message(entries: Sequence[Entry]) -> int:
    """Model calls since the last message of a person."""
    count = 0
    for entry in reversed(entries):
        if isinstance(entry, ModelAnswered):
            count += not entry.interrupted
        elif isinstance(entry, MessagesRead) and _has_person(entry):
            break
    return count


def _has_person(entry: Entry) -> bool:
    """Whether the entry has a message of a person: results of background work are messages too."""
    return isinstance(entry, MessagesRead) and any(message.source != "work" for message in entry.messages)


def detect_loop(entries: Sequence[Entry]) -> tuple[str, ...]:
    """The tools that are called over and over with the same arguments and the same results; () if there are none. The
    same call between other ones is no loop: a test may fail the same way after each of several changes."""
    results: list[CallEnded] = []
    for entry in reversed(entries):
        if _has_person(entry) or len(results) == LOOP_WINDOW:
            break
        if isinstance(entry, CallEnded):
            results.append(entry)
    if len(results) < min(length * repeats for length, repeats in LOOP_REPEATS.items()):
        return ()
    calls = _calls_ended_by(results, entries)
    made = [
        (call.name, call.arguments, end.outcome, end.text)
        for end in results
        if (call := calls.get(end.call_id)) is not None
    ]
    for length, repeats in LOOP_REPEATS.items():
        last = made[: length * repeats]
        if len(last) == length * repeats and all(call == last[n % length] for n, call in enumerate(last)):
            return tuple(dict.fromkeys(name for name, *_ in last))
    return ()


def _calls_ended_by(results: Sequence[CallEnded], entries: Sequence[Entry]) -> dict[str, Call]:
    """The calls by their ids, searched from the end because a log may be long."""
    ids = {end.call_id for end in results}
    found: dict[str, Call] = {}
    for entry in reversed(entries):
        if len(found) == len(ids):
            break
        if isinstance(entry, ModelAnswered):
            found |= {call.id: call for call in entry.calls if call.id in ids}
    return found


def received_files(conversation: Sequence[Entry | Exchange]) -> list[Attachment]:
    """The attachments that people sent, oldest first."""
    read = (item for item in conversation if isinstance(item, MessagesRead))
    return [attachment for item in read for message in item.messages for attachment in message.attachments]


def attachments(conversation: Sequence[Entry | Exchange]) -> tuple[Attachment, ...]:
    """The attachments that people sent and tools made, oldest first."""
    found: list[Attachment] = []
    for item in conversation:
        match item:
            case MessagesRead():
                found.extend(received_files([item]))
            case CallEnded():
                found.extend(item.attachments)
            case _:
                pass
    return tuple(found)
