"""Delivery through the whole gateway: order and pace in a chat, failing channels, and restarts."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.events import OnDelta, TextDelta
from agent.log import Call
from agent.model import Answer, Request
from agent.models.scripted import ScriptedModel
from agent.tools import load_tools
from channels.address import Address
from channels.channel import (
    ChannelError,
    Ledger,
    OutcomeUnknown,
    RetryLater,
    ServerFailed,
    Undeliverable,
    Unreachable,
)
from channels.memory import MemoryChannel, plain_text
from channels.message import MessageStatus
from channels.reply import Reply, TextSegment
from channels.sync import REPEAT_NOTE, Piece, sync_pieces
from gateway.app import GatewayOptions
from gateway.outbound.delivery import MAX_ERRORS, RetryLimits
from tests.gateway.play import ELSEWHERE, playing, storing, until

TOPIC = Address("memory", "me", "group", "1", "group")
HELP = "Write to me at any time, also while I work: I read it at once."
OTHER_TOPIC = Address("memory", "me", "group", "2", "group")


class FailingChannel(MemoryChannel):
    """Raises the given errors first, then shows in memory; counts how often each finished text was shown."""

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


class MessageList(MemoryChannel):
    """A channel whose messages survive a restart, each with its current text, as on a chat platform."""

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

    def simpler(self, content: str) -> Sequence[str]:
        return [content]

    def notice(self, content: str, reason: str) -> str:
        return f"not shown: {reason}"


async def test_a_resumed_reply_continues_in_the_same_message(tmp_path: Path) -> None:
    wall: list[str] = []
    async with playing(tmp_path, ScriptedModel(["I look", asyncio.Event()]), channel=MessageList(wall)) as play:
        await play.say("go")
        await play.reply("I look", done=False)
    async with playing(tmp_path, ScriptedModel("ed and saw."), channel=MessageList(wall)) as play:
        await play.reply("ed and saw.")
        await play.until_idle()
    async with playing(tmp_path, ScriptedModel(), channel=MessageList(wall)):
        assert wall == ["I look", "ed and saw."]


async def test_a_finished_reply_of_unknown_delivery_is_shown_once(tmp_path: Path) -> None:
    wall: list[str] = []
    async with playing(tmp_path, ScriptedModel("One.", "Two."), channel=MessageList(wall)) as play:
        await play.say("first")
        await play.reply("One.")
        await play.say("/help")
        await play.reply("show these commands")
        await play.until_idle()
        play.sql("UPDATE turns SET delivered = false")
    async with playing(tmp_path, ScriptedModel("Two."), channel=MessageList(wall)) as play:
        await play.say("second")
        await play.reply("Two.")
        await play.until_idle()
        assert [text.partition("\n")[0] for text in wall] == ["One.", HELP, "Two."]


@pytest.mark.parametrize(
    "trouble", [RetryLater(0.01), Unreachable("gone"), OutcomeUnknown("who knows"), ValueError("a bug")], ids=repr
)
async def test_a_reply_that_could_not_be_shown_is_shown_later_and_once(tmp_path: Path, trouble: Exception) -> None:
    channel = FailingChannel(trouble)
    async with playing(tmp_path, ScriptedModel(), channel=channel) as play:
        await play.say("hi")
        await play.reply("You said: hi")
        await play.until_idle()
        assert channel.finals == {"You said: hi": 1}


class PickyChannel(MemoryChannel):
    """Refuses every reply that contains one of these words."""

    def __init__(self, *refused: str, by: ChannelError | None = None) -> None:
        super().__init__()
        self.refused = set(refused)
        self.by = by or Undeliverable("blocked")

    async def show(self, reply: Reply, ledger: Ledger) -> None:
        if any(word in plain_text(reply) for word in self.refused):
            raise self.by
        await super().show(reply, ledger)


FAILING = pytest.mark.parametrize(
    "trouble", [ServerFailed("internal error"), OutcomeUnknown("who knows"), ValueError("a bug")], ids=repr
)


@FAILING
async def test_a_reply_at_which_the_platform_fails_for_ever_lets_the_next_go_first_and_is_given_up(
    tmp_path: Path, trouble: Exception
) -> None:
    channel = PickyChannel("One.", by=trouble)  # type: ignore[arg-type]  # also a bug of the channel
    options = GatewayOptions(delivery=RetryLimits(attempts=2, seconds=0.5, max_backoff=0.05))
    async with playing(tmp_path, ScriptedModel("One.", "Two."), channel=channel, options=options) as play:
        await play.say("hi")
        await until(lambda: not play.gateway.dispatcher.running())
        await play.say("again")
        await play.reply("Two.")
        await play.until_idle()
        [(first, reason), (second, none)] = play.sql("SELECT delivered, undeliverable FROM turns ORDER BY number")
        assert (first, second, none) == (1, 1, None)
        assert reason


async def test_a_thread_in_which_nothing_can_be_shown_does_not_hold_up_the_others_of_its_chat(tmp_path: Path) -> None:
    channel = PickyChannel("One.", by=RetryLater(3600.0))
    async with playing(tmp_path, ScriptedModel("One.", "Two."), channel=channel) as play:
        await play.say("hi", address=TOPIC)
        await until(lambda: not play.gateway.dispatcher.running())
        await play.say("hello", address=OTHER_TOPIC)
        await play.reply("Two.")


async def test_a_message_whose_answer_was_not_delivered_is_not_shown_as_answered(tmp_path: Path) -> None:
    class Remote(PickyChannel):
        def pace(self, address: Address) -> float:
            return 1.0

    channel = Remote("One.")
    async with playing(tmp_path, ScriptedModel("One.", "Two."), channel=channel) as play:
        await play.say("hi")
        await channel.until(lambda memory: [status.state for status in channel.statuses][-1:] == ["undelivered"])
        assert "answered" not in [status.state for status in channel.statuses]
        assert channel.statuses[-1].reason == "blocked"


async def test_an_undeliverable_reply_is_given_up_and_the_next_is_shown(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel("One.", "Two."), channel=PickyChannel("One.")) as play:
        await play.say("hi")
        await play.until_idle()
        await play.say("again")
        await play.reply("Two.")
        await play.until_idle()
        assert play.shown() == ["Two."]
        assert play.sql("SELECT delivered, undeliverable FROM turns ORDER BY number") == [(1, "blocked"), (1, None)]


async def test_what_was_not_delivered_is_in_status_and_audit_and_known_to_the_model(tmp_path: Path) -> None:
    model = ScriptedModel("One.", "Two.")
    async with playing(tmp_path, model, channel=PickyChannel("One.")) as play:
        await play.say("hi")
        await play.until_idle()
        await play.say("/status")
        await play.reply("Not delivered: 1 reply (blocked). `/redeliver` tries again.")
        await play.say("again")
        await play.reply("Two.")
        assert "could not be shown to the person: blocked" in str(model.requests[1].transcript)
        assert play.sql("SELECT event FROM audit") == [("undelivered",)]


async def test_redeliver_shows_what_was_refused_and_the_model_learns_that(tmp_path: Path) -> None:
    channel, model = PickyChannel("One."), ScriptedModel("One.", "Two.")
    async with playing(tmp_path, model, channel=channel) as play:
        await play.say("hi")
        await play.until_idle()
        channel.refused.clear()
        await play.say("/redeliver")
        await play.reply("One.")
        await play.say("/redeliver")
        await play.reply("Every reply of this conversation was delivered.")
        await play.say("again")
        await play.reply("Two.")
        assert "could not be shown" not in str(model.requests[1].transcript)
        assert play.sql("SELECT count(*) FROM turns WHERE undeliverable IS NOT NULL") == [(0,)]


async def test_errors_that_are_not_consecutive_do_not_give_up_a_reply(tmp_path: Path) -> None:
    steps = [asyncio.Event() for _ in range(7)]
    script = [piece for number, step in enumerate(steps) for piece in (f"{number} ", step)]
    channel = FailingChannel()
    async with playing(tmp_path, ScriptedModel(script), channel=channel, bound=30) as play:
        await play.say("go")
        for number, step in enumerate(steps):
            await play.reply(f"{number}", done=False)
            channel.troubles = [ValueError("a bug")]
            step.set()
        await play.reply("6")


async def test_a_bug_after_the_platform_could_not_be_reached_does_not_give_up_a_reply(tmp_path: Path) -> None:
    channel = FailingChannel(*[Unreachable("gone")] * MAX_ERRORS, ValueError("a bug"))
    options = GatewayOptions(delivery=RetryLimits(max_backoff=0.01))
    async with playing(tmp_path, ScriptedModel(), channel=channel, options=options) as play:
        await play.say("hi")
        await play.reply("You said: hi")
        await play.until_idle()
        assert channel.finals == {"You said: hi": 1}


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


async def test_replies_of_one_chat_finish_in_the_order_in_which_they_began(tmp_path: Path) -> None:
    class Gated(FailingChannel):
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


async def test_a_rate_limited_chat_does_not_delay_other_chats(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel(), channel=FailingChannel(RetryLater(60.0))) as play:
        await play.say("one", address=ELSEWHERE)
        await until(lambda: not play.gateway.dispatcher.running())
        await play.say("two")
        await play.reply("You said: two")


async def test_a_failing_message_state_affects_nothing_else(tmp_path: Path) -> None:
    class Unmarkable(MemoryChannel):
        async def show_status(self, status: MessageStatus) -> None:
            raise ValueError("no such reaction")

    async with playing(tmp_path, ScriptedModel(), channel=Unmarkable()) as play:
        await play.say("hi")
        await play.reply("You said: hi")


async def test_replies_are_shown_even_if_the_outbox_cannot_be_written(tmp_path: Path) -> None:
    channel = FailingChannel()
    async with playing(tmp_path, ScriptedModel(), channel=channel) as play:
        play.refuse_to_write("outbox")
        play.refuse_to_write("turns", "UPDATE OF delivered")
        await play.say("hi")
        await play.reply("You said: hi")
        await play.say("again")
        await play.reply("You said: again")
        await play.until_idle()
        assert channel.finals == {"You said: hi": 1, "You said: again": 1}


async def test_a_reply_for_a_removed_channel_waits_until_it_is_configured_again(tmp_path: Path) -> None:
    async with storing(tmp_path) as keep:
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


@pytest.mark.engines
async def test_what_was_shown_while_the_store_could_not_write_is_stored_as_soon_as_it_can(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel()) as play:
        play.refuse_to_write("outbox")
        play.refuse_to_write("turns", "UPDATE OF delivered")
        await play.say("one")
        await play.reply("You said: one")
        await play.until_idle()
        assert play.sql("SELECT delivered FROM turns") == [(False,)]
        play.write_again("outbox")
        play.write_again("turns")
        await until(lambda: play.sql("SELECT delivered FROM turns") == [(True,)])


@pytest.mark.engines
async def test_a_question_that_was_shown_while_the_store_could_not_write_is_answered_in_its_message(
    tmp_path: Path,
) -> None:
    model = ScriptedModel([Call("c", "ask_user", '{"question": "Which?", "options": ["red", "blue"]}')], "Blue it is.")
    async with playing(tmp_path, model, *load_tools(["ask_user"])) as play:
        play.refuse_to_write("outbox")
        play.refuse_to_write("turns", "UPDATE OF delivered", "NEW.delivered")
        await play.say("paint it")
        await play.reply("Which?", done=False)
        await until(lambda: play.sql("SELECT parked FROM turns") == [(True,)])
        play.write_again("outbox")
        play.write_again("turns")
        await until(lambda: play.sql("SELECT delivered FROM turns") == [(True,)])
        assert [state for (state,) in play.sql("SELECT state FROM outbox")] == ["shown"]
        await play.say("blue")
        await play.reply("Blue it is.")
        await play.until_idle()
        assert len(play.channel.replies) == 1
