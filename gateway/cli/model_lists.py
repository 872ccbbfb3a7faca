"""Asks a provider's server which models it has, and reads what the list says of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from agent.models.access import protocol_named
from agent.models.prices import MILLION, Price
from agent.models.provider import Provider, key_header

_WINDOW_FIELDS = ("context_length", "context_window", "max_context_length", "max_model_len", "max_input_tokens")
"""The names that servers have for the context window, in tokens."""


@dataclass(frozen=True, slots=True)
class OfferedModel:
    """A model that a server lists, with its context window and price where the list has them."""

    name: str
    context_window: int | None = None
    price: Price | None = None


def address_of(provider: Provider) -> str:
    """The server's URL for people: without a query or a password, which may be secret."""
    url = httpx.URL(provider.base_url)
    return str(url.copy_with(query=None, username=None, password=None)).rstrip("/")


def first_key(provider: Provider) -> str:
    """ "" if it has none."""
    return provider.keys[0] if provider.keys else ""


async def list_models(client: httpx.AsyncClient, provider: Provider, key: str) -> httpx.Response:
    """The server's list of models, as it answers. Raises `httpx.HTTPError` and `httpx.InvalidURL`."""
    # Anthropic's list is paged, the newest models first.
    path, more = ("/v1/models", {"limit": "1000"}) if provider.protocol == "anthropic" else ("/models", {})
    return await client.get(_url(provider, path, more), headers=_headers(provider, key))


def _url(provider: Provider, path: str, more: Mapping[str, str]) -> httpx.URL:
    """The URL of a path below the server's, with its query."""
    base = httpx.URL(provider.base_url)
    query = base.params.merge(dict(provider.query)).merge(dict(more))
    return base.copy_with(path=base.path.rstrip("/") + path, params=query)


def _headers(provider: Provider, key: str) -> httpx.Headers:
    protocol = protocol_named(provider.protocol)
    headers = httpx.Headers({**protocol.headers, **provider.headers})
    headers.update(key_header(provider, protocol, key))
    return headers


def refusal(provider: Provider, status: int) -> str:
    """Why the server does not tell its models."""
    url = address_of(provider)
    match status:
        case 401 | 403:
            return f"key rejected by {url}; see api_key in [models.{provider.name}]"
        case 404:
            return f"{url} does not list its models, or base_url is wrong"
        case 429:
            return f"rate limit or credit at {url} is exhausted"
        case _:
            return f"{url} returned HTTP status {status}"


def offered(response: httpx.Response) -> list[OfferedModel]:
    """The models of a list, by name; none for any other response."""
    try:
        body = response.json()
    except ValueError:
        return []
    # Together sends the list alone.
    listed = body.get("data") if isinstance(body, dict) else body
    models = [_model(given) for given in listed if isinstance(given, dict)] if isinstance(listed, list) else []
    return sorted((model for model in models if model.name), key=lambda model: model.name)


def _model(given: Mapping[str, Any]) -> OfferedModel:
    name = given.get("id")
    # Google's names have a prefix that its requests do not need.
    bare = name.removeprefix("models/") if isinstance(name, str) else ""
    return OfferedModel(bare, _window([given, given.get("meta")]), _price(given.get("pricing")))


def _window(tables: Sequence[object]) -> int | None:
    for table in tables:
        if isinstance(table, dict):
            for name in (*_WINDOW_FIELDS, "n_ctx_train"):
                if isinstance(tokens := table.get(name), int) and tokens > 0:
                    return tokens
    return None


def _price(given: object) -> Price | None:
    """OpenRouter's prices are in dollars per token, as text."""
    match given:
        case {"prompt": str(prompt), "completion": str(completion)}:
            try:
                return Price(float(prompt) * MILLION, float(completion) * MILLION)
            except ValueError:
                return None
        case _:
            return None
