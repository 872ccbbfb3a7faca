"""The Slack channel over real sockets, against a local Slack."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
import uvicorn

from agent.media import Attachment
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
from channels.message import FileRef, MessageStatus
from channels.reply import CallSegment, MediaSegment, QuestionSegment, Reply, Segment, TextSegment
from channels.slack.channel import SlackChannel
from tests.channels.failing import first_fails
from tests.channels.test_discord_channel import Shelfmark
from tests.channels.test_sync import MemoryLedger
from tests.channels.test_telegram_channel import Inbox, Shelf, png
from tests.servers.slack import Place, Slack, Thread, Upload

COMMANDS = (CommandHelp("stop", "stop what is running"), CommandHelp("new", "start afresh"))


@asynccontextmanager
async def listening(channel: SlackChannel, inbox: Inbox, slack: Slack) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        listener = tasks.create_task(channel.listen(inbox.deliver, COMMANDS))
        await slack.connected()
        yield
        listener.cancel()


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
async def channel(slack: Slack, shelf: Shelf) -> AsyncIterator[SlackChannel]:
    channel = open_channel(slack, shelf)
    yield channel
    await channel.aclose()


def open_channel(slack: Slack, shelf: Shelf) -> SlackChannel:
    return SlackChannel("slack", slack.bot_token, shelf, Shelfmark(), app_token=slack.app_token, api_url=slack.api_url)


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


def reply_in(
    place: Place | Thread, *segments: Segment, to: str | None = None, status: str = "", done: bool = True, **more: bool
) -> Reply:
    chat, thread = (place.place, place.ts) if isinstance(place, Thread) else (place, None)
    kind = "direct" if chat.is_direct else "group"
    address = Address("slack", "U0BOT", chat.id, thread, kind)  # type: ignore[arg-type]
    return Reply("run-1", address, to, segments, status, done, **more)


def text(markdown: str, *, open: bool = False) -> TextSegment:
    return TextSegment("t1", markdown, open=open)


# --- inbound ---------------------------------------------------------------------------------------------------------


async def test_a_direct_message_is_delivered_and_then_confirmed(
    slack: Slack, channel: SlackChannel, inbox: Inbox
) -> None:
    ann = slack.direct("Ann")
    async with listening(channel, inbox, slack):
        said = await ann.say("a < b & *c*")
        assert await inbox.texts(1) == ["a < b & *c*"]
        await slack.settle()
    [message] = inbox.messages
    assert message.address == Address("slack", "U0BOT", ann.id)
    assert (message.message_id, message.sender.name, message.addressed) == (said["ts"], "Ann", True)


async def test_a_mention_is_one_message_although_it_is_two_events(
    slack: Slack, channel: SlackChannel, inbox: Inbox
) -> None:
    team = slack.channel("team", ["Ann", "Bob"])
    async with listening(channel, inbox, slack):
        said = await team.say("@interject, how many are we? Ask @Bob in #team")
        await slack.settle()
    first, second = inbox.messages
    assert first == second
    assert first.text == "how many are we? Ask @Bob in #team"
    assert (first.address.thread, first.thread_root, first.addressed) == (said["ts"], None, True)


async def test_what_is_said_in_a_thread_follows_and_names_what_it_began_with(
    slack: Slack, channel: SlackChannel, inbox: Inbox
) -> None:
    team = slack.channel("team", ["Ann", "Bob"])
    root = await team.send_file("plan.txt", b"the plan", "our plan")
    async with listening(channel, inbox, slack):
        await team.say("is it good?", thread=root, by=slack.person("Bob"))
        await inbox.until(lambda: any(message.text == "is it good?" for message in inbox.messages))
        asked = inbox.messages[-1]
        assert (asked.addressed, asked.follows, asked.thread_root) == (False, True, root["ts"])
        root_message = await channel.thread_root(asked.address, root["ts"])
        assert root_message is not None
        assert (root_message.sender, root_message.text) == ("Ann", "our plan")
        assert await channel.fetch(root_message.files[0]) == b"the plan"
        assert await channel.thread_root(asked.address, "1.000001") is None


async def test_an_edit_is_delivered_and_a_preview_of_a_link_is_an_update(
    slack: Slack, channel: SlackChannel, inbox: Inbox
) -> None:
    ann = slack.direct("Ann")
    async with listening(channel, inbox, slack):
        said = await ann.say("see https://example.org")
        await ann.unfurl(said, "A page")
        await ann.edit(said, None)
        await ann.edit(said, "see nothing")
        await inbox.texts(3)
        await slack.settle()
    _, update, edit = inbox.messages
    assert (update.kind, update.is_update, update.text) == ("edited", True, "see https://example.org")
    assert [foreign.source for foreign in update.foreign] == ["the preview of https://example.org/"]
    assert (edit.kind, edit.is_update, edit.text, edit.message_id) == ("edited", False, "see nothing", said["ts"])


async def test_a_deleted_message_is_withdrawn_also_when_a_tombstone_is_left(
    slack: Slack, channel: SlackChannel, inbox: Inbox
) -> None:
    team = slack.channel("team", ["Ann"])
    async with listening(channel, inbox, slack):
        said = await team.say("@interject hi")
        answer = await team.say("more", thread=said)
        await team.delete(answer)
        await team.say("again", thread=said)
        await team.delete(said)
        await inbox.until(lambda: sum(message.kind == "withdrawn" for message in inbox.messages) == 2)
    gone = [message for message in inbox.messages if message.kind == "withdrawn"]
    assert [message.message_id for message in gone] == [answer["ts"], said["ts"]]
    assert {message.address.thread for message in gone} == {said["ts"]}


async def test_commands_come_by_slash_and_by_exclamation_mark(
    slack: Slack, channel: SlackChannel, inbox: Inbox
) -> None:
    team = slack.channel("team", ["Ann"])
    async with listening(channel, inbox, slack):
        await team.command("/interject", "busy queue")
        root = await team.say("@interject work")
        await team.say("!stop", thread=root)
        await team.say("@interject !new about cats", thread=root)
        await slack.settle()
    commands = {message.event_id: message for message in inbox.messages if message.kind == "command"}.values()
    assert {(message.command, message.text, message.address.thread) for message in commands} == {
        ("busy", "queue", None),
        ("stop", "", root["ts"]),
        ("new", "about cats", root["ts"]),
    }


async def test_a_pressed_button_and_slacks_own_stop_button_are_commands(
    slack: Slack, channel: SlackChannel, inbox: Inbox
) -> None:
    ann = slack.direct("Ann")
    thread = ann.thread(await ann.say("work"))
    async with listening(channel, inbox, slack):
        await inbox.texts(1)
        await channel.show(reply_in(ann, text("I think", open=True), done=False), MemoryLedger())
        await ann.press(ann.messages[0], "Stop")
        await ann.press(ann.messages[0], "Stop")
        await thread.stop_session()
        await inbox.until(lambda: len(inbox.messages) == 4)
    pressed, again, stopped = inbox.messages[1:]
    assert (pressed.command, pressed.text, pressed.message_id) == ("stop", "run-1", ann.messages[0].ts)
    assert pressed.event_id != again.event_id
    assert (stopped.command, stopped.text, stopped.address.thread) == ("stop", "", thread.ts)


async def test_the_bots_own_messages_are_not_delivered_and_other_bots_are_marked(
    slack: Slack, channel: SlackChannel, inbox: Inbox
) -> None:
    team = slack.channel("team", ["Ann"])
    async with listening(channel, inbox, slack):
        await channel.show(reply_in(team, text("mine")), MemoryLedger())
        await team.bot_says("deployed", name="Deploys")
        await team.bot_says("built", name="Builds", classic=False)
        await slack.settle()
    assert [(message.sender.name, message.sender.kind) for message in inbox.messages] == [
        ("Deploys", "bot"),
        ("Builds", "bot"),
    ]


async def test_a_forwarded_message_says_so(slack: Slack, channel: SlackChannel, inbox: Inbox) -> None:
    team, ann = slack.channel("team", ["Bob"]), slack.direct("Ann")
    original = await team.say("the tower is 324 m high")
    async with listening(channel, inbox, slack):
        await slack.settle()
        inbox.messages.clear()
        await ann.share(original, "true?", source=team)
        await ann.share(original, source=team)
        await inbox.texts(2)
    commented, bare = inbox.messages
    assert (commented.text, commented.note) == ("true?", 'Forwarded from Bob: "the tower is 324 m high"')
    assert (bare.text, bare.note) == ("the tower is 324 m high", "Forwarded from Bob")


async def test_a_message_that_could_not_be_kept_is_not_confirmed_and_comes_again(
    slack: Slack, channel: SlackChannel, inbox: Inbox
) -> None:
    inbox.broken = 1
    ann = slack.direct("Ann")
    async with listening(channel, inbox, slack):
        await ann.say("one")
        await inbox.until(lambda: inbox.broken == 0)
        assert inbox.messages == []
        await ann.say("two")
        assert await inbox.texts(1) == ["two"]
        await slack.until(lambda slack: len(slack.unacknowledged()) == 1)
        assert slack.redeliver() == 1
        assert await inbox.texts(2) == ["two", "one"]
        await slack.settle()


async def test_no_message_overtakes_one_that_cannot_be_stored_yet(
    slack: Slack, channel: SlackChannel, inbox: Inbox
) -> None:
    """The first fails only once the second has arrived; another chat waits for neither."""
    ann, bob = slack.direct("Ann"), slack.direct("Bob")
    async with asyncio.TaskGroup() as tasks:
        listener = tasks.create_task(channel.listen(first_fails(inbox), COMMANDS))
        await slack.connected()
        await ann.say("one")
        await ann.say("two")
        await bob.say("elsewhere")
        assert await inbox.texts(1) == ["elsewhere"]
        await slack.until(lambda slack: len(slack.unacknowledged()) == 2)
        assert slack.redeliver() == 2
        assert await inbox.texts(3) == ["elsewhere", "one", "two"]
        await slack.settle()
        listener.cancel()


async def test_a_redelivered_event_has_the_same_id(slack: Slack, channel: SlackChannel, inbox: Inbox) -> None:
    ann = slack.direct("Ann")
    async with listening(channel, inbox, slack):
        said = await ann.say("hi")
        await inbox.texts(1)
        await ann.repeat(said)
        await inbox.texts(2)
    first, second = inbox.messages
    assert first.event_id == second.event_id


async def test_poison_is_skipped_and_its_neighbours_arrive(slack: Slack, channel: SlackChannel, inbox: Inbox) -> None:
    ann = slack.direct("Ann")
    async with listening(channel, inbox, slack):
        await ann.say("before")
        await ann.push({"type": "message", "channel": ann.id, "channel_type": "im"})
        await ann.push(
            {"type": "message", "channel": ann.id, "channel_type": "im", "ts": "x", "user": "U1", "text": "?"}
        )
        await ann.push({"type": "message", "channel": {}, "ts": 5})
        slack.send_raw("{not json")
        slack.send_raw("[]")
        await ann.say("after")
        assert await inbox.texts(2) == ["before", "after"]
        await slack.settle()
    assert channel.skipped == 3


async def test_what_comes_out_of_order_after_a_reconnection_is_put_in_order(
    slack: Slack, channel: SlackChannel, inbox: Inbox
) -> None:
    ann = slack.direct("Ann")
    with slack.hold_events() as held:
        for number in range(5):
            await ann.say(str(number))
        held.release(reverse=True)
    async with listening(channel, inbox, slack):
        assert await inbox.texts(5) == [str(number) for number in range(5)]


async def test_another_socket_is_opened_before_the_one_before_goes(
    slack: Slack, channel: SlackChannel, inbox: Inbox
) -> None:
    ann = slack.direct("Ann")
    async with listening(channel, inbox, slack):
        slack.disconnect("warning")
        await ann.say("meanwhile")
        assert await inbox.texts(1) == ["meanwhile"]
        await slack.until(lambda slack: slack.sockets == 1)
        slack.disconnect()
        await slack.connected(2)
        await ann.say("afterwards")
        assert await inbox.texts(2) == ["meanwhile", "afterwards"]
        await slack.settle()


async def test_a_broken_connection_and_a_server_that_is_away_are_survived(
    slack: Slack, channel: SlackChannel, inbox: Inbox
) -> None:
    ann = slack.direct("Ann")
    slack.fail_next("auth.test", status=503)
    slack.fail_next("apps.connections.open", "internal_error")
    async with listening(channel, inbox, slack):
        opened = len(slack.called("apps.connections.open"))
        slack.drop()
        await slack.until(lambda slack: len(slack.called("apps.connections.open")) > opened)
        await ann.say("one")
        assert await inbox.texts(1) == ["one"]
        await slack.settle()
        with slack.refuse():
            await slack.until(lambda slack: slack.sockets == 0)
            await ann.say("two")
        assert await inbox.texts(2) == ["one", "two"]
        await slack.settle()
    assert channel.problem == ""


async def test_wrong_tokens_are_rejected_with_words(slack: Slack, inbox: Inbox, shelf: Shelf) -> None:
    for tokens, field in (
        (("xoxb-wrong", slack.app_token), "bot_token"),
        ((slack.bot_token, "xapp-wrong"), "app_token"),
    ):
        channel = SlackChannel("slack", tokens[0], shelf, Shelfmark(), app_token=tokens[1], api_url=slack.api_url)
        with pytest.raises(ChannelRejected, match=rf"invalid_auth.*channels\.slack\.{field}"):
            await channel.listen(inbox.deliver, COMMANDS)
        await channel.aclose()
    for bot_token, app_token in (("", "xapp-1"), ("xoxb-1", ""), ("xapp-1", "xoxb-1")):
        with pytest.raises(ChannelRejected, match="channel"):
            SlackChannel("slack", bot_token, shelf, Shelfmark(), app_token=app_token)


# --- HTTP ------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def served(slack: Slack, shelf: Shelf, inbox: Inbox) -> AsyncIterator[SlackChannel]:
    channel = SlackChannel("slack", slack.bot_token, shelf, Shelfmark(), signing_secret="s3cret", api_url=slack.api_url)
    config = uvicorn.Config(channel.asgi(), port=0, log_level="error", lifespan="off", ws="none")
    server = uvicorn.Server(config)
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(server.serve())
        listener = tasks.create_task(channel.listen(inbox.deliver, COMMANDS))
        async with asyncio.timeout(60):
            while not (server.started and slack.called("auth.test")):  # noqa: ASYNC110 - the server rings no bell
                await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        slack.post_events_to(f"http://127.0.0.1:{port}/slack/slack/events", "s3cret")
        yield channel
        listener.cancel()
        server.should_exit = True
        await serving
    await channel.aclose()


async def test_over_http_what_is_signed_is_heard_and_what_is_not_is_refused(
    slack: Slack, shelf: Shelf, inbox: Inbox
) -> None:
    ann = slack.direct("Ann")
    async with served(slack, shelf, inbox) as channel:
        assert await slack.verify_url("abc") == (200, '{"challenge": "abc"}')
        inbox.broken = 1
        await ann.say("hi")
        await slack.until(lambda slack: 500 in slack.deliveries[-1].statuses)
        slack.redeliver()
        assert await inbox.texts(1) == ["hi"]
        await ann.command("/interject", "status")
        await channel.show(reply_in(ann, text("I think", open=True), done=False), MemoryLedger())
        await ann.press(ann.messages[0], "Stop")
        await inbox.until(lambda: len(inbox.messages) == 3)
        await slack.settle()
        endpoint = slack.feed.endpoint
        assert endpoint is not None
        assert (await endpoint.post_signed("{}", secret="wrong"))[0] == 401
        assert (await endpoint.post_signed("{}", signed=False))[0] == 401
        assert (await endpoint.post_signed("{}", seconds_ago=600))[0] == 401
        # It may be refused before it was sent to its end.
        assert (await endpoint.post_signed("x" * 1_040_000))[0] in (413, 0)
    assert [message.command for message in inbox.messages] == [None, "status", "stop"]


@pytest.mark.parametrize("headers", ["", "X-Slack-Signature: v0=0\r\nX-Slack-Request-Timestamp: 1000\r\n"])
async def test_over_http_a_body_is_not_waited_for_without_a_recent_signature(
    slack: Slack, shelf: Shelf, inbox: Inbox, headers: str
) -> None:
    async with served(slack, shelf, inbox), asyncio.timeout(10):
        endpoint = slack.feed.endpoint
        assert endpoint is not None
        url = urlsplit(endpoint.url)
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        writer.write(f"POST {url.path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n{headers}\r\n".encode())
        assert (await reader.readline()).startswith(b"HTTP/1.1 401")
        writer.close()


# --- files -----------------------------------------------------------------------------------------------------------


async def test_a_persons_files_are_fetched(slack: Slack, channel: SlackChannel, inbox: Inbox) -> None:
    ann = slack.direct("Ann")
    async with listening(channel, inbox, slack):
        await ann.send_files([Upload("notes.txt", b"some bytes"), Upload("chart.png", png())], "look")
        await ann.send_file("shared.txt", b"from elsewhere", file_access="check_file_info")
        await inbox.texts(2)
    notes, chart = inbox.messages[0].files
    assert (notes.name, notes.media_type, notes.size) == ("notes.txt", "text/plain", 10)
    assert await channel.fetch(notes) == b"some bytes"
    assert await channel.fetch(chart) == png()
    assert await channel.fetch(inbox.messages[1].files[0]) == b"from elsewhere"


async def test_a_canvas_is_fetched_as_its_page_and_refused_for_the_true_reason(
    slack: Slack, channel: SlackChannel, shelf: Shelf, inbox: Inbox
) -> None:
    ann = slack.direct("Ann")
    other = SlackChannel("slack", "xoxb-other", shelf, Shelfmark(), app_token="xapp-1", api_url=slack.api_url)
    async with listening(channel, inbox, slack):
        await ann.send_file("plan", b"<h1>Plan</h1>", mimetype="application/vnd.slack-docs", filetype="quip")
        await inbox.texts(1)
    [canvas] = inbox.messages[0].files
    assert canvas.name == "plan.html"
    assert await channel.fetch(canvas) == b"<h1>Plan</h1>"
    with pytest.raises(FileUnavailable, match="does not let the app read it"):
        await other.fetch(canvas)
    await other.aclose()


async def test_an_unavailable_file_is_refused_with_the_reason(slack: Slack, shelf: Shelf, inbox: Inbox) -> None:
    ann = slack.direct("Ann")
    other = SlackChannel("slack", "xoxb-other", shelf, Shelfmark(), app_token="xapp-1", api_url=slack.api_url)
    channel = open_channel(slack, shelf)
    async with listening(channel, inbox, slack):
        await ann.send_file("notes.txt", b"some bytes")
        await inbox.texts(1)
    [notes] = inbox.messages[0].files
    with pytest.raises(FileUnavailable, match="files:read"):
        await other.fetch(notes)
    with pytest.raises(FileUnavailable, match=r"not stored by Slack, but at docs\.example\.org"):
        await channel.fetch(FileRef("F1 https://docs.example.org/x", "x"))
    with pytest.raises(FileUnavailable, match="file_not_found"):
        await channel.fetch(FileRef("F999 ", "x"))
    with pytest.raises(FileUnavailable, match="no longer on Slack"):
        await channel.fetch(FileRef(f"F999 {slack.url}/files-pri/T1-F999/x", "x"))
    with slack.refuse(), pytest.raises(Unreachable):
        await channel.fetch(notes)
    with pytest.raises(FileUnavailable, match="larger than the 50 MB"):
        await channel.fetch(replace(notes, size=51 * 1024**2))
    await other.aclose()
    await channel.aclose()


async def test_a_file_whose_size_nobody_told_is_not_fetched_beyond_what_is_kept(
    slack: Slack, channel: SlackChannel, inbox: Inbox
) -> None:
    async with listening(channel, inbox, slack):
        await slack.direct("Ann").send_file("film.mp4", bytes(51 * 1024**2))
        await inbox.texts(1)
    with pytest.raises(FileUnavailable, match="larger than the 50 MB"):
        await channel.fetch(replace(inbox.messages[0].files[0], size=None))


# --- outbound --------------------------------------------------------------------------------------------------------


async def test_a_reply_grows_in_one_message(slack: Slack, channel: SlackChannel) -> None:
    ann, ledger = slack.direct("Ann"), MemoryLedger()
    call = CallSegment("c1", "shell", "shell: ls", "running")
    await channel.show(reply_in(ann, call, status="shell: ls", done=False), ledger)
    assert ann.texts == ["⏳ shell: ls"]
    await channel.show(reply_in(ann, text("There are **two**", open=True), done=False), ledger)
    assert ann.messages[0].labels == ["Stop"]
    for _ in range(2):
        await channel.show(reply_in(ann, text("There are **two** files.")), ledger)
    [shown] = ann.messages
    assert (shown.text, shown.markdown, shown.buttons) == ("There are two files.", "There are **two** files.", [])
    assert [call.method for call in slack.calls] == ["chat.postMessage", "chat.update", "chat.update"]


async def test_in_a_thread_a_reply_is_streamed_with_its_tasks(
    slack: Slack, channel: SlackChannel, inbox: Inbox
) -> None:
    team, ledger = slack.channel("team", ["Ann"]), MemoryLedger()
    async with listening(channel, inbox, slack):
        said = await team.say("@interject count")
        thread = team.thread(said)
        await inbox.texts(1)
        running = CallSegment("c1", "shell", "shell: ls", "running")
        await channel.show(reply_in(thread, running, to=said["ts"], status="shell: ls", done=False), ledger)
        [shown] = thread.messages
        assert shown.is_stream_open
        assert [task[1:3] for task in shown.tasks] == [("shell: ls", "in_progress")]
        assert thread.session is not None
        assert thread.session.status == "processing"
        done = CallSegment("c1", "shell", "shell: ls", "done")
        for words in ("There are", "There are **tw", "There are **two** fi"):
            await channel.show(reply_in(thread, done, text(words, open=True), to=said["ts"], done=False), ledger)
        assert shown.text == "There are two fi"
        for _ in range(2):
            await channel.show(reply_in(thread, done, text("There are **two** files."), to=said["ts"]), ledger)
        [shown] = thread.messages
        assert (shown.text, shown.is_stream_open, shown.buttons) == ("There are two files.", False, [])
        assert [task[1:3] for task in shown.tasks] == [("shell: ls", "complete")]
        assert thread.session.status == "active"
        assert slack.called("chat.update") == []
        assert len(shown.streamed) == 4
    assert slack.refusals == []


async def test_a_stream_that_showed_what_does_not_stay_is_stopped_and_changed(
    slack: Slack, channel: SlackChannel
) -> None:
    thread = slack.direct("Ann").thread(await slack.direct("Ann").say("hi"))
    ledger = MemoryLedger()
    await channel.show(reply_in(thread, text("I think so", open=True), done=False), ledger)
    await channel.show(reply_in(thread, text("I know", open=True), done=False), ledger)
    assert thread.texts == ["I know"]
    await channel.show(reply_in(thread, text("I know it."), done=False), ledger)
    await channel.show(reply_in(thread, text("I know it.")), ledger)
    [shown] = thread.messages
    assert (shown.text, shown.is_stream_open, shown.buttons) == ("I know it.", False, [])


async def test_a_notice_is_a_task_that_is_gone_in_the_end(slack: Slack, channel: SlackChannel) -> None:
    thread = slack.direct("Ann").thread(await slack.direct("Ann").say("hi"))
    ledger = MemoryLedger()
    await channel.show(reply_in(thread, status="the model is overloaded", done=False), ledger)
    assert [task.title for task in thread.messages[0].tasks] == ["the model is overloaded"]
    await channel.show(reply_in(thread, text("Hello", open=True), done=False), ledger)
    await channel.show(reply_in(thread, text("Hello.")), ledger)
    [shown] = thread.messages
    assert (shown.text, shown.tasks) == ("Hello.", [])


async def test_without_the_agents_surface_a_thread_is_posted_to_and_has_a_stop_button(
    slack: Slack, channel: SlackChannel
) -> None:
    thread = slack.direct("Ann").thread(await slack.direct("Ann").say("hi"))
    slack.fail_next("agents.sessions.setStatus", "unknown_method")
    await channel.typing(reply_in(thread).address)
    assert thread.status == "is working…"
    ledger = MemoryLedger()
    await channel.show(reply_in(thread, text("Hel", open=True), done=False), ledger)
    assert (thread.texts, thread.messages[0].labels) == (["Hel"], ["Stop"])
    await channel.show(reply_in(thread, text("Hello.")), ledger)
    assert (thread.texts, thread.messages[0].labels) == (["Hello."], [])
    assert len(slack.called("agents.sessions.setStatus")) == 1


async def test_an_app_that_does_not_hear_slacks_stop_button_does_not_show_it(
    slack: Slack, channel: SlackChannel
) -> None:
    thread = slack.direct("Ann").thread(await slack.direct("Ann").say("hi"))
    slack.unsubscribed.add("agent_session_stopped")
    await channel.show(reply_in(thread, text("Hel", open=True), done=False), MemoryLedger())
    assert thread.session is not None
    assert thread.session.status == "active"
    assert thread.messages[0].labels == ["Stop"]


async def test_a_refused_stream_is_posted_instead(slack: Slack, channel: SlackChannel) -> None:
    thread = slack.direct("Ann").thread(await slack.direct("Ann").say("hi"))
    slack.fail_next("chat.startStream", "missing_scope")
    ledger = MemoryLedger()
    for words in ("Hel", "Hello"):
        await channel.show(reply_in(thread, text(words, open=True), done=False), ledger)
    await channel.show(reply_in(thread, text("Hello.")), ledger)
    assert thread.texts == ["Hello."]
    assert len(slack.called("chat.startStream")) == 1


async def test_a_question_waits_with_its_options_and_a_suspended_session(slack: Slack, channel: SlackChannel) -> None:
    thread = slack.direct("Ann").thread(await slack.direct("Ann").say("hi"))
    ledger = MemoryLedger()
    question = QuestionSegment("q:4f_3_0", "Which **one**?", ("red", "blue"))
    await channel.show(reply_in(thread, question, done=False, parked=True), ledger)
    [shown] = thread.messages
    assert shown.text == "Which one?"
    assert [(button.label, button.value) for button in shown.buttons] == [
        ("red", "answer:q:4f_3_0:0"),
        ("blue", "answer:q:4f_3_0:1"),
    ]
    assert thread.session is not None
    assert thread.session.status == "suspended"
    answered = QuestionSegment("q:4f_3_0", "Which **one**?", ("red", "blue"), open=False, answer="blue")
    await channel.show(reply_in(thread, answered), ledger)
    assert (shown.text, shown.buttons) == ("Which one?\n\n→ blue", [])
    assert thread.session.status == "active"


async def test_a_task_that_another_worker_has_ended_keeps_no_thread_busy(
    slack: Slack, channel: SlackChannel, shelf: Shelf
) -> None:
    thread = slack.direct("Ann").thread(await slack.direct("Ann").say("hi"))
    asked, answered = MemoryLedger(), replace(reply_in(thread, text("Red it is.")), id="run-2")
    question = QuestionSegment("q:4f_3_0", "Which?", ("red", "blue"))
    await channel.show(reply_in(thread, question, done=False, parked=True), asked)
    await channel.show(answered, MemoryLedger())
    assert thread.session is not None
    assert thread.session.status == "suspended"
    elsewhere = open_channel(slack, shelf)
    await elsewhere.show(reply_in(thread, replace(question, open=False, answer="blue")), asked)
    await elsewhere.aclose()
    assert thread.session.status == "active"
    ledger, growing = MemoryLedger(), reply_in(thread, text("Bl", open=True), done=False)
    await channel.show(replace(growing, id="run-3"), ledger)
    assert thread.session.status == "processing"
    await channel.show(replace(reply_in(thread, text("Blue.")), id="run-3"), ledger)
    assert thread.session.status == "active"


async def test_an_option_pressed_is_the_answer(slack: Slack, channel: SlackChannel, inbox: Inbox) -> None:
    ann = slack.direct("Ann")
    question = QuestionSegment("q:4f_3_0", "Which?", ("red", "blue"))
    await channel.show(reply_in(ann, question, done=False, parked=True), MemoryLedger())
    async with listening(channel, inbox, slack):
        await ann.press(ann.messages[0], "blue")
        await inbox.until(lambda: bool(inbox.messages))
    assert (inbox.messages[0].command, inbox.messages[0].text) == ("answer", "q:4f_3_0 1")


async def test_a_long_reply_does_not_send_its_finished_messages_again(slack: Slack, channel: SlackChannel) -> None:
    for place in (slack.direct("Ann"), slack.direct("Bob").thread(await slack.direct("Bob").say("hi"))):
        ledger, before = MemoryLedger(), len(slack.calls)
        long = "\n\n".join(f"Paragraph {number} {'word ' * 100}" for number in range(60))
        for end in range(2000, len(long) + 1000, 2000):
            await channel.show(reply_in(place, text(long[:end], open=True), done=False), ledger)
        await channel.show(reply_in(place, text(long)), ledger)
        assert " ".join(place.texts).split() == long.split()
        assert len(place.messages) == 3
        assert len(slack.calls) - before <= 26
    assert slack.refusals == []


async def test_text_pictures_and_files_stand_in_the_order_in_which_they_were_made(
    slack: Slack, channel: SlackChannel, shelf: Shelf
) -> None:
    ann, team = slack.direct("Ann"), slack.channel("team", ["Ann"])
    for place in (ann, team.thread(await team.say("hi"))):
        chart, notes = await shelf.put(png(), "chart.png"), await shelf.put(b"notes" * 300_000, "notes.txt")
        segments = (text("A chart:"), MediaSegment("m1", chart, "1 < 2"), MediaSegment("m2", notes))
        ledger = MemoryLedger()
        for end in range(1, 4):
            await channel.show(reply_in(place, *segments[:end], status="drawing", done=False), ledger)
        await channel.show(reply_in(place, *segments, TextSegment("t2", "Done.")), ledger)
        assert place.texts == ["A chart:", "1 < 2", "", "Done."]
        files = [file for shown in place.messages for file in shown.files]
        assert [(file.name, file.data, file.alt_text) for file in files] == [
            ("chart.png", png(), "1 < 2"),
            ("notes.txt", b"notes" * 300_000, ""),
        ]
    assert slack.refusals == []


async def test_a_file_that_cannot_be_sent_is_explained(slack: Slack, channel: SlackChannel, shelf: Shelf) -> None:
    ann = slack.direct("Ann")
    lost = MediaSegment("m1", Attachment("0" * 64, "lost.png", "image/png", 5, 8, 8), "a caption")
    huge = MediaSegment("m2", Attachment("1" * 64, "huge.zip", "application/zip", 2_000_000_000))
    empty = MediaSegment("m3", await shelf.put(b"", "empty.txt"))
    refused = MediaSegment("m4", await shelf.put(b"x", "refused.txt"))
    slack.fail_next("files.completeUploadExternal", "file_update_failed")
    await channel.show(reply_in(ann, lost, huge, empty, refused), MemoryLedger())
    first, second, third, fourth = ann.texts
    assert "a caption" in first
    assert "lost.png could not be sent" in first
    assert "1 GB" in second
    assert "empty.txt could not be sent" in third
    assert "file_update_failed" in fourth


@pytest.mark.parametrize("method", ["chat.postMessage", "chat.startStream", "files.completeUploadExternal"])
async def test_what_was_lost_on_its_way_back_is_found_on_screen_and_not_sent_again(
    slack: Slack, channel: SlackChannel, shelf: Shelf, method: str
) -> None:
    ann = slack.direct("Ann")
    root = await ann.say("hi")
    place = ann if method == "chat.postMessage" else ann.thread(root)
    segments: list[Segment] = [text("hello", open=True)]
    if method == "files.completeUploadExternal":
        segments = [MediaSegment("m1", await shelf.put(png(), "chart.png")), TextSegment("t2", "hello")]
    await ann.say("noise")
    ledger = MemoryLedger()
    slack.drop_answer(method)
    with pytest.raises(OutcomeUnknown):
        await channel.show(reply_in(place, *segments, to=root["ts"], done=False), ledger)
    assert [sent.state for sent in ledger.pieces()] == ["unknown"]
    for _ in range(2):
        await channel.show(reply_in(place, *segments, to=root["ts"]), ledger)
    assert place.texts[-1] == "hello"
    assert len(place.messages) == len(segments)
    assert not any(shown.is_stream_open for shown in place.messages)


async def test_what_never_arrived_is_sent_again_without_a_word(slack: Slack, channel: SlackChannel) -> None:
    ann, ledger = slack.direct("Ann"), MemoryLedger()
    slack.fail_next("chat.postMessage", status=500)
    with pytest.raises(OutcomeUnknown):
        await channel.show(reply_in(ann, text("hello")), ledger)
    await channel.show(reply_in(ann, text("hello")), ledger)
    assert ann.texts == ["hello"]


async def test_where_nothing_can_be_read_back_it_is_sent_again_with_a_note(slack: Slack, channel: SlackChannel) -> None:
    ann, ledger = slack.direct("Ann"), MemoryLedger()
    slack.drop_answer("chat.postMessage")
    with pytest.raises(OutcomeUnknown):
        await channel.show(reply_in(ann, text("hello")), ledger)
    slack.fail_next("conversations.history", "missing_scope")
    await channel.show(reply_in(ann, text("hello")), ledger)
    assert ann.texts[0] == "hello"
    assert ann.texts[1].startswith("hello\n(possibly a repeat")


@pytest.mark.parametrize("method", ["chat.appendStream", "chat.stopStream"])
async def test_a_lost_answer_to_a_stream_neither_loses_nor_doubles_text(
    slack: Slack, channel: SlackChannel, method: str
) -> None:
    thread = slack.direct("Ann").thread(await slack.direct("Ann").say("hi"))
    ledger = MemoryLedger()
    await channel.show(reply_in(thread, text("one", open=True), done=False), ledger)
    slack.drop_answer(method)
    with pytest.raises(Unreachable):
        await channel.show(reply_in(thread, text("one two", open=True), done=method != "chat.appendStream"), ledger)
    await channel.show(reply_in(thread, text("one two three")), ledger)
    [shown] = thread.messages
    assert (shown.text, shown.is_stream_open) == ("one two three", False)


async def test_after_a_restart_a_half_streamed_message_goes_on_and_is_finished(
    slack: Slack, channel: SlackChannel, shelf: Shelf
) -> None:
    thread = slack.direct("Ann").thread(await slack.direct("Ann").say("hi"))
    ledger = MemoryLedger()
    await channel.show(reply_in(thread, text("one two", open=True), done=False), ledger)
    later = open_channel(slack, shelf)
    await later.show(reply_in(thread, text("one two", open=True), done=False), ledger)
    await later.show(reply_in(thread, text("one two three", open=True), done=False), ledger)
    await later.show(reply_in(thread, text("one two three four")), ledger)
    await later.aclose()
    [shown] = thread.messages
    assert (shown.text, shown.is_stream_open) == ("one two three four", False)
    assert thread.session is not None
    assert thread.session.status == "active"


@pytest.mark.parametrize("method", ["chat.postMessage", "chat.update", "files.getUploadURLExternal"])
async def test_patience_is_asked_for_in_seconds(slack: Slack, channel: SlackChannel, shelf: Shelf, method: str) -> None:
    ann, ledger = slack.direct("Ann"), MemoryLedger()
    segments = (text("hello"), MediaSegment("m1", await shelf.put(b"x", "x.txt")))
    await channel.show(
        reply_in(ann, text("hel", open=True), done=False), ledger if method != "chat.postMessage" else MemoryLedger()
    )
    slack.fail_next(method, "ratelimited", retry_after=7)
    with pytest.raises(RetryLater) as caught:
        await channel.show(reply_in(ann, *segments), ledger)
    assert caught.value.after == 7
    await channel.show(reply_in(ann, *segments), ledger)
    assert ann.texts[-2:] == ["hello", ""]


async def test_patience_with_a_stream_keeps_it(slack: Slack, channel: SlackChannel) -> None:
    thread = slack.direct("Ann").thread(await slack.direct("Ann").say("hi"))
    ledger = MemoryLedger()
    for method in ("chat.startStream", "chat.appendStream", "chat.stopStream"):
        slack.fail_next(method, "ratelimited", retry_after=3)
    for words, done in (("one", False), ("one", False), ("one two", False), ("one two", False), ("one two.", True)):
        try:
            await channel.show(reply_in(thread, text(words, open=not done), done=done), ledger)
        except RetryLater:
            continue
    await channel.show(reply_in(thread, text("one two.")), ledger)
    [shown] = thread.messages
    assert (shown.text, shown.is_stream_open, shown.streamed) == ("one two.", False, ["one", " two", "."])


async def test_a_server_that_is_away_is_unreachable_and_nothing_is_in_doubt(
    slack: Slack, channel: SlackChannel
) -> None:
    ann, ledger = slack.direct("Ann"), MemoryLedger()
    await slack.stop()
    with pytest.raises(Unreachable):
        await channel.show(reply_in(ann, text("hello")), ledger)
    assert ledger.pieces() == ()
    await slack.start()
    await channel.show(reply_in(ann, text("hello")), ledger)
    assert ann.texts == ["hello"]


async def test_where_the_bot_may_not_write_nothing_can_be_delivered(slack: Slack, channel: SlackChannel) -> None:
    for refuse in (Place.kick, Place.archive):
        team = slack.channel(f"team-{refuse.__name__}", ["Ann"])
        refuse(team)
        with pytest.raises(Undeliverable, match=r"not_in_channel|is_archived"):
            await channel.show(reply_in(team, text("hello")), MemoryLedger())


@pytest.mark.parametrize("error", ["no_permission", "channel_not_found", "is_archived", "restricted_action"])
async def test_an_error_of_one_channel_is_not_one_of_the_token(slack: Slack, channel: SlackChannel, error: str) -> None:
    slack.fail_next("chat.postMessage", error)
    with pytest.raises(Undeliverable, match=error):
        await channel.show(reply_in(slack.channel("team", ["Ann"]), text("hello")), MemoryLedger())
    ann = slack.direct("Ann")
    await channel.show(reply_in(ann, text("hello")), MemoryLedger())
    assert ann.texts == ["hello"]


async def test_a_token_that_stops_working_gives_nothing_up(slack: Slack, channel: SlackChannel) -> None:
    slack.fail_next("chat.postMessage", "token_revoked")
    with pytest.raises(Unreachable, match="token_revoked"):
        await channel.show(reply_in(slack.direct("Ann"), text("hello")), MemoryLedger())


async def test_blocks_slack_refuses_are_sent_without_formatting(slack: Slack, channel: SlackChannel) -> None:
    ann = slack.direct("Ann")
    slack.fail_next("chat.postMessage", "invalid_blocks")
    await channel.show(reply_in(ann, text("**a < b**")), MemoryLedger())
    assert (ann.texts, ann.messages[0].markdown) == (["a < b"], "")


async def test_a_message_that_is_gone_is_sent_anew(slack: Slack, channel: SlackChannel) -> None:
    ann = slack.direct("Ann")
    for place in (ann, ann.thread(await ann.say("hi"))):
        ledger = MemoryLedger()
        await channel.show(reply_in(place, text("hel", open=True), done=False), ledger)
        await ann.delete(place.messages[0])
        await channel.show(reply_in(place, text("hello")), ledger)
        assert place.texts == ["hello"]


async def test_withdrawn_text_disappears(slack: Slack, channel: SlackChannel) -> None:
    ann = slack.direct("Ann")
    for place in (ann, ann.thread(await ann.say("hi"))):
        ledger = MemoryLedger()
        await channel.show(reply_in(place, text("wrong", open=True), done=False), ledger)
        await channel.show(reply_in(place, done=False), ledger)
        assert place.texts == []


async def test_nothing_mentions_anybody(slack: Slack, channel: SlackChannel) -> None:
    ann = slack.direct("Ann")
    bob = slack.person("Bob")
    words = f"<!channel> <!here|x> {bob.mention} @here <#C1|x> `<!everyone>`\n\n```\n<!channel> {bob.mention}\n```"
    await channel.show(reply_in(ann, text(words)), MemoryLedger())
    [shown] = ann.messages
    assert shown.pings == []
    for mention in ("<!channel>", "<!here", "<!everyone>", bob.mention, "@here", "<#C1"):
        assert mention not in shown.markdown + shown.fallback


async def test_the_state_of_a_message_is_one_reaction(slack: Slack, channel: SlackChannel, shelf: Shelf) -> None:
    ann = slack.direct("Ann")
    said = await ann.say("hi")
    mark = MessageStatus(reply_in(ann).address, 1, said["ts"], "waiting")
    await channel.show_status(mark)
    assert ann.marks_on(said) == ["hourglass_flowing_sand"]
    await channel.show_status(MessageStatus(mark.address, 1, said["ts"], "read", before="waiting"))
    assert ann.marks_on(said) == ["eyes"]
    # Its edit is a message of its own to the gateway.
    await channel.show_status(MessageStatus(mark.address, 2, said["ts"], "read"))
    assert slack.refusals == []
    later = open_channel(slack, shelf)
    await later.show_status(MessageStatus(mark.address, 1, said["ts"], "answered"))
    assert ann.marks_on(said) == ["white_check_mark"]
    await later.show_status(MessageStatus(mark.address, 1, said["ts"], "withdrawn", before="answered"))
    assert ann.marks_on(said) == []
    await later.aclose()
    mark = MessageStatus(mark.address, 3, (await ann.say("hello"))["ts"], "waiting")
    slack.fail_next("reactions.add", "ratelimited", retry_after=2)
    with pytest.raises(RetryLater):
        await channel.show_status(mark)
    slack.fail_next("reactions.add", "missing_scope")
    await channel.show_status(mark)
    with slack.refuse():
        await channel.show_status(mark)


async def test_typing_shows_and_never_fails(slack: Slack, channel: SlackChannel) -> None:
    ann = slack.direct("Ann")
    thread = ann.thread(await ann.say("hi"))
    await channel.typing(reply_in(ann).address)
    assert slack.calls == []
    await channel.typing(reply_in(thread).address)
    await channel.typing(reply_in(thread).address)
    assert thread.session is not None
    assert thread.session.history == ["processing"]
    await channel.show(reply_in(thread, text("Hello.")), MemoryLedger())
    assert thread.session.history == ["processing", "active"]
    with slack.refuse():
        await channel.typing(reply_in(thread).address)


async def test_previews_keep_slacks_pace(slack: Slack, channel: SlackChannel) -> None:
    ann = slack.direct("Ann")
    thread = ann.thread(await ann.say("hi"))
    assert channel.pace(reply_in(ann).address) == 1.0
    await channel.typing(reply_in(thread).address)
    assert channel.pace(reply_in(thread).address) == 0.7
