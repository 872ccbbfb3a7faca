"""The HTTP client of a provider: sends a request and reads the answer as it is streamed."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar

import httpx
from httpx_aiohttp import HttpxAiohttpClient

from agent.events import Delta, OnDelta, TextDelta
from agent.model import Answer, ModelError
from agent.models.errors import MESSAGES, error_in_place_of_answer, error_of_response, transport_errors, without_keys
from agent.models.protocols.reading import unreadable
from agent.models.protocols.wire import Decoder, JsonObject, WireProtocol
from agent.models.provider import Provider, key_header
from agent.models.sse import EventSplitter, EventTooLong

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

AFTER_THE_END = 1.0
"""Seconds for the counts of tokens, once an answer is whole."""

UNTIL_CLOSED = 0.02
"""Seconds for the response's end, once nothing more follows: a connection that is read to its end is used again."""

KEPT = 30.0
"""Seconds for which a connection is kept for the next request."""

NOTICED_WITHIN = 1.0
"""Seconds within which it shows that a server had closed a kept connection."""

UNLIMITED = 0
"""As many connections as there are requests; without it aiohttp has a limit of its own."""

PIECE = 256 * 1024
"""Bytes of a request that are written at once."""

MAX_ANSWER_BYTES = 128 * 1024 * 1024
MAX_ERROR_BYTES = 256 * 1024

NOT_A_MODEL = (
    "The server at the base_url of the model's provider did not answer like a model. The operator of this gateway has "
    "to check the base_url."
)


class Client:
    """Connections to one provider. Its timeouts are the only ones."""

    def __init__(self, provider: Provider, protocol: WireProtocol) -> None:
        self.protocol = protocol
        self._provider = provider
        self._url = _url(provider, protocol)
        # Redirects are not followed: the key would be sent to another server.
        self._http = HttpxAiohttpClient(
            timeout=None,
            limits=httpx.Limits(max_connections=UNLIMITED, keepalive_expiry=KEPT),
            headers={**protocol.headers, **provider.headers, "Content-Type": "application/json"},
        )
        self._kept_until = 0.0

    async def aclose(self) -> None:
        await self._http.aclose()

    async def answer(self, body: JsonObject, decoder: Decoder, on_delta: OnDelta, *, model: str, key: str) -> Answer:
        """Sends the request and passes on the deltas of the answer as they arrive. Raises `ModelError`, and what
        `on_delta` raises. Cancelling closes the connection.

        `key` "": none is sent.
        """
        reading = _Reading(decoder, on_delta)
        try:
            await self._read(body, reading, model=model, key=key)
            await reading.end()
            if not reading.is_whole and reading.other_lines:
                raise error_in_place_of_answer(reading.other_lines, provider=self._provider.name, model=model)
            return await reading.answer()
        except ModelError as error:
            raise _without(error, key) from error.__cause__

    async def _read(self, body: JsonObject, reading: _Reading, *, model: str, key: str) -> None:
        """Reads the answer as far as it comes; what goes wrong after its end does not count."""
        try:
            async with asyncio.timeout(self._provider.timeouts.first_token) as deadline:
                await self._stream(body, reading, deadline, model=model, key=key)
        except TimeoutError as error:
            if not deadline.expired():
                raise
            if not reading.is_whole:
                raise ModelError("timeout", MESSAGES["timeout"]) from error
        except ModelError as error:
            if not reading.is_whole or error.kind != "network":
                raise

    async def _stream(
        self, body: JsonObject, reading: _Reading, deadline: asyncio.Timeout, *, model: str, key: str
    ) -> None:
        now, timeouts = asyncio.get_running_loop().time, self._provider.timeouts
        end = now() + timeouts.total
        content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
        # With a length it is not sent in chunked encoding, which not every server takes.
        headers = {**key_header(self._provider, self.protocol, key), "Content-Length": str(len(content))}
        with transport_errors():
            response = await self._respond(content, headers)
        try:
            if not response.is_success:
                raise await self._refusal(response, model, key)
            async for piece in _pieces(response):
                is_event = await reading.feed(piece)
                # A comment keeps an answer alive that has begun, and is neither its beginning nor its end.
                if not reading.has_begun or (reading.is_whole and not is_event):
                    continue
                limit = UNTIL_CLOSED if reading.is_done else AFTER_THE_END if reading.is_whole else timeouts.silence
                deadline.reschedule(min(now() + limit, end))
        finally:
            self._kept_until = now() + KEPT
            await response.aclose()

    async def _respond(self, content: bytes, headers: Mapping[str, str]) -> httpx.Response:
        """The response to a request. A kept connection that the server has closed meanwhile fails at once, before any
        answer: then the request is sent once more."""
        now = asyncio.get_running_loop().time
        begun = now()
        is_kept = begun < self._kept_until
        try:
            return await self._send(content, headers)
        except httpx.ConnectError:
            raise
        except httpx.TransportError:
            if not is_kept or now() - begun > NOTICED_WITHIN:
                raise
        return await self._send(content, headers)

    async def _send(self, content: bytes, headers: Mapping[str, str]) -> httpx.Response:
        sent = content if len(content) <= PIECE else _in_pieces(content)
        request = self._http.build_request("POST", self._url, content=sent, headers=headers)
        return await self._http.send(request, stream=True)

    async def _refusal(self, response: httpx.Response, model: str, key: str) -> ModelError:
        body = b""
        # Its status tells what is wrong also without a body that can be read.
        with suppress(ModelError):
            async for piece in _pieces(response):
                body += piece
                if len(body) > MAX_ERROR_BYTES:
                    break
        return error_of_response(
            response.status_code,
            response.headers,
            body.decode(errors="replace"),
            provider=self._provider.name,
            model=model,
            keys=(key,) if key else (),
        )


