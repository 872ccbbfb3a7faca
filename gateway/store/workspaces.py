"""Workspaces in the media store: the newest version of each, and the files that it uses there.

A version follows the one that its worker had. Of two that follow the same one, the second is refused, and its worker
takes over the first before it tries again. Deleted workspaces leave their random id, by which other machines know that
they must delete their copies too.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from sqlalchemy import Connection, bindparam, delete, select, update

from agent.journal import TurnLost
from gateway.store import turns
from gateway.store.records import SavedWorkspace, WorkspaceChange
from gateway.store.schema import AnyRow, is_running_work, work, workspace_files, workspaces
from gateway.store.upsert import insert

REMEMBERED = timedelta(days=400)
"""How long a deletion is known to machines that were switched off."""

_saved = select(workspaces).where(workspaces.c.key == bindparam("of_key"))
_begin = (
    insert(workspaces)
    .values({column.name: bindparam(column.name) for column in workspaces.c})
    .on_conflict_do_nothing(index_elements=["key"])
    .returning(workspaces.c.id)
)
_follow = (
    update(workspaces)
    .where(
        workspaces.c.key == bindparam("of_key"),
        workspaces.c.id == bindparam("base"),
        workspaces.c.version == bindparam("base_version"),
    )
    .values(
        version=bindparam("new_version"),
        manifest=bindparam("new_manifest"),
        files=bindparam("number"),
        host=bindparam("of_host"),
        at=bindparam("now"),
    )
)
_use = (
    insert(workspace_files)
    .values(workspace=bindparam("workspace"), hash=bindparam("hash"))
    .on_conflict_do_nothing(index_elements=["workspace", "hash"])
)
_used = select(workspace_files.c.hash).where(workspace_files.c.workspace == bindparam("of_workspace"))
_end_use = delete(workspace_files).where(
    workspace_files.c.workspace == bindparam("of_workspace"), workspace_files.c.hash == bindparam("of_hash")
)
_end_uses = delete(workspace_files).where(workspace_files.c.workspace == bindparam("of_workspace"))
_forget = (
    update(workspaces)
    .where(workspaces.c.key == bindparam("of_key"))
    .values(key=None, manifest="", files=0, host="", at=bindparam("now"))
    .returning(workspaces.c.id)
)
_forget_old = delete(workspaces).where(workspaces.c.key.is_(None), workspaces.c.at < bindparam("before"))
_deleted = select(workspaces.c.id).where(workspaces.c.key.is_(None), workspaces.c.at >= bindparam("since"))
_is_deleted = select(workspaces.c.id).where(workspaces.c.key.is_(None), workspaces.c.id == bindparam("of_id"))
_running_call = select(work.c.id).where(work.c.id == bindparam("row"), is_running_work)


def saved_workspace(connection: Connection, key: str) -> SavedWorkspace | None:
    """Its newest version; None if it is not saved."""
    row = connection.execute(_saved, {"of_key": key}).first()
    return None if row is None else _saved_from(row)


def save_of_turn(connection: Connection, turn_id: str, epoch: int, change: WorkspaceChange) -> SavedWorkspace | None:
    """Saves what a turn has changed. None: there is another version than `change.base`. Raises `TurnLost`."""
    turns.hold(connection, turn_id, epoch)
    return _save(connection, change)


def save_of_call(connection: Connection, session: str, row: int, change: WorkspaceChange) -> SavedWorkspace | None:
    """Saves what a call in the background has changed. None: there is another version than `change.base`. Raises
    `TurnLost` if the call was given up."""
    if connection.execute(_running_call, {"row": row}).first() is None:
        raise TurnLost(f"the call {row} in the background was given up")
    return _save(connection, change)


def delete_workspace(connection: Connection, key: str) -> frozenset[str] | None:
    """Deletes it on all machines; the hashes of its files, which may be unused now. None: it is not saved."""
    now = datetime.now(UTC)
    id = connection.execute(_forget, {"of_key": key, "now": now}).scalar()
    if id is None:
        return None
    hashes = frozenset(connection.execute(_used, {"of_workspace": id}).scalars())
    connection.execute(_end_uses, {"of_workspace": id})
    connection.execute(_forget_old, {"before": now - REMEMBERED})
    return hashes


def deleted_workspaces(connection: Connection, since: datetime) -> frozenset[str]:
    """The ids of those that were deleted since then."""
    return frozenset(connection.execute(_deleted, {"since": since}).scalars())


def is_workspace_deleted(connection: Connection, id: str) -> bool:
    return connection.execute(_is_deleted, {"of_id": id}).first() is not None


def _save(connection: Connection, change: WorkspaceChange) -> SavedWorkspace | None:
    base = change.base
    saved = SavedWorkspace(
        uuid4().hex if base is None else base.id,
        1 if base is None else base.version + 1,
        change.manifest,
        change.files,
        change.host,
    )
    now = datetime.now(UTC)
    if base is None:
        values = {
            "id": saved.id,
            "key": change.key,
            "version": saved.version,
            "manifest": saved.manifest,
            "files": saved.files,
            "host": saved.host,
            "at": now,
        }
        if connection.execute(_begin, values).first() is None:
            return None
    else:
        followed = connection.execute(
            _follow,
            {
                "of_key": change.key,
                "base": base.id,
                "base_version": base.version,
                "new_version": saved.version,
                "new_manifest": saved.manifest,
                "number": saved.files,
                "of_host": saved.host,
                "now": now,
            },
        )
        if followed.rowcount == 0:
            return None
    _use_files(connection, saved.id, change.added, change.removed)
    return saved


def _use_files(connection: Connection, id: str, added: Collection[str], removed: Collection[str]) -> None:
    if removed:
        connection.execute(_end_use, [{"of_workspace": id, "of_hash": hash} for hash in removed])
    if added:
        connection.execute(_use, [{"workspace": id, "hash": hash} for hash in added])


def _saved_from(row: AnyRow) -> SavedWorkspace:
    return SavedWorkspace(row.id, row.version, row.manifest, row.files, row.host)
