"""People of a chat platform sign in to the web server with a link from the bot."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Table, select, update

from channels.address import Sender
from gateway.store.records import DeletionRequest
from gateway.store.schema import login_links, web_sessions
from tests.api.conftest import Api, control_api
from tests.servers.discord import Discord
from tests.servers.models import ModelServer, Say
from tests.servers.slack import Person, Slack
from tests.servers.telegram import BotApi, Chat

ACCESS = 'admins = ["1"]\nmembers = ["7"]\nguests = ["8"]\npair = true'
WEB = "url = 'http://chat.example.com'"
MENTION = "@interject_test_bot"


@asynccontextmanager
async def site(folder: Path, api: BotApi, models: ModelServer) -> AsyncIterator[Api]:
    models.respond(lambda _: Say("Hello."))
    async with control_api(folder, api, models, access=ACCESS, web=WEB) as control:
        yield control


async def link(chat: Chat) -> str:
    """The code of the link that the bot sends there."""
    await chat.say("/login")
    shown = await chat.hear("/sign-in#")
    found = re.search(r"http://chat\.example\.com/sign-in#([\w-]+)", shown.text)
    assert found is not None
    return found[1]


@asynccontextmanager
async def browser(control: Api, code: str) -> AsyncIterator[httpx.AsyncClient]:
    """A browser in which the link was used."""
    async with httpx.AsyncClient(base_url=control.url, trust_env=False, timeout=60) as client:
        answer = await client.post("/sign-in", json={"code": code})
        assert answer.status_code == 200, answer.text
        yield client


async def test_a_link_works_once_and_for_the_role_of_its_person(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    async with site(tmp_path, api, models) as control:
        admin, member, guest = api.private(1, "Root"), api.private(7, "Ann"), api.private(8, "Bob")
        for chat in (member, guest):
            await chat.say("hi")
            await chat.hear("Hello.")
        scopes = {}
        for chat in (admin, member, guest):
            code = await link(chat)
            async with browser(control, code) as client:
                session = (await client.get("/api/v1/session")).json()
                seen = (await client.get("/api/v1/conversations")).json()["conversations"]
                again = await client.post("/sign-in", json={"code": code})
                await chat.hear("A browser is signed in for you now.")
            assert (again.status_code, again.json()["code"]) == (401, "link_invalid")
            scopes[session["name"]] = session["scope"], len(seen)
        (first, *_) = (await control.client.get("/audit?event=signed_in")).json()["events"]
    assert scopes == {"Root": ("operate", 2), "Ann": ("chat", 1), "Bob": ("read", 1)}
    assert (first["actor"], first["name"]) == ("telegram:8", "Bob")


async def test_an_admin_of_a_channel_manages_its_people_and_makes_no_keys(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    async with site(tmp_path, api, models) as control:
        eve = api.private(66, "Eve")
        await eve.say("let me in")
        await eve.hear("/pair")
        async with browser(control, await link(api.private(1, "Root"))) as client:
            (request,) = (await client.get("/api/v1/people")).json()["requests"]
            paired = await client.post("/api/v1/people/pair", json={"code": request["code"]})
            statuses = {
                path: (await client.get(f"/api/v1{path}")).status_code
                for path in ("/now", "/channels", "/usage?by=person", "/audit", "/settings", "/logs", "/keys")
            }
        (event,) = (await control.client.get("/audit?event=admitted")).json()["events"]
    assert paired.json()["id"] == "66"
    assert event["actor"] == "telegram:1"
    assert statuses == {
        "/now": 200,
        "/channels": 200,
        "/usage?by=person": 200,
        "/audit": 200,
        "/settings": 403,
        "/logs": 403,
        "/keys": 403,
    }


@pytest.mark.parametrize("how", ["revoked", "signed out", "ended in the chat"])
async def test_a_session_ends(tmp_path: Path, models: ModelServer, api: BotApi, how: str) -> None:
    async with site(tmp_path, api, models) as control:
        eve = api.private(66, "Eve")
        await eve.say("let me in")
        await eve.hear("/pair")
        (request,) = (await control.client.get("/people")).json()["requests"]
        await control.client.post("/people/pair", json={"code": request["code"]})
        async with browser(control, await link(eve)) as client:
            cookies = dict(client.cookies)
            assert (await client.get("/api/v1/session")).status_code == 200
            match how:
                case "revoked":
                    await control.client.post("/people/revoke", json={"channel": "telegram", "id": "66"})
                case "signed out":
                    assert (await client.delete("/sign-in")).status_code == 204
                case _:
                    await eve.say("/login end")
                    await eve.hear("1 browser is signed out.")
            client.cookies.update(cookies)
            assert (await client.get("/api/v1/session")).status_code == 401


async def expire(control: Api, table: Table) -> None:
    """Its rows have expired a second ago."""
    past = datetime.now(UTC) - timedelta(seconds=1)
    await control.built.gateway.store.write(
        lambda connection: connection.execute(update(table).values(expires_at=past))
    )


async def test_links_and_sessions_expire(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    ann = api.private(7, "Ann")
    async with site(tmp_path, api, models) as control:
        store, code = control.built.gateway.store, await link(ann)
        await expire(control, login_links)
        session = await store.read(lambda connection: connection.execute(select(login_links.c.session)).scalar_one())
        late = await control.client.post(f"{control.url}/sign-in", json={"code": code})
        assert (late.status_code, late.json()["code"]) == (401, "link_invalid")
        code = await store.create_login_link(session, "telegram", Sender("7", "Ann"))
        async with browser(control, code) as client:
            assert (await client.get("/api/v1/session")).status_code == 200
            await expire(control, web_sessions)
            assert (await client.get("/api/v1/session")).status_code == 401


async def test_a_link_of_somebody_whose_access_was_revoked_signs_nobody_in(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    async with site(tmp_path, api, models) as control:
        eve = api.private(66, "Eve")
        await eve.say("let me in")
        await eve.hear("/pair")
        (request,) = (await control.client.get("/people")).json()["requests"]
        await control.client.post("/people/pair", json={"code": request["code"]})
        code = await link(eve)
        await control.client.post("/people/revoke", json={"channel": "telegram", "id": "66"})
        refused = await control.client.post(f"{control.url}/sign-in", json={"code": code})
        assert (refused.status_code, refused.json()["code"]) == (401, "link_invalid")
        sessions = await control.built.gateway.store.read(
            lambda connection: connection.execute(select(web_sessions.c.sender_id)).scalars().all()
        )
        assert sessions == []


async def test_a_deleted_person_is_signed_in_nowhere(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    ann = api.private(7, "Ann")
    async with site(tmp_path, api, models) as control, browser(control, await link(ann)) as client:
        wanted = DeletionRequest("person", person="telegram:7", by="operator")
        await control.built.gateway.deletion.delete(wanted)
        assert (await client.get("/api/v1/session")).status_code == 401


async def test_an_event_stream_ends_with_the_access_of_its_caller(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    async with asyncio.timeout(20), site(tmp_path, api, models) as control:
        new = (await control.client.post("/keys", json={"name": "watcher", "scope": "read"})).json()
        async with control.using(new["secret"]) as watcher, watcher.stream("GET", "/events") as stream:
            lines = stream.aiter_lines()
            await api.private(7, "Ann").say("hi")
            while await anext(lines) != "event: message":
                pass
            await control.client.delete(f"/keys/{new['key']['id']}")
            ended = asyncio.create_task(_read_all(lines))
            while not ended.done():
                # The first event after a check ends the stream.
                await api.private(7, "Ann").say("hi")
                await asyncio.wait([ended], timeout=0.2)
            assert (await watcher.get("/session")).status_code == 401


async def _read_all(lines: AsyncIterator[str]) -> list[str]:
    return [line async for line in lines]


async def test_a_link_is_sent_in_a_direct_chat_only_and_the_newest_counts(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    async with site(tmp_path, api, models) as control:
        ann = api.private(7, "Ann")
        group = api.group()
        await group.say(f"/login{MENTION}")
        await group.hear("in a direct chat")
        old, new = await link(ann), await link(ann)
        async with httpx.AsyncClient(base_url=control.url, trust_env=False) as client:
            assert (await client.post("/sign-in", json={"code": old})).status_code == 401
            foreign = await client.post("/sign-in", json={"code": new}, headers={"Origin": "http://evil.example"})
            assert (foreign.status_code, foreign.json()["code"]) == (403, "foreign_origin")
            page = await client.get("/sign-in")
            assert (page.status_code, "code" in page.text) == (200, False)
            assert (await client.post("/sign-in", json={"code": new})).status_code == 200


async def test_without_an_address_the_bot_says_what_the_operator_sets(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    async with control_api(tmp_path, api, models, access=ACCESS) as control:
        ann = api.private(7, "Ann")
        await ann.say("/login")
        told = await ann.hear("There is no address")
        assert 'url = "https://chat.example.com" in the section [web]' in told.text
        assert control.url not in told.text
        body = {"client_id": "message-1", "text": "/login", "as": "command"}
        await control.client.post("/conversations/web:local:a/messages", json=body)
        history = (await control.client.get("/conversations/web:local:a/history")).text
        # The owner, who is on this machine, is told where; the secret is in no chat.
        assert f"the owner signs in at <{control.url}>" in history
        assert control.token not in history


async def test_a_program_gets_no_link_in_somebody_elses_chat(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    async with site(tmp_path, api, models) as control:
        admin = api.private(1, "Root")
        await admin.say("hi")
        await admin.hear("Hello.")
        (conversation,) = (await control.client.get("/conversations")).json()["conversations"]
        key = (await control.client.post("/keys", json={"name": "ci", "scope": "chat"})).json()
        async with control.using(key["secret"]) as program:
            body = {"client_id": "login-01", "text": "/login", "as": "command"}
            sent = await program.post(f"/conversations/{conversation['id']}/messages", json=body)
            assert sent.status_code == 200, sent.text
        await admin.hear("Programs use their key.")
        assert not [text for text in admin.texts if "/sign-in#" in text]


@pytest.mark.parametrize("when", ["at the start", "meanwhile"])
async def test_an_empty_token_admits_nobody(tmp_path: Path, models: ModelServer, api: BotApi, when: str) -> None:
    file = tmp_path / "home" / "web-token"
    if when == "at the start":
        file.parent.mkdir()
        file.write_text("\n")
    async with control_api(tmp_path, api, models) as control:
        if when == "meanwhile":
            file.write_text("")
        async with httpx.AsyncClient(base_url=control.url, trust_env=False) as nobody:
            answers = [
                await nobody.get("/api/v1/conversations", headers={"Authorization": "Bearer"}),
                await nobody.get("/conversations", headers={"Authorization": "Bearer"}),
                await nobody.post("/sign-in", json={}),
            ]
        owner = await control.client.get("/conversations")
    assert [each.status_code for each in answers] == [401] * len(answers)
    assert owner.status_code == 200


async def signed_in_on_slack(control: Api, slack: Slack, person: Person) -> str:
    """The secret of a session of this person."""
    await slack.connected()
    direct = slack.direct(person)
    await direct.command("/interject", "login")
    shown = await direct.hear("/sign-in#")
    found = re.search(r"/sign-in#([\w-]+)", shown.text)
    assert found is not None
    async with httpx.AsyncClient(base_url=control.url, trust_env=False, timeout=60) as client:
        assert (await client.post("/sign-in", json={"code": found[1]})).status_code == 200
        return next(iter(client.cookies.values()))


def slack_section(slack: Slack, access: str) -> str:
    tokens = f'bot_token = "{slack.bot_token}"\napp_token = "{slack.app_token}"\napi_url = "{slack.api_url}"'
    return f"[channels.slack]\n{tokens}\n{access}\n"


async def test_who_is_a_member_by_a_group_is_one_when_signed_in(
    tmp_path: Path, models: ModelServer, api: BotApi, slack: Slack
) -> None:
    models.respond(lambda _: Say("Hello."))
    ann = slack.person("Ann")
    group = slack.user_group("engineering", [ann])
    more = slack_section(slack, f'allow = ["{group.id}"]')
    async with control_api(tmp_path, api, models, more=more, web=WEB) as control:
        await slack.connected()
        await slack.direct(ann).say("hi")
        await slack.direct(ann).hear("Hello.")
        secret = await signed_in_on_slack(control, slack, ann)
        async with control.using(secret) as browser:
            here, *_ = (await browser.get("/conversations")).json()["conversations"]
            body = {"client_id": "message-1", "text": "hi"}
            sent = (await browser.post(f"/conversations/{here['id']}/messages", json=body)).json()
    assert (sent["state"], sent["reason"]) == ("accepted", "")


async def test_a_guest_stays_one_when_the_platform_does_not_say_who_they_are(
    tmp_path: Path, models: ModelServer, api: BotApi, slack: Slack
) -> None:
    gus = slack.guest("Gus")
    more = slack_section(slack, 'allow = ["*"]\noutsiders = "allow"')
    async with control_api(tmp_path, api, models, more=more, web=WEB) as control:
        secret = await signed_in_on_slack(control, slack, gus)
    slack.fail_next("users.info", "user_not_found", times=100)
    async with control_api(tmp_path, api, models, more=more, web=WEB) as control, control.using(secret) as browser:
        session = await browser.get("/session")
    assert (session.status_code, session.json().get("scope")) == (200, "read")


async def test_a_person_of_discord_whom_everybody_admits_signs_in(
    tmp_path: Path, models: ModelServer, api: BotApi, discord: Discord
) -> None:
    urls = f'api_url = "{discord.api_url}"\ngateway_url = "{discord.gateway_url}"'
    more = f'[channels.discord]\ntoken = "{discord.token}"\n{urls}\nallow = ["*"]\n'
    async with control_api(tmp_path, api, models, more=more, web=WEB) as control:
        await discord.connected()
        ann = discord.direct()
        await ann.say("/login")
        shown = await ann.hear("/sign-in#")
        code = re.search(r"/sign-in#([\w-]+)", shown.content)
        assert code is not None
        async with browser(control, code[1]) as client:
            session = (await client.get("/api/v1/session")).json()
    assert session["scope"] == "chat"
