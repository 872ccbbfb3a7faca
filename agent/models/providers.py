"""Models of providers. Cheap to import: the HTTP client is loaded at the first request."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.events import OnDelta
from agent.media import MediaStore
from agent.model import Answer, Request
from agent.models.content import LoadedImages, UnavailableImage, images_in
from agent.models.images import ImageCache
from agent.models.protocols import anthropic_messages, chat_completions
from agent.models.protocols.wire import ProtocolName, Target, WireProtocol
from agent.models.provider import ModelOptions, Provider

if TYPE_CHECKING:
    from agent.models.client import Client

PROTOCOLS: dict[ProtocolName, WireProtocol] = {
    protocol.name: protocol for protocol in (chat_completions.PROTOCOL, anthropic_messages.PROTOCOL)
}

NO_PICTURES = UnavailableImage("this model does not support pictures")


class ProviderModel:
    """One model of a provider, an `agent.model.Model`. The first request connects.

    The settings of `options` hold where a request leaves a value open.
    """

    def __init__(self, provider: Provider, options: ModelOptions, media: MediaStore) -> None:
        self._provider = provider
        self._options = options
        self._protocol = PROTOCOLS[provider.protocol]
        self._images = ImageCache(media)
        self._client: Client | None = None
        self._connecting = asyncio.Lock()

    async def aclose(self) -> None:
        """Closes the connections. Another request opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def answer(self, request: Request, on_delta: OnDelta) -> Answer:
        client = await self._ready()
        target = Target(
            self._provider.name,
            self._options.name,
            self._provider.without | self._options.without,
            self._provider.web_search,
        )
        request = replace(request, settings=request.settings.over(self._options.settings))
        body = self._protocol.body(request, await self._load_images(request, target), target)
        body = {**body, **self._provider.extra_body}
        decoder = self._protocol.decoder(target, body)
        key = self._provider.keys[0] if self._provider.keys else ""
        return await client.answer(body, decoder, on_delta, model=self._options.name, key=key)

    async def _load_images(self, request: Request, target: Target) -> LoadedImages:
        if target.takes("images"):
            return await self._images.load(request.transcript)
        return {attachment.hash: NO_PICTURES for attachment in images_in(request.transcript)}

    async def _ready(self) -> Client:
        if self._client is None:
            async with self._connecting:
                if self._client is None:
                    self._client = await asyncio.to_thread(self._connect)
        return self._client

    def _connect(self) -> Client:
        from agent.models.client import Client

        return Client(self._provider, self._protocol)
