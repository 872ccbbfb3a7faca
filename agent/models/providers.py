"""Models of providers. Cheap to import: `engine` loads the libraries."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.events import OnDelta
from agent.media import MediaStore
from agent.model import Answer, Request
from agent.models.images import ImageCache
from agent.models.protocols import anthropic_messages, chat_completions
from agent.models.protocols.wire import Target
from agent.models.provider import ModelOptions, Provider

if TYPE_CHECKING:
    from agent.models.engine import Engine


class ProviderModel:
    """One model of a provider, an `agent.model.Model`. The first request connects.

    The settings of `options` hold where a request leaves a value open.
    """

    def __init__(self, provider: Provider, options: ModelOptions, media: MediaStore) -> None:
        self._provider = provider
        self._options = options
        self._images = ImageCache(media)
        self._engine: Engine | None = None
        self._connecting = asyncio.Lock()

    async def aclose(self) -> None:
        """Closes the connections. Another request opens new ones."""
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.aclose()

    async def answer(self, request: Request, on_delta: OnDelta) -> Answer:
        engine = await self._ready()
        request = replace(request, settings=request.settings.over(self._options.settings))
        images = await self._images.load(request.transcript)
        search = self._provider.web_search and self._provider.protocol == "anthropic"
        target = Target(self._provider.name, self._options.name, self._provider.without, search)
        render = anthropic_messages.body if self._provider.protocol == "anthropic" else chat_completions.body
        body = {**render(request, images, target), **self._provider.extra_body}
        return await engine.answer(body, on_delta, web_search=search)

    async def _ready(self) -> Engine:
        if self._engine is None:
            async with self._connecting:
                if self._engine is None:
                    self._engine = await asyncio.to_thread(self._connect)
        return self._engine

    def _connect(self) -> Engine:
        # Loading a provider's library takes half a second and 40 MB, so it is not done before it is needed.
        from agent.models.engine import anthropic_engine, openai_engine

        provider = self._provider
        engine = anthropic_engine if provider.protocol == "anthropic" else openai_engine
        return engine(
            self._options.name, provider.keys[0] if provider.keys else None, provider.base_url, provider.timeouts
        )
