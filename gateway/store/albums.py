"""Messages that one act of a person made, an album or a text in parts: the first row carries the text of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select, update

from channels.message import InboundMessage
from gateway.store.encoding import join_lines
from gateway.store.schema import AnyRow, inbox

ALBUM = "part of an album"

_joined = (
    select(inbox.c.id, inbox.c.message_id, inbox.c.text, inbox.c.files)
    .where(
        inbox.c.session == bindparam("session"),
        inbox.c.album == bindparam("album"),
        inbox.c.id > bindparam("first"),
        inbox.c.reason == ALBUM,
    )
    .order_by(inbox.c.id)
)

_album_of = select(inbox.c.album).where(
    inbox.c.session == bindparam("session"),
    inbox.c.message_id == bindparam("message_id"),
    inbox.c.album.is_not(None),
    inbox.c.reason == ALBUM,
)

_set_text = update(inbox).where(inbox.c.id == bindparam("row")).values(text=bindparam("new_text"))


@dataclass(frozen=True, slots=True)
class Part:
    """The text of one message in the text of the row that carries it. `row` is the message's own row, `gap` what
    divides its text from that of the message before it."""

    text: str
    before: str = ""
    after: str = ""
    row: int | None = None
    gap: str = ""

    def edit(self, connection: Connection, carrier: int, text: str) -> None:
        """Gives the message a new text, in the row that carries it too."""
        connection.execute(_set_text, {"row": carrier, "new_text": self.before + text + self.after})
        if self.row is not None:
            connection.execute(_set_text, {"row": self.row, "new_text": self.gap + text})


def joined_text(connection: Connection, carrier: AnyRow, message: InboundMessage, session: str) -> str:
    """The text of the row that carries them, with that of one more. Each caption but a first one that is alone stands
    behind the name of its picture."""
    if not message.files:
        return str(carrier.text + message.text)
    if not message.text:
        return str(carrier.text)
    before = carrier.text
    if before and carrier.files and not any(row.text for row in _rows(connection, carrier.id, session, message.album)):
        before = f"{carrier.files[0]['name']}: {before}"
    return join_lines(before, f"{message.files[0].name}: {message.text}")


def album_of(connection: Connection, session: str, message_id: str) -> str | None:
    """The album of a message whose text another row carries."""
    return connection.execute(_album_of, {"session": session, "message_id": message_id}).scalar()


def part_of(connection: Connection, carrier: AnyRow, session: str, message_id: str) -> Part:
    """The message's part of the row's text."""
    if carrier.album is None:
        return Part(carrier.text)
    before, after = carrier.text, ""
    for row in reversed(_rows(connection, carrier.id, session, carrier.album)):
        label = f"{row.files[0]['name']}: " if row.files else ""
        gap = "\n" if (row.files and before) or row.text.startswith("\n") else ""
        text = row.text.removeprefix("\n")
        shown = f"{gap}{label}{text}" if text else ""
        before = before.removesuffix(shown)
        if row.message_id == message_id:
            return Part(text, f"{before}{gap}{label}", after, row.id, "" if row.files else gap)
        after = shown + after
    label = f"{carrier.files[0]['name']}: " if carrier.files else ""
    own = before.removeprefix(label)
    return Part(own, before.removesuffix(own), after)


def _rows(connection: Connection, first: int, session: str, album: str | None) -> Sequence[AnyRow]:
    return connection.execute(_joined, {"session": session, "album": album, "first": first}).all()
