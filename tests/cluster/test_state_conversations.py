"""What one worker learns about a conversation, the others know."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from agent.models.scripted import ScriptedModel
from channels.address import Address, Sender
from channels.memory import MemoryChannel
from channels.message import ThreadRoot
from gateway.inbound.access import ChannelAccess
from gateway.store.records import DeletionRequest
from tests.cluster.pair import Worker, known, two_gateways
from tests.cluster.sites import two_sites
from tests.gateway.play import ANN, inbound
from tests.gateway.stage import write_settings
from tests.servers.models import ModelServer, Say
from tests.servers.telegram import BotApi

pytestmark = pytest.mark.engines("postgresql")

BOB = Sender("8", "Bob")
ROOM = Address("memory", "me", "room", kind="group")
SOON = 3.0
"""Seconds: less than until workers look without being told."""


class Room(MemoryChannel):
    """A platform that can be asked what was written in its room; both workers are given the same one."""

    def __init__(self, said: list[str]) -> None:
        super().__init__()
        self._said = said

    async def talk(self, address: Address, *, after: str | None, before: str) -> tuple[ThreadRoot, ...]:
        between = self._said[0 if after is None else self._said.index(after) + 1 : self._said.index(before)]
        return tuple(ThreadRoot("Bob", text, author=BOB) for text in between)


async def test_what_one_worker_deletes_of_a_conversation_another_one_shows_to_no_model(tmp_path: Path) -> None:
    async with two_gateways(tmp_path, ScriptedModel(), ScriptedModel("Noted.", "Hello.", "Which?")) as (a, b):
        for text, by, answer in (("my number is 4711", BOB, "Noted."), ("hello", ANN, "Hello.")):
            await b.gateway.deliver(inbound(text, address=ROOM, by=by))
            await b.reply(answer)
        assert "4711" in str(b.model.requests[-1])
        await a.gateway.deletion.delete(DeletionRequest("person", person="memory:8", by="operator"))
        await known(a.bus, b.bus)
        await b.gateway.deliver(inbound("which number?", address=ROOM))
        await b.reply("Which?")
        assert "hello" in str(b.model.requests[-1])
        assert "4711" not in str(b.model.requests[-1])


async def test_all_workers_know_at_once_that_a_chat_has_another_id(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(lambda _: Say(f"Answer {len(models.requests)}."))
    async with asyncio.timeout(60), two_sites(write_settings(tmp_path, api, models)) as sites:
        group = api.group()
        await group.say("@interject_test_bot my color is blue")
        await group.hear("Answer 1.")
        new = await group.migrate()
        await new.say("@interject_test_bot go on")
        await new.hear("Answer 2.")
        until = asyncio.get_running_loop().time() + SOON
        for site in sites:
            # One of them listens to Telegram; both are given a message from there.
            while True:
                count = len(models.requests)
                address = Address("telegram", api.token.partition(":")[0], str(new.id), kind="group")
                await site.built.gateway.deliver(inbound("which color?", address=address, id=str(100 + count)))
                await new.hear(f"Answer {count + 1}.")
                if "my color is blue" in str(models.requests[-1]):
                    break
                assert asyncio.get_running_loop().time() < until


async def test_what_people_write_to_each_other_is_told_with_the_next_question_whichever_worker_hears_it(
    tmp_path: Path,
) -> None:
    said: list[str] = []

    async def say(worker: Worker, text: str, *, to_bot: bool) -> None:
        said.append(text)
        message = inbound(text, by=ANN if to_bot else BOB, address=ROOM, addressed=to_bot)
        await worker.gateway.deliver(replace(message, message_id=text, has_talk=to_bot))

    models = ScriptedModel("Hello.", "It is 42."), ScriptedModel()
    channels, admitted = (Room(said), Room(said)), {"memory": ChannelAccess(frozenset({"*"}))}
    async with two_gateways(tmp_path, *models, channels=channels, policies=admitted) as (a, b):
        await say(a, "@bot hello", to_bot=True)
        await a.reply("Hello.")
        # The platform gives each message to one of the workers.
        await say(b, "the code is 42", to_bot=False)
        await say(a, "@bot which code?", to_bot=True)
        await a.reply("It is 42.")
    first, second = map(str, a.model.requests)
    assert "the code is 42" not in first
    assert second.count("the code is 42") == 1
