"""Every setting with its default and its meaning: the only place that says what the operator may write.

Models, channels, hooks and tools have their sections in modules of those names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo, field_validator

from config.channels import OUR_OWN, ChannelSettings, SlackSettings, channel_by_type
from config.errors import Fault, Key
from config.hooks import HookSettings, hook_by_type
from config.models import PROVIDERS, USUAL_KEY, ModelName, ModelSettings, Provider, RealModelName
from config.section import PathText, Positive, Section, refuse, refuse_entries, wrong
from config.tools import ToolSettings

SMALLEST_WINDOW = 4000
"""Tokens. In a smaller one there is no room for instructions, tools and an answer."""


def _openai_and_name(text: str) -> str:
    if not re.fullmatch(r"openai:.+", text):
        raise wrong('expected "openai:name", like "openai:gpt-4o-transcribe"')
    return text


def _sqlite_file(text: str) -> str:
    if not re.fullmatch(r"sqlite:///[^?]+", text) or text.endswith(":memory:"):
        raise wrong("expected a file's address, like sqlite:///interject.db")
    return text


def _no_window_or_one_to_work_in(tokens: int) -> int:
    if tokens != 0 and tokens < SMALLEST_WINDOW:
        raise wrong(f"expected {SMALLEST_WINDOW} or more, or 0 for the model's own")
    return tokens


class AgentSettings(Section):
    """The agent: who answers, and within which bounds."""

    model: ModelName = Field(
        default="demo",
        description='Who answers: "provider:name" (providers: openai, anthropic), or "demo", which works offline.',
        examples=["openai:gpt-5"],
    )
    fallback: list[RealModelName] = Field(
        default_factory=list,
        description="Who answers instead, in this order, when the model is overloaded, cannot be reached, or is of no "
        "use for another reason of its own.",
        examples=[["anthropic:claude-sonnet-5"]],
    )
    small_model: ModelName | None = Field(
        default=None,
        description="Who writes titles and summaries, in the form of `model`, and answers small talk where `routing` "
        "is on. Without it the model itself sums up, and nothing has a title.",
        examples=["openai:gpt-5-mini"],
    )
    routing: bool = Field(
        default=False,
        description="Whether small talk is answered by the small model. Needs `small_model`.",
    )
    context_window: Annotated[int, AfterValidator(_no_window_or_one_to_work_in)] = Field(
        default=0,
        description="How many tokens the model can look at; before a conversation outgrows them, its older part is "
        "summed up. 0: what is known of the model.",
    )
    context_reserve: int = Field(
        default=16000,
        ge=0,
        description="How many tokens of it stay free for the answer; of a small window, a quarter at most.",
    )
    context_full_at: float = Field(
        default=0.8,
        ge=0.1,
        le=1,
        description="How much of the rest a conversation may fill until it is summed up.",
    )
    context_keep: float = Field(
        default=0.3,
        ge=0,
        le=0.8,
        description="How much of the window its newest part may take, which is not summed up.",
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
    tell_when_waiting: int = Field(
        default=20,
        ge=1,
        description="When so many messages wait in one conversation, the person is told. None is ever dropped.",
    )
    transcription_model: Annotated[str, AfterValidator(_openai_and_name)] | None = Field(
        default=None,
        description='What turns voice notes into text: "openai:name". Without it the agent is told that there is one.',
        examples=["openai:gpt-4o-transcribe"],
    )
    shutdown_grace: int = Field(
        default=10,
        ge=0,
        description="For how many seconds running turns may go on when the gateway is stopped. What is not done by "
        "then goes on at the next start.",
    )

    @field_validator("routing")
    @classmethod
    def _somewhere_to_route_to(cls, routing: bool, info: ValidationInfo) -> bool:
        # Where a small model is given and is no good, that is told already.
        if routing and info.data.get("small_model", "") is None:
            raise wrong("needs small_model")
        return routing

    @field_validator("fallback")
    @classmethod
    def _others_than_the_model(cls, fallback: list[str], info: ValidationInfo) -> list[str]:
        model = info.data.get("model")
        refuse_entries(
            [index for index, name in enumerate(fallback) if name == model or name in fallback[:index]],
            "stands there already: each model is asked once",
        )
        return fallback

    @field_validator("instructions_file")
    @classmethod
    def _instructions_once(cls, file: Path | None, info: ValidationInfo) -> Path | None:
        if file is not None and info.data.get("instructions") is not None:
            raise wrong("impossible together with agent.instructions. Keep one of the two")
        return file


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
    show_reasoning: bool = Field(default=False, description="Whether what the model thinks is shown there.")


class LimitSettings(Section):
    """Limits on what turns may cost, as far as prices are known, and on the work that they delegate."""

    turn_cost: Positive | None = Field(
        default=None,
        description="How many dollars a turn may cost, with all that it delegates, until somebody lets it go on. "
        "Without it: any number.",
        examples=[1.0],
    )
    person_daily_cost: Positive | None = Field(
        default=None,
        description="How many dollars the turns of one person may cost in a day. Without it: any number.",
        examples=[5.0],
    )
    daily_cost: Positive | None = Field(
        default=None,
        description="How many dollars all turns together may cost in a day. Without it: any number.",
        examples=[50.0],
    )
    delegate_depth: int = Field(
        default=2,
        ge=0,
        description="How deep delegated work may delegate again: 1 lets only people's own turns delegate, 0 none.",
    )
    delegate_running: int = Field(
        default=8,
        ge=1,
        description="How many tasks that come from one turn, and how many calls of one conversation in the background, "
        "may run at the same time.",
    )
    delegate_tokens: int | None = Field(
        default=None,
        ge=1,
        description="How many tokens, read and written, a delegated task may use before it is ended. Without it: any "
        "number.",
        examples=[500_000],
    )


class Settings(Section):
    """Everything that can be set. A section's description is the docstring of its class."""

    agent: AgentSettings = Field(default_factory=AgentSettings)
    models: dict[Provider, ModelSettings] = Field(default_factory=dict, validate_default=True)
    store: StoreSettings = Field(default_factory=StoreSettings)
    media: MediaSettings = Field(default_factory=MediaSettings)
    web: WebSettings = Field(default_factory=WebSettings)
    channels: dict[str, Annotated[ChannelSettings, BeforeValidator(channel_by_type)]] = Field(default_factory=dict)
    hooks: list[Annotated[HookSettings, BeforeValidator(hook_by_type)]] = Field(default_factory=list)
    tools: ToolSettings = Field(default_factory=ToolSettings)
    limits: LimitSettings = Field(default_factory=LimitSettings)

    @field_validator("models")
    @classmethod
    def _the_agents_models_have_keys(
        cls, models: dict[Provider, ModelSettings], info: ValidationInfo
    ) -> dict[Provider, ModelSettings]:
        agent = info.data.get("agent")
        if isinstance(agent, AgentSettings):
            refuse(_keyless(agent, ("agent",), models))
        return models

    @field_validator("models")
    @classmethod
    def _only_anthropic_searches(cls, models: dict[Provider, ModelSettings]) -> dict[Provider, ModelSettings]:
        refuse(
            Fault(("models", name, "web_search"), "only [models.anthropic] has it")
            for name, given in models.items()
            if given.web_search and name != "anthropic"
        )
        return models

    @field_validator("hooks")
    @classmethod
    def _each_hook_has_a_name_of_its_own(cls, hooks: list[HookSettings]) -> list[HookSettings]:
        names = [hook.name for hook in hooks]
        refuse(
            Fault(("hooks", index, "name"), "stands there already: each hook has a name of its own")
            for index, name in enumerate(names)
            if name in names[:index]
        )
        return hooks

    @field_validator("channels")
    @classmethod
    def _the_channels_have_what_they_need(
        cls, channels: dict[str, ChannelSettings], info: ValidationInfo
    ) -> dict[str, ChannelSettings]:
        models, web = info.data.get("models"), info.data.get("web")
        faults: list[Fault] = []
        for name, channel in channels.items():
            key = ("channels", name)
            if name in OUR_OWN:
                faults.append(Fault(key, f"{name} is the gateway's own. Give this channel another name"))
            if isinstance(models, dict):
                faults += _keyless(channel, key, models)
            if isinstance(web, WebSettings) and isinstance(channel, SlackSettings):
                faults += _unheard(channel, key, web)
        refuse(faults)
        return channels

    @field_validator("channels", mode="before")
    @classmethod
    def _named_after_their_type(cls, channels: object) -> object:
        if not isinstance(channels, dict):
            return channels
        return {
            name: {"type": name, **channel} if isinstance(channel, dict) else channel
            for name, channel in channels.items()
        }


