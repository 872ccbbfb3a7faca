"""The example tools, in a folder `tools` beside the settings file, as their first lines say."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from gateway.cli.main import main
from tests.gateway.test_from_settings import KEY, answering, asked, person, shown
from tests.servers.models import Call, ModelServer, Say

EXAMPLES = Path(__file__).parents[2] / "examples" / "tools"
TOKEN = "token-of-the-tracker"


@pytest.fixture
async def models() -> AsyncIterator[ModelServer]:
    async with ModelServer(api_key=KEY) as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("INTERJECT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TICKETS_TOKEN", TOKEN)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tools").mkdir()
    (tmp_path / "interject.toml").touch()
    return tmp_path


def copied(folder: Path, *names: str) -> None:
    for name in names:
        shutil.copy(EXAMPLES / f"{name}.py", folder / "tools")


@asynccontextmanager
async def tracker() -> AsyncIterator[tuple[str, list[tuple[str, object]]]]:
    """Its address, and the tickets with the authorization that they came with."""
    tickets: list[tuple[str, object]] = []

    async def opened(request: web.Request) -> web.Response:
        ticket = await request.json()
        if ticket["title"] == "refused":
            return web.Response(status=422)
        assert request.headers["Idempotency-Key"]
        tickets.append((request.headers["Authorization"], ticket))
        return web.json_response({"url": f"https://tickets.example.com/{len(tickets)}"}, status=201)

    app = web.Application()
    app.router.add_post("/api/tickets", opened)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/api/tickets", tickets
    finally:
        await runner.cleanup()


def test_a_file_of_the_workspace_is_counted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copied(folder, "word_count")
    (folder / "notes.txt").write_text("one two\nthree\n")
    assert main(["tools", "try", "word_count", '{"path": "notes.txt"}', "--workspace", "."]) == 0
    assert capsys.readouterr().out == "notes.txt: 2 lines, 3 words, 14 characters\n"
    assert main(["tools", "try", "word_count", '{"path": "/etc/passwd"}', "--workspace", "."]) == 1


async def test_a_picture_is_drawn_with_progress_and_delivered(folder: Path, models: ModelServer) -> None:
    copied(folder, "fractal")
    models.respond(answering(Call("fractal", {"size": 40}), Say("There.")))
    async with person(folder, models) as ann:
        await ann.say("draw")
        reply = await ann.sees(lambda replies: bool(replies) and replies[-1]["done"])
    assert "[fractal.png] Mandelbrot set" in reply
    assert list(asked(models, "big")[-1].results.values()) == ["Drawn: fractal.png, 40x40 pixels."]


def test_a_picture_that_is_tried_is_a_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copied(folder, "fractal")
    assert main(["tools", "try", "fractal", '{"size": 20}', "--json"]) == 0
    told = capsys.readouterr()
    assert told.err.splitlines()[-1] == "100 % drawn"
    assert json.loads(told.out)["files"] == ["fractal.png"]
    assert (folder / "fractal.png").read_bytes().startswith(b"\x89PNG")


async def test_a_ticket_is_opened_after_approval_with_the_secret_of_its_settings(
    folder: Path, models: ModelServer
) -> None:
    copied(folder, "tickets")
    ticket, refused = Call("open_ticket", {"title": "Late"}), Call("open_ticket", {"title": "refused"})
    models.respond(answering(ticket, refused, Say("Opened.")))
    async with tracker() as (url, tickets):
        section = f'[tools.open_ticket]\npath = "tools/tickets.py:open_ticket"\nurl = "{url}"\nlabels = ["chat"]\n'
        section += f'token = "{TOKEN}"\n'
        async with person(folder, models, section) as ann:
            await ann.say("open one")
            await ann.presses("Allow for this conversation")
            reply = await ann.sees(lambda replies: replies[-1]["done"] and "Opened." in shown(replies[-1]))
    assert tickets == [(f"Bearer {TOKEN}", {"title": "Late", "text": "", "labels": ["chat"]})]
    assert list(asked(models, "big")[-1].results.values()) == [
        "Opened: https://tickets.example.com/1",
        "the tracker refused the ticket: HTTP status 422",
    ]
    assert TOKEN not in reply


async def test_what_is_missing_is_named_by_check(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copied(folder, "tickets")
    section = (
        '[tools.open_ticket]\npath = "tools/tickets.py:open_ticket"\nurl = "ftp://x"\ntoken = "${TICKETS_TOKEN}"\n'
    )
    (folder / "interject.toml").write_text(section)
    assert await asyncio.to_thread(main, ["check"]) == 1
    told = capsys.readouterr().out
    assert "[tools.open_ticket]: url: String should match" in told
    assert TOKEN not in told
