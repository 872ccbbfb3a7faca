"""Decoders given odd streams: an answer or a `ModelError`, and a conversation that stays within the grammar."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest

from agent.gate import storable
from agent.log import Call, Entry, MessagesRead, ModelAnswered, UserMessage, dump, load
from agent.model import Answer, ModelError, Request, ToolSpec
from agent.models.access import protocol_named
from agent.models.called_names import with_known_names
from agent.models.protocols.wire import ProtocolName, Target, WireProtocol
from agent.models.sse import EventSplitter
from agent.transcript import Exchange, transcript
from tests.servers.anthropic_messages import Anthropic
from tests.servers.chat_completions import OpenAI
from tests.servers.model_protocol import Dialect
from tests.servers.odd_streams import odd_answers
from tests.servers.responses import Responses, Stored

STREAMS = 1000
SEED = 20261130

LOOK = ToolSpec("look", "Looks.", {"type": "object", "properties": {"at": {"type": "string"}}})
DIALECTS: dict[ProtocolName, Callable[[], Dialect]] = {
    "openai": OpenAI,
    "openai-responses": lambda: Responses(Stored()),
    "anthropic": Anthropic,
}
TARGET = Target("it", "test-model", frozenset({"previous_response_id"}))
HELLO = MessagesRead(1, (UserMessage(1, "Ann", "Hello"),))


def pieces(data: bytes, chance: random.Random) -> Iterator[bytes]:
    """The bytes, cut anywhere."""
    while data:
        size = chance.choice((1, 3, 50, 10_000))
        yield data[:size]
        data = data[size:]


def decoded(protocol: WireProtocol, data: bytes, chance: random.Random) -> Answer | None:
    """The answer, None if the model has failed; what was told of it are texts."""
    decoder = protocol.decoder(TARGET, protocol.body(Request("", (HELLO,), (LOOK,)), {}, TARGET))
    splitter = EventSplitter()
    try:
        for piece in pieces(data, chance):
            for event in splitter.feed(piece):
                for delta in decoder.feed(event):
                    assert json.dumps(repr(delta))
        for event in splitter.end():
            decoder.feed(event)
        return decoder.answer()
    except ModelError:
        return None


def logged(answer: Answer) -> tuple[Entry, ...]:
    """The answer as the loop logs it."""
    answer = with_known_names(answer, (LOOK,))
    parts = tuple(
        replace(part, id=f"0123456789ab_1_{number}") if isinstance(part, Call) else part
        for number, part in enumerate(answer.parts)
    )
    return (HELLO, storable(ModelAnswered(1, parts, answer.usage, answer.model)))


def assert_can_go_on(dialect: Dialect, protocol: WireProtocol, exchanges: Sequence[Exchange]) -> None:
    """Asserts that a strict server takes the next request."""
    again = replace(HELLO, messages=(replace(HELLO.messages[0], id=2, text="And?"),))
    body = protocol.body(Request("Be kind.", (*exchanges, again), (LOOK,)), {}, TARGET)
    dialect.read(json.loads(json.dumps(body, ensure_ascii=False).encode()))


@pytest.mark.parametrize("name", ["openai", "openai-responses", "anthropic"])
def test_whatever_a_stream_holds_the_conversation_goes_on(name: ProtocolName) -> None:
    protocol, chance = protocol_named(name), random.Random(SEED)
    answers = 0
    for change, stream in odd_answers(name, SEED + 1, STREAMS):
        try:
            answer = decoded(protocol, stream.data, chance)
            if answer is None:
                continue
            answers += 1
            entries = logged(answer)
            assert load(map(dump, entries)) == entries
            assert_can_go_on(DIALECTS[name](), protocol, transcript(entries))
        except Exception as error:
            raise AssertionError(f"after {change}") from error
    assert answers > STREAMS / 2


@pytest.mark.parametrize("name", ["openai", "openai-responses", "anthropic"])
def test_bytes_of_any_kind_are_an_answer_or_an_error(name: ProtocolName) -> None:
    protocol, chance = protocol_named(name), random.Random(SEED)
    for _, stream in odd_answers(name, SEED + 2, STREAMS // 2):
        broken = bytearray(stream.data)
        for _ in range(chance.randrange(1, 20)):
            broken[chance.randrange(len(broken))] = chance.choice(b'\x00\xff{}[]",:\n\r \\u9')
        decoded(protocol, bytes(broken), chance)
