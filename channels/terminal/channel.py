"""The terminal channel, for a gateway in the same process."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from channels.address import Address
from channels.channel import CommandHelp, FileUnavailable, Ledger
from channels.message import Deliver, FileRef, MessageStatus, ThreadRoot
from channels.reply import Reply
from channels.terminal.attaching import CannotAttach, read_attached
from channels.terminal.parse import open_question, parse
from channels.terminal.printer import Files
from channels.terminal.screen import Screen

_PACE = 0.05


class TerminalChannel:
    """The person at the terminal is the owner. `files` has the bytes of the files that replies show."""

    def __init__(self, screen: Screen, files: Files, *, name: str = "terminal", chat: str = "main") -> None:
        self.name = name
        self.problem = ""
        self.address = Address(name, "local", chat)
        self._screen = screen
        self._files = files
        self._with_question: dict[str, Reply] = {}

    async def listen(self, deliver: Deliver, commands: tuple[CommandHelp, ...]) -> None:
        """Reads messages until cancelled. Shows the reason when a message could not be stored, and raises."""
        while True:
            typed = await self._screen.read()
            message = parse(typed, self.address, datetime.now(UTC), open_question(self._with_question.values()))
            if message is None:
                await self._screen.failed(typed, "the message is empty")
                continue
            try:
                receipt = await deliver(message)
            except Exception as error:
                await self._screen.failed(typed, str(error))
                raise
            await self._screen.accepted(typed, receipt)

    async def show_commands(self, commands: tuple[CommandHelp, ...]) -> None:
        """There is no menu: `/help` lists the commands."""

    async def fetch(self, file: FileRef) -> bytes:
        try:
            return await asyncio.to_thread(read_attached, file)
        except CannotAttach as error:
            raise FileUnavailable(str(error)) from error

    async def thread_root(self, address: Address, message_id: str) -> ThreadRoot | None:
        return None

    async def show(self, reply: Reply, ledger: Ledger) -> None:
        """The ledger is not used: a new terminal shows a reply from its beginning."""
        if open_question((reply,)):
            self._with_question[reply.id] = reply
        else:
            self._with_question.pop(reply.id, None)
        await self._screen.show(reply, self._files)

    async def typing(self, address: Address) -> None:
        """The status line shows it."""

    async def show_status(self, status: MessageStatus) -> None:
        await self._screen.show_status(status)

    async def direct_chat(self, person: str) -> str | None:
        return None

    def pace(self, address: Address) -> float:
        return _PACE

    async def aclose(self) -> None:
        """The screen closes when the person leaves."""
