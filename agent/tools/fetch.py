"""The web tool: fetches pages of the public internet as text. Private networks are not reachable."""

from __future__ import annotations

import asyncio
import json
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import filetype  # type: ignore[import-untyped]  # the package has no types
import httpx
from pydantic import Field

from agent.files.documents import Unreadable, is_document, read_document
from agent.files.encodings import declared, decode, is_label
from agent.files.text_detection import detect
from agent.tool import ToolContext, ToolError, tool
from agent.tool_result import ToolResult
from agent.tools.addresses import Address, is_public
from agent.tools.checked_transport import AddressRefused, CheckedTransport
from agent.worker_process import WorkerFailed, run_worker

MAX_CHARACTERS = 50_000
"""Of one `fetch_url` result."""

_UNKNOWN = ("", "application/octet-stream", "binary/octet-stream", "application/unknown")


@tool(effect="read", timeout=60, foreign=True)
async def fetch_url(
    context: ToolContext,
    url: Annotated[str, Field(description="An http or https address on the public internet.")],
    offset: Annotated[int, Field(ge=0, description="The character of the text to start from.")] = 0,
) -> ToolResult:
    """Fetches a web page, a PDF or an office file as readable text. For a long one the result says how to read on."""
    page = await Fetcher().fetch(url)
    return ToolResult(_excerpt(page, offset), foreign=(page.url,))


@dataclass(frozen=True, slots=True)
class Page:
    url: str
    """The final address, after redirects."""
    text: str
    note: str = ""


