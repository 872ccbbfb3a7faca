"""What conversations show: replies, from the store and from running turns."""

from __future__ import annotations

from typing import Protocol

from channels.reply import Reply
from gateway.outbound.channel_replies import ChannelReplies
from gateway.outbound.reply_builder import ReplyBuilder
from gateway.store import records
from gateway.turns.dispatcher import ActiveTurn, Dispatcher


class ConversationStore(Protocol):
    async def turn(self, turn_id: str) -> records.Turn: ...


class ConversationView:
    def __init__(
        self,
        store: ConversationStore,
        dispatcher: Dispatcher,
        replies: ChannelReplies,
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._replies = replies

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
