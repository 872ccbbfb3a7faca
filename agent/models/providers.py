"""Models of providers: OpenAI and compatible servers, and Anthropic. Cheap to import: `engine` loads the libraries."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, assert_never

from agent.events import OnDelta
from agent.media import MediaStore
from agent.model import Answer, Request
from agent.models.content import LoadedImages
from agent.models.images import ImageCache
from agent.models.protocols import anthropic_messages, chat_completions

if TYPE_CHECKING:
    from agent.models.engine import Engine

Provider = Literal["openai", "anthropic"]


def provider_model(
    provider: Provider,
    name: str,
    *,
    api_key: str | None,
    base_url: str | None,
    media: MediaStore,
    first_token_timeout: float = 60,
    silence_timeout: float = 60,
    total_timeout: float = 30 * 60,
    web_search: bool = False,
) -> ProviderModel:
    """A provider's model. `openai` always uses Chat Completions: most compatible servers have nothing else.

    The timeouts are in seconds: until the first piece of an answer, between pieces, and for the whole answer. The
    default `base_url` is the provider's own. Without an `api_key` a placeholder is sent, as local servers need none.
    With `web_search` the provider may search the web, and the results stay in the conversation; for `anthropic` only,
    ignored otherwise.
    """
    search = web_search and provider == "anthropic"

    def connect() -> Engine:
        # Loading a provider's library takes half a second and 40 MB, so it is not done before it is needed.
        from agent.models.engine import Timeouts, anthropic_engine, openai_engine

        engine = openai_engine if provider == "openai" else anthropic_engine
        return engine(name, api_key, base_url, Timeouts(first_token_timeout, silence_timeout, total_timeout))

    return ProviderModel(connect, _body_renderer(provider, base_url, search), ImageCache(media), web_search=search)


class ProviderModel:
    """An `agent.model.Model`. The first request loads the provider's library."""

    def __init__(
        self,
        connect: Callable[[], Engine],
        body: Callable[[Request, LoadedImages], dict[str, Any]],
        images: ImageCache,
        *,
        web_search: bool = False,
    ) -> None:
        self._connect = connect
        self._body = body
        self._images = images
        self._web_search = web_search
        self._engine: Engine | None = None
        self._connecting = asyncio.Lock()

    async def aclose(self) -> None:
        """Closes the connections. Another request opens new ones."""
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.aclose()

    async def answer(self, request: Request, on_delta: OnDelta) -> Answer:
        engine = await self._ready()
        body = self._body(request, await self._images.load(request.transcript))
        return await engine.answer(body, on_delta, web_search=self._web_search)

    async def _ready(self) -> Engine:
        if self._engine is None:
            async with self._connecting:
                if self._engine is None:
                    self._engine = await asyncio.to_thread(self._connect)
        return self._engine


def _body_renderer(
    provider: Provider, base_url: str | None, web_search: bool
) -> Callable[[Request, LoadedImages], dict[str, Any]]:
    match provider:
        case "openai":
            return partial(chat_completions.body, max_tokens_field=chat_completions.max_tokens_field_for(base_url))
        case "anthropic":
            return partial(anthropic_messages.body, web_search=web_search)
        case _:
            assert_never(provider)
