"""Notifications of PostgreSQL: one connection listens, another one sends, each opened again when it is lost."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import AsyncConnection, sql

from gateway.store.postgres_database import CONNECTING, parameters
from gateway.store.urls import database_url

log = logging.getLogger(__name__)

FIRST_PAUSE = 0.05
MAX_PAUSE = 5.0
"""Seconds until a connection is opened again: twice as long after each failure."""

_CHANNEL = "'interject_' || md5(coalesce(current_schema(), ''))"
"""Gateways with tables of their own in another schema of the same database do not hear each other."""

_NOTIFY = f"SELECT pg_notify({_CHANNEL}, payload) FROM unnest(%s::text[]) AS payload"


class Notifications:
    def __init__(self, url: str, *, listening: Callable[[], None], heard: Callable[[str], None]) -> None:
        """`listening` is called when notifications begin to arrive, again after each loss of the connection, during
        which some were missed; `heard` is given each payload, also this process's own. Neither waits or raises."""
        self._parameters = _parameters(url)
        self._listening = listening
        self._heard = heard
        self._sending: AsyncConnection | None = None

    async def listen(self) -> None:
        """Until cancelled."""
        await _again_and_again(self._listen, "notifications of other workers do not arrive")

    async def send(self, payloads: Sequence[str]) -> None:
        """Sends these, in their order, in one transaction. Raises `psycopg.Error`: they may be lost."""
        if self._sending is None or self._sending.closed:
            self._sending = await self._connect()
        try:
            await self._sending.execute(_NOTIFY, [list(payloads)])
        except BaseException:
            # What has become of it is not known, and does not matter.
            await self.aclose()
            raise

    async def aclose(self) -> None:
        connection, self._sending = self._sending, None
        if connection is not None:
            with suppress(psycopg.Error):
                await connection.close()

    async def _listen(self) -> None:
        """Until the connection is lost. Raises `psycopg.Error`."""
        async with await self._connect() as connection:
            cursor = await connection.execute(f"SELECT {_CHANNEL}")
            row = await cursor.fetchone()
            assert row is not None
            await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(row[0])))
            self._listening()
            async for notification in connection.notifies():
                self._heard(notification.payload)

    async def _connect(self) -> AsyncConnection:
        return await AsyncConnection.connect(**self._parameters, autocommit=True)


async def _again_and_again(act: Callable[[], Awaitable[None]], trouble: str) -> None:
    """Until cancelled: when it has failed, it is done again after a pause."""
    pause = FIRST_PAUSE
    while True:
        began = asyncio.get_running_loop().time()
        try:
            await act()
        except (psycopg.Error, OSError) as error:
            log.warning("%s: %s", trouble, " ".join(str(error).split()))
        if asyncio.get_running_loop().time() - began > MAX_PAUSE:
            pause = FIRST_PAUSE
        await asyncio.sleep(pause * random.uniform(0.5, 1.0))
        pause = min(2 * pause, MAX_PAUSE)


def _parameters(url: str) -> dict[str, Any]:
    """For psycopg: those in the URL, and ours where it names none."""
    return {"application_name": "interject", **CONNECTING, **parameters(database_url(url))}
