"""Streams of each protocol as bytes, whole or with one field of an odd type, which no script can say."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from copy import deepcopy
from typing import Any, assert_never

from tests.servers.model_protocol import NAME
from tests.servers.models import SIGNATURE, Provider, Raw
from tests.servers.responses import encrypted

Event = dict[str, Any]
Path = tuple[str | int, ...]

MISSING = "(missing)"


def _nested(levels: int) -> Any:
    return json.loads("[" * levels + "]" * levels)


ODD_VALUES: tuple[Any, ...] = (
    *(None, True, 0, -7, 5, 10.5, 10**30, -(10**30), 1e308, float("nan"), float("inf"), MISSING),
    *(
        "",
        "odd",
        "10.5",
        "\ud83d",
        "\ude00 \ud83a",
        "nul \0",
        "\\ud83a",
        "{",
        '{"text": "\\ud83a"}',
        "n" * 70,
        "日本 語",
    ),
    *([], {}, [5], {"odd": 5}, ["\ud83d"], {"\ud83d": "\0"}, [[{}]], _nested(300), '{"a":' * 2000),
)


def answer(protocol: Provider, *, text: str = "All is well.", call: bool = False, usage: Any = None) -> list[Event]:
    """The events of a whole answer: some reasoning, the text, and a call of `look` if asked for."""
    match protocol:
        case "openai":
            return _openai(text, call, usage)
        case "openai-responses":
            return _responses(text, call, usage)
        case "anthropic":
            return _anthropic(text, call, usage)
        case _:
            assert_never(protocol)


def encoded(protocol: Provider, events: list[Event]) -> Raw:
    frames = []
    for event in events:
        name = "" if protocol == "openai" else f"event: {event.get('type', '')}\n"
        frames.append(f"{name}data: {json.dumps(event)}\n\n")
    return Raw("".join([*frames, "data: [DONE]\n\n" if protocol == "openai" else ""]).encode(errors="replace"))


def odd_answers(protocol: Provider, seed: int, count: int) -> Iterator[tuple[str, Raw]]:
    """Answers in which one field has an odd value, each with what was changed; the same for the same seed."""
    chance = random.Random(f"{protocol} {seed}")
    for _ in range(count):
        events = answer(protocol, call=chance.random() < 0.5)
        path = chance.choice(list(_paths(events)))
        odd = [value for value in ODD_VALUES if not _is_credible(path[-1], value)]
        value = chance.choice(odd)
        yield f"{path} = {ascii(value)[:60]}", encoded(protocol, _with(events, path, value))


def _is_credible(name: str | int, value: Any) -> bool:
    """Whether it is a signature or an id like any other, until the provider that gave it checks it."""
    if name in ("signature", "encrypted_content"):
        return isinstance(value, str)
    return name in ("id", "call_id", "item_id") and isinstance(value, str) and NAME.fullmatch(value) is not None


def _paths(value: Any, path: Path = ()) -> Iterator[Path]:
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from _paths(item, (*path, key))


def _with(events: list[Event], path: Path, value: Any) -> list[Event]:
    changed = deepcopy(events)
    place: Any = changed
    for key in path[:-1]:
        place = place[key]
    if value != MISSING:
        place[path[-1]] = value
    else:
        del place[path[-1]]
    return [event for event in changed if isinstance(event, dict)]


def _openai(text: str, call: bool, usage: Any) -> list[Event]:
    frame = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "test"}

    def chunk(delta: Any, reason: str | None = None) -> Event:
        return {**frame, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]}

    calls = [
        {"index": 0, "id": "call_1", "type": "function", "function": {"name": "look", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"at": '}},
        {"index": 0, "function": {"arguments": '"it"}'}},
    ]
    return [
        chunk({"role": "assistant", "content": ""}),
        chunk({"reasoning_content": "Hm."}),
        chunk({"content": text[: len(text) // 2]}),
        chunk({"content": text[len(text) // 2 :]}),
        *(chunk({"tool_calls": [each]}) for each in (calls if call else [])),
        chunk({}, "tool_calls" if call else "stop"),
        {
            **frame,
            "choices": [],
            "usage": usage
            or {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "total_tokens": 15,
                "prompt_tokens_details": {"cached_tokens": 2},
                "completion_tokens_details": {"reasoning_tokens": 1},
            },
        },
    ]


def _responses(text: str, call: bool, usage: Any) -> list[Event]:
    ids = {"reasoning": "rs_1", "message": "msg_1", "web_search_call": "ws_1", "function_call": "fc_1"}
    summary = [{"type": "summary_text", "text": "Hm."}]
    output: list[Event] = [
        {"type": "reasoning", "summary": summary, "encrypted_content": encrypted("rs_1")},
        {
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": text, "annotations": []}],
        },
    ]
    if call:
        arguments = '{"at": "it"}'
        output.append({"type": "function_call", "call_id": "call_1", "name": "look", "arguments": arguments})
    else:
        action = {"type": "search", "query": "wells"}
        output.insert(1, {"type": "web_search_call", "status": "completed", "action": action})
    output = [{"id": ids[item["type"]], **item} for item in output]
    response: Event = {"id": "resp_1", "object": "response", "model": "test", "error": None, "output": []}
    counts = usage or {
        "input_tokens": 10,
        "output_tokens": 5,
        "total_tokens": 15,
        "input_tokens_details": {"cached_tokens": 2},
        "output_tokens_details": {"reasoning_tokens": 1},
    }
    end = {**response, "status": "completed", "incomplete_details": None, "output": output, "usage": counts}
    return [
        {"type": "response.created", "response": {**response, "status": "in_progress"}},
        *(event for index, item in enumerate(output) for event in _item_events(index, item)),
        {"type": "response.completed", "response": end},
    ]


def _item_events(index: int, item: Event) -> list[Event]:
    at = {"output_index": index, "item_id": item["id"]}
    begun, deltas = dict(item), list[Event]()
    match item["type"]:
        case "reasoning":
            begun |= {"summary": [], "encrypted_content": None}
            text = item["summary"][0]["text"]
            deltas = [
                {"type": "response.reasoning_summary_part.added", **at, "summary_index": 0},
                {"type": "response.reasoning_summary_text.delta", **at, "summary_index": 0, "delta": text},
            ]
        case "message":
            begun |= {"content": [], "status": "in_progress"}
            text = item["content"][0]["text"]
            halves = text[: len(text) // 2], text[len(text) // 2 :]
            deltas = [
                {"type": "response.output_text.delta", **at, "content_index": 0, "delta": half} for half in halves
            ]
        case "function_call":
            begun |= {"arguments": ""}
            arguments = item["arguments"]
            kind = "response.function_call_arguments"
            deltas = [
                {"type": f"{kind}.delta", **at, "delta": arguments[:6]},
                {"type": f"{kind}.delta", **at, "delta": arguments[6:]},
                {"type": f"{kind}.done", **at, "arguments": arguments},
            ]
        case _:
            begun |= {"status": "in_progress"}
            deltas = [{"type": f"response.web_search_call.{state}", **at} for state in ("in_progress", "completed")]
    added = {"type": "response.output_item.added", "output_index": index, "item": begun}
    return [added, *deltas, {"type": "response.output_item.done", "output_index": index, "item": item}]


def _anthropic(text: str, call: bool, usage: Any) -> list[Event]:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "test", "content": []}
    message |= {"stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 10, "output_tokens": 1}}

    def block(index: int, start: Event, *deltas: Event) -> list[Event]:
        return [
            {"type": "content_block_start", "index": index, "content_block": start},
            *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
            {"type": "content_block_stop", "index": index},
        ]

    calls = block(
        2,
        {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}},
        {"type": "input_json_delta", "partial_json": '{"at": '},
        {"type": "input_json_delta", "partial_json": '"it"}'},
    )
    stop = {"stop_reason": "tool_use" if call else "end_turn", "stop_sequence": None}
    counts = usage or {
        "input_tokens": 10,
        "output_tokens": 5,
        "cache_read_input_tokens": 2,
        "cache_creation_input_tokens": 1,
        "output_tokens_details": {"thinking_tokens": 1},
    }
    return [
        {"type": "message_start", "message": message},
        *block(
            0,
            {"type": "thinking", "thinking": "", "signature": ""},
            {"type": "thinking_delta", "thinking": "Hm."},
            {"type": "signature_delta", "signature": SIGNATURE},
        ),
        *block(
            1,
            {"type": "text", "text": ""},
            {"type": "text_delta", "text": text[: len(text) // 2]},
            {"type": "text_delta", "text": text[len(text) // 2 :]},
        ),
        *(calls if call else []),
        {"type": "message_delta", "delta": stop, "usage": counts},
        {"type": "message_stop"},
    ]
