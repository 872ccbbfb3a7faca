"""The local Bot API server, driven by the real python-telegram-bot: what a bot is given, may do and is refused."""

import asyncio
import io
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
import pytest
from PIL import Image
from telegram import (
    Bot,
    BotCommand,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    InputMediaDocument,
    InputMediaPhoto,
    MessageEntity,
    ReplyParameters,
    Update,
)
from telegram.error import (
    BadRequest,
    ChatMigrated,
    Conflict,
    Forbidden,
    InvalidToken,
    NetworkError,
    RetryAfter,
    TimedOut,
)
from telegram.request import HTTPXRequest

from tests.servers.telegram import BotApi, Person, Upload


def png(width: int = 8, height: int = 6) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(out, "PNG")
    return out.getvalue()


def new_bot(api: BotApi) -> Bot:
    return Bot(api.token, base_url=api.base_url, base_file_url=api.base_file_url)


@pytest.fixture(autouse=True)
def _durations_as_timedelta(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "PTB_TIMEDELTA", "1"
    )  # without it the SDK warns in RetryAfter's constructor, and warnings are errors


@pytest.fixture
async def api() -> AsyncIterator[BotApi]:
    async with BotApi() as api:
        yield api


@pytest.fixture
async def bot(api: BotApi) -> AsyncIterator[Bot]:
    async with new_bot(api) as bot:
        yield bot


def buttons(*data: str) -> InlineKeyboardMarkup:
    return InlineKeyboardMarkup([[InlineKeyboardButton(each, callback_data=each) for each in data]])


# --------------------------------------------------------------------------------------------------------- receiving


async def test_the_bot_learns_its_name(api: BotApi, bot: Bot) -> None:
    assert (await bot.get_me()).username == "interject_test_bot"


async def test_a_wrong_token_is_unauthorized(api: BotApi) -> None:
    async with HTTPXRequest() as request:
        with pytest.raises(InvalidToken):
            await Bot("123456:wrong", base_url=api.base_url, request=request).get_me()
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"{api.url}/bot1:x/getMe")
    assert (answer.status_code, answer.json()) == (
        401,
        {"ok": False, "error_code": 401, "description": "Unauthorized"},
    )


async def test_what_a_person_says_arrives_and_stays_queued_until_a_higher_offset(api: BotApi, bot: Bot) -> None:
    chat = api.private(user_id=7, name="Ann", username="ann")
    said = await chat.say("hi")
    (update,) = await bot.get_updates()
    assert update.message is not None
    assert (update.message.text, update.message.message_id) == ("hi", said["message_id"])
    assert update.message.from_user is not None
    assert update.message.from_user.username == "ann"
    assert [again.update_id for again in await bot.get_updates(offset=update.update_id)] == [update.update_id]
    assert await bot.get_updates(offset=update.update_id + 1) == ()
    assert api.confirmed_offset == update.update_id + 1
    assert api.polls == 3


async def test_a_long_poll_ends_with_the_first_update_or_empty_at_its_timeout(api: BotApi, bot: Bot) -> None:
    assert await bot.get_updates(timeout=1) == ()
    async with asyncio.TaskGroup() as group:
        poll = group.create_task(bot.get_updates(timeout=30))
        await api.until(lambda api: api.polls == 2)
        await api.private().say("hello")
    assert poll.result()[0].message is not None


async def test_limit_and_negative_offset(api: BotApi, bot: Bot) -> None:
    chat = api.private()
    for word in "abcde":
        await chat.say(word)
    assert len(await bot.get_updates(limit=2)) == 2
    assert [update.message.text for update in await bot.get_updates(offset=-2) if update.message] == ["d", "e"]
    assert [update.message.text for update in await bot.get_updates() if update.message] == ["d", "e"]


async def test_the_older_of_two_polls_gets_a_conflict(api: BotApi, bot: Bot) -> None:
    async with new_bot(api) as second:
        older = asyncio.ensure_future(bot.get_updates(timeout=30))
        await api.until(lambda api: api.polls == 1)
        newer = asyncio.ensure_future(second.get_updates(timeout=30))
        with pytest.raises(Conflict, match="terminated by other getUpdates request"):
            await older
        await api.private().say("hi")
        assert len(await newer) == 1


