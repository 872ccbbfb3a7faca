"""Anthropic's Messages, as the model server of the tests speaks it.

Source: https://docs.anthropic.com/en/api/messages and /en/api/errors
"""

import base64
import itertools
import json
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias, assert_never

from tests.servers.model_protocol import (
    NAME,
    Encoder,
    bearer,
    check_tool_names,
    decoded_image,
    end_of,
    event,
    gather,
    refuse,
)
from tests.servers.model_script import (
    Arguments,
    Delta,
    Fail,
    Finished,
    Found,
    Message,
    Opened,
    Provider,
    Reason,
    Request,
    Searched,
    Text,
    Thought,
    ToolCall,
    TooLong,
    Usage,
)

_ANTHROPIC_ERRORS = {
    400: ("invalid_request_error", "Invalid request."),
    401: ("authentication_error", "invalid x-api-key"),
    403: ("permission_error", "Your API key does not have permission to use the specified resource."),
    404: ("not_found_error", "model: not found"),
    413: ("request_too_large", "Request exceeds the maximum size"),
    429: ("rate_limit_error", "Number of requests has exceeded your per-minute rate limit."),
    500: ("api_error", "Internal server error"),
    529: ("overloaded_error", "Overloaded"),
}
_STOP_REASONS: dict[Reason, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "pause": "pause_turn",
}
_THINKING = ("thinking", "redacted_thinking")
SIGNATURE = base64.b64encode(b"signed by the model server of the tests").decode()


