"""Revocation: what pairing gave is taken back, also from what runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from sqlalchemy import Connection, select

from gateway.store import background, pairing
from gateway.store.records import BackgroundResult, Revoked
from gateway.store.schema import clean, is_running_work, work

_background = select(work.c.id, work.c.address, work.c.principal).where(is_running_work).order_by(work.c.id)


def revoke(connection: Connection, channel: str, sender: str, by: str = "", by_name: str = "") -> Revoked | None:
    """Ends the sender's background work too, which the process that runs it follows (`BackgroundWork.follow_stops`).
    None if the sender was not paired there."""
    revoked = pairing.revoke(connection, channel, sender, by, by_name)
    if revoked is None:
        return None
    result = BackgroundResult("stopped", pairing.REVOKED)
    ended = [
        background.stop(connection, row, result, notify=False) for row in _background_of(connection, channel, sender)
    ]
    return replace(revoked, background=sum(map(len, ended)))


def _background_of(connection: Connection, channel: str, sender: str) -> Iterator[int]:
    for row in connection.execute(_background).all():
        if row.address["channel"] == channel and row.principal["id"] == clean(sender):
            yield row.id
