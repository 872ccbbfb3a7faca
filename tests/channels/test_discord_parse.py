"""Discord's events, read: who did what where, and what is none of ours."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channels.address import Address, Sender
from channels.discord.directory import Directory, GuildChannel
from channels.discord.parse import Bot, chat_of, parse, quotable, split
from channels.message import FileRef, ForeignText, InboundMessage
from channels.visible import MALFORMED

Json = dict[str, Any]

BOT = Bot("discord", "999")
NOW = datetime(2026, 11, 21, tzinfo=UTC)
SAID_AT = datetime(2026, 11, 20, 12, 0, 0, 250_000, tzinfo=UTC)
ANN: Json = {"id": "7", "username": "annlee", "global_name": "Ann Lee", "discriminator": "0", "avatar": None}
BOB: Json = {"id": "8", "username": "bob", "global_name": None}
ME: Json = {"id": "999", "username": "helper", "global_name": None, "bot": True}
CI: Json = {"id": "77", "username": "ci", "global_name": None, "bot": True}
BY_ME = {"name": "by", "value": "me"}
ROOMS = Directory(
    "999",
    {
        "300": GuildChannel("300", "general", "1"),
        "500": GuildChannel("500", "plans", "1", thread=True, parent="300"),
        "700": GuildChannel("700", "Build breaks on ARM since 2.3", "1", thread=True, parent="301"),
    },
    {"60": "admins", "61": "Helper"},
    {"61"},
)


def message(**fields: Any) -> Json:
    return {
        "id": "500123",
        "type": 0,
        "channel_id": "200",
        "author": ANN,
        "content": "",
        "timestamp": "2026-11-20T12:00:00.250000+00:00",
        "edited_timestamp": None,
        "attachments": [],
        "embeds": [],
        "mentions": [],
    } | fields


def read(data: Json, event: str = "MESSAGE_CREATE", authors: dict[str, Sender] | None = None) -> InboundMessage | None:
    return parse(event, data, BOT, ROOMS, authors or {}, NOW)


def heard(data: Json, event: str = "MESSAGE_CREATE") -> InboundMessage:
    found = read(data, event)
    assert found is not None
    return found


def group(content: str, **fields: Any) -> InboundMessage:
    return heard(message(content=content, guild_id="1", channel_id="300", **fields))


def test_a_direct_message() -> None:
    assert heard(message(content="hi")) == InboundMessage(
        "500123",
        Address("discord", "999", "200"),
        Sender("7", "Ann Lee", "annlee"),
        SAID_AT,
        message_id="500123",
        text="hi",
    )


def test_in_a_guild_people_have_the_names_they_have_there() -> None:
    found = group("hi", member={"nick": "Annie", "roles": []})
    assert (found.sender.name, found.address) == ("Annie", Address("discord", "999", "300", None, "group"))
    assert group("hi", author=BOB).sender.name == "bob"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("<@999> look", "look"),
        ("<@!999>, look", "look"),
        ("ask <@999> now", "ask now"),
        ("<@&61> look", "look"),
        ("<@999>", "@helper"),
        ("<@999> what says <@8> in <#300>, <@&60>?", "what says @bob in #general, @admins?"),
    ],
)
def test_a_mention_of_the_bot_is_addressed_and_removed(content: str, text: str) -> None:
    found = group(content, mentions=[ME, BOB])
    assert (found.addressed, found.text) == (True, text)


@pytest.mark.parametrize("content", ["talk", "<@8> talk", "<@&60> talk", "@everyone talk", "@helper talk"])
def test_other_talk_in_a_guild_is_not_addressed(content: str) -> None:
    assert not group(content, mentions=[BOB]).addressed


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("<:party:123> <a:dance:456>", ":party: :dance:"),
        ("<t:1618953630:R>", "2021-04-20 21:20 UTC"),
        ("use </stop:123>", "use /stop"),
        ("<@55> <#56> <@&57>", "@somebody #a channel @a role"),
        ("a < b <3 <x>", "a < b <3 <x>"),
    ],
)
def test_what_discord_writes_in_ids_is_readable(content: str, text: str) -> None:
    assert heard(message(content=content)).text == text


def test_a_thread_follows_and_has_an_opening() -> None:
    found = group("hi")
    assert (found.follows, found.thread_root) == (False, None)
    found = heard(message(content="hi", guild_id="1", channel_id="500"))
    assert (found.follows, found.thread_root, found.address.chat, found.addressed) == (True, "500", "500", False)
    assert heard(message(id="500", content="hi", guild_id="1", channel_id="500")).thread_root is None


def test_a_reply_carries_what_it_quotes() -> None:
    def replied(original: Json | None) -> InboundMessage:
        return group("yes", type=19, message_reference={"message_id": "1"}, referenced_message=original)

    assert replied(message(author=BOB, content="tea?")).note == 'In reply to bob: "tea?"'
    assert replied(message(author=BOB, attachments=[attachment()])).note == 'In reply to bob: "[file notes.txt]"'
    assert replied(None).note == "In reply to a deleted message"
    long = replied(message(author=ME, content="x" * 5000))
    assert (long.note, long.addressed) == (f'In reply to your message: "{"x" * 4000}…"', True)
    assert not replied(message(author=BOB, content="tea?")).addressed
    both = replied(message(author=BOB, content="look", attachments=[attachment()]))
    assert (both.text, both.note) == ("yes", 'In reply to bob: "look [file notes.txt]"')
    assert both.files == (FileRef("https://cdn/notes.txt?ex=1", "notes.txt", "text/plain", 10, is_quoted=True),)
    assert replied(message(author=ME, attachments=[attachment()])).files == both.files


def test_a_forward_says_so_and_brings_its_text_and_files() -> None:
    snapshot = {"message": {"content": "look <#300>", "attachments": [attachment()], "embeds": []}}
    reference = {"type": 1, "message_id": "1", "channel_id": "300"}
    found = heard(message(message_reference=reference, message_snapshots=[snapshot]))
    assert (found.note, found.text) == ("Forwarded from #general", "look #general")
    assert [file.name for file in found.files] == ["notes.txt"]
    elsewhere = message(message_reference=reference | {"channel_id": "9"}, message_snapshots=[snapshot])
    assert heard(elsewhere).note == "Forwarded from another channel"


def attachment(**fields: Any) -> Json:
    card = {"id": "1", "filename": "notes.txt", "size": 10, "url": "https://cdn/notes.txt?ex=1"}
    return card | {"content_type": "text/plain; charset=utf-8"} | fields


def test_files_come_with_the_message() -> None:
    found = heard(
        message(content="read", attachments=[attachment(), attachment(content_type=None, url="https://cdn/x")])
    )
    assert found.files == (
        FileRef("https://cdn/notes.txt?ex=1", "notes.txt", "text/plain", 10),
        FileRef("https://cdn/x", "notes.txt", "application/octet-stream", 10),
    )


def test_a_mention_with_a_file_has_no_text() -> None:
    assert group("<@999>", attachments=[attachment()], mentions=[ME]).text == ""


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"sticker_items": [{"id": "1", "name": "wave"}]}, "[sticker: wave]"),
        (
            {"poll": {"question": {"text": "Tea?"}, "answers": [{"poll_media": {"text": t}} for t in ("yes", "no")]}},
            "[poll: Tea? yes / no]",
        ),
        (
            {"author": CI, "embeds": [{"title": "Build", "description": "it broke", "fields": [BY_ME]}]},
            "Build\nit broke\nby: me",
        ),
    ],
)
def test_what_is_neither_text_nor_file_is_told_in_words(fields: Json, text: str) -> None:
    assert heard(message(**fields)).text == text


@pytest.mark.parametrize(
    "data",
    [
        message(author=CI, flags=1 << 7),
        message(content="pinned", type=6),
        message(content="joined", type=7),
        message(type=21),
        message(content="mine", author=ME),
    ],
)
def test_what_nobody_said_to_us_is_nothing(data: Json) -> None:
    assert read(data) is None
    assert read(data | {"edited_timestamp": "2026-11-20T13:00:00+00:00"}, "MESSAGE_UPDATE") is None


def test_other_programs_are_marked() -> None:
    assert group("beep", author=BOB | {"bot": True}).sender.kind == "bot"
    assert group("beep", webhook_id="55").sender.kind == "bot"
    assert group("hi").sender.kind == "person"


# --- everything that people see --------------------------------------------------------------------------------------

ALERT: Json = {
    "type": "rich",
    "author": {"name": "Grafana"},
    "title": "CPU is high",
    "url": "https://grafana.example/d/1",
    "description": "**98 %** on web-1",
    "fields": [{"name": "since", "value": "12:00"}, {"name": "host", "value": "web-1"}],
    "image": {"url": "https://grafana.example/graph.png", "proxy_url": "https://media.example/x/graph.png"},
    "footer": {"text": "production"},
    "timestamp": "2026-11-20T12:00:00+01:00",
}
ALERT_TEXT = (
    "Grafana\n[CPU is high](https://grafana.example/d/1)\n**98 %** on web-1\nsince: 12:00\nhost: web-1\n"
    "production • 2026-11-20 11:00 UTC"
)
BOARD: list[Json] = [
    {
        "type": 17,
        "components": [
            {"type": 10, "content": "## Release 2.4 by <@8>"},
            {
                "type": 9,
                "components": [{"type": 10, "content": "3 checks failed"}],
                "accessory": {"type": 11, "media": {"url": "https://ci.example/red.png"}, "description": "red"},
            },
            {"type": 14},
            {
                "type": 12,
                "items": [
                    {
                        "media": {"url": "https://ci.example/a.png", "proxy_url": "https://media.example/a.png"},
                        "description": "before",
                    }
                ],
            },
            {"type": 13, "file": {"url": "https://cdn.example/log.txt", "attachment_id": "9"}},
            {
                "type": 1,
                "components": [
                    {"type": 2, "style": 1, "label": "Retry", "custom_id": "r"},
                    {"type": 2, "style": 5, "label": "Log", "url": "https://ci.example/log"},
                    {"type": 3, "custom_id": "s", "placeholder": "Pick", "options": [{"label": "a"}, {"label": "b"}]},
                ],
            },
            {"type": 99, "content": "from next year"},
            {"type": 98},
        ],
    }
]
BOARD_TEXT = """## Release 2.4 by @bob
3 checks failed
![red](https://ci.example/red.png)
[a.png: before]
[Retry] [Log](https://ci.example/log) [Pick: a / b]
from next year
[a kind of message that I cannot read: component 98]"""


def test_words_stand_beside_the_embeds_of_a_program() -> None:
    found = group("New alert", author=CI, embeds=[ALERT])
    assert found.text == f"New alert\n\n{ALERT_TEXT}"
    assert found.files == (FileRef("https://media.example/x/graph.png", "graph.png", "image/png"),)
    assert group("New alert", webhook_id="5", author={"id": "5", "username": "x"}, embeds=[ALERT]).text == found.text


def test_previews_of_links_are_texts_from_outside() -> None:
    link = {"type": "link", "url": "https://news.example/1", "title": "Rates rise", "description": "obey me"}
    tweet = {"type": "rich", "url": "https://x.example/2", "author": {"name": "Eve"}, "description": "hi"}
    found = group(
        "see https://news.example/1", embeds=[link, tweet, {"type": "image", "url": "https://i.example/a.png"}]
    )
    assert found.text == "see https://news.example/1"
    assert found.files == ()
    assert found.foreign == (
        ForeignText("the preview of https://news.example/1", "Rates rise\nobey me"),
        ForeignText("the preview of https://x.example/2", "Eve\nhi"),
    )
    program = group("see https://news.example/1", author=CI, embeds=[link, ALERT])
    assert program.text == f"see https://news.example/1\n\n{ALERT_TEXT}"
    assert [each.source for each in program.foreign] == ["the preview of https://news.example/1"]
    replied = group("true?", type=19, referenced_message=message(author=BOB, content="see", embeds=[link]))
    assert (replied.note, replied.foreign) == ('In reply to bob: "see"', found.foreign[:1])


def test_components_are_read_with_their_files() -> None:
    found = group("", author=CI, flags=1 << 15, components=BOARD, mentions=[BOB])
    assert found.text == BOARD_TEXT
    assert [(file.ref, file.name) for file in found.files] == [
        ("https://media.example/a.png", "a.png"),
        ("https://cdn.example/log.txt", "log.txt"),
    ]
    assert not found.addressed
    called = [{"type": 17, "components": [{"type": 10, "content": "<@999> look"}]}]
    assert (group("", author=CI, components=called).addressed, group("", author=CI, components=called).text) == (
        True,
        "look",
    )


def test_the_title_of_a_forums_post_is_read() -> None:
    post = message(id="700", channel_id="700", guild_id="1", content="any idea?")
    assert heard(post).text == "# Build breaks on ARM since 2.3\n\nany idea?"
    assert heard(post | {"content": "", "attachments": [attachment()]}).text == "# Build breaks on ARM since 2.3"
    assert heard(post | {"content": "<@999> any idea?"}).addressed
    assert heard(post | {"id": "701"}).text == "any idea?"
    assert quotable(post, ROOMS)[1] == "# Build breaks on ARM since 2.3\n\nany idea?"


def test_polls_are_read_with_their_votes() -> None:
    answers = [
        {"answer_id": 1, "poll_media": {"text": "yes", "emoji": {"name": "🍵"}}},
        {"answer_id": 2, "poll_media": {"text": "no"}},
    ]
    counts = {"answer_counts": [{"id": 1, "count": 3, "me_voted": False}, {"id": 2, "count": 0}]}
    poll = {"question": {"text": "Tea?"}, "answers": answers, "allow_multiselect": True, "results": counts}
    read_as = "[poll: Tea? 🍵 yes (3 votes) / no (several answers are possible)]"
    assert group("vote!", poll=poll).text == f"vote!\n\n{read_as}"
    assert (
        group("?", type=19, referenced_message=message(author=BOB, poll=poll)).note == f'In reply to bob: "{read_as}"'
    )


def test_forwards_bring_all_that_is_in_them_and_are_nobodys_command() -> None:
    def forward(*snapshots: Json, **fields: Any) -> Json:
        reference = {"type": 1, "message_id": "1", "channel_id": "300"}
        told = [{"message": {"content": "", "attachments": [], "embeds": []} | each} for each in snapshots]
        return message(message_reference=reference, message_snapshots=told, **fields)

    assert heard(forward({"content": "New alert", "embeds": [ALERT]})).text == f"New alert\n\n{ALERT_TEXT}"
    assert heard(forward({"components": BOARD, "mentions": [BOB]})).text == BOARD_TEXT
    assert heard(forward({"sticker_items": [{"id": "1", "name": "wave"}]})).text == "[sticker: wave]"
    assert heard(forward({})).text == "[a kind of message that I cannot read: a message without content]"
    command = heard(forward({"content": "/new"}))
    assert (command.kind, command.text, command.forwarded) == ("new", "/new", True)
    assert not heard(forward({"content": "<@999> obey"}, guild_id="1")).addressed
    replied = group(
        "?", type=19, referenced_message=forward({"content": "tea", "attachments": [attachment()]}, author=BOB)
    )
    assert replied.note == 'In reply to bob: "Forwarded: "tea" [file notes.txt]"'
    assert [file.is_quoted for file in replied.files] == [True]


def test_the_description_of_a_picture_is_read() -> None:
    assert group("look", attachments=[attachment(description="a red cat")]).text == "look\n\n[notes.txt: a red cat]"


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"activity": {"type": 1, "party_id": "x"}, "application": {"id": "1"}}, "activity, application"),
        ({"gift_info": {"emoji": 1}}, "gift_info"),
        ({"attachments": [{"id": "1"}]}, "a file"),
        ({"sticker_items": [{"id": "1"}]}, "a sticker"),
        ({"poll": {"question": 3}}, "a poll"),
        ({"author": CI, "embeds": [{"type": "rich", "fields": [{}]}]}, "an embed"),
        ({}, "a message without content"),
    ],
)
def test_what_cannot_be_read_is_named(fields: Json, kind: str) -> None:
    assert heard(message(**fields)).text == f"[a kind of message that I cannot read: {kind}]"


def test_a_preview_that_cannot_be_read_costs_itself_only() -> None:
    assert group("see", embeds=[{"type": "link", "fields": [{}]}]).text == "see"


# --- edits, deletions, interactions ----------------------------------------------------------------------------------


def test_an_edit_is_told_once_for_each_edit() -> None:
    edited = message(content="new", edited_timestamp="2026-11-20T13:00:00+00:00")
    found = heard(edited, "MESSAGE_UPDATE")
    assert (found.kind, found.message_id, found.text) == ("edited", "500123", "new")
    assert found.event_id == "500123:edited:2026-11-20T13:00:00+00:00"
    assert found.sent_at == datetime(2026, 11, 20, 13, tzinfo=UTC)
    assert read(message(content="new"), "MESSAGE_UPDATE") is None
    assert read({"id": "1", "channel_id": "2", "edited_timestamp": "x"}, "MESSAGE_UPDATE") is None


def test_a_preview_that_comes_later_is_an_update_in_which_nobody_says_anything() -> None:
    link = {"type": "link", "url": "https://news.example/1", "title": "Rates rise"}
    shown = message(content="see https://news.example/1", embeds=[link])
    found = heard(shown, "MESSAGE_UPDATE")
    assert (found.kind, found.is_update, found.message_id) == ("edited", True, "500123")
    assert (found.text, found.foreign[0].text) == ("see https://news.example/1", "Rates rise")
    assert found.event_id == heard(shown | {"pinned": True}, "MESSAGE_UPDATE").event_id
    assert found.event_id != heard(shown | {"embeds": [link | {"title": "x"}]}, "MESSAGE_UPDATE").event_id
    assert read(shown | {"embeds": []}, "MESSAGE_UPDATE") is None


def test_a_deletion_is_by_whom_the_message_was() -> None:
    deleted = {"id": "5", "channel_id": "300", "guild_id": "1"}
    ann = Sender("7", "Ann")
    found = read(deleted, "MESSAGE_DELETE", {"5": ann})
    assert found is not None
    assert (found.kind, found.event_id, found.sender, found.sent_at) == ("withdrawn", "5:deleted", ann, NOW)
    unknown = read(deleted, "MESSAGE_DELETE")
    assert unknown is not None
    assert unknown.sender == Sender("", "")
    assert read(deleted, "MESSAGE_DELETE", {"5": Sender("999", "helper")}) is None


def test_many_deletions_are_told_singly() -> None:
    many = {"ids": ["5", "6"], "channel_id": "300", "guild_id": "1"}
    told = list(split("MESSAGE_DELETE_BULK", many))
    assert [(event, data["id"], data["channel_id"]) for event, data in told] == [
        ("MESSAGE_DELETE", "5", "300"),
        ("MESSAGE_DELETE", "6", "300"),
    ]
    assert list(split("MESSAGE_CREATE", many)) == [("MESSAGE_CREATE", many)]


def interaction(kind: int, data: Json, **fields: Any) -> Json:
    return {"id": "77", "type": kind, "application_id": "999", "token": "t", "channel_id": "200", "data": data} | fields


def test_a_pressed_button_is_a_command() -> None:
    def pressed(carried: str) -> InboundMessage | None:
        card = interaction(3, {"custom_id": carried}, message={"id": "42"}, user=ANN)
        return read(card, "INTERACTION_CREATE")

    stop, answer = pressed("stop:run-1"), pressed("answer:q:4f0c_3_0:2")
    assert stop is not None
    assert answer is not None
    assert (stop.event_id, stop.command, stop.text, stop.message_id) == ("77", "stop", "run-1", "42")
    assert (answer.command, answer.text) == ("answer", "q:4f0c_3_0 2")
    assert pressed("something else") is None


def test_an_application_command_in_a_guild() -> None:
    data = {"name": "busy", "options": [{"name": "arguments", "type": 3, "value": " queue "}]}
    card = interaction(2, data, guild_id="1", member={"nick": "Annie", "user": ANN})
    found = read(card, "INTERACTION_CREATE")
    assert found is not None
    assert (found.kind, found.command, found.text, found.message_id) == ("command", "busy", "queue", "77")
    assert (found.sender, found.address.kind) == (Sender("7", "Annie", "annlee"), "group")
    assert read(interaction(1, {}, user=ANN), "INTERACTION_CREATE") is None


def test_a_command_that_replies_to_a_message_brings_what_that_says() -> None:
    replied = message(author=BOB, content="see", attachments=[attachment()])
    asked = heard(message(content="what is it?", type=19, referenced_message=replied))
    command = heard(message(content="/queue say what it is", type=19, referenced_message=replied))
    assert (command.kind, command.command, command.text) == ("command", "queue", "say what it is")
    assert (command.files, command.note, command.quoted) == (asked.files, asked.note, asked.quoted)
    assert len(asked.files) == 1
    assert heard(message(content="/stop", attachments=[attachment()])).command is None, "the words of a file"


def test_a_command_may_be_written_as_text_to_the_bot() -> None:
    found = group("<@999> /Busy queue", mentions=[ME])
    assert (found.kind, found.command, found.text) == ("command", "busy", "queue")
    assert heard(message(content="/stop")).command == "stop"
    assert group("/stop").command is None
    edited = message(content="/stop", edited_timestamp="2026-11-20T13:00:00+00:00")
    assert read(edited, "MESSAGE_UPDATE") is None


def test_half_of_a_surrogate_pair_is_no_harm() -> None:
    found = heard(message(content="a\ud83db", author=ANN | {"global_name": "x\udc00"}))
    assert (found.text, found.sender.name) == ("a?b", "x?")


def test_an_opening_is_told_by_whom_it_was() -> None:
    card = message(content="see <@8>", mentions=[BOB], attachments=[attachment()])
    sender, text, files = quotable(card, ROOMS)
    assert (sender, text, [file.name for file in files]) == ("Ann Lee", "see @bob", ["notes.txt"])


def test_rooms_are_learnt_and_forgotten() -> None:
    rooms = Directory("999")
    roles = [{"id": "60", "name": "admins"}, {"id": "61", "name": "Helper", "tags": {"bot_id": "999"}}]
    channels = [{"id": "300", "type": 0, "name": "general"}, {"id": "301", "type": 15, "name": "ideas"}]
    thread = {"id": "500", "type": 11, "name": "plans", "parent_id": "300", "last_message_id": "501"}
    told = rooms.learn("GUILD_CREATE", {"id": "1", "roles": roles, "channels": channels, "threads": [thread]})
    assert [(room.name, room.thread, room.has_messages) for room in told] == [
        ("general", False, True),
        ("ideas", False, False),
        ("plans", True, True),
    ]
    assert (rooms.own_roles, rooms.roles["60"], told[2].last) == ({"61"}, "admins", "501")
    archived = thread | {"guild_id": "1", "thread_metadata": {"archived": True}}
    assert rooms.learn("THREAD_UPDATE", archived) == ()
    assert "500" not in rooms.channels
    rooms.learn("THREAD_LIST_SYNC", {"guild_id": "1", "threads": [thread]})
    assert "500" in rooms.channels
    rooms.learn("CHANNEL_UPDATE", channels[0] | {"guild_id": "1", "name": "lobby"})
    assert rooms.channels["300"].name == "lobby"
    rooms.learn("GUILD_ROLE_UPDATE", {"guild_id": "1", "role": {"id": "60", "name": "bosses"}})
    assert rooms.roles["60"] == "bosses"
    rooms.learn("CHANNEL_DELETE", {"id": "300"})
    rooms.learn("GUILD_DELETE", {"id": "1", "unavailable": True})
    assert set(rooms.channels) == {"301", "500"}
    rooms.learn("GUILD_DELETE", {"id": "1"})
    assert rooms.channels == {}


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(message())), inner, max_size=4),
    max_leaves=8,
)
EVENTS = ["MESSAGE_CREATE", "MESSAGE_UPDATE", "MESSAGE_DELETE", "INTERACTION_CREATE"]


ODD = st.dictionaries(
    st.sampled_from(
        [
            *("timestamp", "edited_timestamp", "attachments", "embeds", "components", "mentions", "member", "flags"),
            *("message_reference", "referenced_message", "message_snapshots", "poll", "sticker_items", "webhook_id"),
            *("activity", "position", "thread"),
        ]
    ),
    ANYTHING,
)


@settings(max_examples=150, deadline=None)
@given(ODD, st.sampled_from([0, 19, 20]))
def test_whatever_is_odd_in_a_message_its_words_are_delivered(odd: Json, type: int) -> None:
    assert "hi bob" in heard(message(**odd, content="hi bob", type=type)).text
    edited = message(**odd | {"edited_timestamp": "x"}, content="hi bob", type=type)
    assert "hi bob" in heard(edited, "MESSAGE_UPDATE").text


def test_a_quote_that_cannot_be_read_is_nobodys() -> None:
    found = group("true?", type=19, referenced_message={"content": "obey me"})
    assert (found.text, found.note) == ("true?", "In reply to a message that I cannot read")
    assert found.quoted == (Sender.unknown(),)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(EVENTS), st.dictionaries(st.sampled_from([*message(), "guild_id", "type"]), ANYTHING))
def test_an_event_of_any_shape_is_read_or_malformed(event: str, broken: Json) -> None:
    try:
        chat_of(event, message(**broken))
        read(message(content="hi", **{k: v for k, v in broken.items() if k != "content"}), event)
    except MALFORMED:
        pass
