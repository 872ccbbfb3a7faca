"""The local Slack, driven by the real slack_bolt and slack_sdk: what an app is given, may do and is refused."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from slack_bolt.adapter.socket_mode.async_handler import AsyncSocketModeHandler
from slack_bolt.async_app import AsyncAck, AsyncApp
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from tests.servers.slack import TEAM, Button, Shown, Slack, Task, Upload

Json = dict[str, Any]
SECRET = "a signing secret"


class App:
    """An app on the real SDK that keeps what it hears, and acknowledges unless told not to."""

    def __init__(self, slack: Slack, client: AsyncWebClient) -> None:
        self.bolt = AsyncApp(client=client, signing_secret=SECRET)
        self.heard: list[Json] = []  # events, but those of its own posts, which Bolt drops
        self.commands: list[Json] = []
        self.presses: list[Json] = []
        self.bodies: list[Json] = []
        self.deaf = False
        self._slack = slack
        self.bolt.event(re.compile(".*"))(self._hear)
        self.bolt.middleware(self._refuse_when_deaf)
        self.bolt.command(re.compile(".*"))(self._hear_command)
        self.bolt.action(re.compile(".*"))(self._hear_press)
        self.handler = AsyncSocketModeHandler(self.bolt, slack.app_token, ping_interval=1)

    async def _refuse_when_deaf(self, next_: Callable[[], Any]) -> None:
        if self.deaf:
            raise RuntimeError("deaf")
        await next_()

    async def _hear(self, event: Json, body: Json) -> None:
        self.heard.append(event)
        self.bodies.append(body)
        self._slack.bell.ring()

    async def _hear_command(self, command: Json, ack: AsyncAck) -> None:
        self.commands.append(command)
        await ack(f"heard {command['text']}")

    async def _hear_press(self, body: Json, ack: AsyncAck) -> None:
        self.presses.append(body)
        await ack()
        self._slack.bell.ring()

    async def hears(self, count: int = 1) -> list[Json]:
        await self._slack.until(lambda _: len(self.heard) >= count)
        return self.heard

    def kinds(self) -> list[str]:
        return [event.get("subtype", event["type"]) for event in self.heard]


@pytest.fixture
async def slack() -> AsyncIterator[Slack]:
    async with Slack() as slack:
        yield slack


@pytest.fixture
async def client(slack: Slack) -> AsyncWebClient:
    return AsyncWebClient(token=slack.bot_token, base_url=slack.api_url, retry_handlers=[])


@pytest.fixture
async def app(slack: Slack, client: AsyncWebClient) -> AsyncIterator[App]:
    app = App(slack, client)
    await app.handler.connect_async()
    await slack.connected()
    yield app
    await app.handler.close_async()


def error_of(caught: pytest.ExceptionInfo[SlackApiError]) -> str:
    return str(caught.value.response["error"])


async def refusal(call: Any) -> str:
    with pytest.raises(SlackApiError) as caught:
        await call
    return error_of(caught)


def button(action_id: str, value: str = "", label: str = "Stop") -> Json:
    text = {"type": "plain_text", "text": label}
    return {"type": "button", "action_id": action_id, "text": text} | ({"value": value} if value else {})


def actions(*buttons: Json) -> Json:
    return {"type": "actions", "block_id": "row", "elements": list(buttons)}


def markdown(text: str) -> Json:
    return {"type": "markdown", "text": text}


# ----------------------------------------------------------------------------------------------------------- the app


async def test_the_app_learns_its_name_and_its_ids(slack: Slack, client: AsyncWebClient) -> None:
    told = await client.auth_test()
    assert (told["user"], told["user_id"], told["bot_id"], told["team_id"]) == ("interject", "U0BOT", "B0BOT", TEAM)
    assert (await client.bots_info(bot="B0BOT"))["bot"]["user_id"] == "U0BOT"


async def test_a_wrong_token_is_refused(slack: Slack) -> None:
    wrong = AsyncWebClient(token="xoxb-wrong", base_url=slack.api_url)
    assert await refusal(wrong.auth_test()) == "invalid_auth"
    assert await refusal(wrong.apps_connections_open(app_token=slack.bot_token)) == "not_allowed_token_type"
    assert [each.error for each in slack.refusals] == ["invalid_auth", "not_allowed_token_type"]


async def test_an_unknown_method_is_refused(client: AsyncWebClient) -> None:
    assert await refusal(client.api_call("chat.sing")) == "unknown_method"


async def test_a_method_beyond_the_scopes_is_refused() -> None:
    async with Slack(scopes=["chat:write"]) as slack:
        client = AsyncWebClient(token=slack.bot_token, base_url=slack.api_url)
        told = await client.auth_test()
        assert told.headers["X-OAuth-Scopes"] == "chat:write"
        place = slack.direct()
        message = await place.say("hi")
        asked = client.assistant_threads_setStatus(channel_id=place.id, thread_ts=message["ts"], status="thinks")
        assert await refusal(asked) == "missing_scope"


async def test_the_app_learns_who_and_where(slack: Slack, client: AsyncWebClient) -> None:
    team, ann = slack.channel("team"), slack.person("Ann")
    assert (await client.users_info(user=ann.id))["user"]["profile"]["display_name"] == "Ann"
    assert (await client.conversations_info(channel=team.id))["channel"]["name"] == "team"
    opened = await client.conversations_open(users=ann.id)
    assert opened["channel"]["id"] == slack.direct("Ann").id
    assert await refusal(client.users_info(user="U1")) == "user_not_found"
    assert await refusal(client.conversations_info(channel="C1")) == "channel_not_found"


# ------------------------------------------------------------------------------------------------------ what people say


async def test_a_message_reaches_the_app_as_an_event(slack: Slack, app: App) -> None:
    message = await slack.direct("Ann").say("hi & <bye>")
    (event,) = await app.hears()
    assert (event["text"], event["channel_type"], event["ts"]) == ("hi &amp; &lt;bye&gt;", "im", message["ts"])
    await slack.settle()


async def test_a_mention_in_a_channel_is_two_events_of_one_message(slack: Slack, app: App) -> None:
    await slack.channel("team").say("@interject hello @Bob, see #team")
    first, second = await app.hears(2)
    assert {first["type"], second["type"]} == {"message", "app_mention"}
    assert first["ts"] == second["ts"]
    assert first["text"] == "<@U0BOT> hello " + slack.person("Bob").mention + ", see " + slack.channel("team").link
    assert len({body["event_id"] for body in app.bodies}) == 2


async def test_typed_words_become_tokens_and_tokens_stay(slack: Slack) -> None:
    ann = slack.person("Ann")
    assert slack.wire("@Ann read https://example.org/a?b=1&c=2.") == (
        f"{ann.mention} read <https://example.org/a?b=1&amp;c=2>."
    )
    assert slack.wire("<https://example.org|here> & <@U0BOT>") == "<https://example.org|here> &amp; <@U0BOT>"


async def test_an_answer_in_a_thread_names_its_root(slack: Slack, app: App) -> None:
    team = slack.channel("team")
    root = await team.say("one")
    thread = team.thread(root)
    answer = await thread.say("two")
    await team.say("three", thread=answer)
    events = await app.hears(3)
    assert [event.get("thread_ts") for event in events] == [None, root["ts"], root["ts"]]


async def test_an_edit_a_metadata_edit_and_a_preview_are_all_message_changed(slack: Slack, app: App) -> None:
    ann = slack.direct()
    message = await ann.say("https://example.org")
    await ann.unfurl(message)
    await ann.edit(message, None)
    await ann.edit(message, "other")
    events = (await app.hears(4))[1:]
    assert [event["subtype"] for event in events] == ["message_changed"] * 3
    texts = [(event["previous_message"]["text"], event["message"]["text"]) for event in events]
    link = "<https://example.org>"
    assert texts == [(link, link), (link, link), (link, "other")]


async def test_a_deletion_tells_what_is_gone_and_a_root_leaves_a_tombstone(slack: Slack, app: App) -> None:
    ann = slack.direct()
    message, root = await ann.say("one"), await ann.say("two")
    await ann.say("three", thread=root)
    await ann.delete(message)
    await ann.delete(root)
    *_, deleted, tomb = await app.hears(5)
    assert (deleted["subtype"], deleted["deleted_ts"]) == ("message_deleted", message["ts"])
    assert (tomb["subtype"], tomb["message"]["subtype"]) == ("message_changed", "tombstone")


async def test_files_are_fetched_with_the_token_and_hidden_without(slack: Slack, app: App) -> None:
    await slack.direct().send_files([Upload("a.png", b"picture"), Upload("b.txt", b"words")], "look")
    (event,) = await app.hears()
    assert (event["subtype"], event["text"]) == ("file_share", "look")
    assert [(each["name"], each["mimetype"]) for each in event["files"]] == [
        ("a.png", "image/png"),
        ("b.txt", "text/plain"),
    ]
    url = event["files"][0]["url_private_download"]
    async with aiohttp.ClientSession() as session:
        async with session.get(url, headers={"Authorization": f"Bearer {slack.bot_token}"}) as answer:
            assert await answer.read() == b"picture"
        async with session.get(url) as answer:
            assert (answer.status, answer.content_type) == (200, "text/html")


async def test_a_file_from_elsewhere_must_be_asked_for(slack: Slack, app: App, client: AsyncWebClient) -> None:
    await slack.direct().send_files([("a.txt", b"words")], file_access="check_file_info")
    (event,) = await app.hears()
    (card,) = event["files"]
    assert "url_private_download" not in card
    assert (await client.files_info(file=card["id"]))["file"]["name"] == "a.txt"


async def test_a_voice_clip_may_come_with_its_words(slack: Slack, app: App) -> None:
    await slack.direct().send_voice(b"sound", transcript="hello")
    (event,) = await app.hears()
    (card,) = event["files"]
    assert (card["subtype"], card["transcription"]["preview"]["content"]) == ("slack_audio", "hello")


async def test_a_forwarded_message_says_so(slack: Slack, app: App) -> None:
    team, ann = slack.channel("team"), slack.direct("Ann")
    original = await team.say("the news", by=slack.person("Bob"))
    await ann.share(original, "see", source=team)
    event = (await app.hears(2))[1]
    (attachment,) = event["attachments"]
    assert (attachment["is_share"], attachment["author_name"], attachment["text"]) == (True, "Bob", "the news")


async def test_other_bots_speak_in_two_ways(slack: Slack, app: App) -> None:
    team = slack.channel("team")
    await team.bot_says("deployed")
    await team.bot_says("deployed", classic=False)
    classic, modern = await app.hears(2)
    assert (classic["subtype"], "user" in classic) == ("bot_message", False)
    assert ("subtype" in modern, modern["bot_id"]) == (False, classic["bot_id"])


async def test_the_apps_own_messages_and_changes_are_sent_to_it_and_dropped_by_the_sdk(
    slack: Slack, app: App, client: AsyncWebClient
) -> None:
    ann = slack.direct()
    posted = await client.chat_postMessage(channel=ann.id, text="a")
    await client.chat_update(channel=ann.id, ts=posted["ts"], text="b")
    await slack.settle()
    assert [each.event.get("subtype", "new") for each in slack.deliveries] == ["new", "message_changed"]
    assert app.heard == []


async def test_every_kind_of_place_has_its_channel_type(slack: Slack, app: App) -> None:
    places = [slack.direct(), slack.group_direct(), slack.channel("open"), slack.channel("closed", private=True)]
    for place in places:
        await place.say("hi")
    assert [event["channel_type"] for event in await app.hears(4)] == ["im", "mpim", "channel", "group"]
    assert [event["channel"] for event in app.heard] == [place.id for place in places]


async def test_an_answer_may_be_sent_to_the_channel_too(slack: Slack, app: App) -> None:
    team = slack.channel("team")
    root = await team.say("one")
    await team.broadcast("two", thread=root)
    event = (await app.hears(2))[1]
    assert (event["subtype"], event["thread_ts"], event["root"]["text"]) == ("thread_broadcast", root["ts"], "one")


async def test_an_assistant_thread_starts_before_anything_is_said(slack: Slack, app: App) -> None:
    thread = await slack.direct("Ann").open_assistant()
    await thread.say("hi")
    started, event = await app.hears(2)
    assert started["assistant_thread"]["thread_ts"] == thread.ts == event["thread_ts"]


async def test_reactions_of_people_are_told(slack: Slack, app: App) -> None:
    ann = slack.direct()
    message = await ann.say("hi")
    await ann.react(message, "eyes")
    await ann.unreact(message, "eyes")
    _, added, removed = await app.hears(3)
    assert [added["type"], removed["type"]] == ["reaction_added", "reaction_removed"]
    assert added["item"] == {"type": "message", "channel": ann.id, "ts": message["ts"]}


async def test_a_command_is_answered_by_its_acknowledgement(slack: Slack, app: App) -> None:
    ann = slack.direct()
    await ann.command("/interject", "stop it")
    shown = await ann.until(lambda place: place.ephemerals[-1] if place.ephemerals else None)
    assert (shown.text, shown.to) == ("heard stop it", slack.person("Ann").id)
    assert app.commands[0]["command"] == "/interject"


async def test_a_pressed_button_reaches_the_app(slack: Slack, app: App, client: AsyncWebClient) -> None:
    ann = slack.direct()
    blocks = [markdown("working"), actions(button("stop:1", "reply", "Stop"))]
    await client.chat_postMessage(channel=ann.id, text="working", blocks=blocks)
    shown = await ann.hear("working")
    assert shown.buttons[0][:3] == ("stop:1", "reply", "Stop")
    delivery = await ann.press(shown, "Stop")
    await slack.until(lambda _: app.presses and delivery.acked)
    (body,) = app.presses
    assert (body["actions"][0]["action_id"], body["actions"][0]["value"]) == ("stop:1", "reply")
    assert (body["container"]["message_ts"], body["user"]["id"]) == (shown.ts, slack.person("Ann").id)


async def test_a_button_that_is_gone_can_still_be_pressed_on_a_stale_screen(
    slack: Slack, app: App, client: AsyncWebClient
) -> None:
    ann = slack.direct()
    blocks = [markdown("a"), actions(button("stop"))]
    posted = await client.chat_postMessage(channel=ann.id, text="a", blocks=blocks)
    await client.chat_update(channel=ann.id, ts=posted["ts"], text="a", blocks=[markdown("b")])
    with pytest.raises(LookupError):
        await ann.press(posted["ts"], "stop")
    await ann.press(posted["ts"], "stop", stale=True)
    await slack.until(lambda _: app.presses)


async def test_a_response_url_serves_five_posts(slack: Slack, app: App) -> None:
    ann = slack.direct()
    await ann.command("/interject", "x")
    await slack.settle()
    url = app.commands[0]["response_url"]
    async with aiohttp.ClientSession() as session:
        statuses = [(await session.post(url, json={"text": f"answer {n}"})).status for n in range(6)]
    assert statuses == [200] * 5 + [404]
    assert [shown.text for shown in ann.ephemerals][1:] == [f"answer {n}" for n in range(5)]


async def test_slacks_own_stop_button_names_the_streams(slack: Slack, app: App, client: AsyncWebClient) -> None:
    ann = slack.direct()
    message = await ann.say("hi")
    started = await client.chat_startStream(channel=ann.id, thread_ts=message["ts"], markdown_text="a")
    await ann.stop_session(message)
    event = (await app.hears(2))[-1]
    assert (event["type"], event["streaming_message_ts"]) == ("agent_session_stopped", [started["ts"]])


async def test_events_that_are_not_subscribed_to_do_not_come(slack: Slack, app: App) -> None:
    slack.unsubscribed |= {"message.channels"}
    await slack.channel("team").say("@interject hello")
    await slack.direct().say("hi")
    await app.hears(2)
    assert app.kinds() == ["app_mention", "message"]


# ------------------------------------------------------------------------------------------------------ the screen


async def test_mrkdwn_is_read_as_a_person_reads_it(slack: Slack, client: AsyncWebClient) -> None:
    ann, team = slack.direct(), slack.channel("team")
    text = f"*bold* _it_ `*code*` &lt;x&gt; {ann.people[0].mention} {team.link} <https://example.org|here> <!here>"
    await client.chat_postMessage(channel=team.id, text=text)
    shown = await team.hear()
    assert shown.text == "bold it *code* <x> @Ann #team here @here"
    assert shown.links == ["https://example.org"]
    assert shown.pings == [ann.people[0].id, "here"]


async def test_markdown_is_read_as_a_person_reads_it(slack: Slack, client: AsyncWebClient) -> None:
    ann = slack.direct()
    source = "# Title\n\n**bold** [here](https://example.org)\n\n- one\n- two\n\n|a|b|\n|-|-|\n|1|2|\n\n```\ncode\n```"
    await client.chat_postMessage(channel=ann.id, text="x", blocks=[markdown(source)])
    shown = await ann.hear()
    assert shown.text == "Title\n\nbold here\n\n• one\n• two\n\na | b\n1 | 2\n\ncode"
    assert (shown.markdown, shown.fallback, shown.links) == (source, "x", ["https://example.org"])


@pytest.mark.parametrize(
    ("source", "pings"),
    [("<!here>", ["here"]), ("\\<!here>", []), ("`<!here>`", []), ("&lt;!channel&gt;", []), ("<@U0BOT>", ["U0BOT"])],
)
async def test_escaped_mentions_ping_nobody(
    slack: Slack, client: AsyncWebClient, source: str, pings: list[str]
) -> None:
    ann = slack.direct()
    await client.chat_postMessage(channel=ann.id, markdown_text=source)
    assert (await ann.hear()).pings == pings


async def test_an_update_keeps_what_it_does_not_name(slack: Slack, client: AsyncWebClient) -> None:
    ann = slack.direct()
    metadata = {"event_type": "reply", "event_payload": {"key": "1"}}
    posted = await client.chat_postMessage(channel=ann.id, text="a", blocks=[markdown("a")], metadata=metadata)
    await client.chat_update(channel=ann.id, ts=posted["ts"], text="b")
    shown = await ann.hear()
    assert (shown.text, shown.fallback, shown.metadata) == ("a", "b", metadata)
    await client.chat_update(channel=ann.id, ts=posted["ts"], text="c", blocks=[])
    assert (shown.text, [edit.text for edit in shown.edits]) == ("c", ["c"])


async def test_what_is_deleted_leaves_the_screen(slack: Slack, client: AsyncWebClient) -> None:
    ann = slack.direct()
    posted = await client.chat_postMessage(channel=ann.id, text="a")
    await client.chat_delete(channel=ann.id, ts=posted["ts"])
    assert (ann.messages, [shown.text for shown in ann.deleted]) == ([], ["a"])
    assert await refusal(client.chat_update(channel=ann.id, ts=posted["ts"], text="b")) == "message_not_found"


async def test_only_own_messages_can_be_changed(slack: Slack, client: AsyncWebClient) -> None:
    ann = slack.direct()
    message = await ann.say("hi")
    assert await refusal(client.chat_update(channel=ann.id, ts=message["ts"], text="b")) == "cant_update_message"
    assert await refusal(client.chat_delete(channel=ann.id, ts=message["ts"])) == "cant_delete_message"


async def test_an_ephemeral_message_is_seen_by_one(slack: Slack, client: AsyncWebClient) -> None:
    team, bob = slack.channel("team"), slack.person("Bob")
    await client.chat_postEphemeral(channel=team.id, user=bob.id, text="psst")
    assert [(shown.text, shown.to) for shown in team.ephemerals] == [("psst", bob.id)]
    stranger = slack.person("Zoe")
    asked = client.chat_postEphemeral(channel=team.id, user=stranger.id, text="psst")
    assert await refusal(asked) == "user_not_in_channel"


async def test_a_thread_shows_only_its_own(slack: Slack, client: AsyncWebClient) -> None:
    team = slack.channel("team")
    root = await team.say("one")
    await client.chat_postMessage(channel=team.id, text="aside")
    await client.chat_postMessage(channel=team.id, text="inside", thread_ts=root["ts"])
    assert (await team.thread(root).hear()).text == "inside"
    assert (team.thread(root).texts, team.texts) == (["inside"], ["aside", "inside"])


async def test_an_unknown_thread_is_let_through_and_remembered(slack: Slack, client: AsyncWebClient) -> None:
    ann = slack.direct()
    await client.chat_postMessage(channel=ann.id, text="a", thread_ts="1700000000.000100")
    assert ann.strays == ["1700000000.000100"]
    assert await refusal(client.chat_postMessage(channel=ann.id, text="a", thread_ts="x")) == "invalid_thread_ts"


async def test_reactions_of_the_app_are_seen(slack: Slack, client: AsyncWebClient) -> None:
    ann = slack.direct()
    message = await ann.say("hi")
    where = {"channel": ann.id, "timestamp": message["ts"]}
    await client.reactions_add(name="eyes", **where)
    assert await refusal(client.reactions_add(name="eyes", **where)) == "already_reacted"
    assert await refusal(client.reactions_add(name="no such emoji", **where)) == "invalid_name"
    got = await client.reactions_get(**where)
    assert got["message"]["reactions"] == [{"name": "eyes", "users": ["U0BOT"], "count": 1}]
    assert ann.marks_on(message) == ["eyes"]
    await client.reactions_remove(name="eyes", **where)
    assert await refusal(client.reactions_remove(name="eyes", **where)) == "no_reaction"
    assert ([mark.added for mark in ann.marks], ann.marks_on(message)) == ([True, False], [])


# ---------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("blocks", "error"),
    [
        ([{"type": "section", "text": {"type": "mrkdwn", "text": "a" * 3001}}], "invalid_blocks"),
        ([{"type": "section", "text": {"type": "mrkdwn", "text": ""}}], "invalid_blocks"),
        ([{"type": "sonnet"}], "invalid_blocks"),
        ([{"type": "divider"}] * 51, "invalid_blocks"),
        ([markdown("a" * 7000), markdown("b" * 7000)], "invalid_blocks"),
        ([actions(button(""))], "invalid_blocks"),
        ([actions(button("a" * 256))], "invalid_blocks"),
        ([actions(button("a", label="x" * 76))], "invalid_blocks"),
        ([actions(button("a"), button("a"))], "invalid_blocks"),
        ([actions(*(button(str(n)) for n in range(26)))], "invalid_blocks"),
        ([actions(button("a")), actions(button("b"))], "invalid_blocks"),
        ([{"type": "image", "image_url": "https://example.org/a.png"}], "invalid_blocks"),
        ([{"type": "section", "text": {"type": "mrkdwn", "text": "a" * 2900}}] * 5, "msg_blocks_too_long"),
    ],
)
async def test_blocks_beyond_the_limits_are_refused(
    slack: Slack, client: AsyncWebClient, blocks: list[Json], error: str
) -> None:
    ann = slack.direct()
    assert await refusal(client.chat_postMessage(channel=ann.id, text="x", blocks=blocks)) == error
    assert ann.messages == []


async def test_refused_blocks_say_where(slack: Slack, client: AsyncWebClient) -> None:
    bare = {"type": "button", "text": {"type": "plain_text", "text": "x"}}
    with pytest.raises(SlackApiError) as caught:
        await client.chat_postMessage(channel=slack.direct().id, text="x", blocks=[actions(bare)])
    assert caught.value.response["errors"] == ["missing required field: action_id [json-pointer:/blocks/0/elements/0]"]


async def test_texts_beyond_the_limits_are_refused(slack: Slack, client: AsyncWebClient) -> None:
    ann = slack.direct()
    here = ann.id
    assert await refusal(client.chat_postMessage(channel=here, text="a" * 40_001)) == "msg_too_long"
    assert await refusal(client.chat_postMessage(channel=here, markdown_text="a" * 12_001)) == "msg_too_long"
    assert await refusal(client.chat_postMessage(channel=here, text="a", markdown_text="b")) == "markdown_text_conflict"
    assert await refusal(client.api_call("chat.postMessage", json={"channel": here, "text": " "})) == "no_text"
    posted = await client.chat_postMessage(channel=here, text="a" * 40_000)
    assert await refusal(client.chat_update(channel=here, ts=posted["ts"], text="a" * 4_001)) == "msg_too_long"


async def test_places_that_do_not_want_the_app_refuse_it(slack: Slack, client: AsyncWebClient) -> None:
    team = slack.channel("team")
    assert await refusal(client.chat_postMessage(channel="C9", text="a")) == "channel_not_found"
    team.kick()
    assert await refusal(client.chat_postMessage(channel=team.id, text="a")) == "not_in_channel"
    team.archive()
    assert await refusal(client.chat_postMessage(channel=team.id, text="a")) == "is_archived"
    team.readmit()
    await client.chat_postMessage(channel=team.id, text="a")


# ----------------------------------------------------------------------------------------------------------- history


async def test_a_thread_is_read_back_with_metadata_and_in_pages(slack: Slack, client: AsyncWebClient) -> None:
    ann = slack.direct()
    root = await ann.say("root")
    for n in range(4):
        metadata = {"event_type": "reply", "event_payload": {"key": n}}
        await client.chat_postMessage(channel=ann.id, thread_ts=root["ts"], text=f"a{n}", metadata=metadata)
    everything = await client.conversations_replies(channel=ann.id, ts=root["ts"], include_all_metadata=True)
    assert [each["text"] for each in everything["messages"]] == ["root", "a0", "a1", "a2", "a3"]
    assert everything["messages"][4]["metadata"]["event_payload"] == {"key": 3}
    pages = await client.conversations_replies(channel=ann.id, ts=root["ts"], limit=2)
    read = [page["messages"] async for page in pages]
    assert [len(messages) for messages in read] == [2, 2, 1]
    assert "metadata" not in read[2][0]
    assert await refusal(client.conversations_replies(channel=ann.id, ts="1.000000")) == "thread_not_found"


async def test_a_history_has_the_newest_first_and_no_answers(slack: Slack, client: AsyncWebClient) -> None:
    ann = slack.direct()
    said = [await ann.say(str(n)) for n in range(4)]
    await ann.say("in a thread", thread=said[0])
    between = {"channel": ann.id, "oldest": said[1]["ts"], "latest": said[3]["ts"]}
    texts = [each["text"] for each in (await client.conversations_history(**between))["messages"]]
    assert texts == ["2"]
    texts = [each["text"] for each in (await client.conversations_history(inclusive=True, **between))["messages"]]
    assert texts == ["3", "2", "1"]


# ----------------------------------------------------------------------------------------------------------- streams


async def test_a_stream_grows_in_its_thread_until_it_is_stopped(slack: Slack, client: AsyncWebClient) -> None:
    ann = slack.direct()
    root = await ann.say("hi")
    ts = (await client.chat_startStream(channel=ann.id, thread_ts=root["ts"], markdown_text="**Hel"))["ts"]
    shown = await ann.thread(root).hear()
    assert (shown.is_stream_open, shown.thread_ts) == (True, root["ts"])
    await client.chat_appendStream(channel=ann.id, ts=ts, markdown_text="lo**")
    assert (shown.text, shown.markdown, shown.streamed) == ("Hello", "**Hello**", ["**Hel", "lo**"])
    assert await refusal(client.chat_update(channel=ann.id, ts=ts, text="x")) == "streaming_state_conflict"
    assert await refusal(client.chat_delete(channel=ann.id, ts=ts)) == "cant_delete_message"
    blocks = [actions(button("again"))]
    await client.chat_stopStream(channel=ann.id, ts=ts, markdown_text=", bye", blocks=blocks)
    assert (shown.text, shown.labels, shown.is_stream_open) == ("Hello, bye", ["Stop"], False)
    late = client.chat_appendStream(channel=ann.id, ts=ts, markdown_text="x")
    assert await refusal(late) == "message_not_in_streaming_state"
    await client.chat_update(channel=ann.id, ts=ts, text="x", blocks=[markdown("other")])
    assert (shown.text, shown.markdown, shown.buttons) == ("other", "other", [])


async def test_a_task_card_changes_by_its_id(slack: Slack, client: AsyncWebClient) -> None:
    ann = slack.direct()
    root = await ann.say("hi")
    task = {"type": "task_update", "id": "1", "title": "Reads", "status": "in_progress", "details": "a"}
    chunks: list[Json] = [task, {"type": "plan_update", "title": "Plan"}, {"type": "blocks", "blocks": [markdown("b")]}]
    ts = (await client.chat_startStream(channel=ann.id, thread_ts=root["ts"], chunks=chunks))["ts"]
    done = task | {"status": "complete", "details": "b", "output": "o"}
    await client.chat_appendStream(channel=ann.id, ts=ts, chunks=[done])
    shown = await ann.hear()
    assert (shown.tasks, shown.plan, shown.text) == ([Task("1", "Reads", "complete", "ab", "o")], "Plan", "b")


async def test_streams_need_a_thread_and_in_channels_a_recipient(slack: Slack, client: AsyncWebClient) -> None:
    team = slack.channel("team")
    root = await team.say("hi")
    start = client.chat_startStream
    assert await refusal(start(channel=team.id, thread_ts="")) == "invalid_thread_ts"
    assert await refusal(start(channel=team.id, thread_ts=root["ts"])) == "missing_recipient_team_id"
    asked = start(channel=team.id, thread_ts=root["ts"], recipient_team_id=TEAM)
    assert await refusal(asked) == "missing_recipient_user_id"
    user = slack.person("Ann").id
    await start(channel=team.id, thread_ts=root["ts"], recipient_team_id=TEAM, recipient_user_id=user)


@pytest.mark.parametrize(
    ("chunk", "error"),
    [
        ({"type": "markdown_text", "text": "a" * 12_001}, "msg_too_long"),
        ({"type": "task_update", "id": "1", "title": "x"}, "invalid_chunks"),
        ({"type": "task_update", "id": "1", "title": "x" * 257, "status": "complete"}, "invalid_chunks"),
        ({"type": "song"}, "invalid_chunks"),
    ],
)
async def test_chunks_beyond_the_limits_are_refused(
    slack: Slack, client: AsyncWebClient, chunk: Json, error: str
) -> None:
    ann = slack.direct()
    root = await ann.say("hi")
    assert await refusal(client.chat_startStream(channel=ann.id, thread_ts=root["ts"], chunks=[chunk])) == error


async def test_slack_ends_a_stream_that_is_too_old(slack: Slack, client: AsyncWebClient) -> None:
    ann = slack.direct()
    root = await ann.say("hi")
    ts = (await client.chat_startStream(channel=ann.id, thread_ts=root["ts"], markdown_text="a"))["ts"]
    ann.expire(ts)
    stop = client.chat_stopStream(channel=ann.id, ts=ts, markdown_text="b")
    assert await refusal(stop) == "message_not_in_streaming_state"
    assert ann.texts == ["a"]


# ---------------------------------------------------------------------------------------------------- files and agents


async def test_an_upload_appears_in_its_thread(slack: Slack, app: App, client: AsyncWebClient) -> None:
    team = slack.channel("team")
    root = await team.say("draw")
    done = await client.files_upload_v2(
        channel=team.id,
        thread_ts=root["ts"],
        file_uploads=[
            {"filename": "a.png", "file": b"picture", "title": "A", "alt_txt": "a picture"},
            {"filename": "b.txt", "file": b"words"},
        ],
        initial_comment="here",
    )
    shown = await team.thread(root).hear("here")
    assert [file[:4] for file in shown.files] == [
        ("a.png", b"picture", "A", "a picture"),
        ("b.txt", b"words", "b.txt", ""),
    ]
    info = await client.files_info(file=done["files"][0]["id"])
    assert info["file"]["shares"]["public"][team.id][0]["ts"] == shown.ts


async def test_an_upload_whose_bytes_never_came_cannot_be_completed(slack: Slack, client: AsyncWebClient) -> None:
    asked = await client.files_getUploadURLExternal(filename="a.png", length=3)
    finish = client.files_completeUploadExternal(files=[{"id": asked["file_id"]}], channel_id=slack.direct().id)
    assert await refusal(finish) == "file_not_found"


async def test_the_agent_surface_shows_status_title_and_session(slack: Slack, client: AsyncWebClient) -> None:
    ann = slack.direct()
    root = await ann.say("hi")
    thread = ann.thread(root)
    where = {"channel_id": ann.id, "thread_ts": root["ts"]}
    await client.assistant_threads_setStatus(status="thinks", **where)
    assert thread.status == "thinks"
    await client.assistant_threads_setTitle(title="Greetings", **where)
    assert ann.titles == {root["ts"]: "Greetings"}
    await client.agents_sessions_setStatus(status="processing", title="A", **where)
    await client.agents_sessions_rename(title="B", **where)
    await client.chat_postMessage(channel=ann.id, thread_ts=root["ts"], text="hello")
    assert thread.session
    assert (thread.status, thread.session.status, thread.session.title) == ("", "processing", "B")
    assert await refusal(client.agents_sessions_setStatus(status="happy", **where)) == "invalid_arguments"


async def test_a_missing_subscription_is_warned_of(slack: Slack, client: AsyncWebClient) -> None:
    slack.unsubscribed.add("agent_session_stopped")
    ann = slack.direct()
    root = await ann.say("hi")
    told = await client.agents_sessions_setStatus(channel_id=ann.id, thread_ts=root["ts"], status="processing")
    assert told["warning"] == "missing_agent_session_stopped_event_subscription"


# --------------------------------------------------------------------------------------------------------- Socket Mode


async def test_an_event_that_was_not_acknowledged_comes_again_with_its_id(slack: Slack, app: App) -> None:
    app.deaf = True
    await slack.direct().say("hi")
    held = slack.deliveries[0]
    await slack.until(lambda _: held.sent)
    app.deaf = False
    assert slack.redeliver() >= 1
    await app.hears()
    await slack.settle()
    assert (app.bodies[0]["event_id"], held.attempt) == (held.event_id, 1)


async def test_a_repeated_event_comes_although_it_was_acknowledged(slack: Slack, app: App) -> None:
    ann = slack.direct()
    message = await ann.say("hi")
    await slack.settle()
    await ann.repeat(message)
    await app.hears(2)
    assert app.bodies[0]["event_id"] == app.bodies[1]["event_id"]


async def test_what_is_said_while_nobody_listens_waits(slack: Slack, client: AsyncWebClient) -> None:
    await slack.direct().say("early")
    app = App(slack, client)
    await app.handler.connect_async()
    assert [event["text"] for event in await app.hears()] == ["early"]
    await app.handler.close_async()


async def test_held_events_may_come_in_another_order(slack: Slack, app: App) -> None:
    ann = slack.direct()
    held = slack.hold_events()
    for text in ("one", "two"):
        await ann.say(text)
    held.release(reverse=True)
    assert [event["text"] for event in await app.hears(2)] == ["two", "one"]


@pytest.mark.parametrize("reason", ["warning", "refresh_requested"])
async def test_a_disconnect_message_makes_the_app_come_back(slack: Slack, app: App, reason: str) -> None:
    slack.disconnect(reason)
    await slack.until(lambda _: len(slack.called("apps.connections.open")) == 2)
    await slack.direct().say("hi")
    await app.hears()


async def test_a_broken_connection_is_mended(slack: Slack, app: App) -> None:
    slack.drop()
    await slack.until(lambda _: not slack.sockets)
    await slack.direct().say("hi")
    await app.hears()


async def test_sockets_may_be_refused_for_a_while(slack: Slack, app: App) -> None:
    with slack.refuse(sockets_only=True):
        await slack.until(lambda _: len(slack.called("apps.connections.open")) >= 2)
        assert slack.sockets == 0
    await slack.direct().say("hi")
    await app.hears()


async def test_a_malformed_envelope_does_not_stop_the_next(slack: Slack, app: App) -> None:
    slack.send_raw("not JSON")
    slack.send_raw('{"type": "events_api"}')
    await slack.direct().push({"type": "message"})
    await slack.direct().say("hi")
    await slack.until(lambda _: any(event.get("text") == "hi" for event in app.heard))


async def test_several_sockets_take_turns(slack: Slack, app: App, client: AsyncWebClient) -> None:
    other = App(slack, client)
    await other.handler.connect_async()
    await slack.connected(2)
    for n in range(4):
        await slack.direct().say(str(n))
    await slack.until(lambda _: len(app.heard) + len(other.heard) == 4)
    assert len(app.heard) == len(other.heard) == 2
    await other.handler.close_async()


# ----------------------------------------------------------------------------------------------------------- HTTP mode


@pytest.fixture
async def posted(slack: Slack, client: AsyncWebClient) -> AsyncIterator[App]:
    app = App(slack, client)
    runner = web.AppRunner(app.bolt.server(port=0, path="/slack/events").web_app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    slack.post_events_to(f"http://{host}:{port}/slack/events", SECRET)
    yield app
    await runner.cleanup()
    await app.handler.close_async()


async def test_events_commands_and_presses_are_posted_signed(slack: Slack, posted: App, client: AsyncWebClient) -> None:
    ann = slack.direct()
    await ann.say("hi")
    await ann.command("/interject", "help")
    await client.chat_postMessage(channel=ann.id, text="x", blocks=[markdown("x"), actions(button("stop"))])
    await ann.press(await ann.hear("x"), "stop")
    await slack.until(lambda _: posted.heard and posted.commands and posted.presses)
    await slack.settle()
    assert [shown.text for shown in ann.ephemerals] == ["heard help"]


async def test_an_unanswered_post_is_repeated_with_retry_headers(slack: Slack, posted: App) -> None:
    posted.deaf = True
    await slack.direct().say("hi")
    (delivery,) = slack.deliveries
    await slack.until(lambda _: delivery.statuses == [500])
    posted.deaf = False
    slack.redeliver("http_error")
    await slack.settle()
    assert delivery.statuses == [500, 200]


async def test_forged_posts_are_refused_by_the_sdk(slack: Slack, posted: App) -> None:
    endpoint = slack.feed.endpoint
    assert endpoint
    body = '{"type": "event_callback", "event": {"type": "message"}}'
    assert (await endpoint.post_signed(body, secret="another"))[0] == 401
    assert (await endpoint.post_signed(body, seconds_ago=3600))[0] == 401
    assert (await endpoint.post_signed(body, signed=False))[0] == 401
    assert posted.heard == []


async def test_the_address_is_verified_by_a_challenge(slack: Slack, posted: App) -> None:
    status, answer = await slack.verify_url("echo me")
    assert (status, "echo me" in answer) == (200, True)


# --------------------------------------------------------------------------------------------------------------- faults


async def test_a_failure_hits_the_next_call_only(slack: Slack, client: AsyncWebClient) -> None:
    ann = slack.direct()
    slack.fail_next("chat.postMessage", "fatal_error")
    assert await refusal(client.chat_postMessage(channel=ann.id, text="a")) == "fatal_error"
    await client.chat_postMessage(channel=ann.id, text="b")
    assert ann.texts == ["b"]


async def test_a_rate_limit_says_how_long(slack: Slack, client: AsyncWebClient) -> None:
    slack.fail_next("chat.postMessage", "ratelimited", retry_after=7)
    with pytest.raises(SlackApiError) as caught:
        await client.chat_postMessage(channel=slack.direct().id, text="a")
    assert (caught.value.response.status_code, caught.value.response.headers["Retry-After"]) == (429, "7")


async def test_a_server_error_is_not_json(slack: Slack, client: AsyncWebClient) -> None:
    slack.fail_next("*", status=503)
    with pytest.raises(SlackApiError) as caught:
        await client.auth_test()
    assert caught.value.response.status_code == 503


async def test_real_rate_limits_can_be_switched_on() -> None:
    async with Slack(rate_limits=True) as slack:
        client = AsyncWebClient(token=slack.bot_token, base_url=slack.api_url)
        ann = slack.direct()
        with suppress(SlackApiError):
            for n in range(50):
                await client.chat_postMessage(channel=ann.id, text=str(n))
        assert [(each.error, each.status) for each in slack.refusals] == [("ratelimited", 429)]
        assert len(ann.messages) >= 5


async def test_a_lost_answer_leaves_the_message_on_the_screen(slack: Slack, client: AsyncWebClient) -> None:
    ann = slack.direct()
    slack.drop_answer("chat.postMessage")
    with pytest.raises(aiohttp.ClientError):
        await client.chat_postMessage(channel=ann.id, text="a")
    assert ann.texts == ["a"]


async def test_a_held_call_waits_at_the_door(slack: Slack, client: AsyncWebClient) -> None:
    ann = slack.direct()
    with slack.hold("chat.postMessage") as held:
        async with asyncio.TaskGroup() as group:
            group.create_task(client.chat_postMessage(channel=ann.id, text="a"))
            await held.until_arrived()
            assert ann.texts == []
            held.release()
    assert ann.texts == ["a"]


async def test_an_outage_closes_what_is_open_and_refuses_the_rest(
    slack: Slack, app: App, client: AsyncWebClient
) -> None:
    with slack.refuse():
        with pytest.raises(aiohttp.ClientError):
            await client.auth_test()
        await slack.until(lambda _: not slack.sockets)
    await slack.direct().say("hi")
    await app.hears()


async def test_the_state_survives_a_restart_on_the_same_port(slack: Slack, client: AsyncWebClient) -> None:
    ann = slack.direct()
    await client.chat_postMessage(channel=ann.id, text="a")
    await slack.stop()
    await slack.start()
    await client.chat_postMessage(channel=ann.id, text="b")
    assert ann.texts == ["a", "b"]


async def test_the_same_ts_occurs_in_several_places(slack: Slack) -> None:
    one, two = await slack.direct("Ann").say("a"), await slack.direct("Bob").say("b")
    assert one["ts"] == two["ts"]


def test_a_button_compares_by_what_one_sees() -> None:
    shown = Shown("1.000000", 0.0, blocks=[actions(button("a", "v", "Go &amp; see"))])
    assert shown.buttons == [Button("a", "v", "Go & see", "row")]