async def test_reactions_come_only_when_asked_for(api: BotApi, bot: Bot) -> None:
    chat = api.private()
    said = await chat.say("hi")
    await chat.react(said, "👍")
    (first,) = await bot.get_updates(allowed_updates=Update.ALL_TYPES)
    await chat.react(said, "🔥")
    (second,) = await bot.get_updates(offset=first.update_id + 1)
    assert second.message_reaction is not None
    assert second.message_reaction.new_reaction[0].to_dict()["emoji"] == "🔥"


async def test_an_active_webhook_refuses_polling(api: BotApi, bot: Bot) -> None:
    await api.private().say("hi")
    await bot.set_webhook("https://example.org/hook")
    with pytest.raises(Conflict, match="webhook is active"):
        await bot.get_updates()
    assert (await bot.get_webhook_info()).pending_update_count == 1
    await bot.delete_webhook()
    assert len(await bot.get_updates()) == 1


async def test_commands_mentions_and_links_become_entities_in_utf16(api: BotApi, bot: Bot) -> None:
    await api.private().say("😀 /stop@interject_test_bot now @anna see https://x.org/a and mail a@b.org 1/2")
    (update,) = await bot.get_updates()
    assert update.message is not None
    found = update.message.parse_entities()
    assert sorted(found.values()) == ["/stop@interject_test_bot", "@anna", "https://x.org/a"]
    assert update.message.entities[0].offset == 3
    assert update.message.entities[0].type == MessageEntity.BOT_COMMAND


async def test_an_edit_a_repeat_and_a_malformed_update(api: BotApi, bot: Bot) -> None:
    chat = api.private()
    said = await chat.say("one")
    await chat.edit(said, "two")
    first, edited = await bot.get_updates()
    assert edited.edited_message is not None
    assert (edited.edited_message.text, edited.edited_message.message_id) == ("two", said["message_id"])
    assert edited.edited_message.edit_date is not None
    assert await bot.get_updates(offset=edited.update_id + 1) == ()
    await chat.repeat(said)
    (again,) = await bot.get_updates(offset=edited.update_id + 1)
    assert again.update_id == edited.update_id
    assert await bot.get_updates(offset=edited.update_id + 1) == ()
    await chat.push_raw({"message": {"no": "date"}})
    async with httpx.AsyncClient() as client:
        raw = await client.post(f"{api.base_url}{api.token}/getUpdates", json={"offset": edited.update_id + 1})
    assert raw.json()["result"] == [{"update_id": edited.update_id + 1, "message": {"no": "date"}}]
    assert first.update_id < edited.update_id


async def test_repeating_an_update_delivers_it_though_its_id_is_confirmed(api: BotApi, bot: Bot) -> None:
    chat = api.private()
    said = await chat.say("one")
    (update,) = await bot.get_updates()
    assert await bot.get_updates(offset=update.update_id + 1) == ()
    await chat.repeat(said)
    await chat.repeat({"update_id": update.update_id, "message": said})
    assert len(await bot.get_updates(offset=update.update_id + 1)) == 2


async def test_replies_carry_the_message_replied_to(api: BotApi, bot: Bot) -> None:
    chat = api.private()
    await chat.say("hi")
    await bot.send_message(7, "hello")
    await chat.say("what?", reply_to=chat.messages[0])
    _, update = await bot.get_updates()
    assert update.message is not None
    assert update.message.reply_to_message is not None
    assert update.message.reply_to_message.text == "hello"
    assert update.message.reply_to_message.from_user == bot.bot


# ------------------------------------------------------------------------------------------------------------- files


async def test_files_from_people_can_be_downloaded(api: BotApi, bot: Bot) -> None:
    chat = api.private()
    picture = png()
    await chat.send_photo(picture, "look @ann")
    await chat.send_document(b"a,b\n", "table", name="naïve.csv", mime="text/csv")
    await chat.send_voice(b"OggS", seconds=3)
    photo, document, voice = (update.message for update in await bot.get_updates())
    assert photo and document and voice  # noqa: PT018 - all three narrow the type
    assert photo.caption == "look @ann"
    assert (photo.photo[-1].width, photo.photo[-1].height) == (8, 6)
    assert bytes(await (await photo.photo[-1].get_file()).download_as_bytearray()) == picture
    assert document.document is not None
    assert (document.document.file_name, document.document.mime_type) == ("naïve.csv", "text/csv")
    assert bytes(await (await document.document.get_file()).download_as_bytearray()) == b"a,b\n"
    assert voice.voice is not None
    assert bytes(await (await voice.voice.get_file()).download_as_bytearray()) == b"OggS"
    assert [call.method for call in api.calls].count("file") == 3


