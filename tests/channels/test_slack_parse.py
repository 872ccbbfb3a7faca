"""Slack's events, read: who did what where, and what is none of ours."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from channels.address import Address, Sender
from channels.message import FileRef, ForeignText, InboundMessage
from channels.slack.parse import Bot, chat_of, parse, people, time_of, user_sender
from channels.visible import MALFORMED

Json = dict[str, Any]

BOT = Bot("slack", "UBOT", "BBOT", "T1", "helper")
NOW = datetime(2026, 11, 21, tzinfo=UTC)
ANN, BOB = Sender("UANN", "Ann", "ann"), Sender("UBOB", "Bob")
NAMES = {"UANN": ANN, "UBOB": BOB, "C2": Sender("C2", "random")}


def event(fields: Json, id: str = "Ev1") -> Json:
    return {"type": "event_callback", "team_id": "T1", "event_id": id, "event": fields}


def message(**fields: Any) -> Json:
    base = {"type": "message", "channel": "C1", "channel_type": "channel", "user": "UANN", "ts": "1790000000.000100"}
    return event(base | fields)


def direct(**fields: Any) -> Json:
    return message(**{"channel": "D1", "channel_type": "im"} | fields)


def changed(before: Json, after: Json, **fields: Any) -> Json:
    base = {"user": "UANN", "ts": "1790000000.000100", "type": "message"}
    return direct(
        subtype="message_changed",
        message=base | after,
        previous_message=base | before,
        event_ts="1790000009.000000",
        ts="1790000009.000000",
        **fields,
    )


def read(body: Json) -> InboundMessage | None:
    return parse(body, BOT, NAMES, NOW)


def heard(body: Json) -> InboundMessage:
    found = read(body)
    assert found is not None
    return found


def test_a_direct_message() -> None:
    assert heard(direct(text="hi")) == InboundMessage(
        "T1:D1:1790000000.000100",
        Address("slack", "UBOT", "D1"),
        ANN,
        datetime.fromtimestamp(1_790_000_000.0001, UTC),
        message_id="1790000000.000100",
        text="hi",
    )


def test_a_thread_of_a_direct_message_is_a_place_of_its_own() -> None:
    found = heard(direct(text="hi", thread_ts="1780000000.000100"))
    assert (found.address.thread, found.thread_root) == ("1780000000.000100", "1780000000.000100")
    assert (found.addressed, found.follows) == (True, False)


@pytest.mark.parametrize("kind", ["channel", "group", "mpim"])
def test_where_many_talk_a_mention_begins_a_thread(kind: str) -> None:
    found = heard(message(text="<@UBOT> hi", channel_type=kind))
    assert found.address == Address("slack", "UBOT", "C1", "1790000000.000100", "group")
    assert (found.text, found.addressed, found.follows, found.thread_root) == ("hi", True, False, None)


def test_both_events_of_a_mention_are_one_message() -> None:
    said = message(text="<@UBOT> hi")
    mention = event({key: value for key, value in said["event"].items() if key != "channel_type"}, "Ev2")
    mention["event"]["type"] = "app_mention"
    assert read(mention) == read(said)


def test_where_replies_are_in_the_channel_that_is_one_conversation() -> None:
    bot = replace(BOT, replies="channel")
    said = parse(message(text="<@UBOT> hi"), bot, NAMES, NOW)
    assert said is not None
    assert said.address == Address("slack", "UBOT", "C1", None, "group")
    assert said.has_talk
    in_thread = parse(message(text="<@UBOT> hi", thread_ts="1780000000.000100"), bot, NAMES, NOW)
    assert in_thread is not None
    assert in_thread.address.thread == "1780000000.000100"


def test_a_message_that_cannot_be_read_is_its_raw_text() -> None:
    found = heard(message(text="<@UBOT> the words", thread_ts="1780000000.000100", attachments=[{"from_url": 5}]))
    assert found.text.endswith("the words")
    after = {"text": "<@UBOT> the words", "edited": {"ts": "soon"}}
    odd = heard(changed({"text": "a"}, after, channel="C1", channel_type="channel"))
    assert (odd.text, odd.addressed, odd.kind) == ("<@UBOT> the words", True, "edited")


def test_other_talk_is_not_meant_for_the_bot_and_in_a_thread_it_may_follow() -> None:
    talk = heard(message(text="hi all"))
    assert (talk.addressed, talk.follows, talk.address.thread) == (False, False, "1790000000.000100")
    following = heard(message(text="hi all", thread_ts="1780000000.000100"))
    assert (following.addressed, following.follows) == (False, True)


@pytest.mark.parametrize(
    ("wire", "text"),
    [
        ("a &lt;b&gt; &amp;amp; c", "a <b> &amp; c"),
        ("<@UBOB> and <@UNEW|eve> and <@UNEW>", "@Bob and @eve and @UNEW"),
        ("in <#C1|general> or <#C2> or <#C2|>", "in #general or #random or #random"),
        ("<!here> <!channel|@channel> <!subteam^S1|@devs> <!date^1^{date}|today>", "@here @channel @devs today"),
        ("<https://e.org/?a=1&amp;b=2>", "https://e.org/?a=1&b=2"),
        ("<https://e.org/x|the page> <http://e.org|e.org>", "the page (https://e.org/x) http://e.org"),
        ("<mailto:a@e.org|a@e.org>", "a@e.org"),
        ("<@UBOT>, stop that", "stop that"),
        ("ask <@UBOT|helper> now", "ask now"),
        ("half of \ud83d", "half of ?"),
    ],
)
def test_text_as_one_reads_it(wire: str, text: str) -> None:
    assert heard(direct(text=wire)).text == text


@pytest.mark.parametrize(
    ("wire", "command", "arguments"),
    [
        ("!stop", "stop", ""),
        ("<@UBOT> !Busy  queue\nit", "busy", "queue\nit"),
        ("<@UBOT>: !queue then <https://e.org>", "queue", "then https://e.org"),
    ],
)
def test_commands_in_text(wire: str, command: str, arguments: str) -> None:
    for body in (direct(text=wire), message(text=wire, thread_ts="1780000000.000100")):
        found = heard(body)
        assert (found.kind, found.command, found.text) == ("command", command, arguments)


@pytest.mark.parametrize("text", ["!", "! stop", "!!!", "wow!", "say !stop", "!1 is one"])
def test_what_is_no_command(text: str) -> None:
    assert heard(direct(text=text)).kind == "new"


def test_a_command_with_a_file_or_by_an_edit_is_none() -> None:
    assert heard(direct(text="!stop", subtype="file_share", files=[{"id": "F1", "name": "x"}])).kind == "new"
    assert read(changed({"text": "a"}, {"text": "!stop", "edited": {"ts": "1790000005.000000"}})) is None


def test_a_slash_command_carries_the_command_in_its_first_word() -> None:
    body = {"command": "/interject", "channel_id": "C1", "user_id": "UANN", "trigger_id": "9", "channel_name": "team"}
    found = heard(body | {"text": "busy  queue &amp; wait"})
    assert (found.command, found.text, found.address) == (
        "busy",
        "queue & wait",
        Address("slack", "UBOT", "C1", None, "group"),
    )
    assert heard(body | {"text": ""}).command == "help"
    assert heard(body | {"text": "/stop"}).command == "stop"
    assert heard(body | {"channel_name": "directmessage", "channel_id": "D1"}).address.kind == "direct"
    assert people(body | {"text": "btw <@UBOB>"}) == {"UANN", "UBOB"}


def test_an_edit_means_the_message_edited() -> None:
    found = heard(changed({"text": "a"}, {"text": "b", "edited": {"user": "UANN", "ts": "1790000005.000000"}}))
    assert (found.kind, found.message_id, found.text) == ("edited", "1790000000.000100", "b")
    assert found.event_id == "T1:D1:1790000000.000100:edited:1790000005.000000"
    assert found.sent_at == datetime.fromtimestamp(1_790_000_005, UTC)


def test_a_change_that_changes_no_words_is_none() -> None:
    assert read(changed({"text": "a"}, {"text": "a", "edited": {"ts": "1790000005.000000"}})) is None
    assert read(changed({"text": "a"}, {"text": "a", "reply_count": 2})) is None
    assert read(changed({"text": "a", "user": "UBOT"}, {"text": "b", "user": "UBOT"})) is None


def test_the_preview_of_a_link_is_an_update_in_which_nobody_said_anything() -> None:
    preview = {"attachments": [{"from_url": "https://e.org", "title": "A page"}]}
    found = heard(changed({"text": "a"}, {"text": "a"} | preview))
    assert (found.kind, found.is_update, found.text) == ("edited", True, "a")
    assert found.foreign == (ForeignText("the preview of https://e.org", "A page"),)
    assert found.event_id == "T1:D1:1790000000.000100:updated:1790000009.000000"
    linked = {"attachments": [{"is_msg_unfurl": True, "author_name": "Bob", "text": "the tower"}]}
    assert heard(changed({"text": "a"}, {"text": "a"} | linked)).note == 'Forwarded from Bob: "the tower"'
    edited = {"edited": {"user": "UANN", "ts": "1790000005.000000"}}
    later = changed({"text": "a"} | edited, {"text": "a"} | edited | preview)
    assert heard(later).is_update


def test_a_mention_that_is_written_into_a_message_is_one_edit_in_two_events() -> None:
    after = {"text": "<@UBOT> check the build", "edited": {"user": "UANN", "ts": "1790000005.000000"}}
    edit = changed({"text": "check the build"}, after, channel="C1", channel_type="channel")
    mention = event({"type": "app_mention", "channel": "C1", "user": "UANN", "ts": "1790000000.000100"} | after, "Ev2")
    assert read(edit) == read(mention)
    assert (heard(edit).kind, heard(edit).addressed, heard(edit).text) == ("edited", True, "check the build")


def test_a_deleted_message_is_withdrawn_by_its_author() -> None:
    before = {"user": "UANN", "ts": "1.000100", "text": "hi", "thread_ts": "1.000000"}
    gone = heard(message(subtype="message_deleted", previous_message=before, deleted_ts="1.000100", event_ts="5.0"))
    assert (gone.kind, gone.message_id, gone.address.thread, gone.sender) == ("withdrawn", "1.000100", "1.000000", ANN)
    assert gone.event_id == "T1:C1:1.000100:deleted"
    own = before | {"user": "UBOT", "bot_id": "BBOT"}
    assert read(message(subtype="message_deleted", previous_message=own, deleted_ts="1.0", event_ts="5.0")) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"user": "UBOT", "text": "mine"},
        {"user": "UX", "bot_id": "BBOT", "text": "mine"},
        {"subtype": "channel_join", "text": "has joined"},
        {"subtype": "assistant_app_thread", "text": "New thread"},
        {"text": ""},
        {"type": "reaction_added"},
    ],
)
def test_what_is_none_of_ours(fields: Json) -> None:
    assert read(message(**fields)) is None


def test_other_programs_are_marked_as_such() -> None:
    classic = heard(event({**message()["event"], "user": None, "subtype": "bot_message", "bot_id": "B2", "text": "up"}))
    assert classic.sender == Sender("B2", "B2", None, kind="bot")
    assert heard(message(user="UNEW", bot_id="B2", text="up")).sender.kind == "bot"
    blocks = [{"type": "section", "text": {"type": "mrkdwn", "text": "it is &lt;up&gt;"}}]
    assert heard(message(bot_id="B2", text="", blocks=blocks)).text == "it is <up>"
    program = {"id": "U1", "name": "x", "is_bot": True, "profile": {"display_name": ""}}
    assert user_sender(program, "T1").kind == "bot"


def test_a_post_with_a_persons_own_token_is_the_persons() -> None:
    assert heard(message(user="UANN", bot_id="B2", app_id="A2", text="<@UBOT> up?")).sender == ANN


def test_files_with_what_is_needed_to_fetch_them() -> None:
    files = [
        {"id": "F1", "name": "a.png", "mimetype": "image/png", "size": 5, "url_private_download": "https://s/a"},
        {"id": "F2", "title": "doc", "is_external": True, "url_private": "https://elsewhere/doc"},
        {"id": "F3", "file_access": "check_file_info"},
        {"id": "F4", "mode": "tombstone"},
    ]
    found = heard(direct(text="", subtype="file_share", files=files))
    assert found.files == (
        FileRef("F1 https://s/a", "a.png", "image/png", 5),
        FileRef("F2 ", "doc"),
        FileRef("F3 ", "file-F3"),
    )


def test_a_message_passed_on_says_whose_it_was() -> None:
    shared = {"is_share": True, "author_name": "Bob", "text": "&lt;hello&gt; " + "x" * 5000, "files": [{"id": "F1"}]}
    found = heard(direct(text="see", attachments=[shared], files=[{"id": "F2"}]))
    assert [(file.name, file.is_quoted) for file in found.files] == [("file-F2", False), ("file-F1", True)]
    assert found.note.startswith('Forwarded from Bob: "<hello> xxx')
    assert found.note.endswith('x…"')
    bare = heard(direct(text="", attachments=[shared | {"text": "!stop"}]))
    assert (bare.kind, bare.text, bare.note) == ("new", "!stop", "Forwarded from Bob")


def press(value: str, **fields: Any) -> Json:
    return {
        "type": "block_actions",
        "user": {"id": "UANN", "username": "ann", "name": "ann"},
        "container": {"type": "message", "message_ts": "5.000100", "channel_id": "C1"},
        "channel": {"id": "C1", "name": "team"},
        "message": {"ts": "5.000100", "thread_ts": "4.000100"},
        "trigger_id": "77",
        "actions": [{"action_id": "x", "value": value, "action_ts": "6.0"}],
    } | fields


def test_pressed_buttons() -> None:
    stop = heard(press("stop:run-1"))
    assert (stop.command, stop.text, stop.message_id, stop.address.thread) == ("stop", "run-1", "5.000100", "4.000100")
    assert stop.event_id != heard(press("stop:run-1", trigger_id="78")).event_id
    answer = heard(press("answer:q:4f_3_0:2"))
    assert (answer.command, answer.text) == ("answer", "q:4f_3_0 2")
    for other in ("", "other", "answer:", "answer:q:x", "answer::1"):
        assert read(press(other)) is None


def test_slacks_own_stop_button() -> None:
    body = event({"type": "agent_session_stopped", "channel": "D1", "thread_ts": "4.0", "user": "UANN"}, "Ev9")
    found = heard(body)
    assert (found.command, found.text, found.message_id) == ("stop", "", None)
    assert found.address == Address("slack", "UBOT", "D1", "4.0")
    assert found.event_id == "T1:D1:stopped:Ev9"


def test_whose_names_are_wanted() -> None:
    assert people(message(text="<@UBOB> in <#C2> and <#C3|known>")) == {"UANN", "UBOB", "C2"}
    assert people(changed({"text": ""}, {"text": "<@UBOB>"})) == {"UANN", "UBOB"}


def test_where_and_when_something_happened() -> None:
    assert (chat_of(message()), time_of(message(), 9.0)) == ("C1", 1_790_000_000.0001)
    assert (chat_of(press("x")), time_of(press("x"), 9.0)) == ("C1", 6.0)
    assert (chat_of({}), time_of({"event": {"ts": "x"}}, 9.0)) == ("", 9.0)


@pytest.mark.parametrize(
    "body",
    [
        event({"type": "message"}),
        message(text="x", ts=None),
        message(text="x", ts="soon"),
        message(subtype="message_changed"),
        {"type": "event_callback"},
        {"type": "block_actions"},
        {"command": "/interject"},
    ],
)
def test_what_is_not_shaped_like_an_event_is_malformed(body: Json) -> None:
    chat_of(body), time_of(body, 0.0), people(body)
    with pytest.raises(MALFORMED):
        parse(body, BOT, NAMES, NOW)
