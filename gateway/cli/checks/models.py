"""Checks of models: whether their server accepts the keys and has the model."""

from __future__ import annotations

import httpx

from agent.models.provider import Provider
from config.models import provider_and_name
from config.presets import preset_of
from config.settings import Settings
from gateway.assembly.models import provider_of
from gateway.cli.checks.result import CheckResult, unexpected_status, unreachable
from gateway.cli.model_lists import address_of, first_key, headers_of, list_models, offered, refusal, url_at


async def check_model(client: httpx.AsyncClient, settings: Settings, model: str) -> CheckResult:
    part = "model"
    if model == "demo":
        return CheckResult(part, True, "the demo needs no key")
    provider_name, name = provider_and_name(model)
    provider = provider_of(settings, provider_name)
    url = address_of(provider)
    try:
        response = await list_models(client, provider, first_key(provider))
        listed = {offer.name for offer in offered(response)}
        if response.status_code == 404 or (listed and name not in listed and not preset_of(provider_name).lists_all):
            response = await _generate(client, provider, name)
            listed = set()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return unreachable(part, url, error)
    return _interpret(part, response, listed, provider_name, name, url)


async def check_key(client: httpx.AsyncClient, settings: Settings, provider_name: str, number: int) -> CheckResult:
    """Of a provider with several keys: the one of this number, from 0."""
    part = f"key {number + 1} of {provider_name}"
    provider = provider_of(settings, provider_name)
    url = address_of(provider)
    try:
        response = await list_models(client, provider, provider.keys[number])
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return unreachable(part, url, error)
    match response.status_code:
        case 200:
            return CheckResult(part, True, f"accepted by {url}")
        case 404:
            return CheckResult(part, True, f"{url} does not list its models, so it could not be checked")
        case status:
            return CheckResult(part, False, refusal(provider, status))


async def check_transcription(client: httpx.AsyncClient, settings: Settings, model: str) -> CheckResult:
    part = "voice notes"
    provider_name, name = provider_and_name(model)
    provider = provider_of(settings, provider_name)
    url = address_of(provider)
    try:
        response = await list_models(client, provider, first_key(provider))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return unreachable(part, url, error)
    if response.status_code == 404:
        return CheckResult(part, True, f"{url} does not list its models, so {name} could not be checked")
    return _interpret(part, response, {offer.name for offer in offered(response)}, provider_name, name, url)


def _interpret(
    part: str, response: httpx.Response, listed: set[str], provider: str, name: str, url: str
) -> CheckResult:
    match response.status_code:
        case 200:
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


async def _generate(client: httpx.AsyncClient, provider: Provider, name: str) -> httpx.Response:
    """The smallest model call, for servers that do not list all of their models."""
    path = "/v1/messages" if provider.protocol == "anthropic" else "/chat/completions"
    body = {"model": name, "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]}
    return await client.post(url_at(provider, path), headers=headers_of(provider, first_key(provider)), json=body)
