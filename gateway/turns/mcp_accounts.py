"""Accounts at MCP servers in the store, where all workers share them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from agent.interrupt import shielded
from agent.mcp.account import TOOLS, AccountKey, KeptAccount, person_hash, secrets_in
from agent.mcp.errors import AccountsUnavailable
from gateway.lifecycle.connectors import untold
from gateway.store.errors import StoreError
from gateway.store.records import McpAccount, McpAccountKey

log = logging.getLogger(__name__)

CLAIM = 30.0
"""Seconds for which one worker alone may get new tokens for an account, if it does not say that it is done."""

PAUSE = 0.1
"""Seconds between two looks whether another one is done."""


class AccountRows(Protocol):
    """Each raises `StoreError`."""

    async def mcp_account(self, server: str, person: str) -> McpAccount | None: ...
    async def mcp_account_changes(
        self, known: Mapping[McpAccountKey, str]
    ) -> tuple[frozenset[McpAccountKey], tuple[McpAccount, ...]]: ...
    async def write_mcp_account(
        self, server: str, person: str, content: Mapping[str, Any], over: str | None
    ) -> str | None: ...
    async def forget_mcp_account(self, server: str, person: str) -> dict[str, Any] | None: ...
    async def claim_mcp_account(self, server: str, person: str, claim: str, seconds: float) -> bool: ...
    async def release_mcp_account(self, server: str, person: str, claim: str) -> None: ...
    async def mcp_servers_of(self, person: str) -> tuple[str, ...]: ...
    async def count_mcp_accounts(self, server: str) -> int: ...


class StoredAccounts:
    """Implements `agent.mcp.account.AccountStore`."""

    def __init__(self, rows: AccountRows, folder: Path, changed: Callable[[], None] = untold) -> None:
        """`folder` has what this machine knows of the tools of people's servers, see `tools_file`. `changed` is called
        when this process has written: others are to look."""
        self._rows = rows
        self._folder = folder
        self._changed = changed
        self._versions: dict[McpAccountKey, str] = {}
        self._secrets: dict[McpAccountKey, frozenset[str]] = {}
        self._all_secrets: frozenset[str] = frozenset()

    async def read(self, key: AccountKey) -> KeptAccount | None:
        row = _row(key)
        with _explained("read"):
            found = await self._rows.mcp_account(*row)
        if found is None:
            self._lose(row)
            return None
        self._learn(row, found.content, found.version)
        return KeptAccount(found.content, found.version)

    async def write(self, key: AccountKey, content: Mapping[str, Any], *, over: str | None = None) -> bool:
        row = _row(key)
        # Known before anybody can use them.
        self._mask(row, content)
        with _explained("stored"):
            version = await self._rows.write_mcp_account(*row, content, over)
        if version is None:
            return False
        self._learn(row, content, version)
        self._changed()
        return True

    async def forget(self, key: AccountKey) -> Mapping[str, Any] | None:
        row = _row(key)
        with _explained("removed"):
            content = await self._rows.forget_mcp_account(*row)
        self._lose(row)
        if content is not None:
            self._changed()
        return content

    @asynccontextmanager
    async def alone(self, key: AccountKey) -> AsyncIterator[None]:
        row, claim = _row(key), uuid4().hex
        with _explained("read"):
            while not await self._rows.claim_mcp_account(*row, claim, CLAIM):  # noqa: ASYNC110 - rows have no event
                await asyncio.sleep(PAUSE)
        try:
            yield
        finally:
            await shielded(self._release(row, claim))

    async def servers_of(self, person: str) -> Sequence[str]:
        with _explained("read"):
            return await self._rows.mcp_servers_of(person_hash(person))

    async def count(self, server: str) -> int:
        with _explained("read"):
            return await self._rows.count_mcp_accounts(server)

    async def look(self) -> Collection[str]:
        with _explained("read"):
            there, changed = await self._rows.mcp_account_changes(dict(self._versions))
        for each in changed:
            self._learn((each.server, each.person), each.content, each.version)
        gone = [row for row in self._versions if row not in there]
        for row in gone:
            self._lose(row)
        await asyncio.to_thread(self._remove_tools, frozenset(map(_stem, self._versions)))
        return tuple(map(_stem, gone))

    def holds(self, key: AccountKey) -> bool:
        return _row(key) in self._versions

    def secrets(self) -> frozenset[str]:
        return self._all_secrets

    def _learn(self, row: McpAccountKey, content: Mapping[str, Any], version: str) -> None:
        self._versions[row] = version
        self._mask(row, content)

    def _mask(self, row: McpAccountKey, content: Mapping[str, Any]) -> None:
        found = frozenset(secrets_in(content))
        if self._secrets.get(row) != found:
            self._secrets[row] = found
            self._all_secrets = frozenset().union(*self._secrets.values())

    def _lose(self, row: McpAccountKey) -> None:
        self._versions.pop(row, None)
        if self._secrets.pop(row, None) is not None:
            self._all_secrets = frozenset().union(*self._secrets.values())

    async def _release(self, row: McpAccountKey, claim: str) -> None:
        try:
            await self._rows.release_mcp_account(*row, claim)
        except StoreError as error:
            log.warning("MCP server %s: others get new tokens only in %.0f s: %s", row[0], CLAIM, error)

    def _remove_tools(self, known: Collection[str]) -> None:
        """What people's servers offered is forgotten with their account; those of these stems are there. Blocking."""
        for file in self._folder.glob(f"*{TOOLS}"):
            if file.name.removesuffix(TOOLS) not in known:
                file.unlink(missing_ok=True)


def _row(key: AccountKey) -> McpAccountKey:
    return key.server, person_hash(key.person) if key.person else ""


def _stem(row: McpAccountKey) -> str:
    return ".".join(filter(None, row))


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except StoreError as error:
        raise AccountsUnavailable(f"the sign-in cannot be {what}: {error}") from error
