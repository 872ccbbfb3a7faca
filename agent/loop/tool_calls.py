"""Running the tool calls of one step: reads side by side, effects in order, interrupted as each tool allows."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import assert_never

from agent.agent import Agent
from agent.background import BackgroundError
from agent.decisions.external_tools import ExternalTool, available_tools
from agent.events import Emit, Progress
from agent.interrupt import Interrupted, cancel_and_wait, race
from agent.journal import Journal
from agent.log import ApprovalRequested, Call, CallEnded, CallStarted, Entry
from agent.loop.streaming import EndTurn
from agent.loop.tool_review import Ready, ToolReview
from agent.media import Attachment, MediaError
from agent.tool import Tool, ToolContext, ToolError
from agent.tool_result import ToolResult
from agent.tools.titles import call_title
from agent.turn_context import TurnContext

log = logging.getLogger(__name__)

MOST_SIDE_BY_SIDE = 8

LONGEST_TITLE = 80
"""Characters by which a call that goes on in the background is named."""

GRACE = 1.0
"""Seconds in which a steered call may still come to its end before it goes on in the background."""

SKIPPED = "Skipped: a new message arrived before this call started. It was not run."
CANCELLED = "Cancelled: a new message arrived while this call was running. It was stopped early and has no result."
IN_BACKGROUND = (
    "A new message arrived, so this call continues in the background as {handle}. Its result will come as a message. "
    "Use the tool background, if you have it, to look at the call or to stop it."
)


class Calls:
    """Runs calls so that each ends in exactly one logged result, in the order in which they were asked for.

    Only what waits for people stays open, and what stands behind it; and calls that are run outside, which come last.
    """

    def __init__(
        self,
        agent: Agent,
        turn_context: TurnContext,
        journal: Journal,
        append: Callable[..., Awaitable[None]],
        emit: Emit,
        *,
        entries: Sequence[Entry],
        attachments: tuple[Attachment, ...],
    ) -> None:
        """`entries` is the turn's log itself, which `append` makes longer."""
        self._agent = agent
        self._tools = {tool.name: tool for tool in available_tools(agent.tools, entries)}
        self._turn_context = turn_context
        self._journal = journal
        self._append = append
        self._emit = emit
        self._entries = entries
        self._attachments = attachments
        self._reviewing = ToolReview(agent, turn_context, entries)
        self._shown: dict[str, str] = {}
        self._kept: set[str] = set()

    async def run(self, calls: Sequence[Call]) -> bool:
        """False when a question to people was reached, or a call that is run outside: nothing goes on until there is an
        answer. Raises `EndTurn`."""
        outside = [call for call in calls if self._is_outside(call)]
        for batch in self._batches([call for call in calls if call not in outside]):
            if self._journal.interjected:
                await self._skip(batch)
            elif self._asks(batch[0]):
                await self._append(CallStarted(batch[0].id))
                return False
            elif not await self._run_allowed(batch):
                return False
        return not outside or await self._begin_outside(outside)

    def _is_outside(self, call: Call) -> bool:
        return isinstance(self._tools.get(call.name), ExternalTool)

    async def _begin_outside(self, calls: Sequence[Call]) -> bool:
        """Begins them together, as soon as each of them may be begun. False when one was, or needs a decision."""
        ready, question = ([], None) if self._journal.interjected else await self._judge(calls)
        if self._journal.interjected:
            await self._skip(calls)
            return True
        await self._run_batch([each for each in ready if each.response is not None])
        if question is not None:
            await self._append(question)
            return False
        outside = [each for each in ready if each.response is None]
        until = time.time() + self._agent.approval_timeout
        await self._append(
            *(CallStarted(each.call.id, until, self._agent.mask(each.arguments or "{}")) for each in outside)
        )
        return not outside

    def _asks(self, call: Call) -> bool:
        """Whether the call is a question that can be asked; one that cannot is run, and fails with the reason."""
        tool = self._tools.get(call.name)
        if tool is None or not tool.asks:
            return False
        try:
            tool.check(call.arguments)
        except ToolError:
            return False
        return True

    def _batches(self, calls: Sequence[Call]) -> Iterator[list[Call]]:
        """Neighbouring calls that only read stand together; a call with effects stands alone."""
        batch: list[Call] = []
        for call in calls:
            tool = self._tools.get(call.name)
            if tool is not None and tool.effect != "read":
                if batch:
                    yield batch
                yield [call]
                batch = []
                continue
            batch.append(call)
            if len(batch) == MOST_SIDE_BY_SIDE:
                yield batch
                batch = []
        if batch:
            yield batch

    async def _run_allowed(self, batch: Sequence[Call]) -> bool:
        """Runs those that may run. False when one needs a decision: those before it have run by then."""
        ready, question = await self._judge(batch)
        if self._journal.interjected:
            # Somebody spoke while hooks were asked.
            await self._skip(batch)
            return True
        await self._run_batch(ready)
        if question is not None:
            await self._append(question)
        return question is None

    async def _skip(self, calls: Sequence[Call]) -> None:
        """Those that are not over by now, none of which has started."""
        over = {entry.call_id for entry in self._entries if isinstance(entry, CallEnded)}
        await self._append(*(CallEnded(call.id, "skipped", SKIPPED) for call in calls if call.id not in over))

    async def _judge(self, batch: Sequence[Call]) -> tuple[list[Ready], ApprovalRequested | None]:
        """Those that may run, up to the first that needs a decision; those that may not are ended."""
        ready: list[Ready] = []
        for call in batch:
            match await self._judged(call):
                case Ready() as allowed:
                    ready.append(allowed)
                case CallEnded() as end:
                    await self._append(end)
                case ApprovalRequested() as question:
                    return ready, question
        return ready, None

    async def _judged(self, call: Call) -> Ready | CallEnded | ApprovalRequested:
        """Whether the call may run. Raises `EndTurn`."""
        tool = self._tools.get(call.name)
        if tool is None:
            known = ", ".join(self._tools) or "none"
            return _failed(call, f"Unknown tool {call.name!r}. Available tools: {known}.")
        return await self._reviewing.judged(call, tool)

    async def _run_batch(self, batch: Sequence[Ready]) -> None:
        if not batch:
            return
        await self._append(*(CallStarted(ready.call.id) for ready in batch))
        running = [asyncio.ensure_future(self._run_call(ready)) for ready in batch]
        logged = 0
        try:
            for ending in running:
                await self._append(await ending)
                logged += 1
                if self._reviewing.over is not None:
                    raise self._reviewing.over
        except (asyncio.CancelledError, EndTurn):
            await cancel_and_wait(*running)
            await self._append(*_results(running[logged:]))
            raise
        finally:
            await cancel_and_wait(*running)

    async def _run_call(self, ready: Ready) -> CallEnded:
        """The call's one result, as hooks and the mask leave it."""
        return await self._reviewing.checked(ready, await self._end_of(ready))

    async def _end_of(self, ready: Ready) -> CallEnded:
        """This is the edge at which whatever a tool raises becomes a result."""
        call, tool = ready.call, ready.tool
        if ready.response is not None:
            return CallEnded(call.id, "done", ready.response)
        try:
            result = await self._race(ready)
        except Interrupted:
            return CallEnded(call.id, "cancelled", _undoing(tool, CANCELLED))
        except asyncio.CancelledError:
            if _is_cancelled():
                raise
            return _failed(call, f"{tool.name} ended without a result: an operation that it awaited was cancelled.")
        except TimeoutError:
            late = f"{tool.name} timed out after {tool.timeout:g} seconds and was stopped."
            return _failed(call, _undoing(tool, late))
        except (ToolError, MediaError, BackgroundError) as error:
            return _failed(call, str(error))
        except Exception as error:
            log.exception("tool %s broke", tool.name)
            return _failed(call, f"{tool.name} failed: {type(error).__name__}: {error}")
        return _done(call, result)

    async def _race(self, ready: Ready) -> ToolResult:
        """Runs the tool, letting an interjection do to it what the tool allows."""
        match ready.tool.on_steer:
            case "finish":
                return await race(self._work(ready), _never())
            case "cancel":
                return await race(self._work(ready), self._journal.interjection())
            case "background":
                return await self._until_background(ready)
            case _:
                assert_never(ready.tool.on_steer)

    async def _work(self, ready: Ready) -> ToolResult:
        call, agent = ready.call, self._agent

        async def progress(text: str) -> None:
            self._shown[call.id] = agent.mask(text)
            await self._emit(Progress(call.id, self._shown[call.id]))

        context = ToolContext(
            agent.workspace, agent.media, progress, self._attachments, call.id, self._turn_context.background
        )
        async with asyncio.timeout(ready.tool.timeout):
            result = await ready.tool.call(context, ready.arguments)
        text, caption, for_user = map(agent.mask, (result.text, result.caption, result.for_user))
        return replace(result, text=text, caption=caption, for_user=for_user)

    async def _until_background(self, ready: Ready) -> ToolResult:
        """The result, or, soon after an interjection, the word that the call goes on by itself."""
        working = asyncio.ensure_future(self._work_on(ready))
        ringing = asyncio.ensure_future(self._journal.interjection())
        kept = False
        try:
            await asyncio.wait((working, ringing), return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait((working,), timeout=GRACE)
            if not working.done():
                self._kept.add(ready.call.id)
                try:
                    title = self._agent.mask(call_title(ready.tool.name, ready.arguments))[:LONGEST_TITLE]
                    handle = await self._turn_context.background.adopt(title, working, partial(self._last_shown, ready))
                except BackgroundError as error:
                    self._kept.discard(ready.call.id)
                    log.info("%s goes on where it is: %s", ready.tool.name, error)
                else:
                    kept = True
                    return ToolResult(IN_BACKGROUND.format(handle=handle))
            return await working
        finally:
            await cancel_and_wait(ringing, *(() if kept else (working,)))

    async def _work_on(self, ready: Ready) -> ToolResult:
        """The result, which hooks have looked at by then if it is for later."""
        result = await self._work(ready)
        if ready.call.id not in self._kept:
            return result
        end = await self._reviewing.reviewed_end(ready, _done(ready.call, result))
        return replace(result, text=end.text, attachments=end.attachments, for_user=end.for_user)

    def _last_shown(self, ready: Ready) -> str:
        return self._shown.get(ready.call.id, "")


async def _never() -> None:
    await asyncio.get_running_loop().create_future()


def _undoing(tool: Tool, text: str) -> str:
    return f"{text} {tool.compensation}" if tool.compensation else text


def _is_cancelled() -> bool:
    """Whether the running task was cancelled, rather than something that it awaited."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _done(call: Call, result: ToolResult) -> CallEnded:
    return CallEnded(
        call.id,
        "done",
        result.text,
        result.attachments,
        result.images,
        result.caption,
        result.for_user,
        final=result.final,
        silent=result.silent,
    )


def _failed(call: Call, text: str) -> CallEnded:
    return CallEnded(call.id, "failed", text)


def _results(running: Sequence[asyncio.Future[CallEnded]]) -> list[CallEnded]:
    return [task.result() for task in running if task.done() and not task.cancelled() and task.exception() is None]
