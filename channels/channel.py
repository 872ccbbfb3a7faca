"""What the gateway asks of a channel, and what a channel may ask of the gateway."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from channels.address import Address
from channels.message import Deliver, FileRef, MessageStatus, ThreadRoot
from channels.reply import Reply

# ChannelError
# ├── ChannelRejected   wrong token, no permission: trying again does not help until a person changes something
# ├── RetryLater        the platform asks for patience
# ├── Unreachable       the platform did not get it; trying again is safe
# ├── OutcomeUnknown    the platform may or may not have got it
# ├── Undeliverable     this will never arrive there (blocked, chat gone)
# ├── NotStored           the gateway could not keep a person's message (raised by `Deliver`)
# └── FileUnavailable   a person's file cannot be fetched


class ChannelError(Exception):
    """The message is for a person: what is wrong and what to do."""


class ChannelRejected(ChannelError):
    pass


class RetryLater(ChannelError):
    def __init__(self, after: float) -> None:
        super().__init__(f"the platform asks to wait {after:g} s")
        self.after = after


class Unreachable(ChannelError):
    pass


class OutcomeUnknown(ChannelError):
    pass


class Undeliverable(ChannelError):
    pass


class NotStored(ChannelError):
    pass


class FileUnavailable(ChannelError):
    pass


@dataclass(frozen=True, slots=True)
class Sent:
    """A piece of a reply on the platform: `ref` is its message id there, `digest` of what it shows now.

    `state` "unknown": sending began and its outcome was never learnt (`ref` is empty then).
    """

    key: str
    state: Literal["unknown", "shown"]
    ref: str = ""
    digest: str = ""


class Ledger(Protocol):
    """What the platform confirmed of one reply, kept across restarts. Pieces stand in the order of their sending."""

    def pieces(self) -> tuple[Sent, ...]:
        """All that was sent and not removed, oldest first."""

    async def sending(self, key: str) -> None:
        """Committed before a piece is first sent, so that a crash leaves a trace."""

    async def sent(self, key: str, ref: str, digest: str) -> None:
        """The platform confirmed a piece: first sent, or changed (same ref). An unchanged piece needs no call."""

    async def rename(self, old: str, new: str) -> None:
        """The message of piece `old` is to become piece `new` (its digest is forgotten)."""

    async def removed(self, key: str) -> None:
        """The piece is no longer on the platform, or was certainly never sent."""


class Cursors(Protocol):
    """How far a channel has read in each chat, kept across restarts, for platforms that do not keep that themselves."""

    async def load(self) -> dict[str, str]:
        """By chat."""

    async def keep(self, read: Mapping[str, str]) -> None:
        """Adds and replaces. Raises `NotStored`."""


@dataclass(frozen=True, slots=True)
class CommandHelp:
    """`arguments` says what may follow the name, "" for nothing."""

    name: str
    help: str
    arguments: str = ""


class Channel(Protocol):
    """A platform account. Its address's `channel` equals `name`.

    `trouble` is what keeps it from working just now, in words for a person; empty while nothing does.
    """

    name: str
    trouble: str

    async def listen(self, deliver: Deliver, commands: tuple[CommandHelp, ...]) -> None:
        """Hears until cancelled. Raises `ChannelRejected`, or anything else, when it cannot go on.

        It is then called again, later.
        """

    async def fetch(self, file: FileRef) -> bytes:
        """The bytes of a person's file. Raises `FileUnavailable` (for good), `RetryLater` or `Unreachable`."""

    async def thread_root(self, address: Address, message_id: str) -> ThreadRoot | None:
        """The message that the thread at the address was begun from (`InboundMessage.thread_root`); None if it is gone.

        Raises as `fetch` does.
        """

    async def show(self, reply: Reply, ledger: Ledger) -> None:
        """Makes the platform look like the reply. Called one at a time per address with ever newer states of it.

        Must be repeatable: what the ledger says is shown is not sent again. Raises `RetryLater`, `Unreachable`
        (called again later with the newest state), `OutcomeUnknown` (likewise) or `Undeliverable` (given up).
        """

    async def typing(self, address: Address) -> None:
        """Shows for some seconds that somebody is at work. May do nothing."""

    async def show_status(self, status: MessageStatus) -> None:
        """Shows the state of a person's message instead of the state before, quietly (a reaction). May do nothing."""

    def pace(self, address: Address) -> float:
        """Seconds to leave between two previews of a growing reply there."""

    async def aclose(self) -> None:
        """Closes its connections; called once, after the last reply was shown."""


@runtime_checkable
class WebhookChannel(Protocol):
    """A channel to which its platform posts what happens, through the gateway's web server."""

    name: str

    def asgi(self) -> Callable[[Any, Any, Any], Awaitable[None]]:
        """The ASGI application that takes the posts. It checks itself who posts."""
