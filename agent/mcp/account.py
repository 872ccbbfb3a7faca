"""Accounts at MCP servers: who is signed in where. An `AccountStore` keeps them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from agent.hook import HookContext

CLIENT_NAME = "Interject"
"""What authorization servers show people of us."""

SETTLING = 5.0
"""Seconds for token refreshes that still run at the end."""

TOOLS = ".tools"
"""The ending of the files with the tools of people's servers."""

EARLIER = "earlier"
"""The sign-in of an account that does not name it."""


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """What an authorization server knows us as, where it does not register clients by itself; `scope` is what is asked
    for ("": what the server says)."""

    client_id: str = ""
    client_secret: str = ""
    scope: str = ""


@dataclass(frozen=True, slots=True)
class Callback:
    """What the authorization server sent back with the person: a code for tokens."""

    code: str
    state: str
    issuer: str | None = None


class Link(Protocol):
    """The way to one person who is to sign in.

    `redirect_uri` is where the authorization server sends them back to: None where no browser of theirs could come
    back, so that they sign in with a code (device flow). `document` is the URL at which it can read what client this
    is, None if there is none. `without_code` says what to do instead where the server offers no sign-in with a code.
    """

    redirect_uri: str | None
    document: str | None
    without_code: str

    async def show(self, url: str) -> None:
        """Shows the person the page of the authorization server at which they sign in. Raises `McpError`."""

    async def show_code(self, url: str, code: str, seconds: float) -> None:
        """Shows the person the page at which they enter the code, on any device, within this time. Raises
        `McpError`."""

    async def returned(self) -> Callback:
        """What the person came back with. Raises `McpError` if they refuse, or if it takes too long. After `show_code`
        nobody comes back: it ends with the link."""


class OpenLink(Protocol):
    async def __call__(self, server: str, asked: HookContext, *, personal: bool) -> Link:
        """A link for the person who asked, to sign in at a server: for themselves if it is `personal`, else for
        everybody. Raises `McpError` with what to do instead."""


class AccountKey(NamedTuple):
    """`person` is "channel:id", "" for the account that everybody uses."""

    server: str
    person: str = ""

    @property
    def stem(self) -> str:
        """A name for files, with a hash in the place of the person."""
        return f"{self.server}.{person_hash(self.person)}" if self.person else self.server


@dataclass(frozen=True, slots=True)
class KeptAccount:
    """What is kept of an account. `version` is another one after each write."""

    content: Mapping[str, Any]
    version: str


class AccountStore(Protocol):
    """Keeps accounts for all processes that use them. Methods raise `AccountsUnavailable`, those that are no coroutines
    never."""

    async def read(self, key: AccountKey) -> KeptAccount | None:
        """None if nobody is signed in there."""

    async def write(self, key: AccountKey, content: Mapping[str, Any], *, over: str | None = None) -> bool:
        """Replaces what is kept; with `over`, only if that is still its version. Whether it did."""

    async def forget(self, key: AccountKey) -> Mapping[str, Any] | None:
        """Removes what is kept, and returns it; None if there is nothing."""

    def alone(self, key: AccountKey) -> AbstractAsyncContextManager[None]:
        """Nobody else is in this context for the same account. Waits for others, for at most half a minute each."""

    async def servers_of(self, person: str) -> Sequence[str]:
        """Where the person ("channel:id") is signed in, also at servers that are no longer in the settings."""

    async def count(self, server: str) -> int:
        """How many are signed in there."""

    async def look(self) -> Collection[str]:
        """Learns what other processes have written; the stems of the accounts that they have removed since the last
        time."""

    def holds(self, key: AccountKey) -> bool:
        """Whether somebody is signed in there, as far as this process knows. Blocking for a moment."""

    def secrets(self) -> frozenset[str]:
        """The tokens and secrets of all accounts, as far as this process knows. Called for each text that is masked."""


