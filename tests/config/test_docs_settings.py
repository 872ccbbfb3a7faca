"""The page of the settings, held to the code."""

import re
from typing import get_args

import pytest

from config.agents import NamedAgentSettings, RouteSettings
from config.hooks import HOOKS, HookSection, Point
from config.media import MediaSettings, S3Settings
from config.models import ModelSettings, PriceSettings, ProviderSettings
from config.roles import RoleSettings
from config.section import Section
from config.settings import (
    AgentSettings,
    LimitSettings,
    RetentionSettings,
    SafetySettings,
    Settings,
    StoreSettings,
)
from config.signals import LoggingSettings, MetricsSettings, TelemetrySettings
from config.skills import SkillSettings
from config.tools import SECTIONS, CustomToolSettings, ToolSettings
from config.webhooks import WebhookSettings
from tests.config.conftest import Operator
from tests.config.test_docs import TOKENS, examples, in_first_column, page, section

ELSEWHERE = {"web", "channels"}
"""Sections with pages of their own."""

TABLES: dict[str, list[type[Section]]] = {
    "agent": [AgentSettings],
    "models": [ProviderSettings, ModelSettings, PriceSettings],
    "store": [StoreSettings],
    "media": [MediaSettings, S3Settings],
    "agents": [NamedAgentSettings],
    "routes": [RouteSettings],
    "roles": [RoleSettings],
    "webhooks": [WebhookSettings],
    "tools": [ToolSettings, *SECTIONS.values(), CustomToolSettings],
    "skills": [SkillSettings],
    "limits": [LimitSettings],
    "safety": [SafetySettings],
    "retention": [RetentionSettings],
    "logging": [LoggingSettings],
    "metrics": [MetricsSettings],
    "telemetry": [TelemetrySettings],
}


def test_its_example_is_valid_settings(operator: Operator) -> None:
    (example,) = examples(page("settings"))
    assert operator.settings(example, **TOKENS).hooks


def test_every_section_has_its_heading_there_or_a_page_of_its_own() -> None:
    headings = re.findall(r"^## (.*)$", page("settings"), re.MULTILINE)
    assert headings == [name for name in Settings.model_fields if name not in ELSEWHERE]


@pytest.mark.parametrize("heading", TABLES)
def test_every_setting_is_named_with_its_default(heading: str) -> None:
    text = section(page("settings"), heading)
    assert in_first_column(text) == [name for model in TABLES[heading] for name in model.fields()]
    shown = dict(re.findall(r"^\| `(\w+)` \| `([^`]*)` \|", text, re.MULTILINE))
    for model in TABLES[heading]:
        for name, field in model.fields().items():
            default = None if field.is_required() else field.get_default(call_default_factory=True)
            assert (name in shown) == (default is not None and name != "enabled"), name
            if isinstance(default, int | float):
                assert shown[name] in (f"{default:g}", str(default).lower())


def test_every_setting_of_a_hook_is_named_with_its_type() -> None:
    text = section(page("settings"), "hooks")
    of_all = set(HookSection.model_fields) | {"type"}
    assert set(in_first_column(text)) == {name for model in HOOKS.values() for name in model.model_fields}
    for kind, model in HOOKS.items():
        own = re.findall(rf"^\| `(\w+)` \| (?:required|`\[\]`) \| type {kind} only:", text, re.MULTILINE)
        assert set(own) == set(model.model_fields) - of_all
    assert re.findall(r"`(\w+)`", text.partition("| `points` |")[2].partition("\n")[0]) == list(get_args(Point))
