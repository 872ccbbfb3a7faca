"""Checks of a Discord bot: its token, its intents, and the link that adds it to a server."""

from __future__ import annotations

import httpx

from config.channels import DiscordSettings
from gateway.cli import VERSION
from gateway.cli.checks.result import CheckResult, unexpected_status

DISCORD_PERMISSIONS = {
    "Add Reactions": 1 << 6,
    "View Channels": 1 << 10,
    "Send Messages": 1 << 11,
    "Attach Files": 1 << 15,
    "Read Message History": 1 << 16,
    "Send Messages in Threads": 1 << 38,
}
"""The permissions that the invitation asks for: https://discord.com/developers/docs/topics/permissions."""

_MESSAGE_CONTENT = 1 << 18 | 1 << 19
"""Flags of an app that may read messages, verified or not yet:
https://discord.com/developers/docs/resources/application#application-object-application-flags."""


async def check_discord(client: httpx.AsyncClient, name: str, channel: DiscordSettings) -> list[CheckResult]:
    """Raises `httpx.HTTPError`; ValueError, LookupError or TypeError when it is not Discord's API that responds."""
    part, url = f"{name} token", channel.api_url.rstrip("/")
    headers = {
        "Authorization": f"Bot {channel.token.get_secret_value()}",
        # The required format: https://discord.com/developers/docs/reference#user-agent
        "User-Agent": f"DiscordBot (interject, {VERSION})",
    }
    response = await client.get(f"{url}/users/@me", headers=headers)
    if response.status_code == 401:
        advice = "get the bot's token from the Bot page of the developer portal (Reset Token)"
        return [CheckResult(part, False, f"token rejected by Discord; {advice}")]
    if response.status_code != 200:
        return [CheckResult(part, False, unexpected_status(channel.api_url, response.status_code))]
    token = CheckResult(part, True, f"valid, the bot is @{response.json()['username']}")
    return [token, *await _check_app(client, name, url, headers)]


async def _check_app(client: httpx.AsyncClient, name: str, url: str, headers: dict[str, str]) -> list[CheckResult]:
    response = await client.get(f"{url}/applications/@me", headers=headers)
    if response.status_code != 200:
        text = f"cannot be checked: {unexpected_status(url, response.status_code)}"
        return [CheckResult(f"{name} intents", False, text)]
    app = response.json()
    invitation = f"to add the bot to a server, open {discord_invitation(str(app['id']))}"
    return [_check_intents(name, int(app.get("flags", 0))), CheckResult(f"{name} invitation", True, invitation)]


def _check_intents(name: str, flags: int) -> CheckResult:
    if flags & _MESSAGE_CONTENT:
        return CheckResult(f"{name} intents", True, "Message Content Intent is on")
    text = "Message Content Intent is off. Switch it on: developer portal, Bot, Privileged Gateway Intents"
    return CheckResult(f"{name} intents", False, text)


def discord_invitation(app: str) -> str:
    """The link that adds the bot of this app (its id) to a server, with its permissions and commands."""
    permissions = sum(DISCORD_PERMISSIONS.values())
    scope = "bot+applications.commands"
    return f"https://discord.com/oauth2/authorize?client_id={app}&scope={scope}&permissions={permissions}"
