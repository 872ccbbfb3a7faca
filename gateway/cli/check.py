"""`interject check`: whether the configuration holds and, online, whether its tokens and keys are taken."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, assert_never

import httpx

from agent.hooks.python import python_hook
from agent.hooks.runner import HookError
from config.channels import ChannelSettings, DiscordSettings, SlackSettings, TelegramSettings
from config.hooks import PythonHookSettings
from config.load import Configuration
from config.models import ModelSettings, Provider
from config.settings import Settings
from gateway.cli import VERSION
from gateway.cli.banner import who_may_write

SLACK_SCOPES = (
    "app_mentions:read",
    "assistant:write",
    "channels:history",
    "channels:read",
    "chat:write",
    "commands",
    "files:read",
    "files:write",
    "groups:history",
    "groups:read",
    "im:history",
    "im:read",
    "mpim:history",
    "mpim:read",
    "reactions:write",
    "users:read",
)
"""What the bot token must be allowed; docs/slack-manifest.yaml asks for the same."""

DISCORD_PERMISSIONS = {
    "Add Reactions": 1 << 6,
    "View Channels": 1 << 10,
    "Send Messages": 1 << 11,
    "Attach Files": 1 << 15,
    "Read Message History": 1 << 16,
    "Send Messages in Threads": 1 << 38,
}
"""What the bot asks for where it is invited: https://discord.com/developers/docs/topics/permissions."""

_MESSAGE_CONTENT = 1 << 18 | 1 << 19
"""Flags of an app that may read messages, verified or not yet:
https://discord.com/developers/docs/resources/application#application-object-application-flags."""

_PATIENCE = 15.0
_USUAL_ADDRESS: dict[Provider, str] = {"openai": "https://api.openai.com/v1", "anthropic": "https://api.anthropic.com"}


@dataclass(frozen=True, slots=True)
class Finding:
    part: str
    good: bool
    words: str

    def __str__(self) -> str:
        return f"  {'ok' if self.good else '!!'}  {self.part}: {self.words}"


def check(configuration: Configuration, *, online: bool) -> int:
    """Prints what it finds. The exit code: 1 when a hook cannot be loaded, or something is refused online."""
    sys.stdout.write(f"{_summary(configuration)}\n")
    findings = [_look_at_hook(hook) for hook in configuration.settings.hooks if isinstance(hook, PythonHookSettings)]
    if online:
        findings += asyncio.run(_look(configuration.settings))
    sys.stdout.write("".join(f"{finding}\n" for finding in findings))
    return 0 if all(finding.good for finding in findings) else 1


def _summary(configuration: Configuration) -> str:
    settings = configuration.settings
    web = f"http://{settings.web.host}:{settings.web.port}" if settings.web.enabled else "off"
    lines = [
        f"The configuration is fine ({configuration.file or 'no file, defaults only'}).",
        f"  model: {settings.agent.model}",
        *([f"  small model: {settings.agent.small_model}"] if settings.agent.small_model is not None else ()),
        f"  web chat: {web}",
        *(f"  {name}: {who_may_write(name, channel)}" for name, channel in settings.channels.items()),
        f"  tools: {', '.join(settings.tools.enabled) or 'none'}",
        *(f"  hook {hook.name}: {hook.type}, at {', '.join(hook.points)}" for hook in settings.hooks),
        f"  state: {configuration.home}",
    ]
    return "\n".join(lines)


def _look_at_hook(hook: PythonHookSettings) -> Finding:
    """Loads it, as `interject run` does."""
    try:
        python_hook(hook.path, hook.points)
    except HookError as error:
        return Finding(f"hook {hook.name}", False, str(error))
    return Finding(f"hook {hook.name}", True, "can be loaded")


async def _look(settings: Settings) -> list[Finding]:
    """Everything at once, told in the order of the settings."""
    async with httpx.AsyncClient(timeout=_PATIENCE) as client, asyncio.TaskGroup() as tasks:
        looks = [tasks.create_task(_look_at_model(client, settings, model)) for model in _models(settings)]
        if settings.agent.transcription_model is not None:
            looks.append(
                tasks.create_task(_look_at_transcription(client, settings, settings.agent.transcription_model))
            )
        looks += [
            tasks.create_task(_look_at_channel(client, name, channel)) for name, channel in settings.channels.items()
        ]
    return [finding for look in looks for finding in look.result()]


