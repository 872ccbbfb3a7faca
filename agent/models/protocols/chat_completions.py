"""OpenAI's Chat Completions, which most model servers speak: the body of a request, and the decoder of its answer.

Source: https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, assert_never

from agent.events import Delta, ReasoningDelta
from agent.gate import json_value, text, tokens
from agent.log import Call, MessagesRead, ModelAnswered, Part, Text, Thinking, Usage
from agent.model import Answer, Finish, ModelError, Request, ToolSpec
from agent.models.content import (
    ContentPart,
    LoadedImages,
    call_as_text,
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
from agent.models.protocols.history import PICTURES, arguments_json, id_of, pictures_of
from agent.models.protocols.reading import (
    as_sent,
    cost,
    cut_off,
    has_failed,
    mapping,
    mappings,
    parsed,
    piece,
    stored,
    tools_in,
    whole_answer,
)
from agent.models.protocols.reasoning import EFFORTS, effort_of
from agent.models.protocols.tool_calls import CallAssembler
from agent.models.protocols.wire import JsonObject, ServerEvent, Target, WireProtocol
from agent.transcript import Exchange, Results, SystemNote

REASONING_FIELDS = ("reasoning_content", "reasoning")
"""The fields in which servers send reasoning (OpenAI itself sends none), and expect it in the history."""

DETAILS = "reasoning_details"
"""OpenRouter's reasoning with the signatures of the model's maker, sent back as it came:
https://openrouter.ai/docs/use-cases/reasoning-tokens"""

THOUGHT_SIGNATURE = "thought_signature"
"""Gemini's, of a text or of a call: https://ai.google.dev/gemini-api/docs/thought-signatures"""

UNSIGNED = "skip_thought_signature_validator"
"""The signature of a call that Gemini has not made, from the same page."""

UNREASONED = " "
"""The reasoning of an answer that has none, for servers that require it: some take no empty text either."""

GO_ON = "I have read the results."
"""An answer between the results of tools and a message, for models whose templates do not take one after the other."""

Message = dict[str, Any]


# The body


def body(request: Request, images: LoadedImages, target: Target) -> JsonObject:
    """The body of a request whose answer is streamed."""
    fields: JsonObject = {"model": target.model, "messages": _conversation(request, images, target), "stream": True}
    if target.takes("stream_options"):
        fields["stream_options"] = {"include_usage": True}
    fields.update(_tools(request, target))
    fields.update(_settings(request, target))
    return fields


def _tools(request: Request, target: Target) -> Iterator[tuple[str, Any]]:
    if not request.tools or not target.takes("tools"):
        return
    yield "tools", [_tool(tool) for tool in request.tools]
    if request.text_only:
        if target.takes("tool_choice"):
            yield "tool_choice", "none"
    elif request.settings.parallel_tool_calls is not None and target.takes("parallel_tool_calls"):
        yield "parallel_tool_calls", request.settings.parallel_tool_calls


def _settings(request: Request, target: Target) -> Iterator[tuple[str, Any]]:
    settings = request.settings
    if settings.temperature is not None and target.takes("temperature"):
        yield "temperature", settings.temperature
    if settings.top_p is not None and target.takes("top_p"):
        yield "top_p", settings.top_p
    if settings.reasoning is not None and target.takes("reasoning"):
        yield "reasoning_effort", EFFORTS[effort_of(settings.reasoning)]
    if settings.max_tokens is not None and target.takes("max_completion_tokens"):
        yield "max_completion_tokens", target.length(settings.max_tokens)
    elif settings.max_tokens is not None and target.takes("max_tokens"):
        yield "max_tokens", target.length(settings.max_tokens)


def _conversation(request: Request, images: LoadedImages, target: Target) -> list[Message]:
    messages: list[Message] = []
    for exchange in with_notices(request.transcript):
        messages += _messages(exchange, images, target)
    if not target.takes("consecutive_roles"):
        messages = _alternating(messages)
    if not target.takes("answers_without_reasoning"):
        messages = [_reasoned(message) if message["role"] == "assistant" else message for message in messages]
    if instructions := instructions_of(request):
        if target.takes("system_role"):
            messages.insert(0, {"role": "system", "content": instructions})
        elif messages and messages[0]["role"] == "user":
            messages[0] = _merged({"role": "user", "content": instructions}, messages[0])
        else:
            messages.insert(0, {"role": "user", "content": instructions})
    return messages


def _messages(exchange: Exchange, images: LoadedImages, target: Target) -> Iterable[Message]:
    match exchange:
        case MessagesRead():
            return (_user(message_content(exchange, images)),)
        case ModelAnswered():
            return _assistant(exchange, target)
        case Results():
            return _results(exchange, images, target)
        case SystemNote():
            return ({"role": "user", "content": notice_text(exchange)},)
        case _:
            assert_never(exchange)


