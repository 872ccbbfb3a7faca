"""What the protocols of model servers have in common: a body and a decoder, both without I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from agent.events import Delta
from agent.model import Answer, Request, ToolSpec
from agent.models.content import LoadedImages

ProtocolName = Literal["openai", "openai-responses", "anthropic"]

JsonObject = dict[str, Any]

SEARCH_TOOL = "web_search"
"""Our own search tool, and the providers' as well."""

SEARCHING = "The model is searching the web …"
"""What people read while the provider's own web search runs."""

SHORT_ANSWER = 4096
"""Tokens: a length limit that every server takes, where it refuses a higher one."""

Feature = Literal[
    "stream_options",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "system_role",
    "consecutive_roles",
    "long_call_ids",
    "max_completion_tokens",
    "max_tokens",
    "long_answers",
    "temperature",
    "top_p",
    "reasoning",
    "reasoning_summary",
    "encrypted_reasoning",
    "answers_without_reasoning",
    "calls_without_signature",
    "images",
    "cache_control",
    "web_search",
    "previous_response_id",
]
"""A part of a protocol that some servers refuse: a field of that name, or

- `system_role`: a message with the role "system"; without it the instructions are in the first message of the user
- `consecutive_roles`: two messages of the same role in a row, which the templates of some models refuse
- `long_call_ids`: ids of calls that are not nine letters or digits, as Mistral requires
- `max_completion_tokens`: the length limit under this name; without it, it is named `max_tokens`
- `long_answers`: a length limit of more than `SHORT_ANSWER`
- `reasoning`: the effort or the budget of reasoning
- `reasoning_summary`: a summary of the reasoning, which OpenAI gives to verified organizations only
- `encrypted_reasoning`: the reasoning as the server wants to see it again; without it none is sent back
- `answers_without_reasoning`: earlier answers without their reasoning, as those of another model are; without it, a
  blank one is sent
- `calls_without_signature`: the same of calls and their signature; without it, the documented stand-in is sent
- `previous_response_id`: that the server has the earlier conversation, and is sent only what came after it
"""


@dataclass(frozen=True, slots=True)
class Target:
    """Whom a request is for: what its body depends on besides the conversation.

    `provider` is the name in the settings; what a provider wants to see again (reasoning, signatures) is sent to the
    provider of that name only. `without` are the features that it refuses. `continues` is that of the request.
    """

    provider: str
    model: str
    without: frozenset[Feature] = frozenset()
    web_search: bool = False
    continues: bool = False

    def takes(self, feature: Feature) -> bool:
        return feature not in self.without

    def length(self, limit: int) -> int:
        """A limit of the answer's length in tokens, as the model takes it."""
        return limit if self.takes("long_answers") else min(limit, SHORT_ANSWER)

    @property
    def searches(self) -> bool:
        """Whether the model may search the web by itself, with a tool that the provider runs."""
        return self.web_search and self.takes("web_search")

    def tools_of(self, request: Request) -> Sequence[ToolSpec]:
        """The tools to declare: a model that searches by itself gets no second search."""
        tools = request.tools if self.takes("tools") else ()
        return [tool for tool in tools if not (self.searches and tool.name == SEARCH_TOOL)]


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event of a stream: its data, and the name in its `event:` line; "" if it has none."""

    data: str
    name: str = ""


class Decoder(Protocol):
    """Reads one answer. Whatever the server sends, its methods return or raise `ModelError`, nothing else."""

    @property
    def has_begun(self) -> bool:
        """A piece of the answer itself has arrived, be it text, reasoning or a call."""

    @property
    def is_whole(self) -> bool:
        """The protocol's own reason for the end has arrived: the answer is whole, only counts of tokens may follow."""

    @property
    def is_done(self) -> bool:
        """Nothing more follows."""

    def feed(self, event: ServerEvent) -> Sequence[Delta]:
        """Reads an event and returns what people may be shown of it. Raises `ModelError` for an error in the stream."""

    def feed_body(self, body: str) -> Sequence[Delta]:
        """Reads an answer that came in one piece, as JSON, in place of a stream."""

    def answer(self) -> Answer:
        """The answer, when nothing more follows. Raises `ModelError` if it is not whole, or refused."""


@dataclass(frozen=True, slots=True)
class WireProtocol:
    """A protocol. `path` is below the provider's base URL; `key_header` builds the header with the API key; `decoder`
    reads the answer to a body."""

    name: ProtocolName
    path: str
    body: Callable[[Request, LoadedImages, Target], JsonObject]
    decoder: Callable[[Target, JsonObject], Decoder]
    key_header: Callable[[str], Mapping[str, str]]
    headers: Mapping[str, str] = field(default_factory=dict)
