"""Builds a turn's reply from its events: the same reply from the live events and, after a restart, from the log."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Literal, assert_never

from agent.agent import unmasked
from agent.decisions.questions import parse_question
from agent.events import Charged, Event, Logged, Progress, ReasoningDelta, TextDelta, Waiting, Withdrawn
from agent.log import (
    ApprovalDecided,
    ApprovalRequested,
    Call,
    CallEnded,
    CallStarted,
    Compacted,
    Ended,
    Entry,
    InputEnded,
    InputRequested,
    MessagesRead,
    ModelAnswered,
    Native,
    Notice,
    Resumed,
    Spent,
    Thinking,
    Undelivered,
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
    describe_decision,
    native_tool_name,
    note,
    one_line,
    quote_reasoning,
    short_title,
)
from gateway.outbound.wording import escaped

DETAIL_LENGTH = 2000

STOPPED_BY_USER = "stopped by the user"
"""The reason of a stop in a direct chat; the reply does not repeat it."""

STOPPED_BY = "stopped by "
"""Begins a reason that names who stopped the turn."""

RETRY = "retry:"
"""Precedes the id of a failed turn in the key of the offer to run it again."""

TRY_AGAIN = "Try again"

SUGGESTED = "say:"
"""Precedes the id of the turn and the number of the call in the key of suggested replies."""

ASKED = "q:"
"""Precedes the id of a question, or of a call's request for input, in its key."""

NOT_ANSWERED = "no answer in time"

FINISHING = "finishing up"
WORKING = "working"

Activity = Literal["off", "quiet", "full"]
"""Which tool calls are shown: none, the running ones while they run, or all of them permanently."""


