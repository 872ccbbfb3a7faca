"""The Telegram channel over real sockets, against a local Bot API server."""

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest
from PIL import Image

from agent.media import Attachment, MediaMissing
from channels.address import Address
from channels.channel import (
    ChannelRejected,
    CommandHelp,
    FileUnavailable,
    OutcomeUnknown,
    RetryLater,
    Undeliverable,
    Unreachable,
)
from channels.message import Accepted, FileRef, InboundMessage
from channels.reply import CallSegment, MediaSegment, Reply, Segment, TextSegment
from channels.telegram.channel import TelegramChannel
from tests.channels.test_pieces import MemoryLedger
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
    """Takes what a channel delivers; `broken` is how often it cannot."""

    messages: list[InboundMessage] = field(default_factory=list)
    broken: int = 0
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def deliver(self, message: InboundMessage) -> Accepted | None:
        async with self.arrived:
            self.arrived.notify_all()
            if self.broken:
                self.broken -= 1
                raise OSError("the disk is full")
            self.messages.append(message)
        return Accepted(len(self.messages))

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
async def api() -> AsyncIterator[BotApi]:
    async with BotApi() as api:
        yield api


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
) -> Reply:
    kind = "direct" if chat.card["type"] == "private" else "group"
    place = Address("telegram", "123456", str(chat.id), str(thread) if thread else None, kind)  # type: ignore[arg-type]
    return Reply("run-1", place, str(to) if to else None, segments, status, done)


def text(markdown: str, *, open: bool = False) -> TextSegment:
    return TextSegment("t1", markdown, open=open)


# --- hearing ---------------------------------------------------------------------------------------------------------


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
    await ann.say("after")
    async with listening(channel, inbox):
        assert await inbox.texts(2) == ["before", "after"]
        await api.until(lambda api: not api.updates.queue)
    assert channel.skipped == 3


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


async def test_a_wrong_token_is_rejected_with_words(api: BotApi, inbox: Inbox, shelf: Shelf) -> None:
    channel = TelegramChannel("telegram", "123456:wrong", api.url, shelf)
    with pytest.raises(ChannelRejected, match=r"channels\.telegram\.token"):
        await channel.listen(inbox.deliver, COMMANDS)
    await channel.aclose()
    with pytest.raises(ChannelRejected, match="BotFather"):
        TelegramChannel("telegram", "", api.url, shelf)


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
    api.fail_next("getUpdates", 409)
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


async def test_a_file_that_cannot_be_had_is_refused_with_words(
    api: BotApi, channel: TelegramChannel, inbox: Inbox
) -> None:
    ann = api.private()
    await ann.send_document(bytes(21 * 1024 * 1024), name="film.mp4")
    await ann.send_photo(png())
    async with listening(channel, inbox):
        await inbox.texts(2)
    with pytest.raises(FileUnavailable, match=r"film\.mp4 .* 20 MB"):
        await channel.fetch(inbox.messages[0].files[0])
    with pytest.raises(FileUnavailable, match="file_id"):
        await channel.fetch(FileRef("nonsense", "x"))
    api.fail_next("file", 404)
    with pytest.raises(FileUnavailable, match="any more"):
        await channel.fetch(inbox.messages[1].files[0])


async def test_a_file_is_unreachable_while_the_network_is_down(api: BotApi, channel: TelegramChannel) -> None:
    with api.refuse(), pytest.raises(Unreachable):
        await channel.fetch(FileRef("any", "x"))


# --- speaking --------------------------------------------------------------------------------------------------------


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
    with pytest.raises(Undeliverable, match="topic is gone"):
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


async def test_where_the_bot_may_not_write_nothing_can_be_delivered(api: BotApi, channel: TelegramChannel) -> None:
    ann, group = api.private(), api.group()
    ann.block()
    with pytest.raises(Undeliverable, match="blocked"):
        await channel.show(reply_in(ann, text("hello")), MemoryLedger())
    new = await group.migrate()
    with pytest.raises(Undeliverable, match=str(new.id)):
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


async def test_previews_keep_telegrams_pace(api: BotApi, channel: TelegramChannel) -> None:
    assert channel.pace(reply_in(api.private()).address) == 1.0
    assert channel.pace(reply_in(api.group()).address) == 3.0
