"""Stored media: recorded, and forgotten when no message, no turn and no workspace refers to them, and no message may
any more.

Their bytes are deleted in between: a process claims what it is going to delete, deletes it, and says what it has
deleted. Until then nobody records these media, so bytes that are stored again are stored after their deletion.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, Connection, and_, bindparam, case, delete, exists, or_, select, update

from agent.media import Attachment
from gateway.store import uploads as uploading
from gateway.store.schema import media, media_uses, uploads, workspace_files
from gateway.store.upsert import insert

CLAIM = timedelta(minutes=3)
"""How long a claim holds: much longer than its owner may take, in case that crashes."""

AWAITED = timedelta(hours=1)
"""How long a message or an entry of a log may take to refer to media that were stored for it."""

MAX_CLAIMED = 100
"""Media that are claimed together."""


@dataclass(frozen=True, slots=True)
class MediaClaim:
    """Media whose bytes this process is going to delete, and nobody records meanwhile."""

    hashes: frozenset[str]
    at: datetime


_used = or_(
    exists(select(media_uses.c.id).where(media_uses.c.hash == media.c.hash)),
    exists(select(workspace_files.c.hash).where(workspace_files.c.hash == media.c.hash)),
    exists(select(uploads.c.at).where(uploads.c.hash == media.c.hash, uploads.c.at > bindparam("oldest_upload"))),
)
"""By a message, a turn, a workspace, or a message that may still come."""

_newest = (
    select(media.c.hash)
    .where(
        media.c.created_at < bindparam("before"),
        or_(
            exists(select(media_uses.c.id).where(media_uses.c.hash == media.c.hash)),
            exists(select(workspace_files.c.hash).where(workspace_files.c.hash == media.c.hash)),
        ),
    )
    .order_by(media.c.created_at.desc())
    .limit(bindparam("most"))
)

_is_free = or_(media.c.claimed_at.is_(None), media.c.claimed_at < bindparam("expired"))

_inserted = insert(media).values(
    hash=bindparam("hash"),
    media_type=bindparam("media_type"),
    size=bindparam("size"),
    width=bindparam("width"),
    height=bindparam("height"),
    created_at=bindparam("created_at"),
    stored=1,
)
# Files of workspaces are recorded without a type; whoever stores the same bytes as a file of a message finds it out.
_has_type = _inserted.excluded.media_type != ""
_record = _inserted.on_conflict_do_update(
    index_elements=["hash"],
    set_={
        "created_at": _inserted.excluded.created_at,
        "stored": media.c.stored + 1,
        "claimed_at": None,
        **{
            name: case((_has_type, _inserted.excluded[name]), else_=media.c[name])
            for name in ("media_type", "size", "width", "height")
        },
    },
    where=_is_free,
).returning(media.c.hash)


def newest(connection: Connection, before: datetime, most: int) -> tuple[str, ...]:
    """The hashes of those of messages, turns and workspaces that were stored last before then."""
    return tuple(connection.execute(_newest, {"before": before, "most": most}).scalars())


def record(connection: Connection, attachment: Attachment) -> bool:
    """The bytes are being stored. Recorded again, they count as new, so that a cleanup keeps them.

    False: they are being deleted. Nothing was recorded; try again in a moment.
    """
    now = datetime.now(UTC)
    values = {
        "hash": attachment.hash,
        "media_type": attachment.media_type,
        "size": attachment.size,
        "width": attachment.width,
        "height": attachment.height,
        "created_at": now,
        "expired": now - CLAIM,
    }
    return connection.execute(_record, values).first() is not None


def claim_unused(connection: Connection, before: datetime) -> MediaClaim:
    """Claims some of the media that were recorded before then and that no message, no turn and no workspace uses."""
    uploading.prune(connection)
    old = select(media.c.hash).where(media.c.created_at < before, ~_used, _is_free).limit(MAX_CLAIMED)
    return _claim(connection, media.c.hash.in_(old))


def claim_unused_of(connection: Connection, hashes: Collection[str], since: datetime) -> MediaClaim:
    """Claims those of these media that no message, no turn and no workspace uses, since then.

    Not what may have been stored for a message that is not there yet: what was stored since then, and what was stored
    more than once, the last time shortly before.
    """
    is_awaited_by_nobody = or_(media.c.stored == 1, media.c.created_at < since - AWAITED)
    return _claim(
        connection, and_(media.c.hash.in_(list(hashes)), media.c.created_at < since, is_awaited_by_nobody, ~_used)
    )


def claim_unknown(connection: Connection, hashes: Collection[str]) -> MediaClaim:
    """Claims those of the hashes that are not of recorded media."""
    now = datetime.now(UTC)
    unknown = insert(media).on_conflict_do_nothing(index_elements=["hash"]).returning(media.c.hash)
    values = [
        {"hash": hash, "media_type": "", "size": 0, "created_at": now, "stored": 0, "claimed_at": now}
        for hash in hashes
    ]
    found = connection.execute(unknown.values(values)).scalars() if values else ()
    return MediaClaim(frozenset(found), now)


def end_claim(connection: Connection, claim: MediaClaim, deleted: Collection[str], kept: Collection[str]) -> None:
    """Forgets media whose bytes were deleted, and gives back those whose bytes were not. What is neither stays claimed
    until the claim expires: it is not known whether its bytes are still there."""
    own = and_(media.c.claimed_at == claim.at, media.c.hash.in_(list(claim.hashes)))
    if deleted:
        connection.execute(delete(media).where(own, media.c.hash.in_(list(deleted))))
    if kept:
        connection.execute(update(media).where(own, media.c.hash.in_(list(kept))).values(claimed_at=None))


def _claim(connection: Connection, condition: ColumnElement[bool]) -> MediaClaim:
    now = datetime.now(UTC)
    claimed = update(media).where(condition, _is_free).values(claimed_at=now).returning(media.c.hash)
    found = connection.execute(claimed, {"expired": now - CLAIM, "oldest_upload": now - uploading.KEPT}).scalars()
    return MediaClaim(frozenset(found), now)
