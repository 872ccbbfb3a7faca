"""Results of a server as ours: text for the model, pictures and files through the media store."""

from __future__ import annotations

import base64
import binascii
import json
import mimetypes
from collections.abc import Awaitable, Callable, Sequence
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from mcp_types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    PromptMessage,
    ResourceLink,
    TextContent,
    TextResourceContents,
)

from agent.gate import one_line
from agent.mcp.errors import McpError
from agent.media import Attachment, MediaError, MediaStore
from agent.tool_result import ToolResult

MAX_TEXT = 400_000
"""Characters of a result's text. The model gets the beginning and the end of a long one, and all of it as a file."""

MAX_FILES = 20
"""Pictures and files of one result."""

MAX_LINKS_READ = 5
"""Linked files of one result that are fetched."""

Contents = TextResourceContents | BlobResourceContents
ReadResource = Callable[[str], Awaitable[Sequence[Contents]]]
"""The contents of a resource of the same server, by its URI. Raises `McpError`."""


async def tool_result(result: CallToolResult, media: MediaStore, read: ReadResource) -> ToolResult:
    """The result of a call. What cannot be stored is named in the text."""
    collected = _Collected(media)
    for block in result.content:
        await collected.add(block, read)
    if not collected.texts and result.structured_content is not None:
        collected.texts.append(json.dumps(result.structured_content, ensure_ascii=False, indent=1))
    return collected.result(failed=result.is_error)


async def resource_result(contents: Sequence[Contents], media: MediaStore) -> ToolResult:
    """The contents of a resource: text as text, everything else as files."""
    collected = _Collected(media)
    for each in contents:
        await collected.add_contents(each)
    return collected.result()


async def prompt_result(messages: Sequence[PromptMessage], media: MediaStore, read: ReadResource) -> ToolResult:
    """The messages of a prompt, one after the other."""
    collected = _Collected(media)
    for message in messages:
        await collected.add(message.content, read)
    return collected.result()


class _Collected:
    def __init__(self, media: MediaStore) -> None:
        self._media = media
        self.texts: list[str] = []
        self._files: list[Attachment] = []
        self._left_out = 0
        self._links_read = 0

    def result(self, *, failed: bool = False) -> ToolResult:
        texts = [*self.texts, *([f"[{self._left_out} more files are left out]"] if self._left_out else ())]
        if not texts:
            texts = [f"[{len(self._files)} files]" if self._files else "[The result is empty.]"]
        text = "\n".join(texts)
        if len(text) > MAX_TEXT:
            text = f"{text[:MAX_TEXT]}\n[{len(text) - MAX_TEXT:,} characters are left out]"
        pictures = tuple(file for file in self._files if file.is_picture)
        return ToolResult(text, attachments=tuple(self._files), images=pictures, failed=failed)

    async def add(self, block: ContentBlock, read: ReadResource) -> None:
        match block:
            case TextContent():
                self.texts.append(block.text)
            case ImageContent() | AudioContent():
                kind = "picture" if isinstance(block, ImageContent) else "sound"
                await self._add_file(block.data, f"{kind}{_suffix(block.mime_type)}")
            case EmbeddedResource():
                await self.add_contents(block.resource)
            case ResourceLink():
                await self._add_link(block, read)

    async def add_contents(self, contents: Contents) -> None:
        if isinstance(contents, TextResourceContents):
            self.texts.append(f"{one_line(contents.uri)}:\n{contents.text}")
        else:
            await self._add_file(contents.blob, _name_of(contents.uri, contents.mime_type))

    async def _add_link(self, link: ResourceLink, read: ReadResource) -> None:
        """A linked file is fetched from the server; a linked text is named, for the model to read it if it wants."""
        about = f": {one_line(link.description)}" if link.description else ""
        self.texts.append(f"[resource {one_line(link.uri)} ({one_line(link.title or link.name, 100)}){about}]")
        if not _is_file(link.mime_type) or self._links_read == MAX_LINKS_READ:
            return
        self._links_read += 1
        try:
            for contents in await read(link.uri):
                await self.add_contents(contents)
        except McpError as error:
            self.texts.append(f"[{one_line(link.uri)} cannot be read: {error}]")

    async def _add_file(self, data: str, name: str) -> None:
        if len(self._files) == MAX_FILES:
            self._left_out += 1
            return
        try:
            self._files.append(await self._media.put(base64.b64decode(data, validate=True), name))
        except binascii.Error:
            self.texts.append(f"[{one_line(name)} is not valid base64]")
        except MediaError as error:
            self.texts.append(f"[{one_line(name)} is left out: {error}]")


def _is_file(media_type: str | None) -> bool:
    return bool(media_type) and not str(media_type).startswith(("text/", "application/json", "inode/"))


def _suffix(media_type: str | None) -> str:
    return mimetypes.guess_extension((media_type or "").partition(";")[0].strip()) or ""


def _name_of(uri: str, media_type: str | None) -> str:
    """The last part of the path of a URI, as the name of a file."""
    name = PurePosixPath(unquote(urlsplit(uri).path)).name
    return name if PurePosixPath(name).suffix else f"{name or 'file'}{_suffix(media_type)}"
