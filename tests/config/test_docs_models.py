"""The page of the models, held to the code."""

import re
from typing import get_args

from agent.model import ModelErrorKind
from agent.models.fallback import COOL_DOWN_SECONDS, FALLBACK_REASONS
from agent.models.retry import RETRYABLE
from config.models import ModelSettings, ProviderSettings, provider_and_name
from config.presets import CLOUD_FIRST_TOKEN, LOCAL_FIRST_TOKEN, PRESETS, ProviderType
from config.settings import AgentSettings
from gateway.assembly.models import provider_of
from tests.config.conftest import Operator
from tests.config.test_docs import TOKENS, examples, page, section


def test_its_examples_are_valid_settings(operator: Operator) -> None:
    first, *others = [operator.settings(example, **TOKENS) for example in examples(page("models"))]
    assert first.agent.fallback
    assert others


def test_a_local_model_with_a_cloud_fallback_is_three_lines(operator: Operator) -> None:
    (example,) = [text for text in examples(page("models")) if len(text.splitlines()) == 3]
    settings = operator.settings(example, ANTHROPIC_API_KEY="sk")
    names = [settings.agent.model, *settings.agent.fallback]
    local, cloud = (provider_of(settings, provider_and_name(name)[0]) for name in names)
    assert (local.base_url, local.keys) == ("http://127.0.0.1:11434/v1", ())
    assert (cloud.base_url, cloud.keys) == ("https://api.anthropic.com", ("sk",))


def test_it_names_every_known_provider_with_its_key() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| [^|]* \| (?:`(\w+)`|none) \|$", section(page("models"), "Providers and keys"), re.M
    )
    assert rows == [(name, preset.key_variable) for name, preset in PRESETS.items()]


def test_it_names_every_protocol() -> None:
    assert tuple(re.findall(r'^\| `"([\w-]+)"` \|', page("models"), re.MULTILINE)) == get_args(ProviderType)


def test_it_names_every_setting_of_a_provider_and_of_a_model_and_the_agents_with_their_defaults() -> None:
    agents, _, others = section(page("models"), "Settings").partition("| in `[models.<provider>]`")
    providers, _, models = others.partition('| in `[models.<provider>."<model>"]`')
    agent, named = AgentSettings(), defaults(agents)
    assert {"model", "fallback", "small_model", "routing"} <= set(named) <= set(AgentSettings.model_fields)
    assert (named["model"], named["fallback"]) == (f'`"{agent.model}"`', f"`{agent.fallback}`")
    assert named["routing"] == "`false`"
    assert list(defaults(providers)) == list(ProviderSettings.model_fields)
    assert defaults(providers)["first_token_timeout"] == f"{CLOUD_FIRST_TOKEN}; {LOCAL_FIRST_TOKEN} for local servers"
    assert defaults(providers)["silence_timeout"] == f"`{ProviderSettings().silence_timeout}`"
    assert list(defaults(models)) == list(ModelSettings.model_fields)


def test_it_says_of_every_error_whether_it_is_retried_and_the_cool_down() -> None:
    rows = re.findall(r"^\| `(\w+)` \| .* \| (\w+) \| (\w+)[^|]*\|$", section(page("models"), "Fallback"), re.MULTILINE)
    assert rows == [
        (
            kind,
            "once" if kind == "timeout" else "yes" if kind in RETRYABLE else "no",
            f"{COOL_DOWN_SECONDS.get(kind, 0):.0f}" if kind in FALLBACK_REASONS else "no",
        )
        for kind in get_args(ModelErrorKind)
    ]


def defaults(table: str) -> dict[str, str]:
    return dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", table, re.MULTILINE))
