"""Pages of histories and of the list of conversations: what they hold, and that they cost what they show."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import Connection

from agent.log import Notice
from gateway.sessions import session_key
from gateway.store import Store, arrivals, command_turns, open_store, turns
from gateway.store.conversation_pages import ListedConversations, ListPosition, Within, conversation_page
from gateway.store.history_pages import HistoryPage, Position, history_page
from gateway.store.reading import turns_of
from gateway.store.records import Turn
from gateway.store.watching import WatchedMessage
from tests.gateway.notes import ANSWER, COMPLETED, HERE, SESSION, message

T = TypeVar("T")

pytestmark = pytest.mark.engines

WORKER = "writer"


@asynccontextmanager
async def sqlite(folder: Path) -> AsyncIterator[Store]:
    """A store in a SQLite file, whose work can be counted."""
    async with open_store(f"sqlite:///{folder / 'pages.db'}", worker=WORKER) as store:
        yield store


def answer(connection: Connection, text: str, session: str = SESSION) -> None:
    arrivals.accept(connection, WORKER, message(text, address=replace(HERE, chat=session.rpartition("/")[2])), session)
    turn = turns.claim(connection, WORKER, session)
    assert turn is not None
    turns.close(connection, turn.id, turn.epoch, COMPLETED, (ANSWER,))


def tell_notice(connection: Connection, text: str) -> None:
    command_turns.say(connection, WORKER, SESSION, HERE, None, Notice(text), text)


def steps_of(connection: Connection, job: Callable[[Connection], T]) -> tuple[T, int]:
    """What the job returns, and how many steps SQLite's virtual machine takes for it, rounded to tens."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    count = 0

    def step() -> int:
        nonlocal count
        count += 10
        return 0

    driver.set_progress_handler(step, 10)
    try:
        return job(connection), count
    finally:
        driver.set_progress_handler(None, 0)


def shown(page: HistoryPage) -> list[str]:
    """The texts of messages, and what began each reply."""
    return [item.text if isinstance(item, WatchedMessage) else _title(item) for item in page.items]


def _title(turn: Turn) -> str:
    first = turn.entries[0]
    return first.text if isinstance(first, Notice) else "reply"


def pages(connection: Connection, limit: int) -> list[list[str]]:
    """From the newest to the oldest."""
    found: list[list[str]] = []
    before: Position | None = None
    while True:
        page = history_page(connection, SESSION, before=before, limit=limit)
        found.append(shown(page))
        before = page.before
        if before is None:
            return found


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 100])
async def test_pages_are_the_whole_history_in_its_order_however_they_are_cut(store: Store, limit: int) -> None:
    def write(connection: Connection) -> None:
        tell_notice(connection, "welcome")
        for text in ("one", "two"):
            answer(connection, text)
        tell_notice(connection, "in between")
        tell_notice(connection, "and once more")
        answer(connection, "three")
        arrivals.accept(connection, WORKER, message("waits"), SESSION)
        tell_notice(connection, "at last")

    await store.write(write)
    found = await store.read(lambda connection: pages(connection, limit))
    assert [text for page in reversed(found) for text in page] == [
        *(
            "welcome",
            "one",
            "reply",
            "two",
            "reply",
            "in between",
            "and once more",
            "three",
            "reply",
            "waits",
            "at last",
        )
    ]
    assert all(len(page) == limit for page in found[:-1])


async def test_messages_that_come_after_a_page_was_read_change_no_later_page(store: Store) -> None:
    await store.write(lambda connection: [answer(connection, text) for text in ("one", "two")])
    newest = await store.read(lambda connection: history_page(connection, SESSION, limit=2))
    await store.write(lambda connection: [answer(connection, "three"), tell_notice(connection, "new")])
    before = await store.read(lambda connection: history_page(connection, SESSION, before=newest.before, limit=2))
    assert (shown(before), before.before) == (["one", "reply"], None)


@pytest.mark.engines("sqlite")
async def test_a_page_costs_what_it_shows_however_long_the_history_is(tmp_path: Path) -> None:
    counted: list[list[int]] = []
    async with sqlite(tmp_path) as store:
        for more in (40, 400):
            await store.write(lambda connection, more=more: [answer(connection, f"{n}") for n in range(more)])  # type: ignore[misc]

            def read(connection: Connection) -> list[int]:
                newest, first = steps_of(connection, lambda of: history_page(of, SESSION, limit=10))
                _, second = steps_of(connection, lambda of: history_page(of, SESSION, before=newest.before, limit=10))
                _, whole = steps_of(connection, lambda of: turns_of(of, SESSION))
                return [first, second, whole]

            counted.append(await store.write(read))
    (first, second, whole), (first_later, second_later, whole_later) = counted
    assert whole_later > 5 * whole, "the work is counted"
    assert first_later < 1.2 * first
    assert second_later < 1.2 * second


