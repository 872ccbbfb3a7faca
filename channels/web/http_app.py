"""The web page and the HTTP API, as an ASGI app that the gateway's web server runs."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, BeforeValidator, Field, TypeAdapter, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import Receive, Scope, Send

from agent.media import PICTURES, Attachment, FileTooLarge, MediaError, MediaMissing, NewFile
from channels.channel import CommandHelp, NotStored
from channels.message import DeclaredTool
from channels.runs import CallResult, UnknownRun, WrongResults
from channels.web.access_guard import AccessGuard, SignedInByProxy
from channels.web.body_limit import BodyLimit
from channels.web.channel import NotListening, PostResult, WebChannel
from channels.web.formulas import MAX_FORMULA, mathml
from channels.web.parse import BadPost, Post, clean_name, clean_text
from channels.web.render import Event, Wire

_PAGE = Path(__file__).parent / "page"
_MAX_FILES = 50
_MAX_RESULT_FILES = 20
_MAX_TEXT_LENGTH = 2_000_000
_UPLOAD_LIMIT = 100_000_000
_MAX_WAIT_SECONDS = 60.0
_MAX_GENERATION = 2**31 - 1
_MAX_PROBLEMS = 5
_UNBUFFERED = {"X-Accel-Buffering": "no"}
"""Tells nginx to pass on each event at once."""

_CACHE_FOREVER = "private, max-age=31536000, immutable"


class _Tool(BaseModel, extra="forbid"):
    name: str
    description: str = ""
    schema_: dict[str, Any] = Field(alias="schema")


class _TextPost(BaseModel, extra="forbid"):
    client_id: str
    text: str
    tools: list[_Tool] = []


def _from_base64(data: object) -> bytes:
    try:
        return base64.b64decode(data, validate=True) if isinstance(data, str) else b""
    except ValueError:
        raise ValueError("this is not valid base64") from None


class _File(BaseModel, extra="forbid"):
    """`data` is base64."""

    name: str
    data: Annotated[bytes, BeforeValidator(_from_base64)]

    def new(self) -> NewFile:
        return NewFile(self.name, self.data)


class _Result(BaseModel, extra="forbid"):
    call_id: str
    text: str = ""
    failed: bool = False
    files: list[_File] = Field(default=[], max_length=_MAX_RESULT_FILES)
    images: list[_File] = Field(default=[], max_length=_MAX_RESULT_FILES)
    caption: str = Field(default="", max_length=_MAX_TEXT_LENGTH)
    for_user: str = Field(default="", max_length=_MAX_TEXT_LENGTH)
    final: bool = False
    silent: bool = False

    def result(self) -> CallResult:
        return CallResult(
            self.call_id,
            self.text,
            self.failed,
            tuple(file.new() for file in self.files),
            tuple(file.new() for file in self.images),
            self.caption,
            self.for_user,
            self.final,
            self.silent,
        )


class _ResultsPost(BaseModel, extra="forbid"):
    results: list[_Result]


class _StopPost(BaseModel, extra="forbid"):
    client_id: str


class _Formula(BaseModel, extra="forbid"):
    tex: str = Field(max_length=MAX_FORMULA)
    display: bool = False


class _Formulas(BaseModel, extra="forbid"):
    formulas: list[_Formula] = Field(max_length=100)


class _AnswerPost(BaseModel, extra="forbid"):
    """`option` counts from 0."""

    client_id: str
    question: str = Field(pattern=r"^\S+$", max_length=200)
    option: int = Field(ge=0)


_TOOLS = TypeAdapter(list[_Tool])


def app(
    channel: WebChannel,
    *,
    host: str = "127.0.0.1",
    url: str = "",
    people: SignedInByProxy | None = None,
    upload_limit: int = _UPLOAD_LIMIT,
) -> FastAPI:
    """The app. `host` is what the server binds, `url` its public address, `people` those whom a proxy signs in,
    `upload_limit` in bytes is for one message with all its files.

    Errors are JSON `{"error": "message for a person"}` with the matching status.
    """
    api = FastAPI(title="Interject", docs_url=None, redoc_url=None, openapi_url=None)
    api.add_middleware(BodyLimit, limit=upload_limit)
    api.add_middleware(AccessGuard, token=channel.token, host=host, url=url, people=people)
    _answer_errors(api)
    _serve_page(api)
    _serve_conversations(api, channel, upload_limit)
    _serve_formulas(api)
    _serve_runs(api, channel)
    _serve_media(api, channel)
    return api


def _serve_page(api: FastAPI) -> None:
    api.mount("/page", StaticFiles(directory=_PAGE))

    @api.get("/")
    async def page() -> FileResponse:
        return FileResponse(_PAGE / "index.html")


def _serve_conversations(api: FastAPI, channel: WebChannel, upload_limit: int) -> None:
    @api.get("/api/conversations")
    async def conversations() -> Wire:
        return {
            "conversations": await channel.conversations(),
            "earlier": await channel.earlier(),
            "commands": [_render_command(each) for each in channel.commands],
            "upload_limit": upload_limit,
        }

    @api.get("/api/conversations/{chat}")
    async def history(chat: str, generation: Annotated[int | None, Query(ge=0, le=_MAX_GENERATION)] = None) -> Wire:
        return {"chat": chat, "items": await channel.history(chat, generation)}

    @api.get("/api/conversations/{chat}/context")
    async def context(chat: str) -> Wire:
        return await channel.context(chat)

    @api.delete("/api/conversations/{chat}")
    async def delete(chat: str) -> Wire:
        await channel.delete(chat)
        return {"chat": chat, "deleted": True}

    @api.get("/api/conversations/{chat}/events")
    async def events(chat: str) -> Response:
        return _EventStream(channel.watch(chat))

    @api.post("/api/conversations/{chat}/messages")
    async def post(chat: str, request: Request) -> Wire:
        return _render_result(await channel.post(chat, await _read_post(request, channel)))

    @api.post("/api/conversations/{chat}/stop")
    async def stop(chat: str, stop: _StopPost) -> Wire:
        return _render_result(await channel.post(chat, Post(stop.client_id, "/stop")))

    @api.post("/api/conversations/{chat}/answer")
    async def answer(chat: str, answer: _AnswerPost) -> Wire:
        return _render_result(
            await channel.post(chat, Post(answer.client_id, f"/answer {answer.question} {answer.option}"))
        )


def _serve_formulas(api: FastAPI) -> None:
    @api.post("/api/formulas")
    async def formulas(wanted: _Formulas) -> Wire:
        """The MathML of each; null where it stays as it is written."""
        return {
            "mathml": await asyncio.to_thread(lambda: [mathml(one.tex, display=one.display) for one in wanted.formulas])
        }


def _serve_runs(api: FastAPI, channel: WebChannel) -> None:
    @api.get("/api/runs/{run}")
    async def run(run: str, wait: Annotated[float, Query(ge=0, le=_MAX_WAIT_SECONDS)] = 0.0) -> Wire:
        return await channel.run(run, wait)

    @api.post("/api/runs/{run}/results")
    async def results(run: str, request: Request) -> Wire:
        post = _ResultsPost.model_validate_json(await request.body())
        await channel.submit_results(run, [each.result() for each in post.results])
        return await channel.run(run, 0.0)


def _serve_media(api: FastAPI, channel: WebChannel) -> None:
    @api.get("/media/{hash}/{name:path}")
    async def media(hash: str, name: str, type: str = "") -> Response:
        """Pictures are displayed, all other files are downloaded: no document from a tool runs on our origin."""
        if len(hash) != 64 or not set(hash) <= set("0123456789abcdef"):
            raise HTTPException(404, "File not found.")
        media_type = type if type in PICTURES else "application/octet-stream"
        attachment = Attachment(hash, clean_name(name), media_type, 0)
        return file_response(attachment, await channel.media.read(attachment))


def file_response(attachment: Attachment, data: bytes) -> Response:
    """Pictures are displayed, all other files are downloaded."""
    disposition = "inline" if attachment.is_picture else "attachment"
    headers = {
        "Content-Disposition": f"{disposition}; filename*=UTF-8''{quote(attachment.name, safe='')}",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Cache-Control": _CACHE_FOREVER,
    }
    return Response(data, media_type=attachment.media_type, headers=headers)


async def _read_post(request: Request, channel: WebChannel) -> Post:
    if request.headers.get("content-type", "").startswith("application/json"):
        post = _TextPost.model_validate_json(await request.body())
        return Post(post.client_id, post.text, tools=tuple(map(_declared, post.tools)))
    async with request.form(max_files=_MAX_FILES, max_part_size=_MAX_TEXT_LENGTH) as form:
        files = [await channel.store_file(await each.read(), each.filename) for each in _uploads(form)]
        tools = _TOOLS.validate_json(_field(form, "tools") or "[]")
        return Post(_field(form, "client_id"), _field(form, "text"), tuple(files), tuple(map(_declared, tools)))


def _declared(tool: _Tool) -> DeclaredTool:
    return DeclaredTool(tool.name, clean_text(tool.description), tool.schema_)


def _uploads(form: FormData) -> Iterable[UploadFile]:
    return [each for each in form.getlist("files") if isinstance(each, UploadFile)]


def _field(form: FormData, name: str) -> str:
    value = form.get(name)
    return value if isinstance(value, str) else ""


def _render_result(result: PostResult) -> Wire:
    receipt = result.receipt
    if receipt is None:
        raise HTTPException(422, "The gateway did not store this message.")
    state = "refused" if receipt.refused else "waiting"
    return {
        "id": receipt.id,
        "state": state,
        "reason": receipt.refused or "",
        "duplicate": receipt.duplicate,
        "run": receipt.run,
        "conflicts": result.conflicts,
    }


def _render_command(command: CommandHelp) -> Wire:
    return {"name": command.name, "help": command.help}


class _EventStream(StreamingResponse):
    """Server-sent events. Closes their source as soon as the client disconnects, not at the next garbage collection."""

    def __init__(self, events: AsyncGenerator[Event]) -> None:
        self._events = events
        super().__init__(_encode(events), media_type="text/event-stream", headers=_UNBUFFERED)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._events):
            await super().__call__(scope, receive, send)


async def _encode(events: AsyncGenerator[Event]) -> AsyncGenerator[bytes]:
    async for event in events:
        yield event.encode()


def _answer_errors(api: FastAPI) -> None:
    """Turns errors into JSON with a status. Unexpected errors are logged by the server."""

    def answer(kind: type[Exception], status: int) -> None:
        async def handle(request: Request, error: Exception) -> Response:
            return _error(status, str(error))

        api.add_exception_handler(kind, handle)

    answer(BadPost, 400)
    answer(NotListening, 503)
    answer(NotStored, 503)
    answer(UnknownRun, 404)
    answer(WrongResults, 409)
    answer(MediaMissing, 404)
    answer(FileTooLarge, 413)
    answer(MediaError, 507)

    @api.exception_handler(StarletteHTTPException)
    async def http_error(request: Request, error: StarletteHTTPException) -> Response:
        return _error(error.status_code, error.detail)

    @api.exception_handler(ValidationError)
    async def bad_json(request: Request, error: ValidationError) -> Response:
        return _error(422, f"The JSON body is not valid: {_problems(error)}.")

    @api.exception_handler(RequestValidationError)
    async def bad_request(request: Request, error: RequestValidationError) -> Response:
        return _error(422, "The body must be JSON with exactly the documented fields.")

    @api.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        return _error(500, "Internal error. See the gateway's log.")


def _problems(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, each['loc'])) or 'body'}: {each['msg']}" for each in found[:_MAX_PROBLEMS])


def _error(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status)
