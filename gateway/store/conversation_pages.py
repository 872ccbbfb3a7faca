"""Pages of the list of conversations, the newest first. A page reads what it shows, however many there are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from heapq import merge
from itertools import islice

from sqlalchemy import ColumnElement, Connection, Select, or_, select

from gateway.store.encoding import address_from_json
from gateway.store.reading import is_running_conversation, is_said, shown_title
from gateway.store.records import StoredConversation
from gateway.store.schema import AnyRow, inbox, is_archived, is_unarchived, sessions

_first_message = select(inbox.c.id).where(
    inbox.c.session == sessions.c.key, inbox.c.generation == sessions.c.generation, is_said
)


@dataclass(frozen=True, slots=True)
class Within:
    """Only the sessions with these keys, and those whose keys begin so."""

    keys: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ListPosition:
    """Before it is what happened before `last_at`, or then in a session whose key is less than `key`."""

    last_at: datetime
    key: str = ""


@dataclass(frozen=True, slots=True)
class ListedConversations:
    """Which conversations are asked for: of these `channels`; with these `words` in the title or in people's messages
    since the last `/new`, if there are any; before that position."""

    channels: Sequence[str]
    archived: bool = False
    words: str = ""
    before: ListPosition | None = None
    within: Within | None = None


def conversation_page(connection: Connection, asked: ListedConversations, limit: int) -> tuple[StoredConversation, ...]:
    """At most `limit` of the conversations in which something was said, those first in which something happened
    last. Without an index of their words, a search looks at one conversation after another until the page is full."""
    found = (_of_channel(connection, asked, channel, limit) for channel in asked.channels)
    newest = merge(*found, key=lambda each: (each.last_at, each.session), reverse=True)
    return tuple(islice(newest, limit))


def _of_channel(
    connection: Connection, asked: ListedConversations, channel: str, limit: int
) -> Iterator[StoredConversation]:
    query = _page.where(*_conditions(asked, channel)).limit(limit)
    return map(_conversation_from, connection.execute(query))


def _conditions(asked: ListedConversations, channel: str) -> Iterator[ColumnElement[bool]]:
    yield sessions.c.channel == channel
    yield is_archived if asked.archived else is_unarchived
    if asked.before is not None:
        last_at, key = asked.before.last_at, asked.before.key
        yield sessions.c.last_at <= last_at
        yield or_(sessions.c.last_at < last_at, sessions.c.key < key)
    if asked.within is not None:
        beginning = (sessions.c.key.startswith(prefix, autoescape=True) for prefix in asked.within.prefixes)
        yield or_(sessions.c.key.in_(asked.within.keys), *beginning)
    if asked.words:
        yield _has_words(asked.words)


def _has_words(words: str) -> ColumnElement[bool]:
    """SQLite ignores the case of ASCII letters only; of others, the usual ways to write the words are looked for."""
    plain = re.sub(r"([\\%_])", r"\\\1", words)
    patterns = [f"%{each}%" for each in dict.fromkeys((plain, plain.lower(), plain.upper(), plain.capitalize()))]
    titled = (sessions.c.title.ilike(pattern, escape="\\") for pattern in patterns)
    said = or_(*(inbox.c.text.ilike(pattern, escape="\\") for pattern in patterns))
    return or_(*titled, _is_any(_first_message.where(said)))


def _is_any(messages: Select[tuple[int]]) -> ColumnElement[bool]:
    """Whether there is such a message in the session. Not EXISTS: PostgreSQL would answer that for all sessions at
    once, from all messages that there are."""
    return messages.limit(1).scalar_subquery().is_not(None)


_page: Select[tuple[object, ...]] = (
    select(
        sessions.c.key,
        sessions.c.address,
        shown_title.label("title"),
        sessions.c.last_at,
        is_running_conversation.label("running"),
        sessions.c.archived_at,
    )
    .where(or_(sessions.c.title.is_not(None), _is_any(_first_message)))
    .order_by(sessions.c.last_at.desc(), sessions.c.key.desc())
)


def _conversation_from(row: AnyRow) -> StoredConversation:
    return StoredConversation(
        row.key,
        address_from_json(row.address),
        " ".join((row.title or "").split()),
        row.last_at,
        row.running,
        archived=row.archived_at is not None,
    )
