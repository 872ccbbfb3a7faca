"""Responses: what an exchange is in that protocol (https://platform.openai.com/docs/api-reference/responses)."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any

from gateway.api.openai.chat import event
from gateway.api.openai.exchange import Exchange, Outcome
from gateway.api.openai.requests import RESPONSE, call_id


async def whole(exchange: Exchange, model: str, created: int) -> dict[str, Any]:
    """The answer once it is complete."""
    text = "".join([piece async for piece in exchange.pieces()])
    return _response(exchange, model, created, _items(exchange, text))


async def events(exchange: Exchange, model: str, created: int) -> AsyncGenerator[bytes]:
    """The answer as server-sent events while it grows."""
    number = 0

    def numbered(kind: str, **data: Any) -> bytes:
        nonlocal number
        number += 1
        return event({"type": kind, "sequence_number": number - 1, **data}, kind)

    pieces: list[str] = []
    async for piece in exchange.pieces():
        if not piece:
            begun = _response(exchange, model, created, [])
            yield numbered("response.created", response=begun)
            yield numbered("response.in_progress", response=begun)
            continue
        if not pieces:
            yield numbered(
                "response.output_item.added", output_index=0, item=_message(exchange, "", status="in_progress")
            )
            yield numbered("response.content_part.added", **_place(exchange), part=_part(""))
        pieces.append(piece)
        yield numbered("response.output_text.delta", **_place(exchange), delta=piece, logprobs=[])
    text = "".join(pieces)
    items = _items(exchange, text)
    for index, item in enumerate(items):
        if item["type"] == "message" and pieces:
            yield numbered("response.output_text.done", **_place(exchange), text=text, logprobs=[])
            yield numbered("response.content_part.done", **_place(exchange), part=_part(text))
        else:
            yield numbered("response.output_item.added", output_index=index, item=item)
        if item["type"] == "function_call":
            done = {"item_id": item["id"], "output_index": index, "arguments": item["arguments"], "name": item["name"]}
            yield numbered("response.function_call_arguments.done", **done)
        yield numbered("response.output_item.done", output_index=index, item=item)
    yield numbered("response.completed", response=_response(exchange, model, created, items))


def _response(
    exchange: Exchange, model: str, created: int, items: list[dict[str, Any]], *, status: str = ""
) -> dict[str, Any]:
    outcome = exchange.outcome
    return {
        "id": f"{RESPONSE}{exchange.run}",
        "object": "response",
        "created_at": created,
        "status": status or ("in_progress" if outcome is None else "completed"),
        "model": model,
        "output": items,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "usage": None if outcome is None else _usage(outcome),
    }


def _items(exchange: Exchange, text: str) -> list[dict[str, Any]]:
    outcome = exchange.outcome
    calls = () if outcome is None else outcome.calls
    message = [_message(exchange, text)] if text or not calls else []
    return [
        *message,
        *(
            {
                "type": "function_call",
                "id": f"fc_{call_id(exchange.run, call.id)}",
                "call_id": call_id(exchange.run, call.id),
                "name": call.name,
                "arguments": json.dumps(call.arguments, ensure_ascii=False),
                "status": "completed",
            }
            for call in calls
        ),
    ]


def _message(exchange: Exchange, text: str, *, status: str = "completed") -> dict[str, Any]:
    content = [_part(text)] if status == "completed" else []
    return {"type": "message", "id": _item_id(exchange), "status": status, "role": "assistant", "content": content}


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _place(exchange: Exchange) -> dict[str, Any]:
    return {"item_id": _item_id(exchange), "output_index": 0, "content_index": 0}


def _item_id(exchange: Exchange) -> str:
    return f"msg_{exchange.run}"


def _usage(outcome: Outcome) -> dict[str, Any]:
    used = outcome.used
    return {
        "input_tokens": used.input,
        "input_tokens_details": {"cached_tokens": used.cache_read},
        "output_tokens": used.output,
        "output_tokens_details": {"reasoning_tokens": used.reasoning},
        "total_tokens": used.input + used.output,
    }
