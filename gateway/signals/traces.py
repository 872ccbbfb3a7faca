"""Traces for OpenTelemetry: one for each turn, with spans for model calls, tool calls and hooks, by the semantic
conventions for generative AI (https://opentelemetry.io/docs/specs/semconv/gen-ai/). Loaded only if configured.

Spans are made when what they are about has ended, from what the gateway's parts tell: nothing is traced in the parts.
"""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.util.types import AttributeValue

from agent.events import Logged
from agent.hooks.chain import HookAnswered
from agent.log import CallEnded, CallStarted, ModelAnswered
from agent.models.measuring import ModelCalled
from gateway.bus.events import MessagesChanged, TurnEnded, TurnParked, TurnProgress, TurnStarted
from gateway.log_context import about
from gateway.observations import MessageReceived
from gateway.signals.signal import Signal

PATH = "/v1/traces"

MAX_TURNS = 5_000
"""Turns that are traced at once."""

MAX_WORDS = 1_000
"""Messages whose words are remembered until they are read, if content is exported."""

CLOSE_TIMEOUT = 1_000
"""Milliseconds for sending the last spans when the gateway stops."""

PROVIDERS = {"google": "gcp.gemini", "mistral": "mistral_ai", "xai": "x_ai", "azure": "azure.ai.openai"}
"""Providers that the conventions name otherwise than the settings."""


@dataclass(slots=True)
class _Turn:
    """A turn that runs. `calls` are its tool calls that the model asked for or that run: name, arguments and when they
    started (ns since 1970). `answered` is a model call whose text is not known yet, and when it ended."""

    span: Span
    context: Context
    calls: dict[str, _Call] = field(default_factory=dict)
    answered: tuple[ModelCalled, int] | None = None


@dataclass(slots=True)
class _Call:
    name: str
    arguments: str
    since: int | None = None


class TurnIds(IdGenerator):
    """The id of a turn is that of its trace, also after a restart or a wait for people."""

    def __init__(self) -> None:
        self._random = RandomIdGenerator()
        self.turn = ""

    def generate_span_id(self) -> int:
        return self._random.generate_span_id()

    def generate_trace_id(self) -> int:
        try:
            return int(self.turn, 16) & (1 << 128) - 1 or self._random.generate_trace_id()
        except ValueError:
            return self._random.generate_trace_id()


def exporting(
    endpoint: str, headers: Mapping[str, str], mask: Callable[[str], str], *, content: bool = False
) -> Traces:
    """Traces that are sent to a collector by OTLP over HTTP. Sending is in a thread with a bounded queue: what does not
    fit is dropped."""
    url = endpoint if endpoint.endswith(PATH) else endpoint.rstrip("/") + PATH
    ids = TurnIds()
    # The variables of OpenTelemetry, such as OTEL_SERVICE_NAME and OTEL_TRACES_SAMPLER, hold.
    resource = Resource.create({"service.name": "interject"}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource, id_generator=ids, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(url, headers=dict(headers))))
    return Traces(provider, ids, mask, content=content)


