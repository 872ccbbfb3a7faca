"""A collector of OpenTelemetry on loopback: takes traces by OTLP over HTTP, as protobuf, and refuses what is not.

    async with Collector() as collector:
        span = await collector.span("chat gpt-5")

https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

import asyncio
import gzip
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue


@dataclass(frozen=True)
class Span:
    """`id`, `trace` and `parent` are in hex, `parent` is "" for a root; times are in ns since 1970."""

    id: str
    trace: str
    parent: str
    name: str
    kind: int
    start: int
    end: int
    attributes: dict[str, Any]
    events: tuple[tuple[str, dict[str, Any]], ...]
    is_error: bool
    message: str
    service: str


class Collector:
    """Keeps the spans that it was sent. `headers` are those of the requests."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.headers: list[dict[str, str]] = []
        self.url = ""
        self._changed = asyncio.Condition()
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/v1/traces", self._receive)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    async def _receive(self, request: web.Request) -> web.Response:
        if request.content_type != "application/x-protobuf":
            return web.Response(status=415)
        body = await request.read()
        if request.headers.get("Content-Encoding") == "gzip" and body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        message = ExportTraceServiceRequest()
        try:
            message.ParseFromString(body)
        except DecodeError:
            return web.Response(status=400)
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        for resource in message.resource_spans:
            service = _attributes(resource.resource.attributes)["service.name"]
            self.spans += [_span(span, service) for scope in resource.scope_spans for span in scope.spans]
        return web.Response(
            body=ExportTraceServiceResponse().SerializeToString(), content_type="application/x-protobuf"
        )


def _span(span: Any, service: str) -> Span:
    assert len(span.trace_id) == 16
    assert len(span.span_id) == 8
    assert 0 < span.start_time_unix_nano <= span.end_time_unix_nano
    return Span(
        span.span_id.hex(),
        span.trace_id.hex(),
        span.parent_span_id.hex(),
        span.name,
        span.kind,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        _attributes(span.attributes),
        tuple((event.name, _attributes(event.attributes)) for event in span.events),
        span.status.code == span.status.STATUS_CODE_ERROR,
        span.status.message,
        service,
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return None if kind is None else getattr(value, kind)
