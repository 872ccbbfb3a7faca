"""Links, browsers and keys of one worker hold on all others."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from pathlib import Path

import httpx
import pytest

from channels.address import Sender
from gateway.store import open_store
from tests.cluster.sites import two_sites
from tests.engines import engines
from tests.gateway.stage import write_settings
from tests.servers.models import ModelServer
from tests.servers.telegram import BotApi, Chat

pytestmark = pytest.mark.engines("postgresql")

WEB = "url = 'http://chat.example.com'"


async def link(chat: Chat) -> str:
    """The code of the link that the bot sends there."""
    await chat.say("/login")
    shown = await chat.hear("/sign-in#")
    found = re.search(r"http://chat\.example\.com/sign-in#([\w-]+)", shown.text)
    assert found is not None
    return found[1]


async def test_a_link_signs_in_on_any_worker_once_and_the_browser_is_known_to_all(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    settings = write_settings(tmp_path, api, models)
    settings.write_text(settings.read_text().replace("port = 0", f"port = 0\n{WEB}"))
    async with asyncio.timeout(60), two_sites(settings) as sites:
        ann = api.private(7, "Ann")
        code = await link(ann)
        # One of them listens to Telegram and has made the link; both are asked at the same moment.
        async with sites[0].client() as one, sites[1].client() as other:
            clients = (one, other)
            for client in clients:
                client.headers["Host"] = "chat.example.com"  # as behind a load balancer
            answers = await asyncio.gather(*(client.post("/sign-in", json={"code": code}) for client in clients))
            assert Counter(answer.status_code for answer in answers) == {200: 1, 401: 1}
            (cookies,) = [answer.cookies for answer in answers if answer.status_code == 200]
            for client in clients:
                client.cookies = httpx.Cookies(dict(cookies))
                session = await client.get("/api/v1/session")
                assert (session.status_code, session.json()["name"]) == (200, "Ann")
            assert (await one.delete("/sign-in")).status_code == 204
            assert (await other.get("/api/v1/session")).status_code == 401


async def test_a_newer_link_takes_the_place_of_that_of_another_worker(tmp_path: Path) -> None:
    url = engines.url(tmp_path / "interject.db")
    ann = Sender("7", "Ann")
    async with open_store(url, worker="a") as one, open_store(url, worker="b") as other:
        old = await one.create_login_link("telegram/1/7", "telegram", ann)
        new = await other.create_login_link("telegram/1/7", "telegram", ann)
        assert await one.take_login_link(old) is None
        found = await asyncio.gather(*(store.take_login_link(new) for store in (one, other) * 4))
    assert [each.sender for each in found if each is not None] == [ann]


async def test_the_code_of_a_link_is_not_in_the_database(tmp_path: Path) -> None:
    file = tmp_path / "interject.db"
    async with open_store(engines.url(file), worker="a") as store:
        code = await store.create_login_link("telegram/1/7", "telegram", Sender("7", "Ann"))
        (row,) = engines.sql(file, "SELECT * FROM login_links")
    assert code not in map(str, row)