class Anthropic:
    """Messages."""

    provider: Provider = "anthropic"
    no_key = "x-api-key header is required"

    def key(self, headers: Mapping[str, str]) -> str | None:
        # The documented header, and the one that version 2 of Anthropic's SDK sends.
        return headers.get("x-api-key") or bearer(headers)

    def check(self, headers: Mapping[str, str], body: dict[str, Any]) -> None:
        if "anthropic-version" not in headers:
            raise refuse("anthropic-version: header is required")
        for name in ("model", "max_tokens", "messages"):
            if name not in body:
                raise refuse(f"{name}: Field required")
        if not body["messages"]:
            raise refuse("messages: at least one message is required")
        if (marks := _cache_marks(body)) > 4:
            raise refuse(f"A maximum of 4 blocks with cache_control may be provided. Found {marks}.")

    def tools(self, body: dict[str, Any]) -> tuple[str, ...]:
        names = tuple(tool["name"] for tool in body.get("tools") or ())
        check_tool_names(names)
        return names

    def read(self, body: dict[str, Any]) -> tuple[Message, ...]:
        turns = [(raw["role"], self._blocks(raw["content"], number)) for number, raw in enumerate(body["messages"])]
        self._check_roles([role for role, _ in turns])
        for number, (role, blocks) in enumerate(turns):
            for place, block in enumerate(blocks):
                self._check_block(role, block, f"messages.{number}.content.{place}")
            self._check_searches(blocks, f"messages.{number}")
        self._check_results(_merged(turns))
        self._check_thinking(body, turns)
        system = self._blocks(body["system"], None) if body.get("system") else []
        return tuple(self._messages([("system", system), *turns] if system else turns))

    def _blocks(self, content: Any, number: int | None) -> list[dict[str, Any]]:
        if number is not None and not content:
            raise refuse(f"messages.{number}: all messages must have non-empty content")
        return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)

    def _check_roles(self, roles: Sequence[str]) -> None:
        for number, role in enumerate(roles):
            if role not in ("user", "assistant", "system"):
                raise refuse(f"messages.{number}.role: Input should be 'user' or 'assistant'")
        if roles[0] != "user":
            raise refuse('messages: first message must use the "user" role')
        if roles[-1] == "assistant":
            raise refuse(
                "This model does not support assistant message prefill. The conversation must end with a user message."
            )

    def _check_block(self, role: str, block: dict[str, Any], where: str) -> None:
        match role, block["type"]:
            case _, "text":
                if not block["text"]:
                    raise refuse("messages: text content blocks must be non-empty")
                if not block["text"].strip():
                    raise refuse("messages: text content blocks must contain non-whitespace text")
            case "user", "image":
                self._picture(block, where)
            case "user", "tool_result":
                content = block.get("content") or ()
                for place, inner in enumerate(() if isinstance(content, str) else content):
                    self._check_block("user", inner, f"{where}.content.{place}")
            case "assistant", "tool_use":
                if not NAME.fullmatch(block["id"]):
                    raise refuse(f"{where}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'")
                if not isinstance(block["input"], dict):
                    raise refuse(f"{where}.tool_use.input: Input should be a valid dictionary")
            case "assistant", "server_tool_use" | "web_search_tool_result":
                pass
            case "assistant", "redacted_thinking" if block["data"]:
                pass
            case "assistant", "thinking" if "cache_control" in block:
                raise refuse(f"{where}.thinking.cache_control: Extra inputs are not permitted")
            case "assistant", "thinking":
                if block.get("signature") != SIGNATURE:
                    raise refuse(f"{where}: Invalid `signature` in `thinking` block")
            case _, kind:
                raise refuse(f"{where}: `{kind}` blocks are not permitted in a message with role `{role}`")

    def _check_thinking(self, body: dict[str, Any], turns: Sequence[tuple[str, list[dict[str, Any]]]]) -> None:
        thinks = (body.get("thinking") or {}).get("type") == "enabled"
        answer = next((blocks for role, blocks in reversed(turns) if role == "assistant"), [])
        if thinks and any(block["type"] == "tool_use" for block in answer) and answer[0]["type"] not in _THINKING:
            raise refuse(
                "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found "
                f"`{answer[0]['type']}`. When `thinking` is enabled, a final `assistant` message must "
                "start with a thinking block (preceeding the lastmost set of `tool_use` and `tool_result` blocks)."
            )

    def _check_searches(self, blocks: Sequence[dict[str, Any]], where: str) -> None:
        asked = [block["id"] for block in blocks if block["type"] == "server_tool_use"]
        found = [block["tool_use_id"] for block in blocks if block["type"] == "web_search_tool_result"]
        if missing := set(asked) ^ set(found):
            raise refuse(
                f"{where}: `web_search` tool use with id {', '.join(missing)} was found without a corresponding "
                "`web_search_tool_result` block"
            )

    def _check_results(self, turns: Sequence[tuple[str, list[dict[str, Any]]]]) -> None:
        asked: list[str] = []
        ever: set[str] = set()
        for number, (role, blocks) in enumerate(turns):
            results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
            leading = [b["tool_use_id"] for b in itertools.takewhile(lambda b: b["type"] == "tool_result", blocks)]
            self._check_answers(number, asked, results, leading)
            asked = [block["id"] for block in blocks if block["type"] == "tool_use"]
            if len(set(asked)) != len(asked) or ever & set(asked):
                raise refuse(f"messages.{number}.content: `tool_use` ids must be unique")
            ever |= set(asked)
            if role == "assistant" and asked and number == len(turns) - 1:
                self._check_answers(number + 1, asked, [], [])

    def _check_answers(self, number: int, asked: Sequence[str], results: Sequence[str], leading: Sequence[str]) -> None:
        if missing := [call_id for call_id in asked if call_id not in leading]:
            raise refuse(
                f"messages.{number - 1}: `tool_use` ids were found without `tool_result` blocks immediately after: "
                f"{', '.join(missing)}. Each `tool_use` block must have a corresponding `tool_result` block in the "
                "next message."
            )
        for place, call_id in enumerate(results):
            if call_id not in asked:
                raise refuse(
                    f"messages.{number}.content.{place}: unexpected `tool_use_id` found in `tool_result` blocks: "
                    f"{call_id}. Each `tool_result` block must have a corresponding `tool_use` block in the previous "
                    "message."
                )
            if call_id in results[:place]:
                raise refuse(
                    f"messages.{number}.content.{place}: each tool_use must have a single result. Found multiple "
                    f"`tool_result` blocks with id: {call_id}"
                )

    def _messages(self, turns: Iterable[tuple[str, list[dict[str, Any]]]]) -> Iterator[Message]:
        for role, blocks in turns:
            for block in blocks:
                if block["type"] == "tool_result":
                    yield self._result(block)
            rest = [block for block in blocks if block["type"] != "tool_result"]
            if not rest:
                continue
            match role:
                case "assistant":
                    yield self._assistant(rest)
                case "system":
                    yield Message("system", _text(rest))
                case _:
                    yield Message("user", _text(rest), self._pictures(rest))

    def _assistant(self, blocks: Sequence[dict[str, Any]]) -> Message:
        calls = tuple(
            ToolCall(block["id"], block["name"], json.dumps(block["input"]))
            for block in blocks
            if block["type"] == "tool_use"
        )
        thoughts = "".join(block["thinking"] for block in blocks if block["type"] == "thinking")
        return Message("assistant", _text(blocks), thoughts=thoughts, calls=calls)

    def _result(self, block: dict[str, Any]) -> Message:
        content = block.get("content") or ""
        inner = [{"type": "text", "text": content}] if isinstance(content, str) else content
        failed = bool(block.get("is_error"))
        return Message("tool", _text(inner), self._pictures(inner), call_id=block["tool_use_id"], failed=failed)

    def _pictures(self, blocks: Iterable[dict[str, Any]]) -> tuple[bytes, ...]:
        return tuple(self._picture(block, "messages") for block in blocks if block["type"] == "image")

    def _picture(self, block: dict[str, Any], where: str) -> bytes:
        source = block["source"]
        if source["type"] != "base64":
            raise refuse(f"{where}.image.source: unable to download the file")
        return decoded_image(source["media_type"], source["data"], f"{where}.image.source.base64")

    def encoder(self, request: Request, name: str) -> Encoder:
        return _AnthropicEncoder(request, name)

    def whole(self, request: Request, name: str, deltas: Sequence[Delta]) -> dict[str, Any]:
        text, thoughts, calls = gather(deltas)
        end = end_of(deltas)
        content: list[dict[str, Any]] = []
        if thoughts:
            content.append({"type": "thinking", "thinking": thoughts, "signature": SIGNATURE})
        if text:
            content.append({"type": "text", "text": text})
        content += [{"type": "tool_use", "id": c.id, "name": c.name, "input": _parsed(c.arguments)} for c in calls]
        reason = _STOP_REASONS[end.reason]
        return _anthropic_message(request, name) | {
            "content": content,
            "stop_reason": reason,
            "usage": _anthropic_usage(end.usage),
        }

    def error(self, fail: Fail) -> dict[str, Any]:
        kind, message = _ANTHROPIC_ERRORS.get(fail.status, ("api_error", f"Error {fail.status}."))
        error = {"type": fail.code or kind, "message": message if fail.message is None else fail.message}
        return {"type": "error", "error": error, "request_id": f"req_{secrets.token_hex(6)}"}

    def too_long(self, fault: TooLong) -> Fail:
        return Fail(400, message=f"prompt is too long: {fault.tokens} tokens > {fault.limit} maximum")

    def models(self) -> dict[str, Any]:
        model = {
            "id": "test-model",
            "type": "model",
            "display_name": "Test model",
            "created_at": "2025-01-01T00:00:00Z",
        }
        return {"data": [model], "has_more": False, "first_id": "test-model", "last_id": "test-model"}


