"""Accounts at MCP servers, and the token of the web chat's owner: what happens at one worker holds on all."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import traceback
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit
from zipfile import ZipFile

import pytest

from agent.masking import Mask
from agent.mcp.account import Account, AccountKey, Accounts, ClientSettings, person_hash
from agent.mcp.account_files import FileAccounts
from agent.mcp.errors import McpError
from agent.mcp.sign_in import sign_in, sign_out
from agent.tool import ToolError
from config.load import load
from gateway.cli.web_token import current_token
from gateway.store import Store, open_store
from gateway.store.backup import back_up
from gateway.store.copying import copy_store
from gateway.store.errors import StoreError
from gateway.store.offline import OfflineAccounts
from gateway.turns.mcp_accounts import StoredAccounts
from tests.agent.test_mcp_oauth import Browser, call, connected
from tests.cluster.sites import Site, two_sites
from tests.engines import engines
from tests.gateway.stage import write_settings
from tests.gateway.test_from_settings import KEY, Person, shown
from tests.gateway.test_mcp_sign_in import settings_of, whoami
from tests.servers.models import ModelServer
from tests.servers.oauth import AuthorizationServer, grant
from tests.servers.telegram import BotApi, Chat

pytestmark = pytest.mark.engines("postgresql")

PUBLIC = "https://chat.example.com"
LINK = re.compile(rf"{re.escape(PUBLIC)}/oauth/start\?ticket=[\w-]+")
HERE = {"Host": "chat.example.com"}
"""As behind a load balancer."""

ANN = AccountKey("private", "web:ann")
BOB = AccountKey("private", "web:bob")


@pytest.fixture
async def models() -> AsyncIterator[ModelServer]:
    async with ModelServer(api_key=KEY) as server:
        yield server


def behind_a_load_balancer(folder: Path, api: BotApi, models: ModelServer, more: str) -> Path:
    settings = write_settings(folder, api, models, more=more)
    text = settings.read_text().replace("port = 0", f'port = 0\nurl = "{PUBLIC}"')
    settings.write_text(
        text.replace('"test-key"', f'"{KEY}"').replace('allow = ["*"]', 'allow = ["*"]\nadmins = ["7"]')
    )
    return settings


async def signs_in(link: str, name: str, started: Site, went_on: Site, came_back: Site) -> list[int]:
    """A browser whose requests arrive at these workers; the status of each answer, and of the last one once more."""
    path = link.removeprefix(PUBLIC)
    async with AsyncExitStack() as stack:
        one, other, last = [await stack.enter_async_context(site.client()) for site in (started, went_on, came_back)]
        opened = await one.get(path, headers=HERE)
        gone_on = await other.post(path, headers=HERE)
        assert gone_on.status_code == 303, gone_on.text
        cookie = gone_on.headers["Set-Cookie"].partition(";")[0]
        back = urlsplit(await grant(gone_on.headers["Location"], name))
        back_path = f"{back.path}?{back.query}"
        stranger = await last.get(back_path, headers=HERE)
        returned = await last.get(back_path, headers={**HERE, "Cookie": cookie})
        again = await one.get(back_path, headers={**HERE, "Cookie": cookie})
    return [each.status_code for each in (opened, stranger, returned, again)]


async def link_in(chat: Chat, words: str) -> str:
    await chat.say(words)
    found = LINK.search((await chat.hear(LINK)).words)
    assert found is not None
    return found[0]


@asynccontextmanager
async def people(sites: Sequence[Site]) -> AsyncIterator[list[Person]]:
    """The owner at each worker."""
    async with AsyncExitStack() as stack:
        yield [Person(await stack.enter_async_context(site.client(site.token))) for site in sites]


async def answers(owner: Person, text: str) -> str:
    """The whole reply to what the owner says there."""
    before = len(await owner.replies())
    await owner.say(text)
    await owner.sees(lambda replies: len(replies) > before and all(reply["done"] for reply in replies))
    return "\n".join(map(shown, (await owner.replies())[before:]))


async def is_answered(owner: Person, text: str, words: str) -> None:
    """Asks until the answer has the words: a task that begins in the moment of a sign-in has the tools of before."""
    while words not in await answers(owner, text):  # noqa: ASYNC110 - a gateway is asked
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("at", [0, 1])
async def test_a_link_that_is_opened_at_any_workers_signs_in_all(
    tmp_path: Path, api: BotApi, models: ModelServer, private: str, at: int
) -> None:
    models.respond(whoami)
    settings = behind_a_load_balancer(tmp_path, api, models, settings_of(private))
    async with asyncio.timeout(120), two_sites(settings) as sites, people(sites) as owners:
        ann = api.private(7, "Ann")
        old = await link_in(ann, "/mcp login private")
        link = await link_in(ann, "/mcp login private")
        async with sites[at].client() as client:
            assert (await client.get(old.removeprefix(PUBLIC), headers=HERE)).status_code == 404, "a newer one counts"
        assert await signs_in(link, "ann", sites[1 - at], sites[at], sites[at]) == [200, 404, 200, 404]
        await ann.hear("You are signed in")
        for owner in owners:
            await is_answered(owner, "who am I?", "you are ann")
        await ann.say("/mcp logout private")
        await ann.hear("Signed out of")
        for owner in owners:
            await owner.say("/stop")
            assert "signed in" not in (await owner.asks("/mcp")).replace("nobody is signed in", "")


async def test_who_enters_a_code_on_another_device_is_signed_in_at_all_workers(
    tmp_path: Path, api: BotApi, models: ModelServer, private: str, authority: AuthorizationServer
) -> None:
    models.respond(whoami)
    authority.devices = authority.revokes = True
    settings = behind_a_load_balancer(tmp_path, api, models, settings_of(private))
    settings.write_text(settings.read_text().replace(f'url = "{PUBLIC}"', ""))
    database = tmp_path / "interject.db"
    async with asyncio.timeout(120), two_sites(settings) as sites, people(sites) as owners:
        ann = api.private(7, "Ann")
        old = await code_in(ann, "/mcp login private")
        newest = await code_in(ann, "/mcp login private")
        await ann.hear("a newer link was sent")
        authority.enter(old, "bob")
        authority.enter(newest, "ann")
        await ann.hear("You are signed in")
        for owner in owners:
            await is_answered(owner, "who am I?", "you are ann")
        assert engines.sql(database, "SELECT count(*) FROM mcp_accounts") == [(1,)]
        assert engines.sql(database, "SELECT count(*) FROM mcp_sign_ins") == [(0,)], "nothing waits any more"
        authority.expire()
        both = await asyncio.gather(*(_whoami(site, number) for number, site in enumerate(sites)))
        assert ["you are ann" in each for each in both] == [True, True]
        assert authority.refreshed == 1
        await ann.say("/mcp logout private")
        await ann.hear("the access there is ended")
    assert engines.sql(database, "SELECT * FROM mcp_accounts") == []
    assert not any((tmp_path / home / "mcp-tokens").exists() for home in "ab")


async def code_in(chat: Chat, words: str) -> str:
    """The code that the next message has."""
    count = len(chat.texts)
    await chat.say(words)
    await chat.until(lambda chat: any("the code" in text for text in chat.texts[count:]))
    found = next(re.search(r"the code (\w+-\w+)", text) for text in chat.texts[count:] if "the code" in text)
    assert found is not None
    return found[1]


async def test_who_signs_in_on_the_command_line_signs_in_all_workers(
    tmp_path: Path, api: BotApi, models: ModelServer, private: str, authority: AuthorizationServer
) -> None:
    models.respond(whoami)
    settings = behind_a_load_balancer(tmp_path, api, models, settings_of(private))
    environ = {
        **os.environ,
        "INTERJECT_STORE__URL": engines.url(tmp_path / "interject.db"),
        "INTERJECT_HOME": str(tmp_path / "c"),
    }

    async def interject(*arguments: str) -> asyncio.subprocess.Process:
        command = (sys.executable, "-m", "interject", "mcp", *arguments, "--config", str(settings))
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe, env=environ)

    async with asyncio.timeout(180), two_sites(settings) as sites, people(sites) as owners:
        running = await interject("login", "private", "--code")
        assert running.stdout is not None
        url = ""
        while not url.strip().startswith("http"):
            url = (await running.stdout.readline()).decode()
        out, problem = await running.communicate(f"{await grant(url.strip(), 'ann')}\n".encode())
        assert b"Signed in at private" in out, problem
        for owner in owners:
            await is_answered(owner, "who am I?", "you are ann")
        listed, _ = await (await interject("list")).communicate()
        assert b"(signed in)" in listed
        # Both find at the same time that the token is of no use any more.
        authority.expire()
        both = await asyncio.gather(*(_whoami(site, number) for number, site in enumerate(sites)))
        assert ["you are ann" in each for each in both] == [True, True]
        assert authority.refreshed == 1
        out, _ = await (await interject("logout", "private")).communicate()
        assert b"Signed out of private" in out
    assert not (tmp_path / "c" / "mcp-tokens").exists()
    assert engines.sql(tmp_path / "interject.db", "SELECT * FROM mcp_accounts") == []


async def _whoami(site: Site, number: int) -> str:
    """The answer in a conversation of this worker alone."""
    async with site.client(site.token) as client:
        path = f"/api/v1/conversations/web:local:own{number}/messages"
        sent = (
            (await client.post(path, json={"client_id": f"whoami-{number}", "text": "who am I?"}))
            .raise_for_status()
            .json()
        )
        run = await client.get(f"/api/v1/runs/{sent['run']}", params={"wait": 60, "until": "end"})
        return str(run.json()["text"])


async def test_what_a_person_is_deleted_with_goes_from_all_workers(
    tmp_path: Path, api: BotApi, models: ModelServer, private: str, authority: AuthorizationServer
) -> None:
    models.respond(whoami)
    authority.revokes = True
    settings = behind_a_load_balancer(tmp_path, api, models, settings_of(private, "per_person = true\n"))
    async with asyncio.timeout(120), two_sites(settings) as sites:
        ann = api.private(7, "Ann")
        link = await link_in(ann, "/mcp login private")
        assert await signs_in(link, "ann", *sites, sites[0]) == [200, 404, 200, 404]
        await ann.hear("You are signed in")
        await ann.say("who am I?")
        await ann.hear("you are ann")
        assert len(engines.sql(tmp_path / "interject.db", "SELECT * FROM mcp_accounts")) == 1
        await ann.say("/forget all yes")
        await ann.hear("Deleted")
        assert engines.sql(tmp_path / "interject.db", "SELECT * FROM mcp_accounts") == []
        while await asyncio.to_thread(lambda: list(tmp_path.glob("*/mcp-tokens/*"))):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert authority.tokens == {}


# One account of two stores, as two workers have it


@asynccontextmanager
async def two_workers(file: Path) -> AsyncIterator[tuple[Accounts, Accounts]]:
    url = engines.url(file)
    async with open_store(url, worker="a") as one, open_store(url, worker="b") as other:
        yield _accounts(one, file), _accounts(other, file)


def _accounts(store: Store, file: Path) -> Accounts:
    return Accounts(StoredAccounts(store, file.parent / store.worker))


def _private(accounts: Accounts, url: str) -> Account:
    return accounts.shared("private", url, ClientSettings())


async def test_workers_that_use_a_token_at_the_same_time_refresh_it_once(
    tmp_path: Path, private: str, authority: AuthorizationServer
) -> None:
    rounds = 5
    async with asyncio.timeout(60), two_workers(tmp_path / "interject.db") as both:
        one, other = (_private(each, private) for each in both)
        await sign_in(one, Browser())
        async with connected(one) as here, connected(other) as there:
            for number in range(rounds):
                authority.expire()
                asked = [call(server, "whoami") for server in (here, there) * 3]
                assert await asyncio.gather(*asked) == ["you are ann"] * 6
                assert authority.refreshed == number + 1


async def test_a_token_that_ends_while_another_worker_refreshes_it_is_not_lost(
    tmp_path: Path, private: str, authority: AuthorizationServer
) -> None:
    """The tokens of a server that gives such short ones are all the time refreshed by somebody."""
    authority.lifetime = 0
    async with asyncio.timeout(60), two_workers(tmp_path / "interject.db") as both:
        one, other = (_private(each, private) for each in both)
        await sign_in(one, Browser())
        before = (await one.read() or pytest.fail("nobody is signed in")).content
        authority.lifetime = 3600
        async with connected(one) as here, connected(other) as there:
            assert list(await asyncio.gather(call(here, "whoami"), call(there, "whoami"))) == ["you are ann"] * 2
        kept = await other.read()
        assert kept is not None
        assert kept.content["tokens"] != before["tokens"]
        assert kept.content["sign_in"] == before["sign_in"]


async def test_who_has_signed_out_at_one_worker_is_signed_out_at_the_other(tmp_path: Path, private: str) -> None:
    async with asyncio.timeout(60), two_workers(tmp_path / "interject.db") as both:
        one, other = (_private(each, private) for each in both)
        await sign_in(one, Browser())
        async with connected(other) as there:
            assert await call(there, "whoami") == "you are ann"
            # The token is valid still: the authorization server offers no way to end it.
            assert await sign_out(one)
            with pytest.raises(ToolError, match="nobody is signed in"):
                await call(there, "whoami")
            assert not other.signed_in
            await sign_in(one, Browser("bob"))
            await there.follow_account()
            await there.settled()
            assert await call(there, "whoami") == "you are bob"


async def test_an_account_is_refreshed_again_when_whoever_did_so_has_died(tmp_path: Path) -> None:
    url = engines.url(tmp_path / "interject.db")
    async with asyncio.timeout(60), open_store(url, worker="a") as one, open_store(url, worker="b") as other:
        await one.write_mcp_account("private", "", {"url": "http://a"}, None)
        assert await one.claim_mcp_account("private", "", "dead", 0.5)
        assert not await other.claim_mcp_account("private", "", "alive", 30.0)
        async with _accounts(other, tmp_path / "interject.db").store.alone(AccountKey("private")):
            assert not await one.claim_mcp_account("private", "", "dead", 0.5)
        assert await one.claim_mcp_account("private", "", "dead", 0.5)


async def test_a_refresh_does_not_undo_a_sign_in_or_a_sign_out(tmp_path: Path) -> None:
    async with two_workers(tmp_path / "interject.db") as (one, other):
        await one.store.write(ANN, {"tokens": {"access_token": "of-the-first"}})
        before = await other.store.read(ANN)
        assert before is not None
        await one.store.write(ANN, {"tokens": {"access_token": "of-a-newer-sign-in"}})
        assert not await other.store.write(ANN, {"tokens": {}}, over=before.version)
        newer = await other.store.read(ANN)
        assert newer is not None
        assert newer.content["tokens"]["access_token"] == "of-a-newer-sign-in"
        await one.store.forget(ANN)
        assert not await other.store.write(ANN, {"tokens": {}}, over=newer.version)
        assert await other.store.read(ANN) is None


async def test_who_signs_out_while_another_worker_refreshes_the_token_stays_signed_out(
    tmp_path: Path, private: str, authority: AuthorizationServer
) -> None:
    authority.lifetime = 0
    async with asyncio.timeout(60), two_workers(tmp_path / "interject.db") as both:
        one, other = (_private(each, private) for each in both)
        await sign_in(one, Browser())
        authority.lifetime, authority.before_refreshed = 3600, other.forget
        async with connected(one) as here:
            await asyncio.wait([asyncio.ensure_future(call(here, "whoami"))])
            assert authority.refreshed == 1
            assert await one.read() is None, "new tokens are not kept for nobody"


async def test_tokens_that_another_worker_has_written_are_masked(tmp_path: Path) -> None:
    async with two_workers(tmp_path / "interject.db") as (one, other):
        mask = Mask((), other)
        await one.store.write(ANN, {"tokens": {"access_token": "access-first", "refresh_token": "refresh-first"}})
        await other.store.look()
        assert mask("access-first, refresh-first") == "[secret], [secret]"
        await one.store.write(ANN, {"tokens": {"access_token": "access-second"}})
        await other.store.look()
        assert mask("access-first, access-second") == "[secret], [secret]"


async def test_a_worker_that_looks_knows_no_account_of_who_has_signed_out_elsewhere(
    tmp_path: Path,
) -> None:
    async with two_workers(tmp_path / "interject.db") as (one, other):
        for key in (ANN, BOB):
            await one.store.write(key, {"tokens": {"access_token": f"access-{key.person}"}})
        assert await other.store.look() == ()
        assert other.store.holds(ANN)
        await one.store.forget(ANN)
        assert await other.store.look() == (f"{ANN.server}.{person_hash(ANN.person)}",)
        assert (other.store.holds(ANN), other.store.holds(BOB)) == (False, True)
        assert other.store.secrets() == {f"access-{BOB.person}"}
        assert await other.store.look() == (), "told once"


async def test_a_token_that_cannot_be_stored_is_in_no_error(tmp_path: Path) -> None:
    file, token = tmp_path / "interject.db", "access-" + "first"
    async with open_store(engines.url(file), worker="a") as store:
        for table in ("mcp_accounts", "shared_secrets"):
            engines.refuse(file, table)
        with pytest.raises(McpError, match="cannot be stored") as account:
            await _accounts(store, file).store.write(ANN, {"access_token": token})
        with pytest.raises(StoreError, match="no room") as secret:
            await store.find_or_add_secret("web-token", token)
    for failed in (account.value, secret.value):
        assert token not in "".join(traceback.format_exception(failed))


async def test_a_file_of_before_the_shared_database_is_taken_over(
    tmp_path: Path, api: BotApi, models: ModelServer, private: str
) -> None:
    models.respond(whoami)
    files = Accounts(FileAccounts(tmp_path / "b" / "mcp-tokens"))
    await sign_in(_private(files, private), Browser())
    settings = behind_a_load_balancer(tmp_path, api, models, settings_of(private))
    async with asyncio.timeout(120), two_sites(settings) as sites, people(sites) as owners:
        for owner in owners:
            await is_answered(owner, "who am I?", "you are ann")
    assert list((tmp_path / "b" / "mcp-tokens").glob("*.json")) == []


async def test_a_command_finds_nobody_signed_in_before_the_first_start(tmp_path: Path) -> None:
    url = engines.server().create()
    try:
        rows = OfflineAccounts(url)
        assert await rows.mcp_account("private", "") is None
        assert await rows.count_mcp_accounts("private") == 0
        with pytest.raises(StoreError, match="start the gateway once"):
            await rows.write_mcp_account("private", "", {}, None)
    finally:
        engines.server().drop(url)


async def test_backups_and_copies_have_no_tokens(tmp_path: Path) -> None:
    url = engines.url(tmp_path / "interject.db")
    async with open_store(url, worker="a") as store:
        await store.write_mcp_account("private", "", {"tokens": {"access_token": "a-token-of-nobody-else"}}, None)
        await store.find_or_add_secret("web-token", "a-token-of-the-owner")
        await asyncio.to_thread(back_up, url, None, tmp_path / "backup.zip")
    await asyncio.to_thread(copy_store, url, f"sqlite:///{tmp_path / 'copy.db'}", lambda progress: None)
    with ZipFile(tmp_path / "backup.zip") as archive:
        texts = [archive.read(name) for name in archive.namelist()]
    copied = [file.read_bytes() for file in await asyncio.to_thread(lambda: list(tmp_path.glob("copy.db*")))]
    assert copied
    for text in (*texts, *copied):
        assert b"a-token-of" not in text


# The owner's token


async def test_the_owner_has_one_token_on_all_workers_and_a_new_one_reaches_all(
    tmp_path: Path, api: BotApi, models: ModelServer
) -> None:
    settings = write_settings(tmp_path, api, models)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "web-token").write_text("a-token-of-earlier-times")
    environ = {
        **os.environ,
        "INTERJECT_STORE__URL": engines.url(tmp_path / "interject.db"),
        "INTERJECT_HOME": str(tmp_path / "c"),
    }
    async with asyncio.timeout(120), two_sites(settings) as sites:
        assert sites[0].token == sites[1].token
        for site in sites:
            await _until_answered(site, sites[0].token, 200)
        command = (sys.executable, "-m", "interject", "web-token", "rotate", "--config", str(settings))
        pipe = asyncio.subprocess.PIPE
        rotating = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, env=environ)
        out, problem = await rotating.communicate()
        assert b"new token" in out, problem
        ((new,),) = engines.sql(tmp_path / "interject.db", "SELECT value FROM shared_secrets")
        assert new != sites[0].token
        assert new not in out.decode()
        configuration = load(settings, environ, tmp_path / "c")
        assert await asyncio.to_thread(current_token, configuration) == new, "what `web-token show` prints"
        for site in sites:
            await _until_answered(site, sites[0].token, 401)
            await _until_answered(site, new, 200)


async def _until_answered(site: Site, token: str, status: int) -> None:
    async with site.client(token) as client:
        while (await client.get("/api/v1/conversations")).status_code != status:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_the_token_of_a_worker_that_was_alone_stays_valid(
    tmp_path: Path, api: BotApi, models: ModelServer
) -> None:
    settings = write_settings(tmp_path, api, models)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "web-token").write_text("a-token-of-earlier-times")
    async with asyncio.timeout(60), two_sites(settings) as sites:
        assert [site.token for site in sites] == ["a-token-of-earlier-times"] * 2
