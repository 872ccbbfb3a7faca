"""The outbox: what the platform confirmed of each reply, piece by piece."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, delete, func, select, update
from sqlalchemy.dialects.sqlite import insert

from channels.channel import Sent
from gateway.store.schema import outbox

_of_reply = outbox.c.reply_id == bindparam("of_reply")
_piece = _of_reply & (outbox.c.key == bindparam("of_key"))

_pieces = (
    select(outbox.c.key, outbox.c.state, outbox.c.ref, outbox.c.digest).where(_of_reply).order_by(outbox.c.position)
)

_next_position = select(func.coalesce(func.max(outbox.c.position), 0) + 1).where(_of_reply).scalar_subquery()

_upsert = insert(outbox).values(
    reply_id=bindparam("of_reply"),
    key=bindparam("of_key"),
    position=_next_position,
    state=bindparam("now"),
    ref=bindparam("ref"),
    digest=bindparam("digest"),
)
_upsert = _upsert.on_conflict_do_update(
    index_elements=["reply_id", "key"],
    set_={"state": _upsert.excluded.state, "ref": _upsert.excluded.ref, "digest": _upsert.excluded.digest},
)

_rename = update(outbox).where(_piece).values(key=bindparam("new_key"), digest="")
_remove = delete(outbox).where(_piece)


def pieces(connection: Connection, reply_id: str) -> tuple[Sent, ...]:
    """The pieces of the reply that were sent and not removed, in the order of their sending."""
    rows = connection.execute(_pieces, {"of_reply": reply_id})
    return tuple(Sent(key, "shown" if state == "shown" else "unknown", ref, digest) for key, state, ref, digest in rows)


def sending(connection: Connection, reply_id: str, key: str) -> None:
    """The piece is about to be sent: whether it is shown is not known until `sent`."""
    values = {"of_reply": reply_id, "of_key": key, "now": "sending", "ref": "", "digest": ""}
    connection.execute(_upsert, values)


def sent(connection: Connection, reply_id: str, key: str, ref: str, digest: str) -> None:
    """The platform shows the piece as its message `ref`, with content of this digest."""
    values = {"of_reply": reply_id, "of_key": key, "now": "shown", "ref": ref, "digest": digest}
    connection.execute(_upsert, values)


def rename(connection: Connection, reply_id: str, old: str, new: str) -> None:
    """The piece `old` is the piece `new` from now on."""
    connection.execute(_remove, {"of_reply": reply_id, "of_key": new})
    connection.execute(_rename, {"of_reply": reply_id, "of_key": old, "new_key": new})


def removed(connection: Connection, reply_id: str, key: str) -> None:
    """The platform shows the piece no longer."""
    connection.execute(_remove, {"of_reply": reply_id, "of_key": key})
