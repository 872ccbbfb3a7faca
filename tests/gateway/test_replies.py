"""The reply as a fold: what was shown live is what the log shows again, whatever happened in the turn."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.events import Delta, Event, Logged, Progress, ReasoningDelta, Tell, TextDelta, Waiting, Withdrawn
from agent.log import Answered, Call, CallEnded, CallStarted, Ended, Entry, Text, Told, dump, load
from agent.media import Attachment
from agent.memory import MemoryJournal
from agent.model import Answer, ModelError, Request
from agent.testing import MemoryMedia
from agent.tool import ToolContext, ToolError, ToolResult, tool
from agent.turn import Mind, Turn
from channels.address import Address
from channels.reply import CallSegment, MediaSegment, Reply, TextSegment
from gateway.replies import Draft

HERE = Address("paper", "me", "chat")
PICTURE = Attachment("ab" * 32, "cat.png", "image/png", 12, 3, 4)

words = st.text("ab \n*`", max_size=6)
deltas = st.one_of(
    words.map(TextDelta), words.map(ReasoningDelta), words.map(Waiting), st.just(Withdrawn()), st.just("say"), st.none()
)
calls = st.lists(st.sampled_from(["look", "draw", "fail", "none of ours"]), max_size=3)
ends = st.sampled_from(["answer", "answer", "answer", "model error", "bug", "stop", "crash", "length"])
steps = st.lists(st.tuples(st.lists(deltas, max_size=6), calls, ends), max_size=6)
Step = tuple[list[Delta | str | None], list[str], str]


@tool(effect="read")
async def look(context: ToolContext) -> str:
    """Looks."""
    await context.progress("looking")
    await asyncio.sleep(0)
    return "seen"


@tool(effect="write")
async def draw(context: ToolContext) -> ToolResult:
    """Draws."""
    return ToolResult("drawn", (PICTURE, PICTURE), caption="a cat")


@tool(effect="write")
async def fail(context: ToolContext) -> str:
    """Fails."""
    raise ToolError("wet")


class Stage:
    """Plays a turn until it ends, each crash followed by a new process that has the log alone."""

    def __init__(self, script: Iterable[Step]) -> None:
        self.script = list(script)
        self.journal = MemoryJournal()

    async def play(self) -> None:
        self.journal.say("go")
        await self.journal.hear(1)
        while not isinstance(self.journal.entries[-1], Ended):
            await self.run()

    async def run(self) -> None:
        """One process."""
        self.log = kept(self.journal.entries)
        self.draft = draft_of(self.log)
        mind = Mind(self, MemoryMedia(), Path(), (look, draw, fail), max_steps=4)
        self.turn = Turn(mind, self.journal, self._emit, id="turn", entries=self.log)
        self.running = asyncio.ensure_future(self.turn.run())
        with suppress(asyncio.CancelledError):
            await self.running

    async def _emit(self, event: Event) -> None:
        self.draft.fold(event)
        if isinstance(event, Logged):
            self.log = kept([*self.log, event.entry])
            assert settled(self.draft.reply()) == settled(draft_of(self.log).reply())

    async def answer(self, request: Request, tell: Tell) -> Answer:
        told, called, end = self.script.pop(0) if self.script else ([], [], "answer")
        text = ""
        for delta in told:
            match delta:
                case "say":
                    self.journal.say("more")
                    await asyncio.sleep(0)
                case None:
                    await asyncio.sleep(0)
                case _:
                    assert not isinstance(delta, str)
                    await tell(delta)
                    text = text + delta.text if isinstance(delta, TextDelta) else text
                    text = "" if isinstance(delta, Withdrawn) else text
        match end:
            case "model error":
                raise ModelError("server", "the model is gone")
            case "bug":
                raise ValueError("a bug")
            case "stop":
                self.turn.stop("enough")
                await asyncio.sleep(0)
            case "crash":
                self.running.cancel()
                await asyncio.sleep(0)
            case _:
                pass
        parts = (*((Text(text),) if text else ()), *(Call("", name, '{"x": "y"}') for name in called))
        return Answer(parts, finish="length" if end == "length" else "stop")


def kept(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """The entries as a later process reads them."""
    return tuple(load([dump(entry) for entry in entries]))


def draft_of(entries: Iterable[Entry]) -> Draft:
    return Draft("turn", HERE, "m1", entries)


def settled(reply: Reply) -> Reply:
    segments = tuple(segment for segment in reply.segments if not (isinstance(segment, TextSegment) and segment.open))
    return replace(reply, segments=segments, status="")


@settings(max_examples=300, deadline=None)
@given(steps)
def test_a_reply_folded_live_is_the_one_folded_from_its_log(script: list[Step]) -> None:
    async def play() -> None:
        async with asyncio.timeout(60):
            stage = Stage(script)
            await stage.play()
            again = draft_of(kept(stage.journal.entries)).reply()
            assert stage.draft.reply() == again
            assert again.done
            assert again.visible
            keys = [segment.key for segment in again.segments]
            assert len(keys) == len(set(keys))
            assert not [segment for segment in again.segments if _unfinished(segment)]

    asyncio.run(play())


def _unfinished(segment: object) -> bool:
    match segment:
        case CallSegment(state="waiting" | "running"):
            return True
        case TextSegment(open=True):
            return True
        case _:
            return False


def test_segment_keys_do_not_change_while_a_reply_grows() -> None:
    draft = draft_of(())
    for event in (TextDelta("I look. "), Logged(Answered(1, (Text("I look."), Call("a", "look", "{}"))))):
        draft.fold(event)
        assert draft.reply().segments[0].key == "t1"
    draft.fold(Logged(CallStarted("a")))
    draft.fold(Progress("a", "half way"))
    assert draft.reply().status == "look"
    draft.fold(Logged(CallEnded("a", "done", "a cat", (PICTURE,), caption="a cat")))
    draft.fold(TextDelta("A cat."))
    segments = draft.reply().segments
    assert [segment.key for segment in segments] == ["t1", "c:a", "m:a:0", "t2"]
    assert isinstance(segments[2], MediaSegment)
    assert segments[3] == TextSegment("t2", "A cat.", open=True, step=2)
    draft.fold(Logged(Answered(2, (Text("A cat."),))))
    draft.fold(Logged(Ended("completed")))
    assert draft.reply().segments[3] == TextSegment("t2", "A cat.", step=2)
    assert draft.reply().done


def test_what_was_withdrawn_is_not_shown() -> None:
    draft = draft_of(())
    draft.fold(TextDelta("Wrong"))
    draft.fold(Withdrawn())
    assert draft.reply().segments == ()
    draft.fold(TextDelta("Right"))
    assert [segment.key for segment in draft.reply().segments] == ["t1"]


def test_a_turn_that_says_nothing_says_so_once() -> None:
    draft = draft_of((Answered(1, ()), Ended("completed")))
    assert len(draft.reply().segments) == 1
    spoken = draft_of((Told("Help is here."), Ended("completed")))
    assert [segment.key for segment in spoken.reply().segments] == ["n1"]


def test_blanks_are_not_taken_for_something_to_see() -> None:
    draft = draft_of(())
    draft.fold(TextDelta(" \n"))
    assert not draft.visible
    assert not draft.reply().visible
