"""Servers per person: a connection of its own for each, made when it is needed and closed when it is idle."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass

from agent.interrupt import cancel_and_wait
from agent.mcp.account import Account, AccountKey, Accounts
from agent.mcp.errors import McpError
from agent.mcp.server import McpServer
from agent.tool import Tool
from agent.toolset import current_person

log = logging.getLogger(__name__)

IDLE = 600.0
"""Seconds without use after which a connection is closed."""

MAX_OPEN = 50
"""People for whom one server is open at once."""

FIRST_WAIT = 5.0
"""Seconds that a turn waits for a server whose tools are not known yet."""


@dataclass(slots=True)
class _Open:
    server: McpServer
    used_at: float


class PersonalServers:
    """One server for each person, as a toolset: iterating gives the tools of the person whose turn it is.

    Use as a context manager. `make` makes the server of a person ("channel:id").
    """

    def __init__(
        self, name: str, make: Callable[[str], McpServer], *, idle: float = IDLE, max_open: int = MAX_OPEN
    ) -> None:
        self.name = name
        self._make = make
        self._idle = idle
        self._max_open = max_open
        self._open: dict[str, _Open] = {}
        self._lock = asyncio.Lock()
        self._opened = asyncio.Event()
        self._closer: asyncio.Task[None] | None = None

    async def __aenter__(self) -> PersonalServers:
        self._closer = asyncio.create_task(self._close_idle())
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._closer is not None:
            await cancel_and_wait(self._closer)
        await asyncio.gather(*(self._close(person) for person in tuple(self._open)))

    def __iter__(self) -> Iterator[Tool]:
        opened = self._open.get(current_person())
        if opened is None:
            return iter(())
        opened.used_at = time.monotonic()
        return iter(opened.server)

    @property
    def people(self) -> tuple[str, ...]:
        """Those for whom it is open."""
        return tuple(self._open)

    async def of(self, person: str) -> McpServer:
        """The person's own server. It connects with its first call, unless its tools are not known yet. Raises
        `McpError` if too many people use it at once."""
        async with self._lock:
            opened = self._open.get(person)
            if opened is None:
                await self._make_room()
                server = await self._make(person).__aenter__()
                opened = self._open[person] = _Open(server, time.monotonic())
                self._opened.set()
            opened.used_at = time.monotonic()
            return opened.server

    def account_of(self, person: str) -> Account:
        opened = self._open.get(person)
        account = (self._make(person) if opened is None else opened.server).account
        assert account is not None, "a server per person is one with accounts"
        return account

    def as_known(self, person: str) -> McpServer:
        """The person's own server if it is open, else one with the tools and prompts that are known from before, which
        never connects. Blocking for a small file."""
        opened = self._open.get(person)
        if opened is not None:
            return opened.server
        server = self._make(person)
        server.recall()
        return server

    async def prepare(self, person: str) -> None:
        """Before a turn of the person: waits a moment for tools that are not known yet."""
        try:
            server = await self.of(person)
            await server.follow_account()
        except McpError as error:
            log.warning("MCP server %s: %s", self.name, error)
            return
        if not server.has_known_tools:
            await _wait_a_moment(server)

    async def look(self, signed_out: Collection[str]) -> None:
        """Follows people who have signed in or out elsewhere; `signed_out` has stems of accounts. Raises
        `AccountsUnavailable`."""
        async with self._lock:
            for person, opened in tuple(self._open.items()):
                if AccountKey(self.name, person).stem in signed_out and not opened.server.is_busy:
                    await self._close(person)
                else:
                    await opened.server.follow_account()

    async def forget(self, person: str) -> None:
        """Signs the person out. Raises `AccountsUnavailable`, and `OSError` for a file."""
        async with self._lock:
            server = self._open[person].server if person in self._open else self._make(person)
            await server.sign_out()
            if person in self._open:
                await self._close(person)

    async def _make_room(self) -> None:
        if len(self._open) < self._max_open:
            return
        idle = [person for person, opened in self._open.items() if not opened.server.is_busy]
        if not idle:
            raise McpError("too many people use it at the moment. Try again later")
        await self._close(min(idle, key=lambda person: self._open[person].used_at))

    async def _close(self, person: str) -> None:
        opened = self._open.pop(person)
        await opened.server.__aexit__(None, None, None)

    async def _close_idle(self) -> None:
        """Closes what nobody has used for long; never returns."""
        while True:
            if not self._open:
                self._opened.clear()
                await self._opened.wait()
            await asyncio.sleep(max(0.01, self._next_idle() - time.monotonic()))
            async with self._lock:
                now = time.monotonic()
                for person, opened in tuple(self._open.items()):
                    if opened.server.is_busy:
                        opened.used_at = now
                    elif now - opened.used_at >= self._idle:
                        await self._close(person)

    def _next_idle(self) -> float:
        return min((opened.used_at for opened in self._open.values()), default=time.monotonic()) + self._idle


class Servers:
    """All MCP servers: those of everybody, and those per person."""

    def __init__(self, shared: dict[str, McpServer], personal: dict[str, PersonalServers], accounts: Accounts) -> None:
        self.shared = shared
        self.personal = personal
        self.accounts = accounts

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.shared, *self.personal)

    async def of(self, name: str, person: str) -> McpServer:
        """Raises `McpError`."""
        if name in self.shared:
            return self.shared[name]
        if name not in self.personal:
            raise McpError(f"there is no MCP server {name!r}")
        return await self.personal[name].of(person)

    async def prepare(self, person: str, needed: Callable[[str], bool]) -> None:
        """Before a turn of the person ("channel:id"), with the names of the servers that it needs."""
        await asyncio.gather(
            *(_prepare_shared(server) for name, server in self.shared.items() if needed(name)),
            *(servers.prepare(person) for name, servers in self.personal.items() if needed(name)),
        )

    async def look(self) -> None:
        """Follows sign-ins and sign-outs of other processes. Raises `AccountsUnavailable`."""
        signed_out = await self.accounts.store.look()
        for server in self.shared.values():
            await server.follow_account()
        for servers in self.personal.values():
            await servers.look(signed_out)

    async def forget_person(self, person: str) -> None:
        """Signs the person out everywhere, also at servers that are no longer in the settings. Raises
        `AccountsUnavailable`, and `OSError` for a file."""
        for servers in self.personal.values():
            await servers.forget(person)
        await forget_accounts(self.accounts, person)


async def _prepare_shared(server: McpServer) -> None:
    """Where somebody has just signed in, perhaps at another worker, waits a moment for the tools."""
    if server.account is None or server.has_known_tools:
        return
    try:
        await server.follow_account()
    except McpError as error:
        log.warning("MCP server %s: %s", server.name, error)
        return
    if server.account.signed_in:
        await _wait_a_moment(server)


async def _wait_a_moment(server: McpServer) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(FIRST_WAIT):
            await server.settled()


async def forget_accounts(accounts: Accounts, person: str) -> None:
    """Signs the person out everywhere, and has their tokens revoked there. Raises `AccountsUnavailable`."""
    found = await accounts.of_person(person)
    if not found:
        return
    from agent.mcp.sign_in import sign_out

    for account in found:
        if why := await sign_out(account):
            log.warning("the access of somebody at %s may be valid still: %s", account.url, why)
