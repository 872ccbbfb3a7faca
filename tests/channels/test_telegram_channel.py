"""The Telegram channel over real sockets, against a local Bot API server."""

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from PIL import Image

from agent.media import Attachment, MediaMissing
from channels.address import Address
from channels.channel import (
    ChannelRejected,
    ChatMoved,
    CommandHelp,
    FileUnavailable,
    OutcomeUnknown,
    RetryLater,
    Undeliverable,
    Unreachable,
)
from channels.message import FileRef, InboundMessage, MessageState, MessageStatus, Receipt
from channels.reply import CallSegment, MediaSegment, QuestionSegment, Reply, Segment, TextSegment
from channels.telegram.channel import TelegramChannel
from tests.channels.test_sync import MemoryLedger
from tests.servers.telegram import BotApi, Chat

COMMANDS = (CommandHelp("stop", "stop what is running"), CommandHelp("new", "start afresh"))


class Shelf:
    """A media store in memory."""

    def __init__(self) -> None:
        self.bytes: dict[str, bytes] = {}

    async def put(self, data: bytes, name: str) -> Attachment:
        hash = hashlib.sha256(data).hexdigest()
        self.bytes[hash] = data
        if not data.startswith(b"\x89PNG"):
            return Attachment(hash, name, "application/octet-stream", len(data))
        with Image.open(io.BytesIO(data)) as image:
            return Attachment(hash, name, "image/png", len(data), image.width, image.height)

    async def read(self, attachment: Attachment) -> bytes:
        if attachment.hash not in self.bytes:
            raise MediaMissing(attachment)
        return self.bytes[attachment.hash]


@dataclass
class Inbox:
    """Takes what a channel delivers; `broken` is how often it cannot, `refused` why nothing of it may be read."""

    messages: list[InboundMessage] = field(default_factory=list)
    broken: int = 0
    refused: str | None = None
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def deliver(self, message: InboundMessage) -> Receipt | None:
        async with self.arrived:
            self.arrived.notify_all()
            if self.broken:
                self.broken -= 1
                raise OSError("the disk is full")
            self.messages.append(message)
        return Receipt(len(self.messages), refused=self.refused)

    async def texts(self, count: int) -> list[str]:
        await self.until(lambda: len(self.messages) >= count)
        return [message.text for message in self.messages]

    async def until(self, predicate: Callable[[], bool]) -> None:
        async with asyncio.timeout(60), self.arrived:
            await self.arrived.wait_for(predicate)


@asynccontextmanager
async def listening(channel: TelegramChannel, inbox: Inbox) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        listener = tasks.create_task(channel.listen(inbox.deliver, COMMANDS))
        yield
        listener.cancel()


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
async def channel(api: BotApi, shelf: Shelf) -> AsyncIterator[TelegramChannel]:
    channel = TelegramChannel("telegram", api.token, api.url, shelf)
    yield channel
    await channel.aclose()


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


def png(width: int = 8, height: int = 6, color: str = "teal") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), color).save(out, "PNG")
    return out.getvalue()


def reply_in(
    chat: Chat,
    *segments: Segment,
    to: int | None = None,
    thread: int | None = None,
    status: str = "",
    done: bool = True,
    parked: bool = False,
) -> Reply:
    kind = "direct" if chat.card["type"] == "private" else "group"
    place = Address("telegram", "123456", str(chat.id), str(thread) if thread else None, kind)  # type: ignore[arg-type]
    return Reply("run-1", place, str(to) if to else None, segments, status, done, parked)


COLOURS = QuestionSegment("q:1_0", "Which **colour**?", ("red", "blue"))
MENTION = {"type": "mention", "offset": 0, "length": 19}


def text(markdown: str, *, open: bool = False) -> TextSegment:
    return TextSegment("t1", markdown, open=open)


# --- inbound ---------------------------------------------------------------------------------------------------------


async def test_what_people_say_is_delivered_and_then_confirmed(
    api: BotApi, channel: TelegramChannel, inbox: Inbox
) -> None:
    ann = api.private()
    await ann.say("while you were away")
    async with listening(channel, inbox):
        assert await inbox.texts(1) == ["while you were away"]
        last = await ann.say("hello")
        assert await inbox.texts(2) == ["while you were away", "hello"]
        await api.until(lambda api: api.polls >= 3)
    assert api.updates.queue == []
    assert inbox.messages[1].message_id == str(last["message_id"])


async def test_the_first_thing_asked_of_telegram_is_updates(
    api: BotApi, channel: TelegramChannel, inbox: Inbox
) -> None:
    with api.hold("getMe"):
        await api.private().say("hi")
        async with listening(channel, inbox):
            assert await inbox.texts(1) == ["hi"]


