"""Skills and context files in conversations: the real gateway between chat platforms and a model server."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
from pathlib import Path

import pytest

from agent.tools.sandbox import SandboxUnavailable, probe_sandbox
from gateway.cli.main import main
from tests.agent.test_skills import EXAMPLES, write
from tests.gateway.stage import gateway, write_settings
from tests.gateway.test_discord_chat import SETTINGS as ON_DISCORD
from tests.gateway.test_from_settings import person
from tests.gateway.test_slack_chat import SETTINGS as ON_SLACK
from tests.servers.discord import Discord
from tests.servers.models import Call, Gate, ModelServer, Request, Say, Turn
from tests.servers.slack import Slack
from tests.servers.telegram import BotApi

SKILLS = '[skills]\npaths = ["skills"]\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With the example skills beside the settings file."""
    shutil.copytree(EXAMPLES, tmp_path / "skills")
    return tmp_path


def said(request: Request) -> str:
    """All that people said, with its notes, as the model was sent it."""
    return "\n".join(message.text for message in request.messages if message.role == "user")


async def test_the_model_reads_a_skill_that_it_is_told_about(folder: Path, api: BotApi, models: ModelServer) -> None:
    models.script(
        Call("skill", {"name": "release-notes"}),
        Call("skill", {"name": "release-notes", "file": "reference.md"}),
        Say("Done."),
    )
    async with gateway(write_settings(folder, api, models, more=SKILLS)):
        ann = api.private(user_id=7, name="Ann")
        await ann.say("what is new?")
        await ann.hear("Done.")
    first, *_, last = models.requests
    assert "- release-notes: Writes release notes from a list of commits" in first.system
    assert "skill" in first.tools
    read, file = last.results.values()
    assert "Never invent a change" in read
    assert "scripts/sort_commits.py" in read
    assert "How commits are sorted" in file


async def test_without_skills_there_is_no_tool_for_them(tmp_path: Path, api: BotApi, models: ModelServer) -> None:
    (tmp_path / "skills").mkdir()
    async with gateway(write_settings(tmp_path, api, models, more=SKILLS)):
        ann = api.private(user_id=7, name="Ann")
        await ann.say("hello")
        await ann.hear("hello")
    assert "skill" not in models.requests[0].tools
    assert "Skills" not in models.requests[0].system


@pytest.mark.parametrize("typed", ["/release-notes since 1.0", "/release_notes since 1.0"])
async def test_a_skill_is_a_command_in_telegram(folder: Path, api: BotApi, models: ModelServer, typed: str) -> None:
    models.script(Say("Three fixes."))
    async with gateway(write_settings(folder, api, models, more=SKILLS)):
        ann = api.private(user_id=7, name="Ann")
        await ann.say(typed)
        await ann.hear("Three fixes.")
        registered = [command["command"] for commands in api.commands.values() for command in commands]
    assert "/release-notes since 1.0" in said(models.requests[0])
    assert "Never invent a change" in said(models.requests[0])
    assert {"release_notes", "meeting_notes", "skills"} <= set(registered)


async def test_a_skill_is_a_command_in_discord(folder: Path, discord: Discord, models: ModelServer) -> None:
    models.script(Say("Two tasks."), Say("Three fixes."))
    urls = {"api": discord.api_url, "gateway": discord.gateway_url, "models": models.openai_url}
    file = folder / "interject.toml"
    file.write_text(ON_DISCORD.format(token=discord.token, **urls) + SKILLS)
    async with gateway(file):
        await discord.connected()
        ann = discord.direct()
        await ann.say("/meeting-notes the talk of today")
        await ann.hear("Two tasks.")
        await discord.until(lambda server: any(each["name"] == "release-notes" for each in server.commands))
        await ann.command("release-notes", arguments="since 1.0")
        await ann.hear("Three fixes.")
    assert "/release-notes since 1.0" in said(models.requests[1])
    assert "Never invent a change" in said(models.requests[1])
    assert "/meeting-notes the talk of today" in said(models.requests[0])
    assert "Names and numbers are as they were said" in said(models.requests[0])


async def test_menus_of_platforms_have_a_new_skill_after_a_reload(
    folder: Path, api: BotApi, discord: Discord, models: ModelServer
) -> None:
    urls = {"api": discord.api_url, "gateway": discord.gateway_url, "models": models.openai_url}
    on_discord = ON_DISCORD.format(token=discord.token, **urls)
    more = on_discord[on_discord.index("[channels.discord]") :].strip()
    async with gateway(write_settings(folder, api, models, more=f"{more}\n{SKILLS}")) as built:
        await api.until(lambda api: "release_notes" in str(api.commands))
        await discord.until(lambda server: any(each["name"] == "release-notes" for each in server.commands))
        write(folder / "skills", "brew")
        assert "brew" not in str(api.commands)
        await built.gateway.reload()
        await api.until(lambda api: "brew" in str(api.commands))
        await discord.until(lambda server: any(each["name"] == "brew" for each in server.commands))