class _Reading:
    """One answer while it arrives: a stream of events, or one JSON object in place of it."""

    def __init__(self, decoder: Decoder, on_delta: OnDelta) -> None:
        self._decoder = decoder
        self._on_delta = on_delta
        self._splitter = EventSplitter()
        self._size = 0
        self._whole: bytearray | None = None
        self._is_known = False
        self._has_text = False

    @property
    def has_begun(self) -> bool:
        return self._whole is not None or self._decoder.has_begun or self.is_whole

    @property
    def is_whole(self) -> bool:
        return self._decoder.is_whole

    @property
    def other_lines(self) -> str:
        """What came beside the events: the words of a server, or of a proxy, that has no answer."""
        return self._splitter.other_lines

    @property
    def is_done(self) -> bool:
        return self._decoder.is_done

    async def feed(self, piece: bytes) -> bool:
        """Whether the piece completes an event, or is a part of an answer in one piece."""
        self._size += len(piece)
        if self._size > MAX_ANSWER_BYTES:
            raise unreadable()
        if not self._is_known:
            self._begin(piece)
        if self._whole is not None:
            self._whole += piece
            return True
        try:
            events = self._splitter.feed(piece)
        except EventTooLong as error:
            raise unreadable() from error
        for event in events:
            if self.is_done:
                break
            await self._tell(_decoded(self._decoder.feed, event))
        return bool(events)

    async def end(self) -> None:
        """Nothing more comes."""
        if self._whole is not None:
            await self._tell(_decoded(self._decoder.feed_body, self._whole.decode(errors="replace")))
        elif not self.is_whole:
            for event in self._splitter.end():
                await self._tell(_decoded(self._decoder.feed, event))

    async def answer(self) -> Answer:
        answer = _decoded(lambda _: self._decoder.answer(), None)
        if not self._has_text and answer.text:
            await self._on_delta(TextDelta(answer.text))
        return answer

    def _begin(self, piece: bytes) -> None:
        start = piece.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
        if not start:
            return
        self._is_known = True
        if start == b"{":
            self._whole = bytearray()
        elif start == b"<":
            raise ModelError("auth", NOT_A_MODEL)

    async def _tell(self, deltas: Sequence[Delta]) -> None:
        for delta in deltas:
            self._has_text = self._has_text or isinstance(delta, TextDelta)
            await self._on_delta(delta)


async def _in_pieces(content: bytes) -> AsyncIterator[bytes]:
    """The body of a request with pictures: sent at once, it would hold up the event loop."""
    for start in range(0, len(content), PIECE):
        yield content[start : start + PIECE]


async def _pieces(response: httpx.Response) -> AsyncIterator[bytes]:
    """The body of the response as it arrives, with the errors of the connection translated."""
    pieces = response.aiter_bytes()
    while True:
        with transport_errors():
            piece = await anext(pieces, None)
        if piece is None:
            return
        yield piece


def _decoded(read: Callable[[T], R], given: T) -> R:
    """What the decoder makes of it: whatever it raises, the answer is of no use."""
    try:
        return read(given)
    except ModelError:
        raise
    except Exception as error:
        log.warning("the answer of a model cannot be decoded", exc_info=error)
        raise unreadable() from error


def _without(error: ModelError, key: str) -> ModelError:
    """The error without the key, which servers quote."""
    if not key or (key not in str(error) and key not in error.detail):
        return error
    return error.saying(without_keys(str(error), (key,)), detail=without_keys(error.detail, (key,)))


def _url(provider: Provider, protocol: WireProtocol) -> httpx.URL:
    """The protocol's path below the base URL, whose query stays. What begins the one and ends the other counts once."""
    base = httpx.URL(provider.base_url)
    below = base.path.rstrip("/").removesuffix(f"/{protocol.path.split('/')[1]}")
    url = base.copy_with(path=below + protocol.path)
    return url.copy_merge_params(dict(provider.query)) if provider.query else url
