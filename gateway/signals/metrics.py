"""The metrics: what each counts, and how they follow from signals. docs/reference/metrics.md has the same table."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from agent.events import Logged, Waiting
from agent.hooks.chain import HookAnswered
from agent.log import (
    ApprovalDecided,
    ApprovalRequested,
    CallEnded,
    CallStarted,
    MessagesRead,
    ModelAnswered,
)
from agent.models.measuring import ModelCalled
from gateway.bus.events import (
    MessageAccepted,
    MessagesChanged,
    NotificationArrived,
    TurnEnded,
    TurnParked,
    TurnProgress,
    TurnStarted,
)
from gateway.observations import (
    ChannelFailed,
    MessageReceived,
    RateLimited,
    ReplyDelayed,
    ReplyDelivered,
    TurnAdopted,
    TurnHandedOver,
)
from gateway.sessions import is_child
from gateway.signals.numbers import LONG, QUICK, SLOW, Counter, Gauge, Histogram, Metric
from gateway.signals.signal import Signal
from gateway.store.health import Backlog
from gateway.store.writer import Committed

T = TypeVar("T")

MAX_MESSAGES = 20_000
"""Accepted messages whose time is remembered until they are read."""

MAX_TURNS = 5_000
"""Turns whose calls and approvals are remembered until they end; most of them wait for people."""

OTHER = "other"


def same(name: str) -> str:
    """Labels a tool by its own name."""
    return name


@dataclass(slots=True)
class _Turn:
    """What is known of a turn that has not ended. `since` is when it began to run, None while it waits for people;
    `seconds` is how long it had run before. `tools` are the names of its calls, `calls` and `approvals` when they
    began (monotonic seconds)."""

    since: float | None = None
    seconds: float = 0.0
    tools: dict[str, str] = field(default_factory=dict)
    calls: dict[str, float] = field(default_factory=dict)
    approvals: dict[str, tuple[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class State:
    """What is asked at a scrape. `backlog` None: the store does not answer. `workers` are those of the database by
    state, and `lease` the seconds that are left of this one's, as the database says; None where it needs none.
    `connections` are those with which it listens, by channel where one connection is for one worker only.
    `is_lease_valid` is what it says of its lease itself."""

    running: int
    queued: int
    replies: int
    channels: Mapping[str, str]
    backlog: Backlog | None
    version: str
    workers: Mapping[str, int] = field(default_factory=dict)
    lease: float | None = None
    connections: Mapping[str, int] = field(default_factory=dict)
    is_lease_valid: bool | None = None


class Metrics:
    """Counts signals (a `Watch`). `tool_label` gives the label of a tool's name, so that there are not more than the
    settings allow."""

    def __init__(
        self,
        tool_label: Callable[[str], str] = same,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tool_label = tool_label
        self._clock = clock
        self._accepted: OrderedDict[int, float] = OrderedDict()
        self._turns: OrderedDict[str, _Turn] = OrderedDict()
        self._channels: dict[str, str] = {}
        self._all: list[Metric] = []

        self.messages = self._counter("messages", "Messages of people that were stored.", "channel", "kind", "outcome")
        self.queue_wait = self._histogram(
            "queue_wait_seconds", "From the acceptance of a message to the turn that begins with it.", SLOW, "channel"
        )
        self.steering = self._histogram(
            "steering_seconds", "From the acceptance of a message to its reading by the running turn.", QUICK, "channel"
        )
        self.turns = self._counter("turns", "Turns that have ended.", "channel", "kind", "outcome")
        self.turn_time = self._histogram(
            "turn_seconds", "Time that a turn ran, without its waits for people.", SLOW, "channel", "kind"
        )
        self.model_calls = self._counter(
            "model_calls", 'Attempts at a model; error is the class of failure, "" for an answer.', "model", "error"
        )
        self.model_time = self._histogram(
            "model_call_seconds", "Duration of attempts that gave an answer.", SLOW, "model"
        )
        self.first_token = self._histogram(
            "model_first_token_seconds", "From the request to the first text or reasoning.", SLOW, "model"
        )
        self.tokens = self._counter("model_tokens", "Tokens of model calls.", "model", "kind")
        self.cost = self._counter("model_cost_dollars", "Cost of model calls, as far as prices are known.", "model")
        self.retries = self._counter("model_retries", "Model calls of turns that are made again.", "model", "error")
        self.fallbacks = self._counter(
            "model_fallbacks", "Model calls of turns for which another model was asked.", "model", "error"
        )
        self.tool_calls = self._counter("tool_calls", "Tool calls that have ended.", "tool", "outcome")
        self.tool_time = self._histogram("tool_call_seconds", "Duration of tool calls that were run.", SLOW, "tool")
        self.hooks = self._counter("hook_calls", "Calls of hooks.", "hook", "point", "outcome")
        self.hook_time = self._histogram("hook_call_seconds", "Duration of calls of hooks.", QUICK, "hook", "point")
        self.approvals_asked = self._counter("approvals_requested", "Approvals that people were asked for.", "subject")
        self.approvals = self._counter("approvals_decided", "Approvals by their decision.", "subject", "decision")
        self.approval_wait = self._histogram(
            "approval_wait_seconds", "From the request for approval to the decision.", LONG, "subject"
        )
        self.replies = self._counter("replies", "Replies that were delivered, or not.", "channel", "outcome")
        self.delays = self._counter("reply_delays", "Attempts at delivery that are made again later.", "channel")
        self.limited = self._counter(
            "rate_limited", "Times that the platform put off a reply or a status (429).", "channel"
        )
        self.failures = self._counter("channel_failures", "Failures after which a channel begins again.", "channel")
        self.reconnects = self._counter("channel_reconnects", "Times that a channel worked again.", "channel")
        self.commit_time = self._histogram("store_commit_seconds", "Duration of transactions that write.", QUICK)
        self.writes = self._counter("store_writes", "Writes in those transactions.")
        self.write_failures = self._counter("store_failures", "Transactions that write, with a write that failed.")
        self.loop_delay = self._histogram(
            "event_loop_delay_seconds", "How much too late the event loop runs, sampled each second.", QUICK
        )
        self.running = self._gauge("turns_running", "Turns that run.")
        self.parked = self._gauge("turns_parked", "Turns that wait for people.")
        self.queued = self._gauge("sessions_queued", "Conversations that wait for a free slot.")
        self.inbox_depth = self._gauge("inbox_messages", "Messages that wait to be read.", "channel")
        self.inbox_age = self._gauge("inbox_oldest_seconds", "Age of the oldest of them.", "channel")
        self.replies_waiting = self._gauge("replies_waiting", "Replies that are not shown completely yet.")
        self.channel_up = self._gauge("channel_up", "1 if the channel listens and works, else 0.", "channel")
        self.connections = self._gauge(
            "channel_connections", "Connections with which this worker listens, where workers share them.", "channel"
        )
        self.store_up = self._gauge("store_up", "1 if the store answers, else 0.")
        self.workers = self._gauge("workers", "Workers of the database, as this one sees them.", "state")
        self.lease = self._gauge("lease_seconds", "What is left of this worker's lease.")
        self.lease_valid = self._gauge("lease_valid", "1 while this worker's lease is valid, else 0.")
        self.adopted = self._counter("turns_adopted", "Turns that this worker has taken over from one that was gone.")
        self.handed_over = self._counter("turns_handed_over", "Turns that this worker has left to the others.")
        self.notification_time = self._histogram(
            "notification_seconds", "From a commit to the arrival of its notification.", QUICK
        )
        self.build = self._gauge("build_info", "The version of Interject.", "version")

        self._handlers: dict[type, Callable[[Any], None]] = {
            MessageReceived: self._received,
            MessageAccepted: self._message_accepted,
            MessagesChanged: self._messages_changed,
            TurnStarted: self._turn_started,
            TurnProgress: self._turn_progress,
            TurnParked: self._turn_parked,
            TurnEnded: self._turn_ended,
            ModelCalled: self._model_called,
            HookAnswered: self._hook_answered,
            ReplyDelivered: self._reply_delivered,
            ReplyDelayed: lambda delayed: self.delays.add(delayed.reply.address.channel),
            RateLimited: lambda limited: self.limited.add(limited.channel),
            ChannelFailed: lambda failed: self.failures.add(failed.channel),
            Committed: self._committed,
            TurnAdopted: lambda _: self.adopted.add(),
            TurnHandedOver: lambda _: self.handed_over.add(),
            NotificationArrived: lambda arrived: self.notification_time.observe(arrived.seconds),
        }
        self._logged: dict[type, Callable[[TurnProgress, Any], None]] = {
            MessagesRead: self._messages_read,
            ModelAnswered: self._model_answered,
            CallStarted: self._call_started,
            CallEnded: self._call_ended,
            ApprovalRequested: self._approval_requested,
            ApprovalDecided: lambda progress, decided: self._approval_decided(progress.turn, decided),
        }

    @property
    def all(self) -> tuple[Metric, ...]:
        return tuple(self._all)

    @property
    def remembered(self) -> int:
        """The number of messages and turns that are remembered."""
        return len(self._accepted) + len(self._turns)

    def __call__(self, signal: Signal) -> None:
        handle = self._handlers.get(type(signal))
        if handle is not None:
            handle(signal)

    def sample(self, delay: float, channels: Mapping[str, str]) -> None:
        """The event loop was late by so many seconds, and these are the states of the channels: "" or a problem."""
        self.loop_delay.observe(delay)
        for name, problem in channels.items():
            if self._channels.get(name) and not problem:
                self.reconnects.add(name)
        self._channels = dict(channels)

    def set(self, state: State) -> None:
        """The values at a scrape."""
        self.build.values = {(state.version,): 1.0}
        self.running.values[()] = state.running
        self.queued.values[()] = state.queued
        self.replies_waiting.values[()] = state.replies
        self.channel_up.values = {(name,): float(not problem) for name, problem in state.channels.items()}
        self.connections.values = {(name,): count for name, count in state.connections.items()}
        self.store_up.values[()] = float(state.backlog is not None)
        waiting = {} if state.backlog is None else state.backlog.inbox
        self.parked.values = {} if state.backlog is None else {(): state.backlog.parked}
        self.workers.values = {(name,): count for name, count in state.workers.items()}
        self.lease.values = {} if state.lease is None else {(): state.lease}
        self.lease_valid.values = {} if state.is_lease_valid is None else {(): float(state.is_lease_valid)}
        # A channel without waiting messages is told as 0, so that a graph does not keep its last value.
        names = () if state.backlog is None else {*state.channels, *waiting}
        self.inbox_depth.values = {(name,): waiting[name].count if name in waiting else 0 for name in names}
        self.inbox_age.values = {(name,): waiting[name].seconds if name in waiting else 0.0 for name in names}

    # --- messages ---

    def _received(self, received: MessageReceived) -> None:
        outcome = "refused" if received.state == "refused" else "accepted"
        self.messages.add(received.message.address.channel, received.message.kind, outcome)

    def _message_accepted(self, accepted: MessageAccepted) -> None:
        if not accepted.refused:
            _remember(self._accepted, accepted.id, self._clock(), MAX_MESSAGES)

    def _messages_changed(self, changed: MessagesChanged) -> None:
        """A turn that begins publishes what it reads only so; a running turn has logged it before."""
        if changed.state == "waiting":
            return
        for id in changed.ids:
            since = self._accepted.pop(id, None)
            if since is not None and changed.state == "read":
                self.queue_wait.observe(self._clock() - since, changed.address.channel)

    def _messages_read(self, progress: TurnProgress, read: MessagesRead) -> None:
        for message in read.messages:
            since = self._accepted.pop(message.id, None)
            if since is not None:
                self.steering.observe(self._clock() - since, progress.address.channel)

    # --- turns ---

    def _turn_started(self, started: TurnStarted) -> None:
        turn = self._turn(started.turn)
        turn.since = self._clock()
        if started.decided is not None:
            self._approval_decided(started.turn, started.decided)

    def _turn_parked(self, parked: TurnParked) -> None:
        self._pause(self._turn(parked.turn))

    def _turn_ended(self, ended: TurnEnded) -> None:
        kind = "delegated" if is_child(ended.session) else "own"
        self.turns.add(ended.address.channel, kind, ended.outcome)
        turn = self._turns.pop(ended.turn, None)
        if turn is not None:
            self._pause(turn)
            self.turn_time.observe(turn.seconds, ended.address.channel, kind)

    def _turn_progress(self, progress: TurnProgress) -> None:
        event = progress.event
        if isinstance(event, Logged):
            handle = self._logged.get(type(event.entry))
            if handle is not None:
                handle(progress, event.entry)
        elif isinstance(event, Waiting) and event.error:
            if event.instead:
                self.fallbacks.add(event.model, event.error)
            else:
                self.retries.add(event.model, event.error)

    def _turn(self, id: str) -> _Turn:
        found = self._turns.get(id)
        if found is None:
            found = _Turn()
            _remember(self._turns, id, found, MAX_TURNS)
        return found

    def _pause(self, turn: _Turn) -> None:
        if turn.since is not None:
            turn.seconds += self._clock() - turn.since
            turn.since = None

    # --- calls ---

    def _model_called(self, called: ModelCalled) -> None:
        model, usage = called.model, called.usage
        self.model_calls.add(model, called.error)
        if not called.error:
            self.model_time.observe(called.seconds, model)
        if called.first_token is not None:
            self.first_token.observe(called.first_token, model)
        kinds = {
            "input": usage.input - usage.cache_read - usage.cache_write,
            "cache_read": usage.cache_read,
            "cache_write": usage.cache_write,
            "output": usage.output - usage.reasoning,
            "reasoning": usage.reasoning,
        }
        for kind, tokens in kinds.items():
            if tokens > 0:
                self.tokens.add(model, kind, by=tokens)
        if usage.cost > 0:
            self.cost.add(model, by=usage.cost)

    def _model_answered(self, progress: TurnProgress, answered: ModelAnswered) -> None:
        if calls := answered.calls:
            self._turn(progress.turn).tools.update((call.id, call.name) for call in calls)

    def _call_started(self, progress: TurnProgress, started: CallStarted) -> None:
        turn = self._turn(progress.turn)
        turn.calls[started.call_id] = self._clock()
        if started.tool:
            turn.tools[started.call_id] = started.tool

    def _call_ended(self, progress: TurnProgress, ended: CallEnded) -> None:
        turn = self._turn(progress.turn)
        name = turn.tools.pop(ended.call_id, None)
        tool = OTHER if name is None else self._tool_label(name)
        self.tool_calls.add(tool, ended.outcome)
        since = turn.calls.pop(ended.call_id, None)
        if since is not None:
            self.tool_time.observe(self._clock() - since, tool)

    def _hook_answered(self, answered: HookAnswered) -> None:
        self.hooks.add(answered.hook, answered.point, answered.outcome)
        self.hook_time.observe(answered.seconds, answered.hook, answered.point)

    # --- approvals ---

    def _approval_requested(self, progress: TurnProgress, asked: ApprovalRequested) -> None:
        self.approvals_asked.add(asked.subject)
        self._turn(progress.turn).approvals[asked.id] = (asked.subject, self._clock())

    def _approval_decided(self, turn: str, decided: ApprovalDecided) -> None:
        """One that an earlier process asked for counts without its wait, which is not known."""
        subject, since = self._turn(turn).approvals.pop(decided.id, ("unknown", None))
        self.approvals.add(subject, decided.decision)
        if since is not None:
            self.approval_wait.observe(self._clock() - since, subject)

    # --- delivery and store ---

    def _reply_delivered(self, delivered: ReplyDelivered) -> None:
        self.replies.add(delivered.reply.address.channel, delivered.outcome)

    def _committed(self, committed: Committed) -> None:
        self.commit_time.observe(committed.seconds)
        self.writes.add(by=committed.writes)
        if committed.failed:
            self.write_failures.add()

    # --- definitions ---

    def _counter(self, name: str, help: str, *labels: str) -> Counter:
        counter = Counter(f"interject_{name}", help, labels)
        if not labels:
            counter.add(by=0.0)
        self._all.append(counter)
        return counter

    def _gauge(self, name: str, help: str, *labels: str) -> Gauge:
        gauge = Gauge(f"interject_{name}", help, labels)
        self._all.append(gauge)
        return gauge

    def _histogram(self, name: str, help: str, bounds: tuple[float, ...], *labels: str) -> Histogram:
        histogram = Histogram(f"interject_{name}", help, labels, bounds)
        self._all.append(histogram)
        return histogram


def _remember(known: OrderedDict[Any, T], key: object, value: T, most: int) -> None:
    known[key] = value
    while len(known) > most:
        known.popitem(last=False)
