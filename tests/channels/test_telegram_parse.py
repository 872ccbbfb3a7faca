"""Telegram's updates, read: who did what where, and what is none of ours."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
import telegram
from hypothesis import given
from hypothesis import strategies as st

from channels.address import Address, Sender
from channels.message import FileRef, InboundMessage
from channels.telegram.parse import Bot, needs_username, parse
from channels.visible import MALFORMED

Json = dict[str, Any]

FIELDS = {
    *telegram.Message.__slots__,
    *telegram.ExternalReplyInfo.__slots__,
    *telegram.MessageEntity.__slots__,
    *telegram.Checklist.__slots__,
    *telegram.MessageOrigin.__slots__,
    "rich_message",
    "blocks",
    "sender_user",
    "from",
}
"""Names of fields that Telegram has."""

BOT = Bot("telegram", "999", "helper_bot")
NOW = datetime(2026, 11, 21, tzinfo=UTC)
ANN: Json = {"id": 7, "is_bot": False, "first_name": "Ann", "last_name": "Lee", "username": "annlee"}
ME: Json = {"id": 999, "is_bot": True, "first_name": "Helper", "username": "helper_bot"}
PRIVATE: Json = {"id": 7, "type": "private", "first_name": "Ann"}
GROUP: Json = {"id": -100, "type": "supergroup", "title": "Team"}


def message(chat: Json = PRIVATE, **fields: Any) -> Json:
    return {"message_id": 5, "date": 1_790_000_000, "from": ANN, "chat": chat} | fields


def read(content: Json, kind: str = "message") -> InboundMessage | None:
    return parse({"update_id": 11, kind: content}, BOT, NOW)


def heard(content: Json, kind: str = "message") -> InboundMessage:
    found = read(content, kind)
    assert found is not None
    return found


def group(text: str, **fields: Any) -> InboundMessage:
    return heard(message(GROUP, text=text, **fields))


def mention(offset: int, length: int) -> Json:
    return {"type": "mention", "offset": offset, "length": length}


def test_a_private_message() -> None:
    assert heard(message(text="hi")) == InboundMessage(
        "999:11",
        Address("telegram", "999", "7"),
        Sender("7", "Ann Lee", "annlee"),
        datetime.fromtimestamp(1_790_000_000, UTC),
        message_id="5",
        text="hi",
    )


def test_a_topic_is_a_place_of_its_own_but_a_chain_of_replies_is_not() -> None:
    assert group("hi", message_thread_id=42, is_topic_message=True).address == Address(
        "telegram", "999", "-100", "42", "group"
    )
    assert group("hi", message_thread_id=42).address.thread is None


def test_an_edit_means_the_message_edited() -> None:
    edited = heard(message(text="hello", edit_date=1_790_000_100), "edited_message")
    assert (edited.kind, edited.message_id, edited.text) == ("edited", "5", "hello")
    assert edited.sent_at == datetime.fromtimestamp(1_790_000_100, UTC)


@pytest.mark.parametrize(
    ("text", "command", "arguments"),
    [
        ("/stop", "stop", ""),
        ("/Stop@Helper_Bot", "stop", ""),
        ("/new  about\ncats ", "new", "about\ncats"),
        ("  /help", "help", ""),
    ],
)
def test_commands(text: str, command: str, arguments: str) -> None:
    for found in (heard(message(text=text)), group(text)):
        assert (found.kind, found.command, found.text, found.addressed) == ("command", command, arguments, True)


@pytest.mark.parametrize("text", ["/etc/hosts is wrong", "/ hm", "a /stop", "/stop@"])
def test_texts_that_only_look_like_commands(text: str) -> None:
    assert heard(message(text=text)).text == text


def test_commands_for_other_bots_and_edited_commands_are_none_of_ours() -> None:
    assert read(message(GROUP, text="/stop@other_bot")) is None
    assert read(message(text="/new", edit_date=1), "edited_message") is None


def test_a_command_that_is_only_passed_on_is_not_run() -> None:
    origin = {"type": "user", "sender_user": ANN | {"first_name": "Bob", "last_name": None}, "date": 1}
    found = heard(message(text="/stop now", forward_origin=origin))
    assert (found.kind, found.text, found.note) == ("new", "/stop now", "Forwarded from Bob")


def test_group_talk_is_ours_when_it_names_the_bot_answers_it_or_commands() -> None:
    assert not group("hello all").addressed
    assert group("@helper_bot hi", entities=[mention(0, 11)]).addressed
    assert group("you", entities=[{"type": "text_mention", "offset": 0, "length": 3, "user": ME}]).addressed
    assert not group("@other_bot hi", entities=[mention(0, 10)]).addressed
    assert group("yes", reply_to_message=message(GROUP, **{"from": ME}, text="Shall I?")).addressed
    assert not group("yes", reply_to_message=message(GROUP, text="Shall I?")).addressed


def test_a_topic_the_bot_opened_does_not_make_everything_in_it_an_answer() -> None:
    root = message(GROUP, **{"from": ME}, forum_topic_created={"name": "x", "icon_color": 1})
    found = group("hm", reply_to_message=root, message_thread_id=1, is_topic_message=True)
    assert (found.addressed, found.note) == (False, "")


@pytest.mark.parametrize(
    ("text", "offset", "clean"),
    [
        ("@helper_bot, go", 0, "go"),
        ("go @Helper_Bot now", 3, "go now"),
        ("👍🏽 @helper_bot", 5, "👍🏽"),
        ("@helper_bot", 0, "@helper_bot"),
    ],
)
def test_the_bots_name_is_not_part_of_what_is_said(text: str, offset: int, clean: str) -> None:
    assert group(text, entities=[mention(offset, 11)]).text == clean


@pytest.mark.parametrize(
    ("text", "entity", "told"),
    [
        ("ask this guy now", {"offset": 4, "length": 8, "user": ANN}, "ask this guy (Ann Lee) now"),
        ("👍 Ann Lee!", {"offset": 3, "length": 7, "user": ANN}, "👍 Ann Lee!"),
        ("Ann knows", {"offset": 0, "length": 3, "user": ANN}, "Ann knows"),
        ("👍 see here.", {"offset": 7, "length": 4, "url": "https://e.org/x"}, "👍 see [here](https://e.org/x)."),
        ("https://e.org", {"offset": 0, "length": 13, "url": "https://e.org/"}, "https://e.org"),
    ],
)
def test_who_is_meant_and_where_links_lead_is_spelt_out(text: str, entity: Json, told: str) -> None:
    entity = {"type": "text_link" if "url" in entity else "text_mention"} | entity
    assert heard(message(text=text, entities=[entity])).text == told
    photo = [{"file_id": "f", "file_unique_id": "u"}]
    assert heard(message(caption=text, caption_entities=[entity], photo=photo)).text == told


def test_links_are_spelt_out_beside_the_bots_name() -> None:
    link = {"type": "text_link", "offset": 17, "length": 4, "url": "https://e.org"}
    found = group("@helper_bot read this, Ann", entities=[mention(0, 11), link])
    assert (found.text, found.addressed) == ("read [this](https://e.org), Ann", True)


def test_a_picture_comes_in_its_largest_size_with_its_caption() -> None:
    small = {"file_id": "s", "file_unique_id": "u1", "width": 90, "height": 60, "file_size": 100}
    large = {"file_id": "l", "file_unique_id": "u2", "width": 900, "height": 600, "file_size": 9000}
    found = heard(message(photo=[small, large], caption="look", media_group_id="g1"))
    assert found.files == (FileRef("l", "photo-u2.jpg", "image/jpeg", 9000),)
    assert (found.text, found.album) == ("look", "g1")


@pytest.mark.parametrize(
    ("kind", "file", "expected"),
    [
        ("document", {"file_name": "a.pdf", "mime_type": "application/pdf"}, ("a.pdf", "application/pdf")),
        ("voice", {"duration": 2}, ("voice-u.ogg", "audio/ogg")),
        ("audio", {"duration": 2, "file_name": "song.mp3"}, ("song.mp3", "audio/mpeg")),
        ("video", {"width": 1, "height": 1, "duration": 1}, ("video-u.mp4", "video/mp4")),
        ("video_note", {"length": 1, "duration": 1}, ("video-u.mp4", "video/mp4")),
    ],
)
def test_files_of_every_kind(kind: str, file: Json, expected: tuple[str, str]) -> None:
    found = heard(message(**{kind: {"file_id": "f", "file_unique_id": "u"} | file}))
    assert [(file.name, file.media_type) for file in found.files] == [expected]


CHANNEL: Json = {"id": -5, "type": "channel", "title": "News"}
VIDEO: Json = {"file_id": "v", "file_unique_id": "w", "width": 1, "height": 1, "duration": 1}


@pytest.mark.parametrize(
    ("text", "marks", "markdown"),
    [
        ("run it now", [("bold", 4, 2)], "run **it** now"),
        ("all of it", [("bold", 0, 9), ("italic", 4, 2)], "**all _of_ it**"),
        ("no, yes", [("strikethrough", 0, 2), ("spoiler", 4, 3)], "~~no~~, ||yes||"),
        ("👍 run ls -l now", [("code", 7, 5)], "👍 run `ls -l` now"),
        ("a`b", [("code", 0, 3)], "``a`b``"),
        ("see\nx = 1\ny = 2\nok", [("pre", 4, 11)], "see\n```\nx = 1\ny = 2\n```\nok"),
        ("see x = 1 ok", [("pre", 4, 5)], "see \n```\nx = 1\n```\n ok"),
        ("```\nx", [("pre", 0, 5)], "````\n```\nx\n````"),
        ("so:\none\ntwo\nwhy?", [("blockquote", 4, 7)], "so:\n> one\n> two\n\nwhy?"),
        ("one\ntwo", [("expandable_blockquote", 0, 7), ("bold", 4, 3)], "> one\n> **two**"),
        ("a bold word", [("bold", 1, 6)], "a **bold** word"),
        ("plain", [("underline", 0, 5), ("hashtag", 0, 5), ("custom_emoji", 0, 2), ("unheard_of", 1, 2)], "plain"),
        ("short", [("bold", 3, 90), ("bold", -2, 3), ("code", 2, 0)], "short"),
    ],
)
def test_formatting_is_kept_as_markdown(text: str, marks: list[tuple[str, int, int]], markdown: str) -> None:
    entities = [{"type": kind, "offset": offset, "length": length} for kind, offset, length in marks]
    assert heard(message(text=text, entities=entities)).text == markdown
    quoting = message(text="?", external_reply={"origin": {"type": "user", "sender_user": ANN, "date": 1}})
    found = heard(quoting | {"quote": {"text": text, "position": 0, "entities": entities}})
    assert found.note == f'In reply to Ann Lee: "{markdown}"'


def test_the_language_of_code_is_kept_and_a_command_gets_its_arguments_with_their_formatting() -> None:
    code = {"type": "pre", "offset": 0, "length": 5, "language": "python"}
    assert heard(message(text="x = 1", entities=[code])).text == "```python\nx = 1\n```"
    marks = [{"type": "bold", "offset": 0, "length": 6}, {"type": "code", "offset": 7, "length": 2}]
    queued = heard(message(text="/queue ls", entities=marks))
    assert (queued.command, queued.text) == ("queue", "ls")
    assert heard(message(text="/queue ls", entities=marks[1:])).text == "`ls`"


def test_the_bots_name_is_left_out_of_formatted_text_too() -> None:
    marks = [mention(0, 11), {"type": "bold", "offset": 0, "length": 15}]
    assert group("@helper_bot now!", entities=marks).text == "**now**!"
    assert (
        group("@helper_bot now", entities=[mention(0, 11), {"type": "italic", "offset": 0, "length": 11}]).text == "now"
    )


UNREADABLE = "[a kind of message that I cannot read: {}]"


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"story": {"id": 1, "chat": CHANNEL}}, UNREADABLE.format("story") + " of News"),
        (
            {
                "checklist": {
                    "title": "Launch day",
                    "title_entities": [{"type": "bold", "offset": 0, "length": 6}],
                    "tasks": [
                        {"id": 1, "text": "buy milk", "completion_date": 1_790_000_000, "completed_by_user": ANN},
                        {"id": 2, "text": "pay rent"},
                    ],
                }
            },
            "**Launch** day\n- [x] buy milk (done by Ann Lee)\n- [ ] pay rent",
        ),
        (
            {"paid_media": {"star_count": 5, "paid_media": [{"type": "preview"}, {"type": "preview"}]}},
            UNREADABLE.format("paid media") + " (2 for 5 stars)",
        ),
        ({"game": {"title": "Chess", "description": "Mate in two"}}, "[game: Chess]\nMate in two"),
        (
            {
                "giveaway": {
                    "chats": [CHANNEL],
                    "winners_selection_date": 1_790_000_000,
                    "winner_count": 3,
                    "prize_star_count": 50,
                }
            },
            "[giveaway: 50 stars, 3 winners on 2026-09-21, News]",
        ),
        ({"giveaway_winners": {"winners": [ANN], "prize_description": "a book"}}, "[giveaway, won by Ann Lee: a book]"),
        (
            {"gift": {"gift": {"id": "g", "star_count": 15, "sticker": {"emoji": "🎂"}}, "text": "for you"}},
            "[gift 🎂, worth 15 stars]\nfor you",
        ),
        ({"unique_gift": {"gift": {"base_name": "Plush Pepe", "number": 7}}}, "[gift: Plush Pepe #7]"),
        (
            {"invoice": {"title": "Tea", "description": "green", "total_amount": 1200, "currency": "EUR"}},
            "[invoice: Tea, green, 1200 EUR (in its smallest unit)]",
        ),
        ({"web_app_data": {"button_text": "Order", "data": "2 teas"}}, "Order: 2 teas"),
        ({"location": {"latitude": 1.5, "longitude": 2, "live_period": 900}}, "[live location: 1.5, 2]"),
        ({"location": {"latitude": "?"}}, UNREADABLE.format("location")),
        ({"venue": {"title": "Inn"}, "location": {"latitude": 1, "longitude": 2}}, UNREADABLE.format("venue")),
        ({"poll": {"question": "Tea?"}}, UNREADABLE.format("poll")),
        ({"photo": "x"}, UNREADABLE.format("photo")),
        ({"voice": {"duration": 2}}, UNREADABLE.format("voice message")),
        ({"hologram": {"file_id": "h"}}, UNREADABLE.format("hologram")),
        ({"text": 5}, UNREADABLE.format("text")),
        ({"text": "still here", "entities": "?", "date": 10**30}, "still here"),
    ],
)
def test_what_people_see_is_read_or_named(fields: Json, text: str) -> None:
    for found in (heard(message(**fields)), heard(message(text="why?", reply_to_message=message(**fields)))):
        assert text in (found.text, found.note.removeprefix('In reply to Ann Lee: "').removesuffix('"'))


@pytest.mark.parametrize("by", ["reply_to_message", "external_reply"])
def test_a_message_of_this_or_another_chat_brings_its_media_when_it_is_answered(by: str) -> None:
    origin = {"origin": {"type": "user", "sender_user": ANN, "date": 1}} if by == "external_reply" else message()
    asked = heard(message(text="what is it?", **{by: origin | {"photo": [{"file_id": "f", "file_unique_id": "u"}]}}))
    assert asked.files == (FileRef("f", "photo-u.jpg", "image/jpeg", is_quoted=True),)
    assert asked.note == 'In reply to Ann Lee: "[photo]"'
    done = origin | {"checklist": {"title": "Day", "tasks": [{"id": 1, "text": "milk"}]}}
    assert heard(message(text="done?", **{by: done})).note == 'In reply to Ann Lee: "Day\n- [ ] milk"'


def test_an_answer_to_a_story_says_so() -> None:
    assert heard(message(text="nice", reply_to_story={"id": 1, "chat": CHANNEL})).note == "In reply to a story of News"


def test_pictures_that_stars_have_paid_for_come_as_pictures() -> None:
    bought = [{"type": "photo", "photo": [{"file_id": "f", "file_unique_id": "u"}]}, {"type": "video", "video": VIDEO}]
    found = heard(message(paid_media={"star_count": 5, "paid_media": bought}, caption="mine"))
    assert [file.ref for file in found.files] == ["f", "v"]
    assert found.text == "mine\n[paid media: photo, video]"


def test_a_rich_message_is_read_as_markdown() -> None:
    def cell(text: str) -> Json:
        return {"text": text, "align": "left"}

    blocks: list[Json] = [
        {"type": "heading", "size": 1, "text": "Prices"},
        {
            "type": "paragraph",
            "text": ["As of ", {"type": "bold", "text": "today"}, {"type": "unheard_of", "text": "."}],
        },
        {"type": "table", "cells": [[cell("Item"), cell("Price")], [cell("Tea"), cell("3|4")]], "caption": "In euros"},
        {"type": "list", "items": [{"label": "1.", "blocks": [{"type": "paragraph", "text": "one"}]}]},
        {
            "type": "list",
            "items": [{"label": "•", "has_checkbox": True, "blocks": [{"type": "paragraph", "text": "two"}]}],
        },
        {"type": "pre", "language": "sh", "text": "ls"},
        {
            "type": "details",
            "summary": "More",
            "blocks": [{"type": "blockquote", "blocks": [{"type": "paragraph", "text": "q"}]}],
        },
        {"type": "mathematical_expression", "expression": "a^2"},
        {"type": "photo", "photo": [{"file_id": "f", "file_unique_id": "u"}], "caption": {"text": "a cup"}},
        {"type": "paragraph", "text": {"type": "url", "url": "https://e.org", "text": "here"}},
        {"type": "hologram", "file": {}},
        {"type": "table", "cells": 5},
        "?",
    ]
    found = heard(message(rich_message={"blocks": blocks}))
    assert found.text.split("\n\n") == [
        "# Prices",
        "As of **today**.",
        "In euros",
        "| Item | Price |\n| --- | --- |\n| Tea | 3\\|4 |",
        "1. one",
        "- [ ] two",
        "```sh\nls\n```",
        "More",
        "> q",
        "$$\na^2\n$$",
        "[photo]",
        "a cup",
        "[here](https://e.org)",
        UNREADABLE.format("hologram"),
        UNREADABLE.format("table"),
        UNREADABLE.format("a block"),
    ]
    assert [file.ref for file in found.files] == ["f"]


def test_a_post_in_a_channel_is_the_channels() -> None:
    post = {key: value for key, value in message(CHANNEL, text="hi", sender_chat=CHANNEL).items() if key != "from"}
    for kind in ("channel_post", "edited_channel_post"):
        found = heard(post, kind)
        assert (found.sender, found.addressed) == (Sender("-5", "News", kind="system"), False)
        assert found.address == Address("telegram", "999", "-5", None, "group")
        assert needs_username({"update_id": 1, kind: post})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.sampled_from(["", "a", "text", "bold", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(FIELDS)), inner, max_size=4),
    max_leaves=12,
)
ABOUT = {"chat", "from", "sender_chat", "message_id", "text", "migrate_to_chat_id"}


@given(st.dictionaries(st.sampled_from(sorted(FIELDS - ABOUT)), JSON, max_size=6), st.sampled_from([PRIVATE, GROUP]))
def test_whatever_else_cannot_be_read_the_text_is_delivered(fields: Json, chat: Json) -> None:
    found = heard(message(chat, text="all the words", **fields) | fields)
    rest = iter(found.text)
    assert all(letter in rest for letter in "all the words")
    json.dumps(found.note).encode("ascii")
    found.text.encode()


def test_an_animation_is_one_file_although_it_comes_twice() -> None:
    file = {"file_id": "f", "file_unique_id": "u"}
    assert len(heard(message(animation=file, document=file)).files) == 1


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"sticker": {"emoji": "👍", "file_id": "f"}}, "👍"),
        ({"location": {"latitude": 52.5, "longitude": 13.4}}, "[location: 52.5, 13.4]"),
        ({"contact": {"first_name": "Bob", "phone_number": "+49"}}, "[contact: Bob, +49]"),
        ({"dice": {"emoji": "🎲", "value": 4}}, "🎲 4"),
        ({"poll": {"question": "Tea?", "options": [{"text": "yes"}, {"text": "no"}]}}, "[poll: Tea? yes / no]"),
    ],
)
def test_other_things_come_in_words(fields: Json, text: str) -> None:
    assert heard(message(**fields)).text == text


def test_what_is_said_in_reply_to_somebodys_picture_brings_it_along() -> None:
    photo = [{"file_id": "f", "file_unique_id": "u"}]
    asked = heard(message(text="what is it?", reply_to_message=message(photo=photo)))
    assert (asked.text, asked.files) == ("what is it?", (FileRef("f", "photo-u.jpg", "image/jpeg", is_quoted=True),))
    command = heard(message(text="/queue say what it is", reply_to_message=message(photo=photo)))
    assert (command.command, command.text, command.files, command.note) == (
        "queue",
        "say what it is",
        asked.files,
        asked.note,
    )
    assert command.quoted == asked.quoted
    own = heard(message(text="nice", reply_to_message=message(photo=photo, **{"from": ME})))
    assert (own.files, own.quoted) == ((FileRef("f", "photo-u.jpg", "image/jpeg", is_quoted=True),), ())


def test_what_is_answered_and_forwarded_stands_in_the_note() -> None:
    asked = message(text="x" * 2000, **{"from": ANN | {"first_name": "Bob", "last_name": None}})
    assert heard(message(text="why?", reply_to_message=asked)).note == f'In reply to Bob: "{"x" * 1000}…"'
    quoted = heard(message(text="why?", reply_to_message=asked, quote={"text": "this part", "position": 0}))
    assert quoted.note == 'In reply to Bob: "this part"'
    mine = message(text="Done", **{"from": ME})
    assert heard(message(text="thanks", reply_to_message=mine)).note == 'In reply to your message: "Done"'
    picture = message(photo=[{"file_id": "f", "file_unique_id": "u"}])
    assert heard(message(text="this?", reply_to_message=picture)).note == 'In reply to Ann Lee: "[photo]"'
    elsewhere = {"origin": {"type": "chat", "sender_chat": GROUP, "date": 1}, "message_id": 3}
    part = heard(message(text="why?", external_reply=elsewhere, quote={"text": "this part", "position": 0}))
    assert part.note == 'In reply to Team: "this part"'


@pytest.mark.parametrize(
    ("origin", "whom"),
    [
        ({"type": "user", "sender_user": ANN}, "Ann Lee"),
        ({"type": "hidden_user", "sender_user_name": "Carol"}, "Carol"),
        ({"type": "chat", "sender_chat": GROUP, "author_signature": "x"}, "Team"),
        ({"type": "channel", "chat": {"id": -5, "type": "channel", "title": "News"}, "message_id": 3}, "News"),
    ],
)
def test_a_forwarded_message_says_so(origin: Json, whom: str) -> None:
    assert heard(message(text="read this", forward_origin=origin | {"date": 1})).note == f"Forwarded from {whom}"


def test_a_channels_post_in_its_group_is_the_channels_and_comments_carry_it() -> None:
    news: Json = {"id": -5, "type": "channel", "title": "News", "username": "news"}
    telegram = {"id": 777000, "is_bot": False, "first_name": "Telegram"}
    origin = {"type": "channel", "chat": news, "message_id": 3, "date": 1}
    post = message(GROUP, text="Rain", sender_chat=news, is_automatic_forward=True, forward_origin=origin)
    found = heard(post | {"from": telegram})
    assert (found.sender, found.addressed) == (Sender("-5", "News", "news", "system"), False)
    comment = group("why?", reply_to_message=post, message_thread_id=5)
    assert (comment.note, comment.address.thread) == ('In reply to News: "Rain"', None)


def test_a_topic_of_a_private_chat_is_a_place_of_its_own() -> None:
    found = heard(message(text="hi", message_thread_id=42, is_topic_message=True))
    assert (found.address.kind, found.address.thread) == ("direct", "42")


def test_other_bots_are_heard_as_such() -> None:
    other = {"id": 5, "is_bot": True, "first_name": "Other", "username": "other_bot"}
    assert group("hi", **{"from": other}).sender == Sender("5", "Other", "other_bot", "bot")
    stopped = {"id": "q", "from": other, "chat_instance": "c", "data": "stop:run-1", "message": message(GROUP)}
    assert heard(stopped, "callback_query").sender.kind == "bot"


def test_an_option_is_an_answer_with_its_questions_key_and_its_number() -> None:
    query = {"id": "q", "from": ANN, "chat_instance": "c", "data": "answer:q:4f0c_3_0:12", "message": message()}
    found = heard(query, "callback_query")
    assert (found.kind, found.command, found.text, found.message_id) == ("command", "answer", "q:4f0c_3_0 12", "5")


@pytest.mark.parametrize("data", ["other:1", "answer:", "answer:1", "answer:key:", "answer:key:x", "answer::1", ""])
def test_a_button_that_is_none_of_ours_is_no_command(data: str) -> None:
    query = {"id": "q", "from": ANN, "chat_instance": "c", "data": data, "message": message()}
    assert read(query, "callback_query") is None
    assert read({key: value for key, value in query.items() if key != "data"}, "callback_query") is None


@pytest.mark.parametrize(("data", "command"), [("stop:run-1", "stop"), ("answer:q:1_0:0", "answer")])
def test_a_button_on_a_message_too_old_to_read_works(data: str, command: str) -> None:
    gone = {"chat": GROUP, "message_id": 5, "date": 0}
    query = {"id": "q", "from": ANN, "chat_instance": "c", "data": data, "message": gone}
    found = heard(query, "callback_query")
    assert (found.command, found.message_id, found.sent_at) == (command, "5", NOW)
    assert found.address == Address("telegram", "999", "-100", None, "group")


def test_a_stop_button_is_a_command() -> None:
    query = {"id": "q", "from": ANN, "chat_instance": "c", "data": "stop:run-1", "message": message(GROUP)}
    found = heard(query, "callback_query")
    assert (found.kind, found.command, found.text, found.message_id) == ("command", "stop", "run-1", "5")
    assert (found.sent_at, found.address.kind) == (NOW, "group")


def test_an_anonymous_administrator_speaks_for_the_group() -> None:
    stand_in = {"id": 1087968824, "is_bot": True, "first_name": "Group", "username": "GroupAnonymousBot"}
    found = heard(message(GROUP, text="hi", sender_chat=GROUP, **{"from": stand_in}))
    assert found.sender == Sender("-100", "Team", kind="system")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(message(text="hi", **{"from": ME}), id="its own message"),
        pytest.param(message(GROUP, new_chat_members=[ANN]), id="a service message"),
        pytest.param(message({"id": 7, "type": "sender"}, text="hi"), id="an unknown kind of chat"),
        pytest.param(message(GROUP, pinned_message=message(GROUP, text="hi")), id="a pinned message"),
        pytest.param(message(text=""), id="nothing"),
    ],
)
def test_what_is_none_of_ours(content: Json) -> None:
    assert read(content) is None
    assert read(content, "channel_post") is None


@pytest.mark.parametrize(
    "update",
    [
        {"update_id": 1, "message": {"text": "hi"}},
        {"update_id": 1, "message": message() | {"chat": "x"}},
        {"update_id": 1, "message": message(text="hi") | {"from": None}},
        {"update_id": 1, "message": "x"},
        {"message": message()},
        {"update_id": 1, "callback_query": {"id": "q", "data": "stop:1", "message": 5}},
    ],
)
def test_an_update_that_does_not_say_who_wrote_where_raises_what_the_channel_skips(update: Json) -> None:
    needs_username(update)
    with pytest.raises(MALFORMED):
        parse(update, BOT, NOW)


def test_half_a_surrogate_pair_becomes_storable() -> None:
    assert heard(message(text="a\ud83d")).text.encode() == b"a?"
    assert heard(message(text="a", **{"from": ANN | {"first_name": "\ud83d"}})).sender.name.encode() == b"? Lee"


def test_only_group_talk_has_to_wait_for_the_bots_name() -> None:
    assert needs_username({"update_id": 1, "message": message(GROUP)})
    assert not needs_username({"update_id": 1, "message": message()})
    assert not needs_username({"update_id": 1, "callback_query": {}})
