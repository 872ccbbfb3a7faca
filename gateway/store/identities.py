"""The user ids that the @names of the settings mean. A name is resolved once; from then on only the id counts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime

from sqlalchemy import Connection, bindparam, delete, select

from channels.address import Sender
from gateway.store.records import Identity
from gateway.store.schema import AnyRow, clean, identities
from gateway.store.upsert import insert

_of_name = (identities.c.channel == bindparam("of_channel")) & (identities.c.name == bindparam("of_name"))
_insert = (
    insert(identities)
    .values({column.name: bindparam(column.name) for column in identities.c})
    .on_conflict_do_nothing(index_elements=["channel", "name"])
)
_by_name = select(identities.c.user_id).where(_of_name)
_all = select(identities).order_by(identities.c.channel, identities.c.name)
_delete = delete(identities).where(_of_name)


def meaning(connection: Connection, channel: str, names: Collection[str], sender: Sender) -> tuple[str, ...]:
    """As `resolve`, and nothing is resolved by it."""
    return tuple(name for name in names if _meant_by(connection, channel, name) in (None, clean(sender.id)))


def resolve(connection: Connection, channel: str, names: Collection[str], sender: Sender) -> tuple[str, ...]:
    """Those of the @names (in lower case) that mean this user: each that was not resolved before, or to the same id."""
    return tuple(name for name in names if _means(connection, channel, name, sender))


def all_identities(connection: Connection) -> tuple[Identity, ...]:
    return tuple(map(_identity_from, connection.execute(_all)))


def keep_only(connection: Connection, names: Mapping[str, Collection[str]]) -> tuple[Identity, ...]:
    """Forgets who names mean that are no longer in the settings (by channel); the others."""
    kept = []
    for identity in all_identities(connection):
        if identity.name in names.get(identity.channel, ()):
            kept.append(identity)
        else:
            connection.execute(_delete, {"of_channel": identity.channel, "of_name": identity.name})
    return tuple(kept)


def _means(connection: Connection, channel: str, name: str, sender: Sender) -> bool:
    row = {
        "channel": channel,
        "name": name,
        "user_id": sender.id,
        "user_name": sender.name,
        "at": datetime.now(UTC),
    }
    connection.execute(_insert, row)
    return _meant_by(connection, channel, name) == clean(sender.id)


def _meant_by(connection: Connection, channel: str, name: str) -> str | None:
    """The id of the user that the name means; None if it is not resolved."""
    found: str | None = connection.execute(_by_name, {"of_channel": channel, "of_name": name}).scalar()
    return found


def _identity_from(row: AnyRow) -> Identity:
    return Identity(row.channel, row.name, row.user_id, row.user_name, row.at)