async def test_an_album_comes_as_separate_updates_of_one_group(api: BotApi, bot: Bot) -> None:
    await api.private().send_album([png(), Upload("b.txt", b"b")], "two things")
    messages = [update.message for update in await bot.get_updates()]
    assert len({message.media_group_id for message in messages if message}) == 1
    assert [message.caption for message in messages if message] == ["two things", None]


async def test_files_over_20_mb_and_unknown_ones_can_not_be_fetched(api: BotApi, bot: Bot) -> None:
    said = await api.private().send_document(bytes(20 * 1024 * 1024 + 1))
    with pytest.raises(BadRequest, match="File is too big"):
        await bot.get_file(said["document"]["file_id"])
    with pytest.raises(BadRequest, match="Wrong file_id or the file is temporarily unavailable"):
        await bot.get_file("nonsense")
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"{api.base_file_url}{api.token}/documents/file_99")).status_code == 404
        assert (await client.get(f"{api.base_file_url}1:x/documents/file_1")).status_code == 401


async def test_the_bot_sends_photos_documents_and_albums(api: BotApi, bot: Bot) -> None:
    chat = api.private()
    picture = png()
    sent = await bot.send_photo(7, picture, caption="<b>chart</b>", parse_mode="HTML")
    assert sent.photo[-1].file_size == len(picture)
    await bot.send_document(7, b"text", filename="größe.txt", caption="notes")
    await bot.send_media_group(7, [InputMediaPhoto(picture, caption="first"), InputMediaPhoto(png(9, 9))])
    photo, document, first, second = chat.messages
    assert (photo.photo, photo.caption, photo.html) == (picture, "chart", "<b>chart</b>")
    assert photo.entities == [{"type": "bold", "offset": 0, "length": 5}]
    assert (document.document, document.file_name, document.caption) == (b"text", "größe.txt", "notes")
    assert first.media_group_id == second.media_group_id is not None
    assert (first.caption, second.caption, second.photo) == ("first", "", png(9, 9))
    await bot.send_photo(7, sent.photo[-1].file_id)
    assert chat.messages[-1].photo == picture


async def test_files_that_telegram_would_not_take(api: BotApi, bot: Bot) -> None:
    chat = api.private()
    for data, refusal in (
        (b"", "File must be non-empty"),
        (b"no picture", "Image_process_failed"),
        (png(4000, 100), "Photo_invalid_dimensions"),
        (png() + bytes(10 * 1024 * 1024), "too big for a photo"),
    ):
        with pytest.raises(BadRequest, match=refusal):
            await bot.send_photo(7, data)
    with pytest.raises(BadRequest, match="caption is too long"):
        await bot.send_document(7, b"x", caption="c" * 1025)
    with pytest.raises(BadRequest, match="can't be mixed"):
        await bot.send_media_group(7, [InputMediaPhoto(png()), InputMediaDocument(b"x")])
    with pytest.raises(BadRequest, match="2-10"):
        await bot.send_media_group(7, [InputMediaPhoto(png())])
    with pytest.raises(NetworkError, match="Request Entity Too Large"):
        await bot.send_document(7, bytes(52 * 1024 * 1024))
    assert chat.messages == []


# -------------------------------------------------------------------------------------------------------------- text


async def test_html_is_shown_plain_with_entities(api: BotApi, bot: Bot) -> None:
    chat = api.private()
    source = '😀 <b>bold <i>both</i></b> &lt;x&gt; <a href="https://x.org/?a=1&amp;b=2">link</a>&nbsp;'
    source += '\n<pre><code class="language-py">x &amp;&amp; y</code></pre> <tg-spoiler>s</tg-spoiler>\n\n'
    sent = await bot.send_message(7, source, parse_mode="HTML")
    assert chat.messages[0].text == "😀 bold both <x> link&nbsp;\nx && y s"
    assert chat.messages[0].html == source
    assert [(e.type, sent.parse_entity(e)) for e in sent.entities] == [
        ("bold", "bold both"),
        ("italic", "both"),
        ("text_link", "link"),
        ("pre", "x && y"),
        ("spoiler", "s"),
    ]
    assert sent.entities[2].url == "https://x.org/?a=1&b=2"
    assert sent.entities[3].language == "py"


