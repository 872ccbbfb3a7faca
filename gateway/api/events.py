"""Events of the API: what happens in conversations and on channels, as typed JSON. A closed union by `type`."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic_core import PydanticSerializationError

from agent.log import Outcome
from channels.message import MessageState
from channels.reply import CallSegment, MediaSegment, QuestionSegment, TextSegment
from gateway.api.runs import Run

DecisionKind = Literal["approval", "question"]
Change = Literal["title", "history", "new", "deleted"]
Segment = Annotated[TextSegment | MediaSegment | CallSegment | QuestionSegment, Field(discriminator="kind")]


def _now() -> datetime:
    return datetime.now(UTC)


class _Part(BaseModel):
    # Built when the first event is made, not when the gateway starts.
    model_config = ConfigDict(defer_build=True, frozen=True)


class _Event(_Part):
    """`at` is when the event was made."""

    at: datetime = Field(default_factory=_now)


class _InConversation(_Event):
    """`conversation` is the id of the conversation, as in its address."""

    conversation: str


class _InTurn(_InConversation):
    """`turn` is the id of the turn; its reply has the same id."""

    turn: str


class Person(_Part):
    """`id` is the platform's, `name` is for display."""

    id: str
    name: str


class File(_Part):
    """A stored file: `hash` is the SHA-256 of its bytes in hex, `size` is in bytes; `width` and `height` of a picture
    are in pixels."""

    hash: str
    name: str
    media_type: str
    size: int
    width: int | None
    height: int | None


class PersonMessage(_Part):
    """A person's message. `id` rises in order of arrival, `message_id` is the platform's. `run` is the run that answers
    it, if it gets an answer of its own. `turn` is the turn that read it, at `step`. `schedule`: the person has not
    written it now, it is their scheduled task with this id, which was due."""

    kind: Literal["message"] = "message"
    id: int
    message_id: str | None
    sender: Person
    text: str
    files: list[File]
    state: MessageState
    reason: str
    run: str | None
    turn: str | None
    step: int | None
    schedule: str | None
    sent_at: datetime


class Reply(_Part):
    """What a turn has to say, in the order of its segments. `status` is one short line while it works. `done`: nothing
    changes any more. `parked`: it waits for people."""

    id: str
    reply_to: str | None
    segments: list[Segment]
    status: str
    done: bool
    parked: bool


class ShownReply(_Part):
    kind: Literal["reply"] = "reply"
    reply: Reply


Item = Annotated[PersonMessage | ShownReply, Field(discriminator="kind")]


class Snapshot(_InConversation):
    """The newest messages and replies of the conversation, oldest first: replaces what the client has. The events after
    it are changes to it. `more`: there are earlier items; `before` leads to them in the history."""

    type: Literal["snapshot"] = "snapshot"
    items: list[Item]
    more: bool
    before: str | None


class Reset(_Event):
    """Events were missed: the client was away for too long, or too slow, or the gateway was restarted. In the stream of
    one conversation a `snapshot` follows; otherwise read again what is of interest."""

    type: Literal["reset"] = "reset"
    reason: str


class Ping(_Event):
    """Nothing happened lately; the connection is alive."""

    type: Literal["ping"] = "ping"


class MessageAccepted(_InConversation):
    """A person's message was accepted, or a waiting one was edited or has its files now: replaces the one with this
    id."""

    type: Literal["message"] = "message"
    message: PersonMessage


class MessageStateChanged(_InConversation):
    """A person's message has a new state."""

    type: Literal["message.state"] = "message.state"
    id: int
    state: MessageState
    reason: str
    turn: str | None
    step: int | None


class TurnStarted(_InTurn):
    """A turn runs; again, if it was parked or a restart interrupted it. `agent` and `model` are the operator's names,
    `model` is "" for the agent's own. `by` is who began it."""

    type: Literal["turn.started"] = "turn.started"
    agent: str
    model: str
    by: Person


class TurnStep(_InTurn):
    """The model has answered. `input` and `output` are tokens, `cost` is in dollars, `calls` the ids of the tool calls
    that it asks for."""

    type: Literal["turn.step"] = "turn.step"
    step: int
    model: str
    input: int
    output: int
    cost: float
    calls: list[str]


class ToolStarted(_InTurn):
    """A tool call runs. `arguments` is JSON, cut if it is long; known secrets are masked."""

    type: Literal["tool.started"] = "tool.started"
    call: str
    name: str
    title: str
    arguments: str


