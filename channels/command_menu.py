"""The menu of commands on a platform, which is registered there by calls."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from channels.channel import CommandHelp

Register = Callable[[tuple[CommandHelp, ...]], Awaitable[None]]


class CommandMenu:
    """Of several registrations at the same time, none overwrites a newer menu."""

    def __init__(self, register: Register) -> None:
        """`register` has the platform show these commands."""
        self._register = register
        self._registering = asyncio.Lock()
        self.commands: tuple[CommandHelp, ...] = ()
        """Those that are to be shown."""

    async def show(self) -> None:
        """Returns when the newest ones are registered. Raises what registering raises."""
        async with self._registering:
            registered = None
            while registered is not self.commands:
                registered = self.commands
                await self._register(registered)
