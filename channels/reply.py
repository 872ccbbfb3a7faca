"""The reply: one growing document per turn, which each channel shows on its platform."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from agent.media import Attachment
from channels.address import Address

CallState = Literal["waiting", "running", "done", "failed", "skipped", "cancelled", "denied", "unknown", "background"]
"""`background`: it goes on there, beside the turn."""

ApprovalDecision = Literal["", "allowed", "denied", "undecided"]
"""The outcome of an approval request; empty for other questions, and while it is pending."""


@dataclass(frozen=True, slots=True)
class TextSegment:
    """Markdown. While `open`, it may still grow or change; `interrupted`: it was cut short and stays so, by a message
    or a stop, or `by_restart`.

    `new_message`: a person wrote since the text before it, so it goes below that message, in a message of its own.
    `secondary`: it reports on the work (tool calls, reasoning) and is displayed less prominently; while `open` any of
    it may change. `unanswered`: the words of the gateway about a task that has ended without an answer.
    """

    key: str
    markdown: str
    open: bool = False
    interrupted: bool = False
    new_message: bool = False
    step: int = 0
    secondary: bool = False
    by_restart: bool = False
    unanswered: bool = False
    kind: Literal["text"] = "text"

    @property
    def interruption(self) -> str:
        """What cut it short, as a line below it; empty if nothing did."""
        if not self.interrupted:
            return ""
        return "interrupted by a restart" if self.by_restart else "interrupted"


@dataclass(frozen=True, slots=True)
class MediaSegment:
    """A picture (displayed) or another file (for download), with a caption in markdown."""

    key: str
    attachment: Attachment
    caption: str = ""
    step: int = 0
    kind: Literal["media"] = "media"


@dataclass(frozen=True, slots=True)
class CallSegment:
    """A tool call: `title` is one short line; `detail` is its progress or result, shortened.

    Chat platforms show only the running one, as a temporary status line.
    """

    key: str
    name: str
    title: str
    state: CallState
    detail: str = ""
    step: int = 0
    kind: Literal["call"] = "call"


@dataclass(frozen=True, slots=True)
class QuestionSegment:
    """A question from the agent (markdown) with options, perhaps none.

    While `open` each option is a button that delivers the command "answer" (see `channels.message`); any text that
    people write answers it too. `answer` is the answer given. For an approval request it says what was decided, by
    whom and why. `typed`: an offer of the gateway, which waits for nothing; where there are no buttons these words say
    how to take it.
    """

    key: str
    question: str
    options: tuple[str, ...] = ()
    open: bool = True
    answer: str = ""
    step: int = 0
    decision: ApprovalDecision = ""
    typed: str = ""
    kind: Literal["question"] = "question"


Segment = TextSegment | MediaSegment | CallSegment | QuestionSegment


@dataclass(frozen=True, slots=True)
class Reply:
    """`id` is the turn's run id. Segment keys are unique in the reply and stay the same after a restart. A segment's
    `step` is the step that made it, 0 for texts of the gateway.

    `reply_to` is the platform's id of the message answered. `status` is one short line (the running tool, why it takes
    long), or empty. Once `done`, nothing changes any more. `parked`: nothing changes and nothing runs until somebody
    answers the open question.
    """

    id: str
    address: Address
    reply_to: str | None
    segments: tuple[Segment, ...] = ()
    status: str = ""
    done: bool = False
    parked: bool = False

    @property
    def visible(self) -> bool:
        """Whether any of it is displayed."""
        return any(not isinstance(segment, CallSegment) for segment in self.segments)
