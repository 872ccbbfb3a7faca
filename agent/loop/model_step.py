"""One model call of a turn: compaction, hooks, limits, the call itself and its answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import assert_never

from agent.agent import Agent
from agent.arguments import fit_arguments
from agent.context.tokens import estimate_tokens
from agent.decisions.approvals import limit_approval, limit_extensions, limit_requests
from agent.events import Emit, TextDelta
from agent.gate import storable, text
from agent.hook import Ask, Deny, End, ModelAnswer, ModelRequest, Respond, Ruled, Stop
from agent.log import (
    ApprovalRequested,
    Call,
    CallEnded,
    Entry,
    MessagesRead,
    ModelAnswered,
    Native,
    Part,
    Text,
    Thinking,
)
from agent.log_state import detect_loop, is_finishing_up, step_of, steps_since_message
from agent.loop.offered_tools import callable_tools, described_tools
from agent.loop.streaming import AnswerStream, EndTurn
from agent.model import Answer, ModelError, ModelSettings, Request
from agent.models.called_names import with_known_names
from agent.transcript import Conversation, SystemNote
from agent.turn_context import TurnContext

STEPS_USED_UP = (
    "You have used all the steps allowed for this task, and tools are no longer available. Tell the person what was "
    "done, what was not done, and how to continue."
)
GOING_IN_CIRCLES = (
    "You have called {tools} again and again with the same arguments and the same result. Tools are no longer "
    "available. Tell the person what was done, what was not done, and what stands in the way."
)
FINISH_UP = (
    "The person asks you to finish up now. Tools are no longer available. Tell them briefly what was done, what was "
    "not done, and how to continue."
)

NO_SUMMARY = {
    STEPS_USED_UP: (
        "_All steps for this task are used up, and the model did not say how far it came. Write to let it go on._"
    ),
    FINISH_UP: "_The task ended here, as you asked. The model did not say how far it came._",
}
"""What people are told if the model calls a tool in place of the answer in words that it was asked for."""

NO_ANSWER = "_The model did not answer: it called a tool, and may not do that here._"

HIDDEN = "Denied: the tool {tool} is not available here. It was not run."
NOT_DESCRIBED = "Not run: you have not seen the description of {tool} yet. Call it again, now that you have."

MAX_COMPACTIONS = 3
"""How often the conversation is compacted for one answer when the model rejects it as too long."""

NEARLY_FULL = 0.9
"""Share of the context window from which a rejection without a clear reason counts as too long, once."""


class ModelStep:
    """Asks the model once. `stream` is its answer so far.

    With the answer belong `denials`, the results of calls that the model was not offered, and `notice`, what people are
    told if there is no answer in words where there should be one.
    """

    def __init__(
        self,
        agent: Agent,
        turn_context: TurnContext,
        append: Callable[..., Awaitable[None]],
        emit: Emit,
        now: Callable[[], Awaitable[float]],
        *,
        id: str,
        conversation: Conversation,
        entries: Sequence[Entry],
    ) -> None:
        """`entries` is the turn's log, which `append` extends; `now` is the journal's."""
        self._agent = agent
        self._turn_context = turn_context
        self._append = append
        self._now = now
        self._id = id
        self._conversation = conversation
        self._entries = entries
        self._step = step_of(entries)
        self._callable = callable_tools(agent.tools, entries)
        described = described_tools(self._callable, conversation.past, entries)
        self._tools = tuple(tool.spec for tool in described)
        self.denials: tuple[CallEnded, ...] = ()
        self.notice = ""
        self.stream = AnswerStream(agent.hooks, turn_context.hook_context, emit, self._step, agent.mask)

    async def answer(self) -> ModelAnswered | ApprovalRequested:
        """The answer, or the request to exceed a limit for it. The caller releases the reserved budget when the cost
        is in the log. Raises `ModelError`, `EndTurn` and `JournalError`."""
        await self._compact()
        request, response = await self._reviewed_request()
        if response is not None:
            await self.stream.receive(TextDelta(response.text))
            return await self._to_entry(Answer((Text(response.text),)), request)
        limit = await self._turn_context.budget.reserve(request, limit_extensions(self._entries))
        if limit is not None and self._turn_context.unattended:
            raise EndTurn(End(limit))
        if limit is not None:
            expires_at = await self._now() + self._agent.approval_timeout
            # Another id for each request: a second press on an earlier one decides nothing.
            number = 1 + limit_requests(self._entries)
            return limit_approval(f"{self._id[:12]}_limit_{number}", limit, expires_at)
        answer, request = await self._ask(request)
        self.stream.finish(answer.usage, answer.model)
        return await self._to_entry(answer, request)

    async def _compact(self, *, force: bool = False) -> bool:
        """Compacts the conversation if it is too long; whether it did."""
        compactor = self._agent.compactor
        if compactor is None:
            return False
        added = await compactor.compact(
            self._conversation.past,
            self._entries,
            instructions=self._agent.instructions,
            tools=self._tools,
            model=self._turn_context.model,
            on_delta=self.stream.receive,
            force=force,
        )
        await self._append(*added)
        return bool(added)

    async def _ask(self, request: Request) -> tuple[Answer, Request]:
        """The answer, and the request as sent in the end: a conversation that is too long is compacted."""
        is_guessed = False
        for _ in range(MAX_COMPACTIONS):
            try:
                return await self._send(request), request
            except ModelError as error:
                added = request.transcript[len(self._request().transcript) :]
                is_too_long = error.kind == "too_long"
                if not is_too_long and not is_guessed:
                    is_guessed = is_too_long = self._may_be_too_long(error)
                if not is_too_long or not await self._compact(force=True):
                    raise
            request = replace(request, transcript=[*self._request().transcript, *added])
        return await self._send(request), request

    async def _send(self, request: Request) -> Answer:
        """Asks the model; observers learn the size of the request."""
        hooks = self._agent.hooks
        if hooks.active("on_event"):
            requested = {
                "event": "ModelRequested",
                "step": self._step,
                "model": request.model,
                "messages": len(request.transcript),
                "tools": len(request.tools),
                "tokens": estimate_tokens(request),
            }
            hooks.observe(self._turn_context.hook_context, requested)
        self.stream.begin()
        return await self._agent.model.answer(request, self.stream.receive)

    def _may_be_too_long(self, error: ModelError) -> bool:
        """Whether a rejection without a clear reason comes from the length: the window is nearly full."""
        compactor = self._agent.compactor
        if compactor is None or error.kind != "bad_request":
            return False
        share = compactor.share(
            self._conversation.past,
            self._entries,
            instructions=self._agent.instructions,
            tools=self._tools,
            model=self._turn_context.model,
        )
        return share >= NEARLY_FULL

    def _request(self) -> Request:
        request = Request(
            text(self._agent.instructions),
            self._conversation.up_to(self._entries),
            self._tools,
            model=self._turn_context.model,
            settings=ModelSettings(reasoning=self._turn_context.reasoning),
        )
        notice = self._text_only_notice()
        return _text_only(request, notice) if notice else request

    def _text_only_notice(self) -> str:
        """Why the model may not call tools; "" if it may."""
        if self._turn_context.text_only_notice:
            return self._turn_context.text_only_notice
        if is_finishing_up(self._entries):
            return FINISH_UP
        if steps_since_message(self._entries) >= self._agent.max_steps:
            return STEPS_USED_UP
        if tools := detect_loop(self._entries):
            return GOING_IN_CIRCLES.format(tools=" and ".join(tools))
        return ""

    async def _reviewed_request(self) -> tuple[Request, Respond | None]:
        """The request as changed by hooks, and the answer of a hook in place of the model's."""
        request, hooks = self._request(), self._agent.hooks
        if not hooks.active("before_model"):
            return request, None
        shown = ModelRequest(
            self._step,
            tuple(
                message.text for entry in self._entries if isinstance(entry, MessagesRead) for message in entry.messages
            ),
            request.instructions,
            tuple(tool.name for tool in request.tools),
            request.model,
            request.settings,
        )
        changed, ruled = await hooks.ask("before_model", self._turn_context.hook_context, shown)
        request = replace(
            request,
            instructions=text(changed.instructions),
            transcript=[*request.transcript, *(SystemNote(text(notice)) for notice in changed.notices)],
            tools=tuple(tool for tool in request.tools if tool.name in changed.tools),
            model=changed.model,
            settings=changed.settings.over(request.settings),
        )
        return request, _response(ruled)

    async def _to_entry(self, answer: Answer, request: Request) -> ModelAnswered:
        answer = with_known_names(storable(answer), request.tools)
        schemas = {tool.name: tool.schema for tool in request.tools}
        parts = tuple(
            replace(
                part,
                id=f"{self._id[:12]}_{self._step}_{number}",
                arguments=fit_arguments(part.arguments, schemas.get(part.name, {})),
            )
            if isinstance(part, Call)
            else part
            for number, part in enumerate(answer.parts)
            if not (request.text_only and isinstance(part, Call))
        )
        answered = ModelAnswered(
            self._step,
            tuple(_masked(part, self._agent.mask) for part in parts),
            answer.usage,
            answer.model,
            cut_off=answer.finish == "length",
            refused=answer.finish == "refused",
            seconds=self.stream.seconds,
            first_token=self.stream.first_token,
        )
        answered = await self._reviewed_answer(answered)
        answered = storable(answered)
        answered = replace(answered, shown=await self.stream.shown(answered.text))
        self.denials = self._denials(answered, request)
        if len(answer.parts) > len(parts) and not answered.text.strip():
            self.notice = NO_SUMMARY.get(self._text_only_notice(), NO_ANSWER)
        return answered

    def _denials(self, answered: ModelAnswered, request: Request) -> tuple[CallEnded, ...]:
        """The results of calls of tools that are not in the request: hooks have taken them out, or the model was not
        described them."""
        described = {tool.name for tool in self._tools}
        known = {tool.name for tool in self._callable} - {tool.name for tool in request.tools}
        return tuple(
            CallEnded(call.id, "denied", (HIDDEN if call.name in described else NOT_DESCRIBED).format(tool=call.name))
            for call in answered.calls
            if call.name in known
        )

    async def _reviewed_answer(self, answered: ModelAnswered) -> ModelAnswered:
        hooks = self._agent.hooks
        if not hooks.active("after_model"):
            return answered
        tools = tuple(call.name for call in answered.calls)
        shown = ModelAnswer(answered.step, answered.text, answered.model, tools)
        changed, ruled = await hooks.ask("after_model", self._turn_context.hook_context, shown)
        _response(ruled)
        return answered if changed.text == answered.text else _with_text(answered, changed.text)


