"""OpenAI's Responses: the body of a request, and the decoder of its answer.

Source: https://platform.openai.com/docs/api-reference/responses
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.events import Delta, ReasoningDelta, TextDelta, Waiting, Withdrawn
from agent.gate import json_value, text, tokens
from agent.log import Call, Native, Part, Text, Thinking, Usage
from agent.model import Answer, Finish, ModelError, Request, ToolSpec
from agent.models.content import LoadedImages, instructions_of, with_notices
from agent.models.errors import error_in_place_of_answer, error_in_stream
from agent.models.protocols.answer_text import AnswerText
from agent.models.protocols.lenient_json import arguments_text, json_object, written_text
from agent.models.protocols.reading import (
    as_sent,
    cost,
    cut_off,
    kind_of,
    mapping,
    mappings,
    parsed,
    piece,
    tools_in,
    whole_answer,
)
from agent.models.protocols.reasoning import EFFORTS, effort_of
from agent.models.protocols.responses_input import Conversation, Kept, is_id, with_kept
from agent.models.protocols.wire import SEARCHING, JsonObject, ServerEvent, Target, WireProtocol

WEB_SEARCH = {"type": "web_search"}
"""The provider's web search: https://platform.openai.com/docs/guides/tools-web-search"""

ENCRYPTED_REASONING = "reasoning.encrypted_content"

MIN_OUTPUT_TOKENS = 16
"""A lower limit is refused."""

MESSAGE, REASONING, CALL, SEARCH = "message", "reasoning", "function_call", "web_search_call"
"""The kinds of items that an answer has."""

BETWEEN = "\n\n"
"""Between two messages of an answer, and between two parts of a summary."""

INCOMPLETE: Mapping[str, Finish] = {
    "max_output_tokens": "length",
    "max_tokens": "length",
    "length": "length",
    "content_filter": "refused",
}
"""What the reasons for an incomplete answer mean; others mean that it is cut too."""

UNFINISHED = frozenset({"incomplete", "failed", "cancelled"})
"""What the status of a response is that ended without being whole."""

STEP = re.compile(r"[a-z_]{1,50}_call")
"""The kinds of items that are steps of the provider's own."""

MAX_STEP_LENGTH = 100_000
"""Characters of a step of the provider's own, as JSON, up to which it is kept."""


def body(request: Request, images: LoadedImages, target: Target) -> JsonObject:
    """The body of a request whose answer is streamed. Where the server keeps the conversation, only what it does not
    have yet is in it."""
    conversation = Conversation(target, images)
    instructions = instructions_of(request)
    if instructions and not target.takes("system_role"):
        conversation.add_message(instructions)
    for exchange in with_notices(request.transcript):
        conversation.add(exchange)
    fields: JsonObject = {"model": target.model, "stream": True, "store": False}
    if instructions and target.takes("system_role"):
        fields["instructions"] = instructions
    if target.takes("previous_response_id"):
        fields |= {"store": True, **conversation.known()}
    else:
        fields["input"] = conversation.items
    if target.takes("encrypted_reasoning"):
        fields["include"] = [ENCRYPTED_REASONING]
    return {**fields, **dict(_tools(request, target)), **dict(_settings(request, target))}


def _tools(request: Request, target: Target) -> Iterator[tuple[str, Any]]:
    tools = [_tool(tool) for tool in target.tools_of(request)]
    if target.searches:
        tools.append(WEB_SEARCH)
    if not tools:
        return
    yield "tools", tools
    if request.text_only and target.takes("tool_choice"):
        yield "tool_choice", "none"
    elif request.settings.parallel_tool_calls is not None and target.takes("parallel_tool_calls"):
        yield "parallel_tool_calls", request.settings.parallel_tool_calls


def _tool(tool: ToolSpec) -> JsonObject:
    # By default the schema would be changed into a strict one, in which every argument is required.
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.schema,
        "strict": False,
    }


def _settings(request: Request, target: Target) -> Iterator[tuple[str, Any]]:
    settings = request.settings
    if settings.temperature is not None and target.takes("temperature"):
        yield "temperature", settings.temperature
    if settings.top_p is not None and target.takes("top_p"):
        yield "top_p", settings.top_p
    if settings.max_tokens is not None and target.takes("max_tokens"):
        yield "max_output_tokens", max(target.length(settings.max_tokens), MIN_OUTPUT_TOKENS)
    if settings.reasoning is not None and target.takes("reasoning"):
        effort = EFFORTS[effort_of(settings.reasoning)]
        summary = {"summary": "auto"} if effort != "none" and target.takes("reasoning_summary") else {}
        yield "reasoning", {"effort": effort, **summary}


