"""Every setting with its default and its description.

The sections for models, channels, hooks and tools are in modules of those names.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo, field_validator

from config.age import Age
from config.agents import (
    AgentName,
    AgentSection,
    AgentServers,
    AgentSkills,
    AgentTools,
    NamedAgentSettings,
    RouteSettings,
    faults_of_agents,
)
from config.channels import BUILT_IN_CHANNELS, ChannelSettings, SlackSettings, TelegramSettings, channel_by_type
from config.errors import Fault, Key
from config.hooks import HookSettings, hook_by_type
from config.mcp import McpSettings, ServerName, mcp_by_place
from config.media import MediaSettings
from config.models import (
    MIN_CONTEXT_WINDOW,
    ModelName,
    ProviderSettings,
    RealModelName,
    fault_of_model,
    faults_of,
    provider_and_name,
    type_of,
)
from config.presets import PRESETS
from config.roles import RolesSettings
from config.section import PathText, Positive, Section, refuse, refuse_entries, wrong
from config.signals import LoggingSettings, MetricsSettings, TelemetrySettings
from config.skills import SkillSettings
from config.store import StoreSettings
from config.tools import ToolSettings
from config.web import WebSettings
from config.webhooks import WebhookSettings


def _known_or_large_enough(tokens: int) -> int:
    if tokens != 0 and tokens < MIN_CONTEXT_WINDOW:
        raise wrong(f"expected {MIN_CONTEXT_WINDOW} or more, or 0 for the known window of the model")
    return tokens


def _class(text: str) -> str:
    module, _, name = text.rpartition(":")
    if (
        not (module.endswith(".py") or all(part.isidentifier() for part in module.split(".")))
        or not name.isidentifier()
    ):
        raise wrong('expected "module:Class" or "folder/file.py:Class"')
    return text


class AgentSettings(AgentSection):
    """The agent: its model, its system prompt and its limits."""

    model: ModelName = Field(
        default="demo",
        description='The model: "provider:name", or "demo", the built-in offline demo. Known providers: '
        f"{', '.join(PRESETS)}; others have a section in [models].",
        examples=["openai:gpt-5"],
    )
    fallback: list[RealModelName] = Field(
        default_factory=list,
        description="Fallback models, tried in this order when the model fails: overloaded, unreachable, rate "
        "limit, timeout.",
        examples=[["anthropic:claude-sonnet-5"]],
    )
    outage_patience: int = Field(
        default=600,
        ge=0,
        description="Seconds for which a task waits, and asks again, while no model answers. 0: it fails after a few "
        "retries.",
    )
    small_model: ModelName | None = Field(
        default=None,
        description="Model for titles, summaries and, with `routing`, small talk. Without it the main model "
        "writes the summaries, and conversations have no titles.",
        examples=["openai:gpt-5-mini"],
    )
    routing: bool = Field(
        default=False,
        description="Whether the small model answers small talk. Needs `small_model`.",
    )
    vision_model: RealModelName | None = Field(
        default=None,
        description="Model that answers in place of the conversation's while its task has pictures, unless that model "
        "has `vision = true`. Default: none.",
        examples=["openai:gpt-5-mini"],
    )
    context_window: Annotated[int, AfterValidator(_known_or_large_enough)] = Field(
        default=0,
        description="Context window, in tokens, of the models that have none of their own in [models]. Before a "
        "conversation outgrows it, its older part is summarized (compaction). 0: the known context window of the "
        "model.",
    )
    context_reserve: int = Field(
        default=16000,
        ge=0,
        description="Tokens of the context window that stay free for the answer; at most a quarter of a small window.",
    )
    context_full_at: float = Field(
        default=0.8,
        ge=0.1,
        le=1,
        description="Share of the remaining context window at which the conversation is compacted.",
    )
    context_keep: float = Field(
        default=0.3,
        ge=0,
        le=0.8,
        description="Share of the context window for the newest part of the conversation, which is not compacted.",
    )
    auto_compact: bool = Field(
        default=True,
        description="Whether conversations are compacted by themselves before they outgrow the context window. Without "
        "it people do that with `/compact`.",
    )
    context: Annotated[str, AfterValidator(_class)] | None = Field(
        default=None,
        description="Context manager of your own, which decides what the model is shown of a conversation: "
        '"module:Class", or "folder/file.py:Class". Default: the built-in one, which summarizes the older part.',
        examples=["context/last_exchanges.py:LastExchanges"],
    )
    instructions: str | None = Field(
        default=None,
        description="System prompt: the agent's task and style. Default: a short general one.",
        examples=["You help the people of this team. Answer briefly."],
    )
    instructions_file: PathText | None = Field(
        default=None,
        description="Text file with the system prompt, instead of `instructions`.",
        examples=["instructions.md"],
    )
    context_files: list[PathText] = Field(
        default_factory=lambda: [Path("AGENTS.md")],
        max_length=20,
        description="Text files that are added to the system prompt, if they exist: those beside this file, and those "
        "of the same name in the workspace, which people and the agent write. At most 32 kB of each.",
        examples=[["AGENTS.md", "persona.md"]],
    )
    tools: AgentTools = None
    mcp: AgentServers = None
    skills: AgentSkills = None
    delegates: list[AgentName] = Field(
        default_factory=list,
        description="Agents of [agents] that it may give tasks to with the tool `delegate`. They work with their own "
        "tools.",
        examples=[["research"]],
    )
    workspace: PathText = Field(
        default=Path("workspace"),
        description="Directory in which the file and shell tools work; see `workspaces`. It must not contain the "
        "gateway's own files. With several machines: one within the data directory is kept in step by the media store, "
        "any other is one that they share.",
    )
    workspaces: Literal["conversation", "person", "agent", "shared"] = Field(
        default="conversation",
        description='Who shares files: each conversation has a folder of its own in the workspace ("conversation"), '
        'each person ("person"), each channel ("agent"), or all work in the workspace itself ("shared").',
    )
    max_steps: int = Field(
        default=50,
        ge=1,
        description="Maximum number of model calls in one turn. After that the agent sums up and stops.",
    )
    max_running_turns: int = Field(
        default=500,
        ge=1,
        description="Maximum number of turns that run at the same time; other conversations are queued.",
    )
    max_running_turns_total: int | None = Field(
        default=None,
        ge=1,
        description="Maximum number of turns that all workers of a PostgreSQL database together run at the same time; "
        "other conversations are queued. Without it each worker has only its own limit.",
        examples=[1000],
    )
    tell_when_waiting: int = Field(
        default=20,
        ge=1,
        description="Number of queued messages in one conversation at which the person is notified. No message is "
        "ever dropped.",
    )
    transcription_model: RealModelName | None = Field(
        default=None,
        description="Speech-to-text model for voice notes, of a provider of the type openai. Without it the agent is "
        "only told that there is a voice note.",
        examples=["openai:gpt-4o-transcribe"],
    )
    shutdown_grace: int = Field(
        default=10,
        ge=0,
        description="Seconds that running turns have to finish when the gateway is stopped. Unfinished turns "
        "resume at the next start.",
    )

    @field_validator("routing")
    @classmethod
    def _routing_needs_a_small_model(cls, routing: bool, info: ValidationInfo) -> bool:
        # An invalid small model is reported already.
        if routing and info.data.get("small_model", "") is None:
            raise wrong("needs small_model")
        return routing

    @field_validator("fallback")
    @classmethod
    def _no_model_twice(cls, fallback: list[str], info: ValidationInfo) -> list[str]:
        model = info.data.get("model")
        refuse_entries(
            [index for index, name in enumerate(fallback) if name == model or name in fallback[:index]],
            "is already listed: each model may appear only once",
        )
        return fallback


class LimitSettings(Section):
    """Limits on messages, on cost, as far as prices are known, and on delegated tasks (subagents)."""

    messages_per_minute: int = Field(
        default=30,
        ge=1,
        description="Maximum number of messages that one person may send per minute. Further ones are refused, and the "
        "person is told. Commands count too, except /stop, /status, /help and buttons, which always work.",
    )
    turn_cost: Positive | None = Field(
        default=None,
        description="Maximum cost of one turn in dollars, delegated tasks included. At the limit, people are "
        "asked whether to continue. Default: no limit.",
        examples=[1.0],
    )
    person_daily_cost: Positive | None = Field(
        default=None,
        description="Maximum cost of one person's turns per day, in dollars. Default: no limit.",
        examples=[5.0],
    )
    daily_cost: Positive | None = Field(
        default=None,
        description="Maximum cost of all turns per day, in dollars. Default: no limit.",
        examples=[50.0],
    )
    delegate_depth: int = Field(
        default=2,
        ge=0,
        description="Maximum nesting of delegated tasks: 1 lets only people's own turns delegate, 0 turns "
        "delegation off.",
    )
    delegate_running: int = Field(
        default=8,
        ge=1,
        description="Maximum number of delegated tasks of one turn, and of background tasks of one conversation, "
        "that run at the same time.",
    )
    delegate_tokens: int | None = Field(
        default=None,
        ge=1,
        description="Maximum number of tokens, input and output, of one delegated task. Default: no limit.",
        examples=[500_000],
    )


class SafetySettings(Section):
    """Protection against text from outside that asks the agent to do something."""

    foreign_text: Literal["ask", "allow", "deny"] = Field(
        default="ask",
        description="What happens to calls that can have effects outside the workspace, such as shell commands outside "
        "the sandbox, after the agent has read text from outside (a web page, a message of somebody who may not write "
        'here), until a person writes again: each needs approval ("ask"), they are made ("allow"), or they are denied '
        '("deny"). Where nobody can be asked, as in delegated tasks, "ask" denies them.',
    )


class RetentionSettings(Section):
    """How long data is kept: ages like 12h, 30d, 8w or 1y."""

    conversations: Age | None = Field(
        default=None,
        description="Age at which messages, answers and their files are deleted; a conversation without newer ones is "
        "deleted with its workspace. A channel's `retention` comes first. Default: never.",
        examples=["90d"],
    )
    media: Age | None = Field(
        default=None,
        description="Age at which pictures and files are deleted, also those of newer conversations. Default: with "
        "their conversation.",
        examples=["30d"],
    )
    logs: Age = Field(default="1y", description="Age at which entries of the audit log are deleted.")


class Settings(Section):
    """All settings. A section's description is the docstring of its class."""

    agent: AgentSettings = Field(default_factory=AgentSettings)
    models: dict[str, ProviderSettings] = Field(default_factory=dict, validate_default=True)
    store: StoreSettings = Field(default_factory=StoreSettings)
    media: MediaSettings = Field(default_factory=MediaSettings)
    web: WebSettings = Field(default_factory=WebSettings)
    channels: dict[str, Annotated[ChannelSettings, BeforeValidator(channel_by_type)]] = Field(default_factory=dict)
    agents: dict[AgentName, NamedAgentSettings] = Field(default_factory=dict)
    routes: list[RouteSettings] = Field(default_factory=list, validate_default=True)
    roles: RolesSettings = Field(default_factory=RolesSettings)
    hooks: list[Annotated[HookSettings, BeforeValidator(hook_by_type)]] = Field(default_factory=list)
    webhooks: list[WebhookSettings] = Field(default_factory=list)
    tools: ToolSettings = Field(default_factory=ToolSettings)
    skills: SkillSettings = Field(default_factory=SkillSettings)
    mcp: dict[ServerName, Annotated[McpSettings, BeforeValidator(mcp_by_place)]] = Field(default_factory=dict)
    limits: LimitSettings = Field(default_factory=LimitSettings)
    safety: SafetySettings = Field(default_factory=SafetySettings)
    retention: RetentionSettings = Field(default_factory=RetentionSettings)
    logging: LoggingSettings = Field(default_factory=LoggingSettings)
    metrics: MetricsSettings = Field(default_factory=MetricsSettings)
    telemetry: TelemetrySettings = Field(default_factory=TelemetrySettings)

    @field_validator("models")
    @classmethod
    def _providers_are_complete(
        cls, models: dict[str, ProviderSettings], info: ValidationInfo
    ) -> dict[str, ProviderSettings]:
        """And so are the agent's models."""
        faults = [fault for name, given in models.items() for fault in faults_of(name, given)]
        refused = {fault.key[1] for fault in faults}
        agent = info.data.get("agent")
        if isinstance(agent, AgentSettings):
            faults += _unreachable_models(agent, ("agent",), models, besides=refused)
        refuse(faults)
        return models

    @field_validator("agents")
    @classmethod
    def _models_of_agents_are_reachable(
        cls, agents: dict[str, NamedAgentSettings], info: ValidationInfo
    ) -> dict[str, NamedAgentSettings]:
        models = info.data.get("models")
        if isinstance(models, dict):
            refuse(
                fault
                for name, agent in agents.items()
                for fault in _unreachable_models(agent, ("agents", name), models)
            )
        return agents

    @field_validator("routes")
    @classmethod
    def _routes_lead_to_agents(cls, routes: list[RouteSettings], info: ValidationInfo) -> list[RouteSettings]:
        agent, agents, channels = (info.data.get(name) for name in ("agent", "agents", "channels"))
        if isinstance(agent, AgentSettings) and isinstance(agents, dict) and isinstance(channels, dict):
            refuse(faults_of_agents(agents, agent.delegates, routes, {*channels, *BUILT_IN_CHANNELS}))
        return routes

    @field_validator("roles")
    @classmethod
    def _models_of_roles_are_configured(cls, roles: RolesSettings, info: ValidationInfo) -> RolesSettings:
        agent, channels = info.data.get("agent"), info.data.get("channels", {})
        if not isinstance(agent, AgentSettings):
            return roles
        own = [channel.model for channel in channels.values()]
        for named in info.data.get("agents", {}).values():
            own += [named.model, *(named.fallback or ())]
        described = (f"{name}:{model}" for name, given in info.data.get("models", {}).items() for model in given.models)
        known = {agent.model, agent.small_model, agent.vision_model, *agent.fallback, *own, *described}
        refuse(
            Fault(
                ("roles", role, "models", index),
                "is no model of [agent], [agents], a channel or [models]: configure it there",
            )
            for role, rights in roles
            for index, model in enumerate(rights.models or ())
            if model not in known
        )
        return roles

    @field_validator("tools")
    @classmethod
    def _image_model_is_reachable(cls, tools: ToolSettings, info: ValidationInfo) -> ToolSettings:
        model, models = tools.generate_image.model, info.data.get("models")
        if model is not None and isinstance(models, dict) and (wrong := fault_of_model(model, models)):
            refuse([Fault(("tools", "generate_image", "model"), wrong)])
        return tools

    @field_validator("hooks")
    @classmethod
    def _hook_names_are_unique(cls, hooks: list[HookSettings]) -> list[HookSettings]:
        names = [hook.name for hook in hooks]
        refuse(
            Fault(("hooks", index, "name"), "is already used: hook names must be unique")
            for index, name in enumerate(names)
            if name in names[:index]
        )
        return hooks

    @field_validator("channels")
    @classmethod
    def _channels_are_complete(
        cls, channels: dict[str, ChannelSettings], info: ValidationInfo
    ) -> dict[str, ChannelSettings]:
        models, web = info.data.get("models"), info.data.get("web")
        faults: list[Fault] = []
        for name, channel in channels.items():
            key = ("channels", name)
            if name in BUILT_IN_CHANNELS:
                faults.append(Fault(key, f"{name} is a built-in channel. Choose another name"))
            if isinstance(models, dict):
                faults += _unreachable_models(channel, key, models)
            if isinstance(web, WebSettings) and not web.enabled:
                faults += _webhooks_without_web_server(channel, key)
        refuse(faults)
        return channels

    @field_validator("channels", mode="before")
    @classmethod
    def _type_defaults_to_the_name(cls, channels: object) -> object:
        if not isinstance(channels, dict):
            return channels
        return {
            name: {"type": name, **channel} if isinstance(channel, dict) else channel
            for name, channel in channels.items()
        }


