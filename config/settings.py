"""Every setting with its default and its meaning: the only place that says what the operator may write."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from config.errors import did_you_mean

Provider = Literal["openai", "anthropic"]
ToolName = Literal[
    "shell",
    "read_file",
    "write_file",
    "edit_file",
    "list_files",
    "fetch_url",
    "draw_chart",
    "send_file",
    "view_image",
]

PROVIDERS: tuple[Provider, ...] = get_args(Provider)
TOOLS: tuple[ToolName, ...] = get_args(ToolName)
USUAL_KEY: Mapping[str, str] = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}


def wrong(explanation: str, **context: object) -> PydanticCustomError:
    """An error in our own words. `at` in the context moves it to another key."""
    return PydanticCustomError("wrong", "{explanation}", {"explanation": explanation, **context})


def _web_address(text: str) -> str:
    if not re.fullmatch(r"https?://[^\s/]\S*", text):
        raise wrong("expected an address that begins with http:// or https://")
    return text


def _demo_or_provider_and_name(text: str) -> str:
    provider, _, name = text.partition(":")
    if text != "demo" and not name:
        raise wrong('expected "demo" or "provider:name", like "openai:gpt-5"')
    if text != "demo" and provider not in PROVIDERS:
        raise wrong(
            "no such provider. Known: openai, anthropic. A server that speaks OpenAI's protocol is "
            '"openai:name" with its address as base_url in [models.openai]'
        )
    return text


def _sqlite_file(text: str) -> str:
    if not re.fullmatch(r"sqlite:///[^?]+", text) or text.endswith(":memory:"):
        raise wrong("expected a file's address, like sqlite:///interject.db")
    return text


def _user(given: object) -> object:
    return str(given) if isinstance(given, int) and not isinstance(given, bool) else given


def _telegram_user(text: str) -> str:
    if not re.fullmatch(r"\*|\d+|@\w+", text):
        raise wrong('expected a user id, a name that begins with @, or "*"')
    return text


WebAddress = Annotated[str, AfterValidator(_web_address)]
Secret = Annotated[SecretStr, Field(min_length=1)]
PathText = Annotated[Path, Field(strict=False)]


class Section(BaseModel):
    """A table of settings: unknown names and wrong types are refused, and what was given is never repeated."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class AgentSettings(Section):
    """The agent: who answers, and within which bounds."""

    model: Annotated[str, AfterValidator(_demo_or_provider_and_name)] = Field(
        default="demo",
        description='Who answers: "provider:name" (providers: openai, anthropic), or "demo", which works offline.',
        examples=["openai:gpt-5"],
    )
    instructions: str | None = Field(
        default=None,
        description="What the agent is told about its task and its manner. Without it: a short general instruction.",
        examples=["You help the people of this team. Answer briefly."],
    )
    instructions_file: PathText | None = Field(
        default=None,
        description="A text file with the instructions, instead of `instructions`.",
        examples=["instructions.md"],
    )
    workspace: PathText = Field(
        default=Path("workspace"),
        description="The directory where the file and shell tools work.",
    )
    max_steps: int = Field(
        default=50,
        ge=1,
        description="After so many model calls in one turn the agent sums up and stops.",
    )
    max_running_turns: int = Field(
        default=500,
        ge=1,
        description="How many conversations may be worked on at the same time; others wait for their turn.",
    )

    @field_validator("instructions_file")
    @classmethod
    def _instructions_once(cls, file: Path | None, info: ValidationInfo) -> Path | None:
        if file is not None and info.data.get("instructions") is not None:
            raise wrong("impossible together with agent.instructions. Keep one of the two")
        return file


class ModelSettings(Section):
    """How to reach a model provider."""

    api_key: Secret | None = Field(
        default=None,
        description="The key. Without it, and without a base_url: the provider's usual environment variable.",
        examples=["${NAME}"],
    )
    base_url: WebAddress | None = Field(
        default=None,
        description="The address of another server that speaks the provider's protocol.",
        examples=["http://127.0.0.1:9999/v1"],
    )


