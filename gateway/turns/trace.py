"""The trace of a turn: what was read when, model calls, tools, approvals, sends and cost; pure, from its log.

Times are seconds since the turn began; None where a log of an earlier version does not say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from agent.foreign import name_sources
from agent.log import (
    ApprovalDecided,
    ApprovalRequested,
    Call,
    CallEnded,
    CallStarted,
    Compacted,
    Ended,
    Entry,
    HookAsked,
    MessagesRead,
    ModelAnswered,
    Notice,
    Resumed,
    Spent,
    Undelivered,
    Usage,
    UserMessage,
)
from agent.log_state import calls_of
from agent.tools.titles import call_title
from channels.channel import Sent
from gateway.store.records import UsageTotals
from gateway.store.traces import TracedTask, TracedTurn

TEXT_LENGTH = 200
"""Characters of a text in a trace."""


@dataclass(frozen=True, slots=True)
class ReadMessage:
    """`waited` is how many seconds it lay unread. `source` is "person", "wrap" (a request to finish up) or "work" (a
    result of background work)."""

    id: int
    sender: str
    source: str
    text: str
    files: int
    waited: float | None


@dataclass(frozen=True, slots=True)
class Read:
    """The turn read these messages before step `step`."""

    at: float | None
    step: int
    messages: tuple[ReadMessage, ...]
    seconds: float | None = None
    kind: str = "read"


@dataclass(frozen=True, slots=True)
class ModelCall:
    """One answer. `outcome`: "answered", "interrupted", "interrupted by a restart", "cut off" or "refused".
    `first_token` is in seconds after the call began; `reviewed`: hooks changed what people see."""

    at: float | None
    step: int
    model: str
    outcome: str
    usage: Usage
    calls: int
    seconds: float | None = None
    first_token: float | None = None
    reviewed: bool = False
    kind: str = "model"


@dataclass(frozen=True, slots=True)
class Charge:
    """What was paid without an answer of the turn: a failed attempt, a summary, a tool."""

    at: float | None
    step: int
    model: str
    purpose: str
    usage: Usage
    seconds: float | None = None
    kind: str = "charge"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """`outcome` "" : it has not ended. `by_hooks`: hooks changed the tool or its arguments; `silent`: people are not
    shown it; `foreign` are the sources of text from outside in its result."""

    at: float | None
    id: str
    tool: str
    title: str
    outcome: str
    result: str
    seconds: float | None = None
    by_hooks: bool = False
    external: bool = False
    background: bool = False
    silent: bool = False
    files: int = 0
    foreign: str = ""
    kind: str = "tool"


@dataclass(frozen=True, slots=True)
class Approval:
    """A request to people, and how long it was open. `decision` "": it is open."""

    at: float | None
    subject: str
    tool: str
    decision: str
    by: str
    reason: str
    seconds: float | None = None
    kind: str = "approval"


@dataclass(frozen=True, slots=True)
class Happening:
    """Something else in the log: a compaction, a notice of the gateway, a restart, the end, an undelivered part."""

    at: float | None
    what: str
    text: str
    seconds: float | None = None
    kind: str = "event"


@dataclass(frozen=True, slots=True)
class Send:
    """A piece of the reply: since when the platform shows it, or will not. `state` is "shown", "simplified",
    "undeliverable", or "unknown" after a crash."""

    at: float | None
    piece: str
    state: str
    ref: str
    reason: str
    seconds: float | None = None
    kind: str = "send"


@dataclass(frozen=True, slots=True)
class Hooked:
    """The hooks at a point were asked, so many `times`, about an answer or the call `call_id`. `ruling` "": go on."""

    at: float | None
    point: str
    times: int
    ruling: str
    by: str
    changed: bool
    call_id: str
    seconds: float | None = None
    kind: str = "hook"


Span = Read | ModelCall | Charge | ToolCall | Approval | Happening | Send | Hooked


@dataclass(frozen=True, slots=True)
class Task:
    """Work in the background that the turn began. `turns` have traces of their own."""

    at: float
    handle: str
    title: str
    state: str
    seconds: float | None
    turns: tuple[str, ...]
    cost: float


@dataclass(frozen=True, slots=True)
class Trace:
    """`seconds` is how long the turn took, None while it has not ended; `cost` is with all that it delegated."""

    turn: str
    conversation: str
    channel: str
    place: str
    person: str
    name: str
    agent: str
    outcome: str
    reason: str
    started_at: datetime
    seconds: float | None
    spans: tuple[Span, ...]
    tasks: tuple[Task, ...] = ()
    cost: UsageTotals = field(default_factory=UsageTotals)
    undeliverable: str = ""

    @property
    def end(self) -> float:
        """The time of the last thing in it."""
        ends = (span.at + (span.seconds or 0.0) for span in self.spans if span.at is not None)
        return max(self.seconds or 0.0, *ends, 0.0)


def trace_of(found: TracedTurn) -> Trace:
    turn = found.turn
    spans = [*_logged(found), *_sends(found)]
    return Trace(
        turn=turn.id,
        conversation=turn.session,
        channel=turn.address.channel,
        place=turn.address.kind,
        person=f"{turn.address.channel}:{turn.principal.id}",
        name=turn.principal.name,
        agent=turn.agent,
        outcome="parked" if turn.parked and found.state == "running" else found.state,
        reason=found.reason,
        started_at=turn.started_at,
        seconds=None if found.ended_at is None else _since(found, found.ended_at),
        spans=tuple(sorted(spans, key=_time)),
        tasks=tuple(_task(found, task) for task in found.tasks),
        cost=found.spent,
        undeliverable=found.undeliverable,
    )


def trace_json(trace: Trace) -> dict[str, Any]:
    """For programs: times as numbers of seconds since `started_at`, which is as in ISO 8601."""
    return asdict(trace) | {"started_at": trace.started_at.isoformat()}


def _time(span: Span) -> float:
    """Spans without a time keep their places, at the beginning."""
    return 0.0 if span.at is None else span.at


def _since(found: TracedTurn, at: datetime) -> float:
    return round(max(0.0, (at - found.turn.started_at).total_seconds()), 3)


def _offsets(found: TracedTurn) -> Iterator[float | None]:
    return (None if at is None else _since(found, at) for at in found.times)


def _logged(found: TracedTurn) -> Iterator[Span]:
    """The spans of the log, each at the place of the entry that ends it."""
    entries = found.turn.entries
    timed = list(zip(entries, _offsets(found), strict=True))
    calls = {call.id: call for call in calls_of(entries)}
    started = {entry.call_id: (entry, at) for entry, at in timed if isinstance(entry, CallStarted)}
    requested = {entry.id: (entry, at) for entry, at in timed if isinstance(entry, ApprovalRequested)}
    ended = {entry.call_id for entry in entries if isinstance(entry, CallEnded)}
    decided = {entry.id for entry in entries if isinstance(entry, ApprovalDecided)}
    for entry, at in timed:
        yield from _hooked(entry, at, started)
        match entry:
            case MessagesRead():
                yield Read(at, entry.step, tuple(_message(found, message, at) for message in entry.messages))
            case ModelAnswered():
                yield _model_call(entry, at)
            case Spent():
                yield Charge(at, entry.step, entry.model, entry.purpose, entry.usage)
            case CallStarted() if entry.call_id not in ended:
                yield _tool_call(calls.get(entry.call_id), entry, at, None, None)
            case CallEnded():
                start, begun = started.get(entry.call_id, (None, None))
                yield _tool_call(calls.get(entry.call_id), start, begun, entry, at)
            case ApprovalRequested() if entry.id not in decided:
                yield _approval(calls, entry, at, None, None)
            case ApprovalDecided() if entry.id in requested:
                yield _approval(calls, *requested[entry.id], entry, at)
            case _:
                yield from _happening(entry, at)


def _hooked(
    entry: Entry, at: float | None, started: Mapping[str, tuple[CallStarted, float | None]]
) -> Iterator[Hooked]:
    """Those before a call end when it starts, those before the model when that is asked, the others with the entry."""
    match entry:
        case ModelAnswered(hooks=hooks, seconds=seconds):
            before = None if at is None else max(0.0, at - (seconds or 0.0))
        case CallEnded(hooks=hooks, call_id=call_id):
            before = started[call_id][1] if call_id in started else at
        case ApprovalRequested(hooks=hooks) | Ended(hooks=hooks):
            before = at
        case _:
            return
    for asked in hooks:
        yield _hook(asked, before if asked.point in ("before_model", "before_tool", "approve_tool") else at)


def _hook(asked: HookAsked, end: float | None) -> Hooked:
    begun = None if end is None else round(max(0.0, end - asked.seconds), 3)
    return Hooked(begun, asked.point, asked.times, asked.ruling, asked.by, asked.changed, asked.call_id, asked.seconds)


def _message(found: TracedTurn, message: UserMessage, at: float | None) -> ReadMessage:
    received = found.received.get(message.id)
    waited = None if received is None or at is None else at - (received - found.turn.started_at).total_seconds()
    return ReadMessage(
        message.id,
        message.sender,
        message.source,
        _short(message.text),
        len(message.attachments),
        None if waited is None else round(max(0.0, waited), 3),
    )


def _model_call(entry: ModelAnswered, at: float | None) -> ModelCall:
    begun = None if at is None else round(max(0.0, at - (entry.seconds or 0.0)), 3)
    return ModelCall(
        begun,
        entry.step,
        entry.model,
        _outcome(entry),
        entry.usage,
        len(entry.calls),
        entry.seconds,
        entry.first_token,
        reviewed=entry.shown is not None and entry.shown != entry.text,
    )


def _outcome(entry: ModelAnswered) -> str:
    if entry.interrupted:
        return "interrupted by a restart" if entry.by_restart else "interrupted"
    return "refused" if entry.refused else "cut off" if entry.cut_off else "answered"


def _tool_call(
    call: Call | None, started: CallStarted | None, begun: float | None, end: CallEnded | None, ended: float | None
) -> ToolCall:
    asked, arguments = ("", "") if call is None else (call.name, call.arguments)
    tool, given = (asked, arguments) if started is None else (started.tool or asked, started.arguments or arguments)
    id = end.call_id if end is not None else started.call_id if started is not None else ""
    return ToolCall(
        ended if begun is None else begun,
        id,
        tool,
        _short(call_title(tool, given)),
        "" if end is None else end.outcome,
        "" if end is None else _short(end.text),
        None if begun is None or ended is None else round(ended - begun, 3),
        by_hooks=started is not None and started.until is None and bool(started.tool or started.arguments),
        external=started is not None and started.until is not None,
        background=end is not None and end.background,
        silent=end is not None and end.silent,
        files=0 if end is None else len(end.attachments),
        foreign="" if end is None or not end.foreign else name_sources(end.foreign),
    )


def _approval(
    calls: Mapping[str, Call],
    request: ApprovalRequested,
    at: float | None,
    decided: ApprovalDecided | None,
    ended: float | None,
) -> Approval:
    call = calls.get(request.id)
    return Approval(
        at,
        request.subject,
        request.tool or ("" if call is None else call.name),
        "" if decided is None else decided.decision,
        "" if decided is None else decided.by,
        "" if decided is None else decided.reason,
        None if at is None or ended is None else round(ended - at, 3),
    )


def _happening(entry: Entry, at: float | None) -> Iterator[Happening]:
    match entry:
        case Compacted():
            yield Happening(at, "compacted", "left out without a summary" if entry.left_out else "")
        case Notice():
            yield Happening(at, "notice", _short(entry.text))
        case Resumed():
            yield Happening(at, "resumed", "after a restart")
        case Ended():
            yield Happening(at, entry.outcome, entry.reason)
        case Undelivered():
            yield Happening(at, "undelivered" if entry.parts else "delivered", entry.reason)
        case _:
            pass


def _sends(found: TracedTurn) -> Iterator[Send]:
    for piece in found.pieces:
        sent: Sent = piece.sent
        yield Send(None if piece.at is None else _since(found, piece.at), sent.key, sent.state, sent.ref, sent.reason)


def _task(found: TracedTurn, task: TracedTask) -> Task:
    seconds = None if task.ended_at is None else (task.ended_at - task.started_at).total_seconds()
    return Task(
        _since(found, task.started_at),
        task.handle,
        task.title,
        task.state,
        None if seconds is None else round(seconds, 3),
        task.turns,
        task.cost,
    )


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= TEXT_LENGTH else f"{line[: TEXT_LENGTH - 1]}…"
