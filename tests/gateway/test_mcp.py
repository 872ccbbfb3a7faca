"""MCP servers in a whole gateway: steered, approved, and kept apart from what pages ask for."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from shutil import which

import pytest

from config.load import load
from gateway.cli.checks.mcp import check_servers
from gateway.cli.main import main
from tests.gateway.play import until
from tests.gateway.stage import gateway, write_settings
from tests.gateway.test_agents import ANN, GUS, telegram
from tests.gateway.test_from_settings import KEY, Person, answering, asked, person, shown
from tests.gateway.test_kill import process
from tests.servers.mcp_example import serve
from tests.servers.models import Call, Gate, ModelServer, Request, Say, Turn, Usage
from tests.servers.telegram import BotApi

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def models() -> AsyncIterator[ModelServer]:
    async with ModelServer(api_key=KEY) as server:
        yield server


@pytest.fixture
async def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    monkeypatch.setenv("MCP_RECORD", str(tmp_path))
    async with serve() as url:
        yield url


def calls(folder: Path) -> list[str]:
    file = folder / "calls"
    return file.read_text().splitlines() if file.exists() else []


def example(url: str, more: str = "") -> str:
    return f'[mcp.example]\nurl = "{url}"\n{more}'


async def ready(ann: Person) -> None:
    """Until then the model is not told of its tools."""
    async with asyncio.timeout(60):
        while "MCP server" in await ann.asks("/status"):  # noqa: ASYNC110 - it is asked of a gateway
            await asyncio.sleep(0.02)


async def test_an_interjection_cancels_a_call_at_the_server_and_the_model_is_told(
    tmp_path: Path, models: ModelServer, url: str
) -> None:
    models.respond(answering(Call("example_wait", {}), Say("As you wish.")))
    async with person(tmp_path, models, example(url)) as ann:
        await ready(ann)
        await ann.say("wait")
        await ann.sees(lambda replies: "25%: waiting" in shown(replies[-1]))
        await ann.say("never mind")
        reply = await ann.sees(lambda replies: replies[-1]["done"] and "As you wish." in shown(replies[-1]))
        assert "(cancelled): Cancelled: a new message arrived" in reply
    assert calls(tmp_path) == ["wait began", "wait cancelled"]
    result = asked(models, "big")[-1].results.popitem()[1]
    assert result.startswith("Cancelled: a new message arrived while this call was running.")


async def test_calls_of_two_servers_that_wait_are_skipped_by_an_interjection(
    tmp_path: Path, models: ModelServer, url: str
) -> None:
    models.respond(
        answering(
            [Call("example_wait", {}), Call("example_note", {"text": "a"}), Call("second_drop", {"table": "t"})],
            Say("Stopped."),
        )
    )
    settings = example(url, f'[mcp.example.tools.note]\napproval = "never"\n[mcp.second]\nurl = "{url}"\n')
    async with person(tmp_path, models, settings) as ann:
        await ready(ann)
        await ann.say("wait, then change things")
        await ann.sees(lambda replies: "25%: waiting" in shown(replies[-1]))
        await ann.say("leave it")
        await ann.sees(lambda replies: replies[-1]["done"] and "Stopped." in shown(replies[-1]))
    assert calls(tmp_path) == ["wait began", "wait cancelled"]
    results = list(asked(models, "big")[-1].results.values())
    assert [result.split(":")[0] for result in results] == ["Cancelled", "Skipped", "Skipped"]


async def test_a_call_that_destroys_needs_approval_each_time_and_one_that_adds_until_it_is_allowed(
    tmp_path: Path, models: ModelServer, url: str
) -> None:
    note, drop = Call("example_note", {"text": "a"}), Call("example_drop", {"table": "t"})
    models.respond(answering(note, note, drop, Say("Done.")))
    async with person(tmp_path, models, example(url)) as ann:
        await ready(ann)
        await ann.say("note, note, drop")
        await ann.presses("Allow for this conversation")
        question = await ann.sees(lambda replies: "example_drop" in shown(replies[-1]) and not replies[-1]["done"])
        assert "Allow for this conversation" not in question.rpartition("example_drop")[2]
        assert calls(tmp_path) == ["note a", "note a"]
        await ann.presses("Deny")
        await ann.sees(lambda replies: replies[-1]["done"])
    assert calls(tmp_path) == ["note a", "note a"]


async def test_a_page_that_asks_for_a_call_gets_a_question_to_people(
    tmp_path: Path, models: ModelServer, url: str
) -> None:
    models.respond(answering(Call("example_read_page", {}), Call("example_drop", {"table": "everything"}), Say("No.")))
    settings = example(url, '[mcp.example.tools.drop]\napproval = "never"\n')
    async with person(tmp_path, models, settings) as ann:
        await ready(ann)
        await ann.say("read the page")
        await ann.presses("Deny")
        reply = await ann.sees(lambda replies: replies[-1]["done"])
        assert "this task has read text from outside" in reply
        assert "example_read_page" in reply
    assert calls(tmp_path) == []


async def test_a_picture_of_a_server_is_delivered_and_the_model_sees_it(
    tmp_path: Path, models: ModelServer, url: str
) -> None:
    models.respond(answering(Call("example_picture", {}), Say("A pixel.")))
    async with person(tmp_path, models, example(url)) as ann:
        await ready(ann)
        await ann.say("draw")
        await ann.sees(lambda replies: replies[-1]["done"])
        (reply,) = (await ann.replies())[-1:]
    assert "picture.png" in str(reply)
    assert "logo.png" in str(reply)


async def test_a_server_that_cannot_be_used_delays_nobody_and_status_says_why(
    tmp_path: Path, models: ModelServer
) -> None:
    models.respond(answering(Say("Hello.")))
    script = ROOT / "tests" / "servers" / "mcp_odd.py"
    settings = (
        f'[mcp.silent]\ncommand = ["{sys.executable}", "{script}", "{tmp_path}", "hang"]\nsandbox = "none"\n'
        f'[mcp.lies]\ncommand = ["{sys.executable}", "{script}", "{tmp_path}", "lie"]\nsandbox = "none"\n'
        '[mcp.absent]\nurl = "http://127.0.0.1:9/mcp"\n'
    )
    async with person(tmp_path, models, settings) as ann:
        assert await ann.asks("hello") == "Hello."
        async with asyncio.timeout(60):
            status = ""
            while not ("absent: down" in status and "3 tools" in status):
                status = (await ann.asks("/status")).replace("\\", "")
    assert "MCP server silent: starting" in status
    assert "MCP server absent: down: it cannot be reached" in status
    assert "MCP server lies: 3 tools; the tool text: its schema is not an object; the tool typo: " in status


@pytest.mark.skipif(
    which("bwrap") is None, reason="bubblewrap is not installed: the sandbox of MCP servers is NOT tested"
)
async def test_a_program_sees_neither_the_gateways_files_nor_its_variables(
    tmp_path: Path, models: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_GATEWAY", "a-secret")
    monkeypatch.setenv("NAMED", "yes")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("a")
    seen = [tmp_path / "notes" / "a.txt", tmp_path / "interject.toml", tmp_path / "home" / "interject.db", ROOT]
    script = tmp_path / "sees.py"
    script.write_text(SEES.format(files=[str(path) for path in seen]))
    models.respond(answering(Call("files_odd", {}), Say("Seen.")))
    settings = (
        f'[mcp.files]\ncommand = ["/usr/bin/env", "python3", "{script}"]\nreadable = ["notes"]\n'
        'environment = ["NAMED"]\nvariables = { TOKEN = "token-of-the-server" }\n'
        '[mcp.files.tools.odd]\napproval = "never"\n'
    )
    async with person(tmp_path, models, settings) as ann:
        await ready(ann)
        await ann.asks("look")
        assert all(path.exists() for path in seen)
    (result,) = asked(models, "big")[-1].results.values()
    assert "True False False False" in result
    assert "limited: [False, True]" in result, "a browser reserves more addresses than there is memory"
    assert "NAMED=yes" in result
    assert "SECRET_OF_THE_GATEWAY" not in result
    assert "token-of-the-server" not in result


SEES = """\
import json, os, resource, sys

