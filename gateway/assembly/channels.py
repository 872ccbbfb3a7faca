"""Channels and their access policy from settings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from importlib import import_module
from typing import assert_never

from pydantic import SecretStr

from agent.loading import importing
from agent.media import MediaStore
from channels.channel import Channel, ChannelRejected, WebhookChannel
from channels.web.parse import OWNER
from config.channels import ChannelSection, ChannelSettings, DiscordSettings, SlackSettings, TelegramSettings
from config.models import ModelParameters
from config.roles import RoleSettings
from config.settings import Settings
from gateway.inbound.access import AccessPolicy, ChannelAccess
from gateway.inbound.cursors import StoredCursors
from gateway.lifecycle.broken_channel import BrokenChannel
from gateway.lifecycle.shared_parts import SharedParts
from gateway.store import Store
from gateway.turns.roles import Rights, Roles
from gateway.web.connections import App

WEB = "web"
"""The name of the web channel."""

OF_THE_GATEWAY = frozenset(
    {
        *ModelParameters.model_fields,
        *("allow", "admins", "members", "guests", "outsiders", "pair", "groups", "busy", "debounce", "stream"),
        *("activity", "show_reasoning", "model", "instructions", "topic_instructions", "retention"),
    }
)
"""The settings of a channel's section that change nothing of its connection to the platform."""


async def open_platforms(
    settings: Settings, media: MediaStore, store: Store, shared: SharedParts, stack: AsyncExitStack
) -> dict[str, Channel]:
    """Every configured channel, by name; a `BrokenChannel` for one that cannot be created. The stack closes them; one
    whose connection is the same goes on."""
    return {
        name: await shared.use(
            f"channel {name}",
            (type(section), [(key, value) for key, value in section if key not in OF_THE_GATEWAY]),
            partial(_open_channel, name, section, media, store),
            stack,
        )
        for name, section in settings.channels.items()
    }


@asynccontextmanager
async def _open_channel(name: str, section: ChannelSettings, media: MediaStore, store: Store) -> AsyncIterator[Channel]:
    try:
        await asyncio.to_thread(_load, section)
        channel = _platform(name, section, media, store)
    except ChannelRejected as error:
        channel = BrokenChannel(name, error)
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        missing = f"the library {library} is not installed: pip install 'interject[{section.type}]'"
        channel = BrokenChannel(name, ChannelRejected(missing))
    try:
        yield channel
    finally:
        await channel.aclose()


def _load(section: ChannelSettings) -> None:
    """Imports the library of a platform, which only those have that enable it. Raises `ModuleNotFoundError`."""
    # Telegram's library would load cryptography, 7 MiB, for passports that people show to bots.
    with importing(without="cryptography" if isinstance(section, TelegramSettings) else ""):
        import_module(f"channels.{section.type}.channel")


def _platform(name: str, section: ChannelSettings, media: MediaStore, store: Store) -> Channel:
    """A configured channel. Its library is loaded."""
    match section:
        case TelegramSettings():
            from channels.telegram.channel import TelegramChannel

            token = section.token.get_secret_value()
            return TelegramChannel(
                name,
                token,
                section.api_url,
                media,
                reactions=section.reactions,
                reaction_answers=section.reaction_answers,
                earlier_messages=section.earlier_messages,
                webhook_url=f"{section.webhook_url.rstrip('/')}{_path(section, name)}" if section.webhook_url else "",
            )
        case SlackSettings():
            from channels.slack.channel import SlackChannel

            return SlackChannel(
                name,
                section.bot_token.get_secret_value(),
                media,
                StoredCursors(store, name),
                app_token=_secret(section.app_token),
                signing_secret=_secret(section.signing_secret),
                api_url=section.api_url,
                reactions=section.reactions,
                reaction_answers=section.reaction_answers,
                earlier_messages=section.earlier_messages,
                replies=section.replies,
                suggested_prompts=section.suggested_prompts,
            )
        case DiscordSettings():
            from channels.discord.channel import DiscordChannel

            return DiscordChannel(
                name,
                section.token.get_secret_value(),
                media,
                StoredCursors(store, name),
                api_url=section.api_url,
                gateway_url=section.gateway_url,
                reactions=section.reactions,
                reaction_answers=section.reaction_answers,
                earlier_messages=section.earlier_messages,
                proxies=section.proxies,
            )
        case _:
            assert_never(section)


def load_replies(settings: Settings) -> None:
    """Imports what channels load with their first reply."""
    if any(isinstance(section, TelegramSettings) for section in settings.channels.values()):
        import channels.telegram.outbound  # noqa: F401  # loaded for its effect


def _secret(secret: SecretStr | None) -> str:
    return "" if secret is None else secret.get_secret_value()


class Webhooks:
    """The applications of the channels whose platform posts events over HTTP."""

    def __init__(self) -> None:
        self._channels: dict[str, WebhookChannel] = {}
        self._apps: dict[str, App] = {}

    def use(self, settings: Settings, channels: Mapping[str, Channel]) -> None:
        """From now on these channels."""
        self._apps = {}
        self._channels = {
            _path(section, name): channel
            for name, section in settings.channels.items()
            if _has_webhook(section) and isinstance(channel := channels[name], WebhookChannel)
        }

    def find(self, path: str) -> App | None:
        """The application for a path. A channel's is made when it is first needed."""
        prefix = next((prefix for prefix in self._channels if path.startswith(prefix)), None)
        if prefix is None:
            return None
        if prefix not in self._apps:
            self._apps[prefix] = self._channels[prefix].asgi()
        return self._apps[prefix]


def without_web_server(settings: Settings) -> list[str]:
    """The channels whose platform posts events over HTTP, but nobody listens."""
    if settings.web.enabled:
        return []
    return [name for name, section in settings.channels.items() if _has_webhook(section)]


def _path(section: ChannelSettings, name: str) -> str:
    return f"/{section.type}/{name}/"


def _has_webhook(section: ChannelSettings) -> bool:
    match section:
        case TelegramSettings():
            return section.webhook_url is not None
        case SlackSettings():
            return section.signing_secret is not None
        case DiscordSettings():
            return False
        case _:
            assert_never(section)


def access(settings: Settings) -> AccessPolicy:
    """Who may write and with which rights, by channel."""
    return AccessPolicy(*access_settings(settings))


def access_settings(settings: Settings) -> tuple[dict[str, ChannelAccess], Roles]:
    """The arguments of an access policy."""
    roles = Roles(_rights(settings.roles.member), _rights(settings.roles.guest))
    channels = {name: _policy(channel) for name, channel in settings.channels.items()}
    web = settings.web
    if web.trusted_header is not None:
        lists = (_lower(users) for users in (web.allow, web.admins, web.members, web.guests))
        allow, admins, members, guests = lists
        channels[WEB] = ChannelAccess(allow, "all", admins, members=members, guests=guests, owner=OWNER.id)
    return channels, roles


def _rights(role: RoleSettings) -> Rights:
    return Rights(
        None if role.tools is None else frozenset(role.tools),
        None if role.models is None else tuple(role.models),
        role.daily_cost,
        tuple(role.agents),
    )


def _policy(channel: ChannelSection) -> ChannelAccess:
    return ChannelAccess(
        _lower(channel.allow),
        channel.groups,
        _lower(channel.admins),
        channel.pair,
        channel.busy,
        channel.outsiders == "allow",
        _lower(channel.members),
        _lower(channel.guests),
    )


def _lower(users: Iterable[str]) -> frozenset[str]:
    return frozenset(map(str.lower, users))
