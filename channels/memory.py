"""A channel without a platform: replies are stored in memory. For tests and for trying out a gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar, assert_never

from channels.address import Address
from channels.channel import CommandHelp, FileUnavailable, Ledger
from channels.message import Deliver, FileRef, MessageStatus, ThreadRoot
from channels.reply import CallSegment, MediaSegment, QuestionSegment, Reply, Segment, TextSegment

T = TypeVar("T")


class MemoryChannel:
    """Implements `channels.channel.Channel`. `replies` holds the replies shown, by reply id, in order.

    Hand the same `replies` to the next gateway to simulate a restart.
    """

    def __init__(self, name: str = "memory", replies: dict[str, Reply] | None = None) -> None:
        self.name = name
        self.problem = ""
        self.replies = {} if replies is None else replies
        self.statuses: list[MessageStatus] = []
        self.files: dict[str, bytes] = {}
        self.deliver: Deliver | None = None
        self._changed = asyncio.Condition()

    async def listen(self, deliver: Deliver, commands: tuple[CommandHelp, ...]) -> None:
        self.deliver = deliver
        await self._notify()
        await asyncio.Event().wait()

    async def show_commands(self, commands: tuple[CommandHelp, ...]) -> None:
        """There is no menu."""

    async def fetch(self, file: FileRef) -> bytes:
        if file.ref not in self.files:
            raise FileUnavailable("no such file")
        return self.files[file.ref]

    async def thread_root(self, address: Address, message_id: str) -> ThreadRoot | None:
        return None

    async def show(self, reply: Reply, ledger: Ledger) -> None:
        if not ledger.pieces():
            await ledger.sending("all")
        await ledger.sent("all", reply.id, str(len(reply.segments)))
        self.replies[reply.id] = reply
        await self._notify()

    async def typing(self, address: Address) -> None:
        pass

    async def show_status(self, status: MessageStatus) -> None:
        self.statuses.append(status)
        await self._notify()

    async def direct_chat(self, person: str) -> str | None:
        return None

    def pace(self, address: Address) -> float:
        return 0.0

    async def aclose(self) -> None:
        pass

    async def until(self, predicate: Callable[[MemoryChannel], T]) -> T:
        """Waits until the predicate returns something true, and returns it. No timeout of its own."""
        async with self._changed:
            return await self._changed.wait_for(lambda: predicate(self))

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


def plain_text(reply: Reply) -> str:
    """The reply as plain lines: its texts, its questions with their options or their answer, and its files by name."""
    return "\n".join(line for segment in reply.segments for line in _lines(segment))


def _lines(segment: Segment) -> list[str]:
    match segment:
        case TextSegment():
            return [segment.markdown]
        case MediaSegment():
            return [f"[{segment.attachment.name}]"]
        case QuestionSegment(open=True):
            return [segment.question, *(f"{number}) {option}" for number, option in enumerate(segment.options, 1))]
        case QuestionSegment():
            return [segment.question, *([f"→ {segment.answer}"] if segment.answer else [])]
        case CallSegment():
            return []
        case _:
            assert_never(segment)
