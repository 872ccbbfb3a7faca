"""The reply as a fold over what happens in a turn: the same from the live events and from the log after a restart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Literal, assert_never

from agent.agent import unmasked
from agent.decisions.questions import asked
from agent.events import Charged, Event, Logged, Progress, ReasoningDelta, TextDelta, Waiting, Withdrawn
from agent.log import (
    ApprovalDecided,
    ApprovalRequested,
    Call,
    CallEnded,
    CallStarted,
    Ended,
    Entry,
    MessagesRead,
    ModelAnswered,
    Native,
    Notice,
    Resumed,
    Spent,
    Compacted,
    Thinking,
    UserMessage,
)
from agent.tools.todos import NAME as TODOS
from agent.tools.todos import latest_todos
from channels.address import Address
from channels.reply import (
    ApprovalDecision,
    CallSegment,
    CallState,
    MediaSegment,
    QuestionSegment,
    Reply,
    Segment,
    TextSegment,
)
from gateway.outbound.call_lines import (
    NOTE_LENGTH,
    TITLE_LENGTH,
    call_line,
    decision_words,
    name_of_native,
    one_line,
    quiet,
    quoted_thought,
    title_of_call,
)

DETAIL_LENGTH = 2000

ASKED_TO_STOP = "the person asked to stop"
"""The one reason that need not be told to whoever gave it."""

FINISHING = "finishing up"
WORKING = "working"

Activity = Literal["off", "quiet", "full"]
"""What is shown of calls: nothing, those that run as long as they do, or all of them for good."""


class ReplyBuilder:
    """A turn's reply as it grows. `version` rises with every visible change. `parked`: it has asked people something,
    and nothing goes on until somebody answers.

    With "quiet" `activity` calls are segments of their own: our own screens show them all, platforms those that run.
    With "full" they are lines of a text, which every platform shows. `show_reasoning`: what the model thinks is quoted
    before what it says. `mask` takes known secrets out of what is not in the log yet; there, they are out.
    """

    def __init__(
        self,
        id: str,
        address: Address,
        reply_to: str | None,
        entries: Iterable[Entry] = (),
        *,
        parked: bool = False,
        activity: Activity = "quiet",
        show_reasoning: bool = False,
        mask: Callable[[str], str] = unmasked,
    ) -> None:
        self.id = id
        self.address = address
        self.version = 0
        self.done = False
        self.parked = parked
        self._reply_to = reply_to
        self._activity = activity
        self._show_reasoning = show_reasoning
        self._mask = mask
        self._segments: dict[str, Segment] = {}
        self._calls: dict[str, Call] = {}
        self._finals: dict[str, str] = {}
        self._decisions: dict[str, ApprovalRequested] = {}
        self._thinking: list[str] = []
        self._growing: list[str] = []
        self._answers = 0
        self._notices = 0
        self._waiting = ""
        self._plan = ""
        self._finishing = False
        self._announced = ""
        self._new_message = False
        for entry in entries:
            self._log(entry)

    def apply(self, event: Event) -> None:
        """Takes in what happened."""
        match event:
            case Logged(entry):
                self._log(entry)
            case TextDelta(text):
                self._growing.append(text)
                self._waiting = ""
            case Progress(call_id, text):
                self._change_call(call_id, detail=text[-DETAIL_LENGTH:])
            case Withdrawn():
                self._take_back()
            case Waiting(reason):
                self._waiting = reason
            case ReasoningDelta(text):
                if not self._think(text):
                    return
            case Charged():
                return
            case _:
                assert_never(event)
        self.version += 1

    def announce(self, words: str) -> None:
        """Says it on the status line, as long as there is one."""
        self._announced = words
        self.version += 1

    def park(self) -> None:
        self.parked = True
        self.version += 1

    def reply(self) -> Reply:
        """The reply as it stands now."""
        segments = (*filter(self._is_shown, self._segments.values()), *self._open_texts())
        status = "" if self.done or self.parked else self._status()
        return Reply(self.id, self.address, self._reply_to, segments, status, self.done, self.parked)

    @property
    def visible(self) -> bool:
        """Whether a person would see something of it."""
        return any(map(str.strip, (*self._thinking, *self._growing))) or any(
            not isinstance(segment, CallSegment) for segment in self._segments.values()
        )

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show at all, not even a call."""
        return not (self._thinking or self._growing or self._segments or self._plan)

    def _is_shown(self, segment: Segment) -> bool:
        return self._activity == "quiet" or not isinstance(segment, CallSegment)

    def _open_texts(self) -> Iterator[TextSegment]:
        """What the model thinks and says just now."""
        step, thought, text = self._answers + 1, self._mask("".join(self._thinking)), self._mask("".join(self._growing))
        thinks, speaks = bool(thought.strip()), bool(text.strip())
        if thinks:
            quoted = quoted_thought(thought, open=not speaks)
            yield TextSegment(
                f"r{step}", quoted, open=not speaks, new_message=self._new_message, step=step, secondary=True
            )
        if speaks:
            yield TextSegment(f"t{step}", text, open=True, new_message=self._new_message and not thinks, step=step)

    def _status(self) -> str:
        running = [segment for segment in self._segments.values() if _runs(segment)]
        titles = [segment.title for segment in running if isinstance(segment, CallSegment)]
        plan, calls = self._plan, ", ".join(titles)[: 2 * TITLE_LENGTH]
        if self._activity == "off":
            plan, calls = "", WORKING if titles else ""
        finishing = FINISHING if self._finishing else ""
        return " · ".join(filter(None, (self._announced, plan, finishing, calls or self._waiting)))

    def _think(self, text: str) -> bool:
        """Whether it changes what is to be seen."""
        if self._show_reasoning:
            self._thinking.append(text)
        elif self._waiting or self._growing:
            return False
        if not self._growing:
            self._waiting = self._waiting or "thinking"
        return True

    def _take_back(self) -> None:
        self._thinking.clear()
        self._growing.clear()

    def _log(self, entry: Entry) -> None:
        match entry:
            case ModelAnswered():
                self._answer(entry)
            case CallStarted(call_id):
                self._start_call(call_id)
            case CallEnded():
                self._end_call(entry)
            case ApprovalRequested():
                self._ask_to_decide(entry)
            case ApprovalDecided():
                self._decide(entry)
            case Notice(text, options, key) if options:
                self._put(QuestionSegment(key, text, options))
            case Notice(text):
                self._note(text)
            case Ended():
                self._end(entry)
            case MessagesRead():
                self._read_inbox(entry)
            case Compacted(left_out=True, summary=summary):
                self._note(quiet(summary), secondary=True)
            case Compacted() | Spent() | Resumed():
                pass
            case _:
                assert_never(entry)

    # --- what the model says ---

    def _answer(self, answered: ModelAnswered) -> None:
        self._take_back()
        self._finals.clear()
        self._waiting = ""
        self._answers += 1
        thought = "\n\n".join(part.text for part in answered.parts if isinstance(part, Thinking))
        if self._show_reasoning and thought.strip():
            # The one text that is in the log as it came: its provider signed it.
            self._say(f"r{self._answers}", quoted_thought(self._mask(thought)), secondary=True)
        text = answered.text if answered.shown is None else answered.shown
        if text.strip():
            self._say(f"t{self._answers}", text, interrupted=answered.interrupted)
        for number, part in enumerate(answered.parts):
            match part:
                case Call():
                    self._calls[part.id] = part
                    # It is over at once, and as a rule it is not shown then.
                    if part.name != TODOS:
                        self._put_call(f"c:{part.id}", part.name, title_of_call(part), "waiting")
                case Native() if part.summary.strip():
                    title = one_line(part.summary, TITLE_LENGTH)
                    self._put_call(f"w:{self._answers}:{number}", name_of_native(part), title, "done")
                case _:
                    pass

    def _say(self, key: str, markdown: str, *, interrupted: bool = False, secondary: bool = False) -> None:
        """Puts a text of the step's below what a person wrote since the one before."""
        step, new_message, self._new_message = self._answers, self._new_message, False
        self._put(
            TextSegment(key, markdown, interrupted=interrupted, new_message=new_message, step=step, secondary=secondary)
        )

    # --- what it does ---

    def _start_call(self, call_id: str) -> None:
        self._change_call(call_id, state="running")
        question = asked(self._calls[call_id]) if call_id in self._calls else None
        if question is not None:
            # A question is shown as one, not as a call.
            self._drop_call(call_id)
            self._ask(f"q:{call_id}", question.question, question.options)

    def _end_call(self, end: CallEnded) -> None:
        if self._close(f"q:{end.call_id}"):
            return
        self._show_end(end)
        if end.for_user.strip():
            self._say(f"u:{end.call_id}", end.for_user)
        elif end.final and end.outcome == "done" and not end.attachments:
            self._finals[end.call_id] = end.text
        for number, attachment in enumerate(end.attachments):
            caption = end.caption if number == 0 else ""
            self._put(MediaSegment(f"m:{end.call_id}:{number}", attachment, caption, step=self._answers))

    def _show_end(self, end: CallEnded) -> None:
        call = self._calls.get(end.call_id)
        if call is not None and call.name == TODOS and end.outcome == "done":
            todos = latest_todos((ModelAnswered(self._answers, (call,)), end))
            self._plan = one_line(todos.line(), NOTE_LENGTH) if todos is not None else ""
        if end.silent:
            self._drop_call(end.call_id)
            return
        if call is not None and f"c:{end.call_id}" not in self._segments:
            self._put_call(f"c:{end.call_id}", call.name, title_of_call(call), end.outcome)
        self._change_call(end.call_id, state=end.outcome, detail=end.text[:DETAIL_LENGTH])

    def _put_call(self, key: str, name: str, title: str, state: CallState) -> None:
        self._put(CallSegment(key, name, title, state, step=self._answers))
        self._tell_calls(self._answers)

    def _change_call(self, call_id: str, **changes: object) -> None:
        segment = self._segments.get(f"c:{call_id}")
        if isinstance(segment, CallSegment):
            self._put(replace(segment, **changes))  # type: ignore[arg-type]  # our own callers
            self._tell_calls(segment.step)

    def _drop_call(self, call_id: str) -> None:
        segment = self._segments.pop(f"c:{call_id}", None)
        if segment is not None:
            self._tell_calls(segment.step)

    def _tell_calls(self, step: int) -> None:
        """Brings the text about the step's calls up to date, where there is to be one."""
        if self._activity != "full":
            return
        key, before = f"a{step}", self._segments.get(f"a{step}")
        calls = [segment for segment in self._segments.values() if isinstance(segment, CallSegment)]
        calls = [call for call in calls if call.step == step]
        lines, is_open = "\n".join(map(call_line, calls)), any(map(_goes_on, calls))
        if isinstance(before, TextSegment) and calls:
            self._put(replace(before, markdown=lines, open=is_open))
        elif isinstance(before, TextSegment):
            # None of them was to be shown.
            self._new_message |= before.new_message
            del self._segments[key]
        elif calls:
            new_message, self._new_message = self._new_message, False
            self._put(TextSegment(key, lines, open=is_open, new_message=new_message, step=step, secondary=True))

    # --- what it asks, and what is said to it ---

    def _ask(self, key: str, question: str, options: tuple[str, ...]) -> None:
        """A question that the turn waits for, perhaps before its first step."""
        self._put(QuestionSegment(key, question, options, step=max(1, self._answers)))

    def _close(self, key: str, answer: str = "", decision: ApprovalDecision = "") -> bool:
        """Whether there is that question, which waits for nothing any more."""
        question = self._segments.get(key)
        if not isinstance(question, QuestionSegment):
            return False
        self._put(
            replace(question, open=False, answer=answer or question.answer, decision=decision or question.decision)
        )
        return True

    def _ask_to_decide(self, decision: ApprovalRequested) -> None:
        self._decisions[decision.id] = decision
        self._change_call(decision.id, state="waiting")
        self._ask(f"d:{decision.id}", decision.question, decision.options)

    def _decide(self, decided: ApprovalDecided) -> None:
        decision = self._decisions.get(decided.id)
        if decision is not None:
            self._close(f"d:{decided.id}", *decision_words(decision, decided))

    def _read_inbox(self, heard: MessagesRead) -> None:
        people = [said for said in heard.messages if said.source != "work"]
        if people:
            self._new_message = bool(self._segments)
            self._finishing = any(said.source == "wrap" for said in people)
            self._answer_question(people[0])
        for said in heard.messages:
            if said.source == "work":
                self._note(quiet(said.text), secondary=True)
                for number, file in enumerate(said.attachments):
                    self._put(MediaSegment(f"m:{said.id}:{number}", file, step=self._answers))

    def _answer_question(self, said: UserMessage) -> None:
        """What was just asked is answered by these words, which are shown beside it if they are one of its options."""
        last = next(reversed(self._segments.values()), None)
        words = said.text.strip()
        if isinstance(last, QuestionSegment) and words in last.options and not last.answer and said.source == "person":
            self._put(replace(last, answer=words))

    # --- what we say ourselves ---

    def _note(self, markdown: str, *, secondary: bool = False) -> None:
        self._notices += 1
        self._put(TextSegment(f"n{self._notices}", markdown, secondary=secondary))

    def _end(self, ended: Ended) -> None:
        self._take_back()
        self.done = True
        for segment in list(self._segments.values()):
            if isinstance(segment, QuestionSegment) and segment.open and segment.step:
                self._close(segment.key)
        match ended.outcome:
            case "stopped":
                why = "" if ended.reason == ASKED_TO_STOP else f": {ended.reason}"
                self._put(TextSegment("end", f"⏹ _Stopped{why}._"))
            case "failed":
                self._put(TextSegment("end", f"⚠️ I could not finish this: {ended.reason}"))
            case "completed":
                for call_id, text in self._finals.items():
                    self._say(f"u:{call_id}", text)
                if all(map(_is_about_work, self._segments.values())):
                    self._put(TextSegment("end", "_Done; there is nothing to add._"))

    def _put(self, segment: Segment) -> None:
        self._segments[segment.key] = segment


def _runs(segment: Segment) -> bool:
    return isinstance(segment, CallSegment) and segment.state == "running"


def _goes_on(call: CallSegment) -> bool:
    return call.state in ("waiting", "running")


def _is_about_work(segment: Segment) -> bool:
    """Whether it tells of the work, and is nothing of its outcome."""
    return isinstance(segment, CallSegment) or (isinstance(segment, TextSegment) and segment.secondary)
