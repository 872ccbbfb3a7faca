"""The menus of commands on platforms: they follow what commands there are, as skills and prompts come and go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from channels.channel import Channel, CommandHelp

log = logging.getLogger(__name__)

PAUSE = 10.0
"""Seconds between two updates: what changes meanwhile is shown together. Platforms take few of them."""

SHOW_TIMEOUT = 60.0
"""Seconds that a platform has to take a menu."""


class Menus:
    def __init__(
        self, commands: Callable[[], tuple[CommandHelp, ...]], channels: Mapping[str, Channel], *, pause: float = PAUSE
    ) -> None:
        """`commands` gives those that there are; it may block. `pause` is in seconds."""
        self._list = commands
        self._channels = channels
        self._pause = pause
        self._changed = asyncio.Event()
        self.commands: tuple[CommandHelp, ...] = ()
        """As they were listed last."""

    def changed(self) -> None:
        """There may be other commands now. Never waits."""
        self._changed.set()

    async def load(self) -> None:
        self.commands = await asyncio.to_thread(self._list)

    async def follow(self) -> None:
        """Shows what has changed, until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            before = self.commands
            await self.load()
            if self.commands == before:
                continue
            await asyncio.gather(*(self._show(channel) for channel in tuple(self._channels.values())))
            await asyncio.sleep(self._pause)

    async def _show(self, channel: Channel) -> None:
        """A failure here affects only this menu, until the channel listens anew."""
        try:
            async with asyncio.timeout(SHOW_TIMEOUT):
                await channel.show_commands(self.commands)
        except TimeoutError:
            log.warning("%s: its menu of commands is not up to date: no answer in %g s", channel.name, SHOW_TIMEOUT)
        except Exception:
            log.exception("%s: its menu of commands is not up to date", channel.name)