async def test_group_talk_waits_until_the_bots_name_is_known(
    api: BotApi, channel: TelegramChannel, inbox: Inbox
) -> None:
    await api.group().say("@interject_test_bot look")
    await api.private().say("hi")
    with api.hold("getMe") as hold:
        async with listening(channel, inbox):
            assert await inbox.texts(1) == ["hi"]
            hold.release()
            assert await inbox.texts(2) == ["hi", "look"]
    assert inbox.messages[1].addressed


async def test_a_message_that_could_not_be_kept_is_not_confirmed_and_comes_again(
    api: BotApi, channel: TelegramChannel, inbox: Inbox
) -> None:
    inbox.broken = 2
    ann = api.private()
    await ann.say("one")
    await ann.say("two")
    async with listening(channel, inbox):
        assert await inbox.texts(2) == ["one", "two"]


async def test_a_poison_update_is_skipped_and_its_neighbours_arrive(
    api: BotApi, channel: TelegramChannel, inbox: Inbox
) -> None:
    ann = api.private()
    await ann.say("before")
    await ann.push_raw({"message": {"text": "no chat, no date"}})
    await ann.push_raw({"message": "not a message"})
    await ann.push_raw({"message": {"chat": 5}})
    await ann.push_raw({"edited_message": {"message_id": 5, "chat": ann.card, "date": "yesterday"}})
    await ann.push_raw({"callback_query": {"id": "1", "data": 5, "message": {"message_id": 5, "chat": ann.card}}})
    await ann.push_raw({"something_new": {"of": "next year"}})
    await ann.say("after")
    async with listening(channel, inbox):
        assert await inbox.texts(2) == ["before", "after"]
        await api.until(lambda api: not api.updates.queue)
    assert channel.skipped == 5


async def test_a_batch_is_delivered_in_order(api: BotApi, channel: TelegramChannel, inbox: Inbox) -> None:
    ann = api.private()
    for number in range(150):
        await ann.say(str(number))
    async with listening(channel, inbox):
        assert await inbox.texts(150) == [str(number) for number in range(150)]


async def test_commands_are_listed_for_people(api: BotApi, channel: TelegramChannel, inbox: Inbox) -> None:
    async with listening(channel, inbox):
        await api.until(lambda api: api.commands)
    assert [command["command"] for command in api.commands[""]] == ["stop", "new"]


@pytest.mark.parametrize(("busy", "calls"), [("getMe", 2), ("setMyCommands", 3)])
async def test_the_newest_menu_stays_whatever_the_channel_does_when_it_comes(
    api: BotApi, channel: TelegramChannel, inbox: Inbox, busy: str, calls: int
) -> None:
    newer = (*COMMANDS, CommandHelp("review", "looks at something"))
    with api.hold(busy) as hold:
        async with listening(channel, inbox):
            await hold.until_arrived()
            showing = asyncio.create_task(channel.show_commands(newer))
            if busy == "getMe":
                await showing
            hold.release()
            await showing
            await api.until(lambda api: len(api.called("setMyCommands")) >= calls)
            assert "review" in str(api.called("setMyCommands")[-1].params)


async def test_a_wrong_token_is_rejected_with_words(api: BotApi, inbox: Inbox, shelf: Shelf) -> None:
    channel = TelegramChannel("telegram", "123456:wrong", api.url, shelf)
    with pytest.raises(ChannelRejected, match=r"channels\.telegram\.token"):
        await channel.listen(inbox.deliver, COMMANDS)
    await channel.aclose()


@pytest.mark.parametrize("token", ["", "654321", "654321:a b", "654321:abc\n", "https://t.me/x", "${TOKEN}"])
def test_what_can_be_no_token_is_rejected_with_words_that_do_not_repeat_it(token: str, shelf: Shelf) -> None:
    with pytest.raises(ChannelRejected, match="BotFather") as caught:
        TelegramChannel("telegram", token, "http://127.0.0.1", shelf)
    assert not token or token not in str(caught.value)


async def test_a_token_that_is_revoked_ends_hearing_and_gives_nothing_up(
    api: BotApi, channel: TelegramChannel, inbox: Inbox
) -> None:
    ann, ledger = api.private(), MemoryLedger()
    api.fail_next("sendMessage", 401)
    with pytest.raises(Unreachable, match="token"):
        await channel.show(reply_in(ann, text("hello")), ledger)
    assert ledger.pieces() == ()
    await ann.say("hi")
    async with asyncio.TaskGroup() as tasks:
        listener = tasks.create_task(_rejected(channel, inbox))
        await inbox.texts(1)
        api.fail_next("getUpdates", 401)
        await ann.say("still there?")
    assert "BotFather" in listener.result()


