"""People whom a reverse proxy signs in: it names them in a header of each request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from tests.api.conftest import Api, control_api
from tests.servers.models import ModelServer, Say
from tests.servers.telegram import BotApi

PUBLIC = "https://chat.example.com"
HEADER = "X-Forwarded-User"
LISTS = 'admins = ["root@example.com"]\nguests = ["Carol"]\nallow = ["*"]'


def web(lists: str = LISTS, proxies: str = '"127.0.0.1"') -> str:
    return f'url = "{PUBLIC}"\ntrusted_header = "{HEADER}"\ntrusted_proxies = [{proxies}]\n{lists}'


@asynccontextmanager
async def site(folder: Path, api: BotApi, models: ModelServer, settings: str = "") -> AsyncIterator[Api]:
    models.respond(lambda _: Say("Hello."))
    async with control_api(folder, api, models, web=settings or web()) as control:
        yield control


def browser(
    control: Api, *names: str | bytes, peer: str = "127.0.0.1", origin: str | None = PUBLIC
) -> httpx.AsyncClient:
    """The browser of a person whom the proxy has signed in, as the gateway sees it."""
    headers: list[tuple[bytes, bytes]] = [
        (HEADER.encode(), name if isinstance(name, bytes) else name.encode()) for name in names
    ]
    if origin is not None:
        headers.append((b"Origin", origin.encode()))
    transport = httpx.AsyncHTTPTransport(local_address=peer)
    return httpx.AsyncClient(base_url=control.url, headers=headers, transport=transport, timeout=60)


async def write(client: httpx.AsyncClient, name: str, text: str = "hi", *, to: str | None = None) -> httpx.Response:
    """Sends a message to a conversation of the person's, or `to` this one, and waits for the answer."""
    if to is None:
        to = (await client.get("/api/v1/session")).json()["new_conversations"] + name
    body = {"client_id": f"message-{name}", "text": text}
    return await client.post(f"/api/v1/conversations/{quote(to, safe='')}/messages?wait=30", json=body)


async def seen_by(client: httpx.AsyncClient) -> list[str]:
    listed = (await client.get("/api/v1/conversations")).json()["conversations"]
    return sorted(each["id"] for each in listed)


