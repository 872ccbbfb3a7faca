"""A channel for programs: they read answers through the control API, so nothing is pushed anywhere."""

from __future__ import annotations

import asyncio

from agent.media import MediaMissing, MediaStore
from channels.address import Address
from channels.channel import CommandHelp, FileUnavailable, Ledger
from channels.message import Deliver, FileRef, MessageStatus, ThreadRoot
from channels.reply import Reply
from channels.web.parse import attachment_of

NAME = "api"


def address_of(conversation: str) -> Address:
    """The address of a program's conversation with this name."""
    return Address(NAME, "local", conversation)


class ProgramChannel:
    """Implements `channels.channel.Channel`."""

    name = NAME
    problem = ""

    def __init__(self, media: MediaStore) -> None:
        self._media = media

    async def listen(self, deliver: Deliver, commands: tuple[CommandHelp, ...]) -> None:
        """Until cancelled. The API delivers messages by itself."""
        await asyncio.get_running_loop().create_future()

    async def show_commands(self, commands: tuple[CommandHelp, ...]) -> None:
        """Programs have no menu."""

    async def fetch(self, file: FileRef) -> bytes:
        try:
            return await self._media.read(attachment_of(file))
        except MediaMissing as error:
            raise FileUnavailable(str(error)) from error

    async def thread_root(self, address: Address, message_id: str) -> ThreadRoot | None:
        return None

    async def show(self, reply: Reply, ledger: Ledger) -> None:
        """Programs read it when they want it."""

    async def typing(self, address: Address) -> None:
        """Nobody looks."""

    async def show_status(self, status: MessageStatus) -> None:
        """Programs read it when they want it."""

    async def direct_chat(self, person: str) -> str | None:
        return None

    def pace(self, address: Address) -> float:
        return 0.0

    async def aclose(self) -> None:
        """There is nothing to close."""