async def _rejected(channel: TelegramChannel, inbox: Inbox) -> str:
    with pytest.raises(ChannelRejected) as caught:
        async with asyncio.timeout(60):
            await channel.listen(inbox.deliver, COMMANDS)
    return str(caught.value)


async def test_an_active_webhook_is_deleted_and_nothing_waiting_is_dropped(
    api: BotApi, channel: TelegramChannel, inbox: Inbox
) -> None:
    await api.private().say("hi")
    api.webhook = "https://example.org/hook"
    async with listening(channel, inbox):
        assert await inbox.texts(1) == ["hi"]
    assert api.webhook == ""


async def test_another_poller_a_broken_server_and_network_loss_are_survived(
    api: BotApi, channel: TelegramChannel, inbox: Inbox, caplog: pytest.LogCaptureFixture
) -> None:
    ann = api.private()
    api.fail_next("getUpdates", 409, times=2)
    api.fail_next("getUpdates", 502)
    api.fail_next("getMe", 500)
    await ann.say("one")
    async with listening(channel, inbox):
        await inbox.texts(1)
        with api.refuse():
            await ann.say("two")
        assert await inbox.texts(2) == ["one", "two"]
    assert "another program polls" in caplog.text


async def test_updates_asked_too_often_wait_as_told(api: BotApi, channel: TelegramChannel, inbox: Inbox) -> None:
    api.fail_next("getUpdates", 429, retry_after=1)
    await api.private().say("hi")
    async with listening(channel, inbox):
        assert await inbox.texts(1) == ["hi"]
    first, second = api.called("getUpdates")[:2]
    assert second.at - first.at >= 1


async def test_a_pressed_stop_button_is_a_command_and_is_answered(
    api: BotApi, channel: TelegramChannel, inbox: Inbox
) -> None:
    ann = api.private()
    await channel.show(reply_in(ann, text("I think", open=True), done=False), MemoryLedger())
    query = await ann.press(ann.messages[0], "stop:run-1")
    async with listening(channel, inbox):
        await api.until(lambda api: query["id"] in api.answers)
    assert (inbox.messages[0].command, inbox.messages[0].text) == ("stop", "run-1")


async def test_whoever_may_not_press_a_button_is_told_why(api: BotApi, channel: TelegramChannel, inbox: Inbox) -> None:
    group, inbox.refused = api.group(), "not on the allowlist"
    await channel.show(reply_in(group, text("I think", open=True), done=False), MemoryLedger())
    query = await group.press(group.messages[0], "stop:run-1", sender=group.people[1])
    async with listening(channel, inbox):
        await api.until(lambda api: query["id"] in api.answers)
    assert api.answers[query["id"]].text("text") == "not on the allowlist"


async def test_a_button_of_a_message_that_is_gone_works_once_for_each_press(
    api: BotApi, channel: TelegramChannel, inbox: Inbox
) -> None:
    ann = api.private()
    await channel.show(reply_in(ann, COLOURS, done=False, parked=True), MemoryLedger())
    shown = ann.messages[0]
    await ann.delete(shown)
    queries = [await ann.press(shown, "answer:q:1_0:0", stale=True) for _ in range(2)]
    async with listening(channel, inbox):
        await api.until(lambda api: all(query["id"] in api.answers for query in queries))
    assert [message.command for message in inbox.messages] == ["answer", "answer"]
    assert len({message.event_id for message in inbox.messages}) == 2


async def test_an_edited_caption_names_its_album(api: BotApi, channel: TelegramChannel, inbox: Inbox) -> None:
    ann = api.private()
    _, second = await ann.send_album([png(5), png(6)], "two pictures")
    await ann.edit(second, "the second one")
    async with listening(channel, inbox):
        assert await inbox.texts(3) == ["two pictures", "", "the second one"]
    edited = inbox.messages[2]
    assert (edited.kind, edited.message_id) == ("edited", str(second["message_id"]))
    assert edited.album == inbox.messages[0].album == second["media_group_id"]


async def test_another_bot_is_heard_as_one(api: BotApi, channel: TelegramChannel, inbox: Inbox) -> None:
    group = api.group()
    other = {"id": 55, "is_bot": True, "first_name": "Other", "username": "other_bot"}
    await group.send(text="@interject_test_bot hi", **{"from": other}, entities=[MENTION])
    await group.send(text="my own words", **{"from": api.me})
    await group.say("@interject_test_bot and me")
    async with listening(channel, inbox):
        assert await inbox.texts(2) == ["hi", "and me"]
    assert [message.sender.kind for message in inbox.messages] == ["bot", "person"]


