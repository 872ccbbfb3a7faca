"""`interject check`: whether the configuration holds and, online, whether its tokens and keys are taken."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass

import httpx

from config.load import Configuration
from config.settings import ModelSettings, Provider, TelegramSettings
from gateway.commands_line.opening import who_may_write

_PATIENCE = 15.0
_USUAL_ADDRESS: dict[Provider, str] = {"openai": "https://api.openai.com/v1", "anthropic": "https://api.anthropic.com"}


@dataclass(frozen=True, slots=True)
class Finding:
    part: str
    good: bool
    words: str

    def __str__(self) -> str:
        return f"  {'ok   ' if self.good else 'WRONG'}  {self.part}: {self.words}"


def check(configuration: Configuration, *, online: bool) -> int:
    """Prints what it finds. The exit code: 1 when something is refused online."""
    sys.stdout.write(f"{_summary(configuration)}\n")
    if not online:
        return 0
    findings = asyncio.run(_look(configuration))
    sys.stdout.write("".join(f"{finding}\n" for finding in findings))
    return 0 if all(finding.good for finding in findings) else 1


def _summary(configuration: Configuration) -> str:
    settings = configuration.settings
    web = f"http://{settings.web.host}:{settings.web.port}" if settings.web.enabled else "off"
    lines = [
        f"The configuration is fine ({configuration.file or 'no file, defaults only'}).",
        f"  model: {settings.agent.model}",
        f"  web chat: {web}",
        *(f"  {name}: {who_may_write(name, channel)}" for name, channel in settings.channels.items()),
        f"  tools: {', '.join(settings.tools.enabled) or 'none'}",
        f"  state: {configuration.home}",
    ]
    return "\n".join(lines)


async def _look(configuration: Configuration) -> list[Finding]:
    settings = configuration.settings
    async with httpx.AsyncClient(timeout=_PATIENCE) as client, asyncio.TaskGroup() as tasks:
        looks = [tasks.create_task(_look_at_model(client, configuration))]
        looks += [
            tasks.create_task(_look_at_telegram(client, name, channel)) for name, channel in settings.channels.items()
        ]
    return [look.result() for look in looks]


async def _look_at_telegram(client: httpx.AsyncClient, name: str, channel: TelegramSettings) -> Finding:
    part = f"channel {name}"
    try:
        url = f"{channel.api_url.rstrip('/')}/bot{channel.token.get_secret_value()}/getMe"
        answer = await client.get(url)
        me = answer.json()["result"] if answer.status_code == 200 else {}
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Finding(part, False, f"{channel.api_url} cannot be reached ({_kind(error)})")
    except (ValueError, KeyError):
        return Finding(part, False, f"{channel.api_url} does not answer like a Bot API server")
    if answer.status_code in (401, 404):
        return Finding(part, False, "Telegram does not accept the token; get the bot's token from @BotFather")
    if not isinstance(me, dict) or "username" not in me:
        return Finding(part, False, f"{channel.api_url} answers with status {answer.status_code}")
    return Finding(part, True, f"the token is good, the bot is @{me['username']}")


async def _look_at_model(client: httpx.AsyncClient, configuration: Configuration) -> Finding:
    provider, _, name = configuration.settings.agent.model.partition(":")
    if provider == "demo":
        return Finding("model", True, "the demo needs no key")
    known: Provider = "anthropic" if provider == "anthropic" else "openai"
    settings = configuration.settings.models.get(known, ModelSettings())
    address = (settings.base_url or _USUAL_ADDRESS[known]).rstrip("/")
    try:
        models = await client.get(_models_url(known, address), headers=_headers(known, settings))
        answer = await _ask_something(client, known, address, settings, name) if models.status_code == 404 else models
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Finding("model", False, f"{address} cannot be reached ({_kind(error)})")
    return _judge(answer, provider, name, address)


def _judge(answer: httpx.Response, provider: str, name: str, address: str) -> Finding:
    match answer.status_code:
        case 200:
            listed = _listed(answer)
            if listed and name not in listed:
                words = f"the key is good, but {address} does not list the model {name}"
                return Finding("model", False, words)
            return Finding("model", True, f"{address} takes the key and has {name}")
        case 401 | 403:
            return Finding("model", False, f"{address} does not accept the key; see api_key in [models.{provider}]")
        case 404:
            return Finding("model", False, f"{address} does not know the model {name}, or base_url is not its address")
        case 429:
            return Finding("model", False, f"{address} takes the key, but its limit or credit is used up for now")
        case status:
            return Finding("model", False, f"{address} answers with status {status}")


def _listed(answer: httpx.Response) -> set[str]:
    """The ids of the models in a list of them; nothing for any other answer."""
    try:
        return {str(model["id"]) for model in answer.json()["data"]}
    except (ValueError, KeyError, TypeError):
        return set()


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
