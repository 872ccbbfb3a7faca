"""What turns, commands and deletion need of MCP servers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from agent.log import Notice
from agent.toolset import Toolset
from channels.address import Address
from gateway.store.records import Command

if TYPE_CHECKING:
    # Only where servers are configured.
    from agent.mcp.server import McpServer


class Tell(Protocol):
    """Sends messages of the gateway: see `gateway.outbound.notices`."""

    async def send(self, session: str, address: Address, reply_to: str | None, notice: Notice, key: str) -> None: ...


class Mcp(Protocol):
    @property
    def at_work(self) -> frozenset[asyncio.Task[None]]:
        """What waits for people."""

    @property
    def shared(self) -> tuple[McpServer, ...]:
        """The servers that everybody uses with one account."""

    @property
    def personal(self) -> Mapping[str, Callable[[str], McpServer]]:
        """The servers that each person uses with an account of their own, by name: as known for a person
        ("channel:id"), without connecting. Blocking for a small file."""

    def signed_out(self, person: str) -> tuple[str, ...]:
        """The servers per person at which this one is not signed in, by name. Blocking for a moment."""

    @property
    def toolsets(self) -> Mapping[str, Toolset]:
        """The tools of each server, by its name."""

    def attach(self, tell: Tell, prompts_changed: Callable[[], None]) -> None:
        """The gateway that sends people their links. `prompts_changed` is called when servers that everybody shares
        have other prompts."""

    async def prepare(self, person: str, needed: Callable[[str], bool]) -> None:
        """Before a turn of this person ("channel:id"): their own servers are made ready, those that are `needed` by
        their names."""

    async def look(self) -> None:
        """Follows what other workers have stored: sign-ins and sign-outs, and browsers that came back there. Raises
        `StoreError`."""

    async def forget_person(self, person: str) -> None:
        """Removes what is stored of the person. Raises `McpError` and `OSError`."""

    async def answer(self, command: Command) -> str:
        """`/mcp`, as Markdown."""


class CurrentMcp:
    """Implements `Mcp` with the servers of the newest configuration."""

    def __init__(self, mcp: Mcp) -> None:
        self._mcp = mcp
        self._attach: Callable[[Mcp], None] | None = None

    def use(self, mcp: Mcp) -> None:
        self._mcp = mcp
        if self._attach is not None:
            self._attach(mcp)

    @property
    def at_work(self) -> frozenset[asyncio.Task[None]]:
        return self._mcp.at_work

    @property
    def shared(self) -> tuple[McpServer, ...]:
        return self._mcp.shared

    @property
    def personal(self) -> Mapping[str, Callable[[str], McpServer]]:
        return self._mcp.personal

    def signed_out(self, person: str) -> tuple[str, ...]:
        return self._mcp.signed_out(person)

    @property
    def toolsets(self) -> Mapping[str, Toolset]:
        return self._mcp.toolsets

    def attach(self, tell: Tell, prompts_changed: Callable[[], None]) -> None:
        self._attach = lambda mcp: mcp.attach(tell, prompts_changed)
        self._attach(self._mcp)

    async def prepare(self, person: str, needed: Callable[[str], bool]) -> None:
        await self._mcp.prepare(person, needed)

    async def look(self) -> None:
        await self._mcp.look()

    async def forget_person(self, person: str) -> None:
        await self._mcp.forget_person(person)

    async def answer(self, command: Command) -> str:
        return await self._mcp.answer(command)


class NoMcp:
    """Without servers."""

    at_work: frozenset[asyncio.Task[None]] = frozenset()

    shared: tuple[McpServer, ...] = ()
    personal: Mapping[str, Callable[[str], McpServer]] = {}
    toolsets: Mapping[str, Toolset] = {}

    def signed_out(self, person: str) -> tuple[str, ...]:
        return ()

    def attach(self, tell: Tell, prompts_changed: Callable[[], None]) -> None:
        """Nobody signs in, and nothing changes."""

    async def prepare(self, person: str, needed: Callable[[str], bool]) -> None:
        """There is nothing to make ready."""

    async def look(self) -> None:
        """Nobody signs in."""

    async def forget_person(self, person: str) -> None:
        """Nothing is stored."""

    async def answer(self, command: Command) -> str:
        return "There are no MCP servers."