async def test_cancelling_ends_at_once_and_hearing_goes_on_later(
    api: BotApi, channel: TelegramChannel, inbox: Inbox
) -> None:
    ann = api.private()
    for number in range(2):
        polls = api.polls
        async with asyncio.timeout(60), listening(channel, inbox):
            await api.until(lambda api, polls=polls: api.polls > polls)
        await ann.say(str(number))
    async with listening(channel, inbox):
        assert await inbox.texts(2) == ["0", "1"]


# --- files -----------------------------------------------------------------------------------------------------------


async def test_a_persons_file_is_fetched(api: BotApi, channel: TelegramChannel, inbox: Inbox) -> None:
    ann = api.private()
    await ann.send_document(b"some bytes", "read this", name="notes.txt", mime="text/plain")
    await ann.send_photo(png())
    async with listening(channel, inbox):
        await inbox.texts(2)
    document, photo = (message.files[0] for message in inbox.messages)
    assert (document.name, document.media_type, document.size) == ("notes.txt", "text/plain", 10)
    assert await channel.fetch(document) == b"some bytes"
    assert await channel.fetch(photo) == png()


async def test_an_unavailable_file_is_refused_with_the_reason(
    api: BotApi, channel: TelegramChannel, inbox: Inbox
) -> None:
    ann = api.private()
    await ann.send_document(bytes(21 * 1024 * 1024), name="film.mp4")
    await ann.send_photo(png())
    async with listening(channel, inbox):
        await inbox.texts(2)
    with pytest.raises(FileUnavailable, match=r"20 MB"):
        await channel.fetch(inbox.messages[0].files[0])
    with pytest.raises(FileUnavailable, match="file_id"):
        await channel.fetch(FileRef("nonsense", "x"))
    api.fail_next("file", 404)
    with pytest.raises(FileUnavailable, match="no longer on Telegram"):
        await channel.fetch(inbox.messages[1].files[0])


async def test_a_file_is_unreachable_while_the_network_is_down(api: BotApi, channel: TelegramChannel) -> None:
    with api.refuse(), pytest.raises(Unreachable):
        await channel.fetch(FileRef("any", "x"))


# --- outbound --------------------------------------------------------------------------------------------------------


async def test_a_reply_grows_in_one_message(api: BotApi, channel: TelegramChannel) -> None:
    ann, ledger = api.private(), MemoryLedger()
    call = CallSegment("c1", "shell", "shell: ls", "running")
    await channel.show(reply_in(ann, call, status="shell: ls", done=False), ledger)
    assert ann.texts == ["⏳ shell: ls"]
    await channel.show(reply_in(ann, text("There are **two**", open=True), done=False), ledger)
    assert [button["text"] for button in ann.messages[0].buttons] == ["Stop"]
    for _ in range(2):
        await channel.show(reply_in(ann, text("There are **two** files.")), ledger)
    [shown] = ann.messages
    assert (shown.html, shown.buttons) == ("There are <b>two</b> files.", [])
    assert [call.method for call in api.calls] == ["sendMessage", "editMessageText", "editMessageText"]


async def test_a_task_of_twelve_steps_is_one_message_that_grows(api: BotApi, channel: TelegramChannel) -> None:
    ann, ledger, segments = api.private(), MemoryLedger(), list[Segment]()
    for number in range(12):
        call = CallSegment(f"c{number}", "shell", f"shell: step {number}", "running")
        segments.append(TextSegment(f"t{number}", f"I take step {number}."))
        await channel.show(reply_in(ann, *segments, done=False), ledger)
        await channel.show(reply_in(ann, *segments, call, status=call.title, done=False), ledger)
        assert ann.texts[0].endswith(f"I take step {number}.\n\n⏳ shell: step {number}")
        segments.append(replace(call, state="done"))
    await channel.show(reply_in(ann, *segments, TextSegment("t12", "Done.")), ledger)
    [shown] = ann.messages
    assert shown.text == "\n\n".join([*(f"I take step {number}." for number in range(12)), "Done."])
    assert shown.buttons == []
    assert {call.method for call in api.calls[1:]} == {"editMessageText"}


async def test_text_after_a_picture_is_a_new_message(api: BotApi, channel: TelegramChannel, shelf: Shelf) -> None:
    ann, ledger = api.private(), MemoryLedger()
    picture = MediaSegment("m1", await shelf.put(png(), "chart.png"), "first **one**")
    steps = (text("A chart:"), picture, TextSegment("t2", "And"), TextSegment("t3", "more."))
    for end in range(1, 5):
        await channel.show(reply_in(ann, *steps[:end], status="drawing", done=False), ledger)
    await channel.show(reply_in(ann, *steps), ledger)
    assert [shown.words for shown in ann.messages] == ["A chart:", "first one", "And\n\nmore."]
    assert ann.messages[1].html == "first <b>one</b>"


