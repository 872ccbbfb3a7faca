"""What a gateway needs to work beside others on one database."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from socket import gethostname

from config.store import StoreSettings
from gateway import VERSION
from gateway.bus import Bus, BusEvent, LocalBus, NotificationArrived
from gateway.lifecycle.connectors import Connectors, StoredConnectors
from gateway.lifecycle.worker_lease import WorkerLease
from gateway.store import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Workers:
    """How the workers of the database reach each other. `lease` is None where there can be only one."""

    bus: Bus
    connectors: Connectors
    lease: WorkerLease | None = None


@asynccontextmanager
async def join_workers(
    store: Store, settings: StoreSettings, watch: Callable[[BusEvent | NotificationArrived], None]
) -> AsyncIterator[Workers]:
    """This process as a worker of the database, from now on. `watch` is told of its events. Raises `StoreError`."""
    if not store.is_shared:
        yield Workers(LocalBus(watch=watch), StoredConnectors(store))
        return
    from gateway.bus.postgres import PostgresBus  # loads the driver

    async with WorkerLease(store, seconds=settings.lease) as lease:
        log.info("worker %s joined: host %s, version %s", store.worker, gethostname(), VERSION)

        def look_again() -> None:
            lease.look_again()
            connectors.look()

        def give_up(connector: str) -> None:
            connectors.give_up(connector)

        bus = PostgresBus(
            settings.url,
            store.worker,
            watch=watch,
            look_again=look_again,
            asked=give_up,
            renewal=settings.lease / 2,
        )
        connectors = StoredConnectors(store, is_alive=lease.is_current, released=bus.released, ask_for=bus.ask_for)
        yield Workers(bus, connectors, lease)
