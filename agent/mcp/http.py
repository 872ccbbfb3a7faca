"""The HTTP client for MCP servers and the servers at which people sign in: what it reads is limited."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import httpx2

MAX_MESSAGE = 24 * 1024 * 1024
"""Bytes of one message. A file in a result is base64, which is a third longer than the file."""

HTTP_TIMEOUT = httpx2.Timeout(30.0, read=900.0)
"""A server may answer a call in a stream that is silent for long; the time of a call is limited elsewhere."""


def http_client(
    headers: dict[str, str] | None = None, timeout: httpx2.Timeout | None = None, auth: httpx2.Auth | None = None
) -> httpx2.AsyncClient:
    # Not compressed: a small answer could become a large one.
    return httpx2.AsyncClient(
        headers={"User-Agent": "Interject", "Accept-Encoding": "identity", **(headers or {})},
        timeout=timeout or HTTP_TIMEOUT,
        auth=auth,
        transport=_LimitedTransport(),
    )


def is_safe_page(url: str) -> bool:
    """Whether it is an address for people's browsers: https, or a server of this machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and host in ("localhost", "127.0.0.1", "::1"))


class _LimitedTransport(httpx2.AsyncHTTPTransport):
    """Refuses answers that are too long or compressed. Streams of events have a limit for each event instead."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await super().handle_async_request(request)
        if response.headers.get("content-encoding", "identity") != "identity":
            await response.aclose()
            raise httpx2.DecodingError("the answer is compressed, which was not asked for", request=request)
        if not response.headers.get("content-type", "").lower().startswith("text/event-stream"):
            assert isinstance(response.stream, httpx2.AsyncByteStream)
            response.stream = _LimitedStream(response.stream)
        return response


class _LimitedStream(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._stream:
            size += len(chunk)
            if size > MAX_MESSAGE:
                raise httpx2.ReadError(f"the answer has more than {MAX_MESSAGE} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()
