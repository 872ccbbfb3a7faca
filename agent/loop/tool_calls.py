"""Runs the tool calls of one step: reads concurrently, effects in order, interrupted as each tool allows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar, assert_never

from agent.agent import Agent
from agent.background import BackgroundError
from agent.decisions.external_tools import ExternalTool
from agent.events import Emit, Progress
from agent.gate import storable
from agent.interrupt import Interrupted, cancel_and_wait, is_cancelled, race
from agent.journal import Journal
from agent.log import ApprovalRequested, Call, CallEnded, CallStarted, Entry, MessagesRead, SuggestedReply
from agent.loop.call_costs import CallCosts
from agent.loop.call_input import CallInput
from agent.loop.call_model import CallModel
from agent.loop.offered_tools import callable_tools
from agent.loop.streaming import EndTurn
from agent.loop.tool_review import Ready, ToolReview
from agent.media import Attachment, MediaError
from agent.tool import Tool, ToolContext, ToolError
from agent.tool_result import ToolResult
from agent.tools.titles import call_title
from agent.transcript import RenderedTurn
from agent.turn_context import TurnContext

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_CONCURRENT_READS = 8

MAX_TITLE_LENGTH = 80
"""Characters of the title of a call in the background."""

BACKGROUND_GRACE = 1.0
"""Seconds that a call has to end after an interjection before it moves to the background."""

REPORTED = (ToolError, MediaError, BackgroundError)
"""What tools raise to tell the model why they failed; anything else is a fault, and logged."""

SKIPPED = "Skipped: a new message arrived before this call started. It was not run."
CANCELLED = "Cancelled: a new message arrived while this call was running. It was stopped early and has no result."
NOT_IN_BACKGROUND = (
    "Cancelled: a new message arrived while this call was running, and it could not go on in the background: {reason}. "
    "It was stopped early and has no result."
)
IN_PLACE = "[A hook had {tool} run in place of {call}.]\n{text}"
IN_BACKGROUND = (
    "A new message arrived, so this call continues in the background as {handle}. Its result will come as a message. "
    "Use the tool background, if you have it, to look at the call or to stop it."
)


class _NotInBackground(Exception):
    """An interjection ended the call, which could not go on in the background; the message is the reason."""


class ToolCallRunner:
    """Runs calls so that each ends in exactly one logged result, in the model's order.

    Calls that wait for people stay open, with the calls after them, and so do external calls, which come last.
    """

    def __init__(
        self,
        agent: Agent,
        turn_context: TurnContext,
        journal: Journal,
        append: Callable[..., Awaitable[None]],
        record: Callable[..., Awaitable[None]],
        emit: Emit,
        *,
        entries: Sequence[Entry],
        attachments: tuple[Attachment, ...],
        past: Sequence[RenderedTurn] = (),
    ) -> None:
        """`entries` is the turn's log, which `append` extends, and `record` by what the journal has written; `past` is
        the conversation before the turn."""
        self._agent = agent
        self._tools = {tool.name: tool for tool in callable_tools(agent.tools, entries)}
        self._turn_context = turn_context
        self._journal = journal
        self._append = append
        self._emit = emit
        self._entries = entries
        self._attachments = attachments
        self._review = ToolReview(agent, turn_context, entries, journal.now, past, self._tools)
        self._costs = CallCosts(turn_context.budget, entries)
        self._model = CallModel(agent, turn_context, self._costs, entries, self._review.end)
        self._input = CallInput(agent, turn_context, journal, append, record, entries)
        self._shown: dict[str, str] = {}
        self._in_background: set[str] = set()

    async def run(self, calls: Sequence[Call]) -> bool:
        """Runs the calls. False when the turn has to wait for an answer, an approval or the result of an external
        call. Raises `EndTurn`."""
        external = [call for call in calls if self._is_external(call)]
        own = [call for call in calls if call not in external]
        for batch in _batches(own, lambda call: self._tools.get(call.name)):
            if self._journal.interjected:
                await self._skip(batch)
            elif self._is_question(batch[0]):
                await self._append(CallStarted(batch[0].id))
                return False
            elif not await self._run_allowed(batch):
                return False
        return not external or await self._start_external(external)

    def _is_external(self, call: Call) -> bool:
        return isinstance(self._tools.get(call.name), ExternalTool)

    async def _start_external(self, calls: Sequence[Call]) -> bool:
        """Starts the external calls together, when all may run. False when one has started or needs approval."""
        ready, question = ([], None) if self._journal.interjected else await self._review_calls(calls)
        if self._journal.interjected:
            await self._skip(calls)
            return True
        own = [each for each in ready if each.supplied is not None or not isinstance(each.tool, ExternalTool)]
        await self._run_in_order(own)
        if question is not None:
            await self._append(question)
            return False
        external = [each for each in ready if each not in own]
        until = await self._journal.now() + self._agent.approval_timeout
        await self._append(
            *(CallStarted(each.call.id, until, self._agent.mask(each.arguments or "{}")) for each in external)
        )
        return not external

    def _is_question(self, call: Call) -> bool:
        """Whether the call is a valid question. An invalid one is run, and fails with the reason."""
        tool = self._tools.get(call.name)
        if tool is None or not tool.asks:
            return False
        try:
            tool.check(call.arguments)
        except ToolError:
            return False
        return True

    async def _run_allowed(self, batch: Sequence[Call]) -> bool:
        """Runs the allowed calls. False when one needs approval; the calls before it have run."""
        ready, question = await self._review_calls(batch)
        if self._journal.interjected:
            # A message arrived while hooks were running.
            await self._skip(batch)
            return True
        await self._run_in_order(ready)
        if question is not None:
            await self._append(question)
        return question is None

    async def _run_in_order(self, ready: Sequence[Ready]) -> None:
        """Runs the calls as the effects of their tools allow, which hooks may have changed."""
        for batch in _batches(ready, lambda each: each.tool):
            if self._journal.interjected:
                await self._skip([each.call for each in batch])
            else:
                await self._run_batch(batch)

    async def _skip(self, calls: Sequence[Call]) -> None:
        """Ends the calls as skipped that have not ended; none of them has started."""
        ended = {entry.call_id for entry in self._entries if isinstance(entry, CallEnded)}
        await self._append(*(CallEnded(call.id, "skipped", SKIPPED) for call in calls if call.id not in ended))

    async def _review_calls(self, batch: Sequence[Call]) -> tuple[list[Ready], ApprovalRequested | None]:
        """The calls that may run, up to the first that needs approval; calls that may not run are ended."""
        ready: list[Ready] = []
        for call in batch:
            match await self._review_call(call):
                case Ready() as allowed:
                    ready.append(allowed)
                case CallEnded() as end:
                    # The words may be a hook's.
                    await self._append(replace(end, text=self._agent.mask(end.text)))
                case ApprovalRequested() as question:
                    return ready, question
        return ready, None

    async def _review_call(self, call: Call) -> Ready | CallEnded | ApprovalRequested:
        """Whether the call may run. Raises `EndTurn`."""
        tool = self._tools.get(call.name)
        if tool is None:
            known = ", ".join(self._tools) or "none"
            return _failed(call, f"Unknown tool {call.name!r}. Available tools: {known}.")
        return await self._review.review_call(call, tool)

    def _started(self, ready: Ready) -> CallStarted:
        """With the tool and its arguments if hooks have changed them."""
        other = "" if ready.tool.name == ready.call.name else ready.tool.name
        arguments = self._agent.mask(ready.arguments)
        is_same = not other and arguments == self._agent.mask(ready.call.arguments)
        return CallStarted(ready.call.id, arguments="" if is_same else arguments, tool=other)

    async def _run_batch(self, batch: Sequence[Ready]) -> None:
        await self._append(*map(self._started, batch))
        running = [asyncio.ensure_future(self._run_call(ready)) for ready in batch]
        logged = 0
        try:
            for ending in running:
                end = await ending
                await self._append(*self._costs.take(end.call_id), end)
                logged += 1
                if self._review.end_turn is not None:
                    raise self._review.end_turn
        except (asyncio.CancelledError, EndTurn):
            await cancel_and_wait(*running)
            await self._append(*self._costs.take_all(), *_results(running[logged:]))
            raise
        finally:
            await cancel_and_wait(*running)

    async def _run_call(self, ready: Ready) -> CallEnded:
        """The call's one result, after hooks and masking."""
        end = await self._review.finish_result(ready.tool.name, await self._end_of(ready))
        if ready.tool.name == ready.call.name or ready.supplied is not None or end.final:
            return end
        return replace(end, text=IN_PLACE.format(call=ready.call.name, tool=ready.tool.name, text=end.text))

    async def _end_of(self, ready: Ready) -> CallEnded:
        """Runs the call. Whatever the tool raises becomes a result."""
        call, tool = ready.call, ready.tool
        if ready.supplied is not None:
            return ready.supplied
        try:
            async with self._costs.reserved(call.id, tool.cost):
                result = await self._race(ready)
        except Interrupted:
            return CallEnded(call.id, "cancelled", _with_compensation(tool, CANCELLED))
        except _NotInBackground as error:
            text = NOT_IN_BACKGROUND.format(reason=str(error).rstrip("."))
            return CallEnded(call.id, "cancelled", _with_compensation(tool, text))
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            return _failed(call, f"{tool.name} ended without a result: an operation that it awaited was cancelled.")
        except TimeoutError:
            text = f"{tool.name} timed out after {tool.timeout:g} seconds and was stopped."
            return _failed(call, _with_compensation(tool, text))
        except Exception as error:
            if not isinstance(error, REPORTED):
                log.exception("tool %s failed", tool.name)
            text, found = _failure(tool, error)
            return replace(_failed(call, text), foreign=found)
        return replace(_done(call, result, tool), background=call.id in self._in_background)

    async def _race(self, ready: Ready) -> ToolResult:
        """Runs the tool; an interjection has the effect that `on_steer` says."""
        match ready.tool.on_steer:
            case "finish":
                return await race(self._run_tool(ready), _never())
            case "cancel":
                return await race(self._run_tool(ready), self._journal.interjection())
            case "background":
                return await self._until_background(ready)
            case _:
                assert_never(ready.tool.on_steer)

    async def _run_tool(self, ready: Ready) -> ToolResult:
        call, agent = ready.call, self._agent

        async def progress(text: str) -> None:
            self._shown[call.id] = agent.mask(text)
            await self._emit(Progress(call.id, self._shown[call.id]))

        context = ToolContext(
            agent.workspace,
            agent.media,
            progress,
            self._attachments,
            call.id,
            self._turn_context.background,
            self._costs.charge_for(call.id),
            settings=ready.tool.settings,
            tools=tuple(self._tools.values()),
            asked_by=self._turn_context.hook_context,
            others_wrote=_others_wrote(self._entries, self._turn_context.hook_context.sender_id),
            in_group=self._turn_context.in_group,
            schedules=self._turn_context.schedules,
            memory=self._turn_context.memory,
        )
        async with (
            self._model.of_call(call.id, ready.tool.name) as ask_model,
            asyncio.timeout(ready.tool.timeout) as limit,
            self._input.of_call(call.id, limit) as ask_person,
        ):
            context = replace(context, ask_model=ask_model, ask_person=ask_person)
            result = storable(await ready.tool.call(context, ready.arguments))
        return _masked(result, agent.mask)

    async def _until_background(self, ready: Ready) -> ToolResult:
        """The result, or, soon after an interjection, a note that the call continues in the background. One that may
        not continue there is cancelled, because no call holds an interjection: raises `_NotInBackground`."""
        running = asyncio.ensure_future(self._run_tool_reviewed(ready))
        interjected = asyncio.ensure_future(self._journal.interjection())
        adopted = False
        try:
            await asyncio.wait((running, interjected), return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait((running,), timeout=BACKGROUND_GRACE)
            if running.done():
                return running.result()
            handle = await self._move_to_background(ready, running)
            adopted = True
            return ToolResult(IN_BACKGROUND.format(handle=handle))
        except _NotInBackground:
            await cancel_and_wait(running)
            if running.done() and not running.cancelled() and running.exception() is None:
                return running.result()
            raise
        finally:
            await cancel_and_wait(interjected, *(() if adopted else (running,)))

    async def _move_to_background(self, ready: Ready, running: asyncio.Task[ToolResult]) -> str:
        """The handle of the call there. Raises `_NotInBackground`."""
        title = self._agent.mask(call_title(ready.tool.name, ready.arguments))[:MAX_TITLE_LENGTH]
        self._in_background.add(ready.call.id)
        try:
            return await self._turn_context.background.adopt(
                title, running, partial(self._last_shown, ready), partial(self._costs.take, ready.call.id)
            )
        except BackgroundError as error:
            self._in_background.discard(ready.call.id)
            raise _NotInBackground(str(error)) from error

    async def _run_tool_reviewed(self, ready: Ready) -> ToolResult:
        """The result, reviewed by hooks if the call has moved to the background."""
        try:
            result = await self._run_tool(ready)
        except TimeoutError:
            raise
        except Exception as error:
            if ready.call.id not in self._in_background or not ready.tool.foreign:
                raise
            if not isinstance(error, REPORTED):
                log.exception("tool %s failed", ready.tool.name)
            text, found = _failure(ready.tool, error)
            raise BackgroundError(text, foreign=found) from error
        if ready.call.id not in self._in_background:
            return result
        end = await self._review.review_result(ready.tool.name, _done(ready.call, result, ready.tool))
        return replace(result, text=end.text, attachments=end.attachments, for_user=end.for_user, foreign=end.foreign)

    def _last_shown(self, ready: Ready) -> str:
        return self._shown.get(ready.call.id, "")


def _batches(items: Sequence[T], tool_of: Callable[[T], Tool | None]) -> Iterator[list[T]]:
    """Batches of consecutive calls that only read; a call with effects is a batch of its own."""
    batch: list[T] = []
    for item in items:
        tool = tool_of(item)
        if tool is not None and tool.effect != "read":
            if batch:
                yield batch
            yield [item]
            batch = []
            continue
        batch.append(item)
        if len(batch) == MAX_CONCURRENT_READS:
            yield batch
            batch = []
    if batch:
        yield batch


async def _never() -> None:
    await asyncio.get_running_loop().create_future()


def _masked(result: ToolResult, mask: Callable[[str], str]) -> ToolResult:
    """The result without known secrets, in all of its words."""
    text, caption, for_user, how = map(mask, (result.text, result.caption, result.for_user, result.how))
    suggestions = tuple(SuggestedReply(mask(each.label), mask(each.text)) for each in result.suggestions)
    foreign = tuple(map(mask, result.foreign))
    return replace(
        result, text=text, caption=caption, for_user=for_user, how=how, suggestions=suggestions, foreign=foreign
    )


def _others_wrote(entries: Sequence[Entry], person: str) -> bool:
    read = (message for entry in entries if isinstance(entry, MessagesRead) for message in entry.messages)
    return any(message.sender_id not in ("", person) for message in read)


def _with_compensation(tool: Tool, text: str) -> str:
    return f"{text} {tool.compensation}" if tool.compensation else text


def _sources(tool: Tool, found: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The sources of foreign text in a result, as far as the tool names them."""
    return found or ((f"the tool {tool.name}",) if tool.foreign else ())


def _failure(tool: Tool, error: Exception) -> tuple[str, tuple[str, ...]]:
    """The text of what a tool raised, and the sources of foreign text in it."""
    found = error.foreign if isinstance(error, BackgroundError) else ()
    text = str(error) if isinstance(error, REPORTED) else f"{tool.name} failed: {type(error).__name__}: {error}"
    return text, _sources(tool, found)


def _done(call: Call, result: ToolResult, tool: Tool) -> CallEnded:
    return CallEnded(
        call.id,
        "failed" if result.failed else "done",
        result.text,
        result.attachments,
        result.images,
        result.caption,
        result.for_user,
        final=result.final or (tool.final and not result.failed),
        silent=result.silent,
        foreign=_sources(tool, result.foreign),
        suggestions=result.suggestions,
        how=result.how,
    )


def _failed(call: Call, text: str) -> CallEnded:
    return CallEnded(call.id, "failed", text)


def _results(running: Sequence[asyncio.Future[CallEnded]]) -> list[CallEnded]:
    return [task.result() for task in running if task.done() and not task.cancelled() and task.exception() is None]