Block: TypeAlias = Literal["text", "thinking", "tool_use", "server_tool_use", "web_search_tool_result"]


class _AnthropicEncoder:
    def __init__(self, request: Request, name: str) -> None:
        self._message = _anthropic_message(request, name)
        self._open: Block | None = None
        self._index = -1

    def begin(self) -> bytes:
        return _typed({"type": "message_start", "message": self._message}) + _typed({"type": "ping"})

    def encode(self, delta: Delta) -> bytes:
        match delta:
            case Text():
                start = b"" if self._open == "text" else self._start("text", {"text": ""})
                return start + self._delta({"type": "text_delta", "text": delta.text})
            case Thought():
                start = b"" if self._open == "thinking" else self._start("thinking", {"thinking": "", "signature": ""})
                return start + self._delta({"type": "thinking_delta", "thinking": delta.text})
            case Opened():
                return self._start("tool_use", {"id": delta.id, "name": delta.name, "input": {}})
            case Arguments():
                return self._delta({"type": "input_json_delta", "partial_json": delta.text})
            case Searched():
                start = self._start("server_tool_use", {"id": delta.id, "name": "web_search", "input": {}})
                return start + self._delta(
                    {"type": "input_json_delta", "partial_json": json.dumps({"query": delta.query})}
                )
            case Found():
                content = [
                    {
                        "type": "web_search_result",
                        "url": address,
                        "title": f"About {address}",
                        "encrypted_content": SIGNATURE,
                        "page_age": None,
                    }
                    for address in delta.addresses
                ]
                return self._start("web_search_tool_result", {"tool_use_id": delta.id, "content": content})
            case Finished():
                stop = {"stop_reason": _STOP_REASONS[delta.reason], "stop_sequence": None}
                usage = _anthropic_usage(delta.usage)
                end = _typed({"type": "message_delta", "delta": stop, "usage": usage})
                return self._stop() + end + _typed({"type": "message_stop"})
            case _:
                assert_never(delta)

    def error(self, fail: Fail) -> bytes:
        return event("error", Anthropic().error(fail))

    def malformed(self) -> bytes:
        return b'event: content_block_delta\ndata: {"type": "content_block_delta", "delta": {"te\n\n'

    def _start(self, kind: Block, block: dict[str, Any]) -> bytes:
        stop = self._stop()
        self._open = kind
        self._index += 1
        start = {"type": "content_block_start", "index": self._index, "content_block": {"type": kind, **block}}
        return stop + _typed(start)

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return _typed({"type": "content_block_delta", "index": self._index, "delta": delta})

    def _stop(self) -> bytes:
        if self._open is None:
            return b""
        signed = self._delta({"type": "signature_delta", "signature": SIGNATURE}) if self._open == "thinking" else b""
        self._open = None
        return signed + _typed({"type": "content_block_stop", "index": self._index})


