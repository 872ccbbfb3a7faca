"""Notices: messages from the gateway itself, each sent at most once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from agent.log import Ended, Notice
from channels.address import Address
from gateway.bus import BusEvent, NoticeSent
from gateway.outbound.delivery import Delivery
from gateway.outbound.reply_builder import ReplyBuilder


class NoticeStore(Protocol):
    async def say(
        self, session: str, address: Address, reply_to: str | None, notice: Notice, key: str
    ) -> str | None: ...


class Notices:
    def __init__(self, store: NoticeStore, delivery: Delivery, publish: Callable[[BusEvent], None]) -> None:
        self._store = store
        self._delivery = delivery
        self._publish = publish

    async def send(self, session: str, address: Address, reply_to: str | None, notice: Notice, key: str) -> None:
        """Stores and shows the notice, unless one with this key was sent before. Raises `StoreError`."""
        turn_id = await self._store.say(session, address, reply_to, notice, key)
        if turn_id is not None:
            self.show(turn_id, address, reply_to, notice)
            self._publish(NoticeSent(session, address, turn_id))

    def show(self, turn_id: str, address: Address, reply_to: str | None, notice: Notice) -> None:
        """Shows a stored notice."""
        self._delivery.show(ReplyBuilder(turn_id, address, reply_to, (notice, Ended("completed"))))