LIMITED = [resource.getrlimit(each)[0] != resource.RLIM_INFINITY for each in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]

for line in sys.stdin:
    request = json.loads(line)
    method = request["method"]
    if "id" not in request:
        continue
    answer = {{"result": {{}}}}
    if method == "initialize":
        answer["result"] = {{
            "protocolVersion": request["params"]["protocolVersion"],
            "capabilities": {{"tools": {{}}}},
            "serverInfo": {{"name": "sees", "version": "1"}},
        }}
    elif method == "tools/list":
        answer["result"] = {{"tools": [{{"name": "odd", "inputSchema": {{"type": "object"}}}}]}}
    elif method == "tools/call":
        text = " ".join(str(os.path.exists(file)) for file in {files}) + f"\\nlimited: {{LIMITED}}\\n"
        text += "\\n".join(f"{{name}}={{value}}" for name, value in os.environ.items())
        answer["result"] = {{"content": [{{"type": "text", "text": text}}]}}
    else:
        answer = {{"error": {{"code": -32601, "message": "no such method"}}}}
    print(json.dumps({{"jsonrpc": "2.0", "id": request["id"], **answer}}), flush=True)
"""


async def test_an_agent_has_the_servers_and_tools_that_are_its_own(
    tmp_path: Path, models: ModelServer, url: str
) -> None:
    models.respond(answering(Say("Hello.")))
    settings = example(url, f'[mcp.second]\nurl = "{url}"\ninclude = ["add"]\n')
    async with person(tmp_path, models, settings, agent='mcp = ["second"]\ntools = ["second_*", "todos"]\n') as ann:
        await ready(ann)
        await ann.asks("hello")
    assert sorted(asked(models, "big")[-1].tools) == ["second_add", "todos"]


def test_check_starts_each_server_and_says_what_is_wrong(tmp_path: Path) -> None:
    script = ROOT / "tests" / "servers" / "mcp_odd.py"
    (tmp_path / "interject.toml").write_text(
        f'[mcp.lies]\ncommand = ["{sys.executable}", "{script}", "{tmp_path}", "lie"]\nsandbox = "none"\n'
        '[mcp.absent]\nurl = "http://127.0.0.1:9/mcp?key=secret"\n'
    )
    checks = asyncio.run(check_servers(load(tmp_path / "interject.toml", {}, tmp_path / "home")))
    assert [check.ok for check in checks] == [False, False]
    assert str(checks[0]).startswith("  !!  MCP server lies: 3 tools; the tool text: its schema is not an object; ")
    assert str(checks[1]) == "  !!  MCP server absent: down: it cannot be reached (ConnectError)"


async def test_a_call_that_is_approved_after_a_restart_runs(tmp_path: Path, models: ModelServer, url: str) -> None:
    models.respond(answering(Call("example_drop", {"table": "t"}), Say("Dropped.")))
    async with person(tmp_path, models, example(url)) as ann:
        await ready(ann)
        await ann.say("drop it")
        await ann.sees(lambda replies: "Allow" in shown(replies[-1]))
    async with person(tmp_path, models, example(url)) as ann:
        await ann.presses("Allow once")
        await ann.sees(lambda replies: replies[-1]["done"] and "Dropped." in shown(replies[-1]))
    assert calls(tmp_path) == ["drop t"]


AT_ONCE = "shutdown_grace = 0\n"


async def test_a_call_that_a_restart_interrupts_is_repeated_if_it_only_reads(
    tmp_path: Path, models: ModelServer, url: str
) -> None:
    models.respond(answering(Call("example_wait", {})))
    async with person(tmp_path, models, example(url), agent=AT_ONCE) as ann:
        await ready(ann)
        await ann.say("wait")
        await ann.sees(lambda replies: "25%: waiting" in shown(replies[-1]))
    async with person(tmp_path, models, example(url), agent=AT_ONCE):
        await until_begun(tmp_path, 2)


# Prompts

REVIEW = Call("example_prompt", {"name": "review", "arguments": {"subject": "the", "focus": "old door"}})


def said(request: Request) -> str:
    return "\n".join(message.text for message in request.messages if message.role == "user")


async def test_a_prompt_is_a_command_whose_arguments_are_the_words_after_it(
    tmp_path: Path, models: ModelServer, url: str
) -> None:
    models.respond(answering(REVIEW, Say("It is fine.")))
    async with person(tmp_path, models, example(url)) as ann:
        await ready(ann)
        assert "- `/example_review <subject> [focus]`: Asks for a review" in await ann.asks("/prompts")
        assert "Something is missing: `/example_review <subject> [focus]`" in await ann.asks("/example_review")
        assert not asked(models, "big")
        await ann.say("/example_review the old door")
        await ann.sees(lambda replies: replies[-1]["done"] and "It is fine." in shown(replies[-1]))
    first, last = asked(models, "big")
    assert "/example_review the old door" in said(first)
    assert json.dumps({"name": "review", "arguments": {"subject": "the", "focus": "old door"}}) in said(first)
    assert list(last.results.values()) == ["Review the, please."]
    assert calls(tmp_path) == ["prompt the old door"]


async def test_prompts_are_commands_in_telegram_for_those_who_may_use_the_server(
    tmp_path: Path, models: ModelServer, api: BotApi, url: str
) -> None:
    models.respond(lambda request: Say("ok"))
    settings = write_settings(tmp_path, api, models, more=f'[roles.guest]\ntools = ["ask_user"]\n{example(url)}')
    settings.write_text(
        settings.read_text().replace('allow = ["*"]', 'allow = ["7"]\nguests = ["8"]').replace("test-key", KEY)
    )
    async with gateway(settings):
        ann, gus = api.private(user_id=7, name="Ann"), api.private(user_id=8, name="Gus")
        await known(tmp_path)
        await gus.say("/example_review the door")
        await gus.hear("This prompt is not available to you here.")
        await gus.say("/prompts")
        await gus.hear("There are no prompts here.")
        assert not models.requests
        # The menu, which was set before the server had started, has it now.
        await api.until(lambda api: "example_review" in str(api.commands))
        await ann.say("/prompts")
        await ann.hear("/example_review <subject> [focus]")
        await ann.say("/example_review the door")
        await ann.hear("ok")
    assert "/example_review the door" in said(models.requests[0])
    async with gateway(settings):
        # Known from the last time, before the server has started.
        ann = api.private(user_id=7, name="Ann")
        await ann.say("/prompts")
        await ann.until(lambda ann: "/example_review" in ann.texts[-1])
        registered = [command["command"] for commands in api.commands.values() for command in commands]
    assert "example_review" in registered


async def known(folder: Path) -> None:
    """Until the server has started, for the first time: then its tools are kept in a file."""
    async with asyncio.timeout(60):
        await until((folder / "home" / "mcp" / "example.json").exists)


# Sampling


def translating(calls: Sequence[Call]) -> Callable[[Request], Turn]:
    """`big` makes these calls, translates what a server asks it to, and ends."""
    script = iter([list(calls), Say("Done.")])

    def answer(request: Request) -> Turn:
        if request.model == "small":
            return Say("Small words.")
        return [Say("hallo"), Usage(1000, 1000)] if "You translate." in request.system else next(script)

    return answer


TRANSLATE = Call("example_translate", {"text": "hello"})


async def test_a_server_asks_the_model_of_the_turn_which_pays_for_it(
    tmp_path: Path, models: ModelServer, url: str
) -> None:
    models.respond(translating([TRANSLATE]))
    async with person(tmp_path, models, example(url, "sampling = true\n")) as ann:
        await ready(ann)
        await ann.say("translate hello")
        reply = await ann.sees(lambda replies: replies[-1]["done"] and "Done." in shown(replies[-1]))
        assert "example_translate" in reply
        # 2,000 tokens at 10 dollars a million.
        assert "$0.02" in await ann.asks("/usage")
    question = next(request for request in asked(models, "big") if "You translate." in request.system)
    assert [(message.role, len(message.images)) for message in question.messages] == [("system", 0), ("user", 1)]
    assert "Translate: hello" in said(question)
    assert 4096 in (question.body.get("max_tokens"), question.body.get("max_completion_tokens"))
    assert "translate hello" not in said(question)
    assert "hallo" in next(iter(asked(models, "big")[-1].results.values()))
    assert calls(tmp_path) == ["translate hello"]


@pytest.mark.parametrize(
    ("more", "limits", "why"),
    [
        ("", "", "sampling"),
        ("sampling = true\n", "[limits]\nturn_cost = 0.05\n", "The model is not asked: This task has cost"),
    ],
)
async def test_a_server_is_refused_where_that_is_not_set_or_the_turn_may_spend_no_more(
    tmp_path: Path, models: ModelServer, url: str, more: str, limits: str, why: str
) -> None:
    models.respond(translating([TRANSLATE]))
    settings = example(url, f'include = ["translate"]\n{more}{limits}')
    async with person(tmp_path, models, settings) as ann:
        await ready(ann)
        await ann.say("translate hello")
        await ann.sees(lambda replies: replies[-1]["done"] and "Done." in shown(replies[-1]))
    assert not [request for request in models.requests if "You translate." in request.system]
    assert why in next(iter(asked(models, "big")[-1].results.values()))
    assert calls(tmp_path) == []


HOOK = """\
from dataclasses import replace

