"""What can be set for the channels: a section for each platform, alike in what every platform has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic.fields import FieldInfo

from config.errors import did_you_mean
from config.models import ModelName
from config.section import Secret, Section, SocketAddress, WebAddress, refuse_entries, wrong

_TYPE = "The platform. Needed where the section's own name does not say it."


def _user(given: object) -> object:
    return str(given) if isinstance(given, int) and not isinstance(given, bool) else given


User = Annotated[str, BeforeValidator(_user)]


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
        refuse_entries(strange, told)
        return users

    @field_validator("admins")
    @classmethod
    def _people_only(cls, users: list[str]) -> list[str]:
        told = f"expected {cls.people.shape} or a name that begins with @"
        refuse_entries([index for index, user in enumerate(users) if not cls.people.names(user)], told)
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


def channel_by_type(table: object) -> object:
    """The section as what its `type` says it is. Raises where there is no such type."""
    if not isinstance(table, dict):
        raise wrong("expected a section, not a single value")
    kind = table["type"]
    if not isinstance(kind, str) or kind not in CHANNELS:
        hint = did_you_mean(str(kind), list(CHANNELS))
        raise wrong(f"no such type of channel. {hint} A section with a name of its own says which it is: type = …")
    return CHANNELS[kind].model_validate(table)
