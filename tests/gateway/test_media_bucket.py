"""The whole gateway with its media in a bucket, which does not always answer."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from PIL import Image

from tests.gateway.stage import gateway, write_settings
from tests.servers.models import Call, ModelServer, Say
from tests.servers.s3 import S3
from tests.servers.telegram import BotApi

BUCKET = "media"


@pytest.fixture
async def s3() -> AsyncIterator[S3]:
    async with S3() as service:
        service.add_bucket(BUCKET)
        yield service


def settings(folder: Path, api: BotApi, models: ModelServer, s3: S3, *, cache_bytes: int = 1_000_000) -> Path:
    media = f"""
[tools]
enabled = ["write_file", "send_file"]
[media]
url = "s3://{BUCKET}"
cache_bytes = {cache_bytes}
[media.s3]
endpoint = "{s3.url}"
region = "{s3.region}"
access_key_id = "{s3.key_id}"
secret_access_key = "{s3.secret}"
"""
    return write_settings(folder, api, models, more=media)


def picture() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 6), "red").save(out, "PNG")
    return out.getvalue()


async def test_a_picture_is_stored_in_the_bucket_and_seen_again_by_another_machine(
    tmp_path: Path, api: BotApi, models: ModelServer, s3: S3
) -> None:
    models.script(Say("A red one."), Say("Still red."))
    file = settings(tmp_path, api, models, s3)
    async with gateway(file):
        ann = api.private(user_id=7, name="Ann")
        await ann.send_photo(picture(), "what is this?")
        await ann.hear("A red one.")
    assert len(s3.objects(BUCKET)) == 1
    shutil.rmtree(tmp_path / "home" / "cache")
    async with gateway(file):
        await ann.say("and now?")
        await ann.hear("Still red.")
    assert [len(request.messages[-1].images) for request in models.requests[:1]] == [1]
    assert any(message.images for message in models.requests[1].messages)
    assert s3.count("GET") == 1


async def test_a_picture_that_comes_while_the_bucket_is_away_is_read_when_it_is_back(
    tmp_path: Path, api: BotApi, models: ModelServer, s3: S3
) -> None:
    models.script(Say("A red one."))
    async with gateway(settings(tmp_path, api, models, s3)):
        s3.deny("PUT")
        ann = api.private(user_id=7, name="Ann")
        await ann.send_photo(picture(), "what is this?")
        await s3.asked("PUT", 2)
        assert not models.requests
        s3.deny()
        await ann.hear("A red one.")
    assert [len(message.images) for message in models.requests[0].messages if message.role == "user"] == [1]


async def test_a_file_is_sent_once_when_the_bucket_is_back(
    tmp_path: Path, api: BotApi, models: ModelServer, s3: S3
) -> None:
    models.script(
        [Call("write_file", {"path": "plan.txt", "content": "the plan"})],
        [Call("send_file", {"path": "plan.txt"})],
        Say("There it is."),
    )
    async with gateway(settings(tmp_path, api, models, s3, cache_bytes=0)):
        s3.deny("GET")
        ann = api.private(user_id=7, name="Ann")
        await ann.say("send the plan")
        await s3.asked("GET", 1)
        s3.deny()
        await ann.until(lambda chat: [shown for shown in chat.messages if shown.document] or None)
        await ann.hear("There it is.")
    assert [shown.document for shown in ann.messages if shown.document] == [b"the plan"]
    assert not any("not be" in text for text in ann.texts)


async def test_a_tool_says_that_the_bucket_is_away(tmp_path: Path, api: BotApi, models: ModelServer, s3: S3) -> None:
    models.script(
        [Call("write_file", {"path": "plan.txt", "content": "the plan"})],
        [Call("send_file", {"path": "plan.txt"})],
        Say("It cannot be sent."),
    )
    async with gateway(settings(tmp_path, api, models, s3)):
        s3.deny("PUT")
        ann = api.private(user_id=7, name="Ann")
        await ann.say("send the plan")
        await ann.hear("It cannot be sent.")
    (result,) = [message.text for message in models.requests[2].messages if message.role == "tool"][-1:]
    assert "denies access to the bucket media" in result
    assert s3.secret not in result


def test_the_library_of_buckets_is_loaded_for_a_bucket_only() -> None:
    program = "import sys, gateway.assembly.build, gateway.cli.media; assert 'obstore' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