def _models(settings: Settings) -> Iterable[str]:
    """Each that is named, once."""
    agent = settings.agent
    named = (agent.model, *agent.fallback, agent.small_model, *(own.model for own in settings.channels.values()))
    return dict.fromkeys(model for model in named if model is not None)


# --- channels ---


async def _look_at_channel(client: httpx.AsyncClient, name: str, channel: ChannelSettings) -> list[Finding]:
    heard = bool(channel.allow or channel.admins) or channel.pair
    people = Finding(f"{name} people", heard, who_may_write(name, channel))
    try:
        return [*await _look_at_platform(client, name, channel), people]
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return [Finding(f"{name} token", False, f"{channel.api_url} cannot be reached ({_kind(error)})"), people]
    except (ValueError, LookupError, TypeError):
        return [
            Finding(f"{name} token", False, f"{channel.api_url} does not answer like {_SERVER[channel.type]}"),
            people,
        ]


_SERVER = {"telegram": "a Bot API server", "slack": "Slack's API", "discord": "Discord's API"}


async def _look_at_platform(client: httpx.AsyncClient, name: str, channel: ChannelSettings) -> list[Finding]:
    """Raises `httpx.HTTPError` when nobody answers, ValueError, LookupError or TypeError when somebody else does."""
    match channel:
        case TelegramSettings():
            return await _look_at_telegram(client, name, channel)
        case SlackSettings():
            return await _look_at_slack(name, channel)
        case DiscordSettings():
            return await _look_at_discord(client, name, channel)
        case _:
            assert_never(channel)


async def _look_at_telegram(client: httpx.AsyncClient, name: str, channel: TelegramSettings) -> list[Finding]:
    part = f"{name} token"
    answer = await client.get(f"{channel.api_url.rstrip('/')}/bot{channel.token.get_secret_value()}/getMe")
    said = answer.json()
    if not said["ok"] and answer.status_code in (401, 404):
        return [Finding(part, False, "Telegram does not accept the token; get the bot's token from @BotFather")]
    if not said["ok"]:
        return [Finding(part, False, f"{channel.api_url} answers with status {answer.status_code}")]
    me = said["result"]
    return [Finding(part, True, f"it is good, the bot is @{me['username']}"), _telegram_groups(name, channel, me)]


def _telegram_groups(name: str, channel: TelegramSettings, me: Mapping[str, Any]) -> Finding:
    part, hears_all = f"{name} groups", me.get("can_read_all_group_messages") is True
    if channel.groups == "off":
        return Finding(part, True, 'the bot is silent there (groups = "off")')
    if not me.get("can_join_groups", True):
        return Finding(part, True, "the bot cannot be added to any; /setjoingroups at @BotFather changes it")
    if channel.groups == "mention":
        hint = "" if hears_all else " (privacy mode is on: should mentions not arrive, send /setprivacy to @BotFather)"
        return Finding(part, True, f"the bot answers there when it is mentioned, replied to or commanded{hint}")
    if hears_all:
        return Finding(part, True, "the bot hears and answers everything there")
    words = 'groups = "all", but in privacy mode the bot is not told of everything. Send /setprivacy to @BotFather, '
    return Finding(part, False, f"{words}choose Disable, and add the bot to its groups once more")


async def _look_at_discord(client: httpx.AsyncClient, name: str, channel: DiscordSettings) -> list[Finding]:
    part, address = f"{name} token", channel.api_url.rstrip("/")
    headers = {
        "Authorization": f"Bot {channel.token.get_secret_value()}",
        # The form that Discord asks for: https://discord.com/developers/docs/reference#user-agent
        "User-Agent": f"DiscordBot (interject, {VERSION})",
    }
    answer = await client.get(f"{address}/users/@me", headers=headers)
    if answer.status_code == 401:
        advice = "get the bot's token from the Bot page of the developer portal (Reset Token)"
        return [Finding(part, False, f"Discord does not accept the token; {advice}")]
    if answer.status_code != 200:
        return [Finding(part, False, f"{channel.api_url} answers with status {answer.status_code}")]
    token = Finding(part, True, f"it is good, the bot is @{answer.json()['username']}")
    described = await client.get(f"{address}/applications/@me", headers=headers)
    if described.status_code != 200:
        words = f"cannot be told: {channel.api_url} answers with status {described.status_code}"
        return [token, Finding(f"{name} intents", False, words)]
    app = described.json()
    invitation = f"to bring the bot into a server, open {discord_invitation(str(app['id']))}"
    return [token, _discord_intents(name, int(app.get("flags", 0))), Finding(f"{name} invitation", True, invitation)]