class Traces:
    """Makes the spans (a `Watch`). Words of people, models and tools are in them only with `content`; `mask` removes
    known secrets from those and from reasons."""

    def __init__(
        self, provider: TracerProvider, ids: TurnIds, mask: Callable[[str], str], *, content: bool = False
    ) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("interject")
        self._ids = ids
        self._mask = mask
        self._content = content
        self._turns: OrderedDict[str, _Turn] = OrderedDict()
        self._running: dict[str, str] = {}
        self._words: OrderedDict[int, str] = OrderedDict()
        self._handlers: dict[type, Callable[[Any], None]] = {
            MessageReceived: self._received,
            MessagesChanged: self._messages_changed,
            TurnStarted: self._started,
            TurnProgress: self._progress,
            TurnParked: self._parked,
            TurnEnded: self._ended,
            ModelCalled: self._model_called,
            HookAnswered: self._hook_answered,
        }

    def __call__(self, signal: Signal) -> None:
        handle = self._handlers.get(type(signal))
        if handle is not None:
            handle(signal)

    def close(self) -> None:
        """Sends what was not sent. Blocking, for a second or so."""
        for id in tuple(self._turns):
            self._end(id, "interrupted")
        self._provider.force_flush(CLOSE_TIMEOUT)
        self._provider.shutdown()

    # --- turns ---

    def _started(self, started: TurnStarted) -> None:
        self._end(started.turn, "interrupted")
        self._ids.turn = started.turn
        attributes = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.conversation.id": started.session,
            "interject.turn": started.turn,
            "interject.run": about().run or started.turn,
            "interject.channel": started.address.channel,
        }
        # Without a parent: the context of whatever else is traced in this process does not count.
        span = self._tracer.start_span("invoke_agent", Context(), attributes=attributes)
        self._ids.turn = ""
        self._turns[started.turn] = _Turn(span, set_span_in_context(span, Context()))
        self._running[started.session] = started.turn
        if started.decided is not None:
            span.add_event("interject.approval_decided", {"interject.decision": started.decided.decision})
        while len(self._turns) > MAX_TURNS:
            self._end(next(iter(self._turns)), "not followed")

    def _parked(self, parked: TurnParked) -> None:
        self._end(parked.turn, "parked", parked.session)

    def _ended(self, ended: TurnEnded) -> None:
        turn = self._turns.get(ended.turn)
        if turn is not None and ended.outcome == "failed":
            turn.span.set_attribute("error.type", "failed")
            turn.span.set_status(Status(StatusCode.ERROR, self._mask(ended.reason)))
        self._end(ended.turn, ended.outcome, ended.session)

    def _end(self, id: str, outcome: str, session: str = "") -> None:
        turn = self._turns.pop(id, None)
        if self._running.get(session) == id:
            del self._running[session]
        if turn is not None:
            self._flush_answer(turn, "")
            turn.span.set_attribute("interject.outcome", outcome)
            turn.span.end()

    # --- messages ---

    def _received(self, received: MessageReceived) -> None:
        if self._content:
            self._words[received.id] = received.message.text
            while len(self._words) > MAX_WORDS:
                self._words.popitem(last=False)

    def _messages_changed(self, changed: MessagesChanged) -> None:
        if changed.state == "waiting":
            return
        turn = self._turns.get(self._running.get(changed.session, ""))
        for id in changed.ids:
            words = self._words.pop(id, None)
            if turn is not None and changed.state == "read":
                said = {} if words is None else {"content": self._mask(words)}
                turn.span.add_event("gen_ai.user.message", {"interject.message": id, **said})

    # --- calls ---

    def _progress(self, progress: TurnProgress) -> None:
        turn = self._turns.get(progress.turn)
        if turn is None or not isinstance(progress.event, Logged):
            return
        match progress.event.entry:
            case ModelAnswered() as answered:
                self._flush_answer(turn, answered.text)
                turn.calls.update((each.id, _Call(each.name, each.arguments)) for each in answered.calls)
            case CallStarted(call_id=id, tool=tool, arguments=arguments):
                call = turn.calls.setdefault(id, _Call(tool, arguments))
                call.name, call.arguments = tool or call.name, arguments or call.arguments
                call.since = time.time_ns()
            case CallEnded() as ended:
                self._call_ended(turn, ended)
            case _:
                pass

    def _call_ended(self, turn: _Turn, ended: CallEnded) -> None:
        call = turn.calls.pop(ended.call_id, None)
        if call is None:
            return
        attributes: dict[str, AttributeValue] = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": call.name,
            "gen_ai.tool.type": "function",
            "gen_ai.tool.call.id": ended.call_id,
            "interject.outcome": ended.outcome,
        }
        if self._content:
            attributes["gen_ai.tool.call.arguments"] = self._mask(call.arguments)
            attributes["gen_ai.tool.call.result"] = self._mask(ended.text)
        if ended.outcome not in ("done", "skipped"):
            attributes["error.type"] = ended.outcome
        self._span(f"execute_tool {call.name}", turn, call.since, attributes, failed=ended.outcome == "failed")

    def _model_called(self, called: ModelCalled) -> None:
        turn = self._turns.get(about().turn)
        if turn is None:
            self._chat(called, time.time_ns(), None, "")
            return
        self._flush_answer(turn, "")
        turn.answered = called, time.time_ns()
        if called.error or not self._content:
            self._flush_answer(turn, "")

    def _flush_answer(self, turn: _Turn, text: str) -> None:
        """Makes the span of the model call that has ended; the text of its answer comes later than its end."""
        if turn.answered is not None:
            called, at = turn.answered
            turn.answered = None
            self._chat(called, at, turn, text)

    def _chat(self, called: ModelCalled, at: int, turn: _Turn | None, text: str) -> None:
        provider, model = _provider_and_model(called.model)
        usage = called.usage
        attributes: dict[str, AttributeValue] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": provider,
            "gen_ai.request.model": model,
            "gen_ai.request.stream": True,
            "gen_ai.usage.input_tokens": usage.input,
            "gen_ai.usage.output_tokens": usage.output,
            "gen_ai.usage.cache_read.input_tokens": usage.cache_read,
            "gen_ai.usage.cache_creation.input_tokens": usage.cache_write,
            "gen_ai.usage.reasoning.output_tokens": usage.reasoning,
            "interject.cost": usage.cost,
        }
        if called.first_token is not None:
            attributes["gen_ai.response.time_to_first_chunk"] = called.first_token
        if called.finish:
            attributes["gen_ai.response.finish_reasons"] = [called.finish]
        if called.error:
            attributes["error.type"] = called.error
        if self._content and text:
            said = [{"role": "assistant", "parts": [{"type": "text", "content": self._mask(text)}]}]
            attributes["gen_ai.output.messages"] = json.dumps(said, ensure_ascii=False)
        failed = bool(called.error) and called.error not in ("cancelled", "aborted")
        since = at - int(called.seconds * 1e9)
        self._span(f"chat {model}", turn, since, attributes, failed=failed, kind=SpanKind.CLIENT, at=at)

    def _hook_answered(self, answered: HookAnswered) -> None:
        turn = self._turns.get(about().turn)
        if turn is not None:
            at = time.time_ns()
            attributes = {"interject.hook": answered.hook, "interject.outcome": answered.outcome}
            failed, since = answered.outcome == "failed", at - int(answered.seconds * 1e9)
            self._span(f"{answered.point} {answered.hook}", turn, since, attributes, failed=failed, at=at)

    def _span(
        self,
        name: str,
        turn: _Turn | None,
        since: int | None,
        attributes: Mapping[str, AttributeValue],
        *,
        failed: bool,
        kind: SpanKind = SpanKind.INTERNAL,
        at: int | None = None,
    ) -> None:
        """A span that has ended; `since` None: it took no time."""
        at = time.time_ns() if at is None else at
        context = Context() if turn is None else turn.context
        span = self._tracer.start_span(name, context, kind, attributes, start_time=at if since is None else since)
        if failed:
            span.set_status(StatusCode.ERROR)
        span.end(at)


def _provider_and_model(name: str) -> tuple[str, str]:
    """As the conventions name them."""
    provider, _, model = name.partition(":")
    return PROVIDERS.get(provider, provider), model or name
