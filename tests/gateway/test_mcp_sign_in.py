"""Signing in at MCP servers through a whole gateway: links for one person, accounts per person, and what ends them."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent.log import Notice
from agent.mcp.errors import McpError
from channels.address import Address, Sender
from config.load import load
from gateway.cli.checks.mcp import check_servers
from gateway.cli.main import main
from gateway.inbound.access import AccessPolicy
from gateway.inbound.sign_ins import SignIns
from gateway.store import open_store
from tests.engines import engines
from tests.gateway.stage import gateway, write_settings
from tests.gateway.test_from_settings import KEY, Person, answering, asked, person, shown
from tests.gateway.test_kill import process
from tests.servers.local import free_port
from tests.servers.models import Call, ModelServer, Request, Say, Turn
from tests.servers.oauth import AuthorizationServer, grant
from tests.servers.telegram import BotApi, Chat
from tests.servers.telegram import Person as Member

ANN, BOB = Member(7, "Ann"), Member(8, "Bob")
LINK = re.compile(r"http://127\.0\.0\.1:\d+/oauth/start\?ticket=[\w-]+")


@pytest.fixture
async def models() -> AsyncIterator[ModelServer]:
    async with ModelServer(api_key=KEY) as server:
        yield server


@pytest.fixture
async def api() -> AsyncIterator[BotApi]:
    async with BotApi() as server:
        yield server


def settings_of(url: str, more: str = "") -> str:
    return f'[mcp.private]\nurl = "{url}"\n{more}'


class Browser:
    """Somebody's browser, with its cookies."""

    def __init__(self) -> None:
        self.client = httpx.AsyncClient(trust_env=False)

    async def opens(self, link: str) -> httpx.Response:
        return await self.client.get(link)

    async def goes_on(self, link: str) -> str:
        """Presses the button of the page; the address of the authorization server."""
        answer = await self.client.post(link)
        assert answer.status_code == 303, answer.text
        return answer.headers["Location"]

    async def signs_in(self, link: str, name: str) -> httpx.Response:
        """All the way; the last page."""
        return await self.client.get(await grant(await self.goes_on(link), name))


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    one = Browser()
    yield one
    await one.client.aclose()


async def link_of(ann: Person, number: int = 1) -> str:
    """The newest link in the web chat, once there are so many."""
    links: list[str] = []

    def has(replies: list[dict[str, Any]]) -> bool:
        links[:] = [link for reply in replies for link in LINK.findall(shown(reply))]
        return len(links) >= number

    await ann.sees(has)
    return links[-1]


def said(words: str, replies: list[dict[str, Any]]) -> bool:
    """In any reply: the messages with links come between those of turns."""
    return any(reply["done"] and words in shown(reply) for reply in replies)


async def waits_for_a_sign_in(ann: Person) -> None:
    while "nobody is signed in" not in await ann.asks("/status"):
        pass


async def test_a_call_sends_a_link_waits_and_goes_on_and_its_tokens_are_shown_to_nobody(
    tmp_path: Path, models: ModelServer, private: str, browser: Browser
) -> None:
    models.respond(
        answering(Call("private_sign_in", {}), [Call("private_whoami", {}), Call("private_show_token", {})], Say("Ok."))
    )
    async with person(tmp_path, models, settings_of(private)) as ann:
        await waits_for_a_sign_in(ann)
        await ann.say("who am I?")
        link = await link_of(ann)
        page = await browser.opens(link)
        assert "Go on only if you are that person" in page.text
        assert "Thank you" in (await browser.signs_in(link, "ann")).text
        await ann.sees(lambda replies: said("Ok.", replies))
        assert "signed in" in await ann.asks("/mcp")
        everything = str(await ann.replies())
    results = list(asked(models, "big")[-1].results.values())
    assert results[0].startswith("Signed in. The tools are: private_whoami")
    assert results[1:] == ["you are ann", "[secret]"]
    assert "access-" not in everything


