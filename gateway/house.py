"""The house: everything that runs, put together and taken apart in the right order."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Container
from contextlib import AsyncExitStack

from agent.media import Attachment, MediaStore
from agent.turn import Mind
from channels.address import Address
from channels.channel import Channel, ChannelRejected
from gateway.commands import Commands
from gateway.delivery import Delivery
from gateway.dispatch import Dispatch, marks
from gateway.fetching import Fetching, ReadFile
from gateway.gate import Gate
from gateway.histories import Histories
from gateway.intake import Intake
from gateway.notices import Notices
from gateway.replies import Draft
from gateway.screens import Screens
from gateway.store import Store, records
from gateway.typing import show_typing

log = logging.getLogger(__name__)

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
SETTLED = 30.0
"""Seconds a channel must have listened for its earlier troubles to count as over."""

Service = Callable[[], Awaitable[None]]
"""Something that runs beside the channels until cancelled: a web server, an import in the background."""


async def says_nothing(attachment: Attachment) -> str:
    """For a house in which files are handed on unread."""
    return ""


class House:
    """Use as `async with House(...) as house: await house.run()`."""

    def __init__(
        self,
        store: Store,
        media: MediaStore,
        gate: Gate,
        mind: Callable[[Address], Mind],
        *,
        most_running: int,
        whole: Container[str] = (),
        read_file: ReadFile = says_nothing,
        many: int = 20,
    ) -> None:
        """`mind` is the agent for a place. `whole` names the channels on which replies do not grow; `read_file` says
        what people's files say; `many` is the number of waiting messages that people are told of."""
        self.store = store
        self.channels: dict[str, Channel] = {}
        self.trouble: dict[str, str] = {}
        self.delivery = Delivery(self.channels, store, whole=whole)
        self.histories = Histories(store)
        self.dispatch = Dispatch(store, self.delivery, self.histories, mind, most_running=most_running)
        notices = Notices(store, self.delivery)
        self.commands = Commands(store, self.dispatch, self.histories, notices, self._troubles, gate.is_admin)
        fetching = Fetching(store, self.channels, media, read_file)
        self.intake = Intake(store, gate, self.dispatch, self.commands, self.delivery, notices, fetching, many=many)
        self.screens = Screens(store, self.dispatch)
        self._stack = AsyncExitStack()

    def add(self, channel: Channel) -> None:
        """Adds a channel, before `run()`."""
        self.channels[channel.name] = channel

    def _troubles(self) -> dict[str, str]:
        """What is wrong with which channel, as far as it is known."""
        told = {channel.name: channel.trouble for channel in self.channels.values() if channel.trouble}
        return told | self.trouble

    async def __aenter__(self) -> House:
        for channel in self.channels.values():
            self._stack.push_async_callback(channel.aclose)
        for part in (self.delivery, self.dispatch, self.intake):
            await self._stack.enter_async_context(part)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def run(self, *services: Service) -> None:
        """Goes on with what an earlier process left and listens on every channel, until cancelled."""
        await self._take_up(await self.store.pending())
        async with asyncio.TaskGroup() as group:
            for channel in self.channels.values():
                group.create_task(self._listen(channel))
            group.create_task(show_typing(self.dispatch, self.channels))
            for service in services:
                group.create_task(_supervised(service))

    async def _take_up(self, pending: records.Pending) -> None:
        """Replies first, so that they stand before those to come; nothing that a stop covers may begin before it."""
        for turn_id in pending.undelivered:
            await self._show_again(turn_id)
        self.intake.take_up(pending)
        for session in pending.sessions:
            self.dispatch.wake(session)

    async def _show_again(self, turn_id: str) -> None:
        """The edge at which a reply that cannot be read costs itself only."""
        try:
            turn = await self.store.turn(turn_id)
            pieces = await self.store.pieces(turn_id)
        except Exception:
            log.exception("reply %s cannot be read and stays undelivered", turn_id)
            return
        draft = Draft(turn.id, turn.address, turn.reply_to, turn.entries, parked=turn.parked)
        self.delivery.show(draft, pieces=pieces)
        for mark in marks(turn, turn.entries, "read" if turn.parked else "answered"):
            self.delivery.mark(mark)

    async def _listen(self, channel: Channel) -> None:
        """Supervises one channel: what breaks it costs it alone, is told, and is tried again."""
        pause = FIRST_PAUSE
        while True:
            since = time.monotonic()
            try:
                await channel.listen(self.intake.deliver, self.commands.list())
                return
            except ChannelRejected as error:
                self.trouble[channel.name] = str(error)
                log.error("%s: %s", channel.name, error)
                pause = LONGEST_PAUSE
            except Exception:
                self.trouble[channel.name] = "it broke and is started again; the log has the details"
                log.exception("%s: the channel broke", channel.name)
            if time.monotonic() - since > SETTLED:
                pause = FIRST_PAUSE
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))
            self.trouble.pop(channel.name, None)
            pause = min(LONGEST_PAUSE, 2 * pause)


async def _supervised(service: Service) -> None:
    """Runs a service until it is done; one that breaks is started again."""
    pause = FIRST_PAUSE
    while True:
        try:
            return await service()
        except Exception:
            log.exception("a service broke and is started again")
        await asyncio.sleep(pause)
        pause = min(LONGEST_PAUSE, 2 * pause)