def _discord_intents(name: str, flags: int) -> Finding:
    if flags & _MESSAGE_CONTENT:
        return Finding(f"{name} intents", True, "the bot may read messages (Message Content)")
    words = "Message Content Intent is off. Switch it on: developer portal, Bot, Privileged Gateway Intents"
    return Finding(f"{name} intents", False, words)


def discord_invitation(app: str) -> str:
    """The link that brings the bot of this app's id into a server, with its permissions and commands."""
    permissions = sum(DISCORD_PERMISSIONS.values())
    scope = "bot+applications.commands"
    return f"https://discord.com/oauth2/authorize?client_id={app}&scope={scope}&permissions={permissions}"


async def _look_at_slack(name: str, channel: SlackSettings) -> list[Finding]:
    # Loaded only for those who use Slack.
    import aiohttp

    try:
        return [*await _look_at_slack_bot(name, channel), await _look_at_slack_way(name, channel)]
    except (aiohttp.ClientError, TimeoutError) as error:
        return [Finding(f"{name} bot token", False, f"{channel.api_url} cannot be reached ({_kind(error)})")]
    except AttributeError as error:
        # What the SDK makes of an answer in plain text.
        raise TypeError from error


async def _look_at_slack_bot(name: str, channel: SlackSettings) -> list[Finding]:
    part = f"{name} bot token"
    answer = await _ask_slack(channel.api_url, channel.bot_token.get_secret_value(), "auth.test")
    if answer.error:
        advice = "get the Bot User OAuth Token from OAuth & Permissions"
        return [Finding(part, False, _slack_refusal(answer.error, advice))]
    if not answer.said.get("bot_id"):
        return [Finding(part, False, "this is a person's token; the bot's begins with xoxb-, see OAuth & Permissions")]
    bot = Finding(part, True, f"it is good, the bot is @{answer.said['user']} in the workspace {answer.said['team']}")
    missing = [scope for scope in SLACK_SCOPES if scope not in answer.scopes]
    if not answer.scopes or not missing:
        told = "the token has all it needs" if answer.scopes else "Slack does not tell them"
        return [bot, Finding(f"{name} scopes", True, told)]
    words = f"missing: {', '.join(missing)}. Add them under OAuth & Permissions, then install the app once more"
    return [bot, Finding(f"{name} scopes", False, words)]


async def _look_at_slack_way(name: str, channel: SlackSettings) -> Finding:
    if channel.app_token is None:
        words = "it cannot be tried from here; Slack tells under Event Subscriptions whether the Request URL answers"
        return Finding(f"{name} signing secret", True, words)
    part = f"{name} app token"
    answer = await _ask_slack(channel.api_url, channel.app_token.get_secret_value(), "apps.connections.open")
    match answer.error:
        case "":
            return Finding(part, True, "it is good, Socket Mode can be used")
        case "missing_scope":
            return Finding(part, False, "it lacks the scope connections:write; make another under Basic Information")
        case error:
            advice = (
                "get one that begins with xapp- from Basic Information, App-Level Tokens, and switch Socket Mode on"
            )
            return Finding(part, False, _slack_refusal(error, advice))


def _slack_refusal(error: str, advice: str) -> str:
    return f"Slack does not accept the token ({error}); {advice}" if error in _BAD_TOKEN else f"Slack answers {error}"


_BAD_TOKEN = frozenset(
    {
        "account_inactive",
        "invalid_auth",
        "not_allowed_token_type",
        "not_authed",
        "token_expired",
        "token_revoked",
    }
)
"""https://docs.slack.dev/reference/methods/auth.test#errors"""


@dataclass(frozen=True, slots=True)
class _SlackAnswer:
    """`error` is Slack's word for it, "" for none; `scopes` are the token's, empty where Slack does not tell them."""

    said: Mapping[str, Any]
    error: str = ""
    scopes: frozenset[str] = frozenset()


