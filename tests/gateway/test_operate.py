"""The operators' commands as a process, on a store that a real gateway has written: what goes on, and what it cost."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from channels.address import Address, Sender
from channels.message import InboundMessage
from gateway.cli.main import main
from gateway.sessions import session_key
from gateway.store import open_store
from gateway.store.records import DEFAULT_OPTIONS, AuditEvent
from tests.gateway.notes import url_of
from tests.gateway.test_cli import Desk, desk
from tests.gateway.test_from_settings import KEY, answering, person
from tests.servers.models import Call, ModelServer, Pause, Say

__all__ = ["desk"]

ROOT = Path(__file__).parents[2]
ASKS = Call("ask_user", {"question": "Red or blue?", "options": ["red", "blue"]})


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def object(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found

    @property
    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


async def call(folder: Path, *arguments: str) -> Ended:
    """Runs `interject`, with the data directory that gateways of tests have."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "interject", *arguments, "--config", str(folder / "interject.toml")),
        cwd=folder,
        env={"PATH": os.environ["PATH"], "INTERJECT_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    assert b"Traceback" not in err
    return Ended(process.returncode, out.decode(), err.decode())


@pytest.fixture
async def models() -> AsyncIterator[ModelServer]:
    async with ModelServer(api_key=KEY) as server:
        yield server


async def test_status_says_that_no_gateway_runs_before_the_first_and_after_the_last(
    tmp_path: Path, models: ModelServer
) -> None:
    (tmp_path / "interject.toml").write_text("[web]\nport = 0\n")
    before = await call(tmp_path, "status")
    assert before.code == 1
    assert "not running" in before.out
    assert "does not exist yet" in before.out
    models.respond(answering(Say("Hello.")))
    async with person(tmp_path, models) as ann:
        await ann.asks("hi")
    after = (await call(tmp_path, "status", "--json")).object
    assert (after["running"], after["pid"], after["open_turns"], after["problem"]) == (False, None, 0, None)
    assert not (tmp_path / "home" / "interject.db-wal").exists(), "reading made a file"


async def test_status_shows_what_runs_what_waits_and_what_it_cost(tmp_path: Path, models: ModelServer) -> None:
    models.respond(answering([ASKS], Say([Pause(), "Blue it is."]), Say("The door.")))
    async with person(tmp_path, models) as ann:
        await ann.say("paint it")
        await ann.sees(lambda replies: any(segment["kind"] == "question" for segment in replies[-1:][0]["segments"]))
        parked = (await call(tmp_path, "status", "--json")).object
        await ann.say("blue")
        await models.until_held()
        await ann.say("/queue and then the door")
        running = (await call(tmp_path, "status", "--json")).object
        for_people = await call(tmp_path, "status")
        models.release()
    assert parked["running"] is True
    assert parked["pid"] == os.getpid()
    [turn] = parked["turns"]
    assert (turn["state"], turn["waits_for"], turn["asked_by"]) == ("parked", "answer", "ask_user")
    assert parked["today"]["calls"] == 1
    assert parked["today"]["cost"] > 0
    [turn] = running["turns"]
    assert (turn["state"], turn["waits_for"], turn["step"], turn["person"]) == ("running", None, 2, "web:owner")
    assert running["inbox"]["messages"] == 1
    assert for_people.code == 0
    assert "1 running, 0 parked" in for_people.out
    assert "the model is answering" in for_people.out
    assert "1 unread in 1 conversation," in for_people.out


@pytest.mark.parametrize(
    ("by", "key"),
    [
        ("person", "web:owner"),
        ("conversation", "web/local/me"),
        ("channel", "web"),
        ("model", "openai:big"),
    ],
)
async def test_usage_is_summed(tmp_path: Path, models: ModelServer, by: str, key: str) -> None:
    models.respond(answering(Say("Hello.")))
    async with person(tmp_path, models) as ann:
        await ann.asks("hi")
        rows = (await call(tmp_path, "usage", "--by", by, "--since", "1d", "--json")).objects
        for_people = (await call(tmp_path, "usage", "--by", by)).out
    assert rows[0][by] == key
    assert rows[0]["calls"] >= 1
    assert rows[0]["cost"] > 0
    assert key in for_people
    assert for_people.splitlines()[-1].startswith("total")


async def test_usage_since_a_word_is_refused(tmp_path: Path) -> None:
    (tmp_path / "interject.toml").write_text("")
    ended = await call(tmp_path, "usage", "--since", "yesterday")
    assert (ended.code, ended.out) == (2, "")
    assert "--since yesterday: expected an age" in ended.err


async def test_sessions_are_listed_with_state_and_cost(tmp_path: Path, models: ModelServer) -> None:
    models.respond(answering(Say("Hello.")))
    async with person(tmp_path, models) as ann:
        await ann.asks("hi")
        [row] = (await call(tmp_path, "sessions", "--json")).objects
    assert (row["conversation"], row["channel"], row["state"]) == ("web/local/me", "web", "idle")
    assert row["cost"] > 0


async def test_a_database_of_another_version_is_named(tmp_path: Path, models: ModelServer) -> None:
    async with person(tmp_path, models):
        pass
    with closing(sqlite3.connect(tmp_path / "home" / "interject.db")) as database:
        database.execute("UPDATE alembic_version SET version_num = '0001'")
        database.commit()
    for command in ("status", "usage", "sessions"):
        ended = await call(tmp_path, command)
        assert ended.code == 1
        assert "has the schema 0001" in ended.out + ended.err


LISTS = ("access list", "audit", "check", "data list", "doctor --offline", "mcp list", "pair list", "sessions", "tools")
STATES = ("backup copy.zip", "restore copy.zip --force", "status")


async def test_what_commands_show_is_json_where_that_is_asked_for(desk: Desk) -> None:
    desk.write(
        '[web]\nport = 0\n[tools]\nenabled = ["read_file"]\n[mcp.notes]\nurl = "http://127.0.0.1:1/mcp"\n'
        '[channels.telegram]\ntoken = "123456:a-token-of-a-bot-in-a-test"\npair = true\nallow = ["@ann"]\n'
    )
    desk.home.mkdir(mode=0o700)
    address = Address("telegram", "1", "8")
    async with open_store(url_of(desk.home)) as store:
        eve = Sender("8", "Eve", "eve")
        accepted = InboundMessage("1", address, eve, datetime.now(UTC), text="hi")
        await store.accept(accepted, session_key(address), None, DEFAULT_OPTIONS)
        await store.request_pairing("telegram", eve, session_key(address), address)
        await store.record_audit(AuditEvent("refused", "telegram:8"))
        await store.resolve_names("telegram", ["@ann"], Sender("7", "Ann", "ann"))
    found = {}
    for command in (*LISTS, *STATES):
        words = [str(desk.folder / word) if word.endswith(".zip") else word for word in command.split()]
        ended = await desk.here(*words, "--json")
        found[command] = [json.loads(line) for line in ended.out.splitlines()]
        assert found[command], command
        assert all(isinstance(each, dict) for each in found[command]), command
    assert [each["person"] for each in found["access list"]] == ["telegram:7", "telegram:8"]
    [request] = found["pair list"]
    assert (request["person"], request["state"], len(request["code"])) == ("telegram:8", "pending", 8)
    assert found["mcp list"] == [
        {"name": "notes", "place": "http://127.0.0.1:1/mcp", "per_person": False, "signed_in": 0}
    ]
    assert {len(found[command]) for command in STATES} == {1}
    assert found["backup copy.zip"][0]["messages"] == 1


def test_the_page_of_commands_has_every_command_of_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    there = set(re.findall(r"^    ([a-z-]+)(?: {2}|$)", capsys.readouterr().out, re.MULTILINE))
    page = (ROOT / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `interject ([a-z-]+)` \|", page, re.MULTILINE)) == there


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
async def test_a_terminal_without_the_characters_of_a_title_shows_their_codes(desk: Desk, encoding: str) -> None:
    desk.write("[web]\nport = 0\n")
    async with desk.running() as gateway:
        link = httpx.URL(gateway.link)
        async with httpx.AsyncClient(trust_env=False) as client:
            sent = await client.post(
                f"{link.scheme}://{link.netloc.decode()}/api/v1/conversations/web:local:one/messages",
                headers={"Authorization": f"Bearer {link.params['token']}"},
                json={"client_id": "message-1", "text": "日本 <b>"},
            )
        assert sent.status_code == 200
        shown = await desk.call("sessions", PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert (shown.code, shown.err) == (0, "")
    assert "\\u65e5\\u672c <b>" in shown.out


async def test_a_backup_into_a_folder_that_does_not_exist_names_the_folder(desk: Desk) -> None:
    async with desk.running():
        refused = await desk.call("backup", str(desk.folder / "nowhere" / "backup.zip"))
    folder = desk.folder / "nowhere"
    assert (refused.code, refused.out, refused.err) == (
        1,
        "",
        f"interject: {folder} is no folder: make it, or choose another one\n",
    )