# The answer


@dataclass(slots=True, eq=False)
class _Item:
    """An item of the answer: what has been streamed of it, and the whole of it as far as it was told."""

    kind: str
    id: str | None = None
    streamed: list[str] = field(default_factory=list)
    text: AnswerText = field(default_factory=AnswerText)
    told: JsonObject = field(default_factory=dict)
    shown: list[str] = field(default_factory=list)
    before: str = ""
    is_done: bool = False
    is_ended: bool = False
    is_refusal: bool = False

    def rest(self, whole: str) -> str:
        """What has not been streamed of the whole; nothing if something else has."""
        streamed = "".join(self.streamed)
        return whole[len(streamed) :] if whole.startswith(streamed) else ""


class ResponsesDecoder:
    """A `Decoder` of Responses."""

    def __init__(self, target: Target, body: JsonObject) -> None:
        self._target = target
        self._body = body
        self._tools = tools_in(body)
        self._items: list[_Item] = []
        self._at: dict[int, _Item] = {}
        self._response: JsonObject = {}
        self._finish: Finish | None = None

    @property
    def has_begun(self) -> bool:
        return bool(self._items)

    @property
    def is_whole(self) -> bool:
        return self._finish is not None

    @property
    def is_done(self) -> bool:
        return self._finish is not None

    def feed(self, event: ServerEvent) -> Sequence[Delta]:
        data = event.data.strip()
        if self.is_done or data in ("", "[DONE]"):
            return ()
        value = parsed(data)
        return self._read(kind_of(value, event.name), value)

    def feed_body(self, body: str) -> Sequence[Delta]:
        whole = parsed(body)
        if "output" not in whole:
            raise error_in_place_of_answer(whole, provider=self._target.provider, model=self._target.model)
        return self._end(whole, piece(whole.get("status")))

    def answer(self) -> Answer:
        if self._finish is None:
            raise cut_off()
        parts, finish = self._parts(), self._finish
        if finish == "stop" and any(item.is_refusal for item in self._items):
            finish = "refused"
        return whole_answer(parts, _usage(mapping(self._response.get("usage"))), finish, self._response.get("model"))

    def _read(self, kind: str, event: JsonObject) -> list[Delta]:
        match kind:
            case "response.output_text.delta":
                return self._add_text(self._item(event, MESSAGE), piece(event.get("delta")))
            case "response.refusal.delta":
                item = self._item(event, MESSAGE)
                item.is_refusal = True
                return self._add_text(item, piece(event.get("delta")))
            case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
                return self._add_reasoning(self._item(event, REASONING), piece(event.get("delta")))
            case "response.reasoning_summary_part.added":
                item = self._item(event, REASONING)
                return self._add_reasoning(item, BETWEEN if item.streamed else "")
            case "response.function_call_arguments.delta":
                self._item(event, CALL).streamed.append(written_text(event.get("delta")))
            case "response.function_call_arguments.done":
                self._item(event, CALL).told |= {name: event[name] for name in ("arguments", "name") if event.get(name)}
            case "response.output_item.added":
                return self._begin(mapping(event.get("item")), event.get("output_index"))
            case "response.output_item.done":
                told = mapping(event.get("item"))
                item = self._item({**event, "item_id": told.get("id")}, piece(told.get("type")))
                return self._complete(item, told)
            case "response.created" | "response.in_progress" | "response.queued":
                self._response = mapping(event.get("response"))
            case "response.completed" | "response.incomplete" | "response.failed" | "response.cancelled":
                return self._end(mapping(event.get("response")), kind.removeprefix("response."))
            case "error":
                raise self._error(event)
            case _ if event.get("object") == "response" and "output" in event:
                return self._end(event, piece(event.get("status")))
        return []

    def _item(self, event: JsonObject, kind: str) -> _Item:
        """The item that the event is about. Servers that are only compatible number all items 0, or give an item
        another id in each event."""
        index, id = event.get("output_index"), as_sent(event.get("item_id"))
        is_numbered = isinstance(index, int)
        at_index = self._at.get(index) if isinstance(index, int) else None
        if at_index is not None and at_index.kind == kind and (not at_index.is_done or at_index.id == id):
            return at_index
        of_kind = [item for item in self._items if item.kind == kind]
        named = next((item for item in of_kind if id is not None and item.id == id), None)
        if named is None and of_kind and not of_kind[-1].is_done and not (is_numbered and at_index is None):
            return of_kind[-1]
        return named or self._add(kind, index, id)

    def _add(self, kind: str, index: object = None, id: str | None = None) -> _Item:
        is_first = not any(item.kind == MESSAGE for item in self._items)
        words = AnswerText(continues=self._target.continues and is_first, tools=self._tools)
        item = _Item(kind, id, text=words)
        self._items.append(item)
        if isinstance(index, int):
            self._at[index] = item
        return item

    def _begin(self, told: JsonObject, index: object) -> list[Delta]:
        kind, id = piece(told.get("type")), as_sent(told.get("id"))
        if any(item.kind == kind and item.id == id is not None for item in self._items):
            return []
        self._add(kind, index, id).told = told
        return [Waiting(SEARCHING)] if kind == SEARCH else []

    def _add_text(self, item: _Item, words: str) -> list[Delta]:
        if item.is_done or not words:
            return []
        item.streamed.append(words)
        return [*self._end_texts(but=item), *self._shown(item, item.text.add(words))]

    def _end_texts(self, *, but: _Item | None = None) -> list[Delta]:
        """The rest of the messages."""
        deltas: list[Delta] = []
        # What may be reasoning is that for certain once another message follows.
        with_calls = but is not None or any(item.kind == CALL for item in self._items)
        for item in self._items:
            if item.kind == MESSAGE and item is not but and not item.is_ended:
                item.is_ended = True
                with_text = any(each.text.has_text for each in self._items)
                deltas += self._shown(item, item.text.end(with_calls=with_calls, with_text=with_text))
        return deltas

    def _shown(self, item: _Item, deltas: Sequence[Delta]) -> list[Delta]:
        """The deltas of a message, set apart from the message before; what is withdrawn is that message only."""
        shown: list[Delta] = []
        for delta in deltas:
            match delta:
                case TextDelta(words) if words:
                    if not item.shown:
                        item.before = BETWEEN if any(each.shown for each in self._items) else ""
                        words = item.before + words
                    item.shown.append(words)
                    shown.append(TextDelta(words))
                case Withdrawn():
                    item.shown.clear()
                    others = "".join(piece for each in self._items for piece in each.shown)
                    shown += [delta, TextDelta(others)] if others else [delta]
                case _:
                    shown.append(delta)
        return shown

    def _add_reasoning(self, item: _Item, words: str) -> list[Delta]:
        if item.is_done or not words:
            return []
        item.streamed.append(words)
        return [ReasoningDelta(words)]

    def _complete(self, item: _Item, told: JsonObject) -> list[Delta]:
        """Takes the whole item, and returns what has not been streamed of it."""
        deltas: list[Delta] = []
        if item.is_done:
            return deltas
        item.told = {**item.told, **told}
        item.id = as_sent(told.get("id")) or item.id
        if item.kind == MESSAGE:
            content = mappings(told.get("content"))
            item.is_refusal |= any(part.get("type") == "refusal" for part in content)
            whole = "".join(piece(part.get("text")) or piece(part.get("refusal")) for part in content)
            deltas = self._add_text(item, item.rest(whole))
        elif item.kind == REASONING:
            deltas = self._add_reasoning(item, item.rest(_reasoning(told)))
        item.is_done = True
        return deltas

    def _end(self, response: JsonObject, status: str) -> list[Delta]:
        """Takes the whole response, and returns what has not been streamed of it. Raises `ModelError` if it failed."""
        self._response |= {name: value for name, value in response.items() if value is not None}
        if status == "completed" and (named := piece(response.get("status"))) in UNFINISHED:
            # Some servers name every end so, and tell in the response that it is another.
            status = named
        if status in UNFINISHED - {"incomplete"} or response.get("error"):
            raise self._error(self._response)
        deltas: list[Delta] = []
        open_items = list(self._items)
        for told in mappings(response.get("output")):
            kind = piece(told.get("type"))
            item = next((item for item in open_items if item.kind == kind), None)
            if item is None:
                item = self._add(kind)
            else:
                open_items.remove(item)
            deltas += self._complete(item, told)
        deltas += self._end_texts()
        reason = piece(mapping(response.get("incomplete_details")).get("reason"))
        self._finish = INCOMPLETE.get(reason, "length") if status == "incomplete" else "stop"
        return deltas

    def _error(self, report: JsonObject) -> ModelError:
        return error_in_stream(report, provider=self._target.provider, model=self._target.model)

    def _parts(self) -> tuple[Part, ...]:
        parts: list[Part] = []
        given: list[JsonObject] = []
        for number, item in enumerate(self._items):
            made = self._parts_of(item, number)
            parts += made
            # An item without the one that led to it is not what came.
            if made or item.kind != MESSAGE:
                given.append(_given(item, number))
        if self._finish == "stop" and all(isinstance(part, Thinking) for part in parts):
            # Some servers send the whole answer as reasoning.
            words = BETWEEN.join(part.text for part in parts if isinstance(part, Thinking) and part.text)
            return (Text(words),) if words.strip() else tuple(parts)
        response_id = text(self._response.get("id")) if self._finish == "stop" else ""
        return with_kept(parts, Kept(tuple(given), response_id), self._body, self._target)

    def _parts_of(self, item: _Item, number: int) -> tuple[Part, ...]:
        match item.kind:
            case "message":
                return _separated(item.text.parts(), item.before)
            case "reasoning":
                words = text(_reasoning(item.told) or "".join(item.streamed))
                signature = as_sent(item.told.get("encrypted_content"))
                is_empty = not words and signature is None
                return () if is_empty else (Thinking(words, signature, item.id, self._target.provider),)
            case "function_call":
                return (Call(_call_id(item, number), text(item.told.get("name")), _call_arguments(item)),)
            case _:
                return self._step(item)

    def _step(self, item: _Item) -> tuple[Native, ...]:
        """A step of the provider's own, such as a web search; nothing if it did not end, cannot be sent back, or is too
        large to be kept."""
        data = json.dumps(json_value(item.told))
        has_ended = item.is_done and item.told.get("status") in ("completed", "failed")
        is_sendable = STEP.fullmatch(item.kind) is not None and is_id(item.told.get("id"))
        if item.kind == SEARCH and not as_sent(mapping(item.told.get("action")).get("type")):
            is_sendable = False
        if not has_ended or not is_sendable or len(data) > MAX_STEP_LENGTH:
            return ()
        return (Native(self._target.provider, data, _summary(item)),)


