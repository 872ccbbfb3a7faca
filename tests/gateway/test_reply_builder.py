"""The reply builder: live events and the log give the same reply, whatever happened in the turn."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.agent import Agent
from agent.events import Charged, Delta, Event, Logged, OnDelta, Progress, ReasoningDelta, TextDelta, Waiting, Withdrawn
from agent.log import (
    ApprovalDecided,
    ApprovalRequested,
    ApprovalSubject,
    Call,
    CallEnded,
    CallStarted,
    Compacted,
    Ended,
    Entry,
    MessagesRead,
    ModelAnswered,
    Native,
    Notice,
    Outcome,
    Source,
    Spent,
    Text,
    Thinking,
    Usage,
    UserMessage,
    dump,
    load,
)
from agent.loop.memory_journal import MemoryJournal
from agent.loop.turn import Turn
from agent.media import Attachment
from agent.model import Answer, ModelError, Request
from agent.testing import MemoryMedia
from agent.tool import ToolContext, ToolError, tool
from agent.tool_result import ToolResult
from agent.tools.todos import todos
from channels.address import Address
from channels.markdown import Item, Listing, Paragraph, Quote, Span, parse
from channels.memory import plain_text
from channels.reply import ApprovalDecision, CallSegment, MediaSegment, QuestionSegment, Reply, TextSegment
from gateway.outbound.call_lines import MAX_REASONING_LENGTH
from gateway.outbound.reply_builder import Activity, ReplyBuilder

HERE = Address("memory", "me", "chat")
PICTURE = Attachment("ab" * 32, "cat.png", "image/png", 12, 3, 4)

scraps = st.text("ab \n*`", max_size=6)
deltas = st.one_of(
    scraps.map(TextDelta),
    scraps.map(ReasoningDelta),
    scraps.map(Waiting),
    st.just(Withdrawn()),
    st.just(Charged(Usage(), "test", "answer")),
    st.just("say"),
    st.none(),
)
calls = st.lists(st.sampled_from(["look", "draw", "fail", "hush", "report", "todos", "none of ours"]), max_size=3)
activities: st.SearchStrategy[Activity] = st.sampled_from(["off", "quiet", "full"])
ends = st.sampled_from(["answer", "answer", "answer", "model error", "bug", "stop", "crash", "length"])
steps = st.lists(st.tuples(st.lists(deltas, max_size=6), calls, ends), max_size=6)
Step = tuple[list[Delta | str | None], list[str], str]

ARGUMENTS = {
    "none of ours": '{"x": "y"}',
    "todos": json.dumps({"items": [{"text": "look", "state": "done"}, {"text": "draw", "state": "doing"}]}),
}


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


@tool(effect="write")
async def hush(context: ToolContext) -> ToolResult:
    """Works in silence."""
    return ToolResult("done", silent=True)


@tool(effect="read")
async def report(context: ToolContext) -> ToolResult:
    """Answers in the model's place."""
    return ToolResult("told", for_user="**This** is so.", final=True)


TOOLS = (look, draw, fail, hush, report, todos)


