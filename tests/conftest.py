"""What every test needs."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings
from playwright.async_api import Browser, async_playwright, expect

from tests.engines import KINDS, Kind, engines
from tests.servers.discord import Discord
from tests.servers.models import ModelServer
from tests.servers.slack import Slack
from tests.servers.telegram import BotApi

if TYPE_CHECKING:
    from tests.servers.oauth import AuthorizationServer

IN_MEMORY = Path("/dev/shm")
NEEDED_MEMORY = 2_000_000_000
"""Bytes; what the files of a whole run take."""


def _keep_files_in_memory() -> None:
    """Where the machine has room for them: SQLite waits for the disk at every commit, which proves nothing here."""
    if "PYTEST_DEBUG_TEMPROOT" in os.environ or not os.access(IN_MEMORY, os.W_OK | os.X_OK):
        return
    if shutil.disk_usage(IN_MEMORY).free > NEEDED_MEMORY:
        os.environ["PYTEST_DEBUG_TEMPROOT"] = str(IN_MEMORY)


_keep_files_in_memory()


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """Of a test that kills the process, a folder on a real disk: what is on it after the kill is what was written."""
    if request.node.get_closest_marker("crash") is None:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="interject-crash-", ignore_cleanup_errors=True) as folder:
        yield Path(folder).resolve()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marker = metafunc.definition.get_closest_marker("engines")
    if marker is not None:
        metafunc.parametrize("engine", marker.args or KINDS, indirect=True)


@pytest.fixture(autouse=True)
def engine(request: pytest.FixtureRequest) -> Iterator[Kind]:
    """What the databases of this test are, see `tests/engines.py`."""
    kind: Kind = getattr(request, "param", engines.kind)
    with engines.of(kind):
        yield kind


# python-telegram-bot warns about a type it will change, unless it is asked for the new one; warnings are errors here.
os.environ["PTB_TIMEDELTA"] = "1"

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-smooth-scrolling",
]

# The same examples each time, so that a run says something about the change it is run for. Others are looked for with
# HYPOTHESIS_PROFILE=random.
settings.register_profile("same", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("random", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

expect.set_options(timeout=60_000)


LONG = (
    "cluster/test_day.py",
    "gateway/test_interleavings.py",
    "gateway/test_session_machine.py",
    "gateway/test_kill.py",
    "gateway/test_kill_states.py",
    "security/test_odd_answers.py",
    "gateway/test_store_machine.py",
    "gateway/test_delivery_machine.py",
)
"""The files with the longest tests."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each worker begins with its share of the longest tests: none begins one when the others have nothing left to do.

    With `--dist worksteal` each is first given as many tests as the others, in order.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    long = [item for item in items if item.path.as_posix().endswith(LONG)]
    others = [item for item in items if not item.path.as_posix().endswith(LONG)]
    ordered: list[pytest.Item] = []
    for worker in range(workers):
        first = long[worker::workers]
        share = (len(items) - len(ordered)) // (workers - worker)
        count = max(0, share - len(first))
        ordered += first + others[:count]
        others = others[count:]
    items[:] = ordered + others


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        installed = filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
        executable = next(installed, playwright.chromium.executable_path)
        if not shutil.which(executable):
            pytest.skip(
                "NO BROWSER FOUND: the page is NOT TESTED. Install chromium (Debian: apt-get install chromium)."
            )
        browser = await playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        await browser.close()


@pytest.fixture
async def models() -> AsyncIterator[ModelServer]:
    async with ModelServer() as server:
        yield server


@pytest.fixture
async def authority() -> AsyncIterator[AuthorizationServer]:
    from tests.servers.oauth import AuthorizationServer  # loads the library for MCP

    async with AuthorizationServer() as server:
        yield server


@pytest.fixture
async def private(authority: AuthorizationServer) -> AsyncIterator[str]:
    """The address of an MCP server that takes the tokens of that authority only."""
    from tests.servers.oauth import serve_private

    async with serve_private(authority) as url:
        yield url


@pytest.fixture
async def api() -> AsyncIterator[BotApi]:
    async with BotApi() as api:
        yield api


@pytest.fixture
async def slack() -> AsyncIterator[Slack]:
    async with Slack() as slack:
        yield slack


@pytest.fixture
async def discord() -> AsyncIterator[Discord]:
    async with Discord() as discord:
        yield discord


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says how many interleavings were played and faults were made, and from which seeds they can be played again."""
    told = [dict(report.user_properties) for report in terminalreporter.getreports("passed") if report.user_properties]
    played = [properties for properties in told if "interleavings" in properties]
    if played:
        total = sum(int(str(properties["interleavings"])) for properties in played)
        seeds = ", ".join(str(properties["seed"]) for properties in played)
        terminalreporter.write_line(f"{total:,} interleavings, seeds {seeds}")
    for properties in told:
        if "faults" in properties:
            terminalreporter.write_line(f"several workers: {properties['faults']}")
        if "deploy" in properties:
            terminalreporter.write_line(f"several workers: {properties['deploy']}")