class ReplyBuilder:
    """A turn's reply as it grows. `version` rises with every visible change. `parked`: it waits for a person's answer.
    `retryable`: if the turn fails, people may run it again.

    With `activity` "quiet" calls are segments: our own screens show all of them, platforms the running ones. With
    "full" they are lines of a text, which every platform shows. `show_reasoning`: reasoning is quoted before the
    answer. `mask` removes known secrets from text that is not in the log yet; the log is masked already.
    """

    def __init__(
        self,
        id: str,
        address: Address,
        reply_to: str | None,
        entries: Iterable[Entry] = (),
        *,
        parked: bool = False,
        retryable: bool = False,
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
        self._retryable = retryable
        self._activity = activity
        self._show_reasoning = show_reasoning
        self._mask = mask
        self._segments: dict[str, Segment] = {}
        self._calls: dict[str, Call] = {}
        self._final_results: dict[str, str] = {}
        self._approvals: dict[str, ApprovalRequested] = {}
        self._expiries: dict[str, float] = {}
        self._reasoning: list[str] = []
        self._text: list[str] = []
        self._step = 0
        self._notices = 0
        self._suggesting = 0
        self._waiting = ""
        self._plan = ""
        self._finishing = False
        self._announcement = ""
        self._new_message = False
        for entry in entries:
            self._add(entry)

    def apply(self, event: Event) -> None:
        """Updates the reply."""
        match event:
            case Logged(entry):
                self._add(entry)
            case TextDelta(text):
                self._text.append(text)
                self._waiting = ""
            case Progress(call_id, text):
                self._change_call(call_id, detail=text[-DETAIL_LENGTH:])
            case Withdrawn():
                self._discard_unfinished()
            case Waiting(reason):
                self._waiting = reason
            case ReasoningDelta(text):
                if not self._add_reasoning(text):
                    return
            case Charged():
                return
            case _:
                assert_never(event)
        self.version += 1

    def unlogged(self) -> Iterator[Event]:
        """Events that repeat what was reported and is not in the log, for a builder that has only the log."""
        yield Withdrawn()
        if self._reasoning:
            yield ReasoningDelta("".join(self._reasoning))
        if self._text:
            yield TextDelta("".join(self._text))
        if self._waiting:
            yield Waiting(self._waiting)
        for segment in self._segments.values():
            if isinstance(segment, CallSegment) and _is_running(segment) and segment.detail:
                yield Progress(segment.key.removeprefix("c:"), segment.detail)

    def announce(self, text: str) -> None:
        """Puts the text on the status line, while there is one."""
        self._announcement = text
        self.version += 1

    def park(self) -> None:
        self.parked = True
        self.version += 1

    def reply(self) -> Reply:
        """The current reply."""
        segments = (*filter(self._is_shown, self._segments.values()), *self._open_texts())
        status = "" if self.done or self.parked else self._status()
        return Reply(self.id, self.address, self._reply_to, segments, status, self.done, self.parked)

    def expiry(self, question: str) -> float | None:
        """When the question with this key expires, in seconds since 1970; None if it does not."""
        return self._expiries.get(question)

    @property
    def visible(self) -> bool:
        """Whether any of it is displayed."""
        return any(map(str.strip, (*self._reasoning, *self._text))) or any(
            not isinstance(segment, CallSegment) for segment in self._segments.values()
        )

    @property
    def empty(self) -> bool:
        """Whether there is nothing to display, not even a call."""
        return not (self._reasoning or self._text or self._segments or self._plan)

    @property
    def growing(self) -> frozenset[str]:
        """The keys of the texts that the model is generating."""
        return frozenset(segment.key for segment in self._open_texts())

    def _is_shown(self, segment: Segment) -> bool:
        return self._activity == "quiet" or not isinstance(segment, CallSegment)

    def _open_texts(self) -> Iterator[TextSegment]:
        """The reasoning and the text that the model is generating."""
        step, new_message = self._step + 1, self._new_message
        reasoning, text = self._mask("".join(self._reasoning)), self._mask("".join(self._text))
        has_reasoning, has_text = bool(reasoning.strip()), bool(text.strip())
        if has_reasoning:
            quoted = quote_reasoning(reasoning, open=not has_text)
            yield TextSegment(f"r{step}", quoted, open=not has_text, new_message=new_message, step=step, secondary=True)
        if has_text:
            yield TextSegment(f"t{step}", text, open=True, new_message=new_message and not has_reasoning, step=step)

    def _status(self) -> str:
        running = [segment for segment in self._segments.values() if _is_running(segment)]
        titles = [segment.title for segment in running if isinstance(segment, CallSegment)]
        plan, calls = self._plan, ", ".join(titles)[: 2 * TITLE_LENGTH]
        if self._activity == "off":
            plan, calls = "", WORKING if titles else ""
        finishing = FINISHING if self._finishing else ""
        return " · ".join(filter(None, (self._announcement, plan, finishing, calls or self._waiting)))

    def _add_reasoning(self, text: str) -> bool:
        """Whether it changes what is displayed."""
        if self._show_reasoning:
            self._reasoning.append(text)
        elif self._waiting or self._text:
            return False
        if not self._text:
            self._waiting = self._waiting or "thinking"
        return True

    def _discard_unfinished(self) -> None:
        self._reasoning.clear()
        self._text.clear()

    def _add(self, entry: Entry) -> None:
        match entry:
            case ModelAnswered():
                self._answer(entry)
            case CallStarted():
                self._start_call(entry)
            case CallEnded():
                self._end_call(entry)
            case ApprovalRequested():
                self._request_approval(entry)
            case ApprovalDecided():
                self._decide_approval(entry)
            case InputRequested():
                self._expiries[f"{ASKED}{entry.id}"] = entry.expires_at
                self._put_question(f"{ASKED}{entry.id}", entry.question, entry.options)
            case InputEnded():
                self._close_question(f"{ASKED}{entry.id}", _end_of_input(entry))
            case Notice(text, options, key, typed=typed) if options:
                self._put(QuestionSegment(key, text, options, typed=typed))
            case Notice(text, attachments=attachments):
                self._put_note(text)
                for number, attachment in enumerate(attachments):
                    self._put(MediaSegment(f"m:n{self._notices}:{number}", attachment, step=self._step))
            case Ended():
                self._end(entry)
            case MessagesRead():
                self._read_messages(entry)
            case Compacted(left_out=True, summary=summary):
                self._put_note(note(summary), secondary=True)
            case Compacted() | Spent() | Resumed() | Undelivered():
                pass
            case _:
                assert_never(entry)

    # --- the model's answer ---

    def _answer(self, answered: ModelAnswered) -> None:
        self._discard_unfinished()
        self._final_results.clear()
        self._waiting = ""
        self._step += 1
        reasoning = "\n\n".join(part.text for part in answered.parts if isinstance(part, Thinking))
        if self._show_reasoning and reasoning.strip():
            # The only text that is not masked in the log: its provider signed it.
            self._put_text(f"r{self._step}", quote_reasoning(self._mask(reasoning)), secondary=True)
        text = answered.text if answered.shown is None else answered.shown
        if text.strip():
            self._put_text(f"t{self._step}", text, interrupted=answered.interrupted, by_restart=answered.by_restart)
        for number, part in enumerate(answered.parts):
            match part:
                case Call():
                    self._calls[part.id] = part
                    # It ends at once, and is usually not shown.
                    if part.name != TODOS:
                        self._put_call(f"c:{part.id}", part.name, short_title(part), "waiting")
                case Native() if part.summary.strip():
                    title = one_line(part.summary, TITLE_LENGTH)
                    self._put_call(f"w:{self._step}:{number}", native_tool_name(part), title, "done")
                case _:
                    pass

    def _put_text(
        self, key: str, markdown: str, *, interrupted: bool = False, by_restart: bool = False, secondary: bool = False
    ) -> None:
        """Adds a text; in a new message if a person wrote since the text before it."""
        step, new_message, self._new_message = self._step, self._new_message, False
        self._put(
            TextSegment(
                key,
                markdown,
                interrupted=interrupted,
                new_message=new_message,
                step=step,
                secondary=secondary,
                by_restart=by_restart,
            )
        )

    # --- tool calls ---

    def _start_call(self, started: CallStarted) -> None:
        """Shows what runs, where hooks have changed it."""
        call_id = started.call_id
        if started.arguments and call_id in self._calls:
            call = self._calls[call_id]
            call = replace(call, name=started.tool or call.name, arguments=started.arguments)
            self._calls[call_id] = call
            self._change_call(call_id, name=call.name, title=short_title(call))
        self._change_call(call_id, state="running")
        question = parse_question(self._calls[call_id]) if call_id in self._calls else None
        if question is not None:
            # Shown as a question, not as a call.
            self._drop_call(call_id)
            self._put_question(f"{ASKED}{call_id}", question.question, question.options)

    def _end_call(self, end: CallEnded) -> None:
        if self._close_question(f"{ASKED}{end.call_id}"):
            return
        self._show_end(end)
        if end.for_user.strip():
            self._put_text(f"u:{end.call_id}", end.for_user)
        elif end.final and end.outcome == "done" and not end.attachments:
            self._final_results[end.call_id] = end.text
        for number, attachment in enumerate(end.attachments):
            caption = end.caption if number == 0 else ""
            self._put(MediaSegment(f"m:{end.call_id}:{number}", attachment, caption, step=self._step))
        if end.suggestions:
            self._suggest(end)

    def _suggest(self, end: CallEnded) -> None:
        """Buttons below the attachments, which stay. They are no question: nothing waits for them."""
        key, self._suggesting = f"{SUGGESTED}{self.id}:{self._suggesting}", self._suggesting + 1
        if end.attachments:
            labels = tuple(reply.label for reply in end.suggestions)
            typed = f"Or write it: {' · '.join(labels)}."
            self._put(QuestionSegment(key, note(end.how) if end.how else " ", labels, typed=typed))

    def _show_end(self, end: CallEnded) -> None:
        call = self._calls.get(end.call_id)
        if call is not None and call.name == TODOS and end.outcome == "done":
            todos = latest_todos((ModelAnswered(self._step, (call,)), end))
            self._plan = one_line(todos.summary(), NOTE_LENGTH) if todos is not None else ""
        if end.silent:
            self._drop_call(end.call_id)
            return
        state: CallState = "background" if end.background else end.outcome
        if call is not None and f"c:{end.call_id}" not in self._segments:
            self._put_call(f"c:{end.call_id}", call.name, short_title(call), state)
        self._change_call(end.call_id, state=state, detail=end.text[:DETAIL_LENGTH])

    def _put_call(self, key: str, name: str, title: str, state: CallState) -> None:
        self._put(CallSegment(key, name, title, state, step=self._step))
        self._update_calls_text(self._step)

    def _change_call(self, call_id: str, **changes: object) -> None:
        segment = self._segments.get(f"c:{call_id}")
        if isinstance(segment, CallSegment):
            self._put(replace(segment, **changes))  # type: ignore[arg-type]  # our own callers
            self._update_calls_text(segment.step)

    def _drop_call(self, call_id: str) -> None:
        segment = self._segments.pop(f"c:{call_id}", None)
        if segment is not None:
            self._update_calls_text(segment.step)

    def _update_calls_text(self, step: int) -> None:
        """Updates the text that lists the step's calls, with activity "full"."""
        if self._activity != "full":
            return
        key, before = f"a{step}", self._segments.get(f"a{step}")
        calls = [segment for segment in self._segments.values() if isinstance(segment, CallSegment)]
        calls = [call for call in calls if call.step == step]
        lines, is_open = "\n".join(map(call_line, calls)), any(map(_is_unfinished, calls))
        if isinstance(before, TextSegment) and calls:
            self._put(replace(before, markdown=lines, open=is_open))
        elif isinstance(before, TextSegment):
            # None of them is shown.
            self._new_message |= before.new_message
            del self._segments[key]
        elif calls:
            new_message, self._new_message = self._new_message, False
            self._put(TextSegment(key, lines, open=is_open, new_message=new_message, step=step, secondary=True))

    # --- questions, approvals and people's messages ---

    def _put_question(self, key: str, question: str, options: tuple[str, ...]) -> None:
        """A question that the turn waits for, possibly before its first step."""
        self._put(QuestionSegment(key, question, options, step=max(1, self._step)))

    def _close_question(self, key: str, answer: str = "", decision: ApprovalDecision = "") -> bool:
        """Returns whether there is such a question."""
        question = self._segments.get(key)
        if not isinstance(question, QuestionSegment):
            return False
        self._put(
            replace(question, open=False, answer=answer or question.answer, decision=decision or question.decision)
        )
        return True

    def _request_approval(self, request: ApprovalRequested) -> None:
        self._approvals[request.id] = request
        self._change_call(request.id, state="waiting")
        if request.full is not None:
            self._put(MediaSegment(f"m:d:{request.id}", request.full, step=self._step))
        self._expiries[f"d:{request.id}"] = request.expires_at
        self._put_question(f"d:{request.id}", request.question, request.options)

    def _decide_approval(self, decided: ApprovalDecided) -> None:
        request = self._approvals.get(decided.id)
        if request is not None:
            self._close_question(f"d:{decided.id}", *describe_decision(request, decided))

    def _read_messages(self, read: MessagesRead) -> None:
        from_people = [message for message in read.messages if message.source != "work"]
        if from_people:
            self._new_message = bool(self._segments)
            self._finishing = any(message.source == "wrap" for message in from_people)
            self._answer_question(from_people[0])
        for message in read.messages:
            if message.source == "work":
                self._put_note(note(message.text), secondary=True)
                for number, file in enumerate(message.attachments):
                    self._put(MediaSegment(f"m:{message.id}:{number}", file, step=self._step))

    def _answer_question(self, message: UserMessage) -> None:
        """Shows the message beside the question just asked, if it is one of its options."""
        if message.source != "person":
            return
        last, text = next(reversed(self._segments.values()), None), message.text.strip()
        if isinstance(last, QuestionSegment) and text in last.options and not last.answer:
            self._put(replace(last, answer=text))

    # --- notes and the end ---

    def _put_note(self, markdown: str, *, secondary: bool = False) -> None:
        self._notices += 1
        self._put(TextSegment(f"n{self._notices}", markdown, secondary=secondary))

    def _end(self, ended: Ended) -> None:
        self._discard_unfinished()
        self.done = True
        for segment in list(self._segments.values()):
            if isinstance(segment, QuestionSegment) and segment.open and segment.step:
                self._close_question(segment.key)
        match ended.outcome:
            case "stopped":
                self._put(TextSegment("end", f"⏹ _{_stop_text(ended.reason)}._", unanswered=True))
            case "failed":
                self._put(self._failure(f"⚠️ I could not finish this: {ended.reason}"))
            case "completed":
                for call_id, text in self._final_results.items():
                    self._put_text(f"u:{call_id}", text)
                if all(map(_is_activity, self._segments.values())):
                    self._put(TextSegment("end", "_Done; there is nothing to add._"))

    def _failure(self, text: str) -> Segment:
        if not self._retryable:
            return TextSegment("end", text, unanswered=True)
        return QuestionSegment(f"{RETRY}{self.id}", text, (TRY_AGAIN,), typed="`/retry` tries again.")

    def _put(self, segment: Segment) -> None:
        self._segments[segment.key] = segment


def _end_of_input(ended: InputEnded) -> str:
    match ended.outcome:
        case "given":
            return ended.text
        case "expired":
            return NOT_ANSWERED
        case "dropped":
            return ""
        case _:
            assert_never(ended.outcome)


def call_of(piece: str) -> str:
    """The id of the call whose attachment a channel shows as the piece with this key; "" for other pieces."""
    return piece.removeprefix("m:").rpartition(":")[0] if piece.startswith("m:") else ""


def _stop_text(reason: str) -> str:
    """Why the turn stopped, as a sentence without its full stop."""
    if reason == STOPPED_BY_USER:
        return "Stopped"
    if reason.startswith(STOPPED_BY):
        return f"Stopped by {escaped(reason.removeprefix(STOPPED_BY))}"
    return f"Stopped: {reason}"


def _is_running(segment: Segment) -> bool:
    return isinstance(segment, CallSegment) and segment.state == "running"


def _is_unfinished(call: CallSegment) -> bool:
    return call.state in ("waiting", "running")


def _is_activity(segment: Segment) -> bool:
    """Whether it reports on the work and is not part of its result."""
    return isinstance(segment, CallSegment) or (isinstance(segment, TextSegment) and segment.secondary)
