"""Anthropic's Messages: the body of a request, and the decoder of its answer.

Source: https://docs.anthropic.com/en/api/messages
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn, assert_never

from agent.events import Delta, ReasoningDelta, Waiting
from agent.gate import json_value, text, tokens
from agent.log import Call, MessagesRead, ModelAnswered, Native, Part, Text, Thinking, Usage
from agent.model import Answer, Finish, ModelError, ModelSettings, Request, ToolSpec
from agent.models.content import (
    ContentPart,
    LoadedImages,
    call_as_text,
    image_content,
    instructions_of,
    joined_text,
    message_content,
    notice_text,
    result_as_text,
    result_text,
    with_notices,
)
from agent.models.errors import MESSAGES, error_in_place_of_answer, error_in_stream
from agent.models.protocols.answer_text import AnswerText
from agent.models.protocols.call_forms import plain_name
from agent.models.protocols.history import arguments_object, id_of, pictures_of
from agent.models.protocols.reading import (
    as_sent,
    cost,
    cut_off,
    kind_of,
    mapping,
    mappings,
    parsed,
    piece,
    stored,
    tools_in,
    whole_answer,
)
from agent.models.protocols.reasoning import budget_of, effort_of
from agent.models.protocols.tool_calls import CallAssembler
from agent.models.protocols.wire import SEARCHING, JsonObject, ServerEvent, Target, WireProtocol
from agent.transcript import Exchange, Result, Results, SystemNote

REDACTED = "redacted_thinking"
UNSIGNED = "unsigned_thinking"
"""The ids of thinking that the provider hid, and of thinking of a compatible server that signs none."""

THINKING = ("thinking", REDACTED)
"""The types of blocks of thinking."""

UNREASONED: dict[str, Any] = {"type": "thinking", "thinking": " "}
"""The thinking of an answer that has none, for compatible servers that require it."""

DEFAULT_MAX_TOKENS = 16_384
"""The protocol requires a limit; every current model of Anthropic's takes this one."""

NO_THINKING = {"type": "disabled"}
MIN_BUDGET = 1024
MIN_TOP_P_OF_THINKING = 0.95

_TAKES_BUDGET = re.compile(
    r"claude-(?:[23]|instant|(?:opus|sonnet|haiku)-4(?:-[015])?(?:$|[-@:]\d{8}|[-@:]v\d|-latest))"
)
"""Models of Anthropic's that take a budget of thinking; the later ones take an effort."""

WEB_SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 5}
"""The provider's web search: https://docs.anthropic.com/en/docs/agents-and-tools/tool-use/web-search-tool"""

CACHE_BREAKPOINT = {"cache_control": {"type": "ephemeral"}}
"""Later requests may read everything up to here from the prompt cache, in the order of tools, instructions, messages.
At most four breakpoints are allowed in a request.

Source: https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching
"""

CACHEABLE = frozenset({"text", "image", "tool_use", "tool_result"})
"""The types of blocks that may carry a breakpoint."""

Message = dict[str, Any]
Block = dict[str, Any]


# The body


def body(request: Request, images: LoadedImages, target: Target) -> JsonObject:
    """The body of a request whose answer is streamed."""
    messages = _messages(request, images, target)
    fields: JsonObject = {"model": target.model, "messages": messages, "stream": True}
    if instructions := instructions_of(request):
        if target.takes("system_role"):
            fields["system"] = [_marked(_block(instructions), target)]
        elif messages and messages[0]["role"] == "user":
            messages[0] = {"role": "user", "content": [_block(instructions), *_blocks(messages[0]["content"])]}
        else:
            messages.insert(0, {"role": "user", "content": instructions})
    fields.update(_tools(request, target))
    fields.update(_settings(request, messages, target))
    return fields


def _tools(request: Request, target: Target) -> Iterator[tuple[str, Any]]:
    declared = [_tool(tool) for tool in target.tools_of(request)]
    if not (tools := [*declared, *([WEB_SEARCH] if target.searches else [])]):
        return
    yield "tools", [*tools[:-1], _marked(tools[-1], target)]
    if not target.takes("tool_choice"):
        return
    if request.text_only:
        yield "tool_choice", {"type": "none"}
    elif request.settings.parallel_tool_calls is not None and target.takes("parallel_tool_calls"):
        disabled = not request.settings.parallel_tool_calls
        yield "tool_choice", {"type": "auto", "disable_parallel_tool_use": disabled}


