"""Signing in at MCP servers: a real server of the SDK, and a strict authorization server."""

from __future__ import annotations

import asyncio
import json
import re
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agent.hook import HookContext
from agent.masking import Mask
from agent.mcp.account import Account, AccountKey, Accounts, Callback, ClientSettings, tools_file
from agent.mcp.account_files import FileAccounts
from agent.mcp.device_code import sign_in_with_code
from agent.mcp.errors import McpError
from agent.mcp.personal import PersonalServers
from agent.mcp.server import McpServer, Timing
from agent.mcp.sign_in import sign_in, sign_out
from agent.mcp.sources import HttpSource
from agent.testing import MemoryMedia
from agent.tool import ToolContext, ToolError
from agent.toolset import ForPerson
from tests.servers.oauth import AuthorizationServer, grant, returned, serve_private

QUICKLY = Timing(restart_delay=0.05, max_restart_delay=0.2)


@dataclass
class Browser:
    """A link to a person, who signs in as `name` ("": refuses) with what they come back with changed by `tampered`."""

    name: str = "ann"
    redirect_uri: str | None = "http://127.0.0.1:1/oauth/callback"
    document: str | None = None
    without_code: str = "no sign-in with a code"
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

    async def show_code(self, url: str, code: str, seconds: float) -> None:
        raise AssertionError("a browser can come back")

    async def returned(self) -> Callback:
        await self.hesitates.wait()
        answer = self.tampered(returned(await grant(self.url, self.name)))
        if "error" in answer:
            raise McpError("the sign-in was refused")
        return Callback(answer["code"], answer["state"], answer.get("iss"))


@pytest.fixture
async def url(authority: AuthorizationServer) -> AsyncIterator[str]:
    async with serve_private(authority) as url:
        yield url


def account(folder: Path, url: str) -> Account:
    return Accounts(FileAccounts(folder / "mcp-tokens")).shared("private", url, ClientSettings())


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
            "Signed in. The tools are: private_whoami, private_show_token, private_buy, private_prompt"
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
        assert await server.sign_out() is not None
        await server.settled()
        assert [tool.name for tool in server] == ["private_sign_in"]
        assert await server.sign_out() is None
    assert list((tmp_path / "mcp-tokens").iterdir()) == []


@dataclass
class Phone(Browser):
    """A link to a person who `enters` a code on another device as `name`."""

    authority: AuthorizationServer | None = None
    redirect_uri: str | None = None
    enters: bool = True
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def show_code(self, url: str, code: str, seconds: float) -> None:
        assert self.authority is not None
        assert url == f"{self.authority.url}/enter"
        await self.shown.put(code)
        if self.enters:
            self.authority.enter(code, self.name)

    async def returned(self) -> Callback:
        await self.ended.wait()
        raise McpError("a newer link was sent; that one counts")


async def test_a_person_signs_in_with_a_code_and_its_tokens_are_refreshed(
    tmp_path: Path, url: str, authority: AuthorizationServer
) -> None:
    authority.devices = True
    async with connected(account(tmp_path, url), Phone(authority=authority)) as server:
        await call(server, "sign_in")
        assert await call(server, "whoami") == "you are ann"
        authority.expire()
        assert await call(server, "whoami") == "you are ann"
    assert authority.refreshed == 1


async def test_whoever_asks_too_often_for_the_tokens_of_a_code_slows_down(
    tmp_path: Path, url: str, authority: AuthorizationServer
) -> None:
    # It says that it may be asked at once, and then wants to be asked more seldom.
    authority.devices, authority.interval, authority.named_interval = True, 0.2, 0.0
    phone = Phone(authority=authority, enters=False)
    signing = asyncio.create_task(sign_in_with_code(account(tmp_path, url), phone, slower=0.5))
    async with asyncio.timeout(30):
        while not authority.slowed_down:  # noqa: ASYNC110 - a server has no event for that
            await asyncio.sleep(0.002)
    authority.enter(await phone.shown.get(), "ann")
    await signing
    assert authority.slowed_down == 1


@pytest.mark.parametrize(
    ("enters", "lifetime", "why"),
    [(True, 60.0, "refused"), (False, 0.1, "nobody has entered the code in time")],
)
async def test_a_code_that_is_refused_or_not_entered_signs_nobody_in(
    tmp_path: Path, url: str, authority: AuthorizationServer, enters: bool, lifetime: float, why: str
) -> None:
    authority.devices, authority.code_lifetime = True, lifetime
    signed_out = account(tmp_path, url)
    with pytest.raises(McpError, match=why):
        await sign_in(signed_out, Phone(authority=authority, name="", enters=enters))
    assert not signed_out.signed_in


async def test_a_newer_link_ends_the_wait_for_a_code(tmp_path: Path, url: str, authority: AuthorizationServer) -> None:
    authority.devices = True
    phone = Phone(authority=authority, enters=False)
    phone.ended.set()
    with pytest.raises(McpError, match="a newer link"):
        await sign_in(account(tmp_path, url), phone)


