"""The log: for people and as JSON, with what its records are about, and one line for what operators look for."""

from __future__ import annotations

import io
import json
import logging
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest

from agent.agent import unmasked
from agent.log import Call
from agent.models.scripted import ScriptedModel
from agent.tool import ToolContext, tool
from channels.address import Sender
from config.signals import LoggingSettings
from gateway.bus import LocalBus
from gateway.cli.logs import WithContext, log_to
from gateway.inbound.access import ChannelAccess
from gateway.log_context import About, about, in_conversation, work_is_about
from gateway.signals.lines import Lines
from gateway.signals.signal import Signals
from tests.gateway.play import inbound, playing
from tests.gateway.test_cli import Desk
from tests.gateway.test_signals import operated
from tests.servers.models import Call as Tool
from tests.servers.models import ModelServer, Say
from tests.servers.telegram import BotApi

SECRET = 'k"ey-\\-ü-12345'


@pytest.fixture
def restored() -> Iterator[None]:
    """The test's own logging is put back."""
    root = logging.getLogger()
    names = ("agent", "channels", "config", "gateway")
    handlers, level = list(root.handlers), root.level
    levels = {name: logging.getLogger(name).level for name in names}
    root.handlers.clear()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in names:
        logging.getLogger(name).setLevel(levels[name])


@tool(effect="read")
async def look(context: ToolContext) -> str:
    """Looks."""
    return "seen"


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("format", ["text", "json"])
def test_a_secret_is_masked_however_it_is_written(format: Literal["text", "json"]) -> None:
    stream = io.StringIO()
    log_to(stream, [SECRET], LoggingSettings(format=format))
    try:
        raise ValueError(f"no {SECRET}")
    except ValueError:
        logging.getLogger("gateway.x").exception("failed with %s in one\nline", SECRET)
    written = stream.getvalue()
    assert "12345" not in written
    assert written.count("[hidden]") == 2
    assert "Traceback" in written


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize(
    ("level", "logged"),
    [
        ("debug", ["ours debug", "ours info", "ours warning", "ours error", "theirs warning", "theirs error"]),
        ("info", ["ours info", "ours warning", "ours error", "theirs warning", "theirs error"]),
        ("error", ["ours error", "theirs error"]),
    ],
)
def test_records_below_the_level_are_left_out(
    level: Literal["debug", "info", "warning", "error"], logged: list[str]
) -> None:
    stream = io.StringIO()
    log_to(stream, [], LoggingSettings(level=level))
    for name, whose in (("gateway.x", "ours"), ("library", "theirs")):
        for severity in ("debug", "info", "warning", "error"):
            getattr(logging.getLogger(name), severity)("%s %s", whose, severity)
    assert [line.partition(": ")[2] for line in stream.getvalue().splitlines()] == logged


@pytest.mark.usefixtures("restored")
def test_a_record_in_json_is_one_line_with_what_it_is_about() -> None:
    stream = io.StringIO()
    log_to(stream, [], LoggingSettings(format="json"))
    log = logging.getLogger("gateway.x")
    log.info("before")
    with in_conversation("slack", "slack/T/C"):
        log.warning("two\nlines")
    work_is_about(About())
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert {key: first[key] for key in first if key != "time"} == {
        "level": "INFO",
        "logger": "gateway.x",
        "message": "before",
    }
    assert (second["channel"], second["session"], second["message"]) == ("slack", "slack/T/C", "two\nlines")
    assert second["time"].endswith("+00:00")
    assert about() == About()