def _settings(request: Request, messages: Sequence[Message], target: Target) -> Iterator[tuple[str, Any]]:
    """The settings. Thinking excludes a temperature, and is a part of `max_tokens`.

    Source: https://docs.anthropic.com/en/docs/build-with-claude/extended-thinking
    """
    settings = request.settings
    if not target.takes("long_answers"):
        settings = replace(settings, max_tokens=target.length(settings.max_tokens or DEFAULT_MAX_TOKENS))
    thinking = _thinking_fields(settings, messages, target) if target.takes("reasoning") else {}
    yield from thinking.items()
    thinks = bool(thinking) and thinking["thinking"] != NO_THINKING
    if settings.temperature is not None and target.takes("temperature") and not thinks:
        yield "temperature", settings.temperature
    if settings.top_p is not None and target.takes("top_p") and not (thinks and settings.top_p < MIN_TOP_P_OF_THINKING):
        yield "top_p", settings.top_p
    if settings.max_tokens is not None:
        yield "max_tokens", settings.max_tokens
    elif thinks and settings.reasoning is not None:
        yield "max_tokens", DEFAULT_MAX_TOKENS + max(MIN_BUDGET, budget_of(settings.reasoning))
    else:
        yield "max_tokens", DEFAULT_MAX_TOKENS


def _thinking_fields(settings: ModelSettings, messages: Sequence[Message], target: Target) -> JsonObject:
    """How much to think, in the form that the model takes; a short answer leaves no room for a budget, and with
    one Anthropic does not go on from calls without thinking, as those of another model are."""
    if settings.reasoning is None:
        return {}
    effort = effort_of(settings.reasoning)
    if effort == "off":
        return {"thinking": NO_THINKING}
    is_claude = "claude" in target.model
    if is_claude and not _TAKES_BUDGET.search(target.model):
        thinking = {"type": "adaptive", "display": "summarized"}
        return {"thinking": thinking, "output_config": {"effort": "low" if effort == "minimal" else effort}}
    budget = max(MIN_BUDGET, budget_of(settings.reasoning))
    if settings.max_tokens is not None:
        budget = min(budget, settings.max_tokens - MIN_BUDGET)
    if budget < MIN_BUDGET or (is_claude and _has_calls_without_thinking(messages)):
        return {}
    return {"thinking": {"type": "enabled", "budget_tokens": budget}}


def _has_calls_without_thinking(messages: Sequence[Message]) -> bool:
    """Whether the last answer called tools and does not begin with its thinking."""
    answer = next((message for message in reversed(messages) if message["role"] == "assistant"), None)
    blocks = _blocks(answer["content"]) if answer is not None else []
    return any(block["type"] == "tool_use" for block in blocks) and blocks[0]["type"] not in THINKING


def _messages(request: Request, images: LoadedImages, target: Target) -> list[Message]:
    """The conversation, with cache breakpoints at its end and before people's newest messages: what comes before those
    is the same in later requests, what comes after them may change."""
    messages: list[Message] = []
    last_stable = -1
    for exchange in with_notices(request.transcript):
        message = _message(exchange, images, target)
        if not message["content"]:
            continue
        if messages and messages[-1]["role"] == message["role"] and not target.takes("consecutive_roles"):
            messages[-1] = _merged(messages[-1], message)
            continue
        if isinstance(exchange, MessagesRead):
            last_stable = len(messages) - 1
        messages.append(message)
    if target.takes("cache_control"):
        for index in {last_stable, len(messages) - 1} - {-1}:
            messages[index] = _with_breakpoint(messages[index])
    return messages


def _message(exchange: Exchange, images: LoadedImages, target: Target) -> Message:
    match exchange:
        case MessagesRead():
            return {"role": "user", "content": _content(message_content(exchange, images))}
        case ModelAnswered():
            return {"role": "assistant", "content": _answer(exchange, target)}
        case Results():
            return {"role": "user", "content": _results(exchange, images, target)}
        case SystemNote():
            return {"role": "user", "content": notice_text(exchange)}
        case _:
            assert_never(exchange)


def _merged(first: Message, second: Message) -> Message:
    return {**first, "content": [*_blocks(first["content"]), *_blocks(second["content"])]}


def _blocks(content: str | list[Block]) -> list[Block]:
    return [_block(content)] if isinstance(content, str) else content


def _marked(block: Block, target: Target) -> Block:
    return {**block, **CACHE_BREAKPOINT} if target.takes("cache_control") else block