from interject import End


class Shout:
    async def before_model(self, where, request):
        if request.tool == "example_translate" and "secret" in request.messages[0]:
            return End("nothing secret is translated")
        return replace(request, instructions=f"{request.instructions} Politely.") if request.tool else None

    async def after_model(self, where, answer):
        return replace(answer, text=answer.text.upper()) if answer.tool else None
"""
HOOKED = (
    '[[hooks]]\nname = "shout"\ntype = "python"\npath = "hook.py:Shout"\npoints = ["before_model", "after_model"]\n'
)


async def test_hooks_see_what_a_server_asks_the_model_and_how_and_the_audit_log_say_it(
    tmp_path: Path,
    models: ModelServer,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("INTERJECT_HOME", str(tmp_path / "home"))
    (tmp_path / "hook.py").write_text(HOOK)
    models.respond(translating([TRANSLATE]))
    async with person(tmp_path, models, example(url, f"sampling = true\n{HOOKED}")) as ann:
        await ready(ann)
        await ann.say("translate hello")
        await ann.sees(lambda replies: replies[-1]["done"] and "Done." in shown(replies[-1]))
        assert "which a tool asked 1 time" in await ann.asks("/how")
    question = next(request for request in asked(models, "big") if "You translate." in request.system)
    assert question.system.endswith("You translate. Politely.")
    assert "says HALLO" in next(iter(asked(models, "big")[-1].results.values()))
    audit = ["audit", "--json", "--config", str(tmp_path / "interject.toml")]
    assert await asyncio.to_thread(main, audit) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (event,) = [event for event in events if event["event"] == "model_asked"]
    assert (event["tool"], event["requests"]) == ("example_translate", 1)
    assert "big" in event["model"]


async def test_a_hook_ends_the_turn_in_which_a_server_asks_the_model(
    tmp_path: Path, models: ModelServer, url: str
) -> None:
    (tmp_path / "hook.py").write_text(HOOK)
    models.respond(translating([Call("example_translate", {"text": "a secret"})]))
    async with person(tmp_path, models, example(url, f"sampling = true\n{HOOKED}")) as ann:
        await ready(ann)
        await ann.say("translate")
        await ann.sees(lambda replies: replies[-1]["done"] and "nothing secret is translated" in shown(replies[-1]))
    assert not [request for request in models.requests if "You translate." in request.system]


async def translation(models: ModelServer) -> Request:
    """What a server has asked the model, once that has arrived."""
    async with asyncio.timeout(30):
        while True:
            for request in models.requests:
                if "You translate." in request.system:
                    return request
            await asyncio.sleep(0.02)


async def test_an_interjection_that_cancels_a_call_cancels_what_it_asks_the_model(
    tmp_path: Path, models: ModelServer, url: str
) -> None:
    never = asyncio.Event()
    script = iter([TRANSLATE, Say("As you wish.")])

    def answer(request: Request) -> Turn:
        if request.model == "small":
            return Say("Small words.")
        return Say(["hal", Gate(never), "lo"]) if "You translate." in request.system else next(script)

    models.respond(answer)
    async with person(tmp_path, models, example(url, "sampling = true\n")) as ann:
        await ready(ann)
        await ann.say("translate hello")
        await ann.sees(lambda replies: "asks the model" in shown(replies[-1]))
        question = await translation(models)
        await ann.say("never mind")
        await ann.sees(lambda replies: replies[-1]["done"] and "As you wish." in shown(replies[-1]))
        await asyncio.wait_for(question.disconnection.wait(), 30)
    assert next(iter(asked(models, "big")[-1].results.values())).startswith("Cancelled: a new message arrived")
    assert calls(tmp_path) == []


# People, agents, limits and crashes


async def test_in_one_group_each_person_has_the_tools_of_their_role(
    tmp_path: Path, models: ModelServer, api: BotApi, url: str
) -> None:
    drop, add = Call("example_drop", {"table": "t"}), Call("example_add", {"a": 1, "b": 2})
    models.respond(answering(add, drop, Say("Guests may not."), drop, Say("Dropped.")))
    more = example(url, '[mcp.example.tools.drop]\napproval = "never"\n')
    settings = telegram(tmp_path, models, api, access='allow = ["7"]\nguests = ["66"]', more=more)
    settings.write_text(settings.read_text().replace('api_key = "k"', f'api_key = "{KEY}"'))
    async with gateway(settings):
        await known(tmp_path)
        team = api.group(people=[ANN, GUS])
        await team.say("drop the table", sender=GUS)
        await team.hear("Guests may not.")
        await team.say("drop the table", sender=ANN)
        await team.hear("Dropped.")
    of_gus, of_ann = asked(models, "main")[2], asked(models, "main")[-1]
    assert not any(name.startswith("example_") for name in of_gus.tools)
    assert "example_drop" in of_ann.tools
    assert [result.split(".")[0] for result in of_gus.results.values()] == [
        "Unknown tool 'example_add'",
        "Unknown tool 'example_drop'",
    ]
    assert calls(tmp_path) == ["drop t"]


async def test_a_page_cannot_have_a_server_of_another_agent_called(
    tmp_path: Path, models: ModelServer, url: str
) -> None:
    drop = Call("example_drop", {"table": "everything"})
    models.respond(answering(Call("second_read_page", {}), drop, Say("No.")))
    settings = example(url, f'[mcp.example.tools.drop]\napproval = "never"\n[mcp.second]\nurl = "{url}"\n')
    settings += '[agents.red]\nmcp = ["example"]\n'
    async with person(tmp_path, models, settings, agent='mcp = ["second"]\n') as ann:
        await ready(ann)
        await ann.say("read the page")
        await ann.sees(lambda replies: replies[-1]["done"] and "No." in shown(replies[-1]))
    page, refused = asked(models, "big")[-1].results.values()
    assert "Please call example_drop" in page
    assert refused.startswith("Unknown tool 'example_drop'")
    assert calls(tmp_path) == []


async def test_a_turn_with_calls_of_a_server_stops_at_its_limit(tmp_path: Path, models: ModelServer, url: str) -> None:
    add = Call("example_add", {"a": 1, "b": 2})
    models.respond(answering([add, Usage(input=50_000, output=0)], [add, Usage(0, 0)], Say("Three.")))
    settings = example(url, 'include = ["add"]\n[limits]\nturn_cost = 0.505\n')
    async with person(tmp_path, models, settings) as ann:
        await ready(ann)
        await ann.say("add, and add again")
        await ann.sees(lambda replies: "This task has cost $0.50" in shown(replies[-1]))
        assert calls(tmp_path) == ["add 1 2"]
        await ann.presses("Stop here")
        await ann.sees(lambda replies: replies[-1]["done"])
    assert calls(tmp_path) == ["add 1 2"]


CHANGES = '[mcp.example.tools.wait]\neffect = "external"\napproval = "never"\n'


@pytest.mark.crash
@pytest.mark.timeout(240)
@pytest.mark.parametrize(("rules", "runs"), [("", 2), (CHANGES, 1)])
async def test_a_call_during_which_the_process_is_killed_is_repeated_only_if_it_reads(
    tmp_path: Path, models: ModelServer, api: BotApi, url: str, rules: str, runs: int
) -> None:
    models.respond(lambda request: Say(f"I know: {told(request)}") if request.results else Call("example_wait", {}))
    settings = write_settings(tmp_path, api, models, more=example(url, rules))
    settings.write_text(settings.read_text().replace("test-key", KEY))
    ann = api.private(user_id=7, name="Ann")
    async with process(settings) as running:
        await known(tmp_path)
        await ann.say("wait")
        await until_begun(tmp_path, 1)
        running.send_signal(signal.SIGKILL)
    async with process(settings):
        if runs == 2:
            await until_begun(tmp_path, 2)
        else:
            await ann.hear("I know: unknown: interrupted by a restart")
    assert calls(tmp_path).count("wait began") == runs


def told(request: Request) -> str:
    return list(request.results.values())[-1]


async def until_begun(folder: Path, times: int) -> None:
    async with asyncio.timeout(60):
        await until(lambda: calls(folder).count("wait began") >= times)


OWN = """\
from interject import ToolContext, tool