def _conversations(connection: Connection, count: int) -> list[str]:
    names = [f"c{number:04}" for number in range(count)]
    for name in names:
        answer(connection, f"words of {name}", f"telegram/bot/{name}")
    return names


@pytest.mark.parametrize("limit", [1, 3, 100])
async def test_pages_are_the_whole_list_of_conversations_newest_first(store: Store, limit: int) -> None:
    names = await store.write(lambda connection: _conversations(connection, 7))
    found: list[str] = []
    before: ListPosition | None = None
    while True:
        asked = ListedConversations(("telegram", "web"), before=before)
        page = await store.read(lambda connection, asked=asked: conversation_page(connection, asked, limit))  # type: ignore[misc]
        found += [each.address.chat for each in page]
        if len(page) < limit:
            break
        before = ListPosition(page[-1].last_at, page[-1].session)
    assert found == names[::-1]


async def test_conversations_of_the_same_moment_are_listed_once_each(store: Store) -> None:
    await store.write(lambda connection: _conversations(connection, 5))
    at = datetime(2026, 11, 20, tzinfo=UTC)
    await store.write(lambda connection: connection.exec_driver_sql(f"UPDATE sessions SET last_at = {at.timestamp()}"))
    found: list[str] = []
    before = ListPosition(at + timedelta(seconds=1))
    while len(found) < 6:
        asked = ListedConversations(("telegram",), before=before)
        page = await store.read(lambda connection, asked=asked: conversation_page(connection, asked, 2))  # type: ignore[misc]
        found += [each.address.chat for each in page] or ["the end"]
        before = ListPosition(at, page[-1].session) if page else before
    assert found == ["c0004", "c0003", "c0002", "c0001", "c0000", "the end"]


@pytest.mark.parametrize(
    ("asked", "chats"),
    [
        (ListedConversations(("web",)), []),
        (ListedConversations(("telegram",), archived=True), ["c0002"]),
        (ListedConversations(("telegram",), words="OF C0003"), ["c0003"]),
        (ListedConversations(("telegram",), words="ülm"), ["c0001"]),
        (ListedConversations(("telegram",), words="%"), []),
        (ListedConversations(("telegram",), within=Within(keys=("telegram/bot/c0003",))), ["c0003"]),
        (
            ListedConversations(("telegram",), within=Within(prefixes=("telegram/bot/c000",))),
            ["c0003", "c0001", "c0000"],
        ),
        (ListedConversations(("telegram",), within=Within()), []),
    ],
)
async def test_a_list_has_what_was_asked_for(store: Store, asked: ListedConversations, chats: list[str]) -> None:
    await store.write(lambda connection: _conversations(connection, 4))
    await store.archive("telegram/bot/c0002", archived=True)
    await store.set_title("telegram/bot/c0001", "Ülm")
    await store.set_busy(session_key(HERE), None)
    page = await store.read(lambda connection: conversation_page(connection, asked, 10))
    assert [each.address.chat for each in page] == chats


@pytest.mark.engines("sqlite")
async def test_a_list_costs_what_it_shows_however_many_conversations_there_are(tmp_path: Path) -> None:
    lists: dict[str, Callable[[Connection], object]] = {
        "newest": lambda of: conversation_page(of, ListedConversations(("telegram", "web")), 10),
        "archived": lambda of: conversation_page(of, ListedConversations(("telegram",), archived=True), 10),
        "found": lambda of: conversation_page(of, ListedConversations(("telegram",), words="words"), 10),
        "one": lambda of: conversation_page(
            of, ListedConversations(("telegram",), within=Within(keys=("telegram/bot/c0003",))), 10
        ),
    }
    counted: list[dict[str, int]] = []
    async with sqlite(tmp_path) as store:
        for count in (30, 300):
            await store.write(lambda connection, count=count: _conversations(connection, count))  # type: ignore[misc]
            await store.archive("telegram/bot/c0001", archived=True)
            counted.append(await store.write(lambda of: {name: steps_of(of, job)[1] for name, job in lists.items()}))
            await store.write(lambda connection: [answer(connection, "long") for _ in range(100)])
    few, many = counted
    assert {name: steps for name, steps in many.items() if steps > 1.5 * few[name] + 100} == {}
