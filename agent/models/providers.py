"""Models of providers. Cheap to import: their protocol and the HTTP client are loaded at the first request."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

from agent.events import OnDelta
from agent.media import MediaStore
from agent.model import Answer, Request
from agent.models.abilities import LearnedAbilities, ask_within
from agent.models.images import ImageCache
from agent.models.keys import KeyRing
from agent.models.protocols.wire import Feature, ProtocolName, Target, WireProtocol
from agent.models.provider import ModelOptions, Provider

if TYPE_CHECKING:
    from agent.models.client import Client


def protocol_named(name: ProtocolName) -> WireProtocol:
    match name:
        case "openai":
            from agent.models.protocols import chat_completions

            return chat_completions.PROTOCOL
        case "openai-responses":
            from agent.models.protocols import responses

            return responses.PROTOCOL
        case "anthropic":
            from agent.models.protocols import anthropic_messages

            return anthropic_messages.PROTOCOL
        case _:
            assert_never(name)


class ProviderModel:
    """One model of a provider, an `agent.model.Model`. The first request connects.

    The settings of `options` hold where a request leaves a value open. What the server refuses is left out from then
    on.
    """

    def __init__(
        self, provider: Provider, options: ModelOptions, media: MediaStore, keys: KeyRing | None = None
    ) -> None:
        """`keys` are those that it shares with the provider's other models."""
        self._provider = provider
        self._options = options
        self._images = ImageCache(media)
        self._keys = keys or KeyRing(provider)
        self._abilities = LearnedAbilities(f"{provider.name}:{options.name}", _known_refusals(provider, options))
        self._client: Client | None = None
        self._connecting = asyncio.Lock()

    async def aclose(self) -> None:
        """Closes the connections. Another request opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def prepare(self) -> None:
        """Loads what requests need, which the first one would do otherwise. It does not connect."""
        await self._ready()

    async def answer(self, request: Request, on_delta: OnDelta) -> Answer:
        request = replace(request, settings=request.settings.over(self._options.settings))
        return await ask_within(self._abilities, request, self._ask, on_delta)

    async def _ask(self, request: Request, without: frozenset[Feature], on_delta: OnDelta) -> Answer:
        client = await self._ready()
        target = Target(self._provider.name, self._options.name, without, self._provider.web_search, request.continues)
        images = await self._images.load(request.transcript)
        body = {**client.protocol.body(request, images, target), **self._provider.extra_body}

        async def send(key: str, on_delta: OnDelta) -> Answer:
            decoder = client.protocol.decoder(target, body)
            return await client.answer(body, decoder, on_delta, model=self._options.name, key=key)

        return await self._keys.ask(send, on_delta)

    async def _ready(self) -> Client:
        if self._client is None:
            async with self._connecting:
                if self._client is None:
                    self._client = await asyncio.to_thread(self._connect)
        return self._client

    def _connect(self) -> Client:
        from agent.models.client import Client

        return Client(self._provider, protocol_named(self._provider.protocol))


def _known_refusals(provider: Provider, options: ModelOptions) -> frozenset[Feature]:
    without = provider.without | options.without
    return without if provider.keeps_state else without | {"previous_response_id"}