async def test_a_question_rings_has_a_button_for_each_option_and_ends_with_the_answer(
    api: BotApi, channel: TelegramChannel, inbox: Inbox
) -> None:
    ann, ledger = api.private(), MemoryLedger()
    await channel.show(reply_in(ann, status="thinking", done=False), ledger)
    status = ann.messages[0]
    await channel.show(reply_in(ann, COLOURS, done=False, parked=True), ledger)
    [asked] = ann.messages
    assert asked.message_id != status.message_id
    assert (asked.html, [button["text"] for button in asked.buttons]) == ("Which <b>colour</b>?", ["red", "blue"])
    query = await ann.press(asked, asked.buttons[1]["callback_data"])
    async with listening(channel, inbox):
        await api.until(lambda api: query["id"] in api.answers)
    assert (inbox.messages[0].command, inbox.messages[0].text) == ("answer", "q:1_0 1")
    answered = replace(COLOURS, open=False, answer="blue")
    await channel.show(reply_in(ann, answered, text("Blue it is.")), ledger)
    assert ann.texts == ["Which colour?\n\n→ blue", "Blue it is."]
    assert asked.buttons == []


async def test_text_taken_back_after_a_step_leaves_what_was_finished(api: BotApi, channel: TelegramChannel) -> None:
    ann, ledger = api.private(), MemoryLedger()
    wrong = TextSegment("t2", "wrong", open=True)
    await channel.show(reply_in(ann, text("Kept."), wrong, done=False), ledger)
    await channel.show(reply_in(ann, text("Kept."), done=False), ledger)
    assert ann.texts == ["Kept."]


async def test_a_long_reply_does_not_send_its_finished_messages_again(api: BotApi, channel: TelegramChannel) -> None:
    ann, ledger = api.private(), MemoryLedger()
    long = "\n\n".join(f"Paragraph {number} {'word ' * 100}" for number in range(20))
    for end in range(2000, len(long) + 1000, 1000):
        await channel.show(reply_in(ann, text(long[:end], open=True), done=False), ledger)
    await channel.show(reply_in(ann, text(long)), ledger)
    assert " ".join(ann.texts).split() == long.split()
    first = ann.messages[0]
    assert len(ann.messages) == 3
    assert len(api.called("editMessageText")) <= 12
    assert len(first.edits) <= 3


async def test_text_pictures_and_files_stand_in_the_order_in_which_they_were_made(
    api: BotApi, channel: TelegramChannel, shelf: Shelf
) -> None:
    ann = api.private()
    chart, notes = await shelf.put(png(), "chart.png"), await shelf.put(b"notes", "notes.txt")
    segments = (text("A chart:"), MediaSegment("m1", chart, "1 < 2"), MediaSegment("m2", notes))
    await channel.show(reply_in(ann, *segments, TextSegment("t2", "Done.")), MemoryLedger())
    assert [(shown.kind, shown.words) for shown in ann.messages] == [
        ("text", "A chart:"),
        ("photo", "1 < 2"),
        ("document", ""),
        ("text", "Done."),
    ]
    assert (ann.messages[1].photo, ann.messages[2].file_name) == (png(), "notes.txt")


async def test_pictures_made_together_are_an_album(api: BotApi, channel: TelegramChannel, shelf: Shelf) -> None:
    ann, ledger = api.private(), MemoryLedger()
    pictures = [MediaSegment(f"m{n}", await shelf.put(png(n + 5), f"{n}.png")) for n in range(12)]
    await channel.show(reply_in(ann, *pictures[:1], done=False), ledger)
    await channel.show(reply_in(ann, *pictures), ledger)
    groups = [shown.media_group_id for shown in ann.messages]
    assert [len(api.called("sendPhoto")), len(api.called("sendMediaGroup"))] == [2, 1]
    assert len(set(groups[1:11])) == 1
    assert [shown.data for shown in ann.messages] == [png(n + 5) for n in range(12)]


async def test_a_picture_telegram_refuses_is_sent_as_a_file(
    api: BotApi, channel: TelegramChannel, shelf: Shelf
) -> None:
    ann = api.private()
    pictures = [MediaSegment(f"m{n}", await shelf.put(png(n + 5), f"{n}.png")) for n in range(2)]
    api.fail_next("sendMediaGroup", 400, description="Bad Request: PHOTO_INVALID_DIMENSIONS")
    api.fail_next("sendPhoto", 400, description="Bad Request: PHOTO_INVALID_DIMENSIONS")
    await channel.show(reply_in(ann, *pictures), MemoryLedger())
    assert [(shown.kind, shown.data) for shown in ann.messages] == [("document", png(5)), ("photo", png(6))]