def _user(parts: list[ContentPart]) -> Message:
    words = joined_text(parts)
    return {"role": "user", "content": [_part(part) for part in parts] if words is None else words}


def _part(part: ContentPart) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    return {"type": "image_url", "image_url": {"url": f"data:{part.media_type};base64,{part.data}"}}


def _assistant(answered: ModelAnswered, target: Target) -> tuple[Message, ...]:
    parts = answered.parts
    if len(parts) == 1 and isinstance(parts[0], Text):
        # Nearly all answers of a long history are this.
        return ({"role": "assistant", "content": parts[0].text},) if parts[0].text.strip() else ()
    words, calls = answered.text, answered.calls
    if calls and not target.takes("tools"):
        words, calls = "\n\n".join(filter(None, [words, *map(call_as_text, calls)])), ()
    if calls:
        tool_calls = [_call(call, target) for call in calls]
        if not target.takes("calls_without_signature"):
            # Of calls side by side only the first is signed.
            tool_calls[0].setdefault("extra_content", {"google": {THOUGHT_SIGNATURE: UNSIGNED}})
        return (
            {"role": "assistant", "content": words or None, **_reasoning(answered, target), "tool_calls": tool_calls},
        )
    if not words.strip():
        return ()
    fields = _signed(answered, target) if target.takes("answers_without_reasoning") else _reasoning(answered, target)
    return ({"role": "assistant", "content": words, **fields},)


def _reasoning(answered: ModelAnswered, target: Target) -> JsonObject:
    """The reasoning that led to the calls: servers that send it require it with them. Without calls only what is signed
    is sent."""
    fields = _signed(answered, target)
    for part in answered.parts:
        if isinstance(part, Thinking) and part.provider == target.provider and part.id in REASONING_FIELDS:
            fields[part.id] = fields.get(part.id, "") + part.text
    return fields


def _reasoned(message: Message) -> Message:
    return message if message.get(REASONING_FIELDS[0]) else {**message, REASONING_FIELDS[0]: UNREASONED}


def _signed(answered: ModelAnswered, target: Target) -> JsonObject:
    fields: JsonObject = {}
    for part in answered.parts:
        if isinstance(part, Thinking) and part.provider == target.provider and part.signature:
            if part.id == DETAILS:
                fields[DETAILS] = mappings(stored(part.signature))
            elif part.id == THOUGHT_SIGNATURE:
                fields["extra_content"] = {"google": {THOUGHT_SIGNATURE: part.signature}}
    return fields


def _call(call: Call, target: Target) -> dict[str, Any]:
    function = {"name": plain_name(call.name), "arguments": arguments_json(call)}
    sent: dict[str, Any] = {"id": id_of(call, target), "type": "function", "function": function}
    if call.signature and call.provider == target.provider:
        sent["extra_content"] = {"google": {THOUGHT_SIGNATURE: call.signature}}
    return sent


def _results(results: Results, images: LoadedImages, target: Target) -> Iterator[Message]:
    pictures = pictures_of(results, images)
    if not target.takes("tools"):
        yield _user([*map(result_as_text, results.results), *pictures])
        return
    for result in results.results:
        yield {"role": "tool", "tool_call_id": id_of(result.call, target), "content": result_text(result)}
    # Images are only allowed in a user's message, which may not come between the results.
    if pictures:
        yield _user([PICTURES, *pictures])


def _tool(tool: ToolSpec) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.schema}
    return {"type": "function", "function": function}


def _alternating(messages: list[Message]) -> list[Message]:
    """The messages, with those of one role in a row as one."""
    alternating: list[Message] = []
    for message in messages:
        before = alternating[-1] if alternating else None
        if before is not None and before["role"] == message["role"] != "tool" and "tool_calls" not in before:
            alternating[-1] = _merged(before, message)
            continue
        if before is not None and before["role"] == "tool" and message["role"] == "user":
            alternating.append({"role": "assistant", "content": GO_ON})
        alternating.append(message)
    return alternating


def _merged(first: Message, second: Message) -> Message:
    return {**first, **second, "content": _merged_content(first["content"], second["content"])}


def _merged_content(first: Any, second: Any) -> Any:
    if isinstance(first, list) or isinstance(second, list):
        return [*_parts(first), *_parts(second)]
    return "\n\n".join(filter(None, (first, second))) or None


def _parts(content: Any) -> list[Any]:
    return content if isinstance(content, list) else [_part(content)] if content else []


# The answer

