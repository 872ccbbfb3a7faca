"""The endpoint as an ASGI application: /v1/chat/completions, /v1/responses and /v1/models."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import FastAPI, Header, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from agent.media import MediaStore
from channels.programs import address_of
from channels.web.access_guard import SecurityHeaders, Site
from channels.web.body_limit import BodyLimit
from gateway.api.caller import Caller, Reader, Writer
from gateway.api.guard import Callers, Guard
from gateway.api.limits import UPLOAD_LIMIT
from gateway.api.openai import chat, responses
from gateway.api.openai.errors import answer_errors, of_problem
from gateway.api.openai.exchange import Exchange
from gateway.api.openai.requests import (
    MODEL,
    Asked,
    ChatRequest,
    ResponsesRequest,
    asked_in_chat,
    asked_in_responses,
    unknown_model,
)
from gateway.app import Gateway

PREFIX = "/v1"
CONVERSATION_HEADER = "Interject-Conversation"

Named = Annotated[str | None, Header(alias=CONVERSATION_HEADER)]


def app(gateway: Gateway, media: MediaStore, callers: Callers, *, site: Site) -> FastAPI:
    """The app for paths that begin with /v1."""
    api = FastAPI(title="Interject", docs_url=None, redoc_url=None, openapi_url=None)
    api.add_middleware(BodyLimit, limit=UPLOAD_LIMIT)
    api.add_middleware(Guard, callers=callers, site=site, refusal=of_problem)
    api.add_middleware(SecurityHeaders)
    answer_errors(api)
    started = int(time.time())

    def exchange(request: Request, caller: Writer, asked: Asked) -> Exchange:
        base = site.url or str(request.base_url).rstrip("/")
        return Exchange(gateway, media, caller, asked, base)

    def models_of(caller: Caller) -> list[dict[str, Any]]:
        usual = gateway.agents.pick("", address_of(""), caller.sender)
        names = [name for name in gateway.agents.named if caller.may_use(name)]
        ids = [*([MODEL] if caller.may_use(usual) else []), *(f"{MODEL}/{name}" for name in names)]
        return [{"id": id, "object": "model", "created": started, "owned_by": "interject"} for id in ids]

    @api.get(f"{PREFIX}/models")
    async def models(caller: Reader) -> dict[str, Any]:
        return {"object": "list", "data": models_of(caller)}

    @api.get(f"{PREFIX}/models/{{model:path}}")
    async def one_model(model: str, caller: Reader) -> dict[str, Any]:
        found = next((each for each in models_of(caller) if each["id"] == model), None)
        if found is None:
            raise unknown_model(model)
        return found

    @api.post(f"{PREFIX}/chat/completions")
    async def completions(body: ChatRequest, request: Request, caller: Writer, named: Named = None) -> Response:
        one = exchange(request, caller, asked_in_chat(body, named))
        await one.begin()
        created = int(time.time())
        if not body.stream:
            return await _unless_gone(request, chat.whole(one, body.model, created))
        with_usage = body.stream_options is not None and body.stream_options.include_usage
        return await _streamed(chat.chunks(one, body.model, created, with_usage=with_usage))

    @api.post(f"{PREFIX}/responses")
    async def create(body: ResponsesRequest, request: Request, caller: Writer, named: Named = None) -> Response:
        one = exchange(request, caller, asked_in_responses(body, named))
        await one.begin()
        created = int(time.time())
        if not body.stream:
            return await _unless_gone(request, responses.whole(one, body.model, created))
        return await _streamed(responses.events(one, body.model, created))

    return api


async def _unless_gone(request: Request, answer: Coroutine[Any, Any, dict[str, Any]]) -> Response:
    """The answer; it is given up when the client disconnects."""
    answering = asyncio.ensure_future(answer)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait((answering, gone), return_when=asyncio.FIRST_COMPLETED)
        return JSONResponse(await answering) if answering.done() else Response(status_code=499)
    finally:
        for task in (answering, gone):
            task.cancel()
        await asyncio.gather(answering, gone, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _streamed(events: AsyncGenerator[bytes]) -> Response:
    """The events as they come. What is raised before the first of them is an answer of its own."""
    return _Stream(await anext(events), events)


class _Stream(StreamingResponse):
    """Server-sent events. Their source is closed as soon as the client disconnects."""

    def __init__(self, first: bytes, others: AsyncGenerator[bytes]) -> None:
        self._events = others
        super().__init__(_joined(first, others), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._events):
            await super().__call__(scope, receive, send)


async def _joined(first: bytes, others: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    yield first
    async for event in others:
        yield event
