"""Models of providers. Cheap to import: their protocol and the HTTP client are loaded at the first request."""

from __future__ import annotations

from dataclasses import replace

from agent.events import OnDelta
from agent.media import MediaStore
from agent.model import Answer, Request
from agent.models.abilities import LearnedAbilities, ask_within
from agent.models.access import ProviderAccess
from agent.models.images import ImageCache
from agent.models.protocols.wire import Feature, Target
from agent.models.provider import ModelOptions, Provider


class ProviderModel:
    """One model of a provider, an `agent.model.Model`. The first request connects.

    The settings of `options` hold where a request leaves a value open. What the server refuses is left out from then
    on.
    """

    def __init__(
        self, provider: Provider, options: ModelOptions, media: MediaStore, access: ProviderAccess | None = None
    ) -> None:
        """`access` is the one that it shares with the provider's other models."""
        self._provider = provider
        self._options = options
        self._images = ImageCache(media)
        self._access = access or ProviderAccess(provider)
        self._abilities = LearnedAbilities(f"{provider.name}:{options.name}", _known_refusals(provider, options))

    async def aclose(self) -> None:
        """Closes the connections to the provider. Another request opens new ones."""
        await self._access.aclose()

    async def prepare(self) -> None:
        """Loads what requests need, which the first one would do otherwise. It does not connect."""
        await self._access.client()

    async def answer(self, request: Request, on_delta: OnDelta) -> Answer:
        request = replace(request, settings=request.settings.over(self._options.settings))
        return await ask_within(self._abilities, request, self._ask, on_delta)

    async def _ask(self, request: Request, without: frozenset[Feature], on_delta: OnDelta) -> Answer:
        client = await self._access.client()
        target = Target(self._provider.name, self._options.name, without, self._provider.web_search, request.continues)
        images = await self._images.load(request.transcript)
        body = {**client.protocol.body(request, images, target), **self._provider.extra_body}

        async def send(key: str, on_delta: OnDelta) -> Answer:
            decoder = client.protocol.decoder(target, body)
            return await client.answer(body, decoder, on_delta, model=self._options.name, key=key)

        return await self._access.keys.ask(send, on_delta)


def _known_refusals(provider: Provider, options: ModelOptions) -> frozenset[Feature]:
    without = provider.without | options.without
    return without if provider.keeps_state else without | {"previous_response_id"}
