"""Delivery through the front door: order and pace in one chat, channels that break, and what a restart repeats."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.events import OnDelta, TextDelta
from agent.model import Answer, Request
from agent.models.scripted import ScriptedModel
from channels.address import Address
from channels.channel import Ledger, OutcomeUnknown, RetryLater, Undeliverable, Unreachable
from channels.memory import MemoryChannel, plain_text
from channels.message import MessageStatus
from channels.reply import Reply, TextSegment
from channels.sync import REPEAT_NOTE, Piece, sync_pieces
from tests.gateway.play import ELSEWHERE, keeping, playing, until

TOPIC = Address("memory", "me", "group", "1", "group")
HELP = "Write to me at any time, also while I work: I read it at once."
OTHER_TOPIC = Address("memory", "me", "group", "2", "group")


class Troubled(MemoryChannel):
    """Shows in memory, unless there is trouble left; counts how often each text was shown to its end."""

    def __init__(self, *troubles: Exception) -> None:
        super().__init__()
        self.troubles = list(troubles)
        self.finals: Counter[str] = Counter()

    async def show(self, reply: Reply, ledger: Ledger) -> None:
        if self.troubles:
            raise self.troubles.pop(0)
        await super().show(reply, ledger)
        if reply.done:
            self.finals[plain_text(reply)] += 1


class Wall(MemoryChannel):
    """A channel whose messages stand on a wall for ever, each with what it says now, as a chat platform keeps them."""

    def __init__(self, messages: list[str]) -> None:
        super().__init__()
        self.messages = messages

    async def show(self, reply: Reply, ledger: Ledger) -> None:
        texts = [segment for segment in reply.segments if isinstance(segment, TextSegment)]
        await sync_pieces([Piece(text.key, text.markdown, text.markdown) for text in texts], ledger, self)
        self.replies[reply.id] = reply
        await self._notify()

    def batch_size(self, contents: Sequence[str]) -> int:
        return 1

    async def send(self, contents: Sequence[str], *, first: bool, repeat: bool) -> Sequence[str]:
        self.messages.append(contents[0] + (REPEAT_NOTE if repeat else ""))
        return [str(len(self.messages) - 1)]

    async def edit(self, ref: str, content: str, *, repeat: bool) -> bool:
        self.messages[int(ref)] = content + (REPEAT_NOTE if repeat else "")
        return True

    async def delete(self, ref: str) -> None:
        self.messages[int(ref)] = ""


async def test_a_resumed_reply_goes_on_in_the_message_where_it_stood(tmp_path: Path) -> None:
    wall: list[str] = []
    async with playing(tmp_path, ScriptedModel(["I look", asyncio.Event()]), channel=Wall(wall)) as play:
        await play.say("go")
        await play.reply("I look", done=False)
    async with playing(tmp_path, ScriptedModel("I looked and saw."), channel=Wall(wall)) as play:
        await play.reply("I looked and saw.")
        await play.until_idle()
    async with playing(tmp_path, ScriptedModel(), channel=Wall(wall)):
        assert wall == ["I looked and saw."]


async def test_a_finished_reply_that_is_not_known_to_be_delivered_shows_once(tmp_path: Path) -> None:
    wall: list[str] = []
    async with playing(tmp_path, ScriptedModel("One.", "Two."), channel=Wall(wall)) as play:
        await play.say("first")
        await play.reply("One.")
        await play.say("/help")
        await play.reply("show these commands")
        await play.until_idle()
        play.sql("UPDATE turns SET delivered = 0")
    async with playing(tmp_path, ScriptedModel("Two."), channel=Wall(wall)) as play:
        await play.say("second")
        await play.reply("Two.")
        await play.until_idle()
        assert [text.partition("\n")[0] for text in wall] == ["One.", HELP, "Two."]


@pytest.mark.parametrize(
    "trouble", [RetryLater(0.01), Unreachable("gone"), OutcomeUnknown("who knows"), ValueError("a bug")], ids=repr
)
async def test_a_reply_that_could_not_be_shown_is_shown_later_and_once(tmp_path: Path, trouble: Exception) -> None:
    channel = Troubled(trouble)
    async with playing(tmp_path, ScriptedModel(), channel=channel) as play:
        await play.say("hi")
        await play.reply("You said: hi")
        await play.until_idle()
        assert channel.finals == {"You said: hi": 1}


async def test_a_reply_that_can_never_arrive_is_given_up_and_the_next_is_shown(tmp_path: Path) -> None:
    channel = Troubled(Undeliverable("blocked"))
    async with playing(tmp_path, ScriptedModel("One.", "Two."), channel=channel) as play:
        await play.say("hi")
        await play.until_idle()
        await play.say("again")
        await play.reply("Two.")
        await play.until_idle()
        assert play.shown() == ["Two."]
        assert play.sql("SELECT count(*) FROM turns WHERE NOT delivered") == [(0,)]


async def test_breaks_that_were_overcome_do_not_add_up_until_the_reply_is_given_up(tmp_path: Path) -> None:
    steps = [asyncio.Event() for _ in range(7)]
    script = [piece for number, step in enumerate(steps) for piece in (f"{number} ", step)]
    channel = Troubled()
    async with playing(tmp_path, ScriptedModel(script), channel=channel, bound=30) as play:
        await play.say("go")
        for number, step in enumerate(steps):
            await play.reply(f"{number}", done=False)
            channel.troubles = [ValueError("a bug")]
            step.set()
        await play.reply("6")


async def test_two_growing_replies_in_one_chat_are_both_shown(tmp_path: Path) -> None:
    class Paced(MemoryChannel):
        def pace(self, address: Address) -> float:
            return 0.02

    over = asyncio.Event()

    class Talker:
        async def answer(self, request: Request, on_delta: OnDelta) -> Answer:
            while not over.is_set():
                await on_delta(TextDelta("word "))
                await asyncio.sleep(0)
            return Answer(())

    channel = Paced()
    async with playing(tmp_path, Talker(), channel=channel) as play:
        await play.say("one", address=TOPIC)
        await play.reply("word", done=False)
        await play.say("two", address=OTHER_TOPIC)
        async with asyncio.timeout(60):
            await channel.until(lambda memory: len(memory.replies) == 2)
        over.set()
        await play.until_idle()


async def test_a_finished_reply_does_not_wait_for_the_pace(tmp_path: Path) -> None:
    class Slow(MemoryChannel):
        def pace(self, address: Address) -> float:
            return 60.0

    async with playing(tmp_path, ScriptedModel(), channel=Slow()) as play:
        await play.say("one")
        await play.reply("You said: one")
        await play.say("two")
        await play.reply("You said: two")


async def test_replies_of_one_chat_are_finished_in_the_order_in_which_they_began(tmp_path: Path) -> None:
    class Gated(Troubled):
        open = asyncio.Event()

        async def show(self, reply: Reply, ledger: Ledger) -> None:
            await self.open.wait()
            await super().show(reply, ledger)

    channel = Gated()
    async with playing(tmp_path, ScriptedModel(), channel=channel) as play:
        for number in range(5):
            await play.say(f"{number}")
            await until(lambda: not play.gateway.dispatcher.running())
        channel.open.set()
        await play.until_idle()
        assert list(channel.finals) == [f"You said: {number}" for number in range(5)]
        assert set(channel.finals.values()) == {1}


async def test_a_chat_that_must_wait_keeps_no_other_chat_waiting(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel(), channel=Troubled(RetryLater(60.0))) as play:
        await play.say("one", address=ELSEWHERE)
        await until(lambda: not play.gateway.dispatcher.running())
        await play.say("two")
        await play.reply("You said: two")


async def test_a_mark_that_breaks_costs_itself_only(tmp_path: Path) -> None:
    class Unmarkable(MemoryChannel):
        async def show_status(self, status: MessageStatus) -> None:
            raise ValueError("no such reaction")

    async with playing(tmp_path, ScriptedModel(), channel=Unmarkable()) as play:
        await play.say("hi")
        await play.reply("You said: hi")


async def test_an_outbox_that_cannot_be_written_does_not_silence_the_gateway(tmp_path: Path) -> None:
    channel = Troubled()
    async with playing(tmp_path, ScriptedModel(), channel=channel) as play:
        play.refuse_to_write("outbox")
        play.sql("CREATE TRIGGER deaf BEFORE UPDATE OF delivered ON turns BEGIN SELECT RAISE(ABORT, 'no room'); END")
        await play.say("hi")
        await play.reply("You said: hi")
        await play.say("again")
        await play.reply("You said: again")
        await play.until_idle()
        assert channel.finals == {"You said: hi": 1, "You said: again": 1}


async def test_what_is_for_a_channel_that_was_taken_away_waits_for_it(tmp_path: Path) -> None:
    async with keeping(tmp_path) as keep:
        await keep("hi")
        await keep("/help")
    async with playing(tmp_path, ScriptedModel(), channel=MemoryChannel("another")) as play:
        await until(lambda: play.states()["waiting"] == 0 and not play.gateway.dispatcher.running())
        assert play.shown() == []
        assert play.gateway.delivery.waiting() == 0
    async with playing(tmp_path, ScriptedModel()) as play:
        await play.reply("You said: hi")
        await play.until_idle()
        assert len(play.shown()) == 2
