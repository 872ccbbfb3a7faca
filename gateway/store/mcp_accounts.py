"""Accounts at MCP servers that several processes share. One of them at a time claims an account to get new tokens for
it; its claim ends by itself if it does not release it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, bindparam, delete, func, or_, select, update

from gateway.store.clock import Now
from gateway.store.records import McpAccount, McpAccountKey
from gateway.store.schema import AnyRow, mcp_accounts
from gateway.store.upsert import insert

_it = (mcp_accounts.c.server == bindparam("of_server")) & (mcp_accounts.c.person == bindparam("of_person"))
_columns = (mcp_accounts.c.server, mcp_accounts.c.person, mcp_accounts.c.content, mcp_accounts.c.version)
_one = select(*_columns).where(_it)
_versions = select(mcp_accounts.c.server, mcp_accounts.c.person, mcp_accounts.c.version)
_servers = select(mcp_accounts.c.server).where(mcp_accounts.c.person == bindparam("of_person"))
_count = select(func.count()).where(mcp_accounts.c.server == bindparam("of_server"))
_insert = insert(mcp_accounts).values({column.name: bindparam(column.name) for column in _columns})
_write = _insert.on_conflict_do_update(
    index_elements=["server", "person"],
    set_={"content": _insert.excluded.content, "version": _insert.excluded.version},
)
_add = _insert.on_conflict_do_nothing(index_elements=["server", "person"])
_replace = (
    update(mcp_accounts)
    .where(_it, mcp_accounts.c.version == bindparam("over"))
    .values(content=bindparam("new_content"), version=bindparam("new_version"))
)
_forget = delete(mcp_accounts).where(_it).returning(mcp_accounts.c.content)
_is_free = or_(mcp_accounts.c.claimed_until.is_(None), mcp_accounts.c.claimed_until <= Now())
_claim = (
    update(mcp_accounts)
    .where(_it, _is_free)
    .values(claim=bindparam("new_claim"), claimed_until=Now() + bindparam("seconds"))
)
_release = (
    update(mcp_accounts)
    .where(_it, mcp_accounts.c.claim == bindparam("of_claim"))
    .values(claim=None, claimed_until=None)
)


def read(connection: Connection, server: str, person: str) -> McpAccount | None:
    row = connection.execute(_one, _of(server, person)).first()
    return None if row is None else _from_row(row)


def changes(
    connection: Connection, known: Mapping[McpAccountKey, str]
) -> tuple[frozenset[McpAccountKey], tuple[McpAccount, ...]]:
    """All accounts there are, and those of them whose version is not the one that is known."""
    there = {(server, person): version for server, person, version in connection.execute(_versions)}
    others = (read(connection, *key) for key, version in there.items() if known.get(key) != version)
    return frozenset(there), tuple(each for each in others if each is not None)


def write(connection: Connection, server: str, person: str, content: Mapping[str, Any], over: str | None) -> str | None:
    """Replaces what is kept; with `over`, only if that is still its version. The new version, None if it did not."""
    version = uuid4().hex
    if over is None:
        values = {"server": server, "person": person, "content": dict(content), "version": version}
        connection.execute(_write, values)
        return version
    changed = {"over": over, "new_content": dict(content), "new_version": version}
    return version if connection.execute(_replace, _of(server, person) | changed).rowcount else None


def add(connection: Connection, server: str, person: str, content: Mapping[str, Any]) -> None:
    """Keeps this, unless there is an account already."""
    connection.execute(_add, {"server": server, "person": person, "content": dict(content), "version": uuid4().hex})


def forget(connection: Connection, server: str, person: str) -> dict[str, Any] | None:
    """Removes what is kept, and returns it; None if there is nothing."""
    found: dict[str, Any] | None = connection.execute(_forget, _of(server, person)).scalar()
    return found


def claim(connection: Connection, server: str, person: str, claim: str, seconds: float) -> bool:
    """Claims the account for so many seconds; False while it is claimed. Where there is no account nobody waits."""
    wanted = _of(server, person) | {"new_claim": claim, "seconds": seconds}
    return bool(connection.execute(_claim, wanted).rowcount) or read(connection, server, person) is None


def release(connection: Connection, server: str, person: str, claim: str) -> None:
    connection.execute(_release, _of(server, person) | {"of_claim": claim})


def servers_of(connection: Connection, person: str) -> tuple[str, ...]:
    return tuple(connection.execute(_servers, {"of_person": person}).scalars())


def count(connection: Connection, server: str) -> int:
    return connection.execute(_count, {"of_server": server}).scalar_one()


def _of(server: str, person: str) -> dict[str, Any]:
    return {"of_server": server, "of_person": person}


def _from_row(row: AnyRow) -> McpAccount:
    return McpAccount(row.server, row.person, row.content, row.version)
