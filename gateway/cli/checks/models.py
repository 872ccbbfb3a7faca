"""Checks of models: whether their server accepts the key and has the model."""

from __future__ import annotations

import httpx

from config.models import ModelSettings, Provider
from config.settings import Settings
from gateway.cli.checks.result import CheckResult, unexpected_status, unreachable

_DEFAULT_URL: dict[Provider, str] = {"openai": "https://api.openai.com/v1", "anthropic": "https://api.anthropic.com"}


async def check_model(client: httpx.AsyncClient, settings: Settings, model: str) -> CheckResult:
    part = "model"
    provider_name, _, name = model.partition(":")
    if provider_name == "demo":
        return CheckResult(part, True, "the demo needs no key")
    provider: Provider = "anthropic" if provider_name == "anthropic" else "openai"
    server = settings.models.get(provider, ModelSettings())
    url = _base_url(provider, server)
    try:
        response = await _list_models(client, provider, server)
        if response.status_code == 404:
            response = await _generate(client, provider, server, name)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return unreachable(part, url, error)
    return _interpret(part, response, provider, name, url)


async def check_transcription(client: httpx.AsyncClient, settings: Settings, model: str) -> CheckResult:
    part, name = "voice notes", model.partition(":")[2]
    server = settings.models.get("openai", ModelSettings())
    url = _base_url("openai", server)
    try:
        response = await _list_models(client, "openai", server)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return unreachable(part, url, error)
    if response.status_code == 404:
        return CheckResult(part, True, f"{url} does not list its models, so {name} could not be checked")
    return _interpret(part, response, "openai", name, url)


def _interpret(part: str, response: httpx.Response, provider: str, name: str, url: str) -> CheckResult:
    match response.status_code:
        case 200:
            listed = _listed(response)
            if listed and name not in listed:
                return CheckResult(part, False, f"key accepted, but {url} does not list the model {name}")
            return CheckResult(part, True, f"key accepted, {url} has the model {name}")
        case 401 | 403:
            return CheckResult(part, False, f"key rejected by {url}; see api_key in [models.{provider}]")
        case 404:
            return CheckResult(part, False, f"{url} does not know the model {name}, or base_url is wrong")
        case 429:
            return CheckResult(part, False, f"key accepted, but its rate limit or credit at {url} is exhausted")
        case status:
            return CheckResult(part, False, unexpected_status(url, status))


def _listed(response: httpx.Response) -> set[str]:
    """The ids in a list of models; empty for any other response."""
    try:
        return {str(model["id"]) for model in response.json()["data"]}
    except (ValueError, KeyError, TypeError):
        return set()


async def _list_models(client: httpx.AsyncClient, provider: Provider, server: ModelSettings) -> httpx.Response:
    # Anthropic's list is paged, the newest models first.
    path = "/models" if provider == "openai" else "/v1/models?limit=1000"
    return await client.get(f"{_base_url(provider, server)}{path}", headers=_headers(provider, server))


async def _generate(client: httpx.AsyncClient, provider: Provider, server: ModelSettings, name: str) -> httpx.Response:
    """The smallest model call, for servers that do not list their models."""
    path = "/chat/completions" if provider == "openai" else "/v1/messages"
    body = {"model": name, "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]}
    return await client.post(f"{_base_url(provider, server)}{path}", headers=_headers(provider, server), json=body)


def _base_url(provider: Provider, server: ModelSettings) -> str:
    return (server.base_url or _DEFAULT_URL[provider]).rstrip("/")


def _headers(provider: Provider, server: ModelSettings) -> dict[str, str]:
    key = server.api_key.get_secret_value() if server.api_key is not None else "none"
    if provider == "openai":
        return {"Authorization": f"Bearer {key}"}
    return {"x-api-key": key, "anthropic-version": "2023-06-01"}