async def test_a_file_that_cannot_be_sent_is_explained(api: BotApi, channel: TelegramChannel, shelf: Shelf) -> None:
    ann = api.private()
    lost = MediaSegment("m1", Attachment("0" * 64, "lost.png", "image/png", 5, 8, 8), "a caption")
    huge = MediaSegment("m2", Attachment("1" * 64, "huge.zip", "application/zip", 60_000_000))
    empty = MediaSegment("m3", await shelf.put(b"", "empty.txt"))
    await channel.show(reply_in(ann, lost, huge, empty), MemoryLedger())
    first, second, third = ann.texts
    assert "a caption" in first
    assert "lost.png could not be sent" in first
    assert "50 MB" in second
    assert "empty.txt could not be sent" in third


async def test_in_a_group_only_the_first_message_answers_and_a_deleted_question_is_no_hindrance(
    api: BotApi, channel: TelegramChannel
) -> None:
    group = api.group()
    question = await group.say("@interject_test_bot why?")
    long = reply_in(group, text("word " * 1000), to=question["message_id"])
    await channel.show(long, MemoryLedger())
    assert [shown.reply_to for shown in group.messages] == [question["message_id"], None]
    await group.delete(question)
    await channel.show(long, MemoryLedger())
    assert len(group.messages) == 4


async def test_in_a_private_chat_nothing_is_quoted(api: BotApi, channel: TelegramChannel) -> None:
    ann = api.private()
    question = await ann.say("why?")
    await channel.show(reply_in(ann, text("so"), to=question["message_id"]), MemoryLedger())
    assert ann.messages[0].reply_to is None


async def test_replies_go_to_their_topic_and_the_general_topic_has_no_id(api: BotApi, channel: TelegramChannel) -> None:
    forum = api.forum(topics=["News"])
    news = forum.topic("News")
    await channel.show(reply_in(forum, text("in news"), thread=news), MemoryLedger())
    await channel.show(reply_in(forum, text("in general"), thread=1), MemoryLedger())
    assert [(shown.text, shown.thread_id) for shown in forum.messages] == [("in news", news), ("in general", None)]
    with pytest.raises(Undeliverable, match="topic is deleted"):
        await channel.show(reply_in(forum, text("nowhere"), thread=4711), MemoryLedger())


async def test_a_lost_answer_is_sent_again_with_a_note_that_stays(api: BotApi, channel: TelegramChannel) -> None:
    ann, ledger = api.private(), MemoryLedger()
    api.drop_answer("sendMessage")
    with pytest.raises(OutcomeUnknown):
        await channel.show(reply_in(ann, text("hello")), ledger)
    assert [sent.state for sent in ledger.pieces()] == ["unknown"]
    await channel.show(reply_in(ann, text("hello")), ledger)
    await channel.show(reply_in(ann, text("hello")), ledger)
    assert ann.texts[0] == "hello"
    assert ann.texts[1].startswith("hello\n\n(possibly a repeat")
    assert len(ann.texts) == 2


async def test_a_lost_answer_to_an_edit_is_simply_edited_again(api: BotApi, channel: TelegramChannel) -> None:
    ann, ledger = api.private(), MemoryLedger()
    await channel.show(reply_in(ann, text("hel", open=True), done=False), ledger)
    api.drop_answer("editMessageText")
    with pytest.raises(Unreachable):
        await channel.show(reply_in(ann, text("hello")), ledger)
    await channel.show(reply_in(ann, text("hello")), ledger)
    assert ann.texts == ["hello"]


async def test_a_server_that_is_away_is_unreachable_and_nothing_is_in_doubt(
    api: BotApi, channel: TelegramChannel
) -> None:
    ann, ledger = api.private(), MemoryLedger()
    await api.stop()
    with pytest.raises(Unreachable):
        await channel.show(reply_in(ann, text("hello")), ledger)
    assert ledger.pieces() == ()
    await api.start()
    await channel.show(reply_in(ann, text("hello")), ledger)
    assert ann.texts == ["hello"]


async def test_patience_is_asked_for_in_seconds(api: BotApi, channel: TelegramChannel) -> None:
    ann, ledger = api.private(), MemoryLedger()
    api.fail_next("sendMessage", 429, retry_after=7)
    with pytest.raises(RetryLater) as caught:
        await channel.show(reply_in(ann, text("hello")), ledger)
    assert caught.value.after == 7
    await channel.show(reply_in(ann, text("hello")), ledger)
    assert ann.texts == ["hello"]


