"""Notices: what the gateway says of its own accord, each at most once."""

from __future__ import annotations

from typing import Protocol

from agent.log import Ended, Notice
from channels.address import Address
from gateway.outbound.delivery import Delivery
from gateway.outbound.reply_builder import ReplyBuilder


class NoticeStore(Protocol):
    async def say(self, session: str, address: Address, reply_to: str | None, told: Notice, key: str) -> str | None: ...


class Notices:
    def __init__(self, store: NoticeStore, delivery: Delivery) -> None:
        self._store = store
        self._delivery = delivery

    async def say(self, session: str, address: Address, reply_to: str | None, told: Notice, key: str) -> None:
        """Keeps it and shows it, unless something was said under this key before. Raises `StoreError`."""
        turn_id = await self._store.say(session, address, reply_to, told, key)
        if turn_id is not None:
            self.show(turn_id, address, reply_to, told)

    def show(self, turn_id: str, address: Address, reply_to: str | None, told: Notice) -> None:
        """Shows what is kept already."""
        self._delivery.show(ReplyBuilder(turn_id, address, reply_to, (told, Ended("completed"))))
