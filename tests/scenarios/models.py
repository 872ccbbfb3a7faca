"""The models of a scenario: asked by the gateway, and held at each step until the scenario lets them go on.

They are the scripted one, or a real provider's client that speaks to a local server.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, assert_never, overload

from agent import log
from agent.events import OnDelta, ReasoningDelta, TextDelta
from agent.media import MediaStore
from agent.model import Answer, Finish, Model, ModelError, ModelErrorKind, Request
from agent.models.abilities import LearnedAbilities, ask_within
from agent.models.images import ImageCache
from agent.models.protocols import anthropic_messages, chat_completions, responses
from agent.models.protocols.wire import Feature, ProtocolName, Target
from agent.models.provider import ModelOptions, Provider
from agent.models.providers import ProviderModel
from tests.servers import models as server

# What a scenario lets a model do


@dataclass(frozen=True, slots=True)
class Says:
    text: str


@dataclass(frozen=True, slots=True)
class Thinks:
    text: str


@dataclass(frozen=True, slots=True)
class Calls:
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Ends:
    """`finish` other than that of an answer that is complete."""

    finish: Finish = "stop"


@dataclass(frozen=True, slots=True)
class Fails:
    kind: ModelErrorKind
    words: str = ""


@dataclass(frozen=True, slots=True)
class Breaks:
    words: str


Act = Says | Thinks | Calls | Ends | Fails | Breaks


class Asked(Protocol):
    """A request that waits for the scenario to answer it."""

    model: str
    messages: tuple[server.Message, ...]
    tools: tuple[str, ...]
    text_only: bool
    begun: bool
    """Whether words of its answer were given."""

    @property
    def state(self) -> str:
        """`open` until it is `ended` by the scenario or `cancelled` by the gateway."""

    async def act(self, *acts: Act) -> None:
        """Returns when the model has done so, as far as it can be known."""

    async def until_cancelled(self) -> None: ...


class Stage(Protocol):
    """Where the models of a scenario come from. Use as `async with`."""

    real: bool
    """Whether what it says needs a moment to arrive."""

    async def __aenter__(self) -> Stage: ...
    async def __aexit__(self, *exc: object) -> None: ...
    def model(self, name: str, media: MediaStore, cost: float) -> Model:
        """`cost` is that of each answer, in dollars, which only the scripted one knows."""


Ring = Callable[[Asked], None]
"""Told of each request when it comes."""


# Scripted


class ScriptedStage:
    real = False

    def __init__(self, notify: Ring) -> None:
        self._ring = notify

    async def __aenter__(self) -> ScriptedStage:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None

    def model(self, name: str, media: MediaStore, cost: float) -> Model:
        return _Scripted(name, media, cost, self._ring)


class _Scripted:
    def __init__(self, name: str, media: MediaStore, cost: float, notify: Ring) -> None:
        self._name = name
        # Tokens are told by nobody, so that the gateway estimates them.
        self._usage = log.Usage(cost=cost)
        self._images = ImageCache(media)
        self._abilities = LearnedAbilities(name)
        self._ring = notify

    async def answer(self, request: Request, on_delta: OnDelta) -> Answer:
        return await ask_within(self._abilities, request, self._ask, on_delta)

    async def _ask(self, request: Request, without: frozenset[Feature], on_delta: OnDelta) -> Answer:
        asked = _ScriptedAsked(self._name, request, await self._read(request))
        self._ring(asked)
        try:
            return replace(await asked.play(on_delta), usage=self._usage)
        except asyncio.CancelledError:
            asked.cancelled.set()
            raise

    async def _read(self, request: Request) -> tuple[server.Message, ...]:
        """The request as it would be on the wire, and as strictly read as the providers do, all of them."""
        images = await self._images.load(request.transcript)
        server.Anthropic().read(anthropic_messages.body(request, images, Target("anthropic", self._name)))
        to_responses = Target("openai-responses", self._name, frozenset({"previous_response_id"}))
        server.Responses(server.Stored()).read(responses.body(request, images, to_responses))
        return server.OpenAI().read(chat_completions.body(request, images, Target("openai", self._name)))


class _ScriptedAsked:
    def __init__(self, model: str, request: Request, messages: tuple[server.Message, ...]) -> None:
        self.model = model
        self.messages = messages
        self.tools = tuple(tool.name for tool in request.tools)
        self.text_only = request.text_only
        self.begun = False
        self.cancelled = asyncio.Event()
        self._ended = False
        self._acts: asyncio.Queue[Act] = asyncio.Queue(maxsize=1)

    @property
    def state(self) -> str:
        return "ended" if self._ended else "cancelled" if self.cancelled.is_set() else "open"

    async def act(self, *acts: Act) -> None:
        for act in acts:
            self.begun = self.begun or isinstance(act, Says)
            await self._acts.put(act)
            await self._acts.join()

    async def until_cancelled(self) -> None:
        await self.cancelled.wait()

    async def play(self, on_delta: OnDelta) -> Answer:
        parts: list[log.Part] = []
        while True:
            act = await self._acts.get()
            try:
                match act:
                    case Says(text):
                        await on_delta(TextDelta(text))
                        parts.append(log.Text(text))
                    case Thinks(text):
                        await on_delta(ReasoningDelta(text))
                        parts.append(log.Thinking(text))
                    case Calls(name, arguments):
                        parts.append(log.Call("", name, arguments))
                    case Ends(finish):
                        self._ended = True
                        return Answer(_joined(parts), finish=_finish(finish, parts), model=self.model)
                    case Fails(kind, words):
                        self._ended = True
                        raise ModelError(kind, words or f"The model has an error ({kind}).")
                    case Breaks(words):
                        self._ended = True
                        raise RuntimeError(words)
                    case _:
                        assert_never(act)
            finally:
                self._acts.task_done()


def _finish(finish: Finish, parts: Sequence[log.Part]) -> Finish:
    return "calls" if finish == "stop" and any(isinstance(part, log.Call) for part in parts) else finish


def _joined(parts: Sequence[log.Part]) -> tuple[log.Part, ...]:
    """Texts that came one after the other are one text, as they would be from a provider."""
    joined: list[log.Part] = []
    for part in parts:
        last = joined[-1] if joined else None
        if isinstance(part, log.Text) and isinstance(last, log.Text):
            joined[-1] = log.Text(last.text + part.text)
        else:
            joined.append(part)
    return tuple(joined)


# Over HTTP


class HttpStage:
    """The real clients of a provider, and its protocol on a local server."""

    real = True

    def __init__(self, notify: Ring, provider: ProtocolName, *, keeps_state: bool = False) -> None:
        self._ring = notify
        self._provider = provider
        self._keeps_state = keeps_state
        self._server = server.ModelServer()
        self._models: list[ProviderModel] = []

    async def __aenter__(self) -> HttpStage:
        await self._server.__aenter__()
        self._server.respond(self._answer)
        return self

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        for model in self._models:
            await model.aclose()
        await self._server.__aexit__(kind, error, trace)
        if self._server.refusals:
            raise AssertionError(f"{self._provider} would have refused a request: {self._server.refusals[0]}")

    def model(self, name: str, media: MediaStore, cost: float) -> Model:
        url = self._server.url(self._provider)
        provider = Provider(self._provider, self._provider, url, keys=("test-key",), keeps_state=self._keeps_state)
        model = ProviderModel(provider, ModelOptions(name), media)
        self._models.append(model)
        return model

    def _answer(self, request: server.Request) -> server.Turn:
        asked = _HttpAsked(request)
        self._ring(asked)
        return asked.answer


class _HttpAsked:
    def __init__(self, request: server.Request) -> None:
        self.model = request.model
        self.messages = request.messages
        self.tools = request.tools
        self.text_only = request.body.get("tool_choice") in ("none", {"type": "none"})
        self.begun = False
        self.answer = _Unfolding()
        self._request = request
        self._ended = False

    @property
    def state(self) -> str:
        return "ended" if self._ended else "cancelled" if self._request.disconnected else "open"

    async def act(self, *acts: Act) -> None:
        self.begun = any(isinstance(act, Says) for act in acts) or self.begun
        calls = any(isinstance(act, Calls) for act in acts)
        for act in acts:
            self._ended = self._ended or isinstance(act, Ends | Fails | Breaks)
            self.answer.unfold(*_parts(act, calls=calls))
        if self._ended:
            self.answer.end()
            await self._request.finished.wait()

    async def until_cancelled(self) -> None:
        await self._request.disconnection.wait()


def _parts(act: Act, *, calls: bool) -> Iterator[server.Part]:
    match act:
        case Says(text):
            yield server.Say(text)
        case Thinks(text):
            yield server.Think(text)
        case Calls(name, arguments):
            yield server.Call(name, arguments or "{}")
        case Ends(finish):
            # As with the scripted one, tokens are told by nobody, so that the gateway estimates them.
            yield server.Usage(0, 0)
            yield server.End("length" if finish == "length" else "tool_calls" if calls else "stop")
        case Fails(kind, words):
            yield _FAILURES[kind] if not words else server.Fail(_FAILURES[kind].status, message=words)
        case Breaks():
            raise AssertionError("a provider's client does not break; play this scenario with the scripted model only")
        case _:
            assert_never(act)


_FAILURES: dict[ModelErrorKind, server.Fail] = {
    "overloaded": server.Fail(529),
    "rate_limit": server.Fail(429),
    "server": server.Fail(500),
    "auth": server.Fail(401),
    "bad_request": server.Fail(400),
}


class _Unfolding(Sequence[server.Part]):
    """An answer that is made while it is being given. The server goes through it twice: before it begins, when there is
    nothing yet, and as it plays it, when it waits for each part."""

    def __init__(self) -> None:
        self._looked_at = False
        self._parts: deque[server.Part] = deque()
        self._more = asyncio.Event()
        self._is_over = False

    def unfold(self, *parts: server.Part) -> None:
        self._parts.extend(parts)
        self._more.set()

    def end(self) -> None:
        self._is_over = True
        self._more.set()

    def __iter__(self) -> Iterator[server.Part]:
        if not self._looked_at:
            self._looked_at = True
            return iter(())
        return self._unfolded()

    def _unfolded(self) -> Iterator[server.Part]:
        while True:
            while self._parts:
                yield self._parts.popleft()
            if self._is_over:
                return
            self._more.clear()
            yield server.Gate(self._more)

    def __len__(self) -> int:
        return len(self._parts)

    @overload
    def __getitem__(self, index: int) -> server.Part: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[server.Part]: ...
    def __getitem__(self, index: int | slice) -> server.Part | Sequence[server.Part]:
        return tuple(self._parts)[index]