def _text_only(request: Request, notice: str) -> Request:
    """The request with a notice that it must be answered without tools."""
    return replace(request, transcript=[*request.transcript, SystemNote(notice)], text_only=True)


def _with_text(answered: ModelAnswered, text: str) -> ModelAnswered:
    """The answer with its text replaced; the calls stay last."""
    others = tuple(part for part in answered.parts if not isinstance(part, Text))
    before = tuple(part for part in others if not isinstance(part, Call))
    calls = tuple(part for part in others if isinstance(part, Call))
    return replace(answered, parts=(*before, *((Text(text),) if text else ()), *calls))


def _masked(part: Part, mask: Callable[[str], str]) -> Part:
    match part:
        case Text(text):
            return replace(part, text=mask(text))
        case Call(arguments=arguments):
            return replace(part, arguments=mask(arguments))
        case Thinking() | Native():
            # Signed by the provider, which accepts them only unchanged.
            return part
        case _:
            assert_never(part)


def _response(ruled: Ruled | None) -> Respond | None:
    if ruled is None:
        return None
    match ruled.ruling:
        case Respond() as response:
            return response
        case End() | Stop() as ruling:
            raise EndTurn(ruling, ruled.hook)
        case Ask() | Deny():
            return None
        case _:
            assert_never(ruled.ruling)
