"""Checks of a channel: its platform's own checks, and whether its allowlist admits anybody."""

from __future__ import annotations

from typing import assert_never

import httpx

from config.channels import ChannelSettings, DiscordSettings, SlackSettings, TelegramSettings
from gateway.cli.banner import allowed_users
from gateway.cli.checks.discord import check_discord
from gateway.cli.checks.result import CheckResult, unreachable
from gateway.cli.checks.slack import check_slack
from gateway.cli.checks.telegram import check_telegram

_EXPECTED = {"telegram": "a Bot API server", "slack": "Slack's API", "discord": "Discord's API"}


async def check_channel(client: httpx.AsyncClient, name: str, channel: ChannelSettings) -> list[CheckResult]:
    return [*await _check_reachable_platform(client, name, channel), _check_allowlist(name, channel)]


async def _check_reachable_platform(
    client: httpx.AsyncClient, name: str, channel: ChannelSettings
) -> list[CheckResult]:
    part = f"{name} token"
    try:
        return await _check_platform(client, name, channel)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return [unreachable(part, channel.api_url, error)]
    except (ValueError, LookupError, TypeError):
        return [CheckResult(part, False, f"{channel.api_url} does not respond like {_EXPECTED[channel.type]}")]


async def _check_platform(client: httpx.AsyncClient, name: str, channel: ChannelSettings) -> list[CheckResult]:
    """Raises `httpx.HTTPError`; ValueError, LookupError or TypeError when it is not the platform that responds."""
    match channel:
        case TelegramSettings():
            return await check_telegram(client, name, channel)
        case SlackSettings():
            return await check_slack(client, name, channel)
        case DiscordSettings():
            return await check_discord(client, name, channel)
        case _:
            assert_never(channel)


def _check_allowlist(name: str, channel: ChannelSettings) -> CheckResult:
    admits_anybody = bool(channel.allow or channel.admins or channel.members or channel.guests) or channel.pair
    return CheckResult(f"{name} allowlist", admits_anybody, allowed_users(name, channel))