async def _ask_slack(api_url: str, token: str, method: str) -> _SlackAnswer:
    """Raises `aiohttp.ClientError`, TimeoutError; ValueError or AttributeError when it is not Slack that answers."""
    from slack_sdk.errors import SlackApiError
    from slack_sdk.web.async_client import AsyncWebClient
    from slack_sdk.web.async_slack_response import AsyncSlackResponse

    client = AsyncWebClient(token, base_url=api_url, timeout=int(_PATIENCE), retry_handlers=[])
    try:
        answer = await client.api_call(method)
    except SlackApiError as refusal:
        match refusal.response:
            case AsyncSlackResponse(data={"error": str(error)}):
                return _SlackAnswer({}, error)
            case _:
                raise ValueError("no answer of Slack's") from refusal
    match answer.data:
        case dict(said):
            told = str(answer.headers.get("x-oauth-scopes", ""))
            return _SlackAnswer(said, scopes=frozenset(scope.strip() for scope in told.split(",") if scope.strip()))
        case _:
            raise ValueError("no answer of Slack's")


# --- models ---


async def _look_at_model(client: httpx.AsyncClient, settings: Settings, model: str) -> list[Finding]:
    provider, _, name = model.partition(":")
    if provider == "demo":
        return [Finding("model", True, "the demo needs no key")]
    known: Provider = "anthropic" if provider == "anthropic" else "openai"
    server = settings.models.get(known, ModelSettings())
    address = _address(known, server)
    try:
        models = await client.get(_models_url(known, address), headers=_headers(known, server))
        answer = await _ask_something(client, known, address, server, name) if models.status_code == 404 else models
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return [Finding("model", False, f"{address} cannot be reached ({_kind(error)})")]
    return [_judge("model", answer, provider, name, address)]


async def _look_at_transcription(client: httpx.AsyncClient, settings: Settings, model: str) -> list[Finding]:
    part, name = "voice notes", model.partition(":")[2]
    server = settings.models.get("openai", ModelSettings())
    address = _address("openai", server)
    try:
        answer = await client.get(_models_url("openai", address), headers=_headers("openai", server))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return [Finding(part, False, f"{address} cannot be reached ({_kind(error)})")]
    if answer.status_code == 404:
        return [Finding(part, True, f"{address} does not tell which models it has, so {name} was not looked for")]
    return [_judge(part, answer, "openai", name, address)]


def _judge(part: str, answer: httpx.Response, provider: str, name: str, address: str) -> Finding:
    match answer.status_code:
        case 200:
            listed = _listed(answer)
            if listed and name not in listed:
                words = f"the key is good, but {address} does not list the model {name}"
                return Finding(part, False, words)
            return Finding(part, True, f"{address} takes the key and has {name}")
        case 401 | 403:
            return Finding(part, False, f"{address} does not accept the key; see api_key in [models.{provider}]")
        case 404:
            return Finding(part, False, f"{address} does not know the model {name}, or base_url is not its address")
        case 429:
            return Finding(part, False, f"{address} takes the key, but its limit or credit is used up for now")
        case status:
            return Finding(part, False, f"{address} answers with status {status}")


def _listed(answer: httpx.Response) -> set[str]:
    """The ids of the models in a list of them; nothing for any other answer."""
    try:
        return {str(model["id"]) for model in answer.json()["data"]}
    except (ValueError, KeyError, TypeError):
        return set()


def _address(provider: Provider, server: ModelSettings) -> str:
    return (server.base_url or _USUAL_ADDRESS[provider]).rstrip("/")


def _models_url(provider: Provider, address: str) -> str:
    # A list has pages at Anthropic, and the newest models come first.
    return f"{address}/models" if provider == "openai" else f"{address}/v1/models?limit=1000"


async def _ask_something(
    client: httpx.AsyncClient, provider: Provider, address: str, settings: ModelSettings, name: str
) -> httpx.Response:
    """The smallest request there is, for servers without a list of models."""
    path = "/chat/completions" if provider == "openai" else "/v1/messages"
    body = {"model": name, "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]}
    return await client.post(f"{address}{path}", headers=_headers(provider, settings), json=body)


def _headers(provider: Provider, settings: ModelSettings) -> dict[str, str]:
    key = settings.api_key.get_secret_value() if settings.api_key is not None else "none"
    if provider == "openai":
        return {"Authorization": f"Bearer {key}"}
    return {"x-api-key": key, "anthropic-version": "2023-06-01"}


def _kind(error: Exception) -> str:
    """What went wrong, without the address: a Bot API address holds the token."""
    return type(error).__name__
