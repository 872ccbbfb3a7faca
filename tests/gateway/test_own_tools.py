"""Tools of the operator's own in a whole gateway: steered, approved, paid for, reloaded, and broken in every way."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from zipfile import ZipFile

import pytest

from gateway.cli.main import main
from gateway.inbound.access_commands import ADMINS_ONLY
from tests.gateway.stage import gateway
from tests.gateway.test_agents import ANN, GUS, telegram
from tests.gateway.test_cli import Desk
from tests.gateway.test_from_settings import KEY, answering, asked, person, shown
from tests.servers.models import Call, Gate, ModelServer, Request, Say, Usage
from tests.servers.telegram import BotApi

GREET = '''\
from interject import ToolContext, tool


@tool(effect="read")
def greet(context: ToolContext, name: str) -> str:
    """Greets."""
    return f"Hello {name}"
'''

WORK = '''\
import asyncio
import io
from pathlib import Path

from PIL import Image

from interject import ToolContext, ToolResult, Usage, tool

HERE = Path(__file__).parent


async def work(context: ToolContext) -> str:
    await context.progress("25 % done")
    while not (HERE / "go").exists():
        await asyncio.sleep(0.01)
    return "All done"


@tool(effect="read", compensation="Look at the lock first.")
async def cancelled(context: ToolContext) -> str:
    """Works."""
    return await work(context)


@tool(effect="write")
async def finished(context: ToolContext) -> str:
    """Works."""
    return await work(context)


@tool(effect="write", on_steer="background")
async def moved(context: ToolContext) -> str:
    """Works."""
    return await work(context)


@tool(effect="external", approval="once")
def send(context: ToolContext, to: str) -> str:
    """Sends."""
    with (HERE / "sent").open("a") as file:
        file.write(f"{to}\\n")
    return f"Sent to {to}"


@tool(effect="read")
def dear(context: ToolContext) -> str:
    """Costs."""
    context.charge(Usage(cost=0.5), "a service")
    return "Bought"


@tool(effect="read")
async def paint(context: ToolContext) -> ToolResult:
    """Paints."""
    data = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(data, "PNG")
    return ToolResult("Painted", attachments=(await context.media.put(data.getvalue(), "red.png"),), caption="Red")


@tool(effect="read", final=True)
def answer(context: ToolContext) -> str:
    """Answers."""
    return "It is 42."
'''


@pytest.fixture
async def models() -> AsyncIterator[ModelServer]:
    async with ModelServer(api_key=KEY) as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("INTERJECT_HOME", str(tmp_path / "home"))
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "work.py").write_text(WORK)
    return tmp_path


def results(models: ModelServer) -> list[str]:
    """The results of calls that the model has read."""
    return list(asked(models, "big")[-1].results.values())


def said(request: Request) -> str:
    return "\n".join(message.text for message in request.messages if message.role == "user")


@pytest.mark.parametrize(
    ("tool", "read_first"),
    [
        ("cancelled", "Cancelled: a new message arrived"),
        ("finished", "All done"),
        ("moved", "background"),
    ],
)
async def test_an_interjection_does_to_a_call_what_the_tool_says(
    folder: Path, models: ModelServer, tool: str, read_first: str
) -> None:
    models.respond(lambda request: Call(tool, {}) if not request.results and request.model == "big" else Say("I see."))
    async with person(folder, models) as ann:
        await ann.say("work")
        await ann.sees(lambda replies: bool(replies) and "25 % done" in shown(replies[-1]))
        await ann.say("use the blue one")
        if tool == "finished":
            assert len(asked(models, "big")) == 1
            (folder / "tools" / "go").touch()
        await ann.sees(lambda replies: replies[-1]["done"] and "I see." in shown(replies[-1]))
        steered = asked(models, "big")[1]
        if tool == "moved":
            (folder / "tools" / "go").touch()
            await models.until(lambda: any("All done" in said(request) for request in asked(models, "big")))
            await ann.sees(lambda replies: replies[-1]["done"])
    (result,) = steered.results.values()
    assert read_first in result
    assert ("Look at the lock first." in result) is (tool == "cancelled")
    assert "use the blue one" in said(steered)


async def test_a_section_changes_the_rules_of_a_tool(folder: Path, models: ModelServer) -> None:
    rules = '[tools.finished]\npath = "tools/work.py:finished"\non_steer = "cancel"\nfinal = true\n'
    models.respond(answering(Call("finished", {}), Say("As you wish."), Call("finished", {})))
    async with person(folder, models, rules) as ann:
        await ann.say("work")
        await ann.sees(lambda replies: bool(replies) and "25 % done" in shown(replies[-1]))
        await ann.say("never mind")
        await ann.sees(lambda replies: replies[-1]["done"] and "As you wish." in shown(replies[-1]))
        assert results(models)[0].startswith("Cancelled")
        (folder / "tools" / "go").touch()
        assert "All done" in await ann.asks("now do it")
    assert len(asked(models, "big")) == 3


async def test_a_call_is_approved_and_in_the_audit_log(
    folder: Path, models: ModelServer, capsys: pytest.CaptureFixture[str]
) -> None:
    models.respond(answering(Call("send", {"to": "x"}), Say("Denied."), Call("send", {"to": "y"}), Say("Sent.")))
    async with person(folder, models) as ann:
        await ann.say("send it")
        await ann.presses("Deny")
        await ann.sees(lambda replies: "Denied." in shown(replies[-1]))
        assert not (folder / "tools" / "sent").exists()
        await ann.say("now send it")
        await ann.sees(lambda replies: "send" in shown(replies[-1]) and len(replies) == 2)
        await ann.presses("Allow once")
        await ann.sees(lambda replies: "Sent." in shown(replies[-1]))
    assert (folder / "tools" / "sent").read_text() == "y\n"
    assert await asyncio.to_thread(main, ["audit", "--json", "--config", str(folder / "interject.toml")]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    sent = [each for each in events if each["event"] == "tool_call"]
    assert [(each["tool"], each["effect"], json.loads(each["arguments"])) for each in sent][-1] == (
        "send",
        "external",
        {"to": "y"},
    )


async def test_what_a_call_costs_counts_in_the_limit_of_the_turn(folder: Path, models: ModelServer) -> None:
    models.respond(answering([Call("dear", {}), Usage(0, 0)], Say("Never.")))
    async with person(folder, models, "[limits]\nturn_cost = 0.4\n") as ann:
        await ann.say("buy")
        reply = await ann.sees(lambda replies: bool(replies) and "has cost $0.5" in shown(replies[-1]))
    assert "the limit is $0.40" in reply
    assert len(asked(models, "big")) == 1


async def test_a_tool_that_is_final_answers_and_the_model_is_not_asked_again(folder: Path, models: ModelServer) -> None:
    models.respond(answering(Call("answer", {})))
    async with person(folder, models) as ann:
        assert "It is 42." in await ann.asks("what is it?")
    assert len(asked(models, "big")) == 1


async def test_a_picture_is_delivered_and_guests_have_no_tool_with_effects_outside(
    folder: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(answering(Call("paint", {}), Say("Painted."), Call("send", {"to": "x"}), Say("I may not.")))
    settings = telegram(folder, models, api, access='allow = ["7"]\nguests = ["66"]')
    settings.write_text(settings.read_text().replace('api_key = "k"', f'api_key = "{KEY}"'))
    async with gateway(settings):
        team = api.group(people=[ANN, GUS])
        await team.say("paint", sender=ANN)
        picture = await team.hear(lambda shown: shown.photo is not None)
        await team.hear("Painted.")
        await team.say("send", sender=GUS)
        await team.hear("I may not.")
    assert picture.words == "Red"
    assert picture.photo is not None
    of_ann, of_gus = asked(models, "main")[0], asked(models, "main")[-1]
    assert {"send", "paint"} <= set(of_ann.tools)
    assert set(of_ann.tools) - set(of_gus.tools) >= {"send"}
    assert "paint" in of_gus.tools
    assert list(of_gus.results.values())[-1].startswith("Unknown tool 'send'")
    assert not (folder / "tools" / "sent").exists()


async def test_a_reload_in_a_running_task_is_used_by_its_next_step(folder: Path, models: ModelServer) -> None:
    file = folder / "tools" / "greet.py"
    file.write_text(GREET)
    gate = asyncio.Event()
    greet = Call("greet", {"name": "Bo"})
    models.respond(answering([Say(["Let me see", Gate(gate), "."]), greet], greet, Say("Done.")))
    async with person(folder, models) as ann:
        await ann.say("greet Bo")
        await ann.sees(lambda replies: bool(replies) and "Let me see" in shown(replies[-1]))
        file.write_text(GREET.replace("Hello", "Good day").replace("Greets.", "Greets politely."))
        await ann.say("/reload")
        await ann.sees(lambda replies: "Tools loaded:" in json.dumps(replies))
        gate.set()
        await ann.sees(lambda replies: any(reply["done"] and "Done." in shown(reply) for reply in replies))
        assert results(models)[-1] == "Good day Bo"
        file.write_text(GREET.replace("-> str:", "-> str"))
        told = await ann.asks("/reload")
        assert "tools/greet.py:5: SyntaxError" in told.replace("\\", "")
        assert "the version before is still in use" in told
        models.respond(answering(greet, Say("Again.")))
        await ann.asks("again")
        assert results(models)[-1] == "Good day Bo"
        file.unlink()
        assert "Removed: `greet`" in await ann.asks("/reload")
        models.respond(answering(Say("Gone.")))
        await ann.asks("and now?")
    assert "greet" not in asked(models, "big")[-1].tools


async def test_only_admins_reload_and_see_broken_tools(folder: Path, models: ModelServer, api: BotApi) -> None:
    settings = telegram(folder, models, api, access='allow = ["7"]\nadmins = ["8"]')
    (folder / "tools" / "work.py").write_text(WORK.replace("def answer", "def"))
    async with gateway(settings):
        ann, bob = api.private(user_id=7, name="Ann"), api.private(user_id=8, name="Bob")
        await ann.say("/reload")
        refused = await ann.hear()
        await ann.say("/status")
        status = await ann.until(lambda chat: chat.texts[1:] or None)
        await bob.say("/status")
        await bob.hear(re.compile("work.py"))
    assert refused.words == ADMINS_ONLY
    assert "work.py" not in "".join(status)


TOKEN = "token-of-a-tracker-12345"

SETTINGS = '''
from pydantic import BaseModel
from interject import ToolContext, tool

class Own(BaseModel):
    token: int
    url: str

@tool(effect="read", settings=Own)
def tracker(context: ToolContext) -> str:
    """Tracks."""
    return "x"
'''

BROKEN = {
    "a syntax error": (GREET.replace("-> str:", "-> str"), "tools/bad.py:5: SyntaxError"),
    "an import error": (f"import no_such_module_here\n{GREET}", "tools/bad.py:1: ModuleNotFoundError"),
    "an error when it runs": (f"{GREET}\n1 / 0\n", "tools/bad.py:9: ZeroDivisionError"),
    "a program that exits": (f"{GREET}\nraise SystemExit(3)\n", "tools/bad.py:9: SystemExit"),
    "no docstring": (GREET.replace('    """Greets."""\n', ""), "tools/bad.py:4: TypeError: the tool greet has no"),
    "a parameter without a type": (GREET.replace("name: str", "name"), "tools/bad.py:4: TypeError: the parameter name"),
    "a type without a schema": (GREET.replace("name: str", "name: type(open)"), "tools/bad.py:4: "),
    "the name of a built-in tool": (GREET.replace("def greet", "def shell"), "shell is the name of a built-in tool"),
    "the name of another own tool": (GREET.replace("def greet", "def send"), "the name send is taken"),
}


@pytest.mark.parametrize("kind", BROKEN)
async def test_a_broken_file_costs_itself_only_and_is_named_everywhere(
    folder: Path, models: ModelServer, kind: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    code, named = BROKEN[kind]
    (folder / "tools" / "bad.py").write_text(code)
    if "send" in named:
        # The first file in the order of the names has it.
        (folder / "tools" / "bad.py").rename(folder / "tools" / "z_bad.py")
    models.respond(answering(Call("answer", {})))
    with caplog.at_level(logging.ERROR):
        async with person(folder, models) as ann:
            assert named in caplog.text
            assert named in (await ann.asks("/status")).replace("\\", "")
            assert "It is 42." in await ann.asks("go")
    file = str(folder / "interject.toml")
    for command in ("check", "tools"):
        assert await asyncio.to_thread(main, [command, "--config", file]) == 1
        told = capsys.readouterr().out
        assert named in told
        assert "answer" in told
    assert await asyncio.to_thread(main, ["tools", "--json", "--config", file]) == 1
    (broken,) = (each for each in map(json.loads, capsys.readouterr().out.splitlines()) if each["state"] == "broken")
    assert named in f"{broken['from']}: {broken['why']}"


async def test_wrong_settings_of_a_tool_are_named_by_key_and_secrets_are_not_shown(
    folder: Path,
    models: ModelServer,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRACKER_TOKEN", TOKEN)
    (folder / "tools" / "tracker.py").write_text(SETTINGS)
    section = '[tools.tracker]\npath = "tools/tracker.py:tracker"\ntoken = "%s"\n'
    (folder / "interject.toml").write_text(section % "${TRACKER_TOKEN}")
    for command in ("check", "tools"):
        assert await asyncio.to_thread(main, [command, "--config", str(folder / "interject.toml")]) == 1
        told = "".join(capsys.readouterr())
        assert "[tools.tracker]: token: Input should be a valid integer" in told
        assert "url: Field required" in told
        assert TOKEN not in told
    async with person(folder, models, section % "abc") as ann:
        assert "[tools.tracker]: token: " in (await ann.asks("/status")).replace("\\", "")
    assert "[tools.tracker]: token: " in caplog.text


async def test_a_secret_option_reaches_the_tool_and_nobody_else(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKER_TOKEN", TOKEN)
    code = SETTINGS.replace("token: int", "token: str").replace(
        'return "x"', 'return "it is " + context.settings.token'
    )
    (folder / "tools" / "tracker.py").write_text(code.replace("url: str", "places: list[str]"))
    (folder / "interject.toml").write_text(
        '[tools.tracker]\npath = "tools/tracker.py:tracker"\ntoken = "${TRACKER_TOKEN}"\nplaces = ["here"]\n'
    )
    given = ["--config", str(folder / "interject.toml")]
    assert await asyncio.to_thread(main, ["tools", "try", "tracker", *given]) == 0
    tried = capsys.readouterr().out
    assert tried.startswith("it is ")
    assert await asyncio.to_thread(main, ["tools", *given, "--json", "try", "tracker"]) == 0
    assert capsys.readouterr().out.startswith("{")
    assert await asyncio.to_thread(main, ["tools", "--json", *given]) == 0
    assert await asyncio.to_thread(main, ["check", *given]) == 0
    assert TOKEN not in tried + "".join(capsys.readouterr())


async def test_scripts_that_have_no_tools_are_never_run(tmp_path: Path, models: ModelServer) -> None:
    (tmp_path / "tools").mkdir()
    trap = f"open({str(tmp_path / 'ran')!r}, 'w').close()\n"
    (tmp_path / "tools" / "deploy.py").write_text(f"{trap}import os\n\ndef tool(x): return x\n\n@tool\ndef go(): ...\n")
    (tmp_path / "tools" / "uses.py").write_text(f"import interject\n{trap}")
    (tmp_path / "tools" / "quotes.py").write_text(f'"""\nimport interject\n@tool(effect="read")\n"""\n{trap}')
    models.respond(answering(Say("Hi.")))
    async with person(tmp_path, models) as ann:
        await ann.asks("hello")
        assert "Tools loaded: none." in await ann.asks("/reload")
    assert not (tmp_path / "ran").exists()


async def test_a_file_that_everybody_can_change_is_not_run(folder: Path, models: ModelServer) -> None:
    (folder / "tools" / "work.py").chmod(0o666)
    async with person(folder, models) as ann:
        assert "other users of this machine can change it" in await ann.asks("/status")


async def test_without_own_tools_nothing_is_imported(tmp_path: Path) -> None:
    (tmp_path / "interject.toml").write_text('[web]\nenabled = false\n[channels.telegram]\ntoken = "1:a"\n')
    program = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from config.load import load\n"
        "from gateway.assembly.build import build\n"
        "async def main():\n"
        f"    here = Path({str(tmp_path)!r})\n"
        "    async with build(load(here / 'interject.toml', {}, here / 'home')):\n"
        "        print([name for name in ('agent.custom_tools', 'interject.public') if name in sys.modules])\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert out == b"[]\n"


async def test_sighup_loads_the_tools_again_and_never_ends_the_gateway(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.write("[web]\nport = 0\n")
    (tmp_path / "tools").mkdir()
    desk.write(GREET, "tools/greet.py")
    async with desk.running() as gateway:
        stderr = gateway.process.stderr
        assert stderr is not None
        gateway.process.send_signal(signal.SIGHUP)
        first = await asyncio.wait_for(stderr.readline(), 30)
        assert b"Tools loaded: `greet`." in first
        desk.write(GREET.replace("def greet", "def"), "tools/greet.py")
        gateway.process.send_signal(signal.SIGHUP)
        broken = await asyncio.wait_for(stderr.readline(), 30)
        assert b"tools/greet.py:5: SyntaxError" in broken
        ended = await gateway.end(signal.SIGTERM)
    assert ended.code == 0
    assert "still in use" in ended.err


def wheel(folder: Path) -> Path:
    """A package with a tool (https://packaging.python.org/specifications/binary-distribution-format)."""
    file = folder / "weather_tools-1.0-py3-none-any.whl"
    info = "weather_tools-1.0.dist-info"
    content = {
        "weather_tools.py": GREET.replace("greet", "weather").replace("Greets.", "Tells the weather."),
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: weather-tools\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[interject.tools]\nweather = weather_tools:weather\n",
    }
    record = "".join(f"{name},,\n" for name in (*content, f"{info}/RECORD"))
    with ZipFile(file, "w") as archive:
        for name, text in {**content, f"{info}/RECORD": record}.items():
            archive.writestr(name, text)
    return file


async def test_a_tool_of_an_installed_package_is_named_by_its_entry_point(
    folder: Path, models: ModelServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    site = folder / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(site)]
    installing = await asyncio.create_subprocess_exec(*pip, str(wheel(folder)))
    assert await installing.wait() == 0
    monkeypatch.syspath_prepend(site)
    models.respond(answering(Call("forecast", {"name": "Ann"}), Say("Fine.")))
    async with person(folder, models, '[tools.forecast]\npath = "weather"\n') as ann:
        await ann.asks("how will it be?")
    assert list(asked(models, "big")[-1].results.values()) == ["Hello Ann"]
    assert await asyncio.to_thread(main, ["tools", "--config", str(folder / "interject.toml")]) == 0
    assert re.search(r"^forecast +read .*weather_tools\.py:4$", capsys.readouterr().out, re.MULTILINE)
