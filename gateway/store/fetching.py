"""Files of messages that are still to be fetched, and the attachments that they become."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from uuid import uuid4

from sqlalchemy import Connection, bindparam, func, select, update

from agent.media import Attachment
from channels.message import FileRef, ForeignText
from gateway.store.encoding import (
    address_from_json,
    attachments_to_json,
    files_from_json,
    files_to_json,
    foreign_to_json,
    join_lines,
)
from gateway.store.records import Unfetched
from gateway.store.schema import AnyRow, inbox, is_message, is_waiting, media_uses
from gateway.store.upsert import insert

FOLLOWS = "This follows an earlier message of theirs, with which it was still on its way."

_to_fetch = select(
    inbox.c.id,
    inbox.c.session,
    inbox.c.address,
    inbox.c.sender_id,
    inbox.c.files,
    inbox.c.album,
    inbox.c.opening,
    inbox.c.message_id,
    inbox.c.note,
    inbox.c.foreign,
    inbox.c.follows,
).where(inbox.c.id == bindparam("row"), is_waiting, is_message, inbox.c.ready.is_(False))

_count_parts = (
    select(func.count())
    .select_from(inbox)
    .where(inbox.c.session == bindparam("session"), inbox.c.album == bindparam("album"))
)

_seen = (
    select(inbox.c.message_id)
    .where(
        inbox.c.session == bindparam("session"),
        inbox.c.id < bindparam("own"),
        inbox.c.kind.in_(["new", "command"]),
        inbox.c.source != "work",
        inbox.c.state != "refused",
        inbox.c.message_id.is_not(None),
        inbox.c.follows.is_(None),
    )
    .order_by(inbox.c.id.desc())
    .limit(1)
)

_make_ready = (
    update(inbox)
    .where(inbox.c.id == bindparam("row"))
    .values(ready=True, attachments=bindparam("fetched"), note=bindparam("new_note"), foreign=bindparam("new_foreign"))
)

_put_off = (
    update(inbox).where(inbox.c.id == bindparam("row")).values(files=bindparam("left"), note=bindparam("new_note"))
)

_use_media = insert(media_uses).values(hash=bindparam("hash"), inbox=bindparam("row"))


def unfetched(connection: Connection, row_id: int) -> Unfetched | None:
    """A message with the files that it has by now (albums grow); None once it is ready or waits no longer."""
    row = connection.execute(_to_fetch, {"row": row_id}).first()
    if row is None:
        return None
    found = unfetched_from(row)
    if found.reads_talk:
        found = replace(found, seen=connection.execute(_seen, {"session": row.session, "own": row.id}).scalar())
    if row.album is None:
        return found
    parts = connection.execute(_count_parts, {"session": row.session, "album": row.album}).scalar_one()
    return replace(found, parts=parts)


def unfetched_from(row: AnyRow) -> Unfetched:
    files = files_from_json(row.files)
    address = address_from_json(row.address)
    return Unfetched(
        row.id,
        row.session,
        address,
        row.sender_id,
        files,
        row.album,
        row.opening or None,
        message_id=row.message_id,
        reads_talk=row.opening is not None,
        follows=row.follows,
    )


def put_off(connection: Connection, row_id: int, late: Sequence[FileRef], note: str) -> int | None:
    """The files that are still on their way follow the message in a row of their own, which is returned; `note` is
    added to the message's own. None if the message no longer waits for files."""
    row = connection.execute(select(inbox).where(inbox.c.id == row_id, is_waiting, inbox.c.ready.is_(False))).first()
    if row is None:
        return None
    left = [file for file in files_from_json(row.files) if file not in late]
    values = {"row": row_id, "left": files_to_json(left), "new_note": join_lines(row.note, note)}
    connection.execute(_put_off, values)
    following = dict(row._mapping) | {
        "event_id": f"files:{uuid4().hex}",
        "run": uuid4().hex,
        "text": "",
        "note": FOLLOWS,
        "files": files_to_json(late),
        "tools": [],
        "foreign": None,
        "album": None,
        "opening": None,
        "follows": row_id,
    }
    del following["id"]
    return int(connection.execute(insert(inbox).values(following).returning(inbox.c.id)).scalar_one())


def mark_ready(
    connection: Connection,
    row_id: int,
    fetched: Sequence[FileRef],
    attachments: Sequence[Attachment],
    note: str = "",
    foreign: Sequence[ForeignText] = (),
) -> bool:
    """The files are fetched and turns may read the message. `attachments` are those that were available; `note` is
    added to the message's own, and so is `foreign`.

    False when the message has more files than `fetched` by now: nothing is changed, fetch those of `unfetched`.
    """
    row = connection.execute(_to_fetch, {"row": row_id}).first()
    if row is None:
        return True
    if len(row.files) > len(fetched):
        return False
    values = {"row": row_id, "fetched": attachments_to_json(attachments), "new_note": join_lines(row.note, note)}
    values["new_foreign"] = [*(row.foreign or ()), *(foreign_to_json(foreign) or ())] or None
    connection.execute(_make_ready, values)
    use_media(connection, row_id, attachments)
    return True


def use_media(connection: Connection, row_id: int, attachments: Sequence[Attachment]) -> None:
    """Records that the message in this row uses the attachments, so that their bytes are not removed."""
    if attachments:
        connection.execute(_use_media, [{"hash": attachment.hash, "row": row_id} for attachment in attachments])
