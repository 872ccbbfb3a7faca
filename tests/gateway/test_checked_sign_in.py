"""What `check` and `doctor` say of people whom a proxy signs in, and of parts that are not installed."""

from __future__ import annotations

import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from gateway.cli.checks.libraries import EXTRAS
from tests.gateway.test_cli import Desk, desk
from tests.gateway.test_doctor import examined, installed

__all__ = ["desk"]

ROOT = Path(__file__).parents[2]
QUIET = '[tools]\nenabled = ["read_file"]\n'
WEB = (
    '[web]\nport = 0\ntrusted_header = "Remote-User"\ntrusted_proxies = ["10.0.0.0/8"]\nallow = ["*"]\n'
    'admins = ["ann"]\n'
)
URL = 'url = "https://chat.example.com"\n'
SHELL = '[tools]\nenabled = ["shell"]\n[tools.shell]\n'


async def test_what_a_proxy_may_say_is_told_in_words(desk: Desk) -> None:
    await installed(desk, f"{WEB}{URL}{QUIET}")
    told = (await desk.here("check")).out
    assert "the header Remote-User of requests from 10.0.0.0/8 signs people in" in told
    assert "can sign in as anybody, also as an admin. Allowed users: everybody whom the proxy signs in" in told
    assert "web: admins: ann" in told
    assert "warning" not in told
    code, found = await examined(desk.folder, "--offline")
    assert (code, found["sign-in"]["level"]) == (0, "ok")
    assert "sign in as anybody" in found["sign-in"]["what"]


@pytest.mark.parametrize(
    ("settings", "warning", "do"),
    [
        (f"{WEB}{QUIET}", "url is not", "Set url ="),
        (f'{WEB}{URL}{SHELL}sandbox = "none"\n', "reach this web server", 'Set sandbox = "auto"'),
        (f'{WEB}{URL}{SHELL}network = "all"\n', "reach this web server", 'network = "none"'),
    ],
    ids=["without an address", "commands without a sandbox", "commands with network"],
)
async def test_what_makes_it_unsafe_or_useless_is_a_warning(desk: Desk, settings: str, warning: str, do: str) -> None:
    await installed(desk, settings)
    (line,) = [line for line in (await desk.here("check")).out.splitlines() if "warning" in line and warning in line]
    assert do in line
    _, found = await examined(desk.folder, "--offline")
    assert (found["sign-in"]["level"], do in found["sign-in"]["do"]) == ("warning", True)


NEEDED = {
    "otel": ("opentelemetry.sdk", '[telemetry]\nendpoint = "http://127.0.0.1:4318"\n', "[telemetry] endpoint"),
    "charts": ("matplotlib", '[tools]\nenabled = ["draw_chart"]\n', "draw_chart"),
    "telegram": ("telegram", '[channels.telegram]\ntoken = "1:a"\nallow = ["1"]\n', "[channels.telegram]"),
    "discord": ("discord", '[channels.mine]\ntype = "discord"\ntoken = "a"\nallow = ["1"]\n', "[channels.mine]"),
    "mcp": ("mcp", '[mcp.notes]\nurl = "http://127.0.0.1:1/mcp"\n', "[mcp.notes]"),
}


@pytest.mark.parametrize("extra", NEEDED)
async def test_a_part_that_a_setting_needs_and_that_is_not_installed_is_named(
    desk: Desk, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, settings, named = NEEDED[extra]
    more = settings if "[tools]" in settings else f"{settings}{QUIET}"
    await installed(desk, f"[web]\nport = 0\n{more}")
    assert "pip install" not in (await desk.here("check")).out
    monkeypatch.setitem(sys.modules, module, None)
    checked = await desk.here("check")
    code, found = await examined(desk.folder, "--offline")
    assert (checked.code, code) == (1, 1)
    assert f"{named} " in checked.out
    assert f"pip install 'interject[{extra}]'" in checked.out
    assert (found[f"extra {extra}"]["level"], found[f"extra {extra}"]["do"]) == (
        "problem",
        f"pip install 'interject[{extra}]'",
    )


def test_the_parts_are_those_that_the_package_offers() -> None:
    offered = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(EXTRAS) == set(offered)
    for extra, requirements in offered.items():
        names = [Requirement(text).name for text in requirements]
        assert len(names) == len(EXTRAS[extra])
        for name, module in zip(names, EXTRAS[extra], strict=True):
            files = {file.as_posix() for file in distribution(name).files or ()}
            folder = module.replace(".", "/")
            assert any(file.startswith(f"{folder}/") or file == f"{folder}.py" for file in files), name