def _given(item: _Item, number: int) -> JsonObject:
    """What the server gave to an item besides its content."""
    given: JsonObject = {"type": item.kind, "id": item.id}
    match item.kind:
        case "message":
            given["phase"] = as_sent(item.told.get("phase"))
        case "reasoning":
            given["plain"] = bool(_texts(item.told.get("content")))
        case "function_call":
            given["call_id"] = _call_id(item, number)
    return {name: value for name, value in given.items() if value}


def _call_id(item: _Item, number: int) -> str:
    return as_sent(item.told.get("call_id")) or item.id or f"call_{number}"


def _call_arguments(item: _Item) -> str:
    streamed, told = "".join(item.streamed), item.told.get("arguments")
    return arguments_text(streamed if streamed.strip() and json_object(streamed) is not None else written_text(told))


def _reasoning(told: JsonObject) -> str:
    """The reasoning itself if the server tells it, or the summary of it."""
    return BETWEEN.join(_texts(told.get("content")) or _texts(told.get("summary")))


def _texts(parts: object) -> list[str]:
    return [words for part in mappings(parts) if (words := piece(part.get("text")))]


def _separated(parts: Sequence[Part], before: str) -> tuple[Part, ...]:
    """The parts of a message, its text set apart from the message before."""
    first = next((number for number, part in enumerate(parts) if isinstance(part, Text)), None)
    return tuple(
        Text(before + part.text) if isinstance(part, Text) and number == first else part
        for number, part in enumerate(parts)
    )