@dataclass(frozen=True)
class Step:
    """A call to Telegram: what is shown before it, and then, so that it is made."""

    method: str
    before: tuple[Segment, ...] | None
    after: tuple[Segment, ...]
    screen: tuple[str, ...]


CHART = Attachment(hashlib.sha256(png(5)).hexdigest(), "chart.png", "image/png", len(png(5)), 5, 6)
TABLE = Attachment(hashlib.sha256(png(6)).hexdigest(), "table.png", "image/png", len(png(6)), 6, 6)
NOTES = Attachment(hashlib.sha256(b"notes").hexdigest(), "notes.txt", "text/plain", 5)
SENDS = [
    Step("sendMessage", None, (text("hello"),), ("hello",)),
    Step("sendPhoto", None, (MediaSegment("m1", CHART, "a chart"),), ("a chart",)),
    Step("sendDocument", None, (MediaSegment("m1", NOTES, "my notes"),), ("my notes",)),
    Step("sendMediaGroup", None, (MediaSegment("m1", CHART, "one"), MediaSegment("m2", TABLE, "two")), ("one", "two")),
]
CHANGES = [
    Step("editMessageText", (text("hel", open=True),), (text("hello"),), ("hello",)),
    Step("deleteMessage", (text("wrong", open=True),), (), ()),
]


async def begun(step: Step, chat: Chat, channel: TelegramChannel, shelf: Shelf) -> tuple[Reply, MemoryLedger]:
    """The reply that takes the step when it is shown next."""
    for data in (png(5), png(6), b"notes"):
        await shelf.put(data, "x")
    ledger = MemoryLedger()
    if step.before is not None:
        await channel.show(reply_in(chat, *step.before, done=False), ledger)
    return reply_in(chat, *step.after), ledger


@pytest.mark.parametrize("step", [*SENDS, *CHANGES], ids=lambda step: step.method)
async def test_too_many_requests_of_any_kind_wait_and_are_made_once(
    step: Step, api: BotApi, channel: TelegramChannel, shelf: Shelf
) -> None:
    ann = api.private()
    reply, ledger = await begun(step, ann, channel, shelf)
    api.fail_next(step.method, 429, retry_after=3)
    with pytest.raises(RetryLater) as caught:
        await channel.show(reply, ledger)
    assert caught.value.after == 3
    await channel.show(reply, ledger)
    assert tuple(ann.texts) == step.screen


@pytest.mark.parametrize("fault", ["500", "502", "no answer"])
@pytest.mark.parametrize("step", CHANGES, ids=lambda step: step.method)
async def test_a_change_whose_outcome_is_unknown_is_made_again(
    step: Step, fault: str, api: BotApi, channel: TelegramChannel, shelf: Shelf
) -> None:
    ann = api.private()
    reply, ledger = await begun(step, ann, channel, shelf)
    fail(api, step.method, fault)
    with pytest.raises(Unreachable):
        await channel.show(reply, ledger)
    await channel.show(reply, ledger)
    assert tuple(ann.texts) == step.screen


@pytest.mark.parametrize("fault", ["500", "502", "no answer"])
@pytest.mark.parametrize("step", SENDS, ids=lambda step: step.method)
async def test_what_may_have_been_sent_is_sent_again_with_a_note(
    step: Step, fault: str, api: BotApi, channel: TelegramChannel, shelf: Shelf
) -> None:
    ann = api.private()
    reply, ledger = await begun(step, ann, channel, shelf)
    fail(api, step.method, fault)
    with pytest.raises(OutcomeUnknown):
        await channel.show(reply, ledger)
    before = len(ann.texts)
    assert before == (len(step.screen) if fault == "no answer" else 0)
    await channel.show(reply, ledger)
    again = ann.texts[before:]
    assert again[0].startswith(f"{step.screen[0]}\n\n(possibly a repeat")
    assert tuple(again[1:]) == step.screen[1:]


def fail(api: BotApi, method: str, fault: str) -> None:
    if fault == "no answer":
        api.drop_answer(method)
    else:
        api.fail_next(method, int(fault))


async def test_where_the_bot_may_not_write_nothing_can_be_delivered(api: BotApi, channel: TelegramChannel) -> None:
    ann, group = api.private(), api.group()
    ann.block()
    with pytest.raises(Undeliverable, match="blocked"):
        await channel.show(reply_in(ann, text("hello")), MemoryLedger())
    new = await group.migrate()
    with pytest.raises(ChatMoved, match=str(new.id)):
        await channel.show(reply_in(group, text("hello")), MemoryLedger())


async def test_text_telegram_cannot_read_is_sent_without_formatting(api: BotApi, channel: TelegramChannel) -> None:
    ann = api.private()
    api.fail_next("sendMessage", 400, description="Bad Request: can't parse entities: unsupported start tag")
    await channel.show(reply_in(ann, text("**a < b**")), MemoryLedger())
    assert (ann.messages[0].text, ann.messages[0].html) == ("a < b", None)


