"""Settings of the channels: a section for each platform, with shared settings in `ChannelSection`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic.fields import FieldInfo

from config.age import Age
from config.errors import did_you_mean
from config.models import ModelName, ModelParameters
from config.section import Secret, SocketAddress, WebAddress, refuse_entries, wrong

_TYPE = "The platform. Required if the section has another name."


def _user(given: object) -> object:
    return str(given) if isinstance(given, int) and not isinstance(given, bool) else given


User = Annotated[str, BeforeValidator(_user)]


@dataclass(frozen=True, slots=True)
class People:
    """How a platform names a person: the `id` and the `name` (with @) as regular expressions, `shape` in words.
    `group` is how it names a group of people, "" if it has none.
    """

    id: str
    name: str
    shape: str
    group: str = ""

    def names(self, text: str) -> bool:
        return re.fullmatch("|".join(filter(None, (self.id, self.name, self.group))), text) is not None

    def is_id(self, text: str) -> bool:
        return re.fullmatch(self.id, text) is not None


class ChannelSection(ModelParameters):
    """Settings that every platform's bot has."""

    people: ClassVar[People]

    allow: list[User] = Field(
        default_factory=list,
        description='Allowlist: user ids, @names, or "*" for every member; on Slack also user groups (S012AB3CD, '
        "@handle), on Discord roles (role:NAME or role:ID). Empty: only those in the lists below. A name is resolved "
        "to an id once; from then on only the id counts. Bots and webhooks are allowed by id only.",
        examples=[["*"]],
    )
    admins: list[User] = Field(
        default_factory=list,
        description="People who may also stop other people's tasks in groups and approve pairing codes, in the form of "
        '`allow`, without "*".',
        examples=[["@your_name"]],
    )
    members: list[User] = Field(
        default_factory=list,
        description="People with the rights of [roles.member], in the form of `allow`. If it is set, everybody else "
        "who is admitted is a guest. Default: everybody on the allowlist, except guests of the workspace and people of "
        "other workspaces.",
        examples=[["@engineering"]],
    )
    guests: list[User] = Field(
        default_factory=list,
        description="People who are admitted with the rights of [roles.guest], in the form of `allow`, unless they are "
        "among `members` or `admins`.",
        examples=[["@contractor"]],
    )
    outsiders: Literal["deny", "allow"] = Field(
        default="deny",
        description='Whether "*" and pairing include guests and people of other workspaces: no ("deny") or yes '
        '("allow"). A user id in `allow` admits its user in any case.',
    )
    pair: bool = Field(
        default=False,
        description="Pairing: unknown people who send a direct message get a code, and an admin approves it (a "
        'button in the chat, or "interject pair approve CODE"). `allow` may then be empty.',
    )
    groups: Literal["mention", "all", "off"] = Field(
        default="mention",
        description='In groups the bot answers when mentioned ("mention"), always ("all") or never ("off").',
    )
    busy: Literal["steer", "queue", "collect", "interrupt"] = Field(
        default="steer",
        description='What a message does while the agent works: it is read at once ("steer"), is queued and '
        'answered on its own ("queue"), is queued and answered together with the other queued '
        'messages ("collect"), or stops the running task and starts the next ("interrupt").',
    )
    debounce: float = Field(
        default=0,
        ge=0,
        le=30,
        description="Seconds without another message after which an idle conversation is answered, so that several "
        "quick lines are read together. 0: the first line is answered at once, and the next ones steer that answer. "
        "Commands, buttons and messages to a running task never wait.",
    )
    stream: bool = Field(default=True, description="Whether answers are shown while they are generated.")
    reactions: bool = Field(
        default=True,
        description="Whether a reaction on each message shows its status: queued, read, answered, refused.",
    )
    reaction_answers: bool = Field(
        default=False,
        description="Whether reactions answer questions and requests for approval: a check mark or a thumb up is yes, "
        "a cross or a thumb down is no, a number chooses an option. It counts only if its sender may answer.",
    )
    activity: Literal["off", "quiet", "full"] = Field(
        default="quiet",
        description='Tool calls that people see: none ("off"), the running one in a temporary line ("quiet"), or '
        'a permanent line for each call ("full").',
    )
    show_reasoning: bool = Field(default=False, description="Whether the model's reasoning is shown.")
    model: ModelName | None = Field(
        default=None,
        description="Model for this channel, in the form of [agent] model. Default: that model.",
        examples=["openai:gpt-5"],
    )
    instructions: str | None = Field(
        default=None,
        description="System prompt for this channel, instead of the one in [agent].",
        examples=["You help the people of this team. Answer briefly."],
    )

    topic_instructions: bool = Field(
        default=False,
        description="Whether what a group or channel says of itself on the platform (its topic, description or pinned "
        "message) is added to the system prompt of tasks there. Whoever may change it influences those tasks.",
    )

    retention: Age | None = Field(
        default=None,
        description="Age at which this channel's messages and answers are deleted, instead of [retention] "
        "conversations.",
        examples=["30d"],
    )

    @classmethod
    def fields(cls) -> dict[str, FieldInfo]:
        """The platform's own settings first: they include the required ones. The parameters of its model last."""
        shared, parameters = ChannelSection.model_fields, ModelParameters.model_fields
        return dict(sorted(cls.model_fields.items(), key=lambda field: (field[0] in shared) + (field[0] in parameters)))

    @property
    def secrets(self) -> tuple[SecretStr, ...]:
        """Every secret in the section; none of them may be shown."""
        return tuple(value for _, value in self if isinstance(value, SecretStr))

    @field_validator("allow", "members", "guests")
    @classmethod
    def _allowlist_entries(cls, users: list[str]) -> list[str]:
        explanation = f'expected {cls.people.shape}, a name that begins with @, or "*"'
        invalid = [index for index, user in enumerate(users) if user != "*" and not cls.people.names(user)]
        refuse_entries(invalid, explanation)
        return users

    @field_validator("admins")
    @classmethod
    def _admins_are_people(cls, users: list[str]) -> list[str]:
        explanation = f"expected {cls.people.shape} or a name that begins with @"
        refuse_entries([index for index, user in enumerate(users) if not cls.people.names(user)], explanation)
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
        description="URL of the Bot API server; a local one works.",
    )
    earlier_messages: int = Field(
        default=30,
        ge=0,
        le=200,
        description="How many messages of a group the model is shown when somebody calls it there; 0 for none. No more "
        "than 16 kB, and only what the bot has received since it was started.",
    )
    webhook_url: WebAddress | None = Field(
        default=None,
        description="Public address (https) of the gateway's web server. Telegram posts messages there, to "
        "/telegram/NAME/, instead of being polled.",
        examples=["https://bot.example.org"],
    )