class ToolEnded(_InTurn):
    """A tool call has ended. `text` is its result, cut if it is long; known secrets are masked."""

    type: Literal["tool.ended"] = "tool.ended"
    call: str
    name: str
    outcome: Outcome
    background: bool
    text: str
    files: list[File]


class ReplyShown(_InTurn):
    """A whole reply, new or replacing the one with its id. The last one of a turn is `done`."""

    type: Literal["reply"] = "reply"
    reply: Reply


class ReplyChanged(_InTurn):
    """Changes since the last event of this reply. `order` lists the keys of all segments; `segments` are those that are
    new or changed; `grown` has, by key, what was added to a text that only grew."""

    type: Literal["reply.changed"] = "reply.changed"
    status: str
    done: bool
    parked: bool
    order: list[str]
    segments: list[Segment]
    grown: dict[str, str]


class TurnParked(_InTurn):
    """The turn waits for people. `decisions` are the ids of what is asked."""

    type: Literal["turn.parked"] = "turn.parked"
    decisions: list[str]


class DecisionAsked(_InTurn):
    """An approval or an answer is asked for; `id` is that of the decision. `question` is Markdown; without `options`
    any text answers it. `until`: then it counts as denied, or as not answered; null: it waits."""

    type: Literal["decision.asked"] = "decision.asked"
    id: str
    kind: DecisionKind
    question: str
    options: list[str]
    until: datetime | None


class DecisionDecided(_InTurn):
    """It was decided or answered. `decision` is "" for a question; `answer` says what was answered, or decided by whom,
    if that is known."""

    type: Literal["decision.decided"] = "decision.decided"
    id: str
    kind: DecisionKind
    decision: Literal["", "allowed", "denied", "undecided"]
    answer: str


class RunEnded(_InConversation):
    """A run has ended. It comes after everything of its answer. `turn` is the turn that read its message, if any."""

    type: Literal["run.ended"] = "run.ended"
    turn: str | None
    run: Run


class ConversationChanged(_InConversation):
    """`title`: it has another title. `history`: a part of it does not belong to it any more (`/undo`, `/retry`, a
    deletion). `new`: a new one begins at its place. `deleted`: it is gone. Except for a title, a `snapshot` follows in
    the stream of the conversation."""

    type: Literal["conversation.changed"] = "conversation.changed"
    change: Change
    title: str


class ChannelTrouble(_Event):
    """The channel does not work; `problem` says why, for people."""

    type: Literal["channel.trouble"] = "channel.trouble"
    channel: str
    problem: str


class ChannelOk(_Event):
    """The channel works again."""

    type: Literal["channel.ok"] = "channel.ok"
    channel: str


Event = Union[  # noqa: UP007  # the description of the API names the members
    Snapshot,
    Reset,
    Ping,
    MessageAccepted,
    MessageStateChanged,
    TurnStarted,
    TurnStep,
    ToolStarted,
    ToolEnded,
    ReplyShown,
    ReplyChanged,
    TurnParked,
    DecisionAsked,
    DecisionDecided,
    RunEnded,
    ConversationChanged,
    ChannelTrouble,
    ChannelOk,
]


def types() -> tuple[str, ...]:
    """The `type` of every event."""
    return tuple(get_args(each.model_fields["type"].annotation)[0] for each in get_args(Event))


@cache
def adapter() -> TypeAdapter[Event]:
    """Reads events, whatever their type."""
    return TypeAdapter(Annotated[Event, Field(discriminator="type")])


def schema() -> dict[str, Any]:
    """The JSON schema of an event's data."""
    found = adapter().json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Event", **found}


def encoded(event: Event, id: str | None) -> bytes:
    """As a server-sent event: https://html.spec.whatwg.org/multipage/server-sent-events.html"""
    head = f"event: {event.type}\n" if id is None else f"id: {id}\nevent: {event.type}\n"
    return b"%sdata: %s\n\n" % (head.encode(), to_json(event))


def to_json(event: Event) -> bytes:
    """The event in one line. Half a surrogate pair, which a model's text may contain, becomes a question mark."""
    try:
        return event.model_dump_json().encode()
    except (PydanticSerializationError, UnicodeEncodeError):
        data = json.dumps(event.model_dump(), ensure_ascii=False, separators=(",", ":"), default=datetime.isoformat)
        return data.encode(errors="replace")
