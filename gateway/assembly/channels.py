"""Channels and their access policy from settings."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import assert_never

from pydantic import SecretStr

from agent.media import MediaStore
from channels.channel import Channel, ChannelRejected, WebhookChannel
from config.channels import ChannelSection, ChannelSettings, DiscordSettings, SlackSettings, TelegramSettings
from config.roles import RoleSettings
from config.settings import Settings
from gateway.inbound.access import AccessPolicy, ChannelAccess
from gateway.inbound.cursors import StoredCursors
from gateway.lifecycle.broken_channel import BrokenChannel
from gateway.store import Store
from gateway.turns.roles import Rights, Roles


def platforms(settings: Settings, media: MediaStore, store: Store) -> dict[str, Channel]:
    """Every configured channel, by name; a `BrokenChannel` for one that cannot be created."""
    return {name: _channel_or_broken(name, section, media, store) for name, section in settings.channels.items()}


def _channel_or_broken(name: str, section: ChannelSettings, media: MediaStore, store: Store) -> Channel:
    try:
        return _platform(name, section, media, store)
    except ChannelRejected as error:
        return BrokenChannel(name, error)


def _platform(name: str, section: ChannelSettings, media: MediaStore, store: Store) -> Channel:
    """A configured channel. Its library is imported only here, when it is enabled."""
    match section:
        case TelegramSettings():
            with _without("cryptography"):
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


@contextmanager
def _without(package: str) -> Iterator[None]:
    """What is imported inside does without the package, which can be imported afterwards. Telegram's library would load
    cryptography, 7 MiB, for passports that people show to bots."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]  # "None: there is no such module"
    try:
        yield
    finally:
        del sys.modules[package]


def load_replies(settings: Settings) -> None:
    """Imports what channels load with their first reply."""
    if any(isinstance(section, TelegramSettings) for section in settings.channels.values()):
        import channels.telegram.outbound  # noqa: F401  # loaded for its effect


def _secret(secret: SecretStr | None) -> str:
    return "" if secret is None else secret.get_secret_value()


def webhooks(settings: Settings, channels: Mapping[str, Channel]) -> dict[str, WebhookChannel]:
    """The channels whose platform posts events over HTTP, by path."""
    return {
        _path(section, name): channel
        for name, channel in channels.items()
        if _has_webhook(section := settings.channels[name]) and isinstance(channel, WebhookChannel)
    }


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
    roles = Roles(_rights(settings.roles.member), _rights(settings.roles.guest))
    return AccessPolicy({name: _policy(channel) for name, channel in settings.channels.items()}, roles)


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
