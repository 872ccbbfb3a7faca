"""Chatting with the gateway in Slack, through the real SDK, with a model behind a real socket."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from channels.slack import missed
from tests.gateway.stage import gateway
from tests.servers.models import Call, ModelServer, Pause, Say
from tests.servers.slack import Slack, Thread

SETTINGS = """\
[agent]
model = "openai:test"
workspaces = "shared"
[models.openai]
api_key = "test-key"
base_url = "{models}"
[web]
port = 0
[channels.slack]
bot_token = "{bot}"
app_token = "{app}"
api_url = "{api}"
allow = ["*"]
"""


@pytest.fixture
def settings(tmp_path: Path, slack: Slack, models: ModelServer) -> Path:
    file = tmp_path / "interject.toml"
    tokens = {"bot": slack.bot_token, "app": slack.app_token, "api": slack.api_url}
    file.write_text(SETTINGS.format(models=models.openai_url, **tokens))
    return file


def add(settings: Path, line: str) -> None:
    """To the section of the channel."""
    settings.write_text(f"{settings.read_text()}{line}\n")


def put(settings: Path, old: str, new: str) -> None:
    settings.write_text(settings.read_text().replace(old, new))


def heard(models: ModelServer, request: int = -1) -> str:
    """What the newest message of people was for the model."""
    return [str(message.text) for message in models.requests[request].messages if message.role == "user"][-1]


def cells(*texts: str) -> list[dict[str, Any]]:
    return [{"type": "raw_text", "text": text} for text in texts]


async def test_a_pasted_table_reaches_the_model(settings: Path, slack: Slack, models: ModelServer) -> None:
    models.script(Say("1200"))
    async with gateway(settings):
        await slack.connected()
        ann = slack.direct("Ann")
        table = {"type": "table", "rows": [cells("Item A", "1200")]}
        await ann.say("what is the total", attachments=[{"fallback": "[no preview available]", "blocks": [table]}])
        await ann.hear("1200")
    assert heard(models) == "what is the total\n\n| Item A | 1200 |\n| --- | --- |"


async def test_an_edit_after_the_answer_is_a_new_question_in_a_direct_chat(
    settings: Path, slack: Slack, models: ModelServer
) -> None:
    models.script(Say("Paris"), Say("Rome"))
    async with gateway(settings):
        await slack.connected()
        ann = slack.direct("Ann")
        said = await ann.say("capital of France?")
        await ann.hear("Paris")
        await ann.edit(said, "capital of Italy?")
        await ann.hear("Rome")
    assert 'Before: "capital of France?"' in heard(models)
    assert "capital of Italy?" in heard(models)


async def test_a_mention_written_into_a_message_makes_it_one_for_the_bot(
    settings: Path, slack: Slack, models: ModelServer
) -> None:
    models.script(Say("It is green"))
    async with gateway(settings):
        await slack.connected()
        team = slack.channel("team", ["Ann"])
        said = await team.say("check the build")
        await team.edit(said, "@interject check the build")
        await team.thread(said).hear("It is green")
    assert "check the build" in heard(models)
    assert len(models.requests) == 1


async def test_the_preview_of_a_link_disturbs_nothing(settings: Path, slack: Slack, models: ModelServer) -> None:
    models.script(Say(["It is", Pause(), " a page"]))
    async with gateway(settings):
        await slack.connected()
        ann = slack.direct("Ann")
        said = await ann.say("see https://example.org")
        await ann.hear("It is")
        await ann.unfurl(said)
        await slack.settle()
        models.release()
        await ann.until(lambda ann: ann.texts == ["It is a page"])
        await ann.unfurl(said, "Another page")
        await slack.settle()
    assert len(models.requests) == 1
    assert not models.requests[0].disconnected


async def test_called_into_a_thread_the_bot_knows_what_was_said_there(
    settings: Path, slack: Slack, models: ModelServer
) -> None:
    models.script(Say("You will meet on Monday"), Say("No, on Tuesday"), Say("Fine"))
    async with gateway(settings):
        await slack.connected()
        team = slack.channel("team", ["Ann", "Bob"])
        bob = slack.person("Bob")
        root = await team.say("when do we meet?")
        await team.say("monday?", thread=root, by=bob)
        await team.say("fine\n- Bob: I pay", thread=root)
        await team.say("@interject summarise this thread", thread=root, by=bob)
        thread = team.thread(root)
        await thread.hear("You will meet on Monday")
        # A program's message, which the bot does not hear.
        await team.bot_says("the room is taken on monday", thread=root)
        await thread.say("@interject still?", by=bob)
        await thread.hear("No, on Tuesday")
        await thread.say("thanks @interject")
        await thread.hear("Fine")
    first, again, last = (heard(models, number) for number in range(3))
    assert 'The first message of this thread, from Ann: "when do we meet?"' in first
    assert "- Bob: monday?\n- Ann: fine\n  - Bob: I pay" in first
    assert "summarise this thread" in first
    assert "the room is taken on monday" in again
    assert "monday?" not in again
    assert "room" not in last


async def test_a_reply_to_the_bots_own_picture_brings_it_also_after_new(
    settings: Path, slack: Slack, models: ModelServer
) -> None:
    chart = {"kind": "bar", "title": "Fruit", "labels": ["a"], "series": [{"name": "n", "values": [1]}]}
    models.script([Say("Here."), Call("draw_chart", chart)], Say("Drawn."), Say("I see"), Say("I still see"))
    async with gateway(settings):
        await slack.connected()
        ann = slack.direct("Ann")
        await ann.say("draw")
        await ann.hear("Drawn.")
        picture = next(message for message in ann.messages if message.files)
        thread = ann.thread(picture)
        await thread.say("what is this?")
        await thread.hear("I see")
        await thread.say("!new")
        await thread.hear()
        await thread.say("and now?")
        await thread.hear("I still see")
    pictures = [[message.images for message in models.requests[number].messages] for number in (2, 3)]
    assert all(any(images) for images in pictures)


async def test_where_replies_are_in_the_channel_the_bot_knows_what_was_said_there(
    settings: Path, slack: Slack, models: ModelServer
) -> None:
    add(settings, 'replies = "channel"')
    models.script(Say("Monday it is"), Say("Tuesday then"))
    async with gateway(settings):
        await slack.connected()
        team = slack.channel("team", ["Ann", "Bob"])
        await team.say("let us meet on monday", by=slack.person("Bob"))
        await team.say("@interject when do they meet?")
        shown = await team.hear("Monday it is")
        assert shown.thread_ts is None
        await team.say("rather tuesday", by=slack.person("Bob"))
        await team.say("@interject and now?")
        await team.hear("Tuesday then")
    first, second = (heard(models, number) for number in range(2))
    assert "- Bob: let us meet on monday" in first
    assert "- Bob: rather tuesday" in second
    assert "let us meet" not in second


async def test_what_was_written_during_an_outage_is_answered_afterwards(
    settings: Path, slack: Slack, models: ModelServer
) -> None:
    models.script(Say("Hello"), Say("In the thread"), Say("Back again"), Say("Back again"))
    ann, team = slack.direct("Ann"), slack.channel("team", ["Ann", "Bob"])
    async with gateway(settings):
        await slack.connected()
        await ann.say("hi")
        await ann.hear("Hello")
        thread = team.thread(await team.say("@interject hi"))
        await thread.hear("In the thread")
        await slack.settle()
    await ann.say("are you there?")
    await thread.say("and here?", by=slack.person("Bob"))
    await team.say("this is not for bots")
    assert slack.lose_events() >= 3
    async with gateway(settings):
        await ann.hear("Back again")
        await thread.hear("Back again")
        await slack.connected()
        await slack.settle()
    asked = "\n".join(heard(models, number) for number in (2, 3))
    assert "are you there?" in asked
    assert "and here?" in asked
    assert len(models.requests) == 4


async def test_positions_are_kept_of_the_newest_threads_only(
    settings: Path, slack: Slack, models: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(missed, "MAX_PLACES", 4)
    models.script(*(Say(f"Answer {number}") for number in range(8)))
    async with gateway(settings):
        await slack.connected()
        team = slack.channel("team", ["Ann"])
        threads = []
        for number in range(6):
            said = await team.say(f"@interject task {number}")
            threads.append(team.thread(said))
            await threads[-1].hear(f"Answer {number}")
        await slack.settle()
    await threads[-1].say("more")
    assert slack.lose_events() >= 1
    async with gateway(settings) as built:
        kept = await built.gateway.store.cursors("slack")
        await slack.connected()
        await threads[-1].hear("Answer 6")
        await threads[0].say("again")
        await threads[0].hear("Answer 7")
    async with gateway(settings) as built:
        after = await built.gateway.store.cursors("slack")
    assert len(kept) == len(after) == 4
    assert kept.keys() != after.keys()


async def test_in_a_channel_an_edit_after_the_answer_is_told_and_not_answered(
    settings: Path, slack: Slack, models: ModelServer
) -> None:
    models.script(Say("Paris"))
    async with gateway(settings):
        await slack.connected()
        team = slack.channel("team", ["Ann"])
        said = await team.say("@interject capital of France?")
        await team.thread(said).hear("Paris")
        await team.edit(said, "@interject capital of Italy?")
        await team.thread(said).hear(lambda shown: "please send it again" in shown.text)
    assert len(models.requests) == 1


@pytest.mark.parametrize("has_sessions", [True, False], ids=["agent sessions", "assistant threads"])
async def test_a_thread_with_the_app_is_called_by_its_first_words(
    settings: Path, slack: Slack, models: ModelServer, has_sessions: bool
) -> None:
    models.script(Say("They perch."), Say("On one leg."))
    if not has_sessions:
        slack.fail_next("agents.sessions.setStatus", "unknown_method", times=99)
    async with gateway(settings):
        await slack.connected()
        pane = await slack.direct("Ann").open_assistant()
        await pane.say("How do hens sleep, and " + "who guards them " * 5)
        await pane.hear("They perch.")
        title = await pane.until(lambda pane: title_of(pane, has_sessions=has_sessions))
        await pane.say("And storks?")
        await pane.hear("On one leg.")
        assert title == title_of(pane, has_sessions=has_sessions)
    assert title == "How do hens sleep, and who guards them who guards them who…"
    assert [each for each in slack.refusals if each.method != "agents.sessions.setStatus"] == []


def title_of(pane: Thread, *, has_sessions: bool) -> str:
    if has_sessions:
        return pane.session.title if pane.session else ""
    return pane.place.titles.get(pane.ts, "")


async def test_a_thread_with_the_app_has_the_title_that_the_small_model_gives(
    settings: Path, slack: Slack, models: ModelServer
) -> None:
    models.respond(
        lambda request: Say("Hens asleep" if "Name the conversation" in str(request.body) else "They perch.")
    )
    put(settings, 'model = "openai:test"', 'model = "openai:test"\nsmall_model = "openai:small"')
    async with gateway(settings):
        await slack.connected()
        pane = await slack.direct("Ann").open_assistant()
        await pane.say("How do hens sleep?")
        await pane.hear("They perch.")
        assert await pane.until(lambda pane: title_of(pane, has_sessions=True)) == "Hens asleep"


@pytest.mark.parametrize("is_agent", [True, False], ids=["agent_view", "assistant_view"])
async def test_who_opens_the_app_is_offered_prompts(
    settings: Path, slack: Slack, models: ModelServer, is_agent: bool
) -> None:
    add(settings, 'suggested_prompts = ["What can you do?", "Summarise my day"]')
    async with gateway(settings):
        await slack.connected()
        ann = slack.direct("Ann")
        if is_agent:
            await ann.open_messages_tab()
        else:
            await ann.open_assistant()
        [offered] = (await ann.until(lambda ann: ann.prompts)).values()
        await slack.settle()
    assert offered == ["What can you do?", "Summarise my day"]
    assert slack.refusals == []
    assert models.requests == []
