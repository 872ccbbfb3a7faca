"""`/mcp`: the MCP servers, and signing in and out there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial
from uuid import uuid4

from agent.log import Notice
from agent.mcp.errors import AccountsUnavailable, McpError
from agent.mcp.personal import Servers
from agent.mcp.server import McpServer
from agent.toolset import Toolset
from gateway.inbound.access import AccessPolicy
from gateway.inbound.sign_ins import SignInLink, SignIns
from gateway.lifecycle.tasks import BackgroundTasks
from gateway.outbound.wording import escaped
from gateway.sessions import session_key
from gateway.store.records import Command
from gateway.turns.budgets import person_on
from gateway.turns.mcp import Tell

USAGE = "`/mcp` lists the servers, `/mcp login NAME` signs you in at one, `/mcp logout NAME` signs you out."
MAX_REASON = 500
"""Characters of why something did not work, part of which a server may have said."""

ADMINS_ONLY = "Everybody uses the account at this server, so only admins may do that."


log = logging.getLogger(__name__)


class McpCommands:
    """Implements `gateway.turns.mcp.Mcp`. Use as a context manager: leaving it ends sign-ins that wait for people."""

    def __init__(self, servers: Servers, sign_ins: SignIns, access: AccessPolicy) -> None:
        self._servers = servers
        self._sign_ins = sign_ins
        self._access = access
        self._tasks = BackgroundTasks("a sign-in failed")

    async def __aenter__(self) -> McpCommands:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._tasks.__aexit__(*exc)

    @property
    def at_work(self) -> frozenset[asyncio.Task[None]]:
        """The sign-ins that wait for people."""
        return self._tasks.running

    @property
    def shared(self) -> tuple[McpServer, ...]:
        return tuple(self._servers.shared.values())

    @property
    def personal(self) -> Mapping[str, Callable[[str], McpServer]]:
        return {name: servers.as_known for name, servers in self._servers.personal.items()}

    def signed_out(self, person: str) -> tuple[str, ...]:
        return tuple(
            name for name, servers in self._servers.personal.items() if not servers.account_of(person).signed_in
        )

    @property
    def toolsets(self) -> Mapping[str, Toolset]:
        return {**self._servers.shared, **self._servers.personal}

    def attach(self, tell: Tell, prompts_changed: Callable[[], None]) -> None:
        self._sign_ins.tell = tell
        for server in self.shared:
            server.prompts_changed = prompts_changed

    async def prepare(self, person: str, needed: Callable[[str], bool]) -> None:
        await self._servers.prepare(person, needed)

    async def look(self) -> None:
        await self._sign_ins.look()
        try:
            await self._servers.look()
        except AccountsUnavailable as error:
            log.warning("what other workers have stored of accounts at MCP servers is not known: %s", error)

    async def forget_person(self, person: str) -> None:
        await self._servers.forget_person(person)

    async def answer(self, command: Command) -> str:
        action, _, name = command.arguments.strip().partition(" ")
        name = name.strip().lower()
        if not action:
            return await self._list(command)
        if action not in ("login", "logout") or not name:
            return USAGE
        if name not in self._servers.names:
            known = ", ".join(f"`{each}`" for each in self._servers.names)
            return f"There is no MCP server `{escaped(name)}`. There are: {known}."
        if name in self._servers.shared and not self._access.manages(command.address, command.sender):
            return ADMINS_ONLY
        try:
            server = await self._servers.of(name, person_on(command.address, command.sender))
            return await (self._sign_in(command, server) if action == "login" else self._sign_out(server))
        except McpError as error:
            return f"⚠️ {escaped(name)}: {escaped(str(error), MAX_REASON)}"
        except OSError as error:
            return f"⚠️ {escaped(name)}: the sign-in cannot be removed: {escaped(error.strerror or str(error))}"

    async def _list(self, command: Command) -> str:
        person = person_on(command.address, command.sender)
        lines = [f"- `{name}`: {_state(server)}" for name, server in self._servers.shared.items()]
        for name in self._servers.personal:
            try:
                lines.append(f"- `{name}`, with an account of your own: {_state(await self._servers.of(name, person))}")
            except McpError as error:
                lines.append(f"- `{name}`: {escaped(str(error), MAX_REASON)}")
        return "\n".join([*lines, "", USAGE])

    async def _sign_in(self, command: Command, server: McpServer) -> str:
        """The link comes in a message of its own, so that it is not in the answer, which a group may read."""
        is_personal = server.name in self._servers.personal
        link = await self._sign_ins.link(
            server.name, command.address, command.sender, command.message_id, personal=is_personal
        )
        self._tasks.start(partial(self._wait, server, link))
        what = "a link" if link.redirect_uri is not None else "an address and a code"
        return f"I send you {what} to sign in at `{server.name}`, in a direct chat."

    async def _wait(self, server: McpServer, link: SignInLink) -> None:
        """Tells the person how it ended. A failure here affects only this sign-in."""
        try:
            await server.sign_in(link)
            text = f"You are signed in at `{server.name}`."
        except McpError as error:
            text = f"⚠️ Not signed in at `{server.name}`: {escaped(str(error), MAX_REASON)}."
        except Exception:
            log.exception("a sign-in at %s failed", server.name)
            text = f"⚠️ Not signed in at `{server.name}`: internal error in the gateway; details are in its log."
        where = link.address
        assert self._sign_ins.tell is not None
        await self._sign_ins.tell.send(session_key(where), where, None, Notice(text), f"signed-in:{uuid4().hex}")

    async def _sign_out(self, server: McpServer) -> str:
        why_not_revoked = await server.sign_out()
        if why_not_revoked is None:
            return f"Nobody was signed in at `{server.name}`."
        if not why_not_revoked:
            return f"Signed out of `{server.name}`, and the access there is ended."
        return (
            f"Signed out of `{server.name}`. The access may be valid there still, because "
            f"{escaped(why_not_revoked, MAX_REASON)}: end it in your account there."
        )


def _state(server: McpServer) -> str:
    state = "; ".join(map(escaped, server.status.parts)) if server.is_started else "not in use at the moment"
    return state + (", signed in" if server.account is not None and server.account.signed_in else "")