@pytest.mark.parametrize(
    ("source", "refusal"),
    [
        ("<h1>x</h1>", 'unsupported start tag "h1" at byte offset 0'),
        ("é<br>", 'unsupported start tag "br" at byte offset 2'),
        ("a < b", 'unsupported start tag "" at byte offset 2'),
        ("<b>x", 'can\'t find end tag corresponding to start tag "b"'),
        ("<b><i>x</b></i>", 'unmatched end tag at byte offset 7, expected "</i>", found "</b>"'),
        ("x</b>", "unexpected end tag at byte offset 1"),
        ("<b", "unclosed start tag at byte offset 0"),
        ("<b>x</b", "unclosed end tag at byte offset 4"),
        ("<span>x</span>", 'tag "span" must have class "tg-spoiler" at byte offset 0'),
        ("<a href>x</a>", 'expected equal sign in declaration of an attribute of the tag "a" at byte offset 0'),
    ],
)
async def test_html_that_telegram_can_not_parse(api: BotApi, bot: Bot, source: str, refusal: str) -> None:
    chat = api.private()
    with pytest.raises(BadRequest) as refused:
        await bot.send_message(7, source, parse_mode="HTML")
    assert refused.value.message.lower() == f"can't parse entities: {refusal}"
    assert chat.messages == []


async def test_text_has_1_to_4096_utf16_units_after_parsing(api: BotApi, bot: Bot) -> None:
    chat = api.private()
    await bot.send_message(7, "<b>" + "x" * 4096 + "</b>", parse_mode="HTML")
    await bot.send_message(7, "😀" * 2048)
    for text, refusal in (("x" * 4097, "is too long"), ("😀" * 2049, "is too long"), ("", "text is empty")):
        with pytest.raises(BadRequest, match=refusal):
            await bot.send_message(7, text)
    with pytest.raises(BadRequest, match="must be non-empty"):
        await bot.send_message(7, "<b> \n</b>", parse_mode="HTML")
    with pytest.raises(BadRequest, match="Message_too_long"):
        await bot.edit_message_text("x" * 4097, 7, chat.messages[0].message_id)
    assert len(chat.messages) == 2


# ---------------------------------------------------------------------------------------------------------- changing


async def test_edits_change_what_is_on_screen_and_keep_their_history(api: BotApi, bot: Bot) -> None:
    chat = api.private()
    sent = await bot.send_message(7, "one", reply_markup=buttons("stop"))
    await bot.edit_message_text("two", 7, sent.message_id, reply_markup=buttons("stop"))
    await bot.edit_message_text("<i>three</i>", 7, sent.message_id, parse_mode="HTML")
    (shown,) = chat.messages
    assert (shown.text, shown.buttons, [edit.text for edit in shown.edits]) == ("three", [], ["two", "three"])
    with pytest.raises(BadRequest, match="Message is not modified: specified new message content"):
        await bot.edit_message_text("<em>three </em>", 7, sent.message_id, parse_mode="HTML")
    photo = await bot.send_photo(7, png(), caption="a")
    await bot.edit_message_caption(7, photo.message_id, caption="b")
    assert chat.texts == ["three", "b"]
    with pytest.raises(BadRequest, match="There is no text in the message to edit"):
        await bot.edit_message_text("x", 7, photo.message_id)
    with pytest.raises(BadRequest, match="There is no caption in the message to edit"):
        await bot.edit_message_caption(7, sent.message_id, caption="b")


async def test_what_is_gone_or_not_its_own_can_not_be_edited(api: BotApi, bot: Bot) -> None:
    chat = api.private()
    said = await chat.say("hi")
    sent = await bot.send_message(7, "one")
    await bot.delete_message(7, sent.message_id)
    assert chat.messages == []
    assert [shown.text for shown in chat.deleted] == ["one"]
    with pytest.raises(BadRequest, match="Message to edit not found"):
        await bot.edit_message_text("two", 7, sent.message_id)
    with pytest.raises(BadRequest, match="Message can't be edited"):
        await bot.edit_message_text("two", 7, said["message_id"])
    with pytest.raises(BadRequest, match="Message to delete not found"):
        await bot.delete_message(7, sent.message_id)
    with pytest.raises(BadRequest, match="Message to be replied not found"):
        await bot.send_message(7, "x", reply_to_message_id=sent.message_id)
    await chat.delete(said)
    lenient = ReplyParameters(said["message_id"], allow_sending_without_reply=True)
    await bot.send_message(7, "x", reply_parameters=lenient)
    assert chat.messages[0].reply_to is None