def _with_breakpoint(message: Message) -> Message:
    """The message with a breakpoint at its last block that can carry one, if any."""
    blocks = _blocks(message["content"])
    last = next((index for index in reversed(range(len(blocks))) if blocks[index]["type"] in CACHEABLE), None)
    if last is None:
        return message
    return {**message, "content": [*blocks[:last], {**blocks[last], **CACHE_BREAKPOINT}, *blocks[last + 1 :]]}


def _content(parts: list[ContentPart]) -> str | list[Block]:
    text = joined_text(parts)
    return [_block(part) for part in parts] if text is None else text


def _block(part: ContentPart) -> Block:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    return {"type": "image", "source": {"type": "base64", "media_type": part.media_type, "data": part.data}}


def _answer(answered: ModelAnswered, target: Target) -> str | list[Block]:
    parts = answered.parts
    if len(parts) == 1 and isinstance(parts[0], Text):
        return parts[0].text if parts[0].text.strip() else ""
    blocks = list(_answer_blocks(answered, target))
    if blocks and blocks[0]["type"] not in THINKING and not target.takes("answers_without_reasoning"):
        blocks.insert(0, UNREASONED)
    # A message of thinking alone is rejected, and carries no information.
    return blocks if any(block["type"] in ("text", "tool_use") for block in blocks) else ""


def _answer_blocks(answered: ModelAnswered, target: Target) -> Iterator[Block]:
    native = _native_blocks(answered, target)
    for index, part in enumerate(answered.parts):
        match part:
            case Text():
                if part.text.strip():
                    yield _block(part.text)
            case Thinking():
                yield from _thinking(part, target)
            case Call() if not target.takes("tools"):
                yield _block(call_as_text(part))
            case Call():
                name, arguments = plain_name(part.name), arguments_object(part)
                yield {"type": "tool_use", "id": id_of(part, target), "name": name, "input": arguments}
            case Native():
                if index in native:
                    yield native[index]
            case _:
                assert_never(part)


def _native_blocks(answered: ModelAnswered, target: Target) -> dict[int, Block]:
    """Calls and results of the provider's own tools, by their index in the answer. A call without a result, which an
    answer that was cut off may have, would be rejected and is left out."""
    blocks: dict[int, Block] = {
        index: mapping(stored(part.data))
        for index, part in enumerate(answered.parts)
        if isinstance(part, Native) and part.provider == target.provider and target.takes("web_search")
    }
    called = {block["id"] for block in blocks.values() if isinstance(block.get("id"), str)}
    ended = {block["tool_use_id"] for block in blocks.values() if isinstance(block.get("tool_use_id"), str)}
    complete = called & ended
    return {index: block for index, block in blocks.items() if {block.get("id"), block.get("tool_use_id")} & complete}


def _thinking(part: Thinking, target: Target) -> Iterator[Block]:
    """Thinking is accepted only with its signature, which an interrupted block does not have; a server that signs none
    takes it without."""
    if part.provider != target.provider:
        return
    if part.id == UNSIGNED:
        yield {"type": "thinking", "thinking": part.text}
    elif part.signature and part.id == REDACTED:
        yield {"type": REDACTED, "data": part.signature}
    elif part.signature:
        yield {"type": "thinking", "thinking": part.text, "signature": part.signature}


def _results(results: Results, images: LoadedImages, target: Target) -> str | list[Block]:
    if not target.takes("tools"):
        return _content([*map(result_as_text, results.results), *pictures_of(results, images)])
    return [_result(result, images, target) for result in results.results]


def _result(result: Result, images: LoadedImages, target: Target) -> Block:
    parts: list[ContentPart] = [result_text(result), *image_content(result.images, images)]
    failed = {"is_error": True} if result.outcome == "failed" else {}
    return {"type": "tool_result", "tool_use_id": id_of(result.call, target), "content": _content(parts), **failed}


def _tool(tool: ToolSpec) -> JsonObject:
    return {"name": tool.name, "description": tool.description, "input_schema": tool.schema}


# The answer

FINISHES: Mapping[str, Finish] = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    # A provider whose own tools take long pauses the answer and has to be asked to continue.
    "pause_turn": "length",
    "refusal": "refused",
    "content_filter": "refused",
}
"""What the reasons for an answer's end mean, where they are not that it is whole."""

FAILURES = frozenset({"error", "network_error"})
"""Reasons of compatible servers that make it worth asking again."""


