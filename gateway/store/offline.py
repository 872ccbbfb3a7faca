"""Operations of the command line on a database that a running gateway may hold, each in a short transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, create_engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from gateway.store import api_keys as keys
from gateway.store import (
    audit,
    deletion,
    export,
    identities,
    mcp_accounts,
    media_cleanup,
    pairing,
    revocation,
    shared_secrets,
    strangers,
    workers,
)
from gateway.store.errors import StoreFailed
from gateway.store.export import ExportedConversation, ListedConversation
from gateway.store.read_only import reading, snapshot
from gateway.store.records import (
    ApiKey,
    ApiKeyScope,
    AuditEvent,
    AuditRow,
    DeletionReport,
    DeletionRequest,
    Identity,
    McpAccount,
    McpAccountKey,
    NewApiKey,
    Pairing,
    Revoked,
    Stranger,
)
from gateway.store.schema_support import check_usable, is_usable, schema_or_none
from gateway.store.sqlite_file import database_path, explain, prepare_writing
from gateway.store.urls import database_url
from gateway.store.workers import Worker

T = TypeVar("T")


def approve(url: str, code: str) -> Pairing | None:
    """Approves the sender who was given the code; None if nobody was, or it has expired. Raises `StoreError`."""
    return _write(url, lambda connection: pairing.approve(connection, code, audit.OPERATOR))


def all_pairings(url: str) -> tuple[Pairing, ...]:
    """All pairings, approved or not. Raises `StoreError`."""
    return _read(url, pairing.every)


def revoke(url: str, channel: str, sender: str) -> Revoked | None:
    """Takes back what pairing gave; None if the sender was not paired there. Raises `StoreError`."""
    return _write(url, lambda connection: revocation.revoke(connection, channel, sender, audit.OPERATOR))


def all_strangers(url: str) -> tuple[Stranger, ...]:
    """Those who were refused last. Raises `StoreError`."""
    return _read(url, strangers.newest)


def all_identities(url: str) -> tuple[Identity, ...]:
    """Whom the @names of the settings mean. Raises `StoreError`."""
    return _read(url, identities.all_identities)


def create_api_key(
    url: str,
    name: str,
    scope: ApiKeyScope,
    *,
    agents: Sequence[str] | None = None,
    conversations: Sequence[str] | None = None,
    expires_at: datetime | None = None,
) -> NewApiKey:
    """A new key of the control API. Raises `StoreError`, and `ValueError` for a name that cannot be shown."""
    return _write(
        url,
        lambda connection: keys.create(
            connection,
            name,
            scope,
            agents=agents,
            conversations=conversations,
            expires_at=expires_at,
            by=audit.OPERATOR,
        ),
    )


def api_keys(url: str) -> tuple[ApiKey, ...]:
    """All keys of the control API. Raises `StoreError`."""
    return _read(url, keys.every)


def revoke_api_key(url: str, key: str) -> tuple[Revoked, ...] | None:
    """None if there is no such key that is valid. Raises `StoreError`."""
    return _write(url, lambda connection: keys.revoke(connection, key, audit.OPERATOR))


def audit_since(url: str, time: datetime) -> Sequence[AuditRow]:
    """The audit log since then, oldest first. Raises `StoreError`."""
    return _read(url, lambda connection: audit.since(connection, time))


def conversations(url: str) -> tuple[ListedConversation, ...]:
    """All conversations, the most recent first. Raises `StoreError`."""
    return _read(url, export.listing)


def exported(url: str, session: str | None, person: str | None) -> tuple[ExportedConversation, ...]:
    """The conversation, or all of the person's. Raises `StoreError`."""

    def read(connection: Connection) -> tuple[ExportedConversation, ...]:
        sessions = deletion.sessions_of(connection, person or "") if session is None else (session,)
        found = (export.conversation(connection, each, person) for each in sessions)
        return tuple(each for each in found if each is not None)

    return _read(url, read)


def count_deleted(url: str, wanted: DeletionRequest) -> DeletionReport:
    """What the request would delete. Raises `StoreError`."""
    return _read(url, lambda connection: deletion.count(connection, wanted))


def request_deletion(url: str, wanted: DeletionRequest) -> int:
    """Stores the request; its id. Raises `StoreError`."""
    return _write(url, lambda connection: deletion.request(connection, wanted))


def deletion_result(url: str, request_id: int) -> tuple[str, DeletionReport | None]:
    """The request's state, and what was deleted. Raises `StoreError`."""
    return _read(url, lambda connection: deletion.result(connection, request_id))


def newest_media(url: str, before: datetime, most: int) -> tuple[str, ...]:
    """The hashes of so many files of conversations that were stored last before then. Raises `StoreError`."""
    return _read(url, lambda connection: media_cleanup.newest(connection, before, most))


