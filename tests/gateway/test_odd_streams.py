"""Streams with one field of an odd type: each ends in an answer or a told failure, and the conversation goes on."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import pytest

from agent.loop.turn import INTERNAL_ERROR
from agent.models.metering import MeteredModel
from agent.models.prices import Price
from agent.models.protocols.wire import ProtocolName
from agent.models.provider import ModelOptions, Provider
from agent.models.providers import ProviderModel
from agent.models.retry import RetryingModel
from agent.testing import MemoryMedia
from agent.tool import ToolContext, tool
from channels.memory import MemoryChannel, plain_text
from channels.reply import Reply
from tests.gateway.play import PLACE, Play, playing
from tests.servers.models import ModelServer, Request, Say, Turn
from tests.servers.odd_streams import odd_answers

STREAMS = 120
AT_ONCE = 25
PRICE = Price(input=10, output=10)


@tool(effect="read")
async def look(context: ToolContext, at: Annotated[str, "What to look at."]) -> str:
    """Looks."""
    return "It is there."


class Server:
    """Answers "odd N" with the odd stream N: each time if N is even, else once and then with a whole answer."""

    def __init__(self, protocol: ProtocolName, seed: int) -> None:
        self.streams = list(odd_answers(protocol, seed, STREAMS))
        self._asked: set[int] = set()

    def answer(self, request: Request) -> Turn:
        words = request.last_user_text
        if not words.startswith("odd") or request.messages[-1].role == "tool":
            return Say("All is well.")
        number = int(words.split()[1])
        again, _ = number in self._asked, self._asked.add(number)
        return Say("Well, after all.") if again and number % 2 else self.streams[number][1]


async def at_once(seconds: float) -> None:
    await asyncio.sleep(0)


@pytest.mark.timeout(150)
@pytest.mark.filterwarnings("ignore:Failed to extract usage")
@pytest.mark.parametrize("seed", [20261130])
@pytest.mark.parametrize("protocol", ["openai", "openai-responses", "anthropic"])
async def test_every_odd_stream_ends_and_the_conversation_goes_on(
    tmp_path: Path, protocol: ProtocolName, seed: int
) -> None:
    server, replies = Server(protocol, seed), dict[str, Reply]()
    async with ModelServer() as models:
        models.respond(server.answer)
        at = Provider(protocol, protocol, models.url(protocol), keys=("key",))
        opened = ProviderModel(at, ModelOptions("test"), MemoryMedia())
        model = RetryingModel(MeteredModel(opened, "test", PRICE), sleep=at_once)
        async with playing(tmp_path, model, look, channel=MemoryChannel(replies=replies), bound=120) as play:
            await say(play, "odd {number}")
            await say(play, "next")
        assert_answered(replies, server, 2)
        async with playing(tmp_path, model, look, channel=MemoryChannel(replies=replies), bound=120) as play:
            await say(play, "after a restart")
            usage = await play.store.spent()
            assert 0 < usage.input < 10**12
        assert_answered(replies, server, 3)
        await opened.aclose()
        assert models.refusals == []


async def say(play: Play, text: str) -> None:
    """Says it in every conversation, a few at once."""
    for first in range(0, STREAMS, AT_ONCE):
        numbers = range(first, min(first + AT_ONCE, STREAMS))
        await asyncio.gather(
            *(play.say(text.format(number=number), address=replace(PLACE, chat=f"c{number}")) for number in numbers)
        )
        await play.until_idle()


def assert_answered(replies: dict[str, Reply], server: Server, count: int) -> None:
    """Each conversation has so many replies: an answer or a told failure first, then answers."""
    found = defaultdict(list)
    for reply in replies.values():
        assert reply.done
        found[reply.address.chat].append(plain_text(reply))
    for number, (change, _) in enumerate(server.streams):
        first, *others = found[f"c{number}"]
        assert first.strip(), f"{number}: nothing is said after {change}"
        assert INTERNAL_ERROR not in first, f"{number}: {change}"
        assert first.encode(), f"{number}: {change}"
        assert others == ["All is well."] * (count - 1), f"{number}: {change}: {first!r}"
