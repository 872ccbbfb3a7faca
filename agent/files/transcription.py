"""Transcription of voice notes and other recordings, by a transcription model."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Protocol

import httpx

log = logging.getLogger(__name__)

OPENAI = "https://api.openai.com/v1"

MAX_BYTES = 25 * 1024 * 1024
"""OpenAI's limit, https://platform.openai.com/docs/guides/speech-to-text"""

MAX_RETRY_DELAY = 30.0
"""Seconds before the second attempt, whatever the service asks for."""

DEFAULT_RETRY_DELAY = 0.5
"""Seconds before the second attempt, if the service does not say."""

CONNECT_TIMEOUT = 15.0
MAX_DETAIL_LENGTH = 300

CONNECTION_ERRORS = (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ConnectTimeout)
"""The connection was lost or not established. A slow service is not retried."""

_SUFFIXES = {
    "audio/flac": "flac",
    "audio/m4a": "m4a",
    "audio/mp3": "mp3",
    "audio/mp4": "m4a",
    "audio/mpeg": "mp3",
    "audio/ogg": "ogg",
    "audio/opus": "ogg",
    "audio/wav": "wav",
    "audio/wave": "wav",
    "audio/webm": "webm",
    "audio/x-flac": "flac",
    "audio/x-m4a": "m4a",
    "audio/x-wav": "wav",
    "application/ogg": "ogg",
}
"""File name extensions by which the service detects formats: it rejects unknown ones."""

_MIDI = frozenset({"audio/midi", "audio/x-midi"})


Recording = tuple[str, bytes, str]
"""Name, bytes and media type, as the client expects a file."""


class TranscriptionFailed(Exception):
    """The recording could not be transcribed; the message tells a person why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Transcriber(Protocol):
    async def transcribe(self, data: bytes, name: str, media_type: str) -> str:
        """The transcript, never empty. Raises `TranscriptionFailed`."""


def is_sound(media_type: str) -> bool:
    """Whether it is a recording that may contain speech."""
    kind = media_type.partition(";")[0].strip().lower()
    return (kind.startswith("audio/") and kind not in _MIDI) or kind == "application/ogg"


class OpenAITranscriber:
    """A `Transcriber` over `POST {base_url}/audio/transcriptions` of OpenAI and compatible servers.

    `seconds` limits one attempt; there is a second one after a lost connection, 429 and 5xx. Without an `api_key` none
    is sent, which suits local servers. A query in `base_url` is kept.
    """

    def __init__(
        self,
        model: str,
        api_key: str | None,
        base_url: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        seconds: float = 120,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._model = model
        self._api_key = api_key
        base = httpx.URL(base_url or OPENAI)
        self._url = base.copy_with(
            path=f"{base.path.rstrip('/')}/audio/transcriptions", params=base.params.merge(dict(query or {}))
        )
        self._headers = dict(headers or {})
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._client: httpx.AsyncClient | None = None

    async def aclose(self) -> None:
        """Closes the connections. Later calls open new ones."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def transcribe(self, data: bytes, name: str, media_type: str) -> str:
        """The transcript, never empty. Raises `TranscriptionFailed`."""
        if not data:
            raise TranscriptionFailed("it is empty")
        if len(data) > self._max_bytes:
            raise TranscriptionFailed(f"it has {len(data):,} bytes, more than the limit of {self._max_bytes:,}")
        kind = media_type.partition(";")[0].strip().lower()
        with _errors():
            response = await self._post_twice((_file_name(name, kind), data, kind))
        return _transcript(response, self._api_key)

    async def _post_twice(self, recording: Recording) -> httpx.Response:
        """The last response: the second one, if a retry makes sense."""
        try:
            response = await self._post(recording)
        except CONNECTION_ERRORS as error:
            log.warning("the transcription service could not be reached, trying again: %r", error)
            delay = DEFAULT_RETRY_DELAY
        else:
            if response.status_code != HTTPStatus.TOO_MANY_REQUESTS and not response.is_server_error:
                return response
            delay = _retry_after(response)
            if delay > MAX_RETRY_DELAY:
                return response
            log.warning("the transcription service answered %d, trying again", response.status_code)
        await asyncio.sleep(delay)
        return await self._post(recording)

    async def _post(self, recording: Recording) -> httpx.Response:
        headers = self._headers | ({} if self._api_key is None else {"Authorization": f"Bearer {self._api_key}"})
        if self._client is None:
            self._client = httpx.AsyncClient(timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT))
        async with asyncio.timeout(self._seconds):
            return await self._client.post(
                self._url, headers=headers, data={"model": self._model}, files={"file": recording}
            )


def _file_name(name: str, kind: str) -> str:
    """A name of our own: only its extension matters, and people's names may be invalid in headers."""
    given = name.rpartition(".")[2].lower()
    return f"recording.{_SUFFIXES.get(kind) or (given if given.isascii() and given.isalnum() else 'ogg')}"


@contextmanager
def _errors() -> Iterator[None]:
    """Translates errors of the client to `TranscriptionFailed`."""
    try:
        yield
    except (TimeoutError, httpx.TimeoutException) as error:
        raise TranscriptionFailed("the transcription service did not answer in time") from error
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise TranscriptionFailed("the transcription service could not be reached") from error


def _retry_after(response: httpx.Response) -> float:
    """Seconds, 0 or more, from either form of the header (RFC 9110, 10.2.3); the default without one."""
    header = response.headers.get("retry-after", "")
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds()
        except (TypeError, ValueError):
            return DEFAULT_RETRY_DELAY
    return max(0.0, seconds) if math.isfinite(seconds) else DEFAULT_RETRY_DELAY


def _transcript(response: httpx.Response, api_key: str | None) -> str:
    if not response.is_success:
        raise TranscriptionFailed(_rejection(response, api_key))
    match _body(response):
        case {"text": str(text)}:
            if not text.strip():
                raise TranscriptionFailed("it contains no speech")
            return text.strip()
        case _:
            raise TranscriptionFailed("the transcription service returned an invalid response")


def _rejection(response: httpx.Response, api_key: str | None) -> str:
    match response.status_code:
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            # The detail is omitted: it may quote the key.
            return "the transcription service did not accept the API key; the operator of this gateway has to check it"
        case HTTPStatus.NOT_FOUND:
            return "the transcription service does not know the model, or its address is wrong"
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return "it is too large for the transcription service"
        case HTTPStatus.TOO_MANY_REQUESTS:
            return "the transcription service allows no more requests for now"
        case status if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return f"the transcription service has an internal error (status {status})"
        case status:
            detail = _detail(response, api_key)
            return f"the transcription service rejected it ({status}){f': {detail}' if detail else ''}"


def _detail(response: httpx.Response, api_key: str | None) -> str:
    match _body(response):
        case {"error": {"message": str(message)}} | {"message": str(message)} | {"detail": str(message)}:
            words = " ".join(message.split())
            return (words.replace(api_key, "…") if api_key else words)[:MAX_DETAIL_LENGTH]
        case _:
            return ""


def _body(response: httpx.Response) -> object:
    try:
        return response.json()
    except ValueError:
        return None
