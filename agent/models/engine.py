"""The only module that talks to providers, through pydantic-ai's direct API; imported at the first request.

The library is the client: it connects, decodes the stream and classifies the errors. The conversation, tools and
instructions are passed to it in wire format, as `extra_body`, because its own conversion and the SDK's walk the
whole history for every request: measured with 600 short messages, 150 ms of CPU instead of 1 ms.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic_ai.direct import model_request_stream
from pydantic_ai.messages import (
    FinishReason,
    ModelRequest,
    ModelResponse,
    ModelResponsePart,
    ModelResponseStreamEvent,
    NativeToolCallPart,
    NativeToolReturnPart,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
)
from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse
from pydantic_ai.native_tools import WebSearchTool
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import RequestUsage

from agent.events import Delta, OnDelta, ReasoningDelta, TextDelta, Waiting
from agent.gate import json_text, json_value, text, tokens
from agent.log import Call, Native, Part, Text, Thinking, Usage
from agent.model import Answer, Finish, ModelError
from agent.models.engine_errors import model_errors
from agent.models.errors import MESSAGES
from agent.models.protocols import anthropic_messages, chat_completions
from agent.models.provider import Timeouts

NO_KEY = "no-key"
"""The SDKs require a key, even for local servers that need none."""

PLACEHOLDER = [ModelRequest.user_text_prompt("…")]
"""The library requires a message; `extra_body` replaces it."""

WITH_WEB_SEARCH = ModelRequestParameters(native_tools=[WebSearchTool()])
"""Without it the library drops a search from the answer. On the wire `extra_body` replaces it."""

SEARCHING = "The model is searching the web …"


def openai_engine(name: str, api_key: str | None, base_url: str | None, timeouts: Timeouts) -> Engine:
    from openai import AsyncOpenAI, DefaultAioHttpClient
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    client = AsyncOpenAI(
        api_key=api_key or NO_KEY,
        base_url=base_url,
        max_retries=0,
        timeout=None,
        http_client=DefaultAioHttpClient(timeout=None),
    )
    model = OpenAIChatModel(name, provider=OpenAIProvider(openai_client=client))
    return Engine(model, chat_completions.PROVIDER, client.close, api_key, timeouts)


def anthropic_engine(name: str, api_key: str | None, base_url: str | None, timeouts: Timeouts) -> Engine:
    from anthropic import AsyncAnthropic, DefaultAioHttpClient
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.providers.anthropic import AnthropicProvider

    client = AsyncAnthropic(
        api_key=api_key or NO_KEY,
        base_url=base_url,
        max_retries=0,
        timeout=None,
        http_client=DefaultAioHttpClient(timeout=None),
    )
    model = AnthropicModel(name, provider=AnthropicProvider(anthropic_client=client))
    return Engine(model, anthropic_messages.PROVIDER, client.close, api_key, timeouts)


class Engine:
    """One provider's client. Its timeouts are the only ones: the SDKs' own are off."""

    def __init__(
        self,
        model: Model,
        provider: str,
        close: Callable[[], Awaitable[None]],
        api_key: str | None,
        timeouts: Timeouts,
    ) -> None:
        self._model = model
        self._provider = provider
        self._close = close
        self._api_key = api_key
        self._timeouts = timeouts

    async def aclose(self) -> None:
        await self._close()

    async def answer(self, body: dict[str, Any], on_delta: OnDelta, *, web_search: bool = False) -> Answer:
        """Sends the request and passes on the deltas of the answer as they arrive. Raises `ModelError`, whatever the
        answer makes the library raise, and what `on_delta` raises.

        `web_search`: the body allows the provider to search the web.
        """
        parameters = WITH_WEB_SEARCH if web_search else None
        receiver = _Receiver(on_delta)
        with model_errors(self._provider, self._model.model_name, self._api_key, receiver.raised):
            async with asyncio.timeout(self._timeouts.first_token) as deadline:
                settings = ModelSettings(extra_body=body)
                async with model_request_stream(
                    self._model, PLACEHOLDER, model_settings=settings, model_request_parameters=parameters
                ) as stream:
                    await self._stream_deltas(stream, deadline, receiver.on_delta)
                    response = stream.get()
            return _answer(response, self._provider)

    async def _stream_deltas(self, stream: StreamedResponse, deadline: asyncio.Timeout, on_delta: OnDelta) -> None:
        now = asyncio.get_running_loop().time
        end = now() + self._timeouts.total
        try:
            async for event in stream:
                deadline.reschedule(min(now() + self._timeouts.silence, end))
                delta = _delta(event)
                if delta is not None:
                    await on_delta(delta)
        except asyncio.CancelledError:
            # Without it one provider's socket stays open, and the provider goes on generating (and billing).
            await asyncio.shield(stream.cancel())
            raise


class _Receiver:
    """Passes deltas on, and keeps what the receiver raised apart from what the answer made the library raise."""

    def __init__(self, on_delta: OnDelta) -> None:
        self._on_delta = on_delta
        self.raised: list[Exception] = []

    async def on_delta(self, delta: Delta) -> None:
        try:
            await self._on_delta(delta)
        except Exception as error:
            self.raised.append(error)
            raise


def _delta(event: ModelResponseStreamEvent) -> Delta | None:
    """The event as a delta, if it is one. Unknown kinds are ignored: the library adds some in minor releases."""
    match event:
        case PartStartEvent(part=TextPart(content=words)) | PartDeltaEvent(delta=TextPartDelta(content_delta=words)):
            return TextDelta(_piece(words)) if words else None
        case (
            PartStartEvent(part=ThinkingPart(content=thought))
            | PartDeltaEvent(delta=ThinkingPartDelta(content_delta=thought))
        ):
            return ReasoningDelta(_piece(thought)) if thought else None
        case PartStartEvent(part=NativeToolCallPart(tool_name=WebSearchTool.kind)):
            return Waiting(SEARCHING)
        case _:
            return None


def _piece(value: object) -> str:
    """A piece of text as it was sent: half of a surrogate pair may be completed by the next piece."""
    return value if isinstance(value, str) else text(value)


def _answer(response: ModelResponse, provider: str) -> Answer:
    parts = tuple(part for raw in response.parts if (part := _part(raw, provider)) is not None)
    # A provider whose own tools take long suspends the answer and has to be asked to continue.
    finish = "length" if response.state == "suspended" else _finish(response.finish_reason, parts)
    if finish == "refused" and not any(isinstance(part, Text | Call) for part in parts):
        raise ModelError("refused", MESSAGES["refused"])
    return Answer(parts, _usage(response.usage), finish, text(response.model_name))


def _usage(reported: RequestUsage) -> Usage:
    return Usage(
        input=tokens(reported.input_tokens),
        output=tokens(reported.output_tokens),
        cache_read=tokens(reported.cache_read_tokens),
        cache_write=tokens(reported.cache_write_tokens),
        reasoning=tokens(reported.output_reasoning_tokens),
    )


def _part(part: ModelResponsePart, provider: str) -> Part | None:
    """The part as it passes the gate: whatever the provider sent, texts are texts."""
    match part:
        case TextPart():
            return Text(text(part.content)) if part.content else None
        case ThinkingPart():
            return Thinking(text(part.content), _as_sent(part.signature), _as_sent(part.id), provider)
        case ToolCallPart():
            return Call(text(part.tool_call_id), text(part.tool_name), _arguments(part))
        case NativeToolCallPart(tool_name=WebSearchTool.kind) if provider == anthropic_messages.PROVIDER:
            return _search(part)
        case NativeToolReturnPart(tool_name=WebSearchTool.kind) if provider == anthropic_messages.PROVIDER:
            use_id, content = text(part.tool_call_id), json_value(part.content)
            result = {"type": "web_search_tool_result", "tool_use_id": use_id, "content": content}
            return Native(provider, json.dumps(result))
        case _:
            return None


def _as_sent(value: object) -> str | None:
    """A signature or a name that counts only unchanged; None if it is no text, or one that cannot be stored."""
    return value if isinstance(value, str) and text(value) == value else None


def _search(part: NativeToolCallPart) -> Native:
    """A web search call, in the form in which the provider requires it in later requests."""
    query = json_value(part.args_as_dict())
    use = {"type": "server_tool_use", "id": text(part.tool_call_id), "name": "web_search", "input": query}
    return Native(anthropic_messages.PROVIDER, json.dumps(use), f"Searched the web: {text(query.get('query'))}")


def _arguments(part: ToolCallPart) -> str:
    """The arguments as the model wrote them: the library's own accessor wraps what is not valid JSON."""
    if isinstance(part.args, str):
        return json_text(part.args) or "{}"
    return json.dumps(json_value(part.args or {}))


def _finish(reason: FinishReason | None, parts: tuple[Part, ...]) -> Finish:
    match reason:
        case "length":
            return "length"
        case "content_filter":
            return "refused"
        case "stop" | "tool_call" | None:
            return "calls" if any(isinstance(part, Call) for part in parts) else "stop"
        case _:
            return "other"
