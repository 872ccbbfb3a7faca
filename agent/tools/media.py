"""The media tools: files of the workspace to the person, pictures to the model's eyes."""

from __future__ import annotations

import asyncio
from typing import Annotated

from pydantic import Field

from agent.media import Attachment, MediaError
from agent.tool import ToolContext, ToolError, tool
from agent.tool_result import ToolResult
from agent.tools.workspace import existing_file, file_errors, inside

LARGEST = 200_000_000
"""Bytes of a file that is read at all; the media store has a limit of its own."""


@tool(effect="read")
async def send_file(
    context: ToolContext,
    path: Annotated[str, Field(description="A file in the workspace.")],
    caption: Annotated[str, Field(max_length=1000)] = "",
) -> ToolResult:
    """Sends a file of the workspace to the person, where you are in your answer. Pictures are shown as pictures."""
    data, name = await asyncio.to_thread(_read, context, path)
    if not data:
        raise ToolError(f"{path} is empty; there is nothing to send")
    attachment = await _keep(context, data, name)
    text = f"{name} ({attachment.media_type}, {attachment.size:,} bytes) is sent to the person."
    return ToolResult(text, attachments=(attachment,), caption=caption)


@tool(effect="read")
async def view_image(
    context: ToolContext,
    path: Annotated[str, Field(description="A picture in the workspace, or the name of one sent in the conversation.")],
) -> ToolResult:
    """Shows a picture to you, not to the person."""
    from agent.tools.vision import UNUSABLE_IMAGE, scaled_for_model

    data, name, place = await _find_picture(context, path)
    try:
        shown, description = await asyncio.to_thread(scaled_for_model, data)
    except UNUSABLE_IMAGE as error:
        raise ToolError(f"{name} cannot be shown as a picture: {error}") from error
    attachment = await _keep(context, shown, name)
    return ToolResult(f"{name} from {place}: {description}.", images=(attachment,))


async def _find_picture(context: ToolContext, path: str) -> tuple[bytes, str, str]:
    """The bytes, the name and where they are from; a file in the workspace comes before one in the conversation."""
    seen = next((one for one in reversed(context.attachments) if one.name == path), None)
    if seen is not None and not await asyncio.to_thread(_is_in_workspace, context, path):
        try:
            return await context.media.read(seen), seen.name, "the conversation"
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
        size = file.stat().st_size
        if size > LARGEST:
            raise ToolError(f"{path} has {size:,} bytes, more than the {LARGEST:,} that are allowed")
        return file.read_bytes(), file.name


async def _keep(context: ToolContext, data: bytes, name: str) -> Attachment:
    try:
        return await context.media.put(data, name)
    except MediaError as error:
        raise ToolError(str(error)) from error