class Stage:
    """Plays a turn until it ends; after each crash a new process continues from the log alone."""

    def __init__(self, script: Iterable[Step], activity: Activity = "quiet", *, show_reasoning: bool = False) -> None:
        self.script = list(script)
        self.activity = activity
        self.show_reasoning = show_reasoning
        self.journal = MemoryJournal()

    async def play(self) -> None:
        self.journal.say("go")
        await self.journal.read_inbox(1)
        while not isinstance(self.journal.entries[-1], Ended):
            await self.run()

    async def run(self) -> None:
        """One process."""
        self.log = kept(self.journal.entries)
        self.draft = self.builder_of(self.log)
        agent = Agent(self, MemoryMedia(), Path(), TOOLS, max_steps=4)
        self.turn = Turn(agent, self.journal, self._emit, id="turn", entries=self.log)
        self.running = asyncio.ensure_future(self.turn.run())
        with suppress(asyncio.CancelledError):
            await self.running

    async def _emit(self, event: Event) -> None:
        self.draft.apply(event)
        if isinstance(event, Logged):
            self.log = kept([*self.log, event.entry])
            assert self.settled(self.draft.reply()) == self.settled(self.builder_of(self.log).reply())

    def builder_of(self, entries: Iterable[Entry]) -> ReplyBuilder:
        return builder_of(entries, self.activity, show_reasoning=self.show_reasoning)

    def settled(self, reply: Reply) -> Reply:
        """Without what only events tell: the answer being streamed, and the progress of running calls."""
        step = 1 + sum(isinstance(entry, ModelAnswered) for entry in self.log)
        told = (f"r{step}", f"t{step}")
        segments = (
            replace(each, detail="") if isinstance(each, CallSegment) and each.state == "running" else each
            for each in reply.segments
            if each.key not in told
        )
        return replace(reply, segments=tuple(segments), status="")

    async def answer(self, request: Request, on_delta: OnDelta) -> Answer:
        told, called, end = self.script.pop(0) if self.script else ([], [], "answer")
        text = thought = ""
        for delta in told:
            match delta:
                case "say":
                    self.journal.say("more")
                    await asyncio.sleep(0)
                case None:
                    await asyncio.sleep(0)
                case _:
                    assert not isinstance(delta, str)
                    await on_delta(delta)
                    text = text + delta.text if isinstance(delta, TextDelta) else text
                    thought = thought + delta.text if isinstance(delta, ReasoningDelta) else thought
                    text, thought = ("", "") if isinstance(delta, Withdrawn) else (text, thought)
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
        said = (*((Thinking(thought),) if thought else ()), *((Text(text),) if text else ()))
        parts = (*said, *(Call("", name, ARGUMENTS.get(name, "{}")) for name in called))
        return Answer(parts, finish="length" if end == "length" else "stop")


