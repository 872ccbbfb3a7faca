"""Streams of both protocols as bytes, whole or with one field of an odd type, which no script can say."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from tests.servers.models import SIGNATURE, Provider, Raw

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
    return _openai(text, call, usage) if protocol == "openai" else _anthropic(text, call, usage)


def encoded(protocol: Provider, events: list[Event]) -> Raw:
    frames = []
    for event in events:
        name = f"event: {event.get('type', '')}\n" if protocol == "anthropic" else ""
        frames.append(f"{name}data: {json.dumps(event)}\n\n")
    return Raw("".join([*frames, "data: [DONE]\n\n" if protocol == "openai" else ""]).encode(errors="replace"))


def odd_answers(protocol: Provider, seed: int, count: int) -> Iterator[tuple[str, Raw]]:
    """Answers in which one field has an odd value, each with what was changed; the same for the same seed."""
    chance = random.Random(f"{protocol} {seed}")
    for _ in range(count):
        events = answer(protocol, call=chance.random() < 0.5)
        path = chance.choice(list(_paths(events)))
        # A false signature is a text like any other, until the provider that gave it checks it.
        odd = [value for value in ODD_VALUES if path[-1] != "signature" or not isinstance(value, str)]
        value = chance.choice(odd)
        yield f"{path} = {ascii(value)[:60]}", encoded(protocol, _with(events, path, value))


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
