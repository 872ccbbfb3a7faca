"""Models of providers: OpenAI and all who speak like it, and Anthropic. Light to import; `engine` holds the weight."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, assert_never

from agent.events import Tell
from agent.media import MediaStore
from agent.model import Answer, Request
from agent.models import anthropic_messages, chat_completions
from agent.models.content import LoadedImages
from agent.models.images import ImageCache

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
    """A provider's model. `openai` always speaks Chat Completions: most compatible servers have nothing else.

    The timeouts are in seconds: until the first piece of an answer, between pieces, and for the whole of it. Without a
    `base_url` it is the provider's own; without an `api_key` a placeholder is sent, as local servers want none. With
    `web_search` the provider may search the web by itself, and what it found stays in the conversation: `anthropic`
    only, and ignored elsewhere.
    """
    search = web_search and provider == "anthropic"

    def connect() -> Engine:
        # Loading a provider's library takes half a second and 40 MB, so nothing does before it is needed.
        from agent.models.engine import Timeouts, anthropic_engine, openai_engine

        engine = openai_engine if provider == "openai" else anthropic_engine
        return engine(name, api_key, base_url, Timeouts(first_token_timeout, silence_timeout, total_timeout))

    return ProviderModel(connect, _body_of(provider, base_url, search), ImageCache(media), web_search=search)


class ProviderModel:
    """An `agent.model.Model`. The provider's library is loaded by the first request."""

    def __init__(
        self,
        connect: Callable[[], Engine],
        body: Callable[[Request, LoadedImages], dict[str, Any]],
        sights: ImageCache,
        *,
        web_search: bool = False,
    ) -> None:
        self._connect = connect
        self._body = body
        self._sights = sights
        self._web_search = web_search
        self._engine: Engine | None = None
        self._connecting = asyncio.Lock()

    async def aclose(self) -> None:
        """Closes the connections. Asked again, the model opens new ones."""
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.aclose()

    async def answer(self, request: Request, tell: Tell) -> Answer:
        engine = await self._ready()
        body = self._body(request, await self._sights.of(request.transcript))
        return await engine.answer(body, tell, web_search=self._web_search)

    async def _ready(self) -> Engine:
        if self._engine is None:
            async with self._connecting:
                if self._engine is None:
                    self._engine = await asyncio.to_thread(self._connect)
        return self._engine


def _body_of(
    provider: Provider, base_url: str | None, web_search: bool
) -> Callable[[Request, LoadedImages], dict[str, Any]]:
    match provider:
        case "openai":
            return partial(chat_completions.body, limit=chat_completions.max_tokens_field(base_url))
        case "anthropic":
            return partial(anthropic_messages.body, web_search=web_search)
        case _:
            assert_never(provider)
