"""Sampling: a server asks the model of the turn that calls it (https://modelcontextprotocol.io, sampling)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Sequence

from mcp_types import (
    CreateMessageRequestParams,
    CreateMessageResult,
    ImageContent,
    SamplingMessage,
    TextContent,
)

from agent.log import MessagesRead, ModelAnswered, Text, UserMessage
from agent.mcp.errors import McpError
from agent.media import Attachment, MediaError, MediaStore
from agent.model import ModelSettings, Request
from agent.tool import ToolContext, ToolError
from agent.transcript import Exchange

MAX_TOKENS = 4_096
"""Tokens of an answer."""

MAX_TEXT = 200_000
"""Characters of a request."""

MAX_MESSAGES = 100
MAX_PICTURES = 5


async def sampled(params: CreateMessageRequestParams, context: ToolContext) -> CreateMessageResult:
    """The model's answer to a server, asked by the call of this context. Raises `McpError` with why there is none."""
    request = await _request(params, context.media)
    try:
        answer = await context.ask_model(request)
    except ToolError as error:
        raise McpError(str(error)) from error
    return CreateMessageResult(
        role="assistant",
        content=TextContent(text=answer.text),
        model=answer.model or "unknown",
        stop_reason="maxTokens" if answer.finish == "length" else "endTurn",
    )


async def _request(params: CreateMessageRequestParams, media: MediaStore) -> Request:
    if params.tools:
        raise McpError("requests with tools are not supported")
    system, said = params.system_prompt or "", list(_texts(params.messages))
    if len(params.messages) > MAX_MESSAGES or len(system) + sum(map(len, said)) > MAX_TEXT:
        raise McpError(f"the request is too long: {MAX_MESSAGES} messages and {MAX_TEXT:,} characters are allowed")
    if (
        sum(isinstance(block, ImageContent) for each in params.messages for block in each.content_as_list)
        > MAX_PICTURES
    ):
        raise McpError(f"the request has more than {MAX_PICTURES} images")
    if params.max_tokens < 1:
        raise McpError("maxTokens is less than 1")
    exchanges = [await _exchange(step, message, media) for step, message in enumerate(params.messages, 1)]
    settings = ModelSettings(temperature=params.temperature, max_tokens=min(params.max_tokens, MAX_TOKENS))
    return Request(system, exchanges, text_only=True, settings=settings)


def _texts(messages: Sequence[SamplingMessage]) -> Iterator[str]:
    for message in messages:
        for block in message.content_as_list:
            if isinstance(block, TextContent):
                yield block.text
            elif not isinstance(block, ImageContent):
                raise McpError(f"content of the type {block.type} is not supported: only text and images")


async def _exchange(step: int, message: SamplingMessage, media: MediaStore) -> Exchange:
    said = "\n\n".join(_texts([message]))
    if message.role == "assistant":
        return ModelAnswered(step, (Text(said),))
    pictures = [await _picture(block, media) for block in message.content_as_list if isinstance(block, ImageContent)]
    return MessagesRead(step, (UserMessage(0, "", said, tuple(pictures)),))


async def _picture(block: ImageContent, media: MediaStore) -> Attachment:
    try:
        return await media.put(base64.b64decode(block.data, validate=True), "picture")
    except (binascii.Error, MediaError) as error:
        raise McpError(f"an image cannot be read: {error}") from error