def kept(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """The entries as read back from the store."""
    return tuple(load([dump(entry) for entry in entries]))


def builder_of(entries: Iterable[Entry], activity: Activity = "quiet", *, show_reasoning: bool = False) -> ReplyBuilder:
    return ReplyBuilder("turn", HERE, "m1", entries, activity=activity, show_reasoning=show_reasoning)


@settings(max_examples=300, deadline=None)
@given(script=steps, activity=activities, show_reasoning=st.booleans())
def test_live_events_and_the_log_build_the_same_reply(
    script: list[Step], activity: Activity, show_reasoning: bool
) -> None:
    async def play() -> None:
        async with asyncio.timeout(60):
            stage = Stage(script, activity, show_reasoning=show_reasoning)
            await stage.play()
            again = stage.builder_of(kept(stage.journal.entries)).reply()
            assert stage.draft.reply() == again
            assert again.done
            assert again.visible
            keys = [segment.key for segment in again.segments]
            assert len(keys) == len(set(keys))
            assert not [segment for segment in again.segments if _unfinished(segment)]
            assert activity == "quiet" or not any(isinstance(segment, CallSegment) for segment in again.segments)

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
    draft = builder_of(())
    for event in (TextDelta("I look. "), Logged(ModelAnswered(1, (Text("I look."), Call("a", "look", "{}"))))):
        draft.apply(event)
        assert draft.reply().segments[0].key == "t1"
    draft.apply(Logged(CallStarted("a")))
    draft.apply(Progress("a", "half way"))
    assert draft.reply().status == "look"
    draft.apply(Logged(CallEnded("a", "done", "a cat", (PICTURE,), caption="a cat")))
    draft.apply(TextDelta("A cat."))
    segments = draft.reply().segments
    assert [segment.key for segment in segments] == ["t1", "c:a", "m:a:0", "t2"]
    assert isinstance(segments[2], MediaSegment)
    assert segments[3] == TextSegment("t2", "A cat.", open=True, step=2)
    draft.apply(Logged(ModelAnswered(2, (Text("A cat."),))))
    draft.apply(Logged(Ended("completed")))
    assert draft.reply().segments[3] == TextSegment("t2", "A cat.", step=2)
    assert draft.reply().done


def test_withdrawn_text_is_not_shown() -> None:
    draft = builder_of(())
    draft.apply(TextDelta("Wrong"))
    draft.apply(Withdrawn())
    assert draft.reply().segments == ()
    draft.apply(TextDelta("Right"))
    assert [segment.key for segment in draft.reply().segments] == ["t1"]


def test_a_turn_that_says_nothing_says_so_once() -> None:
    draft = builder_of((ModelAnswered(1, ()), Ended("completed")))
    assert len(draft.reply().segments) == 1
    spoken = builder_of((Notice("Help is here."), Ended("completed")))
    assert [segment.key for segment in spoken.reply().segments] == ["n1"]


def test_blank_text_is_not_visible() -> None:
    draft = builder_of(())
    draft.apply(TextDelta(" \n"))
    assert not draft.visible
    assert not draft.reply().visible


# --- calls -----------------------------------------------------------------------------------------------------------


def called(*calls: Call, text: str = "", step: int = 1) -> ModelAnswered:
    return ModelAnswered(step, (*((Text(text),) if text else ()), *calls))


def heard(*said: tuple[str, Source], step: int = 2) -> MessagesRead:
    return MessagesRead(
        step, tuple(UserMessage(number, "Ann", text, source=source) for number, (text, source) in enumerate(said))
    )


PYTEST = Call("a", "shell", '{"command": "pytest  -q"}')
RM = Call("b", "shell", '{"command": "rm *"}')
RUNNING = (called(PYTEST, RM, text="I look."), CallStarted("a"))


def test_a_running_call_is_named_in_the_status() -> None:
    assert builder_of(RUNNING).reply().status == "shell: pytest -q"
    assert builder_of(RUNNING, "full").reply().status == "shell: pytest -q"


def test_with_activity_off_no_call_is_shown() -> None:
    reply = builder_of(RUNNING, "off").reply()
    assert [segment.key for segment in reply.segments] == ["t1"]
    assert reply.status == "working"
    draft = builder_of((called(PYTEST),), "off")
    draft.apply(Waiting("the model is slow"))
    assert draft.reply().status == "the model is slow"


def test_with_full_activity_the_calls_of_a_step_are_one_permanent_text() -> None:
    draft = builder_of((), "full")
    seen = []
    entries = (
        called(PYTEST, RM, text="I look."),
        CallStarted("a"),
        CallEnded("a", "failed", "exit code 1: *all* is lost\nand more"),
        CallEnded("b", "skipped", "Skipped."),
        called(Call("c", "look", "{}"), step=2),
        CallStarted("c"),
        CallEnded("c", "done", "seen"),
    )
    for entry in entries:
        draft.apply(Logged(entry))
        seen.append([segment for segment in draft.reply().segments if segment.key[0] == "a"])
    lines = [segment.markdown for shown in seen for segment in shown if isinstance(segment, TextSegment)]
    assert lines == [
        "- … `shell: pytest -q`\n- … `shell: rm *`",
        "- ⏳ `shell: pytest -q`\n- … `shell: rm *`",
        "- ✗ `shell: pytest -q` failed: exit code 1\\: \\*all\\* is lost\n- … `shell: rm *`",
        end := "- ✗ `shell: pytest -q` failed: exit code 1\\: \\*all\\* is lost\n- ↷ `shell: rm *` skipped",
        end,
        "- … `look`",
        end,
        "- ⏳ `look`",
        end,
        "- ✓ `look`",
    ]
    assert [segment.key for segment in draft.reply().segments] == ["t1", "a1", "a2"]
    opened = [shown[0].open for shown in seen if isinstance(shown[0], TextSegment)]
    assert opened == [True, True, True, False, False, False, False]


@settings(deadline=None)
@given(
    title=st.text("ab `*_<&\\[]()~|#\n", min_size=1, max_size=30), why=st.text("ab `*_<&\\[]~|#>1.+-\t", max_size=30)
)
def test_a_call_is_displayed_literally(title: str, why: str) -> None:
    call = Call("a", f"x{title}", "{}")
    draft = builder_of((called(call), CallStarted("a"), CallEnded("a", "failed", f"y{why}")), "full")
    [told] = draft.reply().segments
    assert isinstance(told, TextSegment)
    because = " ".join(f"y{why}".split())
    spans = (Span("✗ "), Span(" ".join(f"x{title}".split()), code=True), Span(f" failed: {because}"))
    assert parse(told.markdown) == (Listing((Item("•", (Paragraph(spans),)),)),)


def test_the_outcome_of_each_call_is_shown() -> None:
    outcomes: tuple[Outcome, ...] = ("done", "failed", "skipped", "cancelled", "denied", "unknown")
    calls = [Call(outcome, outcome, "{}") for outcome in outcomes]
    draft = builder_of((called(*calls), *(CallEnded(outcome, outcome, "") for outcome in outcomes)), "full")
    assert plain_text(draft.reply()).split("\n") == [
        "- ✓ `done`",
        "- ✗ `failed` failed",
        "- ↷ `skipped` skipped",
        "- ■ `cancelled` cancelled",
        "- ✗ `denied` denied",
        "- ? `unknown` interrupted by a restart",
    ]


def test_calls_after_an_interjection_are_shown_below_it() -> None:
    entries = (called(PYTEST, text="I look."), CallEnded("a", "done", ""), heard(("wait", "person")))
    full = builder_of((*entries, called(RM, step=2), CallStarted("b"), called(text="So.", step=3)), "full")
    assert [(s.key, s.new_message) for s in full.reply().segments if isinstance(s, TextSegment)] == [
        ("t1", False),
        ("a1", False),
        ("a2", True),
        ("t3", False),
    ]
    silent = builder_of((*entries, called(RM, step=2), CallEnded("b", "done", "", silent=True)), "full")
    silent.apply(TextDelta("So."))
    assert silent.reply().segments[-1] == TextSegment("t3", "So.", open=True, new_message=True, step=3)


def test_a_silent_call_is_not_shown_once_it_has_ended() -> None:
    for activity in ("quiet", "full"):
        draft = builder_of((called(PYTEST, text="I look."), CallStarted("a")), activity)
        assert len(draft.reply().segments) == 2
        draft.apply(Logged(CallEnded("a", "done", "", silent=True)))
        assert [segment.key for segment in draft.reply().segments] == ["t1"]


def test_a_tools_text_for_the_user_is_shown_where_it_ran() -> None:
    end = CallEnded("a", "done", "for the model", (PICTURE,), caption="a cat", for_user="**Done**: see", silent=True)
    draft = builder_of((called(PYTEST, text="I look."), end, called(text="So.", step=2)))
    assert [(segment.key, segment.step) for segment in draft.reply().segments] == [
        ("t1", 1),
        ("u:a", 1),
        ("m:a:0", 1),
        ("t2", 2),
    ]
    assert plain_text(draft.reply()) == "I look.\n**Done**: see\n[cat.png]\nSo."


def test_a_final_result_is_the_answer_if_nothing_follows_it() -> None:
    answer = CallEnded("a", "done", "It is **four**.", final=True)
    assert plain_text(builder_of((called(PYTEST), answer, Ended("completed"))).reply()) == "It is **four**."
    said = called(text="Four.", step=2)
    assert plain_text(builder_of((called(PYTEST), answer, said, Ended("completed"))).reply()) == "Four."
    shown = replace(answer, attachments=(PICTURE,))
    assert plain_text(builder_of((called(PYTEST), shown, Ended("completed"))).reply()) == "[cat.png]"


def test_a_native_tool_without_a_name_is_shown_under_its_type() -> None:
    searched = Native("openai", '{"type": "web_search_call", "id": "ws_1"}', "Searched the web: pears")
    kept = Native("openai", '{"type": "response"}', foreign=False)
    draft = builder_of((ModelAnswered(1, (searched, Text("Pears."), kept)),))
    assert draft.reply().segments[1:] == (
        CallSegment("w:1:0", "web_search", "Searched the web: pears", "done", step=1),
    )


def test_a_native_tool_of_a_provider_is_shown_as_a_call() -> None:
    used = Native("anthropic", '{"type": "server_tool_use", "name": "web_search"}', "Searched the web: pears")
    found = Native("anthropic", '{"type": "web_search_tool_result"}')
    draft = builder_of((ModelAnswered(1, (used, found, Text("Pears."))),))
    assert draft.reply().segments[1:] == (
        CallSegment("w:1:0", "web_search", "Searched the web: pears", "done", step=1),
    )
    full = builder_of((ModelAnswered(1, (used, found, Text("Pears."))),), "full")
    assert plain_text(full.reply()) == "Pears.\n- ✓ `Searched the web: pears`"


# --- the plan, and how a turn comes to its end -----------------------------------------------------------------------


def plan(id: str, *states: str) -> tuple[Entry, ...]:
    items = [{"text": f"item {number}", "state": state} for number, state in enumerate(states)]
    call = Call(id, "todos", json.dumps({"items": items}))
    return called(call), CallStarted(id), CallEnded(id, "done", "", silent=True)


def test_the_status_shows_the_todos_before_the_running_call() -> None:
    planned = plan("p", "done", "doing", "pending")
    draft = builder_of(planned)
    assert draft.reply().segments == ()
    assert not draft.empty
    assert draft.reply().status == "1 of 3 done; now: item 1"
    draft = builder_of((*planned, called(PYTEST, step=2), CallStarted("a")))
    assert draft.reply().status == "1 of 3 done; now: item 1 · shell: pytest -q"
    draft.apply(Logged(CallEnded("a", "done", "")))
    for entry in plan("p2", "done", "done", "doing"):
        draft.apply(Logged(entry))
    assert draft.reply().status == "2 of 3 done; now: item 2"
    draft.park()
    assert draft.reply().status == ""
    assert builder_of((*planned, Ended("completed"))).reply().status == ""
    assert builder_of((*planned, *plan("p3"))).reply().status == ""


def test_an_invalid_todo_list_is_shown_as_an_ordinary_call() -> None:
    wrong = Call("p", "todos", '{"items": 3}')
    draft = builder_of((*plan("q", "doing"), called(wrong, step=2)))
    assert draft.reply().segments == ()
    draft.apply(Logged(CallEnded("p", "failed", "The arguments do not fit.")))
    [segment] = draft.reply().segments
    assert isinstance(segment, CallSegment)
    assert segment.state == "failed"
    assert draft.reply().status == "0 of 1 done; now: item 0"


def test_a_turn_that_finishes_up_says_so() -> None:
    draft = builder_of((*RUNNING, heard(("and be brief", "wrap"))))
    assert draft.reply().status == "finishing up · shell: pytest -q"
    draft.apply(Logged(heard(("no, go on", "person"), step=3)))
    assert draft.reply().status == "shell: pytest -q"


def test_the_end_of_background_work_is_noted_and_peoples_messages_are_not() -> None:
    told = "Background task w3 (`pytest`) has ended: 12 *passed*\n\nand much more"
    draft = builder_of((called(text="I look."), heard((told, "work"))))
    draft.apply(TextDelta("All passed."))
    _, note, text = draft.reply().segments
    assert isinstance(note, TextSegment)
    [shown] = parse(note.markdown)
    assert shown == Paragraph((Span("Background task w3 (`pytest`) has ended: 12 *passed*", italic=True),))
    assert note.secondary
    assert text == TextSegment("t2", "All passed.", open=True, step=2)


def test_omitted_context_is_noted_and_summaries_are_not() -> None:
    summed_up = Compacted(1, "", "A long story.")
    left_out = Compacted(1, "", "3 earlier turns were left out.", left_out=True)
    assert builder_of((summed_up, Spent(1, Usage(), "test", "summary"))).reply().segments == ()
    assert plain_text(builder_of((left_out,)).reply()) == "_3 earlier turns were left out\\._"


# --- what the model thinks, and what hooks make of what it says ------------------------------------------------------


def test_reasoning_is_quoted_before_the_answer_if_enabled() -> None:
    draft = builder_of((), show_reasoning=True)
    draft.apply(ReasoningDelta("First\n"))
    draft.apply(ReasoningDelta("then"))
    assert draft.visible
    assert draft.reply().segments == (TextSegment("r1", "> First\n> then", open=True, step=1, secondary=True),)
    draft.apply(TextDelta("So."))
    assert draft.reply().segments == (
        TextSegment("r1", "> First\n> then", step=1, secondary=True),
        TextSegment("t1", "So.", open=True, step=1),
    )
    answered = ModelAnswered(1, (Thinking("First\nthen", "signed"), Text("So.")))
    draft.apply(Logged(answered))
    assert plain_text(draft.reply()) == "> First\n> then\nSo."
    assert plain_text(builder_of((answered,)).reply()) == "So."


def test_long_reasoning_shows_its_end_while_it_grows_and_its_beginning_afterwards() -> None:
    thought = "a" * 900 + "b" * 900 + "c" * 900
    draft = builder_of((), show_reasoning=True)
    draft.apply(ReasoningDelta(thought))
    assert plain_text(draft.reply()) == f"> …{thought[-MAX_REASONING_LENGTH:]}"
    draft.apply(Logged(ModelAnswered(1, (Thinking(thought),))))
    assert plain_text(draft.reply()) == f"> {thought[:MAX_REASONING_LENGTH]}…"


def test_reasoning_with_code_stays_one_quote() -> None:
    draft = builder_of((ModelAnswered(1, (Thinking("So:\n\n```\nx\n\n# y\n```\n\n- a\r\nb"),)),), show_reasoning=True)
    [quote] = parse(plain_text(draft.reply()))
    assert isinstance(quote, Quote)


def test_withdrawn_reasoning_is_not_shown() -> None:
    draft = builder_of((), show_reasoning=True)
    draft.apply(ReasoningDelta("Hm."))
    draft.apply(Withdrawn())
    assert draft.reply().segments == ()


def test_a_turn_with_reasoning_and_calls_only_has_nothing_to_add() -> None:
    entries = (
        ModelAnswered(1, (Thinking("Hm."), PYTEST)),
        CallEnded("a", "done", ""),
        ModelAnswered(2, ()),
        Ended("completed"),
    )
    draft = builder_of(entries, "full", show_reasoning=True)
    assert [segment.key for segment in draft.reply().segments] == ["r1", "a1", "end"]


def test_an_answer_is_shown_as_changed_by_hooks() -> None:
    answered = ModelAnswered(1, (Text("The secret is 42."),), shown="The secret is ■.")
    assert plain_text(builder_of((answered,)).reply()) == "The secret is ■."
    assert builder_of((replace(answered, shown=""),)).reply().segments == ()


# --- decisions -------------------------------------------------------------------------------------------------------

ALLOW = ("Allow once", "Allow for this conversation", "Deny")
MAY_I = ApprovalRequested("a", "call", "**May I use `shell`?**", ALLOW, 1e12)
GO_ON = ApprovalRequested("limit-1", "limit", "**$1.00 is spent.** Shall I go on?", ("Continue", "Stop here"), 1e12)


def test_a_call_that_needs_approval_shows_a_question() -> None:
    draft = builder_of((called(PYTEST), MAY_I), "quiet")
    call, question = draft.reply().segments
    assert isinstance(call, CallSegment)
    assert call.state == "waiting"
    assert question == QuestionSegment("d:a", MAY_I.question, ALLOW, step=1)
    for entry in (ApprovalDecided("a", "allowed", "Ada"), CallStarted("a")):
        draft.apply(Logged(entry))
    call, question = draft.reply().segments
    assert isinstance(call, CallSegment)
    assert call.state == "running"
    assert question == QuestionSegment("d:a", MAY_I.question, ALLOW, False, "Allowed by Ada", 1, "allowed")


def test_the_outcome_of_an_approval_is_described() -> None:
    told: dict[ApprovalDecided, tuple[str, ApprovalDecision]] = {
        ApprovalDecided("a", "allowed", "Ada"): ("Allowed by Ada", "allowed"),
        ApprovalDecided("a", "allowed_always", "Ada"): ("Allowed for this conversation by Ada", "allowed"),
        ApprovalDecided("a", "denied", "Ada", "too risky"): ("Denied by Ada: too risky", "denied"),
        ApprovalDecided("a", "denied"): ("Denied", "denied"),
        ApprovalDecided("a", "expired"): ("Nobody decided in time", "undecided"),
        ApprovalDecided("a", "dropped"): ("Dropped, because a new message arrived", "undecided"),
    }
    for decided, (answer, decision) in told.items():
        _, question = builder_of((called(PYTEST), MAY_I, decided)).reply().segments
        assert isinstance(question, QuestionSegment)
        assert (question.answer, question.decision, question.open) == (answer, decision, False)


def test_a_limit_may_need_approval_before_the_first_step() -> None:
    about: dict[tuple[ApprovalSubject, str], str] = {}
    for decision in ("allowed", "denied"):
        draft = builder_of((GO_ON, ApprovalDecided("limit-1", decision, "Ada")))
        [question] = draft.reply().segments
        assert isinstance(question, QuestionSegment)
        about[GO_ON.subject, decision] = question.answer
        assert question.step == 1
    assert about == {("limit", "allowed"): "Extended by Ada", ("limit", "denied"): "Stopped here by Ada"}


def test_an_open_approval_is_closed_when_the_turn_ends() -> None:
    for asked in ((called(PYTEST), MAY_I), (GO_ON,)):
        reply = builder_of((*asked, Ended("stopped", "stopped by the user"))).reply()
        [question] = [segment for segment in reply.segments if isinstance(segment, QuestionSegment)]
        assert (question.open, question.answer) == (False, "")


def test_a_message_that_drops_an_approval_is_not_its_answer() -> None:
    dropped = (ApprovalDecided("a", "dropped"), CallEnded("a", "skipped", ""), heard(("Allow once", "person")))
    _, question = builder_of((called(PYTEST), MAY_I, *dropped)).reply().segments
    assert isinstance(question, QuestionSegment)
    assert question.answer == "Dropped, because a new message arrived"