class AnthropicMessagesDecoder:
    """A `Decoder` of Anthropic's messages."""

    def __init__(self, target: Target, body: JsonObject) -> None:
        self._target = target
        self._tools = tools_in(body)
        self._blocks: list[_OpenBlock] = []
        self._by_index: dict[int, _OpenBlock] = {}
        self._reported: JsonObject = {}
        self._model = ""
        self._reason = ""
        self._done = False

    @property
    def has_begun(self) -> bool:
        return bool(self._blocks)

    @property
    def is_whole(self) -> bool:
        return bool(self._reason) or self._done

    @property
    def is_done(self) -> bool:
        return self._done

    def feed(self, event: ServerEvent) -> Sequence[Delta]:
        data = event.data.strip()
        if data == "[DONE]":
            self._done = True
            return self._end_text()
        if not data:
            return ()
        value = parsed(data)
        return self._read(kind_of(value, event.name), value)

    def feed_body(self, body: str) -> Sequence[Delta]:
        message = parsed(body)
        if kind_of(message, "") == "error":
            self._fail(message)
        if not isinstance(message.get("content"), list):
            raise error_in_place_of_answer(message, provider=self._target.provider, model=self._target.model)
        self._read_message(message)
        deltas: list[Delta] = []
        for index, block in enumerate(mappings(message["content"])):
            deltas += self._start(index, block)
        self._set_reason(message.get("stop_reason"))
        self._done = True
        return [*deltas, *self._end_text()]

    def answer(self) -> Answer:
        if not self.is_whole:
            raise cut_off()
        if self._reason in FAILURES:
            raise ModelError("server", MESSAGES["server"], was_answer=True)
        parts = self._parts()
        finish = FINISHES.get(self._reason, "stop")
        return whole_answer(parts, _usage(self._reported), finish, self._model)

    def _read(self, kind: str, event: JsonObject) -> Sequence[Delta]:
        match kind:
            case "message_start":
                self._read_message(mapping(event.get("message")))
            case "content_block_start":
                return self._start(event.get("index"), mapping(event.get("content_block")))
            case "content_block_delta":
                return self._read_delta(event.get("index"), mapping(event.get("delta")))
            case "message_delta":
                self._read_usage(event.get("usage"))
                self._set_reason(mapping(event.get("delta")).get("stop_reason"))
                return self._end_text() if self._reason else ()
            case "message_stop":
                self._done = True
                return self._end_text()
            case "error":
                self._fail(event)
        return ()

    def _fail(self, event: JsonObject) -> NoReturn:
        raise error_in_stream(event, provider=self._target.provider, model=self._target.model)

    def _read_message(self, message: JsonObject) -> None:
        self._model = as_sent(message.get("model")) or self._model
        self._read_usage(message.get("usage"))

    def _read_usage(self, usage: object) -> None:
        """Later counts include earlier ones, and leave out what has not changed, or say 0 of it."""
        self._reported |= {name: value for name, value in mapping(usage).items() if value}

    def _set_reason(self, reason: object) -> None:
        if isinstance(reason, str) and reason:
            self._reason = reason

    def _block_at(self, index: object) -> _OpenBlock | None:
        """The block with the index; the last one where a server does not number them."""
        if isinstance(index, int) and not isinstance(index, bool):
            return self._by_index.get(index)
        return self._blocks[-1] if self._blocks else None

    def _start(self, index: object, started: JsonObject) -> list[Delta]:
        deltas = list(self._end_text(is_last=False))
        # The server divides a text with citations into many blocks.
        continues = self._target.continues or any(block.text.has_text for block in self._blocks)
        block = _OpenBlock(started, AnswerText(continues=continues, tools=self._tools))
        self._blocks.append(block)
        if isinstance(index, int) and not isinstance(index, bool):
            self._by_index[index] = block
        match block.kind:
            case "text":
                deltas += self._add_text(block, started.get("text"))
            case "thinking":
                block.signature = as_sent(started.get("signature"))
                deltas += self._add_thought(block, started.get("thinking"))
            case "server_tool_use":
                deltas.append(Waiting(SEARCHING))
        return deltas

    def _read_delta(self, index: object, delta: JsonObject) -> Sequence[Delta]:
        kind = delta.get("type")
        block = self._block_at(index)
        match kind:
            case "text_delta" | "thinking_delta" if block is None:
                # A block that the server has not begun.
                of_kind = "text" if kind == "text_delta" else "thinking"
                return self._start(index, {"type": of_kind, of_kind: delta.get(of_kind)})
            case "text_delta" if block is not None:
                return self._add_text(block, delta.get("text"))
            case "thinking_delta" if block is not None:
                return self._add_thought(block, delta.get("thinking"))
            case "signature_delta" if block is not None:
                block.signature = as_sent(delta.get("signature")) or block.signature
            case "input_json_delta" if block is not None:
                block.pieces.append(piece(delta.get("partial_json")))
        return ()

    def _add_text(self, block: _OpenBlock, words: object) -> list[Delta]:
        added = piece(words)
        return list(block.text.add(added)) if added else []

    def _add_thought(self, block: _OpenBlock, words: object) -> list[Delta]:
        thought = piece(words)
        block.pieces.append(thought)
        return [ReasoningDelta(thought)] if thought else []

    def _end_text(self, *, is_last: bool = True) -> Sequence[Delta]:
        """The last block is whole. What may be reasoning is that for certain once other blocks follow."""
        last = self._blocks[-1] if self._blocks else None
        if last is None or last.kind != "text" or last.has_ended:
            return ()
        last.has_ended = True
        with_calls = not is_last or any(block.kind == "tool_use" for block in self._blocks)
        return last.text.end(with_calls=with_calls, with_text=any(block.text.has_text for block in self._blocks))

    def _parts(self) -> tuple[Part, ...]:
        parts = [part for block in self._blocks for part in self._parts_of(block)]
        if self._reason not in FINISHES and not any(isinstance(part, Text | Call) for part in parts):
            # Some servers send the whole answer as reasoning.
            words = "".join(part.text for part in parts if isinstance(part, Thinking))
            if words.strip() and not any(isinstance(part, Thinking) and part.signature for part in parts):
                return (Text(words),)
        return tuple(parts)

    def _parts_of(self, block: _OpenBlock) -> Sequence[Part]:
        provider = self._target.provider
        match block.kind:
            case "text":
                return block.text.parts()
            case "thinking":
                return self._thinking(block)
            case "redacted_thinking":
                data = as_sent(block.started.get("data"))
                return (Thinking("", data, REDACTED, provider),) if data else ()
            case "tool_use":
                return self._call(block)
            case "server_tool_use":
                return (self._use(block),)
            case _ if block.kind.endswith("_tool_result"):
                result = {name: block.started.get(name) for name in ("type", "tool_use_id", "content")}
                return (Native(provider, json.dumps(json_value(result))),)
            case _:
                return ()

    def _thinking(self, block: _OpenBlock) -> Sequence[Part]:
        words = text("".join(block.pieces))
        if not words and not block.signature:
            return ()
        is_unsigned = not block.signature and "signature" not in block.started and self._reason not in FINISHES
        return (Thinking(words, block.signature, UNSIGNED if is_unsigned else None, self._target.provider),)

    def _call(self, block: _OpenBlock) -> Sequence[Part]:
        calls = CallAssembler()
        started = block.started
        arguments = "".join(block.pieces) or started.get("input")
        calls.add(id=started.get("id"), name=started.get("name"), arguments=arguments)
        return calls.calls()

    def _use(self, block: _OpenBlock) -> Native:
        """A call of the provider's own tool, in the form in which it wants to see it again."""
        name = text(block.started.get("name"))
        given = stored("".join(block.pieces)) or block.started.get("input")
        arguments = mapping(json_value(given))
        use = {"type": "server_tool_use", "id": text(block.started.get("id")), "name": name, "input": arguments}
        query = text(arguments.get("query"))
        summary = f"Searched the web: {query}" if name == "web_search" else f"Used {name}"
        return Native(self._target.provider, json.dumps(use), summary)


class _OpenBlock:
    """A block as it arrives."""

    def __init__(self, started: JsonObject, text: AnswerText) -> None:
        kind = started.get("type")
        self.kind = kind if isinstance(kind, str) else ""
        self.started = started
        self.text = text
        self.pieces: list[str] = []
        self.signature: str | None = None
        self.has_ended = False


def _usage(reported: JsonObject) -> Usage:
    read, written = tokens(reported.get("cache_read_input_tokens")), tokens(reported.get("cache_creation_input_tokens"))
    return Usage(
        input=tokens(reported.get("input_tokens")) + read + written,
        output=tokens(reported.get("output_tokens")),
        cache_read=read,
        cache_write=written,
        reasoning=tokens(mapping(reported.get("output_tokens_details")).get("thinking_tokens")),
        cost=cost(reported.get("cost")),
    )


PROTOCOL = WireProtocol(
    name="anthropic",
    path="/v1/messages",
    body=body,
    decoder=AnthropicMessagesDecoder,
    key_header=lambda key: {"x-api-key": key},
    headers={"anthropic-version": "2023-06-01"},
)