class StoreSettings(Section):
    """The store: conversations and everything on its way."""

    url: Annotated[str, AfterValidator(_sqlite_file)] = Field(
        default="sqlite:///interject.db",
        description="Where it is kept: sqlite:/// and the file's path.",
    )


class MediaSettings(Section):
    """Pictures and files that were sent or made."""

    path: PathText = Field(default=Path("media"), description="The directory where they are kept.")


class WebSettings(Section):
    """The chat in the browser."""

    enabled: bool = Field(default=True, description="Whether there is one.")
    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="The network interface on which it listens. The default is reachable from this machine only.",
    )
    port: int = Field(default=8321, ge=0, le=65535, description="The port on which it listens; 0 takes a free one.")


class TelegramSettings(Section):
    """A Telegram bot."""

    type: Literal["telegram"] = Field(
        default="telegram",
        description="The platform. Needed where the section's own name does not say it.",
    )
    token: Secret = Field(
        description="The bot's token, from @BotFather.",
        examples=["${TELEGRAM_BOT_TOKEN}"],
    )
    api_url: WebAddress = Field(
        default="https://api.telegram.org",
        description="The Bot API server; a local one works.",
    )
    allow: list[Annotated[str, BeforeValidator(_user), AfterValidator(_telegram_user)]] = Field(
        default_factory=list,
        description='Who may talk to the bot: user ids, @names, or "*" for everybody. Empty: nobody.',
        examples=[["*"]],
    )
    groups: Literal["mention", "all", "off"] = Field(
        default="mention",
        description='In groups the bot answers when it is mentioned ("mention"), always ("all") or never ("off").',
    )


ChannelSettings = TelegramSettings
"""The settings of every platform: a union, once there is a second one."""

CHANNELS: Mapping[str, type[ChannelSettings]] = {"telegram": TelegramSettings}
"""A platform's settings by the `type` of a [channels.<name>] section."""


def _by_type(table: object) -> object:
    if not isinstance(table, dict):
        return table
    kind = table["type"]
    if not isinstance(kind, str) or kind not in CHANNELS:
        hint = did_you_mean(str(kind), sorted(CHANNELS))
        raise wrong(f"no such type of channel. {hint} A section with a name of its own says which it is: type = …")
    return CHANNELS[kind].model_validate(table)


class ToolSettings(Section):
    """What the agent can do."""

    enabled: list[ToolName] = Field(
        default_factory=lambda: list(TOOLS),
        description="The tools that the agent may use.",
    )


class Settings(Section):
    """Everything that can be set. A section's description is the docstring of its class."""

    agent: AgentSettings = Field(default_factory=AgentSettings)
    models: dict[Provider, ModelSettings] = Field(default_factory=dict, validate_default=True)
    store: StoreSettings = Field(default_factory=StoreSettings)
    media: MediaSettings = Field(default_factory=MediaSettings)
    web: WebSettings = Field(default_factory=WebSettings)
    channels: dict[str, Annotated[ChannelSettings, BeforeValidator(_by_type)]] = Field(default_factory=dict)
    tools: ToolSettings = Field(default_factory=ToolSettings)

    @field_validator("models")
    @classmethod
    def _the_agents_model_has_a_key(
        cls, models: dict[Provider, ModelSettings], info: ValidationInfo
    ) -> dict[Provider, ModelSettings]:
        agent = info.data.get("agent")
        if not isinstance(agent, AgentSettings) or agent.model == "demo":
            return models
        provider = agent.model.partition(":")[0]
        if not any(name == provider and (model.api_key or model.base_url) for name, model in models.items()):
            raise wrong(
                f"{provider} needs a key. Set the environment variable {USUAL_KEY[provider]}, or api_key in "
                f"[models.{provider}]",
                at=("agent", "model"),
            )
        return models

    @field_validator("channels", mode="before")
    @classmethod
    def _named_after_their_type(cls, channels: object) -> object:
        if not isinstance(channels, dict):
            return channels
        return {
            name: {"type": name, **channel} if isinstance(channel, dict) else channel
            for name, channel in channels.items()
        }
