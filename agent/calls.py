"""Running the tool calls of one step: reads side by side, effects in order, interrupted as each tool allows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

from agent.events import Emit, Progress
from agent.journal import Journal
from agent.log import Call, CallEnded, CallStarted
from agent.media import Attachment, MediaError, MediaStore
from agent.racing import Interjected, ended, unless
from agent.tool import Tool, ToolContext, ToolError, ToolResult

log = logging.getLogger(__name__)

MOST_SIDE_BY_SIDE = 8

SKIPPED = "Skipped: a new message arrived before this call started; nothing of it was done."
CANCELLED = "Cancelled: a new message arrived while this call was running, and it was ended early. It has no result."


class Calls:
    """Runs calls so that each ends in exactly one logged result, in the order in which they were asked for.

    Only a question to people stays open, and what stands behind it.
    """

    def __init__(
        self,
        tools: Sequence[Tool],
        workspace: Path,
        media: MediaStore,
        journal: Journal,
        append: Callable[..., Awaitable[None]],
        emit: Emit,
        seen: tuple[Attachment, ...],
    ) -> None:
        self._tools = {tool.name: tool for tool in tools}
        self._workspace = workspace
        self._media = media
        self._journal = journal
        self._append = append
        self._emit = emit
        self._seen = seen

    async def run(self, calls: Sequence[Call]) -> bool:
        """False when a question to people was reached: nothing goes on until it is answered."""
        for batch in self._batches(calls):
            if self._journal.interjected:
                await self._append(*(CallEnded(call.id, "skipped", SKIPPED) for call in batch))
            elif self._asks(batch[0]):
                await self._append(CallStarted(batch[0].id))
                return False
            else:
                await self._run_batch(batch)
        return True

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

    async def _run_batch(self, batch: list[Call]) -> None:
        await self._append(*(CallStarted(call.id) for call in batch))
        running = [asyncio.ensure_future(self._run_call(call)) for call in batch]
        logged = 0
        try:
            for ending in running:
                await self._append(await ending)
                logged += 1
        except asyncio.CancelledError:
            await ended(*running)
            await self._append(*_results(running[logged:]))
            raise
        finally:
            await ended(*running)

    async def _run_call(self, call: Call) -> CallEnded:
        """The call's end. This is the edge at which whatever a tool raises becomes a result."""
        tool = self._tools.get(call.name)
        if tool is None:
            known = ", ".join(self._tools) or "none"
            return _failed(call, f"There is no tool named {call.name!r}. The tools are: {known}.")
        try:
            async with asyncio.timeout(tool.timeout):
                result = await self._race(tool, call)
        except Interjected:
            return CallEnded(call.id, "cancelled", CANCELLED)
        except asyncio.CancelledError:
            if _is_cancelled():
                raise
            return _failed(call, f"{tool.name} ended without a result: what it waited for was cancelled.")
        except TimeoutError:
            return _failed(call, f"{tool.name} took longer than its {tool.timeout:g} seconds and was ended.")
        except (ToolError, MediaError) as error:
            return _failed(call, str(error))
        except Exception as error:
            log.exception("tool %s broke", tool.name)
            return _failed(call, f"{tool.name} broke: {type(error).__name__}: {error}")
        return CallEnded(call.id, "done", result.text, result.attachments, result.images, result.caption)

    async def _race(self, tool: Tool, call: Call) -> ToolResult:
        async def progress(text: str) -> None:
            await self._emit(Progress(call.id, text))

        work = tool.call(ToolContext(self._workspace, self._media, progress, self._seen), call.arguments)
        return await unless(work, self._journal.interjection() if tool.on_steer == "cancel" else _never())


async def _never() -> None:
    await asyncio.get_running_loop().create_future()


def _is_cancelled() -> bool:
    """Whether the running task was cancelled, rather than something that it awaited."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _failed(call: Call, text: str) -> CallEnded:
    return CallEnded(call.id, "failed", text)


def _results(running: Sequence[asyncio.Future[CallEnded]]) -> list[CallEnded]:
    return [task.result() for task in running if task.done() and not task.cancelled() and task.exception() is None]
