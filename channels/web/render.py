"""Conversations, replies and messages to JSON for pages and API clients. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal, TypeAlias

from pydantic import TypeAdapter

from channels.history import Conversation, Item, PersonMessage
from channels.message import MessageStatus
from channels.reply import Reply, Segment, TextSegment
from channels.runs import RunReport

Wire: TypeAlias = dict[str, Any]
"""A JSON object."""

EventName = Literal["history", "reply", "change", "message", "status", "run", "ping"]


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    """Built at first use, not when the gateway starts."""
    return TypeAdapter(kind)


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a conversation's stream.

    - `history` `{"items": [...]}`: everything, replaces what the client has. Comes first, and again when needed.
    - `reply`: a whole reply, new or replacing the one with its id.
    - `change`: changes in a reply that the stream sent before, see `render_change`.
    - `message`: a person's message was accepted. A later `status` for its id may have come before it.
    - `status`: a message's new state.
    - `run`: a message's run has ended.
    - `ping`: nothing happened, the connection is alive.
    """

    name: EventName
    data: Wire

    def encode(self) -> bytes:
        """As a server-sent event. Half a surrogate pair, which a model's JSON may contain, becomes a question mark."""
        data = json.dumps(self.data, ensure_ascii=False, separators=(",", ":"))
        return f"event: {self.name}\ndata: {data}\n\n".encode(errors="replace")


def render_conversation(conversation: Conversation) -> Wire:
    wire: Wire = _adapter(Conversation).dump_python(conversation, mode="json")
    generation = {} if conversation.generation is None else {"generation": conversation.generation}
    return {
        "chat": conversation.address.chat,
        **generation,
        "title": wire["title"],
        "at": wire["at"],
        "running": wire["running"],
    }


def render_item(item: Item) -> Wire:
    """`{"kind": "message", "id", "message_id", "text", "state", …}` or `{"kind": "reply", "reply": {…}}`."""
    wire: Wire = _adapter(Item).dump_python(item, mode="json")
    return wire


def render_message(message: PersonMessage) -> Event:
    return Event("message", render_item(message))


def render_status(status: MessageStatus) -> Event:
    return Event("status", _adapter(MessageStatus).dump_python(status, mode="json", exclude={"address"}))


def render_run(report: RunReport) -> Wire:
    """`{"run", "state", "turn", "step", "reason", "finished", "calls": [{"id", "name", "arguments"}]}`."""
    wire: Wire = _adapter(RunReport).dump_python(report, mode="json")
    return wire


def render_reply(reply: Reply) -> Event:
    return Event("reply", _adapter(Reply).dump_python(reply, mode="json", exclude={"address"}))


def render_change(sent: Reply, now: Reply) -> Event:
    """The changes from `sent` to `now`: `{"id", "status", "done", "parked", "order", "segments", "grown"}`.

    `order` lists the keys of all segments, `segments` holds those that are new or changed, and `grown` maps the
    key of a text that only grew to what was added to it, so that a long answer is not sent whole at every word.
    """
    segments, grown = changed_segments(sent, now)
    data: Wire = {
        "id": now.id,
        "status": now.status,
        "done": now.done,
        "parked": now.parked,
        "order": [segment.key for segment in now.segments],
        "segments": [_adapter(Segment).dump_python(each, mode="json") for each in segments],
        "grown": grown,
    }
    return Event("change", data)


def changed_segments(sent: Reply, now: Reply) -> tuple[list[Segment], dict[str, str]]:
    """The segments that are new or changed, and, by key, what was added to texts that only grew."""
    before = {segment.key: segment for segment in sent.segments}
    changed = [segment for segment in now.segments if before.get(segment.key) != segment]
    grown = {segment.key: added for segment in changed if (added := _growth(before.get(segment.key), segment))}
    return [segment for segment in changed if segment.key not in grown], grown


def _growth(before: Segment | None, now: Segment) -> str:
    match before, now:
        case TextSegment(open=True), TextSegment() if now == replace(before, markdown=now.markdown):
            return now.markdown.removeprefix(before.markdown) if now.markdown.startswith(before.markdown) else ""
        case _:
            return ""
