"""`interject doctor` names what is wrong with an installation, why it matters and what to do."""

from __future__ import annotations

import asyncio
import io
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing, redirect_stdout
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gateway.cli.main import main
from gateway.store import open_store
from tests.gateway.notes import url_of
from tests.gateway.test_cli import Desk, desk, slack_settings
from tests.servers.local import LocalServer
from tests.servers.slack import Slack
from tests.servers.telegram import BotApi

__all__ = ["desk"]

QUIET = '[web]\nport = 0\n[tools]\nenabled = ["read_file"]\n'


class Dated(LocalServer):
    """A server of models whose clock is behind."""

    def __init__(self, behind: timedelta) -> None:
        self._behind = behind

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/v1/models", self._models)
        return app

    async def _models(self, request: web.Request) -> web.Response:
        date = format_datetime(datetime.now(UTC) - self._behind, usegmt=True)
        return web.json_response({"data": [{"id": "big"}]}, headers={"Date": date})


async def examined(folder: Path, *options: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Calls the command in this process, which spares the start of another: the exit code, and the findings by part."""
    out = io.StringIO()
    given = ["doctor", *options, "--json", "--config", str(folder / "interject.toml")]
    with redirect_stdout(out):
        code = await asyncio.to_thread(main, given)
    found = [json.loads(line) for line in out.getvalue().splitlines()]
    return code, {each["part"]: each for each in found}


async def installed(desk: Desk, settings: str = QUIET) -> Path:
    """A data directory with a database, and its settings."""
    file = desk.write(settings)
    file.chmod(0o600)
    desk.home.mkdir(mode=0o700)
    async with open_store(url_of(desk.home)):
        pass
    return desk.home


async def test_a_healthy_installation_has_no_problem(desk: Desk) -> None:
    await installed(desk)
    code, found = await examined(desk.folder)
    assert code == 0
    assert {part for part, each in found.items() if each["level"] == "problem"} == set()
    assert found["database"]["level"] == found["schema"]["level"] == found["data directory"]["level"] == "ok"


def _damage(home: Path) -> None:
    database = home / "interject.db"
    data = bytearray(database.read_bytes())
    data[4096:20_000] = b"\xa5" * (20_000 - 4096)
    database.write_bytes(data)


def _open_to_others(home: Path) -> None:
    (home / "interject.db").chmod(0o644)


def _no_database(home: Path) -> None:
    (home / "interject.db").write_text("not a database, but long enough to be read as if it were one" * 20)


def _settings(text: str) -> Callable[[Path], None]:
    def write(home: Path) -> None:
        file = home.parent / "interject.toml"
        file.write_text(text)
        file.chmod(0o644)

    return write


@pytest.mark.parametrize(
    ("break_it", "part", "do"),
    [
        (_damage, "database", "interject restore"),
        (_no_database, "database", "interject restore"),
        (_open_to_others, "data directory", "chmod -R go="),
        (_settings(f'{QUIET}[models.openai]\napi_key = "sk-123456789"\n'), "secrets", "chmod 600"),
    ],
    ids=["damaged", "no database", "open to others", "secrets in a readable file"],
)
async def test_a_fault_is_a_problem_with_a_reason_and_a_remedy(
    desk: Desk, break_it: Callable[[Path], None], part: str, do: str
) -> None:
    break_it(await installed(desk))
    code, found = await examined(desk.folder, "--offline")
    assert code == 1
    assert found[part]["level"] == "problem"
    assert found[part]["why"]
    assert do in found[part]["do"]


async def test_a_database_of_another_version_is_a_warning(desk: Desk) -> None:
    home = await installed(desk)
    with closing(sqlite3.connect(home / "interject.db")) as database:
        database.execute("UPDATE alembic_version SET version_num = '0001'")
        database.commit()
    code, found = await examined(desk.folder, "--offline")
    assert code == 0
    assert (found["schema"]["level"], found["schema"]["what"]) == ("warning", "0001")


async def test_a_taken_port_is_a_problem(desk: Desk) -> None:
    async with BotApi() as somebody:
        await installed(desk, QUIET.replace("port = 0", f"port = {somebody.url.rpartition(':')[2]}"))
        code, found = await examined(desk.folder, "--offline")
    assert code == 1
    assert "cannot listen on" in found["port"]["what"]


async def test_missing_scopes_are_a_problem_with_what_fails_and_what_to_do(desk: Desk) -> None:
    async with Slack(scopes={"chat:write"}) as slack:
        await installed(desk, QUIET + slack_settings(slack))
        code, found = await examined(desk.folder)
    assert code == 1
    assert found["slack scopes"]["level"] == "problem"
    assert "im:history" in found["slack scopes"]["what"]
    assert found["slack scopes"]["why"]
    assert "reinstall the app" in found["slack scopes"]["do"]


@pytest.mark.parametrize(("minutes", "level"), [(0, "ok"), (1, "warning"), (-10, "problem")])
async def test_the_clock_is_compared_with_the_servers(desk: Desk, minutes: int, level: str) -> None:
    async with Dated(timedelta(minutes=minutes)) as server:
        provider = f'[models.openai]\napi_key = "sk-123456789"\nbase_url = "{server.url}/v1"\n'
        await installed(desk, f'[agent]\nmodel = "openai:big"\n{QUIET}{provider}')
        _, found = await examined(desk.folder)
    assert found["model"]["level"] == "ok"
    assert found["clock"]["level"] == level


async def test_a_channel_that_does_not_work_in_the_running_gateway_is_named_and_in_the_log(
    desk: Desk, api: BotApi
) -> None:
    api.fail_next("getUpdates", 409, times=1000)
    desk.write(f'{QUIET}[channels.telegram]\ntoken = "{api.token}"\napi_url = "{api.url}"\nallow = ["*"]\n')
    async with desk.running():
        await api.until(lambda api: api.refusals)
        async with asyncio.timeout(30):
            while (found := (await examined(desk.folder, "--offline"))[1])["channel telegram"]["level"] == "ok":  # noqa: ASYNC110 - it is asked of a process
                await asyncio.sleep(0.1)
        status = await desk.here("status", "--json")
        for_people = await desk.here("status")
        logs = await desk.here("logs", "--json", "--since", "1h")
        none = await desk.here("logs", "--since", "2100-01-01")
        token = (desk.home / "web-token").read_text()
    assert "another program polls" in found["channel telegram"]["what"]
    state = json.loads(status.out)
    troubles = {each["channel"]: each["trouble"] for each in state["channels"]}
    assert "another program polls" in troubles["telegram"]
    assert troubles["web"] == ""
    assert state["address"].startswith("http://127.0.0.1:")
    assert token not in status.out
    assert "telegram: " in for_people.out
    assert "another program polls" in for_people.out
    lines = [json.loads(line) for line in logs.out.splitlines()]
    assert any(line["level"] == "error" and "another program polls" in line["text"] for line in lines)
    assert (none.code, none.out) == (0, "")
    after = await desk.here("logs")
    assert (after.code, after.out) == (1, "")
    assert "journalctl" in after.err
