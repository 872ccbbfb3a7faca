"""What is counted of people and bots holds for all workers together."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.models.scripted import ScriptedModel
from channels.address import Sender
from channels.memory import plain_text
from channels.message import FileRef, Receipt
from gateway.inbound.access import ChannelAccess
from gateway.store.arrivals import MAX_BOT_MESSAGES
from tests.cluster.pair import Worker, known, two_gateways
from tests.gateway.play import PLACE, inbound

pytestmark = pytest.mark.engines("postgresql")

LIMIT = 3
REASON = f"more than {LIMIT} messages a minute"
TOLD = "Not taken"
BOB = Sender("8", "Bob")
ROBOT = Sender("99", "Robot", "robot", kind="bot")


async def chats(a: Worker, b: Worker, count: int) -> list[Receipt | None]:
    """As many messages of Ann to each worker, at the same moment, each in a chat of its own."""
    messages = [
        worker.gateway.deliver(inbound("hi", address=replace(PLACE, chat=f"{number} {worker.bus is a.bus}")))
        for number in range(count)
        for worker in (a, b)
    ]
    return list(await asyncio.gather(*messages))


def told(*workers: Worker) -> int:
    return sum(TOLD in plain_text(reply) for worker in workers for reply in worker.channel.replies.values())


async def test_the_messages_of_a_minute_are_counted_over_all_workers(tmp_path: Path) -> None:
    async with two_gateways(tmp_path, ScriptedModel(), ScriptedModel(), messages_per_minute=LIMIT) as (a, b):
        receipts = await chats(a, b, 8)
        assert sorted(receipt.refused or "" for receipt in receipts if receipt) == [""] * LIMIT + [REASON] * 13
        bob = await b.say("and I?", by=BOB)
        assert bob.refused is None
        # Whoever refuses more of them then tells Ann nothing.
        assert [(await worker.say("please")).refused for worker in (a, b)] == [REASON] * 2
        await b.reply("You said: and I?")
        async with asyncio.timeout(20):
            while not told(a, b):  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.01)
        assert told(a, b) == 1


async def test_a_message_that_both_workers_are_given_and_an_album_count_once(tmp_path: Path) -> None:
    async with two_gateways(tmp_path, ScriptedModel(), ScriptedModel(), messages_per_minute=LIMIT) as (a, b):
        twice = inbound("hi")
        await asyncio.gather(*(worker.gateway.deliver(twice) for worker in (a, b) * 4))
        parts = [
            replace(inbound("", files=(FileRef(str(number), "a.png", "image/png", 3),)), album="album")
            for number in range(4)
        ]
        given = [await worker.gateway.deliver(part) for worker, part in zip((a, b) * 2, parts, strict=True)]
        assert [receipt.refused for receipt in given if receipt] == [None] * 4
        assert [(await worker.say("more")).refused for worker in (a, b)] == [None, REASON]


async def test_a_message_that_comes_twice_takes_nothing_from_the_count_of_others(tmp_path: Path) -> None:
    async with two_gateways(tmp_path, ScriptedModel(), ScriptedModel(), messages_per_minute=LIMIT) as (a, b):
        now = datetime.now(UTC)
        sent = [replace(inbound("hi"), sent_at=now - timedelta(seconds=20 - 5 * number)) for number in range(LIMIT - 1)]
        for worker in (a, b):
            for message in sent:
                receipt = await worker.gateway.deliver(message)
                assert receipt is not None
                assert receipt.refused is None
        assert [(await worker.say("more")).refused for worker in (a, b)] == [None, REASON]


async def test_messages_of_bots_in_a_row_are_counted_over_all_workers(tmp_path: Path) -> None:
    policies = {"memory": ChannelAccess(frozenset({"*", "99"}))}
    models = (ScriptedModel(), ScriptedModel())
    async with two_gateways(tmp_path, *models, policies=policies) as (a, b):
        beeps = [inbound(f"beep {number}", by=ROBOT) for number in range(MAX_BOT_MESSAGES + 3)]
        given = [await (a, b)[n % 2].gateway.deliver(beep) for n, beep in enumerate(beeps)]
        assert [receipt is not None for receipt in given] == [True] * MAX_BOT_MESSAGES + [False] * 3
        await a.say("go on, you two")
        assert await b.gateway.deliver(inbound("beep again", by=ROBOT)) is not None
        await known(a.bus, b.bus)
