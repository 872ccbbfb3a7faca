"""The list of conversations as the API shows it, page by page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from gateway.api.caller import Caller
from gateway.api.ids import conversation_id, session_of
from gateway.api.problems import Problem
from gateway.app import Gateway
from gateway.store.conversation_pages import ListedConversations, ListPosition, Within
from gateway.store.records import StoredConversation

_WILDCARD = re.compile(r"[*?\[]")
_BETWEEN = "~"
"""Between time and id in a place of the list."""


@dataclass(frozen=True, slots=True)
class Listed:
    """`before` leads to the conversations before these; None: there are none."""

    conversations: tuple[StoredConversation, ...]
    before: str | None


async def list_conversations(
    gateway: Gateway, caller: Caller, channels: Sequence[str], limit: int, *, archived: bool, words: str, before: str
) -> Listed:
    """The newest that the caller sees, before that place unless it is ""."""
    found: list[StoredConversation] = []
    position = _position(before) if before else None
    asked = ListedConversations(channels, archived, words, position, _within(caller))
    while True:
        page = await gateway.store.conversation_page(asked, limit + 1)
        found += [each for each in page if caller.sees(conversation_id(each.session))]
        if len(found) > limit:
            return Listed(tuple(found[:limit]), _text(found[limit - 1]))
        if len(page) <= limit:
            return Listed(tuple(found), None)
        asked = replace(asked, before=ListPosition(page[-1].last_at, page[-1].session))


async def list_earlier(
    gateway: Gateway, caller: Caller, channels: Sequence[str], limit: int, *, words: str, before: str
) -> Listed:
    """The newest of those that `/new` ended, of which the store lists a bounded number for each channel."""
    end = None if not before else _position(before).last_at
    found = [
        each
        for name in channels
        for each in await gateway.store.earlier(name)
        if words.lower() in each.title.lower()
        and (end is None or each.last_at < end)
        and caller.sees(conversation_id(each.session))
    ]
    return Listed(tuple(sorted(found, key=lambda each: each.last_at, reverse=True)[:limit]), None)


def _within(caller: Caller) -> Within | None:
    """What begins as the caller's patterns do: the database finds that without reading all others."""
    if caller.conversations is None:
        return None
    keys, prefixes = [], []
    for pattern in caller.conversations:
        head, *rest = _WILDCARD.split(pattern, maxsplit=1)
        if rest:
            prefixes.append(head.replace(":", "/"))
        else:
            keys.append(head.replace(":", "/"))
    return Within(tuple(keys), tuple(prefixes))


def _text(last: StoredConversation) -> str:
    return f"{last.last_at.isoformat()}{_BETWEEN}{conversation_id(last.session)}"


def _position(text: str) -> ListPosition:
    """Of a place in the list, or of a time alone. Raises `Problem`."""
    time, _, id = text.partition(_BETWEEN)
    try:
        at = datetime.fromisoformat(time)
        at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
        return ListPosition(at.astimezone(UTC), session_of(id) if id else "")
    except (ValueError, OverflowError):
        detail = "before: expected the `before` of a page, or a time like 2026-11-30T12:00:00Z."
        raise Problem(422, "invalid_request", detail) from None