_UNSET = ProviderSettings()


def _unreachable_models(
    section: AgentSettings | NamedAgentSettings | ChannelSettings,
    at: Key,
    models: Mapping[str, ProviderSettings],
    *,
    besides: Container[str | int] = (),
) -> Iterator[Fault]:
    """A fault for each model in a section whose provider is unknown or lacks something, without providers whose faults
    are reported `besides`."""
    named: dict[Key, str | None] = {("model",): section.model}
    if isinstance(section, AgentSettings):
        named[("small_model",)] = section.small_model
        named[("vision_model",)] = section.vision_model
        named[("transcription_model",)] = section.transcription_model
    if isinstance(section, AgentSettings | NamedAgentSettings):
        named |= {("fallback", index): model for index, model in enumerate(section.fallback or ())}
    for setting, model in named.items():
        provider, _ = provider_and_name(model or "demo")
        if model is None or provider in besides:
            continue
        if wrong := fault_of_model(model, models):
            yield Fault((*at, *setting), wrong)
        elif setting == ("transcription_model",) and type_of(provider, models.get(provider, _UNSET)) == "anthropic":
            yield Fault((*at, *setting), "needs a provider of the type openai")


def _webhooks_without_web_server(channel: ChannelSettings, at: Key) -> Iterator[Fault]:
    needs = "needs the web server. Remove enabled = false from [web], or"
    if isinstance(channel, SlackSettings) and channel.signing_secret is not None:
        yield Fault((*at, "signing_secret"), f"{needs} use app_token (Socket Mode)")
    if isinstance(channel, TelegramSettings) and channel.webhook_url is not None:
        yield Fault((*at, "webhook_url"), f"{needs} remove this setting: messages are polled then")


def every_agent(settings: Settings) -> dict[Key, AgentSettings | NamedAgentSettings]:
    """The sections of all agents by their keys."""
    return {("agent",): settings.agent, **{("agents", name): named for name, named in settings.agents.items()}}


def shared_channels(settings: Settings) -> tuple[str, ...]:
    """The channels for others than the operator. The web chat is one if a proxy signs people in."""
    return (*settings.channels, *(("web",) if settings.web.trusted_header is not None else ()))


def own_code(settings: Settings) -> Iterator[tuple[Path, str]]:
    """The files of the operator's Python code that [agent] names, and what each is."""
    module = (settings.agent.context or "").rpartition(":")[0]
    if module.endswith(".py"):
        yield Path(module), "the context manager"


def every_secret(settings: Settings) -> tuple[SecretStr, ...]:
    """Every secret in the settings; none of them may be shown."""
    return tuple(_secrets_in(settings))


def _secrets_in(value: object) -> Iterator[SecretStr]:
    match value:
        case SecretStr():
            yield value
        case Section():
            yield from value.credentials
            for _, inner in value:
                yield from _secrets_in(inner)
        case dict():
            for inner in value.values():
                yield from _secrets_in(inner)
        case list():
            for inner in value:
                yield from _secrets_in(inner)
