"""`interject models`: what the servers of the configured providers offer, with context windows and prices."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence

import httpx

from agent.models.context_windows import known_window_of
from agent.models.prices import Price
from config.errors import did_you_mean
from config.load import Configuration
from config.settings import Settings
from gateway.assembly.models import own_context_window, price_in, provider_of, providers_in_use
from gateway.cli.checks.result import TIMEOUT
from gateway.cli.model_lists import OfferedModel, address_of, first_key, list_models, offered, refusal


def show_models(configuration: Configuration, provider: str | None, *, as_json: bool) -> int:
    """Prints the models. Returns the exit code: 1 when a provider could not be asked."""
    settings = configuration.settings
    configured = providers_in_use(settings)
    if provider is not None and provider not in configured:
        sys.stderr.write(f"interject: the provider is not configured. {did_you_mean(provider, configured)}\n")
        return 1
    names = configured if provider is None else [provider]
    if not names:
        sys.stderr.write("interject: no provider is configured; the demo needs none\n")
        return 1
    answers = asyncio.run(_ask(settings, names))
    for name, answer in zip(names, answers, strict=True):
        if isinstance(answer, str):
            sys.stderr.write(f"interject: {name}: {answer}\n")
            continue
        models = [_completed(settings, name, model) for model in answer]
        sys.stdout.write(_as_json(name, models) if as_json else _as_table(name, models))
    return 1 if any(isinstance(answer, str) for answer in answers) else 0


async def _ask(settings: Settings, names: Sequence[str]) -> list[list[OfferedModel] | str]:
    """Of each provider its models, or why it does not tell them."""
    async with httpx.AsyncClient(timeout=TIMEOUT) as client:
        return await asyncio.gather(*(_ask_one(client, settings, name) for name in names))


async def _ask_one(client: httpx.AsyncClient, settings: Settings, name: str) -> list[OfferedModel] | str:
    provider = provider_of(settings, name)
    try:
        response = await list_models(client, provider, first_key(provider))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"{address_of(provider)} cannot be reached ({type(error).__name__})"
    if response.status_code != 200:
        return refusal(provider, response.status_code)
    return offered(response)


def _completed(settings: Settings, provider: str, model: OfferedModel) -> OfferedModel:
    """With what the settings and the built-in tables know; the settings come before the server's list."""
    name = f"{provider}:{model.name}"
    window = own_context_window(settings, name) or model.context_window or known_window_of(name)
    return OfferedModel(model.name, window, price_in(settings, name) or model.price)


def _as_table(provider: str, models: Sequence[OfferedModel]) -> str:
    width = max((len(f"{provider}:{model.name}") for model in models), default=0)
    lines = [
        "  ".join(
            [f"{provider}:{model.name}".ljust(width), _tokens(model.context_window), _dollars(model.price)]
        ).rstrip()
        for model in models
    ]
    return "".join(f"{line}\n" for line in lines or [f"{provider}: its list of models is empty"])


def _tokens(window: int | None) -> str:
    return f"{window:>10,} tokens" if window else " " * 17


def _dollars(price: Price | None) -> str:
    if price is None:
        return ""
    return f"${price.input:g} in, ${price.output:g} out per million" if price.input or price.output else "free"


def _as_json(provider: str, models: Sequence[OfferedModel]) -> str:
    """One object per line; what is not known is left out."""
    return "".join(f"{json.dumps(_row(provider, model), ensure_ascii=False)}\n" for model in models)


def _row(provider: str, model: OfferedModel) -> dict[str, object]:
    row: dict[str, object] = {"model": f"{provider}:{model.name}"}
    if model.context_window:
        row["context_window"] = model.context_window
    if model.price is not None:
        row["price"] = {"input": model.price.input, "output": model.price.output}
    return row
