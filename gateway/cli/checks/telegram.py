"""Checks of a Telegram bot: its token, and what it can read in groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from config.channels import TelegramSettings
from gateway.cli.checks.result import CheckResult, unexpected_status


async def check_telegram(client: httpx.AsyncClient, name: str, channel: TelegramSettings) -> list[CheckResult]:
    """Raises `httpx.HTTPError`; ValueError, LookupError or TypeError when it is not a Bot API server that responds."""
    part = f"{name} token"
    response = await client.get(f"{channel.api_url.rstrip('/')}/bot{channel.token.get_secret_value()}/getMe")
    body = response.json()
    if not body["ok"] and response.status_code in (401, 404):
        return [CheckResult(part, False, "token rejected by Telegram; get the bot's token from @BotFather")]
    if not body["ok"]:
        return [CheckResult(part, False, unexpected_status(channel.api_url, response.status_code))]
    bot = body["result"]
    return [CheckResult(part, True, f"valid, the bot is @{bot['username']}"), _check_groups(name, channel, bot)]


def _check_groups(name: str, channel: TelegramSettings, bot: Mapping[str, Any]) -> CheckResult:
    part, reads_all = f"{name} groups", bot.get("can_read_all_group_messages") is True
    if channel.groups == "off":
        return CheckResult(part, True, 'the bot ignores group messages (groups = "off")')
    if not bot.get("can_join_groups", True):
        return CheckResult(part, True, "the bot cannot be added to groups; /setjoingroups at @BotFather changes that")
    if channel.groups == "mention":
        hint = "" if reads_all else " (privacy mode is on: if mentions do not arrive, send /setprivacy to @BotFather)"
        return CheckResult(part, True, f"the bot answers mentions, replies and commands{hint}")
    if reads_all:
        return CheckResult(part, True, "the bot reads and answers every message")
    text = 'groups = "all", but privacy mode hides most messages from the bot. Send /setprivacy to @BotFather, '
    return CheckResult(part, False, f"{text}choose Disable, and add the bot to its groups again")
