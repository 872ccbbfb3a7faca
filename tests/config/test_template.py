import re
import tomllib

import pytest
from pydantic import SecretStr

from config.agents import NamedAgentSettings, RouteSettings
from config.channels import CHANNELS, DiscordSettings, SlackSettings, TelegramSettings
from config.hooks import HOOKS
from config.mcp import EXAMPLES, McpToolRules
from config.media import S3Settings
from config.models import ModelSettings, PriceSettings, ProviderSettings
from config.roles import RoleSettings
from config.settings import LimitSettings, Settings
from config.template import Answers, ChannelAnswers, template
from config.tools import SECTIONS, TOOLS, CustomToolSettings
from config.webhooks import WebhookSettings
from tests.config.conftest import Operator

EVERYTHING = Answers(
    model="openai:gpt-5",
    api_key="${OPENAI_API_KEY}",
    base_url="http://127.0.0.1:9/v1",
    channels=(
        ChannelAnswers("telegram", {"token": "${TELEGRAM_BOT_TOKEN}"}, ("@ann", "42")),
        ChannelAnswers("slack", {"bot_token": "${SLACK_BOT_TOKEN}", "app_token": "xapp-1"}, ("U012AB3CD",)),
        ChannelAnswers("discord", {"token": "${DISCORD_BOT_TOKEN}"}),
    ),
)
TOKENS = {
    "TELEGRAM_BOT_TOKEN": "1:a",
    "SLACK_BOT_TOKEN": "xoxb-1",
    "SLACK_APP_TOKEN": "xapp-1",
    "SLACK_SIGNING_SECRET": "s",
    "DISCORD_BOT_TOKEN": "d",
    "HOOK_SECRET": "h",
}


def uncommented(text: str) -> str:
    """The text after removing the "#" of every setting and section."""
    return re.sub(r"^#(?=[\[a-z])", "", text, flags=re.MULTILINE)


def test_without_answers_it_sets_nothing(operator: Operator) -> None:
    assert operator.settings(template(Answers())) == operator.settings("")


def test_comments_have_no_gaps() -> None:
    assert not [line for line in template(EVERYTHING).splitlines() if line.startswith("# ") and "  " in line]


def test_answers_are_filled_in(operator: Operator) -> None:
    settings = operator.settings(template(EVERYTHING), OPENAI_API_KEY="k", **TOKENS)

    assert settings.agent.model == "openai:gpt-5"
    assert settings.models["openai"].api_key == [SecretStr("k")]
    assert settings.models["openai"].base_url == "http://127.0.0.1:9/v1"
    telegram, slack, discord = settings.channels.values()
    assert isinstance(telegram, TelegramSettings)
    assert isinstance(slack, SlackSettings)
    assert isinstance(discord, DiscordSettings)
    assert (telegram.token, telegram.allow) == (SecretStr("1:a"), ["@ann", "42"])
    assert (slack.bot_token, slack.app_token) == (SecretStr("xoxb-1"), SecretStr("xapp-1"))
    assert (slack.signing_secret, slack.allow) == (None, ["U012AB3CD"])
    assert (discord.token, discord.allow) == (SecretStr("d"), [])


@pytest.mark.parametrize("model", ["openai:gpt-5", "anthropic:claude", "openrouter:anthropic/claude"])
def test_a_model_alone_is_enough_if_its_key_is_in_the_standard_variable(operator: Operator, model: str) -> None:
    keys = {"OPENAI_API_KEY": "k", "ANTHROPIC_API_KEY": "k", "OPENROUTER_API_KEY": "k"}
    settings = operator.settings(template(Answers(model=model)), **keys)

    assert settings.agent.model == model


def test_the_provider_of_the_answer_has_its_section(operator: Operator) -> None:
    text = template(Answers(model="groq:llama", api_key="${GROQ_API_KEY}"))

    assert operator.settings(text, GROQ_API_KEY="k").models["groq"].api_key == [SecretStr("k")]
    assert "[models.openai]" not in text


@pytest.mark.parametrize("text", ['a"b\\c', "tab\tand\nline", "\x00\x1f\x7f", "żółw 🐢", "'''", "# no"])
def test_any_text_survives(operator: Operator, text: str) -> None:
    settings = operator.settings(template(Answers(channels=(ChannelAnswers("telegram", {"token": text}),))))

    assert settings.channels["telegram"].secrets == (SecretStr(text),)


def test_every_setting_is_in_it_with_its_description() -> None:
    text = template(Answers())
    written = tomllib.loads(uncommented(text))
    prose = " ".join(line.removeprefix("# ") for line in text.splitlines())

    sections = {
        **{name: (written[name], field.annotation) for name, field in Settings.model_fields.items() if name in written},
        "agents.research": (written["agents"]["research"], NamedAgentSettings),
        "routes": (written["routes"][0], RouteSettings),
        "webhooks": (written["webhooks"][0], WebhookSettings),
        **{f"roles.{name}": (role, RoleSettings) for name, role in written["roles"].items()},
        "media.s3": (written["media"].pop("s3"), S3Settings),
        "models.openai.gpt-5": (written["models"]["openai"].pop("gpt-5"), ModelSettings),
        "models.openai": (written["models"]["openai"], ProviderSettings),
        **{f"channels.{name}": (written["channels"][name], model) for name, model in CHANNELS.items()},
        **{f"hooks.{hook['type']}": (hook, HOOKS[hook["type"]]) for hook in written["hooks"]},
        **{f"tools.{name}": (written["tools"].pop(name), model) for name, model in SECTIONS.items()},
        "tools.word_count": (written["tools"].pop("word_count"), CustomToolSettings),
        "mcp.tools": (written["mcp"]["github"].pop("tools")["create_issue"], McpToolRules),
        **{f"mcp.{name}": (written["mcp"][name], model) for name, model in EXAMPLES.items()},
    }
    assert set(written) == set(Settings.model_fields)
    assert [hook["type"] for hook in written["hooks"]] == list(HOOKS)
    for name in ("agents", "models", "channels", "roles", "hooks", "mcp"):
        sections.pop(name)
    for section, model in sections.values():
        assert list(section) == list(model.fields())
        for field in model.fields().values():
            assert field.description
            assert field.description in prose


def test_a_timeout_is_shown_with_its_default_and_fallback_with_an_example() -> None:
    written = tomllib.loads(uncommented(template(Answers())))

    assert written["agent"]["fallback"] == ["anthropic:claude-sonnet-5"]
    assert written["models"]["openai"]["silence_timeout"] == 60


def test_removing_every_comment_sign_gives_valid_settings(operator: Operator) -> None:
    (operator.file.parent / "skills").mkdir()
    one_of_two = r"^#(instructions_file|signing_secret).*\n"
    text = re.sub(one_of_two, "", template(Answers()), flags=re.MULTILINE)

    settings = operator.settings(
        uncommented(text),
        OPENAI_API_KEY="k",
        ANTHROPIC_API_KEY="k",
        BRAVE_API_KEY="k",
        OTLP_TOKEN="o",
        GITHUB_TOKEN="g",
        DOCS_TOKEN="d",
        MCP_CLIENT_SECRET="m",
        WEBHOOK_SECRET="w",
        **TOKENS,
    )

    assert settings.tools.enabled == list(TOOLS)
    assert settings.agent.max_steps == 50
    assert [hook.type for hook in settings.hooks] == list(HOOKS)
    assert settings.models["openai"].models["gpt-5"].price == PriceSettings(input=1.25, output=10, cache_read=0.125)
    assert settings.limits == LimitSettings(turn_cost=1, person_daily_cost=5, daily_cost=50, delegate_tokens=500_000)
