"""What the models of one provider share: its keys, and the HTTP client with its connections."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, assert_never

from agent.models.keys import KeyRing
from agent.models.protocols.wire import ProtocolName, WireProtocol
from agent.models.provider import Provider

if TYPE_CHECKING:
    from agent.models.client import Client


class ProviderAccess:
    """Access to one provider. Cheap to make: its protocol and the HTTP client are loaded at the first request."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.keys = KeyRing(provider)
        self._client: Client | None = None
        self._connecting = asyncio.Lock()

    async def client(self) -> Client:
        if self._client is None:
            async with self._connecting:
                if self._client is None:
                    self._client = await asyncio.to_thread(self._open)
        return self._client

    async def aclose(self) -> None:
        """Closes the connections. Another request opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def _open(self) -> Client:
        from agent.models.client import Client

        return Client(self.provider, protocol_named(self.provider.protocol))


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
