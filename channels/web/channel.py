"""A channel whose people and programs look at conversations through the HTTP API: nothing is pushed to them."""

from __future__ import annotations

import asyncio

from agent.media import MediaMissing, MediaStore
from channels.address import Address
from channels.channel import CommandHelp, FileUnavailable, Ledger
from channels.message import Deliver, FileRef, MessageStatus, ThreadRoot
from channels.reply import Reply
from channels.web.parse import attachment_of


class WebChannel:
    """Implements `channels.channel.Channel`. Everybody with the current token is the same person, the owner."""

    problem = ""

    def __init__(self, name: str, media: MediaStore) -> None:
        self.name = name
        self._media = media

    async def listen(self, deliver: Deliver, commands: tuple[CommandHelp, ...]) -> None:
        """Until cancelled. The API delivers messages by itself."""
        await asyncio.get_running_loop().create_future()

    async def show_commands(self, commands: tuple[CommandHelp, ...]) -> None:
        """There is no menu: `/help` lists them."""

    async def fetch(self, file: FileRef) -> bytes:
        try:
            return await self._media.read(attachment_of(file))
        except MediaMissing as error:
            raise FileUnavailable(str(error)) from error

    async def thread_root(self, address: Address, message_id: str) -> ThreadRoot | None:
        return None

    async def show(self, reply: Reply, ledger: Ledger) -> None:
        """Event streams and histories have it."""

    async def typing(self, address: Address) -> None:
        """The reply's status shows it."""

    async def show_status(self, status: MessageStatus) -> None:
        """Event streams and histories have it."""

    async def direct_chat(self, person: str) -> str | None:
        return None

    def pace(self, address: Address) -> float:
        return 0.0

    async def aclose(self) -> None:
        """The connections are the HTTP server's."""
