"""Helpers for the tests of the store."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from sqlalchemy import Connection

from agent.log import Ended, MessagesRead, ModelAnswered, Text
from agent.media import Attachment
from channels.address import Address, Sender
from channels.message import FileRef, InboundMessage, MessageKind
from gateway.store import Store, adoption, arrivals, workers
from gateway.store.conversation_pages import ListedConversations
from gateway.store.records import Arrival, Pending, StoredConversation, Turn
from tests.engines import engines

ANN = Sender("1", "Ann", "ann")
HERE = Address("telegram", "bot", "7")
SESSION = "telegram/bot/7"
COMPLETED = Ended("completed")
ANSWER = ModelAnswered(1, (Text("Hello."),))
PICTURE = Attachment("ab" * 32, "cat.png", "image/png", 12, 3, 4)
PHOTO = FileRef("photo-1", "photo.jpg", "image/jpeg", 100)

_numbers = count(1)


def url_of(folder: Path) -> str:
    """The database of the test with this folder."""
    return engines.url(folder / "interject.db")


def message(
    text: str = "hi",
    *,
    id: str | None = None,
    kind: MessageKind = "new",
    event: str | None = None,
    sender: Sender = ANN,
    address: Address = HERE,
    files: tuple[FileRef, ...] = (),
    album: str | None = None,
    command: str | None = None,
    note: str = "",
) -> InboundMessage:
    number = next(_numbers)
    return InboundMessage(
        event_id=event or f"e{number}",
        address=address,
        sender=sender,
        sent_at=datetime(2026, 11, 20, 12, 0, 0, number, tzinfo=UTC),
        kind=kind,
        message_id=id or f"m{number}",
        text=text,
        command=command,
        files=files,
        note=note,
        album=album,
    )


async def tell(store: Store, text: str = "hi", session: str = SESSION, *, id: str | None = None) -> Arrival:
    return await store.accept(message(text, id=id), session)


async def add_background_message(
    store: Store,
    session: str,
    address: Address,
    principal: Sender,
    text: str,
    attachments: Sequence[Attachment],
    event_id: str,
    note: str = "",
) -> Arrival:
    """As work beside turns does when it has ended."""
    return await store.write(
        lambda connection: arrivals.accept_background_message(
            connection, session, address, principal, text, attachments, event_id, note
        )
    )


async def conversations_of(store: Store, channel: str) -> tuple[StoredConversation, ...]:
    """The conversations of the channel, as people are shown them."""
    return await store.conversation_page(ListedConversations((channel,)), 100)


async def begin(store: Store, session: str = SESSION) -> Turn:
    turn = await store.claim(session)
    assert turn is not None
    return turn


async def finish(store: Store, turn: Turn) -> None:
    assert await store.close(turn.id, turn.epoch, COMPLETED, (ANSWER,))


def words(read: MessagesRead | None) -> list[str]:
    assert read is not None
    return [each.text for each in read.messages]


def first_words(turn: Turn) -> list[str]:
    read = turn.entries[0]
    assert isinstance(read, MessagesRead)
    return words(read)


async def states(store: Store, session: str = SESSION) -> dict[str, str]:
    """The state of each message that a screen would show, by its text."""
    return {row.text: row.state for row in await store.rows(session)}


async def left_behind(store: Store) -> Pending:
    """What the next process would find if this one ended now."""

    def find(connection: Connection) -> Pending:
        with connection.begin_nested() as trial:
            workers.leave(connection, store.worker)
            found = adoption.pending(connection, "next")
            trial.rollback()
        return found

    return await store.write(find)
