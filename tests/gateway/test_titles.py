"""Titles of conversations, and their cost."""

from __future__ import annotations

import asyncio

from agent.events import Charged, OnDelta
from agent.log import Text, Usage
from agent.model import Answer, ModelError, Request
from channels.address import Address
from gateway.sessions import session_key
from gateway.store import Store
from gateway.turns.titles import Titles
from tests.gateway.notes import begin, message

HERE = Address("web", "", "1")
SESSION = session_key(HERE)


class Namer:
    """Says what it is given, after an attempt that came to nothing; without words it fails."""

    def __init__(self, title: str) -> None:
        self._title = title

    async def answer(self, request: Request, on_delta: OnDelta) -> Answer:
        await on_delta(Charged(Usage(10, 1, cost=0.5), "small", "failed"))
        if not self._title:
            raise ModelError("server", "It has a fault of its own.")
        return Answer((Text(self._title),), Usage(20, 2, cost=0.25), model="small")


class Book:
    """Notes titles and payments."""

    def __init__(self) -> None:
        self.titles: list[str] = []
        self.payments: asyncio.Queue[float] = asyncio.Queue()

    async def set_title(self, session: str, title: str, generation: int | None) -> None:
        self.titles.append(title)

    async def add_spent(self, turn: str, usage: Usage, model: str, purpose: str) -> None:
        self.payments.put_nowait(usage.cost)


async def named(store: Store, title: str, payments: int) -> tuple[list[str], list[float]]:
    """A first turn ends, and the conversation is named after it: what it is called then, and what was paid."""
    await store.accept(message("How do hens sleep?", address=HERE), SESSION)
    turn, book = await begin(store, SESSION), Book()
    told: list[str] = []
    async with asyncio.timeout(60), Titles(book, Namer(title), changed=told.append) as titles:
        titles.ended(turn, turn.entries)
        paid = [await book.payments.get() for _ in range(payments)]
    assert told == [SESSION] * len(book.titles)
    return book.titles, paid


async def test_a_conversation_is_named_without_quotation_marks(store: Store) -> None:
    titles, _ = await named(store, "“Where hens sleep.”", 2)
    assert titles == ["Where hens sleep"]


async def test_what_a_model_thinks_aloud_is_no_name(store: Store) -> None:
    titles, paid = await named(store, "Okay, the person wants to know how hens sleep, so I need a name. " * 10, 2)
    assert (titles, len(paid)) == ([], 2)


async def test_every_attempt_at_a_name_is_paid_for(store: Store) -> None:
    _, paid = await named(store, "Hens", 2)
    assert paid == [0.5, 0.25]


async def test_a_name_that_cannot_be_had_is_paid_for_too(store: Store) -> None:
    assert await named(store, "", 1) == ([], [0.5])
