"""The ledger of a reply, in front of a real outbox that takes its time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent.log import Undelivered, UndeliveredPart
from channels.channel import Sent, Superseded, Unreachable
from channels.memory import MemoryChannel
from channels.message import MessageStatus
from gateway.outbound.delivery import Delivery
from gateway.outbound.ledger import ReplyLedger
from gateway.outbound.moved_chats import MovedChats
from gateway.outbound.reply_builder import ReplyBuilder
from gateway.store import Store, turns, workers
from tests.gateway.notes import SESSION, begin, tell
from tests.gateway.play import PLACE


class SlowOutbox:
    """The store; what was sent is written when the test says so."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.begun = asyncio.Event()
        self.go = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def sent(self, reply_id: str, key: str, ref: str, digest: str) -> None:
        self.begun.set()
        await self.go.wait()
        await self._store.sent(reply_id, key, ref, digest)


async def test_what_was_sent_is_recorded_before_a_cancelled_sender_ends(store: Store) -> None:
    await tell(store)
    turn = await begin(store)
    outbox = SlowOutbox(store)
    ledger = ReplyLedger(outbox, turn.id, attempts=1, may_send=lambda: True, undeliverable=lambda key, reason: None)
    await ledger.sending("t1")
    await ledger.sent("t1", "m9", "digest")
    sender = asyncio.create_task(ledger.recorded())
    await outbox.begun.wait()
    sender.cancel()
    for _ in range(3):
        await asyncio.sleep(0)
    assert not sender.done()
    outbox.go.set()
    await asyncio.wait((sender,))
    assert await store.pieces(turn.id) == (Sent("t1", "shown", "m9", "digest"),)


async def test_a_process_that_may_be_dead_to_others_sends_nothing_and_one_whose_turn_was_taken_over_stops(
    store: Store,
) -> None:
    await tell(store)
    turn = await begin(store)
    may_send = False
    ledger = ReplyLedger(store, turn.id, attempts=1, may_send=lambda: may_send, undeliverable=lambda key, reason: None)
    with pytest.raises(Unreachable):
        ledger.permit()
    may_send = True
    ledger.permit()
    await store.write(lambda connection: workers.bury(connection, "other", [store.worker], expired=False))
    assert await store.write(lambda connection: turns.claim(connection, "other", SESSION)) is not None
    with pytest.raises(Superseded):
        await ledger.sending("t1")
    assert await store.pieces(turn.id) == ()


async def test_a_process_that_may_be_dead_to_others_shows_no_state_of_a_message(store: Store) -> None:
    channel, may_send = MemoryChannel(), False

    async def undelivered(builder: ReplyBuilder, parts: Undelivered) -> None:
        raise AssertionError("there is no reply")

    def part_undelivered(reply: str, part: UndeliveredPart) -> None:
        raise AssertionError("there is no reply")

    async with Delivery(
        {"memory": channel},
        store,
        chats=MovedChats(store, lambda session: None),
        undelivered=undelivered,
        part_undelivered=part_undelivered,
        may_send=lambda: may_send,
    ) as delivery:
        delivery.show_status(MessageStatus(PLACE, 1, "m1", "read"))
        await delivery.settle(20)
        assert channel.statuses == []
        may_send = True
        delivery.show_status(MessageStatus(PLACE, 2, "m2", "read"))
        await delivery.settle(20)
    assert [status.id for status in channel.statuses] == [2]
