"""The terminal channel: one person's screen in the gateway's own process."""

from __future__ import annotations

from datetime import UTC, datetime

from channels.address import Address
from channels.channel import CommandHelp, FileUnavailable, Ledger
from channels.message import Deliver, FileRef, MessageStatus, ThreadRoot
from channels.reply import Reply
from channels.terminal.parse import open_question, parse
from channels.terminal.printer import Files
from channels.terminal.screen import Screen

_PACE = 0.05


class TerminalChannel:
    """Whoever sits at the screen is the owner. `files` gives the bytes of the files that replies show."""

    def __init__(self, screen: Screen, files: Files, *, name: str = "terminal", chat: str = "main") -> None:
        self.name = name
        self.trouble = ""
        self.address = Address(name, "local", chat)
        self._screen = screen
        self._files = files
        self._asking: dict[str, Reply] = {}

    async def listen(self, deliver: Deliver, commands: tuple[CommandHelp, ...]) -> None:
        """Hears until cancelled. What could not be kept is told, and the gateway decides when to listen again."""
        while True:
            said = await self._screen.read()
            message = parse(said, self.address, datetime.now(UTC), open_question(self._asking.values()))
            if message is None:
                await self._screen.failed(said, "there is nothing to send")
                continue
            try:
                accepted = await deliver(message)
            except Exception as error:
                await self._screen.failed(said, str(error))
                raise
            await self._screen.accepted(said, accepted)

    async def fetch(self, file: FileRef) -> bytes:
        raise FileUnavailable(f"{file.name} cannot be had: a terminal sends text only")

    async def thread_root(self, address: Address, message_id: str) -> ThreadRoot | None:
        return None

    async def show(self, reply: Reply, ledger: Ledger) -> None:
        """A new terminal shows a reply from its beginning, so the ledger has nothing to remember."""
        if open_question((reply,)):
            self._asking[reply.id] = reply
        else:
            self._asking.pop(reply.id, None)
        await self._screen.show(reply, self._files)

    async def typing(self, address: Address) -> None:
        """The status line shows it."""

    async def show_status(self, status: MessageStatus) -> None:
        await self._screen.show_status(status)

    def pace(self, address: Address) -> float:
        return _PACE

    async def aclose(self) -> None:
        """The screen closes itself when the person leaves."""