def _keyless(
    section: AgentSettings | ChannelSettings, at: Key, models: Mapping[Provider, ModelSettings]
) -> Iterator[Fault]:
    """The models named in a section, for whose provider there is neither a key nor another server."""
    named: dict[Key, str | None] = {("model",): section.model}
    if isinstance(section, AgentSettings):
        named[("small_model",)] = section.small_model
        named[("transcription_model",)] = section.transcription_model
        named |= {("fallback", index): model for index, model in enumerate(section.fallback)}
    reachable = {name for name, known in models.items() if known.api_key or known.base_url}
    for setting, model in named.items():
        provider = (model or "demo").partition(":")[0]
        if provider in PROVIDERS and provider not in reachable:
            yield Fault(
                (*at, *setting),
                f"{provider} needs a key. Set the environment variable {USUAL_KEY[provider]}, or api_key in "
                f"[models.{provider}]",
            )


def _unheard(channel: SlackSettings, at: Key, web: WebSettings) -> Iterator[Fault]:
    if channel.signing_secret is not None and not web.enabled:
        yield Fault(
            (*at, "signing_secret"),
            "needs the web server. Remove enabled = false from [web], or use app_token (Socket Mode) instead",
        )


def every_secret(settings: Settings) -> tuple[SecretStr, ...]:
    """What must never be shown, wherever it stands in the settings."""
    return tuple(_secrets_in(settings))


def _secrets_in(value: object) -> Iterator[SecretStr]:
    match value:
        case SecretStr():
            yield value
        case Section():
            for _, inner in value:
                yield from _secrets_in(inner)
        case dict():
            for inner in value.values():
                yield from _secrets_in(inner)
        case list():
            for inner in value:
                yield from _secrets_in(inner)
