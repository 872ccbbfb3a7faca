"""Secrets that all processes on one database have, such as the token of the web chat's owner."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, select

from gateway.store.schema import shared_secrets
from gateway.store.upsert import insert

WEB_TOKEN = "web-token"

_one = select(shared_secrets.c.value).where(shared_secrets.c.name == bindparam("of_name"))
_insert = insert(shared_secrets).values(name=bindparam("name"), value=bindparam("value"))
_add = _insert.on_conflict_do_nothing(index_elements=["name"])
_replace = _insert.on_conflict_do_update(index_elements=["name"], set_={"value": _insert.excluded.value})


def find(connection: Connection, name: str) -> str | None:
    return connection.execute(_one, {"of_name": name}).scalar()


def find_or_add(connection: Connection, name: str, value: str) -> str:
    """The secret with this name; this one if there is none yet."""
    connection.execute(_add, {"name": name, "value": value})
    return str(connection.execute(_one, {"of_name": name}).scalar_one())


def replace(connection: Connection, name: str, value: str) -> None:
    connection.execute(_replace, {"name": name, "value": value})