async def test_buttons_are_pressed_and_answered_once(api: BotApi, bot: Bot) -> None:
    chat = api.private()
    sent = await bot.send_message(7, "sure?", reply_markup=buttons("yes", "no"))
    pressed = await chat.press(sent.message_id, "yes")
    (update,) = await bot.get_updates()
    query = update.callback_query
    assert query is not None
    assert (query.data, query.message and query.message.message_id) == ("yes", sent.message_id)
    await query.answer("fine")
    assert api.answers[pressed["id"]]["text"] == "fine"
    with pytest.raises(BadRequest, match="Query is too old"):
        await query.answer("fine")
    with pytest.raises(LookupError, match="no button 'maybe'"):
        await chat.press(sent.message_id, "maybe")
    with pytest.raises(BadRequest, match="Button_data_invalid"):
        await bot.send_message(7, "x", reply_markup=buttons("d" * 65))
    await bot.delete_message(7, sent.message_id)
    await chat.press(sent.message_id, "no", stale=True)
    late = (await bot.get_updates(offset=update.update_id + 1))[0].callback_query
    assert late is not None
    assert late.message is not None
    assert not late.message.is_accessible


async def test_chat_actions_reactions_and_commands(api: BotApi, bot: Bot) -> None:
    chat = api.private()
    said = await chat.say("hi")
    await bot.send_chat_action(7, "typing")
    await bot.set_message_reaction(7, said["message_id"], "👀")
    await bot.set_my_commands([BotCommand("stop", "Stop what runs")])
    assert [action.action for action in chat.actions] == ["typing"]
    assert [reaction["emoji"] for reaction in chat.reactions[said["message_id"]]] == ["👀"]
    assert (await bot.get_my_commands())[0].command == "stop"
    with pytest.raises(BadRequest, match="Reaction_invalid"):
        await bot.set_message_reaction(7, said["message_id"], "🪿")
    with pytest.raises(BadRequest, match="Wrong parameter action"):
        await bot.send_chat_action(7, "dancing")
    with pytest.raises(BadRequest, match="Bot_command_invalid"):
        await bot.set_my_commands([BotCommand("Stop", "x")])


async def test_unknown_methods_are_not_found_and_drafts_only_on_request(api: BotApi, bot: Bot) -> None:
    chat = api.private()
    async with httpx.AsyncClient() as client:
        for method in ("sendRichMessage", "sendMessageDraft", "inventedMethod"):
            answer = await client.post(f"{api.base_url}{api.token}/{method}", data={"chat_id": "7", "text": "x"})
            assert (answer.status_code, answer.json()["description"]) == (404, "Not Found")
    api.drafts = True
    await bot.send_message_draft(7, 1, "thinking")
    assert [draft.text for draft in chat.drafts] == ["thinking"]
    assert chat.messages == []


# ------------------------------------------------------------------------------------------------------------- chats


async def test_forum_topics(api: BotApi, bot: Bot) -> None:
    forum = api.forum("Work", topics=["Deploys"])
    deploys = forum.topic("Deploys")
    said = await forum.say("hi", topic=deploys)
    await forum.say("general hi")
    topical, general = (update.message for update in await bot.get_updates())
    assert topical and general  # noqa: PT018 - both narrow the type
    assert (topical.message_thread_id, topical.is_topic_message, topical.chat.is_forum) == (deploys, True, True)
    assert topical.reply_to_message is not None
    assert topical.reply_to_message.forum_topic_created is not None
    assert (general.message_thread_id, general.is_topic_message) == (None, None)
    await bot.send_message(forum.id, "in topic", message_thread_id=deploys)
    await bot.send_message(forum.id, "by reply", reply_to_message_id=said["message_id"])
    await bot.send_message(forum.id, "in general")
    assert [(m.text, m.thread_id, m.reply_to) for m in forum.messages] == [
        ("in topic", deploys, None),
        ("by reply", deploys, said["message_id"]),
        ("in general", None, None),
    ]
    for unknown in (1, 4711):
        with pytest.raises(BadRequest, match="Message thread not found"):
            await bot.send_message(forum.id, "x", message_thread_id=unknown)
    await bot.send_chat_action(forum.id, "typing", message_thread_id=1)
    with pytest.raises(BadRequest, match="Message thread not found"):
        await bot.send_chat_action(forum.id, "typing", message_thread_id=4711)


