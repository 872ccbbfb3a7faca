"""Whatever the log holds, what a provider is sent is within its grammar: the strict servers' readers take it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.gate import storable
from agent.log import (
    Call,
    CallEnded,
    CallStarted,
    Compacted,
    Ended,
    Entry,
    ForeignText,
    MessagesRead,
    ModelAnswered,
    Native,
    Part,
    Resumed,
    Text,
    Thinking,
    Undelivered,
    UndeliveredPart,
    UserMessage,
)
from agent.media import Attachment
from agent.model import ModelSettings, Request, ToolSpec
from agent.models.access import protocol_named
from agent.models.content import LoadedImage, LoadedImages, UnavailableImage
from agent.models.protocols.wire import Feature, JsonObject, ProtocolName, Target
from agent.models.without_images import without_images
from agent.transcript import RenderedTurn, conversation, transcript
from tests.servers.anthropic_messages import SIGNATURE, Anthropic
from tests.servers.chat_completions import OpenAI
from tests.servers.model_protocol import Dialect, read_request
from tests.servers.model_script import Request as ReceivedRequest
from tests.servers.responses import Responses, Stored

OWN = "it"
PNG = "iVBORw0KGgo="
IMAGES: LoadedImages = {"a": LoadedImage("image/png", PNG), "b": UnavailableImage("it is gone")}
TOOLS = (ToolSpec("shell", "Runs.", {"type": "object"}), ToolSpec("look", "Looks.", {"type": "object"}))

words = st.sampled_from(["", " ", "\n\n", "Well.", "\nWell.\n", "\ud83d", "a\0b", "<message>", "[Result]", "ä🙂", "{}"])
ids = st.sampled_from(["", "a", "0123456789ab_1_0", "functions.shell:0", "x y/z", "ü" * 90, "toolu_01", "call-1"])
names = st.sampled_from(["", "shell", "functions.shell", "shell<|channel|>commentary", "n" * 70, "подсказка"])
arguments = st.sampled_from(
    ["", "{}", '{"command": "ls"}', '{"command": "ls', "[]", '"x"', "null", '{"a": "\\ud83d"}', "[" * 300]
)
files = st.sampled_from(
    [
        Attachment("a", "cat.png", "image/png", 12),
        Attachment("b", "dog.png", "image/png", 12),
        Attachment("c", "notes.txt", "text/plain", 12),
    ]
)
some_files = st.lists(files, max_size=2).map(tuple)
providers = st.sampled_from([OWN, "other", None])

messages = st.builds(
    UserMessage,
    id=st.integers(1, 9),
    sender=words,
    text=words,
    attachments=some_files,
    note=words,
    in_group=st.booleans(),
    source=st.sampled_from(["person", "wrap"]),
    foreign=st.lists(st.builds(ForeignText, words, words), max_size=1).map(tuple),
)
read = st.builds(MessagesRead, st.just(1), st.lists(messages, max_size=2).map(tuple))

FIELDS = ("reasoning_content", "reasoning", "reasoning_details", "thought_signature", "redacted_thinking", None)
thoughts = st.builds(Thinking, words, st.sampled_from([None, SIGNATURE]), st.sampled_from(FIELDS), providers)
kept = st.lists(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["message", "function_call", "reasoning", "web_search_call", "odd"])},
        optional={"id": ids, "call_id": ids, "phase": words, "plain": st.booleans()},
    ),
    max_size=3,
)
data = st.one_of(
    st.sampled_from(
        ["", "{", "[]", "{}", '{"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}}']
    ),
    st.sampled_from(['{"type": "web_search_tool_result", "tool_use_id": "s1", "content": []}']),
    kept.map(lambda items: json.dumps({"type": "response", "items": items})),
)
natives = st.builds(Native, providers.map(str), data)
calls = st.builds(Call, ids, names, arguments, st.sampled_from([None, "c2ln"]), providers)
texts = st.builds(Text, words)
numbers = st.sampled_from(["1", "2", "x" * 80, "1 2", ""])
given_fields = st.fixed_dictionaries({}, optional={"call_id": ids, "phase": words, "plain": st.booleans()})


@st.composite
def kept_answers(draw: st.DrawFn) -> tuple[Part, ...]:
    """The items of an answer as a Responses server gave them, with what was kept of each."""
    parts = draw(st.lists(st.one_of(texts, thoughts, calls), min_size=1, max_size=3))
    items = []
    for part in parts:
        kind, prefix = KINDS[type(part)]
        items.append({"type": kind, "id": f"{prefix}_{draw(numbers)}", **draw(given_fields)})
    return (*parts, Native(OWN, json.dumps({"type": "response", "items": items}), foreign=False))


KINDS = {Text: ("message", "msg"), Thinking: ("reasoning", "rs"), Call: ("function_call", "fc")}
answers = st.builds(
    ModelAnswered,
    step=st.integers(1, 3),
    parts=st.lists(st.one_of(texts, thoughts, natives, calls), max_size=4).map(tuple) | kept_answers(),
    interrupted=st.booleans(),
)
others = st.one_of(
    st.builds(Ended, st.sampled_from(["completed", "stopped", "failed"]), words),
    st.builds(Compacted, st.integers(1, 3), st.just(""), words),
    st.builds(Undelivered, st.lists(st.builds(UndeliveredPart, words, ids), max_size=1).map(tuple)),
    st.just(Resumed()),
)
entries = st.lists(st.one_of(read, answers, answers, others), max_size=5)
features = st.frozensets(st.sampled_from(get_args(Feature)), max_size=4)
parameters = st.builds(
    ModelSettings,
    st.sampled_from([None, 0.5]),
    st.sampled_from([None, 1, 3000]),
    st.sampled_from([None, "off", "low", "max"]),
    st.sampled_from([None, 0.5]),
    st.sampled_from([None, True, False]),
)


def logged(turns: Sequence[Sequence[Entry]], ended: st.DataObject) -> list[list[Entry]]:
    """The logs as the gateway writes them: a call has an id of its own, and at most one result; all is storable."""
    count = 0
    logs: list[list[Entry]] = []
    for turn in turns:
        log: list[Entry] = []
        for entry in turn:
            if not isinstance(entry, ModelAnswered):
                log.append(storable(entry))
                continue
            parts = []
            for part in entry.parts:
                if isinstance(part, Call):
                    count += 1
                    part = replace(part, id=f"{part.id}{count}" if ended.draw(st.booleans()) else f"{count}{part.id}")
                parts.append(part)
            answered = storable(replace(entry, parts=tuple(parts)))
            log.append(answered)
            for call in answered.calls:
                if ended.draw(st.booleans()):
                    log.append(CallStarted(call.id))
                if ended.draw(st.booleans()):
                    outcome = ended.draw(st.sampled_from(["done", "failed", "denied"]))
                    text, images = ended.draw(words), ended.draw(some_files)
                    log.append(storable(CallEnded(call.id, outcome, text, images=images, foreign=ended.draw(sources))))
        logs.append(log)
    return logs


sources = st.sampled_from([(), ("https://example.org",)])


@pytest.mark.parametrize("protocol", ["openai", "openai-responses", "anthropic"])
@settings(max_examples=400, deadline=None)
@given(st.lists(entries, max_size=3), features, parameters, st.booleans(), st.booleans(), st.data())
def test_whatever_the_log_holds_a_strict_server_takes_the_request(
    protocol: ProtocolName,
    turns: list[list[Entry]],
    without: frozenset[Feature],
    given: ModelSettings,
    web_search: bool,
    text_only: bool,
    ended: st.DataObject,
) -> None:
    *past, now = logged(turns or [[]], ended)
    whole = conversation([RenderedTurn(str(number), tuple(transcript(log))) for number, log in enumerate(past)], now)
    request = Request("Be kind.", whole or [ASKED], TOOLS, text_only, settings=given)
    if "images" in without:
        request = without_images(request)
    if protocol == "anthropic":
        # Only servers that sign no thinking refuse that.
        without -= {"answers_without_reasoning"}
    target = Target(OWN, "claude-sonnet-4-5", without, web_search)
    body = protocol_named(protocol).body(request, IMAGES, target)
    accept(protocol, body)
    check_features(protocol, body, without)


ASKED = MessagesRead(1, (UserMessage(1, "Ann", "Hello"),))


def accept(protocol: ProtocolName, body: JsonObject) -> None:
    """Raises `Refused` where the provider answers 400."""
    content = json.dumps(body, ensure_ascii=False).encode()
    received = ReceivedRequest(protocol, {"anthropic-version": "2023-06-01"}, 0)
    read_request(received, dialect_of(protocol), content)


def dialect_of(protocol: ProtocolName) -> Dialect:
    match protocol:
        case "openai":
            return OpenAI()
        case "openai-responses":
            return Responses(Stored())
        case "anthropic":
            return Anthropic()


def check_features(protocol: ProtocolName, body: JsonObject, without: frozenset[Feature]) -> None:
    """The rules of servers that refuse these features."""
    for name in ("temperature", "top_p", "tools", "tool_choice", "stream_options", "parallel_tool_calls"):
        assert name not in without or name not in body or protocol != "openai"
    sent: list[dict[str, Any]] = body["input" if protocol == "openai-responses" else "messages"]
    roles = [message["role"] for message in sent if "role" in message]
    if "system_role" in without:
        assert "system" not in {*roles, *body}
        assert "instructions" not in body
    if protocol == "openai-responses":
        return
    if "consecutive_roles" in without:
        spoken = [role for role in roles if role != "system"]
        assert spoken[0] == "user"
        assert all(one != other or one == "tool" for one, other in pairwise(spoken))
        assert ("tool", "user") not in pairwise(spoken)
    if "long_call_ids" in without:
        assert all(len(message.get("tool_call_id", "123456789")) == 9 for message in sent)