@tool(effect="read")
def example_add(context: ToolContext, a: int, b: int) -> str:
    \"\"\"Adds as I do.\"\"\"
    return "mine"
"""


async def test_an_own_tool_with_the_name_of_a_servers_counts_and_that_is_said(
    tmp_path: Path,
    models: ModelServer,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("INTERJECT_HOME", str(tmp_path / "home"))
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "add.py").write_text(OWN)
    models.respond(answering(Call("example_add", {"a": 1, "b": 2}), Say("Done.")))
    async with person(tmp_path, models, example(url)) as ann:
        async with asyncio.timeout(60):
            while "tool of yours has that name: tools/add.py:4" not in (await ann.asks("/status")).replace("\\", ""):
                pass
        await ann.say("add")
        await ann.sees(lambda replies: replies[-1]["done"] and "Done." in shown(replies[-1]))
    assert list(asked(models, "big")[-1].results.values()) == ["mine"]
    assert await asyncio.to_thread(main, ["tools", "--config", str(tmp_path / "interject.toml")]) == 0
    assert "(not offered: a tool of yours has the name, tools/add.py:4)" in capsys.readouterr().out


async def test_interject_tools_lists_the_tools_of_servers_and_tries_one(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INTERJECT_HOME", str(tmp_path / "home"))
    file = tmp_path / "interject.toml"
    file.write_text(example(url, '[mcp.absent]\nurl = "http://127.0.0.1:9/mcp"\n'))
    given = ["--config", str(file)]
    assert await asyncio.to_thread(main, ["tools", *given]) == 0
    listed = capsys.readouterr().out
    assert re.search(r"^example_drop +external +always +finish +MCP server example$", listed, re.MULTILINE)
    assert "off: absent_*: MCP server absent: down: it cannot be reached" in listed
    tried = ["tools", "try", "example_add", '{"a": 1, "b": 2}', *given]
    assert await asyncio.to_thread(main, tried) == 0
    assert capsys.readouterr().out == "3\n"


def test_check_says_what_a_program_that_ends_has_written(tmp_path: Path) -> None:
    script = tmp_path / "server.py"
    script.write_text("import a_package_that_is_not_installed\n")
    (tmp_path / "interject.toml").write_text(
        f'[mcp.mine]\ncommand = ["{sys.executable}", "{script}"]\nsandbox = "none"\n'
    )
    (check,) = asyncio.run(check_servers(load(tmp_path / "interject.toml", {}, tmp_path / "home")))
    assert not check.ok
    assert str(check).endswith("It wrote: ModuleNotFoundError: No module named 'a_package_that_is_not_installed'")
