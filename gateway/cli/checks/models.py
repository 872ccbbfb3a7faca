"""Checks of models: whether their server accepts the keys and has the model."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import httpx

from agent.events import Delta
from agent.log import MessagesRead, UserMessage
from agent.model import ModelError, ModelSettings, Request
from agent.models.provider import ModelOptions, Provider
from config.models import provider_and_name
from config.presets import preset_of
from config.settings import Settings
from gateway.assembly.models import options_of, provider_of
from gateway.cli.checks.result import CheckResult, unreachable
from gateway.cli.model_lists import address_of, first_key, list_models, offered, refusal

SHORT = 16
"""Tokens; OpenAI allows no shorter answer."""


async def check_model(client: httpx.AsyncClient, settings: Settings, model: str) -> CheckResult:
    part = "model"
    if model == "demo":
        return CheckResult(part, True, "the demo needs no key")
    provider_name, name = provider_and_name(model)
    provider = provider_of(settings, provider_name)
    try:
        response = await list_models(client, provider, first_key(provider))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return unreachable(part, address_of(provider), error)
    listed = {offer.name for offer in offered(response)}
    is_complete = not listed or name in listed or preset_of(provider_name).lists_all
    if response.status_code == 404 or (response.status_code == 200 and not is_complete):
        return await _ask(part, provider, options_of(settings, model))
    return _interpret(part, response, listed, provider, name)


async def _ask(part: str, provider: Provider, options: ModelOptions) -> CheckResult:
    """Asks for a very short answer, where the server does not list all of its models."""
    # Imported where they are used: most servers list their models.
    from agent.models.providers import ProviderModel
    from agent.testing import MemoryMedia

    url, name = address_of(provider), options.name
    model = ProviderModel(provider, options, MemoryMedia())
    request = Request("", [MessagesRead(1, (UserMessage(0, "", "hi"),))], settings=ModelSettings(max_tokens=SHORT))
    try:
        async with asyncio.timeout(provider.timeouts.first_token):
            await model.answer(request, _ignore)
    except ModelError as error:
        match error.kind:
            case "auth" if error.status == 404:
                return CheckResult(part, False, f"{url} does not know the model {name}, or base_url is wrong")
            case "auth":
                return CheckResult(part, False, f"key rejected by {url}; see api_key in [models.{provider.name}]")
            case "rate_limit" | "billing":
                return CheckResult(part, False, f"key accepted, but its rate limit or credit at {url} is exhausted")
            case _:
                return CheckResult(part, False, f"{url} did not answer as {name}: {error.detail or error}")
    except TimeoutError:
        return CheckResult(part, False, f"{url} did not answer as {name} in time")
    finally:
        await model.aclose()
    return CheckResult(part, True, f"key accepted, {url} has the model {name}")


async def _ignore(delta: Delta) -> None:
    pass


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
    return _interpret(part, response, {offer.name for offer in offered(response)}, provider, name)


def _interpret(
    part: str, response: httpx.Response, listed: Collection[str], provider: Provider, name: str
) -> CheckResult:
    url = address_of(provider)
    if response.status_code != 200:
        return CheckResult(part, False, refusal(provider, response.status_code))
    if listed and name not in listed:
        return CheckResult(part, False, f"key accepted, but {url} does not list the model {name}")
    return CheckResult(part, True, f"key accepted, {url} has the model {name}")
