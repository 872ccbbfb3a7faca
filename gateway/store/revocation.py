"""Revocation: what pairing or a role gave is taken back, also from what runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from sqlalchemy import Connection, select

from channels.address import Sender
from gateway.store import background, pairing
from gateway.store.encoding import sender_from_json
from gateway.store.records import ActivePerson, BackgroundResult, Revoked
from gateway.store.schema import clean, inbox, is_running, is_running_work, is_waiting, turns, work

RIGHTS_CHANGED = "the rights of whoever asked for it were changed"

_waiting = select(inbox.c.channel, inbox.c.sender_id, inbox.c.sender_name, inbox.c.sender_handle, inbox.c.level).where(
    is_waiting
)
_turns = select(turns.c.address, turns.c.principal).where(is_running)
_background = select(work.c.id, work.c.address, work.c.principal).where(is_running_work).order_by(work.c.id)


def revoke(connection: Connection, channel: str, sender: str, by: str = "", by_name: str = "") -> Revoked | None:
    """Ends the sender's background work too, which the process that runs it follows (`BackgroundWork.follow_stops`).
    None if the sender was not paired there."""
    revoked = pairing.revoke(connection, channel, sender, by, by_name)
    return None if revoked is None else _with_background(connection, channel, revoked)


def take_back(connection: Connection, channel: str, sender: Sender, reason: str = RIGHTS_CHANGED) -> Revoked:
    """Ends what the sender has running, waiting and in the background: the settings, or a group of the platform, no
    longer give what it may do."""
    revoked = pairing.take_back(connection, channel, sender, reason=reason)
    return _with_background(connection, channel, revoked)


def active_people(connection: Connection) -> tuple[ActivePerson, ...]:
    """Everybody for whom something is to be done, with the highest level that any of it has."""
    people: dict[tuple[str, str], Sender] = {}
    for channel, sender in _active(connection):
        known = people.get((channel, sender.id))
        if known is None or known.level < sender.level:
            people[channel, sender.id] = sender
    return tuple(
        ActivePerson(channel, sender, pairing.is_approved(connection, channel, sender.id))
        for (channel, _), sender in people.items()
    )


def _active(connection: Connection) -> Iterator[tuple[str, Sender]]:
    for row in connection.execute(_waiting):
        yield row.channel, Sender(row.sender_id, row.sender_name, row.sender_handle, level=row.level)
    for row in (*connection.execute(_turns), *connection.execute(_background)):
        yield row.address["channel"], sender_from_json(row.principal)


def _with_background(connection: Connection, channel: str, revoked: Revoked) -> Revoked:
    sender, result = revoked.sender.id, BackgroundResult("stopped", revoked.reason)
    ended = [
        background.stop(connection, row, result, notify=False) for row in _background_of(connection, channel, sender)
    ]
    return replace(revoked, background=sum(map(len, ended)))


def _background_of(connection: Connection, channel: str, sender: str) -> Iterator[int]:
    for row in connection.execute(_background).all():
        if row.address["channel"] == channel and row.principal["id"] == clean(sender):
            yield row.id
