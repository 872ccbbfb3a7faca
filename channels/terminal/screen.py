"""The interface of a terminal screen, and the plain screen for pipes and files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Protocol
from uuid import uuid4

from channels.message import FileRef, MessageState, MessageStatus, Receipt
from channels.reply import Reply
from channels.terminal.message_tracker import MessageTracker
from channels.terminal.parse import TypedMessage
from channels.terminal.printer import Files, Printer


class Screen(Protocol):
    """A person's terminal. `failures` counts the messages that could not be sent."""

    failures: int

    def start_new_conversation(self) -> None:
        """Starts a new conversation, before any other message."""

    async def run(self) -> None:
        """Until the person leaves, or the input ends and everything is answered."""

    async def read(self) -> TypedMessage:
        """The next message; waits for ever after the last."""

    async def accepted(self, typed: TypedMessage, receipt: Receipt | None) -> None:
        """The gateway stored the message."""

    async def failed(self, typed: TypedMessage, why: str) -> None:
        """The message was not sent, and is not retried."""

    async def show(self, reply: Reply, files: Files) -> None:
        """The reply's current state; called at least once for each state."""

    async def show_status(self, status: MessageStatus) -> None:
        """The status of a message that may be this person's."""

    async def print_notice(self, text: str) -> None:
        """Prints a line about the conversation itself."""

    def show_trouble(self, text: str) -> None:
        """The current connection problem, "" for none."""


def new_message(text: str, *, quiet: bool = False, files: Sequence[FileRef] = ()) -> TypedMessage:
    return TypedMessage(uuid4().hex, text, quiet, tuple(files))


class PlainScreen:
    """Sends the texts of `source` one after another, each when the previous one is answered or has led to a question.

    Then it ends. Of the conversation it prints the replies to its own messages only, and questions that wait for an
    answer. A text that is sent while something else runs waits for its end, and is answered by a task of its own.
    `files` go with the first text, also if that is blank.
    """

    def __init__(self, printer: Printer, source: AsyncIterator[str], files: Sequence[FileRef] = ()) -> None:
        self.failures = 0
        self._printer = printer
        self._source = source
        self._files = files
        self._tracker = MessageTracker()
        self._outgoing: asyncio.Queue[TypedMessage] = asyncio.Queue()
        self._quiet_ids: set[str] = set()
        self._ids: set[str] = set()
        self._joined: set[str] = set()
        self._others: set[str] = set()
        """The replies to others that are growing."""
        self._changed = asyncio.Event()
        self._left = False
        self._broken = False

    def start_new_conversation(self) -> None:
        self._send(new_message("/new", quiet=True))

    async def run(self) -> None:
        await self._settled()
        async for text in self._source:
            if text.strip() or self._files:
                files, self._files = self._files, ()
                self._send(new_message(text, files=files))
                await self._settled()
            if self._left:
                return
        if self._tracker.parked:
            await self._printer.print_notice("The question above is not answered yet.")

    def interrupt(self) -> None:
        """Stops the running task and sends nothing more."""
        self._left = True
        self._send(new_message("/stop", quiet=True))

    async def read(self) -> TypedMessage:
        typed = await self._outgoing.get()
        if not self._others or typed.text.lstrip().startswith("/"):
            return typed
        self._tracker.queued(typed)
        return replace(typed, text=f"/queue {typed.text}")

    async def accepted(self, typed: TypedMessage, receipt: Receipt | None) -> None:
        if receipt is None:
            await self.failed(typed, "the gateway did not store this message")
            return
        self._tracker.accepted(typed, receipt.id)
        if receipt.refused:
            self._tracker.status_changed(receipt.id, "refused")
            await self._fail(receipt.refused)
        self._changed.set()

    async def failed(self, typed: TypedMessage, why: str) -> None:
        self._tracker.failed(typed)
        await self._fail(why)
        self._changed.set()

    async def show(self, reply: Reply, files: Files) -> None:
        self._others.discard(reply.id)
        if self._is_ours(reply):
            await self._show_ours(reply, files)
        else:
            self._printer.skip(reply)
            self._others |= set() if reply.done else {reply.id}
        self._changed.set()

    def _is_ours(self, reply: Reply) -> bool:
        """Whether it answers a message of this screen, or waits for one."""
        if reply.reply_to in self._ids or reply.parked or self._tracker.has_steered:
            self._joined.add(reply.id)
        return reply.id in self._joined

    async def _show_ours(self, reply: Reply, files: Files) -> None:
        try:
            if reply.reply_to not in self._quiet_ids:
                await self._printer.show(reply, files)
        except BrokenPipeError:
            # The reader of the answer closed the pipe.
            self._left = self._broken = True
        self._tracker.reply_changed(reply)

    async def show_status(self, status: MessageStatus) -> None:
        self._tracker.status_changed(status.id, status.state)
        self._changed.set()

    @property
    def ends(self) -> frozenset[MessageState]:
        """How the tasks of the messages have ended so far."""
        return self._tracker.ends

    async def print_notice(self, text: str) -> None:
        await self._printer.print_notice(text)

    def show_trouble(self, text: str) -> None:
        """Not printed: a pipe carries the answer only."""

    def _send(self, typed: TypedMessage) -> None:
        if typed.quiet:
            self._quiet_ids.add(typed.id)
        self._ids.add(typed.id)
        self._tracker.sent(typed)
        self._outgoing.put_nowait(typed)

    async def _fail(self, why: str) -> None:
        self.failures += 1
        await self._printer.print_notice(f"Not sent: {why}", "line")

    async def _settled(self) -> None:
        """Returns when everything is answered, or the person must answer a question."""
        while self._tracker.running and not self._tracker.parked and not self._broken:
            self._changed.clear()
            await self._changed.wait()