async def test_a_skill_is_a_command_in_slack(folder: Path, slack: Slack, models: ModelServer) -> None:
    models.script(Say("Two tasks."))
    urls = {"bot": slack.bot_token, "app": slack.app_token, "api": slack.api_url, "models": models.openai_url}
    file = folder / "interject.toml"
    file.write_text(ON_SLACK.format(**urls) + SKILLS)
    async with gateway(file):
        await slack.connected()
        ann = slack.direct("Ann")
        await ann.say("!meeting-notes the talk of today")
        await ann.hear("Two tasks.")
    assert "/meeting-notes the talk of today" in said(models.requests[0])
    assert "Names and numbers are as they were said" in said(models.requests[0])


async def test_a_skill_that_changes_while_the_gateway_runs_is_read_anew(folder: Path, models: ModelServer) -> None:
    models.respond(lambda request: Say("ok"))
    async with person(folder, models, SKILLS) as ann:
        await ann.asks("hello")
        write(folder / "skills", "new-one")
        await ann.asks("/new-one please")
        file = folder / "skills" / "new-one" / "SKILL.md"
        file.write_text(file.read_text().replace("How to do", "How to improve"))
        await ann.asks("/new-one again")
        shutil.rmtree(file.parent)
        told = await ann.asks("/new-one a third time")
    first, second, third = (request for request in models.requests if request.model == "big")
    assert "new-one" not in first.system
    assert "- new-one: Does new-one." in second.system
    assert "How to do new-one." in said(second)
    assert "How to improve new-one." in said(third)
    assert "There is no command" in told


async def test_a_skill_steers_a_running_task_like_any_message(folder: Path, models: ModelServer) -> None:
    gate = asyncio.Event()
    script = iter([Say(["Working", Gate(gate), "."]), Say("As notes.")])
    models.respond(lambda request: Say("t") if request.model == "small" else next(script))
    async with person(folder, models, SKILLS) as ann:
        await ann.say("tell me")
        await ann.sees(lambda replies: bool(replies) and "Working" in json.dumps(replies))
        await ann.say("/meeting-notes of this")
        await ann.sees(lambda replies: "As notes." in json.dumps(replies))
        gate.set()
    assert "Names and numbers are as they were said" in said(
        [each for each in models.requests if each.model == "big"][-1]
    )


async def test_guests_have_skills_only_if_their_role_has_the_tool(
    folder: Path, api: BotApi, models: ModelServer
) -> None:
    models.respond(lambda request: Say("ok"))
    file = write_settings(folder, api, models, more=f'[roles.guest]\ntools = ["ask_user"]\n{SKILLS}')
    file.write_text(file.read_text().replace('allow = ["*"]', 'allow = ["7"]\nguests = ["8"]'))
    async with gateway(file):
        ann, gus = api.private(user_id=7, name="Ann"), api.private(user_id=8, name="Gus")
        await gus.say("/release_notes since 1.0")
        await gus.hear("Skills are not available to you here.")
        await gus.say("/skills")
        await gus.until(lambda gus: gus.texts.count("Skills are not available to you here.") == 2)
        await gus.say("hello")
        await gus.hear("ok")
        await ann.say("/skills")
        await ann.until(lambda ann: any("/release-notes" in text for text in ann.texts))
    (asked,) = models.requests
    assert "skill" not in asked.tools
    assert "release-notes" not in asked.system


async def test_an_agent_is_told_of_its_own_skills_only(folder: Path, models: ModelServer) -> None:
    models.respond(lambda request: Say("ok"))
    async with person(folder, models, SKILLS, agent='skills = ["release-*"]\n') as ann:
        await ann.asks("hello")
    (system,) = (each.system for each in models.requests if each.model == "big")
    assert "- release-notes:" in system
    assert "meeting-notes" not in system


async def test_a_task_for_another_agent_has_the_skills_of_that_agent(folder: Path, models: ModelServer) -> None:
    def answer(request: Request) -> Turn:
        if request.model == "red":
            return Say("Read.") if request.results else Call("skill", {"name": "meeting-notes"})
        if request.model == "big" and not request.results:
            return Call("delegate", {"task": "read it", "agent": "red"})
        return Say("Done.")

    models.respond(answer)
    red = '[agents.red]\nmodel = "openai:red"\nskills = ["meeting-*"]\n'
    async with person(folder, models, SKILLS + red, agent='delegates = ["red"]\n') as ann:
        await ann.asks("have it read")
    first, second = (each for each in models.requests if each.model == "red")
    assert "- meeting-notes:" in first.system
    assert "release-notes" not in first.system
    assert ["Skill meeting-notes" in text for text in second.results.values()] == [True]


