"""The page of the HTTP API, held to the code; its examples are run."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from gateway.api import decisions, messages, runs
from tests.api.conftest import control_api
from tests.config.test_docs import in_first_column, in_first_column_all, page, section
from tests.servers.models import Call, ModelServer, Request, Say
from tests.servers.telegram import BotApi

ROOT = Path(__file__).parents[2]
API = ROOT / "gateway" / "api"


async def test_every_route_is_named_and_no_other(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    async with control_api(tmp_path, api, models) as control:
        paths = (await control.client.get("/openapi.json")).json()["paths"]
    served = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    named = set(re.findall(r"^\| `((?:GET|POST|PUT|PATCH|DELETE) /api/v1/[^`]+)` \|", page("http-api"), re.MULTILINE))
    assert named == served


def test_every_code_of_an_error_is_named_and_no_other() -> None:
    text = "\n".join(file.read_text() for file in API.glob("*.py"))
    codes = set(re.findall(r'Problem\(\s*\d{3},\s*"(\w+)"', text))
    codes |= set(re.findall(r'\d{3}: "(\w+)"', (API / "problems.py").read_text())) | {"http_error"}
    assert set(in_first_column(section(page("http-api"), "Errors"))) == codes


@pytest.mark.parametrize(
    ("heading", "model"),
    [("Runs", runs.Run), ("Messages", messages.Sent), ("Decisions", decisions.Decided)],
)
def test_every_field_is_named(heading: str, model: type[runs.Run]) -> None:
    text = section(page("http-api"), heading)
    assert [name for name in model.model_fields if f'"{name}"' not in text] == []


def test_every_state_of_a_run_is_named() -> None:
    rows = in_first_column_all(section(page("http-api"), "Runs"))
    assert {"waiting", "parked", "completed", "read"} <= {state for row in rows for state in row}


def answer(request: Request) -> Say | Call:
    if "weather" in request.tools and not request.results:
        return Call("weather", {"city": "Oslo"})
    return Say("It is cold." if request.results else "The last change broke it.")


async def test_the_examples_run(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    bash, curl = shutil.which("bash"), shutil.which("curl")
    if bash is None or curl is None or shutil.which("jq") is None:
        pytest.skip("THE EXAMPLES ARE NOT TESTED: they need bash, curl and jq")
    models.respond(answer)
    (tmp_path / "build.log").write_text("line 1: error")
    blocks = re.findall(r"^```sh\n(.*?)^```", page("http-api"), re.MULTILINE | re.DOTALL)
    interject = f'interject() {{ "{sys.executable}" -m interject "$@"; }}\n'
    async with control_api(tmp_path, api, models) as control:
        environ = {
            **os.environ,
            "URL": control.url,
            "PYTHONPATH": str(ROOT),
            "INTERJECT_CONFIG": str(tmp_path / "interject.toml"),
            "INTERJECT_HOME": str(tmp_path / "home"),
            "NO_PROXY": "*",
        }
        script = "set -euo pipefail\n" + interject + "".join(blocks)
        running = await asyncio.create_subprocess_exec(
            bash,
            "-c",
            script,
            cwd=tmp_path,
            env=environ,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await running.communicate()
    assert running.returncode == 0, f"{out.decode()}\n{err.decode()}"
    told = out.decode()
    assert "The last change broke it." in told
    assert "It is cold." in told
    assert '"title":"Build 42"' in told
    assert "No task is running." in told