async def test_groups_have_several_people_and_reply_threads_that_are_no_topics(api: BotApi, bot: Bot) -> None:
    ann, bob = Person(7, "Ann"), Person(8, "Bob", "bob")
    team = api.group("Team", people=[ann, bob], supergroup=True)
    first = await team.say("one")
    await team.say("two", sender=bob, reply_to=first)
    _, reply = (update.message for update in await bot.get_updates())
    assert reply is not None
    assert reply.from_user is not None
    assert (reply.from_user.username, reply.chat.type, reply.chat.title) == ("bob", "supergroup", "Team")
    assert (reply.message_thread_id, reply.is_topic_message) == (first["message_id"], None)
    with pytest.raises(BadRequest, match="can't be deleted"):
        await bot.delete_message(team.id, first["message_id"])


async def test_chats_that_refuse(api: BotApi, bot: Bot) -> None:
    chat = api.private()
    with pytest.raises(BadRequest, match="Chat not found"):
        await bot.send_message(99, "x")
    chat.block()
    with pytest.raises(Forbidden, match="Forbidden: bot was blocked by the user"):
        await bot.send_message(7, "x")
    chat.unblock()
    await bot.send_message(7, "x")
    group = api.group()
    new = await group.migrate()
    with pytest.raises(ChatMigrated) as migrated:
        await bot.send_message(group.id, "x")
    assert migrated.value.new_chat_id == new.id


# ----------------------------------------------------------------------------------------------------------- waiting


async def test_hearing_takes_the_bots_messages_one_after_another(api: BotApi, bot: Bot) -> None:
    chat = api.private()
    async with asyncio.TaskGroup() as group:
        hearing = group.create_task(chat.hear("done"))
        sent = await bot.send_message(7, "working")
        await bot.edit_message_text("nearly done", 7, sent.message_id)
    assert hearing.result() is chat.messages[0]
    await bot.send_message(7, "next")
    assert (await chat.hear()).text == "next"
    await bot.send_message(7, "report 42")
    assert (await chat.hear(re.compile(r"\d+$"))).text == "report 42"
    with pytest.raises(TimeoutError, match="report 42"):
        await chat.hear(timeout=0.01)


async def test_a_state_between_two_calls_is_seen(api: BotApi, bot: Bot) -> None:
    chat = api.private()
    async with asyncio.TaskGroup() as group:
        seen = group.create_task(chat.until(lambda chat: len(chat.messages) == 1 and not chat.deleted))
        await asyncio.sleep(0)  # lets the waiting begin
        sent = await bot.send_message(7, "blink")
        await bot.delete_message(7, sent.message_id)
    assert seen.result()


# ------------------------------------------------------------------------------------------------------------ faults


async def test_scripted_refusals(api: BotApi, bot: Bot) -> None:
    chat, other = api.private(7), api.private(8, "Bob")
    api.fail_next("sendMessage", status=429, retry_after=3, chat_id=7)
    api.fail_next("sendMessage", status=500, chat_id=7)
    api.fail_next("sendMessage", status=502, chat_id=7)
    await bot.send_message(8, "untouched")
    with pytest.raises(RetryAfter) as refused:
        await bot.send_message(7, "x")
    assert refused.value.retry_after == timedelta(seconds=3)
    with pytest.raises(NetworkError, match="Internal Server Error"):
        await bot.send_message(7, "x")
    with pytest.raises(NetworkError):
        await bot.send_message(7, "x")
    await bot.send_message(7, "x")
    assert (len(chat.messages), len(other.messages)) == (1, 1)
    assert [refusal.status for refusal in api.refusals] == [429, 500, 502]
    assert len(api.called("sendMessage")) == 5


async def test_a_dropped_answer_leaves_the_message_on_screen(api: BotApi, bot: Bot) -> None:
    chat = api.private()
    api.drop_answer("sendMessage")
    with pytest.raises(NetworkError):
        await bot.send_message(7, "did I say that?")
    assert chat.texts == ["did I say that?"]


async def test_an_outage_closes_open_polls_and_refuses_until_released(api: BotApi, bot: Bot) -> None:
    poll = asyncio.ensure_future(bot.get_updates(timeout=30))
    await api.until(lambda api: api.polls == 1)
    with api.refuse():
        with pytest.raises(NetworkError):
            await poll
        with pytest.raises(NetworkError):
            await bot.get_me()
        await api.private().say("while you were away")
    assert len(await bot.get_updates()) == 1
    api.refuse(0.05)
    with pytest.raises(NetworkError):
        await bot.get_me()
    await api.until(lambda api: api.outage is None)
    assert (await bot.get_me()).is_bot


