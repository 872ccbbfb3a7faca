"""The interface between the gateway and a channel: the `Channel` protocol, its errors, and what it may use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from channels.address import Address, Sender
from channels.message import Deliver, FileRef, MessageStatus, ThreadRoot
from channels.reply import Reply

# ChannelError
# ├── ChannelRejected   wrong token, no permission: a retry does not help until a person changes something
# ├── RetryLater        rate limit: the platform says how long to wait
# ├── Unreachable       the platform did not get the request, or rejects the token; a retry is safe
# │   └── ServerFailed  the platform failed at the request; a retry is safe
# ├── OutcomeUnknown    the platform may or may not have carried out the request
# ├── Undeliverable     the chat cannot receive it (blocked, deleted); a retry does not help
# │   └── Refused       the platform does not accept this content; another form of it may pass
# ├── ChatMoved         the platform has given the chat another id
# ├── NotStored         the gateway could not store a person's message (raised by `Deliver`)
# └── FileUnavailable   a person's file cannot be downloaded


class ChannelError(Exception):
    """The message is for a person: what is wrong and what to do."""


class ChannelRejected(ChannelError):
    pass


class RetryLater(ChannelError):
    """`after` is in seconds."""

    def __init__(self, after: float) -> None:
        super().__init__(f"rate limit: the platform asks to wait {after:g} s")
        self.after = after


class Superseded(ChannelError):
    """Another process shows the reply now: this one must not go on."""


class Unreachable(ChannelError):
    pass


class ServerFailed(Unreachable):
    pass


class OutcomeUnknown(ChannelError):
    pass


class Undeliverable(ChannelError):
    pass


class Refused(Undeliverable):
    pass


class ChatMoved(ChannelError):
    """`chat` is the new id."""

    def __init__(self, chat: str) -> None:
        super().__init__(f"the chat has the id {chat} now")
        self.chat = chat


class NotStored(ChannelError):
    pass


class FileUnavailable(ChannelError):
    """The text is the reason only: whoever tells people names the file."""


SentState = Literal["unknown", "shown", "simplified", "undeliverable"]
"""What became of a piece. `unknown`: sending began and its outcome is not known. `simplified`: the platform refused it,
and other pieces show it in a simpler form. `undeliverable`: it cannot be shown in any form."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A piece of a reply on the platform. `ref` is its message id there, `digest` identifies its current content; both
    are empty unless it is shown. `reason` is why it is undeliverable.
    """

    key: str
    state: SentState
    ref: str = ""
    digest: str = ""
    reason: str = ""


class Ledger(Protocol):
    """The record of what the platform confirmed of one reply. It survives restarts; pieces are in sending order."""

    def pieces(self) -> tuple[Sent, ...]:
        """All pieces that were sent, or refused, and not removed, oldest first."""

    def permit(self) -> None:
        """Call it in the moment before each call to the platform. Raises `Unreachable` if this process may not make it
        now."""

    async def sending(self, key: str) -> None:
        """Committed before a piece is first sent, so that a crash leaves a trace. Raises `Superseded`."""

    async def sent(self, key: str, ref: str, digest: str) -> None:
        """The platform confirmed a piece: first sent, or edited (same ref). An unchanged piece needs no call."""

    async def rename(self, old: str, new: str) -> None:
        """The message of piece `old` is about to become piece `new` (its digest is cleared)."""

    async def removed(self, key: str) -> None:
        """The piece is no longer on the platform, or was certainly never sent."""

    async def simplified(self, key: str) -> None:
        """The platform refused the piece: it is shown as other pieces in a simpler form from now on."""

    async def undeliverable(self, key: str, reason: str) -> None:
        """The piece cannot be shown in any form."""

    def failed(self, key: str) -> bool:
        """The platform failed at the piece. Whether that has happened so often that it counts as refused."""


class Cursors(Protocol):
    """A channel's read position in each chat. For platforms that do not store it themselves; survives restarts."""

    async def load(self) -> dict[str, str]:
        """Positions by chat."""

    async def save(self, positions: Mapping[str, str | None]) -> None:
        """Adds and replaces; None removes. Raises `NotStored`."""


@dataclass(frozen=True, slots=True)
class CommandHelp:
    """`arguments` says what may follow the name, "" for nothing."""

    name: str
    help: str
    arguments: str = ""


class Channel(Protocol):
    """A platform account. `name` is the `channel` of its addresses.

    `problem` is the current problem in words for a person; empty while everything works.
    """

    name: str
    problem: str

    async def listen(self, deliver: Deliver, commands: tuple[CommandHelp, ...]) -> None:
        """Receives messages until cancelled. Raises `ChannelRejected`, or any other error, when it cannot go on.

        The gateway calls it again later. All other methods work also where nobody listens: another worker may.
        """

    async def show_commands(self, commands: tuple[CommandHelp, ...]) -> None:
        """There are other commands now than those that `listen` was given, for the platform's menu if it has one."""

    async def fetch(self, file: FileRef) -> bytes:
        """The bytes of a person's file. Raises `FileUnavailable` (permanent), `RetryLater` or `Unreachable`."""

    async def thread_root(self, address: Address, message_id: str) -> ThreadRoot | None:
        """The message that started the thread at the address (`InboundMessage.thread_root`); None if it is deleted.

        Raises as `fetch` does.
        """

    async def show(self, reply: Reply, ledger: Ledger) -> None:
        """Brings the platform up to date with the reply. One call at a time per address, with ever newer states.

        Must be repeatable: pieces that the ledger says are shown are not sent again. Content that the platform refuses
        is shown in a simpler form, or recorded as undeliverable in the ledger. Raises `RetryLater`, `Unreachable`,
        `ServerFailed` or `OutcomeUnknown` (called again later with the newest state), `ChatMoved` (called again with
        the new address) or `Undeliverable` (permanent).
        """

    async def direct_chat(self, person: str) -> str | None:
        """The id of the direct chat with the person of this id, opened if necessary; None where there are none.

        Raises as `show` does.
        """

    async def typing(self, address: Address) -> None:
        """Shows a typing indicator for some seconds. May do nothing."""

    async def show_status(self, status: MessageStatus) -> None:
        """Replaces the displayed status of a person's message, without a notification (a reaction). May do nothing."""

    def pace(self, address: Address) -> float:
        """Minimum seconds between two previews of a growing reply in that chat."""

    async def aclose(self) -> None:
        """Closes its connections. Called once, after the last reply was shown."""