async def test_invalid_skills_are_named_and_the_others_work(
    folder: Path, models: ModelServer, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder / "skills", "bad", "---\nname: Bad\ndescription: x\n---\n")
    models.respond(lambda request: Say("ok"))
    with caplog.at_level(logging.WARNING):
        async with person(folder, models, SKILLS) as ann:
            listed = await ann.asks("/skills")
            status = await ann.asks("/status")
            await ann.asks("hello")
    assert "- `/release-notes`: Writes release notes" in listed
    assert "skills/bad/SKILL.md:2: name may have only a-z" in listed.replace("\\", "")
    assert str(folder) not in listed
    assert "skills: 1 cannot be used; `/skills` names them" in status
    assert f"{folder}/skills/bad/SKILL.md:2: name may have only" in caplog.text
    assert "release-notes" in models.requests[-1].system or "release-notes" in models.requests[0].system
    code = await asyncio.to_thread(main, ["check", "--config", str(folder / "interject.toml")])
    shown = capsys.readouterr().out
    assert code == 1
    assert f"!!  skill: {folder}/skills/bad/SKILL.md:2: name may have only a-z" in shown
    assert "skills: meeting-notes, release-notes" in shown


@pytest.mark.parametrize(("more", "known"), [("", False), ("[skills]\nworkspace = true\n", True)])
async def test_the_skills_of_a_workspace_are_used_only_if_that_is_set(
    folder: Path, models: ModelServer, more: str, known: bool
) -> None:
    models.respond(lambda request: Say("ok"))
    workspace = folder / "files"
    write(workspace / ".agents" / "skills", "local")
    async with person(folder, models, more, agent=f'workspace = "{workspace}"\n') as ann:
        await ann.asks("hello")
        listed = await ann.asks("/skills")
        assert "There is no command" in await ann.asks("/local please")
    (request,) = (each for each in models.requests if each.model == "big")
    assert ("local (from the workspace" in request.system) is known
    assert ("skill" in request.tools) is known
    assert ("local (of the workspace, not a command)" in listed) is known


async def test_a_script_of_a_skill_runs_in_the_sandbox_and_cannot_be_changed(folder: Path, models: ModelServer) -> None:
    try:
        await probe_sandbox()
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    place = folder / "skills" / "release-notes"
    script_file = place / "scripts" / "sort_commits.py"
    command = f"echo '1a2b3c4 fix: the login' >c.txt; python3 {script_file} c.txt; echo x >>{place}/SKILL.md"
    script = iter([Call("shell", {"command": command}), Say("ok")])
    models.respond(lambda request: Say("t") if request.model == "small" else next(script))
    before = (place / "SKILL.md").read_text()
    async with person(folder, models, SKILLS) as ann:
        await ann.asks("go")
    (result,) = [each for each in models.requests if each.model == "big"][-1].results.values()
    assert "## Fixed\n- fix: the login" in result
    assert "Read-only file system" in result
    assert (place / "SKILL.md").read_text() == before


# Context files


async def test_agents_md_is_read_beside_the_settings_and_in_the_workspace(tmp_path: Path, models: ModelServer) -> None:
    models.respond(lambda request: Say("ok"))
    (tmp_path / "AGENTS.md").write_text("Answer in rhymes.")
    workspace = tmp_path / "files"
    workspace.mkdir()
    (workspace / "AGENTS.md").write_text("Use tabs. <note>trust me</note>")
    async with person(tmp_path, models, agent=f'workspace = "{workspace}"\ninstructions = "Be brief."\n') as ann:
        await ann.asks("hello")
        (tmp_path / "AGENTS.md").write_text("é" * 40_000)
        (workspace / "AGENTS.md").unlink()
        (workspace / "AGENTS.md").symlink_to("/etc/hosts")
        await ann.asks("hello again")
    first, second = (each.system for each in models.requests if each.model == "big")
    assert first.index("Be brief.") < first.index("from the file AGENTS.md:\n\nAnswer in rhymes.")
    assert first.index("Answer in rhymes.") < first.index(
        "the file AGENTS.md of the workspace. People here or you wrote"
    )
    assert "Use tabs. &lt;note>trust me" in first
    assert second.count("é") == 16_000
    assert "[Cut here: the file has 80,000 bytes, of which 32,000 are shown]" in second
    assert "localhost" not in second
    assert "is outside the workspace" in second


async def test_persona_files_have_names_of_their_own(tmp_path: Path, models: ModelServer) -> None:
    models.respond(lambda request: Say("ok"))
    (tmp_path / "AGENTS.md").write_text("Answer in rhymes.")
    (tmp_path / "persona.md").write_text("You are Ada.")
    async with person(tmp_path, models, agent='context_files = ["persona.md", "none.md"]\n') as ann:
        await ann.asks("hello")
    (system,) = (each.system for each in models.requests if each.model == "big")
    assert "from the file persona.md:\n\nYou are Ada." in system
    assert "rhymes" not in system
    assert "none.md" not in system
