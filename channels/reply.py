"""The reply: one growing document per turn, which each channel makes its platform look like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from agent.media import Attachment
from channels.address import Address

CallState = Literal["waiting", "running", "done", "failed", "skipped", "cancelled", "denied", "unknown"]

ApprovalDecision = Literal["", "allowed", "denied", "undecided"]
"""How a question ended that asks people to decide; empty for other questions, and as long as it waits."""


@dataclass(frozen=True, slots=True)
class TextSegment:
    """Markdown. While `open`, it may still grow or change; `interrupted`: it was cut short and stays so.

    `new_message`: a person wrote since the text before it, so that it should stand below their words. `secondary`: it tells of the
    work on the answer, what is done or thought, and should look like less; while `open` any of it may change.
    """

    key: str
    markdown: str
    open: bool = False
    interrupted: bool = False
    new_message: bool = False
    step: int = 0
    secondary: bool = False
    kind: Literal["text"] = "text"


@dataclass(frozen=True, slots=True)
class MediaSegment:
    """A picture (shown) or another file (offered), with a caption in markdown."""

    key: str
    attachment: Attachment
    caption: str = ""
    step: int = 0
    kind: Literal["media"] = "media"


@dataclass(frozen=True, slots=True)
class CallSegment:
    """A tool call: `title` is one short line; `detail` is its progress or result, shortened.

    Chat platforms show only the one that runs, as a status line that disappears.
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
    """A question of the agent's (markdown) with options to choose from, perhaps none.

    While `open` each option is a button that delivers the command "answer" (see `channels.message`); any text that
    people write answers it too. `answer` is the one that was given, once it is; to a decision, in words that say how
    it ended, by whom and why.
    """

    key: str
    question: str
    options: tuple[str, ...] = ()
    open: bool = True
    answer: str = ""
    step: int = 0
    decision: ApprovalDecision = ""
    kind: Literal["question"] = "question"


Segment = TextSegment | MediaSegment | CallSegment | QuestionSegment


@dataclass(frozen=True, slots=True)
class Reply:
    """`id` is the turn's run id. Segment keys are unique in the reply, and the same again after a restart. A segment's
    `step` is the step that made it, 0 for words of the gateway's own.

    `reply_to` is the platform's id of the message answered. `status` is one quiet line (what runs, why it takes
    long), empty when there is nothing to say. Once `done`, nothing changes any more. `parked`: nothing changes, and
    nothing runs, until somebody answers the open question.
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
        """Whether a person would see something of it."""
        return any(not isinstance(segment, CallSegment) for segment in self.segments)