async def test_a_message_the_person_deleted_is_sent_anew(api: BotApi, channel: TelegramChannel) -> None:
    ann, ledger = api.private(), MemoryLedger()
    await channel.show(reply_in(ann, text("hel", open=True), done=False), ledger)
    await ann.delete(ann.messages[0])
    await channel.show(reply_in(ann, text("hello")), ledger)
    assert ann.texts == ["hello"]


async def test_an_edit_that_changes_nothing_is_no_error(api: BotApi, channel: TelegramChannel) -> None:
    ann, ledger = api.private(), MemoryLedger()
    await channel.show(reply_in(ann, text("hello")), ledger)
    await ledger.rename("t1/0", "t1/0")  # forgets what is shown, as a crash in the middle of a rename would
    await channel.show(reply_in(ann, text("hello")), ledger)
    assert ann.texts == ["hello"]


async def test_withdrawn_text_disappears(api: BotApi, channel: TelegramChannel) -> None:
    ann, ledger = api.private(), MemoryLedger()
    await channel.show(reply_in(ann, text("wrong", open=True), done=False), ledger)
    await channel.show(reply_in(ann, done=False), ledger)
    assert ann.texts == []


async def test_typing_shows_and_never_fails(api: BotApi, channel: TelegramChannel) -> None:
    ann = api.private()
    forum = api.forum(topics=["News"])
    await channel.typing(reply_in(ann).address)
    await channel.typing(reply_in(forum, thread=1).address)
    assert [action.action for action in ann.actions] == ["typing"]
    assert len(forum.actions) == 1
    with api.refuse():
        await channel.typing(reply_in(ann).address)


def mark_on(
    chat: Chat, message: dict[str, Any], state: MessageState, before: MessageState | None = None
) -> MessageStatus:
    return MessageStatus(reply_in(chat).address, 1, str(message["message_id"]), state, before=before)


async def test_the_state_of_a_message_is_one_reaction_that_changes(api: BotApi, channel: TelegramChannel) -> None:
    ann = api.private()
    said, shown = await ann.say("hi"), []
    before: MessageState | None = None
    states: tuple[MessageState, ...] = ("waiting", "read", "answered", "refused", "withdrawn")
    for state in states:
        await channel.show_status(mark_on(ann, said, state, before))
        shown.append([reaction["emoji"] for reaction in ann.reactions[said["message_id"]]])
        before = state
    assert shown == [["🫡"], ["👀"], ["👌"], ["🙊"], []]
    assert api.refusals == []


async def test_a_state_that_shows_already_costs_no_call(api: BotApi, channel: TelegramChannel) -> None:
    ann = api.private()
    said = await ann.say("hi")
    await channel.show_status(mark_on(ann, said, "read", "read"))
    await channel.show_status(replace(mark_on(ann, said, "read"), message_id=None))
    assert api.calls == []


async def test_without_reactions_no_state_shows(api: BotApi, shelf: Shelf) -> None:
    channel, ann = TelegramChannel("telegram", api.token, api.url, shelf, reactions=False), api.private()
    await channel.show_status(mark_on(ann, await ann.say("hi"), "read"))
    await channel.aclose()
    assert api.calls == []


async def test_a_reaction_that_fails_is_no_error_but_patience_is_kept(api: BotApi, channel: TelegramChannel) -> None:
    ann = api.private()
    said = await ann.say("hi")
    api.fail_next("setMessageReaction", 400, description="Bad Request: REACTION_INVALID")
    api.fail_next("setMessageReaction", 403)
    api.fail_next("setMessageReaction", 500)
    api.drop_answer("setMessageReaction")
    for _ in range(4):
        await channel.show_status(mark_on(ann, said, "read"))
    with api.refuse():
        await channel.show_status(mark_on(ann, said, "read"))
    await ann.delete(said)
    await channel.show_status(mark_on(ann, said, "answered"))
    api.fail_next("setMessageReaction", 429, retry_after=3)
    with pytest.raises(RetryLater) as caught:
        await channel.show_status(mark_on(ann, said, "answered"))
    assert caught.value.after == 3


async def test_a_thread_here_was_begun_from_nothing(api: BotApi, channel: TelegramChannel) -> None:
    assert await channel.thread_root(reply_in(api.private()).address, "5") is None


async def test_previews_keep_telegrams_pace(api: BotApi, channel: TelegramChannel) -> None:
    assert channel.pace(reply_in(api.private()).address) == 1.0
    assert channel.pace(reply_in(api.group()).address) == 3.0
