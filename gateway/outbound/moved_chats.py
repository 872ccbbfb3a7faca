"""Chats whose id the platform has exchanged: people and replies find the conversation under either id."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from agent.interrupt import shielded
from channels.address import Address
from channels.channel import NotStored
from channels.message import Deliver, InboundMessage, Receipt
from gateway.sessions import session_key
from gateway.store.errors import StoreError
from gateway.store.records import ChatMove

log = logging.getLogger(__name__)


class MoveStore(Protocol):
    async def chat_moves(self) -> tuple[ChatMove, ...]: ...
    async def move_address(self, old: Address, new: Address) -> None: ...
    async def merge_address(self, new: Address, old: Address) -> bool: ...


ChatKey = tuple[str, str, str]


def _untold() -> None:
    """There is nobody else."""


class MovedChats:
    """A conversation keeps the address at which it began; `current` is where its chat is now."""

    def __init__(self, store: MoveStore, forget: Callable[[str], None], moved: Callable[[], None] = _untold) -> None:
        """`forget` is called with sessions whose history has changed, `moved` when other workers are to `refresh`."""
        self._store = store
        self._forget = forget
        self._moved = moved
        self._known: tuple[ChatMove, ...] = ()
        self._current: dict[ChatKey, str] = {}
        self._original: dict[ChatKey, str] = {}
        self._unmerged: list[tuple[Address, Address]] = []
        self._in_turn = asyncio.Lock()
        self._behind = 0

    async def load(self) -> None:
        """Before anything is received or shown. Raises `StoreError`."""
        await self._learn(await self._store.chat_moves())

    async def refresh(self) -> None:
        """Learns what other workers were told. Raises `StoreError`."""
        moves = await self._store.chat_moves()
        if moves != self._known:
            await self._learn(moves)

    async def _learn(self, moves: tuple[ChatMove, ...]) -> None:
        self._known = moves
        first: dict[ChatKey, str] = {}
        for move in moves:
            original = first.setdefault((move.channel, move.account, move.new_chat), move.chat)
            for chat in (move.chat, move.new_chat):
                self._original[move.channel, move.account, chat] = original
            self._current[move.channel, move.account, move.chat] = move.new_chat
        self._unmerged = [
            (Address(channel, account, new, kind="group"), Address(channel, account, chat, kind="group"))
            for (channel, account, new), chat in first.items()
        ]
        await self._merge()

    def current(self, address: Address) -> Address:
        """Where to send what is for this address."""
        return replace(address, chat=self._current.get(_key(address), address.chat)) if self._current else address

    def original(self, address: Address) -> Address:
        """The address of the conversation with whoever writes at this one."""
        return replace(address, chat=self._original.get(_key(address), address.chat)) if self._original else address

    async def move(self, address: Address, chat: str) -> None:
        """The chat at the address has this id now. Raises `StoreError`."""
        old = replace(self.current(self.original(address)), thread=None)
        if chat in (old.chat, self.original(address).chat):
            return
        await shielded(self._store.move_address(old, replace(old, chat=chat)))
        log.info("%s: the chat %s has the id %s now", address.channel, old.chat, chat)
        await self.load()
        self._moved()

    def receiving(self, deliver: Deliver) -> Deliver:
        """`deliver` for channels: messages arrive at the address of their conversation.

        What comes after the news of a move waits until that is stored, and keeps its order.
        """

        async def receive(message: InboundMessage) -> Receipt | None:
            if message.kind == "moved":
                async with self._in_turn:
                    await self._move(message)
                return None
            if self._in_turn.locked() or self._behind:
                self._behind += 1
                try:
                    async with self._in_turn:
                        pass
                finally:
                    self._behind -= 1
            if self._unmerged:
                await self._merge()
            return await deliver(replace(message, address=self.original(message.address)))

        return receive

    async def _merge(self) -> None:
        """What was said at a new id before the move was known belongs to the conversation, once no turn runs there."""
        for new, original in tuple(self._unmerged):
            try:
                merged = await self._store.merge_address(new, original)
            except StoreError as error:
                log.warning("%s: the messages of the chat %s cannot be merged yet: %s", new.channel, new.chat, error)
                return
            if merged and (new, original) in self._unmerged:
                self._unmerged.remove((new, original))
                self._forget(session_key(original))

    async def _move(self, message: InboundMessage) -> None:
        try:
            await self.move(message.address, message.text)
        except StoreError as error:
            raise NotStored(f"The gateway cannot store the new id of a chat at the moment: {error}") from error


def _key(address: Address) -> ChatKey:
    return (address.channel, address.account, address.chat)
