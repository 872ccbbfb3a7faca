"""What a terminal is to a conversation, wherever the gateway runs; and the plain one, for pipes and files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol
from uuid import uuid4

from channels.message import MessageStatus, Receipt
from channels.reply import Reply
from channels.terminal.message_tracker import Progress
from channels.terminal.parse import Said
from channels.terminal.printer import Files, Printer


class Screen(Protocol):
    """A person in front of a terminal. `failures` counts what could not be said."""

    failures: int

    def begin_anew(self) -> None:
        """Begins a new conversation, before anything else is said."""

    async def run(self) -> None:
        """Until the person leaves, or has nothing more to say and is answered."""

    async def read(self) -> Said:
        """The next thing that the person says; waits for ever when there is nothing more."""

    async def accepted(self, said: Said, accepted: Receipt | None) -> None:
        """The gateway has it."""

    async def failed(self, said: Said, why: str) -> None:
        """The gateway does not have it, and will not get it."""

    async def show(self, reply: Reply, files: Files) -> None:
        """The reply as it stands now; each state of it may be told more than once."""

    async def show_status(self, status: MessageStatus) -> None:
        """The state of a message that may be this person's."""

    async def tell(self, text: str) -> None:
        """One line about the conversation itself."""

    def trouble(self, text: str) -> None:
        """What is wrong with the connection just now; empty when nothing is."""


def say(text: str, *, quiet: bool = False) -> Said:
    return Said(uuid4().hex, text, quiet)


class PlainScreen:
    """Says the texts of `source` one after another, each when the one before it is answered or asked about.

    Then it ends.
    """

    def __init__(self, printer: Printer, source: AsyncIterator[str]) -> None:
        self.failures = 0
        self._printer = printer
        self._source = source
        self._progress = Progress()
        self._said: asyncio.Queue[Said] = asyncio.Queue()
        self._unprinted: set[str] = set()
        self._changed = asyncio.Event()
        self._left = False
        self._broken = False

    def begin_anew(self) -> None:
        self._say(say("/new", quiet=True))

    async def run(self) -> None:
        await self._quiet()
        async for text in self._source:
            if text.strip():
                self._say(say(text))
                await self._quiet()
            if self._left:
                return
        if self._progress.parked:
            await self._printer.tell("The question above waits for an answer.")

    def interrupt(self) -> None:
        """Stops what runs and says nothing more."""
        self._left = True
        self._say(say("/stop", quiet=True))

    async def read(self) -> Said:
        return await self._said.get()

    async def accepted(self, said: Said, accepted: Receipt | None) -> None:
        if accepted is None:
            await self.failed(said, "the gateway did not keep this message")
            return
        self._progress.accepted(said, accepted.id)
        if accepted.refused:
            self._progress.marked(accepted.id, "refused")
            await self._fail(accepted.refused)
        self._changed.set()

    async def failed(self, said: Said, why: str) -> None:
        self._progress.dropped(said)
        await self._fail(why)
        self._changed.set()

    async def show(self, reply: Reply, files: Files) -> None:
        try:
            if reply.reply_to not in self._unprinted:
                await self._printer.show(reply, files)
        except BrokenPipeError:
            # Whoever read the answer has had enough of it.
            self._left = self._broken = True
        self._progress.replied(reply)
        self._changed.set()

    async def show_status(self, status: MessageStatus) -> None:
        self._progress.marked(status.id, status.state)
        self._changed.set()

    async def tell(self, text: str) -> None:
        await self._printer.tell(text)

    def trouble(self, text: str) -> None:
        """Whoever reads a pipe is helped by the answer alone."""

    def _say(self, said: Said) -> None:
        if said.quiet:
            self._unprinted.add(said.id)
        self._progress.said(said)
        self._said.put_nowait(said)

    async def _fail(self, why: str) -> None:
        self.failures += 1
        await self._printer.tell(f"Not sent: {why}", "line")

    async def _quiet(self) -> None:
        """Until everything is answered, or the person has to answer something."""
        while self._progress.running and not self._progress.parked and not self._broken:
            self._changed.clear()
            await self._changed.wait()
