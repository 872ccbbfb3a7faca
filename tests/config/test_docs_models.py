"""The page of the models, held to the code."""

import re
from typing import get_args

from agent.model import ModelErrorKind
from agent.models.fallback import COOL_DOWN_SECONDS, FALLBACK_REASONS
from agent.models.retry import RETRYABLE
from config.models import ModelSettings
from config.settings import AgentSettings
from tests.config.conftest import Operator
from tests.config.test_docs import TOKENS, examples, page, section


def test_its_examples_are_valid_settings(operator: Operator) -> None:
    first, *others = [operator.settings(example, **TOKENS) for example in examples(page("models"))]
    assert first.agent.fallback
    assert others


def test_it_names_every_setting_of_a_provider_and_the_agents_with_their_defaults() -> None:
    agents, _, providers = section(page("models"), "Settings").partition("| in `[models.openai]`")
    agent, named = AgentSettings(), defaults(agents)
    assert {"model", "fallback", "small_model", "routing"} <= set(named) <= set(AgentSettings.model_fields)
    assert (named["model"], named["fallback"]) == (f'`"{agent.model}"`', f"`{agent.fallback}`")
    assert named["routing"] == "`false`"
    given = ModelSettings()
    assert list(defaults(providers)) == list(ModelSettings.model_fields)
    assert defaults(providers)["first_token_timeout"] == f"`{given.first_token_timeout}`"
    assert defaults(providers)["silence_timeout"] == f"`{given.silence_timeout}`"


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
