"""Histories of conversations as the API shows them, page by page."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pydantic import BaseModel

from channels import reply as replies
from gateway.api import events
from gateway.api.items import message_item, reply_item
from gateway.api.problems import Problem
from gateway.app import Gateway
from gateway.store.history_pages import NEWEST, Position
from gateway.store.records import Turn

_PLACE = re.compile(r"([mr])([0-9]{1,19})\.([0-9]{1,19})")


class History(BaseModel):
    """`before` leads to the items before these; null: there are none."""

    items: list[events.Item]
    before: str | None


async def read_history(
    gateway: Gateway,
    session: str,
    limit: int,
    *,
    before: str | None = None,
    generation: int | None = None,
    shown: Mapping[str, replies.Reply | None] | None = None,
) -> History:
    """The newest messages and replies, oldest first; before that place, if it is given. `shown` are replies as they are
    to be shown, by turn; None: not at all. Raises `Problem` for a place that is none."""
    position = None if before is None else _position(before)
    page = await gateway.store.history_page(session, generation, position, limit)
    items: list[events.Item] = []
    for item in page.items:
        if not isinstance(item, Turn):
            items.append(message_item(item))
            continue
        reply = gateway.conversation_view.reply_of(item)
        reply_shown = reply if shown is None else shown.get(item.id, reply)
        if reply_shown is not None:
            items.append(events.ShownReply(reply=reply_item(reply_shown)))
    return History(items=items, before=None if page.before is None else _text(page.before))


def _text(position: Position) -> str:
    return f"{'r' if position.with_row else 'm'}{position.row}.{position.turn}"


def _position(text: str) -> Position:
    found = _PLACE.fullmatch(text)
    if found is None or max(row := int(found[2]), turn := int(found[3])) > NEWEST:
        raise Problem(404, "page_not_found", "There is no such page. Begin with the newest one.")
    return Position(row, found[1] == "r", turn)
