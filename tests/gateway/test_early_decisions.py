"""Decisions that come after a request is shown and before its turn is parked: they count like later ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from agent.log import ApprovalDecided, Call, CallEnded
from agent.models.scripted import ScriptedModel
from agent.tool import ToolContext, tool
from channels.address import Sender
from channels.memory import MemoryChannel
from channels.reply import QuestionSegment
from gateway.inbound.access import ChannelAccess
from gateway.store import Store
from tests.gateway.play import PLACE, Play, inbound, playing, until

pytestmark = pytest.mark.engines

GROUP = replace(PLACE, chat="team", kind="group")
BOB = Sender("8", "Bob")
CALL = Call("c1", "launch", "{}")


class SlowToPark:
    """A store that parks a turn only when it is released: until then the request is shown, and nothing waits for it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def park(self, turn_id: str, epoch: int, until: datetime | None = None) -> Any:
        self.reached.set()
        await self.go_on.wait()
        return await self._store.park(turn_id, epoch, until)


@asynccontextmanager
async def asking(
    folder: Path, *script: Any, policies: dict[str, ChannelAccess] | None = None
) -> AsyncIterator[tuple[Play, SlowToPark, list[str], ScriptedModel]]:
    done: list[str] = []

    @tool(effect="external", approval="once")
    async def launch(context: ToolContext) -> str:
        """Launches it."""
        done.append("launched")
        return "launched"

    held: list[SlowToPark] = []

    def hold(store: Store) -> SlowToPark:
        held.append(SlowToPark(store))
        return held[0]

    model = ScriptedModel(*script)
    async with playing(folder, model, launch, store=hold, policies=policies) as play:
        yield play, held[0], done, model


async def shown(play: Play) -> QuestionSegment:
    """The request, as soon as it is shown."""

    def found(channel: MemoryChannel) -> QuestionSegment | None:
        segments = (segment for reply in channel.replies.values() for segment in reply.segments)
        return next((each for each in segments if isinstance(each, QuestionSegment) and each.open), None)

    segment = await play.channel.until(found)
    assert segment is not None
    return segment


async def decisions(play: Play) -> list[ApprovalDecided]:
    (turn_id,) = play.sql("SELECT id FROM turns WHERE kind = 'turn' ORDER BY number")[0]
    return [each for each in (await play.store.turn(turn_id)).entries if isinstance(each, ApprovalDecided)]


@pytest.mark.parametrize(("word", "runs"), [("yes", 1), ("no", 0)])
async def test_a_word_before_the_turn_is_parked_decides(tmp_path: Path, word: str, runs: int) -> None:
    async with asking(tmp_path, [CALL], "It is over.") as (play, store, done, model):
        await play.say("launch it")
        await shown(play)
        await store.reached.wait()
        await play.say(word)
        store.go_on.set()
        await play.reply("It is over.")
        await play.until_idle()
        assert len(done) == runs
        assert [each.decision for each in await decisions(play)] == ["allowed" if runs else "denied"]
        assert len(model.requests) == 2
        assert play.sql("SELECT state, reason FROM inbox WHERE text = ?", word) == [
            ("answered", "answered the question")
        ]
        assert play.sql("SELECT count(*) FROM audit WHERE event IN ('approved', 'denied')") == [(1,)]


async def test_a_button_before_the_turn_is_parked_decides_at_once(tmp_path: Path) -> None:
    async with asking(tmp_path, [CALL], "It is over.") as (play, store, done, _):
        await play.say("launch it")
        segment = await shown(play)
        await store.reached.wait()
        await play.deliver(inbound(f"/answer {segment.key} 0"))
        await until(lambda: play.sql("SELECT 1 FROM audit WHERE event = 'approved'"))
        store.go_on.set()
        await play.reply("It is over.")
        assert done == ["launched"]


async def test_of_a_message_and_a_word_behind_it_the_first_is_the_answer(tmp_path: Path) -> None:
    async with asking(tmp_path, [CALL], "The other one, then.") as (play, store, done, _):
        await play.say("launch it")
        await shown(play)
        await store.reached.wait()
        await play.say("wait, I mean the other one")
        await play.say("yes")
        store.go_on.set()
        await play.reply("The other one, then.")
        await play.until_idle()
        assert done == []
        assert [each.decision for each in await decisions(play)] == ["dropped"]
        assert await play.messages_read() == [["launch it", "wait, I mean the other one", "yes"]]


async def test_a_message_behind_the_word_that_decides_steers_the_turn(tmp_path: Path) -> None:
    async with asking(tmp_path, [CALL], "Not that one.") as (play, store, done, _):
        await play.say("launch it")
        await shown(play)
        await store.reached.wait()
        await play.say("yes")
        await play.say("no, stop, not that one")
        store.go_on.set()
        await play.reply("Not that one.")
        await play.until_idle()
        assert done == []
        assert [each.decision for each in await decisions(play)] == ["allowed"]
        (turn_id,) = play.sql("SELECT id FROM turns WHERE kind = 'turn'")[0]
        ends = [each for each in (await play.store.turn(turn_id)).entries if isinstance(each, CallEnded)]
        assert len(ends) == 1
        assert ends[0].outcome in ("skipped", "cancelled")


async def test_whoever_may_not_decide_decides_nothing_early_either(tmp_path: Path) -> None:
    policies = {"memory": ChannelAccess(frozenset({"7", "8"}), admins=frozenset({"1"}))}
    async with asking(tmp_path, [CALL], "Which one?", policies=policies) as (play, store, done, _):
        await play.say("launch it", address=GROUP)
        await shown(play)
        await store.reached.wait()
        await play.say("yes", address=GROUP, by=BOB)
        store.go_on.set()
        await play.reply("Which one?")
        assert done == []
        assert [each.decision for each in await decisions(play)] == ["dropped"]


async def test_a_stop_behind_the_word_that_decides_ends_the_turn(tmp_path: Path) -> None:
    async with asking(tmp_path, [CALL]) as (play, store, done, _):
        await play.say("launch it")
        await shown(play)
        await store.reached.wait()
        await play.say("yes")
        await play.say("/stop")
        store.go_on.set()
        await play.reply("⏹ _Stopped._")
        await play.until_idle()
        assert done == []