def _cache_marks(value: Any) -> int:
    """How many blocks of the body are marked for the prompt cache, at whatever depth."""
    match value:
        case dict():
            return ("cache_control" in value) + sum(map(_cache_marks, value.values()))
        case list():
            return sum(map(_cache_marks, value))
        case _:
            return 0


def _typed(data: dict[str, Any]) -> bytes:
    return event(data["type"], data)


def _merged(turns: Iterable[tuple[str, list[dict[str, Any]]]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Consecutive messages of one role count as one, as the API documents."""
    return [
        (role, [block for _, blocks in group for block in blocks])
        for role, group in itertools.groupby(turns, key=lambda turn: turn[0])
    ]


def _text(blocks: Iterable[dict[str, Any]]) -> str:
    return "\n".join(block["text"] for block in blocks if block["type"] == "text")


def _parsed(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def _anthropic_message(request: Request, name: str) -> dict[str, Any]:
    return {
        "id": f"msg_{name}",
        "type": "message",
        "role": "assistant",
        "model": request.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 0, "output_tokens": 0},
    }


def _anthropic_usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input - usage.cached - usage.written,
        "output_tokens": usage.output,
        "cache_read_input_tokens": usage.cached,
        "cache_creation_input_tokens": usage.written,
        "output_tokens_details": {"thinking_tokens": usage.reasoning},
    }
