"""One answer of the model: what it is asked, in a conversation that has room for it, and what becomes of its answer."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import assert_never

from agent.agent import Agent
from agent.decisions.approvals import limit_extensions, limit_question
from agent.decisions.external_tools import available_tools
from agent.events import Emit, TextDelta
from agent.hook import Ask, Deny, End, ModelAnswer, ModelRequest, Respond, Ruled, Stop
from agent.log import (
    ApprovalRequested,
    Call,
    Compacted,
    Entry,
    MessagesRead,
    ModelAnswered,
    Native,
    Part,
    Text,
    Thinking,
)
from agent.log_state import is_finishing_up, step_of, steps_since_message
from agent.loop.streaming import AnswerStream, EndTurn
from agent.model import Answer, ModelError, Request, ToolSpec
from agent.transcript import Conversation, SystemNote
from agent.turn_context import TurnContext

STEPS_USED_UP = (
    "You have used all the steps allowed for this task, and tools are no longer available. Tell the person, in words, "
    "what was done, what was not, and how to go on."
)
FINISH_UP = (
    "The person asks you to come to an end now. Tools are no longer available. Tell them, briefly and in words, what "
    "was done, what was not, and how to go on."
)

MOST_SHORTER = 3
"""How often a conversation that its model says is too long is made shorter for one answer."""


class ModelStep:
    """Asks the model once. `speech` is what it has told so far."""

    def __init__(
        self,
        agent: Agent,
        turn_context: TurnContext,
        append: Callable[..., Awaitable[None]],
        emit: Emit,
        *,
        id: str,
        conversation: Conversation,
        entries: Sequence[Entry],
    ) -> None:
        """`entries` is the turn's log itself, which `append` makes longer."""
        self._agent = agent
        self._turn_context = turn_context
        self._append = append
        self._id = id
        self._conversation = conversation
        self._entries = entries
        self._step = step_of(entries)
        self.speech = AnswerStream(agent.hooks, turn_context.hook_context, emit, self._step, agent.mask)

    async def answer(self) -> ModelAnswered | ApprovalRequested:
        """The answer, or the question whether a limit may be passed for it. What is set aside for it is the caller's to
        release, when the log says what it cost. Raises `ModelError`, `EndTurn` and `JournalError`."""
        await self._compact()
        request, response = await self._reviewed_request()
        if response is not None:
            await self.speech.tell(TextDelta(response.text))
            return await self._answered(Answer((Text(response.text),)), request)
        limit = await self._turn_context.budget.reserve(request, limit_extensions(self._entries))
        if limit is not None and self._turn_context.unattended:
            raise EndTurn(End(limit))
        if limit is not None:
            expires_at = time.time() + self._agent.approval_timeout
            return limit_question(f"{self._id[:12]}_limit_{self._step}", limit, expires_at)
        answer, request = await self._ask(request)
        self.speech.given(answer.usage, answer.model)
        return await self._answered(answer, request)

    async def _compact(self, *, force: bool = False) -> bool:
        """Whether something was covered by a summary."""
        compactor = self._agent.compactor
        if compactor is None:
            return False
        made = await compactor.compact(
            self._conversation.past,
            self._entries,
            instructions=self._agent.instructions,
            tools=self._tools(),
            used=_used(self._entries),
            on_delta=self.speech.tell,
            force=force,
        )
        await self._append(*made)
        return bool(made)

    async def _ask(self, request: Request) -> tuple[Answer, Request]:
        """The answer, and what was asked in the end: a conversation that is too long is made shorter."""
        for _ in range(MOST_SHORTER):
            try:
                return await self._agent.model.answer(request, self.speech.tell), request
            except ModelError as error:
                added = request.transcript[len(self._request().transcript) :]
                if error.kind != "too_long" or not await self._compact(force=True):
                    raise
            request = replace(request, transcript=[*self._request().transcript, *added])
        return await self._agent.model.answer(request, self.speech.tell), request

    def _tools(self) -> tuple[ToolSpec, ...]:
        return tuple(tool.spec for tool in available_tools(self._agent.tools, self._entries))

    def _request(self) -> Request:
        request = Request(
            self._agent.instructions,
            self._conversation.up_to(self._entries),
            self._tools(),
            model=self._turn_context.model,
        )
        if self._turn_context.text_only_notice:
            return _ending(request, self._turn_context.text_only_notice)
        if is_finishing_up(self._entries):
            return _ending(request, FINISH_UP)
        if steps_since_message(self._entries) >= self._agent.max_steps:
            return _ending(request, STEPS_USED_UP)
        return request

    async def _reviewed_request(self) -> tuple[Request, Respond | None]:
        """The request as hooks want it, and the answer that one of them gives in the model's place."""
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
        wanted, ruled = await hooks.ask("before_model", self._turn_context.hook_context, shown)
        request = replace(
            request,
            instructions=wanted.instructions,
            transcript=[*request.transcript, *map(SystemNote, wanted.notices)],
            tools=tuple(tool for tool in request.tools if tool.name in wanted.tools),
            model=wanted.model,
            settings=wanted.settings,
        )
        return request, _response(ruled)

    async def _answered(self, answer: Answer, request: Request) -> ModelAnswered:
        parts = tuple(
            replace(part, id=f"{self._id[:12]}_{self._step}_{number}") if isinstance(part, Call) else part
            for number, part in enumerate(answer.parts)
            if not (request.text_only and isinstance(part, Call))
        )
        answered = ModelAnswered(
            self._step,
            tuple(_masked(part, self._agent.mask) for part in parts),
            answer.usage,
            answer.model,
            cut_off=answer.finish == "length",
        )
        answered = await self._reviewed_answer(answered)
        return replace(answered, shown=await self.speech.shown(answered.text))

    async def _reviewed_answer(self, answered: ModelAnswered) -> ModelAnswered:
        hooks = self._agent.hooks
        if not hooks.active("after_model"):
            return answered
        tools = tuple(call.name for call in answered.calls)
        shown = ModelAnswer(answered.step, answered.text, answered.model, tools)
        wanted, ruled = await hooks.ask("after_model", self._turn_context.hook_context, shown)
        _response(ruled)
        return answered if wanted.text == answered.text else _with_text(answered, wanted.text)


def _ending(request: Request, notice: str) -> Request:
    """The same request, to be answered in words."""
    return replace(request, transcript=[*request.transcript, SystemNote(notice)], text_only=True)


def _used(entries: Sequence[Entry]) -> int:
    """Tokens of the conversation as the last answer's provider counted them; 0 if nobody has since it was summed up."""
    for entry in reversed(entries):
        match entry:
            case Compacted():
                return 0
            case ModelAnswered(interrupted=False, usage=usage):
                return usage.input + usage.output
            case _:
                pass
    return 0


def _with_text(answered: ModelAnswered, text: str) -> ModelAnswered:
    """The answer with this text in place of its own, before the calls that it asks for."""
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
            # Signed by their provider, which takes them back unchanged only.
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