FINISHES: Mapping[str, Finish] = {
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "model_context_window_exceeded": "length",
    "content_filter": "refused",
    "refusal": "refused",
    "safety": "refused",
    "image_safety": "refused",
    "recitation": "refused",
    "sensitive": "refused",
    "blocklist": "refused",
    "spii": "refused",
    "prohibited_content": "refused",
}
"""What the reasons for an answer's end mean, where they are not that it is whole; some are those of single servers."""

TEXT_FIELDS = frozenset({"role", "content"})

FAILURES = frozenset(
    {
        *("error", "network_error", "insufficient_system_resource", "abort"),
        *("malformed_function_call", "unexpected_tool_call", "function_call_filter"),
    }
)
"""Reasons for an answer's end that make it worth asking again."""


class ChatCompletionsDecoder:
    """A `Decoder` of Chat Completions."""

    def __init__(self, target: Target, body: JsonObject) -> None:
        self._target = target
        self._text = AnswerText(continues=target.continues, tools=tools_in(body))
        self._text_has_ended = False
        self._calls = CallAssembler()
        self._signatures: dict[int, str] = {}
        self._reasoning = _Reasoning()
        self._reported: JsonObject = {}
        self._model = ""
        self._reason = ""
        self._refusal = False
        self._has_begun = False
        self._done = False

    @property
    def has_begun(self) -> bool:
        return self._has_begun

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
        return self._read(parsed(data), event.name) if data else ()

    def feed_body(self, body: str) -> Sequence[Delta]:
        whole = parsed(body)
        deltas = self._read(whole)
        if not mappings(whole.get("choices")):
            raise error_in_place_of_answer(whole, provider=self._target.provider, model=self._target.model)
        self._done = True
        return [*deltas, *self._end_text()]

    def answer(self) -> Answer:
        if not self.is_whole:
            raise cut_off()
        if self._reason in FAILURES:
            raise ModelError("server", MESSAGES["server"], was_answer=True)
        parts = self._answer_parts()
        finish = FINISHES.get(self._reason, "stop")
        if self._refusal:
            finish = "refused"
        if finish == "stop" and not parts:
            # Servers that are only compatible lose answers that way.
            finish = "other"
        return whole_answer(parts, _usage(self._reported), finish, self._model)

    def _read(self, chunk: JsonObject, name: str = "") -> list[Delta]:
        if error := _error(chunk, name):
            raise error_in_stream(error, provider=self._target.provider, model=self._target.model)
        self._model = as_sent(chunk.get("model")) or self._model
        choice = next((each for each in mappings(chunk.get("choices")) if not each.get("index")), {})
        usage = chunk.get("usage") or choice.get("usage") or mapping(chunk.get("x_groq")).get("usage")
        self._reported = mapping(usage) or self._reported
        deltas = self._read_delta(mapping(choice.get("delta")) or mapping(choice.get("message")))
        reason = choice.get("finish_reason")
        if isinstance(reason, str) and reason not in ("", "null"):
            # Gemini tells its own reason after that of the protocol: "content_filter: RECITATION".
            self._reason = reason.lower().partition(":")[0].strip()
            deltas += self._end_text()
        return deltas

    def _end_text(self) -> Sequence[Delta]:
        if self._text_has_ended:
            return ()
        self._text_has_ended = True
        return self._text.end(with_calls=bool(self._calls.calls()))

    def _read_delta(self, delta: JsonObject) -> list[Delta]:
        # Nearly every chunk has text only.
        deltas = [] if delta.keys() <= TEXT_FIELDS else self._read_other_fields(delta)
        deltas += self._read_content(delta.get("content"))
        self._has_begun = self._has_begun or bool(deltas)
        return deltas

    def _read_other_fields(self, delta: JsonObject) -> list[Delta]:
        deltas = self._reasoning.read(delta)
        if refusal := piece(delta.get("refusal")):
            self._refusal = True
            deltas += self._text.add(refusal)
        for call in mappings(delta.get("tool_calls")):
            self._read_call(call, mapping(call.get("function")))
        if function := mapping(delta.get("function_call")):
            self._read_call({}, function)
        return deltas

    def _read_content(self, content: object) -> list[Delta]:
        """Text, or Mistral's list of parts: https://docs.mistral.ai/capabilities/reasoning"""
        if not isinstance(content, list):
            words = piece(content)
            # Of a call in the text nothing is shown.
            self._has_begun = self._has_begun or bool(words)
            return list(self._text.add(words)) if words else []
        deltas: list[Delta] = []
        for part in content:
            if isinstance(part, dict) and part.get("type") == "thinking":
                for thought in mappings(part.get("thinking")):
                    deltas += self._reasoning.add(piece(thought.get("text")))
            else:
                deltas += self._text.add(piece(part.get("text") if isinstance(part, dict) else part))
        return deltas

    def _read_call(self, call: JsonObject, function: JsonObject) -> None:
        number = self._calls.add(
            index=call.get("index"),
            id=call.get("id"),
            name=function.get("name"),
            arguments=function.get("arguments"),
        )
        signature = _thought_signature(call)
        self._has_begun = self._has_begun or number is not None
        if number is not None and signature is not None:
            self._signatures[number] = signature

    def _answer_parts(self) -> tuple[Part, ...]:
        provider = self._target.provider
        said = self._text.parts()
        calls = tuple(
            Call(call.id, call.name, call.arguments, self._signatures[number], provider)
            if number in self._signatures
            else call
            for number, call in enumerate(self._calls.calls())
        )
        thoughts = self._reasoning.parts(provider)
        if not said and not calls and self._reason not in FINISHES:
            # Some servers send the whole answer as reasoning.
            words = "".join(part.text for part in thoughts)
            return (Text(words),) if words.strip() else thoughts
        return (*thoughts, *said, *calls)


class _Reasoning:
    """The reasoning of an answer, in the field of the server's own."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._field: str | None = None
        self._details: list[JsonObject] = []
        self._signature: str | None = None

    def read(self, delta: JsonObject) -> list[Delta]:
        self._signature = _thought_signature(delta) or self._signature
        new = mappings(delta.get(DETAILS))
        for detail in new:
            self._add_detail(detail)
        for field in REASONING_FIELDS:
            if words := piece(delta.get(field)):
                self._field = field
                return self.add(words)
        return self.add("".join(piece(detail.get("text")) or piece(detail.get("summary")) for detail in new))

    def add(self, words: str) -> list[Delta]:
        if not words:
            return []
        self._pieces.append(words)
        return [ReasoningDelta(words)]

    def parts(self, provider: str) -> tuple[Thinking, ...]:
        words = text("".join(self._pieces))
        parts: list[Thinking] = []
        if self._details:
            parts.append(Thinking(words, json.dumps(json_value(self._details)), DETAILS, provider))
        elif words:
            parts.append(Thinking(words, None, self._field, provider))
        if self._signature:
            parts.append(Thinking("", self._signature, THOUGHT_SIGNATURE, provider))
        return tuple(parts)

    def _add_detail(self, detail: JsonObject) -> None:
        """A detail, or the next piece of the last one."""
        last = self._details[-1] if self._details else {}
        is_next = (detail.get("type"), detail.get("index")) == (last.get("type"), last.get("index"))
        for field in ("text", "summary"):
            before, more = last.get(field), detail.get(field)
            # The signature comes last, in a piece that may have no text.
            if is_next and isinstance(before, str) and isinstance(more, str | None):
                known = {name: value for name, value in detail.items() if value is not None}
                self._details[-1] = {**last, **known, field: before + (more or "")}
                return
        self._details.append(detail)


def _error(chunk: JsonObject, name: str) -> object:
    """The error that the chunk is, in the forms that servers have; None if it is none."""
    # OpenRouter tells it in the choice, Groq in a field of its own.
    for holder in (chunk, *mappings(chunk.get("choices")), mapping(chunk.get("x_groq"))):
        error = holder.get("error")
        if error and isinstance(error, dict | str | list):
            return holder
    if has_failed(chunk):
        return chunk
    is_error = name == "error" or "error" in (chunk.get("object"), chunk.get("type"))
    return chunk if is_error and "choices" not in chunk else None


def _thought_signature(holder: JsonObject) -> str | None:
    return as_sent(mapping(mapping(holder.get("extra_content")).get("google")).get(THOUGHT_SIGNATURE))


def _usage(reported: JsonObject) -> Usage:
    read, written = mapping(reported.get("prompt_tokens_details")), mapping(reported.get("completion_tokens_details"))
    output, reasoning = tokens(reported.get("completion_tokens")), tokens(written.get("reasoning_tokens"))
    prompt = tokens(reported.get("prompt_tokens"))
    if reasoning and tokens(reported.get("total_tokens")) == prompt + output + reasoning:
        # Most servers count reasoning in the completion; xAI does not.
        output += reasoning
    return Usage(
        input=prompt,
        output=output,
        cache_read=tokens(read.get("cached_tokens"))
        or tokens(reported.get("prompt_cache_hit_tokens"))
        or tokens(reported.get("cached_tokens")),
        cache_write=tokens(read.get("cache_write_tokens")),
        reasoning=reasoning,
        cost=cost(reported.get("cost")),
    )


PROTOCOL = WireProtocol(
    name="openai",
    path="/chat/completions",
    body=body,
    decoder=ChatCompletionsDecoder,
    key_header=lambda key: {"Authorization": f"Bearer {key}"},
)
