"""The reply as a fold over what happens in a turn: the same from the live events and from the log after a restart."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import assert_never

from agent.asking import asked
from agent.events import Event, Logged, Progress, ReasoningDelta, TextDelta, Waiting, Withdrawn
from agent.log import Answered, Call, CallEnded, CallStarted, Ended, Entry, Heard, Resumed, Told
from channels.address import Address
from channels.reply import CallSegment, MediaSegment, QuestionSegment, Reply, Segment, TextSegment

TITLE_LENGTH = 80
DETAIL_LENGTH = 2000

ASKED_TO_STOP = "you asked to stop"
"""The one reason that need not be told to whoever gave it."""


class Draft:
    """A turn's reply as it grows. `version` rises with every visible change. `parked`: it has asked people something,
    and nothing goes on until somebody answers."""

    def __init__(
        self, id: str, address: Address, reply_to: str | None, entries: Iterable[Entry] = (), *, parked: bool = False
    ) -> None:
        self.id = id
        self.address = address
        self.version = 0
        self.done = False
        self.parked = parked
        self._reply_to = reply_to
        self._segments: dict[str, Segment] = {}
        self._calls: dict[str, Call] = {}
        self._growing: list[str] = []
        self._answers = 0
        self._notices = 0
        self._waiting = ""
        self._anew = False
        for entry in entries:
            self._log(entry)

    def fold(self, event: Event) -> None:
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
                self._growing.clear()
            case Waiting(reason):
                self._waiting = reason
            case ReasoningDelta():
                if self._waiting or self._growing:
                    return
                self._waiting = "thinking"
            case _:
                assert_never(event)
        self.version += 1

    def park(self) -> None:
        self.parked = True
        self.version += 1

    def reply(self) -> Reply:
        """The reply as it stands now."""
        segments = tuple(self._segments.values())
        text = "".join(self._growing)
        if text.strip():
            segments = (
                *segments,
                TextSegment(self._text_key(), text, open=True, anew=self._anew, step=self._answers + 1),
            )
        status = "" if self.done else self._status()
        return Reply(self.id, self.address, self._reply_to, segments, status, self.done, self.parked)

    @property
    def visible(self) -> bool:
        """Whether a person would see something of it."""
        return any(map(str.strip, self._growing)) or any(
            not isinstance(segment, CallSegment) for segment in self._segments.values()
        )

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show at all, not even a call."""
        return not self._growing and not self._segments

    def _status(self) -> str:
        running = [segment for segment in self._segments.values() if _runs(segment)]
        titles = [segment.title for segment in running if isinstance(segment, CallSegment)]
        return ", ".join(titles)[: 2 * TITLE_LENGTH] or self._waiting

    def _text_key(self) -> str:
        return f"t{self._answers + 1}"

    def _log(self, entry: Entry) -> None:
        match entry:
            case Answered():
                self._answer(entry)
            case CallStarted(call_id):
                self._start_call(call_id)
            case CallEnded():
                self._end_call(entry)
            case Told(text, options, key) if options:
                self._put(QuestionSegment(key, text, options))
            case Told(text):
                self._notices += 1
                self._put(TextSegment(f"n{self._notices}", text))
            case Ended():
                self._end(entry)
            case Heard():
                self._anew = bool(self._segments)
                self._answer_question(entry)
            case Resumed():
                pass
            case _:
                assert_never(entry)

    def _answer(self, answered: Answered) -> None:
        self._growing.clear()
        self._waiting = ""
        key, cut = self._text_key(), answered.interrupted
        self._answers += 1
        if answered.text.strip():
            self._put(TextSegment(key, answered.text, interrupted=cut, anew=self._anew, step=self._answers))
            self._anew = False
        for call in answered.calls:
            self._put(CallSegment(f"c:{call.id}", call.name, _title(call), "waiting", step=self._answers))
            self._calls[call.id] = call

    def _start_call(self, call_id: str) -> None:
        self._change_call(call_id, state="running")
        question = asked(self._calls[call_id]) if call_id in self._calls else None
        if question is not None:
            # A question is shown as one, not as a call.
            self._segments.pop(f"c:{call_id}", None)
            self._put(QuestionSegment(f"q:{call_id}", question.question, question.options, step=self._answers))

    def _answer_question(self, heard: Heard) -> None:
        """What was just asked is answered by these words, which are shown beside it if they are one of its options."""
        last = next(reversed(self._segments.values()), None)
        said = heard.messages[0].text.strip()
        if isinstance(last, QuestionSegment) and said in last.options:
            self._put(replace(last, answer=said))

    def _end_call(self, end: CallEnded) -> None:
        question = self._segments.get(f"q:{end.call_id}")
        if isinstance(question, QuestionSegment):
            self._put(replace(question, open=False))
            return
        self._change_call(end.call_id, state=end.outcome, detail=end.text[:DETAIL_LENGTH])
        for number, attachment in enumerate(end.attachments):
            caption = end.caption if number == 0 else ""
            self._put(MediaSegment(f"m:{end.call_id}:{number}", attachment, caption, step=self._answers))

    def _end(self, ended: Ended) -> None:
        self._growing.clear()
        self.done = True
        for segment in list(self._segments.values()):
            if isinstance(segment, QuestionSegment) and segment.open and segment.step:
                self._put(replace(segment, open=False))
        match ended.outcome:
            case "stopped":
                why = "" if ended.reason == ASKED_TO_STOP else f": {ended.reason}"
                self._put(TextSegment("end", f"⏹ _Stopped{why}._"))
            case "failed":
                self._put(TextSegment("end", f"⚠️ I could not finish this: {ended.reason}"))
            case "completed":
                if not self.visible:
                    self._put(TextSegment("end", "_Done; there is nothing to add._"))

    def _put(self, segment: Segment) -> None:
        self._segments[segment.key] = segment

    def _change_call(self, call_id: str, **changes: object) -> None:
        segment = self._segments.get(f"c:{call_id}")
        if isinstance(segment, CallSegment):
            self._segments[segment.key] = replace(segment, **changes)  # type: ignore[arg-type]  # our own two callers


def _runs(segment: Segment) -> bool:
    return isinstance(segment, CallSegment) and segment.state == "running"


def _title(call: Call) -> str:
    """One short line that says what the call does: its name and its first argument."""
    try:
        arguments = json.loads(call.arguments or "{}")
    except ValueError:
        return call.name
    first = next(iter(arguments.values()), "") if isinstance(arguments, dict) else ""
    short = " ".join(str(first).split()) if isinstance(first, str | int | float) else ""
    title = f"{call.name}: {short}" if short else call.name
    return title if len(title) <= TITLE_LENGTH else title[: TITLE_LENGTH - 1] + "…"
