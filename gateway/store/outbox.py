"""The outbox: what the platform confirmed of each reply, piece by piece."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Connection, String, bindparam, delete, exists, func, literal, null, or_, select, update

from agent.journal import TurnLost
from channels.channel import Sent
from gateway.store.decisions import RELEASED
from gateway.store.schema import SafeText, Timestamp, is_ended, is_undelivered, outbox, turns
from gateway.store.upsert import insert

_of_reply = outbox.c.reply_id == bindparam("of_reply")
_piece = _of_reply & (outbox.c.key == bindparam("of_key"))

_pieces = (
    select(outbox.c.key, outbox.c.state, outbox.c.ref, outbox.c.digest, outbox.c.reason)
    .where(_of_reply)
    .order_by(outbox.c.position)
)

_next_position = select(func.coalesce(func.max(outbox.c.position), 0) + 1).where(_of_reply).scalar_subquery()

_is_anothers = exists(
    select(turns.c.number).where(
        turns.c.id == bindparam("of_reply"),
        turns.c.worker != bindparam("own"),
        turns.c.worker != RELEASED,
    )
)
_begin = insert(outbox).from_select(
    ["reply_id", "key", "position", "state", "ref", "digest", "reason", "at"],
    select(
        bindparam("of_reply", type_=String),
        bindparam("of_key", type_=SafeText),
        _next_position,
        literal("sending"),
        literal(""),
        literal(""),
        null(),
        bindparam("time", type_=Timestamp),
    ).where(~_is_anothers),
)
_begin_once = _begin.on_conflict_do_update(
    index_elements=["reply_id", "key"],
    set_={name: _begin.excluded[name] for name in ("state", "ref", "digest", "reason", "at")},
).returning(outbox.c.key)

_upsert = insert(outbox).values(
    reply_id=bindparam("of_reply"),
    key=bindparam("of_key"),
    position=_next_position,
    state=bindparam("now"),
    ref=bindparam("ref"),
    digest=bindparam("digest"),
    reason=bindparam("why"),
    at=bindparam("time"),
)
_upsert = _upsert.on_conflict_do_update(
    index_elements=["reply_id", "key"],
    set_={name: _upsert.excluded[name] for name in ("state", "ref", "digest", "reason", "at")},
)

_own = turns.alias("own_turn")
_earlier = (
    select(turns.c.number)
    .join(_own, (_own.c.session == turns.c.session) & (_own.c.number > turns.c.number))
    .where(_own.c.id == bindparam("of_reply"), is_undelivered, or_(is_ended, turns.c.parked))
    .limit(1)
)

_rename = update(outbox).where(_piece).values(key=bindparam("new_key"), digest="")
_remove = delete(outbox).where(_piece)


def pieces(connection: Connection, reply_id: str) -> tuple[Sent, ...]:
    """The pieces of the reply that were sent or refused and not removed, in the order of their sending."""
    rows = connection.execute(_pieces, {"of_reply": reply_id})
    return tuple(
        Sent(key, "unknown" if state == "sending" else state, ref, digest, reason or "")
        for key, state, ref, digest, reason in rows
    )


def is_next(connection: Connection, reply_id: str) -> bool:
    """Whether all earlier replies of the conversation are shown, or given up."""
    return connection.execute(_earlier, {"of_reply": reply_id}).first() is None


def sending(connection: Connection, worker: str, reply_id: str, key: str) -> None:
    """The piece is about to be sent: whether it is shown is not known until `sent`. Raises `TurnLost` if another worker
    delivers the reply now."""
    values = {"of_reply": reply_id, "of_key": key, "own": worker, "time": datetime.now(UTC)}
    if connection.execute(_begin_once, values).first() is None:
        raise TurnLost(f"reply {reply_id} is no longer this worker's")


def sent(connection: Connection, reply_id: str, key: str, ref: str, digest: str) -> None:
    """The platform shows the piece as its message `ref`, with content of this digest."""
    _put(connection, reply_id, key, "shown", ref, digest)


def simplified(connection: Connection, reply_id: str, key: str) -> None:
    """The platform refused the piece: others show it in a simpler form."""
    _put(connection, reply_id, key, "simplified")


def undeliverable(connection: Connection, reply_id: str, key: str, reason: str) -> None:
    """The piece cannot be shown in any form."""
    _put(connection, reply_id, key, "undeliverable", reason=reason)


def _put(
    connection: Connection,
    reply_id: str,
    key: str,
    state: str,
    ref: str = "",
    digest: str = "",
    reason: str | None = None,
) -> None:
    values = {"of_reply": reply_id, "of_key": key, "now": state, "ref": ref, "digest": digest, "why": reason}
    connection.execute(_upsert, values | {"time": datetime.now(UTC)})


def rename(connection: Connection, reply_id: str, old: str, new: str) -> None:
    """The piece `old` is the piece `new` from now on."""
    connection.execute(_remove, {"of_reply": reply_id, "of_key": new})
    connection.execute(_rename, {"of_reply": reply_id, "of_key": old, "new_key": new})


def removed(connection: Connection, reply_id: str, key: str) -> None:
    """The platform shows the piece no longer."""
    connection.execute(_remove, {"of_reply": reply_id, "of_key": key})
