"""A provider as the operator has set it up: where its server is, which protocol it speaks, with which keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from agent.model import ModelSettings
from agent.models.protocols.wire import Feature, ProtocolName, WireProtocol


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The time limits of one attempt, in seconds: to the first piece of the answer, between pieces, and in total."""

    first_token: float = 60
    silence: float = 60
    total: float = 30 * 60


@dataclass(frozen=True, slots=True)
class Provider:
    """A server of models under its name in the settings.

    `base_url` may have a query, which is kept; `query` is added to it. `headers` are sent with each request,
    `extra_body` is merged into each body. Without `keys` no key is sent. `key_header` is the header of the key if it is
    not the protocol's own (Azure: "api-key"). `without` are the features that the server is known to refuse.
    `keeps_state`: a Responses server that keeps the conversation. `requests_per_minute` 0: no limit.
    """

    name: str
    protocol: ProtocolName
    base_url: str
    keys: tuple[str, ...] = ()
    key_header: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    timeouts: Timeouts = Timeouts()
    without: frozenset[Feature] = frozenset()
    web_search: bool = False
    keeps_state: bool = False
    requests_per_minute: int = 0


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """One model of a provider: its name there and the settings of its requests, which a request's own precede.

    `vision` and `tools`: whether it takes pictures and tools; None: found out.
    """

    name: str
    settings: ModelSettings = field(default_factory=ModelSettings)
    vision: bool | None = None
    tools: bool | None = None

    @property
    def without(self) -> frozenset[Feature]:
        """The features that it is said not to have."""
        refused: set[Feature] = set()
        if self.vision is False:
            refused.add("images")
        if self.tools is False:
            refused.add("tools")
        return frozenset(refused)


def key_header(provider: Provider, protocol: WireProtocol, key: str) -> Mapping[str, str]:
    """The header with the key, which precedes one of the same name in `headers`; none without a key."""
    if not key:
        return {}
    return {provider.key_header: key} if provider.key_header else protocol.key_header(key)


def refused_at(base_url: str) -> frozenset[Feature]:
    """What is known of the server at an address: OpenAI's newer models (at Azure too) reject `max_tokens`, and servers
    that are only compatible may not know the newer name."""
    is_openai = "openai" in (urlsplit(base_url).hostname or "")
    return frozenset() if is_openai else frozenset({"max_completion_tokens"})
