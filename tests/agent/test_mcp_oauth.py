"""Signing in at MCP servers: a real server of the SDK, and a strict authorization server."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agent.hook import HookContext
from agent.masking import Mask
from agent.mcp.account import Account, Accounts, Callback, ClientSettings
from agent.mcp.errors import McpError
from agent.mcp.server import McpServer, Timing
from agent.mcp.sources import HttpSource
from agent.testing import MemoryMedia
from agent.tool import ToolContext, ToolError
from tests.servers.oauth import AuthorizationServer, grant, returned, serve_private

QUICKLY = Timing(restart_delay=0.05, max_restart_delay=0.2)


@dataclass
class Browser:
    """A link to a person, who signs in as `name` ("": refuses) with what they come back with changed by `tampered`."""

    name: str = "ann"
    redirect_uri: str = "http://127.0.0.1:1/oauth/callback"
    document: str | None = None
    tampered: Callable[[dict[str, str]], dict[str, str]] = lambda answer: answer
    hesitates: asyncio.Event = field(default_factory=asyncio.Event)
    shown: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    url: str = ""

    def __post_init__(self) -> None:
        self.hesitates.set()

    async def __call__(self, server: str, asked: HookContext, *, personal: bool) -> Browser:
        return self

    async def show(self, url: str) -> None:
        self.url = url
        await self.shown.put(url)

    async def returned(self) -> Callback:
        await self.hesitates.wait()
        answer = self.tampered(returned(await grant(self.url, self.name)))
        if "error" in answer:
            raise McpError("the sign-in was refused")
        return Callback(answer["code"], answer["state"], answer.get("iss"))


@pytest.fixture
async def authority() -> AsyncIterator[AuthorizationServer]:
    async with AuthorizationServer() as server:
        yield server


@pytest.fixture
async def url(authority: AuthorizationServer) -> AsyncIterator[str]:
    async with serve_private(authority) as url:
        yield url


def account(folder: Path, url: str) -> Account:
    return Accounts(folder / "mcp-tokens").shared("private", url, ClientSettings())


@asynccontextmanager
async def connected(account: Account, browser: Browser | None = None) -> AsyncIterator[McpServer]:
    source = HttpSource(account.url, wires=("http",), account=account)
    async with McpServer("private", source, timing=QUICKLY, open_link=browser) as server:
        await server.settled()
        yield server


async def call(server: McpServer, name: str, **arguments: Any) -> str:
    async def progress(text: str) -> None:
        return None

    tools = {tool.name.removeprefix("private_"): tool for tool in server}
    context = ToolContext(Path("unused"), MemoryMedia(), progress)
    return (await tools[name].call(context, json.dumps(arguments))).text


async def test_a_person_signs_in_and_the_next_start_needs_no_sign_in(
    tmp_path: Path, url: str, authority: AuthorizationServer
) -> None:
    async with connected(account(tmp_path, url), Browser()) as server:
        assert str(server.status) == "nobody is signed in"
        assert [tool.name for tool in server] == ["private_sign_in"]
        assert authority.clients == {}, "a server that nobody signs in at registers no client"
        assert await call(server, "sign_in") == (
            "Signed in. The tools are: private_whoami, private_show_token, private_buy"
        )
        assert await call(server, "whoami") == "you are ann"
    async with connected(account(tmp_path, url)) as server:
        assert await call(server, "whoami") == "you are ann"
    (file,) = (tmp_path / "mcp-tokens").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("restarted", [False, True])
async def test_tokens_are_refreshed_once_each_also_when_they_end_early_or_the_process_was_restarted(
    tmp_path: Path, url: str, authority: AuthorizationServer, restarted: bool
) -> None:
    async with connected(account(tmp_path, url), Browser()) as server:
        await call(server, "sign_in")
        authority.expire()
        if not restarted:
            assert await asyncio.gather(*(call(server, "whoami") for _ in range(5))) == ["you are ann"] * 5
    async with connected(account(tmp_path, url)) as server:
        authority.expire()
        assert await call(server, "whoami") == "you are ann"
    assert authority.refreshed >= 2 - restarted


async def test_an_authorization_server_that_fails_signs_nobody_out(
    tmp_path: Path, url: str, authority: AuthorizationServer
) -> None:
    async with connected(account(tmp_path, url), Browser()) as server:
        await call(server, "sign_in")
        authority.expire()
        authority.failing = 503
        with pytest.raises(ToolError):
            await call(server, "whoami")
        authority.failing = 0
        async with asyncio.timeout(20):
            while server.status.state != "running":  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.01)
        assert await call(server, "whoami") == "you are ann"


async def test_a_call_without_a_valid_sign_in_waits_for_the_person_and_goes_on(
    tmp_path: Path, url: str, authority: AuthorizationServer
) -> None:
    browser = Browser()
    async with connected(account(tmp_path, url), browser) as server:
        await call(server, "sign_in")
        await browser.shown.get()
        authority.revoke("ann")
        browser.name = "bob"
        browser.hesitates.clear()
        waiting = asyncio.create_task(call(server, "whoami"))
        await browser.shown.get()
        assert not waiting.done()
        browser.hesitates.set()
        assert await waiting == "you are bob"


async def test_a_cancelled_call_leaves_nothing_behind_and_the_next_one_can_sign_in(tmp_path: Path, url: str) -> None:
    browser = Browser()
    browser.hesitates.clear()
    async with connected(account(tmp_path, url), browser) as server:
        waiting = asyncio.create_task(call(server, "sign_in"))
        await browser.shown.get()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not (tmp_path / "mcp-tokens").exists()
        browser.hesitates.set()
        assert "Signed in" in await call(server, "sign_in")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"state": "another"}, "State parameter mismatch"),
        ({"code": "another"}, "invalid_grant"),
        ({"iss": "https://evil.example"}, "iss mismatch"),
        ({"error": "access_denied"}, "the sign-in was refused"),
    ],
)
async def test_what_comes_back_wrong_signs_nobody_in(
    tmp_path: Path, url: str, change: dict[str, str], words: str
) -> None:
    browser = Browser(tampered=lambda answer: answer | change)
    async with connected(account(tmp_path, url), browser) as server:
        with pytest.raises(ToolError, match=words):
            await call(server, "sign_in")
        assert server.status.state == "signed_out"
    assert not (tmp_path / "mcp-tokens").exists()


async def test_signing_out_forgets_tokens_and_tools(tmp_path: Path, url: str) -> None:
    async with connected(account(tmp_path, url), Browser()) as server:
        await call(server, "sign_in")
        assert await server.sign_out()
        await server.settled()
        assert [tool.name for tool in server] == ["private_sign_in"]
        assert not await server.sign_out()
    assert list((tmp_path / "mcp-tokens").iterdir()) == []


async def test_tokens_of_another_address_are_not_sent(tmp_path: Path, url: str, authority: AuthorizationServer) -> None:
    async with connected(account(tmp_path, url), Browser()) as server:
        await call(server, "sign_in")
    async with connected(account(tmp_path, url.replace("127.0.0.1", "localhost"))) as server:
        assert server.status.state in ("signed_out", "down")


def test_what_is_in_the_files_is_masked_from_then_on(tmp_path: Path) -> None:
    accounts = Accounts(tmp_path / "mcp-tokens")
    mask = Mask(["a fixed secret"], accounts)
    assert mask("access-1") == "access-1"
    one = accounts.personal("private", "web:ann", "http://a", ClientSettings())
    one.write({"tokens": {"access_token": "access-1", "refresh_token": "refresh-1"}, "client": {"client_id": "id"}})
    assert mask("access-1, refresh-1, id") == "[secret], [secret], id"
    one.write({"tokens": {"access_token": "access-2"}})
    assert mask("access-1, access-2, a fixed secret") == "[secret], [secret], [secret]"
    accounts.forget_person("web:bob")
    assert one.signed_in
    accounts.forget_person("web:ann")
    assert not one.signed_in