def all_workers(url: str) -> tuple[Worker, ...]:
    """The processes that use the database, the oldest first. Raises `StoreError`."""
    return _read(url, workers.listed)


def drain_worker(url: str, worker: Worker) -> bool:
    """The worker is to end after its running turns; False if it has ended. Raises `StoreError`."""
    event = AuditEvent("worker_drained", audit.OPERATOR, detail={"worker": worker.id, "host": worker.host})
    return _write(url, lambda connection: workers.drain(connection, worker.id, event))


def shared_secret(url: str, name: str) -> str | None:
    """The secret with this name that all processes have. Raises `StoreError`."""
    return _read(url, lambda connection: shared_secrets.find(connection, name))


def add_shared_secret(url: str, name: str, value: str) -> str:
    """The secret with this name; this one if there is none yet. Raises `StoreError`."""
    return _write(url, lambda connection: shared_secrets.find_or_add(connection, name, value))


def replace_shared_secret(url: str, name: str, value: str) -> None:
    """Raises `StoreError`."""
    _write(url, lambda connection: shared_secrets.replace(connection, name, value))


class OfflineAccounts:
    """Accounts at MCP servers in a database on a server: the methods of `Store` that a command needs. Each raises
    `StoreError`. In a database without tables, or with those of another version, nobody is signed in yet."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def mcp_account(self, server: str, person: str) -> McpAccount | None:
        return await self._read(lambda connection: mcp_accounts.read(connection, server, person), None)

    async def mcp_account_changes(
        self, known: Mapping[McpAccountKey, str]
    ) -> tuple[frozenset[McpAccountKey], tuple[McpAccount, ...]]:
        return await self._read(lambda connection: mcp_accounts.changes(connection, known), (frozenset(), ()))

    async def write_mcp_account(
        self, server: str, person: str, content: Mapping[str, Any], over: str | None
    ) -> str | None:
        return await self._write(lambda connection: mcp_accounts.write(connection, server, person, content, over))

    async def forget_mcp_account(self, server: str, person: str) -> dict[str, Any] | None:
        return await self._write(lambda connection: mcp_accounts.forget(connection, server, person))

    async def claim_mcp_account(self, server: str, person: str, claim: str, seconds: float) -> bool:
        return await self._write(lambda connection: mcp_accounts.claim(connection, server, person, claim, seconds))

    async def release_mcp_account(self, server: str, person: str, claim: str) -> None:
        await self._write(lambda connection: mcp_accounts.release(connection, server, person, claim))

    async def mcp_servers_of(self, person: str) -> tuple[str, ...]:
        return await self._read(lambda connection: mcp_accounts.servers_of(connection, person), ())

    async def count_mcp_accounts(self, server: str) -> int:
        return await self._read(lambda connection: mcp_accounts.count(connection, server), 0)

    async def _read(self, query: Callable[[Connection], T], otherwise: T) -> T:
        def read() -> T:
            with snapshot(database_url(self._url)) as connection:
                found = schema_or_none(connection)
                return query(connection) if found is not None and is_usable(*found) else otherwise

        return await asyncio.to_thread(read)

    async def _write(self, work: Callable[[Connection], T]) -> T:
        return await asyncio.to_thread(_write, self._url, work)


def _write(url: str, work: Callable[[Connection], T]) -> T:
    with _writing(url) as connection:
        return work(connection)


def _read(url: str, work: Callable[[Connection], T]) -> T:
    with reading(url) as connection:
        return work(connection)


@contextmanager
def _writing(url: str) -> Iterator[Connection]:
    """A transaction in which nobody else writes."""
    parsed = database_url(url)
    if parsed.get_backend_name() == "postgresql":
        with _writing_on_server(parsed) as connection:
            yield connection
        return
    path = database_path(url)
    if not path.exists():
        raise StoreFailed(f"{path} does not exist yet: start the gateway once with `interject run`")
    engine = create_engine(f"sqlite:///{path}")
    prepare_writing(engine)
    try:
        with engine.begin() as connection:
            check_usable(connection, path)
            yield connection
    except DBAPIError as error:
        raise explain(path, error) from error
    finally:
        engine.dispose()


@contextmanager
def _writing_on_server(url: URL) -> Iterator[Connection]:
    from gateway.store import postgres_database as server

    engine = server.connect(url, 1, name=server.COMMAND)
    try:
        with engine.begin() as connection:
            check_usable(connection, f"the database {server.shown(url)}")
            server.lock_everything(connection)
            yield connection
    except SQLAlchemyError as error:
        raise server.explain(url, error) from error
    finally:
        engine.dispose()
