"""OpenAI's Responses, as the model server of the tests speaks it.

Source: https://platform.openai.com/docs/api-reference/responses
"""

import base64
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, TypeAlias, assert_never

from tests.servers.chat_completions import OpenAI
from tests.servers.model_protocol import (
    NAME,
    Encoder,
    Refused,
    check_tool_names,
    decoded_image,
    event,
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

Item: TypeAlias = dict[str, Any]

ENCRYPTED_REASONING = "reasoning.encrypted_content"

_KNOWN = frozenset(
    [
        "background",
        "conversation",
        "include",
        "input",
        "instructions",
        "max_output_tokens",
        "max_tool_calls",
        "metadata",
        "model",
        "parallel_tool_calls",
        "previous_response_id",
        "prompt",
        "prompt_cache_key",
        "reasoning",
        "safety_identifier",
        "service_tier",
        "store",
        "stream",
        "stream_options",
        "temperature",
        "text",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "truncation",
        "user",
    ]
)
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh")
_INCLUDABLE = (
    ENCRYPTED_REASONING,
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "message.output_text.logprobs",
)
_PREFIXES = {"message": "msg", "reasoning": "rs", "function_call": "fc", "web_search_call": "ws"}
_INCOMPLETE: dict[Reason, str] = {"length": "max_output_tokens"}


@dataclass(slots=True)
class Stored:
    """What the server knows: conversations by the id of their last response, and what it has given out."""

    conversations: dict[str, list[Item]] = field(default_factory=dict)
    items: dict[str, Item] = field(default_factory=dict)
    after_reasoning: dict[str, str] = field(default_factory=dict)
    """By the id of reasoning, the id of the item that followed it."""

    def forget(self) -> None:
        """Loses the conversations, as servers do after a while."""
        self.conversations.clear()
        self.items.clear()

    def give_out(self, output: Sequence[Item]) -> None:
        for before, after in pairwise(output):
            if before["type"] == "reasoning":
                self.after_reasoning[before["id"]] = after["id"]

    def keep(self, response_id: str, conversation: Sequence[Item], output: Sequence[Item]) -> None:
        self.conversations[response_id] = [*conversation, *output]
        self.items |= {item["id"]: item for item in output}


class Responses(OpenAI):
    """Responses, of one request. The errors are those of Chat Completions."""

    provider: Provider = "openai-responses"

    def __init__(self, stored: Stored) -> None:
        self._stored = stored
        self._conversation: list[Item] = []

    def check(self, headers: Mapping[str, str], body: dict[str, Any]) -> None:
        if unknown := sorted(set(body) - _KNOWN):
            raise refuse(f"Unknown parameter: '{unknown[0]}'.", "unknown_parameter")
        if not body.get("model"):
            raise refuse("Missing required parameter: 'model'.", "missing_required_parameter")
        if not body.get("input"):
            raise refuse("Missing required parameter: 'input'.", "missing_required_parameter")
        if (limit := body.get("max_output_tokens")) is not None and limit < 16:
            raise refuse(
                f"Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16, but got {limit} "
                "instead.",
                "integer_below_min_value",
            )
        if (effort := (body.get("reasoning") or {}).get("effort", "low")) not in _EFFORTS:
            raise refuse(f"Invalid value: '{effort}'. Supported values are: {', '.join(_EFFORTS)}.", "invalid_value")
        for included in body.get("include") or ():
            if included not in _INCLUDABLE:
                raise refuse(f"Invalid value: '{included}'. (include)", "invalid_value")

    def tools(self, body: dict[str, Any]) -> tuple[str, ...]:
        names = []
        for number, tool in enumerate(body.get("tools") or ()):
            match tool["type"]:
                case "function" if "function" in tool:
                    raise refuse(f"Missing required parameter: 'tools[{number}].name'.", "missing_required_parameter")
                case "function":
                    names.append(tool["name"])
                case "web_search" | "web_search_preview":
                    pass
                case kind:
                    raise refuse(f"Invalid value: '{kind}'. (tools[{number}].type)", "invalid_value")
        check_tool_names(names)
        return tuple(names)

    def read(self, body: dict[str, Any]) -> tuple[Message, ...]:
        given = body["input"]
        new = [{"role": "user", "content": given}] if isinstance(given, str) else given
        new = [self._item(item, number) for number, item in enumerate(new)]
        before = self._before(body.get("previous_response_id"))
        for item in new:
            if before and "id" in item and item["id"] in {other.get("id") for other in before}:
                raise refuse(f"Duplicate item found with id {item['id']}. Remove duplicate items from your input.")
        self._check_reasoning(new)
        self._conversation = [*before, *new]
        self._check_results(self._conversation)
        messages = self._messages()
        instructions = body.get("instructions")
        return (Message("system", instructions), *messages) if instructions else messages

    def _before(self, response_id: str | None) -> list[Item]:
        if response_id is None:
            return []
        if response_id not in self._stored.conversations:
            message = f"Previous response with id '{response_id}' not found."
            raise Refused(Fail(400, message=message, code="previous_response_not_found"))
        return self._stored.conversations[response_id]

    def _item(self, item: Item, number: int) -> Item:
        """The item as it is kept. Raises Refused if its form is not the documented one."""
        where = f"input[{number}]"
        kind = item.get("type", "message")
        if kind == "item_reference":
            return self._referenced(item["id"])
        self._check_id(item, kind, where)
        match kind:
            case "message":
                self._check_message(item, where)
            case "function_call":
                self._check_call(item, where)
            case "function_call_output":
                if not isinstance(item["output"], str):
                    self._contents(item["output"], where, ("input_text", "input_image", "input_file"))
            case "reasoning":
                return self._read_reasoning(item, where)
            case "web_search_call":
                if not item["id"] or not item["status"] or not item["action"]["type"]:
                    raise refuse(f"Missing required parameter: '{where}.action'.", "missing_required_parameter")
            case _:
                raise refuse(f"Invalid value: '{kind}'. ({where}.type)", "invalid_value")
        return {**item, "type": kind}

    def _check_id(self, item: Item, kind: str, where: str) -> None:
        if "id" not in item or item["id"] is None:
            return
        prefix = _PREFIXES.get(kind, "")
        if not NAME.fullmatch(item["id"]) or not item["id"].startswith(prefix):
            raise refuse(f"Invalid '{where}.id': '{item['id']}'. Expected an ID that begins with '{prefix}'.")
        if len(item["id"]) > 64:
            raise refuse(f"Invalid '{where}.id': string too long. Expected a string with maximum length 64.")

    def _check_message(self, item: Item, where: str) -> None:
        content = item["content"]
        match item["role"]:
            case "assistant":
                supported: tuple[str, ...] = ("output_text", "refusal")
            case "user" | "system" | "developer":
                supported = ("input_text", "input_image", "input_file")
            case role:
                raise refuse(f"Invalid value: '{role}'. ({where}.role)", "invalid_value")
        if not isinstance(content, str):
            self._contents(content, f"{where}.content", supported)

    def _contents(self, parts: Sequence[Item], where: str, supported: Sequence[str]) -> tuple[str, tuple[bytes, ...]]:
        texts, images = [], []
        for number, part in enumerate(parts):
            if part["type"] not in supported:
                raise refuse(
                    f"Invalid value: '{part['type']}'. Supported values are: {', '.join(supported)}. "
                    f"({where}[{number}])",
                    "invalid_value",
                )
            match part["type"]:
                case "input_image":
                    images.append(self._picture_of(part, f"{where}[{number}]"))
                case "refusal":
                    texts.append(part["refusal"])
                case _:
                    texts.append(part["text"])
        return "\n".join(texts), tuple(images)

    def _picture_of(self, part: Item, where: str) -> bytes:
        if not isinstance(part["image_url"], str):
            raise refuse(f"Invalid type for '{where}.image_url': expected an image URL, but got an object instead.")
        if part.get("detail", "auto") not in ("low", "high", "auto", "original"):
            raise refuse(f"Invalid value: '{part['detail']}'. ({where}.detail)", "invalid_value")
        media_type, separator, data = part["image_url"].removeprefix("data:").partition(";base64,")
        if not separator:
            raise refuse(f"Error while downloading {part['image_url'][:80]}. ({where}.image_url)")
        return decoded_image(media_type, data, where)

    def _check_call(self, item: Item, where: str) -> None:
        if not NAME.fullmatch(item["name"]):
            raise refuse(f"Invalid '{where}.name': string does not match pattern. Expected '^[a-zA-Z0-9_-]+$'.")
        if not isinstance(item["arguments"], str):
            raise refuse(f"Invalid type for '{where}.arguments': expected a string.")
        if not item["call_id"] or len(item["call_id"]) > 64:
            raise refuse(f"Invalid '{where}.call_id': expected a string of 1 to 64 characters.")

    def _referenced(self, item_id: str) -> Item:
        if item_id not in self._stored.items:
            raise Refused(Fail(404, message=f"Item with id '{item_id}' not found.", code="not_found"))
        return self._stored.items[item_id]

    def _read_reasoning(self, item: Item, where: str) -> Item:
        if not item.get("id"):
            raise refuse(f"Missing required parameter: '{where}.id'.", "missing_required_parameter")
        if "summary" not in item:
            raise refuse(f"Missing required parameter: '{where}.summary'.", "missing_required_parameter")
        if item.get("content"):
            raise refuse(f"Invalid '{where}.content': array too long. Expected an array with maximum length 0.")
        if item.get("encrypted_content") is None and item["id"] not in self._stored.items:
            raise Refused(
                Fail(
                    404,
                    message=f"Item with id '{item['id']}' not found. Items are not persisted when `store` is set to "
                    "false. Try again with `store` set to true, or remove this item from your input.",
                )
            )
        if item.get("encrypted_content") not in (None, encrypted(item["id"])):
            raise refuse(
                f"The encrypted content for item {item['id']} could not be verified.", "invalid_encrypted_content"
            )
        return item

    def _check_reasoning(self, items: Sequence[Item]) -> None:
        """Reasoning stands before the item that it led to, and that item has its reasoning before it."""
        required = {after: before for before, after in self._stored.after_reasoning.items()}
        for number, item in enumerate(items):
            following = items[number + 1] if number + 1 < len(items) else {}
            if item["type"] == "reasoning":
                if following.get("id") != self._stored.after_reasoning.get(item["id"], following.get("id", "none")):
                    raise refuse(
                        f"Item '{item['id']}' of type 'reasoning' was provided without its required following item."
                    )
            elif (needed := required.get(item.get("id") or "")) is not None:
                before = items[number - 1] if number else {}
                if before.get("id") != needed:
                    raise refuse(
                        f"Item '{item['id']}' of type '{item['type']}' was provided without its required 'reasoning' "
                        f"item: '{needed}'."
                    )

    def _check_results(self, items: Sequence[Item]) -> None:
        asked: dict[str, bool] = {}
        for item in items:
            if item["type"] == "function_call":
                if item["call_id"] in asked:
                    raise refuse(f"Duplicate function call with call_id {item['call_id']}.")
                asked[item["call_id"]] = False
            elif item["type"] == "function_call_output":
                if asked.get(item["call_id"]) is not False:
                    raise refuse(f"No tool call found for function call output with call_id {item['call_id']}.")
                asked[item["call_id"]] = True
        if missing := [call_id for call_id, has_output in asked.items() if not has_output]:
            raise refuse(f"No tool output found for function call {missing[0]}.")

    def _messages(self) -> tuple[Message, ...]:
        """The conversation as messages: the items of an answer are one, as they are in the other protocols."""
        messages: list[Message] = []
        for item in self._conversation:
            message = self._message(item)
            last = messages[-1] if messages else None
            if last is not None and last.role == message.role == "assistant":
                texts = [text for text in (last.text, message.text) if text]
                thoughts = last.thoughts + message.thoughts
                message = Message("assistant", "\n".join(texts), (), thoughts, (*last.calls, *message.calls))
                messages.pop()
            messages.append(message)
        return tuple(message for message in messages if message != Message("assistant"))

    def _message(self, item: Item) -> Message:
        match item["type"]:
            case "message":
                content = item["content"]
                supported = ("input_text", "input_image", "output_text", "refusal")
                text, images = (content, ()) if isinstance(content, str) else self._contents(content, "", supported)
                role = "system" if item["role"] == "developer" else item["role"]
                return Message(role, text, images)
            case "function_call":
                return Message("assistant", calls=(ToolCall(item["call_id"], item["name"], item["arguments"]),))
            case "function_call_output":
                output = item["output"]
                supported = ("input_text", "input_image")
                text, images = (output, ()) if isinstance(output, str) else self._contents(output, "", supported)
                return Message("tool", text, images, call_id=item["call_id"])
            case "reasoning":
                return Message("assistant", thoughts="".join(part["text"] for part in item["summary"]))
            case _:
                return Message("assistant")

    def encoder(self, request: Request, name: str) -> Encoder:
        return _ResponsesEncoder(_Output(request, name), self._finish)

    def whole(self, request: Request, name: str, deltas: Sequence[Delta]) -> dict[str, Any]:
        encoder = _ResponsesEncoder(_Output(request, name), self._finish)
        encoder.begin()
        for delta in deltas:
            encoder.encode(delta)
        return encoder.response

    def _finish(self, response: dict[str, Any]) -> None:
        self._stored.give_out(response["output"])
        if response["store"] and response["status"] == "completed":
            self._stored.keep(response["id"], self._conversation, response["output"])

    def too_long(self, fault: TooLong) -> Fail:
        return Fail(
            400,
            message="Your input exceeds the context window of this model. Please adjust your input and try again.",
            code="context_length_exceeded",
        )


def encrypted(item_id: str) -> str:
    return base64.b64encode(f"encrypted by the model server of the tests: {item_id}".encode()).decode()


class _Output:
    """The response object, and the ids of what is in it."""

    def __init__(self, request: Request, name: str) -> None:
        self._name = name
        self.is_encrypted = ENCRYPTED_REASONING in (request.body.get("include") or ())
        self.response: dict[str, Any] = {
            "id": f"resp_{name}",
            "object": "response",
            "created_at": int(time.time()),
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "instructions": request.body.get("instructions"),
            "metadata": request.body.get("metadata") or {},
            "model": request.model,
            "output": [],
            "parallel_tool_calls": request.body.get("parallel_tool_calls", True),
            "previous_response_id": request.body.get("previous_response_id"),
            "store": request.body.get("store", True),
            "tool_choice": request.body.get("tool_choice", "auto"),
            "tools": request.body.get("tools") or [],
            "usage": None,
        }

    def new_id(self, kind: str) -> str:
        return f"{_PREFIXES[kind]}_{self._name}_{len(self.response['output'])}"


class _ResponsesEncoder:
    def __init__(self, output: _Output, finish: Any) -> None:
        self._output = output
        self._finish = finish
        self._item: Item | None = None
        self._numbers = iter(range(10**9))

    @property
    def response(self) -> dict[str, Any]:
        return self._output.response

    def begin(self) -> bytes:
        return self._told("response.created", response=self.response) + self._told(
            "response.in_progress", response=self.response
        )

    def encode(self, delta: Delta) -> bytes:
        match delta:
            case Text():
                return self._open_message() + self._add_text(delta.text)
            case Thought():
                return self._open_reasoning() + self._add_thought(delta.text)
            case Opened():
                call = {"call_id": delta.id, "name": delta.name, "arguments": ""}
                return self._open("function_call", **call, status="in_progress")
            case Arguments():
                assert self._item is not None, "arguments follow their call"
                self._item["arguments"] += delta.text
                return self._about("response.function_call_arguments.delta", delta=delta.text)
            case Searched():
                action = {"type": "search", "query": delta.query}
                opened = self._open("web_search_call", status="in_progress", action=action)
                return opened + b"".join(
                    self._about(f"response.web_search_call.{state}") for state in ("in_progress", "searching")
                )
            case Found():
                assert self._item is not None, "what is found follows its search"
                self._item["status"] = "completed"
                return self._about("response.web_search_call.completed") + self._close()
            case Finished():
                return self._close() + self._end(delta.reason, delta.usage)
            case _:
                assert_never(delta)

    def error(self, fail: Fail) -> bytes:
        error = OpenAI().error(fail)["error"]
        return self._told("error", code=error["code"], message=error["message"], param=None)

    def malformed(self) -> bytes:
        return b'event: response.output_text.delta\ndata: {"type": "response.output_text.delta", "del\n\n'

    def _open_message(self) -> bytes:
        if self._item is not None and self._item["type"] == "message":
            return b""
        opened = self._open("message", role="assistant", status="in_progress", content=[])
        assert self._item is not None
        self._item["content"].append({"type": "output_text", "text": "", "annotations": []})
        part = self._item["content"][0]
        return opened + self._about("response.content_part.added", content_index=0, part=part)

    def _open_reasoning(self) -> bytes:
        if self._item is not None and self._item["type"] == "reasoning":
            return b""
        opened = self._open("reasoning", summary=[])
        assert self._item is not None
        self._item["summary"].append({"type": "summary_text", "text": ""})
        part = self._item["summary"][0]
        return opened + self._about("response.reasoning_summary_part.added", summary_index=0, part=part)

    def _add_text(self, words: str) -> bytes:
        assert self._item is not None
        self._item["content"][0]["text"] += words
        return self._about("response.output_text.delta", content_index=0, delta=words, logprobs=[])

    def _add_thought(self, words: str) -> bytes:
        assert self._item is not None
        self._item["summary"][0]["text"] += words
        return self._about("response.reasoning_summary_text.delta", summary_index=0, delta=words)

    def _open(self, kind: str, **fields: Any) -> bytes:
        closed = self._close()
        self._item = {"type": kind, "id": self._output.new_id(kind), **fields}
        return closed + self._told(
            "response.output_item.added", output_index=len(self.response["output"]), item=self._item
        )

    def _close(self) -> bytes:
        item, told = self._item, b""
        if item is None:
            return told
        match item["type"]:
            case "message":
                item["status"], part = "completed", item["content"][0]
                told += self._about("response.output_text.done", content_index=0, text=part["text"], logprobs=[])
                told += self._about("response.content_part.done", content_index=0, part=part)
            case "reasoning":
                part = item["summary"][0]
                told += self._about("response.reasoning_summary_text.done", summary_index=0, text=part["text"])
                told += self._about("response.reasoning_summary_part.done", summary_index=0, part=part)
                if self._output.is_encrypted:
                    item["encrypted_content"] = encrypted(item["id"])
            case "function_call":
                item["status"] = "completed"
                told += self._about(
                    "response.function_call_arguments.done", arguments=item["arguments"], name=item["name"]
                )
            case _:
                item["status"] = "completed" if item["status"] == "completed" else "failed"
        told += self._told("response.output_item.done", output_index=len(self.response["output"]), item=item)
        self.response["output"].append(item)
        self._item = None
        return told

    def _end(self, reason: Reason, usage: Usage) -> bytes:
        why = _INCOMPLETE.get(reason)
        self.response["status"] = "incomplete" if why else "completed"
        self.response["incomplete_details"] = {"reason": why} if why else None
        if usage.input or usage.output:
            self.response["usage"] = _usage(usage)
        self._finish(self.response)
        return self._told(f"response.{self.response['status']}", response=self.response)

    def _about(self, kind: str, **fields: Any) -> bytes:
        """An event about the open item."""
        assert self._item is not None
        index = len(self.response["output"])
        return self._told(kind, item_id=self._item["id"], output_index=index, **fields)

    def _told(self, kind: str, **fields: Any) -> bytes:
        return event(kind, {"type": kind, "sequence_number": next(self._numbers), **fields})


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": usage.written},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.input + usage.output,
    }