async def test_an_interjection_ends_the_wait_for_a_sign_in(tmp_path: Path, models: ModelServer, private: str) -> None:
    models.respond(answering(Call("private_sign_in", {}), Say("As you wish.")))
    async with person(tmp_path, models, settings_of(private)) as ann:
        await waits_for_a_sign_in(ann)
        await ann.say("who am I?")
        link = await link_of(ann)
        await ann.say("never mind")
        await ann.sees(lambda replies: said("As you wish.", replies))
        async with httpx.AsyncClient(trust_env=False) as late:
            assert (await late.get(link)).status_code == 404


async def test_only_the_browser_that_went_on_comes_back_once_and_with_the_state(
    tmp_path: Path, models: ModelServer, private: str, browser: Browser
) -> None:
    async with person(tmp_path, models, settings_of(private)) as ann:
        await ann.asks("/mcp login private")
        link = await link_of(ann)
        page = await browser.goes_on(link)
        back = await grant(page, "ann")
        strange = [re.sub(r"state=[^&]+", f"state={state}", back) for state in ("another", "%C3%A9", "")]
        async with httpx.AsyncClient(trust_env=False) as stranger:
            assert (await stranger.get(back)).status_code == 404, "a stranger who knows everything but the cookie"
        assert [(await browser.client.get(each)).status_code for each in strange] == [404, 404, 404]
        assert (await browser.client.get(back)).status_code == 200
        assert (await browser.client.get(back)).status_code == 404, "a code is taken once"
        await ann.sees(lambda replies: said("You are signed in at", replies))


@pytest.mark.engines
@pytest.mark.parametrize("code", ["%00", "%ED%A0%80", "%FF", "x" * 30_000, "%F0%9F%94%91&iss=%00&code=2"], ids=len)
async def test_a_code_that_no_server_has_given_is_an_error_for_this_sign_in_only(
    tmp_path: Path, models: ModelServer, private: str, browser: Browser, code: str
) -> None:
    async with person(tmp_path, models, settings_of(private)) as ann:
        await ann.asks("/mcp login private")
        link = await link_of(ann)
        assert (await browser.opens(link + "%00")).status_code == 404
        back = await grant(await browser.goes_on(link), "ann")
        strange = re.sub(r"code=[^&]+", f"code={code}", back)
        for cookie in ("%00", "\u00e9", "x" * 9_000):
            async with httpx.AsyncClient(trust_env=False) as other:
                headers = [(b"Cookie", f"interject_sign_in={cookie}".encode("latin-1"))]
                assert (await other.get(strange, headers=headers)).status_code == 404
        assert (await browser.client.get(strange)).status_code == 200
        await ann.sees(lambda replies: said("signing in did not work", replies))
        await ann.asks("/mcp login private")
        assert (await browser.signs_in(await link_of(ann, 2), "ann")).status_code == 200
        await ann.sees(lambda replies: said("You are signed in at", replies))


async def test_a_refusal_is_told_and_a_newer_link_replaces_the_older(
    tmp_path: Path, models: ModelServer, private: str, browser: Browser
) -> None:
    async with person(tmp_path, models, settings_of(private)) as ann:
        await ann.asks("/mcp login private")
        first = await link_of(ann)
        await ann.asks("/mcp login private")
        second = await link_of(ann, 2)
        assert (await browser.opens(first)).status_code == 404
        assert "refused" in (await browser.signs_in(second, "")).text
        await ann.sees(lambda replies: said("refused (access denied)", replies))


async def test_a_link_of_before_a_restart_leads_nowhere_and_a_new_one_does(
    tmp_path: Path, models: ModelServer, private: str, browser: Browser
) -> None:
    port = free_port()
    more = settings_of(private)
    async with person(tmp_path, models, more, web=f'url = "http://127.0.0.1:{port}"\n') as ann:
        await ann.asks("/mcp login private")
        old = await link_of(ann)
    settings = (tmp_path / "interject.toml").read_text().replace("port = 0", f"port = {port}")
    (tmp_path / "interject.toml").write_text(settings)
    async with gateway(tmp_path / "interject.toml"):
        assert (await browser.opens(old)).status_code == 404


async def test_people_of_a_group_use_their_own_accounts_and_no_group_gets_a_link(
    tmp_path: Path, models: ModelServer, private: str, api: BotApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INTERJECT_HOME", str(tmp_path / "home"))
    models.respond(whoami)
    port = free_port()
    settings = telegram(tmp_path, api, models, private, port)
    async with gateway(settings):
        chats = {7: api.private(7, "Ann"), 8: api.private(8, "Bob")}
        team = api.group(people=(ANN, BOB))
        for member, name in ((ANN, "ann"), (BOB, "bob")):
            await team.say("@interject_test_bot who am I?", sender=member)
            await team.hear("Write /mcp login private to the bot directly")
            await sign_in(chats[member.id], "/mcp login private", name)
            await team.say("@interject_test_bot who am I?", sender=member)
            await team.hear(f"you are {name}")
        assert not any("oauth" in message.words for message in team.messages)
        await team.say("@interject_test_bot who am I?", sender=ANN)
        await team.hear("you are ann")

        tokens = tmp_path / "home" / "mcp-tokens"
        assert len(list(tokens.glob("*.json"))) == 2
        await chats[7].say("/forget all yes")
        await chats[7].hear("Deleted")
        assert len(list(tokens.glob("*.json"))) == 1
    await asyncio.to_thread(main, ["data", "delete", "--person", "telegram:8", "--yes", "--config", str(settings)])
    assert list(tokens.glob("*.json")) == []


async def test_prompts_of_a_persons_own_server_are_commands_for_that_person(
    tmp_path: Path, models: ModelServer, private: str, api: BotApi
) -> None:
    def answer(request: Request) -> Turn:
        if request.results:
            return Say(list(request.results.values())[-1])
        return Call("private_prompt", {"name": "digest", "arguments": {"of": "today"}})

    models.respond(answer)
    settings = telegram(tmp_path, api, models, private, free_port())
    async with gateway(settings):
        ann, bob = api.private(7, "Ann"), api.private(8, "Bob")
        await ann.say("/status")
        await ann.hear("MCP server private: per person; sign in with /mcp login private")
        await ann.say("/private_digest today")
        await ann.hear("no such prompt that is known for you")
        await sign_in(ann, "/mcp login private", "ann")
        await ann.say("/prompts")
        await ann.hear("/private_digest <of>")
        await ann.say("/private_digest today")
        await ann.hear("Sum up the mail of ann: today")
        await bob.say("/private_digest today")
        await bob.hear("no such prompt that is known for you")
    async with gateway(settings):
        # Known from the last time, before anybody has connected.
        await ann.say("/private_digest tomorrow")
        await ann.hear("Sum up the mail of ann")
        await ann.say("/status")
        assert "per person" not in (await ann.hear("No task is running")).words
    assert not any("digest" in command["command"] for commands in api.commands.values() for command in commands)


async def test_the_command_line_names_servers_per_person(
    tmp_path: Path, private: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INTERJECT_HOME", str(tmp_path / "home"))
    (tmp_path / "interject.toml").write_text(settings_of(private, "per_person = true\n"))
    given = ["--config", str(tmp_path / "interject.toml")]
    assert await asyncio.to_thread(main, ["tools", *given]) == 0
    said = "MCP server private: per person; sign in with /mcp login private"
    assert f"off: private_*: {said}" in capsys.readouterr().out
    assert await asyncio.to_thread(main, ["tools", "try", "private_whoami", "{}", *given]) == 1
    assert said in capsys.readouterr().err
    (check,) = await check_servers(load(tmp_path / "interject.toml", {}, tmp_path / "home"))
    assert str(check).endswith(said)


async def sign_in(chat: Chat, words: str, name: str) -> None:
    await chat.say(words)
    link = LINK.search((await chat.hear(LINK)).words)
    assert link is not None
    browser = Browser()
    assert (await browser.signs_in(link[0], name)).status_code == 200
    await browser.client.aclose()
    await chat.hear("You are signed in")


@pytest.mark.parametrize(
    ("agent", "access", "is_needed"),
    [
        ("", 'allow = ["*"]', True),
        ('tools = ["private_*"]', 'allow = ["*"]', True),
        ('mcp = ["docs"]\ntools = ["*"]', 'allow = ["*"]', False),
        ('tools = ["read_file", "list_*"]', 'allow = ["*"]', False),
        ("", 'guests = ["*"]', False),
        ("", 'guests = ["*"]\n[roles.guest]\ntools = ["read_*"]', False),
        ("", 'guests = ["*"]\n[roles.guest]\ntools = ["priv*"]', True),
        ('mcp = []\ndelegates = ["reader"]', 'allow = ["*"]\n[agents.reader]\nmcp = ["private"]', True),
    ],
)
async def test_a_persons_server_is_connected_only_for_turns_that_may_have_its_tools(
    tmp_path: Path, models: ModelServer, api: BotApi, agent: str, access: str, is_needed: bool
) -> None:
    connections = 0

    async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"
        more = settings_of(url, "per_person = true\n") + '[mcp.docs]\ncommand = ["false"]\nsandbox = "none"\n'
        settings = write_settings(tmp_path, api, models, more=more)
        text = settings.read_text().replace('allow = ["*"]', access).replace('"test-key"', f'"{KEY}"')
        settings.write_text(text.replace("[agent]", f"[agent]\n{agent}", 1))
        models.respond(lambda _: Say("Hello."))
        async with gateway(settings):
            gus = api.private(9, "Gus")
            await gus.say("hi")
            await gus.hear("Hello.")
    assert bool(connections) is is_needed


def whoami(request: Request) -> Turn:
    """Asks who the person is, with what there is, and says what came of it."""
    said = [message for message in request.messages if message.role in ("user", "tool")]
    if said[-1].role == "tool":
        return Say(list(request.results.values())[-1])
    return Call("private_whoami" if "private_whoami" in request.tools else "private_sign_in", {})


def telegram(folder: Path, api: BotApi, models: ModelServer, private: str, port: int) -> Path:
    more = settings_of(private, "per_person = true\n")
    settings = write_settings(folder, api, models, more=more)
    text = settings.read_text().replace("port = 0", f'port = {port}\nurl = "http://127.0.0.1:{port}"')
    settings.write_text(text.replace('"test-key"', f'"{KEY}"'))
    return settings


async def test_without_an_address_for_people_elsewhere_they_sign_in_with_a_code(
    tmp_path: Path, models: ModelServer, private: str, api: BotApi, authority: AuthorizationServer
) -> None:
    authority.devices = authority.revokes = True
    models.respond(whoami)
    settings = telegram(tmp_path, api, models, private, 0)
    settings.write_text(settings.read_text().replace('url = "http://127.0.0.1:0"\n', ""))
    async with gateway(settings):
        ann = api.private(7, "Ann")
        await ann.say("/mcp login private")
        code = re.search(r"the code (\w+-\w+)", (await ann.hear("the code")).words)
        assert code is not None
        authority.enter(code[1], "ann")
        await ann.hear("You are signed in")
        await ann.say("who am I?")
        await ann.hear("you are ann")
        await ann.say("/mcp logout private")
        await ann.hear("the access there is ended")
    assert authority.tokens == {}


async def test_without_an_address_for_people_elsewhere_they_are_told_so(
    tmp_path: Path, models: ModelServer, private: str, api: BotApi
) -> None:
    settings = telegram(tmp_path, api, models, private, 0)
    settings.write_text(settings.read_text().replace('url = "http://127.0.0.1:0"\n', ""))
    async with gateway(settings):
        ann = api.private(7, "Ann")
        await ann.say("/mcp login private")
        await ann.hear("[web] url")


@pytest.mark.crash
async def test_who_was_signed_in_when_the_process_was_killed_still_is(
    tmp_path: Path, models: ModelServer, private: str, api: BotApi, authority: AuthorizationServer
) -> None:
    models.respond(whoami)
    settings = telegram(tmp_path, api, models, private, free_port())
    ann = api.private(7, "Ann")
    async with process(settings) as running:
        await sign_in(ann, "/mcp login private", "ann")
        running.send_signal(signal.SIGKILL)
        await running.wait()
    authority.expire()
    async with process(settings):
        await ann.say("who am I?")
        await ann.hear("you are ann")
    assert authority.refreshed == 1


async def test_the_command_line_signs_in_and_out_for_everybody(
    tmp_path: Path, private: str, monkeypatch: pytest.MonkeyPatch, browser: Browser
) -> None:
    monkeypatch.setenv("INTERJECT_HOME", str(tmp_path / "home"))
    settings = tmp_path / "interject.toml"
    settings.write_text(settings_of(private) + f'[mcp.mine]\nurl = "{private}"\nper_person = true\n')

    async def interject(*arguments: str) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        command = [sys.executable, "-m", "interject", "mcp", *arguments, "--config", str(settings)]
        return await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)

    async def told(*arguments: str) -> str:
        out, problem = await (await interject(*arguments)).communicate()
        return (out + problem).decode()

    running = await interject("login", "private")
    assert running.stdout is not None
    shown_url = ""
    while "http" not in shown_url:
        shown_url = (await running.stdout.readline()).decode()
    back = await grant(shown_url.strip(), "ann")
    assert (await browser.client.get(re.sub(r"state=[^&]+", "state=another", back))).status_code == 404
    assert (await browser.client.get(back)).status_code == 200
    out, _ = await running.communicate()
    assert b"Signed in at private" in out
    assert running.returncode == 0
    listed, refused, gone = await asyncio.gather(told("list"), told("login", "mine"), told("login", "absent"))
    assert f"private: {private} (signed in)" in listed
    assert "mine: " in listed
    assert "each person signs in for themselves" in refused
    assert "no MCP server 'absent'" in gone
    assert "Signed out of private" in await told("logout", "private")
    assert list((tmp_path / "home" / "mcp-tokens").iterdir()) == []


@pytest.mark.parametrize("pastes", [True, False])
async def test_the_command_line_takes_the_address_at_which_a_browser_elsewhere_ends(
    tmp_path: Path, private: str, monkeypatch: pytest.MonkeyPatch, pastes: bool
) -> None:
    monkeypatch.setenv("INTERJECT_HOME", str(tmp_path / "home"))
    settings = tmp_path / "interject.toml"
    settings.write_text(settings_of(private))
    pipe = asyncio.subprocess.PIPE
    command = [sys.executable, "-m", "interject", "mcp", "login", "private", "--code", "--config", str(settings)]
    running = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
    assert running.stdout is not None
    shown_url = ""
    while not shown_url.strip().startswith("http"):
        shown_url = (await running.stdout.readline()).decode()
    back = await grant(shown_url.strip(), "ann")
    wrong = re.sub(r"state=[^&]+", "state=another", back)
    out, problem = await running.communicate(f"{wrong}\n\n{back if pastes else ''}\n".encode())
    assert problem.decode().count("This is not the address") == 1
    if pastes:
        assert b"Signed in at private" in out
    else:
        assert b"no address was pasted" in problem
    assert running.returncode == (0 if pastes else 1)
    assert len(list((tmp_path / "home" / "mcp-tokens").glob("*"))) == pastes


class Nowhere:
    """Sends nothing."""

    async def send(self, session: str, address: Address, reply_to: str | None, notice: Notice, key: str) -> None:
        return None


@pytest.mark.engines
async def test_a_link_that_has_expired_leads_nowhere_and_says_so(tmp_path: Path) -> None:
    async with open_store(engines.url(tmp_path / "interject.db")) as store:
        links = SignIns(store, AccessPolicy({}), "http://127.0.0.1", link_time=0.5)
        links.tell = Nowhere()
        link = await links.link("private", Address("web", "", "me"), Sender("me", "Ann"), None, personal=True)
        await link.show("https://a.example/authorize?state=a-state")
        browser = await links.begin(link.ticket, "")
        assert browser
        with pytest.raises(McpError, match="nobody has signed in"):
            await link.returned()
        assert await links.find(link.ticket) is None
        assert await links.begin(link.ticket, browser) is None
        assert not await links.come_back({"state": "a-state", "code": "a-code"}, browser)
