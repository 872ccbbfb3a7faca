"""The Discord channel over real sockets, against a local Discord."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal

import pytest

from channels.address import Address, Sender
from channels.channel import (
    ChannelRejected,
    CommandHelp,
    FileUnavailable,
    OutcomeUnknown,
    RetryLater,
    Undeliverable,
    Unreachable,
)
from channels.discord.channel import DiscordChannel
from channels.message import FileRef, InboundMessage, MessageStatus, Receipt, ThreadRoot
from channels.reply import CallSegment, MediaSegment, QuestionSegment, Reply, Segment, TextSegment
from tests.channels.failing import first_fails
from tests.channels.test_sync import MemoryLedger
from tests.channels.test_telegram_channel import Shelf, png
from tests.servers.discord import BOB, Discord, Person, Place, Upload

COMMANDS = (CommandHelp("stop", "stop what is running"), CommandHelp("busy", "what a new message does", "a mode"))
POST = "POST /channels/*/messages"


@dataclass
class Inbox:
    """Takes what a channel delivers, each event once; `broken` is how often it cannot."""

    messages: list[InboundMessage] = field(default_factory=list)
    doubles: int = 0
    broken: int = 0
    failures: int = 0
    closed: asyncio.Event | None = None
    refusal: str | None = None
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def deliver(self, message: InboundMessage) -> Receipt | None:
        if self.closed is not None:
            await self.closed.wait()
        async with self.arrived:
            self.arrived.notify_all()
            if self.broken:
                self.broken -= 1
                self.failures += 1
                raise OSError("the disk is full")
            if any(known.event_id == message.event_id for known in self.messages):
                self.doubles += 1
                return Receipt(1, duplicate=True)
            self.messages.append(message)
        return Receipt(len(self.messages), refused=self.refusal)

    async def texts(self, count: int) -> list[str]:
        await self.until(lambda: len(self.messages) >= count)
        return [message.text for message in self.messages]

    async def until(self, predicate: Callable[[], bool]) -> None:
        async with asyncio.timeout(60), self.arrived:
            await self.arrived.wait_for(predicate)


@dataclass
class Shelfmark:
    """Cursors that survive a restart; `writes` counts the writes."""

    kept: dict[str, str] = field(default_factory=dict)
    writes: int = 0

    async def load(self) -> dict[str, str]:
        return dict(self.kept)

    async def save(self, positions: Mapping[str, str | None]) -> None:
        self.writes += 1
        for chat, position in positions.items():
            if position is None:
                self.kept.pop(chat, None)
            else:
                self.kept[chat] = position


@asynccontextmanager
async def listening(discord: Discord, channel: DiscordChannel, inbox: Inbox) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        listener = tasks.create_task(channel.listen(inbox.deliver, COMMANDS))
        await discord.connected()
        yield
        listener.cancel()


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def cursors() -> Shelfmark:
    return Shelfmark()


def account(discord: Discord, shelf: Shelf, cursors: Shelfmark, **options: Any) -> DiscordChannel:
    options = {"api_url": discord.api_url, "gateway_url": discord.gateway_url, "identify_interval": 0.0} | options
    return DiscordChannel("discord", options.pop("token", discord.token), shelf, cursors, **options)


@pytest.fixture
async def channel(discord: Discord, shelf: Shelf, cursors: Shelfmark) -> AsyncIterator[DiscordChannel]:
    channel = account(discord, shelf, cursors)
    yield channel
    await channel.aclose()


def address(place: Place) -> Address:
    kind: Literal["direct", "group"] = "group" if place.guild else "direct"
    return Address("discord", "4242", str(place.id), None, kind)


def reply_in(
    place: Place,
    *segments: Segment,
    to: str | None = None,
    status: str = "",
    done: bool = True,
    id: str = "run-1",
) -> Reply:
    return Reply(id, address(place), to, segments, status, done)


def text(markdown: str, *, open: bool = False) -> TextSegment:
    return TextSegment("t1", markdown, open=open)


# --- inbound ---------------------------------------------------------------------------------------------------------


async def test_a_direct_message_is_delivered(discord: Discord, channel: DiscordChannel, inbox: Inbox) -> None:
    ann = discord.direct()
    async with listening(discord, channel, inbox):
        said = await ann.say("hello")
        assert await inbox.texts(1) == ["hello"]
    [message] = inbox.messages
    assert (message.address, message.sender.name) == (address(ann), "Ann")
    assert (message.message_id, message.event_id, message.addressed) == (said["id"], said["id"], True)


async def test_a_mention_in_a_guild_is_addressed_and_other_talk_is_not(
    discord: Discord, channel: DiscordChannel, inbox: Inbox
) -> None:
    room = discord.channel("general")
    async with listening(discord, channel, inbox):
        await room.say("just talk")
        await room.say(f"<@4242> see <#{room.id}> and <@8>")
        assert await inbox.texts(2) == ["just talk", "see #general and @Bob"]
    assert [message.addressed for message in inbox.messages] == [False, True]
    assert inbox.messages[1].address == address(room)


async def test_a_thread_is_a_place_of_its_own_with_an_opening(
    discord: Discord, channel: DiscordChannel, inbox: Inbox
) -> None:
    room = discord.channel("general")
    async with listening(discord, channel, inbox):
        first = await room.say("the plan", files=[Upload("plan.txt", b"1. go")])
        thread = await room.thread("plan", from_message=first)
        await thread.say("what of it?", by=BOB)
        await inbox.texts(2)
        message = inbox.messages[1]
        assert (message.address.chat, message.follows, message.thread_root) == (str(thread.id), True, first["id"])
        started = await channel.thread_root(message.address, first["id"])
    assert started is not None
    assert (started.sender, started.text, [file.name for file in started.files]) == (
        "Ann",
        "the plan",
        ["plan.txt"],
    )
    assert await channel.fetch(started.files[0]) == b"1. go"


PROXY = 466


@pytest.mark.parametrize("is_copied_first", [True, False])
async def test_a_deletion_by_a_proxy_that_posts_the_words_again_withdraws_nothing(
    discord: Discord, channel: DiscordChannel, inbox: Inbox, is_copied_first: bool
) -> None:
    room = discord.channel("general")
    async with listening(discord, channel, inbox):
        said = await room.say("Robin: <@4242>  look at this")
        if is_copied_first:
            await room.webhook("Robin", "<@4242> look at this", application=PROXY)
            await room.delete(said)
        else:
            await room.delete(said)
            await room.webhook("Robin", "<@4242> look at this", application=PROXY)
        other = await room.say("<@4242> another")
        await room.delete(other)
        await inbox.until(lambda: any(message.kind == "withdrawn" for message in inbox.messages))
    withdrawn = [message.message_id for message in inbox.messages if message.kind == "withdrawn"]
    assert withdrawn == [other["id"]]
    assert [message.sender.kind for message in inbox.messages] == ["person", "webhook", "person", "person"]


async def test_a_trusted_proxy_speaks_for_its_people(discord: Discord, shelf: Shelf, cursors: Shelfmark) -> None:
    room, inbox = discord.channel("general"), Inbox()
    channel = account(discord, shelf, cursors, proxies=[str(PROXY)])
    async with listening(discord, channel, inbox):
        said = await room.say("Robin: <@4242> look")
        copy = await room.webhook("Robin", "<@4242> look", application=PROXY)
        await room.delete(said)
        await inbox.texts(1)
        await room.edit(copy, "<@4242> look here")
        await inbox.texts(2)
        await channel.show_status(MessageStatus(address(room), 1, said["id"], "read"))
        [earlier] = await channel.talk(address(room), after=None, before=str(int(copy["id"]) + 1))
        assert earlier.author is not None
        assert (earlier.sender, earlier.author.id, earlier.author.kind) == ("Robin", "7", "person")
        await room.delete(copy)
        await inbox.texts(3)
    await channel.aclose()
    assert [(message.kind, message.message_id) for message in inbox.messages] == [
        ("new", said["id"]),
        ("edited", said["id"]),
        ("withdrawn", said["id"]),
    ]
    assert [message.sender.name for message in inbox.messages] == ["Ann", "Ann", "Ann"]
    assert inbox.messages[1].text == "look here"
    assert [(str(each.message_id), each.emoji) for each in room.reacted if each.added] == [(copy["id"], "👀")]


async def test_who_repeats_somebodys_words_through_a_trusted_proxy_does_not_speak_for_them(
    discord: Discord, shelf: Shelf, cursors: Shelfmark
) -> None:
    """A proxy deletes what it copies; this message stays."""
    room, inbox = discord.channel("general"), Inbox()
    channel = account(discord, shelf, cursors, proxies=[str(PROXY)])
    async with listening(discord, channel, inbox):
        said = await room.say("<@4242> please look")
        repeated = await room.webhook("Eve", "look", application=PROXY)
        await room.edit(repeated, "<@4242> delete everything")
        last = await room.say("<@4242> thanks")
        await inbox.until(lambda: any(message.message_id == last["id"] for message in inbox.messages))
        [_, earlier] = await channel.talk(address(room), after=None, before=last["id"])
        assert earlier.author is not None
        assert earlier.author.kind == "webhook"
    await channel.aclose()
    assert [message.text for message in inbox.messages if message.message_id == said["id"]] == ["please look"]
    assert {message.sender.kind for message in inbox.messages if "delete" in message.text} <= {"webhook"}


async def test_an_application_that_nobody_trusts_does_not_speak_for_people(
    discord: Discord, channel: DiscordChannel, inbox: Inbox
) -> None:
    room = discord.channel("general")
    async with listening(discord, channel, inbox):
        said = await room.say("<@4242> look")
        copy = await room.webhook("Ann", "<@4242> look", application=PROXY)
        await room.edit(copy, "<@4242> delete everything")
        await inbox.texts(3)
    assert [(message.kind, message.sender.kind) for message in inbox.messages] == [
        ("new", "person"),
        ("new", "webhook"),
        ("edited", "webhook"),
    ]
    assert inbox.messages[2].message_id != said["id"]


async def test_a_thread_that_nobody_told_of_is_asked_for(
    discord: Discord, channel: DiscordChannel, inbox: Inbox
) -> None:
    room = discord.channel("general")
    first = await room.say("old times")
    thread = await room.thread("old", from_message=first, archived=True)
    async with listening(discord, channel, inbox):
        await thread.say("one")
        await thread.say("two")
        assert await inbox.texts(2) == ["one", "two"]
        await room.delete(first)
        assert await channel.thread_root(address(thread), first["id"]) is None
    assert [(message.follows, message.thread_root) for message in inbox.messages[:2]] == [(True, first["id"])] * 2


async def test_an_opening_that_does_not_stand_above_the_thread_is_looked_for_in_it(
    discord: Discord, channel: DiscordChannel, inbox: Inbox
) -> None:
    room = discord.channel("general")
    first = await room.say("begin")
    thread = await room.thread("t", from_message=first)
    own = await thread.say("hi")
    ann = Sender("7", "Ann", "ann")
    assert await channel.thread_root(address(thread), own["id"]) == ThreadRoot("Ann", "hi", author=ann)


async def test_a_reply_carries_what_it_quotes(discord: Discord, channel: DiscordChannel, inbox: Inbox) -> None:
    room = discord.channel("general")
    async with listening(discord, channel, inbox):
        first = await room.say("tea or coffee?")
        await room.say("tea", reply_to=first, by=BOB)
        await channel.show(reply_in(room, text("I vote tea")), MemoryLedger())
        await room.say("why?", reply_to=room.messages[0], ping=False)
        await inbox.texts(3)
    assert [(message.note, message.addressed) for message in inbox.messages[1:]] == [
        ('In reply to Ann: "tea or coffee?"', False),
        ('In reply to your message: "I vote tea"', True),
    ]


async def test_edits_and_deletions_are_told_and_a_preview_is_an_update(
    discord: Discord, channel: DiscordChannel, inbox: Inbox
) -> None:
    ann = discord.direct()
    async with listening(discord, channel, inbox):
        said = await ann.say("see https://example.org")
        await ann.unfurl(said)
        await ann.edit(said, "see below")
        await ann.delete(said)
        await inbox.texts(4)
    assert [(message.kind, message.message_id, message.is_update) for message in inbox.messages] == [
        ("new", said["id"], False),
        ("edited", said["id"], True),
        ("edited", said["id"], False),
        ("withdrawn", said["id"], False),
    ]
    assert inbox.messages[2].text == "see below"
    assert inbox.messages[2].sender.name == "Ann"
    assert len({message.event_id for message in inbox.messages}) == 4


async def test_many_deleted_at_once_are_withdrawn_one_by_one(
    discord: Discord, channel: DiscordChannel, inbox: Inbox
) -> None:
    room = discord.channel("general")
    async with listening(discord, channel, inbox):
        said = [await room.say(str(number)) for number in range(3)]
        await room.delete_bulk(said)
        await inbox.texts(6)
    assert [message.message_id for message in inbox.messages[3:]] == [message["id"] for message in said]


async def test_its_own_messages_are_not_heard_nor_their_edits_and_deletions(
    discord: Discord, channel: DiscordChannel, inbox: Inbox
) -> None:
    room, ledger = discord.channel("general"), MemoryLedger()
    async with listening(discord, channel, inbox):
        await channel.show(reply_in(room, text("one", open=True), done=False), ledger)
        await channel.show(reply_in(room, text("one two")), ledger)
        await room.delete(room.messages[0])
        await room.say("three")
        assert await inbox.texts(1) == ["three"]


async def test_other_bots_and_webhooks_are_marked(discord: Discord, channel: DiscordChannel, inbox: Inbox) -> None:
    room = discord.channel("general")
    async with listening(discord, channel, inbox):
        await room.say("beep", by=Person(99, "Robot", bot=True))
        await room.webhook("Build", "it works")
        await inbox.texts(2)
    assert [(message.sender.name, message.sender.kind) for message in inbox.messages] == [
        ("Robot", "bot"),
        ("Build", "webhook"),
    ]


async def test_a_pressed_button_is_a_command_and_is_deferred(
    discord: Discord, channel: DiscordChannel, inbox: Inbox
) -> None:
    ann = discord.direct()
    question = QuestionSegment("q:4f0c_3_0", "Tea?", ("yes", "no"))
    async with listening(discord, channel, inbox):
        await channel.show(reply_in(ann, text("I think", open=True), done=False), MemoryLedger())
        await channel.show(reply_in(ann, question, done=False, id="run-2"), MemoryLedger())
        stop = await ann.press(ann.messages[0], "stop:run-1")
        chosen = await ann.press(ann.messages[1], "answer:q:4f0c_3_0:1")
        assert [await stop.until_answered(), await chosen.until_answered()] == [6, 6]
        await channel.show_status(MessageStatus(address(ann), 1, inbox.messages[0].message_id, "answered"))
        assert ann.reacted == []
    assert [(message.command, message.text) for message in inbox.messages] == [
        ("stop", "run-1"),
        ("answer", "q:4f0c_3_0 1"),
    ]
    assert [button.label for button in ann.messages[1].buttons] == ["yes", "no"]


async def test_a_question_is_a_box_that_shows_its_answer(discord: Discord, channel: DiscordChannel) -> None:
    ann, ledger = discord.direct(), MemoryLedger()
    question = QuestionSegment("q:1", "**Tea?**", ("yes", "no"))
    await channel.show(reply_in(ann, question, done=False), ledger)
    [shown] = ann.messages
    assert (shown.content, shown.words, len(shown.buttons)) == ("", "**Tea?**", 2)
    await channel.show(reply_in(ann, replace(question, open=False, answer="yes")), ledger)
    [shown] = ann.messages
    assert (shown.content, shown.words, shown.buttons) == ("", "**Tea?**\n-# → yes", [])
    [box] = shown.components
    assert box["type"] == 17


async def test_an_application_command_is_deferred_and_answered_in_its_place(
    discord: Discord, channel: DiscordChannel, inbox: Inbox
) -> None:
    room = discord.channel("general")
    async with listening(discord, channel, inbox):
        await discord.until(lambda discord: discord.commands)
        used = await room.command("busy", arguments="queue")
        assert await used.until_answered() == 5
        [message] = inbox.messages
        assert (message.kind, message.command, message.text) == ("command", "busy", "queue")
        await channel.show(reply_in(room, text("Done."), to=message.message_id), MemoryLedger())
        [shown] = room.messages
        assert (shown.content, shown.loading, shown.interaction) == ("Done.", False, used)


async def test_an_answer_that_comes_too_late_is_an_ordinary_message(
    discord: Discord, channel: DiscordChannel, inbox: Inbox
) -> None:
    room = discord.channel("general")
    async with listening(discord, channel, inbox):
        await discord.until(lambda discord: discord.commands)
        used = await room.command("stop")
        await used.until_answered()
        used.expire()
        await channel.show(reply_in(room, text("Stopped."), to=inbox.messages[0].message_id), MemoryLedger())
    assert [shown.content for shown in room.messages if not shown.loading] == ["Stopped."]


async def test_a_command_of_somebody_who_may_not_is_refused_to_them_alone(
    discord: Discord, channel: DiscordChannel, inbox: Inbox
) -> None:
    room, inbox.refusal = discord.channel("general"), "not on the allowlist"
    async with listening(discord, channel, inbox):
        await discord.until(lambda discord: discord.commands)
        used = await room.command("stop")
        assert await used.until_answered() == 4
    assert used.shown is not None
    assert used.shown.ephemeral


async def test_commands_are_registered_only_when_they_changed(
    discord: Discord, channel: DiscordChannel, inbox: Inbox
) -> None:
    for _ in range(2):
        asked = len(discord.called("GET /applications/*/commands"))
        async with listening(discord, channel, inbox):
            await discord.until(
                lambda discord, asked=asked: (
                    discord.commands and len(discord.called("GET /applications/*/commands")) > asked
                )
            )
    assert [(command["name"], len(command["options"])) for command in discord.commands] == [("stop", 0), ("busy", 1)]
    assert len(discord.called("PUT /applications/*/commands")) == 1


async def test_a_message_that_could_not_be_kept_is_tried_again(
    discord: Discord, channel: DiscordChannel, inbox: Inbox
) -> None:
    inbox.broken = 2
    ann = discord.direct()
    async with listening(discord, channel, inbox):
        await ann.say("one")
        assert await inbox.texts(1) == ["one"]
    assert channel.problem == ""


async def test_much_at_once_is_delivered_in_order(discord: Discord, channel: DiscordChannel, inbox: Inbox) -> None:
    ann = discord.direct()
    async with listening(discord, channel, inbox):
        for number in range(300):
            await ann.say(str(number))
        assert await inbox.texts(300) == [str(number) for number in range(300)]


async def test_what_cannot_be_kept_for_now_is_kept_in_order(
    discord: Discord, channel: DiscordChannel, inbox: Inbox
) -> None:
    inbox.broken = 1000
    ann = discord.direct()
    async with listening(discord, channel, inbox):
        for number in range(10):
            await ann.say(str(number))
        await inbox.until(lambda: inbox.failures > 1 and channel.problem != "")
        inbox.broken = 0
        assert await inbox.texts(10) == [str(number) for number in range(10)]


async def test_no_message_overtakes_one_that_cannot_be_kept_yet(
    discord: Discord, channel: DiscordChannel, inbox: Inbox
) -> None:
    """The first fails only once the second has arrived; another chat waits for neither."""
    ann, bob = discord.direct(), discord.direct(BOB)
    async with asyncio.TaskGroup() as tasks:
        listener = tasks.create_task(channel.listen(first_fails(inbox), COMMANDS))
        await discord.connected()
        await ann.say("one")
        await ann.say("two")
        await bob.say("elsewhere")
        assert await inbox.texts(3) == ["elsewhere", "one", "two"]
        listener.cancel()


async def test_more_than_can_be_kept_at_once_is_left_at_discord_and_read_later(
    discord: Discord, channel: DiscordChannel, inbox: Inbox
) -> None:
    ann, inbox.closed = discord.direct(), asyncio.Event()
    async with listening(discord, channel, inbox):
        for number in range(1300):
            await ann.say(str(number))
        await discord.until(lambda discord: discord.gateway.close_codes)
        inbox.closed.set()
        assert await inbox.texts(1300) == [str(number) for number in range(1300)]
    assert inbox.doubles == 0


async def test_a_malformed_event_is_skipped_and_its_neighbours_arrive(
    discord: Discord, channel: DiscordChannel, inbox: Inbox
) -> None:
    ann = discord.direct()
    async with listening(discord, channel, inbox):
        await ann.say("before")
        for event in ("MESSAGE_CREATE", "GUILD_CREATE", "INTERACTION_CREATE", "MESSAGE_DELETE_BULK", "THREAD_UPDATE"):
            discord.gateway.push_raw(event, {"id": "not a number", "channel_id": str(ann.id)})
            discord.gateway.push_raw(event, None)
        await ann.say("after")
        assert await inbox.texts(2) == ["before", "after"]
        assert channel.skipped >= 8
    assert len(discord.gateway.identifies) == 1


# --- connections -----------------------------------------------------------------------------------------------------


async def test_a_dropped_connection_is_resumed_and_nothing_is_lost(
    discord: Discord, channel: DiscordChannel, inbox: Inbox
) -> None:
    ann = discord.direct()
    async with listening(discord, channel, inbox):
        await ann.say("one")
        await inbox.texts(1)
        discord.gateway.drop()
        await ann.say("two")
        assert await inbox.texts(2) == ["one", "two"]
    assert (len(discord.gateway.identifies), len(discord.gateway.resumes)) == (1, 1)
    assert discord.gateway.close_codes[-1] == 4000


@pytest.mark.parametrize("how", ["op 7", "4000", "1000", "op 9 resumable"])
async def test_whatever_ends_the_connection_it_is_resumed(
    discord: Discord, channel: DiscordChannel, inbox: Inbox, how: str
) -> None:
    ann = discord.direct()
    async with listening(discord, channel, inbox):
        await ann.say("one")
        await inbox.texts(1)
        match how:
            case "op 7":
                discord.gateway.reconnect()
            case "op 9 resumable":
                discord.gateway.invalidate(resumable=True)
            case _:
                discord.gateway.close(int(how))
        await discord.until(lambda discord: discord.gateway.resumes)
        await ann.say("two")
        assert await inbox.texts(2) == ["one", "two"]


async def test_a_frame_that_cannot_be_read_costs_the_connection_only(
    discord: Discord, channel: DiscordChannel, inbox: Inbox
) -> None:
    ann = discord.direct()
    async with listening(discord, channel, inbox):
        for _ in range(2):
            resumed = len(discord.gateway.resumes)
            discord.gateway.connections[-1].send_text("{neither this nor that")
            await discord.until(lambda discord, before=resumed: len(discord.gateway.resumes) > before)
        await ann.say("still there?")
        assert await inbox.texts(1) == ["still there?"]


async def test_what_was_said_before_a_new_session_is_read_from_history(
    discord: Discord, channel: DiscordChannel, inbox: Inbox
) -> None:
    ann, room, other = discord.direct(), discord.channel("general"), discord.channel("other")
    async with listening(discord, channel, inbox):
        await ann.say("one")
        await room.say("uno")
        await inbox.texts(2)
        with discord.gateway.refuse():
            discord.gateway.forget()
            discord.gateway.drop()
            await ann.say("two")
            await room.say("dos")
            await other.say("ein")
            thread = await room.thread("t", from_message=await room.say("tres"))
            await thread.say("quatro")
        await inbox.texts(7)
        await ann.say("three")
        await inbox.texts(8)
    said = {chat: [m.text for m in inbox.messages if m.address.chat == str(chat.id)] for chat in (ann, room, other)}
    assert list(said.values()) == [["one", "two", "three"], ["uno", "dos", "tres"], ["ein"]]
    assert inbox.messages[-1].text == "three"
    assert {message.address.kind for message in inbox.messages if message.address.chat == str(room.id)} == {"group"}


async def test_an_invalid_session_is_begun_anew_and_what_was_missed_is_read(
    discord: Discord, channel: DiscordChannel, inbox: Inbox
) -> None:
    ann = discord.direct()
    async with listening(discord, channel, inbox):
        await ann.say("one")
        await inbox.texts(1)
        discord.gateway.invalidate()
        await ann.say("two")
        assert await inbox.texts(2) == ["one", "two"]
    assert len(discord.gateway.identifies) == 2


async def test_a_new_account_reads_nothing_old(discord: Discord, channel: DiscordChannel, inbox: Inbox) -> None:
    room = discord.channel("general")
    await room.say("long ago")
    async with listening(discord, channel, inbox):
        await room.say("now")
        assert await inbox.texts(1) == ["now"]
    assert discord.called("GET /channels/*/messages") == []


async def test_a_restart_reads_what_was_missed_and_writes_its_cursors_together(
    discord: Discord, shelf: Shelf, cursors: Shelfmark, inbox: Inbox
) -> None:
    ann, room = discord.direct(), discord.channel("general")
    first = account(discord, shelf, cursors)
    async with listening(discord, first, inbox):
        for number in range(50):
            await ann.say(str(number))
        await room.say("talk")
        await inbox.texts(51)
    await first.aclose()
    assert cursors.writes <= 4
    for number in range(50, 170):
        await ann.say(str(number))
    await room.say("more talk")
    new = await discord.channel("general").thread("new")
    await new.say("in a thread made meanwhile")
    second = account(discord, shelf, cursors)
    async with listening(discord, second, inbox):
        await inbox.until(lambda: len(inbox.messages) >= 173)
    await second.aclose()
    in_direct = [message.text for message in inbox.messages if message.address == address(ann)]
    assert in_direct == [str(number) for number in range(170)]
    in_room = [message.text for message in inbox.messages if message.address == address(room)]
    assert in_room == ["talk", "more talk"]
    assert inbox.doubles == 0


async def test_a_message_delivered_twice_has_one_event(discord: Discord, channel: DiscordChannel, inbox: Inbox) -> None:
    ann = discord.direct()
    async with listening(discord, channel, inbox):
        await ann.repeat(await ann.say("one"))
        await ann.say("two")
        assert await inbox.texts(2) == ["one", "two"]
    assert inbox.doubles == 1


async def test_a_discord_that_is_down_at_first_is_waited_for(
    discord: Discord, channel: DiscordChannel, inbox: Inbox
) -> None:
    discord.fail_next("GET /users/@me", 503, times=2)
    with discord.gateway.refuse():
        async with asyncio.TaskGroup() as tasks:
            listener = tasks.create_task(channel.listen(inbox.deliver, COMMANDS))
            await discord.until(lambda discord: len(discord.called("GET /users/@me")) == 3)
            assert channel.problem
            listener.cancel()
    async with listening(discord, channel, inbox):
        await discord.direct().say("hi")
        await inbox.texts(1)
        assert channel.problem == ""


async def test_a_gateway_that_is_down_at_first_is_waited_for(
    discord: Discord, channel: DiscordChannel, inbox: Inbox
) -> None:
    ann = discord.direct()
    async with asyncio.TaskGroup() as tasks:
        with discord.gateway.refuse(0.8):
            listener = tasks.create_task(channel.listen(inbox.deliver, COMMANDS))
            await discord.until(lambda discord: not discord.gateway.outage)
        await discord.connected()
        await ann.say("hi")
        assert await inbox.texts(1) == ["hi"]
        listener.cancel()


async def test_a_wrong_token_is_rejected_with_words(
    discord: Discord, shelf: Shelf, cursors: Shelfmark, inbox: Inbox
) -> None:
    channel = account(discord, shelf, cursors, token="wrong")
    with pytest.raises(ChannelRejected, match=r"channels\.discord\.token"):
        await channel.listen(inbox.deliver, COMMANDS)
    await channel.aclose()
    with pytest.raises(ChannelRejected, match="Developer Portal"):
        account(discord, shelf, cursors, token="")


@pytest.mark.parametrize(("code", "words"), [(4014, "Message Content"), (4004, "token"), (4012, "4012")])
async def test_a_connection_closed_for_good_is_rejected_with_words(
    discord: Discord, channel: DiscordChannel, inbox: Inbox, code: int, words: str
) -> None:
    discord.gateway.refuse_identify(code)
    with pytest.raises(ChannelRejected, match=words):
        await channel.listen(inbox.deliver, COMMANDS)


async def test_two_accounts_do_not_mix_their_servers(
    discord: Discord, channel: DiscordChannel, shelf: Shelf, inbox: Inbox
) -> None:
    async with Discord(token="other") as other:
        second, other_inbox = account(other, shelf, Shelfmark(), token="other"), Inbox()
        async with listening(discord, channel, inbox), listening(other, second, other_inbox):
            await discord.direct().say("here")
            await other.direct().say("there")
            assert await inbox.texts(1) + await other_inbox.texts(1) == ["here", "there"]
            discord.gateway.invalidate()
            other.gateway.invalidate()
            await discord.direct().say("here again")
            await other.direct().say("there again")
            assert (await inbox.texts(2))[1:] + (await other_inbox.texts(2))[1:] == ["here again", "there again"]
        await second.aclose()


# --- files -----------------------------------------------------------------------------------------------------------


async def test_a_persons_files_are_fetched(discord: Discord, channel: DiscordChannel, inbox: Inbox) -> None:
    ann = discord.direct()
    async with listening(discord, channel, inbox):
        await ann.say("read these", files=[Upload("notes.txt", b"some bytes"), Upload("a.png", png())])
        await ann.voice(b"OggS")
        await inbox.texts(2)
    notes, picture = inbox.messages[0].files
    assert (notes.name, notes.media_type, notes.size) == ("notes.txt", "text/plain", 10)
    assert [await channel.fetch(notes), await channel.fetch(picture)] == [b"some bytes", png()]
    [voice] = inbox.messages[1].files
    assert (voice.name, voice.media_type) == ("voice-message.ogg", "audio/ogg")
    discord.expire_links()
    with pytest.raises(FileUnavailable, match=r"expired"):
        await channel.fetch(notes)
    with pytest.raises(FileUnavailable, match="50 MB"):
        await channel.fetch(FileRef("https://example.org", "film.mp4", size=1 << 40))


async def test_a_file_is_unreachable_while_the_network_is_down(discord: Discord, channel: DiscordChannel) -> None:
    with discord.refuse(), pytest.raises(Unreachable):
        await channel.fetch(FileRef(f"{discord.url}/attachments/1/2/x", "x"))


# --- outbound --------------------------------------------------------------------------------------------------------


async def test_a_reply_grows_in_one_message(discord: Discord, channel: DiscordChannel) -> None:
    ann, ledger = discord.direct(), MemoryLedger()
    call = CallSegment("c1", "shell", "shell: ls", "running")
    await channel.show(reply_in(ann, call, status="shell: ls", done=False), ledger)
    assert ann.texts == ["-# ⏳ shell: ls"]
    await channel.show(reply_in(ann, text("There are **two**", open=True), done=False), ledger)
    assert [(button.label, button.style) for button in ann.messages[0].buttons] == [("Stop", 4)]
    for _ in range(2):
        await channel.show(reply_in(ann, text("There are **two** files.")), ledger)
    [shown] = ann.messages
    assert (shown.content, shown.buttons, len(shown.edits)) == ("There are **two** files.", [], 2)
    assert shown.allowed_mentions == {"parse": [], "replied_user": False}


async def test_a_reply_answers_its_message_in_groups_even_when_that_is_gone(
    discord: Discord, channel: DiscordChannel
) -> None:
    room = discord.channel("general")
    said = await room.say("hi")
    await channel.show(reply_in(room, text("x " * 1500), to=said["id"]), MemoryLedger())
    assert [shown.reply_to for shown in room.messages] == [int(said["id"]), None]
    assert all(shown.pings == frozenset() for shown in room.messages)
    await room.delete(said)
    await channel.show(reply_in(room, text("late"), to=said["id"], id="run-2"), MemoryLedger())
    assert room.messages[-1].reply_to is None


async def test_a_long_reply_is_several_messages_and_code_is_fenced_in_each(
    discord: Discord, channel: DiscordChannel
) -> None:
    ann = discord.direct()
    code = "```py\n" + "\n".join(f"line = {n}" for n in range(400)) + "\n```"
    await channel.show(reply_in(ann, text(f"Look:\n\n{code}\n\nThat is all.")), MemoryLedger())
    assert len(ann.texts) > 2
    fenced = [content for content in ann.texts if "```" in content]
    assert all(content.count("```py\n") == 1 and content.count("```") == 2 for content in fenced)
    assert discord.refusals == []


async def test_a_message_deleted_by_somebody_is_sent_anew(discord: Discord, channel: DiscordChannel) -> None:
    ann, ledger = discord.direct(), MemoryLedger()
    await channel.show(reply_in(ann, text("one", open=True), done=False), ledger)
    await ann.delete(ann.messages[0])
    await channel.show(reply_in(ann, text("one two")), ledger)
    assert ann.texts == ["one two"]


async def test_statuses_come_and_go_without_being_taken_for_one_another(
    discord: Discord, channel: DiscordChannel
) -> None:
    ann, ledger = discord.direct(), MemoryLedger()
    missing = MediaSegment("m1", await Shelf().put(png(), "a.png"))
    for status in ("one", "", "two", "", "three", "", "four"):
        await channel.show(reply_in(ann, status=status, done=False), ledger)
        assert ann.texts == ([f"-# ⏳ {status}"] if status else [])
    await channel.show(reply_in(ann, text("Text."), missing, status="five", done=False), ledger)
    excuse = "📎 a.png could not be sent: the bytes of a.png are no longer in the media store"
    assert ann.texts == ["Text.", excuse, "-# ⏳ five"]


async def test_pictures_stand_between_the_paragraphs_with_their_alt_text(
    discord: Discord, channel: DiscordChannel, shelf: Shelf
) -> None:
    ann, ledger = discord.direct(), MemoryLedger()
    red, blue = await shelf.put(png(color="red"), "red.png"), await shelf.put(png(color="blue"), "blue.png")
    segments = (
        text("Before"),
        MediaSegment("m1", red, "a **red** one"),
        MediaSegment("m2", blue),
        TextSegment("t2", "After"),
    )
    await channel.show(reply_in(ann, *segments), ledger)
    before, pictures, after = ann.messages
    assert (before.content, pictures.content, after.content) == ("Before", "a **red** one", "After")
    assert [(file.name, file.data, file.description) for file in pictures.files] == [
        ("red.png", png(color="red"), "a red one"),
        ("blue.png", png(color="blue"), "blue.png"),
    ]
    calls = len(discord.calls)
    await channel.show(reply_in(ann, *segments), ledger)
    assert len(discord.calls) == calls


async def test_a_file_that_discord_does_not_take_is_explained(
    discord: Discord, channel: DiscordChannel, shelf: Shelf
) -> None:
    ann = discord.direct()
    large = await shelf.put(bytes(11 * 1024 * 1024), "film.mp4")
    small = await shelf.put(b"x", "notes.txt")
    discord.fail_next(POST, 413, code=40005)
    segments = (MediaSegment("m1", small, "my notes"), MediaSegment("m2", large))
    await channel.show(reply_in(ann, *segments), MemoryLedger())
    assert ann.texts == [
        "my notes\n\n📎 notes.txt could not be sent: Discord rejects it: Request entity too large",
        "📎 film.mp4 could not be sent: it is larger than the 10 MB that Discord accepts",
    ]


async def test_pictures_refused_together_are_sent_one_by_one(
    discord: Discord, channel: DiscordChannel, shelf: Shelf
) -> None:
    ann = discord.direct()
    pictures = [MediaSegment(f"m{n}", await shelf.put(png(8 + n), f"{n}.png")) for n in range(2)]
    discord.fail_next(POST, 400, code=50035)
    await channel.show(reply_in(ann, *pictures), MemoryLedger())
    assert [[file.name for file in shown.files] for shown in ann.messages] == [["0.png"], ["1.png"]]


async def test_a_lost_answer_to_a_message_shows_it_once_and_as_it_is_now(
    discord: Discord, channel: DiscordChannel
) -> None:
    ann, ledger = discord.direct(), MemoryLedger()
    discord.drop_answer(POST)
    with pytest.raises(OutcomeUnknown):
        await channel.show(reply_in(ann, text("one", open=True), done=False), ledger)
    await channel.show(reply_in(ann, text("one two")), ledger)
    assert ann.texts == ["one two"]


async def test_a_lost_answer_to_files_shows_them_once(discord: Discord, channel: DiscordChannel, shelf: Shelf) -> None:
    ann, ledger = discord.direct(), MemoryLedger()
    pictures = [MediaSegment(f"m{n}", await shelf.put(png(8 + n), f"{n}.png")) for n in range(3)]
    discord.drop_answer(POST)
    with pytest.raises(OutcomeUnknown):
        await channel.show(reply_in(ann, *pictures), ledger)
    await channel.show(reply_in(ann, *pictures), ledger)
    assert [len(shown.files) for shown in ann.messages] == [3]


@pytest.mark.parametrize("route", [POST, "PATCH /channels/*/messages/*"])
async def test_patience_is_asked_of_the_caller_and_not_slept_through(
    discord: Discord, channel: DiscordChannel, route: str
) -> None:
    ann, ledger = discord.direct(), MemoryLedger()
    await channel.show(reply_in(ann, text("one", open=True), done=False), ledger)
    discord.fail_next(route, 429, retry_after=30.0)
    new = [TextSegment("t2", "two", new_message=True)] if route == POST else [text("one two")]
    with pytest.raises(RetryLater) as raised:
        await channel.show(reply_in(ann, *new, done=False), ledger)
    assert raised.value.after == 30.0
    calls = len(discord.calls)
    with pytest.raises(RetryLater):
        await channel.show(reply_in(ann, *new, done=False), ledger)
    assert len(discord.calls) == calls


async def test_announced_budgets_are_kept_without_asking(discord: Discord, channel: DiscordChannel) -> None:
    ann = discord.direct()
    discord.limit(POST, 2, 60.0)
    await channel.show(reply_in(ann, text("x " * 1500)), MemoryLedger())
    with pytest.raises(RetryLater):
        await channel.show(reply_in(ann, text("more"), id="run-2"), MemoryLedger())
    assert discord.refusals == []
    await channel.show(reply_in(discord.direct(BOB), text("hello")), MemoryLedger())
    assert discord.direct(BOB).texts == ["hello"]


@pytest.mark.parametrize(("status", "error"), [(500, OutcomeUnknown), (503, OutcomeUnknown), (401, Unreachable)])
async def test_errors_of_discords_are_told_at_once(
    discord: Discord, channel: DiscordChannel, status: int, error: type[Exception]
) -> None:
    ann, ledger = discord.direct(), MemoryLedger()
    discord.fail_next(POST, status)
    with pytest.raises(error):
        await channel.show(reply_in(ann, text("one")), ledger)
    await channel.show(reply_in(ann, text("one")), ledger)
    assert ann.texts == ["one"]


async def test_a_place_that_is_closed_to_the_bot_is_undeliverable(discord: Discord, channel: DiscordChannel) -> None:
    ann = discord.direct()
    ann.block()
    with pytest.raises(Undeliverable):
        await channel.show(reply_in(ann, text("one")), MemoryLedger())
    gone = Reply("run-9", Address("discord", "4242", "12345"), None, (text("one"),), done=True)
    with pytest.raises(Undeliverable):
        await channel.show(gone, MemoryLedger())


async def test_an_unreachable_discord_is_said_to_be_so(discord: Discord, channel: DiscordChannel) -> None:
    ann, ledger = discord.direct(), MemoryLedger()
    await discord.stop()
    with pytest.raises(Unreachable):
        await channel.show(reply_in(ann, text("one")), ledger)
    await discord.start()
    await channel.show(reply_in(ann, text("one")), ledger)
    assert ann.texts == ["one"]


async def test_the_state_of_a_message_is_one_reaction_that_changes(discord: Discord, channel: DiscordChannel) -> None:
    room = discord.channel("general")
    said = await room.say("hi")
    states: list[Any] = [None, "waiting", "read", "answered"]
    for before, state in pairwise(states):
        await channel.show_status(MessageStatus(address(room), 1, said["id"], state, before=before))
        assert len(room.reactions_on(said)) == 1
    assert room.reactions_on(said) == ["✅"]
    await channel.show_status(MessageStatus(address(room), 1, said["id"], "withdrawn", before="answered"))
    assert room.reactions_on(said) == []


async def test_reactions_can_be_turned_off_and_their_failures_are_quiet(
    discord: Discord, channel: DiscordChannel, shelf: Shelf
) -> None:
    room = discord.channel("general")
    await channel.show_status(MessageStatus(address(room), 1, "12345", "read"))
    quiet = account(discord, shelf, Shelfmark(), reactions=False)
    await quiet.show_status(MessageStatus(address(room), 1, (await room.say("hi"))["id"], "read"))
    await quiet.aclose()
    assert room.reacted == []


async def test_typing_is_shown_and_its_failure_is_nobodys_trouble(discord: Discord, channel: DiscordChannel) -> None:
    ann = discord.direct()
    await channel.typing(address(ann))
    assert len(ann.typing) == 1
    discord.fail_next("POST /channels/*/typing", 500)
    await channel.typing(address(ann))
    assert channel.pace(address(ann)) >= 1.0


async def test_a_decision_whose_words_are_refused_is_shown_in_simpler_ones_in_the_same_box(
    discord: Discord, channel: DiscordChannel
) -> None:
    ann, ledger = discord.direct(), MemoryLedger()
    asked = QuestionSegment("d:1_0", "**May I?**", ("Allow", "Deny"))
    decided = replace(asked, open=False, answer="Allowed by Ann", decision="allowed")
    await channel.show(replace(reply_in(ann, asked, done=False), parked=True), ledger)
    discord.fail_next("PATCH /channels/*/messages/*", 400, code=50035)
    await channel.show(reply_in(ann, decided), ledger)
    [shown] = ann.messages
    assert "Allowed by Ann" in shown.words
    assert shown.buttons == []
