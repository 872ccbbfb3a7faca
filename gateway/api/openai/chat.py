"""Chat completions: what an exchange is in that protocol (https://platform.openai.com/docs/api-reference/chat)."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from channels.runs import PendingCall
from gateway.api.openai.exchange import Exchange, Outcome
from gateway.api.openai.requests import call_id
from gateway.store.records import UsageTotals


async def whole(exchange: Exchange, model: str, created: int) -> dict[str, Any]:
    """The answer once it is complete."""
    text = "".join([piece async for piece in exchange.pieces()])
    outcome = _outcome(exchange)
    message: dict[str, Any] = {"role": "assistant", "content": text or None, "refusal": None}
    if outcome.calls:
        message["tool_calls"] = _calls(exchange.run, outcome.calls)
    choice = {"index": 0, "message": message, "finish_reason": _finish_reason(outcome), "logprobs": None}
    head = {"id": _id(exchange), "object": "chat.completion", "created": created, "model": model}
    return {**head, "choices": [choice], "usage": _usage(outcome.used)}


async def chunks(exchange: Exchange, model: str, created: int, *, with_usage: bool) -> AsyncGenerator[bytes]:
    """The answer as server-sent events while it grows."""

    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        head = {"id": _id(exchange), "object": "chat.completion.chunk", "created": created, "model": model}
        return event({**head, "choices": [choice]})

    is_first = True
    async for piece in exchange.pieces():
        yield chunk({"role": "assistant", "content": piece} if is_first else {"content": piece})
        is_first = False
    outcome = _outcome(exchange)
    if outcome.calls:
        calls = [{"index": number, **each} for number, each in enumerate(_calls(exchange.run, outcome.calls))]
        yield chunk({"role": "assistant", "tool_calls": calls} if is_first else {"tool_calls": calls})
    yield chunk({}, _finish_reason(outcome))
    if with_usage:
        head = {"id": _id(exchange), "object": "chat.completion.chunk", "created": created, "model": model}
        yield event({**head, "choices": [], "usage": _usage(outcome.used)})
    yield b"data: [DONE]\n\n"


def event(data: dict[str, Any], name: str = "") -> bytes:
    """A server-sent event."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data, ensure_ascii=False)}\n\n".encode(errors="replace")


def _outcome(exchange: Exchange) -> Outcome:
    assert exchange.outcome is not None
    return exchange.outcome


def _id(exchange: Exchange) -> str:
    return f"chatcmpl-{exchange.run}"


def _finish_reason(outcome: Outcome) -> str:
    return "tool_calls" if outcome.calls else "stop"


def _calls(run: str, calls: Sequence[PendingCall]) -> list[dict[str, Any]]:
    return [
        {
            "id": call_id(run, call.id),
            "type": "function",
            "function": {"name": call.name, "arguments": json.dumps(call.arguments, ensure_ascii=False)},
        }
        for call in calls
    ]


def _usage(used: UsageTotals) -> dict[str, Any]:
    return {
        "prompt_tokens": used.input,
        "completion_tokens": used.output,
        "total_tokens": used.input + used.output,
        "prompt_tokens_details": {"cached_tokens": used.cache_read},
        "completion_tokens_details": {"reasoning_tokens": used.reasoning},
    }