class SlackSettings(ChannelSection):
    """A Slack app. Set app_token (Socket Mode: no public address needed) or signing_secret (HTTP)."""

    people = People(
        r"[UWB][A-Z0-9]+", r"@[\w.-]+", "a member id like U012AB3CD, a user group id like S012AB3CD", r"S[A-Z0-9]+"
    )

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
        description="URL of Slack's Web API.",
    )
    earlier_messages: int = Field(
        default=30,
        ge=0,
        le=200,
        description="How many messages of a thread the model is shown when somebody calls it into the thread; 0 for "
        "none. No more than 16 kB.",
    )
    replies: Literal["thread", "channel"] = Field(
        default="thread",
        description="Where a message in a channel is answered: in a thread under it, a conversation of its own "
        '("thread"), or in the channel, which is one conversation then ("channel"). In threads the bot answers in the '
        "thread.",
    )

    suggested_prompts: list[Annotated[str, Field(min_length=1, max_length=500)]] = Field(
        default=[],
        max_length=4,
        description="What Slack offers people who open the app to write to it: up to four messages to choose from.",
        examples=[["What can you do?"]],
    )

    @field_validator("signing_secret")
    @classmethod
    def _not_two_connections(cls, secret: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if secret is not None and info.data.get("app_token") is not None:
            raise wrong("cannot be combined with app_token. Keep app_token for Socket Mode, or signing_secret for HTTP")
        return secret

    @model_validator(mode="after")
    def _needs_a_connection(self) -> Self:
        if self.app_token is None and self.signing_secret is None:
            raise wrong("needs app_token (Socket Mode) or signing_secret (HTTP through the web server)")
        return self


class DiscordSettings(ChannelSection):
    """A Discord bot."""

    people = People(r"\d+", r"@[\w.]+", "a user id, a role like role:NAME or role:ID", r"role:.+")

    type: Literal["discord"] = Field(default="discord", description=_TYPE)
    token: Secret = Field(
        description="The bot's token, from the Bot page of the developer portal.",
        examples=["${DISCORD_BOT_TOKEN}"],
    )
    api_url: WebAddress = Field(
        default="https://discord.com/api/v10",
        description="URL of Discord's REST API.",
    )
    gateway_url: SocketAddress = Field(
        default="wss://gateway.discord.gg",
        description="URL of Discord's gateway, the source of its events.",
    )
    earlier_messages: int = Field(
        default=30,
        ge=0,
        le=100,
        description="How many messages of a channel or thread the model is shown when somebody calls it there; 0 for "
        "none. No more than 16 kB.",
    )
    proxies: list[str] = Field(
        default=[],
        description="Ids of applications that post people's messages again under another name, such as PluralKit: "
        "such a copy is edited and deleted in the name of the person.",
    )

    @field_validator("proxies")
    @classmethod
    def _are_ids(cls, proxies: list[str]) -> list[str]:
        if name := next((each for each in proxies if not each.isdecimal()), None):
            raise wrong(f"{name!r} is not the id of an application: expected digits only")
        return proxies


ChannelSettings = TelegramSettings | SlackSettings | DiscordSettings

CHANNELS: Mapping[str, type[ChannelSettings]] = {
    "telegram": TelegramSettings,
    "slack": SlackSettings,
    "discord": DiscordSettings,
}
"""A platform's settings by the `type` of a [channels.<name>] section."""

BUILT_IN_CHANNELS = ("web", "terminal")
"""Channels that exist without a section."""


def channel_by_type(table: object) -> object:
    """The section, validated as the platform that its `type` names. Raises if the type is unknown."""
    if not isinstance(table, dict):
        raise wrong("expected a section, not a single value")
    kind = table["type"]
    if not isinstance(kind, str) or kind not in CHANNELS:
        hint = did_you_mean(str(kind), list(CHANNELS))
        raise wrong(f"unknown channel type. {hint} In a section with another name, set type = …")
    return CHANNELS[kind].model_validate(table)
