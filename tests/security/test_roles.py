"""People have the rights of their role: guests get no shell and steer nobody else; a lost role ends what runs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.agent import Agent
from agent.context.compaction import Compactor
from agent.decisions.questions import ask_user
from agent.log import Call, Text, Usage
from agent.model import Answer
from agent.models.scripted import ScriptedModel
from agent.testing import MemoryMedia
from agent.tool import ToolContext, tool
from channels.address import Sender
from channels.memory import plain_text
from gateway.cli.main import main
from gateway.inbound.access import ChannelAccess
from gateway.turns.roles import Rights, Roles
from tests.gateway.play import ANN, PLACE, Play, inbound, playing, until
from tests.gateway.stage import gateway
from tests.security.test_identities import Home, on_discord, on_slack, on_telegram
from tests.servers.discord import Discord
from tests.servers.discord import Person as DiscordPerson
from tests.servers.model_script import Call as ModelCall
from tests.servers.model_script import Pause, Request, Say, Turn
from tests.servers.models import ModelServer
from tests.servers.slack import Slack
from tests.servers.telegram import BotApi

TEAM = replace(PLACE, chat="team", kind="group")
GUS, ROOT = Sender("66", "Gus"), Sender("1", "Root")
POLICIES = {"memory": ChannelAccess(frozenset({"7"}), groups="all", admins=frozenset({"1"}), guests=frozenset({"66"}))}


@tool(effect="write", runs_code=True)
async def shell(context: ToolContext) -> str:
    """Runs a command."""
    return "ran"


@tool(effect="external")
async def send_mail(context: ToolContext) -> str:
    """Sends a mail."""
    return "sent"


@tool(effect="read")
async def look(context: ToolContext) -> str:
    """Looks."""
    return "seen"


TOOLS = (shell, send_mail, look)


def offered(model: ScriptedModel) -> list[list[str]]:
    """The tools of each request."""
    return [sorted(each.name for each in request.tools) for request in model.requests]


async def parked(play: Play) -> None:
    await until(lambda: play.sql("SELECT parked FROM turns WHERE kind = 'turn'") == [(1,)])


# In one conversation


async def test_a_guests_task_has_no_shell_and_nothing_with_outside_effects(tmp_path: Path) -> None:
    model = ScriptedModel("Hello.", "Hello.")
    async with playing(tmp_path, model, *TOOLS, policies=POLICIES) as play:
        await play.say("hello", by=GUS)
        await play.reply("Hello.")
        await play.until_idle()
        await play.say("hello", by=ANN, address=replace(PLACE, chat="ann"))
        await until(lambda: len(model.requests) == 2)
        assert offered(model) == [["look"], ["look", "send_mail", "shell"]]


async def test_a_guest_does_not_steer_a_members_task(tmp_path: Path) -> None:
    go_on = asyncio.Event()
    model = ScriptedModel(["Working", go_on], "For Gus.")
    async with playing(tmp_path, model, *TOOLS, policies=POLICIES) as play:
        await play.say("build it", address=TEAM, by=ANN)
        await until(lambda: model.requests)
        await play.say("and run rm -rf", address=TEAM, by=GUS)
        assert play.states()["waiting"] == 1
        go_on.set()
        await play.reply("For Gus.")
        await play.until_idle()
        assert await play.messages_read() == [["build it"], ["and run rm -rf"]]
        assert offered(model)[-1] == ["look"]


async def test_members_steer_a_guests_task_without_adding_to_its_rights(tmp_path: Path) -> None:
    model = ScriptedModel(["Working", asyncio.Event()], "Both.")
    async with playing(tmp_path, model, *TOOLS, policies=POLICIES) as play:
        await play.say("build it", address=TEAM, by=GUS)
        await until(lambda: model.requests)
        await play.say("in Rust", address=TEAM, by=ANN)
        await play.reply("Both.")
        await play.until_idle()
        assert await play.messages_read() == [["build it", "in Rust"]]
        assert offered(model)[-1] == ["look"]


async def test_a_message_that_waits_with_a_guests_is_not_read_together_with_it(tmp_path: Path) -> None:
    """Both arrive before any task runs."""
    model = ScriptedModel("One.", "Two.")
    async with playing(tmp_path, model, *TOOLS, policies=POLICIES, max_running_turns=1) as play:
        await play.deliver(inbound("mine", address=TEAM, by=ANN), inbound("run rm -rf", address=TEAM, by=GUS))
        await play.reply("Two.")
        await play.until_idle()
        assert await play.messages_read() == [["mine"], ["run rm -rf"]]


async def test_a_members_task_does_not_read_the_result_of_a_guests_background_work(tmp_path: Path) -> None:
    seen, go_on = asyncio.Event(), asyncio.Event()

    @tool(effect="read", on_steer="background")
    async def watch(context: ToolContext) -> str:
        """Watches."""
        await seen.wait()
        return "run rm -rf"

    model = ScriptedModel([Call("c", "watch", "{}")], "Going on.", ["Building", go_on], "For Gus.")
    async with playing(tmp_path, model, watch, *TOOLS, policies=POLICIES) as play:
        await play.say("watch it", address=TEAM, by=GUS)
        await until(lambda: play.sql("SELECT 1 FROM turn_log WHERE entry LIKE '%call_started%'"))
        await play.say("and?", address=TEAM, by=GUS)
        await play.reply("Going on.")
        await play.say("build it", address=TEAM, by=ANN)
        await until(lambda: len(model.requests) == 3)
        seen.set()
        await until(lambda: play.states()["waiting"] == 1)
        go_on.set()
        await play.reply("For Gus.")
        await play.until_idle()
        _, built, watched = await play.messages_read()
    assert built == ["build it"]
    assert "run rm -rf" in watched[0]
    assert offered(model)[2:] == [["look", "send_mail", "shell", "watch"], ["look", "watch"]]


@pytest.mark.parametrize("how", ["words", "button"])
async def test_a_guest_does_not_answer_a_members_question(tmp_path: Path, how: str) -> None:
    asks = [Call("c", "ask_user", json.dumps({"question": "Delete it?", "options": ["Yes", "No"]}))]
    model = ScriptedModel(asks, "As you say.", "Hello Gus.")
    async with playing(tmp_path, model, ask_user, policies=POLICIES) as play:
        await play.say("clean up", address=TEAM, by=ANN)
        question = await play.asked("Delete it?")
        await parked(play)
        if how == "button":
            await play.say(f"/answer {question.key} 0", address=TEAM, by=GUS)
            await play.reply("Only people with the rights of the person who started the task may answer this.")
        else:
            await play.say("Yes", address=TEAM, by=GUS)
            await until(lambda: play.states()["waiting"] == 1)
        await play.say("No", address=TEAM, by=ANN)
        await play.reply("As you say.")
        read = await play.messages_read()
        assert read[0] == ["clean up", "No"]


async def test_a_guests_task_that_an_admin_runs_again_stays_a_guests(tmp_path: Path) -> None:
    model = ScriptedModel("First.", "Again.")
    async with playing(tmp_path, model, *TOOLS, policies=POLICIES) as play:
        await play.say("run rm -rf", address=TEAM, by=GUS)
        await play.reply("First.")
        await play.until_idle()
        await play.say("/retry", address=TEAM, by=ROOT)
        await play.reply("Again.")
        assert offered(model)[-1] == ["look"]


STORY = "once upon a time there were words and words and words\n" * 20


async def test_a_guest_in_a_group_does_not_have_others_conversation_summarized(tmp_path: Path) -> None:
    model, small = ScriptedModel(STORY, "Nothing."), ScriptedModel("A story.", "A story.")
    agent = Agent(model, MemoryMedia(), tmp_path, compactor=Compactor(100_000, small))
    async with playing(tmp_path, model, agent=lambda _: agent, policies=POLICIES) as play:
        await play.say("tell me a story", address=TEAM, by=ANN)
        await play.reply(STORY.strip())
        await play.until_idle()
        await play.say("/compact that Gus may do everything", address=TEAM, by=GUS)
        await play.reply("Only Ann and admins may use `/compact` here: it changes the context for everybody.")
        assert not small.requests
        await play.say("/compact", address=TEAM, by=ANN)
        await play.reply("The conversation so far is summarized for the model")
    assert len(small.requests) == 1


async def test_who_has_used_up_the_budget_of_a_day_has_nothing_summarized(tmp_path: Path) -> None:
    told = Answer((Text(STORY),), Usage(cost=0.5), model="test")
    model, small = ScriptedModel(told), ScriptedModel("A story.")
    agent = Agent(model, MemoryMedia(), tmp_path, compactor=Compactor(100_000, small))
    roles = Roles(guest=Rights(daily_cost=0.4))
    async with playing(tmp_path, model, agent=lambda _: agent, policies=POLICIES, roles=roles) as play:
        await play.say("tell me a story", by=GUS)
        await play.reply(STORY.strip())
        await play.until_idle()
        await play.say("/compact", by=GUS)
        await play.reply("What you asked for today has cost $0.50, and the limit is $0.40.")
    assert not small.requests


async def test_a_side_question_of_somebody_whose_access_is_revoked_ends(tmp_path: Path) -> None:
    policies = {"memory": ChannelAccess(frozenset(), pair=True, admins=frozenset({"1"}))}
    model = ScriptedModel(["Let me", asyncio.Event()])
    async with playing(tmp_path, model, policies=policies) as play:
        await play.say("hello?", by=GUS)
        await until(lambda: play.sql("SELECT count(*) FROM pairs") == [(1,)])
        [(code,)] = play.sql("SELECT code FROM pairs")
        await play.say(f"/pair {code}", by=ROOT)
        await play.reply("Your access was approved.")
        await play.say("/btw why?", by=GUS)
        await until(lambda: model.requests)
        await play.say("/access revoke 66", by=ROOT)
        await until(lambda: play.sql("SELECT state FROM turns WHERE kind = 'aside'") == [("stopped",)])
        assert play.sql("SELECT reason FROM turns WHERE kind = 'aside'") == [("access was revoked",)]


async def test_who_is_no_longer_in_the_settings_loses_what_runs(tmp_path: Path) -> None:
    asks = [Call("c", "ask_user", json.dumps({"question": "Which one?", "options": []}))]
    async with playing(tmp_path, ScriptedModel(asks), ask_user, policies=POLICIES) as play:
        await play.say("go", by=GUS)
        await play.asked("Which one?")
        await parked(play)
    others = {"memory": ChannelAccess(frozenset({"7"}))}
    async with playing(tmp_path, ScriptedModel(), ask_user, policies=others) as play:
        await until(lambda: play.sql("SELECT state FROM turns WHERE kind = 'turn'") == [("stopped",)])
        [(reason,)] = play.sql("SELECT reason FROM turns WHERE kind = 'turn'")
        assert reason == "the rights of whoever asked for it were changed"


# On the platforms


@pytest.fixture
async def models() -> AsyncIterator[ModelServer]:
    async with ModelServer() as server:
        server.respond(answer)
        yield server


def answer(request: Request) -> Turn:
    says = Say("With a shell." if "shell" in request.tools else "Without a shell.")
    return [Pause(), says] if "something long" in request.messages[-1].text else says


def in_agent(home: Home, setting: str) -> None:
    text = home.file.read_text()
    home.file.write_text(text.replace("[agent]\n", f"[agent]\n{setting}\n", 1))


UNSAFE = '[tools.shell]\nsandbox = "none"\n'
"""The shell is offered, whatever this machine has."""


async def test_on_slack_a_user_group_is_members_and_the_others_are_guests(
    tmp_path: Path, models: ModelServer, slack: Slack
) -> None:
    ann, bob = slack.person("Ann"), slack.person("Bob")
    group = slack.user_group("engineering", [ann])
    access = 'allow = ["*"]\nmembers = ["@engineering"]\n'
    home = on_slack(tmp_path, models, slack, access + UNSAFE)
    async with home.running():
        await slack.connected()
        await slack.until(lambda server: server.called("usergroups.list"))
        await slack.direct(bob).say("hello")
        await slack.direct(bob).hear("Without a shell.")
        await slack.direct(ann).say("hello")
        await slack.direct(ann).hear("With a shell.")
    assert home.sql("SELECT name, user_id FROM identities") == [("@engineering", group.id)]


@pytest.mark.parametrize("entry", ["id", "handle"])
async def test_on_slack_only_the_people_of_a_group_are_admitted(
    tmp_path: Path, models: ModelServer, slack: Slack, entry: str
) -> None:
    ann, bob = slack.person("Ann"), slack.person("Bob")
    group = slack.user_group("engineering", [ann])
    allowed = group.id if entry == "id" else "@engineering"
    async with on_slack(tmp_path, models, slack, f'allow = ["{allowed}"]\n{UNSAFE}').running():
        await slack.connected()
        await slack.until(lambda server: entry == "id" or server.called("usergroups.list"))
        await slack.direct(bob).say("hello")
        await slack.direct(bob).hear("You are not on the allowlist")
        await slack.direct(ann).say("hello")
        await slack.direct(ann).hear("With a shell.")


async def test_a_group_that_slack_does_not_tell_about_admits_nobody(tmp_path: Path, models: ModelServer) -> None:
    scopes = ["chat:write", "users:read", "im:write", "reactions:write", "assistant:write"]
    async with Slack(scopes=scopes) as slack:
        ann = slack.person("Ann")
        group = slack.user_group("engineering", [ann])
        async with on_slack(tmp_path, models, slack, f'admins = ["{group.id}"]').running():
            await slack.connected()
            await slack.direct(ann).say("hello")
            await slack.direct(ann).hear("You are not on the allowlist")


async def test_who_leaves_the_group_loses_what_runs(tmp_path: Path, models: ModelServer, slack: Slack) -> None:
    ann = slack.person("Ann")
    group = slack.user_group("engineering", [ann])
    home = on_slack(tmp_path, models, slack, f'allow = ["{group.id}"]')
    in_agent(home, "shutdown_grace = 0")
    async with home.running():
        await slack.connected()
        await slack.direct(ann).say("something long")
        await models.until_held()
    group.people.clear()
    async with home.running():
        await slack.connected()
        await until(lambda: home.sql("SELECT state FROM turns WHERE kind = 'turn'") == [("stopped",)])
    assert home.sql("SELECT reason FROM turns WHERE kind = 'turn'") == [
        ("the rights of whoever asked for it were changed",)
    ]


@pytest.mark.parametrize("then", ["stays", "leaves the group", "leaves Slack"])
async def test_a_scheduled_task_has_the_groups_that_its_person_is_in_when_it_is_due(
    tmp_path: Path, models: ModelServer, slack: Slack, then: str
) -> None:
    models.respond(schedules_the_tea)
    ann = slack.person("Ann")
    group = slack.user_group("engineering", [ann])
    admitted = "*" if then == "leaves Slack" else group.id
    home = on_slack(tmp_path, models, slack, f'allow = ["{admitted}"]')
    async with home.running():
        await slack.connected()
        await slack.direct(ann).say("remind me")
        await slack.direct(ann).hear("Scheduled.")
    if then == "leaves the group":
        group.people.clear()
    elif then == "leaves Slack":
        del slack.people[ann.id]
    async with gateway(home.file) as built:
        await slack.connected()
        [schedule] = await built.gateway.store.every_schedule()
        await built.gateway.store.advance_schedule(schedule, datetime.now(UTC))
        built.gateway.schedules.changed.set()
        if then == "stays":
            await slack.direct(ann).hear("Your tea!")
        await until(lambda: home.sql("SELECT id FROM schedules") == [])
    assert any("is due now" in said.text for each in models.requests for said in each.messages) is (then == "stays")


def schedules_the_tea(request: Request) -> Turn:
    said = next(message.text for message in reversed(request.messages) if message.role == "user")
    if "is due now" in said:
        return Say("Your tea!")
    asked = ModelCall("schedule", {"action": "add", "task": "Tell me to drink tea.", "in_minutes": 600})
    return Say("Scheduled.") if request.messages[-1].role == "tool" else asked


ANN_D, BOB_D = DiscordPerson(7, "Ann", "ann"), DiscordPerson(8, "Bob", "bob")


@pytest.mark.parametrize("entry", ["id", "name"])
async def test_on_discord_a_role_counts_in_its_server_and_in_direct_chats(
    tmp_path: Path, models: ModelServer, discord: Discord, entry: str
) -> None:
    team = discord.channel("team", [ANN_D, BOB_D])
    role = discord.guild().role("Core Team", [ANN_D])
    allowed = role if entry == "id" else "Core Team"
    access = f'allow = ["role:{allowed}"]\ngroups = "all"\n'
    async with on_discord(tmp_path, models, discord, access + UNSAFE).running():
        await discord.connected()
        await discord.until(lambda server: server.called("GET /guilds/*/roles") or entry == "id")
        await team.say("BOB: hello", by=BOB_D)
        await team.say("hello", by=ANN_D)
        await team.hear("With a shell.")
        await discord.direct(BOB_D).say("BOB: hello")
        await discord.direct(BOB_D).hear("You are not on the allowlist")
        await discord.direct(ANN_D).say("hello")
        await discord.direct(ANN_D).hear("With a shell.")
    assert not any("BOB" in message.text for request in models.requests for message in request.messages)


async def test_a_role_of_that_name_in_another_server_means_nothing(
    tmp_path: Path, models: ModelServer, discord: Discord
) -> None:
    """Anybody can have the bot in a server of their own, with roles of any name."""
    discord.channel("team", [ANN_D])
    discord.guild().role("Ops", [ANN_D])
    theirs = discord.channel("lair", [BOB_D], guild="Theirs")
    discord.guild("Theirs").role("Ops", [BOB_D])
    async with on_discord(tmp_path, models, discord, 'admins = ["role:Ops"]\ngroups = "all"').running():
        await discord.connected()
        await discord.until(lambda server: server.called("GET /guilds/*/roles"))
        await theirs.say("run rm -rf", by=BOB_D)
        await discord.direct(BOB_D).say("run rm -rf")
        await discord.direct(BOB_D).hear("You are not on the allowlist")
    assert not models.requests


LISTED = "With a shell."
"""What a member is answered."""
GUESTS = "Without a shell."


@pytest.mark.parametrize(
    ("access", "words"),
    [
        ('allow = ["7"]\nguests = ["*"]', [LISTED, GUESTS]),
        ('members = ["7"]\nguests = ["*"]', [LISTED, GUESTS]),
        ('admins = ["7"]\nguests = ["*"]', [LISTED, GUESTS]),
        ('guests = ["7"]\nmembers = ["*"]', [GUESTS, LISTED]),
        ('allow = ["7"]\nmembers = ["*"]', [LISTED, LISTED]),
        ('allow = ["*"]\nguests = ["7"]', [GUESTS, LISTED]),
        ('allow = ["7", "*"]\nguests = ["*"]', [LISTED, GUESTS]),
        ('allow = ["7"]\nmembers = ["9"]\nguests = ["*"]', [GUESTS, GUESTS]),
    ],
)
async def test_an_explicit_entry_counts_more_than_a_wildcard(
    tmp_path: Path, models: ModelServer, api: BotApi, access: str, words: list[str]
) -> None:
    async with on_telegram(tmp_path, models, api, f"{access}\n{UNSAFE}").running():
        for person, expected in zip((7, 8), words, strict=True):
            chat = api.private(user_id=person, name=f"Person {person}")
            await chat.say("hello")
            await chat.hear(expected)


async def test_an_entry_of_a_group_counts_more_than_a_wildcard(
    tmp_path: Path, models: ModelServer, slack: Slack
) -> None:
    ann, bob = slack.person("Ann"), slack.person("Bob")
    group = slack.user_group("engineering", [ann])
    async with on_slack(tmp_path, models, slack, f'allow = ["{group.id}"]\nguests = ["*"]\n{UNSAFE}').running():
        await slack.connected()
        for person, expected in ((ann, LISTED), (bob, GUESTS)):
            await slack.direct(person).say("hello")
            await slack.direct(person).hear(expected)


async def test_an_entry_of_a_role_counts_more_than_a_wildcard(
    tmp_path: Path, models: ModelServer, discord: Discord
) -> None:
    team = discord.channel("team", [ANN_D, BOB_D])
    role = discord.guild().role("Core", [ANN_D])
    access = f'allow = ["role:{role}"]\nguests = ["*"]\ngroups = "all"\n{UNSAFE}'
    async with on_discord(tmp_path, models, discord, access).running():
        await discord.connected()
        for person, expected in ((ANN_D, LISTED), (BOB_D, GUESTS)):
            await team.say("hello", by=person)
            await team.hear(expected)


async def test_a_guest_has_the_models_and_the_budget_of_the_role(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    rights = '[roles.guest]\ntools = []\nmodels = ["openai:small"]\n'
    home = on_telegram(tmp_path, models, api, f'allow = ["7"]\nguests = ["8"]\n{rights}{UNSAFE}')
    in_agent(home, 'fallback = ["openai:small"]')
    ann, gus = api.private(user_id=7, name="Ann"), api.private(user_id=8, name="Gus")
    async with home.running():
        await gus.say("hello")
        await gus.hear("Without a shell.")
        await gus.say("/model openai:test")
        await gus.hear("There is no model")
        await ann.say("hello")
        await ann.hear("With a shell.")
    assert [(request.model, bool(request.tools)) for request in models.requests] == [("small", False), ("test", True)]


async def test_check_shows_the_roles(
    tmp_path: Path, models: ModelServer, slack: Slack, capsys: pytest.CaptureFixture[str]
) -> None:
    home = on_slack(tmp_path, models, slack, 'allow = ["*"]\nmembers = ["@engineering"]\nguests = ["U0GUS"]')
    await asyncio.to_thread(main, ["check", "--config", str(home.file)])
    shown = capsys.readouterr().out
    assert "slack: members: @engineering" in shown
    assert "slack: guests: U0GUS" in shown


async def test_access_shows_the_roles(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel(), policies=POLICIES) as play:
        await play.say("/access", by=ROOT)
        reply = await play.reply("Roles in the settings")
        assert "guest: 66" in plain_text(reply)