class Lease(Protocol):
    """A worker's hold of a connector: nobody else may listen there as long as it lasts."""

    @property
    def state(self) -> Mapping[str, Any]:
        """What was saved last, by this holder or one before; empty at first. JSON."""

    def is_held(self) -> bool:
        """False from the moment when another worker may have it. Ask before a new connection is opened."""

    async def save(self, state: Mapping[str, Any]) -> None:
        """Leaves it for the next holder. Never fails: what cannot be stored is logged."""


@runtime_checkable
class ExclusiveChannel(Protocol):
    """A channel whose platform gives an account's events to one connection only: of several workers, one listens, and
    the others send. All workers at once may listen on any other channel."""

    name: str

    @property
    def connector(self) -> str | None:
        """Names the account, the same in each worker and without a secret. None: set up as it is, its platform bears
        several that listen."""

    def use_lease(self, lease: Lease) -> None:
        """Called before `listen`, which is cancelled when the lease is lost, and called again with the next."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One of the `count` connections among which a platform splits the events of an account; their `number`s begin
    with 0."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


ListenOn = Callable[[Shard, Lease, Deliver], Coroutine[Any, Any, None]]
"""Listens on one connection until cancelled."""


class Shards(Protocol):
    """The connections of an account that this worker has: others may have the rest."""

    async def listen(self, count: int, listen: ListenOn, deliver: Deliver) -> None:
        """Calls `listen` for each of the `count` connections that are this worker's part, which changes as workers come
        and go, until cancelled. Where others listen with a larger number of connections, that is the number; those of
        a smaller one end first. Raises what `listen` raises."""

    def turn(self, name: str) -> AbstractAsyncContextManager[Lease]:
        """Waits until nobody else, in any worker, has the account's turn of this name, and holds it."""


@runtime_checkable
class ShardedChannel(Protocol):
    """A channel whose platform splits an account's events among as many connections as it asks for, and gives each
    part to one connection only: workers share them."""

    name: str

    @property
    def connector(self) -> str:
        """Names the account, the same in each worker and without a secret."""

    def use_shards(self, shards: Shards) -> None:
        """Called before `listen`."""


@runtime_checkable
class WebhookChannel(Protocol):
    """A channel whose platform posts events to the gateway's web server (a webhook)."""

    name: str

    def asgi(self) -> Callable[[Any, Any, Any], Awaitable[None]]:
        """The ASGI application that receives the posts. It authenticates them itself."""


@runtime_checkable
class PeopleDirectory(Protocol):
    """A channel whose platform can be asked who has a name."""

    name: str

    async def find_people(self, names: Collection[str]) -> dict[str, Sender]:
        """The people of the workspace with these @names (in lower case), by name, without programs and outsiders.

        Returns when the platform has answered: it is asked again until then.
        """


@runtime_checkable
class TalkReader(Protocol):
    """A channel whose platform can be asked for what people said before they called the bot."""

    async def talk(self, address: Address, *, after: str | None, before: str) -> tuple[ThreadRoot, ...]:
        """The last messages at the address between these two (message ids), as many as the settings say, oldest first.
        Without `after`, from the beginning. Messages of the bot are left out. Raises as `Channel.fetch` does."""


@runtime_checkable
class TitledPlaces(Protocol):
    """A channel whose platform shows the title of a conversation."""

    def has_title(self, address: Address) -> bool:
        """Whether it shows one for the conversation there."""

    async def show_title(self, address: Address, title: str) -> None:
        """May do nothing: failures are only logged."""


@runtime_checkable
class DescribedPlaces(Protocol):
    """A channel whose platform has a text about a group or channel that people of it write, such as its topic."""

    async def topic(self, address: Address) -> str:
        """That text, "" if there is none. Raises `ChatMoved`, or as `Channel.fetch` does."""


@dataclass(frozen=True, slots=True)
class Group:
    """A group of people on the platform. `name` is for display."""

    id: str
    name: str


@runtime_checkable
class MemberDirectory(Protocol):
    """A channel whose platform says who can read in a group chat."""

    name: str

    async def is_member(self, address: Address, person: str) -> bool:
        """Whether the person (by id) is in the group there now. Raises `ChannelError` if the platform does not say."""


@runtime_checkable
class GroupDirectory(Protocol):
    """A channel whose platform has groups of people, such as Slack's user groups and Discord's roles."""

    name: str

    async def find_groups(self, names: Collection[str]) -> dict[str, Group]:
        """The groups that these names of the settings (in lower case) mean, by name; a name that means several means
        none. Returns when the platform has answered: it is asked again until then."""

    def watch_groups(self, ids: Collection[str]) -> None:
        """From now on the authors of messages have those of these groups (ids in lower case) that they are in, as
        `Sender.groups`. Ids of people are ignored."""

    async def find_person(self, known: Sender) -> Sender | None:
        """The person, of whom this was known, with the groups that they are in now; None if the platform does not know
        them. Raises `Unreachable` if the platform does not say."""
