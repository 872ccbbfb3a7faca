"""The description of the API (OpenAPI), and requests made of it at random by schemathesis."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

from gateway.api.problems import MEDIA_TYPE
from tests.api.conftest import control_api
from tests.servers.models import ModelServer, Say
from tests.servers.telegram import BotApi

SCHEMATHESIS = Path(sys.executable).parent / "schemathesis"

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "missing_required_header",
    "ignored_auth",
)


async def test_every_route_says_what_it_does_and_how_it_fails(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    async with control_api(tmp_path, api, models) as control:
        description = (await control.client.get("/openapi.json")).json()
    operations = [
        (f"{method.upper()} {path}", operation)
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    ]
    assert len(operations) > 40
    for name, operation in operations:
        assert operation.get("description"), name
        for status in ("4XX", "5XX"):
            assert list(operation["responses"][status]["content"]) == [MEDIA_TYPE], name


async def test_the_command_line_prints_what_the_gateway_serves(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    async with control_api(tmp_path, api, models) as control:
        served = (await control.client.get("/openapi.json")).json()
    printed = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-m", "interject", "api"], capture_output=True, check=True
    )
    assert json.loads(printed.stdout) == served


async def test_no_request_that_fits_the_description_or_nearly_does_breaks_it(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(lambda _: Say("Hello."))
    async with control_api(tmp_path, api, models) as control:
        chat = api.private(7, "Ann")
        await chat.say("I am Ann")
        await chat.hear("Hello.")
        # Streams of events have no end.
        command = [
            *(str(SCHEMATHESIS), "run", f"{control.url}/api/v1/openapi.json"),
            *("--header", f"Authorization: Bearer {control.token}", "--phases", "fuzzing", "--max-examples", "5"),
            *("--checks", ",".join(CHECKS), "--seed", "1", "--exclude-path-regex", "/events$"),
            *("--suppress-health-check", "all", "--continue-on-failure", "--no-color"),
        ]
        process = await asyncio.create_subprocess_exec(
            *command,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=tmp_path,
            env={name: value for name, value in os.environ.items() if "proxy" not in name.lower()},
        )
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