def _summary(item: _Item) -> str:
    action = mapping(item.told.get("action"))
    queries = action.get("queries")
    searched = text(action.get("query")) or ", ".join(map(text, queries if isinstance(queries, list) else []))
    match action.get("type"):
        case "search":
            return f"Searched the web: {searched}"
        case "open_page":
            return f"Opened {text(action.get('url'))}"
        case "find_in_page" | "find":
            return f"Searched {text(action.get('url'))} for {text(action.get('pattern'))}"
        case _ if item.kind == SEARCH:
            return "Searched the web"
        case _:
            return f"Used {text(item.kind).removesuffix('_call').replace('_', ' ')}"


def _usage(reported: JsonObject) -> Usage:
    read, written = mapping(reported.get("input_tokens_details")), mapping(reported.get("output_tokens_details"))
    return Usage(
        input=tokens(reported.get("input_tokens")),
        output=tokens(reported.get("output_tokens")),
        cache_read=tokens(read.get("cached_tokens")),
        cache_write=tokens(read.get("cache_write_tokens")),
        reasoning=tokens(written.get("reasoning_tokens")),
        cost=cost(reported.get("cost")),
    )


PROTOCOL = WireProtocol(
    name="openai-responses",
    path="/responses",
    body=body,
    decoder=ResponsesDecoder,
    key_header=lambda key: {"Authorization": f"Bearer {key}"},
)
