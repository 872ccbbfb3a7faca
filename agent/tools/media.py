"""The media tools: send files of the workspace to the person, and show images to the model."""

from __future__ import annotations

import asyncio
from typing import Annotated

from pydantic import Field

from agent.files.pictures import UnreadablePicture, scale_for_model
from agent.media import Attachment, MediaError
from agent.tool import ToolContext, ToolError, tool
from agent.tool_result import ToolResult
from agent.tools.text_edit import plain
from agent.tools.workspace import existing_file, file_errors, inside, read_bytes

MAX_BYTES = 200_000_000
"""Of a file that is read; the media store has a limit of its own."""


@tool(effect="read")
async def send_file(
    context: ToolContext,
    path: Annotated[str, Field(description="A file in the workspace.")],
    caption: Annotated[str, Field(max_length=1000)] = "",
) -> ToolResult:
    """Sends a file of the workspace to the person, at this point of your answer. Pictures are shown as pictures."""
    data, name = await asyncio.to_thread(_read, context, path)
    if not data:
        raise ToolError(f"{path} is empty; there is nothing to send")
    attachment = await store_file(context, data, name)
    text = f"{name} ({attachment.media_type}, {attachment.size:,} bytes) was sent to the person."
    return ToolResult(text, attachments=(attachment,), caption=caption)


@tool(effect="read")
async def view_image(
    context: ToolContext,
    path: Annotated[str, Field(description="A picture in the workspace, or the name of one sent in the conversation.")],
) -> ToolResult:
    """Shows a picture to you, not to the person."""
    data, name, origin = await find_image(context, path)
    try:
        picture = await scale_for_model(data)
    except UnreadablePicture as error:
        raise ToolError(f"{name} cannot be shown as a picture: {error}") from error
    attachment = await store_file(context, picture.data or data, name)
    return ToolResult(f"{name} from {origin}: {picture.words}.", images=(attachment,))


async def find_image(context: ToolContext, path: str) -> tuple[bytes, str, str]:
    """The bytes, the name and the origin; a file in the workspace takes precedence over one in the conversation."""
    named = [file for file in reversed(context.attachments) if plain(file.name) == plain(path)]
    sent = next((file for file in named if file.name == path), next(iter(named), None))
    if sent is not None and not await asyncio.to_thread(_is_in_workspace, context, path):
        try:
            return await context.media.read(sent), sent.name, "the conversation"
        except MediaError as error:
            raise ToolError(str(error)) from error
    data, name = await asyncio.to_thread(_read, context, path)
    return data, name, "the workspace"


def _is_in_workspace(context: ToolContext, path: str) -> bool:
    try:
        return inside(context.workspace, path).is_file()
    except (ToolError, OSError):
        return False


def _read(context: ToolContext, path: str) -> tuple[bytes, str]:
    file = existing_file(context.workspace, path)
    with file_errors(path):
        data = read_bytes(context.workspace, file, MAX_BYTES)
    if isinstance(data, int):
        raise ToolError(f"{path} has {data:,} bytes, more than the limit of {MAX_BYTES:,}")
    return data, file.name


async def store_file(context: ToolContext, data: bytes, name: str) -> Attachment:
    try:
        return await context.media.put(data, name)
    except MediaError as error:
        raise ToolError(str(error)) from error
