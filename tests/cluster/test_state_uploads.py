"""Files that one worker has received are there for the messages that others take."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

from tests.cluster.sites import two_sites
from tests.engines import engines
from tests.gateway.stage import write_settings
from tests.servers.models import ModelServer, Say
from tests.servers.telegram import BotApi

pytestmark = pytest.mark.engines("postgresql")

HERE = "/api/v1/conversations/web:local:me"


@asynccontextmanager
async def two_clients(
    folder: Path, models: ModelServer, api: BotApi
) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    """Clients of two workers with their media in one folder."""
    settings = write_settings(folder, api, models, more=f'[media]\npath = "{folder / "media"}"\n')
    async with two_sites(settings) as sites, AsyncExitStack() as stack:
        one, other = [await stack.enter_async_context(site.client(site.token)) for site in sites]
        yield one, other


async def test_a_file_that_one_worker_has_received_is_named_to_another(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(lambda _: Say("Read."))
    async with two_clients(tmp_path, models, api) as (one, other):
        up = await one.post(f"{HERE}/files", content=b"words of a file", params={"name": "a.txt"})
        assert up.status_code == 201, up.text
        hash = up.json()["hash"]
        body = {"client_id": "message-1", "text": "read", "files": [{"hash": hash, "name": "b.txt"}]}
        sent = await other.post(f"{HERE}/messages", json=body, params={"wait": 60})
        assert sent.status_code == 200, sent.text
        assert sent.json()["result"]["state"] == "completed"
        assert "words of a file" in str(models.requests[-1].body)
        elsewhere = await other.post("/api/v1/conversations/web:local:you/messages", json=body)
        assert (elsewhere.status_code, elsewhere.json()["code"]) == (404, "file_not_found")


async def test_any_worker_gives_the_files_of_a_message_that_another_one_has_accepted_just_now(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(lambda _: Say("Read."))
    async with two_clients(tmp_path, models, api) as (one, other):
        # The message cannot become ready until the database takes that.
        engines.refuse(tmp_path / "interject.db", "inbox", "UPDATE OF ready")
        form, files = {"client_id": "message-1", "text": "read"}, [("files", ("a.txt", b"words of a file"))]
        sent = await one.post(f"{HERE}/messages", data=form, files=files)
        assert sent.json()["state"] == "accepted", sent.text
        url = f"{HERE}/files/{sha256(b'words of a file').hexdigest()}/a.txt"
        for client in (one, other):
            assert (await client.get(url)).content == b"words of a file"
        engines.allow(tmp_path / "interject.db", "inbox")
        await models.until(1)
        assert (await other.get(url)).content == b"words of a file"