async def test_held_calls_wait_for_their_release(api: BotApi, bot: Bot) -> None:
    chat = api.private()
    with api.hold("sendMessage") as held:
        sending = asyncio.ensure_future(bot.send_message(7, "slow"))
        await held.until_arrived()
        assert chat.messages == []
    await sending
    with api.hold("sendMessage", after=True) as held:
        sending = asyncio.ensure_future(bot.send_message(7, "shown, not answered", read_timeout=0.1))
        await held.until_arrived()
        assert chat.texts == ["slow", "shown, not answered"]
        with pytest.raises(TimedOut):
            await sending


async def test_it_restarts_on_the_same_port_with_all_it_knew(api: BotApi, bot: Bot) -> None:
    chat = api.private()
    await chat.say("hi")
    poll = asyncio.ensure_future(bot.get_updates(offset=api.updates.next_id, timeout=30))
    holding = api.hold("getMe")
    held = asyncio.ensure_future(bot.get_me())
    await holding.until_arrived()
    await api.until(lambda api: api.polls == 1)
    port = api.port
    await api.stop()
    for request in (poll, held):
        with pytest.raises(NetworkError):
            await request
    with pytest.raises(NetworkError):
        await bot.send_message(7, "x")
    await chat.say("are you there?")
    holding.release()
    await api.start()
    assert api.port == port
    assert [update.message.text for update in await bot.get_updates() if update.message] == ["are you there?"]


async def test_rate_limits_like_the_real_ones() -> None:
    async with BotApi(rate_limits=True) as api, new_bot(api) as bot:
        api.private(7), api.private(8)
        group = api.group()
        for _ in range(5):
            await bot.send_message(7, "burst")
        with pytest.raises(RetryAfter):
            await bot.send_message(7, "too much")
        with pytest.raises(RetryAfter):
            await bot.send_chat_action(7, "typing")
        await bot.send_message(8, "another chat")
        for _ in range(5):
            await bot.send_message(group.id, "x")
        with pytest.raises(RetryAfter):
            await bot.send_media_group(group.id, [InputMediaPhoto(png())] * 3)


async def test_a_killed_bots_poll_takes_nothing_with_it(api: BotApi, bot: Bot) -> None:
    poll = (
        "import sys, httpx; httpx.get(sys.argv[1] + '/getUpdates?timeout=50', timeout=60)",
        f"{api.base_url}{api.token}",
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", *poll, stderr=subprocess.DEVNULL)
    await api.until(lambda api: api.polls == 1)
    process.kill()
    await process.wait()
    await api.private().say("hi")
    assert len(await bot.get_updates(timeout=5)) == 1


async def test_a_bot_killed_in_the_middle_of_an_upload_harms_nobody(api: BotApi, bot: Bot) -> None:
    chat = api.private()
    _, writer = await asyncio.open_connection("127.0.0.1", api.port)
    head = f"POST /bot{api.token}/sendDocument?chat_id=7 HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
    body = '\r\n--b\r\nContent-Disposition: form-data; name="document"; filename="a"\r\n\r\nhalf'
    writer.write(f"{head}Content-Type: multipart/form-data; boundary=b\r\n{body}".encode())
    await writer.drain()
    writer.transport.abort()
    await bot.send_message(7, "alive")
    assert chat.texts == ["alive"]
    assert api.crashes == []


async def test_a_mistake_of_a_waiting_test_reaches_that_test(api: BotApi, bot: Bot) -> None:
    chat = api.private()
    waiting = asyncio.ensure_future(chat.until(lambda chat: chat.messages and 1 / 0))
    await asyncio.sleep(0)  # lets the waiting begin
    await bot.send_message(7, "x")
    with pytest.raises(ZeroDivisionError):
        await waiting


async def test_a_larger_connection_pool_is_served_side_by_side(api: BotApi) -> None:
    request = HTTPXRequest(connection_pool_size=50)
    async with Bot(api.token, base_url=api.base_url, request=request) as bot:
        chats = [api.private(user_id=100 + number) for number in range(50)]
        async with asyncio.TaskGroup() as group:
            for chat in chats:
                group.create_task(bot.send_message(chat.id, "hi"))
        assert all(chat.texts == ["hi"] for chat in chats)
