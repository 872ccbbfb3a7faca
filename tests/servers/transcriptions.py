"""A transcription service on a local socket: OpenAI's `POST /v1/audio/transcriptions`, as documented."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from aiohttp import web

from tests.servers.local import LocalServer

FORMATS = ("flac", "m4a", "mp3", "mp4", "mpeg", "mpga", "oga", "ogg", "wav", "webm")


@dataclass(frozen=True, slots=True)
class Fail:
    """Answers once with an error."""

    status: int
    message: str = "something is wrong"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Drop:
    """Closes the connection instead of answering, once."""


@dataclass(frozen=True, slots=True)
class Raw:
    """Answers once with this body, whatever it is."""

    body: bytes


@dataclass(frozen=True, slots=True)
class Hang:
    """Does not answer, once."""


Fault = Fail | Drop | Raw | Hang


@dataclass(frozen=True, slots=True)
class Recording:
    """What was sent to be heard, and when on the loop's clock."""

    model: str
    name: str
    media_type: str
    data: bytes
    key: str | None
    at: float


class TranscriptionServer(LocalServer):
    """Says `words` of every recording; `faults` come before."""

    def __init__(self, words: str = "Good morning.", key: str | None = "sk-right-0123456789") -> None:
        self.words = words
        self.key = key
        self.faults: deque[Fault] = deque()
        self.recordings: list[Recording] = []
        self.asked = asyncio.Event()
        self.left = asyncio.Event()

    @property
    def url(self) -> str:
        return f"{super().url}/v1"

    def app(self) -> web.Application:
        app = web.Application(client_max_size=26 * 1024 * 1024)
        app.router.add_post("/v1/audio/transcriptions", self._transcribe)
        return app

    async def _transcribe(self, request: web.Request) -> web.StreamResponse:
        key = request.headers.get("Authorization", "").removeprefix("Bearer ") or None
        form = await request.post()
        file, model = form.get("file"), form.get("model")
        if not isinstance(file, web.FileField) or not isinstance(model, str):
            return _error(400, "you must provide a file and a model parameter")
        with file.file as stream:
            recording = Recording(model, file.filename, file.content_type, stream.read(), key, _now())
        self.recordings.append(recording)
        self.asked.set()
        if self.faults:
            return await self._fail(self.faults.popleft(), request)
        if key != self.key:
            return _error(401, f"Incorrect API key provided: {key}.")
        if recording.name.rpartition(".")[2] not in FORMATS:
            return _error(400, f"Invalid file format. Supported formats: {list(FORMATS)}")
        return web.json_response({"text": self.words})

    async def _fail(self, fault: Fault, request: web.Request) -> web.StreamResponse:
        match fault:
            case Fail():
                return _error(fault.status, fault.message, fault.headers)
            case Raw():
                return web.Response(body=fault.body, content_type="application/json")
            case Drop():
                if request.transport is not None:
                    request.transport.abort()
                return web.Response()
            case Hang():
                try:
                    return await asyncio.get_running_loop().create_future()
                finally:
                    self.left.set()


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    body = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}
    return web.json_response(body, status=status, headers=headers)


def _now() -> float:
    return asyncio.get_running_loop().time()
