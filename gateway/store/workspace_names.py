"""Names of workspace folders: each belongs to one conversation, person or channel, whatever the hash in it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256

from sqlalchemy import Connection, bindparam, delete, select

from channels.address import Address
from gateway.sessions import session_key
from gateway.store.records import FolderOwner
from gateway.store.schema import workspace_names
from gateway.store.upsert import insert

_found = select(workspace_names.c.name).where(workspace_names.c.owner == bindparam("of_owner"))
_claim = insert(workspace_names).values(name=bindparam("name"), owner=bindparam("owner")).on_conflict_do_nothing()
_forget = delete(workspace_names).where(workspace_names.c.owner.in_(bindparam("owners", expanding=True)))


def folder_key(owner: FolderOwner) -> str:
    """The key of the folder of a conversation, or of a person ("channel:id")."""
    if isinstance(owner, Address):
        return session_key(owner)
    channel, _, id = owner.partition(":")
    return f"{channel}/person/{id}"


def hash_of(key: str) -> str:
    """What the owner of a name is known by."""
    return sha256(key.encode()).hexdigest()


def workspace_name(connection: Connection, key: str) -> str | None:
    """The name of the folder with this key; None if it has none yet."""
    found: str | None = connection.execute(_found, {"of_owner": hash_of(key)}).scalar()
    return found


def name_workspace(connection: Connection, key: str, names: Sequence[str]) -> str:
    """The name of the folder with this key for good: the first of these that is nobody else's, if it has none yet. The
    last one must be nobody else's."""
    owner = hash_of(key)
    for name in names:
        connection.execute(_claim, {"name": name, "owner": owner})
        # Another process may have named it meanwhile.
        if (found := workspace_name(connection, key)) is not None:
            return found
    raise ValueError(f"all names for a workspace are taken: {', '.join(names)}")


def forget(connection: Connection, owners: Iterable[FolderOwner]) -> None:
    """The folders of these are gone: others may have their names."""
    connection.execute(_forget, {"owners": [hash_of(folder_key(owner)) for owner in owners]})
