"""The scenarios: what the turn engine does, in files that read like a specification (see README.md)."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.models.protocols.wire import ProtocolName
from tests.scenarios.player import play, play_over_http
from tests.scenarios.reading import Scenario, read

FILES = sorted(Path(__file__).parent.glob("*.txt"))
SCENARIOS = [scenario for file in FILES for scenario in read(file)]
CENTRAL = [scenario for scenario in SCENARIOS if scenario.over_http]
SHARE = SCENARIOS[::5]
"""Some of every file; the rules above the store are the same on every engine."""


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[scenario.name for scenario in SCENARIOS])
async def test_the_scenario_comes_out(scenario: Scenario, tmp_path: Path) -> None:
    await play(scenario, tmp_path)


@pytest.mark.engines("postgresql")
@pytest.mark.parametrize("scenario", SHARE, ids=[scenario.name for scenario in SHARE])
async def test_the_scenario_comes_out_on_postgresql(scenario: Scenario, tmp_path: Path) -> None:
    await play(scenario, tmp_path)


@pytest.mark.parametrize("provider", ["openai", "openai-responses", "anthropic"])
@pytest.mark.parametrize("scenario", CENTRAL, ids=[scenario.name for scenario in CENTRAL])
async def test_the_scenario_comes_out_over_http(scenario: Scenario, provider: ProtocolName, tmp_path: Path) -> None:
    await play_over_http(scenario, tmp_path, provider)


@pytest.mark.parametrize("scenario", CENTRAL, ids=[scenario.name for scenario in CENTRAL])
async def test_the_scenario_comes_out_where_the_server_keeps_the_conversation(
    scenario: Scenario, tmp_path: Path
) -> None:
    await play_over_http(scenario, tmp_path, "openai-responses", keeps_state=True)
