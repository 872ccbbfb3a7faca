"""What conversations show: messages and replies, from the store and from running turns."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Protocol

from agent.log import Ended
from channels.address import Address
from channels.channel import NotStored
from channels.history import Item, PersonMessage, ShownReply
from channels.message import MessageState
from channels.reply import Reply
from gateway.outbound.channel_replies import ChannelReplies
from gateway.outbound.reply_builder import ReplyBuilder
from gateway.sessions import session_key
from gateway.store import records
from gateway.store.errors import StoreError
from gateway.turns.dispatcher import ActiveTurn, Dispatcher, message_state


class ConversationStore(Protocol):
    async def rows(self, session: str, generation: int | None = None) -> tuple[records.InboxRow, ...]: ...
    async def turn(self, turn_id: str) -> records.Turn: ...
    async def turns_of(self, session: str, generation: int | None = None) -> tuple[records.Turn, ...]: ...


class ConversationView:
    def __init__(
        self,
        store: ConversationStore,
        dispatcher: Dispatcher,
        replies: ChannelReplies,
        delete: Callable[[records.DeletionRequest], Awaitable[records.DeletionReport]],
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._replies = replies
        self._delete = delete

    async def history(self, address: Address, generation: int | None = None) -> tuple[Item, ...]:
        """All messages and replies since the last `/new`, or of that earlier conversation, oldest first; running
        replies in their current state."""
        session = session_key(address)
        turns = await self._store.turns_of(session, generation)
        rows = await self._store.rows(session, generation)
        replies = {turn.id: self.reply_of(turn) for turn in turns}
        return tuple(_in_order(rows, turns, replies))

    async def delete(self, address: Address, by: str) -> None:
        """Deletes the conversation with all that belongs to it, for the user `by`. Raises
        `channels.channel.NotStored`."""
        wanted = records.DeletionRequest("conversation", session_key(address), by=f"{address.channel}:{by}")
        try:
            await self._delete(wanted)
        except StoreError as error:
            raise NotStored(f"The conversation cannot be deleted at the moment: {error}") from error

    async def reply(self, session: str, turn_id: str) -> Reply:
        """The reply of a turn of the session so far. Raises `LookupError` if there is no such turn."""
        return (await self.builder(session, turn_id)).reply()

    async def builder(self, session: str, turn_id: str) -> ReplyBuilder:
        """The reply of a turn of the session as it grows. Raises `LookupError` if there is no such turn."""
        return self._running(session, turn_id) or self._replies.of(await self._store.turn(turn_id))

    def active(self, session: str, turn_id: str) -> ActiveTurn | None:
        """The turn, if it runs in this process."""
        for active in (self._dispatcher.active(session), self._dispatcher.active(turn_id)):
            if active is not None and active.reply is not None and active.reply.id == turn_id:
                return active
        return None

    def builder_of(self, turn: records.Turn) -> ReplyBuilder:
        """The turn's reply as it grows; that of a turn which another worker runs has only what is in the log."""
        return self._running(turn.session, turn.id) or self._replies.of(turn)

    def reply_of(self, turn: records.Turn) -> Reply:
        """The turn's reply so far."""
        return self.builder_of(turn).reply()

    def _running(self, session: str, turn_id: str) -> ReplyBuilder | None:
        """A running turn's own, which has what is not in the log yet."""
        active = self.active(session, turn_id)
        return None if active is None else active.reply


def _message(row: records.InboxRow, end: Ended | None) -> PersonMessage:
    """`end` is that of the turn which read the message."""
    state: MessageState = row.state if row.state != "consumed" else message_state(end)
    return PersonMessage(
        id=row.id,
        message_id=row.message_id,
        sender=row.sender.name,
        text=row.text,
        attachments=tuple(file for file in row.attachments if file.taken_from is None),
        state=state,
        step=row.step,
        reason=row.reason if end is None else end.reason,
        at=row.at,
    )


def _end_of(turn: records.Turn) -> Ended | None:
    return next((entry for entry in reversed(turn.entries) if isinstance(entry, Ended)), None)


def _begins(row: records.InboxRow) -> bool:
    """Whether a turn began with it: a command, or a message that its first step read. Decisions came later."""
    return row.step is None or (row.step == 1 and row.state == "consumed")


def _in_order(
    rows: Sequence[records.InboxRow], turns: Sequence[records.Turn], replies: Mapping[str, Reply]
) -> Iterator[Item]:
    """Each reply comes after the messages that its turn began with; one that answers none, by its start time."""
    answering = {row.turn: row.id for row in rows if _begins(row)}
    others = deque(turn for turn in turns if turn.id not in answering)
    ends = {turn.id: _end_of(turn) for turn in turns}
    for row in rows:
        while others and others[0].started_at < row.at:
            yield ShownReply(replies[others.popleft().id])
        reply = replies.get(row.turn or "")
        yield _message(row, ends.get(row.turn or ""))
        if reply is not None and answering.get(reply.id) == row.id:
            yield ShownReply(reply)
    for turn in others:
        yield ShownReply(replies[turn.id])