async def test_where_codes_are_not_offered_the_person_is_told_what_else_there_is(tmp_path: Path, url: str) -> None:
    with pytest.raises(McpError, match="no sign-in with a code"):
        await sign_in(account(tmp_path, url), Phone())


@pytest.mark.parametrize(
    ("revokes", "failing", "why"),
    [(True, 0, "$"), (True, 503, "has refused to end it .status 503."), (False, 0, "offers no way")],
)
async def test_signing_out_ends_the_tokens_at_the_server_too_or_says_why_not(
    tmp_path: Path, url: str, authority: AuthorizationServer, revokes: bool, failing: int, why: str
) -> None:
    authority.revokes = revokes
    mine = account(tmp_path, url)
    await sign_in(mine, Browser())
    authority.failing = failing
    said = await sign_out(mine)
    assert said is not None
    assert re.search(why, said)
    assert not mine.signed_in
    assert bool(authority.tokens) is bool(said)
    assert await sign_out(mine) is None


async def test_tokens_of_another_address_are_not_sent(tmp_path: Path, url: str, authority: AuthorizationServer) -> None:
    async with connected(account(tmp_path, url), Browser()) as server:
        await call(server, "sign_in")
    async with connected(account(tmp_path, url.replace("127.0.0.1", "localhost"))) as server:
        assert server.status.state in ("signed_out", "down")


async def test_what_is_in_the_files_is_masked_from_then_on(tmp_path: Path) -> None:
    accounts = Accounts(FileAccounts(tmp_path / "mcp-tokens"))
    mask = Mask(["a fixed secret"], accounts)
    assert mask("access-1") == "access-1"
    one = accounts.personal("private", "web:ann", "http://a", ClientSettings())
    tokens = {"access_token": "access-1", "refresh_token": "refresh-1"}
    await one.write({"tokens": tokens, "client": {"client_id": "id"}})
    assert mask("access-1, refresh-1, id") == "[secret], [secret], id"
    await one.write({"tokens": {"access_token": "access-2"}})
    assert mask("access-1, access-2, a fixed secret") == "[secret], [secret], [secret]"
    assert await accounts.of_person("web:bob") == []
    assert [(found.key, found.url) for found in await accounts.of_person("web:ann")] == [
        (AccountKey("private", "web:ann"), "http://a")
    ]


@asynccontextmanager
async def personal(folder: Path, url: str, *, idle: float = 60.0, max_open: int = 9) -> AsyncIterator[PersonalServers]:
    accounts = Accounts(FileAccounts(folder / "mcp-tokens"))

    def make(who: str) -> McpServer:
        account = accounts.personal("private", who, url, ClientSettings())
        source = HttpSource(url, wires=("http",), account=account)
        known = tools_file(folder / "mcp-tokens", account.key)
        return McpServer(
            "private", source, timing=QUICKLY, known=known, open_link=Browser(who.partition(":")[2]), personal=True
        )

    async with PersonalServers("private", make, idle=idle, max_open=max_open) as servers:
        yield servers


async def test_each_person_has_their_own_account_and_tools_which_are_known_before_the_connection(
    tmp_path: Path, url: str
) -> None:
    async with personal(tmp_path, url) as servers:
        for who in ("web:ann", "web:bob"):
            await servers.prepare(who)
            assert await call(await servers.of(who), "sign_in")
        assert await call(await servers.of("web:ann"), "whoami") == "you are ann"
        assert await call(await servers.of("web:bob"), "whoami") == "you are bob"
        assert list(servers) == [], "nobody's turn"
        assert "private_whoami" in [tool.name for tool in ForPerson(servers, "web:ann")]
    async with personal(tmp_path, url) as servers:
        await servers.prepare("web:ann")
        server = await servers.of("web:ann")
        assert not server.is_started
        assert "private_whoami" in [tool.name for tool in ForPerson(servers, "web:ann")]
        assert list(ForPerson(servers, "web:bob")) == []
        assert await call(server, "whoami") == "you are ann"
        await servers.forget("web:ann")
        assert servers.people == ()


async def test_connections_of_people_are_bounded_and_closed_when_idle(tmp_path: Path, url: str) -> None:
    async with personal(tmp_path, url, max_open=2) as servers:
        for who in ("web:a", "web:b", "web:c"):
            await servers.of(who)
        assert servers.people == ("web:b", "web:c")
    async with personal(tmp_path, url, idle=0.05) as servers:
        await servers.of("web:a")
        async with asyncio.timeout(20):
            while servers.people:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.01)


async def test_an_account_is_not_used_for_what_other_people_have_written(tmp_path: Path, url: str) -> None:
    async with personal(tmp_path, url) as servers:
        server = await servers.of("web:ann")
        await server.settled()
        await call(server, "sign_in")
        (tool,) = (tool for tool in server if tool.name == "private_whoami")
        context = ToolContext(
            Path("unused"), MemoryMedia(), nothing, asked_by=HookContext(sender="Ann"), others_wrote=True
        )
        with pytest.raises(ToolError, match="the account of Ann, but other people have written"):
            await tool.call(context, "{}")


async def nothing(text: str) -> None:
    return None