async def test_a_gateway_logs_json_with_the_ids_of_the_work(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.write('[web]\nport = 0\n[agent]\nshutdown_grace = 0\n[logging]\nformat = "json"\n')
    async with desk.running() as gateway:
        base, _, token = gateway.link.partition("/?token=")
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=base, headers=headers, trust_env=False, timeout=60) as client:
            message = {"client_id": "message-1", "text": "hello"}
            sent = await client.post("/api/v1/conversations/web:local:me/messages", json=message)
            await client.get(f"/api/v1/runs/{sent.json()['run']}", params={"wait": 60, "until": "end"})
        ended = await gateway.end(signal.SIGTERM)
    records: list[dict[str, Any]] = [json.loads(line) for line in ended.err.splitlines()]
    begun, done = (record for record in records if record["logger"] == "gateway.signals.lines")
    assert (begun["channel"], begun["session"]) == ("web", "web/local/me")
    assert begun["message"] == f"session web/local/me: turn {begun['turn']} runs"
    assert done["message"] == f"session web/local/me: turn {begun['turn']} completed"
    assert begun["run"] == begun["turn"] == done["turn"]


LEAKING_TOOL = """
from pathlib import Path

from interject import ToolContext, tool


@tool(effect="read")
async def leak(context: ToolContext) -> str:
    \"\"\"Fails, with what it has found out.\"\"\"
    raise RuntimeError("rejected: " + Path({token!r}).read_text())
"""


async def test_a_secret_that_is_not_in_the_settings_is_masked_in_the_log_too(
    tmp_path: Path, models: ModelServer
) -> None:
    models.script(Tool("leak", {}), Say("It failed."))
    desk = Desk(tmp_path)
    desk.write(
        '[web]\nport = 0\n[agent]\nmodel = "openai:test"\nshutdown_grace = 0\n'
        f'[models.openai]\napi_key = "test-key"\nbase_url = "{models.openai_url}"\n'
    )
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "own.py").write_text(LEAKING_TOOL.format(token=str(desk.home / "web-token")))
    async with desk.running() as gateway:
        base, _, token = gateway.link.partition("/?token=")
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=base, headers=headers, trust_env=False, timeout=60) as client:
            message = {"client_id": "message-1", "text": "look"}
            sent = await client.post("/api/v1/conversations/web:local:me/messages", json=message)
            await client.get(f"/api/v1/runs/{sent.json()['run']}", params={"wait": 60, "until": "end"})
        ended = await gateway.end(signal.SIGTERM)
    assert "RuntimeError: rejected: [secret]" in ended.err
    assert token not in ended.err


async def test_what_a_request_logs_is_about_the_web_channel(
    tmp_path: Path, models: ModelServer, api: BotApi, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.handler.addFilter(context := WithContext())
    try:
        async with operated(tmp_path, api, models) as operator:
            operator.sql("CREATE TRIGGER full BEFORE UPDATE ON alembic_version BEGIN SELECT RAISE(ABORT, 'full'); END")
            assert (await operator.client.get("/readyz")).status_code == 503
    finally:
        caplog.handler.removeFilter(context)
    (record,) = (record for record in caplog.records if record.name == "gateway.signals.readiness")
    assert vars(record)["channel"] == "web"
    assert "session" not in vars(record)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "gateway.signals.lines"]


async def test_refusals_approvals_and_turns_are_a_line_each(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gateway.signals.lines")
    tell = Signals(Lines(unmasked))
    model = ScriptedModel([Call("1", "look", "{}")], "Done.")
    policies = {"memory": ChannelAccess(frozenset({"7"}))}
    always = replace(look, approval="always")
    async with playing(tmp_path, model, always, bus=LocalBus(watch=tell), watch=tell, policies=policies) as play:
        await play.deliver(inbound("let me in", by=Sender("666", "Mallory")))
        await play.say("look")
        await play.channel.until(lambda channel: any(reply.parked for reply in channel.replies.values()))
        await play.say("yes")
        await play.reply("Done.")
        await play.until_idle()
    refused, runs, needs, waits, again, decided, completed = lines(caplog)
    assert refused.startswith("session memory/me/chat: message 1 of memory:666 refused: ")
    turn = runs.split()[3]
    start = f"session memory/me/chat: turn {turn}"
    assert runs == again == f"{start} runs"
    assert needs.startswith(f"{start} needs approval of call ")
    call = needs.split()[-1]
    assert waits == f"{start} waits for people"
    assert decided == f"{start}: approval {call}: allowed by Ann"
    assert completed == f"{start} completed"
    assert "let me in" not in caplog.text