async def test_a_person_named_by_the_proxy_is_signed_in_with_their_role(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    scopes = {}
    async with site(tmp_path, api, models) as control:
        for name in ("root@example.com", "ROOT@example.com", "ann@example.com", "Carol", "Zoë Ångström", "a/b:c*?"):
            async with browser(control, name) as client:
                session = (await client.get("/api/v1/session")).json()
                sent = await write(client, "first")
                page = await client.get("/")
            assert (sent.status_code, sent.json()["result"]["text"]) == (200, "Hello.")
            assert (page.status_code, "text/html" in page.headers["content-type"]) == (200, True)
            scopes[session["name"]] = session["scope"]
    assert scopes == {
        "root@example.com": "operate",
        "ROOT@example.com": "operate",
        "ann@example.com": "chat",
        "Carol": "chat",
        "Zoë Ångström": "chat",
        "a/b:c*?": "chat",
    }


async def test_each_person_has_conversations_of_their_own_and_an_admin_sees_all(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    async with (
        site(tmp_path, api, models) as control,
        browser(control, "ann") as ann,
        browser(control, "bob") as bob,
        browser(control, "root@example.com") as root,
    ):
        assert (await write(ann, "same", "Ann's secret")).status_code == 200
        assert (await write(bob, "same", "Bob's secret")).status_code == 200
        await control.client.post(
            "/conversations/web:local:mine/messages?wait=30", json={"client_id": "message-1", "text": "Owner's secret"}
        )
        reached = [
            (await ann.get("/api/v1/conversations/web:bob:same")).status_code,
            (await ann.get("/api/v1/conversations/web:bob:same/history")).status_code,
            (await ann.get("/api/v1/conversations/web:local:mine")).status_code,
            (await write(ann, "other", to="web:bob:same")).status_code,
            (await write(ann, "other", to="web:bob:new")).status_code,
            (await write(ann, "other", to="web:local:new")).status_code,
        ]
        reached.append((await ann.delete("/api/v1/conversations/web:bob:same")).status_code)
        history = (await ann.get("/api/v1/conversations/web:ann:same/history")).text
        statuses = [
            (await ann.get(path)).status_code
            for path in ("/api/conversations", "/api/conversations/mine", "/api/v1/people", "/api/v1/settings")
        ]
        assert (await seen_by(ann), await seen_by(bob)) == (["web:ann:same"], ["web:bob:same"])
        assert await seen_by(root) == ["web:ann:same", "web:bob:same", "web:local:mine"]
        # Not even an admin begins a conversation in somebody else's name.
        assert (await write(root, "other", to="web:bob:new")).status_code == 404
    assert set(reached) == {404}
    assert not [status for status in statuses if status < 400]
    assert ("Ann's secret" in history, "Bob's secret" in history) == (True, False)


async def test_spellings_of_a_name_in_small_and_capital_letters_are_one_person(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    async with (
        site(tmp_path, api, models) as control,
        browser(control, "Ann@Example.com") as first,
        browser(control, "ANN@EXAMPLE.COM") as second,
        browser(control, "Zoe\u0308") as decomposed,
        browser(control, "ZO\u00cb") as composed,
        browser(control, "Zoe") as other,
    ):
        await write(first, "one", "Ann's secret")
        await write(second, "two")
        assert (
            await seen_by(first) == await seen_by(second) == ["web:ann%40example.com:one", "web:ann%40example.com:two"]
        )
        assert "Ann's secret" in (await second.get("/api/v1/conversations/web:ann%40example.com:one/history")).text
        assert (await first.get("/api/v1/session")).json()["name"] == "Ann@Example.com", "as the proxy says it"
        await write(decomposed, "three")
        assert await seen_by(composed) == ["web:zo%C3%AB:three"]
        assert await seen_by(other) == [], "accents count"


async def test_names_are_compared_exactly_where_the_settings_say_so(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    async with (
        site(tmp_path, api, models, f"{web()}\ntrusted_case_sensitive = true") as control,
        browser(control, "00uAbC") as one,
        browser(control, "00uaBc") as other,
    ):
        await write(one, "mine", "a secret")
        assert (await seen_by(one), await seen_by(other)) == (["web:00uAbC:mine"], [])


async def test_people_keep_the_conversations_that_they_have_under_another_spelling(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    exact = f"{web()}\ntrusted_case_sensitive = true"
    async with site(tmp_path, api, models, exact) as before:
        for name, spelling in (("one", "Ann"), ("two", "ANN"), ("three", "Bob")):
            async with browser(before, spelling) as person:
                await write(person, name, f"said in {name}")
    async with (
        site(tmp_path, api, models) as control,
        browser(control, "ann") as ann,
        browser(control, "BOB") as bob,
    ):
        assert await seen_by(ann) == ["web:ANN:two", "web:Ann:one"]
        assert await seen_by(bob) == ["web:Bob:three"]
        assert "said in one" in (await ann.get("/api/v1/conversations/web:Ann:one/history")).text
        assert (await write(ann, "again", to="web:Ann:one")).status_code == 200
        assert (await write(ann, "again", to="web:Bob:three")).status_code == 404
        await write(bob, "four")
        assert await seen_by(bob) == ["web:Bob:four", "web:Bob:three"], "they go on under it"


async def test_people_delete_their_own_and_have_no_copies_of_others(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    async with (
        site(tmp_path, api, models) as control,
        browser(control, "Carol") as guest,
        browser(control, "root@example.com") as admin,
    ):
        await write(guest, "one")
        copied = await guest.post("/api/v1/conversations/web:carol:one/fork", json={"name": "two"})
        assert (copied.status_code, copied.json()["id"]) == (201, "web:carol:two")
        of_others = await admin.post("/api/v1/conversations/web:carol:one/fork", json={"name": "mine"})
        assert (of_others.status_code, of_others.json()["id"]) == (201, "web:root%40example.com:mine")
        assert (await guest.post("/api/v1/conversations/web:local:a/fork", json={})).status_code == 404
        assert (await guest.delete("/api/v1/conversations/web:carol:one")).status_code == 200
        assert await seen_by(guest) == ["web:carol:two"]
        assert (await admin.delete("/api/v1/conversations/web:carol:two")).status_code == 200
        assert await seen_by(guest) == []


async def test_the_events_of_all_are_those_of_ones_own(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    async with (
        asyncio.timeout(20),
        site(tmp_path, api, models) as control,
        browser(control, "ann") as ann,
        browser(control, "bob") as bob,
        ann.stream("GET", "/api/v1/events") as stream,
    ):
        lines = stream.aiter_lines()
        await write(bob, "one", "Bob's secret")
        await write(ann, "two", "Ann's secret")
        read: list[str] = []
        while not any("Ann's secret" in line for line in read):
            read.append(await anext(lines))
    assert not [line for line in read if "bob" in line.lower()]


@pytest.mark.parametrize("credential", ["nothing", "a key", "the owner's token"])
async def test_from_elsewhere_the_header_is_not_believed(
    tmp_path: Path, models: ModelServer, api: BotApi, credential: str
) -> None:
    async with site(tmp_path, api, models) as control:
        secret = {"the owner's token": control.token}.get(credential, "")
        if credential == "a key":
            made = await control.client.post("/keys", json={"name": "ci", "scope": "read"})
            secret = made.json()["secret"]
        async with browser(control, "root@example.com", peer="127.0.0.2") as client:
            client.headers["X-Forwarded-For"] = "127.0.0.1"
            if secret:
                client.headers["Authorization"] = f"Bearer {secret}"
            session, page = await client.get("/api/v1/session"), await client.get("/")
    if credential == "nothing":
        assert (session.status_code, page.status_code) == (401, 401)
    else:
        assert session.json()["name"] == {"a key": "ci", "the owner's token": "Owner"}[credential]


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["ann", "root@example.com"], "2 times"),
        ([""], "empty"),
        ([b"ann\xff"], "not text in UTF-8"),
        (["ann\u200b"], "characters that no name has"),
        (["a" * 201], "longer than 200 characters"),
        (["owner"], "a name of the gateway itself"),
        (["Local"], "a name of the gateway itself"),
        (["\u00a0OWNER\u2003"], "a name of the gateway itself"),
        (["API:ci"], "a name of the gateway itself"),
        (["\u00a0\u3000"], "empty"),
        (["ann\u202egro"], "characters that no name has"),
        (["api:ci"], "a name of the gateway itself"),
    ],
    ids=lambda each: repr(each)[:30],
)
async def test_a_header_that_names_nobody_is_refused(
    tmp_path: Path, models: ModelServer, api: BotApi, names: Sequence[str | bytes], problem: str
) -> None:
    async with site(tmp_path, api, models) as control, browser(control, *names) as client:
        asked, page = await client.get("/api/v1/session"), await client.get("/")
    assert (asked.status_code, asked.json()["code"], page.status_code) == (400, "identity_invalid", 400)
    assert problem in asked.json()["detail"]
    assert problem in page.text


async def test_who_is_on_no_list_is_refused(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    name = "<script>eve</script>"
    async with site(tmp_path, api, models, web('allow = ["ann"]')) as control, browser(control, name) as eve:
        asked, page = await eve.get("/api/v1/session"), await eve.get("/")
    assert (asked.status_code, asked.json()["code"], page.status_code) == (403, "not_admitted", 403)
    assert "allow in [web]" in asked.json()["detail"]
    assert ("No access" in page.text, "<script>" in page.text) == (True, False)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": PUBLIC}, 200),
        ({"Origin": PUBLIC, "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": PUBLIC, "Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
        ({}, 403),
    ],
    ids=str,
)
async def test_only_a_page_of_this_server_changes_something(
    tmp_path: Path, models: ModelServer, api: BotApi, headers: dict[str, str], status: int
) -> None:
    async with site(tmp_path, api, models) as control, browser(control, "ann", origin=None) as client:
        client.headers.update(headers)
        body = {"client_id": "message-1", "text": "hi"}
        sent = await client.post("/api/v1/conversations/web:ann:a/messages", json=body)
        assert sent.status_code == status
        if status == 403:
            assert sent.json()["code"] == "foreign_origin"
        for method in ("PUT", "PATCH", "DELETE"):
            # There is no such message: whose page may not change anything does not learn even that.
            other = await client.request(method, "/api/v1/conversations/web:ann:a/queue/7", json={"text": "hi"})
            assert (other.status_code == 403) == (status == 403), method


async def test_the_proxy_says_who_it_is_also_in_a_browser_with_a_cookie_or_a_token_of_the_proxys(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    """Somebody else was signed in there before; and some proxies send a token of their own on."""
    async with site(tmp_path, api, models) as control, browser(control, "ann") as client:
        assert (await client.post("/sign-in", json={"key": control.token})).status_code == 200
        # What a browser does over HTTPS.
        client.headers["Cookie"] = "; ".join(f"{each.name}={each.value}" for each in client.cookies.jar)
        with_cookie = (await client.get("/api/v1/session")).json()["name"]
        old = await client.get("/api/conversations")
        client.headers["Authorization"] = "Bearer eyJhbGciOiJSUzI1NiJ9.e30.x"
        with_foreign_token = (await client.get("/api/v1/session")).json()["name"]
        client.headers["Authorization"] = f"Bearer {control.token}"
        with_own_token = (await client.get("/api/v1/session")).json()["name"]
    assert (with_cookie, with_foreign_token, with_own_token) == ("ann", "ann", "Owner")
    assert old.status_code in (403, 404)


async def test_a_stream_ends_when_its_person_is_taken_from_the_lists(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    async with (
        asyncio.timeout(90),
        site(tmp_path, api, models, web('allow = ["ann", "bob"]')) as control,
        browser(control, "ann") as ann,
    ):
        async with ann.stream("GET", "/api/v1/events") as stream:
            file = tmp_path / "interject.toml"
            file.write_text(file.read_text().replace('"ann", ', ""))
            assert (await control.client.post("/reload")).status_code < 300
            ended = asyncio.create_task(_read_all(stream.aiter_lines()))
            while not ended.done():
                # The first event after a check ends the stream.
                await api.private(7, "Ann").say("hi")
                await asyncio.wait([ended], timeout=0.2)
        assert (await ann.get("/api/v1/session")).status_code == 403


async def _read_all(lines: AsyncIterator[str]) -> list[str]:
    return [line async for line in lines]


async def test_the_owner_keeps_all_rights_beside_people_of_the_proxy(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    async with site(tmp_path, api, models) as control, browser(control, "ann") as ann:
        answers = {}
        for who, client, id in (("owner", control.client, "web:local:a"), ("ann", ann, "web:ann:a")):
            prefix = "" if who == "owner" else "/api/v1"
            for text in ("/access", "/login"):
                body = {"client_id": f"message-{text[1:]}", "text": text, "as": "command"}
                sent = await client.post(f"{prefix}/conversations/{id}/messages", json=body)
                assert sent.status_code == 200, sent.text
            history = (await client.get(f"{prefix}/conversations/{id}/history")).text
            answers[who] = history
        assert (await control.client.get("/session")).json()["scope"] == "admin"
    assert "Only admins may do that" not in answers["owner"]
    assert (
        f"web-token show`, in a terminal of this machine, prints the link with which the owner signs in at <{PUBLIC}>"
        in answers["owner"]
    )
    assert "Only admins may do that" in answers["ann"]
    assert "signed in already" in answers["ann"]