class Account:
    """The sign-in of everybody, or of one person, at one MCP server. Methods raise `AccountsUnavailable`."""

    def __init__(self, accounts: Accounts, key: AccountKey, url: str, client: ClientSettings | None = None) -> None:
        self.key = key
        self.url = url
        self.client = client or ClientSettings()
        self.refused = False
        """Whether the server wants a sign-in that it has not got."""
        self._accounts = accounts
        self._store = accounts.store

    @property
    def signed_in(self) -> bool:
        """As far as this process knows. Blocking for a moment."""
        return self._store.holds(self.key)

    async def sign_in_id(self) -> str:
        """Another one for each sign-in, the same after a token was refreshed; "" while nobody is signed in."""
        kept = await self._store.read(self.key)
        return "" if kept is None else str(kept.content.get("sign_in") or EARLIER)

    async def read(self) -> KeptAccount | None:
        """What is kept of it for this address."""
        kept = await self._store.read(self.key)
        return kept if kept is not None and kept.content.get("url") == self.url else None

    async def write(self, content: Mapping[str, Any], *, over: str | None = None) -> bool:
        """See `AccountStore.write`."""
        written = await self._store.write(self.key, {"url": self.url, **content}, over=over)
        if written:
            self.refused = False
        return written

    async def forget(self) -> Mapping[str, Any] | None:
        """See `AccountStore.forget`."""
        return await self._store.forget(self.key)

    def alone(self) -> AbstractAsyncContextManager[None]:
        """See `AccountStore.alone`."""
        return self._store.alone(self.key)

    async def once(self, what: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Waits for the work, which is done once for all who ask for the same meanwhile, and goes on when they are
        cancelled. Raises what it raises."""
        await self._accounts.once(self.key, what, work)


class Accounts:
    """All accounts. Called, it gives the secrets in them, for masking."""

    def __init__(self, store: AccountStore) -> None:
        self.store = store
        self._working: dict[tuple[AccountKey, str], asyncio.Task[None]] = {}

    def shared(self, server: str, url: str, client: ClientSettings) -> Account:
        return Account(self, AccountKey(server), url, client)

    def personal(self, server: str, person: str, url: str, client: ClientSettings) -> Account:
        """`person` is "channel:id"."""
        return Account(self, AccountKey(server, person), url, client)

    async def of_person(self, person: str) -> list[Account]:
        """All of the person ("channel:id"), also at servers that are no longer in the settings. Raises
        `AccountsUnavailable`."""
        found: list[Account] = []
        for server in await self.store.servers_of(person):
            key = AccountKey(server, person)
            kept = await self.store.read(key)
            found.append(Account(self, key, "" if kept is None else str(kept.content.get("url", ""))))
        return found

    def __call__(self) -> frozenset[str]:
        return self.store.secrets()

    async def once(self, key: AccountKey, what: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """See `Account.once`."""
        task = self._working.get((key, what))
        if task is None:
            task = self._working[key, what] = asyncio.create_task(work())
            task.add_done_callback(lambda ended: self._end(key, what, ended))
        await asyncio.shield(task)

    def _end(self, key: AccountKey, what: str, ended: asyncio.Task[None]) -> None:
        del self._working[key, what]
        if not ended.cancelled():
            # Whoever still waits is told.
            ended.exception()

    async def settle(self) -> None:
        """Waits a moment for what still runs: a token that was sent for a new one must not be lost."""
        if self._working:
            await asyncio.wait(tuple(self._working.values()), timeout=SETTLING)


def secrets_in(content: object) -> Iterator[str]:
    """The secrets in what is kept of an account."""
    if isinstance(content, Mapping):
        for key, value in content.items():
            if isinstance(value, str) and key in ("access_token", "refresh_token", "client_secret"):
                yield value
            else:
                yield from secrets_in(value)


def person_hash(person: str) -> str:
    """What accounts are kept under instead of "channel:id"."""
    return sha256(person.encode()).hexdigest()[:32]


def tools_file(folder: Path, key: AccountKey) -> Path:
    """Where the tools are kept that an account was offered last."""
    return folder / f"{key.stem}{TOOLS}"
