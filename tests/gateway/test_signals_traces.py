"""Traces: what a collector of OpenTelemetry is sent of turns."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from config.load import load
from gateway.assembly.signals import ConfiguredSignals, ExtraMissing
from tests.gateway.stage import gateway, write_settings
from tests.servers.models import Call, Fail, ModelServer, Say, Usage
from tests.servers.otlp import Collector, Span
from tests.servers.telegram import BotApi

TELEMETRY = '[telemetry]\nendpoint = "{url}"\nheaders = {{ Authorization = "Bearer a-key-of-the-collector" }}\n'
ASK = "What is the secret of the sea?"


@asynccontextmanager
async def traced(
    folder: Path, api: BotApi, models: ModelServer, collector: Collector, *, more: str = ""
) -> AsyncIterator[None]:
    """A gateway that sends traces; they have all arrived when it has ended."""
    text = TELEMETRY.format(url=collector.url) + more
    async with gateway(write_settings(folder, api, models, more=text)):
        yield


def the(collector: Collector, name: str) -> Span:
    (span,) = collector.named(name)
    return span


async def test_a_turn_is_one_trace_with_its_model_and_tool_calls(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.script([Call("todos", {"items": []}), Usage(100, 7)], Say("It is salt."))
    async with Collector() as collector:
        async with traced(tmp_path, api, models, collector):
            ann = api.private(7, "Ann")
            await ann.say(ASK)
            await ann.hear("It is salt.")
        turn, tool = the(collector, "invoke_agent"), the(collector, "execute_tool todos")
        first, second = sorted(collector.named("chat test"), key=lambda span: span.start)
    assert {span.trace for span in collector.spans} == {turn.trace}
    assert {span.parent for span in (first, second, tool)} == {turn.id}
    assert (turn.parent, turn.service, turn.trace) == ("", "interject", turn.attributes["interject.turn"])
    assert turn.start <= first.start < first.end <= tool.start <= tool.end <= second.start < second.end <= turn.end
    assert turn.attributes["gen_ai.operation.name"] == "invoke_agent"
    assert turn.attributes["interject.outcome"] == "completed"
    assert first.kind == 3
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "test",
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 7,
        "gen_ai.response.finish_reasons": ["calls"],
    }
    assert {name: first.attributes[name] for name in expected} == expected
    assert 0 <= second.attributes["gen_ai.response.time_to_first_chunk"] < 60
    assert tool.attributes["gen_ai.tool.name"] == "todos"
    assert tool.attributes["interject.outcome"] == "done"
    assert collector.headers[0]["authorization"] == "Bearer a-key-of-the-collector"
    words = str(collector.spans)
    assert ASK not in words
    assert "salt" not in words


async def test_content_is_traced_only_if_the_settings_say_so(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    models.script(Call("todos", {"items": []}), Say("It is salt, and test-key."))
    async with Collector() as collector:
        async with traced(tmp_path, api, models, collector, more="content = true\n"):
            ann = api.private(7, "Ann")
            await ann.say(f"{ASK} Is it test-key?")
            await ann.hear("It is salt, and [secret].")
        turn, tool = the(collector, "invoke_agent"), the(collector, "execute_tool todos")
        answer = max(collector.named("chat test"), key=lambda span: span.start)
    ((name, message),) = turn.events
    assert (name, message["content"]) == ("gen_ai.user.message", f"{ASK} Is it [secret]?")
    assert json.loads(tool.attributes["gen_ai.tool.call.arguments"]) == {"items": []}
    assert tool.attributes["gen_ai.tool.call.result"]
    (said,) = json.loads(answer.attributes["gen_ai.output.messages"])
    assert said == {"role": "assistant", "parts": [{"type": "text", "content": "It is salt, and [secret]."}]}


async def test_a_failed_turn_and_its_failed_calls_are_errors(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    models.script(Fail(401))
    async with Collector() as collector:
        async with traced(tmp_path, api, models, collector):
            ann = api.private(7, "Ann")
            await ann.say("hello")
            await ann.until(lambda chat: any("key" in text for text in chat.texts))
        turn, call = the(collector, "invoke_agent"), the(collector, "chat test")
    assert (turn.is_error, turn.attributes["error.type"], turn.attributes["interject.outcome"]) == (
        True,
        "failed",
        "failed",
    )
    assert turn.message
    assert (call.is_error, call.attributes["error.type"]) == (True, "auth")


async def test_a_collector_that_does_not_answer_holds_up_nobody(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.script(Say("Hello."))
    async with Collector() as collector:
        pass
    loop = asyncio.get_running_loop()
    async with traced(tmp_path, api, models, collector):
        ann = api.private(7, "Ann")
        await ann.say("hi")
        await ann.hear("Hello.")
        leaving = loop.time()
    assert loop.time() - leaving < 20


def test_without_the_extra_the_operator_is_told_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load(None, {"INTERJECT_TELEMETRY__ENDPOINT": "http://127.0.0.1:4318"}, tmp_path).settings
    monkeypatch.delitem(sys.modules, "gateway.signals.traces", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(ExtraMissing, match=r"pip install 'interject\[otel\]'"):
        ConfiguredSignals(settings)
