"""OpenAI's Chat Completions, as the model server of the tests speaks it.

Source: https://platform.openai.com/docs/api-reference/chat
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any, assert_never

from tests.servers.model_protocol import Encoder, bearer, check_tool_names, decoded_image, end_of, event, gather, refuse
from tests.servers.model_script import (
    Arguments,
    Delta,
    Fail,
    Finished,
    Found,
    Message,
    Opened,
    Provider,
    Request,
    Searched,
    Text,
    Thought,
    ToolCall,
    TooLong,
    Usage,
)

_OPENAI_ERRORS = {
    400: ("invalid_request_error", None, "Invalid request."),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    403: ("invalid_request_error", "unsupported_country_region_territory", "Country or region not supported."),
    404: ("invalid_request_error", "model_not_found", "The model does not exist or you do not have access to it."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached for requests. Please try again later."),
    500: ("server_error", None, "The server had an error while processing your request. Sorry about that!"),
    503: ("server_error", "server_is_overloaded", "The engine is currently overloaded, please try again later."),
}


class OpenAI:
    """Chat Completions."""

    provider: Provider = "openai"
    no_key = "You didn't provide an API key. You need to provide your API key in an Authorization header."

    def key(self, headers: Mapping[str, str]) -> str | None:
        return bearer(headers)

    def check(self, headers: Mapping[str, str], body: dict[str, Any]) -> None:
        if not body.get("model"):
            raise refuse("you must provide a model parameter")
        if not body.get("messages"):
            raise refuse(
                "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array "
                "instead.",
                "empty_array",
            )
        if body.get("tools") == []:
            raise refuse("Invalid 'tools': empty array. Expected an array with minimum length 1.", "empty_array")

    def tools(self, body: dict[str, Any]) -> tuple[str, ...]:
        names = tuple(tool["function"]["name"] for tool in body.get("tools") or ())
        check_tool_names(names)
        return names

    def read(self, body: dict[str, Any]) -> tuple[Message, ...]:
        messages = tuple(self._message(raw, number) for number, raw in enumerate(body["messages"]))
        self._check_results(messages)
        return messages

    def _message(self, raw: dict[str, Any], number: int) -> Message:
        content = raw.get("content")
        match raw["role"]:
            case "system" | "developer":
                text, images = self._content(content, number, "system")
                return Message("system", text)
            case "user":
                text, images = self._content(content, number, "user")
                return Message("user", text, images)
            case "tool":
                text, images = self._content(content, number, "tool")
                return Message("tool", text, call_id=raw["tool_call_id"])
            case "assistant":
                return self._assistant(raw, number)
            case role:
                raise refuse(
                    f"Invalid value: '{role}'. Supported values are: 'system', 'assistant', 'user', 'function', "
                    "'tool', and 'developer'."
                )

    def _assistant(self, raw: dict[str, Any], number: int) -> Message:
        calls = tuple(
            ToolCall(call["id"], call["function"]["name"], call["function"]["arguments"])
            for call in raw.get("tool_calls") or ()
        )
        if raw.get("content") is None and not calls:
            raise refuse(f"Invalid value for 'content': expected a string, got null. (messages.[{number}].content)")
        if raw.get("tool_calls") == []:
            raise refuse(f"Invalid 'messages[{number}].tool_calls': empty array.", "empty_array")
        if not all(isinstance(call.arguments, str) for call in calls):
            raise refuse(f"Invalid type for 'messages[{number}].tool_calls[0].function.arguments': expected a string.")
        text, _ = self._content(raw.get("content") or "", number, "assistant")
        return Message("assistant", text, thoughts=raw.get("reasoning_content") or "", calls=calls)

    def _content(self, content: Any, number: int, role: str) -> tuple[str, tuple[bytes, ...]]:
        if isinstance(content, str):
            return content, ()
        if not isinstance(content, list):
            raise refuse(f"Invalid type for 'messages[{number}].content': expected a string or an array of objects.")
        texts, images = [], []
        for part in content:
            match part["type"]:
                case "text":
                    texts.append(part["text"])
                case "image_url" if role == "user":
                    images.append(self._picture(part["image_url"]["url"], number))
                case "image_url":
                    raise refuse(
                        f"Invalid 'messages[{number}]'. Image URLs are only allowed for messages with role 'user', but "
                        f"this message with role '{role}' contains an image URL."
                    )
                case kind:
                    raise refuse(f"Invalid value: '{kind}'. (messages[{number}].content)")
        return "\n".join(texts), tuple(images)

    def _picture(self, url: str, number: int) -> bytes:
        media_type, separator, data = url.removeprefix("data:").partition(";base64,")
        if not separator:
            raise refuse(f"Failed to download image from {url[:80]}. (messages[{number}].content)")
        return decoded_image(media_type, data, f"messages[{number}].content")

    def _check_results(self, messages: Sequence[Message]) -> None:
        asked: list[str] = []
        answered: set[str] = set()
        for message in messages:
            if message.call_id is None:
                self._check_all_answered(asked, answered)
                asked, answered = [call.id for call in message.calls], set()
                if len(set(asked)) != len(asked):
                    raise refuse(f"Duplicate value for 'tool_call_id' in 'tool_calls': {', '.join(asked)}.")
            elif not asked:
                raise refuse(
                    "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with "
                    "'tool_calls'."
                )
            elif message.call_id not in asked:
                raise refuse(
                    f"Invalid parameter: 'tool_call_id' of '{message.call_id}' not found in 'tool_calls' of previous "
                    "message."
                )
            elif message.call_id in answered:
                raise refuse(f"Duplicate value for 'tool_call_id' of '{message.call_id}' in message[role=tool].")
            else:
                answered.add(message.call_id)
        self._check_all_answered(asked, answered)

    def _check_all_answered(self, asked: Sequence[str], answered: set[str]) -> None:
        if missing := [call_id for call_id in asked if call_id not in answered]:
            raise refuse(
                "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
                f"'tool_call_id'. The following tool_call_ids did not have response messages: {', '.join(missing)}"
            )

    def encoder(self, request: Request, name: str) -> Encoder:
        return _OpenAIEncoder(request, name)

    def whole(self, request: Request, name: str, deltas: Sequence[Delta]) -> dict[str, Any]:
        text, thoughts, calls = gather(deltas)
        end = end_of(deltas)
        message: dict[str, Any] = {"role": "assistant", "content": text or None, "refusal": None}
        if thoughts:
            message["reasoning_content"] = thoughts
        if calls:
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in calls
            ]
        return {
            "id": f"chatcmpl-{name}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": request.model,
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": end.reason}],
            "usage": _openai_usage(end.usage),
        }

    def error(self, fail: Fail) -> dict[str, Any]:
        kind, code, message = _OPENAI_ERRORS.get(fail.status, ("server_error", None, f"Error {fail.status}."))
        return {
            "error": {
                "message": message if fail.message is None else fail.message,
                "type": fail.code if fail.code == "insufficient_quota" else kind,
                "param": None,
                "code": fail.code or code,
            }
        }

    def too_long(self, fault: TooLong) -> Fail:
        return Fail(
            400,
            message=f"This model's maximum context length is {fault.limit} tokens. However, your messages resulted in "
            f"{fault.tokens} tokens. Please reduce the length of the messages.",
            code="context_length_exceeded",
        )

    def models(self) -> dict[str, Any]:
        model = {"id": "test-model", "object": "model", "created": 1_700_000_000, "owned_by": "tests"}
        return {"object": "list", "data": [model]}


class _OpenAIEncoder:
    def __init__(self, request: Request, name: str) -> None:
        self._frame = {
            "id": f"chatcmpl-{name}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": request.model,
        }
        self._wants_usage = bool((request.body.get("stream_options") or {}).get("include_usage"))
        self._calls = -1

    def begin(self) -> bytes:
        return self._chunk({"role": "assistant", "content": ""})

    def encode(self, delta: Delta) -> bytes:
        match delta:
            case Text():
                return self._chunk({"content": delta.text})
            case Thought():
                return self._chunk({"reasoning_content": delta.text})
            case Opened():
                self._calls += 1
                function = {"name": delta.name, "arguments": ""}
                call = {"index": self._calls, "id": delta.id, "type": "function", "function": function}
                return self._chunk({"tool_calls": [call]})
            case Arguments():
                return self._chunk({"tool_calls": [{"index": self._calls, "function": {"arguments": delta.text}}]})
            case Searched() | Found():
                return b""
            case Finished():
                return self._chunk({}, delta.reason) + self._usage(delta.usage) + b"data: [DONE]\n\n"
            case _:
                assert_never(delta)

    def error(self, fail: Fail) -> bytes:
        return event(None, OpenAI().error(fail))

    def malformed(self) -> bytes:
        return b'data: {"id": "chatcmpl-broken", "choices": [{"delta": {"cont\n\n'

    def _chunk(self, delta: dict[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return event(None, {**self._frame, "choices": [choice]})

    def _usage(self, usage: Usage) -> bytes:
        told = self._wants_usage and (usage.input or usage.output)
        return event(None, {**self._frame, "choices": [], "usage": _openai_usage(usage)}) if told else b""


def _openai_usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }
