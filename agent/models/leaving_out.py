"""Leaving out: a model wrapper that repeats a rejected request without the parts that may be the reason."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, assert_never

from agent.events import Charged, OnDelta, Waiting
from agent.log import MessagesRead, ModelAnswered, Native, Part, Text, Thinking, Usage, UserMessage
from agent.media import Attachment, for_model
from agent.model import Answer, Model, ModelError, Request
from agent.models.content import UnavailableImage
from agent.models.retry import DeltaTracker
from agent.models.without_images import without_images
from agent.transcript import TURN_ENDED, Exchange, Result, Results, SystemNote

log = logging.getLogger(__name__)

REFUSED_PICTURE = UnavailableImage("the model's provider refused it")
LEFT_OUT = "[left out, because the model's provider refused it]"

MAX_REMEMBERED = 10_000
"""Parts known as refused, the latest; a forgotten one costs one more rejected request."""

_ABOUT_REASONING = re.compile(r"thinking|reasoning|signature|encrypted|redacted|item with id|item '?rs_", re.IGNORECASE)
_PLACE_OF_A_TOOL = re.compile(r"(?:function_declarations|tools)[.\[](\d+)(?!.*function_declarations)")
_IN_HISTORY = re.compile(r"(?:messages?|input|contents)[.\[]")

_REJECTIONS = frozenset({"bad_request", "no_vision", "refused", "too_long"})

Kind = Literal["picture", "reasoning", "message", "result", "tool"]

Key = tuple[Kind, str]


@dataclass(frozen=True, slots=True)
class _RequestPart:
    """A part of a request that can be left out. `name` is what people know it by; `is_new`: no answer has followed it,
    so that it is not known to be accepted."""

    key: Key
    name: str
    is_new: bool = False

    @property
    def kind(self) -> Kind:
        return self.key[0]


class LeavingOutModel:
    """Repeats a request that the provider rejects without the parts that may be the reason, and tells the person: the
    same history would be rejected for ever.

    Tried are, each alone and then together: the tool that the error names; pictures, first those that no answer has
    followed yet; the reasoning of earlier answers; results of tools and earlier messages that no answer has followed,
    or one that the provider refused to finish, which goes with them. Without these a request is repeated too whose
    answer is refused once more. What people wrote last is always sent. What was left out with success is left out from
    then on, until the next start of the process. `name` is the model's name in the settings.
    """

    def __init__(self, model: Model, name: str) -> None:
        self._model = model
        self._name = name
        self._refused: dict[Key, None] = {}

    async def answer(self, request: Request, on_delta: OnDelta) -> Answer:
        request = _without(request, self._refused)
        tracker = DeltaTracker(on_delta)
        keys: frozenset[Key] = frozenset()
        tried = {keys}
        first: ModelError | None = None
        while True:
            try:
                answer = await self._model.answer(_without(request, keys), tracker.on_delta)
            except ModelError as error:
                if error.kind not in _REJECTIONS:
                    raise
                first = first or error
                tools = frozenset(key for key in keys if key[0] == "tool")
                cuts = _cuts(_without(request, tools), error)
                cut = next((cut for cut in cuts if tools | _keys(cut) not in tried), None)
                if cut is None:
                    # Leaving out has not helped: what was wrong at first is what the person should know.
                    raise first from first.__cause__
            else:
                tools = frozenset()
                cut = _refused_before(request) if answer.finish == "refused" and not keys else ()
                if not cut:
                    if keys:
                        self._remember(keys)
                    return answer
                if answer.usage != Usage():
                    await tracker.on_delta(Charged(answer.usage, answer.model, "failed"))
            await tracker.withdraw()
            detail = first.detail if first is not None else "it refused to finish its answer"
            log.warning("%s rejected a request (%s); trying without %s", self._name, detail, _names(cut))
            await on_delta(Waiting(f"{self._name} rejected the request; trying again without {_names(cut)}."))
            keys = tools | _keys(cut)
            tried.add(keys)

    def _remember(self, keys: Iterable[Key]) -> None:
        self._refused.update(dict.fromkeys(keys))
        for key in list(self._refused)[: max(0, len(self._refused) - MAX_REMEMBERED)]:
            del self._refused[key]


def _cuts(request: Request, error: ModelError) -> list[tuple[_RequestPart, ...]]:
    """What to leave out, one try after the other; none if another request would not help."""
    if error.was_answer or not (error.kind in ("bad_request", "refused") or error.status == 413):
        return []
    parts = tuple(_parts(request))
    pictures = tuple(part for part in parts if part.kind == "picture")
    if error.status == 413:
        return _distinct([tuple(part for part in pictures if not part.is_new), pictures])
    unanswered = tuple(part for part in parts if part.kind in ("message", "result"))
    if error.kind == "refused":
        return _distinct([unanswered])
    if tool := _named_tool(request, error):
        return [(tool,)]
    new_pictures = tuple(part for part in pictures if part.is_new)
    reasoning = tuple(part for part in parts if part.kind == "reasoning")
    cuts = [new_pictures, pictures, reasoning, unanswered]
    if _ABOUT_REASONING.search(error.detail):
        cuts = [reasoning, new_pictures, pictures, unanswered]
    return _distinct([*cuts, (*pictures, *reasoning, *unanswered)])


def _refused_before(request: Request) -> tuple[_RequestPart, ...]:
    """The earlier messages whose answer was refused, and what there is of it: a provider that has refused goes on so
    while it sees them. Empty if there are none."""
    if not any(isinstance(exchange, ModelAnswered) and exchange.refused for exchange in request.transcript):
        return ()
    return tuple(part for part in _parts(request) if part.kind == "message")


def _distinct(cuts: Iterable[tuple[_RequestPart, ...]]) -> list[tuple[_RequestPart, ...]]:
    """The cuts that leave out anything, each once."""
    return list({_keys(cut): cut for cut in reversed(list(cuts)) if cut}.values())[::-1]


def _named_tool(request: Request, error: ModelError) -> _RequestPart | None:
    """The tool whose declaration the error is about, by its name or its place."""
    if _IN_HISTORY.search(error.detail):
        return None
    named = [tool.name for tool in request.tools if re.search(f"['\"`]{re.escape(tool.name)}['\"`]", error.detail)]
    place = _PLACE_OF_A_TOOL.search(error.detail)
    if not named and place is not None and int(place[1]) < len(request.tools):
        named = [request.tools[int(place[1])].name]
    return _RequestPart(("tool", named[0]), f"the tool {named[0]}") if len(named) == 1 else None


def _keys(cut: Iterable[_RequestPart]) -> frozenset[Key]:
    return frozenset(part.key for part in cut)


def _names(cut: Sequence[_RequestPart]) -> str:
    names = list(dict.fromkeys(part.name for part in cut))
    return ", ".join([*names[:3], *([f"{len(names) - 3} more"] if len(names) > 3 else [])])


def _parts(request: Request) -> Iterator[_RequestPart]:
    """The parts that can be left out, oldest first; not what people wrote last."""
    transcript = request.transcript
    open_ones = _unanswered(transcript)
    closed = max((index for index, exchange in enumerate(transcript) if _ends_unanswered(exchange)), default=-1)
    for index, exchange in enumerate(transcript):
        is_new = index in open_ones
        match exchange:
            case MessagesRead():
                for message in exchange.messages:
                    yield from _pictures((file for file in for_model(message.attachments) if file.is_picture), is_new)
                    if is_new and index < closed and message.text != LEFT_OUT:
                        yield _RequestPart(_message_key(message), "an earlier message", is_new)
            case Results():
                for result in exchange.results:
                    yield from _pictures(result.images, is_new)
                    if is_new and result.text != LEFT_OUT:
                        yield _RequestPart(_result_key(result), f"the result of {result.call.name}", is_new)
            case ModelAnswered():
                if exchange.refused and exchange.text != LEFT_OUT:
                    yield _RequestPart(_answer_key(exchange), "an earlier answer", is_new=True)
                for part in exchange.parts:
                    if isinstance(part, Thinking | Native):
                        yield _RequestPart(_part_key(part), "its earlier reasoning")
            case SystemNote():
                pass
            case _:
                assert_never(exchange)


def _pictures(images: Iterable[Attachment], is_new: bool) -> Iterator[_RequestPart]:
    for image in images:
        yield _RequestPart(("picture", image.hash), f"the picture {image.name}", is_new)


def _unanswered(transcript: Sequence[Exchange]) -> set[int]:
    """The places of the messages and results that no answer follows in their turn, or a refused one."""
    found: set[int] = set()
    waiting: list[int] = []
    for index, exchange in enumerate(transcript):
        if isinstance(exchange, MessagesRead | Results):
            waiting.append(index)
        elif _ends_unanswered(exchange):
            found.update(waiting)
            waiting.clear()
        elif isinstance(exchange, ModelAnswered):
            waiting.clear()
    return found.union(waiting)


def _ends_unanswered(exchange: Exchange) -> bool:
    """Whether a turn ends here without an answer: it failed, or the provider refused to finish one."""
    if isinstance(exchange, SystemNote):
        return exchange.text.startswith(TURN_ENDED)
    return isinstance(exchange, ModelAnswered) and exchange.refused


def _message_key(message: UserMessage) -> Key:
    return "message", f"{message.id}:{hash((message.text, message.note))}"


def _result_key(result: Result) -> Key:
    return "result", f"{result.call.id}:{hash(result.text)}"


def _answer_key(answered: ModelAnswered) -> Key:
    return "message", f"answer:{hash(answered.parts)}"


def _part_key(part: Thinking | Native) -> Key:
    return "reasoning", str(hash(part))


def _without(request: Request, keys: Collection[Key]) -> Request:
    """The request without these parts, with words in their place where the model should know of them."""
    if not keys:
        return request
    kinds = {kind for kind, _ in keys}
    if "tool" in kinds:
        request = replace(request, tools=tuple(tool for tool in request.tools if ("tool", tool.name) not in keys))
    if kinds & {"message", "result", "reasoning"}:
        request = replace(request, transcript=[_exchange(exchange, keys) for exchange in request.transcript])
    if "picture" in kinds:
        request = without_images(request, REFUSED_PICTURE, lambda image: ("picture", image.hash) in keys)
    return request


def _exchange(exchange: Exchange, keys: Collection[Key]) -> Exchange:
    match exchange:
        case MessagesRead(messages=messages) if any(_message_key(message) in keys for message in messages):
            return replace(exchange, messages=tuple(_left_out(message, keys) for message in messages))
        case Results(results=results) if any(_result_key(result) in keys for result in results):
            kept = (_result_key(result) not in keys for result in results)
            return Results(
                tuple(
                    result if is_kept else replace(result, text=LEFT_OUT, images=(), foreign=())
                    for result, is_kept in zip(results, kept, strict=True)
                )
            )
        case ModelAnswered(refused=True) if _answer_key(exchange) in keys:
            return replace(exchange, parts=(Text(LEFT_OUT),))
        case ModelAnswered(parts=parts) if any(_is_reasoning_in(part, keys) for part in parts):
            return replace(exchange, parts=tuple(part for part in parts if not _is_reasoning_in(part, keys)))
        case _:
            return exchange


def _left_out(message: UserMessage, keys: Collection[Key]) -> UserMessage:
    if _message_key(message) not in keys:
        return message
    return replace(message, text=LEFT_OUT, note="", attachments=(), foreign=())


def _is_reasoning_in(part: Part, keys: Collection[Key]) -> bool:
    return isinstance(part, Thinking | Native) and _part_key(part) in keys
