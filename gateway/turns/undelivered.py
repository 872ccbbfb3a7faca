"""Replies that a platform did not take: who is told, and another attempt."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from agent.log import Ended, Notice, Undelivered
from agent.media import Attachment
from channels.address import Address
from channels.channel import Channel, ChannelError, Sent
from channels.reply import MediaSegment, QuestionSegment, Reply, Segment, TextSegment
from gateway.outbound.channel_replies import ChannelReplies
from gateway.outbound.delivery import Delivery
from gateway.outbound.notices import Notices
from gateway.outbound.reply_builder import ReplyBuilder
from gateway.sessions import is_child, session_key
from gateway.store.command_turns import GATEWAY
from gateway.store.records import AuditEvent, Turn, UndeliveredReply
from gateway.turns.dispatcher import message_state, message_statuses
from gateway.turns.history_cache import HistoryCache

log = logging.getLogger(__name__)

NOT_SHOWN = "⚠️ My answer to you could not be shown in the group: {reason}"
NOTHING_TO_READ = "It has no text."


class DeliveryStore(Protocol):
    async def turn(self, turn_id: str) -> Turn: ...
    async def pieces(self, reply_id: str) -> tuple[Sent, ...]: ...
    async def undelivered(self, session: str | None = None) -> tuple[UndeliveredReply, ...]: ...
    async def redeliver(self, turn_ids: Sequence[str], event: AuditEvent) -> None: ...


class StoredReplies:
    """Replies of turns that are settled: shown again by a process that starts, or on request."""

    def __init__(
        self,
        store: DeliveryStore,
        channels: Mapping[str, Channel],
        delivery: Delivery,
        notices: Notices,
        replies: ChannelReplies,
        histories: HistoryCache,
    ) -> None:
        self._store = store
        self._channels = channels
        self._delivery = delivery
        self._notices = notices
        self._replies = replies
        self._histories = histories

    async def show(self, turn_ids: Iterable[str], channels: Collection[str] | None = None) -> None:
        """Those on the `channels`, None: on all. A failure at one reply affects only that reply."""
        for turn_id in turn_ids:
            try:
                turn = await self._store.turn(turn_id)
                pieces = await self._store.pieces(turn_id)
            except Exception:
                log.exception("reply %s cannot be read and stays undelivered", turn_id)
                continue
            is_meant = channels is None or turn.address.channel in channels
            if is_meant and not is_child(turn.session):
                self._show(turn, pieces)

    def _show(self, turn: Turn, pieces: tuple[Sent, ...]) -> None:
        self._delivery.show(self._replies.of(turn), pieces=pieces)
        ended = next((entry for entry in reversed(turn.entries) if isinstance(entry, Ended)), None)
        for status in message_statuses(turn, turn.entries, message_state(ended), ended.reason if ended else ""):
            self._delivery.show_status(status, reply="" if turn.parked else turn.id)

    async def show_undelivered(self, session: str | None, by: AuditEvent) -> int:
        """Tries again to deliver what was not delivered in the conversation, or in all; the number of replies."""
        undelivered = [reply.turn for reply in await self._store.undelivered(session)]
        if undelivered:
            await self._store.redeliver(undelivered, by)
            await self.show(undelivered)
        return len(undelivered)

    async def show_one(self, turn_id: str, by: AuditEvent) -> bool:
        """Tries again to deliver the reply of one turn; false if it was delivered."""
        if all(reply.turn != turn_id for reply in await self._store.undelivered(None)):
            return False
        await self._store.redeliver([turn_id], by)
        await self.show([turn_id])
        return True

    async def not_delivered(self, builder: ReplyBuilder, undelivered: Undelivered) -> None:
        """Delivery has given the reply up, or a part of it: the model's next turn is told, and the person whose turn it
        is, where the chat itself cannot tell."""
        turn = await self._store.turn(builder.id)
        self._histories.forget(turn.session)
        if undelivered.is_whole and turn.address.kind == "group" and turn.principal.id != GATEWAY.id:
            await self._tell_directly(turn, builder.reply(), undelivered.reason)

    async def _tell_directly(self, turn: Turn, reply: Reply, reason: str) -> None:
        """The answer goes to the direct chat with the person."""
        channel = self._channels.get(turn.address.channel)
        if channel is None:
            # It was removed meanwhile.
            return
        try:
            chat = await channel.direct_chat(turn.principal.id)
        except ChannelError as error:
            log.warning(
                "%s: %s cannot be notified that a reply was not shown: %s", channel.name, turn.principal.id, error
            )
            return
        if chat is not None:
            address = Address(channel.name, turn.address.account, chat)
            notice = Notice(_as_text(reply.segments, reason), attachments=_attachments(reply.segments))
            await self._notices.send(session_key(address), address, None, notice, f"undelivered:{turn.id}")


def _as_text(segments: Iterable[Segment], reason: str) -> str:
    texts = [
        segment.markdown if isinstance(segment, TextSegment) else segment.question
        for segment in segments
        if isinstance(segment, QuestionSegment) or (isinstance(segment, TextSegment) and not segment.secondary)
    ]
    return "\n\n".join((NOT_SHOWN.format(reason=reason), *(texts or [NOTHING_TO_READ])))


def _attachments(segments: Iterable[Segment]) -> tuple[Attachment, ...]:
    return tuple(segment.attachment for segment in segments if isinstance(segment, MediaSegment))