def _excerpt(page: Page, offset: int) -> str:
    if offset and offset >= len(page.text):
        raise ToolError(
            f"The text of {page.url} has {len(page.text):,} characters; there is nothing from {offset:,} on"
        )
    end = offset + MAX_CHARACTERS
    more = f"\n[{len(page.text) - end:,} characters more; read on with offset={end}]" if end < len(page.text) else ""
    note = f"\n[{page.note}]" if page.note else ""
    return f"{page.url}\n\n{page.text[offset:end]}{more}{note}"


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Fetches text. `allow` decides which addresses may be connected to; `timeout` is in seconds, for a whole fetch."""

    allow: Callable[[Address], bool] = is_public
    max_bytes: int = 2_000_000
    max_document_bytes: int = 20_000_000
    """Of a PDF or an office file, which cannot be read in part."""
    timeout: float = 30.0
    max_redirects: int = 5

    async def fetch(self, url: str) -> Page:
        """The page. Raises `ToolError`."""
        try:
            async with asyncio.timeout(self.timeout):
                return await self._fetch(url)
        except TimeoutError:
            raise ToolError(f"{url} took longer than {self.timeout:g} s") from None
        except httpx.TooManyRedirects:
            raise ToolError(f"{url} redirects more than {self.max_redirects} times") from None
        except httpx.UnsupportedProtocol:
            raise ToolError(f"{url} is not, or does not lead to, an http or https address") from None
        except (httpx.HTTPError, httpx.InvalidURL, AddressRefused, WorkerFailed, zlib.error) as error:
            raise ToolError(f"{url} could not be fetched: {error or type(error).__name__}") from error

    async def _fetch(self, url: str) -> Page:
        client = httpx.AsyncClient(
            transport=CheckedTransport(self.allow),
            follow_redirects=True,
            max_redirects=self.max_redirects,
            timeout=httpx.Timeout(self.timeout, connect=10.0),
            # Bounded decompression needs a format that can be decompressed in chunks.
            headers={"User-Agent": "Interject", "Accept": "text/html, text/*, */*;q=0.5", "Accept-Encoding": "gzip"},
            trust_env=False,
        )
        async with client, client.stream("GET", url) as response:
            body, cut = await self._read(response)
        note = f"only the first {len(body):,} bytes were read" if cut else ""
        if response.is_error:
            raise ToolError(f"{response.url} answered {response.status_code} {response.reason_phrase}{_hint(body)}")
        return Page(str(response.url), await self._text(response, body, cut), note)

    async def _read(self, response: httpx.Response) -> tuple[bytes, bool]:
        """The decompressed body, and whether it was longer than allowed."""
        decompress = _Decompressor(response.headers.get("content-encoding", "identity"))
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += decompress(chunk, self.max_document_bytes + 1 - len(body))
            limit = self.max_document_bytes if _may_be_document(bytes(body[:1024])) else self.max_bytes
            if len(body) > limit:
                return bytes(body[:limit]), True
        return bytes(body), False

    async def _text(self, response: httpx.Response, body: bytes, cut: bool) -> str:
        media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        name = response.url.path.rpartition("/")[2]
        if is_document(body, media_type, name):
            if cut:
                raise ToolError(f"{response.url} has more than {len(body):,} bytes; it can be downloaded with shell")
            return await _document(response, body, media_type, name)
        if not _is_text(media_type, body):
            told = "" if media_type.startswith("text/") else media_type
            kind = told or filetype.guess_mime(body[:8192]) or "of unknown type"
            raise ToolError(
                f"{response.url} is not text but {kind} ({len(body):,} bytes were read); "
                "it can be downloaded with shell"
            )
        text = _decoded(body, response.charset_encoding)
        if not _is_html(media_type, text):
            return text
        request = json.dumps({"html": text, "base": str(response.url)}).encode()
        return (await run_worker("agent.files.html_text", request, seconds=self.timeout)).decode()


async def _document(response: httpx.Response, body: bytes, media_type: str, name: str) -> str:
    try:
        document = await read_document(body, media_type, name)
    except Unreadable as error:
        raise ToolError(f"{response.url} cannot be read: {error.reason}") from error
    if document is None:
        raise ToolError(f"{response.url} is an archive or another kind of file; it can be downloaded with shell")
    return document.text


class _Decompressor:
    """Decodes a content encoding, never returning more than asked for, however large the data decompresses."""

    def __init__(self, encoding: str) -> None:
        match encoding.strip().lower():
            case "" | "identity":
                self._zip = None
            case "gzip" | "x-gzip" | "deflate":
                # 32 detects whether the data has a gzip or a zlib header (zlib's manual, inflateInit2).
                self._zip = zlib.decompressobj(32 + zlib.MAX_WBITS)
            case other:
                raise ToolError(f"The response has the content encoding {other[:40]!r}, which is not supported")

    def __call__(self, data: bytes, max_bytes: int) -> bytes:
        return data[:max_bytes] if self._zip is None else self._zip.decompress(data, max_bytes)


def _may_be_document(start: bytes) -> bool:
    return b"%PDF-" in start or start.startswith(b"PK\x03\x04")


def _is_text(media_type: str, body: bytes) -> bool:
    """Whether the type says so; types that say nothing are decided by the bytes."""
    if media_type.startswith("text/") or media_type.endswith(("+json", "+xml", "json", "/xml", "script", "yaml")):
        # Servers send files whose type they do not know as text.
        return b"\0" not in body or detect(body, is_named_text=True) is not None
    return not media_type.startswith(("image/", "audio/", "video/", "font/")) and detect(body) is not None


def _is_html(media_type: str, text: str) -> bool:
    if media_type in ("text/html", "application/xhtml+xml"):
        return True
    return media_type in _UNKNOWN and text[:1024].lstrip().lower().startswith(("<!doctype html", "<html"))


def _decoded(body: bytes, named: str | None) -> str:
    labels = (named or "", declared(body))
    if not any(map(is_label, labels)) and (found := detect(body, is_named_text=True)) is not None:
        return found.text
    return decode(body, labels)


def _hint(body: bytes) -> str:
    text = " ".join(re.sub(r"<[^<>]{0,500}>", " ", body[:4000].decode(errors="replace")).split())
    return f": {text[:300]}" if text else ""
