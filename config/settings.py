"""Every setting with its default and its meaning: the only place that says what the operator may write."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails, PydanticCustomError

from config.errors import Fault, Key, did_you_mean

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
    "ask_user",
    "todos",
    "delegate",
    "background",
]
Point = Literal[
    "on_message",
    "before_model",
    "after_model",
    "before_tool",
    "approve_tool",
    "after_tool",
    "before_reply",
    "on_event",
]

_TYPE = "The platform. Needed where the section's own name does not say it."
_HOOK_NAME = (
    "What it is called in the log and to people. Of hooks with the same priority the first name is asked first."
)

PROVIDERS: tuple[Provider, ...] = get_args(Provider)
TOOLS: tuple[ToolName, ...] = get_args(ToolName)
SMALLEST_WINDOW = 4000
"""Tokens. In a smaller one there is no room for instructions, tools and an answer."""
USUAL_KEY: Mapping[str, str] = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}


def wrong(explanation: str, **context: object) -> PydanticCustomError:
    """An error in our own words. `at` in the context moves it to another key."""
    return PydanticCustomError("wrong", "{explanation}", {"explanation": explanation, **context})


def _refuse(faults: Iterable[Fault]) -> None:
    """Raises all of them at once, if there are any. Their keys are whole ones."""
    errors = [InitErrorDetails(type=wrong(fault.wrong, at=fault.key), input=None) for fault in faults]
    if errors:
        raise ValidationError.from_exception_data("settings", errors)


def _refuse_entries(wrong_ones: Iterable[int | str], explanation: str) -> None:
    """Raises when there are entries that are wrong in the list or table that is being looked at."""
    errors = [InitErrorDetails(type=wrong(explanation), loc=(entry,), input=None) for entry in wrong_ones]
    if errors:
        raise ValidationError.from_exception_data("settings", errors)


def _web_address(text: str) -> str:
    if not re.fullmatch(r"https?://[^\s/]\S*", text):
        raise wrong("expected an address that begins with http:// or https://")
    return text


def _socket_address(text: str) -> str:
    if not re.fullmatch(r"wss?://[^\s/]\S*", text):
        raise wrong("expected an address that begins with ws:// or wss://")
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


def _provider_and_name(text: str) -> str:
    if ":" not in text:
        raise wrong('expected "provider:name", like "openai:gpt-5"')
    return _demo_or_provider_and_name(text)


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


def _hook_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", text):
        raise wrong('expected a name of letters, digits, "-" and "_"')
    return text


def _class_or_entry_point(text: str) -> str:
    module, colon, name = text.rpartition(":")
    known = module.endswith(".py") or all(part.isidentifier() for part in module.split("."))
    if not text.strip() or (colon and not (known and name.isidentifier())):
        raise wrong(
            'expected "module:Class", "folder/file.py:Class", or the name of an entry point in the group '
            "interject.hooks"
        )
    return text


def _user(given: object) -> object:
    return str(given) if isinstance(given, int) and not isinstance(given, bool) else given


WebAddress = Annotated[str, AfterValidator(_web_address)]
SocketAddress = Annotated[str, AfterValidator(_socket_address)]
ModelName = Annotated[str, AfterValidator(_demo_or_provider_and_name)]
RealModelName = Annotated[str, AfterValidator(_provider_and_name)]
User = Annotated[str, BeforeValidator(_user)]
Secret = Annotated[SecretStr, Field(min_length=1)]
HookName = Annotated[str, AfterValidator(_hook_name)]
PathText = Annotated[Path, Field(strict=False)]
Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Dollars = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Section(BaseModel):
    """A table of settings: unknown names and wrong types are refused, and what was given is never repeated."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    @classmethod
    def fields(cls) -> dict[str, FieldInfo]:
        """Its settings, in the order in which they are shown."""
        return cls.model_fields


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
        "is on. Without it: the model itself.",
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
        _refuse_entries(
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


class PriceSettings(Section):
    """What a model costs, in dollars per million tokens."""

    input: Price = Field(description="For what the model is shown.")
    output: Price = Field(description="For what it writes, with what it thinks.")
    cache_read: Price | None = Field(
        default=None,
        description="For what it is shown and has in its cache. Without it: the price of input.",
    )
    cache_write: Price | None = Field(
        default=None,
        description="For what goes into its cache. Without it: the price of input.",
    )


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
    first_token_timeout: int = Field(
        default=60,
        ge=1,
        description="For how many seconds a model may say nothing at first. Models that think unseen need more.",
    )
    silence_timeout: int = Field(
        default=60,
        ge=1,
        description="For how many seconds a model may fall silent in the middle of an answer.",
    )
    price: dict[str, PriceSettings] = Field(
        default_factory=dict,
        description="What its models cost, by their names without the provider, in dollars per million tokens: input "
        "and output, and if they differ from input cache_read and cache_write. Goes before the prices that Interject "
        "comes with.",
        examples=[{"gpt-5": {"input": 1.25, "output": 10.0, "cache_read": 0.125}}],
    )

    @field_validator("price")
    @classmethod
    def _names_alone(cls, price: dict[str, PriceSettings]) -> dict[str, PriceSettings]:
        _refuse_entries(
            [name for name in price if name.partition(":")[0] in PROVIDERS],
            "expected the model's name without its provider",
        )
        return price


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


@dataclass(frozen=True, slots=True)
class People:
    """How a platform names a person: the `id` and the `name` (with @) as regular expressions, `shape` in words."""

    id: str
    name: str
    shape: str

    def names(self, text: str) -> bool:
        return re.fullmatch(f"{self.id}|{self.name}", text) is not None

    def is_id(self, text: str) -> bool:
        return re.fullmatch(self.id, text) is not None


class ChannelSection(Section):
    """What can be set for a bot on every platform."""

    people: ClassVar[People]

    allow: list[User] = Field(
        default_factory=list,
        description='Who may talk to the bot: user ids, @names, or "*" for everybody. Empty: nobody but admins. Other '
        'bots are not meant by "*": each needs its own id or @name here.',
        examples=[["*"]],
    )
    admins: list[User] = Field(
        default_factory=list,
        description="Who may also stop in groups what others have started, and let unknown people in: user ids and "
        "@names, of people only.",
        examples=[["@your_name"]],
    )
    pair: bool = Field(
        default=False,
        description="Whether unknown people who write to the bot directly get a code, with which an admin lets them in "
        '(a button in the chat, or "interject pair approve CODE"). `allow` may then be empty.',
    )
    groups: Literal["mention", "all", "off"] = Field(
        default="mention",
        description='In groups the bot answers when it is mentioned ("mention"), always ("all") or never ("off").',
    )
    busy: Literal["steer", "queue", "collect", "interrupt"] = Field(
        default="steer",
        description='What happens to a message that comes while the agent works: it is read at once ("steer"), waits '
        'for the end and its turn ("queue"), is read at the end together with the others that wait ("collect"), or '
        'ends the work and takes its place ("interrupt").',
    )
    stream: bool = Field(default=True, description="Whether an answer is shown while it is being written.")
    reactions: bool = Field(
        default=True, description="Whether a reaction shows on each message whether it waits, is read or is answered."
    )
    activity: Literal["off", "quiet", "full"] = Field(
        default="quiet",
        description='What people see of the agent\'s tools: nothing ("off"), the one that runs, in a line that goes '
        'away again ("quiet"), or a line for each call, which stays ("full").',
    )
    show_reasoning: bool = Field(default=False, description="Whether what the model thinks is shown.")
    model: ModelName | None = Field(
        default=None,
        description="Who answers here, in the form of [agent] model. Without it: that model.",
        examples=["openai:gpt-5"],
    )
    instructions: str | None = Field(
        default=None,
        description="What the agent is told here, instead of the instructions in [agent].",
        examples=["You help the people of this team. Answer briefly."],
    )

    @classmethod
    def fields(cls) -> dict[str, FieldInfo]:
        """The platform's own first: they are what must be set."""
        shared = ChannelSection.model_fields
        return dict(sorted(cls.model_fields.items(), key=lambda field: field[0] in shared))

    @property
    def secrets(self) -> tuple[SecretStr, ...]:
        """What must never be shown."""
        return tuple(value for _, value in self if isinstance(value, SecretStr))

    @field_validator("allow")
    @classmethod
    def _people_or_everybody(cls, users: list[str]) -> list[str]:
        told = f'expected {cls.people.shape}, a name that begins with @, or "*"'
        strange = [index for index, user in enumerate(users) if user != "*" and not cls.people.names(user)]
        _refuse_entries(strange, told)
        return users

    @field_validator("admins")
    @classmethod
    def _people_only(cls, users: list[str]) -> list[str]:
        told = f"expected {cls.people.shape} or a name that begins with @"
        _refuse_entries([index for index, user in enumerate(users) if not cls.people.names(user)], told)
        return users


class TelegramSettings(ChannelSection):
    """A Telegram bot."""

    people = People(r"-?\d+", r"@\w+", "a user id")

    type: Literal["telegram"] = Field(default="telegram", description=_TYPE)
    token: Secret = Field(
        description="The bot's token, from @BotFather.",
        examples=["${TELEGRAM_BOT_TOKEN}"],
    )
    api_url: WebAddress = Field(
        default="https://api.telegram.org",
        description="The Bot API server; a local one works.",
    )


class SlackSettings(ChannelSection):
    """A Slack app. It needs one of app_token (Socket Mode: no public address needed) and signing_secret (HTTP)."""

    people = People(r"[UWB][A-Z0-9]+", r"@[\w.-]+", "a member id like U012AB3CD")

    type: Literal["slack"] = Field(default="slack", description=_TYPE)
    bot_token: Secret = Field(
        description="The bot's token, xoxb-…, from OAuth & Permissions.",
        examples=["${SLACK_BOT_TOKEN}"],
    )
    app_token: Secret | None = Field(
        default=None,
        description="For Socket Mode: the app-level token, xapp-…, with the scope connections:write, from Basic "
        "Information.",
        examples=["${SLACK_APP_TOKEN}"],
    )
    signing_secret: Secret | None = Field(
        default=None,
        description="For HTTP through the web server, instead of app_token: the signing secret, from Basic "
        "Information. Needs [web] enabled.",
        examples=["${SLACK_SIGNING_SECRET}"],
    )
    api_url: WebAddress = Field(
        default="https://slack.com/api/",
        description="The address of Slack's Web API.",
    )

    @field_validator("signing_secret")
    @classmethod
    def _one_way_in(cls, secret: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if secret is not None and info.data.get("app_token") is not None:
            raise wrong("impossible together with app_token. Keep app_token for Socket Mode, or this one for HTTP")
        return secret

    @model_validator(mode="after")
    def _some_way_in(self) -> Self:
        if self.app_token is None and self.signing_secret is None:
            raise wrong("needs app_token (Socket Mode) or signing_secret (HTTP through the web server)")
        return self


class DiscordSettings(ChannelSection):
    """A Discord bot."""

    people = People(r"\d+", r"@[\w.]+", "a user id")

    type: Literal["discord"] = Field(default="discord", description=_TYPE)
    token: Secret = Field(
        description="The bot's token, from the Bot page of the developer portal.",
        examples=["${DISCORD_BOT_TOKEN}"],
    )
    api_url: WebAddress = Field(
        default="https://discord.com/api/v10",
        description="The address of Discord's REST API.",
    )
    gateway_url: SocketAddress = Field(
        default="wss://gateway.discord.gg",
        description="The address of Discord's gateway, from which its events come.",
    )


ChannelSettings = TelegramSettings | SlackSettings | DiscordSettings

CHANNELS: Mapping[str, type[ChannelSettings]] = {
    "telegram": TelegramSettings,
    "slack": SlackSettings,
    "discord": DiscordSettings,
}
"""A platform's settings by the `type` of a [channels.<name>] section."""

OUR_OWN = ("web", "terminal")
"""Channels that are there without a section."""


def _by_type(table: object) -> object:
    if not isinstance(table, dict):
        raise wrong("expected a section, not a single value")
    kind = table["type"]
    if not isinstance(kind, str) or kind not in CHANNELS:
        hint = did_you_mean(str(kind), list(CHANNELS))
        raise wrong(f"no such type of channel. {hint} A section with a name of its own says which it is: type = …")
    return CHANNELS[kind].model_validate(table)


class HookSection(Section):
    """Code of your own around what the agent hears, asks, does and says. There may be any number of them."""

    name: HookName = Field(description=_HOOK_NAME)
    points: list[Point] = Field(
        min_length=1,
        description="Where it is asked: on_message, before_model, after_model, before_tool, approve_tool, after_tool, "
        "before_reply; at on_event it only looks on.",
        examples=[["before_tool", "approve_tool"]],
    )
    priority: int = Field(
        default=100,
        description="Hooks with a lower number are asked sooner, and each sees what the one before made of it.",
    )
    timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default=5.0,
        description="How many seconds it may take for one answer.",
    )
    on_error: Literal["open", "closed"] | None = Field(
        default=None,
        description='What happens when it fails or takes too long: everything goes on without it ("open"), or what '
        'it was asked about is denied ("closed"). Without it: closed at approve_tool, open elsewhere.',
        examples=["closed"],
    )
    trusted: bool = Field(
        default=False,
        description="Whether the result that it gives for a tool is taken even where people would have to approve "
        "the call.",
    )

    @classmethod
    def fields(cls) -> dict[str, FieldInfo]:
        """The name, then what makes it a hook of its type: they are what must be set."""
        shared = HookSection.model_fields
        return dict(sorted(cls.model_fields.items(), key=lambda field: field[0] in shared and field[0] != "name"))

    @field_validator("points")
    @classmethod
    def _each_once(cls, points: list[Point]) -> list[Point]:
        _refuse_entries(
            [index for index, point in enumerate(points) if point in points[:index]],
            "stands there already: each point is named once",
        )
        return points


class PythonHookSettings(HookSection):
    """A hook that is a Python class, with a method for each of its points."""

    name: HookName = Field(description=_HOOK_NAME, examples=["manners"])
    type: Literal["python"] = Field(description="A class in the gateway's own process.", examples=["python"])
    path: Annotated[str, AfterValidator(_class_or_entry_point)] = Field(
        description='The class: "module:Class", "folder/file.py:Class", or the name of an entry point in the group '
        "interject.hooks.",
        examples=["hooks/manners.py:Manners"],
    )


class ProcessHookSettings(HookSection):
    """A hook that is a program in any language. It is asked through its standard input, a JSON object on each line."""

    name: HookName = Field(description=_HOOK_NAME, examples=["review"])
    type: Literal["process"] = Field(description="A program that runs beside the gateway.", examples=["process"])
    command: list[str] = Field(
        min_length=1,
        description="The program and its arguments.",
        examples=[["python3", "hooks/review.py"]],
    )

    @field_validator("command")
    @classmethod
    def _a_program(cls, command: list[str]) -> list[str]:
        _refuse_entries([] if command[0].strip() else [0], "is empty")
        return command


class HttpHookSettings(HookSection):
    """A hook that is a web server of yours. It is asked by signed requests."""

    name: HookName = Field(description=_HOOK_NAME, examples=["policy"])
    type: Literal["http"] = Field(description="A server that answers requests.", examples=["http"])
    url: WebAddress = Field(
        description="The address that is asked.",
        examples=["https://hooks.example.com/interject"],
    )
    secret: Secret = Field(
        description="What the requests are signed with, so that the server knows who asks.",
        examples=["${HOOK_SECRET}"],
    )


HookSettings = PythonHookSettings | ProcessHookSettings | HttpHookSettings

HOOKS: Mapping[str, type[HookSettings]] = {
    "python": PythonHookSettings,
    "process": ProcessHookSettings,
    "http": HttpHookSettings,
}
"""A hook's settings by the `type` of its [[hooks]] section."""


def _hook_by_type(table: object) -> object:
    if not isinstance(table, dict):
        raise wrong("expected a section, not a single value")
    kind = table.get("type")
    if isinstance(kind, str) and kind in HOOKS:
        return HOOKS[kind].model_validate(table)
    told = "no such type of hook." if "type" in table else "is missing."
    _refuse_entries(["type"], f"{told} {did_you_mean(str(kind), list(HOOKS))}")
    return table


class ToolRules(Section):
    """How one tool is used. Every tool may have such a section."""

    approval: Literal["never", "once", "always"] = Field(
        default="never",
        description='Whether people are asked before a call runs: not at all ("never"), until one of them allows it '
        'for the conversation ("once"), or each time ("always").',
    )
    on_steer: Literal["cancel", "finish", "background"] | None = Field(
        default=None,
        description='What a message does to a call that runs: ends it ("cancel"), waits for it ("finish"), or lets it '
        'go on by itself while the agent answers ("background"). Without it: the tool\'s own.',
        examples=["background"],
    )
    timeout: int | None = Field(
        default=None,
        ge=1,
        description="How many seconds a call may take. Without it: the tool's own.",
        examples=[60],
    )


class ToolSettings(Section):
    """What the agent can do."""

    model_config = ConfigDict(extra="allow")
    # Every other name is a tool's. Pydantic reads here what there may be; its own annotation is wider.
    __pydantic_extra__: dict[ToolName, ToolRules] = Field(init=False)  # type: ignore[assignment]

    enabled: list[ToolName] = Field(
        default_factory=lambda: list(TOOLS),
        description="The tools that the agent may use.",
    )
    approval_expires: int = Field(
        default=86400,
        ge=1,
        description="For how many seconds a call waits to be approved. After that it counts as denied.",
    )

    def rules(self, tool: str) -> ToolRules:
        """What is set for a tool; the defaults where nothing is."""
        return self._of_tools().get(tool, ToolRules())

    def _of_tools(self) -> Mapping[str, ToolRules]:
        return {name: rules for name, rules in self if isinstance(rules, ToolRules)}

    @model_validator(mode="after")
    def _a_question_is_no_call(self) -> Self:
        _refuse(
            Fault(("tools", "ask_user", name), "means nothing here: a question to people is not run, it waits for them")
            for name in ToolRules.model_fields
            if name in self.rules("ask_user").model_fields_set
        )
        return self


class LimitSettings(Section):
    """Limits on what turns may cost, as far as prices are known, and on the work that they delegate."""

    turn_cost: Dollars | None = Field(
        default=None,
        description="How many dollars a turn may cost, with all that it delegates, until somebody lets it go on. "
        "Without it: any number.",
        examples=[1.0],
    )
    person_daily_cost: Dollars | None = Field(
        default=None,
        description="How many dollars the turns of one person may cost in a day. Without it: any number.",
        examples=[5.0],
    )
    daily_cost: Dollars | None = Field(
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


class Settings(Section):
    """Everything that can be set. A section's description is the docstring of its class."""

    agent: AgentSettings = Field(default_factory=AgentSettings)
    models: dict[Provider, ModelSettings] = Field(default_factory=dict, validate_default=True)
    store: StoreSettings = Field(default_factory=StoreSettings)
    media: MediaSettings = Field(default_factory=MediaSettings)
    web: WebSettings = Field(default_factory=WebSettings)
    channels: dict[str, Annotated[ChannelSettings, BeforeValidator(_by_type)]] = Field(default_factory=dict)
    hooks: list[Annotated[HookSettings, BeforeValidator(_hook_by_type)]] = Field(default_factory=list)
    tools: ToolSettings = Field(default_factory=ToolSettings)
    limits: LimitSettings = Field(default_factory=LimitSettings)

    @field_validator("models")
    @classmethod
    def _the_agents_models_have_keys(
        cls, models: dict[Provider, ModelSettings], info: ValidationInfo
    ) -> dict[Provider, ModelSettings]:
        agent = info.data.get("agent")
        if isinstance(agent, AgentSettings):
            _refuse(_keyless(agent, ("agent",), models))
        return models

    @field_validator("hooks")
    @classmethod
    def _each_hook_has_a_name_of_its_own(cls, hooks: list[HookSettings]) -> list[HookSettings]:
        names = [hook.name for hook in hooks]
        _refuse(
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
        _refuse(faults)
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
